"""The gradient flow of one sigmoid neuron: points, segments and differences without cancellation.

``dz/dt = -f(z)``, with ``f = dC/dz``, is the limit of gradient descent for a vanishing step. A
plateau of n epochs takes the time ``h n``, ``h = lr (1 + x**2)``. Every function here is written
for one neuron, in JAX, to be ``vmap``-ed and ``jit``-ed inside ``jax.enable_x64(True)``.

Notation: ``a = sigma(z)``, ``s = sigma(-z)``, ``e = a - y``, ``q = 1 - y``. In canonical form
``a > y``; a start below its target is mirrored, ``(z, y) -> (-z, 1 - y)``.
"""

from decimal import Context, Decimal
from math import factorial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from plateaumap.numerics.elementary import horner, log1p

Scalar = jax.Array | float
"""One float64 number: a traced JAX scalar, or a Python float that is part of the program."""

Condition = jax.Array | bool
"""One truth value."""

SMALL = 0.1
"""Ratios up to which the remainders of logarithms are taken from their series."""


class Target(NamedTuple):
    """The target output y and its complement q = 1 - y, each rounded once."""

    y: Scalar
    q: Scalar

    @property
    def is_zero(self) -> bool:
        """Whether y is the Python float 0, so that the program omits its terms."""
        return isinstance(self.y, float) and self.y == 0.0


class SigmoidPoint(NamedTuple):
    """A pre-activation z with ``a = sigma(z)``, ``s = sigma(-z)`` and ``e = a - y``."""

    z: Scalar
    a: Scalar
    s: Scalar
    e: Scalar


class SigmoidSegment(NamedTuple):
    """A segment of a path, from a higher to a lower z, with its differences.

    ``width`` is ``s_end - s_start``; ``log_a``, ``log_s`` and ``log_e`` are ``ln(start / end)``.
    """

    start: SigmoidPoint
    end: SigmoidPoint
    width: Scalar
    log_a: Scalar
    log_s: Scalar
    log_e: Scalar


_Iterate = tuple[jax.Array, jax.Array, jax.Array]


class Drop(NamedTuple):
    """A relative drop of the loss excess and the numbers that follow from it, each rounded once.

    ``keep = 1 - fraction``. At that drop of the quadratic loss, ``error_keep = sqrt(keep)`` is the
    share of the error that is kept and ``error_loss = 1 - error_keep`` the share that is lost.
    """

    fraction: Scalar
    keep: Scalar
    error_keep: Scalar
    error_loss: Scalar

    @classmethod
    def of(cls, drop: float) -> "Drop":
        """Return the constants of a drop, read as the decimal that it is written as.

        ``drop=0.1`` is one tenth, not the float64 nearest to it, so that "a tenth less" and "at
        nine tenths" are one level.
        """
        return cls(*map(float, decimal_drop(drop)))


def decimal_drop(drop: float) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """Return the fields of ``Drop`` to 60 digits."""
    digits = Context(prec=60)
    fraction = Decimal(repr(float(drop)))
    root = digits.sqrt(1 - fraction)
    return fraction, 1 - fraction, root, digits.divide(fraction, 1 + root)


def make_point(z: Scalar, target: Target, z_low: Scalar = 0.0) -> SigmoidPoint:
    """Return the point at ``z + z_low``, ``z_low`` lying below the last digit of z."""
    tail = jnp.exp(-jnp.abs(z)) * (1.0 - jnp.sign(z) * z_low)
    a = jnp.where(z > 0, 1.0, tail) / (1.0 + tail)
    s = jnp.where(z > 0, tail, 1.0) / (1.0 + tail)
    if target.is_zero:
        return SigmoidPoint(z, a, s, a)
    above = z - logit(target)
    decay = -jnp.expm1(-jnp.abs(above))
    return SigmoidPoint(z, a, s, jnp.where(above > 0, target.q * a, -target.y * s) * decay)


def make_segment(start: SigmoidPoint, end: SigmoidPoint, target: Target) -> SigmoidSegment:
    """Return the segment of a path between two points."""
    distance = start.z - end.z
    width = -start.a * end.s * jnp.expm1(-distance)
    saturated = start.z + end.z > 0
    ratio = log1p(width / jnp.where(saturated, end.a, start.s))
    log_a = jnp.where(saturated, ratio, distance - ratio)
    log_s = jnp.where(saturated, ratio - distance, -ratio)
    if target.is_zero:
        return SigmoidSegment(start, end, width, log_a, log_s, log_a)
    share = error_share(start.z, target) / error_share(end.z, target)
    return SigmoidSegment(start, end, width, log_a, log_s, log_a + jnp.log(share))


def point_at(s: Scalar, target: Target) -> SigmoidPoint:
    """Return the point with ``sigma(-z) = s``, for an s that is not near 1."""
    a = 1.0 - s
    return SigmoidPoint(jnp.log(a / s), a, s, target.q - s)


def largest_spread(segment: SigmoidSegment) -> Scalar:
    """Return the maximum of ``a s`` over a segment."""
    peak = (segment.start.a > 0.5) & (segment.end.a < 0.5)
    ends = jnp.maximum(segment.start.a * segment.start.s, segment.end.a * segment.end.s)
    return jnp.where(peak, 0.25, ends)


def logit(target: Target) -> jax.Array:
    """Return ``ln(y / q)``, the pre-activation that meets the target."""
    return jnp.log(target.y) - jnp.log(target.q)


def divergence(z: Scalar, target: Target) -> jax.Array:
    """Return the cross-entropy's excess over its minimum, KL(y || a), for y in (0, 1)."""
    u = z - logit(target)
    below = u < 0
    ahead = Target(jnp.where(below, target.q, target.y), jnp.where(below, target.y, target.q))
    return divergence_above(jnp.abs(u), ahead)


def canonical_target(z0: Scalar, y: Scalar) -> tuple[jax.Array, Target]:
    """Return whether the start is mirrored, and the target in canonical form."""
    mirrored = z0 < logit(Target(y, 1.0 - y))
    q = jnp.where(mirrored, y, 1.0 - y)
    return mirrored, Target(jnp.where(mirrored, 1.0 - y, y), q)


def error_share(z: Scalar, target: Target) -> Scalar:
    """Return ``e / a``, from the distance to the target in z, which keeps its digits there."""
    if target.is_zero:
        return 1.0
    return -target.q * jnp.expm1(logit(target) - z)


def divergence_root(u0: Scalar, target: Target, drop: Drop) -> jax.Array:
    """Return the root u1 in (0, u0) of ``KL(u1) = keep KL(u0)``.

    KL is convex and grows with u, so that Newton's method from u0 decreases to the root and
    never passes it.
    """
    level = drop.keep * divergence_above(u0, target)

    def refine(state: _Iterate) -> _Iterate:
        u, _, count = state
        weight = target.y + target.q * jnp.exp(-u)
        error = -target.q * target.y * jnp.expm1(-u) / weight
        step = (divergence_above(u, target) - level) / jnp.where(error > 0, error, 1.0)
        return u - step, step, count + 1

    def unfinished(state: _Iterate) -> jax.Array:
        u, step, count = state
        return (jnp.abs(step) > 1e-15 * u) & (count < 60)

    u = jnp.asarray(u0)
    root, _, _ = jax.lax.while_loop(
        unfinished, refine, (u, jnp.full_like(u, jnp.inf), 0 * jnp.int32(1))
    )
    return root


def divergence_above(u: Scalar, target: Target) -> jax.Array:
    """Return KL at ``u = z - logit(y) >= 0``: ``ln(1 + y expm1(u)) - y u``.

    For small u that is a difference of equals. There the two second-order remainders are added, in
    the mirror image in which they cancel least.
    """
    y, q = target
    growth = y * jnp.expm1(jnp.minimum(u, 700.0))
    plain = log1p(growth) - y * u
    overflowing = q * u + jnp.log(y + q * jnp.exp(-u))
    small = log1p_remainder(growth) + y * expm1_remainder(u)
    upper = jnp.where(u > 700.0, overflowing, jnp.where(growth < 0.5, small, plain))
    lower = log1p_remainder(q * jnp.expm1(-u)) + q * expm1_remainder(-u)
    return jnp.where(y < 0.5, upper, lower)


def target_share(z: Scalar, target: Target) -> Scalar:
    """Return ``y / a``."""
    if target.is_zero:
        return 0.0
    return jnp.where(target.y > 0, target.y * (1.0 + jnp.exp(-z)), 0.0)


def second_order(t: Scalar) -> Scalar:
    """Return ``(-ln(1 - t) - t) / t**2`` for 0 <= t < 0.1."""
    return horner([1.0 / (j + 2) for j in range(16)], jnp.asarray(t))


def third_order(t: Scalar) -> Scalar:
    """Return ``(-ln(1 - t) - t - t**2 / 2) / t**3`` for 0 <= t < 0.1."""
    return horner([1.0 / (j + 3) for j in range(16)], jnp.asarray(t))


def log_ratio(t: Scalar) -> Scalar:
    """Return ``-ln(1 - t) / t`` for 0 <= t < 1."""
    safe = jnp.maximum(t, SMALL)
    return jnp.where(t < SMALL, 1.0 + t * second_order(t), -jnp.log(1.0 - safe) / safe)


def log_remainder(t: Scalar) -> Scalar:
    """Return ``(-ln(1 - t) - t) / t**2`` for 0 <= t < 1."""
    safe = jnp.maximum(t, SMALL)
    return jnp.where(t < SMALL, second_order(t), (-jnp.log(1.0 - safe) - safe) / safe**2)


def log1p_remainder(v: Scalar) -> jax.Array:
    """Return ``ln(1 + v) - v`` for v > -1."""
    small = jnp.abs(v) < SMALL
    safe = jnp.where(small, 1.0, v)
    return jnp.where(small, -v * v * second_order(-v), jnp.log(1.0 + safe) - safe)


def expm1_remainder(u: Scalar) -> jax.Array:
    """Return ``exp(u) - 1 - u``."""
    coefficients = [1.0 / factorial(j) for j in range(2, 16)]
    small = jnp.abs(u) < 3.0 * SMALL
    series = u * u * horner(coefficients, jnp.where(small, u, 0.0))
    return jnp.where(small, series, jnp.expm1(jnp.minimum(u, 700.0)) - u)
