"""Draws the cells of a map: values in colour, everything else flat and hatched, and the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from plateaumap.report.lattice import Direction
from plateaumap.report.panels import Panels, Rectangle, legend_width
from plateaumap.report.style import MM, Look, wrapped

Directions = tuple[Direction, Direction]

_KEY_BAR, _KEY_TEXT, _LONGEST_BAR = 2.6, 12.0, 90.0


def draw_values(
    panel: Axes, directions: Directions, values: np.ma.MaskedArray, norm: Normalize, cmap: Colormap
) -> Artist:
    """Draws one value in each cell, masked cells not at all.

    Args:
        panel: where.
        directions: the cells' borders to the right and upward.
        values: of shape (y, x).
        norm: from values to colours.
        cmap: the colours.

    Returns:
        An image if all cells are alike, else a mesh.
    """
    across, up = directions
    if across.is_even and up.is_even:
        extent = (across.edges[0], across.edges[-1], up.edges[0], up.edges[-1])
        return panel.imshow(
            values,
            origin="lower",
            extent=extent,
            aspect="auto",
            interpolation="nearest",
            norm=norm,
            cmap=cmap,
        )
    return panel.pcolormesh(across.edges, up.edges, values, norm=norm, cmap=cmap, rasterized=True)


def draw_region(
    panel: Axes, directions: Directions, inside: NDArray[np.bool_], look: Look
) -> PathPatch | None:
    """Covers the cells of shape (y, x) that are `inside`; None if there are none."""
    if not inside.any():
        return None
    patch = look.dress(PathPatch(outline(inside, directions[0].edges, directions[1].edges)))
    patch.set(label=look.label, zorder=1.5)
    panel.add_patch(patch)
    return patch


def outline(
    inside: NDArray[np.bool_], x_edges: NDArray[np.float64], y_edges: NDArray[np.float64]
) -> Path:
    """The cells that are `inside` as rectangles, one for each run of cells along x.

    Equal runs in rows one above the other are joined.
    """
    steps = np.diff(np.pad(inside, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    stops = np.nonzero(steps == -1)[1]
    order = np.lexsort((rows, stops, starts))
    rows, starts, stops = rows[order], starts[order], stops[order]
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (np.diff(rows) != 1) | (np.diff(starts) != 0) | (np.diff(stops) != 0)
    first = np.flatnonzero(is_new)
    last = np.append(first[1:], len(rows)) - 1
    left, right = x_edges[starts[first]], x_edges[stops[first]]
    low, high = y_edges[rows[first]], y_edges[rows[last] + 1]
    corners = [(left, low), (right, low), (right, high), (left, high), (left, low)]
    vertices = np.stack([np.stack(corner, axis=-1) for corner in corners], axis=1)
    codes = np.tile([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], len(first))
    return Path(vertices.reshape(-1, 2), codes)


def draw_mark(panel: Axes, place: tuple[float, float], label: str) -> Line2D:
    """Rings a place, so that the cell inside is still seen."""
    (ring,) = panel.plot(
        *([coordinate] for coordinate in place),
        marker="o",
        markersize=5,
        markerfacecolor="none",
        markeredgecolor="white",
        markeredgewidth=0.9,
        linestyle="none",
        label=label,
        path_effects=[patheffects.withStroke(linewidth=2.6, foreground="black")],
        zorder=4,
        scalex=False,
        scaley=False,
    )
    return ring


def draw_key(
    panels: Panels,
    mappable: ScalarMappable | None,
    label: str,
    entries: Sequence[Artist],
    limits: tuple[float, float] | None = None,
    ticks: Mapping[float, str] | None = None,
) -> None:
    """Draws the colour bar and the legend into the place that was left for them.

    Args:
        panels: the figure.
        mappable: the scale of the colours, or None where no cell has a value.
        label: what the colours mean.
        entries: samples for the legend, with their labels.
        limits: the part of the scale that is shown; by default all of it.
        ticks: labels by value, instead of the scale's own.
    """
    place = panels.arrangement.key
    vertical = panels.arrangement.place == "beside"
    if mappable is not None:
        rectangle = _vertical_bar(place) if vertical else _horizontal_bar(place)
        bar = panels.figure.colorbar(
            mappable,
            cax=panels.add_axes(rectangle),
            orientation="vertical" if vertical else "horizontal",
        )
        bar.set_label(label, fontsize=panels.size.font, labelpad=1.5)
        bar.ax.tick_params(which="both", labelsize=panels.size.font)
        if isinstance(mappable.norm, LogNorm):
            # Less than a decade has hardly a power of ten to label.
            bar.long_axis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
        if ticks is not None:
            bar.minorticks_off()
            bar.set_ticks(list(ticks), labels=list(ticks.values()))
        if limits is not None:
            (bar.ax.set_ylim if vertical else bar.ax.set_xlim)(*limits)
    if entries:
        _draw_legend(panels, entries, vertical)


def _horizontal_bar(place: Rectangle) -> Rectangle:
    width = min(place.width - 16, _LONGEST_BAR)
    left = place.left + (place.width - width) / 2
    return Rectangle(left, place.bottom + place.height - _KEY_BAR, width, _KEY_BAR)


def _vertical_bar(place: Rectangle) -> Rectangle:
    height = min(0.45 * place.height, _LONGEST_BAR)
    return Rectangle(place.left, place.bottom + place.height - height, _KEY_BAR, height)


def _draw_legend(panels: Panels, entries: Sequence[Artist], vertical: bool) -> None:
    place, size = panels.arrangement.key, panels.size
    labels = [str(entry.get_label()) for entry in entries]
    if vertical:
        characters = int((place.width - 3 * size.font / 72 / MM) / (0.56 * size.font / 72 / MM))
        labels = [wrapped(label, characters) for label in labels]
        columns, left = 1, place.left
        top = _vertical_bar(place).bottom - 5
    else:
        columns = min(len(entries), max(1, int(place.width // legend_width(size))))
        left = place.left + place.width / 2
        top = place.bottom + place.height - _KEY_TEXT
    panels.figure.legend(
        list(entries),
        labels,
        loc="upper left" if vertical else "upper center",
        bbox_to_anchor=(left / panels.arrangement.width, top / panels.arrangement.height),
        borderaxespad=0,
        borderpad=0,
        ncols=columns,
        fontsize=size.font,
    )
