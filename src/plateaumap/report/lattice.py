"""The shape of a table of results: its losses, its axes, and the row of each cell of a map.

Only the index columns decide to which cell a row belongs; coordinates are never compared as
floats. Names whose index columns agree in every row varied together and form one axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plateaumap.inputs.errors import PlateaumapError, advice
from plateaumap.report.scales import Scale, edges_between, scale_of
from plateaumap.report.style import STATUS_LOOKS, axis_words, equation, short
from plateaumap.table.display import value_text

ESCAPED = "escaped"
CONVERGED = "converged_at_start"
STATUSES = (ESCAPED, *STATUS_LOOKS)
MEASURED = ("loss", "status", "plateau_epochs", "epochs_run")
_SUFFIX = "_index"

Float64 = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Words = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Axis:
    """One axis of a table.

    Attributes:
        names: the coordinates along the axis; several names vary together.
        columns: the values of each coordinate, of shape (size,), in the order of the table.
        places: the place of each row on the axis, of shape (rows,).
        words: the choices of each coordinate whose values are positions in a list of choices.
    """

    names: tuple[str, ...]
    columns: Mapping[str, Float64]
    places: Integers
    words: Words = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Return the number of places."""
        return len(self.columns[self.names[0]])

    @property
    def varying(self) -> list[str]:
        """Return the coordinates that take more than one value."""
        return [name for name in self.names if len(np.unique(self.columns[name])) > 1]

    def plain_title(self, place: int) -> str:
        """Return text such as `lr = 0.15, y = 0`, without formulas."""
        return plain_equations({name: self._value(name, place) for name in self.names})

    def title(self, place: int) -> str:
        """Return text such as `η = 0.15, y = 0`."""
        return equations({name: self._value(name, place) for name in self.names})

    def _value(self, name: str, place: int) -> float | str:
        return display_value(name, self.columns[name][place], self.words)


@dataclass(frozen=True)
class Lattice:
    """A table and its shape.

    Attributes:
        frame: the table; coordinates with choices are the positions of the choices.
        losses: the losses of the table, in the order of their category.
        axes: the axes of more than one place, the slowest first.
        fixed: the coordinates that do not vary.
        words: the choices of each coordinate with choices.
    """

    frame: pd.DataFrame
    losses: tuple[str, ...]
    axes: tuple[Axis, ...]
    fixed: Mapping[str, float]
    words: Words = field(default_factory=dict)

    @cached_property
    def loss_codes(self) -> Integers:
        """Return the position of each row's loss in `losses`, of shape (rows,)."""
        return _codes(self.frame["loss"], self.losses)

    @cached_property
    def status_codes(self) -> Integers:
        """Return the position of each row's status in `STATUSES`, of shape (rows,)."""
        return _codes(self.frame["status"], STATUSES)

    def is_loss(self, name: str) -> Booleans:
        """Return whether each row has a loss, of shape (rows,)."""
        return self.loss_codes == self.losses.index(name)

    def is_status(self, *names: str) -> Booleans:
        """Return whether the status of each row is one of `names`, of shape (rows,)."""
        return np.isin(self.status_codes, [STATUSES.index(name) for name in names])

    def numbers(self, column: str) -> Float64:
        """Return a column as float64, NaN where null. Integers above 2⁵³ are rounded."""
        return self.frame[column].to_numpy(np.float64, na_value=np.nan)

    @cached_property
    def lengths(self) -> Float64:
        """Return T10 in epochs, NaN where it is null, of shape (rows,)."""
        return self.numbers("plateau_epochs")

    @cached_property
    def stops(self) -> Float64:
        """Return the number of epochs that each run was followed, of shape (rows,)."""
        return self.numbers("epochs_run")

    @property
    def varying(self) -> list[str]:
        """Return the coordinates on the axes, in order."""
        return [name for axis in self.axes for name in axis.names]

    def axis_of(self, name: str) -> Axis:
        """Return the axis along which a coordinate varies.

        Raises:
            PlateaumapError: The coordinate does not vary.
        """
        for axis in self.axes:
            if name in axis.names:
                return axis
        raise PlateaumapError(
            f"{name!r} does not vary in this table (axes with more than one value: "
            f"{', '.join(self.varying) or 'none'}); choose another axis"
        )

    @property
    def displayed_fixed(self) -> dict[str, float | str]:
        """Return the fixed coordinates; a coordinate with choices is a word."""
        return {name: display_value(name, v, self.words) for name, v in self.fixed.items()}

    def plain_fixed(self) -> str:
        """Return the fixed coordinates as text such as `x = 1, lr = 0.5`, without formulas."""
        return plain_equations(self.displayed_fixed)

    def describe_fixed(self, without: Sequence[str] = ()) -> str:
        """Return the fixed coordinates as text such as `x = 1, y = 0`."""
        values = self.displayed_fixed.items()
        return equations({name: value for name, value in values if name not in without})

    def product(self, axes: Sequence[Axis]) -> tuple[Integers, list[str]]:
        """Join axes into one in C order; return each row's place and each place's title."""
        places = np.zeros(len(self.frame), np.int64)
        titles = [""]
        for axis in axes:
            places = places * axis.size + axis.places
            ends = [axis.title(place) for place in range(axis.size)]
            titles = [", ".join(filter(None, (head, end))) for head in titles for end in ends]
        return places, titles


def display_value(name: str, value: float, words: Words) -> float | str:
    """Return the value of a coordinate; for a coordinate with choices, its word."""
    return words[name][int(value)] if name in words else value


def plain_equations(values: Mapping[str, float | str]) -> str:
    """Return text such as `lr = 0.15, y = 0`, without formulas."""
    return ", ".join(f"{name} = {value_text(value)}" for name, value in values.items())


def equations(values: Mapping[str, float | str]) -> str:
    """Return text such as `η = 0.15, y = 0`."""
    return ", ".join(
        f"{short(name)} = {value}" if isinstance(value, str) else equation(name, value)
        for name, value in values.items()
    )


def read(frame: pd.DataFrame, figure: str, columns: Iterable[str] = ()) -> Lattice:
    """Return the shape of a table.

    Args:
        frame: a table of results, or some of its rows.
        figure: the name of the figure, for messages.
        columns: columns that the figure needs in addition to `MEASURED`.

    Raises:
        PlateaumapError: The table has no rows, lacks a column, or has an unknown status.
    """
    if not isinstance(frame, pd.DataFrame):
        raise PlateaumapError(
            f"{figure} draws a table of results, a pandas DataFrame, not a {type(frame).__name__}; "
            "`run` and `load` return one"
        )
    require(frame, MEASURED, figure)
    require(frame, columns, figure)
    if not len(frame):
        raise PlateaumapError(f"{figure} has nothing to draw: the table has no rows")
    unknown = set(frame["status"].dropna().unique()) - set(STATUSES)
    if unknown or frame["status"].isna().any():
        raise PlateaumapError(
            f"{figure}: the status of some rows is "
            f"{', '.join(map(repr, sorted(unknown))) or 'null'}; known: {', '.join(STATUSES)}"
        )
    coordinates = _coordinates(frame)
    words = {
        name: tuple(map(str, frame[name].cat.categories))
        for name in coordinates
        if isinstance(frame[name].dtype, pd.CategoricalDtype)
    }
    frame = frame.assign(**{name: frame[name].cat.codes for name in words}) if words else frame
    axes = [replace(axis, words=words) for axis in _axes(frame)]
    varying = {name for axis in axes if axis.size > 1 for name in axis.names}
    return Lattice(
        frame=frame,
        losses=_losses(frame),
        axes=tuple(axis for axis in axes if axis.size > 1),
        fixed={n: float(frame[n].iloc[0]) for n in coordinates if n not in varying},
        words=words,
    )


def require(frame: pd.DataFrame, columns: Iterable[str], figure: str) -> None:
    """Raise an error unless a table has all of these columns.

    Raises:
        PlateaumapError: The table lacks columns, which the message names.
    """
    columns = list(columns)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise PlateaumapError(
            f"{figure} needs the columns {', '.join(columns)}; the table lacks "
            f"{', '.join(missing)}: pass a table that `run` or `load` returned"
        )


def _losses(frame: pd.DataFrame) -> tuple[str, ...]:
    column = frame["loss"]
    if isinstance(column.dtype, pd.CategoricalDtype):
        return tuple(map(str, column.cat.remove_unused_categories().cat.categories))
    return tuple(map(str, column.unique()))


def _codes(column: pd.Series, names: Sequence[str]) -> Integers:
    return pd.Categorical(column, categories=list(names)).codes.astype(np.int64)


def _coordinates(frame: pd.DataFrame) -> list[str]:
    """Return the columns between the loss and the status, and the columns with an index."""
    columns = list(map(str, frame.columns))
    before = columns[: columns.index("status")]
    names = [name for name in before if name != "loss" and not name.endswith(_SUFFIX)]
    return list(dict.fromkeys([*names, *_indexed(frame)]))


def _indexed(frame: pd.DataFrame) -> list[str]:
    columns = list(map(str, frame.columns))
    names = [name.removesuffix(_SUFFIX) for name in columns if name.endswith(_SUFFIX)]
    return [name for name in names if name in columns]


def _axes(frame: pd.DataFrame) -> list[Axis]:
    axes: list[Axis] = []
    for name in _indexed(frame):
        index = frame[f"{name}{_SUFFIX}"].to_numpy(np.int64)
        _, first, places = np.unique(index, return_index=True, return_inverse=True)
        values = {name: frame[name].to_numpy(np.float64)[first]}
        twin = next((a for a in axes if a.size > 1 and np.array_equal(a.places, places)), None)
        if twin is None:
            axes.append(Axis((name,), values, places))
        else:
            joined = Axis((*twin.names, name), {**twin.columns, **values}, places)
            axes[axes.index(twin)] = joined
    return axes


def choose(
    lattice: Lattice, losses: Sequence[str] | None, figure: str, least: int = 1
) -> tuple[str, ...]:
    """Return the losses to draw: `losses`, or by default all losses of the table.

    Raises:
        PlateaumapError: A loss is not in the table, or there are fewer than `least`.
    """
    names = lattice.losses if losses is None else tuple(losses)
    for loss in names:
        if loss not in lattice.losses:
            raise PlateaumapError(f"{figure}: no loss {loss!r}; {advice(loss, lattice.losses)}")
    if len(names) < least:
        raise PlateaumapError(f"{figure} compares {least} losses; the table has {', '.join(names)}")
    return names


@dataclass(frozen=True)
class Direction:
    """One direction of a map.

    Attributes:
        name: the coordinate.
        scale: the scale on which its values are drawn.
        edges: the borders of the cells on that scale, of shape (size + 1,), ascending.
        places: the cell of each row of the table, of shape (rows,).
    """

    name: str
    scale: Scale
    edges: Float64
    places: Integers

    @cached_property
    def centres(self) -> Float64:
        """Return the positions of the values on the scale, of shape (size,), ascending."""
        return self.scale.drawn(self.scale.values)

    @property
    def label(self) -> str:
        """Return the label of the axis."""
        return self.scale.label(axis_words(self.name))

    @property
    def is_log(self) -> bool:
        """Return whether the scale is logarithmic."""
        return self.scale.is_log

    @property
    def is_even(self) -> bool:
        """Return whether all cells have the same width on a linear scale."""
        widths = np.diff(self.edges)
        return not self.is_log and bool(np.allclose(widths, widths[0], rtol=1e-6))


def direction(axis: Axis, name: str, figure: str) -> Direction:
    """Return a coordinate of an axis as a direction of a map.

    Raises:
        PlateaumapError: A value occurs twice, so that two cells would coincide.
    """
    values, places = np.unique(axis.columns[name], return_inverse=True)
    if len(values) < axis.size or np.isnan(values).any():
        raise PlateaumapError(
            f"{figure}: {name} takes a value twice along its axis, so two cells would coincide; "
            "choose another axis"
        )
    scale = scale_of(values)
    centres = scale.drawn(scale.values)
    edges = np.exp(edges_between(np.log(centres))) if scale.is_log else edges_between(centres)
    return Direction(name, scale, edges, places[axis.places])


@dataclass(frozen=True)
class Stack:
    """A table as maps: one map for each loss and each row of panels.

    Attributes:
        lattice: the shape of the table.
        losses: the losses, in order.
        titles: the title of each row of panels.
        x: the direction to the right.
        y: the direction upward.
        rows: the row of the table of each cell, −1 for none, of shape (losses, titles, y, x).
    """

    lattice: Lattice
    losses: tuple[str, ...]
    titles: tuple[str, ...]
    x: Direction
    y: Direction
    rows: Integers

    @property
    def directions(self) -> tuple[Direction, Direction]:
        """Return both directions."""
        return self.x, self.y

    def take(self, values: NDArray) -> np.ma.MaskedArray:
        """Return the value of each cell, of the shape of `rows`, masked where there is no row."""
        return np.ma.MaskedArray(values[self.rows], mask=self.rows < 0)


MOST_ROWS = 24
"""The largest number of rows of panels in a figure; of more, evenly spread ones are drawn."""


def stack(
    lattice: Lattice,
    losses: Sequence[str],
    x: str | None,
    y: str | None,
    figure: str,
    most_rows: int = MOST_ROWS,
) -> Stack:
    """Return the table as maps over two coordinates; further axes become rows of panels.

    Args:
        lattice: the shape of the table.
        losses: the losses to draw.
        x: the coordinate to the right; by default w0 if it is on an axis, or else the largest axis.
        y: the coordinate upward; by default b0 if it is on an axis, or else the next largest axis.
        figure: the name of the figure, for messages.
        most_rows: the largest number of rows of panels.

    Raises:
        PlateaumapError: The table has no two such axes, or two of its rows share a cell.
    """
    across, up = _two_axes(lattice, x, y, figure)
    horizontal = direction(lattice.axis_of(across), across, figure)
    vertical = direction(lattice.axis_of(up), up, figure)
    places, titles = lattice.product([a for a in lattice.axes if not {across, up} & set(a.names)])
    shape = (len(losses), len(titles), len(vertical.centres), len(horizontal.centres))
    order = [losses.index(name) if name in losses else -1 for name in lattice.losses]
    loss_places = np.array(order)[lattice.loss_codes]
    selected = np.flatnonzero(loss_places >= 0)
    position = (loss_places, places, vertical.places, horizontal.places)
    cells = np.ravel_multi_index(tuple(along[selected] for along in position), shape)
    if len(cells) and np.bincount(cells).max() > 1:
        raise PlateaumapError(
            f"{figure}: several rows of the table belong to one cell of {across} and {up}; "
            "draw one sweep at a time"
        )
    rows = np.full(np.prod(shape), -1)
    rows[cells] = selected
    kept = np.arange(len(titles))
    if len(titles) > most_rows:
        kept = np.unique(np.linspace(0, len(titles) - 1, most_rows).round().astype(int))
    return Stack(
        lattice,
        tuple(losses),
        tuple(titles[row] for row in kept),
        horizontal,
        vertical,
        rows.reshape(shape)[:, kept],
    )


def _two_axes(lattice: Lattice, x: str | None, y: str | None, figure: str) -> tuple[str, str]:
    free = [axis for axis in lattice.axes if not {x, y} & set(axis.names)]
    names = [axis.names[0] for axis in sorted(free, key=lambda a: a.size, reverse=True)]
    names.sort(key=lambda name: ("w0", "b0").index(name) if name in ("w0", "b0") else 2)
    across = x if x is not None else (names.pop(0) if names else None)
    up = y if y is not None else (names.pop(0) if names else None)
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
