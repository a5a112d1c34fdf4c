"""The rows of a sweep with `method="leap"`: plateaus of any length, in constant time.

A row is first evaluated with a horizon of 0, which fills the columns of its initial point. Its
lengths come from theory. A row is simulated where theory has no answer (an activation or a loss
without theory, a path that overshoots its target) and where a run is short enough to cost little.
In a row that theory fills, columns that it cannot fill are null, including those of a user's
measures; acceleration, tangent lag and displacements are those of the gradient flow, the limit of
small steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plateaumap.table import columns as table
from plateaumap.table.columns import Arrays, Column
from plateaumap.theory.base import Theory
from plateaumap.theory.canonical import EpochState
from plateaumap.theory.epochs import EpochCounts
from plateaumap.training.measures import LEVELS, SHAPE_TOLERANCE, SHAPES, STATUSES

SIMULATED_UP_TO = 4096
"""Epochs up to which a run is simulated even if theory has its length."""

FALLBACK_HORIZON = 100_000
"""Horizon of a row without theory in a sweep without a horizon."""

LARGEST_STEP = 0.05
"""Largest change of z in an epoch for which the peak of the flow is used as that of the run."""

FEWEST_EPOCHS = 1000
"""Shortest plateau, in epochs, in which one epoch is at most a thousandth of a measure."""

ESCAPED, CENSORED, CONVERGED, BEYOND = (
    STATUSES.index(name) for name in ("escaped", "censored", "converged_at_start", "beyond_int64")
)

UNDECIDED_AT_START = tuple(
    STATUSES.index(name) for name in ("censored", "stalled", "partially_stalled")
)
"""Statuses of a run with a horizon of 0 whose plateau may nevertheless have a length."""


def without_stalls(arrays: Arrays) -> Arrays:
    """Return simulated rows of a leap, in which runs that stall by rounding are censored."""
    stalled = np.isin(arrays["status"], UNDECIDED_AT_START)
    return {**arrays, "status": np.where(stalled, np.int8(CENSORED), arrays["status"])}


class Lengths:
    """The exact lengths of the plateaus of some points, where a theory has them.

    Attributes:
        counts: for each column of crossings, the lengths to its level.
        unanswered: which points have to be simulated, boolean of shape (n,).
    """

    def __init__(
        self, points: Mapping[str, np.ndarray], counts: Mapping[str, EpochCounts], theory: Theory
    ) -> None:
        """Bind the results of `lengths_of`."""
        self._points, self._theory, self.counts = points, theory, counts
        last = list(counts.values())[-1]
        answered = [c.known | (c.state == EpochState.BEYOND_INT64) for c in counts.values()]
        short = last.known & (last.epochs <= SIMULATED_UP_TO)
        self.unanswered = ~np.logical_and.reduce(answered) | short

    def fill(
        self, arrays: Arrays, columns: Sequence[Column], rows: np.ndarray, horizon: int | None
    ) -> None:
        """Write the results of theory into some rows that were evaluated at their initial points.

        Args:
            arrays: the measured columns of all points; changed in place.
            columns: the descriptions of these columns.
            rows: which rows, boolean of shape (n,).
            horizon: epochs after which a plateau counts as censored; None for never.
        """
        epochs = {name: self._epochs(name, horizon) for name in LEVELS}
        plateau, tenth = epochs["plateau_epochs"], epochs["tenth_epochs"]
        escaped = ~np.ma.getmaskarray(plateau)
        finished = escaped & ~np.ma.getmaskarray(tenth)
        beyond = self.counts["plateau_epochs"].state == EpochState.BEYOND_INT64
        fraction = np.where(finished, _fraction(plateau, tenth), np.nan)
        by_theory: Arrays = {
            "status": np.where(escaped, ESCAPED, np.where(beyond, BEYOND, CENSORED)),
            **epochs,
            "plateau_fraction": np.where(plateau >= FEWEST_EPOCHS, fraction, np.nan),
            **self._from_flow(escaped, finished, fraction),
            "path": np.full(len(rows), -1),
            "epochs_run": _epochs_run(plateau if len(self.counts) == 1 else tenth, beyond, horizon),
        }
        for column in columns:
            if column.name in by_theory:
                values = by_theory[column.name]
            elif "leap" in column.methods:
                continue
            else:
                values = column.nulls(len(rows))
            table.put(arrays, rows, {column.name: values[rows]})

    def _epochs(self, name: str, horizon: int | None) -> np.ma.MaskedArray:
        if name not in self.counts:
            return np.ma.masked_all(self.unanswered.shape, np.int64)
        counts = self.counts[name]
        late = np.zeros_like(counts.known) if horizon is None else counts.epochs > horizon
        return np.ma.MaskedArray(counts.epochs, mask=~counts.known | late)

    def _from_flow(self, escaped: np.ndarray, finished: np.ndarray, fraction: np.ndarray) -> Arrays:
        flow = self._theory.flow_limits(self._points)
        assert flow is not None
        smooth = finished & (flow.largest_step <= LARGEST_STEP)
        # A run ends up to a step beyond the level; the flow ends at it.
        near = flow.largest_step <= np.abs(flow.displacement) / FEWEST_EPOCHS
        acceleration = np.where(smooth, flow.acceleration, np.nan)
        with np.errstate(over="ignore", invalid="ignore"):
            per_unit = flow.displacement / (1 + np.square(self._points["x"]))
        return {
            "acceleration": acceleration,
            "tangent_lag": np.where(smooth, flow.tangent_lag, np.nan),
            "w_moved": np.where(escaped & near, per_unit * self._points["x"], np.nan),
            "b_moved": np.where(escaped & near, per_unit, np.nan),
            "shape": _shape(acceleration, fraction),
        }


def lengths_of(
    theory: Theory | None, points: Mapping[str, np.ndarray], until: str
) -> Lengths | None:
    """Return the exact lengths of some points, or None without a theory of them.

    Args:
        theory: the theory of the model, or None.
        points: float64 arrays of shape (n,), one for each coordinate.
        until: "plateau" for T10 only, else all levels.
    """
    if theory is None:
        return None
    counts: dict[str, EpochCounts] = {}
    for name in list(LEVELS)[: 1 if until == "plateau" else None]:
        lengths = theory.lengths(points, LEVELS[name])
        if lengths is None:
            return None
        counts[name] = lengths
    return Lengths(points, counts, theory)


def _epochs_run(
    last: np.ma.MaskedArray, beyond: np.ndarray, horizon: int | None
) -> np.ma.MaskedArray:
    """Return the epochs at which runs stop: at their last crossing, else at the horizon."""
    missed = np.ma.getmaskarray(last)
    epochs = np.where(missed, horizon or 0, np.ma.getdata(last))
    return np.ma.MaskedArray(epochs, mask=missed & (beyond | (horizon is None)))


def _fraction(plateau: np.ma.MaskedArray, tenth: np.ma.MaskedArray) -> np.ndarray:
    # A crossing lies within the epoch that ends at T; the middle is at most half an epoch off.
    first, last = (np.maximum(np.ma.getdata(n) - 0.5, 0.5) for n in (plateau, tenth))
    return first / last


def _shape(acceleration: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    code = {name: index for index, name in enumerate(SHAPES)}
    larger = np.where(fraction >= 0.5, code["plateau"], code["weak"])
    shape = np.where(acceleration <= 1 + SHAPE_TOLERANCE, code["none"], larger)
    return np.where(np.isnan(acceleration), -1, shape)
