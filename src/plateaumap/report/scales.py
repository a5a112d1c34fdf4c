"""Scales that map the values of a coordinate to numbers of any size that can be drawn.

Neither matplotlib nor a browser can draw an axis from −8e307 to 8e307 (its width is not a float64),
an axis of denormal numbers (they count as zero), or one between neighbouring floats (they count as
equal). The unit of such an axis is a power of ten, or it shows the places of its values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis as DrawnAxis
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.style import number

Float64 = NDArray[np.float64]
Kind = Literal["linear", "log", "place"]

LARGEST, SMALLEST = 1e290, 1e-290
"""The largest and smallest numbers on a logarithmic axis."""

_USUAL = 100
"""The largest decimal exponent of a linear axis that is drawn in its own unit."""

_FINEST = 1e-11
"""The least width of an axis relative to its values, and the least distance of two values
relative to that width, that a figure can show."""

_STEPS = (1, 2, 4, 5, 10)


def power_of(values: ArrayLike) -> int:
    """Return the power of ten that is the unit of these numbers: 0 for numbers of usual size."""
    size = np.abs(np.asarray(values, np.float64))
    largest = float(size.max(initial=0.0, where=np.isfinite(size)))
    power = math.floor(math.log10(largest)) if largest else 0
    return power if abs(power) > _USUAL else 0


def in_unit(values: ArrayLike, power: int) -> Float64:
    """Return numbers in units of ten to the power, exact to rounding also for denormals."""
    if not power:
        return np.asarray(values, np.float64)
    half = -power // 2
    with np.errstate(over="ignore"):  # The result is beyond every number of this unit.
        return np.asarray(values, np.float64) * 10.0**half * 10.0 ** (-power - half)


def with_unit(label: str, power: int) -> str:
    """Return an axis label that names the unit."""
    return f"{label} ($10^{{{power}}}$)" if power else label


def require_drawable(values: ArrayLike, figure: str, what: str) -> None:
    """Raise an error unless a logarithmic axis can show all numbers.

    Raises:
        PlateaumapError: A number is too large or too small.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.size and not is_drawable(numbers):
        raise PlateaumapError(
            f"{figure}: {what} reaches from {numbers.min():.3g} to {numbers.max():.3g}; a "
            f"logarithmic axis reaches from {SMALLEST:g} to {LARGEST:g}: select fewer rows"
        )


def is_drawable(values: Float64) -> bool:
    """Return whether a logarithmic axis can show all numbers."""
    return bool(np.all((values >= SMALLEST) & (values <= LARGEST)))


@dataclass(frozen=True)
class Scale:
    """The scale on which a coordinate is drawn.

    Attributes:
        kind: "linear", "log", or "place", which draws the ranks 0, 1, 2, … of the values.
        power: the power of ten that is the unit of a linear scale.
        values: the distinct values, ascending.
    """

    kind: Kind
    power: int
    values: Float64

    @property
    def is_log(self) -> bool:
        """Return whether the scale is logarithmic."""
        return self.kind == "log"

    @property
    def is_usual(self) -> bool:
        """Whether what is drawn are the values themselves."""
        return self.kind != "place" and not self.power

    def drawn(self, values: ArrayLike) -> Float64:
        """Return the positions of values; NaN for an unknown value of a scale by place."""
        numbers = np.asarray(values, np.float64)
        if self.kind != "place":
            return in_unit(numbers, self.power)
        place = np.clip(np.searchsorted(self.values, numbers), 0, len(self.values) - 1)
        return np.where(self.values[place] == numbers, place, np.nan).astype(np.float64)

    def values_at(self, drawn: ArrayLike) -> Float64:
        """Return the values at positions; NaN for a scale by place."""
        if self.kind == "place":
            return np.full(np.shape(drawn), np.nan)
        return in_unit(drawn, -self.power)

    def label(self, words: str) -> str:
        """Return the label of the axis."""
        return f"{words}, by place" if self.kind == "place" else with_unit(words, self.power)

    def set_axis(self, panel: Axes, name: Literal["x", "y"], limits: Float64 | None = None) -> None:
        """Set the scale and the limits of an axis of a panel."""
        panel.set(**{f"{name}scale": "log" if self.is_log else "linear"})
        if limits is not None:
            panel.set(**{f"{name}lim": (limits[0], limits[-1])})

    def set_ticks(self, axis: DrawnAxis, most: int) -> None:
        """Set the ticks of an axis, with at most `most` intervals between them."""
        if self.kind == "log":
            axis.set_major_locator(LogLocator(numticks=most))
            axis.set_minor_formatter(NullFormatter())
        elif self.kind == "linear":
            axis.set_major_locator(MaxNLocator(most, steps=_STEPS))
        else:
            kept = np.unique(
                np.linspace(0, len(self.values) - 1, min(most + 1, len(self.values))).round()
            ).astype(int)
            axis.set_ticks(kept.tolist(), _names(self.values[kept]))


def _names(values: Float64) -> list[str]:
    """Return the values as the shortest texts that differ."""
    short = [number(value) for value in values]
    if len(set(short)) == len(short):
        return short
    return [repr(float(value)).replace("-", "\N{MINUS SIGN}", 1) for value in values]


def scale_of(values: ArrayLike, is_log: bool | None = None) -> Scale:
    """Return the scale for some values.

    Args:
        values: finite numbers in any order.
        is_log: whether the scale is logarithmic; by default if the values are spread by ratio.
    """
    known = np.unique(np.asarray(values, np.float64))
    if is_log is None:
        is_log = spread_by_ratio(known)
    if is_log:
        logarithms = np.log10(known)
        inside = abs(edges_between(logarithms)).max() < math.log10(LARGEST)
        return Scale("log" if inside and _is_apart(logarithms) else "place", 0, known)
    power = power_of(known)
    kind: Kind = "linear" if _is_apart(in_unit(known, power)) else "place"
    return Scale(kind, power if kind == "linear" else 0, known)


def _is_apart(drawn: Float64) -> bool:
    """Return whether an axis can show that ascending numbers differ."""
    if len(drawn) < 2:
        return True
    width = drawn[-1] - drawn[0]
    is_wide = width > _FINEST * abs(drawn).max()
    return bool(is_wide and np.diff(drawn).min() > _FINEST * width)


def spread_by_ratio(centres: Float64) -> bool:
    """Return whether ascending values are spread evenly by ratio rather than by difference."""
    if not len(centres) or centres[0] <= 0:
        return False
    logarithms = np.log(centres)
    if len(centres) < 3:
        return bool(logarithms[-1] - logarithms[0] >= math.log(10) * (1 - 1e-12))
    # The unit is the largest value, so that no square overflows.
    gaps, ratios = np.diff(centres / centres[-1]), np.diff(logarithms)
    return bool(np.std(ratios) * np.mean(gaps) < np.std(gaps) * np.mean(ratios))


def edges_between(centres: Float64) -> Float64:
    """Return the borders of cells with these centres, of shape (size + 1,)."""
    if len(centres) < 2:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middles = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return np.concatenate([[first], middles, [last]])
