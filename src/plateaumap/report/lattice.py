"""What a table of results says about its own shape: losses, axes, and which row is which cell.

Only the index columns are asked where a row belongs; coordinates are never compared as floats.
Names whose index columns agree in every row varied together and are one axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plateaumap.inputs.errors import PlateaumapError, advice
from plateaumap.report.scales import Scale, coordinate_words, edges_between, scale_of
from plateaumap.report.style import STATUS_LOOKS, equation, short
from plateaumap.table.display import value_text

ESCAPED = "escaped"
CONVERGED = "converged_at_start"
STATUSES = (ESCAPED, *STATUS_LOOKS)
MEASURED = ("loss", "status", "plateau_epochs", "epochs_run")
_SUFFIX = "_index"

Float64 = NDArray[np.float64]
Integers = NDArray[np.int64]
Words = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Axis:
    """One axis of a table.

    Attributes:
        names: the coordinates that vary along it, together if there are several.
        columns: for each name its values, of shape (size,), in the table's order.
        places: for each row of the table its place on the axis, of shape (rows,).
        words: what the values of a coordinate with choices stand for.
    """

    names: tuple[str, ...]
    columns: Mapping[str, Float64]
    places: Integers
    words: Words = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many places it has."""
        return len(self.columns[self.names[0]])

    def plain_title(self, place: int) -> str:
        """Such as `lr = 0.15, y = 0`, without formulas."""
        return ", ".join(f"{name} = {value_text(self.given(name, place))}" for name in self.names)

    def given(self, name: str, place: int) -> float | str:
        """The value of a coordinate at a place, as it was given: of choices the word."""
        return given_value(name, self.columns[name][place], self.words)

    def title(self, place: int) -> str:
        """Such as `η = 0.15, y = 0`."""
        return ", ".join(
            _equation(name, self.columns[name][place], self.words) for name in self.names
        )


@dataclass(frozen=True)
class Lattice:
    """A table and its shape.

    Attributes:
        frame: the table.
        losses: the losses that occur in it, in the order of their category.
        axes: its axes of more than one place, the slowest first.
        fixed: the coordinates that do not vary.
        words: what the numbers of coordinates with choices stand for; in `frame`, too, these
            coordinates are the positions of the choices.
    """

    frame: pd.DataFrame
    losses: tuple[str, ...]
    axes: tuple[Axis, ...]
    fixed: Mapping[str, float]
    words: Words = field(default_factory=dict)

    @cached_property
    def loss_codes(self) -> Integers:
        """For each row the position of its loss in `losses`, of shape (rows,)."""
        return _codes(self.frame["loss"], self.losses)

    @cached_property
    def status_codes(self) -> Integers:
        """For each row the position of its status in `STATUSES`, of shape (rows,)."""
        return _codes(self.frame["status"], STATUSES)

    def is_status(self, *names: str) -> NDArray[np.bool_]:
        """For each row whether its status is one of `names`."""
        return np.isin(self.status_codes, [STATUSES.index(name) for name in names])

    def numbers(self, column: str) -> Float64:
        """A column as float64, NaN where null; integers above 2⁵³ are rounded, as for drawing."""
        return self.frame[column].to_numpy(np.float64, na_value=np.nan)

    @cached_property
    def lengths(self) -> Float64:
        """T10 in epochs, NaN where there is none, of shape (rows,)."""
        return self.numbers("plateau_epochs")

    @cached_property
    def stops(self) -> Float64:
        """The epochs that each run was followed, of shape (rows,)."""
        return self.numbers("epochs_run")

    def axis_of(self, name: str) -> Axis:
        """The axis along which a coordinate varies.

        Raises:
            PlateaumapError: it varies along none.
        """
        for axis in self.axes:
            if name in axis.names:
                return axis
        known = [name for axis in self.axes for name in axis.names]
        raise PlateaumapError(
            f"{name!r} does not vary in this table (axes with more than one value: "
            f"{', '.join(known) or 'none'}); choose another axis"
        )

    @property
    def given_fixed(self) -> dict[str, float | str]:
        """The fixed coordinates as they were given: of choices the word."""
        return {name: given_value(name, value, self.words) for name, value in self.fixed.items()}

    def plain_fixed(self) -> str:
        """The fixed coordinates, such as `x = 1, lr = 0.5`, without formulas."""
        return ", ".join(f"{name} = {value_text(v)}" for name, v in self.given_fixed.items())

    def describe_fixed(self, without: Sequence[str] = ()) -> str:
        """The fixed coordinates, such as `x = 1, y = 0`."""
        return ", ".join(
            _equation(name, value, self.words)
            for name, value in self.fixed.items()
            if name not in without
        )

    def product(self, axes: Sequence[Axis]) -> tuple[Integers, list[str]]:
        """Joins axes into one in C order: each row's place on it, and a title for each place."""
        places = np.zeros(len(self.frame), np.int64)
        titles = [""]
        for axis in axes:
            places = places * axis.size + axis.places
            own = [axis.title(place) for place in range(axis.size)]
            titles = [", ".join(filter(None, pair)) for pair in _pairs(titles, own)]
        return places, titles


def _pairs(first: list[str], second: list[str]) -> list[tuple[str, str]]:
    return [(one, other) for one in first for other in second]


def read(frame: pd.DataFrame, figure: str) -> Lattice:
    """The shape of a table.

    Args:
        frame: a table of results, or some of its rows.
        figure: who asks, for messages.

    Raises:
        PlateaumapError: it has no rows, lacks a column, or knows a status that we do not.
    """
    if not isinstance(frame, pd.DataFrame):
        raise PlateaumapError(
            f"{figure} draws a table of results, a pandas DataFrame, not a {type(frame).__name__}; "
            "`run` and `load` return one"
        )
    require(frame, MEASURED, figure)
    if not len(frame):
        raise PlateaumapError(f"{figure} has nothing to draw: the table has no rows")
    unknown = set(frame["status"].dropna().unique()) - set(STATUSES)
    if unknown or frame["status"].isna().any():
        raise PlateaumapError(
            f"{figure}: the table's status is {', '.join(map(repr, sorted(unknown))) or 'null'} "
            f"in some rows; known: {', '.join(STATUSES)}"
        )
    coordinates = _coordinates(frame)
    words = {
        name: tuple(map(str, frame[name].cat.categories))
        for name in coordinates
        if isinstance(frame[name].dtype, pd.CategoricalDtype)
    }
    frame = frame.assign(**{name: frame[name].cat.codes for name in words}) if words else frame
    axes, indexed = _axes(frame)
    axes = [replace(axis, words=words) for axis in axes]
    single = {name: column for axis in axes for name, column in axis.columns.items()}
    fixed = {name: float(frame[name].iloc[0]) for name in coordinates if name not in indexed}
    fixed |= {name: float(column[0]) for name, column in single.items() if len(column) == 1}
    return Lattice(
        frame=frame,
        losses=_losses(frame),
        axes=tuple(axis for axis in axes if axis.size > 1),
        fixed={name: fixed[name] for name in coordinates if name in fixed},
        words=words,
    )


def given_value(name: str, value: float, words: Words) -> float | str:
    """The value of a coordinate as it was given: for one with choices, the word."""
    return words[name][int(value)] if name in words else value


def _equation(name: str, value: float, words: Words) -> str:
    if name not in words:
        return equation(name, value)
    return f"{short(name)} = {words[name][int(value)]}"


def require(frame: pd.DataFrame, columns: Sequence[str], figure: str) -> None:
    """Raises unless the table has these columns.

    Raises:
        PlateaumapError: names those that it lacks.
    """
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise PlateaumapError(
            f"{figure} needs the columns {', '.join(columns)}; the table lacks "
            f"{', '.join(missing)}: give it a table such as `run` and `load` return"
        )


def _losses(frame: pd.DataFrame) -> tuple[str, ...]:
    column = frame["loss"]
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        return tuple(map(str, column.cat.categories))
    return tuple(map(str, column.unique()))


def _codes(column: pd.Series, names: Sequence[str]) -> Integers:
    return pd.Categorical(column, categories=list(names)).codes.astype(np.int64)


def _coordinates(frame: pd.DataFrame) -> list[str]:
    """The coordinates stand between the loss and the indices, or else the status."""
    names: list[str] = []
    for name in frame.columns:
        if name == "status":
            break
        if name != "loss" and not name.endswith(_SUFFIX):
            names.append(name)
    indexed = [name.removesuffix(_SUFFIX) for name in _index_columns(frame)]
    return [*names, *(name for name in indexed if name not in names)]


def _index_columns(frame: pd.DataFrame) -> list[str]:
    return [
        name
        for name in map(str, frame.columns)
        if name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in frame.columns
    ]


def _axes(frame: pd.DataFrame) -> tuple[list[Axis], set[str]]:
    axes: list[Axis] = []
    for column in _index_columns(frame):
        name = column.removesuffix(_SUFFIX)
        index = frame[column].to_numpy(np.int64)
        present = np.flatnonzero(np.bincount(index))
        rank = np.zeros(present[-1] + 1, np.int64)
        rank[present] = np.arange(len(present))
        places = rank[index]
        first = np.zeros(len(present), np.int64)
        first[places[::-1]] = np.arange(len(frame))[::-1]
        values = frame[name].to_numpy(np.float64)[first]
        twin = next((a for a in axes if a.size > 1 and np.array_equal(a.places, places)), None)
        if twin is None:
            axes.append(Axis((name,), {name: values}, places))
        else:
            joined = Axis((*twin.names, name), {**twin.columns, name: values}, places)
            axes[axes.index(twin)] = joined
    return axes, {name for axis in axes for name in axis.names}


def choose(
    lattice: Lattice, wanted: Sequence[str] | None, figure: str, least: int = 1
) -> tuple[str, ...]:
    """The losses to draw: those wanted, or all.

    Raises:
        PlateaumapError: one is not in the table, or there are fewer than `least`.
    """
    losses = lattice.losses if wanted is None else tuple(wanted)
    for loss in losses:
        if loss not in lattice.losses:
            raise PlateaumapError(f"{figure}: no loss {loss!r}; {advice(loss, lattice.losses)}")
    if len(losses) < least:
        raise PlateaumapError(
            f"{figure} compares {least} losses; the table has {', '.join(losses)}"
        )
    return losses


@dataclass(frozen=True)
class Direction:
    """One direction of a map.

    Attributes:
        name: the coordinate.
        scale: how its values are drawn.
        edges: borders of its cells where they are drawn, of shape (size + 1,), ascending.
        places: for each row of the table its cell, of shape (rows,).
    """

    name: str
    scale: Scale
    edges: Float64
    places: Integers

    @cached_property
    def centres(self) -> Float64:
        """Where its values are drawn, of shape (size,), ascending."""
        return self.scale.drawn(self.scale.values)

    @property
    def label(self) -> str:
        """The axis's label."""
        return coordinate_words(self.name, self.scale)

    @property
    def is_log(self) -> bool:
        """Whether it is drawn on a logarithmic scale."""
        return self.scale.is_log

    @property
    def is_even(self) -> bool:
        """Whether all cells are equally wide on a linear scale."""
        widths = np.diff(self.edges)
        return not self.is_log and bool(np.allclose(widths, widths[0], rtol=1e-6))


def direction(axis: Axis, name: str, figure: str) -> Direction:
    """One coordinate's axis as a direction of a map.

    Raises:
        PlateaumapError: a value occurs twice, so that cells would lie on each other.
    """
    values = axis.columns[name]
    order = np.argsort(values, kind="stable")
    if not np.all(values[order][1:] > values[order][:-1]):
        raise PlateaumapError(
            f"{figure}: {name} takes a value twice along its axis, so its cells would lie on "
            "each other; choose another axis"
        )
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    scale = scale_of(values)
    centres = scale.drawn(scale.values)
    edges = np.exp(edges_between(np.log(centres))) if scale.is_log else edges_between(centres)
    return Direction(name, scale, edges, rank[axis.places])


@dataclass(frozen=True)
class Stack:
    """A table as maps: one for each loss and each row of panels.

    Attributes:
        lattice: the table's shape.
        losses: the losses, in order.
        titles: one for each row of panels.
        x: the direction to the right.
        y: the direction upward.
        rows: which row of the table each cell is, −1 where there is none; of shape
            (losses, titles, y, x).
        left_out: how many rows of panels were left out.
    """

    lattice: Lattice
    losses: tuple[str, ...]
    titles: tuple[str, ...]
    x: Direction
    y: Direction
    rows: Integers
    left_out: int = 0

    def take(self, values: NDArray) -> np.ma.MaskedArray:
        """One value for each cell, masked where there is none, of the shape of `rows`."""
        return np.ma.MaskedArray(values[self.rows], mask=self.rows < 0)


MOST_ROWS = 24
"""Rows of panels that a figure can hold; of more, some are drawn, evenly spread."""


def stack(
    lattice: Lattice,
    losses: Sequence[str],
    x: str | None,
    y: str | None,
    figure: str,
    most_rows: int = MOST_ROWS,
) -> Stack:
    """The table as maps over two coordinates; any further axes become rows of panels.

    Args:
        lattice: the table's shape.
        losses: the losses to draw.
        x: the coordinate to the right; by default w0, or else the largest axis.
        y: the coordinate upward; by default b0, or else the next largest.
        figure: who asks, for messages.
        most_rows: rows of panels that are drawn at most.

    Raises:
        PlateaumapError: there are no two such axes, or two rows of the table share a cell.
    """
    across, up = _two_axes(lattice, x, y, figure)
    horizontal = direction(lattice.axis_of(across), across, figure)
    vertical = direction(lattice.axis_of(up), up, figure)
    rest = [axis for axis in lattice.axes if not {across, up} & set(axis.names)]
    places, titles = lattice.product(rest)
    shape = (len(losses), len(titles), len(vertical.centres), len(horizontal.centres))
    chosen = np.flatnonzero(np.isin(lattice.loss_codes, [lattice.losses.index(n) for n in losses]))
    column = np.full(len(lattice.losses), -1)
    column[[lattice.losses.index(name) for name in losses]] = np.arange(len(losses))
    cells = np.ravel_multi_index(
        tuple(
            coordinate[chosen]
            for coordinate in (
                column[lattice.loss_codes],
                places,
                vertical.places,
                horizontal.places,
            )
        ),
        shape,
    )
    if len(cells) and np.bincount(cells).max() > 1:
        raise PlateaumapError(
            f"{figure}: several rows of the table belong to one cell of {across} and {up}; "
            "draw one sweep at a time"
        )
    rows = np.full(np.prod(shape), -1)
    rows[cells] = chosen
    return _thinned(
        Stack(lattice, tuple(losses), tuple(titles), horizontal, vertical, rows.reshape(shape)),
        most_rows,
    )


def _thinned(whole: Stack, most: int) -> Stack:
    total = len(whole.titles)
    if total <= most:
        return whole
    kept = np.unique(np.linspace(0, total - 1, most).round().astype(int))
    return Stack(
        whole.lattice,
        whole.losses,
        tuple(whole.titles[row] for row in kept),
        whole.x,
        whole.y,
        whole.rows[:, kept],
        left_out=total - len(kept),
    )


def _two_axes(lattice: Lattice, x: str | None, y: str | None, figure: str) -> tuple[str, str]:
    free = [axis for axis in lattice.axes if not {x, y} & set(axis.names)]
    named = [axis.names[0] for axis in sorted(free, key=lambda a: a.size, reverse=True)]
    named.sort(key=lambda name: ("w0", "b0").index(name) if name in ("w0", "b0") else 2)
    chosen = [name if name is not None else (named.pop(0) if named else None) for name in (x, y)]
    across, up = chosen
    if across is None or up is None:
        raise PlateaumapError(
            f"{figure} needs two axes with more than one value; the table has "
            f"{', '.join('/'.join(axis.names) for axis in lattice.axes) or 'none'}: "
            "draw a `cut` instead"
        )
    if lattice.axis_of(across) is lattice.axis_of(up):
        raise PlateaumapError(
            f"{figure}: {across} and {up} vary together along one axis; "
            "choose two that vary independently"
        )
    return across, up
