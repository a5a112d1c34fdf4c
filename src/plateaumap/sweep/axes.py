"""Axes and the grid they span: flat row numbers to coordinates, by index arithmetic.

An axis lists the values of one coordinate, or of several that vary together. Axes multiply, in C
order: the first one is the slowest. A grid stores nothing but its axes, so that 10⁹ points cost
as little as ten until a slice of them is asked for.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import (
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
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
    as_list,
    as_mapping,
    faults_of,
    refusal,
    refusals,
    show,
)

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Column = NDArray[Any]


class AxisModel(FrozenModel):
    """What every axis can do. Build one by `linspace`, `values`, `points` and their like."""

    kind: str
    settings: ClassVar[tuple[str, ...]]
    """The fields that a user gives; `values`, where not among them, follows from them."""

    @classmethod
    @override
    def made(cls, **fields: Any) -> Self:
        return _build(cls, **fields)

    @property
    def names(self) -> tuple[str, ...]:
        """The coordinates on this axis."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """The number of positions."""
        raise NotImplementedError

    @property
    def columns(self) -> dict[str, Column]:
        """For each coordinate its values, float64 or strings, of shape `(size,)`."""
        raise NotImplementedError

    def location(self, name: str, index: int) -> tuple[str | int, ...]:
        """Where in the spec of this axis the value of `name` at `index` was given."""
        raise NotImplementedError

    def name_location(self, name: str) -> tuple[str | int, ...]:
        """Where in the spec of this axis its coordinate `name` was named."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """All fields in the words of JSON and TOML, the values included."""
        fields = self.model_dump(mode="json")
        return {key: fields[key] for key in dict.fromkeys(("kind", *self.settings, "values"))}

    @override
    def __str__(self) -> str:
        return repr(self)


def _as_name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise refusal(f"{show(value)} is not the name of a coordinate; give one, such as 'w0'")
    return value


Name = Annotated[str, BeforeValidator(_as_name)]


def _column(values: Sequence[float] | Sequence[str]) -> Column:
    return np.array(values, dtype=np.float64 if isinstance(values[0], float) else np.str_)


class _OneName(AxisModel):
    name: Name

    @property
    @override
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    @override
    def size(self) -> int:
        return len(self._stored)

    @property
    @override
    def columns(self) -> dict[str, Column]:
        return {self.name: _column(self._stored)}

    @override
    def name_location(self, name: str) -> tuple[str | int, ...]:
        return ("name",)

    @property
    def _stored(self) -> tuple[float, ...] | tuple[str, ...]:
        raise NotImplementedError


class Values(_OneName):
    """The values of one coordinate, listed: numbers, or strings for one with choices."""

    kind: Literal["values"] = "values"
    settings = ("name", "values")
    values: Items

    @property
    def _stored(self) -> tuple[float, ...] | tuple[str, ...]:
        return self.values

    @override
    def location(self, name: str, index: int) -> tuple[str | int, ...]:
        return ("values", index)

    @override
    def __repr__(self) -> str:
        return f"values({self.name!r}, {show(list(self.values))}: {self.size:,})"


class _Generated(_OneName):
    """Values made from a recipe once, then kept: a spec does not hang on a library's version."""

    num: Count
    values: Reals | None = None

    @property
    def _stored(self) -> tuple[float, ...]:
        assert self.values is not None  # the validator below fills them in
        return self.values

    @override
    def location(self, name: str, index: int) -> tuple[str | int, ...]:
        return ()

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        anew = {"values": None} if update else {}
        return super().model_copy(update={**anew, **(update or {})}, deep=deep)

    def _generate(self) -> Float64:
        raise NotImplementedError

    def _misfit(self, values: Sequence[float]) -> str | None:
        """Why stored values cannot come from the recipe, as far as that is certain."""
        raise NotImplementedError

    @field_validator("num", mode="after")
    @classmethod
    def _num_is_storable(cls, num: int) -> int:
        if num > MAX_VALUES:
            raise refusal(f"{num:,} values are too many for one axis; at most {MAX_VALUES:,}")
        return num

    @model_validator(mode="after")
    def _fill_values(self) -> Self:
        if self.values is not None:
            self._check_stored(self.values)
            return self
        with np.errstate(all="ignore"):
            made = self._generate()
        if not np.isfinite(made).all():
            raise refusal(f"the {self.kind} overflows float64; choose settings closer to zero")
        object.__setattr__(self, "values", tuple(made.tolist()))
        return self

    def _check_stored(self, values: tuple[float, ...]) -> None:
        remedy = "leave `values` out to have them made anew"
        if len(values) != self.num:
            misfit: str | None = f"{len(values)} values are stored but num is {self.num}"
        else:
            misfit = self._misfit(values)
        if misfit:
            raise refusals([(("values",), f"{misfit}; {remedy}")], list(values))

    @override
    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(repr(getattr(self, key)) for key in self.settings)})"


class _Span(_Generated):
    settings = ("name", "start", "stop", "num")
    start: Real
    stop: Real

    @field_validator("stop", mode="after")
    @classmethod
    def _stop_is_above_start(cls, stop: float, info: ValidationInfo) -> float:
        start = info.data.get("start")
        if start is not None and start >= stop:
            raise refusal(
                f"start = {start!r} is not below stop = {stop!r}; give start < stop, "
                "or a `values` axis for a single or a descending list of values"
            )
        return stop

    def _misfit(self, values: Sequence[float]) -> str | None:
        if values[0] != self.start:
            return f"the first stored value is {values[0]!r} but start is {self.start!r}"
        if self.num > 1 and values[-1] != self.stop:
            return f"the last stored value is {values[-1]!r} but stop is {self.stop!r}"
        return None


class Linspace(_Span):
    """`num` evenly spaced values, both ends included."""

    kind: Literal["linspace"] = "linspace"

    def _generate(self) -> Float64:
        return np.linspace(self.start, self.stop, self.num, dtype=np.float64)


class Geomspace(_Span):
    """`num` values of one common ratio, both ends included; both of one sign."""

    kind: Literal["geomspace"] = "geomspace"

    @field_validator("start", "stop", mode="after")
    @classmethod
    def _end_is_not_zero(cls, end: float) -> float:
        if end == 0:
            raise refusal(f"{end!r}: a geomspace cannot touch 0; give an end of one sign")
        return end

    @field_validator("stop", mode="after")
    @classmethod
    def _ends_have_one_sign(cls, stop: float, info: ValidationInfo) -> float:
        start = info.data.get("start")
        if start is not None and start < 0 < stop:
            raise refusal(
                f"a geomspace from {start!r} to {stop!r} crosses 0; give both ends one sign, "
                "or use linspace"
            )
        return stop

    def _generate(self) -> Float64:
        return np.geomspace(self.start, self.stop, self.num, dtype=np.float64)


class Normal(_Generated):
    """`num` draws from a normal distribution, by PCG64 from `seed`."""

    kind: Literal["normal"] = "normal"
    settings = ("name", "mean", "sd", "num", "seed")
    mean: Real
    sd: Real
    seed: Seed

    @field_validator("sd", mode="after")
    @classmethod
    def _sd_is_positive(cls, sd: float) -> float:
        if sd <= 0:
            raise refusal(f"{sd!r} is no standard deviation; give one greater than 0")
        return sd

    def _generate(self) -> Float64:
        draws = np.random.Generator(np.random.PCG64(self.seed)).standard_normal(self.num)
        return self.mean + self.sd * draws

    def _misfit(self, values: Sequence[float]) -> str | None:
        return None


class Uniform(_Generated):
    """`num` draws from the uniform distribution on [low, high), by PCG64 from `seed`."""

    kind: Literal["uniform"] = "uniform"
    settings = ("name", "low", "high", "num", "seed")
    low: Real
    high: Real
    seed: Seed

    @field_validator("high", mode="after")
    @classmethod
    def _high_is_above_low(cls, high: float, info: ValidationInfo) -> float:
        low = info.data.get("low")
        if low is not None and low >= high:
            raise refusal(f"low = {low!r} is not below high = {high!r}; give low < high")
        return high

    def _generate(self) -> Float64:
        draws = np.random.Generator(np.random.PCG64(self.seed)).random(self.num)
        # Not low + (high − low) u, whose difference can overflow.
        return np.clip((1 - draws) * self.low + draws * self.high, self.low, self.high)

    def _misfit(self, values: Sequence[float]) -> str | None:
        stray = next((value for value in values if not self.low <= value <= self.high), None)
        return None if stray is None else f"the stored value {stray!r} is outside [low, high]"


class Points(AxisModel):
    """Values of several coordinates that vary together: one position per point."""

    kind: Literal["points"] = "points"
    settings = ("values",)
    values: Annotated[dict[str, Items], BeforeValidator(as_mapping)]

    @field_validator("values", mode="after")
    @classmethod
    def _columns_match(cls, values: dict[str, Items]) -> dict[str, Items]:
        if not values:
            raise refusal("no coordinate is given; give at least one, such as w0=[1.0, 2.0]")
        lengths = {name: len(column) for name, column in values.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise refusal(f"the lists are ragged ({told}); give all the same number of values")
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
    def location(self, name: str, index: int) -> tuple[str | int, ...]:
        return ("values", name, index)

    @override
    def name_location(self, name: str) -> tuple[str | int, ...]:
        return ("values", name)

    @override
    def __hash__(self) -> int:
        return hash(tuple(self.values.items()))

    @override
    def __repr__(self) -> str:
        return f"points({', '.join(self.names)}: {self.size:,})"


class Zip(AxisModel):
    """Axes of one length that vary together; a zip of zips is one, too."""

    kind: Literal["zip"] = "zip"
    settings = ("axes",)
    axes: Annotated[tuple["Axis", ...], BeforeValidator(as_list("axes"))]

    @field_validator("axes", mode="after")
    @classmethod
    def _lengths_match(cls, axes: tuple["Axis", ...]) -> tuple["Axis", ...]:
        if not axes:
            raise refusal("no axis is given; give at least one")
        if len({axis.size for axis in axes}) > 1:
            told = ", ".join(f"{'/'.join(axis.names)} has {axis.size}" for axis in axes)
            raise refusal(f"the axes differ in length ({told}); give all the same number of values")
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
    def location(self, name: str, index: int) -> tuple[str | int, ...]:
        place = self._place(name)
        return ("axes", place, *self.axes[place].location(name, index))

    @override
    def name_location(self, name: str) -> tuple[str | int, ...]:
        place = self._place(name)
        return ("axes", place, *self.axes[place].name_location(name))

    def _place(self, name: str) -> int:
        return next(place for place, axis in enumerate(self.axes) if name in axis.names)

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
"""The axes by the word that names them in a file."""


def linspace(name: str, start: float, stop: float, num: int) -> Linspace:
    """An axis of `num` evenly spaced values from `start` to `stop`, both included.

    Raises:
        SpecError: unless start < stop are finite numbers and num is a whole number ≥ 1.
    """
    return _build(Linspace, name=name, start=start, stop=stop, num=num)


def geomspace(name: str, start: float, stop: float, num: int) -> Geomspace:
    """An axis of `num` values of one common ratio from `start` to `stop`, both included.

    Raises:
        SpecError: unless start < stop have one sign and num is a whole number ≥ 1.
    """
    return _build(Geomspace, name=name, start=start, stop=stop, num=num)


def values(name: str, values: Iterable[float] | Iterable[str]) -> Values:
    """An axis of the given values, in the given order: numbers, or strings.

    Raises:
        SpecError: unless `values` is a non-empty list of finite numbers or of strings.
    """
    return _build(Values, name=name, values=values)


def points(**columns: Iterable[float] | Iterable[str]) -> Points:
    """An axis of points: `points(w0=[0.6, 2], b0=[0.9, 2])` holds (0.6, 0.9) and (2, 2).

    Raises:
        SpecError: unless all are non-empty lists of finite numbers, or of strings, and of one
            length.
    """
    return _build(Points, values=columns)


def zip(*axes: AxisModel) -> Zip:
    """An axis on which those of all `axes` vary together, position by position.

    Raises:
        SpecError: unless all have the same size.
    """
    return _build(Zip, axes=axes)


def normal(name: str, mean: float, sd: float, num: int, seed: int) -> Normal:
    """An axis of `num` draws from a normal distribution; the same `seed` gives the same values.

    Raises:
        SpecError: unless sd > 0, num is a whole number ≥ 1 and seed one ≥ 0.
    """
    return _build(Normal, name=name, mean=mean, sd=sd, num=num, seed=seed)


def uniform(name: str, low: float, high: float, num: int, seed: int) -> Uniform:
    """An axis of `num` draws from [low, high); the same `seed` gives the same values.

    Raises:
        SpecError: unless low < high, num is a whole number ≥ 1 and seed one ≥ 0.
    """
    return _build(Uniform, name=name, low=low, high=high, num=num, seed=seed)


class Grid:
    """Every combination of the positions of its axes, in C order: the first axis is the slowest.

    Attributes:
        axes: the axes.
        fixed: the value of each coordinate that is on no axis.
        constants: the same as they are stored, arrays of shape () and of the coordinate's dtype.
        names: all coordinates, in the experiment's order.
        shape: the axes' sizes.
        size: the number of points, a Python integer of any magnitude.
    """

    def __init__(
        self,
        axes: Sequence[AxisModel],
        fixed: Mapping[str, float | str],
        coordinates: Sequence[Coordinate],
    ) -> None:
        """Takes parts that a `Sweep` has checked: each coordinate on one axis or in `fixed`."""
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
        """The names of the index columns, in the experiment's order."""
        return tuple(f"{name}_index" for name in self._places)

    def indices(self, rows: ArrayLike) -> dict[str, Int64]:
        """Positions on the axes.

        Args:
            rows: flat numbers of points, integers of any shape.

        Returns:
            For each coordinate on an axis its position there, int64 of the shape of `rows`.

        Raises:
            IndexError: for a row outside 0 … size − 1.
        """
        flat = self._checked(rows)
        on_axis = [(flat // self._strides[place]) % size for place, size in enumerate(self.shape)]
        return {name: on_axis[place] for name, place in self._places.items()}

    def index_columns(self, rows: ArrayLike) -> dict[str, NDArray[np.int32]]:
        """`indices` as the table keeps them: int32, keyed `<name>_index`."""
        return {
            f"{name}_index": index.astype(np.int32) for name, index in self.indices(rows).items()
        }

    def columns_of(self, axis: AxisModel) -> dict[str, Column]:
        """The values on an axis as they are stored, of each coordinate's dtype."""
        return {name: self._columns[name] for name in axis.names}

    def coordinates_at(self, rows: ArrayLike) -> dict[str, Column]:
        """All coordinates of some points, in the experiment's order.

        Args:
            rows: flat numbers of points, integers of any shape.

        Returns:
            For each coordinate its values, of the shape of `rows` and of the coordinate's
            dtype: float64, int64 for whole numbers, for strings their places in the choices.

        Raises:
            IndexError: for a row outside 0 … size − 1.
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
        """All coordinates of the points `start` … `stop` − 1; see `coordinates_at`."""
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
            raise IndexError(f"row {outside} is outside the grid: give 0 to {self.size - 1}")
        return flat.astype(np.int64)


_Model = TypeVar("_Model", bound=AxisModel)


def _build(model: type[_Model], **settings: Any) -> _Model:
    try:
        return model(**settings)
    except ValidationError as error:
        kind = str(model.model_fields["kind"].default)
        faults = faults_of(error, axis_keys, KINDS)
    subject = f"the axis {kind}({show(settings['name'])}, ...)" if "name" in settings else kind
    raise SpecError(faults, subject)


def axis_keys(location: Sequence[str | int]) -> tuple[str, ...]:
    """The keys known where `location` ends, inside the axis of the kind it passes through."""
    kinds = [part for part in location if part in KINDS]
    return tuple(KINDS[str(kinds[-1])].model_fields) if kinds else ()
