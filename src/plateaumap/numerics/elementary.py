"""Logarithms and exponentials on the intervals where the hot loop of a sweep needs them.

It needs `exp(−t)` only for t ≥ 0, `ln(1 + e)` only for e in [0, 1] and `exp(t) − 1` only for small
t. As plain series they take a few multiplications without a branch: they are several times faster
than the general functions of XLA on a CPU, and accurate to a few units in the last place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import factorial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

EXPM1_RADIUS = 0.25
"""`expm1_near` holds for arguments up to this size."""

_Function = TypeVar("_Function", bound=Callable[..., object])


def traced_once(function: _Function) -> _Function:
    """Have JAX trace a function once for each shape and dtype, without changing the program.

    A kernel calls the functions of this module some twenty times, and tracing takes most of the
    time of a small sweep.
    """
    return partial(jax.jit, inline=True)(function)  # type: ignore[return-value]


class _Format(NamedTuple):
    """The constants of the exponential of a floating-point format.

    Attributes:
        integer: the integer type with the same number of bits.
        mantissa: stored bits of the mantissa.
        bias: the number added to a stored exponent.
        ln2: ln 2 in two parts, the first so short that its product with an exponent is exact.
        smallest: the argument whose `exp` is the smallest normal number.
        series: coefficients of `(exp(r) − 1 − r)/r²` for |r| ≤ ln(2)/2, nearly minimax (Chebyshev),
            with an error of 1.3·10⁻¹⁷ (double) and 8·10⁻⁹ (single) in `exp(r)`.
    """

    integer: DTypeLike
    mantissa: int
    bias: int
    ln2: tuple[float, float]
    smallest: float
    series: tuple[float, ...]


_DOUBLE = _Format(
    integer=jnp.int64,
    mantissa=52,
    bias=1023,
    ln2=(0.693145751953125, 1.42860682030941723212e-6),
    smallest=-708.39641853226408,
    series=(
        0.50000000000000010221,
        0.16666666666666667453,
        0.041666666666624127873,
        0.0083333333333300618325,
        0.0013888888917213716901,
        0.00019841269863053616878,
        0.000024801521295954375131,
        2.7557268459997064772e-6,
        2.7620088445409748161e-7,
        2.5100385495510319078e-8,
    ),
)
_SINGLE = _Format(
    integer=jnp.int32,
    mantissa=23,
    bias=127,
    ln2=(0.693359375, -2.12194440054690583e-4),
    smallest=-87.336544750,
    series=(0.5, 0.166665769897, 0.0416665546172, 0.00836317905272, 0.00139261835877),
)
_FORMATS = {"float64": _DOUBLE, "float32": _SINGLE}


@jax.custom_jvp
@traced_once
def exp_nonpositive(x: Array) -> Array:
    """Return `exp(x)` for x ≤ 0, to full relative precision down to the smallest normal number.

    Below that it is zero. XLA's own double-precision exponential takes a division, which on a CPU
    costs about as much as everything else: with this one a sigmoid takes one division, not two.

    `x = n ln 2 + r`; the power of two is built from its bits. W. J. Cody, W. Waite, "Software
    Manual for the Elementary Functions" (1980), 6.

    Args:
        x: a number of any shape; half precision uses XLA's function.
    """
    x = jnp.asarray(x, jnp.result_type(x, 0.0))
    form = _FORMATS.get(x.dtype.name)
    if form is None:
        return jnp.exp(x)
    n = jnp.round(x * 1.4426950408889634)
    r = (x - n * form.ln2[0]) - n * form.ln2[1]
    # After adding 1.5·2^mantissa a whole number stands in the lowest bits.
    shifted = n + (1.5 * 2.0**form.mantissa + form.bias)
    bits = jax.lax.bitcast_convert_type(shifted, form.integer)
    power = jax.lax.bitcast_convert_type(bits << form.mantissa, x.dtype)
    near = 1 + (r + r * r * horner(form.series, r))
    return jnp.where(x < form.smallest, 0, near * power)


exp_nonpositive.defjvps(lambda x_dot, value, x: value * x_dot)


def horner(coefficients: Sequence[float | Array], x: Array) -> Array:
    """Return `c₀ + c₁ x + c₂ x² + …` in the dtype of `x`."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def product(weight: Array, x: Array) -> Array:
    """Return `weight x`, which is 0 where the weight is 0 even if `x` is infinite."""
    return jnp.where(weight == 0, 0, weight * x)


def is_double(x: Array) -> bool:
    """Return whether `x` has double precision."""
    return jnp.finfo(x.dtype).bits > 32


@traced_once
def log_ratio(d: Array) -> Array:
    """Return `ln[(2 + d)/(2 − d)] = 2 artanh(d/2)` for |d| ≤ 2/3, to full relative precision.

    The series is `2 Σ r^(2k+1)/(2k+1)` with `r = d/2`; the first term left out is 2·10⁻¹⁷ of the
    sum in double precision, 10⁻⁹ in single. The argument is d, not r, because half of
    a d close to the smallest normal number would be flushed to zero.
    """
    terms = 16 if is_double(d) else 8
    r = d / 2
    return d * horner([1 / (2 * k + 1) for k in range(terms)], r * r)


def log1p_unit(e: Array) -> Array:
    """Return `ln(1 + e)` for e in [0, 1], to full relative precision for every e."""
    return log_ratio(e / (1 + e / 2))


@jax.custom_jvp
@traced_once
def log1p(x: Array) -> Array:
    """Return `ln(1 + x)` for x ≥ −1, to 3 units in the last place.

    In double precision `jnp.log1p` of a CPU is off by up to 129 units around −0.41
    (jax-ml/jax issue 39707), and so are the functions that JAX derives from it.

    Args:
        x: a number of any shape; below −1 the result is NaN.
    """
    x = jnp.asarray(x, jnp.result_type(x, 0.0))
    # Outside of the series' interval 1 + x is exact, or its rounding does not matter.
    near = (x > -0.5) & (x <= 1)
    inside = jnp.where(near, x, 0)
    return jnp.where(near, log_ratio(inside / (1 + inside / 2)), jnp.log(1 + x))


log1p.defjvps(lambda x_dot, value, x: x_dot / (1 + x))


def logit(y: Array) -> Array:
    """Return `ln(y/(1 − y))` for y in [0, 1]; it is zero at ½ and infinite at both ends."""
    return jnp.log(y) - log1p(-y)


@traced_once
def expm1_near(t: Array) -> Array:
    """Return `exp(t) − 1` for |t| ≤ `EXPM1_RADIUS`, to full relative precision."""
    terms = 12 if is_double(t) else 7
    return t * horner([1 / factorial(k + 1) for k in range(terms)], t)
