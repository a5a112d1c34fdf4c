"""Vectorised double-double arithmetic: about 31 digits from pairs of float64.

A number is an unevaluated sum ``hi + lo`` with ``|lo| <= ulp(hi) / 2``. The error-free
transforms need every operation rounded as written. XLA on a CPU may contract ``a * b + c`` into a
fused multiply-add, which breaks them, so this module uses NumPy, in which each ufunc rounds once.

Sources: T. J. Dekker, *A floating-point technique for extending the available precision* (1971);
D. E. Knuth, *The Art of Computer Programming*, volume 2, 4.2.2; Y. Hida, X. S. Li, D. H. Bailey,
*Algorithms for quad-double precision floating point arithmetic* (2001); table-driven exponential
after P. T. P. Tang (1989).
"""

from decimal import Context, Decimal
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RELATIVE_ERROR = 1e-28
"""Bound on the relative error of every function here; sums of opposite signs lose as usual."""

_SPLITTER = 2.0**27 + 1
_STEPS_PER_OCTAVE = 1024
_DIGITS = Context(prec=60)


class DoubleDouble(NamedTuple):
    """Float64 arrays of one shape whose exact sum is the value."""

    hi: Array
    lo: Array

    def __add__(self, other: "DoubleDouble") -> "DoubleDouble":  # type: ignore[override]
        """Return the sum; opposite signs lose no more than in exact addition."""
        s, e = two_sum(self.hi, other.hi)
        t, f = two_sum(self.lo, other.lo)
        s, e = quick_two_sum(s, e + t)
        return DoubleDouble(*quick_two_sum(s, e + f))

    def __neg__(self) -> "DoubleDouble":
        """Return the negative, exactly."""
        return DoubleDouble(-self.hi, -self.lo)

    def __sub__(self, other: "DoubleDouble") -> "DoubleDouble":
        """Return the difference."""
        return self + -other

    def __mul__(self, other: "DoubleDouble") -> "DoubleDouble":  # type: ignore[override]
        """Return the product."""
        p, e = two_product(self.hi, other.hi)
        return DoubleDouble(*quick_two_sum(p, e + (self.hi * other.lo + self.lo * other.hi)))

    def __truediv__(self, other: "DoubleDouble") -> "DoubleDouble":
        """Return the quotient."""
        first = self.hi / other.hi
        remainder = self - other.scaled(first)
        second = remainder.hi / other.hi
        remainder = remainder - other.scaled(second)
        return DoubleDouble(*quick_two_sum(first, second)) + double(remainder.hi / other.hi)

    def scaled(self, factor: Array | float) -> "DoubleDouble":
        """Return the product with a float64."""
        p, e = two_product(self.hi, np.asarray(factor))
        return DoubleDouble(*quick_two_sum(p, e + self.lo * factor))

    def halved(self) -> "DoubleDouble":
        """Return half the number, exactly."""
        return DoubleDouble(0.5 * self.hi, 0.5 * self.lo)

    def reciprocal(self) -> "DoubleDouble":
        """Return one over the number."""
        return double(np.ones_like(self.hi)) / self

    def take(self, index: NDArray[np.int64]) -> "DoubleDouble":
        """Return some of the numbers."""
        return DoubleDouble(self.hi[index], self.lo[index])

    def where(self, condition: NDArray[np.bool_], other: "DoubleDouble") -> "DoubleDouble":
        """Return this number where the condition holds, the other elsewhere."""
        return DoubleDouble(
            np.where(condition, self.hi, other.hi), np.where(condition, self.lo, other.lo)
        )


def double(values: Array | float) -> DoubleDouble:
    """Return float64 values, exactly."""
    hi = np.asarray(values, dtype=np.float64)
    return DoubleDouble(hi, np.zeros_like(hi))


def constant(value: Fraction | Decimal) -> DoubleDouble:
    """Return an exact number rounded to double-double, as a pair of scalars."""
    exact = Fraction(value)
    hi = float(exact)
    return DoubleDouble(np.float64(hi), np.float64(float(exact - Fraction(hi))))  # type: ignore[arg-type]


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the rounded sum and its exact rounding error (Knuth)."""
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the rounded product and its exact rounding error (Dekker), for |a|, |b| < 2**996."""
    p = a * b
    t = _SPLITTER * a
    a_hi = t - (t - a)
    a_lo = a - a_hi
    t = _SPLITTER * b
    b_hi = t - (t - b)
    b_lo = b - b_hi
    return p, ((a_hi * b_hi - p) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


def scaled_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the product and its error as ``two_product`` does, for operands of any size.

    Only the results can overflow or underflow.
    """
    (a, i), (b, j) = np.frexp(a), np.frexp(b)
    product, error = two_product(a, b)
    return np.ldexp(product, i + j), np.ldexp(error, i + j)


def exp(x: DoubleDouble) -> DoubleDouble:
    """Return e**x, for |x| <= 650."""
    step, remainder = _reduced(x)
    octave, index = np.divmod(step, _STEPS_PER_OCTAVE)
    power = _powers_of_two().take(index)
    value = power + power * _short_expm1(remainder)
    return DoubleDouble(np.ldexp(value.hi, octave), np.ldexp(value.lo, octave))


def expm1(x: DoubleDouble) -> DoubleDouble:
    """Return e**x - 1 without cancellation near 0, for |x| <= 650."""
    small = np.abs(x.hi) < 0.3
    near = x.where(small, double(np.zeros_like(x.hi)))
    step, remainder = _reduced(near)
    less_one = _powers_less_one().take(step + _STEPS_PER_OCTAVE // 2)
    value = less_one + (less_one + _ONE) * _short_expm1(remainder)
    if small.all():
        return value
    return value.where(small, exp(x) - _ONE)


def log(x: DoubleDouble) -> DoubleDouble:
    """Return ln x, to ``RELATIVE_ERROR * max(1, |ln x|)``; near x = 1 use ``log1p``."""
    guess = np.log(x.hi)
    return _corrected(guess, x * exp(double(-guess)) - _ONE)


def log1p(x: DoubleDouble) -> DoubleDouble:
    """Return ln(1 + x), for x > -1."""
    guess = np.log1p(x.hi)
    power = expm1(double(guess))
    return _corrected(guess, (x - power) / (power + _ONE))


_ONE = DoubleDouble(np.float64(1.0), np.float64(0.0))  # type: ignore[arg-type]
_SIXTH = constant(Fraction(1, 6))


def quick_two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the sum and its error as ``two_sum`` does, for |a| >= |b|."""
    s = a + b
    return s, b - (s - a)


def _corrected(guess: Array, excess: DoubleDouble) -> DoubleDouble:
    """Return ``guess + ln(1 + excess)`` for an excess of a few float64 roundings."""
    return double(guess) + excess + double(-0.5 * excess.hi * excess.hi)


def _reduced(x: DoubleDouble) -> tuple[NDArray[np.int64], DoubleDouble]:
    """Return k and r with ``x = k ln 2 / 1024 + r``, |r| <= ln 2 / 2048."""
    coarse, fine = _step_width()
    step = np.rint(x.hi / coarse)
    # The coarse part has 30 bits and k at most 21: their product is exact.
    remainder = double(x.hi - step * coarse) + double(x.lo)
    return step.astype(np.int64), remainder - fine.scaled(step)


def _short_expm1(r: DoubleDouble) -> DoubleDouble:
    """Return e**r - 1 for |r| <= ln 2 / 2048: Taylor, the last terms in float64."""
    square = r * r
    cube = square * r
    v = r.hi
    tail = square.hi * square.hi * (1 / 24 + v * (1 / 120 + v * (1 / 720 + v * (1 / 5040))))
    return r + (square.halved() + (cube * _SIXTH + double(tail)))


@cache
def _step_width() -> tuple[float, DoubleDouble]:
    """Return ln 2 / 1024 in two parts, the first of 30 bits."""
    width = _DIGITS.divide(_DIGITS.ln(Decimal(2)), Decimal(_STEPS_PER_OCTAVE))
    unit = 2.0**-41
    coarse = float(round(Fraction(width) / Fraction(unit))) * unit
    return coarse, constant(Fraction(width) - Fraction(coarse))


@cache
def _powers_of_two() -> DoubleDouble:
    return _lookup([_power(j) for j in range(_STEPS_PER_OCTAVE)])


@cache
def _powers_less_one() -> DoubleDouble:
    half = _STEPS_PER_OCTAVE // 2
    return _lookup([_power(j) - 1 for j in range(-half, half + 1)])


def _power(j: int) -> Fraction:
    return Fraction(_DIGITS.power(Decimal(2), _DIGITS.divide(Decimal(j), _STEPS_PER_OCTAVE)))


def _lookup(values: list[Fraction]) -> DoubleDouble:
    return DoubleDouble(*np.array([constant(value) for value in values]).T)
