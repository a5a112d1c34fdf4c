"""The rows of a sweep by theory: plateaus of any length, in constant time.

A row is first evaluated with a horizon of nothing, which tells all about its start. Its lengths
come from theory. Where theory has no answer (an activation or a loss without one, a path that
overshoots its target), or where a run is so short that it costs nothing, the row is simulated;
its other columns are then exact, as theory's are only in the limit of small steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from plateaumap import table
from plateaumap.compiler import double_precision
from plateaumap.measures import LEVELS, SHAPE_TOLERANCE, SHAPES, STATUSES
from plateaumap.table import Arrays
from plateaumap.theory.descents import EpochState
from plateaumap.theory.epochs import EpochCounts, count_epochs
from plateaumap.theory.law import Landmarks, Law
from plateaumap.theory.laws import Case, law_of

SIMULATED_UP_TO = 4096
"""Epochs up to which a run is simulated even if theory knows its length."""

FALLBACK_HORIZON = 100_000
"""Epochs that a row without theory is simulated for when the sweep gives no horizon."""

LARGEST_STEP = 0.05
"""Largest change of z in an epoch for which the flow's peak stands for that of the epochs."""

UNKNOWN_INTEGERS = ("steepest_epoch", "epochs_run")
UNKNOWN_NUMBERS = ("final_output", "final_loss")
"""What is not known of a run that was not made: null in every row."""

ESCAPED, CENSORED, CONVERGED, BEYOND = (
    STATUSES.index(name) for name in ("escaped", "censored", "converged_at_start", "beyond_int64")
)


class Lengths:
    """The exact lengths of the plateaus of some points, as far as theory has them.

    Attributes:
        counts: for each column of crossings, the lengths to its level.
        unanswered: which points have to be simulated, boolean of shape (n,).
    """

    def __init__(self, points: Mapping[str, np.ndarray], case: Case, until: str) -> None:
        """Count epochs.

        Args:
            points: w0, b0, lr, x and y, float64 of shape (n,).
            case: what theory calls the loss.
            until: "tenth" for all levels, "plateau" for T10 only.
        """
        self._points, self._law = points, law_of(case.activation, case.loss)
        names = list(LEVELS)[: 1 if until == "plateau" else None]
        self.counts: dict[str, EpochCounts] = {
            name: count_epochs(
                **points, drop=LEVELS[name], loss=case.loss, activation=case.activation
            )
            for name in names
        }
        last = self.counts[names[-1]]
        answered = [c.known | (c.state == EpochState.BEYOND_INT64) for c in self.counts.values()]
        short = last.known & (last.epochs <= SIMULATED_UP_TO)
        self.unanswered = ~np.logical_and.reduce(answered) | short

    def fill(self, arrays: Arrays, rows: np.ndarray, horizon: int | None) -> None:
        """Write what theory knows of some rows over what was evaluated of their starts.

        Args:
            arrays: the measured columns of all points; changed in place.
            rows: which rows, boolean of shape (n,).
            horizon: epochs after which a plateau counts as censored; None for never.
        """
        epochs = {name: self._epochs(name, horizon) for name in LEVELS}
        plateau, tenth = epochs["plateau_epochs"], epochs["tenth_epochs"]
        escaped = ~np.ma.getmaskarray(plateau)
        finished = escaped & ~np.ma.getmaskarray(tenth)
        beyond = self.counts["plateau_epochs"].state == EpochState.BEYOND_INT64
        flow = self._flow()
        smooth = finished & (flow.largest_step <= LARGEST_STEP)
        acceleration = np.where(smooth, flow.acceleration, np.nan)
        fraction = np.where(finished, _fraction(plateau, tenth), np.nan)
        with np.errstate(over="ignore", invalid="ignore"):
            per_unit = flow.displacement / (1 + np.square(self._points["x"]))
        by_theory: Arrays = {
            "status": np.where(escaped, ESCAPED, np.where(beyond, BEYOND, CENSORED)),
            **epochs,
            "plateau_fraction": fraction,
            "acceleration": acceleration,
            "tangent_lag": np.where(smooth, flow.tangent_lag, np.nan),
            "w_moved": np.where(escaped, per_unit * self._points["x"], np.nan),
            "b_moved": np.where(escaped, per_unit, np.nan),
            "path": np.full(len(rows), -1),
            "shape": _shape(acceleration, fraction),
        }
        table.put(arrays, rows, {name: values[rows] for name, values in by_theory.items()})

    def _epochs(self, name: str, horizon: int | None) -> np.ma.MaskedArray:
        if name not in self.counts:
            return np.ma.masked_all(self.unanswered.shape, np.int64)
        counts = self.counts[name]
        late = np.zeros_like(counts.known) if horizon is None else counts.epochs > horizon
        return np.ma.MaskedArray(counts.epochs, mask=~counts.known | late)

    def _flow(self) -> Landmarks:
        points = self._points
        with np.errstate(over="ignore"), double_precision():
            z = points["w0"] * points["x"] + points["b0"]
            h = points["lr"] * (1 + np.square(points["x"]))
            found = _landmarks(self._law)(z, h, points["y"])
            return jax.tree.map(np.asarray, found)


def forget(arrays: Arrays) -> None:
    """Write nulls over what no row of a leap tells, in place."""
    for name in UNKNOWN_INTEGERS:
        arrays[name] = np.ma.masked_all(len(arrays[name]), np.int64)
    for name in UNKNOWN_NUMBERS:
        arrays[name] = np.full(len(arrays[name]), np.nan)


@lru_cache(maxsize=8)
def _landmarks(law: Law) -> Any:
    return jax.jit(jax.vmap(law.landmarks))


def _fraction(plateau: np.ma.MaskedArray, tenth: np.ma.MaskedArray) -> np.ndarray:
    # A crossing lies within the epoch that ends at T; its middle is off by half an epoch at most.
    first, last = (np.maximum(np.ma.getdata(n) - 0.5, 0.5) for n in (plateau, tenth))
    return first / last


def _shape(acceleration: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    code = {name: index for index, name in enumerate(SHAPES)}
    grown = np.where(fraction >= 0.5, code["plateau"], code["weak"])
    shape = np.where(acceleration <= 1 + SHAPE_TOLERANCE, code["none"], grown)
    return np.where(np.isnan(acceleration), -1, shape)
