"""All tests share what JAX compiles: most of their time goes into compiling the same kernels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

MOST_MAPS = 25_000
"""Memory maps of a test process. Each compiled program takes some 300 of the 65,530 that Linux
allows, and XLA crashes when they are used up."""


def pytest_configure(config: pytest.Config) -> None:
    # Worker processes, and programs that tests start, inherit the environment.
    if "PYTEST_XDIST_WORKER" not in os.environ and getattr(config, "cache", None) is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


@pytest.fixture(scope="module", autouse=True)
def drop_compiled_programs() -> Iterator[None]:
    """Drop the programs of earlier modules before their number becomes dangerous."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_text().splitlines()) > MOST_MAPS:
        import jax  # it reads the variables above when it is imported

        jax.clear_caches()
