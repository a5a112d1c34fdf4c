"""Maps of two losses against each other: how many times, or how many epochs, longer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from plateaumap.report.bounds import NEVER, plateau_bounds
from plateaumap.report.cells import draw_key, draw_mark, draw_region, draw_values
from plateaumap.report.lattice import CONVERGED, STATUSES, Lattice, Stack, choose, read, stack
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

Booleans = NDArray[np.bool_]

_PAIR = ("quadratic", "cross_entropy")
_PLAIN_UP_TO, _FINE_UP_TO = 100.0, 4.0
_FINE, _COARSE = (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5)


@dataclass(frozen=True)
class Compared:
    """Two losses, cell by cell; every array is of shape (rows of panels, y, x).

    Attributes:
        values: the ratio or difference, or its bound; masked where nothing finite is known.
        at_least: cells whose value is a lower bound: the first loss's run had not ended.
        at_most: cells whose value is an upper bound: the second loss's run had not ended.
        longer: cells where neither had ended.
        converged: cells where both starts were good enough.
        never: for each status of `NEVER`, cells where a run has it, so that the ratio or
            difference is infinite or zero, or unknown.
        missing: cells that the table does not have for both losses.
        unended: what to call a run that had not ended: only "censored" if all of them were.
    """

    values: np.ma.MaskedArray
    at_least: Booleans
    at_most: Booleans
    longer: Booleans
    converged: Booleans
    never: dict[str, Booleans]
    missing: Booleans
    unended: str

    @property
    def unknown(self) -> Booleans:
        """Cells with nothing to compare for any other reason."""
        nothing = np.ma.getmaskarray(self.values) & ~self.longer & ~self.converged & ~self.missing
        for cells in self.never.values():
            nothing &= ~cells
        return nothing


def compare(lattice: Lattice, chosen: Stack, combine: Callable) -> Compared:
    """Compare the lengths T10 of the first two losses of a stack.

    What a status says about a length is decided by `plateau_bounds`.
    """
    codes = chosen.take(lattice.status_codes).filled(-1)
    known = plateau_bounds(lattice)
    least, most = (chosen.take(bound).filled(np.nan) for bound in known)
    exact = np.isfinite(most)
    unfinished = np.isfinite(least) & ~exact
    both = unfinished.all(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.ma.masked_invalid(combine(least[0], least[1]))
    never = {status: np.any(codes == STATUSES.index(status), axis=0) for status in NEVER}
    endless = np.logical_or.reduce(list(never.values()))
    others = codes[unfinished] != STATUSES.index("censored")
    return Compared(
        values=np.ma.masked_where(both | endless, values),
        at_least=unfinished[0] & exact[1] & ~np.ma.getmaskarray(values),
        at_most=unfinished[1] & exact[0] & ~np.ma.getmaskarray(values),
        longer=both,
        converged=np.all(codes == STATUSES.index(CONVERGED), axis=0),
        never=_apart(never),
        missing=np.any(codes < 0, axis=0),
        unended="unfinished" if others.any() else "censored",
    )


def _apart(cells: dict[str, Booleans]) -> dict[str, Booleans]:
    """Give a cell with two of the statuses to the first of them."""
    taken: Booleans = np.zeros_like(next(iter(cells.values())))
    own = {}
    for status, inside in cells.items():
        own[status] = inside & ~taken
        taken = taken | inside
    return own


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
    """Draw how many times longer the plateau of one loss is than the other's, cell by cell.

    The scale is logarithmic and white at 1. Where one of the two runs was still on its plateau
    when it was last seen, the cell shows the bound that this gives, hatched. Where a run never
    leaves its plateau (stationary or stalled) the cell is flat and hatched as that status.

    Args:
        frame: a table of results.
        x: the coordinate to the right; by default w0, or else the largest axis.
        y: the coordinate upward; by default b0, or else the next largest.
        losses: numerator and denominator; by default quadratic and cross_entropy, or else the
            table's first two.
        mark: the start to ring, as in `plateau_map`.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure. Its panels are its first axes, row by row; the colour bar is the last.

    Raises:
        PlateaumapError: the table has one loss, no two axes, or lacks a column.
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
    """Draw how many epochs longer the plateau of one loss is than the other's, cell by cell.

    The scale is linear within one epoch of zero and logarithmic beyond. Arguments, bounds, result
    and errors are those of `ratio_map`.
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
    """Zero and some powers of ten on either side, not nearer than their labels are wide."""
    decades = [math.log10(max(abs(end), 1.0)) for end in shown]
    stride = max(1, math.ceil(sum(decades) / 6))
    ticks = {0.0: "0"}
    for sign, reach in zip((-1, 1), decades, strict=True):
        for power in range(stride, int(reach) + 1, stride):
            ticks[sign * 10.0**power] = f"${'-' if sign < 0 else ''}10^{{{power}}}$"
    return ticks


def _ratio_ticks(shown: tuple[float, float]) -> dict[float, str] | None:
    """Plain numbers 1, 2, 5, 10, … over less than two decades; powers of ten label the rest."""
    low, high = shown
    if high / low >= _PLAIN_UP_TO:
        return None
    steps = _FINE if high / low < _FINE_UP_TO else _COARSE
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = (float(f"{step}e{power}") for power in powers for step in steps)
    slack = 1e-9
    return {v: f"{v:g}" for v in values if low * (1 - slack) <= v <= high * (1 + slack)}


def _ratio(one: NDArray, other: NDArray) -> NDArray:
    """Return the ratio, NaN for the bound 0, which says nothing and has no logarithm."""
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
    room = size_named(size)
    lattice = read(frame, name)
    pair = choose(lattice, losses or usual_pair(lattice), name, least=2)[:2]
    chosen = stack(lattice, pair, *directions, name)
    compared = compare(lattice, chosen, kind.combine)
    regions = _regions(compared, pair, kind)
    ringed = marked_place(chosen, mark)
    entries = len(regions) + (ringed is not None)
    figure = panels(room, [""], row_titles(chosen), (chosen.x, chosen.y), entries)
    norm, cmap = kind.scale(compared.values), colours(RATIOS)
    samples: list[Artist] = [look.patch() for look, _ in regions]
    for row in range(len(chosen.titles)):
        panel = figure.axes[row][0]
        draw_values(panel, (chosen.x, chosen.y), compared.values[row], norm, cmap)
        for look, inside in regions:
            draw_region(panel, (chosen.x, chosen.y), inside[row], look)
        if ringed:
            ring = draw_mark(panel, *ringed)
    if ringed:
        samples.append(ring)
    label = kind.label(*map(loss_words, pair))
    if compared.values.count():
        shown = _shown(compared.values, kind.neutral)
        ticks = kind.ticks(shown) if shown else None
        draw_key(figure, ScalarMappable(norm, cmap), label, samples, shown, ticks)
    else:
        draw_key(figure, None, label, samples)
    return figure.figure


def usual_pair(lattice: Lattice) -> tuple[str, ...]:
    """Quadratic and cross-entropy if the table has both, or else its first two losses."""
    return _PAIR if set(_PAIR) <= set(lattice.losses) else lattice.losses[:2]


def _shown(values: np.ma.MaskedArray, neutral: float) -> tuple[float, float] | None:
    """The part of the scale that occurs, from or to where the losses are alike."""
    low, high = min(float(values.min()), neutral), max(float(values.max()), neutral)
    return (low, high) if low < high else None


def _regions(compared: Compared, pair: tuple[str, ...], kind: _Kind) -> list[tuple[Look, Booleans]]:
    """What is drawn over the colours, or where there are none, if it occurs."""
    first, second = map(loss_words, pair)
    shorter = (compared.values < kind.neutral).filled(False)
    shorter &= ~compared.at_least & ~compared.at_most
    censored, converged = STATUS_LOOKS["censored"], STATUS_LOOKS[CONVERGED]
    regions = [
        (
            Look(f"lower bound: {first} {compared.unended}", "none", "//////", "0.1"),
            compared.at_least,
        ),
        (
            Look(f"upper bound: {second} {compared.unended}", "none", r"\\\\\\", "0.1"),
            compared.at_most,
        ),
        (Look(f"{first} is shorter", "none", "....", "0.2"), shorter),
        (Look(f"both {compared.unended}", censored.face, "xxxxx", censored.ink), compared.longer),
        (converged, compared.converged),
        *((STATUS_LOOKS[status], inside) for status, inside in compared.never.items()),
        (Look("nothing to compare", "0.0", "", "0.0"), compared.unknown),
        (NOT_SWEPT, compared.missing),
    ]
    return [(look, inside) for look, inside in regions if inside.any()]
