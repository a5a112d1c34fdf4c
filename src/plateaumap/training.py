"""One gradient-descent run as a pure function, an epoch at a time.

A run is `start`, then `step` until its `stop` is no longer `Stop.RUNNING`. All state lives in
the carry (`RunState`); a run that has stopped passes through `step` unchanged, so that many
runs can be advanced together. What is measured on the way is an `Observer`'s business.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import reduce
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

PyTree = Any

LOST_EPOCHS_ALLOWED = 0.5
"""Epochs that rounding may swallow before a run is called partially stalled."""


class Stop(IntEnum):
    """Why a run stopped."""

    RUNNING = 0
    FINISHED = 1
    CONVERGED = 2
    NOT_FINITE = 3
    PARTIALLY_STALLED = 4
    STALLED = 5
    HORIZON = 6


class Problem(NamedTuple):
    """What is trained, bound to one point of a sweep.

    Attributes:
        parameters: where the run starts, a pytree of arrays.
        optimizer: an Optax gradient transformation.
        excess: the loss above `floor`, a differentiable scalar function of the parameters.
        floor: the least value of the loss, scalar.
        speed: the scalar that stands for a gradient, from the pytree of gradients.
        fall: the drop of the loss by one update, from parameters and updates, without
            cancellation; None to take the difference of two losses.
        converged: whether the start is already good enough, boolean scalar.
        output: what the model puts out, scalar, from its parameters; None if it has no one output.
    """

    parameters: PyTree
    optimizer: optax.GradientTransformation
    excess: Callable[[PyTree], Array]
    floor: Array
    speed: Callable[[PyTree], Array]
    fall: Callable[[PyTree, PyTree], Array] | None
    converged: Array
    output: Callable[[PyTree], Array] | None = None


class Observation(NamedTuple):
    """What can be seen of a run at one epoch.

    Attributes:
        epoch: updates made so far, integer scalar.
        parameters: the parameters after that many updates.
        excess: the loss above its floor, scalar.
        gradient: the problem's `speed`, scalar.
        fall: drop of the loss in the step that begins at `fall_epoch`.
        fall_from: the loss excess at `fall_epoch`.
        fall_epoch: this epoch where the problem knows `fall` in advance, else the one before.
    """

    epoch: Array
    parameters: PyTree
    excess: Array
    gradient: Array
    fall: Array
    fall_from: Array
    fall_epoch: Array


class Start(NamedTuple):
    """The start of a run, against which it is measured.

    Attributes:
        epoch: zero, in the integer dtype that counts epochs.
        parameters: the parameters at the start.
        excess: the loss above its floor, scalar.
        gradient: the problem's `speed`, scalar.
        floor: the least value of the loss, scalar.
        output: the model's output, scalar, or None.
    """

    epoch: Array
    parameters: PyTree
    excess: Array
    gradient: Array
    floor: Array
    output: Array | None


class End(NamedTuple):
    """Where a run stopped.

    Attributes:
        parameters: the parameters there.
        excess: the loss above its floor, scalar.
        output: the model's output, scalar, or None.
        stop: why, a `Stop`.
        epochs: after how many updates, integer scalar.
    """

    parameters: PyTree
    excess: Array
    output: Array | None
    stop: Array
    epochs: Array


class Observer(Protocol):
    """Watches a run from inside its carry."""

    def init(self, start: Start) -> PyTree:
        """Return the state before epoch 0 has been observed."""
        ...

    def step(self, state: PyTree, start: Start, now: Observation) -> PyTree:
        """Return the state after one more epoch; called for epoch 0, 1, 2, ... in order."""
        ...

    def done(self, state: PyTree) -> Array:
        """Return whether nothing is left to be seen, a boolean scalar."""
        ...


class Apply(Protocol):
    """Adds updates to parameters; the hook for compensated arithmetic."""

    def init(self, parameters: PyTree) -> PyTree:
        """Return what is carried from one update to the next."""
        ...

    def __call__(self, parameters: PyTree, updates: PyTree, carry: PyTree) -> tuple[PyTree, PyTree]:
        """Return the updated parameters and the carry."""
        ...


class PlainApply(NamedTuple):
    """Adds updates as `optax.apply_updates` does."""

    def init(self, parameters: PyTree) -> PyTree:
        """Carry nothing."""
        del parameters
        return ()

    def __call__(self, parameters: PyTree, updates: PyTree, carry: PyTree) -> tuple[PyTree, PyTree]:
        """Return the rounded sum."""
        return optax.apply_updates(parameters, updates), carry


class CompensatedApply(NamedTuple):
    """Kahan summation: what rounding took from an update is added to the next one.

    W. Kahan, "Further remarks on reducing truncation errors", CACM 8 (1965), 40.
    """

    def init(self, parameters: PyTree) -> PyTree:
        """Carry one compensation for each parameter."""
        return jax.tree.map(jnp.zeros_like, parameters)

    def __call__(self, parameters: PyTree, updates: PyTree, carry: PyTree) -> tuple[PyTree, PyTree]:
        """Return the compensated sum and what it still lacks."""
        wanted = jax.tree.map(jnp.subtract, updates, carry)
        summed = jax.tree.map(jnp.add, parameters, wanted)
        lacking = jax.tree.map(lambda new, old, w: (new - old) - w, summed, parameters, wanted)
        return summed, lacking


class RunState(NamedTuple):
    """The carry of one run.

    Attributes:
        parameters: the parameters now.
        optimizer: the optimizer's state.
        carry: the `Apply` hook's carry.
        observed: the observer's state.
        previous_excess: the excess one epoch ago; None where the problem knows its fall.
        lost: epochs swallowed so far by parameters that did not move, float scalar.
        stop: a `Stop`, int8 scalar.
        epochs: the epoch at which the run stopped, integer scalar.
    """

    parameters: PyTree
    optimizer: PyTree
    carry: PyTree
    observed: PyTree
    previous_excess: Array | None
    lost: Array
    stop: Array
    epochs: Array


def start(
    problem: Problem, observer: Observer, apply: Apply, counter: jnp.dtype
) -> tuple[Start, RunState]:
    """Return the start of a run and its state before the first step.

    Args:
        problem: what is trained.
        observer: what watches.
        apply: how updates are added.
        counter: the integer dtype that counts epochs.
    """
    excess, gradients = jax.value_and_grad(problem.excess)(problem.parameters)
    zero = jnp.zeros((), counter)
    begin = Start(
        epoch=zero,
        parameters=problem.parameters,
        excess=excess,
        gradient=problem.speed(gradients),
        floor=problem.floor,
        output=_output(problem, problem.parameters),
    )
    converged = problem.converged | (excess <= 0)
    state = RunState(
        parameters=problem.parameters,
        optimizer=problem.optimizer.init(problem.parameters),
        carry=apply.init(problem.parameters),
        observed=observer.init(begin),
        previous_excess=excess if problem.fall is None else None,
        lost=jnp.zeros_like(excess),
        stop=jnp.where(converged, Stop.CONVERGED, Stop.RUNNING).astype(counter),
        epochs=zero,
    )
    return begin, state


def step(
    problem: Problem,
    observer: Observer,
    apply: Apply,
    begin: Start,
    state: RunState,
    epoch: Array,
    horizon: Array,
) -> RunState:
    """Observe the run at `epoch` and, unless it stops there, make the next update.

    A run stops when the observer is done, the loss or a parameter is not finite, the horizon is
    reached, an update changes nothing (stalled), or frozen parameters have cost more than
    `LOST_EPOCHS_ALLOWED` epochs (partially stalled). A stopped run comes back as it is.

    Args:
        problem: what is trained.
        observer: what watches.
        apply: how updates are added.
        begin: the start of this run.
        state: the carry, of a run that has made `epoch` updates or has stopped before.
        epoch: the number of this epoch, integer scalar.
        horizon: the last epoch to be observed, integer scalar.
    """
    excess, gradients = jax.value_and_grad(problem.excess)(state.parameters)
    updates, optimizer = problem.optimizer.update(gradients, state.optimizer, state.parameters)
    parameters, carry = apply(state.parameters, updates, state.carry)

    now = _observe(problem, state, epoch, excess, gradients, updates)
    observed = observer.step(state.observed, begin, now)

    frozen = _frozen(state, parameters, carry)
    unchanged = _all(frozen) & _same(state.optimizer, optimizer)
    lost = state.lost + jnp.where(unchanged, 0, _share_lost(frozen, gradients, updates))

    reasons = (
        (~_finite(excess, state.parameters), Stop.NOT_FINITE),
        (observer.done(observed), Stop.FINISHED),
        (epoch >= horizon, Stop.HORIZON),
        (lost > LOST_EPOCHS_ALLOWED, Stop.PARTIALLY_STALLED),
        (unchanged, Stop.STALLED),
    )
    stop = jnp.full_like(state.stop, Stop.RUNNING)
    for happened, reason in reversed(reasons):
        stop = jnp.where(happened, jnp.full_like(stop, reason), stop)

    running = state.stop == Stop.RUNNING
    goes_on = running & (stop == Stop.RUNNING)
    return RunState(
        parameters=_where(goes_on, parameters, state.parameters),
        optimizer=_where(goes_on, optimizer, state.optimizer),
        carry=_where(goes_on, carry, state.carry),
        observed=_where(running, observed, state.observed),
        previous_excess=_where(goes_on, excess, state.previous_excess)
        if problem.fall is None
        else None,
        lost=_where(goes_on, lost, state.lost),
        stop=jnp.where(running, stop, state.stop),
        epochs=jnp.where(running, epoch, state.epochs),
    )


def finish(problem: Problem, state: RunState) -> End:
    """Return where a run stands, once it has stopped."""
    return End(
        parameters=state.parameters,
        excess=problem.excess(state.parameters),
        output=_output(problem, state.parameters),
        stop=state.stop,
        epochs=state.epochs,
    )


def _output(problem: Problem, parameters: PyTree) -> Array | None:
    return None if problem.output is None else problem.output(parameters)


def _observe(
    problem: Problem,
    state: RunState,
    epoch: Array,
    excess: Array,
    gradients: PyTree,
    updates: PyTree,
) -> Observation:
    if problem.fall is None:
        assert state.previous_excess is not None
        known = state.previous_excess - excess, state.previous_excess, epoch - 1
    else:
        known = problem.fall(state.parameters, updates), excess, epoch
    return Observation(epoch, state.parameters, excess, problem.speed(gradients), *known)


def _frozen(state: RunState, parameters: PyTree, carry: PyTree) -> PyTree:
    """Return, leaf by leaf, which parameters an update has left exactly as they were."""
    same = jax.tree.map(jnp.equal, state.parameters, parameters)
    if not jax.tree.leaves(carry):
        return same
    return jax.tree.map(lambda a, b, c: a & (b == c), same, state.carry, carry)


def _share_lost(frozen: PyTree, gradients: PyTree, updates: PyTree) -> Array:
    """Return the share of one epoch's first-order progress that frozen parameters lose.

    To first order an update `u` changes the loss by `Σ g u`. For the neuron this is the share
    of the change of z that is not applied; a parameter whose exact update is zero loses nothing.
    """
    work = jax.tree.map(lambda g, u: jnp.abs(g * u), gradients, updates)
    lost = _sum(jax.tree.map(lambda f, v: jnp.where(f, v, 0), frozen, work))
    total = _sum(work)
    return jnp.where(lost > 0, lost / total, 0)


def _finite(excess: Array, parameters: PyTree) -> Array:
    # 0·p is nan just where p is not finite, and summing zeros cannot overflow as Σ p could.
    return jnp.isfinite(excess + _sum(jax.tree.map(lambda p: 0 * p, parameters)))


def _sum(tree: PyTree) -> Array:
    return reduce(jnp.add, [jnp.sum(leaf) for leaf in jax.tree.leaves(tree)])


def _all(tree: PyTree) -> Array:
    return reduce(jnp.logical_and, [jnp.all(leaf) for leaf in jax.tree.leaves(tree)])


def _same(before: PyTree, after: PyTree) -> Array:
    leaves = jax.tree.leaves(jax.tree.map(jnp.array_equal, before, after))
    return reduce(jnp.logical_and, leaves, jnp.bool_(True))


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
