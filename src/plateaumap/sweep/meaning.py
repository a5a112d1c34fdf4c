"""The second pass of validation: how the fields of a specification fit together.

Pydantic has validated each field by itself. Invalid fields are reported already, so that here they
neither hide faults of other fields nor cause new ones: a coordinate on an invalid axis counts as
given.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plateaumap.experiment.coordinates import Coordinate
from plateaumap.experiment.reference import FunctionReference, name_of
from plateaumap.inputs.errors import Fault, advice
from plateaumap.inputs.validation import MAX_COUNT, as_item, path_of, show
from plateaumap.sweep.axes import AxisModel

if TYPE_CHECKING:
    from plateaumap.experiment.protocol import Experiment


@dataclass(frozen=True)
class Draft:
    """The fields of a specification after the first pass of validation.

    Attributes:
        valid: the valid fields by name.
        experiment: the experiment; None if it is invalid.
        likely: the experiment, or the one that an invalid description probably means; may be None.
        losses: the losses, None in the place of an invalid one.
        axes: the axes, unvalidated data in the place of an invalid one; None if not a list.
        fixed: the fixed values as the user wrote them; None if not a table.
    """

    valid: Mapping[str, Any]
    experiment: Experiment | None
    likely: Experiment | None
    losses: Sequence[Any]
    axes: Sequence[Any] | None
    fixed: Mapping[str, Any] | None


@dataclass(frozen=True)
class _Entry:
    """A place of a specification that gives values of one coordinate.

    Attributes:
        name: the name of the coordinate.
        path: where the coordinate is named.
        values: the values, of shape (n,); None if they are invalid.
        number: the number of the axis.
        axis: the axis; None for a fixed value.
    """

    name: str
    path: str
    values: np.ndarray | None
    number: int = 0
    axis: AxisModel | None = None

    def path_at(self, index: int) -> str:
        """Return where the value of an index stands."""
        if self.axis is None:
            return self.path
        return path_of(("axes", self.number, *self.axis.location(self.name, index)))


def cross_faults(draft: Draft) -> list[Fault]:
    """Return all faults that concern several fields together."""
    faults = [
        *_horizon_faults(draft),
        *_leap_faults(draft),
        *_name_clashes(draft.losses),
        *_size_faults(draft),
        *_loss_faults(draft),
    ]
    if draft.likely is not None:
        entries = [*_axis_entries(draft.axes or ()), *_fixed_entries(draft.fixed or {})]
        by_name = {coordinate.name: coordinate for coordinate in draft.likely.coordinates}
        faults += _coordinate_faults(draft, entries, by_name)
        faults += _range_faults(entries, by_name)
        faults += _value_faults(draft, entries, by_name)
    return faults


def loss_name(loss: Any) -> str | None:
    """Return the name of a loss in the table; None if it has no name."""
    return loss if isinstance(loss, str) else name_of(loss)


def _horizon_faults(draft: Draft) -> Iterator[Fault]:
    if draft.valid.get("horizon", 0) is None and draft.valid.get("method") != "leap":
        yield Fault(
            "horizon",
            "a sweep without a horizon needs method = 'leap'; set a whole number of epochs, or "
            "that method",
            "None",
        )


def _leap_faults(draft: Draft) -> Iterator[Fault]:
    if draft.valid.get("method") != "leap":
        return
    if draft.valid.get("until") == "horizon":
        yield Fault(
            "until",
            "computes every epoch, and method = 'leap' computes none; use method = 'simulate'",
            "'horizon'",
        )
    losses = [loss for loss in draft.losses if isinstance(loss, str) or callable(loss)]
    experiment = draft.experiment
    if experiment and losses and all(experiment.theory(loss) is None for loss in losses):
        yield Fault(
            "method",
            f"{type(experiment).__name__} states no theory (a subclass that overrides more than "
            "measures does not inherit the theory of its parent); use method = 'simulate'",
            "'leap'",
        )


def _name_clashes(losses: Sequence[Any]) -> Iterator[Fault]:
    names = [loss_name(loss) for loss in losses]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            yield Fault(
                f"losses[{index}]",
                "another loss has this name; name each loss once, or rename the function",
                repr(name),
            )


def _size_faults(draft: Draft) -> Iterator[Fault]:
    sizes = [axis.size for axis in draft.axes or () if isinstance(axis, AxisModel)]
    rows = math.prod(sizes) * max(1, len(draft.losses))
    if rows > MAX_COUNT:
        yield Fault("axes", f"the grid has {rows:.3e} rows; must be at most {MAX_COUNT:,}")


def _loss_faults(draft: Draft) -> Iterator[Fault]:
    known = draft.likely.known_losses if draft.likely else ()
    for index, loss in enumerate(draft.losses):
        if loss is None or isinstance(loss, FunctionReference):
            continue
        reason = draft.experiment.why_not_loss(loss) if draft.experiment else None
        if isinstance(loss, str) and known and loss not in known:
            reason = "; ".join([*filter(None, [reason]), advice(loss, known)])
        if reason:
            yield Fault(
                f"losses[{index}]",
                f"not a loss of this experiment: {reason}",
                show(loss_name(loss)),
            )


def _axis_entries(axes: Sequence[Any]) -> Iterator[_Entry]:
    for number, axis in enumerate(axes):
        if not isinstance(axis, AxisModel):
            path = f"axes[{number}]"
            yield from (_Entry(name, path, None) for name in _likely_names(axis))
            continue
        for name in axis.names:
            path = path_of(("axes", number, *axis.location(name)))
            yield _Entry(name, path, axis.columns[name], number, axis)


def _likely_names(axis: Any) -> tuple[str, ...]:
    """Return the coordinates on an invalid axis."""
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
    return tuple(name for part in parts for name in _likely_names(part))


def _fixed_entries(fixed: Mapping[str, Any]) -> Iterator[_Entry]:
    for name, value in fixed.items():
        try:
            values = np.array([as_item(value)])
        except ValueError:
            values = None
        yield _Entry(name, f"fixed.{name}", values)


def _coordinate_faults(
    draft: Draft, entries: Sequence[_Entry], by_name: Mapping[str, Coordinate]
) -> Iterator[Fault]:
    for entry in entries:
        if entry.name not in by_name:
            message = f"{entry.name!r} is not a coordinate; {advice(entry.name, by_name)}"
            yield Fault(entry.path, message)
    for name, count in Counter(entry.name for entry in entries).items():
        if count > 1:
            paths = [entry.path for entry in entries if entry.name == name]
            message = f"{name!r} is given {count} times ({', '.join(paths)}); keep one of them"
            yield Fault(paths[-1], message)
    if draft.axes is None or draft.fixed is None:
        return
    names = {entry.name for entry in entries}
    for name, coordinate in by_name.items():
        if coordinate.default is None and name not in names:
            yield Fault(
                f"fixed.{name}",
                f"{_described(coordinate)} is not given; put it on an axis or set it in fixed",
            )


def _range_faults(entries: Sequence[_Entry], by_name: Mapping[str, Coordinate]) -> Iterator[Fault]:
    for entry in entries:
        coordinate = by_name.get(entry.name)
        if coordinate is None or entry.values is None:
            continue
        (bad,) = np.nonzero(~coordinate.allows(entry.values))
        if not bad.size:
            continue
        value = entry.values[bad[0]].item()
        message = f"{_described(coordinate)} must be {coordinate.range}"
        if isinstance(value, str) and not coordinate.is_text:
            message = "must be a finite number, written without quotes"
        if bad.size > 1:
            message += f" ({bad.size - 1:,} more values of this axis are not)"
        yield Fault(entry.path_at(int(bad[0])), message, repr(value))


def _value_faults(
    draft: Draft, entries: Sequence[_Entry], by_name: Mapping[str, Coordinate]
) -> Iterator[Fault]:
    """Values in range that one of the losses does not allow."""
    if draft.experiment is None:
        return
    known = draft.experiment.known_losses
    losses = [
        loss
        for loss in draft.losses
        if loss is not None and (not isinstance(loss, str) or loss in known)
    ]
    for entry in entries:
        if entry.values is None or entry.name not in by_name:
            continue
        allowed = entry.values[by_name[entry.name].allows(entry.values)]
        for loss in losses if allowed.size else ():
            reason = draft.experiment.why_not_values(loss, entry.name, allowed)
            if reason:
                yield Fault(entry.path, f"{reason} (for the loss {loss_name(loss)!r})")


def _described(coordinate: Coordinate) -> str:
    return f"{coordinate.name} ({coordinate.meaning})" if coordinate.meaning else coordinate.name
