"""One gradient-descent run as a pure function; what is measured is an `Observer`'s business.

A run is `start`, then `step`, an epoch at a time, until its `stop` is no longer `Stop.RUNNING`.
That is the definition, and how any run can be made.
`plateaumap.training.search` makes whole runs, and can do without looking at every epoch.
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
    STATIONARY = 7
    BELOW_FLOOR = 8


class Problem(NamedTuple):
    """What is trained, bound to one point of a sweep.

    Attributes:
        parameters: where the run starts, a pytree of float arrays: what is trained.
        whole: the parameters as the user wrote them, from what is trained.
        optimizer: an Optax gradient transformation that is given `value`, the loss.
        excess: the loss above `floor`, a differentiable scalar function of the parameters.
        slope: value and gradients of `excess`.
        floor: the least value of the loss, scalar.
        gradient_scalar: the scalar that stands for a gradient, from the pytree of gradients.
        direction: a scalar whose sign is that of the derivative of the loss by the model's one
            output, from parameters and gradients, or None.
        decrease: the drop of the loss by one update, from parameters and updates, without
            cancellation; None to take the difference of two losses.
        converged: whether the start is already good enough, boolean scalar.
        output: what the model puts out, scalar, from its parameters; None if it has no one output.
        descent: value and gradients of what an update descends, from parameters and epoch, if
            that is not `excess`.
        unimodal: whether it is known that from epoch to epoch the loss falls, and that
            `gradient_scalar` and `decrease` rise to one peak at most, boolean scalar; None if
            nothing is known. Without `decrease` it must be None.
        never_flat: whether a gradient of zero, with an excess, can only be an underflow.
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


class Observation(NamedTuple):
    """What can be seen of a run at one epoch.

    Attributes:
        epoch: updates made so far, integer scalar.
        parameters: the parameters after that many updates.
        excess: the loss above its floor, scalar.
        gradient: the problem's `gradient_scalar`, scalar.
        direction: its sign is that of dC/da, a the model's output; None if there is none.
        lost: epochs that rounding has swallowed before this one, float scalar.
        fall: drop of the loss in the step that begins at `fall_epoch`.
        fall_is_known: whether the problem knows `decrease`; if not it is a difference of losses.
        fall_from: the loss excess at `fall_epoch`.
        fall_epoch: this epoch where the problem knows `decrease` in advance, else the one before.
    """

    epoch: Array
    parameters: PyTree
    excess: Array
    gradient: Array
    direction: Array | None
    lost: Array
    fall: Array
    fall_is_known: bool
    fall_from: Array
    fall_epoch: Array


class Start(NamedTuple):
    """The start of a run, against which it is measured.

    Attributes:
        epoch: zero, in the integer dtype that counts epochs.
        parameters: the parameters at the start.
        excess: the loss above its floor, scalar.
        gradient: the problem's `gradient_scalar`, scalar.
        floor: the least value of the loss, scalar.
        output: the model's output, scalar, or None.
        shares: the shares of the excess at which the observer ends the plateau, and what follows.
    """

    epoch: Array
    parameters: PyTree
    excess: Array
    gradient: Array
    floor: Array
    output: Array | None
    shares: tuple[Array, ...]


class End(NamedTuple):
    """Where a run stopped.

    Attributes:
        parameters: the parameters there.
        excess: the loss above its floor, scalar.
        output: the model's output, scalar, or None.
        stop: why, a `Stop`.
        epochs: after how many updates, integer scalar.
        lost: epochs that rounding has swallowed, float scalar.
    """

    parameters: PyTree
    excess: Array
    output: Array | None
    stop: Array
    epochs: Array
    lost: Array


class Observer(Protocol):
    """Watches a run from inside its carry.

    Attributes:
        to_horizon: whether a run goes on to its horizon whatever becomes of its plateau.
    """

    @property
    def to_horizon(self) -> bool: ...  # noqa: D102

    def shares(self, dtype: Any) -> tuple[Array, ...]:
        """Return the shares of the first excess that are looked for, scalars of a dtype."""
        ...

    def init(self, start: Start) -> PyTree:
        """Return the state before epoch 0 has been observed."""
        ...

    def step(self, state: PyTree, start: Start, now: Observation) -> PyTree:
        """Return the state after one more epoch; called for epoch 0, 1, 2, ... in order."""
        ...

    def done(self, state: PyTree) -> Array:
        """Return whether nothing is left to be seen, a boolean scalar."""
        ...

    def escaped(self, state: PyTree) -> Array:
        """Return whether the run has left its plateau, a boolean scalar."""
        ...

    def decisive_epochs(self, state: PyTree) -> tuple[Array, ...] | None:
        """Return the epochs that have made this state what it is, or None if all of them have.

        Of a unimodal run, the epochs next to its landmarks and those before its end are all that
        has to be observed. An epoch is an integer scalar, negative for one that has not come.
        """
        ...


class Apply(Protocol):
    """Adds updates to parameters; the hook for compensated arithmetic."""

    def init(self, parameters: PyTree) -> PyTree:
        """Return what is carried from one update to the next."""
        ...

    def __call__(self, parameters: PyTree, updates: PyTree, carry: PyTree) -> tuple[PyTree, PyTree]:
        """Return the updated parameters and the carry."""
        ...

    def smallest_update(self, size: Array) -> Array:
        """Return what an update must exceed to move a parameter of this size for certain."""
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

    def smallest_update(self, size: Array) -> Array:
        """Return an upper bound of half a unit in the last place of the parameter."""
        return size * (jnp.finfo(size.dtype).eps / 2)


class CompensatedApply(NamedTuple):
    """Kahan summation: what rounding took from an update is added to the next one.

    W. Kahan, "Further remarks on reducing truncation errors", CACM 8 (1965), 40.
    """

    def init(self, parameters: PyTree) -> PyTree:
        """Carry one compensation for each parameter."""
        return jax.tree.map(jnp.zeros_like, parameters)

    def __call__(self, parameters: PyTree, updates: PyTree, carry: PyTree) -> tuple[PyTree, PyTree]:
        """Return the compensated sum and what it still lacks."""
        updates = jax.tree.map(lambda u, p: u.astype(p.dtype), updates, parameters)
        wanted = jax.tree.map(jnp.subtract, updates, carry)
        summed = jax.tree.map(jnp.add, parameters, wanted)
        lacking = jax.tree.map(lambda new, old, w: (new - old) - w, summed, parameters, wanted)
        return summed, lacking

    def smallest_update(self, size: Array) -> Array:
        """Return half a unit in the last place of what an update can lack."""
        return size * (jnp.finfo(size.dtype).eps / 2) ** 2


class Position(NamedTuple):
    """All that the next update depends on.

    Attributes:
        parameters: the parameters.
        optimizer: the optimizer's state.
        carry: the `Apply` hook's carry.
    """

    parameters: PyTree
    optimizer: PyTree
    carry: PyTree


class RunState(NamedTuple):
    """The carry of one run.

    Attributes:
        here: where the run was last observed; where it stopped, if it has.
        position: where it is to be observed next, one update further.
        epoch: updates made to come to `position`, integer scalar.
        observed: the observer's state, before it sees this epoch.
        previous_excess: the excess one epoch ago; None where the problem knows its fall.
        lost: epochs swallowed so far by parameters that did not move, float scalar.
        stop: a `Stop`, integer scalar.
    """

    here: Position
    position: Position
    epoch: Array
    observed: PyTree
    previous_excess: Array | None
    lost: Array
    stop: Array


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
    zero = jnp.zeros((), counter)
    excess, _, gradients = _slope(problem, problem.parameters, zero)
    begin = Start(
        epoch=zero,
        parameters=problem.whole(problem.parameters),
        excess=excess,
        gradient=problem.gradient_scalar(gradients),
        floor=problem.floor,
        output=_output(problem, problem.parameters),
        shares=observer.shares(excess.dtype),
    )
    position = Position(
        problem.parameters,
        problem.optimizer.init(problem.parameters),
        apply.init(problem.parameters),
    )
    reasons = (
        (_below_floor(problem, begin, excess), Stop.BELOW_FLOOR),
        (problem.converged | (excess <= 0), Stop.CONVERGED),
    )
    state = RunState(
        here=position,
        position=position,
        epoch=zero,
        observed=observer.init(begin),
        previous_excess=excess if problem.decrease is None else None,
        lost=jnp.zeros_like(excess),
        stop=_first(reasons, zero),
    )
    return begin, state


def step(
    problem: Problem,
    observer: Observer,
    apply: Apply,
    begin: Start,
    state: RunState,
    horizon: Array,
) -> RunState:
    """Observe a run that has not stopped and, unless it stops now, make the next update.

    A run stops when the loss or a parameter is not finite, the loss is below its floor, the
    observer is done, the gradient is zero (stationary), frozen parameters have cost more than
    `LOST_EPOCHS_ALLOWED` epochs (partially stalled), an update changes nothing (stalled), or the
    horizon is reached; the first of these that holds is the reason. The horizon comes last, so
    that a larger one changes no other reason. With `observer.to_horizon`, a run that has left
    its plateau or loses epochs goes on.

    Args:
        problem: what is trained.
        observer: what watches.
        apply: how updates are added.
        begin: the start of this run.
        state: the carry.
        horizon: the last epoch to be observed, integer scalar.
    """
    seen = look(problem, observer, apply, begin, state)
    health = seen.health(problem, apply, state.position)
    lost = state.lost + jnp.where(health.unchanged, 0, health.share_lost)
    stationary, unchanged = health.stationary, health.unchanged
    partially = lost > LOST_EPOCHS_ALLOWED
    if observer.to_horizon:
        goes_on = observer.escaped(seen.observed)
        stationary, unchanged = stationary & ~goes_on, unchanged & ~goes_on
        partially = jnp.zeros_like(partially)
    reasons = (
        (~health.finite, Stop.NOT_FINITE),
        (_below_floor(problem, begin, seen.excess), Stop.BELOW_FLOOR),
        (observer.done(seen.observed), Stop.FINISHED),
        (stationary, Stop.STATIONARY),
        (partially, Stop.PARTIALLY_STALLED),
        (unchanged, Stop.STALLED),
        (state.epoch >= horizon, Stop.HORIZON),
    )
    return RunState(
        here=state.position,
        position=seen.ahead,
        epoch=state.epoch + 1,
        observed=seen.observed,
        previous_excess=seen.excess if problem.decrease is None else None,
        lost=lost,
        stop=_first(reasons, state.stop),
    )


def _first(reasons: tuple[tuple[Array, Stop], ...], like: Array) -> Array:
    """Return the first reason that holds, else `Stop.RUNNING`."""
    stop = jnp.full_like(like, Stop.RUNNING)
    for holds, reason in reversed(reasons):
        stop = jnp.where(holds, jnp.full_like(stop, reason), stop)
    return stop


def _below_floor(problem: Problem, begin: Start, excess: Array) -> Array:
    """Return whether a loss is below its floor by more than rounding can have done."""
    if problem.never_flat:  # a loss of this package, whose floor was derived
        return jnp.bool_(False)
    size = jnp.maximum(jnp.maximum(jnp.abs(begin.excess), jnp.abs(begin.floor)), 1)
    return jnp.isfinite(excess) & (excess < -_FLOOR_ROUNDING * jnp.finfo(excess.dtype).eps * size)


_FLOOR_ROUNDING = 1024
"""Units in the last place that a loss at its minimum may lie below its floor."""


def finish(problem: Problem, state: RunState) -> End:
    """Return where a run stands, once it has stopped."""
    parameters = state.here.parameters
    return End(
        parameters=problem.whole(parameters),
        excess=problem.excess(parameters),
        output=_output(problem, parameters),
        stop=state.stop,
        epochs=jnp.maximum(state.epoch - 1, 0),
        lost=state.lost,
    )


class Health(NamedTuple):
    """What may end a run at an epoch, boolean scalars but for the last.

    Attributes:
        finite: whether loss and parameters are finite.
        stationary: whether the gradient is zero and no update moves anything.
        unchanged: whether the update changes nothing though the gradient is not zero.
        share_lost: share of this update that frozen parameters lose, float scalar.
    """

    finite: Array
    stationary: Array
    unchanged: Array
    share_lost: Array


class Seen(NamedTuple):
    """What one epoch shows: the observer's new state, the position after the next update, …"""

    observed: PyTree
    ahead: Position
    frozen: PyTree
    finite: Array
    excess: Array
    value: Array
    gradients: PyTree
    updates: PyTree

    def stalls(self) -> Array:
        """Return whether rounding takes from this update."""
        lacking = jax.tree.map(lambda f, u: f & (u != 0), self.frozen, self.updates)
        return _any(lacking) | _all(self.frozen)

    def health(self, problem: Problem, apply: Apply, position: Position) -> Health:
        """Return what may end the run here.

        Of models with arrays this is found in one pass over the parameters; only where rounding
        has frozen some, which is rare, there are more.
        """
        if all(leaf.ndim == 0 for leaf in jax.tree.leaves(position.parameters)):
            return _closer(problem, self, position)._replace(finite=self.finite)
        found = _found(position.parameters, self.frozen, self.updates)
        fine = (found & _MOVED != 0) & (found & _LACKING == 0)

        def look_closer(place: tuple[Position, Array, PyTree]) -> tuple[Array, Array, Array]:
            # The update is made anew: else it would have to be written out every time.
            here, value, gradients = place
            updates, ahead = update(problem, apply, here, value, gradients)
            again = self._replace(
                ahead=ahead, frozen=_frozen(here, ahead), gradients=gradients, updates=updates
            )
            return tuple(_closer(problem, again, here)[1:])  # type: ignore[return-value]

        healthy = (jnp.bool_(False), jnp.bool_(False), jnp.zeros_like(self.excess))
        place = (position, self.value, self.gradients)
        return Health(
            jnp.isfinite(self.excess) & (found & _NOT_FINITE == 0),
            *_only_where(~fine, look_closer, place, healthy),
        )

    def share_lost(self) -> Array:
        """Return the share of one epoch's first-order progress that frozen parameters lose."""
        return _share_lost(self.frozen, self.gradients, self.updates)


def _closer(problem: Problem, seen: Seen, position: Position) -> Health:
    """Return what may end a run, from all that an epoch has shown."""
    frozen = _all(seen.frozen)
    if problem.descent is not None:
        # The next batch may have a gradient where this one has none.
        stationary = unchanged = jnp.zeros_like(frozen)
    else:
        stationary = _stationary(problem, seen, position) & frozen
        unchanged = frozen & _same(position.optimizer, seen.ahead.optimizer) & ~stationary
    return Health(seen.finite, stationary, unchanged, seen.share_lost())


def _stationary(problem: Problem, seen: Seen, position: Position) -> Array:
    """Return whether gradients and updates are zero, and stay so however far a schedule runs.

    What an optimizer counts stands in its state as integers. A schedule may let it move later
    what it leaves alone now, such as weights that decay after a warm-up, so that its update is
    looked at for later counts, too.
    """
    nothing = (_zero(seen.gradients)) & _zero(seen.updates)
    if problem.never_flat:
        return jnp.zeros_like(nothing)
    if not any(jnp.issubdtype(leaf.dtype, jnp.integer) for leaf in jax.tree.leaves(position)):
        return nothing

    def later(place: tuple[Position, Array, PyTree]) -> Array:
        here, value, gradients = place

        def still(power: Array, so_far: Array) -> Array:
            state = jax.tree.map(lambda leaf: _counted(leaf, 2**power), here.optimizer)
            updates, _ = problem.optimizer.update(gradients, state, here.parameters, value=value)
            return so_far & _zero(updates)

        return jax.lax.fori_loop(0, _LATEST_COUNT, still, jnp.bool_(True))

    place = (position, seen.value, seen.gradients)
    return nothing & _only_where(nothing, later, place, jnp.bool_(False))


def _zero(tree: PyTree) -> Array:
    return _all(jax.tree.map(lambda leaf: leaf == 0, tree))


def _counted(leaf: Array, epochs: Array) -> Array:
    integer = jnp.issubdtype(leaf.dtype, jnp.integer)
    return leaf + epochs.astype(leaf.dtype) if integer else leaf


_LATEST_COUNT = 20
"""Powers of two up to which later counts of an optimizer are looked at."""

_MOVED, _LACKING, _NOT_FINITE = 1, 2, 4
"""What can be found of parameters: one that moved, one frozen in spite of its update, …"""


def _found(parameters: PyTree, frozen: PyTree, updates: PyTree) -> Array:
    """Return the sum of all that is found of any parameter, an integer scalar."""

    def of_leaf(parameter: Array, stays: Array, update: Array) -> Array:
        moved = jnp.where(stays, jnp.where(update != 0, _LACKING, 0), _MOVED)
        each = moved | jnp.where(jnp.isfinite(parameter), 0, _NOT_FINITE)
        return jax.lax.reduce(
            each.astype(jnp.int32), jnp.int32(0), jax.lax.bitwise_or, [*range(each.ndim)]
        )

    leaves = jax.tree.leaves(jax.tree.map(of_leaf, parameters, frozen, updates))
    return reduce(jnp.bitwise_or, leaves)


def _only_where(
    needed: Array, compute: Callable[[PyTree], PyTree], argument: PyTree, otherwise: PyTree
) -> PyTree:
    """Return what is computed where it is needed; if that is nowhere in a block, at no cost."""

    def once(carry: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        # The barrier keeps the compiler from computing it before the loop, needed or not.
        waiting, inside = jax.lax.optimization_barrier((carry[0], argument))
        return jnp.zeros_like(waiting), compute(inside)

    return jax.lax.while_loop(lambda carry: carry[0], once, (needed, otherwise))[1]


def _share_lost(frozen: PyTree, gradients: PyTree, updates: PyTree) -> Array:
    """Return the share of one epoch's first-order progress that frozen parameters lose.

    To first order an update `u` changes the loss by `Σ g u`. For the neuron this is the share of
    the change of z that is not applied; a parameter whose exact update is zero loses nothing.
    """
    # Relative to the largest of each, so that no product of small numbers underflows.
    gradients, updates = _relative(gradients), _relative(updates)
    work = jax.tree.map(jnp.multiply, gradients, updates)
    lost = _sum(jax.tree.map(lambda f, v: jnp.where(f, v, 0), frozen, work))
    total = _sum(work)
    return jnp.where(lost > 0, lost / total, 0)


def look(problem: Problem, observer: Observer, apply: Apply, begin: Start, state: RunState) -> Seen:
    """Return what a run shows where it stands, and where its next update leads."""
    parameters = state.position.parameters
    # A one that the compiler cannot know: division by it keeps scalars from being fused into,
    # and computed again in, each loop that reads them.
    one = jnp.where(state.epoch >= 0, 1, jnp.nan).astype(state.lost.dtype)
    excess, value, gradients = _slope(problem, parameters, state.epoch)
    excess, gradients = jax.tree.map(lambda v: v if v.ndim else v / one, (excess, gradients))
    updates, ahead = update(problem, apply, state.position, value, gradients)
    now = _observe(problem, state, excess, gradients, updates)
    now = now._replace(fall=now.fall / one)
    return Seen(
        observed=observer.step(state.observed, begin, now),
        ahead=ahead,
        frozen=_frozen(state.position, ahead),
        finite=_finite(excess, parameters),
        excess=excess,
        value=value,
        gradients=gradients,
        updates=updates,
    )


def _slope(problem: Problem, parameters: PyTree, epoch: Array) -> tuple[Array, Array, PyTree]:
    """Return the excess, the loss that is descended, and the gradients that an update follows."""
    if problem.descent is None:
        excess, gradients = problem.slope(parameters)
        return excess, excess + problem.floor, gradients
    value, gradients = problem.descent(parameters, epoch)
    return problem.excess(parameters), value, gradients


def update(
    problem: Problem, apply: Apply, position: Position, value: Array, gradients: PyTree
) -> tuple[PyTree, Position]:
    """Return the optimizer's updates, and the position after they have been added.

    Args:
        problem: what is trained.
        apply: how updates are added.
        position: where the run stands.
        value: the loss there, for optimizers that need it.
        gradients: of that loss.
    """
    updates, optimizer = problem.optimizer.update(
        gradients, position.optimizer, position.parameters, value=value
    )
    parameters, carry = apply(position.parameters, updates, position.carry)
    return updates, Position(parameters, optimizer, carry)


def _output(problem: Problem, parameters: PyTree) -> Array | None:
    return None if problem.output is None else problem.output(parameters)


def _observe(
    problem: Problem,
    state: RunState,
    excess: Array,
    gradients: PyTree,
    updates: PyTree,
) -> Observation:
    parameters = state.position.parameters
    if problem.decrease is None:
        assert state.previous_excess is not None
        before = state.previous_excess
        fall, since, epoch = before - excess, before, state.epoch - 1
    else:
        fall, since, epoch = problem.decrease(parameters, updates), excess, state.epoch
    return Observation(
        epoch=state.epoch,
        parameters=problem.whole(parameters),
        excess=excess,
        gradient=problem.gradient_scalar(gradients),
        direction=problem.direction(parameters, gradients),
        lost=state.lost,
        fall=fall,
        fall_is_known=problem.decrease is not None,
        fall_from=since,
        fall_epoch=epoch,
    )


def _frozen(before: Position, after: Position) -> PyTree:
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


def _same(before: PyTree, after: PyTree) -> Array:
    leaves = jax.tree.leaves(jax.tree.map(jnp.array_equal, before, after))
    return reduce(jnp.logical_and, leaves, jnp.bool_(True))
