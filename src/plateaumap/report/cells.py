"""Draw the cells of a map: coloured values, hatched regions, a mark, and the key."""

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
from numpy.typing import ArrayLike, NDArray

from plateaumap.report.panels import Directions, Panels, Rectangle, key_columns
from plateaumap.report.style import LENGTHS, Look, colours

Colours = tuple[Normalize, Colormap]

_KEY_BAR, _KEY_TEXT, _LONGEST_BAR = 2.6, 12.0, 90.0


def draw_values(
    panel: Axes, directions: Directions, values: np.ma.MaskedArray, norm: Normalize, cmap: Colormap
) -> Artist:
    """Draw the value of each cell as a colour; masked cells stay empty.

    Args:
        panel: the panel to draw in.
        directions: the directions to the right and upward, with the borders of the cells.
        values: the values, of shape (y, x).
        norm: the map from values to numbers between 0 and 1.
        cmap: the colour map.

    Returns:
        An image if all cells have the same size, or else a mesh.
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
    """Cover the cells that are `inside`, of shape (y, x); return None if no cell is."""
    if not inside.any():
        return None
    patch = look.dress(PathPatch(outline(inside, directions[0].edges, directions[1].edges)))
    patch.set(label=look.label, zorder=1.5)
    panel.add_patch(patch)
    return patch


def outline(
    inside: NDArray[np.bool_], x_edges: NDArray[np.float64], y_edges: NDArray[np.float64]
) -> Path:
    """Return the cells that are `inside` as rectangles, one for each run of cells along x.

    Equal runs in adjacent rows are joined.
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


def draw_marks(panels: Panels, mark: tuple[tuple[float, float], str] | None) -> list[Line2D]:
    """Ring a place in every panel, and return a sample with its name; None draws nothing."""
    if mark is None:
        return []
    rings = [_draw_mark(panel, *mark) for row in panels.axes for panel in row]
    return rings[-1:]


def _draw_mark(panel: Axes, place: tuple[float, float], label: str) -> Line2D:
    """Draw a ring around a place, inside which the cell is visible."""
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


def length_colours(lengths: ArrayLike, longest: float = 0.0) -> Colours:
    """Return a logarithmic norm for lengths, up to at least `longest`, and their colour map.

    Args:
        lengths: the lengths in epochs; NaN and masked values do not count.
        longest: an end of the scale that is shown in any case, in epochs.
    """
    known = np.ma.masked_invalid(lengths)
    cmap = colours(LENGTHS)
    if not known.count():
        return LogNorm(1, 10), cmap
    low, high = float(known.min()), max(float(known.max()), longest)
    return LogNorm(low, high if high > low else 10 * low), cmap


def draw_key(
    panels: Panels,
    scale: Colours | None,
    label: str,
    entries: Sequence[Artist],
    limits: tuple[float, float] | None = None,
    ticks: Mapping[float, str] | None = None,
) -> None:
    """Draw the colour bar and the legend into the space of the key.

    Args:
        panels: the figure.
        scale: the norm and colour map, or None if no cell has a value.
        label: the label of the colour bar.
        entries: samples for the legend, with their labels.
        limits: the shown part of the scale; by default all of it.
        ticks: tick labels by value; by default the scale's own.
    """
    arrangement, font = panels.arrangement, panels.size.font
    place = arrangement.key
    top = place.bottom + place.height
    if scale is not None:
        width = min(place.width - 16, _LONGEST_BAR)
        left = place.left + (place.width - width) / 2
        axes = panels.add_axes(Rectangle(left, top - _KEY_BAR, width, _KEY_BAR))
        bar = panels.figure.colorbar(ScalarMappable(*scale), cax=axes, orientation="horizontal")
        bar.set_label(label, labelpad=1.5)
        bar.ax.tick_params(which="both", labelsize=font)
        if isinstance(scale[0], LogNorm):
            # A scale of less than a decade has hardly a power of ten to label.
            bar.long_axis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
        if ticks is not None:
            bar.minorticks_off()
            bar.set_ticks(list(ticks), labels=list(ticks.values()))
        if limits is not None:
            bar.ax.set_xlim(*limits)
    if entries:
        middle, below = place.left + place.width / 2, top - _KEY_TEXT
        panels.figure.legend(
            handles=list(entries),
            loc="upper center",
            bbox_to_anchor=(middle / arrangement.width, below / arrangement.height),
            borderaxespad=0,
            borderpad=0,
            ncols=min(len(entries), key_columns(panels.size, place.width)),
        )
