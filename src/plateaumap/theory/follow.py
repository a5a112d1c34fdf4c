"""Lengths where the series does not hold to the end: leap, then follow gradient descent.

A start in saturation leaps by the Abel function to where ``h |f'|`` is still small. From there
gradient descent is followed step by step, some ten to fifty steps, with a bound on the error of z,
until the loss level is met or the series holds for the remainder. Scalar JAX functions, for one
neuron in canonical form.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from plateaumap.theory.dynamics import Dynamics, Estimate, Leap, Neuron, Point, Segment
from plateaumap.theory.flow import Condition, Scalar

_UNIT = 2.0**-53
_NEWTON_STEPS = 3
_STRAIGHT_FROM = 40.0
"""Beyond this z the gradient is its limit, to float64."""
_STRAIGHT_STRIDE = 0.2

_RUNNING, _MET, _DIRECT, _LOST = 0.0, 1.0, 2.0, 3.0


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


class Followed(NamedTuple):
    """A length in epochs: ``whole``, and in addition ``remainder`` rounded up.

    ``bound`` holds for the error of ``remainder``; it is inf where the path has no answer.
    ``steps`` of the whole epochs were followed one by one.
    """

    whole: Any
    remainder: Any
    bound: Any
    steps: Any


def series_holds(dynamics: Dynamics, whole: Segment, neuron: Neuron, gate: Scalar) -> Condition:
    """Return whether the series holds from the start to the level, and meets the level there."""
    within = dynamics.gate_test(whole, neuron, gate)(whole.start)
    return within & dynamics.landing_meets_level(whole, neuron)


def land(
    dynamics: Dynamics, leap: Leap, length: Estimate, neuron: Neuron, gate: Scalar
) -> Position:
    """Return the position after the last whole epoch of a leap of known length.

    There the Abel function exceeds its value at the leap's end by the remaining fraction of an
    epoch. Newton's method from above decreases monotonically because the Abel function of a
    saturated neuron is convex.
    """
    h = neuron.h
    epochs = jnp.floor(length.epochs)
    fraction = length.epochs - epochs
    end = leap.segment.end

    def ahead_of(z: Scalar) -> tuple[Point, Estimate]:
        p = dynamics.point(z, neuron.target)
        segment = dynamics.segment(p, end, neuron.target)
        return p, dynamics.length(segment, neuron, 2.0 * gate, short=True)

    def refine(_: int, z: Scalar) -> Scalar:
        p, ahead = ahead_of(z)
        inverse_slope = h * dynamics.gradient(p) / (1.0 - 0.5 * h * dynamics.curvature(p))
        return z - (ahead.epochs - fraction) * inverse_slope

    above = end.z + fraction * h * dynamics.gradient(end)
    z = jax.lax.fori_loop(0, _NEWTON_STEPS, refine, above)
    p, ahead = ahead_of(z)
    missed = jnp.abs(ahead.epochs - fraction) + ahead.bound + length.bound
    error = 1.2 * h * dynamics.gradient(p) * missed + 8.0 * _UNIT * jnp.abs(z)
    return Position(epochs, z, error)


def run_straight(dynamics: Dynamics, whole: Segment, neuron: Neuron) -> Position:
    """Return the last position beyond z = 40 and the level if the gradient is constant there."""
    start = whole.start.z
    stride = neuron.h * dynamics.saturated_gradient(neuron.target)
    room = start - jnp.maximum(_STRAIGHT_FROM, whole.end.z)
    far = (room > 0.0) & (stride > _STRAIGHT_STRIDE)
    safe = jnp.where(far, stride, 1.0)
    epochs = jnp.where(far, jnp.floor(room / safe), 0.0)
    travelled = epochs * safe
    error = 8.0 * _UNIT * (jnp.abs(start) + travelled + jnp.where(epochs > 0.0, neuron.h, 0.0))
    return Position(epochs, start - travelled, error)


def follow(
    dynamics: Dynamics, position: Position, whole: Segment, neuron: Neuron, gate: Scalar
) -> Followed:
    """Return the length from a position: steps until the level is met, or the series holds."""
    target, h, end = neuron.target, neuron.h, whole.end
    level_error = dynamics.level_error(whole, target)
    within_gate = dynamics.gate_test(whole, neuron, gate)
    level = neuron.drop.keep * dynamics.excess(whole.start, target)
    landing = dynamics.landing_meets_level(whole, neuron)

    def observe(state: _Path) -> tuple[Point, Condition, Condition]:
        """Return the point, whether it meets the level, and whether that is in doubt."""
        p = dynamics.point(state.z, target)
        margin = state.error + level_error
        met, doubt = state.z <= end.z, jnp.abs(state.z - end.z) <= margin
        if not target.is_zero:
            excess = dynamics.excess(p, target)
            excess_error = jnp.abs(dynamics.gradient(p)) * state.error + 1e-13 * (excess + level)
            across = p.e < 0.0
            met = jnp.where(across, excess <= level, met)
            doubt = jnp.where(across, jnp.abs(excess - level) <= excess_error, doubt)
        return p, met, doubt | ~(state.error < jnp.inf)

    def advance(state: _Path) -> _Path:
        p, met, doubt = observe(state)
        direct = landing & within_gate(p) & (p.e > 0.0) & ~met & ~doubt
        z = state.z - h * dynamics.gradient(p)
        roundings = jnp.abs(z) + jnp.abs(state.z) + h * dynamics.gradient_rounding(p, target)
        bend = 0.5 * dynamics.third_derivative(p) * h * state.error
        growth = jnp.abs(1.0 - h * dynamics.curvature(p)) + bend
        error = growth * state.error + _UNIT * roundings
        stop = met | doubt | direct
        outcome = jnp.where(
            doubt, _LOST, jnp.where(met, _MET, jnp.where(direct, _DIRECT, _RUNNING))
        )
        return _Path(
            z=jnp.where(stop, state.z, z),
            error=jnp.where(stop, state.error, error),
            steps=jnp.where(stop, state.steps, state.steps + 1.0),
            outcome=outcome,
        )

    def unfinished(state: _Path) -> Condition:
        return (state.outcome == _RUNNING) & (state.steps < dynamics.step_budget)

    zero = 0.0 * jnp.asarray(position.z)
    path = jax.lax.while_loop(
        unfinished, advance, _Path(position.z, position.error, zero, zero + _RUNNING)
    )
    p = dynamics.point(path.z, target)
    remainder = dynamics.length(dynamics.segment(p, end, target), neuron, gate)
    spread = path.error / (h * dynamics.gradient(p)) + level_error / (h * dynamics.gradient(end))
    bound = remainder.bound + 1.1 * spread
    direct = path.outcome == _DIRECT
    return Followed(
        whole=position.epochs + path.steps,
        remainder=jnp.where(direct, remainder.epochs, 0.0),
        bound=jnp.where(direct, bound, jnp.where(path.outcome == _MET, 0.0, jnp.inf)),
        steps=path.steps,
    )
