"""Losses of whole networks: over n samples and their outputs, from the last layer's logits.

Each loss is a scalar, the mean over samples of a sum over outputs. Logits have the shape
`(..., outputs)`: the last axis holds the outputs of one sample, all axes before it the samples.
So n samples of a network with one output have the shape (n, 1), and a scalar is one output of one
sample.

Targets broadcast to the shape of the logits, never beyond it, and only if it is unambiguous which
logits they belong to.

A network with one output and one sample has exactly the neuron's loss, `quadratic(z, y)` or
`cross_entropy(z, y)`.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jax.scipy.special import entr
from jax.typing import ArrayLike

from plateaumap.inputs.errors import PlateaumapError, advice
from plateaumap.neuron.activations import Activation, get
from plateaumap.neuron.losses.base import refuse_masked
from plateaumap.neuron.losses.families import quadratic_of
from plateaumap.neuron.losses.sigmoid import cross_entropy
from plateaumap.numerics.elementary import log1p

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
        targets: in [0, 1], of the shape of `logits` or broadcast to it.
        unit: "nats" or "bits".

    Returns:
        A scalar of the dtype of the arguments.

    Raises:
        PlateaumapError: the unit is unknown, the targets do not fit the logits, or either is a
            masked array.

    Example:
        >>> import jax.numpy as jnp
        >>> import plateaumap as pm
        >>> logits, targets = jnp.zeros((2, 1)), jnp.array([[1.0], [0.0]])
        >>> float(pm.losses.binary_cross_entropy(logits, targets, unit="bits"))
        1.0
    """
    z, y = _one_target_each(logits, targets)
    return _mean(cross_entropy(z, y)) / _nats_in(unit)


def softmax_cross_entropy(logits: ArrayLike, targets: ArrayLike, unit: str = "nats") -> Array:
    """Return the cross-entropy of softmax outputs, `aⱼ = exp(zⱼ)/Σₖ exp(zₖ)`.

    `C = −1/n Σₓ Σⱼ yⱼ ln aⱼ`; with one-hot targets, `−ln a` of the right class. Its gradient in
    a logit is `(a − y)/n`, in nats. Computed as `Σⱼ yⱼ (m − zⱼ) + ln(1 + r) Σⱼ yⱼ` from the
    largest logit m and the sum r of `exp(z − m)` over the others, which keeps the relative
    accuracy of the small loss of a certain and right answer. With the two logits (z, 0) and the
    targets (y, 1 − y) it is the binary cross-entropy of z and y.

    Args:
        logits: floats of shape (..., outputs).
        targets: one-hot, or any probabilities, of the shape of `logits` or broadcast to it;
            convert class numbers with `jax.nn.one_hot`.
        unit: "nats" or "bits".

    Returns:
        A scalar of the dtype of the arguments.

    Raises:
        PlateaumapError: the unit is unknown, the logits have no axis of outputs, the targets are
            class numbers or do not fit the logits, or either is a masked array.

    Example:
        >>> import jax.numpy as jnp
        >>> import plateaumap as pm
        >>> logits, targets = jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]])
        >>> float(pm.losses.softmax_cross_entropy(logits, targets, unit="bits"))
        1.0
    """
    if jnp.ndim(logits) == 0:
        raise PlateaumapError("softmax_cross_entropy takes logits of shape (..., outputs)")
    _refuse_class_numbers(logits, targets)
    z, y = _one_target_each(logits, targets)
    return jnp.mean(_softmax_value(z, y)) / _nats_in(unit)


def l2_loss(
    logits: ArrayLike, targets: ArrayLike, activation: str | Activation = "sigmoid"
) -> Array:
    """Return the quadratic loss: half the squared L2 distance of outputs from targets.

    `C = 1/(2n) Σₓ ‖σ(z) − y‖²` over n samples x. Its gradient in a logit is
    `(a − y) σ'(z)/n`; with linear outputs, `activation="identity"`, `σ' = 1` and nothing slows
    learning.

    Args:
        logits: pre-activations z of the outputs, floats of shape (..., outputs).
        targets: of the shape of `logits` or broadcast to it.
        activation: of the outputs, one of `plateaumap.neuron.activations`.

    Returns:
        A scalar of the dtype of the arguments.

    Raises:
        PlateaumapError: the activation is unknown, the targets do not fit the logits, or either
            is a masked array.

    Example:
        >>> import jax.numpy as jnp
        >>> import plateaumap as pm
        >>> logits, targets = jnp.array([[3.0, 1.0]]), jnp.ones((1, 2))
        >>> float(pm.losses.l2_loss(logits, targets, activation="identity"))
        2.0
    """
    z, y = _one_target_each(logits, targets)
    return _mean(quadratic_of(get(activation))(z, y))


def binary_entropy(targets: ArrayLike, unit: str = "nats") -> Array:
    """Return the least `binary_cross_entropy` for some targets: zero if all are 0 or 1.

    Args:
        targets: in [0, 1], floats of shape (..., outputs).
        unit: "nats" or "bits".

    Returns:
        A scalar; the cross-entropy less this is the divergence of outputs from targets
        (S. Kullback and R. A. Leibler, Annals of Mathematical Statistics 22 (1951), 79).

    Raises:
        PlateaumapError: the unit is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> import plateaumap as pm
        >>> float(pm.losses.binary_entropy(jnp.array([[0.5, 1.0]]), unit="bits"))
        1.0
    """
    (y,) = _floats(targets)
    return _mean(cross_entropy.floor(y)) / _nats_in(unit)


def entropy(targets: ArrayLike, unit: str = "nats") -> Array:
    """Return the least `softmax_cross_entropy` for some targets: zero if they are one-hot.

    Args:
        targets: probabilities of shape (..., outputs) that sum to one.
        unit: "nats" or "bits".

    Returns:
        A scalar.

    Raises:
        PlateaumapError: the unit is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> import plateaumap as pm
        >>> float(pm.losses.entropy(jnp.array([[0.5, 0.5]]), unit="bits"))
        1.0
    """
    (y,) = _floats(targets)
    return _mean(entr(y)) / _nats_in(unit)


def _nats_in(unit: str) -> float:
    if unit not in UNITS:
        raise PlateaumapError(f"unit = {unit!r}: unknown; {advice(unit, UNITS)}")
    return UNITS[unit]


def _refuse_class_numbers(logits: ArrayLike, targets: ArrayLike) -> None:
    """Raise if the targets of a softmax can be the numbers of the right classes."""
    shape, outputs = jnp.shape(targets), jnp.shape(logits)
    whole = jnp.issubdtype(jnp.result_type(targets), jnp.integer)
    if shape == outputs[:-1] or (whole and shape != outputs):
        raise PlateaumapError(
            f"targets of shape {shape} with logits of shape {outputs}: a softmax takes a target "
            "for each output, not the number of a class; use "
            f"jax.nn.one_hot(targets, {outputs[-1]})"
        )


def _one_target_each(logits: ArrayLike, targets: ArrayLike) -> list[Array]:
    """Return logits and targets as arrays of the shape of the logits.

    Raises:
        PlateaumapError: the targets do not broadcast to that shape, or in more than one way, or
            one of the two is a masked array.
    """
    refuse_masked(logits=logits, targets=targets)
    shape, outputs = jnp.shape(targets), jnp.shape(logits)
    shapes = f"targets of shape {shape} with logits of shape {outputs}"
    try:
        fits = np.broadcast_shapes(shape, outputs) == outputs
    except ValueError:
        fits = False
    if not fits:
        raise PlateaumapError(
            f"{shapes}: the targets do not broadcast to the shape of the logits; reshape them to "
            f"{outputs}"
        )
    missing = len(outputs) - len(shape)
    if missing and shape == outputs[: len(shape)] and math.prod(shape) > 1:
        raise PlateaumapError(
            f"{shapes}: a target could belong to one sample or to one output; reshape them to "
            f"{shape + (1,) * missing} or to {(1,) * missing + shape}"
        )
    return _floats(logits, targets)


def _floats(*values: ArrayLike) -> list[Array]:
    dtype = jnp.result_type(*values, 0.0)
    return list(jnp.broadcast_arrays(*(jnp.asarray(value, dtype) for value in values)))


def _mean(each: Array) -> Array:
    """Return the mean over samples of the sum over outputs, which are the last axis."""
    return each if each.ndim == 0 else jnp.mean(jnp.sum(each, axis=-1))


@jax.custom_jvp
def _softmax_value(z: Array, y: Array) -> Array:
    largest, others, _ = _largest_and_others(z)
    # An output of probability 0 costs nothing if its target is 0, and so does the largest logit.
    behind = jnp.where((y == 0) | (z == largest), 0, y * (largest - z))
    return jnp.sum(behind, axis=-1) + jnp.sum(y, axis=-1) * log1p(others[..., 0])


def _softmax_value_jvp(
    primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Array, Array]:
    (z, y), (z_dot, y_dot) = primals, tangents
    change = jnp.zeros_like(z)
    if not _is_zero(z_dot):
        change = _softmax_error(z, y) * z_dot
    if not _is_zero(y_dot):
        change = change + _information(z) * y_dot
    return _softmax_value(z, y), jnp.sum(change, axis=-1)


# A target that is not differentiated must not meet the infinite information of a logit of −∞.
_softmax_value.defjvp(_softmax_value_jvp, symbolic_zeros=True)


@jax.custom_jvp
def _softmax_error(z: Array, y: Array) -> Array:
    """Return `a Σy − y` of the softmax outputs a, the gradient of the cross-entropy."""
    largest, others, smaller = _largest_and_others(z)
    weight = jnp.sum(y, axis=-1, keepdims=True)
    # The complement of the largest output, which 1 − a would round away.
    at_largest = (weight - y) - weight * (others / (1 + others))
    return jnp.where(z == largest, at_largest, weight * (smaller / (1 + others)) - y)


@_softmax_error.defjvp
def _softmax_error_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (z, y), (z_dot, y_dot) = primals, tangents
    a = _softmax(z)
    weight, weight_dot = (jnp.sum(part, axis=-1, keepdims=True) for part in (y, y_dot))
    change = weight * (a * _centred(z, a, z_dot)) + (a * weight_dot - y_dot)
    return _softmax_error(z, y), change


@jax.custom_jvp
def _softmax(z: Array) -> Array:
    """Return the outputs `exp(zⱼ)/Σₖ exp(zₖ)`."""
    largest, others, smaller = _largest_and_others(z)
    return jnp.where(z == largest, 1, smaller) / (1 + others)


_softmax.defjvps(lambda z_dot, a, z: a * _centred(z, a, z_dot))


@jax.custom_jvp
def _information(z: Array) -> Array:
    """Return `−ln a` of the softmax outputs a."""
    largest, others, _ = _largest_and_others(z)
    return largest - z + log1p(others)


_information.defjvps(lambda z_dot, value, z: -_centred(z, _softmax(z), z_dot))


def _centred(z: Array, a: Array, z_dot: Array) -> Array:
    """Return `ż − Σₖ aₖ żₖ`, with ż taken from that of a largest logit.

    The output of that logit, which may round to 1, then drops out of the sum: the remainder of its
    row and column of the Hessian, `a (1 − a)`, keeps its relative accuracy.
    """
    largest = jnp.argmax(z, axis=-1, keepdims=True)
    above = z_dot - jnp.take_along_axis(z_dot, largest, axis=-1)
    return above - jnp.sum(a * above, axis=-1, keepdims=True)


def _largest_and_others(z: Array) -> tuple[Array, Array, Array]:
    """Return the largest logit m, the sum of `exp(z − m)` over the others, and those terms.

    Of several equally large logits one counts as the largest. The first two results keep the axis
    of outputs, with size 1; the terms of all logits equal to m are zero.
    """
    largest = jnp.max(z, axis=-1, keepdims=True)
    smaller = jnp.where(z == largest, 0, jnp.exp(z - largest))
    ties = jnp.sum((z == largest).astype(z.dtype), axis=-1, keepdims=True) - 1
    return largest, jnp.sum(smaller, axis=-1, keepdims=True) + ties, smaller


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)
