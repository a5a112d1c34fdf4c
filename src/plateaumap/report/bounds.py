"""What a status says about the length of a plateau, and statistics of lengths known as bounds.

A run that has not left its plateau is a bound, not a gap: dropping such runs makes plateaus look
shorter than they are. Figures and sentences take lengths from `plateau_bounds`, so that every
status means the same everywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plateaumap.report.lattice import ESCAPED, Lattice

Float64 = NDArray[np.float64]

NEVER = ("stationary", "stalled")
"""Statuses of runs that never leave their plateau: its length is infinite."""

UNFINISHED = ("censored", "partially_stalled", "beyond_int64")
"""Statuses of runs that were still on their plateau when they were last seen."""

WITHOUT_PLATEAU = ("converged_at_start", "not_finite")
"""Statuses of runs that have no plateau to be compared: nothing to learn, or no finite numbers."""

FIRST_PAST_INT64 = float(2**63)


class Bounds(NamedTuple):
    """The least and the largest value that each number can have, NaN where there is none.

    Attributes:
        least: float64 of shape (n,).
        most: float64 of shape (n,); equal to `least` where the value is known.
    """

    least: Float64
    most: Float64

    @property
    def some(self) -> NDArray[np.bool_]:
        """Whether there is a number at all."""
        return ~np.isnan(self.least)

    @property
    def exact(self) -> NDArray[np.bool_]:
        """Whether the number is known and finite."""
        return np.isfinite(self.most) & (self.least == self.most)

    def at(self, rows: NDArray) -> Bounds:
        """Return the bounds of some rows, by number or by truth."""
        return Bounds(self.least[rows], self.most[rows])


def plateau_bounds(lattice: Lattice) -> Bounds:
    """Return what the rows of a table say about T10, in epochs.

    - `escaped`: the length.
    - `censored` and `partially_stalled`: longer than the epochs that were run. Rounding would
      falsify what a partially stalled run does later, but until then it was on its plateau.
    - `beyond_int64`: at least 2⁶³.
    - `stationary` and `stalled`: infinite.
    - `converged_at_start` and `not_finite`: NaN.
    """
    least = np.where(lattice.is_status(ESCAPED), lattice.lengths, last_seen(lattice))
    least[lattice.is_status(*NEVER)] = np.inf
    least[lattice.is_status(*WITHOUT_PLATEAU)] = np.nan
    most = np.where(lattice.is_status(*UNFINISHED), np.inf, least)
    return Bounds(least, most)


def last_seen(lattice: Lattice) -> Float64:
    """Return the epoch at which each run was last observed, float64 of shape (rows,).

    A leap runs no epochs, and its `epochs_run` is null. A table is of one sweep, whose horizon is
    the same for all rows: a censored row without epochs has passed that of the others, and every
    plateau that ended. It has not passed its own prediction, if it has one.
    """
    censored = lattice.is_status("censored")
    horizon = float(np.nanmax(np.where(censored, lattice.stops, lattice.lengths), initial=0.0))
    leaped = np.full(len(lattice.frame), horizon)
    if "predicted_epochs" in lattice.frame.columns:
        leaped = np.fmin(leaped, lattice.numbers("predicted_epochs"))
    seen = np.where(np.isnan(lattice.stops), leaped, lattice.stops)
    return np.where(lattice.is_status("beyond_int64"), FIRST_PAST_INT64, seen)


def ratio_bounds(first: Bounds, second: Bounds) -> Bounds:
    """Return what is known of the ratios of lengths.

    Where neither run has left its plateau the ratio can be anything: 0 to infinity. Where one of
    them has no plateau there is no ratio: NaN.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.divide(first.least, second.most)
        most = np.divide(first.most, second.least)
    unknown = first.some & second.some & ~first.exact & ~second.exact
    none = ~(first.some & second.some)
    least, most = np.where(unknown, 0.0, least), np.where(unknown, np.inf, most)
    return Bounds(np.where(none, np.nan, least), np.where(none, np.nan, most))


def median_bounds(known: Bounds) -> tuple[float, float]:
    """Return the least and the largest median that numbers within these bounds can have.

    The two are equal where the bounds do not decide the median, such as a lower bound above it.
    The median grows with every number, so its extremes are the medians of the bounds. Numbers
    that do not exist (NaN) do not count; of none at all the median is NaN.
    """
    some = known.at(known.some)
    if not len(some.least):
        return np.nan, np.nan
    return _median(some.least), _median(some.most)


def _median(values: ArrayLike) -> float:
    # Half of two infinities, as np.median takes it, is fine; half of their difference is not.
    ordered = np.sort(np.asarray(values, np.float64))
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low) if low == high else float(low + high) / 2
