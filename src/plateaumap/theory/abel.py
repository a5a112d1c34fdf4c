"""Epochs between two pre-activations, by the Abel function of gradient descent.

``Phi(z - h f(z)) = Phi(z) - 1``, so that a descent from z0 first lies at or below z1 after
``ceil(Phi(z0) - Phi(z1))`` epochs. The difference is summed from the flow time over h, the
logarithm and the first terms of the series (``series.py``), together with bounds on its rounding
and on what the series leaves out. Scalar JAX functions, like those of ``flow.py``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from plateaumap.theory.flow import DYNAMICS, Condition, Leg, Point, Scalar, Target
from plateaumap.theory.law import Estimate
from plateaumap.theory.series import SPEEDS, Table, abel_tables

_UNIT = 2.0**-53

_FLOW_ROUNDINGS = 16.0
"""Roundings in a flow time, relative to the sizes of its terms: exp alone has up to three."""


_ZERO_TARGET_ROUNDINGS = 4096.0
_ENDLESS = 1e300
"""Longer lengths count as this one, short of inf, which has no error bound."""


class Order(NamedTuple):
    """How far the series is taken, and the constants of what it leaves out.

    On a leg where ``x = h |f'|`` is at most ``slope`` and the ratio of terms ``r = h * stride`` at
    most ``ratio``, the terms left out add up to at most ``margin x r**terms (1 + ln(e0 / e1))``.
    ``benchmarks/abel_bounds.py`` measures how much of that is used: on 8,000 random legs of up to
    60 steps for each loss, h from 0.01 to 10**4, at most 0.21 of it with y = 0, at most 0.19 of
    it with 0 < y < 1.
    """

    terms: int
    margin: float
    slope: float
    ratio: float


ZERO_TARGET = Order(terms=5, margin=0.2, slope=0.3, ratio=0.3)
INNER_TARGET = Order(terms=3, margin=1.0, slope=0.2, ratio=0.25)


def order_of(target: Target) -> Order:
    """Returns how far the series is taken for a target."""
    return ZERO_TARGET if target.is_zero else INNER_TARGET


def with_flow(
    loss: str, leg: Leg, target: Target, h: Scalar, h_low: Scalar, correction: Estimate
) -> Estimate:
    """Returns a length: the flow time over h, and what ``abel_correction`` adds to it."""
    duration = DYNAMICS[loss].duration(leg, target)
    inverse = (1.0 - h_low / h) / h
    size = jnp.minimum(duration.size * inverse, _ENDLESS)
    if not target.is_zero:
        size = size * _cancellation(leg.start, target)
    return Estimate(
        jnp.minimum(duration.time * inverse, _ENDLESS) + correction.epochs,
        _FLOW_ROUNDINGS * _UNIT * size + correction.rounding,
        correction.truncation,
    )


def abel_correction(
    loss: str,
    leg: Leg,
    target: Target,
    h: Scalar,
    slope: Scalar | None = None,
    saturated: bool = False,
) -> Estimate:
    """Returns the part of a length beyond the flow time over h.

    Args:
      loss: a key of ``DYNAMICS``.
      leg: from the start to the end.
      target: its target.
      h: the step ``lr (1 + x**2)``.
      slope: the largest ``h |f'|`` to allow; that of the target's ``Order`` by default.
      saturated: whether the leg is known to lie where s is small.
    """
    dynamics, order = DYNAMICS[loss], order_of(target)
    logarithm = -0.5 * dynamics.log_speed(leg)
    near = False if saturated else leg.start.a < 0.5
    series, roundings = _series_difference(loss, leg, target, h, order.terms, near)
    x, r = h * dynamics.stiffness(leg), h * dynamics.stride(leg)
    left_out = order.margin * x * r**order.terms * (1.0 + leg.log_e)
    allowed = (x <= (order.slope if slope is None else slope)) & (r <= order.ratio)
    return Estimate(
        logarithm + series,
        _UNIT * (8.0 * jnp.abs(logarithm) + roundings),
        jnp.where(allowed, left_out, jnp.inf),
    )


def _cancellation(start: Point, target: Target) -> Scalar:
    """Returns how much the error of ``e = a - y`` exceeds that of a and y, relatively."""
    return 1.0 + (2.0 + target.y * jnp.abs(start.z)) * start.s / start.e


def _series_difference(
    loss: str, leg: Leg, target: Target, h: Scalar, terms: int, near: Condition
) -> tuple[Scalar, Scalar]:
    """Returns the difference of ``sum_k h**k (P_k + R_k ln|e|)`` over a leg, and its roundings."""
    tables = abel_tables(loss, terms, target.is_zero)
    rate = h * (target.y * target.q) ** (1 + SPEEDS[loss].power)
    total: Scalar = 0.0
    size: Scalar = 0.0
    for k in reversed(range(terms)):
        term = _evaluate(tables.far[k], leg.start.s, leg.end.s, target.q)
        norm: Scalar = _norm(tables.far[k])
        if near is not False:
            nearby = _evaluate(tables.near[k], leg.start.a, leg.end.a, target.y)
            term = jnp.where(near, nearby, term)
            norm = jnp.where(near, _norm(tables.near[k]), norm)
        total, size = h * (total + term), h * (size + norm)
    largest = jnp.where(near, leg.start.a, leg.end.s)
    if target.is_zero:
        # The coefficients of h**k start at s**k or a**k, so that no term is above its norm.
        return total, _ZERO_TARGET_ROUNDINGS * jnp.minimum(h * largest, 1.0)
    logarithm = rate * _polynomial(tables.logarithm, rate) * leg.log_e
    return total + logarithm, size * largest + jnp.abs(logarithm)


def _evaluate(table: Table, start: Scalar, end: Scalar, v: Scalar) -> Scalar:
    rows = [_polynomial(row, v) for row in table]
    return _polynomial(rows, start) - _polynomial(rows, end)


def _polynomial(coefficients: Sequence[Scalar], v: Scalar) -> Scalar:
    total: Scalar = 0.0
    for c in reversed(coefficients):
        total = total * v + c
    return total


def _norm(table: Table) -> float:
    return sum(abs(c) for row in table for c in row)
