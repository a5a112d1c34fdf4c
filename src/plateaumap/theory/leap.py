"""The rows of a sweep by theory: plateaus of any length, in constant time.

A row is first evaluated with a horizon of nothing, which shows all about its start. Its lengths
come from theory. Where theory has no answer (an activation or a loss without one, a path that
overshoots its target), or where a run is so short that it costs nothing, the row is simulated.
In a row that theory fills, columns that it cannot fill are null, whoever added them; acceleration,
tangent lag and displacements are those of the gradient flow, the limit of small steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from plateaumap.table import columns as table
from plateaumap.table.columns import Arrays, Column
from plateaumap.theory.cells import EpochState
from plateaumap.theory.epochs import EpochCounts
from plateaumap.theory.theory import Theory
from plateaumap.training.measures import LEVELS, SHAPE_TOLERANCE, SHAPES, STATUSES

SIMULATED_UP_TO = 4096
"""Epochs up to which a run is simulated even if theory knows its length."""

FALLBACK_HORIZON = 100_000
"""Epochs that a row without theory is simulated for when the sweep gives no horizon."""

LARGEST_STEP = 0.05
"""Largest change of z in an epoch for which the flow's peak stands for that of the epochs."""

FEWEST_EPOCHS = 1000
"""Epochs of a plateau from which one of them is less than a thousandth of what is measured."""

ESCAPED, CENSORED, CONVERGED, BEYOND = (
    STATUSES.index(name) for name in ("escaped", "censored", "converged_at_start", "beyond_int64")
)

UNDECIDED_AT_START = tuple(
    STATUSES.index(name) for name in ("censored", "stalled", "partially_stalled")
)
"""What a run with a horizon of nothing may be called whose plateau has a length all the same."""


def without_stalls(arrays: Arrays) -> Arrays:
    """Return simulated rows of a leap, in which stalls by rounding are ends of what was seen."""
    stalled = np.isin(arrays["status"], UNDECIDED_AT_START)
    return {**arrays, "status": np.where(stalled, np.int8(CENSORED), arrays["status"])}


class Lengths:
    """The exact lengths of the plateaus of some points, as far as a theory has them.

    Attributes:
        counts: for each column of crossings, the lengths to its level.
        unanswered: which points have to be simulated, boolean of shape (n,).
    """

    def __init__(
        self, points: Mapping[str, np.ndarray], counts: Mapping[str, EpochCounts], theory: Theory
    ) -> None:
        """Bind what `lengths_of` found."""
        self._points, self._theory, self.counts = points, theory, counts
        last = list(counts.values())[-1]
        answered = [c.known | (c.state == EpochState.BEYOND_INT64) for c in counts.values()]
        short = last.known & (last.epochs <= SIMULATED_UP_TO)
        self.unanswered = ~np.logical_and.reduce(answered) | short

    def fill(
        self, arrays: Arrays, columns: Sequence[Column], rows: np.ndarray, horizon: int | None
    ) -> None:
        """Write what theory knows of some rows over what was evaluated of their starts.

        Args:
            arrays: the measured columns of all points; changed in place.
            columns: what these columns are.
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
            **self._of_flow(escaped, finished, fraction),
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

    def _of_flow(self, escaped: np.ndarray, finished: np.ndarray, fraction: np.ndarray) -> Arrays:
        flow = self._theory.landmarks(self._points)
        assert flow is not None
        smooth = finished & (flow.largest_step <= LARGEST_STEP)
        # A run ends up to a step beyond the level, of which the flow knows nothing.
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
    """Return the exact lengths of some points, or None if there is no theory of them.

    Args:
        theory: what is known of the model, or None.
        points: float64 arrays of shape (n,), one for each coordinate.
        until: "plateau" for T10 only, else all levels.
    """
    if theory is None:
        return None
    counts: dict[str, EpochCounts] = {}
    for name in list(LEVELS)[: 1 if until == "plateau" else None]:
        found = theory.lengths(points, LEVELS[name])
        if found is None:
            return None
        counts[name] = found
    return Lengths(points, counts, theory)


def _epochs_run(
    last: np.ma.MaskedArray, beyond: np.ndarray, horizon: int | None
) -> np.ma.MaskedArray:
    """Return where runs stop: at their last crossing, else at the horizon."""
    missed = np.ma.getmaskarray(last)
    epochs = np.where(missed, horizon or 0, np.ma.getdata(last))
    return np.ma.MaskedArray(epochs, mask=missed & (beyond | (horizon is None)))


def _fraction(plateau: np.ma.MaskedArray, tenth: np.ma.MaskedArray) -> np.ndarray:
    # A crossing lies within the epoch that ends at T; its middle is off by half an epoch at most.
    first, last = (np.maximum(np.ma.getdata(n) - 0.5, 0.5) for n in (plateau, tenth))
    return first / last


def _shape(acceleration: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    code = {name: index for index, name in enumerate(SHAPES)}
    grown = np.where(fraction >= 0.5, code["plateau"], code["weak"])
    shape = np.where(acceleration <= 1 + SHAPE_TOLERANCE, code["none"], grown)
    return np.where(np.isnan(acceleration), -1, shape)
