"""Where JAX is used: in double precision, by a compiler that knows what suits short loops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import jax

_SMALL_LOOP = 100_000_000
"""Bytes that a loop may touch to be compiled as one piece."""


@contextmanager
def double_precision() -> Iterator[None]:
    """Let JAX count and compute with 64 bits, in this thread and until the block ends."""
    prepare_compiler()
    with jax.enable_x64(True):
        yield


@cache
def prepare_compiler() -> str:
    """Have XLA compile loops over small arrays as one piece; without effect where JAX runs already.

    Returns the options that XLA was to read.

    By itself XLA's CPU runtime dispatches each operation of a loop in each turn, and may hand a
    loop over to another thread, which for arrays of a few kilobytes costs more than the work. It
    has a remedy that can be asked for only by an environment variable, which it reads once, when
    its first device is made: the variable is set for that moment only, and left alone by whoever
    has set this option.
    """
    before = os.environ.get("XLA_FLAGS")
    if "xla_backend_extra_options" in (before or ""):
        return before or ""
    own = f"--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold={_SMALL_LOOP}"
    options = f"{before or ''} {own}".strip()
    os.environ["XLA_FLAGS"] = options
    try:
        jax.devices()
    finally:
        if before is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = before
    return options
