"""One neuron: its parameters, its pre-activation `z = w x + b`, and its activation.

Nothing here depends on a loss or on how a neuron is trained. Everything is written for one neuron
(scalars) and is vectorised elsewhere with `jax.vmap`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from plateaumap.numerics.elementary import exp_nonpositive, log1p_unit, traced_once


class Parameters(NamedTuple):
    """The weight and bias of one neuron with one input.

    Attributes:
        w: weight, scalar.
        b: bias, scalar.

    Example:
        >>> import plateaumap as pm
        >>> pm.neuron.Parameters(w=2.0, b=1.0)
        Parameters(w=2.0, b=1.0)
    """

    w: Array
    b: Array


def pre_activation(parameters: Parameters, x: ArrayLike) -> Array:
    """Return `z = w x + b`, in the dtype of the parameters.

    Example:
        >>> import plateaumap as pm
        >>> pm.neuron.pre_activation(pm.neuron.Parameters(w=2.0, b=1.0), 3.0)
        7.0
    """
    return parameters.w * x + parameters.b


@jax.custom_jvp
@traced_once
def sigmoid_pair(z: ArrayLike) -> tuple[Array, Array]:
    """Return `σ(z)` and `σ(−z) = 1 − σ(z)`, both to full relative precision.

    One exponential and one division serve both. `1 − σ(z)` itself is exactly zero from
    z = 16.64 (float32) or 36.74 (float64) on; `σ(−z)` is accurate down to the smallest normal
    number of the format. The derivatives are `σ(z) σ(−z)` and its negative.

    Args:
        z: pre-activation, a float of any shape.

    Returns:
        Two arrays of the shape and dtype of `z`.

    Example:
        >>> import plateaumap as pm
        >>> a, s = pm.neuron.sigmoid_pair(40.0)
        >>> f"{a:.1f} {s:.3g}"
        '1.0 4.25e-18'
    """
    z = jnp.asarray(z)
    larger, smaller = _outer_pair(z)
    positive = z >= 0
    return jnp.where(positive, larger, smaller), jnp.where(positive, smaller, larger)


@traced_once
def _outer_pair(z: Array) -> tuple[Array, Array]:
    """Return `σ(|z|)` and `σ(−|z|)`."""
    e = exp_nonpositive(-jnp.abs(z))
    larger = 1 / (1 + e)
    return larger, e * larger


def _sigmoid_pair_tangent(z_dot: Array, pair: tuple[Array, Array], z: Array) -> tuple[Array, Array]:
    change = pair[0] * pair[1] * z_dot
    return change, -change


sigmoid_pair.defjvps(_sigmoid_pair_tangent)


def sigmoid(z: ArrayLike) -> Array:
    """Return the logistic function `σ(z) = 1 / (1 + exp(−z))`.

    Its derivative is `σ(z) σ(−z)`, never `a (1 − a)`: the latter has a relative error of 10⁻³ at
    z = 30 in float64 and is exactly zero from z = 36.74 on.

    Args:
        z: pre-activation, a float of any shape.

    Returns:
        The output in (0, 1), of the shape and dtype of `z`.

    Example:
        >>> import plateaumap as pm
        >>> f"{pm.neuron.sigmoid(4.0):.4f}"
        '0.9820'
    """
    return sigmoid_pair(z)[0]


@jax.custom_jvp
@traced_once
def sigmoid_slope(z: ArrayLike) -> Array:
    """Return the derivative `σ'(z) = σ(z) σ(−z)`, to full relative precision.

    Example:
        >>> import plateaumap as pm
        >>> float(pm.neuron.sigmoid_slope(0.0))
        0.25
    """
    larger, smaller = _outer_pair(jnp.asarray(z))
    return larger * smaller


def _sigmoid_slope_tangent(z_dot: Array, slope: Array, z: Array) -> Array:
    # From the pair, not from |z|, which has no derivatives of higher order at z = 0.
    a, s = sigmoid_pair(z)
    return a * s * (s - a) * z_dot


sigmoid_slope.defjvps(_sigmoid_slope_tangent)


@jax.custom_jvp
@traced_once
def sigmoid_error(z: ArrayLike, y: ArrayLike) -> Array:
    """Return `σ(z) − y`, without cancellation for y in {0, 1}.

    It is `(1 − y) σ(z) − y σ(−z)`, arranged so that the same operations serve (z, y) and
    (−z, 1 − y): the mirror symmetry holds to the last bit, with or without fused multiply-adds.

    Args:
        z: pre-activation, a float of any shape.
        y: target in [0, 1], broadcast against `z`.

    Returns:
        The signed error of the output, in [−1, 1].

    Example:
        >>> import plateaumap as pm
        >>> f"{pm.neuron.sigmoid_error(40.0, 1.0):.3g}"
        '-4.25e-18'
    """
    z = jnp.asarray(z)
    larger, smaller = _outer_pair(z)
    positive = z >= 0
    near, far = jnp.where(positive, 1 - y, y), jnp.where(positive, y, 1 - y)
    size = near * larger - far * smaller
    return jnp.where(positive, size, -size)


sigmoid_error.defjvps(
    lambda z_dot, error, z, y: sigmoid_slope(z) * z_dot, lambda y_dot, error, z, y: -y_dot
)


def softplus_remainder(z: ArrayLike) -> Array:
    """Return `ln(1 + exp(−|z|))`, by which `softplus(z)` exceeds `max(z, 0)`.

    Even in z, with full relative precision down to the smallest normal number of the format. It
    shares its exponential with `sigmoid_pair`. Not to be differentiated.

    Example:
        >>> import plateaumap as pm
        >>> f"{pm.neuron.softplus_remainder(40.0):.3g}"
        '4.25e-18'
    """
    return log1p_unit(exp_nonpositive(-jnp.abs(jnp.asarray(z))))


@jax.custom_jvp
def softplus(z: ArrayLike) -> Array:
    """Return `ln(1 + exp(z))`, the integral of the sigmoid, stable for every z.

    Args:
        z: pre-activation, a float of any shape.

    Returns:
        A positive array of the shape and dtype of `z`; its derivative is `sigmoid`.

    Example:
        >>> import plateaumap as pm
        >>> f"{pm.neuron.softplus(4.0):.4f}"
        '4.0181'
    """
    return jnp.maximum(z, 0) + softplus_remainder(z)


softplus.defjvps(lambda z_dot, value, z: sigmoid(z) * z_dot)
