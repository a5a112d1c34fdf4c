"""Double-double arithmetic against mpmath, and its error-free transforms against fractions."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

from plateaumap.numerics import double_double as dd

COUNT = 400


def pairs(hi, seed):
    """Normalised pairs with full low parts."""
    rng = np.random.default_rng(seed)
    return dd.DoubleDouble(hi, hi * rng.uniform(-1, 1, hi.shape) * 2.0**-54)


def exactly(number):
    return [
        mpmath.mpf(float(h)) + mpmath.mpf(float(low))
        for h, low in zip(number.hi, number.lo, strict=True)
    ]


def signed(low, high, seed):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(low, high, COUNT)) * rng.choice([-1.0, 1.0], COUNT)


@pytest.mark.parametrize(
    ("transform", "operation"),
    [(dd.two_sum, Fraction.__add__), (dd.two_product, Fraction.__mul__)],
)
def test_transforms_lose_nothing(transform, operation):
    a, b = signed(-60, 60, 1), signed(-60, 60, 2)
    value, error = transform(a, b)
    for p, q, v, e in zip(a, b, value, error, strict=True):
        assert Fraction(v) + Fraction(e) == operation(Fraction(p), Fraction(q))


@pytest.mark.parametrize("name", ["__add__", "__sub__", "__mul__", "__truediv__"])
def test_arithmetic_has_thirty_digits(name):
    a, b = pairs(signed(-3, 3, 3), 4), pairs(signed(-3, 3, 5), 6)
    with mpmath.workdps(60):
        for p, q, result in zip(exactly(a), exactly(b), exactly(getattr(a, name)(b)), strict=True):
            expected = getattr(p, name)(q)
            assert abs(result - expected) <= 1e-31 * abs(expected)


@pytest.mark.parametrize(
    ("name", "arguments", "relative"),
    [
        ("exp", np.linspace(-600, 600, COUNT), True),
        ("exp", signed(-40, 0, 7), True),
        ("expm1", signed(-90, 3, 8), True),
        ("log", np.exp(np.linspace(-600, 600, COUNT)), False),
        ("log1p", np.exp(np.linspace(-90, 90, COUNT)), True),
        ("log1p", -np.exp(np.linspace(-90, -0.1, COUNT)), True),
    ],
)
def test_functions_keep_their_stated_error(name, arguments, relative):
    numbers = pairs(arguments, 9)
    with mpmath.workdps(60):
        for x, result in zip(exactly(numbers), exactly(getattr(dd, name)(numbers)), strict=True):
            expected = getattr(mpmath, name)(x)
            scale = abs(expected) if relative else max(1, abs(expected))
            assert abs(result - expected) <= 5 * dd.RELATIVE_ERROR * scale


def test_constants_are_rounded_to_both_parts():
    third = dd.constant(Fraction(1, 3))
    assert abs(Fraction(float(third.hi)) + Fraction(float(third.lo)) - Fraction(1, 3)) < 2**-107
