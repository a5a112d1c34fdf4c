"""Where the gradient flow of one sigmoid neuron is fastest, and what follows from it.

The limits, for a vanishing step, of what is measured of gradient descent epoch by epoch.
Scalar JAX functions, to be ``vmap``-ed and ``jit``-ed inside ``jax.enable_x64(True)``.
"""

import jax.numpy as jnp

from plateaumap.theory.flow import (
    DYNAMICS,
    Scalar,
    Target,
    departure,
    descent,
    flow_time,
    make_drop,
    make_point,
)
from plateaumap.theory.law import Landmarks


def landmarks(z0: Scalar, h: Scalar, y: Scalar, *, loss: str) -> Landmarks:
    """Returns the landmarks of the flow from z0.

    The speed of the quadratic loss peaks where ``a = [1 + y ± √(1 − y + y²)]/3``, if the flow
    comes by there; that of the cross-entropy at the start. Along the flow the loss falls by
    ``h f²`` an epoch, so it is steepest at the same place.

    Args:
      z0: start, a float64 scalar.
      h: ``lr (1 + x**2)``.
      y: target output in [0, 1].
      loss: ``"quadratic"`` or ``"cross_entropy"``.
    """
    dynamics = DYNAMICS[loss]
    mirrored, target = descent(z0, y)
    start = make_point(jnp.where(mirrored, -z0, z0), target)
    fastest = make_point(_PEAKS[loss](start.z, target), target)
    peak, first = dynamics.speed(fastest), dynamics.speed(start)
    fallen = dynamics.excess(start, target) - dynamics.excess(fastest, target)
    there = jnp.where(mirrored, -fastest.z, fastest.z)
    epochs = flow_time(z0, there, y, loss=loss) / h
    passes = fastest.z < start.z
    end = departure(z0, y, make_drop(0.1), loss=loss)
    return Landmarks(
        acceleration=jnp.asarray(peak / first),
        tangent_lag=jnp.where(passes, epochs - fallen / (h * peak**2), 0.0),
        displacement=end - z0,
        largest_step=jnp.asarray(h * peak),
    )


def _quadratic_peak(z: Scalar, target: Target) -> Scalar:
    y, q = target.y, target.q
    root = jnp.sqrt(1 - y * q)
    # 1 − a = [2 − y − root]/3 cancels as y nears 1; this is the same.
    odds = (1 + y + root) * (1 + q + root) / (3 * q)
    return jnp.minimum(z, jnp.log(odds))


def _first(z: Scalar, target: Target) -> Scalar:
    del target
    return z


_PEAKS = {"quadratic": _quadratic_peak, "cross_entropy": _first}
