"""Measures of a run: columns of the table, each filled by a fold over the epochs.

A `Measure` reduces the epochs of one run to a small state, so that no curve is stored. `measure`
builds one from functions, `Final` from a function of the last parameters. An experiment adds
measures to the standard ones: `(*super().measures, pm.measures.Final("accuracy", accuracy))`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plateaumap.table.columns import Column, Dtype

__all__ = [
    "Acceleration",
    "Displacement",
    "Duration",
    "End",
    "Final",
    "InitialGradient",
    "Losses",
    "Measure",
    "Observation",
    "Outputs",
    "Path",
    "Shape",
    "Start",
    "Steepest",
    "measure",
]

PyTree = Any
Record = dict[str, Array]

PLATEAU_DROP = 0.1
"""The share of the initial excess that is gone at the end of the plateau (T10)."""

LEVELS = {"plateau_epochs": PLATEAU_DROP, "half_epochs": 0.5, "tenth_epochs": 0.9}
"""The columns of the crossings, and the share of the initial excess that is gone by each."""

STATUSES = (
    "escaped",
    "censored",
    "converged_at_start",
    "stationary",
    "stalled",
    "partially_stalled",
    "not_finite",
    "beyond_int64",
)
PATHS = ("overshoot", "oscillating", "rebound")
SHAPES = ("none", "plateau", "weak")

NO_EPOCH = -1
"""The code of a missing epoch inside compiled functions; it becomes a null outside of them."""

LOST_EPOCHS_ALLOWED = 0.5
"""Epochs that rounding may swallow before a run counts as partially stalled."""

DECREASE_ROUNDING = 8
"""Rounding error of the decrease of the loss in one epoch, in units in the last place."""

SHAPE_TOLERANCE = 1e-9
"""Relative amount by which rounding may lift an acceleration above 1."""

NEAR_LEVEL = 1e-9
"""Distance from a level, as a share of the initial excess, within which rounding may decide."""


class Stop(IntEnum):
    """Reason why a run stopped."""

    RUNNING = 0
    FINISHED = 1
    CONVERGED = 2
    NOT_FINITE = 3
    PARTIALLY_STALLED = 4
    STALLED = 5
    HORIZON = 6
    STATIONARY = 7
    BELOW_FLOOR = 8


class Start(NamedTuple):
    """The initial point of a run.

    Attributes:
        epoch: zero, in the integer dtype that counts epochs.
        parameters: the initial parameters.
        excess: the initial loss above its floor, scalar.
        gradient: the scalar that represents the gradient, by default its norm.
        floor: the least value of the loss, scalar.
        output: the model's output, scalar, or None.
        shares: the shares of the excess that are left at T10, T50 and T90.

    Example:
        >>> import plateaumap as pm
        >>> pm.measures.Start._fields[1:3]
        ('parameters', 'excess')
    """

    epoch: Array
    parameters: PyTree
    excess: Array
    gradient: Array
    floor: Array
    output: Array | None
    shares: tuple[Array, ...]


class Observation(NamedTuple):
    """The state of a run at one epoch.

    Attributes:
        epoch: the number of updates so far, integer scalar.
        parameters: the parameters after these updates.
        excess: the loss above its floor, scalar.
        gradient: the scalar that represents the gradient, by default its norm.
        direction: a scalar with the sign of dC/da, where a is the model's output; None if the
            model does not have one output.
        lost: the epochs that rounding has swallowed before this one, float scalar.
        decrease: the decrease of the loss in the step that begins at `decrease_epoch`.
        decrease_is_known: whether the experiment computes `decrease` without cancellation;
            otherwise it is the difference of two losses.
        decrease_from: the excess at `decrease_epoch`.
        decrease_epoch: this epoch if `decrease_is_known`, otherwise the previous one.

    Example:
        >>> import plateaumap as pm
        >>> pm.measures.Observation._fields[:3]
        ('epoch', 'parameters', 'excess')
    """

    epoch: Array
    parameters: PyTree
    excess: Array
    gradient: Array
    direction: Array | None
    lost: Array
    decrease: Array
    decrease_is_known: bool
    decrease_from: Array
    decrease_epoch: Array


class End(NamedTuple):
    """The last point of a run.

    Attributes:
        parameters: the last parameters.
        excess: the last loss above its floor, scalar.
        output: the model's last output, scalar, or None.
        stop: the reason why the run stopped, a `Stop`.
        epochs: the number of updates, integer scalar.
        lost: the epochs that rounding has swallowed, float scalar.

    Example:
        >>> import plateaumap as pm
        >>> pm.measures.End._fields[:2]
        ('parameters', 'excess')
    """

    parameters: PyTree
    excess: Array
    output: Array | None
    stop: Array
    epochs: Array
    lost: Array


class Measure(ABC):
    """One measurement of a run, as pure functions of scalars; runs are vectorised elsewhere.

    A subclass defines `columns` and `result`, and for what happens between the ends of a run also
    `init` and `update`. The other members have defaults. A measure of one column is shorter with
    `measure`, a measure of the last parameters with `Final`.

    Attributes:
        columns: the columns that `result` fills: name, dtype, unit and meaning of each.
        needs_tenth: whether the columns are null in sweeps that stop at T10 (`until="plateau"`).
        stops_at_tenth: whether the state is frozen after T90 in runs that continue to the horizon
            (`until="horizon"`).

    Example:
        >>> import jax.numpy as jnp
        >>> import plateaumap as pm
        >>> class Largest(pm.measures.Measure):
        ...     columns = (pm.measures.Column("largest_loss", "float64", "loss", "largest excess"),)
        ...
        ...     def init(self, start):
        ...         return start.excess
        ...
        ...     def update(self, state, start, now):
        ...         return jnp.maximum(state, now.excess)
        ...
        ...     def result(self, state, start, end, record):
        ...         return state
        >>> Largest().columns[0].name
        'largest_loss'
    """

    needs_tenth = False
    stops_at_tenth = False

    if TYPE_CHECKING:  # a subclass may define a class attribute, a field or a property

        @property
        def columns(self) -> tuple[Column, ...]: ...  # noqa: D102

    def init(self, start: Start) -> PyTree:
        """Return the state before epoch 0, a pytree of arrays or numbers."""
        return ()

    def update(self, state: PyTree, start: Start, now: Observation) -> PyTree:
        """Return the state after one more epoch.

        The method is called for epochs 0, 1, 2, ... in order. The default keeps the state.
        """
        return state

    @abstractmethod
    def result(self, state: PyTree, start: Start, end: End, record: Record) -> Any:
        """Return a scalar, or for several columns a dictionary with a scalar for each name.

        An Int64 column takes an integer, negative for a null. A category column takes the index
        of the category, negative for a null. A float column takes NaN for a missing value.

        Args:
            state: the state after the last epoch.
            start: the initial point of the run.
            end: the last point of the run.
            record: the columns of the measures before this one.
        """

    def decisive_epochs(self, state: PyTree) -> tuple[Array, ...] | None:
        """Return the epochs that determine the state, or None if all of them do.

        Of a unimodal run, only epochs next to decisive ones and next to the last one have to be
        observed. An epoch is an integer scalar, negative if it has not come. By default the tuple
        is empty for a measure without `update`.
        """
        return () if type(self).update is Measure.update else None

    def done(self, state: PyTree) -> Array | None:
        """Return whether the measure is complete, a boolean scalar; a run continues until then.

        By default the method returns None, and the measure does not prolong a run.
        """
        return None


@dataclass(frozen=True)
class FunctionMeasure(Measure):
    """A measure of one column from functions; see `measure`.

    Attributes:
        columns: the one column.
        initial: `init`.
        updated: `update`.
        final: from the last state to the value of the column.
    """

    columns: tuple[Column, ...]
    initial: Callable[[Start], PyTree]
    updated: Callable[[PyTree, Start, Observation], PyTree]
    final: Callable[[PyTree], Any]

    def init(self, start: Start) -> PyTree:
        """Return the initial state."""
        return self.initial(start)

    def update(self, state: PyTree, start: Start, now: Observation) -> PyTree:
        """Return the next state."""
        return self.updated(state, start, now)

    def result(self, state: PyTree, start: Start, end: End, record: Record) -> Any:
        """Return the value of the column."""
        return self.final(state)


def measure(
    name: str,
    init: Callable[[Start], PyTree],
    update: Callable[[PyTree, Start, Observation], PyTree],
    result: Callable[[PyTree], Any] = lambda state: state,
    *,
    dtype: Dtype = "float64",
    unit: str = "1",
    meaning: str = "a measure of the experiment",
) -> Measure:
    """Return a measure of one column, made of functions like an Optax transformation.

    Args:
        name: the name of the column.
        init: returns the state before epoch 0, a pytree of arrays or numbers.
        update: returns the state after one more epoch. Epochs come in order, from 0 to the end of
            the run; every one of them is observed.
        result: returns the value of the column from the last state; by default the state itself.
        dtype: the dtype of the column; an "Int64" column takes an integer, negative for a null.
        unit: the unit of the column.
        meaning: the description of the column.

    Example:
        >>> import plateaumap as pm
        >>> class Summed(pm.SingleNeuron):
        ...     @property
        ...     def measures(self):
        ...         total = pm.measures.measure(
        ...             "loss_sum",
        ...             init=lambda start: 0.0,
        ...             update=lambda state, start, now: state + now.excess,
        ...         )
        ...         return (*super().measures, total)
        >>> sweep = pm.Sweep(
        ...     experiment=Summed(),
        ...     losses="quadratic",
        ...     fixed={"w0": 2, "b0": 2, "lr": 0.15},
        ...     horizon=300,
        ... )
        >>> pm.run(sweep)["loss_sum"].round(3).tolist()
        [98.954]
    """
    return FunctionMeasure((Column(name, dtype, unit, meaning),), init, update, result)


def initial_state(measure: Measure, start: Start) -> PyTree:
    """Return the initial state of a measure, Python's numbers in the dtypes of the run."""

    def as_array(leaf: Any) -> Any:
        if isinstance(leaf, float):
            return jnp.asarray(leaf, start.excess.dtype)
        if isinstance(leaf, int) and not isinstance(leaf, bool):
            return jnp.asarray(leaf, start.epoch.dtype)
        return leaf

    return jax.tree.map(as_array, measure.init(start))


def named_results(measure: Measure, results: Any) -> Record:
    """Return the results of a measure as a dictionary; a scalar belongs to the first column."""
    return dict(results) if isinstance(results, Mapping) else {measure.columns[0].name: results}


@dataclass(frozen=True)
class Measures:
    """All measures of an evaluation: the crossings, then the measures of the experiment.

    Attributes:
        crossings: the measure that decides when a run is complete.
        others: the other measures, in the order of the table's columns.
    """

    crossings: Crossings
    others: tuple[Measure, ...] = ()

    def __post_init__(self) -> None:
        """Replace measures that need T90 where runs stop at T10, since they cost time."""
        if self.crossings.until == "plateau":
            others = tuple(Nulls(m.columns) if m.needs_tenth else m for m in self.others)
            object.__setattr__(self, "others", others)

    @property
    def all(self) -> tuple[Measure, ...]:
        """Return every measure, the crossings first."""
        return (self.crossings, *self.others)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the columns of all measures, in order."""
        return tuple(column for measure in self.all for column in measure.columns)

    @property
    def to_horizon(self) -> bool:
        """Return whether every run continues to its horizon."""
        return self.crossings.until == "horizon"

    def init(self, start: Start) -> tuple[PyTree, ...]:
        """Return the initial states of all measures."""
        return tuple(initial_state(measure, start) for measure in self.all)

    def update(self, states: tuple, start: Start, now: Observation) -> tuple[PyTree, ...]:
        """Return the states of all measures after the epoch `now`."""
        updated = tuple(m.update(s, start, now) for m, s in zip(self.all, states, strict=True))
        if not self.to_horizon:
            return updated
        reached = states[0].epochs[-1] != NO_EPOCH
        return tuple(
            jax.tree.map(lambda a, b: jnp.where(reached, a, b), old, new)
            if measure.stops_at_tenth
            else new
            for measure, old, new in zip(self.all, states, updated, strict=True)
        )

    def done(self, states: tuple) -> Array:
        """Return whether all measures are complete."""
        done = (measure.done(state) for measure, state in zip(self.all, states, strict=True))
        return reduce(jnp.logical_and, (flag for flag in done if flag is not None))

    def escaped(self, states: tuple) -> Array:
        """Return whether T10 has come."""
        return states[0].epochs[0] != NO_EPOCH

    def decisive_epochs(self, states: tuple) -> tuple[Array, ...] | None:
        """Return the decisive epochs of all measures, or None if one needs every epoch."""
        epochs = [m.decisive_epochs(state) for m, state in zip(self.all, states, strict=True)]
        if any(of_one is None for of_one in epochs):
            return None
        return tuple(epoch for of_one in epochs for epoch in of_one or ())

    def result(self, states: tuple, start: Start, end: End) -> Record:
        """Return the record of one run: a scalar for each column, and the diagnostics."""
        record: Record = {}
        for measure, state in zip(self.all, states, strict=True):
            record |= named_results(measure, measure.result(state, start, end, record))
        return record | self.crossings.diagnostics(states[0], start, end)


def share_left(drop: float) -> float:
    """Return the share of the excess that is left after `drop`, computed in decimals.

    After 0.9 one tenth is left: `1 - 0.9` would be 0.09999999999999998.
    """
    return float(1 - Decimal(repr(drop)))


_LEAP = ("simulate", "leap")
"""The methods of columns that theory fills too, or that the initial point decides."""

_SIMULATE = ("simulate",)
"""The methods of columns that only a simulation fills."""


def _epochs(name: str, meaning: str, methods: tuple[str, ...] = _LEAP) -> Column:
    return Column(name, "Int64", "epochs", meaning, methods=methods)


def _number(name: str, meaning: str, unit: str = "1", methods: tuple[str, ...] = _LEAP) -> Column:
    return Column(name, "float64", unit, meaning, methods=methods)


class CrossingState(NamedTuple):
    """First epochs at or under each level, the fraction past each, and the last excess."""

    epochs: tuple[Array, ...]
    overshot: tuple[Array, ...]
    previous: Array


@dataclass(frozen=True)
class Crossings(Measure):
    """T10, T50, T90, the plateau fraction, and the status of the plateau.

    `T` is the first epoch n with `L_n ≤ (1 − drop) L_0`, where L is the loss above its floor. The
    plateau fraction is T10/T90 of the crossings interpolated linearly between epochs. For a
    matching loss it is at most 1/9, up to rounding, if y is 0 or 1, or if lr (1 + x²) is at most 4.

    Attributes:
        until: "tenth" to run to T90, "plateau" to stop at T10, "horizon" to run every epoch.
        nudges: a relative change of each level. It is zero except where exact arithmetic has
            decided a tie that the arithmetic of the run cannot (see
            `plateaumap.execution.evaluator`).
    """

    until: str = "tenth"
    nudges: tuple[Any, ...] = (0.0,) * len(LEVELS)

    columns = (
        Column("status", "category", "1", "what became of the plateau", STATUSES, _LEAP),
        _epochs("plateau_epochs", "T10: first epoch with a tenth of the loss excess gone"),
        _epochs("half_epochs", "T50: first epoch with half of the loss excess gone"),
        _epochs("tenth_epochs", "T90: first epoch with a tenth of the loss excess left"),
        _number("plateau_fraction", "T10/T90, interpolated: share spent getting started"),
    )

    def shares(self, dtype: Any) -> tuple[Array, ...]:
        """Return the share of the initial excess that is left at each level, scalars of a dtype."""
        return tuple(
            jnp.asarray(share_left(drop) * (1 + nudge), dtype)
            for drop, nudge in zip(LEVELS.values(), self.nudges, strict=True)
        )

    def init(self, start: Start) -> CrossingState:
        """Return a state without crossings."""
        never = jnp.full_like(start.epoch, NO_EPOCH)
        zero = jnp.zeros_like(start.excess)
        return CrossingState((never,) * len(LEVELS), (zero,) * len(LEVELS), start.excess)

    def update(self, state: CrossingState, start: Start, now: Observation) -> CrossingState:
        """Record the levels that are crossed for the first time."""
        decrease = state.previous - now.excess
        epochs, overshot = [], []
        for share, epoch, past in zip(start.shares, state.epochs, state.overshot, strict=True):
            level = share * start.excess
            crosses = (epoch == NO_EPOCH) & (now.excess <= level)
            if self.until == "horizon":  # the run continues although rounding has prolonged it
                crosses &= now.lost <= LOST_EPOCHS_ALLOWED
            epochs.append(jnp.where(crosses, now.epoch, epoch))
            overshot.append(jnp.where(crosses, (level - now.excess) / decrease, past))
        return CrossingState(tuple(epochs), tuple(overshot), now.excess)

    def done(self, state: CrossingState) -> Array:
        """Return whether the last level of the request has been crossed."""
        if self.until == "horizon":
            return jnp.bool_(False)
        last = state.epochs[0] if self.until == "plateau" else state.epochs[-1]
        return last != NO_EPOCH

    def decisive_epochs(self, state: CrossingState) -> tuple[Array, ...]:
        """Return the crossings, without the one that ends the run."""
        if self.until == "horizon":
            return state.epochs
        return () if self.until == "plateau" else state.epochs[:-1]

    def result(self, state: CrossingState, start: Start, end: End, record: Record) -> Record:
        """Return the columns; T10 is null unless the status is `escaped`."""
        # A crossing at the epoch at which numbers ceased to be finite does not count.
        broken = end.stop == Stop.NOT_FINITE
        plateau, half, tenth = (
            jnp.where(broken & (epoch == end.epochs), NO_EPOCH, epoch) for epoch in state.epochs
        )
        status = self._status(plateau, end)
        if self.until == "plateau":
            half = tenth = jnp.full_like(plateau, NO_EPOCH)
        first, last = (
            n.astype(jnp.float64) - past.astype(jnp.float64)
            for n, past in ((plateau, state.overshot[0]), (tenth, state.overshot[-1]))
        )
        return {
            "status": status,
            "plateau_epochs": plateau,
            "half_epochs": half,
            "tenth_epochs": tenth,
            "plateau_fraction": jnp.where(tenth == NO_EPOCH, jnp.nan, first / last),
        }

    def _status(self, plateau: Array, end: End) -> Array:
        """Return the index of the status. What comes after the plateau does not change it."""
        code = {status: jnp.int8(i) for i, status in enumerate(STATUSES)}
        partially = (end.lost > LOST_EPOCHS_ALLOWED) & (end.stop != Stop.STATIONARY)
        status = jnp.where(partially, code["partially_stalled"], code["censored"])
        for stop, name in _STATUS_OF_STOP.items():
            status = jnp.where((end.stop == stop) & ~partially, code[name], status)
        for stop in (Stop.NOT_FINITE, Stop.CONVERGED):
            status = jnp.where(end.stop == stop, code[_STATUS_OF_STOP[stop]], status)
        return jnp.where(plateau != NO_EPOCH, code["escaped"], status)

    def diagnostics(self, state: CrossingState, start: Start, end: End) -> Record:
        """Return numbers that a sweep needs beside the columns of a run.

        `.past NAME` is the fraction of an epoch between the level and the crossing. Next to 0 or
        to 1 rounding may have decided the crossing.
        """
        record: Record = {".stop": end.stop}
        for name, share, epoch, past in zip(
            LEVELS, start.shares, state.epochs, state.overshot, strict=True
        ):
            near = jnp.abs(end.excess - share * start.excess) <= NEAR_LEVEL * start.excess
            missed = jnp.where(near, 0.0, 0.5).astype(past.dtype)
            record[f".past {name}"] = jnp.where(epoch == NO_EPOCH, missed, past)
        return record


_STATUS_OF_STOP = {
    Stop.STALLED: "stalled",
    Stop.STATIONARY: "stationary",
    Stop.NOT_FINITE: "not_finite",
    Stop.CONVERGED: "converged_at_start",
}


def _if_finished(record: Mapping[str, Array], value: Array) -> Array:
    """Return `value` if the run reached T90, else NaN: a maximum could have come later."""
    return jnp.where(record["tenth_epochs"] == NO_EPOCH, jnp.nan, value)


class AccelerationState(NamedTuple):
    """The largest gradient and its epoch."""

    gradient: Array
    epoch: Array


@dataclass(frozen=True)
class Acceleration(Measure):
    """The ratio of the largest gradient to the initial one.

    The ratio is 1 where learning is fastest when the error is largest.

    Example:
        >>> import plateaumap as pm
        >>> [column.name for column in pm.measures.Acceleration().columns]
        ['acceleration']
    """

    columns = (_number("acceleration", "largest gradient over the first gradient"),)
    needs_tenth = stops_at_tenth = True

    def init(self, start: Start) -> AccelerationState:
        """Return the initial gradient and its epoch."""
        return AccelerationState(jnp.abs(start.gradient), start.epoch)

    def update(self, state: AccelerationState, start: Start, now: Observation) -> AccelerationState:
        """Keep the larger gradient."""
        size = jnp.abs(now.gradient)
        larger = size > state.gradient
        return AccelerationState(
            jnp.where(larger, size, state.gradient), jnp.where(larger, now.epoch, state.epoch)
        )

    def decisive_epochs(self, state: AccelerationState) -> tuple[Array, ...]:
        """Return the epoch of the largest gradient."""
        return (state.epoch,)

    def result(self, state: AccelerationState, start: Start, end: End, record: Record) -> Array:
        """Return the ratio, NaN without T90 or if the initial gradient is zero."""
        moving = start.gradient != 0
        ratio = state.gradient / jnp.where(moving, jnp.abs(start.gradient), 1)
        return _if_finished(record, jnp.where(moving, ratio, jnp.nan))


class SteepestState(NamedTuple):
    """The largest decrease of the loss in one step, the epoch of the step, and its excess."""

    decrease: Array
    epoch: Array
    excess: Array


@dataclass(frozen=True)
class Steepest(Measure):
    """The epoch of the largest decrease of the loss, and the tangent lag.

    The tangent lag is the epoch at which the tangent of the steepest step meets the initial loss:
    the lag time of growth curves.

    Example:
        >>> import plateaumap as pm
        >>> [column.name for column in pm.measures.Steepest().columns]
        ['tangent_lag', 'steepest_epoch']
    """

    columns = (
        _number("tangent_lag", "where the steepest tangent meets the first loss", "epochs"),
        _epochs("steepest_epoch", "epoch n of the largest fall from n to n + 1", _SIMULATE),
    )
    needs_tenth = stops_at_tenth = True

    def init(self, start: Start) -> SteepestState:
        """Return a state without a step; any first step is steeper."""
        nothing = jnp.full_like(start.excess, -jnp.inf)
        return SteepestState(nothing, jnp.full_like(start.epoch, NO_EPOCH), start.excess)

    def update(self, state: SteepestState, start: Start, now: Observation) -> SteepestState:
        """Keep the steeper step; of steps that are equal up to rounding, the first one."""

        def rounding(decrease: Array, excess: Array) -> Array:
            size = jnp.abs(decrease) if now.decrease_is_known else excess + jnp.abs(start.floor)
            return DECREASE_ROUNDING * jnp.finfo(decrease.dtype).eps * size

        least = now.decrease - rounding(now.decrease, now.decrease_from)
        most = state.decrease + rounding(state.decrease, state.excess)
        steeper = ((state.epoch == NO_EPOCH) | (least > most)) & (now.decrease_epoch >= 0)
        return SteepestState(
            jnp.where(steeper, now.decrease, state.decrease),
            jnp.where(steeper, now.decrease_epoch, state.epoch),
            jnp.where(steeper, now.decrease_from, state.excess),
        )

    def decisive_epochs(self, state: SteepestState) -> tuple[Array, ...]:
        """Return the steepest epoch."""
        return (state.epoch,)

    def result(self, state: SteepestState, start: Start, end: End, record: Record) -> Record:
        """Return both columns, null without T90."""
        lag = state.epoch - (start.excess - state.excess) / state.decrease
        finished = record["tenth_epochs"] != NO_EPOCH
        return {
            "tangent_lag": _if_finished(record, lag),
            "steepest_epoch": jnp.where(finished, state.epoch, NO_EPOCH),
        }


@dataclass(frozen=True)
class Nulls(Measure):
    """Columns of nulls.

    Attributes:
        columns: the columns.
    """

    columns: tuple[Column, ...]

    def result(self, state: tuple[()], start: Start, end: End, record: Record) -> Record:
        """Return nulls."""
        null = {
            "Int64": jnp.full_like(end.epochs, NO_EPOCH),
            "category": jnp.int8(-1),
            "float64": jnp.full_like(start.excess, jnp.nan),
        }
        return {column.name: null[column.dtype] for column in self.columns}


@dataclass(frozen=True)
class Outputs(Measure):
    """The initial and the final output of a model that has one output.

    Example:
        >>> import plateaumap as pm
        >>> [column.name for column in pm.measures.Outputs().columns]
        ['initial_output', 'final_output']
    """

    columns = (
        _number("initial_output", "the output at the start"),
        _number("final_output", "the output where the run stopped", methods=_SIMULATE),
    )

    def result(self, state: tuple[()], start: Start, end: End, record: Record) -> Record:
        """Return both outputs."""
        assert start.output is not None
        assert end.output is not None
        return {"initial_output": start.output, "final_output": end.output}


@dataclass(frozen=True)
class InitialGradient(Measure):
    """The initial gradient, with its sign.

    Attributes:
        meaning: the description of the column.

    Example:
        >>> import plateaumap as pm
        >>> pm.measures.InitialGradient("dC/dz at the start").columns[0].meaning
        'dC/dz at the start'
    """

    meaning: str = "gradient at the start"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the one column."""
        return (_number("initial_gradient", self.meaning),)

    def result(self, state: tuple[()], start: Start, end: End, record: Record) -> Array:
        """Return the gradient."""
        return start.gradient


@dataclass(frozen=True)
class Losses(Measure):
    """The initial loss, the final loss, and the floor of the loss.

    Example:
        >>> import plateaumap as pm
        >>> [column.name for column in pm.measures.Losses().columns]
        ['initial_loss', 'final_loss', 'loss_floor']
    """

    columns = (
        _number("initial_loss", "the loss at the start", "loss"),
        _number("final_loss", "the loss where the run stopped", "loss", _SIMULATE),
        _number("loss_floor", "the least that the loss can be", "loss"),
    )

    def result(self, state: tuple[()], start: Start, end: End, record: Record) -> Record:
        """Return the raw losses: the excess plus the floor."""
        return {
            "initial_loss": start.excess + start.floor,
            "final_loss": end.excess + start.floor,
            "loss_floor": start.floor,
        }


@dataclass(frozen=True)
class Final(Measure):
    """A function of the last parameters of a run, such as an accuracy.

    Attributes:
        name: the name of the column.
        function: returns a scalar from the parameters; a method of the experiment can use its data.
        meaning: the description of the column.

    Example:
        >>> import plateaumap as pm
        >>> class Measured(pm.SingleNeuron):
        ...     @property
        ...     def measures(self):
        ...         return (*super().measures, pm.measures.Final("final_w", lambda p: p.w))
        >>> sweep = pm.Sweep(
        ...     experiment=Measured(),
        ...     losses="quadratic",
        ...     fixed={"w0": 2, "b0": 2, "lr": 0.15},
        ...     horizon=300,
        ... )
        >>> pm.run(sweep)["final_w"].round(3).tolist()
        [-0.405]
    """

    name: str
    function: Callable[[PyTree], Array]
    meaning: str = "measured where the run stopped"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the one column."""
        return (_number(self.name, self.meaning, methods=_SIMULATE),)

    def result(self, state: tuple[()], start: Start, end: End, record: Record) -> Array:
        """Return the number."""
        return self.function(end.parameters)


class DisplacementState(NamedTuple):
    """The displacement of the parameters, and whether the run has left its plateau."""

    moved: PyTree
    left: Array


@dataclass(frozen=True)
class Displacement(Measure):
    """The displacement of each parameter by the end of the plateau.

    Attributes:
        names: a column name for each leaf of the parameters, in the order of the pytree.

    Example:
        >>> import plateaumap as pm
        >>> [column.name for column in pm.measures.Displacement(("w_moved", "b_moved")).columns]
        ['w_moved', 'b_moved']
    """

    names: tuple[str, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return one column for each parameter."""
        return tuple(_number(name, "displacement of the parameter by T10") for name in self.names)

    def init(self, start: Start) -> DisplacementState:
        """Return a displacement of zero."""
        return DisplacementState(jax.tree.map(jnp.zeros_like, start.parameters), jnp.bool_(False))

    def update(self, state: DisplacementState, start: Start, now: Observation) -> DisplacementState:
        """Follow the parameters until T10."""
        moved = jax.tree.map(
            lambda old, p, p0: jnp.where(state.left, old, p - p0),
            state.moved,
            now.parameters,
            start.parameters,
        )
        left = state.left | (now.excess <= start.shares[0] * start.excess)
        return DisplacementState(moved, left)

    def decisive_epochs(self, state: DisplacementState) -> tuple[Array, ...]:
        """Return no epochs: T10 is a decisive epoch of the crossings, or the last one."""
        return ()

    def result(self, state: DisplacementState, start: Start, end: End, record: Record) -> Record:
        """Return the displacements by T10, NaN without T10."""
        stayed = record["plateau_epochs"] == NO_EPOCH
        leaves = jax.tree.leaves(state.moved)
        return {
            name: jnp.where(stayed, jnp.nan, leaf)
            for name, leaf in zip(self.names, leaves, strict=True)
        }


@dataclass(frozen=True)
class Duration(Measure):
    """The number of updates of a run.

    Example:
        >>> import plateaumap as pm
        >>> [column.name for column in pm.measures.Duration().columns]
        ['epochs_run']
    """

    columns = (_epochs("epochs_run", "updates until this run's own stop"),)

    def result(self, state: tuple[()], start: Start, end: End, record: Record) -> Array:
        """Return the epoch at which the run stopped."""
        return end.epochs


class PathState(NamedTuple):
    """The last gradient with the sign of its side, the number of flips, and any rebound.

    The gradient is NaN before epoch 0.
    """

    gradient: Array
    flips: Array
    rebounds: Array


@dataclass(frozen=True)
class Path(Measure):
    """Whether and how a run passed its target.

    `overshoot`: the derivative of the loss by the output changed its sign once. `oscillating`:
    more than once. `rebound`: past the target the gradient grew from one epoch to the next, a
    second plateau. Null: none of these, or the model does not have one output.

    Example:
        >>> import plateaumap as pm
        >>> pm.measures.Path().columns[0].categories
        ('overshoot', 'oscillating', 'rebound')
    """

    columns = (Column("path", "category", "1", "how the run passed its target", PATHS, _LEAP),)
    stops_at_tenth = True

    def init(self, start: Start) -> PathState:
        """Return a state without a gradient."""
        unknown = jnp.full_like(start.gradient, jnp.nan)
        return PathState(unknown, jnp.zeros((), jnp.int32), jnp.bool_(False))

    def update(self, state: PathState, start: Start, now: Observation) -> PathState:
        """Compare size and side of the gradient with those of the previous epoch."""
        if now.direction is None:
            return state
        # On the target the side is the last known one, because zero has a sign, too.
        side = jnp.where(now.direction == 0, state.gradient, now.direction)
        known = ~jnp.isnan(state.gradient)
        flipped = known & (jnp.signbit(side) != jnp.signbit(state.gradient))
        grew = jnp.abs(now.gradient) > (1 + SHAPE_TOLERANCE) * jnp.abs(state.gradient)
        return PathState(
            jnp.copysign(now.gradient, side),
            state.flips + flipped,
            state.rebounds | ((state.flips > 0) & ~flipped & grew),
        )

    def decisive_epochs(self, state: PathState) -> tuple[Array, ...]:
        """Return no epochs: a unimodal run does not pass its target."""
        return ()

    def result(self, state: PathState, start: Start, end: End, record: Record) -> Array:
        """Return the index of the path, negative for a null."""
        code = jnp.where(state.flips == 1, 0, jnp.where(state.flips > 1, 1, -1))
        return jnp.where(state.rebounds, 2, code).astype(jnp.int8)


@dataclass(frozen=True)
class Shape(Measure):
    """The kind of learning curve, from its acceleration and its plateau fraction.

    `none`: no acceleration. `plateau`: a plateau fraction of at least one half. `weak`: all other
    curves. Null: the run did not reach T90.

    Example:
        >>> import plateaumap as pm
        >>> pm.measures.Shape().columns[0].categories
        ('none', 'plateau', 'weak')
    """

    columns = (Column("shape", "category", "1", "the kind of learning curve", SHAPES, _LEAP),)

    def result(self, state: tuple[()], start: Start, end: End, record: Record) -> Array:
        """Return the index of the shape, negative for a null."""
        slows_down = record["acceleration"] <= 1 + SHAPE_TOLERANCE
        shape = jnp.where(slows_down, 0, jnp.where(record["plateau_fraction"] >= 0.5, 1, 2))
        return jnp.where(jnp.isnan(record["acceleration"]), -1, shape).astype(jnp.int8)


STANDARD = (Acceleration(), Steepest())
"""The measures of every experiment beside the crossings, in front of its own."""

ENDINGS = (Duration(), Path(), Shape())
"""The measures that complete every record."""
