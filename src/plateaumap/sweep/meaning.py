"""How the fields of a spec fit together, judged as far as they are well-formed.

A malformed field is somebody else's fault to tell. Here it only must not hide, or invent, faults
of the other fields: a coordinate on a malformed axis counts as given.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from pydantic_core import PydanticCustomError

from plateaumap.experiment.coordinates import Coordinate
from plateaumap.experiment.reference import FunctionReference, name_of
from plateaumap.inputs.errors import Fault, advice
from plateaumap.inputs.validation import MAX_COUNT, as_item, as_real, path_of, show
from plateaumap.sweep.axes import AxisModel

LossLike = str | Callable[..., Any] | FunctionReference


@runtime_checkable
class ExperimentDescription(Protocol):
    """What a spec must know about an experiment."""

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """What a point consists of, in the order of the table's columns."""

    @property
    def known_losses(self) -> tuple[str, ...]:
        """The losses that a sweep can name."""

    def why_not_loss(self, loss: Any, /) -> str | None:
        """Why the experiment refuses a loss (a name or a function), or None."""

    def why_not_values(self, loss: Any, name: str, values: np.ndarray, /) -> str | None:
        """Why a loss cannot have one of some values of a coordinate, or None."""

    def describe(self) -> dict[str, Any]:
        """The JSON-able description that stands for the experiment in a spec."""


@dataclass(frozen=True)
class Draft:
    """The fields of a spec before it is known to be right.

    Attributes:
        experiment: None if it is malformed.
        coordinates: the experiment's, or what is likely meant; empty if there is no telling.
        known_losses: likewise.
        losses: in place of malformed ones, whatever was given.
        axes: in place of malformed ones, whatever was given; None if that is no list.
        fixed: in place of malformed values, whatever was given; None if that is no mapping.
        horizon: whatever was given.
        method: whatever was given.
        until: whatever was given.
    """

    experiment: ExperimentDescription | None
    coordinates: Sequence[Coordinate]
    known_losses: Sequence[str]
    losses: Sequence[Any]
    axes: Sequence[Any] | None
    fixed: Mapping[str, Any] | None
    horizon: Any
    method: Any
    until: Any

    def defaults(self) -> dict[str, float | str]:
        """The coordinates that are not given but have a default."""
        given = {place.name for place in self.places()}
        return {
            coordinate.name: as_item(coordinate.default)
            for coordinate in self.coordinates
            if coordinate.default is not None and coordinate.name not in given
        }

    def places(self) -> "list[Place]":
        """Everywhere that a coordinate is given, axes first."""
        on_axes = [
            Place(name, path_of(("axes", index, *_name_location(axis, name))))
            for index, axis in enumerate(self.axes or ())
            for name in _names(axis)
        ]
        return [*on_axes, *(Place(name, f"fixed.{name}") for name in self.fixed or {})]


@dataclass(frozen=True)
class Place:
    """One place where a coordinate is given.

    Attributes:
        name: the coordinate's.
        path: the place's.
    """

    name: str
    path: str


def cross_faults(draft: Draft) -> list[Fault]:
    """All faults that show only when several fields are seen together."""
    faults = [
        *_horizon_faults(draft),
        *_leap_faults(draft),
        *_name_clashes(draft.losses),
        *_size_faults(draft),
    ]
    faults += _loss_faults(draft)
    if draft.coordinates:
        faults += _coordinate_faults(draft)
        faults += _range_faults(draft)
        faults += _value_faults(draft)
    return faults


def _horizon_faults(draft: Draft) -> Iterator[Fault]:
    if draft.horizon is None and draft.method != "leap":
        yield Fault(
            "horizon",
            f"None (no horizon) needs method = 'leap', but the method is {show(draft.method)}; "
            "give a whole number of epochs, or that method",
        )


def _leap_faults(draft: Draft) -> Iterator[Fault]:
    if draft.method != "leap":
        return
    if draft.until == "horizon":
        yield Fault(
            "until",
            "'horizon' makes every epoch, and method = 'leap' makes none; use method = 'simulate'",
        )
    theory = getattr(draft.experiment, "theory", None)
    named = [loss for loss in draft.losses if not isinstance(loss, FunctionReference)]
    if theory is not None and named and all(theory(loss) is None for loss in named):
        yield Fault(
            "method",
            f"'leap' needs a theory, and {type(draft.experiment).__name__} states none (a "
            "subclass that overrides more than measures loses that of its parent); use "
            "method = 'simulate'",
        )


def _size_faults(draft: Draft) -> Iterator[Fault]:
    sizes = [axis.size for axis in draft.axes or () if isinstance(axis, AxisModel)]
    rows = math.prod(sizes) * max(1, len(draft.losses))
    if rows > MAX_COUNT:
        yield Fault("axes", f"the grid has {rows:.3e} rows; give at most {MAX_COUNT} (int64)")


def _name_clashes(losses: Sequence[Any]) -> Iterator[Fault]:
    names = [loss_name(loss) for loss in losses]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield Fault(
                f"losses[{index}]",
                f"a second loss named {name!r}; name each loss once, or rename the function",
            )


def loss_name(loss: Any) -> str | None:
    """What the table calls a loss; None if it has no name."""
    return loss if isinstance(loss, str) else name_of(loss)


def _loss_faults(draft: Draft) -> Iterator[Fault]:
    for index, loss in enumerate(draft.losses):
        if not loss_name(loss) or isinstance(loss, FunctionReference):
            continue
        reason = draft.experiment.why_not_loss(loss) if draft.experiment else None
        if isinstance(loss, str) and draft.known_losses and loss not in draft.known_losses:
            reasons = [reason] if reason else []
            reason = "; ".join([*reasons, advice(loss, draft.known_losses)])
        if reason:
            yield Fault(f"losses[{index}]", f"{show(loss_name(loss))} is no loss here: {reason}")


def _coordinate_faults(draft: Draft) -> Iterator[Fault]:
    known = [coordinate.name for coordinate in draft.coordinates]
    paths: dict[str, list[str]] = {}
    for place in draft.places():
        paths.setdefault(place.name, []).append(place.path)
        if place.name not in known:
            yield Fault(place.path, f"{place.name!r} is no coordinate; {advice(place.name, known)}")
    for name, given in paths.items():
        if len(given) > 1:
            yield Fault(
                given[-1],
                f"{name!r} is given {len(given)} times ({', '.join(given)}); keep one of them",
            )
    if draft.axes is None or draft.fixed is None:
        return
    for coordinate in draft.coordinates:
        if coordinate.default is None and coordinate.name not in paths:
            yield Fault(
                f"fixed.{coordinate.name}",
                f"{_told(coordinate, repr)} is not given; "
                "put it on an axis or give its value in fixed",
            )


def _range_faults(draft: Draft) -> Iterator[Fault]:
    by_name = {coordinate.name: coordinate for coordinate in draft.coordinates}
    for index, axis in enumerate(draft.axes or ()):
        if isinstance(axis, AxisModel):
            yield from (fault.under(f"axes[{index}]") for fault in _outside(axis, by_name))
    for name, given in (draft.fixed or {}).items():
        try:
            value = as_item(given)
        except PydanticCustomError:
            continue
        if name in by_name and not by_name[name].allows(value):
            yield Fault(f"fixed.{name}", _not_allowed(by_name[name], value))


def _value_faults(draft: Draft) -> Iterator[Fault]:
    """Values in range that a loss of the sweep cannot have."""
    if draft.experiment is None:
        return
    losses = [
        loss
        for loss in draft.losses
        if not isinstance(loss, str) or loss in draft.experiment.known_losses
    ]
    for path, name, values in _allowed_values(draft):
        for loss in losses:
            reason = draft.experiment.why_not_values(loss, name, values)
            if reason:
                yield Fault(path, f"{reason} (for the loss {loss_name(loss)!r})")


def _allowed_values(draft: Draft) -> Iterator[tuple[str, str, np.ndarray]]:
    """Place, coordinate and those of its values that are in range."""
    by_name = {coordinate.name: coordinate for coordinate in draft.coordinates}
    given = [
        (path_of(("axes", index, *axis.name_location(name))), name, column)
        for index, axis in enumerate(draft.axes or ())
        if isinstance(axis, AxisModel)
        for name, column in axis.columns.items()
    ]
    for name, value in (draft.fixed or {}).items():
        try:
            given.append((f"fixed.{name}", name, np.array([as_item(value)])))
        except PydanticCustomError:
            continue
    for path, name, column in given:
        if name in by_name:
            allowed = column[by_name[name].allows(column)]
            if allowed.size:
                yield path, name, allowed


def _outside(axis: AxisModel, by_name: Mapping[str, Coordinate]) -> Iterator[Fault]:
    for name, column in axis.columns.items():
        if name not in by_name:
            continue
        (bad,) = np.nonzero(~by_name[name].allows(column))
        if bad.size:
            text = _not_allowed(by_name[name], column[bad[0]].item())
            more = f" ({bad.size - 1} more values of this axis are not)" if bad.size > 1 else ""
            yield Fault(path_of(axis.location(name, int(bad[0]))), text + more)


def _not_allowed(coordinate: Coordinate, value: float | str) -> str:
    if isinstance(value, str) and not coordinate.is_text:
        try:
            as_real(value)
        except PydanticCustomError as error:
            return error.message()
    return (
        f"{coordinate.name} = {value!r} is out of range; "
        f"give values of {_told(coordinate)} that are {coordinate.range}"
    )


def _told(coordinate: Coordinate, show_name: Callable[[str], str] = str) -> str:
    meaning = f" ({coordinate.meaning})" if coordinate.meaning else ""
    return show_name(coordinate.name) + meaning


def _names(axis: Any) -> tuple[str, ...]:
    if isinstance(axis, AxisModel):
        return axis.names
    if not isinstance(axis, Mapping):
        return ()
    if isinstance(axis.get("name"), str):
        return (axis["name"],)
    if isinstance(axis.get("values"), Mapping):
        return tuple(name for name in axis["values"] if isinstance(name, str))
    nested = axis.get("axes")
    parts = nested if isinstance(nested, (list, tuple)) else ()
    return tuple(name for part in parts for name in _names(part))


def _name_location(axis: Any, name: str) -> tuple[str | int, ...]:
    return axis.name_location(name) if isinstance(axis, AxisModel) else ()
