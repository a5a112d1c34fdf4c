"""The Abel series of one neuron, in exact arithmetic.

Gradient descent ``z <- z - h f(z)`` has an Abel function ``Phi`` (its Fatou coordinate) with
``Phi(z - h f(z)) = Phi(z) - 1``. It is the asymptotic series ``Phi = sum_k h**(k-1) phi_k`` with
``phi_0' = 1/f`` (the gradient flow) and ``phi_1 = -ln|f| / 2``. Expanding the equation in powers
of ``h`` gives, for ``psi_k = f phi_k'``,

    psi_0 = 1,   psi_j = sum_{m=2}^{j+1} (-1)^m / m! R(j+1-m, m),
    R(k, 1) = psi_k,   R(k, m+1) = f R(k, m)' - m f' R(k, m),

so that every ``psi_k`` is a polynomial in ``f`` and its derivatives. For the sigmoid, ``f`` is a
polynomial in ``s = sigma(-z)`` and ``q = 1 - y``, and so is every ``psi_k``; dividing by
``f ds/dz`` and integrating over ``s`` gives, for k >= 1,

    phi_{k+1} = P_k(s; q) + R_k(q) ln|q - s|,   R_k = g_k lambda**k,

with lambda the slope of f at the target and g_k the coefficients of ``-1 / ln(1 - x)``, since the
map multiplies small errors by ``1 - h lambda``.

Everything here is done with rational numbers, so the tables carry no rounding.

Sources: the Abel function of a map near a fixed point (J. Milnor, *Dynamics in One Complex
Variable*, sections 8 and 10); its expansion in the step is the backward error analysis of Euler's
method (Hairer, Lubich, Wanner, *Geometric Numerical Integration*, chapter IX).
"""

from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from math import comb, factorial
from typing import NamedTuple

Polynomial = Mapping[tuple[int, int], Fraction]
"""A polynomial in two variables: the coefficient of ``u**i v**j`` under the key ``(i, j)``."""

Table = tuple[tuple[float, ...], ...]
"""Row i holds the coefficients, lowest power of v first, of the polynomial that multiplies u**i."""


class AbelTerm(NamedTuple):
    """One term ``polynomial + logarithm * ln|q - s|`` of the series, polynomials in (s, q)."""

    polynomial: Polynomial
    logarithm: Polynomial


class AbelTables(NamedTuple):
    """The terms k = 1, 2, ... of the series as float64 coefficients.

    ``far`` holds ``P_k`` in powers of s and q. ``near`` holds ``P_k`` in powers of a = 1 - s and
    y = 1 - q, without what does not depend on a: it keeps its digits where a is small and h large.
    ``logarithm`` holds the ``g_k`` of ``R_k = g_k lambda**k``, lambda = f' at the target.
    """

    far: tuple[Table, ...]
    near: tuple[Table, ...]
    logarithm: tuple[float, ...]


class Speed(NamedTuple):
    """A gradient ``dC/dz = (q - s) (s (1 - s))**power`` as a polynomial in (s, q)."""

    polynomial: Polynomial
    power: int


_ONE = Fraction(1)
SPEEDS: Mapping[str, Speed] = {
    "quadratic": Speed({(1, 1): _ONE, (2, 1): -_ONE, (2, 0): -_ONE, (3, 0): _ONE}, power=1),
    "cross_entropy": Speed({(0, 1): _ONE, (1, 0): -_ONE}, power=0),
}


@cache
def abel_terms(loss: str, count: int) -> tuple[AbelTerm, ...]:
    """Returns the terms k = 1 ... count of the Abel series of a loss, exactly.

    Args:
      loss: a key of ``SPEEDS``.
      count: how many terms; term k comes with ``h**k``.
    """
    speed = SPEEDS[loss]
    return tuple(_integrated(psi, speed.power) for psi in _numerators(speed, count + 1)[2:])


@cache
def abel_tables(loss: str, count: int, zero_target: bool = False) -> AbelTables:
    """Returns the same terms as float64 coefficients, in both bases.

    With ``zero_target`` the tables are those of y = 0, in s or a alone: there the coefficients
    below ``s**k`` of the quadratic loss cancel, which float64 would not see.
    """
    terms = abel_terms(loss, count)
    if zero_target:
        terms = tuple(AbelTerm(_at_one(t.polynomial), _at_one(t.logarithm)) for t in terms)
    return AbelTables(
        far=tuple(_table(term.polynomial) for term in terms),
        near=tuple(_table(_without_constant(_mirrored(term.polynomial))) for term in terms),
        logarithm=tuple(_leading(term.logarithm) for term in abel_terms(loss, count)),
    )


def _numerators(speed: Speed, order: int) -> list[Polynomial]:
    """Returns psi_0 ... psi_order of the recursion in the module's docstring."""
    f = speed.polynomial
    slope = _derivative(f)
    ladder: dict[tuple[int, int], Polynomial] = {(0, 1): {(0, 0): _ONE}}

    def rung(k: int, m: int) -> Polynomial:
        if (k, m) not in ladder:
            below = rung(k, m - 1)
            ladder[k, m] = _sum(
                _product(f, _derivative(below)), _scaled(_product(slope, below), Fraction(1 - m))
            )
        return ladder[k, m]

    for j in range(1, order + 1):
        ladder[j, 1] = _sum(
            *(
                _scaled(rung(j + 1 - m, m), Fraction((-1) ** m, factorial(m)))
                for m in range(2, j + 2)
            )
        )
    return [ladder[j, 1] for j in range(order + 1)]


def _integrated(psi: Polynomial, power: int) -> AbelTerm:
    """Returns the integral over s of ``psi / (f ds/dz)``, where ``ds/dz = -s (1 - s)``."""
    for _ in range(power + 1):
        psi = _over_s(_over_one_minus_s(psi))
    quotient, remainder = _over_q_minus_s(psi)
    # The integrand is -(quotient + remainder / (q - s)).
    return AbelTerm({(i + 1, j): -c / (i + 1) for (i, j), c in quotient.items()}, remainder)


def _derivative(p: Polynomial) -> Polynomial:
    """Returns dp/dz, by ds/dz = -s (1 - s)."""
    out: defaultdict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for (i, j), c in p.items():
        out[i, j] -= i * c
        out[i + 1, j] += i * c
    return _nonzero(out)


def _product(p: Polynomial, r: Polynomial) -> Polynomial:
    out: defaultdict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for (i, j), c in p.items():
        for (k, m), d in r.items():
            out[i + k, j + m] += c * d
    return _nonzero(out)


def _sum(*polynomials: Polynomial) -> Polynomial:
    out: defaultdict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for p in polynomials:
        for key, c in p.items():
            out[key] += c
    return _nonzero(out)


def _scaled(p: Polynomial, factor: Fraction) -> Polynomial:
    return {key: c * factor for key, c in p.items()}


def _nonzero(p: Polynomial) -> Polynomial:
    return {key: c for key, c in p.items() if c}


def _over_s(p: Polynomial) -> Polynomial:
    if any(i == 0 for i, _ in p):
        raise ArithmeticError("the polynomial is not divisible by s")
    return {(i - 1, j): c for (i, j), c in p.items()}


def _over_one_minus_s(p: Polynomial) -> Polynomial:
    out: dict[tuple[int, int], Fraction] = {}
    carry: Polynomial = {}
    for i in range(_degree(p) + 1):
        carry = _sum(carry, _row(p, i))
        out |= {(i, j): c for (_, j), c in carry.items()}
    if carry:
        raise ArithmeticError("the polynomial is not divisible by 1 - s")
    return out


def _over_q_minus_s(p: Polynomial) -> tuple[Polynomial, Polynomial]:
    """Returns quotient and remainder; the remainder is ``p`` at s = q."""
    out: dict[tuple[int, int], Fraction] = {}
    carry: Polynomial = {}
    for i in range(_degree(p), 0, -1):
        carry = _sum(_row(p, i), {(0, j + 1): c for (_, j), c in carry.items()})
        out |= {(i - 1, j): -c for (_, j), c in carry.items()}
    return out, _sum(_row(p, 0), {(0, j + 1): c for (_, j), c in carry.items()})


def _mirrored(p: Polynomial) -> Polynomial:
    """Returns the same polynomial in the variables (1 - u, 1 - v)."""
    out: defaultdict[tuple[int, int], Fraction] = defaultdict(Fraction)
    for (i, j), c in p.items():
        for k in range(i + 1):
            for m in range(j + 1):
                out[k, m] += c * comb(i, k) * comb(j, m) * (-1) ** (k + m)
    return _nonzero(out)


def _without_constant(p: Polynomial) -> Polynomial:
    return {(i, j): c for (i, j), c in p.items() if i}


def _at_one(p: Polynomial) -> Polynomial:
    """Returns the polynomial in u that is left where v = 1."""
    return _sum(*({(i, 0): c} for (i, _), c in p.items()))


def _leading(p: Polynomial) -> float:
    """Returns the coefficient of the lowest power of v."""
    return float(p[min(p)])


def _row(p: Polynomial, i: int) -> Polynomial:
    return {(0, j): c for (k, j), c in p.items() if k == i}


def _degree(p: Polynomial, variable: int = 0) -> int:
    return max((key[variable] for key in p), default=0)


def _table(p: Polynomial) -> Table:
    return tuple(
        tuple(float(p.get((i, j), 0)) for j in range(_degree(p, 1) + 1))
        for i in range(_degree(p) + 1)
    )
