"""The search for the decisive epochs of one run, from its initial point to its end.

To observe an epoch costs many times as much as an update. In general every epoch is observed. A
run is unimodal if its loss decreases at every epoch, and if its gradient and the decrease of its
loss have at most one peak each. Then a few epochs decide all measures: the crossings, the largest
gradient, the steepest step and the end. The search observes such a run at every 64th epoch, returns
to the checkpoints before the decisive epochs with a stride of 8, and finally observes every epoch
next to them. In between, updates are applied without observation.

`Search.run` is a whole run. `Search.begin`, `Search.advance` and `Search.finish` are the same run
in rounds. Between two rounds, unfinished runs can be collected into full blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from plateaumap.numerics.packing import Packing
from plateaumap.training.descent import Descent, ObservedEpoch, PyTree, RunState, TrainState
from plateaumap.training.measures import Start, Stop

STRIDES = (64, 8)
"""Epochs between two observations of a unimodal run: in a coarse search, then in a finer one."""


class Checkpoint(NamedTuple):
    """An epoch to which a run can return, and the training state there."""

    epoch: Array
    train_state: TrainState


class SearchState(NamedTuple):
    """The carry of a search.

    Attributes:
        run: the state of the run.
        before: the previous observation.
        updates: the updates at the previous observation.
        checkpoints: one for each decisive epoch, and the last observation before the end.
        over: whether the search is over.
    """

    run: RunState
    before: Checkpoint
    updates: PyTree
    checkpoints: tuple[Checkpoint, ...]
    over: Array

    @property
    def epoch(self) -> Array:
        """Return the epoch that is observed next."""
        return self.run.epoch

    @property
    def running(self) -> Array:
        """Return whether the search is not over."""
        return ~self.over


State = TypeVar("State", RunState, SearchState)


class PartialRun(NamedTuple):
    """A run between two rounds. Its initial point is computed again in each round.

    Attributes:
        state: the state of the coarse search; if the problem cannot be unimodal, of the run.
        under_way: whether the run has to be advanced before it can finish, boolean scalar.
        left: the ratio of the excess to the initial excess, scalar: of runs at the same epoch,
            those with a larger ratio can be expected to take longer.
    """

    state: RunState | SearchState
    under_way: Array
    left: Array


class Search(NamedTuple):
    """One run and how it is observed.

    Attributes:
        descent: the run.
        horizon: the last epoch that is observed, an integer scalar of the dtype that counts epochs.
        strides: epochs between two observations of a unimodal run, coarse to fine; an empty tuple
            to observe every epoch.
        unroll: epochs that are compiled into one turn of a loop; accelerators need more.
    """

    descent: Descent
    horizon: Array
    strides: tuple[int, ...] = STRIDES
    unroll: int = 1

    def run(self) -> tuple[Start, RunState]:
        """Return the initial point of the run, and the state in which it stopped."""
        start, state = self._start()
        if not self._may_be_unimodal(state):
            return start, self._every_epoch(start, state, _never(state))
        checkpoints = (*self._unknown(state), Checkpoint(state.epoch, state.current))
        return start, self._near_checkpoints(start, state, checkpoints, first_level=0)

    def begin(self) -> PartialRun:
        """Return the run before its first step."""
        start, run = self._start()
        state = self._new_search(run) if self._may_be_unimodal(run) else run
        return PartialRun(state, run.running, jnp.ones_like(start.excess))

    def advance(self, partial_run: PartialRun, until: Array) -> PartialRun:
        """Return the run at an epoch, or at its end if that comes first.

        Args:
            partial_run: the run so far.
            until: an epoch, integer scalar; a search may exceed it by less than a stride.
        """
        start, _ = self._start()
        state = partial_run.state
        if isinstance(state, SearchState):
            stepping = ~self._unimodal
            search = _advanced(
                state, until, lambda state: self._observe(start, state, self.strides[0])
            )
            run = self._every_epoch(start, search.run, jnp.where(stepping, until, 0))
            state = search._replace(run=run)
            under_way = run.running & stepping | search.running
        else:
            state = run = self._every_epoch(start, state, until)
            under_way = run.running
        left = self.descent.problem.excess(run.current.parameters) / start.excess
        return PartialRun(state, under_way, left)

    def finish(self, partial_run: PartialRun) -> tuple[Start, RunState]:
        """Return the initial point of a run that is no longer under way, and its last state."""
        start, state = self._start()
        search = partial_run.state
        if isinstance(search, RunState):
            return start, search
        state = _where(self._unimodal, state, search.run)
        return start, self._near_checkpoints(start, state, search.checkpoints, first_level=1)

    def _start(self) -> tuple[Start, RunState]:
        return self.descent.start(self.horizon.dtype)

    @property
    def _unimodal(self) -> Array:
        assert self.descent.problem.unimodal is not None
        return self.descent.problem.unimodal

    def _decisive_epochs(self, measured: PyTree) -> tuple[Array, ...] | None:
        return self.descent.measures.decisive_epochs(measured)

    def _may_be_unimodal(self, state: RunState) -> bool:
        known = self.descent.problem.unimodal is not None
        return bool(self.strides) and known and self._decisive_epochs(state.measured) is not None

    def _unknown(self, state: RunState) -> tuple[Checkpoint, ...]:
        """Return a checkpoint that never comes for each decisive epoch."""
        never = Checkpoint(_never(state), state.current)
        return tuple(never for _ in self._decisive_epochs(state.measured) or ())

    def _every_epoch(self, start: Start, state: RunState, until: Array) -> RunState:
        """Return a run that has been observed at every epoch until an epoch or the end."""
        return _advanced(state, until, lambda state: self._step(start, state), self.unroll)

    def _step(self, start: Start, state: RunState) -> RunState:
        return self.descent.step(start, state, self.horizon)

    def _near_checkpoints(
        self, start: Start, state: RunState, checkpoints: tuple[Checkpoint, ...], first_level: int
    ) -> RunState:
        """Refine the checkpoints with each finer stride, and observe every epoch next to them."""
        scales = jnp.asarray(self.strides, state.epoch.dtype)
        reaches = 2 * jnp.asarray((0, *self.strides), state.epoch.dtype)

        def refined(level: Array, checkpoints: tuple[Checkpoint, ...]) -> tuple[Checkpoint, ...]:
            """Return checkpoints of a search with the stride of a level.

            A checkpoint is the last observation before the one that changed a decisive epoch, so
            that the exact epoch is less than two strides later. The last checkpoint is the last
            observation before the end.
            """
            search = _visited(
                checkpoints,
                reaches[level],
                self._new_search(state),
                lambda search: self._observe(start, search, scales[level]),
            )
            return search.checkpoints

        checkpoints = jax.lax.fori_loop(first_level, len(self.strides), refined, checkpoints)
        return _visited(checkpoints, reaches[-1], state, lambda state: self._step(start, state))

    def _new_search(self, state: RunState) -> SearchState:
        """Return a search that has not observed anything."""
        here = Checkpoint(state.epoch, state.current)
        over = (state.stop != Stop.RUNNING) | ~self._unimodal
        # Without an observation before the first one, nothing can have frozen since.
        updates = jax.tree.map(lambda p: jnp.full_like(p, jnp.inf), state.current.parameters)
        return SearchState(state, here, updates, (*self._unknown(state), here), over)

    def _observe(self, start: Start, state: SearchState, stride: Array | int) -> SearchState:
        """Observe a run, and advance it by a stride."""
        run, measures = state.run, self.descent.measures
        observed = self.descent.observe(start, run)
        old, new = self._decisive_epochs(run.measured), self._decisive_epochs(observed.measured)
        assert old is not None
        assert new is not None
        over = (
            ~observed.finite
            | measures.done(observed.measured)
            | observed.stalls()
            | self._may_have_frozen(state, observed)
            | (run.epoch + stride > self.horizon)
        )
        moved = (*(a != b for a, b in zip(old, new, strict=True)), jnp.bool_(True))
        return SearchState(
            run=run._replace(
                current=self._skipped(run.current, stride),
                epoch=run.epoch + stride,
                measured=observed.measured,
            ),
            before=Checkpoint(run.epoch, run.current),
            updates=observed.updates,
            checkpoints=tuple(
                _where(has_moved, state.before, checkpoint)
                for has_moved, checkpoint in zip(moved, state.checkpoints, strict=True)
            ),
            over=over,
        )

    def _may_have_frozen(self, state: SearchState, observed: ObservedEpoch) -> Array:
        """Return whether rounding may have frozen a parameter since the previous observation.

        Updates of a unimodal run rise to one peak, and its parameters are monotonic. So between
        two observations no update is smaller than at one of them, and no parameter is larger.
        """
        before, after = state.before.train_state.parameters, state.run.current.parameters

        def of_leaf(old: Array, new: Array, first: Array, last: Array) -> Array:
            smallest = jnp.minimum(jnp.abs(first), jnp.abs(last))
            largest = jnp.maximum(jnp.abs(old), jnp.abs(new))
            return (smallest != 0) & (smallest <= self.descent.apply.smallest_update(largest))

        leaves = jax.tree.map(of_leaf, before, after, state.updates, observed.updates)
        return reduce(jnp.logical_or, [jnp.any(leaf) for leaf in jax.tree.leaves(leaves)])

    def _skipped(self, train_state: TrainState, epochs: Array | int) -> TrainState:
        """Return the training state after a number of updates without observation."""
        packing = Packing.of(train_state)
        unroll = self.unroll if isinstance(epochs, int) else None
        # XLA's CPU compiler makes a loop of its own for each array that is carried, and computes in
        # each what it needs: hence one packed array, or arrays that need but a carried gradient.
        if len(packing.groups) > 1 and all(leaf.ndim == 0 for leaf in jax.tree.leaves(train_state)):

            def with_gradients(
                _: Array, now: tuple[TrainState, PyTree]
            ) -> tuple[TrainState, PyTree]:
                ahead = self._updated(*now)
                return ahead, self._gradients(ahead)

            now = (train_state, self._gradients(train_state))
            return jax.lax.fori_loop(0, epochs, with_gradients, now, unroll=unroll)[0]

        def packed(_: Array, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
            train_state = packing.unpack(arrays)
            return packing.pack(self._updated(train_state, self._gradients(train_state)))

        arrays = jax.lax.fori_loop(0, epochs, packed, packing.pack(train_state), unroll=unroll)
        return packing.unpack(arrays)

    def _gradients(self, train_state: TrainState) -> PyTree:
        return self.descent.problem.slope(train_state.parameters)[1]

    def _updated(self, train_state: TrainState, gradients: PyTree) -> TrainState:
        # Runs are known to be unimodal only for plain gradient descent, which needs no loss.
        value = jnp.zeros_like(self.descent.problem.floor)
        return self.descent.update(train_state, value, gradients)[1]


def _advanced(
    state: State, until: Array, advance: Callable[[State], State], unroll: int = 1
) -> State:
    """Advance a state until an epoch or its end; the condition is tested before each advance."""

    def unfinished(state: State) -> Array:
        return state.running & (state.epoch < until)

    def several(state: State) -> State:
        for _ in range(unroll):
            state = _where(unfinished(state), advance(state), state)
        return state

    return jax.lax.while_loop(unfinished, advance if unroll == 1 else several, state)


def _visited(
    checkpoints: tuple[Checkpoint, ...],
    reach: Array,
    state: State,
    advance: Callable[[State], State],
) -> State:
    """Advance a state by `reach` from each checkpoint in order, and from the last one to the end.

    Overlapping stretches are traversed once: a state never returns to an earlier epoch.
    """
    never = jnp.full_like(checkpoints[-1].epoch, jnp.iinfo(checkpoints[-1].epoch.dtype).max)

    def visit(_: Array, carry: tuple[tuple[Array, ...], State]) -> tuple[tuple[Array, ...], State]:
        waiting, state = carry
        first = reduce(jnp.minimum, waiting)
        to_the_end = waiting[-1] == first
        checkpoint, until = checkpoints[-1], never
        remaining = [jnp.where(to_the_end, never, waiting[-1])]
        for other, epoch in zip(reversed(checkpoints[:-1]), reversed(waiting[:-1]), strict=True):
            chosen = epoch == first
            checkpoint = _where(chosen, other, checkpoint)
            # If another checkpoint coincides with the last one, the run still goes to its end.
            until = jnp.where(chosen & ~to_the_end, first + reach, until)
            remaining.append(jnp.where(chosen, never, epoch))
        until = jnp.where(first == never, 0, until)
        ahead = (first != never) & (first > state.epoch) & state.running
        state = _where(ahead, _moved(state, checkpoint), state)
        return tuple(reversed(remaining)), _advanced(state, until, advance)

    waiting = tuple(checkpoint.epoch for checkpoint in checkpoints)
    return jax.lax.fori_loop(0, len(checkpoints), visit, (waiting, state))[1]


def _moved(state: State, checkpoint: Checkpoint) -> State:
    """Return the state with its run at a checkpoint."""
    if isinstance(state, RunState):
        return state._replace(epoch=checkpoint.epoch, current=checkpoint.train_state)
    return state._replace(run=_moved(state.run, checkpoint), before=checkpoint)


def _never(state: RunState) -> Array:
    """Return an epoch that never comes."""
    return jnp.full_like(state.epoch, jnp.iinfo(state.epoch.dtype).max)


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jax.lax.select(condition, a, b), new, old)
