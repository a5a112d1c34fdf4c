"""The quadratic and the matching loss of any activation.

The matching loss `Σ(z) − y z` has the gradient `σ(z) − y`, so that saturation never slows
learning; it is convex since its curvature is `σ' ≥ 0`. Its value is computed as
`(asymptote − y) z + remainder`, in which nothing cancels at the ends of the range.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax import Array

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.activations import Activation, get
from plateaumap.neuron.losses.base import Loss
from plateaumap.neuron.losses.sigmoid import cross_entropy, quadratic
from plateaumap.numerics.elementary import is_double, product
from plateaumap.numerics.quadrature import first_moment_mean, mean

_DECREASE_RADII = {True: 1 / 128, False: 1 / 8}
"""In double and single precision: the step up to which the slope gives the decrease."""

_EXCESS_RADII = {True: 1 / 32, False: 1 / 4}
"""Likewise: the distance from the target up to which the slope gives the excess."""

_NODES = 4
"""Nodes of the quadrature of slopes over such short intervals."""


def quadratic_of(activation: Activation | str) -> Loss:
    """Return the loss `(σ(z) − y)²/2` of an activation, the same object every time.

    Its floor is zero, whether or not the activation can reach the target.

    Raises:
        PlateaumapError: the activation is unknown.

    Example:
        >>> import plateaumap as pm
        >>> float(pm.losses.quadratic_of("identity")(3.0, 1.0))
        2.0
    """
    return _quadratic_of(get(activation))


@cache
def _quadratic_of(activation: Activation) -> Loss:
    if activation is get("sigmoid"):
        return quadratic

    def value(z: Array, y: Array) -> Array:
        return jnp.square(activation.error(z, y)) / 2

    def decrease(z: Array, step: Array, y: Array) -> Array:
        rise = _rise(activation, z, step)
        return -rise * (activation.error(z, y) + rise / 2)

    return Loss("quadratic", value, decrease=decrease)


def matching_of(activation: Activation | str) -> Loss:
    """Return the matching loss of an activation, the same object every time.

    For the sigmoid it is the cross-entropy.

    Raises:
        PlateaumapError: the activation is unknown, or not monotone.

    Example:
        >>> import plateaumap as pm
        >>> f"{pm.losses.matching_of('tanh')(2.0, 0.0):.4f}"  # ln cosh 2
        '1.3250'
    """
    return _matching_of(get(activation))


@cache
def _matching_of(activation: Activation) -> Loss:
    if activation.why_no_matching_loss is not None:
        raise PlateaumapError(f"no matching loss: {activation.why_no_matching_loss}")
    if activation is get("sigmoid"):
        return replace(cross_entropy, name="matching")
    return Loss(
        "matching",
        partial(_matching_value, activation),
        floor=partial(_matching_floor, activation),
        excess=partial(_matching_excess, activation),
        decrease=partial(_matching_decrease, activation),
    )


def _above_constant(activation: Activation, z: Array, y: Array) -> Array:
    assert activation.remainder is not None
    weight, remainder = activation.asymptote(z) - y, activation.remainder(z)
    # At infinity a remainder of +inf outgrows the linear part, and the latter one of -inf.
    linear = product(weight, z)
    limit = jnp.where((remainder == jnp.inf) | (linear == 0), remainder, linear)
    return jnp.where(jnp.isinf(z), limit, weight * z + remainder)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _matching_value(activation: Activation, z: Array, y: Array) -> Array:
    return _above_constant(activation, z, y) + activation.constant


@_matching_value.defjvp
def _matching_value_jvp(
    activation: Activation, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (z, y), (z_dot, y_dot) = primals, tangents
    slope = activation.error(z, y)
    return _matching_value(activation, z, y), slope * z_dot - product(y_dot, z)


def _floor_above_constant(activation: Activation, y: Array) -> Array:
    """Return the floor less the constant: at the ends of the range, the limit zero."""
    target = activation.target(y)
    finite = jnp.isfinite(target)
    floor = _above_constant(activation, jnp.where(finite, target, 0), y)
    at_end = 0.0 if activation.light_tailed else -jnp.inf
    within = (y >= activation.low) & (y <= activation.high)
    return jnp.where(finite, floor, jnp.where(within, at_end, -jnp.inf))


def _matching_floor(activation: Activation, y: Array) -> Array:
    return _floor_above_constant(activation, jnp.asarray(y)) + activation.constant


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _matching_excess(activation: Activation, z: Array, y: Array) -> Array:
    """Return the integral of `σ − y` from the target's pre-activation to z.

    Close to the target the loss and its floor cancel. There the excess is a double integral of
    the slope, which is never negative.
    """
    target = activation.target(y)
    distance = z - target
    near = jnp.abs(distance) < _EXCESS_RADII[is_double(distance)]
    start, u = jnp.where(near, target, 0), jnp.where(near, distance, 0)
    far = _above_constant(activation, z, y) - _floor_above_constant(activation, y)
    return jnp.where(near, _area(activation, start, u, y, jnp.zeros_like(u)), far)


@_matching_excess.defjvp
def _matching_excess_jvp(
    activation: Activation, primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    (z, y), (z_dot, y_dot) = primals, tangents
    # d/dy is the distance to the target; it is infinite at the ends of the range, where y is fixed.
    by_target = jnp.where(y_dot == 0, 0, (activation.target(y) - z) * y_dot)
    slope = activation.error(z, y)
    return _matching_excess(activation, z, y), slope * z_dot + by_target


def _area(activation: Activation, start: Array, width: Array, y: Array, error: Array) -> Array:
    """Return `∫ σ(s) − y ds` from `start` to `start + width`, `error` being σ − y at `start`.

    For a small width, `error` and the double integral of the slope do not cancel.
    """

    def piece(start: Array, width: Array, error: Array) -> Array:
        bend = first_moment_mean(activation.slope, start, width, _NODES)
        return width * error + jnp.square(width) * bend

    (first, *others) = _pieces(activation, start, width)
    area = piece(*first, error)
    for kink, beyond in others:
        area = area + piece(kink, beyond, activation.error(kink, y))
    return area


def _rise(activation: Activation, z: Array, step: Array) -> Array:
    """Return `σ(z + step) − σ(z)` without cancellation."""
    near = jnp.abs(step) < _DECREASE_RADII[is_double(step)]
    small = jnp.zeros_like(z)
    for start, width in _pieces(activation, z, jnp.where(near, step, 0)):
        small = small + width * mean(activation.slope, start, width, _NODES)
    # Errors against the end of the range on the side of z do not cancel there.
    end = activation.asymptote(z)
    large = activation.error(z + step, end) - activation.error(z, end)
    return jnp.where(near, small, large)


def _pieces(activation: Activation, start: Array, width: Array) -> list[tuple[Array, Array]]:
    """Return starts and widths of parts of an interval that have no kink inside."""
    if activation.smooth:
        return [(start, width)]
    crosses = start * (start + width) < 0
    kink = jnp.zeros_like(start)
    return [
        (start, jnp.where(crosses, -start, width)),
        (kink, jnp.where(crosses, start + width, 0)),
    ]


def _matching_decrease(activation: Activation, z: Array, step: Array, y: Array) -> Array:
    near = jnp.abs(step) < _DECREASE_RADII[is_double(step)]
    width = jnp.where(near, step, 0)
    small = -_area(activation, z, width, y, activation.error(z, y))
    large = _above_constant(activation, z, y) - _above_constant(activation, z + step, y)
    return jnp.where(near, small, large)
