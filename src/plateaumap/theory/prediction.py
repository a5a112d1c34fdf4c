"""A plateau's length, cheaply and without proof. Scalar JAX functions."""

import jax
import jax.numpy as jnp

from plateaumap.theory.flow import Drop, Scalar, Target
from plateaumap.theory.law import Law, Point
from plateaumap.theory.walk import run_straight

_LEAP_SLOPE = 0.1
_STEPS = 32
"""Steps that a prediction may follow; it takes the flow time of what is left then."""


def predict(
    law: Law, start: Point, target: Target, drop: Drop, h: Scalar, h_low: Scalar
) -> jax.Array:
    """Returns the epochs that a descent from ``start`` takes until the loss excess has dropped.

    Exact to the epoch nearly always; NaN where the Abel series does not reach the level, or a
    term overflows float64.
    """
    whole = law.depart(start, target, drop)
    length = law.length(whole, target, h, h_low)
    known = (length.truncation < jnp.inf) & law.lands_well(whole, target, drop, h)
    return jnp.where(known, _whole(length.epochs), jnp.nan)


def predict_rough(
    law: Law, start: Point, target: Target, drop: Drop, h: Scalar, h_low: Scalar
) -> jax.Array:
    """Returns the same where the series does not reach: of the right size, and mostly exact.

    The series goes as far as it leads out of saturation; from there up to 32 steps are followed,
    and what is left then takes the flow time. NaN where a path with 0 < y < 1 has passed its
    target by then without meeting the level, and where a term overflows float64.
    """
    whole = law.depart(start, target, drop)
    leap = law.leap(whole, target, h, _LEAP_SLOPE)
    length = law.length(leap.leg, target, h, h_low, short=False).epochs
    straight = run_straight(law, whole, target, h)
    # The last whole epoch of a leap lies before its end by the rest of the length: to second
    # order in h, a rest r of an epoch is a step of r h f (1 + (1 + r) h f' / 2).
    end, rest = leap.leg.end, length - jnp.floor(length)
    back = rest * h * law.speed(end) * (1.0 + 0.5 * (1.0 + rest) * h * law.slope(end))
    begin = jnp.where(leap.useful, end.z + back, straight.z)
    before = jnp.where(leap.useful, jnp.floor(length), straight.epochs)
    level = drop.keep * law.excess(whole.start, target)

    def unmet(z: Scalar) -> jax.Array:
        if target.is_zero:
            return ~jnp.asarray(z <= whole.end.z)
        return ~jnp.asarray(law.excess(law.point(z, target), target) <= level)

    def unfinished(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        z, steps = state
        return unmet(z) & (steps < _STEPS)

    def advance(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        z, steps = state
        return z - h * law.speed(law.point(z, target)), steps + 1.0

    begin = jnp.asarray(begin)
    z, steps = jax.lax.while_loop(unfinished, advance, (begin, jnp.zeros_like(begin)))
    ahead = law.leg(law.point(z, target), whole.end, target)
    flow = law.flow_time(ahead, target) / h
    left = jnp.where(unmet(z), jnp.where(ahead.start.e > 0.0, flow, jnp.nan), 0.0)
    # Where not even one epoch was counted, start and level are one number in float64.
    counted = before + steps + left
    return _whole(jnp.where(counted > 0.0, counted, jnp.nan))


def predict_extreme(law: Law, z: Scalar, target: Target, drop: Drop, h: Scalar) -> jax.Array:
    """Returns the flow time over h, by its logarithm; NaN where it overflows float64."""
    logarithm = law.log_flow_time(z, target, drop)
    # A time of zero says that start and level are one number in float64.
    return _whole(jnp.where(logarithm > -jnp.inf, jnp.exp(logarithm - jnp.log(h)), jnp.nan))


def _whole(epochs: Scalar) -> jax.Array:
    return jnp.where(jnp.isfinite(epochs), jnp.maximum(jnp.ceil(epochs), 1.0), jnp.nan)
