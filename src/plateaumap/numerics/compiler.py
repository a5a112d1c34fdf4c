"""What JAX and its compiler are told: 64 bits, how to compile short loops, which vectors to use."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache

import jax

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.numerics.forking import require_own_jax

_SMALL_LOOP = 100_000_000
"""Bytes that a loop may touch to be compiled as one piece."""


_starting = threading.Lock()


@contextmanager
def double_precision() -> Iterator[None]:
    """Let JAX count and compute with 64 bits, in this thread and until the block ends.

    Settings that a user's own code is checked by are off inside, as in JAX by default: a row's
    null is a NaN, and constants promote to the precision of a sweep. Random numbers are those of
    one generator: under `rbg` those of a run would depend on the runs in its block, and rows must
    not depend on how the process was started.
    """
    prepare_compiler()
    with (
        jax.enable_x64(True),
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.debug_key_reuse(False),
        jax.check_tracer_leaks(False),
        jax.transfer_guard("allow"),
        jax.disable_jit(False),
    ):
        yield


def prepare_compiler() -> str:
    """Have XLA compile loops over small arrays as one piece; without effect where JAX runs already.

    Returns the options that XLA was to read.

    Raises:
        PlateaumapError: JAX has no device here, or was inherited by a fork.
    """
    require_own_jax()
    with _starting:
        return _start()


@cache
def _start() -> str:
    """Start JAX, if it does not run yet, and return the options that XLA was to read.

    By itself XLA's CPU runtime dispatches each operation of a loop in each turn, and may hand a
    loop over to another thread, which for arrays of a few kilobytes costs more than the work. It
    has a remedy that can be asked for only by an environment variable, which it reads once, when
    its first device is made: the variable is set for that moment only, and left alone by whoever
    has set this option.
    """
    before = os.environ.get("XLA_FLAGS")
    if "xla_backend_extra_options" in (before or ""):
        _require_device()
        return before or ""
    own = f"--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold={_SMALL_LOOP}"
    options = f"{before or ''} {own}".strip()
    os.environ["XLA_FLAGS"] = options
    try:
        _require_device()
    finally:
        if before is None:
            del os.environ["XLA_FLAGS"]
        else:
            os.environ["XLA_FLAGS"] = before
    return options


def _require_device() -> None:
    """Have JAX make its devices.

    Raises:
        PlateaumapError: it finds none of the platforms that it is to use.
    """
    try:
        jax.devices()
    except Exception as error:  # a RuntimeError, or AssertionError where it was tried before
        lines = str(error).strip().splitlines()
        reason = f" ({lines[0]})" if lines else ""
        platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
        asked = f"JAX_PLATFORMS = {platforms}: JAX finds no such" if platforms else "JAX finds no"
        raise PlateaumapError(
            f"{asked} device on this machine{reason}; unset JAX_PLATFORMS, or set it to cpu"
        ) from error


@lru_cache(maxsize=2)
def compiler_options(own_threads: bool = False) -> dict[str, str | bool]:
    """Return options that make the most of this CPU, for programs that they leave right.

    Which programs these are, `plateaumap.execution.verified` says; all others are compiled as JAX
    does by default.

    A block is one thread's work. XLA by itself would run independent operations of one block on
    several threads, which for arrays of a few kilobytes costs more than it brings; scheduled for
    memory it runs them one after the other. Of vectors, its own choice is 256 bits.

    Args:
        own_threads: whether to forbid XLA to cut a large operation, such as a product of
            matrices, into pieces for other threads, which have blocks of their own.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, str | bool] = {
        "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
    }
    if own_threads:
        options["xla_cpu_multi_thread_eigen"] = False
    if "avx512f" in _cpu_features():
        options["xla_cpu_prefer_vector_width"] = "512"
    return options


def _cpu_features() -> frozenset[str]:
    from numpy._core._multiarray_umath import __cpu_features__ as features

    return frozenset(name.lower() for name, present in features.items() if present)
