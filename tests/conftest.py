"""All tests share what JAX compiles: most of their time goes into compiling the same kernels."""

from __future__ import annotations

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # Worker processes, and programs that tests start, inherit the environment.
    if "PYTEST_XDIST_WORKER" not in os.environ and getattr(config, "cache", None) is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
