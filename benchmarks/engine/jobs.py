"""The jobs that every program is given: the same starts, rates, horizon and arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import plateaumap as pm

PRECISIONS = ("float64", "float32")
"""In float32, programs that can do so compensate their updates."""


@dataclass(frozen=True)
class Job:
    """Starts, rates and a horizon for one loss.

    Attributes:
        name: what the job is called.
        loss: "quadratic" or "cross_entropy".
        precision: one of `PRECISIONS`.
        measures: "T10", to stop there, or "all", to go on to T90.
        axes: axes of w0, b0 and lr; x = 1 and y = 0.
        horizon: the last epoch.
    """

    name: str
    loss: str
    precision: str
    measures: str
    axes: tuple
    horizon: int

    @property
    def title(self) -> str:
        """Return what tells this job from the others."""
        return f"{self.name}, {self.loss}, {self.precision}, {self.measures}"

    @property
    def sweep(self) -> pm.Sweep:
        """Return the job as a sweep of ours."""
        return pm.Sweep(
            name="bench",
            losses=self.loss,
            axes=list(self.axes),
            horizon=self.horizon,
            precision=self.precision,
            until="plateau" if self.measures == "T10" else "tenth",
            tolerance=0,
        )

    def points(self) -> dict[str, np.ndarray]:
        """Return w0, b0 and lr in the order of the grid, float64 arrays of shape (n,)."""
        sweep = self.sweep
        found = sweep.grid.coordinates_at(np.arange(sweep.size, dtype=np.int64))
        return {name: found[name] for name in ("w0", "b0", "lr")}


def full_horizon(loss: str, precision: str, measures: str, quick: bool) -> Job:
    """Return runs of which none leaves its plateau: nothing can be gained by dropping lanes."""
    # Slow enough to stay, and fast enough that plain float32 does not freeze.
    rate = 5e-3 if loss == "quadratic" else 1e-5
    axes = (
        pm.linspace("w0", 4, 4.2, 16 if quick else 256),
        pm.linspace("b0", 4, 4.2, 16 if quick else 128),
        pm.values("lr", [rate]),
    )
    return Job("full horizon", loss, precision, measures, axes, 200 if quick else 4_000)


def five_decades(loss: str, precision: str, measures: str, quick: bool) -> Job:
    """Return a map whose plateaus last from 1 to 10⁵ epochs."""
    # As far as T90 a cross-entropy takes ten times as many epochs as to T10.
    slowest = 1.1e-5 if measures == "T10" else 1.2e-4
    steps = 20 if quick else 128
    starts, rates = {
        "quadratic": (
            pm.linspace("w0", 0, 11.8, steps),
            pm.geomspace("lr", 0.05, 1, steps),
        ),
        "cross_entropy": (
            pm.linspace("w0", 1, 11.8, steps),
            pm.geomspace("lr", slowest, 3, steps),
        ),
    }[loss]
    horizon = 1_000 if quick else 100_000
    return Job(
        "five decades", loss, precision, measures, (starts, pm.values("b0", [0.5]), rates), horizon
    )


def all_jobs(quick: bool) -> list[Job]:
    """Return every job, or in quick mode a few small ones."""
    if quick:
        return [
            full_horizon("quadratic", "float64", "T10", quick),
            five_decades("quadratic", "float64", "all", quick),
            five_decades("cross_entropy", "float32", "T10", quick),
        ]
    return [
        make(loss, precision, measures, quick)
        for make in (full_horizon, five_decades)
        for loss in ("quadratic", "cross_entropy")
        for precision in PRECISIONS
        for measures in ("T10", "all")
    ]
