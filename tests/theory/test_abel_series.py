"""The exact Abel series against the published coefficients and against its own equation."""

import json
from fractions import Fraction
from pathlib import Path

import mpmath
import pytest

from plateaumap.theory.abel_series import SIGMOID_GRADIENTS, sigmoid_tables, sigmoid_terms

GOLDEN = Path(__file__).parents[1] / "golden" / "abel_series.json"
GOLDEN_NAMES = {"quadratic": "mse", "cross_entropy": "ce"}


def evaluate(polynomial, u, v):
    return sum(
        (mpmath.mpf(c.numerator) / c.denominator) * u**i * v**j for (i, j), c in polynomial.items()
    )


def gradient_and_curvature(loss, z, y):
    a = 1 / (1 + mpmath.exp(-z))
    spread = a * (1 - a)
    if loss == "quadratic":
        return (a - y) * spread, spread * (spread + (a - y) * (1 - 2 * a))
    return a - y, spread


@pytest.mark.parametrize("loss", SIGMOID_GRADIENTS)
def test_saturated_target_gives_the_golden_polynomials(loss):
    golden = json.loads(GOLDEN.read_text())[GOLDEN_NAMES[loss]]
    for k, term in enumerate(sigmoid_terms(loss, 8), start=1):
        at_zero: dict[int, Fraction] = {}
        for (i, _), c in term.polynomial.items():
            at_zero[i] = at_zero.get(i, Fraction(0)) + c
        expected = [Fraction(int(n), int(d)) for n, d in golden[str(k)]]
        assert [at_zero.get(i, 0) for i in range(len(expected))] == expected
        assert not any(c for i, c in at_zero.items() if i >= len(expected))
        assert sum(term.logarithm.values()) == 0


@pytest.mark.parametrize("loss", SIGMOID_GRADIENTS)
@pytest.mark.parametrize("y", ["0", "0.07", "0.5", "0.8"])
def test_series_solves_the_abel_equation_to_its_order(loss, y):
    """Phi(z) - Phi(z - h f(z)) = 1 + O(h**(count + 2)): halving h must show that order."""
    mpmath.mp.dps, y, count = 50, mpmath.mpf(y), 4
    q, z = 1 - y, mpmath.mpf("2.3")
    terms = sigmoid_terms(loss, count)

    def phi_without_flow(z, h):
        s = 1 / (1 + mpmath.exp(z))
        value = -mpmath.log(abs(gradient_and_curvature(loss, z, y)[0])) / 2
        for k, term in enumerate(terms, start=1):
            logarithm = evaluate(term.logarithm, 0, q) * mpmath.log(abs(q - s))
            value += h**k * (evaluate(term.polynomial, s, q) + logarithm)
        return value

    def residual(h):
        after = z - h * gradient_and_curvature(loss, z, y)[0]
        flow = mpmath.quad(lambda v: 1 / gradient_and_curvature(loss, v, y)[0], [after, z]) / h
        return abs(flow + phi_without_flow(z, h) - phi_without_flow(after, h) - 1)

    order = mpmath.log(residual(mpmath.mpf("0.02")) / residual(mpmath.mpf("0.01")), 2)
    assert order > count + 1.5


@pytest.mark.parametrize("loss", SIGMOID_GRADIENTS)
@pytest.mark.parametrize(("a", "y"), [(0.9, 0.0), (0.6, 0.25), (0.3, 0.125)])
def test_both_bases_give_the_same_differences(loss, a, y):
    tables = sigmoid_tables(loss, 5)

    def value(table, u, v):
        return sum(c * u**i * v**j for i, row in enumerate(table) for j, c in enumerate(row))

    for far, near in zip(tables.far, tables.near, strict=True):
        difference = value(far, 1 - a, 1 - y) - value(far, 0.5, 1 - y)
        mirrored = value(near, a, y) - value(near, 0.5, y)
        scale = sum(abs(c) for row in far for c in row)
        assert abs(difference - mirrored) <= 1e-14 * scale
