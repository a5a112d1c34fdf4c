"""The Abel series of gradient descent, in exact arithmetic.

Gradient descent ``z <- z - h f(z)`` has an Abel function ``Phi`` (its Fatou coordinate) with
``Phi(z - h f(z)) = Phi(z) - 1``. It is the asymptotic series ``Phi = sum_k h**(k-1) phi_k`` with
``phi_0' = 1/f`` (the gradient flow) and ``phi_1 = -ln|f| / 2``. Expanding the equation in powers
of ``h`` gives, for ``psi_k = f phi_k'``,

    psi_0 = 1,   psi_j = sum_{m=2}^{j+1} (-1)^m / m! R(j+1-m, m),
    R(k, 1) = psi_k,   R(k, m+1) = f R(k, m)' - m f' R(k, m).

Every ``psi_k`` is a polynomial in f and its derivatives in which every term has k factors and k
primes. With ``D_j = h**j f**(j-1) f^(j)``, which is what a step of ``h f`` sees of the j-th
derivative,

    h**k psi_k = sum of c D_1**n_1 D_2**n_2 ...   with n_1 + 2 n_2 + 3 n_3 + ... = k,

with the same numbers c for every activation and loss: ``psi_1`` is ``-D_1 / 2`` and ``psi_2`` is
``-(D_1**2 + D_2) / 12``. They follow from ``theta D_j = (j - 1) D_1 D_j + D_{j+1}`` for
``theta = h f d/dz``.

For the sigmoid, ``f`` is a polynomial in ``s = sigma(-z)`` and ``q = 1 - y``, and so is every
``psi_k``. Dividing by ``f ds/dz`` and integrating over ``s`` gives, for k >= 1,

    phi_{k+1} = P_k(s; q) + R_k(q) ln|q - s|,   R_k = g_k lambda**k,

with lambda the slope of f at the target and g_k the coefficients of ``-1 / ln(1 - x)``, since the
map multiplies small errors by ``1 - h lambda``.

Everything here is computed with rational numbers, so the tables carry no rounding.

Sources: the Abel function of a map near a fixed point (J. Milnor, *Dynamics in One Complex
Variable*, sections 8 and 10); its expansion in the step is the backward error analysis of Euler's
method (Hairer, Lubich, Wanner, *Geometric Numerical Integration*, chapter IX).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from math import comb, factorial
from typing import NamedTuple

Powers = tuple[int, ...]
Polynomial = Mapping[Powers, Fraction]
"""A polynomial: the coefficient of each product of powers of its variables, without zeros.

A polynomial in (u, v) has keys ``(i, j)``; one in D_1, D_2, ... has keys of any length, without
zeros at the end.
"""

Table = tuple[tuple[float, ...], ...]
"""Row i holds the coefficients, lowest power of v first, of the polynomial that multiplies u**i."""

_ONE = Fraction(1)


@cache
def abel_densities(count: int) -> tuple[Polynomial, ...]:
    """Return ``h**k psi_k`` for k = 1 ... count as polynomials in D_1, D_2, ..., exactly."""
    ladder: dict[tuple[int, int], Polynomial] = {(0, 1): {(): _ONE}}

    def rung(k: int, m: int) -> Polynomial:
        if (k, m) not in ladder:
            below = rung(k, m - 1)
            ladder[k, m] = _sum(_theta(below), _product(below, {(1,): Fraction(1 - m)}))
        return ladder[k, m]

    for j in range(1, count + 1):
        ladder[j, 1] = _sum(
            *(
                _scaled(rung(j + 1 - m, m), Fraction((-1) ** m, factorial(m)))
                for m in range(2, j + 2)
            )
        )
    return tuple(ladder[j, 1] for j in range(1, count + 1))


def _theta(p: Polynomial) -> Polynomial:
    """Return ``h f dp/dz`` of a polynomial in D_1, D_2, ..., by the product rule."""
    parts = []
    for key, c in p.items():
        for j, power in enumerate(key, start=1):
            if power:
                lowered = (*key[: j - 1], power - 1, *key[j:])
                derivative = {_unit(j + 1): _ONE, _add(_unit(1), _unit(j)): Fraction(j - 1)}
                parts.append(_product({lowered: c * power}, derivative))
    return _sum(*parts)


def _unit(j: int) -> Powers:
    return (0,) * (j - 1) + (1,)


class AbelTerm(NamedTuple):
    """One term ``polynomial + logarithm * ln|q - s|`` of the series, polynomials in (s, q)."""

    polynomial: Polynomial
    logarithm: Polynomial


class AbelTables(NamedTuple):
    """The terms k = 1, 2, ... of the series as float64 coefficients.

    ``far`` holds ``P_k`` in powers of s and q. ``near`` holds ``P_k`` in powers of a = 1 - s and
    y = 1 - q, without the part that does not depend on a: it keeps its digits where a is small and
    h large. ``logarithm`` holds the ``g_k`` of ``R_k = g_k lambda**k``, lambda = f' at the target.
    """

    far: tuple[Table, ...]
    near: tuple[Table, ...]
    logarithm: tuple[float, ...]


class SigmoidGradient(NamedTuple):
    """A gradient ``dC/dz = (q - s) (s (1 - s))**power`` as a polynomial in (s, q)."""

    polynomial: Polynomial
    power: int


SIGMOID_GRADIENTS: Mapping[str, SigmoidGradient] = {
    "quadratic": SigmoidGradient(
        {(1, 1): _ONE, (2, 1): -_ONE, (2, 0): -_ONE, (3, 0): _ONE}, power=1
    ),
    "cross_entropy": SigmoidGradient({(0, 1): _ONE, (1, 0): -_ONE}, power=0),
}


@cache
def sigmoid_terms(loss: str, count: int) -> tuple[AbelTerm, ...]:
    """Return the terms k = 1 ... count of the Abel series of a sigmoid, exactly.

    Args:
        loss: a key of ``SIGMOID_GRADIENTS``.
        count: the number of terms; term k comes with ``h**k``.
    """
    f, power = SIGMOID_GRADIENTS[loss]
    # D_j without h**j: f**(j-1) times the j-th derivative of f.
    steps: list[Polynomial] = []
    derivative: Polynomial = f
    factor: Polynomial = {(0, 0): _ONE}
    for _ in range(count + 1):
        derivative = _derivative(derivative)
        steps.append(_product(factor, derivative))
        factor = _product(factor, f)
    densities = abel_densities(count + 1)[1:]
    return tuple(_integrated(_substituted(density, steps), power) for density in densities)


@cache
def sigmoid_tables(loss: str, count: int, zero_target: bool = False) -> AbelTables:
    """Return the same terms as float64 coefficients, in both bases.

    With ``zero_target`` the tables are those of y = 0, in s or a alone: there the coefficients
    below ``s**k`` of the quadratic loss cancel, which float64 would not see.
    """
    terms = sigmoid_terms(loss, count)
    polynomials = [_at_one(t.polynomial) if zero_target else t.polynomial for t in terms]
    return AbelTables(
        far=tuple(map(_table, polynomials)),
        near=tuple(_table(_mirrored(p)) for p in polynomials),
        # The coefficient of the lowest power of q.
        logarithm=tuple(float(t.logarithm[min(t.logarithm)]) for t in terms),
    )


def _substituted(p: Polynomial, values: list[Polynomial]) -> Polynomial:
    """Return a polynomial with other polynomials in place of its variables."""
    total: Polynomial = {}
    for powers, c in p.items():
        term: Polynomial = {(0, 0): c}
        for value, power in zip(values, powers, strict=False):
            for _ in range(power):
                term = _product(term, value)
        total = _sum(total, term)
    return total


def _integrated(psi: Polynomial, power: int) -> AbelTerm:
    """Return the integral over s of ``psi / (f ds/dz)``, where ``ds/dz = -s (1 - s)``."""
    for _ in range(power + 1):
        psi = _over_one_minus_s(_over_s(psi))
    quotient, remainder = _over_q_minus_s(psi)
    # The integrand is -(quotient + remainder / (q - s)).
    return AbelTerm({(i + 1, j): -c / (i + 1) for (i, j), c in quotient.items()}, remainder)


def _derivative(p: Polynomial) -> Polynomial:
    """Return dp/dz of a polynomial in (s, q), by ds/dz = -s (1 - s)."""
    return _collected(
        term for (i, j), c in p.items() for term in (((i, j), -i * c), ((i + 1, j), i * c))
    )


def _over_s(p: Polynomial) -> Polynomial:
    if any(i == 0 for i, _ in p):
        raise ArithmeticError("the polynomial is not divisible by s")
    return {(i - 1, j): c for (i, j), c in p.items()}


def _over_one_minus_s(p: Polynomial) -> Polynomial:
    quotient: dict[Powers, Fraction] = {}
    carry: Polynomial = {}
    for i in range(_degree(p, 0) + 1):
        carry = _sum(carry, _row(p, i))
        quotient |= {(i, j): c for (_, j), c in carry.items()}
    if carry:
        raise ArithmeticError("the polynomial is not divisible by 1 - s")
    return quotient


def _over_q_minus_s(p: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Return quotient and remainder; the remainder is ``p`` at s = q."""
    quotient: dict[Powers, Fraction] = {}
    carry: Polynomial = {}
    for i in range(_degree(p, 0), 0, -1):
        carry = _sum(_row(p, i), {(0, j + 1): c for (_, j), c in carry.items()})
        quotient |= {(i - 1, j): -c for (_, j), c in carry.items()}
    return quotient, _sum(_row(p, 0), {(0, j + 1): c for (_, j), c in carry.items()})


def _mirrored(p: Polynomial) -> Polynomial:
    """Return the polynomial in the variables (1 - u, 1 - v), without the terms in v alone."""
    return _collected(
        ((k, m), c * comb(i, k) * comb(j, m) * (-1) ** (k + m))
        for (i, j), c in p.items()
        for k in range(1, i + 1)
        for m in range(j + 1)
    )


def _at_one(p: Polynomial) -> Polynomial:
    """Return the polynomial in u that is left where v = 1."""
    return _collected(((i, 0), c) for (i, _), c in p.items())


def _row(p: Polynomial, i: int) -> Polynomial:
    return {(0, j): c for (k, j), c in p.items() if k == i}


def _degree(p: Polynomial, variable: int) -> int:
    return max((key[variable] for key in p), default=0)


def _table(p: Polynomial) -> Table:
    return tuple(
        tuple(float(p.get((i, j), 0)) for j in range(_degree(p, 1) + 1))
        for i in range(_degree(p, 0) + 1)
    )


def _product(p: Polynomial, r: Polynomial) -> Polynomial:
    return _collected((_add(k, m), c * d) for k, c in p.items() for m, d in r.items())


def _sum(*polynomials: Polynomial) -> Polynomial:
    return _collected(term for p in polynomials for term in p.items())


def _scaled(p: Polynomial, factor: Fraction) -> Polynomial:
    return {key: c * factor for key, c in p.items()}


def _collected(terms: Iterable[tuple[Powers, Fraction]]) -> Polynomial:
    """Return the sum of terms without zero coefficients."""
    total: defaultdict[Powers, Fraction] = defaultdict(Fraction)
    for key, c in terms:
        total[key] += c
    return {key: c for key, c in total.items() if c}


def _add(k: Powers, m: Powers) -> Powers:
    longer, shorter = (k, m) if len(k) >= len(m) else (m, k)
    return (*(a + b for a, b in zip(longer, shorter, strict=False)), *longer[len(shorter) :])
