"""Logarithms and exponentials of small arguments as short series.

The hot loop of a sweep needs `ln(1 + e)` only for e in [0, 1] and `exp(t) − 1` only for small t.
As plain series they are a few multiplications without a branch, several times faster than the
general functions of XLA on a CPU, and right to a few units in the last place.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import factorial

import jax.numpy as jnp
from jax import Array

EXPM1_RADIUS = 0.25
"""`expm1_near` holds for arguments up to this size."""


def horner(coefficients: Sequence[float | Array], x: Array) -> Array:
    """Return `c₀ + c₁ x + c₂ x² + …` in the dtype of `x`."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def is_double(x: Array) -> bool:
    """Return whether `x` needs the terms of double precision rather than of single."""
    return jnp.finfo(x.dtype).bits > 32


def log_ratio(r: Array) -> Array:
    """Return `ln[(1 + r)/(1 − r)] = 2 artanh r` for |r| ≤ 1/3, to full relative precision.

    The series is `2 Σ r^(2k+1)/(2k+1)`; the first term left out is 2·10⁻¹⁷ of the sum in
    double precision, 10⁻⁹ in single.
    """
    terms = 16 if is_double(r) else 8
    return 2 * r * horner([1 / (2 * k + 1) for k in range(terms)], r * r)


def log1p_unit(e: Array) -> Array:
    """Return `ln(1 + e)` for e in [0, 1], to full relative precision."""
    return log_ratio(e / (2 + e))


def expm1_near(t: Array) -> Array:
    """Return `exp(t) − 1` for |t| ≤ `EXPM1_RADIUS`, to full relative precision."""
    terms = 12 if is_double(t) else 7
    return t * horner([1 / factorial(k + 1) for k in range(terms)], t)
