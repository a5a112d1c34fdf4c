"""The predicted length of a plateau, cheap and without proof. Scalar JAX functions."""

import jax
import jax.numpy as jnp

from plateaumap.theory.dynamics import Dynamics, Neuron
from plateaumap.theory.flow import Scalar
from plateaumap.theory.follow import run_straight

_LEAP_GATE = 0.1
_STEPS = 32
"""Steps that a prediction may follow; the remainder is its flow time."""


def predict(dynamics: Dynamics, neuron: Neuron) -> jax.Array:
    """Return the epochs until the loss excess has dropped.

    Exact to the epoch nearly always; NaN where the Abel series does not hold to the level, or a
    term overflows float64.
    """
    start = dynamics.point(neuron.z, neuron.target, neuron.z_low)
    whole = dynamics.to_level(start, neuron.target, neuron.drop)
    length = dynamics.length(whole, neuron)
    meets = dynamics.landing_meets_level(whole, neuron)
    return jnp.where((length.truncation < jnp.inf) & meets, _whole(length.epochs), jnp.nan)


def predict_rough(dynamics: Dynamics, neuron: Neuron) -> jax.Array:
    """Return the same where the series does not hold: of the right size, and mostly exact.

    The series is used as far as it leads out of saturation. From there up to 32 steps are
    followed, and the remainder is its flow time. NaN where a path with 0 < y < 1 has passed its
    target by then without meeting the level, and where a term overflows float64.
    """
    target, h = neuron.target, neuron.h
    start = dynamics.point(neuron.z, target, neuron.z_low)
    whole = dynamics.to_level(start, target, neuron.drop)
    leap = dynamics.leap(whole, neuron, _LEAP_GATE)
    length = dynamics.length(leap.segment, neuron).epochs
    straight = run_straight(dynamics, whole, neuron)
    # The last whole epoch of a leap lies before its end by a fraction r of the length: to second
    # order in h, a step of r h f (1 + (1 + r) h f' / 2).
    end, r = leap.segment.end, length - jnp.floor(length)
    back = r * h * dynamics.gradient(end) * (1.0 + 0.5 * (1.0 + r) * h * dynamics.curvature(end))
    begin = jnp.asarray(jnp.where(leap.useful, end.z + back, straight.z))
    before = jnp.where(leap.useful, jnp.floor(length), straight.epochs)
    level = neuron.drop.keep * dynamics.excess(whole.start, target)

    def unmet(z: Scalar) -> jax.Array:
        if target.is_zero:
            return ~jnp.asarray(z <= whole.end.z)
        return ~jnp.asarray(dynamics.excess(dynamics.point(z, target), target) <= level)

    def unfinished(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        z, steps = state
        return unmet(z) & (steps < _STEPS)

    def advance(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        z, steps = state
        return z - h * dynamics.gradient(dynamics.point(z, target)), steps + 1.0

    z, steps = jax.lax.while_loop(unfinished, advance, (begin, jnp.zeros_like(begin)))
    ahead = dynamics.segment(dynamics.point(z, target), whole.end, target)
    flow = dynamics.flow_time(ahead, target) / h
    remainder = jnp.where(unmet(z), jnp.where(ahead.start.e > 0.0, flow, jnp.nan), 0.0)
    # Where not even one epoch was counted, start and level are one number in float64.
    epochs = before + steps + remainder
    return _whole(jnp.where(epochs > 0.0, epochs, jnp.nan))


def predict_extreme(dynamics: Dynamics, neuron: Neuron) -> jax.Array:
    """Return the flow time over h, by its logarithm; NaN where it overflows float64."""
    logarithm = dynamics.log_flow_time(neuron)
    # With a time of zero start and level are one number in float64.
    return _whole(jnp.where(logarithm > -jnp.inf, jnp.exp(logarithm - jnp.log(neuron.h)), jnp.nan))


def _whole(epochs: Scalar) -> jax.Array:
    return jnp.where(jnp.isfinite(epochs), jnp.maximum(jnp.ceil(epochs), 1.0), jnp.nan)
