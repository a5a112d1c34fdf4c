"""Bounds of plateau lengths by status, and the statistics of bounds.

A run that has not left its plateau gives a lower bound. Omitting such runs would make plateaus look
shorter than they are. All figures and findings take lengths from `plateau_bounds`, so that a status
has one meaning.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plateaumap.report.lattice import ESCAPED, Lattice

Float64 = NDArray[np.float64]

NEVER = ("stationary", "stalled")
"""Statuses of runs that never leave their plateau, whose length is infinite."""

UNFINISHED = ("censored", "partially_stalled", "beyond_int64")
"""Statuses of runs that were still on their plateau when they were last observed."""

WITHOUT_PLATEAU = ("converged_at_start", "not_finite")
"""Statuses of runs without a plateau: nothing to learn, or no finite numbers."""

FIRST_PAST_INT64 = float(2**63)


class Bounds(NamedTuple):
    """The bounds of numbers, NaN where a number does not exist.

    Attributes:
        least: the lower bounds, float64 of shape (n,).
        most: the upper bounds, float64 of shape (n,); equal to `least` if the number is known.
    """

    least: Float64
    most: Float64

    @property
    def some(self) -> NDArray[np.bool_]:
        """Return whether each number exists."""
        return ~np.isnan(self.least)

    @property
    def exact(self) -> NDArray[np.bool_]:
        """Return whether each number is known and finite."""
        return np.isfinite(self.most) & (self.least == self.most)

    def at(self, rows: NDArray) -> Bounds:
        """Return the bounds of some rows, by integers or booleans."""
        return Bounds(self.least[rows], self.most[rows])


def plateau_bounds(lattice: Lattice) -> Bounds:
    """Return the bounds of T10 of each row in epochs.

    - `escaped`: the length is known.
    - `censored` and `partially_stalled`: at least the number of epochs that were run. Rounding
      falsifies the later epochs of a partially stalled run, which was on its plateau until then.
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

    A leap runs no epochs, so its `epochs_run` is null. All rows of a sweep have the same horizon.
    Therefore a censored row without epochs was observed up to the horizon of the other rows, and
    beyond every plateau that ended, but not beyond its own prediction, if it has one.
    """
    censored = lattice.is_status("censored")
    horizon = float(np.nanmax(np.where(censored, lattice.stops, lattice.lengths), initial=0.0))
    leaped = np.full(len(lattice.frame), horizon)
    if "predicted_epochs" in lattice.frame.columns:
        leaped = np.fmin(leaped, lattice.numbers("predicted_epochs"))
    seen = np.where(np.isnan(lattice.stops), leaped, lattice.stops)
    return np.where(lattice.is_status("beyond_int64"), FIRST_PAST_INT64, seen)


def ratio_bounds(first: Bounds, second: Bounds) -> Bounds:
    """Return the bounds of the ratios of lengths.

    If neither run has left its plateau, the bounds are 0 and infinity. If one of them has no
    plateau, the ratio does not exist (NaN).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        least = np.divide(first.least, second.most)
        most = np.divide(first.most, second.least)
    unknown = first.some & second.some & ~first.exact & ~second.exact
    none = ~(first.some & second.some)
    least, most = np.where(unknown, 0.0, least), np.where(unknown, np.inf, most)
    return Bounds(np.where(none, np.nan, least), np.where(none, np.nan, most))


def median_bounds(known: Bounds) -> tuple[float, float]:
    """Return the least and the largest possible median of numbers with these bounds.

    Both are equal if the bounds do not affect the median, such as a lower bound above it. The
    median increases with every number, so its extremes are the medians of the bounds. Numbers that
    do not exist (NaN) are omitted; without any number the median is NaN.
    """
    some = known.at(known.some)
    if not len(some.least):
        return np.nan, np.nan
    return _median(some.least), _median(some.most)


def _median(values: ArrayLike) -> float:
    # np.median interpolates with a difference, which is NaN for two infinities.
    ordered = np.sort(np.asarray(values, np.float64))
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low) if low == high else float(low + high) / 2
