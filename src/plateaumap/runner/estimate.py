"""What running a sweep would take: rows, chunks, bytes and time, from a sample of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plateaumap.execution.local import LocalExecutor
from plateaumap.inputs.paths import local_path
from plateaumap.runner.rows import Rows
from plateaumap.runner.run import bytes_to_write, find_store
from plateaumap.storage.space import format_bytes, free_bytes
from plateaumap.sweep.spec import Sweep

SAMPLE = 1024
"""Points of each loss that are evaluated to estimate the time."""


@dataclass(frozen=True)
class Estimate:
    """What is left to do.

    Attributes:
        points: points of the sweep, for each loss.
        losses: their names.
        chunks: chunks in all.
        missing: chunks that are not there yet.
        bytes: expected size of the missing parts.
        free: free bytes where they would go.
        seconds: expected time for the missing rows, without compilation.
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
                f"chunks   {self.chunks:,}, of which {self.chunks - self.missing:,} are there",
                f"bytes    about {format_bytes(self.bytes)} to write, "
                f"{format_bytes(self.free)} free",
                f"time     about {_duration(self.seconds)}, from a sample",
            ]
        )


def estimate(
    sweep: Sweep, folder: Path, threads: int | None = None, mix_versions: bool = False
) -> Estimate:
    """Return what running a sweep into a folder would take; nothing is written.

    Args:
        sweep: the sweep.
        folder: where it would go; what it holds of this sweep counts as done.
        threads: as for `run`.
        mix_versions: as for `run`.

    Raises:
        PlateaumapError: the folder is not this sweep's, or the sweep cannot be run.
    """
    folder = local_path(folder)
    rows = Rows(sweep)
    store = find_store(rows, folder, mix_versions)
    plan = rows.plan if store is None else store.plan
    missing = list(range(len(plan))) if store is None else store.missing()
    left = sum(plan[index].rows for index in missing)
    return Estimate(
        points=sweep.size,
        losses=sweep.loss_names,
        chunks=len(plan),
        missing=len(missing),
        bytes=bytes_to_write(rows, store),
        free=free_bytes(folder),
        seconds=_seconds_per_row(rows, threads) * left if left else 0.0,
    )


def _seconds_per_row(rows: Rows, threads: int | None) -> float:
    """Time a sample spread evenly over the grid, once it has been compiled."""
    size = rows.sweep.size
    begin = 0.0
    with LocalExecutor(threads) as executor:
        lanes = rows.sweep.experiment.lanes
        count = min(size, SAMPLE, SAMPLE if lanes is None else lanes * executor.threads)
        numbers = np.unique(np.linspace(0, size - 1, count).round().astype(np.int64))
        points = rows.sweep.grid.coordinates_at(numbers)
        for _ in ("compile", "measure"):
            begin = time.perf_counter()
            waits = [executor.begin(task, points) for task in rows.tasks]
            for wait in waits:
                wait()
    return (time.perf_counter() - begin) / (len(numbers) * len(rows.tasks))


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
