"""Exact plateau lengths without simulating, in constant time whatever the length.

A plateau is the first n with ``excess_n <= (1 - drop) excess_0`` under gradient descent in exact
arithmetic. Cells pass through three stages, each only where the one before left a doubt:

1. the Abel function in float64 (``abel.py``);
2. where its series does not reach the level, a leap and steps (``walk.py``);
3. where float64 cannot tell between two integers, the flow time in double-double (``exact.py``).

Every stage bounds its own error; an answer stands when no integer lies within the bound.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.activations import Activation
from plateaumap.numerics.double_double import Array, DoubleDouble, double
from plateaumap.theory import batches
from plateaumap.theory.cells import Columns, EpochState, Group
from plateaumap.theory.descents import Grid
from plateaumap.theory.exact import (
    EXACT_LENGTHS,
    EXACT_TIMES,
    ROUNDING,
    ExactEnd,
    ExactStart,
    exact_drop,
)
from plateaumap.theory.flow import make_drop
from plateaumap.theory.law import Law
from plateaumap.theory.laws import law_of
from plateaumap.theory.reasons import complaint
from plateaumap.theory.sigmoid import SigmoidLaw

_LIMIT = 2.0**63
_INTEGERS = 2.0**52
_SLICE = 2 * batches.WIDE_BLOCK
_DOUBTFUL_SLICE = 4 * batches.BLOCK
_LARGEST_STEP = 1e100
"""Steps up to here reach no further than the stages' clips."""
_EXACT_SLOPE = 0.02
"""The same for an exact leap: there the series leaves out next to nothing."""


class Stage(NamedTuple):
    """How many cells came to a stage, and how many seconds it took on all cores."""

    cells: int
    seconds: float


@dataclass(frozen=True)
class EpochCounts:
    """Plateau lengths of many cells; every array has the cells' broadcast shape.

    Attributes:
      epochs: int64 lengths in epochs, exact; 0 where there is none.
      state: uint8 codes of ``EpochState``.
      bound: float64 bounds on the error, in epochs, of the real number whose rounding up is the
        length. NaN where there is none.
      predicted: float64 lengths by ``predict_epochs``, also beyond int64; NaN, never inf.
      stages: what each of the three stages had to do.
    """

    epochs: NDArray[np.int64]
    state: NDArray[np.uint8]
    bound: Array
    predicted: Array
    stages: tuple[Stage, ...]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether a cell has a length."""
        return self.state <= EpochState.SIMULATED


def plateau_epochs(
    w0: ArrayLike,
    b0: ArrayLike,
    lr: ArrayLike,
    x: ArrayLike = 1.0,
    y: ArrayLike = 0.0,
    loss: str = "quadratic",
    drop: float = 0.1,
    errors: Literal["raise", "mask"] = "raise",
    activation: Activation | str = "sigmoid",
) -> Any:
    """Returns exact plateau lengths by theory.

    Args:
      w0: weights at the start; like all inputs an array that broadcasts, its float64 values taken
        as exact numbers.
      b0: biases at the start.
      lr: learning rates.
      x: inputs.
      y: target outputs; of a sigmoid in [0, 1], and of any activation such that its loss has a
        minimum.
      loss: ``"quadratic"`` (with the one half), ``"matching"``, or ``"cross_entropy"``, which is
        the sigmoid's matching loss.
      drop: the share of the loss excess that has to go, read as the decimal that it is written
        as (0.1 is one tenth).
      errors: ``"raise"``, or ``"mask"`` for a masked array.
      activation: an increasing activation without a kink, or its name.

    Returns:
      int64 epochs of the broadcast shape (a NumPy scalar for scalars): the first n at which the
      loss excess is at most ``1 - drop`` of its start, after n updates in exact arithmetic. With
      ``errors="mask"`` a ``numpy.ma.MaskedArray`` in which cells without a length are masked.

    Raises:
      PlateaumapError: the loss, ``drop``, ``errors`` or the shapes are wrong, the activation has
        no theory, or, with ``errors="raise"``, a cell has no length: it starts at its target,
        overshoots it, is longer than int64 holds, is too long or too near to an integer to be
        told to the epoch, or is not a neuron.
    """
    if errors not in ("raise", "mask"):
        raise PlateaumapError(f"errors is {errors!r}; use 'raise' or 'mask'")
    grid = Grid(w0=w0, b0=b0, lr=lr, x=x, y=y)
    counts, _ = _count(grid, _Counter.of(loss, drop, activation))
    known = counts.state <= EpochState.SIMULATED
    if errors == "mask":
        return np.ma.MaskedArray(counts.epochs, mask=~known)
    if not known.all():
        raise PlateaumapError(complaint(grid, counts.state.reshape(-1), loss, activation, drop))
    return counts.epochs[()]


def count_epochs(
    w0: ArrayLike,
    b0: ArrayLike,
    lr: ArrayLike,
    x: ArrayLike = 1.0,
    y: ArrayLike = 0.0,
    loss: str = "quadratic",
    drop: float = 0.1,
    activation: Activation | str = "sigmoid",
) -> EpochCounts:
    """Returns exact plateau lengths and, for every cell, how it was settled or why not.

    The arguments are those of ``plateau_epochs``.

    Raises:
      PlateaumapError: the loss, ``drop`` or the shapes are wrong; never for a cell.
    """
    grid, counter = Grid(w0=w0, b0=b0, lr=lr, x=x, y=y), _Counter.of(loss, drop, activation)
    settled, stages = _count(grid, counter)
    predicted = _predict(grid, counter)
    return EpochCounts(settled.epochs, settled.state, settled.bound, predicted, stages)


def predict_epochs(
    w0: ArrayLike,
    b0: ArrayLike,
    lr: ArrayLike,
    x: ArrayLike = 1.0,
    y: ArrayLike = 0.0,
    loss: str = "quadratic",
    drop: float = 0.1,
    activation: Activation | str = "sigmoid",
) -> Array:
    """Returns plateau lengths by theory in float64, cheaply and without proof.

    The arguments are those of ``plateau_epochs``. The length is exact to the epoch nearly
    everywhere that the Abel series reaches from the start to the level, and of the right size for
    any other step.

    Returns:
      float64 whole epochs, at least 1, of the broadcast shape; NaN where a cell has no excess to
      lose, overshoots its target, overflows float64 or is not a neuron. Never inf.

    Raises:
      PlateaumapError: the loss, ``drop`` or the shapes are wrong.
    """
    return _predict(Grid(w0=w0, b0=b0, lr=lr, x=x, y=y), _Counter.of(loss, drop, activation))


class _Settled(NamedTuple):
    """Lengths, bounds and states of some cells; ``UNDECIDED`` ones go to the next stage."""

    epochs: NDArray[np.int64]
    bound: Array
    state: NDArray[np.uint8]

    def write(self, where: NDArray[np.int64], part: "_Settled") -> None:
        self.epochs[where], self.bound[where], self.state[where] = part


class _Counter(NamedTuple):
    """The three stages for one loss and drop."""

    law: Law
    drop: Any
    exact_drop: Any

    @classmethod
    def of(cls, loss: str, drop: float, activation: Activation | str = "sigmoid") -> "_Counter":
        law = law_of(activation, loss)
        if not (isinstance(drop, int | float | np.floating) and 0.0 < drop < 1.0):
            raise PlateaumapError(f"drop is {drop!r}; it must be a number between 0 and 1")
        return cls(law, make_drop(float(drop)), exact_drop(float(drop)))

    def predict(self, group: Group) -> Array:
        return batches.predicted(self.law.roughly(), group.zero, self.drop, group.cells)

    @np.errstate(all="ignore")
    def directly(self, group: Group) -> _Settled:
        """Stage 1: the Abel function in float64."""
        found = batches.direct(self.law, group.zero, self.drop, group.cells)
        settled = _rounded_up(np.zeros(len(found.epochs)), found.epochs, found.bound)
        beyond = (found.epochs - found.bound >= _LIMIT) & (group.cells.h < _LARGEST_STEP)
        settled.state[beyond] = EpochState.BEYOND_INT64
        return settled

    def by_walking(self, group: Group) -> _Settled:
        """Stage 2: leaps and steps in float64."""
        law, zero, cells = self.law, group.zero, group.cells
        slope = law.leap_slope[zero]
        plan = batches.planned(law, zero, self.drop, slope, cells)
        # What the series reaches has been tried, and was in doubt for its length.
        rough = np.flatnonzero(~plan.direct)
        settled = _undecided(len(cells.z))
        if rough.size:
            found = batches.walked(law, zero, self.drop, slope, cells.take(rough), plan.take(rough))
            part = _rounded_up(found.whole, found.rest, found.bound)
            stepped = (found.steps == found.whole) & (found.rest == 0.0)
            part.state[stepped & (part.state == EpochState.FLOAT64)] = EpochState.SIMULATED
            settled.write(rough, part)
        return settled

    @np.errstate(all="ignore")
    def exactly(self, group: Group) -> _Settled:
        """Stage 3: the flow time in double-double, the rest as in the other stages."""
        law, zero, cells = self.law, group.zero, group.cells
        if not isinstance(law, SigmoidLaw):
            return self._left_open(group)
        plan = batches.planned(law, zero, self.drop, _EXACT_SLOPE, cells)
        length, bound = self._exact_length(law.loss, group, plan)
        known = (plan.direct | plan.leaps) & np.isfinite(length.hi + bound)
        beyond = known & (length.hi - bound >= _LIMIT) & (cells.h < _LARGEST_STEP)
        known &= (length.hi < _LIMIT) & (bound < 0.5)
        whole, rest = _split(length, known)
        steps, bound = np.zeros_like(rest), np.where(known, bound, np.inf)
        leaps = np.flatnonzero(plan.leaps & known)
        if leaps.size:
            remaining = plan._replace(leap=rest, leap_bound=bound).take(leaps)
            found = batches.walked(law, zero, self.drop, _EXACT_SLOPE, cells.take(leaps), remaining)
            steps[leaps], rest[leaps], bound[leaps] = found.whole, found.rest, found.bound
        settled = _rounded_up(steps, rest, bound)
        total = whole + settled.epochs.astype(np.uint64)
        state = settled.state
        state[state == EpochState.FLOAT64] = EpochState.DOUBLE_DOUBLE
        if not zero:
            state[(state == EpochState.UNDECIDED) & np.isinf(settled.bound)] = EpochState.NO_THEORY
        state[beyond | (total >= np.uint64(2**63))] = EpochState.BEYOND_INT64
        self._flow_beyond(group, settled)
        result = _Settled(total.astype(np.int64), settled.bound, state)
        if zero and law.loss in EXACT_LENGTHS:
            self._by_fractions(law.loss, cells, result)
        return result

    def _left_open(self, group: Group) -> _Settled:
        """Says why the cells have no length that float64 could not settle, without stage 3."""
        plan = batches.planned(
            self.law, group.zero, self.drop, self.law.leap_slope[False], group.cells
        )
        told = (plan.direct | plan.leaps) & np.isfinite(plan.leap_bound)
        settled = _undecided(len(plan.leap))
        settled.state[~told] = EpochState.NO_THEORY
        beyond = told & (plan.leap - plan.leap_bound >= _LIMIT) & (group.cells.h < _LARGEST_STEP)
        settled.state[beyond] = EpochState.BEYOND_INT64
        return settled

    def _flow_beyond(self, group: Group, settled: _Settled) -> None:
        """Marks what is too long by its flow or its first step alone, whatever the series says.

        Until a share of the excess is gone f falls by no more than that share, so that a length is
        at least what is kept of the flow time over h. Below a target of 0, where f is at most
        exp(z) and falls, z has to come down by half of the drop.
        """
        open_ = np.flatnonzero(settled.state > EpochState.BEYOND_INT64)
        if not open_.size:
            return
        part = group.take(open_)
        logarithm = batches.log_flow_epochs(self.law, group.zero, self.drop, part.cells)
        far = logarithm > math.log(_LIMIT / self.drop.keep) + 1.0
        if group.zero:
            first = math.log(0.5 * self.drop.fraction) - part.cells.z - np.log(part.cells.h)
            far |= first > math.log(_LIMIT) + 1.0
        settled.state[open_[far]] = EpochState.BEYOND_INT64

    def _by_fractions(self, loss: str, cells: Columns, settled: _Settled) -> None:
        """Settles what is too near to an integer for double-double, where fractions can."""
        for i in np.flatnonzero(settled.state == EpochState.UNDECIDED):
            z, h = (Fraction(hi[i]) + Fraction(lo[i]) for hi, lo in (cells[:2], cells[2:4]))
            epochs = EXACT_LENGTHS[loss](z, h, self.exact_drop.decimal)
            if epochs is not None and epochs < _LIMIT:
                settled.epochs[i], settled.bound[i] = epochs, 0.0
                settled.state[i] = EpochState.DOUBLE_DOUBLE

    def _exact_length(
        self, loss: str, group: Group, plan: batches.Plan
    ) -> tuple[DoubleDouble, Array]:
        """Returns the epochs to the level or to the end of the leap, and a bound on their error."""
        cells = group.cells
        start = ExactStart(
            DoubleDouble(cells.z, cells.z_low),
            DoubleDouble(cells.y, cells.y_low),
            DoubleDouble(cells.q, cells.q_low),
        )
        end = ExactEnd(plan.leaps, plan.s, plan.guess)
        flow, size = EXACT_TIMES[loss](start, end, self.exact_drop, group.zero)
        length = flow / DoubleDouble(cells.h, cells.h_low) + double(plan.correction)
        return length, plan.bound + ROUNDING * size / cells.h


def _predict(grid: Grid, counter: _Counter) -> Array:
    epochs = np.full(grid.size, np.nan)

    def fill(part: slice) -> None:
        _, groups = counter.law.descents(part.stop - part.start, **grid.part(part))
        for group in groups:
            epochs[part.start + group.where] = counter.predict(group)

    _map(fill, _slices(grid.size, _SLICE))
    return epochs.reshape(grid.shape)


def _count(grid: Grid, counter: _Counter) -> tuple[_Settled, tuple[Stage, ...]]:
    table = _undecided(grid.size)

    def begin(part: slice) -> list[Group]:
        table.state[part], groups = counter.law.descents(part.stop - part.start, **grid.part(part))
        shifted = [Group(g.zero, part.start + g.where, g.cells) for g in groups]
        return [left for group in shifted for left in record(group, counter.directly(group))]

    def record(group: Group, settled: _Settled) -> list[Group]:
        """Writes what is settled and returns what is not."""
        clipped = group.cells.h < batches.SMALLEST_STEP
        settled.state[clipped & (settled.state <= EpochState.SIMULATED)] = EpochState.UNDECIDED
        table.write(group.where, settled)
        doubtful = np.flatnonzero(settled.state == EpochState.UNDECIDED)
        return [group.take(doubtful)] if doubtful.size else []

    started = time.perf_counter()
    doubtful = _joined(chain.from_iterable(_map(begin, _slices(grid.size, _SLICE))))
    stages = [Stage(grid.size, time.perf_counter() - started)]
    for stage in (counter.by_walking, counter.exactly):
        started = time.perf_counter()
        settled = _map(stage, doubtful)
        cells = sum(len(group.where) for group in doubtful)
        doubtful = _joined(chain.from_iterable(map(record, doubtful, settled)))
        stages.append(Stage(cells, time.perf_counter() - started))
    missing = table.state > EpochState.SIMULATED
    table.epochs[missing], table.bound[missing] = 0, np.nan
    shape = grid.shape
    shaped = (table.epochs.reshape(shape), table.bound.reshape(shape), table.state.reshape(shape))
    return _Settled(*shaped), tuple(stages)


@np.errstate(all="ignore")
def _rounded_up(whole: Array, rest: Array, bound: Array) -> _Settled:
    """Rounds lengths up where no integer lies within their bound."""
    epochs = np.maximum(whole + np.ceil(rest), 1.0)
    low = np.maximum(whole + np.ceil(rest - bound), 1.0)
    high = np.maximum(whole + np.ceil(rest + bound), 1.0)
    sure = (low == high) & (high < _INTEGERS)
    state = np.where(sure, EpochState.FLOAT64, EpochState.UNDECIDED).astype(np.uint8)
    return _Settled(np.where(sure, epochs, 0.0).astype(np.int64), bound, state)


def _undecided(count: int) -> _Settled:
    state = np.full(count, EpochState.UNDECIDED, dtype=np.uint8)
    return _Settled(np.zeros(count, dtype=np.int64), np.full(count, np.nan), state)


def _split(length: DoubleDouble, usable: NDArray[np.bool_]) -> tuple[NDArray[np.uint64], Array]:
    """Returns whole epochs and what is left, in [0, 1)."""
    hi, lo = np.where(usable, length.hi, 0.0), np.where(usable, length.lo, 0.0)
    whole = np.floor(hi)
    rest = (hi - whole) + lo
    more = np.floor(rest)
    return (whole.astype(np.int64) + more.astype(np.int64)).astype(np.uint64), rest - more


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def _map(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Maps over items on all cores; JAX and NumPy release the interpreter's lock."""
    work = list(items)
    if len(work) < 2:
        return [function(item) for item in work]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, work))


def _slices(size: int, width: int) -> list[slice]:
    return [slice(begin, min(begin + width, size)) for begin in range(0, size, width)]


def _joined(parts: Iterable[Group]) -> list[Group]:
    """Joins small groups and cuts them evenly, so that blocks are full; large ones stay as is."""
    parts = list(parts)
    joined = [group for group in parts if len(group.where) >= batches.BLOCK]
    for zero in (True, False):
        groups = [g for g in parts if g.zero is zero and len(g.where) < batches.BLOCK]
        if not groups:
            continue
        where = np.concatenate([group.where for group in groups])
        whole = Group(zero, where, batches.joined([group.cells for group in groups]))
        joined += [whole.take(cut) for cut in _slices(len(where), _DOUBTFUL_SLICE)]
    return joined
