"""Evaluates points in this process: compiled blocks of lanes, driven by a pool of threads.

Knows neither what is trained nor what is measured. A block is a fixed number of lanes, one run
in each, advanced together until the last of them has stopped; the lanes of a block are chosen to
stop at about the same time. On an NVIDIA GPU there are no blocks: each run is a thread of its own
(see `plateaumap.execution.kernel`), unless it needs what only XLA compiles.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from plateaumap.compiler import compiler_options, double_precision, prepare_compiler
from plateaumap.execution.cuda import Gpu, Kernel, gpu
from plateaumap.execution.errors import ExecutionError
from plateaumap.execution.kernel import UntranslatableError, translate
from plateaumap.execution.rounds import in_rounds
from plateaumap.numerics.stacking import Stacking

_log = logging.getLogger(__name__)

Points = Mapping[str, np.ndarray]
Records = dict[str, np.ndarray]

LANES = 512
"""Runs in one block: few enough to stay in a core's cache, enough to hide what a call costs."""

WIDE = 131_072
"""The same where XLA compiles them for an accelerator, which wants all of them at once."""

BRIEF_LANES = 8192
"""Runs in one block that last a few epochs only: no lane waits for another, and calls cost most."""

FEWEST_LANES = 64
"""Smaller blocks are padded to this.

XLA treats the remainder of a vector loop differently, which changes last bits in blocks under
about 16 lanes; from 64 on a lane's bits do not depend on its block.
"""

UNROLL = 16
"""Epochs in one turn of a loop on an accelerator, where each turn costs a launch."""


MOST_COMPILED = 256
"""Evaluations whose compiled blocks are kept, those used last."""


class Evaluation(Protocol):
    """What is done for one point; `plateaumap.evaluation` has the real one.

    `limits` is a pytree of scalars, `data()` one of arrays that all points share. Equal
    evaluations must have equal hashes. `lanes` bounds the runs in one block, if it is not None;
    `brief` tells that all runs last a few epochs only.
    """

    @property
    def lanes(self) -> int | None: ...  # noqa: D102

    @property
    def brief(self) -> bool: ...  # noqa: D102

    def __hash__(self) -> int: ...  # noqa: D105

    def cast(self, points: Mapping[str, Any]) -> dict[str, np.ndarray]: ...  # noqa: D102

    def data(self) -> Any: ...  # noqa: D102

    def evaluate(self, point: Any, limits: Any, data: Any) -> dict[str, Array]: ...  # noqa: D102

    def depart(self, point: Any, limits: Any, data: Any) -> Any: ...  # noqa: D102

    def travel(  # noqa: D102
        self, point: Any, limits: Any, data: Any, journey: Any, until: Any, unroll: int
    ) -> Any: ...

    def arrive(  # noqa: D102
        self, point: Any, limits: Any, data: Any, journey: Any, unroll: int
    ) -> dict[str, Array]: ...

    @property
    def counter(self) -> str: ...  # noqa: D102


class Task(Protocol):
    """What is done for many points; `plateaumap.task` has the real one."""

    def begin(self, lanes: Any, points: Points) -> Callable[[], Records]: ...  # noqa: D102


class _Block:
    """The block functions of an evaluation, compiled when they are first called with so many lanes.

    Attributes:
        whole: makes runs from start to end.
        round: makes one round of runs, see `plateaumap.execution.rounds`.
    """

    def __init__(self, evaluation: Evaluation, unroll: int) -> None:
        self._data = evaluation.data()
        # This is the one place where runs are vectorised; a GPU has threads, see `simulate`.
        whole = jax.vmap(evaluation.evaluate, (0, None, None))
        self._one_departs = jax.jit(evaluation.depart)
        self._depart = jax.vmap(evaluation.depart, (0, None, None))
        travel = partial(evaluation.travel, unroll=unroll)
        self._travel = jax.vmap(travel, (0, None, None, 0, None))
        self._arrive = jax.vmap(partial(evaluation.arrive, unroll=unroll), (0, None, None, 0))
        options = compiler_options(own_threads=evaluation.lanes is not None)
        self.whole = _compiled_once(whole, self._data, options)
        self.round = _compiled_once(self._round, self._data, options)

    def _round(
        self, points: Points, limits: Any, data: Any, runs: Any, fresh: Any, until: Any
    ) -> tuple[Any, Array, Array, dict[str, Array]]:
        # All that runs in rounds need is in here, so that it is compiled once.
        stacking = self._stacking(points, limits)
        journeys = jax.lax.cond(
            fresh,
            lambda: self._depart(points, limits, data),
            lambda: stacking.unstack(runs),
        )
        journeys = self._travel(points, limits, data, journeys, until)

        def conclude() -> dict[str, Array]:
            return self._arrive(points, limits, data, journeys)

        def nothing() -> dict[str, Array]:
            shapes = jax.eval_shape(conclude)
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        records = jax.lax.cond(jnp.any(journeys.under_way), nothing, conclude)
        return stacking.stack(journeys), journeys.under_way, journeys.left, records

    def blank(self, lane_points: Points, limits: Any, lanes: int) -> tuple[np.ndarray, ...]:
        """Return what has the form of runs in a block."""
        return self._stacking(lane_points, limits).blank(lanes)

    def _stacking(self, lane_points: Points, limits: Any) -> Stacking:
        one = {name: array[0] for name, array in lane_points.items()}
        return Stacking.of(jax.eval_shape(self._one_departs, one, limits, self._data))


def _compiled_once(
    function: Callable[..., Any], data: Any, options: Mapping[str, str | bool]
) -> Callable[..., Any]:
    block = jax.jit(function, compiler_options=dict(options))
    compiled: set[int] = set()
    guard = threading.Lock()

    def call(lane_points: Mapping[str, np.ndarray], limits: Any, *others: Any) -> Any:
        lanes = len(next(iter(lane_points.values())))
        if lanes in compiled:
            return block(lane_points, limits, data, *others)
        with guard:  # or else every thread would compile it for itself
            result = block(lane_points, limits, data, *others)
            compiled.add(lanes)
            return result

    return call


_blocks: dict[tuple[Evaluation, int], _Block] = {}
_blocks_guard = threading.Lock()


def _block(evaluation: Evaluation, unroll: int = 1) -> _Block:
    """Return the block functions of an evaluation, the same for equal ones; keep the last ones."""
    key = (evaluation, unroll)
    with _blocks_guard:
        block = _blocks.pop(key, None) or _Block(evaluation, unroll)
        _blocks[key] = block
        while len(_blocks) > MOST_COMPILED:
            del _blocks[next(iter(_blocks))]
        return block


_kernels: dict[Evaluation, Kernel | None] = {}
_kernels_guard = threading.Lock()


def _kernel(device: Gpu, evaluation: Evaluation, points: Points, limits: Any) -> Kernel | None:
    """Return the kernel of an evaluation, or None if XLA has to compile it."""
    with _kernels_guard:
        if evaluation not in _kernels:
            try:
                one = {name: array[0] for name, array in points.items()}
                with double_precision():
                    source = translate(evaluation.evaluate, one, limits, evaluation.data())
                _kernels[evaluation] = Kernel(device, source)
            except UntranslatableError as error:
                _log.info("left to XLA, as there is no kernel with %s", error)
                _kernels[evaluation] = None
            except ExecutionError as error:
                _log.warning("left to XLA, as its kernel cannot be compiled: %s", error)
                _kernels[evaluation] = None
        kernel = _kernels[evaluation] = _kernels.pop(evaluation)
        while len(_kernels) > MOST_COMPILED:
            del _kernels[next(iter(_kernels))]
        return kernel


class LocalExecutor:
    """Evaluates points on this machine's processor, or on its accelerator.

    Attributes:
        threads: how many blocks are worked on at once.
        lanes: runs in one block.
        unroll: epochs in one turn of a compiled loop.
        waits: whether runs of a block wait for its longest one; on an accelerator hardly any do.
    """

    def __init__(
        self, threads: int | None = None, lanes: int | None = None, unroll: int | None = None
    ) -> None:
        """Start the threads.

        Args:
            threads: as many as there are usable cores if None.
            lanes: runs in one block, rounded up to a multiple of `FEWEST_LANES`; if None, few on a
                processor and many on an accelerator.
            unroll: epochs in one turn of a compiled loop; if None, one on a processor and several
                on an accelerator. With several, runs are always advanced in rounds. Given at all,
                XLA compiles them, for an NVIDIA GPU, too.
        """
        prepare_compiler()
        on_processor = jax.default_backend() == "cpu"
        self.threads = threads or len(os.sched_getaffinity(0))
        self.lanes = _padded(lanes or (LANES if on_processor else WIDE))
        self.waits = on_processor
        self._gpu = gpu() if unroll is None else None
        self.unroll = unroll or (1 if on_processor else UNROLL)
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="plateaumap")

    def __enter__(self) -> LocalExecutor:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Wait for the blocks that are being worked on, and drop the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, task: Task, points: Points) -> Callable[[], Records]:
        """Begin what a task does for points, and return a function that waits for its arrays."""
        # What a task does before it simulates is work for a thread, too.
        begun = self._pool.submit(task.begin, self, points)
        return lambda: begun.result()()

    def simulate(
        self, evaluation: Evaluation, points: Points, limits: Any, length: np.ndarray | None = None
    ) -> Callable[[], Records]:
        """Begin to simulate points, and return a function that waits for their records.

        Args:
            evaluation: what is done for one point.
            points: arrays of shape (n,).
            limits: a pytree of numbers.
            length: a guess of how long each run is, of shape (n,); runs of like length share a
                block, and the longest begin first. NaN counts as short. Without a guess, runs
                are advanced in rounds (see `plateaumap.execution.rounds`).

        Returns:
            A function that returns a dictionary of arrays of shape (n,), in the order given.
        """
        count = len(next(iter(points.values())))
        if self._gpu is not None and evaluation.lanes is None:
            thread_points = evaluation.cast(points)
            kernel = _kernel(self._gpu, evaluation, thread_points, limits)
            if kernel is not None:
                order = None if length is None else _longest_first(length)
                scalars = jax.tree.leaves(limits)
                return self._pool.submit(kernel, thread_points, scalars, order).result
        # Of a model with arrays every block has the same lanes: one compilation, the same bits.
        lanes = min(evaluation.lanes or _padded(count), self.lanes)
        if evaluation.brief and count >= BRIEF_LANES:
            lanes = max(lanes, BRIEF_LANES)
        if length is None or self.unroll > 1:
            return self._simulate_in_rounds(evaluation, points, limits, lanes).result
        order = _longest_first(length)
        parts = [order[at : at + lanes] for at in range(0, count, lanes)]
        futures = [
            self._pool.submit(_evaluate, evaluation, points, limits, part, lanes) for part in parts
        ]
        return lambda: _gather(count, parts, futures)

    def _simulate_in_rounds(
        self, evaluation: Evaluation, points: Points, limits: Any, lanes: int
    ) -> Future[Records]:
        lane_points = evaluation.cast(points)
        counter = np.dtype(evaluation.counter)
        with double_precision():
            functions = _block(evaluation, self.unroll)
            blank = functions.blank(lane_points, limits, lanes)

        def advance(some: np.ndarray, runs: Any, fresh: bool, until: int) -> Any:
            block = {name: array[some] for name, array in lane_points.items()}
            with double_precision():
                return functions.round(block, limits, runs, np.bool_(fresh), counter.type(until))

        count, last = len(next(iter(points.values()))), int(np.iinfo(counter).max) // 2
        return in_rounds(advance, blank, count, last, self._pool, self.threads)


def _longest_first(length: np.ndarray) -> np.ndarray:
    return np.argsort(-np.nan_to_num(length), kind="stable")


def _padded(lanes: int) -> int:
    return -(-lanes // FEWEST_LANES) * FEWEST_LANES


def _evaluate(
    evaluation: Evaluation, points: Points, limits: Any, block: np.ndarray, lanes: int
) -> Records:
    # A padded block repeats its last point: one more lane that stops when that one does.
    padded = np.concatenate([block, np.repeat(block[-1:], lanes - len(block))])
    with double_precision():
        lane_points = evaluation.cast({name: array[padded] for name, array in points.items()})
        records = _block(evaluation).whole(lane_points, limits)
        return {name: np.asarray(array)[: len(block)] for name, array in records.items()}


def _gather(count: int, blocks: list[np.ndarray], futures: list[Future[Records]]) -> Records:
    records: Records = {}
    for block, future in zip(blocks, futures, strict=True):
        where = _as_slice(block)
        for name, part in future.result().items():
            if name not in records:
                records[name] = np.empty(count, part.dtype)
            records[name][where] = part
    return records


def _as_slice(numbers: np.ndarray) -> np.ndarray | slice:
    """Return numbers that follow each other as a slice, to which it is faster to write."""
    first, count = int(numbers[0]), len(numbers)
    follow = np.array_equal(numbers, np.arange(first, first + count))
    return slice(first, first + count) if follow else numbers
