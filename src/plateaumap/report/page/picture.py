"""The layout of the page's map: its sides, and the row of the table for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.lattice import Axis, Float64, Integers, Lattice, Words, direction
from plateaumap.report.lines import is_cloud
from plateaumap.report.scales import scale_of

MOST_CELLS = 4_000_000
"""The largest number of cells of one loss; larger tables are thinned before they are packed."""

_SQUARE = ("w0", "b0")


@dataclass(frozen=True)
class Side:
    """One side of the picture.

    Attributes:
        label: the coordinate along this side, "" if there is none.
        kind: "linear", "log" (positions are decimal logarithms) or "place" (0, 1, 2 and so on).
        columns: the values of each coordinate that varies along this side, of shape (size,).
        positions: centres of the cells in the picture, ascending, of shape (size,).
        edges: borders of the cells, of shape (size + 1,).
        kept: the position on the axis of each cell, of shape (size,).
        words: the choices of a coordinate, by code.
    """

    label: str
    kind: str
    columns: dict[str, Float64]
    positions: Float64
    edges: Float64
    kept: Integers
    words: Words = field(default_factory=dict)

    def every(self, stride: int) -> Side:
        """Return every `stride`-th cell, each `stride` times as wide."""
        positions = self.positions[::stride]
        return replace(
            self,
            columns={name: values[::stride] for name, values in self.columns.items()},
            positions=positions,
            edges=_edges(positions),
            kept=self.kept[::stride],
        )


@dataclass(frozen=True)
class Picture:
    """The table as cells.

    Attributes:
        across: the horizontal side.
        up: the vertical side, None for a table of fewer than two axes.
        further: the other axes.
        rows: the row of the table for each cell, −1 for none, of shape (losses, panels, y, x).
        cloud: the horizontal and vertical coordinates of scattered points; None for cells.
    """

    across: Side
    up: Side | None
    further: tuple[Axis, ...]
    rows: Integers
    cloud: tuple[str, str] | None = None

    @property
    def size(self) -> int:
        """The number of cells of one loss."""
        return int(np.prod(self.rows.shape[1:]))

    def thinned(self) -> Picture:
        """Return a picture with half as many cells on the longer side, if it has more than one."""
        height, width = self.rows.shape[2:]
        if self.up is not None and height >= width:
            return replace(self, up=self.up.every(2), rows=self.rows[:, :, ::2])
        return replace(self, across=self.across.every(2), rows=self.rows[:, :, :, ::2])


def picture_of(lattice: Lattice) -> Picture:
    """Return the picture of a table, thinned to at most `MOST_CELLS` cells of one loss."""
    sides = _chosen(lattice.axes)
    further = tuple(axis for axis in lattice.axes if axis not in sides)
    across = _side(sides[0]) if sides else _nothing()
    up = _side(sides[1]) if len(sides) > 1 else None
    panels, _ = lattice.product(further)
    shape = (
        len(lattice.losses),
        int(np.prod([axis.size for axis in further], dtype=np.int64)),
        1 if up is None else len(up.positions),
        len(across.positions),
    )
    columns = _cells(sides, (across, up), len(lattice.frame))
    rows = np.full(shape, -1, np.int64)
    rows[lattice.loss_codes, panels, columns[1], columns[0]] = np.arange(len(lattice.frame))
    cloud = None
    if is_cloud(lattice):
        first, second = lattice.axes[0].varying[:2]
        columns_of = lattice.axes[0].columns
        if all(scale_of(columns_of[name], is_log=False).is_usual for name in (first, second)):
            cloud = first, second
    picture = Picture(across, up, further, rows, cloud)
    while picture.size > MOST_CELLS and max(picture.rows.shape[2:]) > 1:
        picture = picture.thinned()
    return picture


def _chosen(axes: Sequence[Axis]) -> list[Axis]:
    """Return the axes of the map: those of w0 and b0 if present, then the largest ones."""
    ranked = sorted(axes, key=lambda axis: axis.size, reverse=True)
    ranked.sort(key=lambda axis: next((_SQUARE.index(n) for n in axis.names if n in _SQUARE), 2))
    return ranked[:2]


def _cells(sides: Sequence[Axis], drawn: Sequence[Side | None], rows: int) -> list[Integers]:
    places = []
    for number, side in enumerate(drawn):
        if number >= len(sides) or side is None:
            places.append(np.zeros(rows, np.int64))
            continue
        rank = np.empty(sides[number].size, np.int64)
        rank[side.kept] = np.arange(sides[number].size)
        places.append(rank[sides[number].places])
    return places


def _nothing() -> Side:
    return Side("", "place", {}, np.zeros(1), np.array([-0.5, 0.5]), np.zeros(1, np.int64))


def _side(axis: Axis) -> Side:
    name = _distinct(axis)
    kept = np.arange(axis.size)
    if name is None:
        positions, kind, label = kept.astype(float), "place", " and ".join(axis.names)
    else:
        way = direction(axis, name, "report.html")
        kept = np.argsort(axis.columns[name], kind="stable")
        scaled = np.log10(way.centres) if way.is_log else way.centres
        # Bokeh draws images with equal cells only: other values are drawn by position.
        even = way.scale.is_usual and np.allclose(np.diff(scaled), np.diff(scaled)[0], rtol=1e-6)
        kind = ("log" if way.is_log else "linear") if even else "place"
        positions, label = (scaled if even else np.arange(axis.size, dtype=float)), name
    columns = {other: values[kept] for other, values in axis.columns.items()}
    return Side(label, kind, columns, positions, _edges(positions), kept, axis.words)


def _distinct(axis: Axis) -> str | None:
    """Return a coordinate with distinct values along an axis, or None."""
    for name in axis.names:
        try:
            direction(axis, name, "report.html")
        except PlateaumapError:
            continue
        return name if np.isfinite(axis.columns[name]).all() else None
    return None


def _edges(positions: Float64) -> Float64:
    half = (positions[1] - positions[0]) / 2 if len(positions) > 1 else 0.5
    return np.append(positions - half, positions[-1] + half)
