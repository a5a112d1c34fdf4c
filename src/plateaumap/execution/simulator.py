"""Simulates points in this process: compiled blocks of lanes, computed by a pool of threads.

A block is a fixed number of lanes, one run in each, which advance together until the last of them
has stopped. The lanes of a block are chosen to stop at about the same time. On an NVIDIA GPU each
run is a thread of a kernel (see `plateaumap.execution.cuda`), unless only XLA can compile it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import jax
import numpy as np

from plateaumap.execution.compiled import Points, block_functions
from plateaumap.execution.cuda.device import gpu
from plateaumap.execution.cuda.simulation import simulate_with_kernel
from plateaumap.execution.rounds import fill_block, simulate_in_rounds
from plateaumap.experiment.evaluation import Evaluation
from plateaumap.numerics.compiler import double_precision, prepare_compiler
from plateaumap.table.columns import Arrays

FEW_LANES, LANES = 512, 1024
"""Runs in one block: few enough to stay in a core's cache, enough to hide the cost of a call."""

ENOUGH_BLOCKS = 64
"""The number of blocks from which the cost of a call matters more than the number of blocks.

With fewer and smaller blocks, lanes wait less for each other, because runs of more similar lengths
are together.
"""

WIDE = 131_072
"""Runs in one block that XLA compiles for an accelerator, which needs all of them at once."""

EVERY_EPOCH_LANES = 8192
"""Short runs in one block: lanes do not wait for each other, and the cost of a call dominates."""

FEWEST_LANES = 64
"""Smaller blocks are padded to this number of lanes.

XLA treats the remainder of a vector loop differently, which changes the last bits in blocks of
fewer than about 16 lanes. From 64 lanes on, the bits of a lane do not depend on its block.
"""

UNROLL = 16
"""Epochs in one turn of a loop on an accelerator, where each turn costs a kernel launch."""


class Simulator:
    """Simulates points on this machine's processor, or on its accelerator.

    Attributes:
        threads: the number of blocks that are computed at the same time.
        lanes: the largest number of runs in one block.
        unroll: epochs in one turn of a compiled loop.
        lockstep: whether the runs of a block wait for its longest run. They do on a processor,
            where a good guess of the lengths therefore pays, and hardly on an accelerator.
    """

    def __init__(
        self, threads: int | None = None, lanes: int | None = None, unroll: int | None = None
    ) -> None:
        """Start the threads.

        Args:
            threads: by default one for each usable core.
            lanes: runs in one block, rounded up to a multiple of `FEWEST_LANES`; by default few on
                a processor (see `ENOUGH_BLOCKS`) and many on an accelerator.
            unroll: epochs in one turn of a compiled loop; by default one on a processor and several
                on an accelerator. With several, runs always advance in rounds. If it is given, XLA
                compiles the runs, also for an NVIDIA GPU.
        """
        prepare_compiler()
        on_processor = jax.default_backend() == "cpu"
        self.threads = threads or len(os.sched_getaffinity(0))
        self.lanes = _padded(lanes or (LANES if on_processor else WIDE))
        self.unroll = unroll or (1 if on_processor else UNROLL)
        self.lockstep = on_processor
        self._few_lanes = FEW_LANES if lanes is None and on_processor else self.lanes
        self._gpu = gpu() if unroll is None else None
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="plateaumap-block")

    def __enter__(self) -> Self:
        """Return the simulator itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Wait for the blocks that are being computed, and cancel the others."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def simulate(
        self, evaluation: Evaluation, points: Points, limits: Any, length: np.ndarray | None = None
    ) -> Arrays:
        """Simulate points, and return their records. Several threads may call this method.

        Args:
            evaluation: one run as a pure function.
            points: arrays of shape (n,).
            limits: a pytree of numbers that all runs share.
            length: a guess of the length of each run, of shape (n,). Runs of similar lengths share
                a block, and the longest runs start first; NaN counts as short. Without a guess,
                runs advance in rounds (see `plateaumap.execution.rounds`).

        Returns:
            Arrays of shape (n,), in the order of the points.
        """
        order = None if length is None else np.argsort(-np.nan_to_num(length), kind="stable")
        if self._gpu is not None and evaluation.lanes is None:
            records = simulate_with_kernel(self._gpu, evaluation, points, limits, order)
            if records is not None:
                return records
        if order is None or self.unroll > 1:
            return self._simulate_in_rounds(evaluation, points, limits)
        return self._simulate_blocks(evaluation, points, limits, order)

    def block_lanes(self, evaluation: Evaluation, count: int) -> int:
        """Return the number of lanes in each block of `count` runs."""
        if evaluation.lanes is not None:
            # Every block of a model with arrays has the same number of lanes: one compilation and
            # the same bits.
            return min(evaluation.lanes, self.lanes)
        if evaluation.every_epoch and count >= EVERY_EPOCH_LANES:
            return max(self.lanes, EVERY_EPOCH_LANES)
        lanes = self.lanes if count >= ENOUGH_BLOCKS * self.lanes else self._few_lanes
        return min(_padded(count), lanes)

    def _simulate_blocks(
        self, evaluation: Evaluation, points: Points, limits: Any, order: np.ndarray
    ) -> Arrays:
        """Simulate each block from start to end."""
        count = len(order)
        lanes = self.block_lanes(evaluation, count)
        blocks: list[Any] = [slice(at, min(at + lanes, count)) for at in range(0, count, lanes)]
        if not evaluation.every_epoch:
            blocks = [order[block] for block in blocks]
        arguments = (evaluation, points, limits, lanes)
        futures = [self._pool.submit(_simulate_block, block, *arguments) for block in blocks]
        records: Arrays = {}
        try:
            for block, future in zip(blocks, futures, strict=True):
                for name, values in future.result().items():
                    if name not in records:
                        records[name] = np.empty(count, values.dtype)
                    records[name][block] = values
        finally:
            for future in futures:
                future.cancel()
        return records

    def _simulate_in_rounds(self, evaluation: Evaluation, points: Points, limits: Any) -> Arrays:
        points = evaluation.cast(points)
        count = len(next(iter(points.values())))
        counter = np.dtype(evaluation.counter)
        with double_precision():
            functions = block_functions(evaluation, self.unroll)
            blank = functions.blank(points, limits, self.block_lanes(evaluation, count))

        def advance(numbers: np.ndarray, runs: Any, fresh: bool, until: int) -> Any:
            some = {name: array[numbers] for name, array in points.items()}
            with double_precision():
                return functions.round(some, limits, runs, np.bool_(fresh), counter.type(until))

        last = int(np.iinfo(counter).max) // 2
        return simulate_in_rounds(advance, blank, count, last, self._pool, self.threads)


def _padded(lanes: int) -> int:
    return -(-lanes // FEWEST_LANES) * FEWEST_LANES


def _simulate_block(
    block: slice | np.ndarray, evaluation: Evaluation, points: Points, limits: Any, lanes: int
) -> Arrays:
    some = {name: array[block] for name, array in points.items()}
    count = len(next(iter(some.values())))
    with double_precision():
        padded = evaluation.cast({n: fill_block(array, lanes) for n, array in some.items()})
        records = block_functions(evaluation).whole(padded, limits)
        return {name: np.asarray(array)[:count] for name, array in records.items()}
