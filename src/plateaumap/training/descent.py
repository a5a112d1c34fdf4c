"""Gradient descent from one initial point, as pure functions of one epoch.

A run is `Descent.start`, then `Descent.step`, one epoch at a time, until its `stop` is no longer
`Stop.RUNNING`. `plateaumap.training.search` runs whole runs, and can skip epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import Array

from plateaumap.training.measures import (
    LOST_EPOCHS_ALLOWED,
    End,
    Measures,
    Observation,
    Start,
    Stop,
)

PyTree = Any


class Problem(NamedTuple):
    """A model and its loss, bound to one point of a sweep.

    Attributes:
        parameters: the initial values of the trained parameters, a pytree of float arrays.
        whole: returns the parameters as the user wrote them, from the trained ones.
        optimizer: an Optax gradient transformation that takes `value`, the loss.
        excess: the loss above `floor`, a differentiable scalar function of the parameters.
        slope: value and gradients of `excess`.
        floor: the least value of the loss, scalar.
        gradient_scalar: the scalar that represents a gradient, from the pytree of gradients.
        direction: a scalar with the sign of the derivative of the loss by the model's one output,
            from parameters and gradients, or None.
        decrease: the decrease of the loss by one update, from parameters and updates, without
            cancellation; None for the difference of two losses.
        converged: whether the initial point is already good enough, boolean scalar.
        output: the model's output, scalar, from its parameters; None if it does not have one.
        descent: value and gradients of the loss that an update follows, from parameters and epoch,
            if that is not `excess`.
        unimodal: whether it is known that the loss decreases at every epoch, and that
            `gradient_scalar` and `decrease` rise to at most one peak, boolean scalar; None if
            nothing is known. Without `decrease` it must be None.
        never_flat: whether a gradient of zero with a positive excess can only be an underflow.
    """

    parameters: PyTree
    whole: Callable[[PyTree], PyTree]
    optimizer: optax.GradientTransformationExtraArgs
    excess: Callable[[PyTree], Array]
    slope: Callable[[PyTree], tuple[Array, PyTree]]
    floor: Array
    gradient_scalar: Callable[[PyTree], Array]
    direction: Callable[[PyTree, PyTree], Array | None]
    decrease: Callable[[PyTree, PyTree], Array] | None
    converged: Array
    output: Callable[[PyTree], Array] | None = None
    descent: Callable[[PyTree, Array], tuple[Array, PyTree]] | None = None
    unimodal: Array | None = None
    never_flat: bool = False

    def output_of(self, parameters: PyTree) -> Array | None:
        """Return the model's output, or None."""
        return None if self.output is None else self.output(parameters)

    def gradients_at(self, parameters: PyTree, epoch: Array) -> tuple[Array, Array, PyTree]:
        """Return the excess, the loss that an update follows, and the gradients of that loss."""
        if self.descent is None:
            excess, gradients = self.slope(parameters)
            return excess, excess + self.floor, gradients
        value, gradients = self.descent(parameters, epoch)
        return self.excess(parameters), value, gradients


class PlainApply(NamedTuple):
    """Addition of updates to parameters, as in `optax.apply_updates`."""

    def init(self, parameters: PyTree) -> PyTree:
        """Return an empty carry."""
        return ()

    def __call__(self, parameters: PyTree, updates: PyTree, carry: PyTree) -> tuple[PyTree, PyTree]:
        """Return the updated parameters, and the carry from one update to the next."""
        return optax.apply_updates(parameters, updates), carry

    def smallest_update(self, size: Array) -> Array:
        """Return a bound that an update must exceed to move a parameter of this size for certain.

        The bound is half a unit in the last place of the parameter.
        """
        return size * (jnp.finfo(size.dtype).eps / 2)


class CompensatedApply(NamedTuple):
    """Kahan summation: the rounding error of an update is added to the next one.

    W. Kahan, "Further remarks on reducing truncation errors", CACM 8 (1965), 40.
    """

    def init(self, parameters: PyTree) -> PyTree:
        """Return one compensation of zero for each parameter."""
        return jax.tree.map(jnp.zeros_like, parameters)

    def __call__(self, parameters: PyTree, updates: PyTree, carry: PyTree) -> tuple[PyTree, PyTree]:
        """Return the compensated sum and its remaining error."""
        updates = jax.tree.map(lambda u, p: u.astype(p.dtype), updates, parameters)
        corrected = jax.tree.map(jnp.subtract, updates, carry)
        summed = jax.tree.map(jnp.add, parameters, corrected)
        error = jax.tree.map(lambda new, old, c: (new - old) - c, summed, parameters, corrected)
        return summed, error

    def smallest_update(self, size: Array) -> Array:
        """Return half a unit in the last place of the largest compensation."""
        return size * (jnp.finfo(size.dtype).eps / 2) ** 2


Apply: TypeAlias = PlainApply | CompensatedApply
"""How updates are added to parameters."""


class TrainState(NamedTuple):
    """Everything on which the next update depends.

    Attributes:
        parameters: the trained parameters.
        optimizer: the state of the optimizer.
        carry: the carry of `Apply`.
    """

    parameters: PyTree
    optimizer: PyTree
    carry: PyTree


class RunState(NamedTuple):
    """The carry of one run.

    Attributes:
        last: the training state that was observed last; where the run has stopped, its last one.
        current: the training state that is observed next, one update further.
        epoch: the number of updates up to `current`, integer scalar.
        measured: the states of the measures before they observe this epoch.
        previous_excess: the excess one epoch ago; None if the problem computes its `decrease`.
        lost: the epochs swallowed so far by parameters that did not move, float scalar.
        stop: a `Stop`, integer scalar.
    """

    last: TrainState
    current: TrainState
    epoch: Array
    measured: PyTree
    previous_excess: Array | None
    lost: Array
    stop: Array

    @property
    def running(self) -> Array:
        """Return whether the run has not stopped."""
        return self.stop == Stop.RUNNING


class ObservedEpoch(NamedTuple):
    """The result of observing one epoch.

    Attributes:
        measured: the states of the measures after this epoch.
        ahead: the training state after the next update.
        frozen: for each parameter, whether the update leaves it exactly as it is.
        finite: whether loss and parameters are finite.
        excess: the loss above its floor.
        value: the loss that the update follows.
        gradients: the gradients of that loss.
        updates: the updates of the optimizer.
    """

    measured: PyTree
    ahead: TrainState
    frozen: PyTree
    finite: Array
    excess: Array
    value: Array
    gradients: PyTree
    updates: PyTree

    def stalls(self) -> Array:
        """Return whether rounding swallows a part of this update."""
        swallowed = jax.tree.map(lambda f, u: f & (u != 0), self.frozen, self.updates)
        return _any(swallowed) | _all(self.frozen)


class Health(NamedTuple):
    """Conditions of an epoch that may end the run, boolean scalars except for the last.

    Attributes:
        finite: whether loss and parameters are finite.
        stationary: whether the gradient is zero and no update moves a parameter.
        unchanged: whether the update changes nothing although the gradient is not zero.
        share_lost: the share of this update that frozen parameters lose, float scalar.
    """

    finite: Array
    stationary: Array
    unchanged: Array
    share_lost: Array


class Descent(NamedTuple):
    """Gradient descent of one problem, with its measures.

    Attributes:
        problem: the model and its loss.
        measures: the measures of the run.
        apply: how updates are added.
    """

    problem: Problem
    measures: Measures
    apply: Apply

    def start(self, counter: jnp.dtype) -> tuple[Start, RunState]:
        """Return the initial point of the run, and the state before the first step.

        Args:
            counter: the integer dtype that counts epochs.
        """
        problem = self.problem
        zero = jnp.zeros((), counter)
        excess, _, gradients = problem.gradients_at(problem.parameters, zero)
        start = Start(
            epoch=zero,
            parameters=problem.whole(problem.parameters),
            excess=excess,
            gradient=problem.gradient_scalar(gradients),
            floor=problem.floor,
            output=problem.output_of(problem.parameters),
            shares=self.measures.crossings.shares(excess.dtype),
        )
        train_state = TrainState(
            problem.parameters,
            problem.optimizer.init(problem.parameters),
            self.apply.init(problem.parameters),
        )
        reasons = (
            (self._below_floor(start, excess), Stop.BELOW_FLOOR),
            (problem.converged | (excess <= 0), Stop.CONVERGED),
        )
        state = RunState(
            last=train_state,
            current=train_state,
            epoch=zero,
            measured=self.measures.init(start),
            previous_excess=excess if problem.decrease is None else None,
            lost=jnp.zeros_like(excess),
            stop=_first(reasons, zero),
        )
        return start, state

    def step(self, start: Start, state: RunState, horizon: Array) -> RunState:
        """Observe a run that has not stopped and, unless it stops now, apply the next update.

        A run stops if the loss or a parameter is not finite, the loss is below its floor, the
        measures are complete, the gradient is zero (stationary), frozen parameters have cost more
        than `LOST_EPOCHS_ALLOWED` epochs (partially stalled), an update changes nothing (stalled),
        or the horizon is reached. The first reason that holds is recorded. The horizon is the last
        one, so that a larger horizon does not change another reason. With `until="horizon"`, a run
        that has left its plateau or loses epochs continues.

        Args:
            start: the initial point of the run.
            state: the carry.
            horizon: the last epoch that is observed, integer scalar.
        """
        observed = self.observe(start, state)
        health = self._health(observed, state.current)
        lost = state.lost + jnp.where(health.unchanged, 0, health.share_lost)
        stationary, unchanged = health.stationary, health.unchanged
        partially = lost > LOST_EPOCHS_ALLOWED
        if self.measures.to_horizon:
            escaped = self.measures.escaped(observed.measured)
            stationary, unchanged = stationary & ~escaped, unchanged & ~escaped
            partially = jnp.zeros_like(partially)
        reasons = (
            (~health.finite, Stop.NOT_FINITE),
            (self._below_floor(start, observed.excess), Stop.BELOW_FLOOR),
            (self.measures.done(observed.measured), Stop.FINISHED),
            (stationary, Stop.STATIONARY),
            (partially, Stop.PARTIALLY_STALLED),
            (unchanged, Stop.STALLED),
            (state.epoch >= horizon, Stop.HORIZON),
        )
        return RunState(
            last=state.current,
            current=observed.ahead,
            epoch=state.epoch + 1,
            measured=observed.measured,
            previous_excess=observed.excess if self.problem.decrease is None else None,
            lost=lost,
            stop=_first(reasons, state.stop),
        )

    def end(self, state: RunState) -> End:
        """Return the last point of a run that has stopped."""
        parameters = state.last.parameters
        return End(
            parameters=self.problem.whole(parameters),
            excess=self.problem.excess(parameters),
            output=self.problem.output_of(parameters),
            stop=state.stop,
            epochs=jnp.maximum(state.epoch - 1, 0),
            lost=state.lost,
        )

    def observe(self, start: Start, state: RunState) -> ObservedEpoch:
        """Return the observation of the current epoch, and the training state after an update."""
        problem, parameters = self.problem, state.current.parameters
        # A one that the compiler cannot know: division by it keeps scalars from being fused into,
        # and computed again in, each loop that reads them.
        one = jnp.where(state.epoch >= 0, 1, jnp.nan).astype(state.lost.dtype)
        excess, value, gradients = problem.gradients_at(parameters, state.epoch)
        excess, gradients = jax.tree.map(lambda v: v if v.ndim else v / one, (excess, gradients))
        updates, ahead = self.update(state.current, value, gradients)
        if problem.decrease is None:
            assert state.previous_excess is not None
            before, epoch = state.previous_excess, state.epoch - 1
            decrease = before - excess
        else:
            decrease, before, epoch = problem.decrease(parameters, updates), excess, state.epoch
        now = Observation(
            epoch=state.epoch,
            parameters=problem.whole(parameters),
            excess=excess,
            gradient=problem.gradient_scalar(gradients),
            direction=problem.direction(parameters, gradients),
            lost=state.lost,
            decrease=decrease / one,
            decrease_is_known=problem.decrease is not None,
            decrease_from=before,
            decrease_epoch=epoch,
        )
        return ObservedEpoch(
            measured=self.measures.update(state.measured, start, now),
            ahead=ahead,
            frozen=_frozen(state.current, ahead),
            finite=_finite(excess, parameters),
            excess=excess,
            value=value,
            gradients=gradients,
            updates=updates,
        )

    def update(
        self, train_state: TrainState, value: Array, gradients: PyTree
    ) -> tuple[PyTree, TrainState]:
        """Return the optimizer's updates, and the training state after they have been added.

        Args:
            train_state: the training state before the updates.
            value: the loss at its parameters, for optimizers that need it.
            gradients: the gradients of that loss.
        """
        updates, optimizer = self.problem.optimizer.update(
            gradients, train_state.optimizer, train_state.parameters, value=value
        )
        parameters, carry = self.apply(train_state.parameters, updates, train_state.carry)
        return updates, TrainState(parameters, optimizer, carry)

    def _below_floor(self, start: Start, excess: Array) -> Array:
        """Return whether a loss is below its floor by more than a rounding error."""
        if self.problem.never_flat:  # a loss of this package, whose floor was derived
            return jnp.bool_(False)
        size = jnp.maximum(jnp.maximum(jnp.abs(start.excess), jnp.abs(start.floor)), 1)
        rounding = -_FLOOR_ROUNDING * jnp.finfo(excess.dtype).eps * size
        return jnp.isfinite(excess) & (excess < rounding)

    def _health(self, observed: ObservedEpoch, current: TrainState) -> Health:
        """Return the conditions of an epoch that may end the run.

        For models with arrays one pass over the parameters suffices, unless rounding has frozen
        some of them, which is rare.
        """
        if all(leaf.ndim == 0 for leaf in jax.tree.leaves(current.parameters)):
            return self._inspect(observed, current)
        flags = _flags(current.parameters, observed.frozen, observed.updates)
        fine = (flags & _MOVED != 0) & (flags & _SWALLOWED == 0)

        def inspect(place: tuple[TrainState, Array, PyTree]) -> tuple[Array, ...]:
            # The update is computed again: otherwise it would be written to memory every time.
            here, value, gradients = place
            updates, ahead = self.update(here, value, gradients)
            again = observed._replace(
                ahead=ahead, frozen=_frozen(here, ahead), gradients=gradients, updates=updates
            )
            return tuple(self._inspect(again, here)[1:])

        healthy = (jnp.bool_(False), jnp.bool_(False), jnp.zeros_like(observed.excess))
        place = (current, observed.value, observed.gradients)
        return Health(
            jnp.isfinite(observed.excess) & (flags & _NOT_FINITE == 0),
            *_only_where(~fine, inspect, place, healthy),
        )

    def _inspect(self, observed: ObservedEpoch, current: TrainState) -> Health:
        """Return the conditions of an epoch from all parameters one by one."""
        frozen = _all(observed.frozen)
        if self.problem.descent is not None:
            # The next batch may have a gradient where this one has none.
            stationary = unchanged = jnp.zeros_like(frozen)
        else:
            stationary = self._stationary(observed, current) & frozen
            unchanged = frozen & _same(current.optimizer, observed.ahead.optimizer) & ~stationary
        return Health(observed.finite, stationary, unchanged, _share_lost(observed))

    def _stationary(self, observed: ObservedEpoch, current: TrainState) -> Array:
        """Return whether gradients and updates are zero, now and at any later count.

        An optimizer keeps its counts as integers in its state. A schedule may later move a
        parameter that it leaves alone now, for example by a weight decay after a warm-up. So the
        update is also computed for later counts.
        """
        zero = _zero(observed.gradients) & _zero(observed.updates)
        if self.problem.never_flat:
            return jnp.zeros_like(zero)
        if not any(jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(current)):
            return zero
        update = self.problem.optimizer.update

        def later(place: tuple[TrainState, Array, PyTree]) -> Array:
            here, value, gradients = place

            def still(power: Array, so_far: Array) -> Array:
                state = jax.tree.map(lambda leaf: _counted(leaf, 2**power), here.optimizer)
                updates, _ = update(gradients, state, here.parameters, value=value)
                return so_far & _zero(updates)

            return jax.lax.fori_loop(0, _LATEST_COUNT, still, jnp.bool_(True))

        place = (current, observed.value, observed.gradients)
        return zero & _only_where(zero, later, place, jnp.bool_(False))


_FLOOR_ROUNDING = 1024
"""Units in the last place by which a loss at its minimum may lie below its floor."""

_LATEST_COUNT = 20
"""Powers of two up to which later counts of an optimizer are tried."""

_MOVED, _SWALLOWED, _NOT_FINITE = 1, 2, 4
"""Flags of parameters: one moved, one is frozen despite its update, one is not finite."""


def _first(reasons: tuple[tuple[Array, Stop], ...], like: Array) -> Array:
    """Return the first reason that holds, else `Stop.RUNNING`."""
    stop = jnp.full_like(like, Stop.RUNNING)
    for holds, reason in reversed(reasons):
        stop = jnp.where(holds, jnp.full_like(stop, reason), stop)
    return stop


def _counted(leaf: Array, epochs: Array) -> Array:
    integer = jnp.issubdtype(leaf.dtype, jnp.integer)
    return leaf + epochs.astype(leaf.dtype) if integer else leaf


def _flags(parameters: PyTree, frozen: PyTree, updates: PyTree) -> Array:
    """Return the flags that hold for any parameter, an integer scalar."""

    def of_leaf(parameter: Array, stays: Array, update: Array) -> Array:
        moved = jnp.where(stays, jnp.where(update != 0, _SWALLOWED, 0), _MOVED)
        each = moved | jnp.where(jnp.isfinite(parameter), 0, _NOT_FINITE)
        return jax.lax.reduce(
            each.astype(jnp.int32), jnp.int32(0), jax.lax.bitwise_or, [*range(each.ndim)]
        )

    leaves = jax.tree.leaves(jax.tree.map(of_leaf, parameters, frozen, updates))
    return reduce(jnp.bitwise_or, leaves)


def _only_where(
    needed: Array, compute: Callable[[PyTree], PyTree], argument: PyTree, otherwise: PyTree
) -> PyTree:
    """Return `compute(argument)` where needed, at no cost if no lane of a block needs it."""

    def once(carry: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        # The barrier keeps the compiler from computing it before the loop, needed or not.
        waiting, inside = jax.lax.optimization_barrier((carry[0], argument))
        return jnp.zeros_like(waiting), compute(inside)

    return jax.lax.while_loop(lambda carry: carry[0], once, (needed, otherwise))[1]


def _share_lost(observed: ObservedEpoch) -> Array:
    """Return the share of one epoch's first-order progress that frozen parameters lose.

    To first order an update `u` changes the loss by `Σ g u`. For the neuron this is the share of
    the change of z that is not applied. A parameter whose exact update is zero loses nothing.
    """
    # Relative to the largest of each, so that no product of small numbers underflows.
    gradients, updates = _relative(observed.gradients), _relative(observed.updates)
    work = jax.tree.map(jnp.multiply, gradients, updates)
    lost = _sum(jax.tree.map(lambda f, v: jnp.where(f, v, 0), observed.frozen, work))
    total = _sum(work)
    return jnp.where(lost > 0, lost / total, 0)


def _frozen(before: TrainState, after: TrainState) -> PyTree:
    """Return, leaf by leaf, which parameters an update has left exactly as they were."""
    same = jax.tree.map(jnp.equal, before.parameters, after.parameters)
    if not jax.tree.leaves(after.carry):
        return same
    return jax.tree.map(lambda a, b, c: a & (b == c), same, before.carry, after.carry)


def _relative(tree: PyTree) -> PyTree:
    """Return sizes as shares of the largest one."""
    sizes = jax.tree.map(jnp.abs, tree)
    largest = reduce(jnp.maximum, [jnp.max(leaf, initial=0) for leaf in jax.tree.leaves(sizes)])
    return jax.tree.map(lambda size: size / jnp.where(largest > 0, largest, 1), sizes)


def _finite(excess: Array, parameters: PyTree) -> Array:
    # 0·p is nan just where p is not finite, and summing zeros cannot overflow as Σ p could.
    return jnp.isfinite(excess + _sum(jax.tree.map(lambda p: 0 * p, parameters)))


def _sum(tree: PyTree) -> Array:
    return reduce(jnp.add, [jnp.sum(leaf) for leaf in jax.tree.leaves(tree)])


def _all(tree: PyTree) -> Array:
    return reduce(jnp.logical_and, [jnp.all(leaf) for leaf in jax.tree.leaves(tree)])


def _any(tree: PyTree) -> Array:
    return reduce(jnp.logical_or, [jnp.any(leaf) for leaf in jax.tree.leaves(tree)])


def _zero(tree: PyTree) -> Array:
    return _all(jax.tree.map(lambda leaf: leaf == 0, tree))


def _same(before: PyTree, after: PyTree) -> Array:
    leaves = jax.tree.leaves(jax.tree.map(jnp.array_equal, before, after))
    return reduce(jnp.logical_and, leaves, jnp.bool_(True))
