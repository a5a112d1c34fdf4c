"""Types of validated input, frozen models, and pydantic's errors as faults.

Pydantic does not convert what could hide a mistake: a bool or a string is not a number, NaN and
infinity are not values. NumPy's scalars and arrays are accepted as numbers and lists.
"""

import contextlib
import copy
import math
import numbers
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from typing import Annotated, Any, ClassVar, NoReturn, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import override

from plateaumap.inputs.errors import Fault, PlateaumapError, advice

MAX_COUNT = 2**63 - 1
"""The largest count: counts are int64 in every table."""

MAX_VALUES = 10_000_000
"""The largest number of values on one axis, since a specification stores them."""

_MAX_FAULTS = 5
"""The number of faulty items of one list that are reported one by one."""


class FrozenDict(dict[str, Any]):
    """A dictionary that cannot be changed; `copy` returns one that can."""

    def _refuse(self, *arguments: object, **keywords: object) -> NoReturn:
        raise PlateaumapError(
            f"{show(dict(self))}: this part of a sweep cannot be changed; make a changed sweep by "
            "sweep.with_settings({...})"
        )

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)


class FrozenModel(BaseModel):
    """Data that cannot be changed and is validated whenever it is built, also as a copy."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    remedy: ClassVar[str] = "make a changed copy by model_copy(update={...})"

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse(f"{name} = {show(value)}")

    @override
    def __delattr__(self, name: str) -> None:
        self._refuse(f"del {name}")

    def _refuse(self, change: str) -> NoReturn:
        kind = type(self).__name__
        raise PlateaumapError(f"{change}: a {kind} is frozen and cannot be changed; {self.remedy}")

    @classmethod
    def build(cls, **fields: Any) -> Self:
        """Return a validated object with these fields."""
        return cls(**fields)

    @override
    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        """Iterate over names and values of the fields."""
        return ((name, getattr(self, name)) for name in type(self).model_fields)

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a validated copy with some fields changed."""
        fields = copy.deepcopy(dict(self)) if deep else dict(self)
        return self.build(**{**fields, **(update or {})})

    @override
    def copy(self, **options: Any) -> Self:
        """Return `model_copy(**options)`; this is pydantic's older name for it."""
        return self.model_copy(**options)

    @classmethod
    @override
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """Return a validated object, as the constructor does."""
        return cls.build(**values)

    @override
    def __copy__(self) -> Self:
        return self

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.build(**copy.deepcopy(dict(self), memo))

    @override
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[type[Self], dict[str, Any]]]:
        return _build, (type(self), dict(self))


def _build(model: type[FrozenModel], fields: Mapping[str, Any]) -> FrozenModel:
    return model.build(**fields)


def show(value: object) -> str:
    """Return a short `repr` of a value for messages."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


def refusals(faults: Iterable[tuple[tuple[str | int, ...], str]], value: object) -> ValidationError:
    """Return one exception for several faults of a `value`, given as locations and messages."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError(_OWN, "{message}", {"message": message}),
            loc=location,
            input=value,
        )
        for location, message in faults
    ]
    return ValidationError.from_exception_data(_OWN, details)


_OWN = "plateaumap"
"""The type of the errors of `refusals`."""


def _plain(value: Any) -> Any:
    """Return a number of NumPy, JAX or the module `numbers` as one of Python."""
    _require_unmasked(value)
    number = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        return number
    return int(number) if isinstance(number, numbers.Integral) else float(number)


def _real(value: Any) -> Any:
    number = _plain(value)
    try:
        return float(number) if type(number) is int else number
    except OverflowError:
        return math.inf


def _whole(value: Any) -> Any:
    number = _plain(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _require_unmasked(value: Any) -> None:
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            f"{' '.join(show(value).split())} is a masked array, and a masked value is not a "
            "number; pass the numbers themselves, such as array.compressed()"
        )


Text = Annotated[str, Field(strict=True, min_length=1)]
"""A string that is not empty."""

Real = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False),
    BeforeValidator(_real),
    AfterValidator(lambda real: real + 0.0),
]
"""A finite number; -0.0 becomes 0.0."""

Count = Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT), BeforeValidator(_whole)]
"""A whole number from 1 to 2⁶³ − 1; 1e5 is one."""

Seed = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT), BeforeValidator(_whole)]
"""A whole number from 0 to 2⁶³ − 1."""

_REAL: TypeAdapter[float] = TypeAdapter(Real)
_REALS: TypeAdapter[tuple[float, ...]] = TypeAdapter(tuple[Real, ...])


def as_item(value: Any) -> float | str:
    """Return a finite number as float, or a string that is not empty as it is.

    Raises:
        ValueError: the value is neither.
    """
    item = _plain(value)
    return item if isinstance(item, str) and item else _REAL.validate_python(item)


def _as_items(value: Any) -> tuple[float, ...] | tuple[str, ...]:
    _require_unmasked(value)
    values = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable):
        raise ValueError(
            f"{show(value)} is not a list; must be a list of numbers, such as [1.0, 2.0]"
        )
    items = list(values)
    if not items:
        raise ValueError("the list of values is empty; must have at least one number")
    if len(items) > MAX_VALUES:
        raise ValueError(f"{len(items):,} values are too many for one axis; at most {MAX_VALUES:,}")
    if all(isinstance(item, str) and item for item in items):
        return tuple(items)
    if {float, int}.issuperset(map(type, items)):
        # The same as below, and much faster.
        with contextlib.suppress(OverflowError):
            array = np.array(items, dtype=np.float64) + 0.0
            if np.isfinite(array).all():
                return tuple(array.tolist())
    return _REALS.validate_python(items)


Item = Annotated[float | str, BeforeValidator(as_item)]
"""A finite number, or a string: the value of a coordinate."""

Items = Annotated[tuple[float, ...] | tuple[str, ...], BeforeValidator(_as_items)]
"""A list of finite numbers, or of strings, that is not empty; also a one-dimensional array."""

Reals = Annotated[tuple[Annotated[float, Field(strict=True)], ...], BeforeValidator(_as_items)]
"""A list of finite numbers that is not empty."""


def faults_of(
    error: ValidationError,
    model: type[BaseModel] | None = None,
    tagged: Mapping[str, type[BaseModel]] | None = None,
) -> list[Fault]:
    """Return pydantic's errors as faults.

    Args:
        error: the exception raised by pydantic.
        model: the model that was validated.
        tagged: the members of a discriminated union by their tags, which pydantic puts into the
            locations of errors.
    """
    union = tagged or {}
    faults: list[Fault] = []
    more: Counter[str] = Counter()
    for detail in error.errors(include_url=False):
        if detail["type"] == "default_factory_not_called":
            continue  # the field on which the default depends is at fault
        *parents, last = _untagged(detail["loc"], union) or [""]
        siblings = path_of(parents)
        if isinstance(last, int) and detail["type"] != _OWN:
            more[siblings] += 1
            if more[siblings] > _MAX_FAULTS:
                continue
        faults.append(_fault(detail, union, model))
    return [
        *faults,
        *(
            Fault(path, f"{count - _MAX_FAULTS} more of these values are not valid")
            for path, count in more.items()
            if count > _MAX_FAULTS
        ),
    ]


def _fault(
    detail: Any, union: Mapping[str, type[BaseModel]], model: type[BaseModel] | None
) -> Fault:
    kind, location, value = detail["type"], detail["loc"], detail.get("input")
    path = path_of(_untagged(location, union))
    if kind in (_OWN, "value_error"):
        return Fault(path, detail["msg"].removeprefix("Value error, "))
    if kind == "missing":
        return Fault(path, "is missing; it must be given")
    if kind == "extra_forbidden":
        owner = next((union[part] for part in reversed(location[:-1]) if part in union), model)
        known = advice(location[-1], owner.model_fields if owner else ())
        return Fault(path, f"unknown key; {known}", show(value))
    if kind == "union_tag_invalid":
        tag = detail["ctx"]["tag"]
        return Fault(path, f"{tag!r} is not a kind of axis; {advice(tag, sorted(union))}")
    if location and location[-1] == "[key]":
        path, message = path_of(location[:-2]), f"the key {show(value)} is not a name"
        return Fault(path, f"{message}; use strings as keys, such as 'w0'")
    if kind == "literal_error":
        options = re.findall("'([^']*)'", detail["ctx"]["expected"])
        return Fault(path, f"unknown; {advice(value, options)}", show(value))
    message = _MESSAGES.get(kind, detail["msg"]).format(**detail.get("ctx", {}))
    text = isinstance(value, str) and kind in ("float_type", "int_type")
    return Fault(path, message + ", written without quotes" * text, show(value))


_MESSAGES = {
    "union_tag_not_found": "an axis must have a kind: add one, such as kind = 'linspace'",
    "model_attributes_type": "not an axis; write one as linspace(...) or {{kind = ..., ...}}",
    "float_type": "must be a finite number",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le:,}",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "tuple_type": "must be a list",
    "dict_type": "must be a table of names and values, such as {{NAME: value}}",
}
"""Messages by pydantic's types of errors."""


def path_of(location: Sequence[str | int]) -> str:
    """Return a location as users write it: `("axes", 0, "num")` is `axes[0].num`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def _untagged(location: Sequence[str | int], tags: Container[Any]) -> list[str | int]:
    return [
        part
        for index, part in enumerate(location)
        if not (index and part in tags and isinstance(location[index - 1], int))
    ]
