"""The gradient flow of one sigmoid neuron: how long it takes, and where the loss has dropped.

``dz/dt = -f(z)``, with ``f = dC/dz``, is the limit of gradient descent for a vanishing step; a
plateau of n epochs takes the time ``h n``, ``h = lr (1 + x**2)``. Every function here is written
for one neuron, in JAX, to be ``vmap``-ed and ``jit``-ed inside ``jax.enable_x64(True)``.

Notation: ``a = sigma(z)``, ``s = sigma(-z)``, ``e = a - y``, ``q = 1 - y``. A *descent* has
``a > y``; a start below its target is the mirror image ``(z, y) -> (-z, 1 - y)`` of one. On a
descent, with ``t = y / a``,

    quadratic:      int dz/f = [ln(1 - t) + t] / y**2 + 2 ln(1 - t) / y
                               + 1 / (q s) + (1 + 2 q) ln(e / s) / q**2
    cross-entropy:  int dz/f = ln(1 - t) / y + ln(e / s) / q

which are the partial fractions of 1/f, arranged so that ``y -> 0`` is no special case: there they
become ``e^z + 3 z - 3 e^-z - e^-2z / 2`` and ``z - e^-z``. Their differences are formed term by
term, without cancellation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import NamedTuple

import jax
import jax.numpy as jnp

from plateaumap.numerics.elementary import log1p

Scalar = jax.Array | float
"""One float64 number: a traced JAX scalar, or a Python float that is part of the program."""

Condition = jax.Array | bool
"""One truth value."""

_SMALL = 0.1
_LARGE = 300.0


class Target(NamedTuple):
    """The target output y and its complement q = 1 - y, each rounded once."""

    y: Scalar
    q: Scalar

    @property
    def is_zero(self) -> bool:
        """Whether y is the Python float 0, so that its terms are left out of the program."""
        return isinstance(self.y, float) and self.y == 0.0


class Point(NamedTuple):
    """A pre-activation z with ``a = sigma(z)``, ``s = sigma(-z)`` and ``e = a - y``."""

    z: Scalar
    a: Scalar
    s: Scalar
    e: Scalar


class Leg(NamedTuple):
    """A stretch of a descent, from a higher to a lower z, with its differences.

    ``width`` is ``s_end - s_start``; ``log_a``, ``log_s`` and ``log_e`` are ``ln(start / end)``.
    """

    start: Point
    end: Point
    width: Scalar
    log_a: Scalar
    log_s: Scalar
    log_e: Scalar


class Drop(NamedTuple):
    """A relative drop of the loss excess and what follows from it, each rounded once.

    ``keep = 1 - fraction``; ``error_keep = sqrt(keep)`` and ``error_loss = 1 - error_keep`` say
    what is kept and lost of the error at that drop of the quadratic loss.
    """

    fraction: Scalar
    keep: Scalar
    error_keep: Scalar
    error_loss: Scalar


class Duration(NamedTuple):
    """A flow time, and the sum of the sizes of the terms that it was added up from."""

    time: Scalar
    size: Scalar


@dataclass(frozen=True)
class Dynamics:
    """The mathematics of one loss on a descent.

    Attributes:
      speed: ``f`` at a point.
      slope: ``f'`` at a point.
      log_speed: ``ln(f_start / f_end)`` of a leg.
      duration: the flow time of a leg.
      log_duration: its logarithm, finite where the time overflows float64.
      departure: the pre-activation where the loss excess has dropped, for |z| up to 10**4.
      depart: the leg from a start to there, for exp(z) and exp(-2 z) within float64.
      excess: the loss above its minimum.
      stiffness: a bound on ``|f'|`` over a leg.
      stride: ``h`` times it is the ratio of one Abel term to the one before, on a leg.
      saturation: the s of a saturated point where the stiffness reaches a value.
      far_speed: the limit of ``f`` as z grows.
      span: the z between which no term of a length overflows float64.
    """

    speed: Callable[[Point], Scalar]
    slope: Callable[[Point], Scalar]
    log_speed: Callable[[Leg], Scalar]
    duration: Callable[[Leg, Target], Duration]
    log_duration: Callable[[Leg, Target], Scalar]
    departure: Callable[[Scalar, Target, Drop], Scalar]
    depart: Callable[[Point, Target, Drop], Leg]
    excess: Callable[[Point, Target], Scalar]
    stiffness: Callable[[Leg], Scalar]
    stride: Callable[[Leg], Scalar]
    saturation: Callable[[Scalar, Target], Scalar]
    far_speed: Callable[[Target], Scalar]
    span: tuple[float, float]


def flow_time(z0: Scalar, z1: Scalar, y: Scalar, *, loss: str) -> jax.Array:
    """Returns the time that the gradient flow takes from z0 to z1.

    Args:
      z0: start, a float64 scalar.
      z1: end, between z0 and the target's ``logit(y)``.
      y: target output in [0, 1].
      loss: ``"quadratic"`` (with the one half) or ``"cross_entropy"``.

    Returns:
      A float64 scalar: epochs times ``h = lr (1 + x**2)``. NaN where the flow from z0 never meets
      z1; inf where the time overflows float64 (see ``log_flow_time``).
    """
    return jnp.exp(log_flow_time(z0, z1, y, loss=loss))


def log_flow_time(z0: Scalar, z1: Scalar, y: Scalar, *, loss: str) -> jax.Array:
    """Returns the natural logarithm of ``flow_time``, for |z| up to 10**4 and beyond."""
    mirrored, target = descent(z0, y)
    start, end = (jnp.where(mirrored, -z, z) for z in (z0, z1))
    leg = make_leg(make_point(start, target), make_point(end, target), target)
    return jnp.asarray(DYNAMICS[loss].log_duration(leg, target))


def departure(z0: Scalar, y: Scalar, drop: Drop, *, loss: str) -> jax.Array:
    """Returns the pre-activation at which the loss excess has dropped by ``drop.fraction``.

    Args:
      z0: start, a float64 scalar with ``sigma(z0) != y``.
      y: target output in [0, 1].
      drop: from ``make_drop``.
      loss: ``"quadratic"`` or ``"cross_entropy"``; the excess is over the loss's minimum.
    """
    mirrored, target = descent(z0, y)
    z1 = DYNAMICS[loss].departure(jnp.where(mirrored, -z0, z0), target, drop)
    return jnp.where(mirrored, -z1, z1)


def make_drop(drop: float) -> Drop:
    """Returns the constants of a drop, read as the decimal that it is written as.

    ``drop=0.1`` is one tenth, not the float64 nearest to it, so that "a tenth less" and "at nine
    tenths" are one level.
    """
    digits = Context(prec=60)
    fraction = Decimal(repr(float(drop)))
    root = digits.sqrt(1 - fraction)
    return Drop(
        float(fraction), float(1 - fraction), float(root), float(digits.divide(fraction, 1 + root))
    )


def make_point(z: Scalar, target: Target, z_low: Scalar = 0.0) -> Point:
    """Returns the point at ``z + z_low``, ``z_low`` lying below the last digit of z."""
    tail = jnp.exp(-jnp.abs(z)) * (1.0 - jnp.sign(z) * z_low)
    a = jnp.where(z > 0, 1.0, tail) / (1.0 + tail)
    s = jnp.where(z > 0, tail, 1.0) / (1.0 + tail)
    if target.is_zero:
        return Point(z, a, s, a)
    above = z - logit(target)
    decay = -jnp.expm1(-jnp.abs(above))
    return Point(z, a, s, jnp.where(above > 0, target.q * a, -target.y * s) * decay)


def make_leg(start: Point, end: Point, target: Target) -> Leg:
    """Returns the stretch of a descent between two points."""
    fall = start.z - end.z
    width = -start.a * end.s * jnp.expm1(-fall)
    saturated = start.z + end.z > 0
    ratio = log1p(width / jnp.where(saturated, end.a, start.s))
    log_a = jnp.where(saturated, ratio, fall - ratio)
    log_s = jnp.where(saturated, ratio - fall, -ratio)
    if target.is_zero:
        return Leg(start, end, width, log_a, log_s, log_a)
    share = _error_share(start.z, target) / _error_share(end.z, target)
    return Leg(start, end, width, log_a, log_s, log_a + jnp.log(share))


def point_at(s: Scalar, target: Target) -> Point:
    """Returns the point with ``sigma(-z) = s``, for an s that is not near 1."""
    a = 1.0 - s
    return Point(jnp.log(a / s), a, s, target.q - s)


def largest_spread(leg: Leg) -> Scalar:
    """Returns the maximum of ``a s`` over a leg."""
    peak = (leg.start.a > 0.5) & (leg.end.a < 0.5)
    ends = jnp.maximum(leg.start.a * leg.start.s, leg.end.a * leg.end.s)
    return jnp.where(peak, 0.25, ends)


def logit(target: Target) -> jax.Array:
    """Returns ``ln(y / q)``, the pre-activation that meets the target."""
    return jnp.log(target.y) - jnp.log(target.q)


def divergence(z: Scalar, target: Target) -> jax.Array:
    """Returns the cross-entropy's excess over its minimum, KL(y || a), for y in (0, 1)."""
    u = z - logit(target)
    below = u < 0
    ahead = Target(jnp.where(below, target.q, target.y), jnp.where(below, target.y, target.q))
    return _divergence_above(jnp.abs(u), ahead)


def descent(z0: Scalar, y: Scalar) -> tuple[jax.Array, Target]:
    """Returns whether the start has to be mirrored, and the target of the descent."""
    mirrored = z0 < logit(Target(y, 1.0 - y))
    q = jnp.where(mirrored, y, 1.0 - y)
    return mirrored, Target(jnp.where(mirrored, 1.0 - y, y), q)


def _error_share(z: Scalar, target: Target) -> Scalar:
    """Returns ``e / a``, from the distance to the target in z, which keeps its digits there."""
    if target.is_zero:
        return 1.0
    return -target.q * jnp.expm1(logit(target) - z)


def _quadratic_speed(p: Point) -> Scalar:
    return p.e * (p.a * p.s)


def _quadratic_slope(p: Point) -> Scalar:
    spread = p.a * p.s
    return spread * (spread + p.e * (p.s - p.a))


def _quadratic_log_speed(leg: Leg) -> Scalar:
    return leg.log_e + leg.log_a + leg.log_s


def _quadratic_duration(leg: Leg, target: Target) -> Duration:
    start, end = leg.start, leg.end
    q = target.q
    lower = leg.width / (start.a * end.a)
    falling = lower * (0.5 / start.a + 0.5 / end.a + 2.0)
    climbing = leg.width / (start.s * end.s) / q
    crossing = (1.0 + 2.0 * q) * (leg.log_e - leg.log_s) / (q * q)
    size = falling + climbing + jnp.abs(crossing)
    if target.is_zero:
        return Duration(falling + climbing + crossing, size)
    y = target.y
    t0, t1 = y / start.a, y / end.a
    beyond_leading = (
        t1 * _third_order(t1) / end.a**2
        - t0 * _third_order(t0) / start.a**2
        + 2.0 * (t1 * _second_order(t1) / end.a - t0 * _second_order(t0) / start.a)
    )
    log_lower = leg.log_e - leg.log_a
    closed = (log_lower / y - lower) / y + 2.0 * log_lower / y
    closed_size = (jnp.abs(log_lower) / y + lower) / y
    near = t1 < _SMALL
    return Duration(
        jnp.where(near, falling + beyond_leading, closed) + climbing + crossing,
        jnp.where(near, size, closed_size + climbing + jnp.abs(crossing)),
    )


def _quadratic_log_duration(leg: Leg, target: Target) -> Scalar:
    fall = leg.start.z - leg.end.z
    climbing = leg.start.z + jnp.log(-jnp.expm1(-fall)) - jnp.log(target.q)
    shrink = jnp.exp(-2.0 * leg.log_a)
    t0, t1 = (_target_share(p.z, target) for p in (leg.start, leg.end))
    remaining = _log_remainder(t1) - shrink * _log_remainder(t0)
    falling = 2.0 * jax.nn.softplus(-leg.end.z) + jnp.log(remaining)
    large = jnp.maximum(jnp.abs(leg.start.z), jnp.abs(leg.end.z)) > _LARGE
    # Beyond exp(300) one of the two exponentials is all that float64 sees of the sum.
    return jnp.where(
        large, jnp.logaddexp(climbing, falling), jnp.log(_quadratic_duration(leg, target).time)
    )


def _quadratic_departure(z0: Scalar, target: Target, drop: Drop) -> Scalar:
    start = make_point(z0, target)
    share = _error_share(z0, target)
    log_a = log1p(-drop.error_loss * share)
    end_s = drop.error_keep * start.s + drop.error_loss * target.q
    saturated = log_a - log1p(jnp.exp(-jnp.abs(z0))) - jnp.log(end_s)
    error = drop.error_loss * start.e / jnp.where(z0 > 0, 1.0, start.s)
    return jnp.where(z0 > 0, saturated, z0 + log_a - log1p(error))


def _quadratic_depart(start: Point, target: Target, drop: Drop) -> Leg:
    keep, loss = drop.error_keep, drop.error_loss
    width = loss * start.e
    log_keep = jnp.log(keep)
    log_a = -log_keep
    if not target.is_zero:
        log_a = log_a - log1p(loss / keep * (target.y / start.a))
    log_s = -log1p(width / start.s)
    end = Point(
        start.z - (log_a - log_s),
        keep * start.a + loss * target.y,
        keep * start.s + loss * target.q,
        keep * start.e,
    )
    return Leg(start, end, width, log_a, log_s, -log_keep)


def _quadratic_excess(p: Point, target: Target) -> Scalar:
    return 0.5 * p.e * p.e


def _quadratic_stiffness(leg: Leg) -> Scalar:
    spread = largest_spread(leg)
    return spread * (spread + leg.start.e)


def _quadratic_saturation(stiffness: Scalar, target: Target) -> Scalar:
    # The root of s (s + q) = stiffness, without cancellation.
    return 2.0 * stiffness / (target.q + jnp.sqrt(target.q**2 + 4.0 * stiffness))


def _quadratic_far_speed(target: Target) -> Scalar:
    return 0.0


def _cross_entropy_speed(p: Point) -> Scalar:
    return p.e


def _cross_entropy_slope(p: Point) -> Scalar:
    return p.a * p.s


def _cross_entropy_log_speed(leg: Leg) -> Scalar:
    return leg.log_e


def _cross_entropy_duration(leg: Leg, target: Target) -> Duration:
    lower = leg.width / (leg.start.a * leg.end.a)
    crossing = (leg.log_e - leg.log_s) / target.q
    if target.is_zero:
        return Duration(lower + crossing, lower + jnp.abs(crossing))
    y = target.y
    t0, t1 = y / leg.start.a, y / leg.end.a
    near = t1 < _SMALL
    series = lower + (t1 * _second_order(t1) / leg.end.a - t0 * _second_order(t0) / leg.start.a)
    log_lower = leg.log_e - leg.log_a
    # The end is the root of an equation, known like z itself to its last digits.
    ends = (1.0 + jnp.abs(leg.start.z) + jnp.abs(leg.end.z)) / leg.end.e
    return Duration(
        jnp.where(near, series, log_lower / y) + crossing,
        jnp.where(near, lower, jnp.abs(log_lower) / y) + jnp.abs(crossing) + ends,
    )


def _cross_entropy_log_duration(leg: Leg, target: Target) -> Scalar:
    shrink = jnp.exp(-leg.log_a)
    t0, t1 = (_target_share(p.z, target) for p in (leg.start, leg.end))
    remaining = _log_ratio(t1) - shrink * _log_ratio(t0)
    falling = jax.nn.softplus(-leg.end.z) + jnp.log(remaining)
    return jnp.where(
        leg.end.z < -_LARGE, falling, jnp.log(_cross_entropy_duration(leg, target).time)
    )


def _cross_entropy_departure(z0: Scalar, target: Target, drop: Drop) -> Scalar:
    loss = jax.nn.softplus(z0)
    kept = drop.keep * loss
    tiny = z0 < -40.0
    # softplus(z) = exp(z) there, to float64: the loss and the output fall alike.
    ratio = jnp.where(tiny, drop.keep, -jnp.expm1(-kept) / jnp.where(tiny, 1.0, jax.nn.sigmoid(z0)))
    to_zero = jnp.where(
        z0 > 0, kept + jnp.log(-jnp.expm1(-kept)), z0 + jnp.log(ratio) - drop.fraction * loss
    )
    if target.is_zero:
        return to_zero
    inside = jnp.where(target.y > 0, target.y, 0.5)
    inner = Target(inside, jnp.where(target.y > 0, target.q, 0.5))
    centre = logit(inner)
    u0 = jnp.maximum(z0 - centre, 0.0)
    return jnp.where(target.y > 0, centre + _divergence_root(u0, inner, drop), to_zero)


def _cross_entropy_depart(start: Point, target: Target, drop: Drop) -> Leg:
    if not target.is_zero:
        end = make_point(_cross_entropy_departure(start.z, target, drop), target)
        return make_leg(start, end, target)
    # With y = 0 the loss is -ln s: s grows by exp(drop * loss).
    loss = jnp.maximum(start.z, 0.0) + log1p(jnp.exp(-jnp.abs(start.z)))
    fall = drop.fraction * loss
    end_a = -jnp.expm1(-drop.keep * loss)
    end_s = jnp.exp(-drop.keep * loss)
    width = jnp.where(fall < 1.0, start.s * jnp.expm1(fall), end_s - start.s)
    log_a = log1p(width / end_a)
    end = Point(start.z - (log_a + fall), end_a, end_s, end_a)
    return Leg(start, end, width, log_a, -fall, log_a)


def _cross_entropy_excess(p: Point, target: Target) -> Scalar:
    return jax.nn.softplus(p.z) if target.is_zero else divergence(p.z, target)


def _cross_entropy_stride(leg: Leg) -> Scalar:
    # Far out the terms fall like those of x / (exp(x) - 1) at x = h e: by 2 pi each.
    return jnp.maximum(largest_spread(leg), 0.25 * leg.start.e)


def _cross_entropy_saturation(stiffness: Scalar, target: Target) -> Scalar:
    return stiffness


def _cross_entropy_far_speed(target: Target) -> Scalar:
    return target.q


def _divergence_root(u0: Scalar, target: Target, drop: Drop) -> jax.Array:
    """Solves ``KL(u1) = keep KL(u0)`` for u1 in (0, u0).

    KL is convex and grows with u, so that Newton's method from u0 comes down to the root and
    never passes it.
    """
    level = drop.keep * _divergence_above(u0, target)

    def refine(
        state: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        u, _, count = state
        weight = target.y + target.q * jnp.exp(-u)
        error = -target.q * target.y * jnp.expm1(-u) / weight
        step = (_divergence_above(u, target) - level) / jnp.where(error > 0, error, 1.0)
        return u - step, step, count + 1

    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        u, step, count = state
        return (jnp.abs(step) > 1e-15 * u) & (count < 60)

    u = jnp.asarray(u0)
    root, _, _ = jax.lax.while_loop(
        unfinished, refine, (u, jnp.full_like(u, jnp.inf), 0 * jnp.int32(1))
    )
    return root


def _divergence_above(u: Scalar, target: Target) -> jax.Array:
    """Returns KL at ``u = z - logit(y) >= 0``: ``ln(1 + y expm1(u)) - y u``.

    For small u that is a difference of equals: there the two second-order remainders are added,
    in whichever of its two mirror images they cancel least.
    """
    y, q = target
    growth = y * jnp.expm1(jnp.minimum(u, 700.0))
    plain = log1p(growth) - y * u
    overflowing = q * u + jnp.log(y + q * jnp.exp(-u))
    small = _log1p_remainder(growth) + y * _expm1_remainder(u)
    upper = jnp.where(u > 700.0, overflowing, jnp.where(growth < 0.5, small, plain))
    lower = _log1p_remainder(q * jnp.expm1(-u)) + q * _expm1_remainder(-u)
    return jnp.where(y < 0.5, upper, lower)


def _target_share(z: Scalar, target: Target) -> Scalar:
    """Returns ``y / a``."""
    if target.is_zero:
        return 0.0
    return jnp.where(target.y > 0, target.y * (1.0 + jnp.exp(-z)), 0.0)


def _series(x: Scalar, coefficients: list[float]) -> Scalar:
    total: Scalar = 0.0
    for c in reversed(coefficients):
        total = total * x + c
    return total


def _second_order(t: Scalar) -> Scalar:
    """Returns ``(-ln(1 - t) - t) / t**2`` for 0 <= t < 0.1."""
    return _series(t, [1.0 / (j + 2) for j in range(16)])


def _third_order(t: Scalar) -> Scalar:
    """Returns ``(-ln(1 - t) - t - t**2 / 2) / t**3`` for 0 <= t < 0.1."""
    return _series(t, [1.0 / (j + 3) for j in range(16)])


def _log_ratio(t: Scalar) -> Scalar:
    """Returns ``-ln(1 - t) / t`` for 0 <= t < 1."""
    safe = jnp.maximum(t, _SMALL)
    return jnp.where(t < _SMALL, 1.0 + t * _second_order(t), -jnp.log(1.0 - safe) / safe)


def _log_remainder(t: Scalar) -> Scalar:
    """Returns ``(-ln(1 - t) - t) / t**2`` for 0 <= t < 1."""
    safe = jnp.maximum(t, _SMALL)
    return jnp.where(t < _SMALL, _second_order(t), (-jnp.log(1.0 - safe) - safe) / safe**2)


def _log1p_remainder(v: Scalar) -> jax.Array:
    """Returns ``ln(1 + v) - v`` for v > -1."""
    small = jnp.abs(v) < _SMALL
    safe = jnp.where(small, 1.0, v)
    return jnp.where(small, -v * v * _second_order(-v), jnp.log(1.0 + safe) - safe)


def _expm1_remainder(u: Scalar) -> jax.Array:
    """Returns ``exp(u) - 1 - u``."""
    coefficients = [0.5]
    for j in range(3, 16):
        coefficients.append(coefficients[-1] / j)
    small = jnp.abs(u) < 3.0 * _SMALL
    series = u * u * _series(jnp.where(small, u, 0.0), coefficients)
    return jnp.where(small, series, jnp.expm1(jnp.minimum(u, 700.0)) - u)


DYNAMICS: Mapping[str, Dynamics] = {
    "quadratic": Dynamics(
        speed=_quadratic_speed,
        slope=_quadratic_slope,
        log_speed=_quadratic_log_speed,
        duration=_quadratic_duration,
        log_duration=_quadratic_log_duration,
        departure=_quadratic_departure,
        depart=_quadratic_depart,
        excess=_quadratic_excess,
        stiffness=_quadratic_stiffness,
        stride=_quadratic_stiffness,
        saturation=_quadratic_saturation,
        far_speed=_quadratic_far_speed,
        span=(-340.0, 690.0),
    ),
    "cross_entropy": Dynamics(
        speed=_cross_entropy_speed,
        slope=_cross_entropy_slope,
        log_speed=_cross_entropy_log_speed,
        duration=_cross_entropy_duration,
        log_duration=_cross_entropy_log_duration,
        departure=_cross_entropy_departure,
        depart=_cross_entropy_depart,
        excess=_cross_entropy_excess,
        stiffness=largest_spread,
        stride=_cross_entropy_stride,
        saturation=_cross_entropy_saturation,
        far_speed=_cross_entropy_far_speed,
        span=(-340.0, float("inf")),
    ),
}
"""The two losses by name."""
