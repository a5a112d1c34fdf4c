"""Panels of maps, and the space for their key: sizes in millimetres, chosen by search.

Maps come in rows of one panel per loss. Rows stand in blocks beside each other, like the columns of
a newspaper, if that makes the panels larger. The key (colour bar and legend) stands in the free end
of the last block, or else under the panels.
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
# Labels are measured at the resolution of print, because text is fitted to the dots.
_PROBE = 300
_KEY_GAP = 4.0
_BAR, _LINE = 12.0, 4.0
_LARGEST, _NARROWEST_KEY = 75.0, 45.0

SIDES: tuple[Literal["x", "y"], ...] = ("x", "y")

Directions = tuple[Direction, Direction]


@dataclass(frozen=True)
class Rectangle:
    """A rectangle in millimetres from the lower left corner of the figure."""

    left: float
    bottom: float
    width: float
    height: float


@dataclass(frozen=True)
class Margins:
    """The space around a panel for its labels, in millimetres, and the number of ticks.

    Attributes:
        left: the space for the labels and the name of the axis upward.
        right: the space for tick labels of the axis to the right that extend beyond the panel.
        gap: the space between two panels of a row.
        ticks: the largest number of intervals between ticks along x; None for the usual number.
    """

    left: float = 11.5
    right: float = 3.5
    gap: float = 2.5
    ticks: int | None = None


@dataclass(frozen=True)
class Arrangement:
    """The positions of the panels and of the key.

    Attributes:
        width: the width of the figure in millimetres.
        height: the height of the figure in millimetres.
        side: the side of a panel in millimetres.
        rows: the number of rows of panels.
        columns: the number of panels in a row.
        blocks: the number of blocks of rows beside each other.
        key: the rectangle of the key.
        margins: the space around each panel.
        indent: the left margin of the first block in millimetres.
    """

    width: float
    height: float
    side: float
    rows: int
    columns: int
    blocks: int
    key: Rectangle
    margins: Margins
    indent: float = 0.0

    @property
    def depth(self) -> int:
        """Return the number of rows in a full block."""
        return math.ceil(self.rows / self.blocks)

    def panel(self, row: int, column: int) -> Rectangle:
        """Return the rectangle of a panel."""
        block, place = divmod(row, self.depth)
        block_width = _block_width(self.side, self.columns, self.margins)
        left = self.indent + self.margins.left + block * (block_width + _BLOCK_GAP)
        left += column * (self.side + self.margins.gap)
        bottom = self.height - _HEADER - (place + 1) * (self.side + _TITLE)
        return Rectangle(left, bottom, self.side, self.side)

    def is_lowest(self, row: int) -> bool:
        """Return whether a row is the last of its block."""
        return row == self.rows - 1 or (row + 1) % self.depth == 0


def _block_width(side: float, columns: int, margins: Margins) -> float:
    return columns * side + (columns - 1) * margins.gap + margins.left


def arrange(size: Size, rows: int, columns: int, entries: int, margins: Margins) -> Arrangement:
    """Return the arrangement with the largest panels.

    Args:
        size: the size of the figure.
        rows: the number of rows of panels.
        columns: the number of panels in a row.
        entries: the number of entries of the legend.
        margins: the space around each panel.
    """
    options = [
        option
        for blocks in range(1, rows + 1)
        for option in _options(size, (rows, columns, blocks), entries, margins)
    ]
    return max(options, key=lambda option: round(option.side, 1))


def _options(
    size: Size, shape: tuple[int, int, int], entries: int, margins: Margins
) -> list[Arrangement]:
    """Return the possible arrangements: the key in the free end of the last block, or below."""
    rows, columns, blocks = shape
    depth = math.ceil(rows / blocks)
    if (blocks - 1) * depth >= rows:
        return []
    options = []
    per_block = (size.width - margins.right - (blocks - 1) * _BLOCK_GAP) / blocks - margins.left
    below = _key_height(size, size.width - 8, entries) + _KEY_GAP
    for is_below in (False, True):
        height = size.height - _HEADER - _BOTTOM - (below if is_below else 0)
        widest = (per_block - (columns - 1) * margins.gap) / columns
        side = min(widest, height / depth - _TITLE, _LARGEST)
        if side <= 0:
            continue
        panels = _HEADER + depth * (side + _TITLE) + _BOTTOM
        block = _block_width(side, columns, margins)
        if is_below:
            key = Rectangle(0, 0, size.width, below - _KEY_GAP)
            used = blocks * (block + _BLOCK_GAP) - _BLOCK_GAP + margins.right
            indent = max(0.0, (size.width - used) / 2)
            place = (size.width, panels + below, side, *shape, key, margins, indent)
            options.append(Arrangement(*place))
            continue
        slot = (blocks * depth - rows) * (side + _TITLE) - _BOTTOM
        inside = block - margins.left
        if inside >= _NARROWEST_KEY and slot >= _key_height(size, inside, entries):
            left = margins.left + (blocks - 1) * (block + _BLOCK_GAP)
            key = Rectangle(left, _BOTTOM, inside, slot)
            options.append(Arrangement(size.width, panels, side, *shape, key, margins))
    return options


def _key_height(size: Size, width: float, entries: int) -> float:
    return _BAR + math.ceil(entries / key_columns(size, width)) * _LINE


def key_columns(size: Size, width: float) -> int:
    """Return the number of entries of a legend that fit beside each other in a width."""
    return max(1, int(width // (7.0 * size.font)))


@dataclass(frozen=True)
class Panels:
    """A figure with empty panels.

    Attributes:
        figure: the figure.
        arrangement: the positions of the panels and of the key.
        axes: the panels, `axes[row][column]`.
        size: the size of the figure.
    """

    figure: Figure
    arrangement: Arrangement
    axes: tuple[tuple[Axes, ...], ...]
    size: Size

    def add_axes(self, rectangle: Rectangle) -> Axes:
        """Return new axes in a rectangle."""
        return _add_axes(self.figure, self.arrangement, rectangle)


def _add_axes(figure: Figure, arrangement: Arrangement, place: Rectangle) -> Axes:
    width, height = arrangement.width, arrangement.height
    return figure.add_axes(
        (place.left / width, place.bottom / height, place.width / width, place.height / height)
    )


def panels(
    size: Size, columns: Sequence[str], rows: Sequence[str], directions: Directions, entries: int
) -> Panels:
    """Return a figure with panels that have axes, titles and labels.

    Args:
        size: the size of the figure.
        columns: the heading of each panel of a row.
        rows: the title of each row.
        directions: the directions to the right and upward.
        entries: the number of entries of the legend.
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
        axes[row][0].set_title(title, loc="left", pad=2)
        for column, panel in enumerate(axes[row]):
            _set_axes(panel, directions, arrangement.side, arrangement.margins.ticks)
            panel.tick_params(
                which="both",
                labelleft=column == 0,
                labelbottom=arrangement.is_lowest(row),
                labelsize=size.font,
            )
    _label_blocks(figure, arrangement, columns, directions)
    return Panels(figure, arrangement, axes, size)


def _margins(size: Size, side: float, directions: Directions) -> Margins:
    """Return the margins that the tick labels need, measured on a panel of about that side."""
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
    """Return the boxes of the visible tick labels in order."""
    low, high = sorted(axis.get_view_interval())
    rounding = 1e-6 * (high - low)
    labels = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
    return [
        label.get_window_extent(renderer)
        for place, label in labels
        if low - rounding <= place <= high + rounding and label.get_text()
    ]


def _ticks(side: float) -> int:
    """Return the number of intervals between ticks with short labels on a side of a panel."""
    return max(2, int(side / 7))


def _set_axes(panel: Axes, directions: Directions, side: float, ticks: int | None) -> None:
    for name, axis, along in zip(SIDES, (panel.xaxis, panel.yaxis), directions, strict=True):
        along.scale.set_axis(panel, name, along.edges)
        if not along.is_log:
            along.scale.set_ticks(axis, ticks if name == "x" and ticks else _ticks(side))
        elif along.edges[-1] > 10 * along.edges[0]:
            # An axis of less than a decade keeps the labels of its minor ticks.
            along.scale.set_ticks(axis, max(3, int(side / 8)))


def _label_blocks(
    figure: Figure, arrangement: Arrangement, columns: Sequence[str], directions: Directions
) -> None:
    """Write the headings of the columns and the names of the axes of each block."""
    width, height = arrangement.width, arrangement.height
    for first in range(0, arrangement.rows, arrangement.depth):
        last = min(first + arrangement.depth, arrangement.rows) - 1
        low, high = arrangement.panel(last, 0), arrangement.panel(first, 0)
        right = arrangement.panel(first, len(columns) - 1)
        for column, heading in enumerate(columns):
            panel = arrangement.panel(first, column)
            place = (panel.left + panel.width / 2) / width, (height - 0.8) / height
            figure.text(*place, heading, ha="center", va="top", fontweight="bold")
        middle = (low.left + right.left + right.width) / 2
        below = (low.bottom - _BOTTOM + 1.2) / height
        figure.text(middle / width, below, directions[0].label, ha="center", va="bottom")
        middle = (low.bottom + high.bottom + high.height) / 2
        left = (low.left - arrangement.margins.left + 1.2) / width
        figure.text(left, middle / height, directions[1].label, va="center", rotation=90)
