"""Draw a loss as a surface over two weights, coloured by its plateau lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.cells import draw_region, draw_values, length_colours
from plateaumap.report.lattice import STATUSES, Stack, choose, read, require, stack
from plateaumap.report.scales import power_of
from plateaumap.report.series import legend_below
from plateaumap.report.style import (
    LENGTH_LABEL,
    STATUS_LOOKS,
    Look,
    SizeName,
    loss_words,
    new_figure,
    short,
    size_named,
    styled,
)

_CONTOURS = 8


@styled
def loss_surface(
    frame: pd.DataFrame,
    *,
    x: str | None = None,
    y: str | None = None,
    size: SizeName = "page",
) -> Figure:
    """Draw the initial loss over two coordinates, coloured by the plateau length.

    The upper row shows each loss as a surface in perspective; the lower row shows it from above.
    Colours are the plateau lengths T10 on one logarithmic scale for all losses; lines are contours
    of the initial loss.

    Args:
        frame: a table of results with two axes and `initial_loss`.
        x: the coordinate to the right; by default the largest axis.
        y: the coordinate upward; by default the next largest.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure. Its axes are a surface for each loss, a map for each loss, and the colour bar.

    Raises:
        PlateaumapError: The table lacks a column or does not have exactly two axes, or its losses
            are too large to be drawn.
    """
    require(frame, ("initial_loss",), "loss_surface")
    page = size_named(size)
    lattice = read(frame, "loss_surface")
    maps = stack(lattice, choose(lattice, None, "loss_surface"), x, y, "loss_surface", 1)
    heights = np.ma.masked_invalid(maps.take(lattice.numbers("initial_loss")))[:, 0]
    if power_of(heights.compressed()):
        raise PlateaumapError(
            f"loss_surface: initial_loss reaches {abs(heights).max():.3g}: a surface cannot show "
            "such a loss beside smaller ones; select fewer rows"
        )
    lengths = np.ma.masked_invalid(maps.take(lattice.lengths))[:, 0]
    statuses = maps.take(lattice.status_codes)[:, 0]
    norm, cmap = length_colours(lengths)
    count = len(maps.losses)
    figure = new_figure(page, 0.84 * page.width + 10, layout="constrained")
    shape = (2, count)
    above = [figure.add_subplot(*shape, 1 + i, projection="3d") for i in range(count)]
    below = [figure.add_subplot(*shape, 1 + count + i) for i in range(count)]
    looks = _looks(statuses)
    for place, loss in enumerate(maps.losses):
        shown = heights[place], lengths[place]
        _draw_surface(above[place], maps, *shown, norm, cmap, page.font)
        above[place].set_title(loss_words(loss), fontweight="bold", loc="center")
        _draw_map(below[place], maps, *shown, norm, cmap, page.font)
        for code, look in looks:
            draw_region(below[place], (maps.x, maps.y), statuses[place] == code, look)
    bar = figure.colorbar(ScalarMappable(norm, cmap), ax=[*above, *below], shrink=0.5)
    bar.set_label(LENGTH_LABEL)
    bar.ax.tick_params(labelsize=page.font)
    legend_below(figure, page, [look.patch() for _, look in looks])
    return figure


def _looks(statuses: np.ma.MaskedArray) -> list[tuple[int, Look]]:
    codes = {STATUSES.index(name): look for name, look in STATUS_LOOKS.items()}
    present = set(np.unique(statuses.compressed()).tolist())
    return [(code, look) for code, look in codes.items() if code in present]


def _draw_surface(
    panel: Any,
    maps: Stack,
    heights: np.ma.MaskedArray,
    lengths: np.ma.MaskedArray,
    norm: Normalize,
    cmap: Colormap,
    font: float,
) -> None:
    across, up = np.meshgrid(maps.x.centres, maps.y.centres)
    painted = cmap(norm(lengths))
    painted[np.ma.getmaskarray(lengths)] = (0.6, 0.6, 0.6, 1.0)
    panel.plot_surface(
        across, up, heights.filled(np.nan), facecolors=painted, rstride=1, cstride=1,
        shade=False, linewidth=0, antialiased=False, rasterized=True,
    )  # fmt: skip
    panel.set_xlabel(maps.x.scale.label(short(maps.x.name)), labelpad=-6)
    panel.set_ylabel(maps.y.scale.label(short(maps.y.name)), labelpad=-6)
    panel.tick_params(labelsize=font, pad=-2)
    panel.locator_params(nbins=5)
    panel.view_init(elev=28, azim=-125)
    panel.set_box_aspect(None, zoom=0.9)


def _draw_map(
    panel: Any,
    maps: Stack,
    heights: np.ma.MaskedArray,
    lengths: np.ma.MaskedArray,
    norm: Normalize,
    cmap: Colormap,
    font: float,
) -> None:
    draw_values(panel, (maps.x, maps.y), lengths, norm, cmap)
    lines = panel.contour(
        maps.x.centres, maps.y.centres, heights, levels=_CONTOURS, colors="white",
        linewidths=0.6,
    )  # fmt: skip
    panel.clabel(lines, lines.levels[1::2], fontsize=font - 1)
    panel.set_xlabel(maps.x.label)
    panel.set_ylabel(maps.y.label)
    panel.tick_params(labelsize=font)
