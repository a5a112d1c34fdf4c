"""The compiled functions of an evaluation, cached while they are in use."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from plateaumap.execution.verified import unverified
from plateaumap.experiment.evaluation import Evaluation
from plateaumap.numerics.compiler import compiler_options
from plateaumap.numerics.stacking import Stacking

_log = logging.getLogger(__name__)

Points = Mapping[str, np.ndarray]

MOST_COMPILED = 64
"""Number of compiled evaluations that are kept, the most recently used ones.

Each takes some 300 memory maps, and XLA crashes when a process has used the 65,530 of Linux.
"""


class BlockFunctions:
    """The functions of an evaluation over blocks of lanes, compiled once for each block size.

    Attributes:
        whole: simulates runs from their initial points to their ends.
        round: advances runs by one round, see `plateaumap.execution.rounds`.
    """

    def __init__(self, evaluation: Evaluation, unroll: int, has_arrays: bool) -> None:
        """Prepare the functions; they are compiled when they are first called.

        Args:
            evaluation: one run as a pure function.
            unroll: epochs in one turn of a compiled loop.
            has_arrays: whether a run works on arrays, whose operations XLA must not divide among
                threads.
        """
        self._data = evaluation.data()
        # This is the only place where runs are vectorised; the threads of a GPU kernel are not.
        whole = jax.vmap(evaluation.evaluate, (0, None, None))
        self._begin_one = jax.jit(evaluation.begin)
        self._begin = jax.vmap(evaluation.begin, (0, None, None))
        advance = partial(evaluation.advance, unroll=unroll)
        self._advance = jax.vmap(advance, (0, None, None, 0, None))
        self._finish = jax.vmap(partial(evaluation.finish, unroll=unroll), (0, None, None, 0))
        options = compiler_options(own_threads=has_arrays)
        self.whole = _compile_once(whole, self._data, options)
        self.round = _compile_once(self._round, self._data, options)

    def _round(
        self, points: Points, limits: Any, data: Any, stacked: Any, fresh: Any, until: Any
    ) -> tuple[Any, Array, Array, dict[str, Array]]:
        # One function does everything that a round needs, so that it is compiled once.
        stacking = self._stacking(points, limits)
        runs = jax.lax.cond(
            fresh,
            lambda: self._begin(points, limits, data),
            lambda: stacking.unstack(stacked),
        )
        runs = self._advance(points, limits, data, runs, until)

        def finish() -> dict[str, Array]:
            return self._finish(points, limits, data, runs)

        def zeros() -> dict[str, Array]:
            shapes = jax.eval_shape(finish)
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        records = jax.lax.cond(jnp.any(runs.under_way), zeros, finish)
        return stacking.stack(runs), runs.under_way, runs.left, records

    def blank(self, points: Points, limits: Any, lanes: int) -> tuple[np.ndarray, ...]:
        """Return arrays of zeros in the form in which `round` takes and returns runs."""
        return self._stacking(points, limits).blank(lanes)

    def _stacking(self, points: Points, limits: Any) -> Stacking:
        one = {name: array[0] for name, array in points.items()}
        return Stacking.of(jax.eval_shape(self._begin_one, one, limits, self._data))


def _compile_once(
    function: Callable[..., Any], data: Any, options: Mapping[str, str | bool]
) -> Callable[..., Any]:
    """Return a function of blocks that one thread compiles for each number of lanes."""
    default = jax.jit(function)
    tuned = jax.jit(function, compiler_options=dict(options))
    compiled: dict[int, Callable[..., Any]] = {}
    lock = threading.Lock()

    def call(points: Points, limits: Any, *others: Any) -> Any:
        lanes = len(next(iter(points.values())))
        arguments = (points, limits, data, *others)
        if lanes in compiled:
            return compiled[lanes](*arguments)
        with lock:  # Without the lock every thread would compile the same function.
            # The call below finds this trace in JAX's cache.
            operations = unverified(default.trace(*arguments).jaxpr)
            if operations:
                names = ", ".join(sorted(operations))
                _log.info("compiled without options, because it uses %s", names)
            block = default if operations else tuned
            result = block(*arguments)
            compiled[lanes] = block
            return result

    return call


_cached = lru_cache(MOST_COMPILED)(BlockFunctions)
_lock = threading.Lock()


def block_functions(evaluation: Evaluation, unroll: int = 1) -> BlockFunctions:
    """Return the block functions of an evaluation; equal evaluations share one object."""
    with _lock:  # lru_cache alone would let two threads create two objects.
        return _cached(evaluation, unroll, evaluation.lanes is not None)
