"""Draw which learning rates of two layers converge, and measure the boundary of that region."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike, NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.cells import draw_values
from plateaumap.report.lattice import Direction, Stack, choose, read, require, stack
from plateaumap.report.panels import SIDES
from plateaumap.report.series import legend_below
from plateaumap.report.style import (
    Size,
    SizeName,
    colours,
    new_figure,
    number,
    size_named,
    styled,
)

_COLOURS = "RdYlBu"
_PALEST = 0.25
"""The distance of the palest colours from the middle of the colour map, which keeps sides apart."""

_LOOKS = {
    "converges fast": _PALEST,
    "converges slowly": 1.0,
    "diverges slowly": -1.0,
    "diverges fast": -_PALEST,
}
_SMALLEST_GRID = 8
_TICKS = 5


class BoxCounts(NamedTuple):
    """The number of boxes that a boundary crosses, for several sizes of the boxes.

    Attributes:
        sizes: the sides of the boxes in cells, powers of two, of shape (n,).
        counts: the number of boxes that contain a piece of the boundary, of shape (n,).
        dimension: the box-counting dimension: minus the slope of log(counts) over log(sizes).
    """

    sizes: NDArray[np.int64]
    counts: NDArray[np.int64]
    dimension: float


def boundary_boxes(inside: ArrayLike) -> BoxCounts:
    """Return the box counts of the boundary of a region on a grid.

    A corner between four cells belongs to the boundary if the four cells differ. The sides of the
    boxes range from one corner to an eighth of the grid. The dimension of a smooth line is 1; the
    dimension of a region that consists of boundary only is 2. On a grid of n² cells the estimate
    is rough.

    Args:
        inside: whether each cell belongs to the region, of shape (rows, columns).

    Raises:
        PlateaumapError: The grid is too small, or all cells are equal.
    """
    cells = np.asarray(inside, bool)
    if cells.ndim != 2 or min(cells.shape) < _SMALLEST_GRID:
        raise PlateaumapError(
            f"inside has the shape {cells.shape}: a boundary needs a grid of at least "
            f"{_SMALLEST_GRID} by {_SMALLEST_GRID} cells; choose a finer grid"
        )
    corners = np.stack([cells[1:, 1:], cells[1:, :-1], cells[:-1, 1:], cells[:-1, :-1]])
    edge = np.asarray(corners.any(axis=0) & ~corners.all(axis=0))
    if not edge.any():
        raise PlateaumapError(
            "inside: all cells are equal, so they have no boundary; choose a larger region"
        )
    largest = max(2, min(edge.shape) // 8)
    sizes = 2 ** np.arange(int(np.log2(largest)) + 1)
    counts = np.array([_boxes(edge, int(side)) for side in sizes])
    slope = np.polyfit(np.log(sizes), np.log(counts), 1)[0]
    return BoxCounts(sizes, counts, float(-slope))


def _boxes(edge: NDArray[np.bool_], side: int) -> int:
    rows, columns = (-(-n // side) * side for n in edge.shape)
    padded = np.zeros((rows, columns), bool)
    padded[: edge.shape[0], : edge.shape[1]] = edge
    boxes = padded.reshape(rows // side, side, columns // side, side)
    return int(boxes.any(axis=(1, 3)).sum())


@styled
def trainability_map(
    frame: pd.DataFrame, *, detail: pd.DataFrame | None = None, size: SizeName = "page"
) -> Figure:
    """Draw which points of a grid converge and how fast, and optionally a detail of the grid.

    Colours are ranks. The runs that converge are ranked from fast (pale) to slow (dark), and so
    are the runs that diverge; the dark colours meet at the boundary. With a detail, a frame shows
    its position, and a third panel shows the box counts of its boundary.

    Args:
        frame: a table of results with two axes and the columns `converged` and `intensity`.
            `intensity` is the sum of the losses over the epochs for a run that converged, and the
            sum of their inverses for a run that did not.
        detail: a table of a smaller region, or None.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: A table lacks a column, or does not have exactly two axes.
    """
    page = size_named(size)
    tables = [frame] if detail is None else [frame, detail]
    count = 1 if detail is None else 3
    stacked = size == "column"
    side = page.width if stacked else page.width / 2.4
    figure = new_figure(page, side * (count if stacked else 1) + 22, layout="constrained")
    shape = (count, 1) if stacked else (1, count)
    wide = None if stacked or count == 1 else (1.0, 1.3, 0.75)
    panels = figure.subplots(*shape, squeeze=False, width_ratios=wide).ravel()
    stacks = [_draw(panel, table, page) for panel, table in zip(panels, tables, strict=False)]
    if detail is not None:
        _draw_frame(panels[0], *stacks)
        _draw_boxes(panels[2], converged_grid(detail), page)
    cmap, norm = colours(_COLOURS), Normalize(-1, 1)
    legend_below(
        figure, page, [Patch(color=cmap(norm(at)), label=label) for label, at in _LOOKS.items()]
    )
    return figure


def converged_grid(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which cells converged, of shape (y, x), as `trainability_map` draws them."""
    return np.asarray(_stack(frame).take(frame["converged"].to_numpy(bool))[0, 0].filled(False))


def ranks(converged: NDArray[np.bool_], intensity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the colour of each run: 0.25 to 1 if it converges, -0.25 to -1 if it does not.

    The fastest runs have ±0.25. Runs of equal intensity share the mean of their ranks.
    """
    painted = np.empty(len(converged))
    for side, sign in ((converged, 1.0), (~converged, -1.0)):
        order = pd.Series(intensity[side]).rank(method="average").to_numpy()
        share = (order - 1) / max(1, side.sum() - 1)
        painted[side] = sign * (_PALEST + (1 - _PALEST) * share)
    return painted


def _stack(frame: pd.DataFrame) -> Stack:
    require(frame, ("converged", "intensity"), "trainability_map")
    lattice = read(frame, "trainability_map")
    losses = choose(lattice, None, "trainability_map")
    return stack(lattice, losses[:1], None, None, "trainability_map", 1)


def _draw(panel: Axes, frame: pd.DataFrame, page: Size) -> Stack:
    maps = _stack(frame)
    painted = ranks(
        frame["converged"].to_numpy(bool), frame["intensity"].to_numpy(float, na_value=np.nan)
    )
    values = maps.take(painted)[0, 0]
    directions = maps.directions
    draw_values(panel, directions, values, Normalize(-1, 1), colours(_COLOURS))
    for name, along in zip(SIDES, directions, strict=True):
        axis = panel.xaxis if name == "x" else panel.yaxis
        along.scale.set_axis(panel, name, along.edges)
        if along.is_log and along.edges[-1] < 100 * along.edges[0]:
            _tick(axis, along)
        elif not along.is_log:
            along.scale.set_ticks(axis, _TICKS)
    panel.set_xlabel(maps.x.label)
    panel.set_ylabel(maps.y.label)
    panel.tick_params(which="both", labelsize=page.font)
    return maps


def _tick(axis: Any, along: Direction) -> None:
    """Label both ends and the middle, because two decades contain few powers of ten."""
    places = along.centres[[0, len(along.centres) // 2, -1]]
    axis.set_ticks(places, [number(float(f"{place:.2g}")) for place in places])
    axis.set_ticks([], minor=True)


def _draw_frame(panel: Axes, whole: Stack, detail: Stack) -> None:
    (left, right), (low, high) = (
        outer.scale.drawn(inner.scale.values_at(inner.edges[[0, -1]])).tolist()
        for outer, inner in ((whole.x, detail.x), (whole.y, detail.y))
    )
    panel.add_patch(
        Rectangle((left, low), right - left, high - low, fill=False, edgecolor="black", linewidth=1)
    )


def _draw_boxes(panel: Axes, inside: NDArray[np.bool_], page: Size) -> None:
    boxes = boundary_boxes(inside)
    panel.plot(boxes.sizes, boxes.counts, marker="o", markersize=3, color="black", linewidth=0.9)
    panel.set(xscale="log", yscale="log")
    panel.set_xticks(boxes.sizes, [str(size) for size in boxes.sizes])
    panel.minorticks_off()
    panel.grid(True)
    panel.set_xlabel("side of a box (cells)")
    panel.set_ylabel("boxes on the boundary")
    panel.set_title(f"dimension {boxes.dimension:.2f}", loc="center")
    panel.tick_params(labelsize=page.font)
