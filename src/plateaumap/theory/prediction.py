"""A plateau's length, cheaply and without proof. Scalar JAX functions."""

import jax
import jax.numpy as jnp

from plateaumap.theory.abel import abel_difference, lands_well
from plateaumap.theory.flow import DYNAMICS, Drop, Point, Scalar, Target, make_leg, make_point
from plateaumap.theory.walk import plan_leap, run_straight

_LEAP_SLOPE = 0.1
_STEPS = 32
"""Steps that a prediction may follow; it takes the flow time of what is left then."""


def predict(
    loss: str, start: Point, target: Target, drop: Drop, h: Scalar, h_low: Scalar
) -> jax.Array:
    """Returns the epochs that a descent from ``start`` takes until the loss excess has dropped.

    Exact to the epoch nearly always; NaN where the Abel series does not reach the level, or a
    term overflows float64.
    """
    whole = DYNAMICS[loss].depart(start, target, drop)
    length = abel_difference(loss, whole, target, h, h_low)
    known = (length.truncation < jnp.inf) & lands_well(loss, whole, target, drop, h)
    return jnp.where(known, _whole(length.epochs), jnp.nan)


def predict_rough(
    loss: str, start: Point, target: Target, drop: Drop, h: Scalar, h_low: Scalar
) -> jax.Array:
    """Returns the same where the series does not reach: of the right size, and mostly exact.

    The series goes as far as it leads out of saturation; from there up to 32 steps are followed,
    and what is left then takes the flow time. NaN where a path with 0 < y < 1 has passed its
    target by then without meeting the level, and where a term overflows float64.
    """
    dynamics = DYNAMICS[loss]
    whole = dynamics.depart(start, target, drop)
    leap = plan_leap(loss, whole, target, h, _LEAP_SLOPE)
    length = abel_difference(loss, leap.leg, target, h, h_low, saturated=True).epochs
    straight = run_straight(loss, whole, target, h)
    # The last whole epoch of a leap lies before its end by the rest of the length: to second
    # order in h, a rest r of an epoch is a step of r h f (1 + (1 + r) h f' / 2).
    end, rest = leap.leg.end, length - jnp.floor(length)
    back = rest * h * dynamics.speed(end) * (1.0 + 0.5 * (1.0 + rest) * h * dynamics.slope(end))
    begin = jnp.where(leap.useful, end.z + back, straight.z)
    before = jnp.where(leap.useful, jnp.floor(length), straight.epochs)
    level = drop.keep * dynamics.excess(whole.start, target)

    def unmet(z: Scalar) -> jax.Array:
        if target.is_zero:
            return ~jnp.asarray(z <= whole.end.z)
        return ~jnp.asarray(dynamics.excess(make_point(z, target), target) <= level)

    def unfinished(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        z, steps = state
        return unmet(z) & (steps < _STEPS)

    def advance(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        z, steps = state
        return z - h * dynamics.speed(make_point(z, target)), steps + 1.0

    begin = jnp.asarray(begin)
    z, steps = jax.lax.while_loop(unfinished, advance, (begin, jnp.zeros_like(begin)))
    ahead = make_leg(make_point(z, target), whole.end, target)
    flow = dynamics.duration(ahead, target).time / h
    left = jnp.where(unmet(z), jnp.where(ahead.start.e > 0.0, flow, jnp.nan), 0.0)
    return _whole(before + steps + left)


def predict_extreme(loss: str, z: Scalar, target: Target, drop: Drop, h: Scalar) -> jax.Array:
    """Returns the flow time over h, by its logarithm; NaN where it overflows float64."""
    dynamics = DYNAMICS[loss]
    end = make_point(dynamics.departure(z, target, drop), target)
    leg = make_leg(make_point(z, target), end, target)
    return _whole(jnp.exp(dynamics.log_duration(leg, target) - jnp.log(h)))


def _whole(epochs: Scalar) -> jax.Array:
    return jnp.where(jnp.isfinite(epochs), jnp.maximum(jnp.ceil(epochs), 1.0), jnp.nan)
