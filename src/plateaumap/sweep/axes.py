"""Axes and the grid that they span.

An axis lists the values of one coordinate, or of several that vary together. Axes multiply in C
order: the first axis is the slowest. A grid stores only its axes and computes the coordinates of
a range of points from their row numbers, so that 10⁹ points need as little memory as ten.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from typing_extensions import override

from plateaumap.experiment.coordinates import Coordinate
from plateaumap.inputs.errors import SpecError
from plateaumap.inputs.validation import (
    MAX_VALUES,
    Count,
    FrozenDict,
    FrozenModel,
    Items,
    Real,
    Reals,
    Seed,
    Text,
    faults_of,
    refusals,
    show,
)

Int64 = NDArray[np.int64]
Column = NDArray[Any]
Location = tuple[str | int, ...]


class AxisModel(FrozenModel):
    """The interface of all axes. Build one by `linspace`, `values`, `points` and so on."""

    kind: str

    @classmethod
    @override
    def build(cls, **fields: Any) -> Self:
        """Return a validated axis.

        Raises:
            SpecError: a field is missing, unknown or invalid.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            kind = str(cls.model_fields["kind"].default)
            faults = faults_of(error, cls, KINDS)
        subject = f"the axis {kind}({show(fields['name'])}, ...)" if "name" in fields else kind
        raise SpecError(faults, subject)

    @classmethod
    def settings(cls) -> tuple[str, ...]:
        """Return the names of the fields that a user sets."""
        computed = {"kind", "values"} if issubclass(cls, _Generated) else {"kind"}
        return tuple(name for name in cls.model_fields if name not in computed)

    @property
    @abstractmethod
    def columns(self) -> dict[str, Column]:
        """Return the values of each coordinate, float64 or strings, of shape `(size,)`."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return the coordinates on this axis."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Return the number of positions."""

    @abstractmethod
    def location(self, name: str, index: int | None = None) -> Location:
        """Return where this axis names a coordinate, or lists its value at `index`."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, including the values, as JSON and TOML hold them."""
        fields = self.model_dump(mode="json")
        return {key: fields[key] for key in dict.fromkeys(("kind", *self.settings(), "values"))}

    @override
    def __str__(self) -> str:
        return repr(self)


def _column(values: Sequence[float] | Sequence[str]) -> Column:
    return np.array(values, dtype=np.float64 if isinstance(values[0], float) else np.str_)


class _OneName(AxisModel):
    name: Text
    values: Items | None = None

    @property
    @override
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    @override
    def size(self) -> int:
        return len(self.values or ())

    @property
    @override
    def columns(self) -> dict[str, Column]:
        assert self.values is not None  # required, or filled in by a validator
        return {self.name: _column(self.values)}

    @override
    def location(self, name: str, index: int | None = None) -> Location:
        return ("name",) if index is None else ()


class Values(_OneName):
    """The listed values of one coordinate: numbers, or strings for a coordinate with choices."""

    kind: Literal["values"] = "values"
    values: Items

    @override
    def location(self, name: str, index: int | None = None) -> Location:
        return ("name",) if index is None else ("values", index)

    @override
    def __repr__(self) -> str:
        return f"values({self.name!r}, {show(list(self.values))}: {self.size:,})"


Num = Annotated[Count, Field(le=MAX_VALUES)]
"""The number of values on an axis."""


class _Generated(_OneName):
    """Values computed once and then stored, so that a specification needs no library's version."""

    values: Reals | None = None

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        anew = {"values": None} if update else {}
        return super().model_copy(update={**anew, **(update or {})}, deep=deep)

    @abstractmethod
    def _generate(self) -> NDArray[np.float64]:
        """Return the values of the settings."""

    def _why_not(self, values: Sequence[float]) -> str | None:
        """Return why stored values cannot result from the settings, or None."""
        return None

    @field_validator("stop", "high", mode="after", check_fields=False)
    @classmethod
    def _require_increasing(cls, upper: float, info: ValidationInfo) -> float:
        end, begin = info.field_name, {"stop": "start", "high": "low"}[str(info.field_name)]
        lower = info.data.get(begin)
        if lower is not None and lower >= upper:
            raise ValueError(
                f"{begin} = {lower!r} is not below {end} = {upper!r}; must be {begin} < {end} "
                "(for one value or decreasing values, use a `values` axis)"
            )
        return upper

    @model_validator(mode="after")
    def _fill_values(self) -> Self:
        if self.values is None:
            with np.errstate(all="ignore"):
                generated = self._generate()
            if not np.isfinite(generated).all():
                raise ValueError(f"the {self.kind} overflows float64; use settings closer to zero")
            object.__setattr__(self, "values", tuple(generated.tolist()))
            return self
        num, length = getattr(self, "num"), len(self.values)  # noqa: B009
        reason: str | None = f"{length} values are stored but num is {num}"
        if length == num:
            reason = self._why_not(self.values)
        if reason:
            message = f"{reason}; omit `values` to have them computed"
            raise refusals([(("values",), message)], list(self.values))
        return self

    @override
    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(repr(getattr(self, key)) for key in self.settings())})"


class _Span(_Generated):
    start: Real
    stop: Real
    num: Num

    @override
    def _why_not(self, values: Sequence[float]) -> str | None:
        if values[0] != self.start:
            return f"the first stored value is {values[0]!r} but start is {self.start!r}"
        if self.num > 1 and values[-1] != self.stop:
            return f"the last stored value is {values[-1]!r} but stop is {self.stop!r}"
        return None


class Linspace(_Span):
    """`num` evenly spaced values, both ends included."""

    kind: Literal["linspace"] = "linspace"

    @override
    def _generate(self) -> NDArray[np.float64]:
        return np.linspace(self.start, self.stop, self.num, dtype=np.float64)


class Geomspace(_Span):
    """`num` values with a constant ratio, both ends included and of the same sign."""

    kind: Literal["geomspace"] = "geomspace"

    @field_validator("start", "stop", mode="after")
    @classmethod
    def _require_one_sign(cls, end: float, info: ValidationInfo) -> float:
        start = info.data.get("start", end)
        if end == 0 or start < 0 < end:
            raise ValueError(
                f"a geomspace from {start!r} to {end!r} contains 0; start and stop must have the "
                "same sign and must not be 0 (or use linspace)"
            )
        return end

    @override
    def _generate(self) -> NDArray[np.float64]:
        return np.geomspace(self.start, self.stop, self.num, dtype=np.float64)


class Normal(_Generated):
    """`num` draws from a normal distribution, by PCG64 from `seed`."""

    kind: Literal["normal"] = "normal"
    mean: Real
    sd: Annotated[Real, Field(gt=0)]
    num: Num
    seed: Seed

    @override
    def _generate(self) -> NDArray[np.float64]:
        draws = np.random.Generator(np.random.PCG64(self.seed)).standard_normal(self.num)
        return self.mean + self.sd * draws


class Uniform(_Generated):
    """`num` draws from the uniform distribution on [low, high), by PCG64 from `seed`."""

    kind: Literal["uniform"] = "uniform"
    low: Real
    high: Real
    num: Num
    seed: Seed

    @override
    def _why_not(self, values: Sequence[float]) -> str | None:
        outside = [value for value in values if not self.low <= value <= self.high]
        return f"the stored value {outside[0]!r} is outside [low, high]" if outside else None

    @override
    def _generate(self) -> NDArray[np.float64]:
        draws = np.random.Generator(np.random.PCG64(self.seed)).random(self.num)
        # Not low + (high − low) u, whose difference can overflow.
        return np.clip((1 - draws) * self.low + draws * self.high, self.low, self.high)


class Points(AxisModel):
    """Values of several coordinates that vary together: one position per point."""

    kind: Literal["points"] = "points"
    values: dict[Text, Items]

    @field_validator("values", mode="after")
    @classmethod
    def _require_one_length(cls, values: dict[str, Any]) -> dict[str, Any]:
        _require_equal([(name, len(column)) for name, column in values.items()], "coordinate")
        return FrozenDict(values)

    @property
    @override
    def names(self) -> tuple[str, ...]:
        return tuple(self.values)

    @property
    @override
    def size(self) -> int:
        return len(next(iter(self.values.values())))

    @property
    @override
    def columns(self) -> dict[str, Column]:
        return {name: _column(values) for name, values in self.values.items()}

    @override
    def location(self, name: str, index: int | None = None) -> Location:
        return ("values", name) if index is None else ("values", name, index)

    @override
    def __hash__(self) -> int:
        return hash(tuple(self.values.items()))

    @override
    def __repr__(self) -> str:
        return f"points({', '.join(self.names)}: {self.size:,})"


def _require_equal(lengths: Sequence[tuple[str, int]], kind: str) -> None:
    if not lengths:
        raise ValueError(f"no {kind} is given; must have at least one")
    if len({length for _, length in lengths}) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths)
        raise ValueError(f"the lengths differ ({listed}); must all be the same number of values")


class Zip(AxisModel):
    """Axes of one length that vary together; they may be zips, too."""

    kind: Literal["zip"] = "zip"
    axes: tuple["Axis", ...]

    @field_validator("axes", mode="after")
    @classmethod
    def _require_one_length(cls, axes: tuple["Axis", ...]) -> tuple["Axis", ...]:
        _require_equal([("/".join(axis.names), axis.size) for axis in axes], "axis")
        return axes

    @property
    @override
    def names(self) -> tuple[str, ...]:
        return tuple(name for axis in self.axes for name in axis.names)

    @property
    @override
    def size(self) -> int:
        return self.axes[0].size

    @property
    @override
    def columns(self) -> dict[str, Column]:
        return {name: column for axis in self.axes for name, column in axis.columns.items()}

    @override
    def location(self, name: str, index: int | None = None) -> Location:
        place = next(place for place, axis in enumerate(self.axes) if name in axis.names)
        return ("axes", place, *self.axes[place].location(name, index))

    @override
    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "axes": [axis.to_dict() for axis in self.axes]}

    @override
    def __repr__(self) -> str:
        return f"zip({', '.join(map(repr, self.axes))})"


Axis = Annotated[
    Linspace | Geomspace | Values | Points | Zip | Normal | Uniform, Field(discriminator="kind")
]
Zip.model_rebuild()

KINDS: dict[str, type[AxisModel]] = {
    str(model.model_fields["kind"].default): model
    for model in (Linspace, Geomspace, Values, Points, Zip, Normal, Uniform)
}
"""The axes by their names in specification files."""


def linspace(name: str, start: float, stop: float, num: int) -> Linspace:
    """Return an axis of `num` evenly spaced values from `start` to `stop`, both included.

    Raises:
        SpecError: start and stop are not finite numbers with start < stop, or num is not a whole
            number of at least 1.

    Example:
        >>> import plateaumap as pm
        >>> pm.linspace("w0", 0, 1, 3).values
        (0.0, 0.5, 1.0)
    """
    return Linspace.build(name=name, start=start, stop=stop, num=num)


def geomspace(name: str, start: float, stop: float, num: int) -> Geomspace:
    """Return an axis of `num` values with a constant ratio from `start` to `stop`, both included.

    Raises:
        SpecError: start and stop do not have the same sign or not start < stop, or num is not a
            whole number of at least 1.

    Example:
        >>> import plateaumap as pm
        >>> pm.geomspace("lr", 0.5, 2, 3).values
        (0.5, 1.0, 2.0)
    """
    return Geomspace.build(name=name, start=start, stop=stop, num=num)


def values(name: str, values: Iterable[float] | Iterable[str]) -> Values:
    """Return an axis of the given numbers or strings, in the given order.

    Raises:
        SpecError: `values` is not a list of finite numbers or of strings, or is empty.

    Example:
        >>> import plateaumap as pm
        >>> pm.values("lr", [0.15, 0.005]).values
        (0.15, 0.005)
    """
    return Values.build(name=name, values=values)


def points(**columns: Iterable[float] | Iterable[str]) -> Points:
    """Return an axis of points, on which several coordinates vary together.

    Raises:
        SpecError: the columns are not lists of finite numbers or of strings, are empty, or differ
            in length.

    Example:
        The axis holds the points (w0, b0) = (0.6, 0.9) and (2, 2).

        >>> import plateaumap as pm
        >>> pm.points(w0=[0.6, 2], b0=[0.9, 2]).size
        2
    """
    return Points.build(values=columns)


def zip(*axes: AxisModel) -> Zip:
    """Return an axis on which the coordinates of all `axes` vary together.

    Raises:
        SpecError: the axes differ in size, or none is given.

    Example:
        >>> import plateaumap as pm
        >>> pm.zip(pm.linspace("w0", 0, 1, 5), pm.geomspace("lr", 0.1, 10, 5)).size
        5
    """
    return Zip.build(axes=axes)


def normal(name: str, mean: float, sd: float, num: int, seed: int) -> Normal:
    """Return an axis of `num` draws from a normal distribution; `seed` determines the values.

    Raises:
        SpecError: sd is not greater than 0, num is not a whole number of at least 1, or seed is
            not one of at least 0.

    Example:
        >>> import plateaumap as pm
        >>> pm.normal("w0", mean=0, sd=1, num=100, seed=0).size
        100
    """
    return Normal.build(name=name, mean=mean, sd=sd, num=num, seed=seed)


def uniform(name: str, low: float, high: float, num: int, seed: int) -> Uniform:
    """Return an axis of `num` draws from [low, high); `seed` determines the values.

    Raises:
        SpecError: low is not below high, num is not a whole number of at least 1, or seed is not
            one of at least 0.

    Example:
        >>> import plateaumap as pm
        >>> pm.uniform("b0", low=-1, high=1, num=100, seed=0).size
        100
    """
    return Uniform.build(name=name, low=low, high=high, num=num, seed=seed)


class Grid:
    """All combinations of the positions of some axes, in C order: the first axis is the slowest.

    Attributes:
        axes: the axes.
        fixed: the value of each coordinate that is on no axis.
        constants: the same values as arrays of shape () and of the coordinate's dtype.
        names: all coordinates, in the order of the experiment.
        shape: the axes' sizes.
        size: the number of points, a Python integer that may exceed 64 bits.
    """

    def __init__(
        self,
        axes: Sequence[AxisModel],
        fixed: Mapping[str, float | str],
        coordinates: Sequence[Coordinate],
    ) -> None:
        """Store the parts of a valid `Sweep`: each coordinate is on one axis or in `fixed`."""
        self.axes = tuple(axes)
        self.fixed = FrozenDict(fixed)
        self.names = tuple(coordinate.name for coordinate in coordinates)
        self.shape = tuple(axis.size for axis in self.axes)
        self.size = math.prod(self.shape)
        by_name = {coordinate.name: coordinate for coordinate in coordinates}
        held = {
            name: (place, by_name[name].stored(column))
            for place, axis in enumerate(self.axes)
            for name, column in axis.columns.items()
        }
        self._columns = {name: column for name, (_, column) in held.items()}
        self.constants = {name: by_name[name].stored(self.fixed[name]) for name in self.fixed}
        self._places = {name: held[name][0] for name in self.names if name in held}
        self._strides = [math.prod(self.shape[place + 1 :]) for place in range(len(self.shape))]

    @override
    def __repr__(self) -> str:
        return f"Grid({' x '.join(map(str, self.shape)) or '1'}: {self.size:,} points)"

    @property
    def index_names(self) -> tuple[str, ...]:
        """Return the names of the index columns, in the order of the experiment."""
        return tuple(f"{name}_index" for name in self._places)

    def indices(self, rows: ArrayLike) -> dict[str, Int64]:
        """Return positions on the axes.

        Args:
            rows: flat numbers of points, integers of any shape.

        Returns:
            The position of each coordinate that is on an axis, int64 of the shape of `rows`.

        Raises:
            IndexError: a row is less than 0 or greater than size − 1.
        """
        flat = self._checked(rows)
        on_axis = [(flat // self._strides[place]) % size for place, size in enumerate(self.shape)]
        return {name: on_axis[place] for name, place in self._places.items()}

    def index_columns(self, rows: ArrayLike) -> dict[str, NDArray[np.int32]]:
        """Return `indices` as the table holds them: int32, with the keys `<name>_index`."""
        return {
            f"{name}_index": index.astype(np.int32) for name, index in self.indices(rows).items()
        }

    def columns_of(self, axis: AxisModel) -> dict[str, Column]:
        """Return the values on an axis, in the dtype of each coordinate."""
        return {name: self._columns[name] for name in axis.names}

    def coordinates_at(self, rows: ArrayLike) -> dict[str, Column]:
        """Return all coordinates of some points, in the order of the experiment.

        Args:
            rows: flat numbers of points, integers of any shape.

        Returns:
            The values of each coordinate, of the shape of `rows` and of the coordinate's dtype:
            float64, int64 for whole numbers, and for strings their indices in the choices.

        Raises:
            IndexError: a row is less than 0 or greater than size − 1.
        """
        indices = self.indices(rows)
        shape = np.shape(rows)
        return {
            name: (
                self._columns[name][indices[name]]
                if name in indices
                else np.full(shape, self.constants[name])
            )
            for name in self.names
        }

    def coordinates(self, start: int, stop: int) -> dict[str, Column]:
        """Return all coordinates of the points from `start` to `stop` − 1."""
        return self.coordinates_at(np.arange(start, stop, dtype=np.int64))

    def _checked(self, rows: ArrayLike) -> Int64:
        flat = np.asarray(rows)
        if flat.size == 0:
            return flat.astype(np.int64)
        if flat.dtype.kind not in "iu":
            raise IndexError(f"rows must be integers, not {flat.dtype}")
        low, high = int(flat.min()), int(flat.max())
        if low < 0 or high >= self.size:
            outside = low if low < 0 else high
            raise IndexError(
                f"row {outside} is outside the grid; must be from 0 to {self.size - 1}"
            )
        return flat.astype(np.int64)
