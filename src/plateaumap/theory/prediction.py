"""A plateau's length, cheaply: the flow time, the logarithm and the terms of the Abel series.

Exact to the epoch nearly everywhere that the series reaches from the start to the level, and of
the right size for any other step. Scalar JAX functions.
"""

import jax
import jax.numpy as jnp

from plateaumap.theory.abel import abel_difference, lands_well, order_of
from plateaumap.theory.flow import (
    DYNAMICS,
    Drop,
    Scalar,
    Target,
    make_leg,
    make_point,
)
from plateaumap.theory.walk import plan_leap


def predict(loss: str, z: Scalar, target: Target, drop: Drop, h: Scalar) -> jax.Array:
    """Returns the epochs that a descent from z takes until the loss excess has dropped.

    Where the series does not reach the level it is used as far as it goes out of saturation, and
    the flow time from there. NaN where the path may pass its target by so far that there is no
    telling, and where a term overflows float64 (see ``predict_extreme``).
    """
    dynamics, order = DYNAMICS[loss], order_of(target)
    whole = dynamics.depart(make_point(z, target), target, drop)
    x, ratio = h * dynamics.stiffness(whole), h * dynamics.stride(whole)
    gentle = (x <= order.slope) & (ratio <= order.ratio)
    leap = plan_leap(loss, whole, target, h, order.slope)
    leaps = leap.useful & (ratio <= order.ratio) | leap.useful & (dynamics.far_speed(target) == 0.0)
    beyond = make_leg(leap.leg.end, whole.end, target)
    by_leap = (
        abel_difference(loss, leap.leg, target, h).epochs
        + dynamics.duration(beyond, target).time / h
    )
    by_flow = dynamics.duration(whole, target).time / h
    rough = jnp.where(leaps, by_leap, by_flow)
    epochs = jnp.where(gentle, abel_difference(loss, whole, target, h).epochs, rough)
    known = gentle | leaps | (x < 1.0) | target.is_zero
    return jnp.where(known & lands_well(loss, whole, target, drop, h), _whole(epochs), jnp.nan)


def predict_extreme(loss: str, z: Scalar, target: Target, drop: Drop, h: Scalar) -> jax.Array:
    """Returns the flow time over h, by its logarithm; NaN where it overflows float64."""
    dynamics = DYNAMICS[loss]
    end = make_point(dynamics.departure(z, target, drop), target)
    leg = make_leg(make_point(z, target), end, target)
    epochs = jnp.exp(dynamics.log_duration(leg, target) - jnp.log(h))
    return jnp.where(lands_well(loss, leg, target, drop, h), _whole(epochs), jnp.nan)


def _whole(epochs: Scalar) -> jax.Array:
    return jnp.where(jnp.isfinite(epochs), jnp.maximum(jnp.ceil(epochs), 1.0), jnp.nan)
