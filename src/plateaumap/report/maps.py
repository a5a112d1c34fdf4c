"""Maps of one measure over two coordinates: the atlas of plateau lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.cells import draw_key, draw_mark, draw_region, draw_values
from plateaumap.report.lattice import Lattice, Stack, choose, read, stack
from plateaumap.report.panels import panels
from plateaumap.report.style import (
    LENGTH_LABEL,
    LENGTHS,
    NOT_SWEPT,
    STATUS_LOOKS,
    Look,
    SizeName,
    colours,
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
    """Draws the plateau lengths T10 over two coordinates, the losses side by side.

    All panels share one logarithmic scale of colours. Cells without a length are drawn flat and
    hatched as what they are, and named in the legend if they occur. Every value of a further axis
    gets a row of panels, up to 24 of them.

    Args:
        frame: a table of results.
        x: the coordinate to the right; by default w0, or else the largest axis.
        y: the coordinate upward; by default b0, or else the next largest.
        losses: which losses; by default all.
        mark: the start to ring: a pair (x, y), None, or "unlucky" for w0 = b0 = 2 on a map of
            w0 and b0.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure. Its panels are its first axes, row by row; the colour bar is the last.

    Raises:
        PlateaumapError: the table has no two axes of more than one value, or lacks a column.
    """
    room = size_named(size)
    lattice = read(frame, "plateau_map")
    chosen = stack(lattice, choose(lattice, losses, "plateau_map"), x, y, "plateau_map")
    lengths, statuses = chosen.take(lattice.lengths), chosen.take(lattice.status_codes)
    known = np.ma.masked_invalid(lengths)
    looks = _looks(lattice, chosen, statuses)
    ringed = marked_place(chosen, mark)
    entries = [*looks, *([mark] if ringed else [])]
    figure = panels(
        room,
        [loss_words(name) for name in chosen.losses],
        row_titles(chosen),
        (chosen.x, chosen.y),
        len(entries),
    )
    norm, cmap = _scale(known, _horizon(lattice, chosen)), colours(LENGTHS)
    samples: list[Artist] = [look.patch() for _, look in looks]
    for column, row in np.ndindex(*known.shape[:2]):
        panel = figure.axes[row][column]
        directions = (chosen.x, chosen.y)
        draw_values(panel, directions, known[column, row], norm, cmap)
        for code, look in looks:
            draw_region(panel, directions, statuses[column, row].filled(-1) == code, look)
        if ringed:
            ring = draw_mark(panel, *ringed)
    if ringed:
        samples.append(ring)
    scale = ScalarMappable(norm, cmap) if known.count() else None
    draw_key(figure, scale, LENGTH_LABEL, samples)
    return figure.figure


def _looks(lattice: Lattice, chosen: Stack, statuses: np.ma.MaskedArray) -> list[tuple[int, Look]]:
    """The statuses that occur on a map, by code, each with its look; −1 is a missing row."""
    found = set(np.unique(statuses.compressed()).tolist())
    looks = [
        (code, _told(look, lattice, chosen.rows, name))
        for code, (name, look) in enumerate(STATUS_LOOKS.items(), start=1)
        if code in found
    ]
    return [*looks, (-1, NOT_SWEPT)] if np.ma.getmaskarray(statuses).any() else looks


def _told(look: Look, lattice: Lattice, rows: NDArray[np.int64], status: str) -> Look:
    """A look whose label tells the horizon, if it is one and the same for all."""
    if status != "censored":
        return look
    shown = rows[rows >= 0]
    horizons = np.unique(lattice.stops[shown][lattice.is_status(status)[shown]])
    if len(horizons) != 1 or np.isnan(horizons[0]):  # A leap runs no epochs.
        return look
    label = f"censored after {count(horizons[0])} epochs"
    return Look(label, look.face, look.hatch, look.ink)


def _horizon(lattice: Lattice, chosen: Stack) -> float:
    """The most epochs after which a run on the map was given up, 0 if none was."""
    shown = chosen.rows[chosen.rows >= 0]
    given_up = lattice.stops[shown][lattice.is_status("censored")[shown]]
    return float(np.nanmax(given_up, initial=0))


def _scale(known: np.ma.MaskedArray, horizon: float) -> LogNorm:
    """One scale for all panels, from the shortest plateau to the longest that could be seen."""
    if not known.count():
        return LogNorm(1, 10)
    low, high = float(known.min()), max(float(known.max()), horizon)
    return LogNorm(low, high if high > low else 10 * low)


def row_titles(chosen: Stack) -> list[str]:
    """A title for each row of panels: where it lies on the further axes.

    Where there are none, the coordinates that do not vary.
    """
    fixed = chosen.lattice.fixed
    usual = {"x": 1.0, "y": 0.0}
    titled = [name for name in fixed if fixed[name] == usual.get(name)]
    common = chosen.lattice.describe_fixed(without=titled)
    return [title or common for title in chosen.titles]


def marked_place(chosen: Stack, mark: Mark) -> tuple[tuple[float, float], str] | None:
    """The place to ring and its name, or None if nothing is to be ringed on this map."""
    if mark is None or (mark == "unlucky" and (chosen.x.name, chosen.y.name) != ("w0", "b0")):
        return None
    try:
        across, up = UNLUCKY if mark == "unlucky" else map(float, mark)
    except (TypeError, ValueError):
        raise PlateaumapError(f'mark is {mark!r}; give a pair (x, y), "unlucky" or None') from None
    place = tuple(
        float(along.scale.drawn([value])[0])
        for along, value in zip((chosen.x, chosen.y), (across, up), strict=True)
    )
    inside = all(
        along.edges[0] <= drawn <= along.edges[-1]
        for along, drawn in zip((chosen.x, chosen.y), place, strict=True)
    )
    if not inside:
        return None
    name = "unlucky start" if mark == "unlucky" else "start"
    return (place[0], place[1]), f"{name} ({number(across)}, {number(up)})"
