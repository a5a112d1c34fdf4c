"""Evaluates points in this process: compiled blocks of lanes, driven by a pool of threads.

Knows neither what is trained nor what is measured. A block is a fixed number of lanes, one run
in each, advanced together until the last of them has stopped; the lanes of a block are chosen to
stop at about the same time. On an NVIDIA GPU there are no blocks: each run is a thread of its own
(see `plateaumap.execution.cuda.kernel`), unless it needs what only XLA compiles.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import jax
import numpy as np

from plateaumap.execution.compiled import Evaluation, Points, blocks_of, kernel_of
from plateaumap.execution.cuda.device import gpu
from plateaumap.execution.rounds import filled_up, in_rounds
from plateaumap.numerics.compiler import double_precision, prepare_compiler

Records = dict[str, np.ndarray]

FEW_LANES, LANES = 512, 1024
"""Runs in one block: few enough to stay in a core's cache, enough to hide what a call costs."""

ENOUGH_BLOCKS = 64
"""Blocks from which their number matters less than what a call costs.

Of fewer, smaller ones lanes wait less for each other, as runs of more alike lengths are together.
"""

WIDE = 131_072
"""The same where XLA compiles them for an accelerator, which wants all of them at once."""

EVERY_EPOCH_LANES = 8192
"""Runs in one block that last a few epochs only: no lane waits for another, and calls cost most."""

FEWEST_LANES = 64
"""Smaller blocks are padded to this.

XLA treats the remainder of a vector loop differently, which changes last bits in blocks under
about 16 lanes; from 64 on a lane's bits do not depend on its block.
"""

UNROLL = 16
"""Epochs in one turn of a loop on an accelerator, where each turn costs a launch."""


class Task(Protocol):
    """What is done for many points; `plateaumap.runner.evaluator` has the real one."""

    def begin(self, lanes: Any, points: Points) -> Callable[[], Records]: ...  # noqa: D102


class LocalExecutor:
    """Evaluates points on this machine's processor, or on its accelerator.

    Attributes:
        threads: how many blocks are worked on at once.
        lanes: runs in one block, at most.
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
                processor (see `ENOUGH_BLOCKS`) and many on an accelerator.
            unroll: epochs in one turn of a compiled loop; if None, one on a processor and several
                on an accelerator. With several, runs are always advanced in rounds. Given at all,
                XLA compiles them, for an NVIDIA GPU, too.
        """
        prepare_compiler()
        on_processor = jax.default_backend() == "cpu"
        self.threads = threads or len(os.sched_getaffinity(0))
        self.lanes = _padded(lanes or (LANES if on_processor else WIDE))
        self._few_lanes = FEW_LANES if lanes is None and on_processor else self.lanes
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
            kernel = kernel_of(self._gpu, evaluation, thread_points, limits)
            if kernel is not None:
                order = None if length is None else _longest_first(length)
                scalars = jax.tree.leaves(limits)
                return self._pool.submit(kernel, thread_points, scalars, order).result
        lanes = self.block_lanes(evaluation, count)
        if length is None or self.unroll > 1:
            return self._simulate_in_rounds(evaluation, points, limits, lanes).result
        order = None if evaluation.every_epoch else _longest_first(length)
        if order is not None:
            points = {name: array[order] for name, array in points.items()}
        blocks = [slice(at, min(at + lanes, count)) for at in range(0, count, lanes)]
        futures = [
            self._pool.submit(_evaluate, evaluation, points, limits, block, lanes)
            for block in blocks
        ]
        return lambda: _gather(order, blocks, futures)

    def block_lanes(self, evaluation: Evaluation, count: int) -> int:
        """Return how many of so many runs make a block."""
        if evaluation.lanes is not None:
            # Of a model with arrays every block has the same lanes: one compilation, the same bits.
            return min(evaluation.lanes, self.lanes)
        if evaluation.every_epoch and count >= EVERY_EPOCH_LANES:
            return max(self.lanes, EVERY_EPOCH_LANES)
        lanes = self.lanes if count >= ENOUGH_BLOCKS * self.lanes else self._few_lanes
        return min(_padded(count), lanes)

    def _simulate_in_rounds(
        self, evaluation: Evaluation, points: Points, limits: Any, lanes: int
    ) -> Future[Records]:
        lane_points = evaluation.cast(points)
        counter = np.dtype(evaluation.counter)
        with double_precision():
            functions = blocks_of(evaluation, self.unroll)
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
    evaluation: Evaluation, points: Points, limits: Any, block: slice, lanes: int
) -> Records:
    count = block.stop - block.start
    some = {name: filled_up(array[block], lanes) for name, array in points.items()}
    with double_precision():
        lane_points = evaluation.cast(some)
        records = blocks_of(evaluation).whole(lane_points, limits)
        return {name: np.asarray(array)[:count] for name, array in records.items()}


def _gather(
    order: np.ndarray | None, blocks: list[slice], futures: list[Future[Records]]
) -> Records:
    """Put the records of blocks together, in the order that points had before they were sorted."""
    gathered: Records = {}
    for block, future in zip(blocks, futures, strict=True):
        for name, part in future.result().items():
            if name not in gathered:
                gathered[name] = np.empty(blocks[-1].stop, part.dtype)
            gathered[name][block] = part
    if order is None:
        return gathered
    records = {name: np.empty_like(values) for name, values in gathered.items()}
    for name, values in gathered.items():
        records[name][order] = values
    return records
