"""Exact plateau lengths without simulating, in constant time for every length.

A plateau ends at the first n with ``excess_n <= (1 - drop) excess_0`` under gradient descent in
exact arithmetic. Neurons pass through three stages, each only where the one before left a doubt:

1. the Abel series in float64 (``abel_series.py``, ``sigmoid.py``, ``smooth.py``);
2. where the series does not hold to the level, a leap and steps (``follow.py``);
3. where float64 cannot decide between two integers, the flow time in double-double
   (``flow_double_double.py``).

Every stage bounds its own error. A length is settled when no integer lies within its bound.
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
from plateaumap.theory import kernels
from plateaumap.theory.applicability import dynamics_of, message_without_lengths
from plateaumap.theory.canonical import CanonicalNeurons, EpochState, NeuronGrid, NeuronGroup
from plateaumap.theory.dynamics import Dynamics
from plateaumap.theory.flow import Drop
from plateaumap.theory.flow_double_double import (
    EXACT_TIMES,
    ROUNDING,
    ExactDrop,
    ExactEnd,
    ExactStart,
    saturated_length,
)
from plateaumap.theory.sigmoid import SIGMOID_DYNAMICS, SigmoidDynamics

_LIMIT = 2.0**63
_INTEGERS = 2.0**52
_SLICE = 2 * kernels.WIDE_BLOCK
_DOUBTFUL_SLICE = 4 * kernels.BLOCK
_LARGEST_STEP = 1e100
"""Steps up to this one stay within the clips of the stages."""
_EXACT_GATE = 0.02
"""The gate of an exact leap: there the series omits next to nothing."""


class Stage(NamedTuple):
    """The number of neurons that came to a stage, and its seconds on all cores."""

    cells: int
    seconds: float


@dataclass(frozen=True)
class EpochCounts:
    """Plateau lengths of many neurons; every array has their broadcast shape.

    Attributes:
        epochs: int64 lengths in epochs, exact; 0 where there is none.
        state: uint8 codes of ``EpochState``.
        bound: float64 bounds on the error, in epochs, of the real number whose rounding up is the
            length. NaN where there is none.
        predicted: float64 lengths by ``predict_epochs``, also beyond int64; NaN, never inf.
        stages: the work of each of the three stages.
    """

    epochs: NDArray[np.int64]
    state: NDArray[np.uint8]
    bound: Array
    predicted: Array
    stages: tuple[Stage, ...]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether a neuron has a length."""
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
    """Return exact plateau lengths by theory.

    Args:
        w0: initial weights; like all inputs an array that broadcasts, its float64 values taken as
            exact numbers.
        b0: initial biases.
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
        loss excess is at most ``1 - drop`` of its initial value, after n updates in exact
        arithmetic. With ``errors="mask"`` a ``numpy.ma.MaskedArray`` in which neurons without a
        length are masked.

    Raises:
        PlateaumapError: the loss, ``drop``, ``errors`` or the shapes are wrong, or the activation
            has no theory. With ``errors="raise"`` also if a neuron has no length: its initial
            output is the target, its path overshoots the target, its plateau is longer than int64
            holds or too long or too close to an integer to decide, or a value is invalid.

    Example:
        >>> import plateaumap as pm
        >>> int(pm.plateau_epochs(w0=2, b0=2, lr=0.15))
        152
        >>> pm.plateau_epochs(w0=[2, 16], b0=[2, 16], lr=0.005).tolist()
        [4532, 7896296018274977]
        >>> pm.plateau_epochs(w0=2, b0=2, lr=[0.15, -1], errors="mask").tolist()
        [152, None]
    """
    if errors not in ("raise", "mask"):
        raise PlateaumapError(f"errors = {errors!r}: unknown; use 'raise' or 'mask'")
    grid = NeuronGrid(w0=w0, b0=b0, lr=lr, x=x, y=y)
    counts, _ = _count(grid, LengthStages.of(loss, drop, activation))
    known = counts.state <= EpochState.SIMULATED
    if errors == "mask":
        return np.ma.MaskedArray(counts.epochs, mask=~known)
    if not known.all():
        state = counts.state.reshape(-1)
        raise PlateaumapError(message_without_lengths(grid, state, loss, activation, drop))
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
    """Return exact plateau lengths and, for every neuron, how it was settled or why not.

    The arguments are those of ``plateau_epochs``.

    Raises:
        PlateaumapError: the loss, ``drop`` or the shapes are wrong; never for a single neuron.
    """
    grid = NeuronGrid(w0=w0, b0=b0, lr=lr, x=x, y=y)
    length_stages = LengthStages.of(loss, drop, activation)
    settled, stages = _count(grid, length_stages)
    predicted = _each_group(grid, length_stages.dynamics, length_stages.predict)
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
    """Return plateau lengths by theory in float64, cheaply and without proof.

    The arguments are those of ``plateau_epochs``. The length is exact to the epoch nearly
    everywhere that the Abel series holds from the start to the level, and of the right size for
    any other step.

    Returns:
        float64 whole epochs, at least 1, of the broadcast shape; NaN where a neuron has no excess
        to lose, overshoots its target, overflows float64 or is invalid. Never inf.

    Raises:
        PlateaumapError: the loss, ``drop`` or the shapes are wrong.
    """
    stages = LengthStages.of(loss, drop, activation)
    grid = NeuronGrid(w0=w0, b0=b0, lr=lr, x=x, y=y)
    return _each_group(grid, stages.dynamics, stages.predict)


def flow_epochs(
    w0: ArrayLike,
    b0: ArrayLike,
    lr: ArrayLike,
    x: ArrayLike = 1.0,
    y: ArrayLike = 0.0,
    loss: str = "quadratic",
    drop: float = 0.1,
) -> Array:
    """Return plateau lengths along the gradient flow, ``T / h`` with ``h = lr (1 + x**2)``.

    They are the limit for a vanishing learning rate: off by some epochs at rates up to 1, and by
    more beyond; `plateau_epochs` is exact. The arguments are those of ``plateau_epochs``, for a
    sigmoid.

    Returns:
        Real numbers of epochs, float64 of the broadcast shape; NaN where a neuron has no excess to
        lose or is invalid, and where float64 cannot hold the length.

    Raises:
        PlateaumapError: the loss has no flow in closed form.
    """
    if loss not in SIGMOID_DYNAMICS:
        raise PlateaumapError(f"loss = {loss!r}: no flow; use one of {', '.join(SIGMOID_DYNAMICS)}")
    dynamics = SIGMOID_DYNAMICS[loss]()

    @np.errstate(over="ignore")
    def epochs(group: NeuronGroup) -> Array:
        logarithms = kernels.log_flow_epochs(dynamics, group.zero, Drop.of(drop), group.neurons)
        return np.exp(logarithms)

    lengths = _each_group(NeuronGrid(w0=w0, b0=b0, lr=lr, x=x, y=y), dynamics, epochs)
    return np.where(np.isfinite(lengths) & (lengths > 0), lengths, np.nan)


class Settled(NamedTuple):
    """Lengths, bounds and states of some neurons; ``UNDECIDED`` ones go to the next stage."""

    epochs: NDArray[np.int64]
    bound: Array
    state: NDArray[np.uint8]

    def write(self, where: NDArray[np.int64], part: "Settled") -> None:
        """Write the results of some of the neurons."""
        self.epochs[where], self.bound[where], self.state[where] = part

    def reshape(self, shape: tuple[int, ...]) -> "Settled":
        """Return the same results in another shape."""
        epochs, bound, state = self
        return Settled(epochs.reshape(shape), bound.reshape(shape), state.reshape(shape))


class LengthStages(NamedTuple):
    """The three stages for one activation, loss and drop."""

    dynamics: Dynamics
    drop: Drop
    exact_drop: ExactDrop

    @classmethod
    def of(cls, loss: str, drop: float, activation: Activation | str = "sigmoid") -> "LengthStages":
        """Return the stages.

        Raises:
            PlateaumapError: there are no exact lengths, or ``drop`` is wrong.
        """
        dynamics = dynamics_of(activation, loss)
        if not (isinstance(drop, int | float | np.floating) and 0.0 < drop < 1.0):
            raise PlateaumapError(f"drop = {drop!r}: must be a number between 0 and 1")
        return cls(dynamics, Drop.of(drop), ExactDrop.of(drop))

    def predict(self, group: NeuronGroup) -> Array:
        """Return predicted lengths."""
        return kernels.predictions(self.dynamics.coarse, group.zero, self.drop, group.neurons)

    @np.errstate(all="ignore")
    def by_series(self, group: NeuronGroup) -> Settled:
        """Return the results of stage 1: the Abel series in float64."""
        length = kernels.series_lengths(self.dynamics, group.zero, self.drop, group.neurons)
        settled = _rounded_up(np.zeros(len(length.epochs)), length.epochs, length.bound)
        beyond = (length.epochs - length.bound >= _LIMIT) & (group.neurons.h < _LARGEST_STEP)
        settled.state[beyond] = EpochState.BEYOND_INT64
        return settled

    def by_following(self, group: NeuronGroup) -> Settled:
        """Return the results of stage 2: leaps and steps in float64."""
        gate = self.dynamics.leap_gate[group.zero]
        plan = self._plans(group, gate)
        # Lengths that the series gives were in doubt because they are close to an integer.
        rough = np.flatnonzero(~plan.direct)
        settled = _undecided(len(group.where))
        if rough.size:
            followed = self._followed(group.take(rough), gate, plan.take(rough))
            part = _rounded_up(followed.whole, followed.remainder, followed.bound)
            stepped = (followed.steps == followed.whole) & (followed.remainder == 0.0)
            part.state[stepped & (part.state == EpochState.FLOAT64)] = EpochState.SIMULATED
            settled.write(rough, part)
        return settled

    @np.errstate(all="ignore")
    def by_double_double(self, group: NeuronGroup) -> Settled:
        """Return the results of stage 3: the flow time in double-double, then as stages 1 and 2."""
        dynamics, zero, neurons = self.dynamics, group.zero, group.neurons
        if not isinstance(dynamics, SigmoidDynamics):
            return self._left_open(group)
        plan = self._plans(group, _EXACT_GATE)
        length, bound = self._exact_length(dynamics.loss, group, plan)
        known = (plan.direct | plan.leaps) & np.isfinite(length.hi + bound)
        beyond = known & (length.hi - bound >= _LIMIT) & (neurons.h < _LARGEST_STEP)
        known &= (length.hi < _LIMIT) & (bound < 0.5)
        whole, remainder = _split(length, known)
        steps, bound = np.zeros_like(remainder), np.where(known, bound, np.inf)
        leaps = np.flatnonzero(plan.leaps & known)
        if leaps.size:
            fractions = plan._replace(leap=remainder, leap_bound=bound).take(leaps)
            followed = self._followed(group.take(leaps), _EXACT_GATE, fractions)
            steps[leaps], remainder[leaps], bound[leaps] = followed[:3]
        settled = _rounded_up(steps, remainder, bound)
        total = whole + settled.epochs.astype(np.uint64)
        state = settled.state
        state[state == EpochState.FLOAT64] = EpochState.DOUBLE_DOUBLE
        if not zero:
            state[(state == EpochState.UNDECIDED) & np.isinf(settled.bound)] = EpochState.NO_THEORY
        state[beyond | (total >= np.uint64(2**63))] = EpochState.BEYOND_INT64
        self._flow_beyond(group, settled)
        result = Settled(total.astype(np.int64), settled.bound, state)
        if zero and dynamics.loss == "cross_entropy":
            self._by_fractions(neurons, result)
        return result

    def _plans(self, group: NeuronGroup, gate: float) -> kernels.SegmentPlan:
        return kernels.plans(self.dynamics, group.zero, self.drop, gate, group.neurons)

    def _followed(
        self, group: NeuronGroup, gate: float, plan: kernels.SegmentPlan
    ) -> kernels.Followed:
        zero, neurons = group.zero, group.neurons
        return kernels.followed(self.dynamics, zero, self.drop, gate, neurons, plan)

    def _left_open(self, group: NeuronGroup) -> Settled:
        """Return why neurons without a stage 3 have no length that float64 settles."""
        plan = self._plans(group, self.dynamics.leap_gate[False])
        reached = (plan.direct | plan.leaps) & np.isfinite(plan.leap_bound)
        settled = _undecided(len(plan.leap))
        settled.state[~reached] = EpochState.NO_THEORY
        beyond = plan.leap - plan.leap_bound >= _LIMIT
        beyond &= reached & (group.neurons.h < _LARGEST_STEP)
        settled.state[beyond] = EpochState.BEYOND_INT64
        return settled

    def _flow_beyond(self, group: NeuronGroup, settled: Settled) -> None:
        """Mark lengths that the flow or the first step alone shows to be beyond int64.

        Until a share of the excess is gone f decreases by no more than that share, so that a length
        is at least what is kept of the flow time over h. Below a target of 0, where f is at most
        exp(z) and decreases, z has to decrease by half of the drop.
        """
        open_ = np.flatnonzero(settled.state > EpochState.BEYOND_INT64)
        if not open_.size:
            return
        neurons = group.neurons.take(open_)
        logarithm = kernels.log_flow_epochs(self.dynamics, group.zero, self.drop, neurons)
        far = logarithm > math.log(_LIMIT / self.drop.keep) + 1.0
        if group.zero:
            first = math.log(0.5 * self.drop.fraction) - neurons.z - np.log(neurons.h)
            far |= first > math.log(_LIMIT) + 1.0
        settled.state[open_[far]] = EpochState.BEYOND_INT64

    def _by_fractions(self, neurons: CanonicalNeurons, settled: Settled) -> None:
        """Settle lengths of the cross-entropy too close to an integer for double-double."""
        for i in np.flatnonzero(settled.state == EpochState.UNDECIDED):
            z = Fraction(neurons.z[i]) + Fraction(neurons.z_low[i])
            h = Fraction(neurons.h[i]) + Fraction(neurons.h_low[i])
            epochs = saturated_length(z, h, self.exact_drop.decimal)
            if epochs is not None and epochs < _LIMIT:
                settled.epochs[i], settled.bound[i] = epochs, 0.0
                settled.state[i] = EpochState.DOUBLE_DOUBLE

    def _exact_length(
        self, loss: str, group: NeuronGroup, plan: kernels.SegmentPlan
    ) -> tuple[DoubleDouble, Array]:
        """Return the epochs to the level or to the end of the leap, and a bound on their error."""
        neurons = group.neurons
        end = ExactEnd(plan.leaps, plan.s, plan.guess)
        flow, size = EXACT_TIMES[loss](ExactStart.of(neurons), end, self.exact_drop, group.zero)
        length = flow / DoubleDouble(neurons.h, neurons.h_low) + double(plan.correction)
        return length, plan.bound + ROUNDING * size / neurons.h


def _each_group(
    grid: NeuronGrid, dynamics: Dynamics, function: Callable[[NeuronGroup], Array]
) -> Array:
    """Return a number for each neuron of a grid, NaN without a canonical form."""
    numbers = np.full(grid.size, np.nan)

    def fill(part: slice) -> None:
        _, groups = dynamics.canonical(part.stop - part.start, grid.part(part))
        for group in groups:
            numbers[part.start + group.where] = function(group)

    _map(fill, _slices(grid.size, _SLICE))
    return numbers.reshape(grid.shape)


def _count(grid: NeuronGrid, length_stages: LengthStages) -> tuple[Settled, tuple[Stage, ...]]:
    table = _undecided(grid.size)

    def begin(part: slice) -> list[NeuronGroup]:
        count = part.stop - part.start
        table.state[part], groups = length_stages.dynamics.canonical(count, grid.part(part))
        groups = [group._replace(where=part.start + group.where) for group in groups]
        return [left for group in groups for left in record(group, length_stages.by_series(group))]

    def record(group: NeuronGroup, settled: Settled) -> list[NeuronGroup]:
        """Write what is settled and return the undecided neurons."""
        clipped = group.neurons.h < kernels.SMALLEST_STEP
        settled.state[clipped & (settled.state <= EpochState.SIMULATED)] = EpochState.UNDECIDED
        table.write(group.where, settled)
        doubtful = np.flatnonzero(settled.state == EpochState.UNDECIDED)
        return [group.take(doubtful)] if doubtful.size else []

    started = time.perf_counter()
    doubtful = _joined(chain.from_iterable(_map(begin, _slices(grid.size, _SLICE))))
    stages = [Stage(grid.size, time.perf_counter() - started)]
    for stage in (length_stages.by_following, length_stages.by_double_double):
        started = time.perf_counter()
        settled = _map(stage, doubtful)
        cells = sum(len(group.where) for group in doubtful)
        doubtful = _joined(chain.from_iterable(map(record, doubtful, settled)))
        stages.append(Stage(cells, time.perf_counter() - started))
    missing = table.state > EpochState.SIMULATED
    table.epochs[missing], table.bound[missing] = 0, np.nan
    return table.reshape(grid.shape), tuple(stages)


@np.errstate(all="ignore")
def _rounded_up(whole: Array, remainder: Array, bound: Array) -> Settled:
    """Round lengths up where no integer lies within their bound."""
    low, epochs, high = (
        np.maximum(whole + np.ceil(remainder + error), 1.0) for error in (-bound, 0.0, bound)
    )
    sure = (low == high) & (high < _INTEGERS)
    state = np.where(sure, EpochState.FLOAT64, EpochState.UNDECIDED).astype(np.uint8)
    return Settled(np.where(sure, epochs, 0.0).astype(np.int64), bound, state)


def _undecided(count: int) -> Settled:
    state = np.full(count, EpochState.UNDECIDED, dtype=np.uint8)
    return Settled(np.zeros(count, dtype=np.int64), np.full(count, np.nan), state)


def _split(length: DoubleDouble, usable: NDArray[np.bool_]) -> tuple[NDArray[np.uint64], Array]:
    """Return whole epochs and the remainder, in [0, 1)."""
    hi, lo = np.where(usable, length.hi, 0.0), np.where(usable, length.lo, 0.0)
    whole = np.floor(hi)
    remainder = (hi - whole) + lo
    more = np.floor(remainder)
    return (whole.astype(np.int64) + more.astype(np.int64)).astype(np.uint64), remainder - more


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def _map(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Map over items on all cores; JAX and NumPy release the interpreter's lock."""
    work = list(items)
    if len(work) < 2:
        return [function(item) for item in work]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, work))


def _slices(size: int, width: int) -> list[slice]:
    return [slice(begin, min(begin + width, size)) for begin in range(0, size, width)]


def _joined(groups: Iterable[NeuronGroup]) -> list[NeuronGroup]:
    """Join small groups and divide them evenly, so that blocks are full; large ones stay as is."""
    groups = list(groups)
    joined = [group for group in groups if len(group.where) >= kernels.BLOCK]
    for zero in (True, False):
        small = [g for g in groups if g.zero is zero and len(g.where) < kernels.BLOCK]
        if small:
            columns = zip(*(group.neurons for group in small), strict=True)
            neurons = CanonicalNeurons(*map(np.concatenate, columns))
            whole = NeuronGroup(zero, np.concatenate([g.where for g in small]), neurons)
            joined += [whole.take(part) for part in _slices(len(whole.where), _DOUBTFUL_SLICE)]
    return joined
