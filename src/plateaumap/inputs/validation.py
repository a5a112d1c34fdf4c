"""What counts as a number, a list or a choice in a spec, and how a refusal is worded.

Nothing is converted that could hide a slip: a bool or a string is not a number, NaN and infinity
are not values. NumPy's scalars and arrays are taken wherever numbers and lists are.
"""

import copy
import math
import numbers
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Annotated, Any, ClassVar, NoReturn, Self

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import override

from plateaumap.inputs.errors import Fault, PlateaumapError, advice

MAX_COUNT = 2**63 - 1
"""Counts are int64 in every table."""

MAX_VALUES = 10_000_000
"""The values of an axis are stored in its spec, so one axis must stay small; axes multiply."""

_TOLD_VALUES = 5
"""So many bad values of one list are told one by one."""


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
    """Data that is validated whenever it is made, also as a copy, and cannot be changed then."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    remedy: ClassVar[str] = "make a changed copy by model_copy(update={...})"

    @override
    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self).__name__
        raise PlateaumapError(
            f"{name} = {show(value)}: a {kind} is frozen and cannot be changed; {self.remedy}"
        )

    @override
    def __delattr__(self, name: str) -> None:
        kind = type(self).__name__
        raise PlateaumapError(
            f"del {name}: a {kind} is frozen and cannot be changed; {self.remedy}"
        )

    @classmethod
    def made(cls, **fields: Any) -> Self:
        """An object of these fields, validated."""
        return cls(**fields)

    def given(self) -> dict[str, Any]:
        """The arguments that make this object."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    @override
    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        """The arguments that make this object, as pairs."""
        return iter(self.given().items())

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, validated like any other object, with some fields changed."""
        fields = copy.deepcopy(self.given()) if deep else self.given()
        return self.made(**{**fields, **(update or {})})

    @override
    def copy(self, **options: Any) -> Self:
        """The same as `model_copy`, pydantic's older name for it."""
        return self.model_copy(**options)

    @classmethod
    @override
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """The same as the constructor: nothing is made without being validated."""
        return cls.made(**values)

    @override
    def __copy__(self) -> Self:
        return self

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.made(**copy.deepcopy(self.given(), memo))

    @override
    def __reduce__(self) -> tuple[Callable[..., Self], tuple[type[Self], dict[str, Any]]]:
        return _made_anew, (type(self), self.given())


def _made_anew(model: type[FrozenModel], given: Mapping[str, Any]) -> Any:
    return model.made(**given)


def show(value: object) -> str:
    """A short `repr` for messages."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


def refusal(message: str) -> PydanticCustomError:
    """The exception by which a validator refuses a value."""
    return PydanticCustomError("plateaumap", "{message}", {"message": message})


def refusals(faults: Iterable[tuple[tuple[str | int, ...], str]], value: object) -> ValidationError:
    """Several refusals within one `value`, each at its own place."""
    details = [InitErrorDetails(type=refusal(text), loc=loc, input=value) for loc, text in faults]
    return ValidationError.from_exception_data("plateaumap", details)


def as_real(value: Any) -> float:
    """A finite real number as float; -0.0 becomes 0.0."""
    number = _unwrapped(value)
    if isinstance(number, str):
        raise refusal(f"{show(number)} is text, not a number; write the number without quotes")
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise refusal(f"{show(number)} is not a number; give a finite number")
    try:
        real = float(number)
    except OverflowError:
        real = math.inf
    if not math.isfinite(real):
        raise refusal(f"{show(number)} is not finite; give a finite number")
    return real + 0.0


def as_reals(value: Any) -> tuple[float, ...]:
    """A non-empty list (or one-dimensional array) of finite real numbers."""
    items = _items(value)
    if not items:
        raise refusal("the list of values is empty; give at least one number")
    if len(items) > MAX_VALUES:
        raise refusal(f"{len(items):,} values are too many for one axis; at most {MAX_VALUES:,}")
    if {float, int}.issuperset(map(type, items)):
        try:
            array = np.array(items, dtype=np.float64) + 0.0
        except OverflowError:
            array = np.array([math.inf])
        if np.isfinite(array).all():
            return tuple(array.tolist())
    return _reals_one_by_one(items)


def as_item(value: Any) -> float | str:
    """A finite real number, or a string that is not empty: the name of a choice."""
    item = _unwrapped(value)
    return item if isinstance(item, str) and item else as_real(item)


def as_items(value: Any) -> tuple[float, ...] | tuple[str, ...]:
    """A non-empty list (or one-dimensional array) of finite real numbers, or of strings."""
    items = _items(value)
    if items and len(items) <= MAX_VALUES and all(isinstance(item, str) and item for item in items):
        return tuple(items)
    return as_reals(items)


def as_count(value: Any, minimum: int = 1) -> int:
    """A whole number from `minimum` to 2⁶³ − 1; 1e5 is one, 2.5, True and "7" are not."""
    number = _unwrapped(value)
    if isinstance(number, str):
        raise refusal(f"{show(number)} is text; write the whole number without quotes")
    whole = isinstance(number, numbers.Integral) or (
        isinstance(number, float) and number.is_integer()
    )
    if isinstance(number, bool) or not whole:
        raise refusal(f"{show(number)} is not a whole number; give one of at least {minimum}")
    count = int(number)
    if count < minimum:
        raise refusal(f"{count} is too small; give a whole number of at least {minimum}")
    if count > MAX_COUNT:
        raise refusal(f"{show(count)} is too large; give at most {MAX_COUNT} (int64)")
    return count


def as_seed(value: Any) -> int:
    """A whole number of at least 0."""
    return as_count(value, minimum=0)


def as_mapping(value: Any) -> dict[str, Any]:
    """A mapping whose keys are strings."""
    if not isinstance(value, Mapping):
        raise refusal(f"{show(value)} is no table of names and values; write {{NAME: value, ...}}")
    for key in value:
        if not isinstance(key, str):
            raise refusal(f"the key {show(key)} is not a name; use strings as keys")
    return dict(value)


def as_list(what: str) -> Callable[[Any], list[Any]]:
    """A validator for a list of `what`, anything but one item or a string."""

    def validate(value: Any) -> list[Any]:
        if isinstance(value, (str, bytes, Mapping, BaseModel)) or not isinstance(value, Iterable):
            raise refusal(f"{show(value)} is not a list; give a list of {what}")
        return list(value)

    return validate


def one_of(*options: str) -> BeforeValidator:
    """A validator for a word out of `options`."""

    def validate(value: Any) -> str:
        if not isinstance(value, str) or value not in options:
            raise refusal(f"{show(value)} is unknown; {advice(value, options)}")
        return value

    return BeforeValidator(validate)


Real = Annotated[float, BeforeValidator(as_real)]
Reals = Annotated[tuple[float, ...], BeforeValidator(as_reals)]
Item = Annotated[float | str, BeforeValidator(as_item)]
Items = Annotated[tuple[float, ...] | tuple[str, ...], BeforeValidator(as_items)]
Count = Annotated[int, BeforeValidator(as_count)]
Seed = Annotated[int, BeforeValidator(as_seed)]


def faults_of(
    error: ValidationError,
    known_keys: Callable[[Sequence[str | int]], Iterable[str]],
    tags: Iterable[str] = (),
) -> list[Fault]:
    """Pydantic's errors in this package's words.

    Args:
        error: what pydantic raised.
        known_keys: the keys that are known where an unknown one stands (given its location).
        tags: the kinds of a discriminated union, which pydantic puts into its locations.

    Returns:
        One fault per error.
    """
    union = frozenset(tags)
    return [
        Fault(
            path_of(_untagged(detail["loc"], union)),
            _words(
                detail["type"], detail["msg"], detail["loc"], detail.get("input"), known_keys, union
            ),
        )
        for detail in error.errors(include_url=False)
    ]


def path_of(location: Sequence[str | int]) -> str:
    """A location as one writes it: `("axes", 0, "num")` is `axes[0].num`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def _words(
    kind: str,
    message: str,
    location: Sequence[str | int],
    value: object,
    known_keys: Callable[[Sequence[str | int]], Iterable[str]],
    tags: frozenset[str],
) -> str:
    if kind == "plateaumap":
        return message
    if kind == "missing":
        return "is missing; it must be given"
    if kind == "extra_forbidden":
        return (
            f"unknown key (its value: {show(value)}); {advice(location[-1], known_keys(location))}"
        )
    if kind == "union_tag_not_found":
        return f"{show(value)} has no kind; add one: {', '.join(sorted(tags))}"
    if kind == "union_tag_invalid":
        tag = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", value)
        return f"{show(tag)} is no kind of axis; {advice(tag, sorted(tags))}"
    if kind == "model_attributes_type":
        return f"{show(value)} is no axis; write one as linspace(...) or {{kind = ..., ...}}"
    return f"{message} (not {show(value)})"


def _untagged(location: Sequence[str | int], tags: frozenset[str]) -> list[str | int]:
    return [
        part
        for index, part in enumerate(location)
        if not (index and part in tags and isinstance(location[index - 1], int))
    ]


def _unwrapped(value: Any) -> Any:
    _require_unmasked(value)
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _require_unmasked(value: Any) -> None:
    if isinstance(value, np.ma.MaskedArray):
        raise refusal(
            f"{' '.join(show(value).split())} is a masked array, and a masked value is no number; "
            "give the numbers themselves, such as array.compressed()"
        )


def _items(value: Any) -> list[Any]:
    _require_unmasked(value)
    items = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(items, (str, bytes, Mapping, Set)) or not isinstance(items, Iterable):
        raise refusal(f"{show(value)} is not a list; give a list of numbers, such as [1.0, 2.0]")
    return list(items)


def _reals_one_by_one(items: list[Any]) -> tuple[float, ...]:
    reals: list[float] = []
    faults: list[tuple[tuple[str | int, ...], str]] = []
    for index, item in enumerate(items):
        try:
            reals.append(as_real(item))
        except PydanticCustomError as error:
            faults.append(((index,), error.message()))
    if faults:
        told, rest = faults[:_TOLD_VALUES], len(faults) - _TOLD_VALUES
        if rest > 0:
            told.append(((), f"{rest} more of these values are no finite numbers"))
        raise refusals(told, items)
    return tuple(reals)
