"""Where panels, colour bar and legend of a map go: sizes in millimetres, decided by search.

Maps come in rows of one panel for each loss. Rows stand in blocks beside each other, as in a
newspaper, if panels can be larger that way. The key (colour bar and legend) fills the free end of
the last block, or stands beside the panels, or under them: wherever panels stay largest.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from plateaumap.report.lattice import Direction
from plateaumap.report.style import MM, Size, new_figure

_BOTTOM, _BLOCK_GAP = 9.5, 3.0
_HEADER, _TITLE = 3.5, 4.2
# Dots to the inch at which labels are measured: as many as they are printed with, since
# lettering is fitted to the dots.
_PROBE = 300
_KEY_WIDTH, _KEY_GAP = 29.0, 4.0
_BAR, _LINE = 12.0, 4.0
_LARGEST, _NARROWEST_KEY = 75.0, 45.0

SIDES: tuple[Literal["x", "y"], ...] = ("x", "y")

Place = Literal["slot", "beside", "under"]


@dataclass(frozen=True)
class Rectangle:
    """A rectangle in millimetres from the figure's lower left corner."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True)
class Margins:
    """Room around a panel for its labels, in millimetres, and how many ticks they leave.

    Attributes:
        left: for the labels of the axis upward and its name.
        right: for what the labels of the axis to the right reach beyond it.
        gap: between two panels of a row.
        ticks: intervals between ticks along x at most; None for as many as fit usually.
    """

    left: float = 11.5
    right: float = 3.5
    gap: float = 2.5
    ticks: int | None = None


@dataclass(frozen=True)
class Arrangement:
    """Where everything goes.

    Attributes:
        width: of the figure, in millimetres.
        height: of the figure, in millimetres.
        side: of a panel, in millimetres.
        rows: how many rows of panels.
        columns: panels in a row.
        blocks: blocks of rows beside each other.
        place: where the key is.
        key: its rectangle.
        margins: the room around each panel.
        indent: of the first block, in millimetres.
    """

    width: float
    height: float
    side: float
    rows: int
    columns: int
    blocks: int
    place: Place
    key: Rectangle
    margins: Margins
    indent: float = 0.0

    @property
    def depth(self) -> int:
        """Rows in a full block."""
        return math.ceil(self.rows / self.blocks)

    def panel(self, row: int, column: int) -> Rectangle:
        """The rectangle of a panel."""
        block, place = divmod(row, self.depth)
        block_width = _block_width(self.side, self.columns, self.margins)
        left = self.indent + self.margins.left + block * (block_width + _BLOCK_GAP)
        bottom = self.height - _HEADER - (place + 1) * (self.side + _TITLE)
        return Rectangle(
            left + column * (self.side + self.margins.gap), bottom, self.side, self.side
        )

    def is_lowest(self, row: int) -> bool:
        """Whether a row is the last of its block."""
        return row == self.rows - 1 or (row + 1) % self.depth == 0


def _block_width(side: float, columns: int, margins: Margins) -> float:
    return columns * side + (columns - 1) * margins.gap + margins.left


def arrange(size: Size, rows: int, columns: int, entries: int, margins: Margins) -> Arrangement:
    """The arrangement with the largest panels.

    Args:
        size: the room there is.
        rows: rows of panels.
        columns: panels in a row.
        entries: lines of the legend, if they stand one below the other.
        margins: the room around each panel.
    """
    places: tuple[Place, ...] = ("slot", "under", "beside")
    options = [
        option
        for blocks in range(1, rows + 1)
        for place in places
        if (option := _option(size, rows, columns, blocks, place, entries, margins)) is not None
    ]
    return max(options, key=lambda option: round(option.side, 1))


def _option(
    size: Size,
    rows: int,
    columns: int,
    blocks: int,
    place: Place,
    entries: int,
    margins: Margins,
) -> Arrangement | None:
    depth = math.ceil(rows / blocks)
    if (blocks - 1) * depth >= rows:
        return None
    across = max(1, int((size.width - 8) // legend_width(size)))
    under = _BAR + math.ceil(entries / across) * _LINE + _KEY_GAP
    width = size.width - margins.right - (_KEY_WIDTH if place == "beside" else 0)
    height = size.height - _HEADER - _BOTTOM - (under if place == "under" else 0)
    per_block = (width - (blocks - 1) * _BLOCK_GAP) / blocks - margins.left
    side = min(
        (per_block - (columns - 1) * margins.gap) / columns, height / depth - _TITLE, _LARGEST
    )
    if side <= 0:
        return None
    panels = _HEADER + depth * (side + _TITLE) + _BOTTOM
    block = _block_width(side, columns, margins)
    if place == "under":
        key = Rectangle(0, 0, size.width, under - _KEY_GAP)
        used = blocks * (block + _BLOCK_GAP) - _BLOCK_GAP + margins.right
        height, indent = panels + under, max(0.0, (size.width - used) / 2)
        return Arrangement(
            size.width, height, side, rows, columns, blocks, place, key, margins, indent
        )
    if place == "beside":
        left = blocks * (block + _BLOCK_GAP)
        key = Rectangle(left, _BOTTOM, size.width - left - 1, panels - _BOTTOM - _HEADER - _TITLE)
    else:
        free = blocks * depth - rows
        slot = free * (side + _TITLE) - _BOTTOM
        inside = block - margins.left
        across = max(1, int(inside // legend_width(size)))
        if inside < _NARROWEST_KEY or slot < _BAR + math.ceil(entries / across) * _LINE:
            return None
        left = margins.left + (blocks - 1) * (block + _BLOCK_GAP)
        key = Rectangle(left, _BOTTOM, inside, slot)
    return Arrangement(size.width, panels, side, rows, columns, blocks, place, key, margins)


def legend_width(size: Size) -> float:
    """Millimetres that an entry of a map's legend takes."""
    return 7.0 * size.font


@dataclass(frozen=True)
class Panels:
    """A figure with its panels, still empty.

    Attributes:
        figure: the figure.
        arrangement: where everything is.
        axes: the panels, `axes[row][column]`.
        size: the room there was.
    """

    figure: Figure
    arrangement: Arrangement
    axes: tuple[tuple[Axes, ...], ...]
    size: Size

    def add_axes(self, rectangle: Rectangle) -> Axes:
        """Axes in a rectangle that is given in millimetres."""
        return _add_axes(self.figure, self.arrangement, rectangle)


def _add_axes(figure: Figure, arrangement: Arrangement, place: Rectangle) -> Axes:
    width, height = arrangement.width, arrangement.height
    return figure.add_axes(
        (place.left / width, place.bottom / height, place.width / width, place.height / height)
    )


def panels(
    size: Size,
    columns: Sequence[str],
    rows: Sequence[str],
    directions: tuple[Direction, Direction],
    entries: int,
) -> Panels:
    """Panels with axes, titles and labels.

    Args:
        size: the room there is.
        columns: a heading for each panel of a row.
        rows: a title for each row.
        directions: what is to the right, and what upward.
        entries: entries of the legend.
    """
    shape = len(rows), len(columns), entries
    rough = arrange(size, *shape, Margins())
    arrangement = arrange(size, *shape, _margins(size, rough.side, directions))
    figure = new_figure(size, arrangement.height)
    axes = tuple(
        tuple(
            _add_axes(figure, arrangement, arrangement.panel(row, column))
            for column in range(len(columns))
        )
        for row in range(len(rows))
    )
    for row, title in enumerate(rows):
        axes[row][0].set_title(title, loc="left", pad=2, fontsize=size.font)
        for column, panel in enumerate(axes[row]):
            _set_axes(panel, directions, arrangement.side, arrangement.margins.ticks)
            panel.tick_params(
                which="both",
                labelleft=column == 0,
                labelbottom=arrangement.is_lowest(row),
                labelsize=size.font,
            )
    _label_blocks(figure, arrangement, columns, directions, size)
    return Panels(figure, arrangement, axes, size)


def _margins(size: Size, side: float, directions: tuple[Direction, Direction]) -> Margins:
    """The room that the labels of such axes take, measured on a panel of about that side."""
    figure = Figure(figsize=(3 * side * MM, 3 * side * MM), dpi=_PROBE)
    panel = figure.add_axes((1 / 3, 1 / 3, 1 / 3, 1 / 3))
    panel.tick_params(which="both", labelsize=size.font)
    usual, millimetre = Margins(), _PROBE * MM
    renderer = FigureCanvasAgg(figure).get_renderer()
    for ticks in range(_ticks(side), 0, -1):
        _set_axes(panel, directions, side, ticks)
        boxes = _label_boxes(panel.xaxis, renderer)
        if all(box.x0 - last.x1 > millimetre for last, box in itertools.pairwise(boxes)):
            break
    area = panel.get_window_extent(renderer)
    left = max((area.x0 - box.x0 for box in _label_boxes(panel.yaxis, renderer)), default=0)
    before = max((area.x0 - box.x0 for box in boxes), default=0) / millimetre
    beyond = max((box.x1 - area.x1 for box in boxes), default=0) / millimetre
    name = 1.4 * size.font / 72 / MM
    return Margins(
        left=max(usual.left, left / millimetre + name + 2),
        right=max(usual.right, beyond + 0.5),
        gap=max(usual.gap, before + beyond + 2),
        ticks=ticks,
    )


def _label_boxes(axis: Axis, renderer: RendererAgg) -> list[Bbox]:
    """The boxes of the tick labels that are in view, in order."""
    low, high = sorted(axis.get_view_interval())
    rounding = 1e-6 * (high - low)
    labels = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return [
        label.get_window_extent(renderer)
        for place, label in labels
        if low - rounding <= place <= high + rounding and label.get_text()
    ]


def _ticks(side: float) -> int:
    """Intervals between ticks along an axis of so many millimetres, for short labels."""
    return max(2, int(side / 7))


def _set_axes(
    panel: Axes, directions: tuple[Direction, Direction], side: float, ticks: int | None
) -> None:
    for name, axis, along in zip(SIDES, (panel.xaxis, panel.yaxis), directions, strict=True):
        along.scale.set_axis(panel, name, along.edges)
        if not along.is_log:
            along.scale.set_ticks(axis, ticks if name == "x" and ticks else _ticks(side))
        elif along.edges[-1] > 10 * along.edges[0]:
            # Less than a decade keeps the labels of its minor ticks.
            along.scale.set_ticks(axis, max(3, int(side / 8)))


def _label_blocks(
    figure: Figure,
    arrangement: Arrangement,
    columns: Sequence[str],
    directions: tuple[Direction, Direction],
    size: Size,
) -> None:
    width, height = arrangement.width, arrangement.height
    for first in range(0, arrangement.rows, arrangement.depth):
        last = min(first + arrangement.depth, arrangement.rows) - 1
        low, high = arrangement.panel(last, 0), arrangement.panel(first, 0)
        right = arrangement.panel(first, len(columns) - 1)
        for column, heading in enumerate(columns):
            panel = arrangement.panel(first, column)
            figure.text(
                (panel.left + panel.width / 2) / width,
                (height - 0.8) / height,
                heading,
                ha="center",
                va="top",
                fontweight="bold",
                fontsize=size.font,
            )
        figure.text(
            (low.left + right.left + right.width) / 2 / width,
            (low.bottom - _BOTTOM + 1.2) / height,
            directions[0].label,
            ha="center",
            va="bottom",
            fontsize=size.font,
        )
        figure.text(
            (low.left - arrangement.margins.left + 1.2) / width,
            (low.bottom + high.bottom + high.height) / 2 / height,
            directions[1].label,
            ha="left",
            va="center",
            rotation=90,
            fontsize=size.font,
        )
