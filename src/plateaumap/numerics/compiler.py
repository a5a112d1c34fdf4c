"""Settings of JAX and its compiler: 64 bits, compilation of short loops, width of vectors."""

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
"""Bytes that a loop may access to be compiled as one piece."""

_starting = threading.Lock()


@contextmanager
def double_precision() -> Iterator[None]:
    """Enable 64-bit numbers in JAX, in this thread and until the block ends.

    Inside, JAX's checks of user code have their defaults (off): a row's null is a NaN, and
    constants promote to the precision of a sweep. Random numbers come from one generator: under
    `rbg` the numbers of a run would depend on the other runs in its block, and rows must not
    depend on how the process was started.
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
    """Have XLA compile loops over small arrays as one piece; without effect if JAX runs already.

    Returns:
        The value of XLA_FLAGS that XLA reads at its start.

    Raises:
        PlateaumapError: JAX has no device here, or was inherited by a fork.
    """
    require_own_jax()
    with _starting:
        return _start()


@cache
def _start() -> str:
    """Start JAX, if it does not run yet, and return the value of XLA_FLAGS at its start.

    By default XLA's CPU runtime dispatches each operation of a loop in each iteration, and may
    move a loop to another thread, which for arrays of a few kilobytes costs more than the work.
    Only an environment variable changes that, and XLA reads it once, when it creates its first
    device. The variable is therefore set for that moment only, and not at all if a user has set
    this option.
    """
    before = os.environ.get("XLA_FLAGS")
    if "xla_backend_extra_options" in (before or ""):
        _require_device()
        return before or ""
    option = f"--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold={_SMALL_LOOP}"
    options = f"{before or ''} {option}".strip()
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
    """Have JAX create its devices.

    Raises:
        PlateaumapError: none of the configured platforms is available.
    """
    try:
        jax.devices()
    except Exception as error:  # a RuntimeError, or AssertionError if JAX was started before
        lines = str(error).strip().splitlines()
        reason = f" ({lines[0]})" if lines else ""
        platforms = jax.config.jax_platforms  # type: ignore[attr-defined]
        setting = f"JAX_PLATFORMS = {platforms}: JAX finds no such" if platforms else "JAX finds no"
        raise PlateaumapError(
            f"{setting} device on this machine{reason}; unset JAX_PLATFORMS, or set it to cpu"
        ) from error


@lru_cache(maxsize=2)
def compiler_options(own_threads: bool = False) -> dict[str, str | bool]:
    """Return compiler options that are fastest on this CPU.

    They apply to the programs whose results `plateaumap.execution.verified` has checked under
    them; all others are compiled with JAX's defaults.

    A block is the work of one thread. By default XLA runs independent operations of one block on
    several threads, which for arrays of a few kilobytes costs more than it saves; scheduled for
    memory it runs them one after the other. Its default vectors have 256 bits.

    Args:
        own_threads: whether to forbid XLA to divide a large operation, such as a product of
            matrices, among other threads, which have their own blocks.
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
