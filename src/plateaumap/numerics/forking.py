"""Detection of a process that was forked after JAX had started: there JAX hangs forever.

JAX computes on threads, and a fork copies memory but not threads. Importing this module starts
nothing and does not import JAX.
"""

from __future__ import annotations

import os
import sys

from plateaumap.inputs.errors import PlateaumapError

_jax_is_inherited = False


def require_own_jax() -> None:
    """Raise in a process that was forked after JAX had started.

    Raises:
        PlateaumapError: this is such a process.
    """
    if _jax_is_inherited:
        raise PlateaumapError(
            "this process was forked from one in which JAX was already running, and JAX would "
            'hang here; start processes by multiprocessing.get_context("spawn") '
            '(ProcessPoolExecutor(mp_context=...), joblib\'s "loky"), or use threads'
        )


def _note_fork() -> None:
    """Record, in every child right after the fork, whether JAX's devices already existed."""
    global _jax_is_inherited
    bridge = sys.modules.get("jax._src.xla_bridge")
    _jax_is_inherited |= bridge is not None and bridge.backends_are_initialized()


if hasattr(os, "register_at_fork"):  # Windows cannot fork.
    os.register_at_fork(after_in_child=_note_fork)
