"""Programs in processes of their own, in which JAX is as its users find it.

plateaumap tells XLA in its process how to compile short loops. That would be help, or harm, to JAX
programs that are measured beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from benchmarks.engine.jobs import Job

_run: Callable[[], Mapping[str, np.ndarray]]


class Apart:
    """A prepared program in another process; called, it runs there and returns its answers.

    Attributes:
        cpu: seconds of processor time that the last run took.
    """

    def __init__(self, name: str, job: Job, threads: int) -> None:
        """Start the process and prepare the program of that name in it."""
        self.cpu = 0.0
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._pool.submit(_prepare, name, job, threads).result()

    def __call__(self) -> Mapping[str, np.ndarray]:
        """Run it once."""
        answers, self.cpu = self._pool.submit(_timed).result()
        return answers

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


def _prepare(name: str, job: Job, threads: int) -> None:
    import jax

    jax.devices()  # from here on XLA does not listen any more
    from benchmarks.engine.programs import PROGRAMS

    global _run
    (program,) = (program for program in PROGRAMS if program.name == name)
    _run = program.prepare(job, threads)


def _timed() -> tuple[Any, float]:
    begin = time.process_time()
    answers = _run()
    return answers, time.process_time() - begin
