"""The two losses of a sigmoid neuron, with as few exponentials and divisions as possible.

They run in the innermost loop of every sweep. Value, gradient and decrease are written in terms of
`exp(−|z|)`, so that the compiler computes it once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import xlogy

from plateaumap.neuron.formulas import sigmoid_error, sigmoid_pair, softplus_remainder
from plateaumap.neuron.losses.base import Loss
from plateaumap.numerics.elementary import (
    EXPM1_RADIUS,
    exp_nonpositive,
    expm1_near,
    horner,
    is_double,
    log1p,
    log_ratio,
    logit,
    product,
    traced_once,
)


@traced_once
def sigmoid_rise(z: Array, step: Array) -> Array:
    """Return `σ(z + step) − σ(z)` to full relative precision.

    For a small step it is `σ(z) σ(−z−step) (exp(step) − 1)`; for a large one the difference of
    the two outputs, or of their complements, does not cancel.
    """
    a, s = sigmoid_pair(z)
    a_after, s_after = sigmoid_pair(z + step)
    small = jnp.abs(step) < EXPM1_RADIUS
    near = a * s_after * expm1_near(jnp.where(small, step, 0))
    far = jnp.where(z > 0, s - s_after, a_after - a)
    return jnp.where(small, near, far)


def _quadratic_value(z: Array, y: Array) -> Array:
    return jnp.square(sigmoid_error(z, y)) / 2


@traced_once
def _quadratic_decrease(z: Array, step: Array, y: Array) -> Array:
    # C(z) − C(z + step) is −rise times the mean of the two errors, which is e + rise/2.
    rise = sigmoid_rise(z, step)
    return -rise * (sigmoid_error(z, y) + rise / 2)


def _entropy(y: Array) -> Array:
    """Return the entropy of a target in nats, the floor of the cross-entropy."""
    y = jnp.asarray(y)
    return jnp.abs(xlogy(y, y) + product(1 - y, log1p(-y)))


@jax.custom_jvp
def _cross_entropy_value(z: Array, y: Array) -> Array:
    """Return `y softplus(−z) + (1 − y) softplus(z)`, computing their common part once."""
    linear = product(jnp.where(z > 0, 1 - y, y), jnp.abs(z))
    return linear + softplus_remainder(z)


_cross_entropy_value.defjvps(
    lambda z_dot, value, z, y: sigmoid_error(z, y) * z_dot,
    lambda y_dot, value, z, y: -product(y_dot, z),
)


@jax.custom_jvp
@traced_once
def _cross_entropy_excess(z: Array, y: Array) -> Array:
    """Return the Kullback-Leibler divergence of the output from the target.

    Close to the target the loss and its floor cancel. There the divergence is its
    series in `u = z − logit(y)`, whose coefficients are the cumulants of a Bernoulli variable.
    """
    u = z - logit(y)
    v = y * (1 - y)
    skew = 1 - 2 * y
    cumulants = (
        1 / 2,
        skew / 6,
        (1 - 6 * v) / 24,
        skew * (1 - 12 * v) / 120,
        (1 - 30 * v + 120 * v**2) / 720,
        skew * (1 - 60 * v + 360 * v**2) / 5040,
        (1 - 126 * v + 1680 * v**2 - 5040 * v**3) / 40320,
        skew * (1 - 252 * v + 5040 * v**2 - 20160 * v**3) / 362880,
    )
    near = v * u**2 * horner(cumulants, u)
    far = _cross_entropy_value(z, y) - _entropy(y)
    # Within these radii the first term left out is below the rounding of `far` at their edge.
    radius = 1 / 16 if is_double(u) else 1 / 2
    return jnp.where(jnp.abs(u) < radius, near, far)


_cross_entropy_excess.defjvps(
    lambda z_dot, excess, z, y: sigmoid_error(z, y) * z_dot,
    # The derivative is infinite at y in {0, 1}, where y is fixed.
    lambda y_dot, excess, z, y: product(y_dot, logit(y) - z),
)


@traced_once
def _cross_entropy_decrease(z: Array, step: Array, y: Array) -> Array:
    """Return the decrease in two parts: of the straight asymptotes, and of `ln(1 + exp(−|z|))`.

    The second is the logarithm of `(1 + e)/(1 + e′)`. For a small step `e − e′` comes from
    `exp(−δ) − 1`, with δ the growth of |z|, which is ±step unless z changes its sign.
    """
    after = z + step
    same_side = (z > 0) == (after > 0)
    growth = jnp.where(same_side, jnp.where(z > 0, step, -step), jnp.abs(after) - jnp.abs(z))
    linear = jnp.where(
        same_side,
        jnp.where(z > 0, (y - 1) * step, y * step),
        (1 - y) * (jnp.maximum(z, 0) - jnp.maximum(after, 0))
        + y * (jnp.maximum(-z, 0) - jnp.maximum(-after, 0)),
    )
    e, e_after = exp_nonpositive(-jnp.abs(z)), exp_nonpositive(-jnp.abs(after))
    small = jnp.abs(growth) < EXPM1_RADIUS
    difference = jnp.where(small, -e * expm1_near(jnp.where(small, -growth, 0)), e - e_after)
    return linear + log_ratio(difference / (1 + e / 2 + e_after / 2))


def _unimodal_up_to(rate_allowed: float) -> Callable[[Array, Array], Array]:
    """Return `unimodal` of a loss whose curvature is at most `1 / rate_allowed`.

    Up to that rate the update of z is increasing in z, so z never passes its target. A target of
    0 or 1 lies at infinity and cannot be passed at any rate.
    """
    return lambda rate, y: (rate <= rate_allowed) | (y == 0) | (y == 1)


quadratic = Loss(
    "quadratic", _quadratic_value, decrease=_quadratic_decrease, unimodal=_unimodal_up_to(12.9)
)
"""`C = (σ(z) − y)² / 2`, with the one half; its gradient in z is `(a − y) a (1 − a)`."""

cross_entropy = Loss(
    "cross_entropy",
    _cross_entropy_value,
    floor=_entropy,
    excess=_cross_entropy_excess,
    decrease=_cross_entropy_decrease,
    unimodal=_unimodal_up_to(4.0),
)
"""`C = −(y ln a + (1 − y) ln(1 − a))` in nats; its gradient in z is `a − y`.

Computed as `y softplus(−z) + (1 − y) softplus(z)`.
"""
