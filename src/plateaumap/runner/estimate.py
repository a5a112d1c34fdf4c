"""Estimates the rows, chunks, bytes and time of a sweep from a sample of its points."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plateaumap.execution.local import LocalBackend
from plateaumap.inputs.paths import local_path
from plateaumap.runner.run import bytes_to_write
from plateaumap.runner.sweep_table import SweepTable
from plateaumap.storage.space import format_bytes, free_bytes
from plateaumap.storage.store import Store
from plateaumap.sweep.spec import Sweep

SAMPLE = 1024
"""Points of each loss that are evaluated to estimate the time."""


@dataclass(frozen=True)
class RunEstimate:
    """The work that a sweep still needs.

    Attributes:
        points: points of the sweep, for each loss.
        losses: the names of the losses.
        chunks: the number of chunks.
        missing: the number of chunks that are not stored yet.
        bytes: the expected size of the missing parts.
        free: the free bytes on the disk of the folder.
        seconds: the expected time for the missing rows, without compilation.
    """

    points: int
    losses: tuple[str, ...]
    chunks: int
    missing: int
    bytes: int
    free: int
    seconds: float

    def to_text(self) -> str:
        """Return the estimate as lines of text."""
        rows = self.points * len(self.losses)
        return "\n".join(
            [
                f"points   {self.points:,} for each of {', '.join(self.losses)}: {rows:,} rows",
                f"chunks   {self.chunks:,}, of which {self.chunks - self.missing:,} are stored",
                f"bytes    about {format_bytes(self.bytes)} to write, "
                f"{format_bytes(self.free)} free",
                f"time     about {_duration(self.seconds)}, from a sample",
            ]
        )


def estimate(
    sweep: Sweep, folder: Path, threads: int | None = None, mix_versions: bool = False
) -> RunEstimate:
    """Return an estimate of running a sweep into a folder; nothing is written.

    Args:
        sweep: the sweep.
        folder: the folder. Rows of this sweep that it already holds count as done.
        threads: see `run`.
        mix_versions: see `run`.

    Raises:
        PlateaumapError: the folder holds something else, or the sweep cannot be run.
    """
    folder = local_path(folder)
    sweep_table = SweepTable(sweep)
    store = Store.find(folder, sweep_table.manifest(), mix_versions)
    plan = sweep_table.plan if store is None else store.plan
    if store is None:
        missing, rows = len(plan), plan.rows
    else:
        indices = store.missing()
        missing, rows = len(indices), sum(plan[index].rows for index in indices)
    return RunEstimate(
        points=sweep.size,
        losses=sweep.loss_names,
        chunks=len(plan),
        missing=missing,
        bytes=bytes_to_write(sweep_table, store),
        free=free_bytes(folder),
        seconds=_seconds_per_row(sweep_table, threads) * rows if rows else 0.0,
    )


def _seconds_per_row(sweep_table: SweepTable, threads: int | None) -> float:
    """Return the time of a sample spread evenly over the grid, measured after compilation."""
    sweep, evaluators = sweep_table.sweep, sweep_table.evaluators
    with LocalBackend(threads) as backend:
        lanes = sweep.experiment.lanes
        most = SAMPLE if lanes is None else lanes * (threads or len(os.sched_getaffinity(0)))
        count = min(sweep.size, SAMPLE, most)
        numbers = np.unique(np.linspace(0, sweep.size - 1, count).round().astype(np.int64))
        points = sweep.grid.coordinates_at(numbers)
        begin = 0.0
        for _ in ("compile", "measure"):
            begin = time.perf_counter()
            pending = [backend.evaluate(evaluator, points) for evaluator in evaluators]
            for rows in pending:
                rows.result()
    return (time.perf_counter() - begin) / (len(numbers) * len(evaluators))


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
