"""The course of one run from its start to its end: in one go, or in rounds.

Observing costs many times what an update does. A *unimodal* run can do with less: its loss falls
from epoch to epoch, and its gradient and the fall of its loss have one peak each, so whatever an
observer waits for happens next to a place that shows in every 64th epoch too. Such a run looks
for these places first, with long strides and then with shorter ones, and makes every `step` only
around them.

`run` makes a run in one go. `depart`, `travel`, `arrive` make the same run in rounds, between
which whoever drives many runs can put those together that are still under way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from plateaumap.numerics.packing import Packing
from plateaumap.training.descent import (
    Apply,
    Observer,
    Position,
    Problem,
    PyTree,
    RunState,
    Seen,
    Start,
    Stop,
    look,
    start,
    step,
    update,
)

STRIDES = (64, 8)
"""Epochs between two looks at a unimodal run: a coarse search, then a finer one."""


class Search(NamedTuple):
    """All that a run depends on.

    Attributes:
        problem: what is trained.
        observer: what watches.
        apply: how updates are added.
        horizon: the last epoch to be observed, an integer scalar of the dtype that counts epochs.
        strides: epochs between two looks at a unimodal run, coarse to fine; none to observe all.
        unroll: epochs that are compiled into one turn of a loop; more suits accelerators.
    """

    problem: Problem
    observer: Observer
    apply: Apply
    horizon: Array
    strides: tuple[int, ...] = STRIDES
    unroll: int = 1


class Checkpoint(NamedTuple):
    """A place to come back to: an epoch, and where the run was."""

    epoch: Array
    position: Position


class Trail(NamedTuple):
    """What a search has found.

    Attributes:
        before: the look before this one.
        updates: the updates that were seen there.
        marks: a mark for each landmark, and the last look before the end.
        over: whether the search is over.
    """

    before: Checkpoint
    updates: PyTree
    marks: tuple[Checkpoint, ...]
    over: Array


class SearchState(NamedTuple):
    """A search for epochs: the run, and what has been found on its way."""

    run: RunState
    trail: Trail


class PartialRun(NamedTuple):
    """A run that is made in rounds; of its start nothing is kept, as it is soon made again.

    Attributes:
        run: how far the coarse search of a unimodal run has come, or where a run stands whose every
            epoch is observed.
        trail: what else the search knows; None if no run can be unimodal.
        under_way: whether there is more to travel before it can arrive, boolean scalar.
        left: the excess where it stands over that of its start, scalar: of runs that have come
            as many epochs, those with more of it left can be expected to take longer.
    """

    run: RunState
    trail: Trail | None
    under_way: Array
    left: Array


def run(search: Search) -> tuple[Start, RunState]:
    """Return the start of a run and its state where it stopped."""
    origin, state = _start(search)
    if not _may_be_unimodal(search, state):
        return origin, _stepped(search, origin, state, _far(state.epoch))
    marks = (*_no_decisive_epochs(search, state), Checkpoint(state.epoch, state.position))
    return origin, _observed_around(search, origin, state, marks, first_level=0)


def begin(search: Search) -> PartialRun:
    """Return a run that has not made its first step."""
    origin, state = _start(search)
    trail = None
    if _may_be_unimodal(search, state):
        trail = _unknown(search, state, _no_decisive_epochs(search, state)).trail
    return PartialRun(state, trail, state.stop == Stop.RUNNING, jnp.ones_like(origin.excess))


def advance(search: Search, partial_run: PartialRun, until: Array) -> PartialRun:
    """Return a run that has been followed to an epoch, or to its end if that comes first.

    Args:
        search: what the run depends on.
        partial_run: the run so far.
        until: an epoch, integer scalar; a search may overtake it by less than a stride.
    """
    origin, _ = _start(search)
    run, trail, stepping = partial_run.run, partial_run.trail, jnp.bool_(True)
    if trail is not None:
        assert search.problem.unimodal is not None
        stepping = ~search.problem.unimodal
        run, trail = _while(
            lambda progress: ~progress.trail.over & (progress.run.epoch < until),
            lambda progress: _looked(search, origin, progress, search.strides[0]),
            SearchState(run, trail),
        )
    run = _stepped(search, origin, run, jnp.where(stepping, until, 0))
    under_way = (run.stop == Stop.RUNNING) & stepping
    if trail is not None:
        under_way |= ~trail.over
    left = search.problem.excess(run.position.parameters) / origin.excess
    return PartialRun(run, trail, under_way, left)


def finish(search: Search, partial_run: PartialRun) -> tuple[Start, RunState]:
    """Return the start of a run that is no longer under way, and its state where it stopped."""
    origin, state = _start(search)
    if partial_run.trail is None:
        return origin, partial_run.run
    assert search.problem.unimodal is not None
    state = _where(search.problem.unimodal, state, partial_run.run)
    return origin, _observed_around(search, origin, state, partial_run.trail.marks, first_level=1)


def _start(search: Search) -> tuple[Start, RunState]:
    return start(search.problem, search.observer, search.apply, search.horizon.dtype)


def _may_be_unimodal(search: Search, state: RunState) -> bool:
    epochs = search.observer.decisive_epochs(state.observed)
    return bool(search.strides) and search.problem.unimodal is not None and epochs is not None


def _no_decisive_epochs(search: Search, state: RunState) -> tuple[Checkpoint, ...]:
    epochs = search.observer.decisive_epochs(state.observed)
    assert epochs is not None
    return tuple(_nowhere(state) for _ in epochs)


def _stepped(search: Search, origin: Start, state: RunState, until: Array) -> RunState:
    """Make every step until an epoch or the end."""
    return _while(
        lambda state: (state.stop == Stop.RUNNING) & (state.epoch < until),
        lambda state: _step(search, origin, state),
        state,
        search.unroll,
    )


def _step(search: Search, origin: Start, state: RunState) -> RunState:
    return step(search.problem, search.observer, search.apply, origin, state, search.horizon)


def _while(
    goes_on: Callable[[Any], Array], body: Callable[[Any], Any], state: Any, unroll: int = 1
) -> Any:
    """Advance a state as long as a condition holds, which is looked at again for each advance."""
    if unroll == 1:
        return jax.lax.while_loop(goes_on, body, state)

    def several(state: Any) -> Any:
        for _ in range(unroll):
            state = _where(goes_on(state), body(state), state)
        return state

    return jax.lax.while_loop(goes_on, several, state)


def _observed_around(
    search: Search, origin: Start, state: RunState, marks: tuple[Checkpoint, ...], first_level: int
) -> RunState:
    """Come closer to the marks with each finer stride, and make every step around them."""
    scales = jnp.asarray(search.strides, state.epoch.dtype)
    reaches = 2 * jnp.asarray((0, *search.strides), state.epoch.dtype)

    def closer(level: Array, marks: tuple[Checkpoint, ...]) -> tuple[Checkpoint, ...]:
        return _search(search, origin, state, marks, reaches[level], scales[level])

    marks = jax.lax.fori_loop(first_level, len(search.strides), closer, marks)
    return _visit(
        marks,
        reaches[-1],
        state,
        epoch=lambda state: state.epoch,
        running=lambda state: state.stop == Stop.RUNNING,
        go_to=lambda mark, state: state._replace(epoch=mark.epoch, position=mark.position),
        body=lambda state: _step(search, origin, state),
    )


def _search(
    search: Search,
    origin: Start,
    state: RunState,
    marks: tuple[Checkpoint, ...],
    reach: Array,
    stride: Array,
) -> tuple[Checkpoint, ...]:
    """Look at a run every `stride` epochs within `reach` of marks; return closer marks.

    A mark is the last look before the one that has moved a landmark, so the landmark's true
    place is less than two strides after it. The last mark is the last look before the end.
    """
    found = _visit(
        marks,
        reach,
        _unknown(search, state, tuple(_nowhere(state) for _ in marks[:-1])),
        epoch=lambda progress: progress.run.epoch,
        running=lambda progress: ~progress.trail.over,
        go_to=lambda mark, progress: SearchState(
            progress.run._replace(epoch=mark.epoch, position=mark.position),
            progress.trail._replace(before=mark),
        ),
        body=lambda progress: _looked(search, origin, progress, stride),
    )
    return found.trail.marks


def _unknown(search: Search, state: RunState, nowhere: tuple[Checkpoint, ...]) -> SearchState:
    """Return a search that has found nothing yet."""
    assert search.problem.unimodal is not None
    here = Checkpoint(state.epoch, state.position)
    over = (state.stop != Stop.RUNNING) | ~search.problem.unimodal
    # Of the look before the first one nothing is known, and nothing can have frozen since.
    updates = jax.tree.map(lambda p: jnp.full_like(p, jnp.inf), state.position.parameters)
    return SearchState(
        state, Trail(before=here, updates=updates, marks=(*nowhere, here), over=over)
    )


def _looked(
    search: Search, origin: Start, progress: SearchState, stride: Array | int
) -> SearchState:
    """Look at a run, and go on by a stride."""
    problem, observer, run = search.problem, search.observer, progress.run
    seen = look(problem, observer, search.apply, origin, run)
    old, new = observer.decisive_epochs(run.observed), observer.decisive_epochs(seen.observed)
    assert old is not None
    assert new is not None
    here = Checkpoint(run.epoch, run.position)
    over = (
        ~seen.finite
        | observer.done(seen.observed)
        | seen.stalls()
        | _may_have_frozen(search, progress, seen)
        | (run.epoch + stride > search.horizon)
    )
    moved = (*(a != b for a, b in zip(old, new, strict=True)), jnp.bool_(True))
    before, marks = progress.trail.before, progress.trail.marks
    return SearchState(
        run=run._replace(
            position=_unobserved(search, run.position, stride),
            epoch=run.epoch + stride,
            observed=seen.observed,
        ),
        trail=Trail(
            before=here,
            updates=seen.updates,
            marks=tuple(_where(m, before, mark) for m, mark in zip(moved, marks, strict=True)),
            over=over,
        ),
    )


def _may_have_frozen(search: Search, progress: SearchState, seen: Seen) -> Array:
    """Return whether rounding may have frozen a parameter between the look before and this one.

    Updates of a unimodal run rise to one peak, and its parameters go one way. So between two
    looks no update is smaller than at one of them, and no parameter larger.
    """
    before, after = progress.trail.before.position.parameters, progress.run.position.parameters

    def of_leaf(old: Array, new: Array, first: Array, last: Array) -> Array:
        smallest = jnp.minimum(jnp.abs(first), jnp.abs(last))
        largest = jnp.maximum(jnp.abs(old), jnp.abs(new))
        return (smallest != 0) & (smallest <= search.apply.smallest_update(largest))

    leaves = jax.tree.map(of_leaf, before, after, progress.trail.updates, seen.updates)
    return reduce(jnp.logical_or, [jnp.any(leaf) for leaf in jax.tree.leaves(leaves)])


def _unobserved(search: Search, position: Position, epochs: Array | int) -> Position:
    """Return the position after so many updates that nobody observes."""
    packing = Packing.of(position)
    # XLA's CPU compiler makes a loop of its own for each array that is carried, and computes in
    # each what it needs: hence one packed array, or arrays that need but a carried gradient.
    if len(packing.groups) > 1 and all(leaf.ndim == 0 for leaf in jax.tree.leaves(position)):
        return _with_gradients(search, position, epochs)

    def one(_: Array, packed: tuple[Array, ...]) -> tuple[Array, ...]:
        position = packing.unpack(packed)
        return packing.pack(_updated(search, position, _gradients(search, position)))

    packed = jax.lax.fori_loop(
        0, epochs, one, packing.pack(position), unroll=_unroll(search, epochs)
    )
    return packing.unpack(packed)


def _with_gradients(search: Search, position: Position, epochs: Array | int) -> Position:
    def one(_: Array, now: tuple[Position, PyTree]) -> tuple[Position, PyTree]:
        ahead = _updated(search, *now)
        return ahead, _gradients(search, ahead)

    now = (position, _gradients(search, position))
    return jax.lax.fori_loop(0, epochs, one, now, unroll=_unroll(search, epochs))[0]


def _gradients(search: Search, position: Position) -> PyTree:
    return search.problem.slope(position.parameters)[1]


def _updated(search: Search, position: Position, gradients: PyTree) -> Position:
    # Plain gradient descent is the only optimizer of which unimodal runs are known: no loss.
    value = jnp.zeros_like(search.problem.floor)
    return update(search.problem, search.apply, position, value, gradients)[1]


def _unroll(search: Search, epochs: Array | int) -> int | None:
    return search.unroll if isinstance(epochs, int) else None


def _visit(
    marks: tuple[Checkpoint, ...],
    reach: Array,
    state: Any,
    *,
    epoch: Callable[[Any], Array],
    running: Callable[[Any], Array],
    go_to: Callable[[Checkpoint, Any], Any],
    body: Callable[[Any], Any],
) -> Any:
    """Advance a state within `reach` of each mark in order of epochs, and from the last to the end.

    Stretches that overlap are run through once: a state never goes back.
    """
    far = _far(marks[-1].epoch)

    def visit(_: Array, carry: tuple[tuple[Array, ...], Any]) -> tuple[tuple[Array, ...], Any]:
        waiting, state = carry
        first = reduce(jnp.minimum, waiting)
        to_the_end = waiting[-1] == first
        mark, until = marks[-1], far
        left = [jnp.where(to_the_end, far, waiting[-1])]
        for other, at in zip(reversed(marks[:-1]), reversed(waiting[:-1]), strict=True):
            chosen = at == first
            mark = _where(chosen, other, mark)
            # Where a landmark shares the last mark's place, the run still goes on to its end.
            until = jnp.where(chosen & ~to_the_end, first + reach, until)
            left.append(jnp.where(chosen, far, at))
        until = jnp.where(first == far, 0, until)
        ahead = (first != far) & (first > epoch(state)) & running(state)
        state = _where(ahead, go_to(mark, state), state)
        state = jax.lax.while_loop(
            lambda state: running(state) & (epoch(state) < until), body, state
        )
        return tuple(reversed(left)), state

    waiting = tuple(mark.epoch for mark in marks)
    return jax.lax.fori_loop(0, len(marks), visit, (waiting, state))[1]


def _far(epoch: Array) -> Array:
    """Return an epoch that never comes."""
    return jnp.full_like(epoch, jnp.iinfo(epoch.dtype).max)


def _nowhere(state: RunState) -> Checkpoint:
    return Checkpoint(_far(state.epoch), state.position)


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jax.lax.select(condition, a, b), new, old)
