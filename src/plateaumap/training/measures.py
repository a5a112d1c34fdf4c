"""What is measured of a run while it runs: streaming observers that keep no curve.

A `Measure` declares columns and folds the epochs of one run into a small state. `Measures`
bundles several into the one observer that training sees. The plateau's own definition, the
levels of `LEVELS`, belongs to `Crossings`, which every evaluation has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import Array

from plateaumap.table.columns import Column
from plateaumap.training.descent import LOST_EPOCHS_ALLOWED, End, Observation, Start, Stop

PyTree = Any
Record = dict[str, Array]

PLATEAU_DROP = 0.1
"""The plateau ends where this share of the loss excess at the start is gone."""

LEVELS = {"plateau_epochs": PLATEAU_DROP, "half_epochs": 0.5, "tenth_epochs": 0.9}
"""The columns of crossings, and the share of the excess that has gone by each."""


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
"""Inside a compiled kernel, an epoch that did not come; a null from the kernel's edge on."""

FALL_ROUNDING = 8
"""Units in the last place by which the fall of the loss in one epoch may be wrong."""

SHAPE_TOLERANCE = 1e-9
"""How far an acceleration may exceed 1 by rounding, relative."""


class Measure(Protocol):
    """One streaming measurement of a run, written for one run and vectorised elsewhere."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the columns that `finish` fills: name, dtype, unit and meaning of each."""
        ...

    def init(self, start: Start) -> PyTree:
        """Return the state before epoch 0 has been observed: a pytree of arrays."""
        ...

    def step(self, state: PyTree, start: Start, now: Observation) -> PyTree:
        """Return the state after the epoch `now`."""
        ...

    def decisive_epochs(self, state: PyTree) -> tuple[Array, ...] | None:
        """Return the epochs that have made this state what it is, or None if all of them have.

        See `training.descent.Observer.decisive_epochs`: with them, runs that are known to be
        unimodal are observed only where something happens.
        """
        ...

    def finish(self, state: PyTree, start: Start, end: End, record: Mapping[str, Array]) -> Record:
        """Return a scalar for each column.

        An Int64 column gives an integer, negative for a null; a category column the index of
        its category, negative for a null; a float column NaN where there is nothing to tell.
        `record` holds the columns of the measures before this one.
        """
        ...


@runtime_checkable
class LongMeasure(Measure, Protocol):
    """A measure for whose sake a run goes on after its last crossing, to the horizon at most."""

    def done(self, state: PyTree) -> Array:
        """Return whether this measure has seen all that it waits for, a boolean scalar."""
        ...


class OfWholeRuns:
    """Marks a measure that has something to tell only of a run that was seen to its T90."""


class EndsWithLearning:
    """Marks a measure of the learning curve up to T90, also where a run goes on beyond it."""


@dataclass(frozen=True)
class Measures:
    """The observer of an evaluation: the crossings of a plateau, then any other measures.

    Where runs end with their plateaus, measures of whole runs see nothing and tell nothing.

    Attributes:
        crossings: the measure that decides when a run has been seen to its end.
        others: what else is measured, in the order of the table's columns.
    """

    crossings: Crossings
    others: tuple[Measure, ...] = ()

    def __post_init__(self) -> None:
        """Omit what would cost time in every epoch for nothing."""
        if self.crossings.until == "plateau":
            others = (Blank(m.columns) if isinstance(m, OfWholeRuns) else m for m in self.others)
            object.__setattr__(self, "others", tuple(others))

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
        """Return whether runs go on to their horizon whatever becomes of their plateau."""
        return self.crossings.until == "horizon"

    def shares(self, dtype: Any) -> tuple[Array, ...]:
        """Return the shares of the first excess whose crossings are looked for."""
        return self.crossings.shares(dtype)

    def init(self, start: Start) -> tuple[PyTree, ...]:
        """Return the states of all measures."""
        return tuple(measure.init(start) for measure in self.all)

    def step(self, state: tuple, start: Start, now: Observation) -> tuple[PyTree, ...]:
        """Return the states of all measures after the epoch `now`."""
        stepped = tuple(m.step(s, start, now) for m, s in zip(self.all, state, strict=True))
        if not self.to_horizon:
            return stepped
        learned = state[0].epochs[-1] != NO_EPOCH
        return tuple(
            jax.tree.map(lambda a, b: jnp.where(learned, a, b), old, new)
            if isinstance(measure, EndsWithLearning)
            else new
            for measure, old, new in zip(self.all, state, stepped, strict=True)
        )

    def done(self, state: tuple) -> Array:
        """Return whether the last crossing that is asked for has come, and nobody waits on."""
        done = self.crossings.done(state[0])
        for measure, own in zip(self.others, state[1:], strict=True):
            if isinstance(measure, LongMeasure):
                done &= measure.done(own)
        return done

    def escaped(self, state: tuple) -> Array:
        """Return whether T10 has come."""
        return state[0].epochs[0] != NO_EPOCH

    def decisive_epochs(self, state: tuple) -> tuple[Array, ...] | None:
        """Return the landmarks of all measures, or None if one of them has to see every epoch."""
        found: tuple[Array, ...] = ()
        for measure, own in zip(self.all, state, strict=True):
            more = measure.decisive_epochs(own)
            if more is None:
                return None
            found += more
        return found

    def finish(self, state: tuple, start: Start, end: End) -> Record:
        """Return the record of one run: a scalar for each column, and the `DIAGNOSTICS`."""
        record: Record = {}
        for measure, own in zip(self.all, state, strict=True):
            record |= measure.finish(own, start, end, record)
        return record | self.crossings.diagnostics(state[0], start, end)


def share_left(drop: float) -> float:
    """Return the share of the excess that is left after `drop`, read as the decimal it is.

    One tenth is left after 0.9: `1 - 0.9` would be 0.09999999999999998.
    """
    return float(1 - Decimal(repr(drop)))


_LEAP = ("simulate", "leap")
"""The methods of columns that theory fills, too, or that a run's start decides."""

_SIMULATE = ("simulate",)
"""The method of columns that only a run itself can fill."""


def _epochs(name: str, meaning: str, methods: tuple[str, ...] = _LEAP) -> Column:
    return Column(name, "Int64", "epochs", meaning, methods=methods)


def _number(name: str, meaning: str, unit: str = "1", methods: tuple[str, ...] = _LEAP) -> Column:
    return Column(name, "float64", unit, meaning, methods=methods)


class CrossingState(NamedTuple):
    """First epochs at or under each level, the way past them, and the excess one epoch ago."""

    epochs: tuple[Array, ...]
    overshot: tuple[Array, ...]
    previous: Array


@dataclass(frozen=True)
class Crossings:
    """T10, T50, T90, the plateau fraction, and the status of the plateau.

    `T` is the first epoch n with `L_n ≤ (1 − drop) L_0`, L the loss excess. The plateau fraction
    is T10/T90 of the crossings interpolated linearly between epochs: for a matching loss at most
    1/9 while y is 0 or 1, or while lr (1 + x²) is at most 4, but for rounding.

    Attributes:
        until: "tenth" to run on to T90, "plateau" to stop at T10, "horizon" to make every epoch.
        nudges: for each level a relative change of it, zero but where exact arithmetic has decided
            a tie that the run's own arithmetic cannot (see `plateaumap.runner.evaluator`).
    """

    until: str = "tenth"
    nudges: tuple[Any, ...] = (0.0,) * len(LEVELS)

    def shares(self, dtype: Any) -> tuple[Array, ...]:
        """Return the share of the first excess at each level, scalars of a dtype."""
        return tuple(
            jnp.asarray(share_left(drop) * (1 + nudge), dtype)
            for drop, nudge in zip(LEVELS.values(), self.nudges, strict=True)
        )

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return status, the three crossings and the plateau fraction."""
        return (
            Column("status", "category", "1", "what became of the plateau", STATUSES, _LEAP),
            _epochs("plateau_epochs", "T10: first epoch with a tenth of the loss excess gone"),
            _epochs("half_epochs", "T50: first epoch with half of the loss excess gone"),
            _epochs("tenth_epochs", "T90: first epoch with a tenth of the loss excess left"),
            _number("plateau_fraction", "T10/T90, interpolated: share spent getting started"),
        )

    def init(self, start: Start) -> CrossingState:
        """No level has been crossed."""
        never = jnp.full_like(start.epoch, NO_EPOCH)
        zero = jnp.zeros_like(start.excess)
        return CrossingState((never,) * len(LEVELS), (zero,) * len(LEVELS), start.excess)

    def step(self, state: CrossingState, start: Start, now: Observation) -> CrossingState:
        """Note the levels that are crossed for the first time."""
        step_fall = state.previous - now.excess
        epochs, overshot = [], []
        for share, epoch, past in zip(start.shares, state.epochs, state.overshot, strict=True):
            level = share * start.excess
            crosses = (epoch == NO_EPOCH) & (now.excess <= level)
            if self.until == "horizon":  # where a run goes on though rounding has lengthened it
                crosses &= now.lost <= LOST_EPOCHS_ALLOWED
            epochs.append(jnp.where(crosses, now.epoch, epoch))
            overshot.append(jnp.where(crosses, (level - now.excess) / step_fall, past))
        return CrossingState(tuple(epochs), tuple(overshot), now.excess)

    def done(self, state: CrossingState) -> Array:
        """Return whether T90 (or, with `until="plateau"`, T10) has come; else never."""
        if self.until == "horizon":
            return jnp.bool_(False)
        last = state.epochs[0] if self.until == "plateau" else state.epochs[-1]
        return last != NO_EPOCH

    def decisive_epochs(self, state: CrossingState) -> tuple[Array, ...]:
        """Return the crossings but one that ends the run."""
        if self.until == "horizon":
            return state.epochs
        return () if self.until == "plateau" else state.epochs[:-1]

    def finish(
        self, state: CrossingState, start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return the columns; T10 is null unless the status is `escaped`."""
        del start, record
        epochs = self._finite_epochs(state, end)
        code = {status: jnp.int8(i) for i, status in enumerate(STATUSES)}
        partially = (end.lost > LOST_EPOCHS_ALLOWED) & (end.stop != Stop.STATIONARY)
        status = jnp.where(partially, code["partially_stalled"], code["censored"])
        for stop, name in _STATUS_OF_STOP.items():
            status = jnp.where((end.stop == stop) & ~partially, code[name], status)
        for stop in (Stop.NOT_FINITE, Stop.CONVERGED):
            status = jnp.where(end.stop == stop, code[_STATUS_OF_STOP[stop]], status)
        # A status speaks of the plateau: what came after it does not change it.
        status = jnp.where(epochs[0] != NO_EPOCH, code["escaped"], status)
        plateau, half, tenth = epochs
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

    def _finite_epochs(self, state: CrossingState, end: End) -> tuple[Array, ...]:
        """Return the crossings but those at an epoch where the numbers broke down."""
        broken = end.stop == Stop.NOT_FINITE
        return tuple(
            jnp.where(broken & (epoch == end.epochs), NO_EPOCH, epoch) for epoch in state.epochs
        )

    def diagnostics(self, state: CrossingState, start: Start, end: End) -> Record:
        """Return what a sweep needs to know of a run beside its columns.

        `.past NAME` is how much of an epoch lies between a crossing and its level: next to 0 or
        to 1 rounding may have decided it.
        """
        found: Record = {".stop": end.stop}
        for name, share, epoch, past in zip(
            LEVELS, start.shares, state.epochs, state.overshot, strict=True
        ):
            next_to_it = jnp.abs(end.excess - share * start.excess) <= NEAR_LEVEL * start.excess
            missed = jnp.where(next_to_it, 0.0, 0.5).astype(past.dtype)
            found[f".past {name}"] = jnp.where(epoch == NO_EPOCH, missed, past)
        return found


NEAR_LEVEL = 1e-9
"""How near to a level, as a share of the first excess, a run may end that did not cross it."""


_STATUS_OF_STOP = {
    Stop.STALLED: "stalled",
    Stop.STATIONARY: "stationary",
    Stop.NOT_FINITE: "not_finite",
    Stop.CONVERGED: "converged_at_start",
}


def _if_finished(record: Mapping[str, Array], value: Array) -> Array:
    """Return `value` where the run was seen to T90, else NaN: a maximum could still have come."""
    return jnp.where(record["tenth_epochs"] == NO_EPOCH, jnp.nan, value)


class AccelerationState(NamedTuple):
    """The largest gradient and its epoch."""

    gradient: Array
    epoch: Array


@dataclass(frozen=True)
class Acceleration(OfWholeRuns, EndsWithLearning):
    """The largest gradient over the first one: 1 where learning is fastest when most wrong."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the acceleration."""
        return (_number("acceleration", "largest gradient over the first gradient"),)

    def init(self, start: Start) -> AccelerationState:
        """Begin with the first gradient."""
        return AccelerationState(jnp.abs(start.gradient), start.epoch)

    def step(self, state: AccelerationState, start: Start, now: Observation) -> AccelerationState:
        """Keep the larger one."""
        del start
        size = jnp.abs(now.gradient)
        larger = size > state.gradient
        return AccelerationState(
            jnp.where(larger, size, state.gradient), jnp.where(larger, now.epoch, state.epoch)
        )

    def decisive_epochs(self, state: AccelerationState) -> tuple[Array, ...]:
        """Return the epoch of the largest gradient."""
        return (state.epoch,)

    def finish(
        self, state: AccelerationState, start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return the ratio, NaN where T90 was not reached or the first gradient is zero."""
        del end
        moving = start.gradient != 0  # of nothing there is no multiple
        ratio = state.gradient / jnp.where(moving, jnp.abs(start.gradient), 1)
        return {"acceleration": _if_finished(record, jnp.where(moving, ratio, jnp.nan))}


class SteepestState(NamedTuple):
    """The largest fall of the loss in one step, where it begins, and the excess there."""

    fall: Array
    epoch: Array
    excess: Array


@dataclass(frozen=True)
class Steepest(OfWholeRuns, EndsWithLearning):
    """The epoch of the largest fall of the loss, and the lag that its tangent cuts off.

    The tangent lag is where the tangent of the steepest step meets the loss at the start: the
    lag time of growth curves.
    """

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return tangent lag and steepest epoch."""
        return (
            _number("tangent_lag", "where the steepest tangent meets the first loss", "epochs"),
            _epochs("steepest_epoch", "epoch n of the largest fall from n to n + 1", _SIMULATE),
        )

    def init(self, start: Start) -> SteepestState:
        """No step has been seen; the first one is steeper than none."""
        nothing = jnp.full_like(start.excess, -jnp.inf)
        return SteepestState(nothing, jnp.full_like(start.epoch, NO_EPOCH), start.excess)

    def step(self, state: SteepestState, start: Start, now: Observation) -> SteepestState:
        """Keep the steeper step; of those that are equal up to rounding the first."""

        def rounding(fall: Array, since: Array) -> Array:
            size = jnp.abs(fall) if now.fall_is_known else since + jnp.abs(start.floor)
            return FALL_ROUNDING * jnp.finfo(fall.dtype).eps * size

        least = now.fall - rounding(now.fall, now.fall_from)
        most = state.fall + rounding(state.fall, state.excess)
        steeper = ((state.epoch == NO_EPOCH) | (least > most)) & (now.fall_epoch >= 0)
        return SteepestState(
            jnp.where(steeper, now.fall, state.fall),
            jnp.where(steeper, now.fall_epoch, state.epoch),
            jnp.where(steeper, now.fall_from, state.excess),
        )

    def decisive_epochs(self, state: SteepestState) -> tuple[Array, ...]:
        """Return the steepest epoch."""
        return (state.epoch,)

    def finish(
        self, state: SteepestState, start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return both, null where T90 was not reached."""
        del end
        lag = state.epoch - (start.excess - state.excess) / state.fall
        finished = record["tenth_epochs"] != NO_EPOCH
        return {
            "tangent_lag": _if_finished(record, lag),
            "steepest_epoch": jnp.where(finished, state.epoch, NO_EPOCH),
        }


class Stateless:
    """A measure of the two ends of a run only."""

    def init(self, start: Start) -> tuple[()]:
        """Keep nothing."""
        del start
        return ()

    def step(self, state: tuple[()], start: Start, now: Observation) -> tuple[()]:
        """Keep nothing."""
        del start, now
        return state

    def decisive_epochs(self, state: tuple[()]) -> tuple[Array, ...]:
        """Return none: nothing on the way matters."""
        del state
        return ()


@dataclass(frozen=True)
class Blank(Stateless):
    """Columns in which there is nothing to tell.

    Attributes:
        columns: the columns.
    """

    columns: tuple[Column, ...]

    def finish(
        self, state: tuple[()], start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return nulls."""
        del state, record
        nothing = {
            "Int64": jnp.full_like(end.epochs, NO_EPOCH),
            "category": jnp.int8(-1),
            "float64": jnp.full_like(start.excess, jnp.nan),
        }
        return {column.name: nothing[column.dtype] for column in self.columns}


@dataclass(frozen=True)
class Outputs(Stateless):
    """The model's output at both ends of a run."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return initial and final output."""
        return (
            _number("initial_output", "the output at the start"),
            _number("final_output", "the output where the run stopped", methods=_SIMULATE),
        )

    def finish(
        self, state: tuple[()], start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return both; the problem must have an output."""
        del state, record
        assert start.output is not None
        assert end.output is not None
        return {"initial_output": start.output, "final_output": end.output}


@dataclass(frozen=True)
class InitialGradient(Stateless):
    """The gradient at the start."""

    meaning: str = "gradient at the start"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the initial gradient."""
        return (_number("initial_gradient", self.meaning),)

    def finish(
        self, state: tuple[()], start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return it with its sign."""
        del state, end, record
        return {"initial_gradient": start.gradient}


@dataclass(frozen=True)
class Losses(Stateless):
    """The raw loss at both ends of a run, and its floor."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return initial loss, final loss and floor."""
        return (
            _number("initial_loss", "the loss at the start", "loss"),
            _number("final_loss", "the loss where the run stopped", "loss", _SIMULATE),
            _number("loss_floor", "the least that the loss can be", "loss"),
        )

    def finish(
        self, state: tuple[()], start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return the raw losses: the excess with the floor added back."""
        del state, record
        return {
            "initial_loss": start.excess + start.floor,
            "final_loss": end.excess + start.floor,
            "loss_floor": start.floor,
        }


@dataclass(frozen=True)
class Final(Stateless):
    """A number of one's own from the parameters where a run stopped, such as an accuracy.

    Attributes:
        name: the column's.
        function: from parameters to a scalar; a method of the experiment sees its data.
        meaning: in words.
    """

    name: str
    function: Callable[[PyTree], Array]
    meaning: str = "measured where the run stopped"

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the one column."""
        return (_number(self.name, self.meaning, methods=_SIMULATE),)

    def finish(
        self, state: tuple[()], start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return the number."""
        del state, start, record
        return {self.name: self.function(end.parameters)}


class DisplacementState(NamedTuple):
    """How far the parameters have moved so far, and whether the plateau is behind."""

    moved: PyTree
    left: Array


@dataclass(frozen=True)
class Displacement:
    """How far each parameter has moved by the end of the plateau.

    Attributes:
        names: a column name for each leaf of the parameters, in the order of the pytree.
    """

    names: tuple[str, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return one column for each parameter."""
        return tuple(_number(name, "displacement of the parameter by T10") for name in self.names)

    def init(self, start: Start) -> DisplacementState:
        """Nothing has moved."""
        return DisplacementState(jax.tree.map(jnp.zeros_like, start.parameters), jnp.bool_(False))

    def step(self, state: DisplacementState, start: Start, now: Observation) -> DisplacementState:
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
        """Return none: T10 is a landmark of the crossings, or the end."""
        del state
        return ()

    def finish(
        self, state: DisplacementState, start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return the displacements by T10, NaN where there is no T10."""
        del start, end
        stayed = record["plateau_epochs"] == NO_EPOCH
        leaves = jax.tree.leaves(state.moved)
        return {
            name: jnp.where(stayed, jnp.nan, leaf)
            for name, leaf in zip(self.names, leaves, strict=True)
        }


@dataclass(frozen=True)
class Duration(Stateless):
    """How many updates the run made."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the number of updates."""
        return (_epochs("epochs_run", "updates until this run's own stop"),)

    def finish(
        self, state: tuple[()], start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return the epoch at which the run stopped."""
        del state, start, record
        return {"epochs_run": end.epochs}


class PathState(NamedTuple):
    """The last gradient with the sign of its side, how often that has flipped, and if it grew.

    The gradient is NaN before the first one has been seen.
    """

    gradient: Array
    flips: Array
    rebounds: Array


@dataclass(frozen=True)
class Path(EndsWithLearning):
    """Whether a run went past its target, and how.

    `overshoot`: the derivative of the loss by the output changed its sign once. `oscillating`:
    more than once. `rebound`: past the target the gradient grew from epoch to epoch, a second
    plateau. Null: none of these, or a model without one output.
    """

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the path."""
        return (Column("path", "category", "1", "how the run passed its target", PATHS, _LEAP),)

    def init(self, start: Start) -> PathState:
        """Nothing has been passed."""
        unknown = jnp.full_like(start.gradient, jnp.nan)
        return PathState(unknown, jnp.zeros((), jnp.int32), jnp.bool_(False))

    def step(self, state: PathState, start: Start, now: Observation) -> PathState:
        """Compare the gradient with the one before, and its side with the last one known."""
        del start
        if now.direction is None:
            return state
        # Where it is on its target the side is the last one known; zero has a sign, too.
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
        """Return none: a unimodal run does not go past its target."""
        del state
        return ()

    def finish(
        self, state: PathState, start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return the index of the path, negative for none."""
        del start, end, record
        code = jnp.where(state.flips == 1, 0, jnp.where(state.flips > 1, 1, -1))
        return {"path": jnp.where(state.rebounds, 2, code).astype(jnp.int8)}


@dataclass(frozen=True)
class Shape(Stateless):
    """The kind of learning curve, from its acceleration and its plateau fraction."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the shape."""
        return (Column("shape", "category", "1", "the kind of learning curve", SHAPES, _LEAP),)

    def finish(
        self, state: tuple[()], start: Start, end: End, record: Mapping[str, Array]
    ) -> Record:
        """Return `none` without acceleration, `plateau` from a fraction of one half, else `weak`.

        Null where the run was not seen to T90.
        """
        del state, start, end
        slows_down = record["acceleration"] <= 1 + SHAPE_TOLERANCE
        shape = jnp.where(slows_down, 0, jnp.where(record["plateau_fraction"] >= 0.5, 1, 2))
        return {"shape": jnp.where(jnp.isnan(record["acceleration"]), -1, shape).astype(jnp.int8)}


STANDARD = (Acceleration(), Steepest())
"""What is measured of every run beside its crossings."""

ENDINGS = (Duration(), Path(), Shape())
"""What closes every record."""
