"""The theory's scalar functions as compiled kernels over blocks of neurons.

A block has one of two sizes and the last one is padded, so that nothing is compiled twice and no
value depends on how the neurons were divided. Everything runs in float64, which is enabled for the
calling thread alone.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from plateaumap.numerics.compiler import double_precision
from plateaumap.theory import follow, prediction
from plateaumap.theory.canonical import CanonicalNeurons
from plateaumap.theory.dynamics import Dynamics, Estimate, Neuron
from plateaumap.theory.flow import Drop, Scalar, Target
from plateaumap.theory.follow import Followed, Position

Array = NDArray[np.float64]

SMALL_BLOCK = 128
BLOCK = 8192
WIDE_BLOCK = 16384

SMALLEST_STEP = 2.0**-1000
"""XLA flushes subnormal numbers to zero, so that shorter steps are replaced by this one."""

_ENDLESS = 1e299
"""From here on a prediction is one that was clipped short of an overflow."""

_Kernel = Callable[..., Any]


class SeriesLength(NamedTuple):
    """Lengths in epochs before rounding up, and bounds on their errors."""

    epochs: Any
    bound: Any


class SegmentPlan(NamedTuple):
    """How the next stages treat a neuron.

    ``direct`` segments end at the level, whose z is ``guess``; ``leaps`` end where
    ``sigma(-z) = s``, after ``leap`` epochs, known to within ``leap_bound``. ``correction`` is
    added to the flow time over h of either; ``bound`` holds for its error.
    """

    direct: Any
    leaps: Any
    s: Any
    guess: Any
    correction: Any
    bound: Any
    leap: Any
    leap_bound: Any

    def take(self, index: NDArray[Any]) -> "SegmentPlan":
        """Return the plans of some of the neurons."""
        return SegmentPlan(*(column[index] for column in self))


def series_lengths(
    dynamics: Dynamics, zero: bool, drop: Drop, neurons: CanonicalNeurons
) -> SeriesLength:
    """Return lengths by the Abel series alone."""
    return _run(_series_length, dynamics, zero, drop, neurons, WIDE_BLOCK)


def plans(
    dynamics: Dynamics, zero: bool, drop: Drop, gate: float, neurons: CanonicalNeurons
) -> SegmentPlan:
    """Return segments on which ``h |f'|`` is at most ``gate``."""
    return _run(_plan, dynamics, zero, drop, neurons, BLOCK, gate)


def followed(
    dynamics: Dynamics,
    zero: bool,
    drop: Drop,
    gate: float,
    neurons: CanonicalNeurons,
    plan: SegmentPlan,
) -> Followed:
    """Return lengths of paths followed from the last whole epoch of their leap, or their start."""
    columns = (plan.leaps, plan.leap, plan.leap_bound)
    return _run(_follow, dynamics, zero, drop, neurons, BLOCK, gate, columns)


def predictions(dynamics: Dynamics, zero: bool, drop: Drop, neurons: CanonicalNeurons) -> Array:
    """Return predicted lengths; NaN where no prediction applies, or where they overflow float64."""
    epochs: Array = _run(prediction.predict, dynamics, zero, drop, neurons, WIDE_BLOCK)

    def again(kernel: _Kernel, where: NDArray[np.bool_]) -> None:
        index = np.flatnonzero(where)
        if index.size:
            epochs[index] = _run(kernel, dynamics, zero, drop, neurons.take(index), BLOCK)

    again(prediction.predict_rough, np.isnan(epochs))
    epochs[epochs > _ENDLESS] = np.nan
    large = (np.abs(neurons.z) > 300.0) | (neurons.h < 1e-100)
    again(prediction.predict_extreme, np.isnan(epochs) & large)
    with np.errstate(all="ignore"):
        # At these lengths float64 resolves only the flow time over h.
        scaled = epochs * np.maximum(SMALLEST_STEP / neurons.h, 1.0)
    return np.where(np.isfinite(scaled), scaled, np.nan)


def log_flow_epochs(dynamics: Dynamics, zero: bool, drop: Drop, neurons: CanonicalNeurons) -> Array:
    """Return the logarithms of the flow times over h; NaN where the dynamics have none."""
    logarithms: Array = _run(_log_flow_time, dynamics, zero, drop, neurons, BLOCK)
    return logarithms - np.log(neurons.h)


def _log_flow_time(dynamics: Dynamics, neuron: Neuron) -> Scalar:
    return dynamics.log_flow_time(neuron)


def _series_length(dynamics: Dynamics, neuron: Neuron) -> SeriesLength:
    # A length from outside the span is beyond any integer type, and so it is from its ends.
    inside = jnp.clip(neuron.z, *dynamics.span)
    z_low = jnp.where(inside == neuron.z, neuron.z_low, 0.0)
    start = dynamics.point(inside, neuron.target, z_low)
    whole = dynamics.to_level(start, neuron.target, neuron.drop)
    estimate = dynamics.length(whole, neuron)
    meets = dynamics.landing_meets_level(whole, neuron)
    return SeriesLength(estimate.epochs, jnp.where(meets, estimate.bound, jnp.inf))


def _plan(dynamics: Dynamics, neuron: Neuron, gate: Scalar) -> SegmentPlan:
    start = dynamics.point(neuron.z, neuron.target, neuron.z_low)
    whole = dynamics.to_level(start, neuron.target, neuron.drop)
    holds = follow.series_holds(dynamics, whole, neuron, gate)
    leap = dynamics.leap(whole, neuron, gate)
    segment = jax.tree.map(lambda a, b: jnp.where(holds, a, b), whole, leap.segment)
    correction = dynamics.correction(segment, neuron, 1.1 * gate)
    length = dynamics.length(segment, neuron, 1.1 * gate)
    return SegmentPlan(
        direct=holds,
        leaps=leap.useful & ~jnp.asarray(holds),
        s=dynamics.complement(leap.segment.end),
        guess=whole.end.z,
        correction=correction.epochs,
        bound=correction.bound,
        leap=length.epochs,
        leap_bound=length.bound,
    )


def _follow(
    dynamics: Dynamics, neuron: Neuron, gate: Scalar, leaps: Scalar, epochs: Scalar, bound: Scalar
) -> Followed:
    neuron = neuron._replace(z_low=0.0, h_low=0.0)
    start = dynamics.point(neuron.z, neuron.target)
    whole = dynamics.to_level(start, neuron.target, neuron.drop)
    leap = dynamics.leap(whole, neuron, gate)
    landing = follow.land(dynamics, leap, Estimate(epochs, bound, 0.0), neuron, gate)
    straight = follow.run_straight(dynamics, whole, neuron)
    position = Position(*(jnp.where(leaps, a, b) for a, b in zip(landing, straight, strict=True)))
    return follow.follow(dynamics, position, whole, neuron, gate)


@cache
def _compiled(kernel: _Kernel, dynamics: Dynamics, zero: bool) -> _Kernel:
    """Return a kernel of some dynamics over a block: the one place where they are vmapped."""

    def one(drop: Drop, gate: Any, target: Target, starts: Any, extra: Any) -> Any:
        z, h, z_low, h_low = starts
        neuron = Neuron(z, h, z_low, h_low, Target(0.0, 1.0) if zero else target, drop)
        return kernel(dynamics, neuron, *gate, *extra)

    return jax.jit(jax.vmap(one, in_axes=(None, None, 0, 0, 0)))


def _run(
    kernel: _Kernel,
    dynamics: Dynamics,
    zero: bool,
    drop: Drop,
    neurons: CanonicalNeurons,
    width: int,
    gate: float | None = None,
    extra: tuple[Array, ...] = (),
) -> Any:
    """Run a kernel over all neurons, block by block, and return its results as NumPy arrays."""
    h = np.maximum(neurons.h, SMALLEST_STEP)
    targets, starts = (neurons.y, neurons.q), (neurons.z, h, neurons.z_low, neurons.h_low)
    count, gates = len(neurons.z), () if gate is None else (gate,)
    width = SMALL_BLOCK if count <= SMALL_BLOCK else min(width, dynamics.width)

    def block(columns: tuple[Array, ...], begin: int) -> list[Any]:
        parts = [column[begin : begin + width] for column in columns]
        missing = width - len(parts[0]) if parts else 0
        return [np.pad(part, (0, missing), "edge") for part in parts] if missing else parts

    results = []
    with double_precision():
        compiled = _compiled(kernel, dynamics.compiled_as, zero)
        for begin in range(0, count, width):
            target = Target(*block(targets, begin))
            columns = block(starts, begin), block(extra, begin)
            result = compiled(drop, gates, target, *columns)
            results.append(jax.tree.map(np.asarray, result))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)
