"""What an experiment declares, judged before anything is made of it: names, losses, measures.

Only attributes are read and nothing is traced; `plateaumap.experiment.check` traces the methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from plateaumap.experiment.coordinates import Coordinate, why_not_column_name
from plateaumap.inputs.validation import show
from plateaumap.table.columns import PREDICTION, UNCERTAIN, Column

DeclarationFault = tuple[tuple[str | int, ...], str]
"""Where in an experiment something is wrong, such as `("coordinates", 0)`, and what."""

FEWEST_LANES = 8
"""The smallest number of runs that an experiment may have advanced together."""

_METHODS = ("why_not_loss", "why_not_values", "describe")


def declaration_faults(experiment: Any) -> list[DeclarationFault]:
    """Return everything that is wrong in what an experiment declares; empty if nothing is."""
    if isinstance(experiment, type):
        kind = experiment.__name__
        return [((), f"{kind} is a class; give an object of it, such as {kind}()")]
    if not all(callable(getattr(experiment, name, None)) for name in _METHODS):
        return [((), f"{show(experiment)} is no experiment; give one, such as SingleNeuron()")]
    faults: list[DeclarationFault] = []

    def declared(name: str, check: Callable[[Any], Iterator[DeclarationFault]]) -> Any:
        """Return an attribute if nothing is wrong with it, else None."""
        try:
            value = getattr(experiment, name)
        except Exception as error:  # whatever a user's property raises
            found: list[DeclarationFault] = [((name,), _why_not_read(experiment, name, error))]
        else:
            found = [((name, *place), text) for place, text in check(value)]
        faults.extend(found)
        return None if found else value

    coordinates = declared("coordinates", _coordinate_faults)
    losses = declared("known_losses", _loss_faults)
    if losses is not None and hasattr(experiment, "default_losses"):
        declared("default_losses", _sequence_faults)
    if hasattr(experiment, "lanes"):
        declared("lanes", _lane_faults)
    if hasattr(type(experiment), "measures"):
        names = [coordinate.name for coordinate in coordinates or ()]
        declared("measures", lambda measures: _measure_faults(experiment, measures, names))
    return faults


def _why_not_read(experiment: Any, name: str, error: Exception) -> str:
    if not hasattr(type(experiment), name) and isinstance(error, AttributeError):
        return f"is missing; {_REMEDIES[name]}"
    lines = str(error).strip().splitlines()
    return f"raised {type(error).__name__}: {lines[0] if lines else ''}"


_REMEDIES = {
    "coordinates": 'give a tuple of Coordinate, such as (Coordinate("lr"),)',
    "known_losses": 'give a tuple of names, such as ("loss",)',
    "default_losses": 'give a tuple of names, such as ("loss",)',
    "measures": "give a tuple of measures as a property: (*super().measures, ...)",
}


def _sequence_faults(value: Any, what: str = "default_losses") -> Iterator[DeclarationFault]:
    if callable(value):
        yield (), "is a method; write @property above its def"
    elif not isinstance(value, tuple):
        yield (), f"{show(value)} is no tuple; {_REMEDIES[what]}"


def _coordinate_faults(coordinates: Any) -> Iterator[DeclarationFault]:
    yield from _sequence_faults(coordinates, "coordinates")
    if not isinstance(coordinates, tuple):
        return
    if not coordinates:
        yield (), f"() holds no coordinate; {_REMEDIES['coordinates']}"
    names: list[str] = []
    taken = [column.name for column in (*_fixed_columns(), *_columns(_standard_measures()))]
    for index, coordinate in enumerate(coordinates):
        if not isinstance(coordinate, Coordinate):
            yield (index,), f"{show(coordinate)} is no Coordinate; write Coordinate({coordinate!r})"
            continue
        reasons = [
            coordinate.why_not,
            _why_not_name(coordinate.name, taken, "the table has a column of this name"),
            _why_not_name(coordinate.name, names, "two coordinates have this name"),
        ]
        yield from (((index,), reason) for reason in reasons if reason)
        names.append(coordinate.name)


def _why_not_name(name: str, taken: Sequence[str], reason: str) -> str | None:
    if name not in taken:
        return None
    return f"{name!r}: {reason}; choose another one (taken: {', '.join(taken)})"


def _loss_faults(losses: Any) -> Iterator[DeclarationFault]:
    yield from _sequence_faults(losses, "known_losses")
    if not isinstance(losses, tuple):
        return
    for index, loss in enumerate(losses):
        if not isinstance(loss, str) or not loss:
            yield (index,), f"{show(loss)} is no name of a loss; {_REMEDIES['known_losses']}"
        elif loss in losses[:index]:
            yield (index,), f"{loss!r} is listed twice; keep one of them"


def _lane_faults(lanes: Any) -> Iterator[DeclarationFault]:
    if lanes is None:
        return
    if type(lanes) is not int or lanes < FEWEST_LANES or lanes & (lanes - 1):
        yield (), f"{show(lanes)} is no power of two from {FEWEST_LANES} on; give one, such as 64"


def _measure_faults(
    experiment: Any, measures: Any, coordinates: Sequence[str]
) -> Iterator[DeclarationFault]:
    yield from _sequence_faults(measures, "measures")
    if not isinstance(measures, tuple):
        return
    fixed = [column.name for column in _fixed_columns()]
    standard = [column.name for column in _columns(_standard_measures())]
    names: list[str] = []
    for index, measure in enumerate(measures):
        reason = _why_not_measure(measure)
        if reason:
            yield (index,), reason
            continue
        for column in measure.columns:
            own = [name for name in coordinates if name not in standard]
            reasons = [
                _why_not_name(column.name, fixed, "every table has a column of this name"),
                _why_not_name(column.name, names, "another measure has a column of this name"),
                _why_not_name(column.name, own, "a coordinate has this name"),
                why_not_column_name(column.name),
            ]
            yield from (((index,), text) for text in reasons if text)
            names.append(column.name)
    missing = [name for name in standard if name not in names]
    if missing and _is_derived(experiment):
        yield (
            (),
            f"the columns {', '.join(missing)} are missing, which reports and commands need; add "
            "yours to the standard measures in a property: (*super().measures, ...)",
        )


def _why_not_measure(measure: Any) -> str | None:
    """Return why something is not a measure, judged by its class and columns, or None."""
    from plateaumap.training.measures import Measure

    if isinstance(measure, type):
        return f"{measure.__name__} is a class; give an object of it: {measure.__name__}(...)"
    try:
        columns = measure.columns if isinstance(measure, Measure) else None
    except Exception as error:  # whatever a user's property raises
        return f"the columns of {show(measure)} raised {type(error).__name__}: {error}"
    if not isinstance(measure, Measure):
        return (
            f"{show(measure)} is not a pm.measures.Measure; for a number from the last parameters "
            'write pm.measures.Final("name", function)'
        )
    if not isinstance(columns, tuple) or not all(isinstance(c, Column) for c in columns):
        return f"the columns of {show(measure)} are {show(columns)}; give a tuple of Column"
    return None


def _fixed_columns() -> tuple[Column, ...]:
    """Return the columns of every table that no measure of an experiment fills."""
    from plateaumap.training.measures import Crossings

    loss = Column("loss", "category", "1", "the loss that is trained", ("loss",))
    return (loss, *Crossings().columns, PREDICTION, UNCERTAIN)


def _standard_measures() -> tuple[Any, ...]:
    from plateaumap.training.measures import ENDINGS, STANDARD, InitialGradient, Losses

    return (*STANDARD, InitialGradient(), Losses(), *ENDINGS)


def _columns(measures: Sequence[Any]) -> tuple[Column, ...]:
    return tuple(column for measure in measures for column in measure.columns)


def _is_derived(experiment: Any) -> bool:
    from plateaumap.experiment.protocol import Experiment

    return isinstance(experiment, Experiment)
