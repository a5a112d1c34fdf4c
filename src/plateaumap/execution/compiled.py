"""What evaluations are compiled to: functions of blocks of lanes, or kernels; kept while needed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from plateaumap.execution.cuda.device import Gpu, Kernel
from plateaumap.execution.cuda.kernel import UntranslatableError, translate
from plateaumap.execution.errors import ExecutionError
from plateaumap.execution.verified import unverified
from plateaumap.numerics.compiler import compiler_options, double_precision
from plateaumap.numerics.stacking import Stacking

_log = logging.getLogger(__name__)

Points = Mapping[str, np.ndarray]

MOST_COMPILED = 256
"""Evaluations of which is kept what they are compiled to, those used last."""


class Evaluation(Protocol):
    """What is done for one point; `plateaumap.experiment.evaluation` has the real one.

    `limits` is a pytree of scalars, `data()` one of arrays that all points share. Equal
    evaluations must have equal hashes. `lanes` bounds the runs in one block, if it is not None;
    `every_epoch` says that every epoch of a run is observed, as all runs are short.
    """

    @property
    def lanes(self) -> int | None: ...  # noqa: D102

    @property
    def every_epoch(self) -> bool: ...  # noqa: D102

    def __hash__(self) -> int: ...  # noqa: D105

    def cast(self, points: Mapping[str, Any]) -> dict[str, np.ndarray]: ...  # noqa: D102

    def data(self) -> Any: ...  # noqa: D102

    def evaluate(self, point: Any, limits: Any, data: Any) -> dict[str, Array]: ...  # noqa: D102

    def begin(self, point: Any, limits: Any, data: Any) -> Any: ...  # noqa: D102

    def advance(  # noqa: D102
        self, point: Any, limits: Any, data: Any, partial_run: Any, until: Any, unroll: int
    ) -> Any: ...

    def finish(  # noqa: D102
        self, point: Any, limits: Any, data: Any, partial_run: Any, unroll: int
    ) -> dict[str, Array]: ...

    @property
    def counter(self) -> str: ...  # noqa: D102


class Blocks:
    """The block functions of an evaluation, compiled when they are first called with so many lanes.

    Attributes:
        whole: makes runs from start to end.
        round: makes one round of runs, see `plateaumap.execution.rounds`.
    """

    def __init__(self, evaluation: Evaluation, unroll: int) -> None:
        """Bind an evaluation, and how many epochs are compiled into one turn of a loop."""
        self._data = evaluation.data()
        # This is the one place where runs are vectorised; a GPU's threads are not.
        whole = jax.vmap(evaluation.evaluate, (0, None, None))
        self._begin_one = jax.jit(evaluation.begin)
        self._begin = jax.vmap(evaluation.begin, (0, None, None))
        advance = partial(evaluation.advance, unroll=unroll)
        self._advance = jax.vmap(advance, (0, None, None, 0, None))
        self._finish = jax.vmap(partial(evaluation.finish, unroll=unroll), (0, None, None, 0))
        options = compiler_options(own_threads=evaluation.lanes is not None)
        self.whole = _compiled_once(whole, self._data, options)
        self.round = _compiled_once(self._round, self._data, options)

    def _round(
        self, points: Points, limits: Any, data: Any, runs: Any, fresh: Any, until: Any
    ) -> tuple[Any, Array, Array, dict[str, Array]]:
        # All that runs in rounds need is in here, so that it is compiled once.
        stacking = self._stacking(points, limits)
        partial_runs = jax.lax.cond(
            fresh,
            lambda: self._begin(points, limits, data),
            lambda: stacking.unstack(runs),
        )
        partial_runs = self._advance(points, limits, data, partial_runs, until)

        def conclude() -> dict[str, Array]:
            return self._finish(points, limits, data, partial_runs)

        def nothing() -> dict[str, Array]:
            shapes = jax.eval_shape(conclude)
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        records = jax.lax.cond(jnp.any(partial_runs.under_way), nothing, conclude)
        return stacking.stack(partial_runs), partial_runs.under_way, partial_runs.left, records

    def blank(self, lane_points: Points, limits: Any, lanes: int) -> tuple[np.ndarray, ...]:
        """Return what has the form of runs in a block."""
        return self._stacking(lane_points, limits).blank(lanes)

    def _stacking(self, lane_points: Points, limits: Any) -> Stacking:
        one = {name: array[0] for name, array in lane_points.items()}
        return Stacking.of(jax.eval_shape(self._begin_one, one, limits, self._data))


def _compiled_once(
    function: Callable[..., Any], data: Any, options: Mapping[str, str | bool]
) -> Callable[..., Any]:
    default = jax.jit(function)
    tuned = jax.jit(function, compiler_options=dict(options))
    compiled: dict[int, Callable[..., Any]] = {}
    guard = threading.Lock()

    def call(lane_points: Mapping[str, np.ndarray], limits: Any, *others: Any) -> Any:
        lanes = len(next(iter(lane_points.values())))
        arguments = (lane_points, limits, data, *others)
        if lanes in compiled:
            return compiled[lanes](*arguments)
        with guard:  # or else every thread would compile it for itself
            # The call below finds this trace in JAX's cache.
            doubtful = unverified(default.trace(*arguments).jaxpr)
            if doubtful:
                _log.info("compiled without options, as it uses %s", ", ".join(sorted(doubtful)))
            block = default if doubtful else tuned
            result = block(*arguments)
            compiled[lanes] = block
            return result

    return call


_Made = TypeVar("_Made")


class _Kept(Generic[_Made]):
    """What has been made for keys; made once, whichever threads ask."""

    def __init__(self) -> None:
        self._made: dict[Hashable, _Made] = {}
        self._guard = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """Return what has been made for a key, or make it; those asked for last are kept."""
        with self._guard:
            made = self._made.pop(key) if key in self._made else make()
            self._made[key] = made
            while len(self._made) > MOST_COMPILED:
                del self._made[next(iter(self._made))]
            return made


_blocks: _Kept[Blocks] = _Kept()
_kernels: _Kept[Kernel | None] = _Kept()


def blocks_of(evaluation: Evaluation, unroll: int = 1) -> Blocks:
    """Return the block functions of an evaluation, the same for equal ones."""
    key = (evaluation, unroll, evaluation.lanes is None)
    return _blocks.get(key, lambda: Blocks(evaluation, unroll))


def kernel_of(gpu: Gpu, evaluation: Evaluation, points: Points, limits: Any) -> Kernel | None:
    """Return the kernel of an evaluation, or None if XLA has to compile it.

    Args:
        gpu: where it is to run.
        evaluation: what is done for one point.
        points: arrays of shape (n,) of the dtypes that it takes.
        limits: a pytree of numbers, likewise.
    """

    def make() -> Kernel | None:
        one = {name: array[0] for name, array in points.items()}
        try:
            with double_precision():
                return Kernel(gpu, translate(evaluation.evaluate, one, limits, evaluation.data()))
        except UntranslatableError as error:
            _log.info("left to XLA, as there is no kernel with %s", error)
        except ExecutionError as error:
            _log.warning("left to XLA, as its kernel cannot be compiled: %s", error)
        return None

    return _kernels.get(evaluation, make)
