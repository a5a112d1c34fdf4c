"""Maps of plateau lengths over two coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.cells import draw_key, draw_marks, draw_region, draw_values, length_colours
from plateaumap.report.lattice import STATUSES, Float64, Stack, choose, read, stack
from plateaumap.report.panels import panels
from plateaumap.report.style import (
    LENGTH_LABEL,
    NOT_SWEPT,
    STATUS_LOOKS,
    Look,
    SizeName,
    count,
    loss_words,
    number,
    size_named,
    styled,
)

UNLUCKY = (2.0, 2.0)
"""Initial weight and bias of Nielsen's unlucky neuron (chapter 3, the second demonstration)."""

Mark = Literal["unlucky"] | tuple[float, float] | None


@styled
def plateau_map(
    frame: pd.DataFrame,
    *,
    x: str | None = None,
    y: str | None = None,
    losses: Sequence[str] | None = None,
    mark: Mark = "unlucky",
    size: SizeName = "page",
) -> Figure:
    """Draw the plateau lengths T10 over two coordinates, one column of panels per loss.

    All panels share one logarithmic colour scale. Cells without a length are hatched by status,
    and the legend names the statuses that occur. Each value of a further axis has a row of panels,
    up to 24 rows.

    Args:
        frame: a table of results.
        x: the coordinate to the right; by default w0 if it is on an axis, or else the largest axis.
        y: the coordinate upward; by default b0 if it is on an axis, or else the next largest axis.
        losses: the losses to draw; by default all.
        mark: the initial point to ring: a pair (x, y), None, or "unlucky" for w0 = b0 = 2 on a map
            of w0 and b0.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure. Its panels are its first axes, row by row; the colour bar is the last.

    Raises:
        PlateaumapError: The table lacks a column, or two axes of more than one value.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.linspace("w0", 0, 4, 5), pm.linspace("b0", 0, 4, 5)]
        >>> frame = pm.run(pm.Sweep(axes=axes, fixed={"lr": 0.5}, horizon=200))
        >>> len(pm.figures.plateau_map(frame).axes)
        3
    """
    page = size_named(size)
    lattice = read(frame, "plateau_map")
    losses = choose(lattice, losses, "plateau_map")
    maps = stack(lattice, losses, x, y, "plateau_map")
    lengths, statuses = maps.take(lattice.lengths), maps.take(lattice.status_codes)
    horizons = _horizons(maps)
    looks = _looks(statuses, horizons)
    place = marked_place(maps, mark)
    titles = [loss_words(name) for name in losses]
    entries = len(looks) + (place is not None)
    figure = panels(page, titles, row_titles(maps), maps.directions, entries)
    known = np.ma.masked_invalid(lengths)
    scale = length_colours(known, np.nanmax(horizons, initial=0))
    samples: list[Artist] = [look.patch() for look in looks.values()]
    for column, row in np.ndindex(*known.shape[:2]):
        panel = figure.axes[row][column]
        draw_values(panel, maps.directions, known[column, row], *scale)
        for code, look in looks.items():
            draw_region(panel, maps.directions, statuses[column, row].filled(-1) == code, look)
    samples += draw_marks(figure, place)
    draw_key(figure, scale if known.count() else None, LENGTH_LABEL, samples)
    return figure.figure


def _looks(statuses: np.ma.MaskedArray, horizons: Float64) -> dict[int, Look]:
    """Return the look of each status code that occurs on a map; −1 stands for a missing row."""
    present = set(np.unique(statuses.compressed()).tolist())
    looks = {STATUSES.index(name): look for name, look in STATUS_LOOKS.items()}
    if len(horizons) == 1 and np.isfinite(horizons[0]):
        label = f"censored after {count(horizons[0])} epochs"
        looks[STATUSES.index("censored")] = replace(STATUS_LOOKS["censored"], label=label)
    looks = {code: look for code, look in looks.items() if code in present}
    return looks | ({-1: NOT_SWEPT} if np.ma.getmaskarray(statuses).any() else {})


def _horizons(maps: Stack) -> Float64:
    """Return the distinct horizons of the censored runs on a map; that of a leap is NaN."""
    shown = maps.rows[maps.rows >= 0]
    return np.unique(maps.lattice.stops[shown][maps.lattice.is_status("censored")[shown]])


def row_titles(maps: Stack) -> list[str]:
    """Return the title of each row of panels: the values of the further axes.

    Without further axes, it names the coordinates that do not vary.
    """
    fixed = maps.lattice.fixed
    usual = {"x": 1.0, "y": 0.0}
    omitted = [name for name in fixed if fixed[name] == usual.get(name)]
    common = maps.lattice.describe_fixed(without=omitted)
    return [title or common for title in maps.titles]


def marked_place(maps: Stack, mark: Mark) -> tuple[tuple[float, float], str] | None:
    """Return the place to ring and its name, or None if this map has no such place."""
    if mark is None or (mark == "unlucky" and (maps.x.name, maps.y.name) != ("w0", "b0")):
        return None
    try:
        across, up = UNLUCKY if mark == "unlucky" else map(float, mark)
    except (TypeError, ValueError):
        raise PlateaumapError(
            f'mark = {mark!r}: not a place; pass a pair (x, y), "unlucky" or None'
        ) from None
    x, y = (
        float(along.scale.drawn([value])[0])
        for along, value in zip(maps.directions, (across, up), strict=True)
    )
    if not (maps.x.edges[0] <= x <= maps.x.edges[-1] and maps.y.edges[0] <= y <= maps.y.edges[-1]):
        return None
    name = "unlucky start" if mark == "unlucky" else "start"
    return (x, y), f"{name} ({number(across)}, {number(up)})"
