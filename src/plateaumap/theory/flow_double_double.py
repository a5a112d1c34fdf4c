"""Flow times of a sigmoid in double-double, for lengths that float64 cannot hold to the epoch.

The same partial fractions as in ``sigmoid.py``, vectorised in NumPy. A segment ends where the loss
excess has dropped or, for a leap, where ``sigma(-z)`` has a given float64 value.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plateaumap.numerics import double_double as dd
from plateaumap.numerics.double_double import Array, DoubleDouble
from plateaumap.theory.canonical import CanonicalNeurons
from plateaumap.theory.flow import decimal_drop

ROUNDING = 8.0 * dd.RELATIVE_ERROR
"""Bound on the error of a time, relative to ``ExactTime.size``."""


class ExactStart(NamedTuple):
    """Starts of paths: pre-activations, targets and their complements, each of shape (n,)."""

    z: DoubleDouble
    y: DoubleDouble
    q: DoubleDouble

    @classmethod
    def of(cls, neurons: CanonicalNeurons) -> "ExactStart":
        """Return the starts of some neurons."""
        n = neurons
        pairs = (n.z, n.z_low), (n.y, n.y_low), (n.q, n.q_low)
        return cls(*(DoubleDouble(*pair) for pair in pairs))


class ExactDrop(NamedTuple):
    """A drop, exactly, and the constants of ``flow.Drop`` in double-double, scalars."""

    decimal: Fraction
    fraction: DoubleDouble
    keep: DoubleDouble
    error_keep: DoubleDouble
    error_loss: DoubleDouble

    @classmethod
    def of(cls, drop: float) -> "ExactDrop":
        """Return the constants of a drop, read as the decimal that it is written as."""
        values = decimal_drop(drop)
        return cls(Fraction(values[0]), *map(dd.constant, values))


class ExactEnd(NamedTuple):
    """Ends of segments: by a leap at ``s``, or at the level, whose z is ``guess`` to float64."""

    by_leap: NDArray[np.bool_]
    s: Array
    guess: Array


class ExactTime(NamedTuple):
    """Flow times, and the sums of the sizes of the terms that they were added up from."""

    time: DoubleDouble
    size: Array


def _quadratic_time(start: ExactStart, end: ExactEnd, drop: ExactDrop, zero: bool) -> ExactTime:
    y, q = start.y, start.q
    keep, loss, by_leap, s = drop.error_keep, drop.error_loss, end.by_leap, dd.double(end.s)
    a0, s0, _ = _outputs(start.z)
    e0 = a0 if zero else q * a0 - y * s0
    s1 = s.where(by_leap, s0 * keep + q * loss)
    a1 = (_ONE - s).where(by_leap, a0 * keep + y * loss)
    e1 = (q - s).where(by_leap, e0 * keep)
    width = (s - s0).where(by_leap, e0 * loss)
    lower = width / (a0 * a1)
    growth = width / (s0 * s1) / q
    crossing = dd.log((e0 * s1) / (e1 * s0))
    crossing = (crossing + (q + q) * crossing) / (q * q)
    decay_limit = lower * ((a0.reciprocal() + a1.reciprocal()).halved() + _TWO)
    if zero:
        return _total(growth, crossing, decay_limit)
    log_ratio = dd.log1p(y / e1 * (width / a0))
    first = (log_ratio / y - lower) / y
    # Below 1e-30 the closed form is all cancellation, and its limit is exact to every digit.
    tiny = y.hi < 1e-30 * a1.hi
    decay = decay_limit.where(tiny, first + (log_ratio + log_ratio) / y)
    total = _total(growth, crossing, decay)
    return ExactTime(total.time, total.size + np.where(tiny, 0.0, 2.0 * lower.hi / y.hi))


def _cross_entropy_time(start: ExactStart, end: ExactEnd, drop: ExactDrop, zero: bool) -> ExactTime:
    return (_to_zero if zero else _to_inner)(start, end, drop)


def _to_zero(start: ExactStart, end: ExactEnd, drop: ExactDrop) -> ExactTime:
    """Cross-entropy with y = 0: ``int dz/f = z - exp(-z)``, and the loss is ``-ln s``."""
    a0, _, loss = _outputs(start.z)
    kept = loss * drop.keep
    a1 = -dd.expm1(DoubleDouble(np.maximum(-kept.hi, -_LARGEST), -kept.lo))
    decrease = loss * drop.fraction
    if end.by_leap.any():
        s = dd.double(end.s)
        a1 = (_ONE - s).where(end.by_leap, a1)
        decrease = (loss + dd.log(s)).where(end.by_leap, decrease)
    lower = (a0 - a1) / (a0 * a1)
    return _total(lower, decrease, dd.log(a0 / a1))


def _to_inner(start: ExactStart, end: ExactEnd, drop: ExactDrop) -> ExactTime:
    """Cross-entropy with 0 < y < 1, in ``u = z - logit(y)``."""
    y, q = start.y, start.q
    centre = dd.log(y) - dd.log(q)
    u0 = start.z - centre
    u1 = _level(u0, dd.double(end.guess) - centre, start, drop)
    if end.by_leap.any():
        s = dd.double(end.s)
        u1 = dd.log(((_ONE - s) * q) / (s * y)).where(end.by_leap, u1)
    decrease = u0 - u1
    # (1 - exp(-u0)) / (1 - exp(-u1)), less one, without cancellation.
    decay = _decaying(u1)
    log_ratio = dd.log1p(dd.exp(decay) * dd.expm1(_decaying(decrease)) / dd.expm1(decay))
    total = _total(log_ratio / y, decrease / q, log_ratio / q)
    # Both ends carry the error of logit(y), and the level that of its equation.
    ends = (3.0 + np.abs(start.z.hi) + u0.hi) / _error(u1.hi, start)
    return ExactTime(total.time, total.size + ends)


def _level(
    u0: DoubleDouble, guess: DoubleDouble, start: ExactStart, drop: ExactDrop
) -> DoubleDouble:
    """Return the root of ``KL(u) = keep KL(u0)`` by Newton's method from a float64 guess.

    The residual is computed in double-double.
    """
    target = _divergence(u0, start) * drop.keep
    u = guess
    for _ in range(2):
        residual = _divergence(u, start) - target
        u = u - dd.double(residual.hi / _error(u.hi, start))
    return u


def _divergence(u: DoubleDouble, start: ExactStart) -> DoubleDouble:
    """Return KL at u > 0, relative to ``u * (a - y)`` to the last digits, for the smallest y."""
    y, q = start.y, start.q
    above = dd.log1p(q * dd.expm1(_decaying(u))) + q * u
    closer = (y.hi < 0.5) & (u.hi < _LARGEST)
    if not closer.any():
        return above
    inside = u.where(closer, dd.double(np.ones_like(u.hi)))
    return (dd.log1p(y * dd.expm1(inside)) - y * u).where(closer, above)


def _error(u: Array, start: ExactStart) -> Array:
    """Return ``a - y`` to float64."""
    y, q = start.y.hi, start.q.hi
    return np.asarray(-q * y * np.expm1(-u) / (y + q * np.exp(-u)))


def _outputs(z: DoubleDouble) -> tuple[DoubleDouble, DoubleDouble, DoubleDouble]:
    """Return ``a = sigma(z)``, ``s = sigma(-z)`` and ``-ln s``."""
    above = z.hi > 0
    decay = _decaying((-z).where(~above, z))
    tail = dd.exp(decay)
    whole = dd.double(np.ones_like(z.hi))
    sum_ = whole + tail
    log = dd.log1p(tail)
    a, s = whole.where(above, tail) / sum_, tail.where(above, whole) / sum_
    return a, s, (z + log).where(above, log)


def _decaying(u: DoubleDouble) -> DoubleDouble:
    """Return -u, no lower than where its exponential is still a normal pair."""
    inside = u.hi < _LARGEST
    return DoubleDouble(np.where(inside, -u.hi, -_LARGEST), np.where(inside, -u.lo, 0.0))


def _total(*terms: DoubleDouble) -> ExactTime:
    time = terms[0]
    for term in terms[1:]:
        time = time + term
    size: Array = sum((np.abs(term.hi) for term in terms), np.zeros_like(time.hi))
    return ExactTime(time, size)


_LARGEST = 650.0
_ONE = dd.constant(Fraction(1))
_TWO = dd.constant(Fraction(2))

EXACT_TIMES: Mapping[str, Callable[[ExactStart, ExactEnd, ExactDrop, bool], ExactTime]] = {
    "quadratic": _quadratic_time,
    "cross_entropy": _cross_entropy_time,
}
"""Flow times by loss; the last argument says that every target is 0."""


def saturated_length(z: Fraction, h: Fraction, drop: Fraction) -> int | None:
    """Return the length of the cross-entropy from deep saturation to y = 0, by exact fractions.

    There the gradient is next to 1 all the way. It is never quite 1, and the loss
    ``z + ln(1 + exp(-z))`` never quite z, so that the length before rounding up is above
    ``drop z / h``, by less than ``exp(-z_end) (2 + 2 / h)``. Where ``drop z / h`` is an integer
    the length is one more, which no arithmetic of a fixed number of digits can decide.

    Args:
        z: the pre-activation.
        h: the step.
        drop: the share of the loss excess that has to go.

    Returns:
        The length, or None where the start is not saturated enough.
    """
    least = drop * z / h
    epochs = math.floor(least) + 1
    more = math.exp(-float((1 - drop) * z)) * (2.0 + 2.0 / float(h)) if z > 0 else math.inf
    return epochs if epochs - least > more else None
