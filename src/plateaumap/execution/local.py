"""The local backend: evaluates points in this process."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np

from plateaumap.execution.backend import Backend, Pending, require_count
from plateaumap.execution.evaluator import Evaluator
from plateaumap.execution.simulator import Simulator

MOST_AT_ONCE = 8
"""Evaluations that are prepared at the same time. They wait for blocks most of the time."""


class LocalBackend(Backend):
    """Evaluates points with the processor of this machine, or with its accelerator.

    Each evaluation has a thread of its own, which orders the points, waits for the simulator's
    threads and applies theory. The next evaluation is prepared while the simulator is busy.
    """

    name = "local"
    options = ("threads",)

    def __init__(
        self, threads: int | None = None, lanes: int | None = None, unroll: int | None = None
    ) -> None:
        """Set the options; nothing is started yet.

        Args:
            threads: see `BackendOptions`.
            lanes: see `Simulator`.
            unroll: see `Simulator`.

        Raises:
            PlateaumapError: `threads` is not a positive whole number.
        """
        require_count("threads", threads)
        self.threads = threads
        self._settings = (threads, lanes, unroll)

    def __enter__(self) -> Self:
        """Start the threads."""
        self._simulator = Simulator(*self._settings)
        self._evaluations = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="plateaumap")
        return self

    def __exit__(self, *exception: object) -> None:
        """Wait for the blocks that are being computed, and cancel everything else."""
        self._evaluations.shutdown(wait=False, cancel_futures=True)
        self._simulator.__exit__(*exception)
        self._evaluations.shutdown(wait=True)

    def evaluate(self, evaluator: Evaluator, points: Mapping[str, np.ndarray]) -> Pending:
        """Start to evaluate points, see `Backend.evaluate`."""
        return self._evaluations.submit(evaluator.evaluate, self._simulator, points)
