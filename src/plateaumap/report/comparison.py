"""Maps that compare two losses: the ratio or the difference of their plateau lengths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from plateaumap.report.bounds import NEVER, plateau_bounds
from plateaumap.report.cells import draw_key, draw_marks, draw_region, draw_values
from plateaumap.report.lattice import (
    CONVERGED,
    STATUSES,
    Booleans,
    Lattice,
    Stack,
    choose,
    read,
    stack,
)
from plateaumap.report.maps import Mark, marked_place, row_titles
from plateaumap.report.panels import panels
from plateaumap.report.style import (
    NOT_SWEPT,
    RATIOS,
    STATUS_LOOKS,
    Look,
    SizeName,
    colours,
    loss_words,
    size_named,
    styled,
)

_PAIR = ("quadratic", "cross_entropy")
_PLAIN_UP_TO, _FINE_UP_TO = 100.0, 4.0
_FINE, _COARSE = (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5)


@styled
def ratio_map(
    frame: pd.DataFrame,
    *,
    x: str | None = None,
    y: str | None = None,
    losses: tuple[str, str] | None = None,
    mark: Mark = "unlucky",
    size: SizeName = "page",
) -> Figure:
    """Draw the ratio of the plateau lengths of two losses over two coordinates.

    The colour scale is logarithmic and white at 1. If one of the two runs was still on its plateau
    when it was last observed, the cell shows the resulting bound and is hatched. If a run never
    leaves its plateau (stationary or stalled), the cell has the hatch of that status.

    Args:
        frame: a table of results.
        x: the coordinate to the right; by default w0 if it is on an axis, or else the largest axis.
        y: the coordinate upward; by default b0 if it is on an axis, or else the next largest axis.
        losses: numerator and denominator; by default quadratic and cross_entropy, or else the
            first two losses of the table.
        mark: the initial point to ring, as in `plateau_map`.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure. Its panels are its first axes, row by row; the colour bar is the last.

    Raises:
        PlateaumapError: The table has one loss, lacks two axes, or lacks a column.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.linspace("w0", 0, 4, 5), pm.linspace("b0", 0, 4, 5)]
        >>> frame = pm.run(pm.Sweep(axes=axes, fixed={"lr": 0.5}, horizon=200))
        >>> len(pm.figures.ratio_map(frame).axes)
        2
    """
    return _draw("ratio_map", frame, (x, y), losses, mark, size, _RATIO)


@styled
def difference_map(
    frame: pd.DataFrame,
    *,
    x: str | None = None,
    y: str | None = None,
    losses: tuple[str, str] | None = None,
    mark: Mark = "unlucky",
    size: SizeName = "page",
) -> Figure:
    """Draw the difference of the plateau lengths of two losses in epochs over two coordinates.

    The colour scale is linear within one epoch of zero and logarithmic beyond. The arguments, the
    bounds, the result and the errors are those of `ratio_map`.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.linspace("w0", 0, 4, 5), pm.linspace("b0", 0, 4, 5)]
        >>> frame = pm.run(pm.Sweep(axes=axes, fixed={"lr": 0.5}, horizon=200))
        >>> len(pm.figures.difference_map(frame).axes)
        2
    """
    return _draw("difference_map", frame, (x, y), losses, mark, size, _DIFFERENCE)


@dataclass(frozen=True)
class _Kind:
    combine: Callable
    neutral: float
    scale: Callable[[np.ma.MaskedArray], Normalize]
    label: Callable[[str, str], str]
    ticks: Callable[[tuple[float, float]], dict[float, str] | None]


def _ratio_scale(values: np.ma.MaskedArray) -> Normalize:
    half = float(np.abs(np.log10(values)).max()) if values.count() else 0.0
    half = half or 1.0
    return LogNorm(10**-half, 10**half)


def _difference_scale(values: np.ma.MaskedArray) -> Normalize:
    most = float(np.abs(values).max()) if values.count() else 0.0
    return SymLogNorm(linthresh=1, vmin=-max(most, 1.0), vmax=max(most, 1.0), base=10)


def _difference_ticks(shown: tuple[float, float]) -> dict[float, str]:
    """Return ticks at zero and at powers of ten on both sides, far enough apart for labels."""
    decades = [math.log10(max(abs(end), 1.0)) for end in shown]
    stride = max(1, math.ceil(sum(decades) / 6))
    ticks = {0.0: "0"}
    for sign, reach in zip((-1, 1), decades, strict=True):
        for power in range(stride, int(reach) + 1, stride):
            ticks[sign * 10.0**power] = f"${'-' if sign < 0 else ''}10^{{{power}}}$"
    return ticks


def _ratio_ticks(shown: tuple[float, float]) -> dict[float, str] | None:
    """Return ticks at 1, 2, 5, 10, … for less than two decades, or else None."""
    low, high = shown
    if high / low >= _PLAIN_UP_TO:
        return None
    steps = _FINE if high / low < _FINE_UP_TO else _COARSE
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (float(f"{step}e{power}") for power in powers for step in steps)
    slack = 1e-9
    return {v: f"{v:g}" for v in values if low * (1 - slack) <= v <= high * (1 + slack)}


def _ratio(one: NDArray, other: NDArray) -> NDArray:
    """Return the ratio, or NaN for the bound 0, which has no logarithm and no information."""
    ratio = np.divide(one, other)
    return np.where(ratio > 0, ratio, np.nan)


_RATIO = _Kind(
    _ratio,
    1.0,
    _ratio_scale,
    lambda one, other: f"$T_{{10}}$ of {one} / {other} (pure number)",
    _ratio_ticks,
)
_DIFFERENCE = _Kind(
    np.subtract,
    0.0,
    _difference_scale,
    lambda one, other: f"$T_{{10}}$ of {one} \N{MINUS SIGN} {other} (epochs)",
    _difference_ticks,
)


def _draw(
    name: str,
    frame: pd.DataFrame,
    directions: tuple[str | None, str | None],
    losses: tuple[str, str] | None,
    mark: Mark,
    size: SizeName,
    kind: _Kind,
) -> Figure:
    page = size_named(size)
    lattice = read(frame, name)
    pair = choose(lattice, losses or usual_pair(lattice), name, least=2)[:2]
    maps = stack(lattice, pair, *directions, name)
    values, regions = _compare(maps, kind)
    place = marked_place(maps, mark)
    entries = len(regions) + (place is not None)
    figure = panels(page, [""], row_titles(maps), maps.directions, entries)
    scale = kind.scale(values), colours(RATIOS)
    samples: list[Artist] = [look.patch() for look, _ in regions]
    for row, (panel,) in enumerate(figure.axes):
        draw_values(panel, maps.directions, values[row], *scale)
        for look, inside in regions:
            draw_region(panel, maps.directions, inside[row], look)
    samples += draw_marks(figure, place)
    label = kind.label(*map(loss_words, pair))
    if values.count():
        shown = _shown(values, kind.neutral)
        draw_key(figure, scale, label, samples, shown, kind.ticks(shown) if shown else None)
    else:
        draw_key(figure, None, label, samples)
    return figure.figure


def usual_pair(lattice: Lattice) -> tuple[str, ...]:
    """Return quadratic and cross_entropy if the table has both, or else its first two losses."""
    return _PAIR if set(_PAIR) <= set(lattice.losses) else lattice.losses[:2]


def _shown(values: np.ma.MaskedArray, neutral: float) -> tuple[float, float] | None:
    """Return the part of the scale that occurs, including the value of equal losses."""
    low, high = min(float(values.min()), neutral), max(float(values.max()), neutral)
    return (low, high) if low < high else None


def _compare(maps: Stack, kind: _Kind) -> tuple[np.ma.MaskedArray, list[tuple[Look, Booleans]]]:
    """Return the comparison of the plateau lengths of two losses, by their `plateau_bounds`.

    Returns:
        The ratio or difference of each cell, or its bound, masked where no finite value is known,
        of shape (rows of panels, y, x); and the hatched regions that occur, each with its look.
    """
    first, second = map(loss_words, maps.losses)
    codes = maps.take(maps.lattice.status_codes).filled(-1)
    least, most = (maps.take(bound).filled(np.nan) for bound in plateau_bounds(maps.lattice))
    exact = np.isfinite(most)
    on_plateau = np.isfinite(least) & ~exact
    both_on_plateau = on_plateau.all(axis=0)
    never = {status: np.any(codes == STATUSES.index(status), axis=0) for status in NEVER}
    never["stalled"] = never["stalled"] & ~never["stationary"]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.ma.masked_invalid(kind.combine(least[0], least[1]))
    values = np.ma.masked_where(np.logical_or.reduce([both_on_plateau, *never.values()]), values)
    is_known = ~np.ma.getmaskarray(values)
    at_least = on_plateau[0] & exact[1] & is_known
    at_most = on_plateau[1] & exact[0] & is_known
    shorter = (values < kind.neutral).filled(False) & ~at_least & ~at_most
    converged = np.all(codes == STATUSES.index(CONVERGED), axis=0)
    missing = np.any(codes < 0, axis=0)
    explained = [is_known, both_on_plateau, converged, missing, *never.values()]
    all_censored = np.all(codes[on_plateau] == STATUSES.index("censored"))
    word = "censored" if all_censored else "unfinished"
    regions = [
        (Look(f"lower bound: {first} {word}", "none", "//////", "0.1"), at_least),
        (Look(f"upper bound: {second} {word}", "none", r"\\\\\\", "0.1"), at_most),
        (Look(f"{first} is shorter", "none", "....", "0.2"), shorter),
        (
            replace(STATUS_LOOKS["censored"], label=f"both {word}", hatch="xxxxx"),
            both_on_plateau,
        ),
        (STATUS_LOOKS[CONVERGED], converged),
        *((STATUS_LOOKS[status], inside) for status, inside in never.items()),
        (Look("nothing to compare", "0.0", "", "0.0"), ~np.logical_or.reduce(explained)),
        (NOT_SWEPT, missing),
    ]
    return values, [(look, inside) for look, inside in regions if inside.any()]
