"""The Abel series of any smooth map, as polynomials in the derivatives of its speed.

The recursion of ``series.py`` gives ``psi_k`` as a polynomial in f and its derivatives in which
every term has k factors and k primes. With ``D_j = h**j f**(j-1) f^(j)``, what a step of
``h f`` sees of the j-th derivative,

    h**k psi_k = sum of c D_1**n_1 D_2**n_2 ...   with n_1 + 2 n_2 + 3 n_3 + ... = k,

the same numbers c for every activation and loss: ``psi_1`` is ``-D_1 / 2`` and ``psi_2`` is
``-(D_1**2 + D_2) / 12``. They follow from ``theta D_j = (j - 1) D_1 D_j + D_{j+1}`` for
``theta = h f d/dz``.
"""

from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from math import factorial

Monomial = tuple[int, ...]
"""The powers of D_1, D_2, ... in turn, without zeros at the end."""

Terms = Mapping[Monomial, Fraction]


@cache
def abel_densities(count: int) -> tuple[Terms, ...]:
    """Returns ``h**k psi_k`` for k = 1 ... count, exactly."""
    ladder: dict[tuple[int, int], Terms] = {(0, 1): {(): Fraction(1)}}

    def rung(k: int, m: int) -> Terms:
        if (k, m) not in ladder:
            below = rung(k, m - 1)
            ladder[k, m] = _sum(_flowed(below), _times(below, 1, Fraction(1 - m)))
        return ladder[k, m]

    for j in range(1, count + 1):
        ladder[j, 1] = _sum(
            *(
                {
                    key: c * Fraction((-1) ** m, factorial(m))
                    for key, c in rung(j + 1 - m, m).items()
                }
                for m in range(2, j + 2)
            )
        )
    return tuple(ladder[j, 1] for j in range(1, count + 1))


def _flowed(terms: Terms) -> Terms:
    """Returns theta of a polynomial, by the product rule."""
    out = []
    for key, c in terms.items():
        for place, power in enumerate(key):
            if power:
                j = place + 1
                lowered = _times({key: c * power}, j, Fraction(1), -1)
                out += [_times(lowered, j + 1, Fraction(1))]
                out += [_times({key: c * power}, 1, Fraction(j - 1))]
    return _sum(*out)


def _times(terms: Terms, j: int, factor: Fraction, powers: int = 1) -> Terms:
    """Returns a polynomial times ``factor D_j**powers``."""
    out = {}
    for key, c in terms.items():
        longer = [*key, *[0] * (j - len(key))]
        longer[j - 1] += powers
        while longer and not longer[-1]:
            longer.pop()
        out[tuple(longer)] = c * factor
    return out


def _sum(*polynomials: Terms) -> Terms:
    out: defaultdict[Monomial, Fraction] = defaultdict(Fraction)
    for terms in polynomials:
        for key, c in terms.items():
            out[key] += c
    return {key: c for key, c in out.items() if c}
