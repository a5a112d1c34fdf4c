"""Losses of whole networks: over n samples and their outputs, from the last layer's logits.

Each is the mean over samples of a sum over outputs, a scalar. Logits have the shape
`(..., outputs)`: the last axis holds the outputs of one sample, all axes before it the samples;
so n samples of a network with one output have the shape (n, 1), and a scalar is one output of
one sample. Targets broadcast against them.

Elementwise they are the neuron's losses: a network with one output and one sample has exactly
`quadratic(z, y)` or `cross_entropy(z, y)`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import entr
from jax.typing import ArrayLike

from plateaumap.activations import Activation, get
from plateaumap.errors import PlateaumapError, advice
from plateaumap.losses.families import quadratic_of
from plateaumap.losses.sigmoid import cross_entropy

UNITS = {"nats": 1.0, "bits": math.log(2)}
"""Nats in one unit of information."""


def binary_cross_entropy(logits: ArrayLike, targets: ArrayLike, unit: str = "nats") -> Array:
    """Return Shannon's binary cross-entropy of sigmoid outputs, `a = σ(z)`.

    `C = −1/n Σₓ Σⱼ [yⱼ ln aⱼ + (1 − yⱼ) ln(1 − aⱼ)]` over n samples x and outputs j: the mean
    number of nats or bits that a sample's targets cost in the code of the outputs. Its gradient
    in a logit is `(a − y)/n`, in nats. C. E. Shannon, "A mathematical theory of
    communication", Bell System Technical Journal 27 (1948), 379.

    Args:
        logits: pre-activations z of the outputs, floats of shape (..., outputs).
        targets: in [0, 1], broadcast against `logits`.
        unit: "nats" or "bits".

    Returns:
        A scalar of the dtype of the arguments.

    Raises:
        PlateaumapError: the unit is unknown.
    """
    return _mean(cross_entropy(logits, targets)) / _nats_in(unit)


def softmax_cross_entropy(logits: ArrayLike, targets: ArrayLike, unit: str = "nats") -> Array:
    """Return the cross-entropy of softmax outputs, `aⱼ = exp(zⱼ)/Σₖ exp(zₖ)`.

    `C = −1/n Σₓ Σⱼ yⱼ ln aⱼ`; with one-hot targets, `−ln a` of the right class. Its gradient in
    a logit is `(a − y)/n`, in nats. Computed as `Σⱼ yⱼ (m − zⱼ) + ln(1 + r) Σⱼ yⱼ` from the
    largest logit m and the sum r of `exp(z − m)` over the others: of a right answer with
    certainty, what remains is right relative to itself. With the two logits (z, 0) and the
    targets (y, 1 − y) it is the binary cross-entropy of z and y.

    Args:
        logits: floats of shape (..., outputs).
        targets: one-hot, or any probabilities, broadcast against `logits`.
        unit: "nats" or "bits".

    Returns:
        A scalar of the dtype of the arguments.

    Raises:
        PlateaumapError: the unit is unknown, or the logits have no axis of outputs.
    """
    z, y = _floats(logits, targets)
    if z.ndim == 0:
        raise PlateaumapError("softmax_cross_entropy takes logits of shape (..., outputs)")
    return jnp.mean(_softmax_value(z, y)) / _nats_in(unit)


def l2_loss(
    logits: ArrayLike, targets: ArrayLike, activation: str | Activation = "sigmoid"
) -> Array:
    """Return the quadratic loss: half the squared L2 distance of outputs from targets.

    `C = 1/(2n) Σₓ ‖σ(z) − y‖²` over n samples x. Its gradient in a logit is
    `(a − y) σ'(z)/n`; with linear outputs, `activation="identity"`, `σ' = 1` and nothing slows
    down.

    Args:
        logits: pre-activations z of the outputs, floats of shape (..., outputs).
        targets: broadcast against `logits`.
        activation: of the outputs, one of `plateaumap.activations`.

    Returns:
        A scalar of the dtype of the arguments.

    Raises:
        PlateaumapError: the activation is unknown.
    """
    return _mean(quadratic_of(get(activation))(logits, targets))


def binary_entropy(targets: ArrayLike, unit: str = "nats") -> Array:
    """Return the least `binary_cross_entropy` for some targets: zero where all are 0 or 1.

    Args:
        targets: in [0, 1], floats of shape (..., outputs).
        unit: "nats" or "bits".

    Returns:
        A scalar; the cross-entropy less this is the divergence of outputs from targets
        (S. Kullback and R. A. Leibler, Annals of Mathematical Statistics 22 (1951), 79).

    Raises:
        PlateaumapError: the unit is unknown.
    """
    (y,) = _floats(targets)
    return _mean(cross_entropy.floor(y)) / _nats_in(unit)


def entropy(targets: ArrayLike, unit: str = "nats") -> Array:
    """Return the least `softmax_cross_entropy` for some targets: zero where they are one-hot.

    Args:
        targets: probabilities of shape (..., outputs) that sum to one.
        unit: "nats" or "bits".

    Returns:
        A scalar.

    Raises:
        PlateaumapError: the unit is unknown.
    """
    (y,) = _floats(targets)
    return _mean(entr(y)) / _nats_in(unit)


def _nats_in(unit: str) -> float:
    if unit not in UNITS:
        raise PlateaumapError(f"unit is {unit!r}; {advice(unit, UNITS)}")
    return UNITS[unit]


def _floats(*values: ArrayLike) -> list[Array]:
    dtype = jnp.result_type(*values, 0.0)
    return jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in values))


def _mean(each: Array) -> Array:
    """Return the mean over samples of the sum over outputs, which are the last axis."""
    return each if each.ndim == 0 else jnp.mean(jnp.sum(each, axis=-1))


@jax.custom_jvp
def _softmax_value(z: Array, y: Array) -> Array:
    largest, rest, _ = _largest_and_rest(z)
    # A logit of −∞ has the probability 0, at no cost where its target is 0, too.
    behind = jnp.where(y == 0, 0, y * (largest - z))
    return jnp.sum(behind, axis=-1) + jnp.sum(y, axis=-1) * jnp.log1p(rest[..., 0])


@_softmax_value.defjvp
def _softmax_value_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (z, y), (z_dot, y_dot) = primals, tangents
    largest, rest, smaller = _largest_and_rest(z)
    weight = jnp.sum(y, axis=-1, keepdims=True)
    # Of the largest output what counts is its complement, which 1 − a would round away.
    at_largest = (weight - y) - weight * (rest / (1 + rest))
    error = jnp.where(z == largest, at_largest, weight * (smaller / (1 + rest)) - y)
    by_target = jnp.where(y_dot == 0, 0, (largest - z + jnp.log1p(rest)) * y_dot)
    return _softmax_value(z, y), jnp.sum(error * z_dot + by_target, axis=-1)


def _largest_and_rest(z: Array) -> tuple[Array, Array, Array]:
    """Return the largest logit m, the sum of `exp(z − m)` over the others, and those terms.

    Of several that are equally large one counts as the largest. The first two keep the axis of
    outputs, with size 1; the terms of all that are as large as m are given as zero.
    """
    largest = jnp.max(z, axis=-1, keepdims=True)
    smaller = jnp.where(z == largest, 0, jnp.exp(z - largest))
    ties = jnp.sum((z == largest).astype(z.dtype), axis=-1, keepdims=True) - 1
    return largest, jnp.sum(smaller, axis=-1, keepdims=True) + ties, smaller
