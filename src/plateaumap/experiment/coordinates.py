"""The coordinates of a point: numbers, whole numbers, and choices among a few values."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.validation import as_item, show

LARGEST_INTEGER = 2**53 - 1
"""The largest whole number on an axis: float64 does not hold all larger ones."""

_MAX_CHOICES = 128
"""The largest number of choices: categories are stored as int8."""

INDEX_SUFFIX = "_index"
"""The end of the names of columns that hold positions on axes."""

Choice = str | int | float


@dataclass(frozen=True)
class Coordinate:
    """A coordinate of the points of an experiment.

    In a point, a number is a scalar of the sweep's precision, and a whole number (`integer`) is an
    int64 scalar. The value of a coordinate with `choices` is a plain string or number, which is
    not traced, so that it can select code and shapes: an activation, an optimizer, a width. Each
    combination of choices is compiled separately.

    Attributes:
        name: the name on axes, in `fixed` and in the table.
        meaning: the meaning in words, for messages and legends.
        default: the value where none is given; None if a value is required.
        minimum: the smallest allowed value, may be -inf.
        maximum: the largest allowed value, may be inf.
        minimum_excluded: whether `minimum` itself is refused.
        integer: whether values are whole numbers, such as seeds; up to 2⁵³ − 1 in magnitude.
        choices: all allowed values, strings or numbers; empty for a number in a range.

    Raises:
        PlateaumapError: the choices are neither all strings nor all numbers, or are too many, or
            are combined with a range.

    Example:
        >>> import plateaumap as pm
        >>> rate = pm.Coordinate("lr", "learning rate", minimum=0, minimum_excluded=True)
        >>> rate.range
        'greater than 0'
        >>> pm.Coordinate("width", choices=(8, 64)).range
        'one of 8, 64'
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
                f"the choices of {self.name!r} are {show(choices)}; must be different strings, or "
                "different numbers"
            )
        if len(choices) > _MAX_CHOICES:
            raise PlateaumapError(
                f"{self.name!r} has {len(choices)} choices; must have at most {_MAX_CHOICES}, "
                "since each is compiled separately"
            )
        if self.integer or (self.minimum, self.maximum) != (-math.inf, math.inf):
            raise PlateaumapError(f"{self.name!r} has choices; omit `integer` and the range")

    @property
    def why_not(self) -> str | None:
        """Return why name, range or default are invalid, or None."""
        reason = why_not_column_name(self.name)
        if reason:
            return reason
        if not self.choices and not self.minimum <= self.maximum:
            return f"{self.name!r}: no value is {self.range}; must be minimum <= maximum"
        if self.default is None:
            return None
        try:
            fits = bool(self.allows(as_item(self.default)))
        except ValueError:
            fits = False
        if fits:
            return None
        return f"{self.name!r}: default = {show(self.default)}: must be {self.range}"

    @property
    def is_text(self) -> bool:
        """Return whether the values are strings."""
        return bool(self.choices) and isinstance(self.choices[0], str)

    @property
    def dtype(self) -> type[np.generic]:
        """Return the dtype of the values in a grid; strings are stored as indices of `choices`."""
        if self.is_text:
            return np.int8
        whole = all(isinstance(choice, int) for choice in self.choices)
        return np.int64 if self.integer or (self.choices and whole) else np.float64

    def allows(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Return which of `values` are allowed, in the same shape."""
        array = np.asarray(values)
        is_text = array.dtype.kind in "US"
        if self.choices:
            return np.isin(array, np.array(self.choices)) & (is_text == self.is_text)
        if is_text:
            return np.zeros(array.shape, np.bool_)
        above = array > self.minimum if self.minimum_excluded else array >= self.minimum
        allowed = above & (array <= self.maximum)
        if self.integer:
            allowed &= (np.floor(array) == array) & (np.abs(array) <= LARGEST_INTEGER)
        return allowed

    def stored(self, values: ArrayLike) -> NDArray[Any]:
        """Return allowed values in `dtype`, as a grid holds them."""
        array = np.asarray(values)
        if not self.is_text:
            return array.astype(self.dtype)
        codes = [self.choices.index(str(value)) for value in array.ravel()]
        return np.array(codes, np.int8).reshape(array.shape)

    def plain(self, stored: Any) -> Choice:
        """Return a stored value as a Python object; of choices, the object that was listed."""
        if self.is_text:
            return self.choices[int(stored)]
        number = self.dtype(stored).item()
        return next((choice for choice in self.choices if choice == number), number)

    def given(self, value: Choice) -> Choice:
        """Return an allowed value as a Python object; a whole number as int."""
        return self.plain(self.stored(value))

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return stored values as users see them: strings instead of their indices."""
        return np.array(self.choices)[stored] if self.is_text else stored

    @property
    def range(self) -> str:
        """Return the allowed values in words, such as `greater than 0`."""
        if self.choices:
            return "one of " + ", ".join(map(repr, self.choices))
        low = "greater than" if self.minimum_excluded else "at least"
        bounds = [f"{low} {self.minimum:g}"] if math.isfinite(self.minimum) else []
        bounds += [f"at most {self.maximum:g}"] if math.isfinite(self.maximum) else []
        if self.integer:
            bounds = ["whole numbers", *(bounds or ["at most 2**53 - 1 in magnitude"])]
        return " and ".join(bounds) or "any finite number"


def why_not_column_name(name: object) -> str | None:
    """Return why a column cannot have a name, or None."""
    if not isinstance(name, str) or not name.strip():
        return f"{show(name)} is not the name of a column; must be a non-empty string"
    if name.endswith(INDEX_SUFFIX):
        return (
            f"{name!r} ends in {INDEX_SUFFIX}, as the columns of positions on axes do; "
            "choose another name"
        )
    return None


def _number_kind(value: object) -> type:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float if real and math.isfinite(float(value)) else object  # type: ignore[arg-type]
