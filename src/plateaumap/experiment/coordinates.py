"""What a point consists of: numbers, whole numbers, and choices among a few values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.validation import as_item, show

LARGEST_INTEGER = 2**53 - 1
"""Axes hold float64, in which whole numbers beyond this run into each other."""

_MOST_CHOICES = 128
"""Categories are kept as int8."""

INDEX_SUFFIX = "_index"
"""Ends the names of the columns that hold positions on axes."""

Choice = str | int | float


@dataclass(frozen=True)
class Coordinate:
    """What an experiment tells about one of its coordinates.

    In a point, a number is a scalar of the sweep's precision, a whole number (`integer`) one of
    int64. Of a coordinate with `choices` a point holds the very value that was listed, a plain
    string or number and not a traced one, so that it can decide about code and shapes: an
    activation, an optimizer, a width. Each choice is compiled for itself.

    Attributes:
        name: as in axes, in `fixed` and in the table.
        meaning: in words, for messages and legends.
        default: the value taken where none is given; None: it must be given.
        minimum: the smallest value allowed, may be -inf.
        maximum: the largest value allowed, may be inf.
        minimum_excluded: whether `minimum` itself is refused.
        integer: whether values are whole numbers, such as seeds; up to 2⁵³ − 1 in size.
        choices: all values that it can have, strings or numbers; empty for a number in a range.

    Raises:
        PlateaumapError: the choices are not all strings or all numbers, or too many, or go with
            a range.
    """

    name: str
    meaning: str = ""
    default: Choice | None = None
    minimum: float = -math.inf
    maximum: float = math.inf
    minimum_excluded: bool = False
    integer: bool = False
    choices: tuple[Choice, ...] = ()

    def __post_init__(self) -> None:
        """Refuse choices that no axis can hold."""
        choices = tuple(self.choices)
        object.__setattr__(self, "choices", choices)
        if not choices:
            return
        kinds = {str if isinstance(choice, str) else _number_kind(choice) for choice in choices}
        if kinds - {str, float} or len(kinds) > 1 or len(set(choices)) < len(choices):
            raise PlateaumapError(
                f"the choices of {self.name!r} are {show(choices)}; give different strings, or "
                "different numbers"
            )
        if len(choices) > _MOST_CHOICES:
            raise PlateaumapError(
                f"{self.name!r} has {len(choices)} choices; give at most {_MOST_CHOICES}, since "
                "each is compiled for itself"
            )
        if self.integer or (self.minimum, self.maximum) != (-math.inf, math.inf):
            raise PlateaumapError(f"{self.name!r} has choices; leave `integer` and its range away")

    @property
    def why_not(self) -> str | None:
        """What is wrong with its name, its range or its default, or None."""
        reason = why_not_column_name(self.name)
        if reason:
            return reason
        if not self.choices and not self.minimum <= self.maximum:
            return f"{self.name!r}: no value is {self.range}; give minimum <= maximum"
        if self.default is None:
            return None
        try:
            fits = bool(self.allows(as_item(self.default)))
        except ValueError:
            return f"{self.name!r}: default = {show(self.default)}: must be a number or a string"
        if fits:
            return None
        return (
            f"{self.name!r}: default = {self.default!r} is not allowed by its own range "
            f"({self.range}); give another one, or none"
        )

    @property
    def is_text(self) -> bool:
        """Whether its values are strings."""
        return bool(self.choices) and isinstance(self.choices[0], str)

    @property
    def dtype(self) -> type[np.generic]:
        """What holds its values in a grid; of strings the positions in `choices`."""
        if self.is_text:
            return np.int8
        whole = all(isinstance(choice, int) for choice in self.choices)
        return np.int64 if self.integer or (self.choices and whole) else np.float64

    def allows(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which of `values` it can have; the shape is kept."""
        array = np.asarray(values)
        if self.choices:
            return np.isin(array, np.array(self.choices)) & (
                (array.dtype.kind in "US") == self.is_text
            )
        if array.dtype.kind in "US":
            return np.zeros(array.shape, np.bool_)
        above = array > self.minimum if self.minimum_excluded else array >= self.minimum
        allowed = above & (array <= self.maximum)
        if self.integer:
            allowed &= (np.floor(array) == array) & (np.abs(array) <= LARGEST_INTEGER)
        return allowed

    def stored(self, values: ArrayLike) -> NDArray[Any]:
        """Allowed values, as a grid holds them: of `dtype`."""
        array = np.asarray(values)
        if self.is_text:
            places = {choice: place for place, choice in enumerate(self.choices)}
            codes = [places[str(value)] for value in array.ravel()]
            return np.array(codes, np.int8).reshape(array.shape)
        return array.astype(self.dtype)

    def plain(self, stored: Any) -> Choice:
        """A stored value as a plain one: what was listed, for a coordinate with choices."""
        if self.is_text:
            return self.choices[int(stored)]
        number = self.dtype(stored).item()
        return next((choice for choice in self.choices if choice == number), number)

    def given(self, value: Choice) -> Choice:
        """An allowed value as a plain one: a whole number as int."""
        return self.plain(self.stored(value))

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Stored values as those that were given: of strings, an array of them."""
        return np.array(self.choices)[stored] if self.is_text else stored

    @property
    def range(self) -> str:
        """What it can be, in words, such as `greater than 0`."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        low = "greater than" if self.minimum_excluded else "at least"
        bounds = [f"{low} {self.minimum:g}"] if math.isfinite(self.minimum) else []
        bounds += [f"at most {self.maximum:g}"] if math.isfinite(self.maximum) else []
        if self.integer:
            bounds = ["whole numbers", *(bounds or ["at most 2**53 - 1 in size"])]
        return " and ".join(bounds) or "any finite number"


def static(coordinates: Sequence[Coordinate]) -> tuple[Coordinate, ...]:
    """Those coordinates whose values are compiled in."""
    return tuple(coordinate for coordinate in coordinates if coordinate.choices)


def why_not_column_name(name: object) -> str | None:
    """Return why neither a coordinate nor a measure can have a name, or None."""
    if not isinstance(name, str) or not name.strip():
        return f"{show(name)} is no name of a column; give a non-empty string"
    if name.endswith(INDEX_SUFFIX):
        return (
            f"{name!r} ends in {INDEX_SUFFIX}, as the columns of positions on axes do; "
            "choose another name"
        )
    return None


def _number_kind(value: object) -> type:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float if real and math.isfinite(float(value)) else object  # type: ignore[arg-type]
