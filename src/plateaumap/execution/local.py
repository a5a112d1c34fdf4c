"""Evaluates points in this process: compiled blocks of lanes, driven by a pool of threads.

Knows neither what is trained nor what is measured. A block is a fixed number of lanes, one run
in each, advanced together until the last of them has stopped; the lanes of a block are chosen to
stop at about the same time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array

Points = Mapping[str, np.ndarray]
Records = dict[str, np.ndarray]

LANES = 1024
"""Runs in one block: few enough to stay in a core's cache, enough to hide what a call costs."""

FEWEST_LANES = 64
"""Smaller blocks are padded to this.

XLA treats the remainder of a vector loop differently, which changes last bits in blocks under
about 16 lanes; from 64 on a lane's bits do not depend on its block.
"""


MOST_COMPILED = 256
"""Evaluations whose compiled blocks are kept, those used last."""


class Evaluation(Protocol):
    """What is done for one point; `plateaumap.evaluation` has the real one.

    `limits` is a pytree of scalars, `data()` one of arrays that all points share. Equal
    evaluations must have equal hashes. `lanes` bounds the runs in one block, if it is not None.
    """

    @property
    def lanes(self) -> int | None: ...  # noqa: D102

    def __hash__(self) -> int: ...  # noqa: D105

    def cast(self, points: Mapping[str, Any]) -> dict[str, np.ndarray]: ...  # noqa: D102

    def data(self) -> Any: ...  # noqa: D102

    def evaluate(self, point: Any, limits: Any, data: Any) -> dict[str, Array]: ...  # noqa: D102


class Task(Protocol):
    """What is done for many points; `plateaumap.task` has the real one."""

    def begin(self, lanes: Any, points: Points) -> Callable[[], Records]: ...  # noqa: D102


class _Block:
    """The block function of an evaluation, compiled when it is first called with so many lanes."""

    def __init__(self, evaluation: Evaluation) -> None:
        # This is the one place where the runs of a sweep are vectorised.
        block = jax.vmap(evaluation.evaluate, (0, None, None))
        self._block = jax.jit(block, compiler_options=compiler_options())
        self._data = evaluation.data()
        self._compiled: set[int] = set()
        self._guard = threading.Lock()

    def __call__(self, lane_points: Mapping[str, np.ndarray], limits: Any) -> dict[str, Array]:
        lanes = len(next(iter(lane_points.values())))
        if lanes in self._compiled:
            return self._block(lane_points, limits, self._data)
        with self._guard:  # or else every thread would compile it for itself
            records = self._block(lane_points, limits, self._data)
            self._compiled.add(lanes)
            return records


_blocks: dict[Evaluation, _Block] = {}
_blocks_guard = threading.Lock()


def _compiled(evaluation: Evaluation) -> _Block:
    """Return the block function of an evaluation, the same for equal ones; keep the last ones."""
    with _blocks_guard:
        block = _blocks.pop(evaluation, None) or _Block(evaluation)
        _blocks[evaluation] = block
        while len(_blocks) > MOST_COMPILED:
            del _blocks[next(iter(_blocks))]
        return block


@lru_cache(maxsize=1)
def compiler_options() -> dict[str, str]:
    """Return options that make the most of this CPU.

    A block is one thread's work. XLA by itself would run independent operations of one block on
    several threads, which for arrays of a few kilobytes costs more than it brings; scheduled for
    memory it runs them one after the other. Of vectors, its own choice is 256 bits.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    if "avx512f" in _cpu_features():
        options["xla_cpu_prefer_vector_width"] = "512"
    return options


def _cpu_features() -> frozenset[str]:
    from numpy._core._multiarray_umath import __cpu_features__ as features

    return frozenset(name.lower() for name, present in features.items() if present)


class LocalExecutor:
    """Evaluates points on this machine's processor, or on its accelerator.

    Attributes:
        threads: how many blocks are worked on at once.
        lanes: runs in one block.
    """

    def __init__(self, threads: int | None = None, lanes: int = LANES) -> None:
        """Start the threads.

        Args:
            threads: as many as there are usable cores if None.
            lanes: runs in one block, rounded up to a multiple of `FEWEST_LANES`.
        """
        self.threads = threads or len(os.sched_getaffinity(0))
        self.lanes = _padded(lanes)
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
                block, and the longest begin first. NaN counts as short.

        Returns:
            A function that returns a dictionary of arrays of shape (n,), in the order given.
        """
        count = len(next(iter(points.values())))
        order = np.arange(count)
        if length is not None:
            order = np.argsort(-np.nan_to_num(length), kind="stable")
        lanes = min(_padded(evaluation.lanes or self.lanes), self.lanes, _padded(count))
        blocks = [order[at : at + lanes] for at in range(0, count, lanes)]
        futures: list[Future[Records]] = [
            self._pool.submit(_evaluate, evaluation, points, limits, block, lanes)
            for block in blocks
        ]
        return lambda: _gather(count, blocks, futures)


def _padded(lanes: int) -> int:
    return -(-lanes // FEWEST_LANES) * FEWEST_LANES


def _evaluate(
    evaluation: Evaluation, points: Points, limits: Any, block: np.ndarray, lanes: int
) -> Records:
    # A padded block repeats its last point: one more lane that stops when that one does.
    padded = np.concatenate([block, np.repeat(block[-1:], lanes - len(block))])
    with jax.enable_x64(True):
        lane_points = evaluation.cast({name: array[padded] for name, array in points.items()})
        records = _compiled(evaluation)(lane_points, limits)
        return {name: np.asarray(array)[: len(block)] for name, array in records.items()}


def _gather(count: int, blocks: list[np.ndarray], futures: list[Future[Records]]) -> Records:
    records: Records = {}
    for block, future in zip(blocks, futures, strict=True):
        for name, part in future.result().items():
            if name not in records:
                records[name] = np.empty(count, part.dtype)
            records[name][block] = part
    return records
