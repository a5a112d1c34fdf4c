"""The tail of the normal distribution and its integral, to full relative precision.

`Φ(−t)` and `∫ Φ(−s) ds` from t on are the density times two smooth functions of t that decrease
like 1/t and 1/t². Each of them, multiplied by the inverse power, is a polynomial in
`(t − c)/(t + c)`, as in M. M. Shepherd and J. G. Laframboise, "Chebyshev approximation of
(1 + 2x) exp(x²) erfc x in 0 ≤ x < ∞", Math. Comp. 36 (1981), 249. The coefficients are computed
here, from positive integrands, when they are first needed.
"""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np
from jax import Array

from plateaumap.numerics.elementary import horner, is_double
from plateaumap.numerics.quadrature import legendre

_CENTRE = 4.0
_DEGREE = {"double": 26, "single": 12}


@cache
def _coefficients(power: int, degree: int) -> tuple[float, ...]:
    """Return the polynomial for `(1 + t)^(power+1) ∫ v^power exp(−t v − v²/2) dv`, v from 0.

    The power 0 gives the Mills ratio `Φ(−t)/φ(t)`, the power 1 that of the tail's integral.
    """
    chebyshev = np.polynomial.chebyshev
    x = chebyshev.chebpts1(64)
    t = _CENTRE * (1 + x) / (1 - x)
    nodes, weights = legendre(24, panels=16)
    u = 60 * nodes
    v = u / (1 + t[:, None])
    integral = 60 * np.sum(u**power * np.exp(-t[:, None] * v - v**2 / 2) * weights, axis=1)
    series = np.mean(2 * integral[:, None] * chebyshev.chebvander(x, degree), axis=0)
    series[0] /= 2
    return tuple(map(float, chebyshev.cheb2poly(series)))


def _over_density(t: Array, power: int) -> Array:
    degree = _DEGREE["double" if is_double(t) else "single"]
    x = jnp.where(jnp.isinf(t), 1, (t - _CENTRE) / (t + _CENTRE))
    return horner(_coefficients(power, degree), x) / (1 + t) ** (power + 1)


def density(z: Array) -> Array:
    """Return `φ(z) = exp(−z²/2)/√(2π)`."""
    return jnp.exp(-jnp.square(z) / 2) * float(1 / np.sqrt(2 * np.pi))


def mills_ratio(t: Array) -> Array:
    """Return `Φ(−t)/φ(t)` for t ≥ 0."""
    return _over_density(t, 0)


def integrated_mills_ratio(t: Array) -> Array:
    """Return `(φ(t) − t Φ(−t))/φ(t)` for t ≥ 0, the integral of `Φ(−s)` from t on over φ(t)."""
    return _over_density(t, 1)
