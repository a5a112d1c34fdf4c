"""Epochs where the series does not reach the end: leap, follow the rest, and say how sure.

A start in saturation leaps by the Abel function to where ``h |f'|`` is still small; from there
gradient descent is followed step by step, some ten to fifty steps, with a bound on the error of z
carried along, until the loss level is met or the series holds for what is left. Scalar JAX
functions, for one neuron on a descent.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from plateaumap.theory.flow import Condition, Drop, Scalar, Target
from plateaumap.theory.law import Estimate, Law, Leap, Leg, Point

_UNIT = 2.0**-53
_NEWTON_STEPS = 3
_STRAIGHT_FROM = 40.0
"""Beyond this z the speed is its limit, to float64."""
_STRAIGHT_STRIDE = 0.2

_ON, _MET, _DIRECT, _LOST = 0.0, 1.0, 2.0, 3.0


class _Path(NamedTuple):
    z: Scalar
    error: Scalar
    steps: Scalar
    outcome: Scalar


class Position(NamedTuple):
    """A place on the path: ``epochs`` after the start, z is known to within ``error``."""

    epochs: Scalar
    z: Scalar
    error: Scalar


class Walk(NamedTuple):
    """How many epochs it takes to meet the level: ``whole`` and, on top, ``rest`` rounded up.

    ``bound`` holds for the error of ``rest``; it is inf where the walk found no answer.
    ``steps`` of the whole epochs were followed one by one.
    """

    whole: Scalar
    rest: Scalar
    bound: Scalar
    steps: Scalar


def series_holds(
    law: Law, whole: Leg, target: Target, drop: Drop, h: Scalar, slope: Scalar
) -> Condition:
    """Whether the series reaches from the start to the level, and the level is met there."""
    gentle = law.calm(whole, target, h, slope)(whole.start)
    return gentle & law.lands_well(whole, target, drop, h)


def land(
    law: Law, leap: Leap, length: Estimate, target: Target, h: Scalar, slope: Scalar
) -> Position:
    """Returns the place after the last whole epoch of a leap of known length.

    It is where the Abel function exceeds its value at the leap's end by the fraction of an epoch
    that is left: Newton's method from above, which comes down monotonely because the Abel function
    of a saturated neuron is convex.
    """
    epochs = jnp.floor(length.epochs)
    left = length.epochs - epochs
    end = leap.leg.end

    def excess_over(z: Scalar) -> tuple[Point, Estimate]:
        p = law.point(z, target)
        leg = law.leg(p, end, target)
        return p, law.length(leg, target, h, slope=2.0 * slope, short=True)

    def refine(_: int, z: Scalar) -> Scalar:
        p, ahead = excess_over(z)
        inverse_slope = h * law.speed(p) / (1.0 - 0.5 * h * law.slope(p))
        return z - (ahead.epochs - left) * inverse_slope

    above = end.z + left * h * law.speed(end)
    z = jax.lax.fori_loop(0, _NEWTON_STEPS, refine, above)
    p, ahead = excess_over(z)
    missed = jnp.abs(ahead.epochs - left) + ahead.rounding + ahead.truncation
    missed = missed + length.rounding + length.truncation
    error = 1.2 * h * law.speed(p) * missed + 8.0 * _UNIT * jnp.abs(z)
    return Position(epochs, z, error)


def run_straight(law: Law, whole: Leg, target: Target, h: Scalar) -> Position:
    """Returns the last place beyond z = 40 and the level on a path that goes there straight."""
    start = whole.start.z
    stride = h * law.far_speed(target)
    room = start - jnp.maximum(_STRAIGHT_FROM, whole.end.z)
    far = (room > 0.0) & (stride > _STRAIGHT_STRIDE)
    safe = jnp.where(far, stride, 1.0)
    epochs = jnp.where(far, jnp.floor(room / safe), 0.0)
    travelled = epochs * safe
    error = 8.0 * _UNIT * (jnp.abs(start) + travelled + jnp.where(epochs > 0.0, h, 0.0))
    return Position(epochs, start - travelled, error)


def follow(
    law: Law, position: Position, whole: Leg, target: Target, drop: Drop, h: Scalar, slope: Scalar
) -> Walk:
    """Follows gradient descent from a place until the loss level is met, or the series holds."""
    end = whole.end
    end_error = law.end_error(whole, target)
    calm = law.calm(whole, target, h, slope)
    level = drop.keep * law.excess(whole.start, target)
    landing = law.lands_well(whole, target, drop, h)

    def look(state: _Path) -> tuple[Point, Condition, Condition]:
        """Returns the point, whether it meets the level, and whether that is in doubt."""
        p = law.point(state.z, target)
        margin = state.error + end_error
        met, doubt = state.z <= end.z, jnp.abs(state.z - end.z) <= margin
        if not target.is_zero:
            height = law.excess(p, target)
            vague = jnp.abs(law.speed(p)) * state.error + 1e-13 * (height + level)
            across = p.e < 0.0
            met = jnp.where(across, height <= level, met)
            doubt = jnp.where(across, jnp.abs(height - level) <= vague, doubt)
        return p, met, doubt | ~(state.error < jnp.inf)

    def advance(state: _Path) -> _Path:
        p, met, doubt = look(state)
        direct = landing & calm(p) & (p.e > 0.0) & ~met & ~doubt
        speed = law.speed(p)
        z = state.z - h * speed
        roundings = jnp.abs(z) + jnp.abs(state.z) + h * law.noise(p, target)
        spread = jnp.abs(1.0 - h * law.slope(p)) + 0.5 * law.curvature(p) * h * state.error
        error = spread * state.error + _UNIT * roundings
        stop = met | doubt | direct
        outcome = jnp.where(doubt, _LOST, jnp.where(met, _MET, jnp.where(direct, _DIRECT, _ON)))
        return _Path(
            z=jnp.where(stop, state.z, z),
            error=jnp.where(stop, state.error, error),
            steps=jnp.where(stop, state.steps, state.steps + 1.0),
            outcome=outcome,
        )

    def unfinished(state: _Path) -> Condition:
        return (state.outcome == _ON) & (state.steps < law.step_budget)

    zero = 0.0 * jnp.asarray(position.z)
    path = jax.lax.while_loop(
        unfinished, advance, _Path(position.z, position.error, zero, zero + _ON)
    )
    p = law.point(path.z, target)
    rest = law.length(law.leg(p, end, target), target, h, slope=slope)
    spread = path.error / (h * law.speed(p)) + end_error / (h * law.speed(end))
    bound = rest.rounding + rest.truncation + 1.1 * spread
    direct = path.outcome == _DIRECT
    return Walk(
        whole=position.epochs + path.steps,
        rest=jnp.where(direct, rest.epochs, 0.0),
        bound=jnp.where(direct, bound, jnp.where(path.outcome == _MET, 0.0, jnp.inf)),
        steps=path.steps,
    )
