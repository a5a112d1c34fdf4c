"""The dynamics of a sigmoid neuron: closed forms, accurate to the last digits.

With ``t = y / a`` the flow times are

    quadratic:      int dz/f = [ln(1 - t) + t] / y**2 + 2 ln(1 - t) / y
                               + 1 / (q s) + (1 + 2 q) ln(e / s) / q**2
    cross-entropy:  int dz/f = ln(1 - t) / y + ln(e / s) / q

which are the partial fractions of 1/f, arranged so that ``y -> 0`` is no special case: there they
become ``e^z + 3 z - 3 e^-z - e^-2z / 2`` and ``z - e^-z``. Their differences are formed term by
term, without cancellation.

Tanh is included: ``tanh z = 2 sigma(2 z) - 1``, so that gradient descent of a tanh neuron is that
of a sigmoid with the target ``(1 + y) / 2``, from ``2 z``, with a step 16 times as long for the
quadratic loss and 4 times as long for the matching loss.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from plateaumap.numerics.elementary import log1p
from plateaumap.theory import flow
from plateaumap.theory.abel_series import SIGMOID_GRADIENTS, Table, sigmoid_tables
from plateaumap.theory.canonical import UNSCALED, NeuronGroup, SigmoidScale, canonical
from plateaumap.theory.dynamics import Dynamics, Estimate, FlowLimits, Leap, Neuron
from plateaumap.theory.flow import (
    SMALL,
    Condition,
    Drop,
    Scalar,
    SigmoidPoint,
    SigmoidSegment,
    Target,
    error_share,
    largest_spread,
)

RATIO = 0.1
"""Ratio of terms above which the series is not trusted to far below an epoch."""

_UNIT = 2.0**-53
_LARGE = 300.0
_THIRD_DERIVATIVE = 0.15
"""Bound on ``|f''|``, of either loss and every target."""

_FLOW_ROUNDINGS = 16.0
"""Roundings in a flow time, relative to the sizes of its terms: exp alone has up to three."""

_ZERO_TARGET_ROUNDINGS = 4096.0
_ENDLESS = 1e300
"""Longer lengths count as this one, short of inf, which has no error bound."""


class FlowTime(NamedTuple):
    """A flow time, and the sum of the sizes of the terms that it was added up from."""

    time: Scalar
    size: Scalar


class Order(NamedTuple):
    """The number of terms of the series, and the constants of the bound on the omitted terms.

    On a segment where ``x = h |f'|`` is at most ``gate`` and the ratio of terms ``r = h * stride``
    at most ``ratio``, the omitted terms add up to at most
    ``margin x r**terms (1 + ln(e0 / e1))``. ``benchmarks/abel_bounds.py`` measures how much of
    that bound is used: on 8,000 random segments of up to 60 steps for each loss, h from 0.01 to
    10**4, at most 0.21 of it with y = 0, at most 0.19 of it with 0 < y < 1.
    """

    terms: int
    margin: float
    gate: float
    ratio: float


ZERO_TARGET = Order(terms=5, margin=0.2, gate=0.3, ratio=0.3)
INNER_TARGET = Order(terms=3, margin=1.0, gate=0.2, ratio=0.25)


@dataclass(frozen=True)
class SigmoidDynamics(Dynamics):
    """The dynamics of ``sigma(scale z)`` with outputs from 0 to 1 or, for tanh, from -1 to 1.

    Attributes:
        scale: how z and h relate to those of a sigmoid, and where the outputs begin.
    """

    scale: SigmoidScale = UNSCALED

    leap_gate: ClassVar[dict[bool, float]] = {True: 0.1, False: 0.02}
    width: ClassVar[int] = 1 << 30
    step_budget: ClassVar[int] = 4000

    @property
    def compiled_as(self) -> "SigmoidDynamics":
        return type(self)()

    def canonical(
        self, count: int, columns: Mapping[str, NDArray[np.float64]]
    ) -> tuple[NDArray[np.uint8], list[NeuronGroup]]:
        return canonical(count, columns, self.scale)

    def point(self, z: Scalar, target: Target, z_low: Scalar = 0.0) -> SigmoidPoint:
        return flow.make_point(z, target, z_low)

    def segment(self, start: SigmoidPoint, end: SigmoidPoint, target: Target) -> SigmoidSegment:
        return flow.make_segment(start, end, target)

    def complement(self, point: SigmoidPoint) -> Scalar:
        return point.s

    def third_derivative(self, point: SigmoidPoint) -> Scalar:
        return _THIRD_DERIVATIVE

    def gradient_rounding(self, point: SigmoidPoint, target: Target) -> Scalar:
        p = point
        sides = p.e if target.is_zero else target.q * p.a + target.y * p.s * (1.0 + jnp.abs(p.z))
        return 12.0 * jnp.abs(self.gradient(p) / p.e) * sides

    def level_error(self, whole: SigmoidSegment, target: Target) -> Scalar:
        return 8.0 * _UNIT * (1.0 + jnp.abs(whole.end.z) + jnp.abs(whole.start.z))

    def correction(
        self,
        segment: SigmoidSegment,
        neuron: Neuron,
        gate: Scalar | None = None,
        short: bool = False,
    ) -> Estimate:
        target, h = neuron.target, neuron.h
        # A short segment lies in saturation, where s is small.
        near = False if short else segment.start.a < 0.5
        order = ZERO_TARGET if target.is_zero else INNER_TARGET
        logarithm = -0.5 * self.log_gradient(segment)
        series, roundings = self._series(segment, target, h, order.terms, near)
        x, r = h * self.stiffness(segment), h * self.stride(segment)
        omitted = order.margin * x * r**order.terms * (1.0 + segment.log_e)
        allowed = (x <= (order.gate if gate is None else gate)) & (r <= order.ratio)
        return Estimate(
            logarithm + series,
            _UNIT * (8.0 * jnp.abs(logarithm) + roundings),
            jnp.where(allowed, omitted, jnp.inf),
        )

    def _series(
        self, segment: SigmoidSegment, target: Target, h: Scalar, terms: int, near: Condition
    ) -> tuple[Scalar, Scalar]:
        """Return the difference of ``sum_k h**k (P_k + R_k ln|e|)``, and its roundings."""
        tables = sigmoid_tables(self.loss, terms, target.is_zero)
        rate = h * (target.y * target.q) ** (1 + SIGMOID_GRADIENTS[self.loss].power)
        start, end = segment.start, segment.end
        total: Scalar = 0.0
        size: Scalar = 0.0
        for k in reversed(range(terms)):
            term = _difference(tables.far[k], start.s, end.s, target.q)
            norm: Scalar = _norm(tables.far[k])
            if near is not False:
                nearby = _difference(tables.near[k], start.a, end.a, target.y)
                term = jnp.where(near, nearby, term)
                norm = jnp.where(near, _norm(tables.near[k]), norm)
            total, size = h * (total + term), h * (size + norm)
        largest = jnp.where(near, start.a, end.s)
        if target.is_zero:
            # The coefficients of h**k start at s**k or a**k, so that no term is above its norm.
            return total, _ZERO_TARGET_ROUNDINGS * jnp.minimum(h * largest, 1.0)
        logarithm = rate * _polynomial(tables.logarithm, rate) * segment.log_e
        return total + logarithm, size * largest + jnp.abs(logarithm)

    def length(
        self,
        segment: SigmoidSegment,
        neuron: Neuron,
        gate: Scalar | None = None,
        short: bool = False,
    ) -> Estimate:
        correction = self.correction(segment, neuron, gate, short)
        target, h = neuron.target, neuron.h
        time, size = self.duration(segment, target)
        inverse = (1.0 - neuron.h_low / h) / h
        size = jnp.minimum(size * inverse, _ENDLESS)
        if not target.is_zero:
            # The error of e = a - y exceeds that of a and y, relative to e.
            start = segment.start
            size = size * (1.0 + (2.0 + target.y * jnp.abs(start.z)) * start.s / start.e)
        return Estimate(
            jnp.minimum(time * inverse, _ENDLESS) + correction.epochs,
            _FLOW_ROUNDINGS * _UNIT * size + correction.rounding,
            correction.truncation,
        )

    def flow_time(self, segment: SigmoidSegment, target: Target) -> Scalar:
        return self.duration(segment, target).time

    def gate_test(
        self, whole: SigmoidSegment, neuron: Neuron, gate: Scalar
    ) -> Callable[[SigmoidPoint], Condition]:
        def test(point: SigmoidPoint) -> Condition:
            segment = SigmoidSegment(point, whole.end, 0.0, 0.0, 0.0, 0.0)
            small = neuron.h * self.stiffness(segment) <= gate
            return small & (neuron.h * self.stride(segment) <= jnp.maximum(RATIO, gate))

        return test

    def leap(self, whole: SigmoidSegment, neuron: Neuron, gate: Scalar) -> Leap:
        target, h = neuron.target, neuron.h
        s = jnp.minimum(self.saturation(gate / h, target), 0.45 * target.q)
        inside = (whole.start.s < 0.7 * s) & (s < whole.end.s)
        end = flow.point_at(jnp.where(inside, s, 0.25 * target.q), target)
        segment = flow.make_segment(whole.start, end, target)
        return Leap(segment, inside & (h * self.stride(segment) <= RATIO))

    def log_flow_time(self, neuron: Neuron) -> Scalar:
        end = self.level_crossing(neuron.z, neuron.target, neuron.drop)
        return self.log_time_between(neuron.z, end, neuron.target)

    def log_time_between(self, z0: Scalar, z1: Scalar, target: Target) -> Scalar:
        """Return the logarithm of the flow time from z0 to z1, in canonical form."""
        start, end = flow.make_point(z0, target), flow.make_point(z1, target)
        return self.log_duration(flow.make_segment(start, end, target), target)

    def flow_limits(self, z0: Scalar, h: Scalar, y: Scalar) -> FlowLimits:
        """Return the limits of the flow from z0.

        The gradient of the quadratic loss peaks where ``a = [1 + y ± √(1 − y + y²)]/3``, if the
        flow passes there; that of the cross-entropy peaks at the start. Along the flow the loss
        decreases by ``h f²`` an epoch, so it is steepest at the same place.
        """
        z0, h = self.scale.z * z0, self.scale.h * h
        mirrored, target = flow.canonical_target(z0, (1.0 + y) / 2.0 if self.scale.signed else y)
        start = flow.make_point(jnp.where(mirrored, -z0, z0), target)
        fastest = flow.make_point(self.fastest(start.z, target), target)
        peak = self.gradient(fastest)
        decrease = self.excess(start, target) - self.excess(fastest, target)
        epochs = jnp.exp(self.log_time_between(start.z, fastest.z, target)) / h
        end = self.level_crossing(start.z, target, Drop.of(0.1))
        return FlowLimits(
            acceleration=jnp.asarray(peak / self.gradient(start)),
            tangent_lag=jnp.where(fastest.z < start.z, epochs - decrease / (h * peak**2), 0.0),
            displacement=(jnp.where(mirrored, -end, end) - z0) / self.scale.z,
            largest_step=jnp.asarray(h * peak) / self.scale.z,
        )

    @abstractmethod
    def log_gradient(self, segment: SigmoidSegment) -> Scalar:
        """Return ``ln(f_start / f_end)`` of a segment."""

    @abstractmethod
    def duration(self, segment: SigmoidSegment, target: Target) -> FlowTime:
        """Return the flow time of a segment."""

    @abstractmethod
    def log_duration(self, segment: SigmoidSegment, target: Target) -> Scalar:
        """Return the logarithm of the flow time, finite where the time overflows float64."""

    @abstractmethod
    def level_crossing(self, z0: Scalar, target: Target, drop: Drop) -> Scalar:
        """Return the z where the loss excess has dropped, for |z| up to 10**4."""

    @abstractmethod
    def stiffness(self, segment: SigmoidSegment) -> Scalar:
        """Return a bound on ``|f'|`` over a segment."""

    @abstractmethod
    def stride(self, segment: SigmoidSegment) -> Scalar:
        """Return the ratio of one Abel term to the one before on a segment, over ``h``."""

    @abstractmethod
    def saturation(self, stiffness: Scalar, target: Target) -> Scalar:
        """Return the s of a saturated point where the stiffness reaches a value."""

    @abstractmethod
    def fastest(self, z: Scalar, target: Target) -> Scalar:
        """Return where the gradient is largest on the path from z."""


class QuadraticSigmoid(SigmoidDynamics):
    """The dynamics of the quadratic loss."""

    loss = "quadratic"
    span: ClassVar[tuple[float, float]] = (-340.0, 690.0)

    def gradient(self, point: SigmoidPoint) -> Scalar:
        return point.e * (point.a * point.s)

    def curvature(self, point: SigmoidPoint) -> Scalar:
        spread = point.a * point.s
        return spread * (spread + point.e * (point.s - point.a))

    def log_gradient(self, segment: SigmoidSegment) -> Scalar:
        return segment.log_e + segment.log_a + segment.log_s

    def excess(self, point: SigmoidPoint, target: Target) -> Scalar:
        return 0.5 * point.e * point.e

    def duration(self, segment: SigmoidSegment, target: Target) -> FlowTime:
        start, end = segment.start, segment.end
        q = target.q
        lower = segment.width / (start.a * end.a)
        decay = lower * (0.5 / start.a + 0.5 / end.a + 2.0)
        growth = segment.width / (start.s * end.s) / q
        crossing = (1.0 + 2.0 * q) * (segment.log_e - segment.log_s) / (q * q)
        size = decay + growth + jnp.abs(crossing)
        if target.is_zero:
            return FlowTime(decay + growth + crossing, size)
        y = target.y
        t0, t1 = y / start.a, y / end.a
        beyond_leading = (
            t1 * flow.third_order(t1) / end.a**2
            - t0 * flow.third_order(t0) / start.a**2
            + 2.0 * (t1 * flow.second_order(t1) / end.a - t0 * flow.second_order(t0) / start.a)
        )
        log_lower = segment.log_e - segment.log_a
        closed = (log_lower / y - lower) / y + 2.0 * log_lower / y
        closed_size = (jnp.abs(log_lower) / y + lower) / y
        near = t1 < SMALL
        return FlowTime(
            jnp.where(near, decay + beyond_leading, closed) + growth + crossing,
            jnp.where(near, size, closed_size + growth + jnp.abs(crossing)),
        )

    def log_duration(self, segment: SigmoidSegment, target: Target) -> Scalar:
        start, end = segment.start, segment.end
        growth = start.z + jnp.log(-jnp.expm1(end.z - start.z)) - jnp.log(target.q)
        shrink = jnp.exp(-2.0 * segment.log_a)
        t0, t1 = (flow.target_share(p.z, target) for p in (start, end))
        remaining = flow.log_remainder(t1) - shrink * flow.log_remainder(t0)
        decay = 2.0 * jax.nn.softplus(-end.z) + jnp.log(remaining)
        large = jnp.maximum(jnp.abs(start.z), jnp.abs(end.z)) > _LARGE
        # Beyond exp(300) float64 only sees one of the two exponentials of the sum.
        return jnp.where(
            large, jnp.logaddexp(growth, decay), jnp.log(self.duration(segment, target).time)
        )

    def level_crossing(self, z0: Scalar, target: Target, drop: Drop) -> Scalar:
        start = flow.make_point(z0, target)
        log_a = log1p(-drop.error_loss * error_share(z0, target))
        end_s = drop.error_keep * start.s + drop.error_loss * target.q
        saturated = log_a - log1p(jnp.exp(-jnp.abs(z0))) - jnp.log(end_s)
        error = drop.error_loss * start.e / jnp.where(z0 > 0, 1.0, start.s)
        return jnp.where(z0 > 0, saturated, z0 + log_a - log1p(error))

    def to_level(self, start: SigmoidPoint, target: Target, drop: Drop) -> SigmoidSegment:
        keep, loss = drop.error_keep, drop.error_loss
        width = loss * start.e
        log_keep = jnp.log(keep)
        log_a = -log_keep
        if not target.is_zero:
            log_a = log_a - log1p(loss / keep * (target.y / start.a))
        log_s = -log1p(width / start.s)
        end = SigmoidPoint(
            start.z - (log_a - log_s),
            keep * start.a + loss * target.y,
            keep * start.s + loss * target.q,
            keep * start.e,
        )
        return SigmoidSegment(start, end, width, log_a, log_s, -log_keep)

    def stiffness(self, segment: SigmoidSegment) -> Scalar:
        spread = largest_spread(segment)
        return spread * (spread + segment.start.e)

    def stride(self, segment: SigmoidSegment) -> Scalar:
        return self.stiffness(segment)

    def saturation(self, stiffness: Scalar, target: Target) -> Scalar:
        # The root of s (s + q) = stiffness, without cancellation.
        return 2.0 * stiffness / (target.q + jnp.sqrt(target.q**2 + 4.0 * stiffness))

    def fastest(self, z: Scalar, target: Target) -> Scalar:
        y, q = target.y, target.q
        root = jnp.sqrt(1 - y * q)
        # 1 − a = [2 − y − root]/3 cancels as y nears 1; this form does not.
        odds = (1 + y + root) * (1 + q + root) / (3 * q)
        return jnp.minimum(z, jnp.log(odds))


class CrossEntropySigmoid(SigmoidDynamics):
    """The dynamics of the cross-entropy, the matching loss."""

    loss = "cross_entropy"
    span: ClassVar[tuple[float, float]] = (-340.0, float("inf"))

    def gradient(self, point: SigmoidPoint) -> Scalar:
        return point.e

    def curvature(self, point: SigmoidPoint) -> Scalar:
        return point.a * point.s

    def log_gradient(self, segment: SigmoidSegment) -> Scalar:
        return segment.log_e

    def excess(self, point: SigmoidPoint, target: Target) -> Scalar:
        return jax.nn.softplus(point.z) if target.is_zero else flow.divergence(point.z, target)

    def saturated_gradient(self, target: Target) -> Scalar:
        return target.q

    def duration(self, segment: SigmoidSegment, target: Target) -> FlowTime:
        start, end = segment.start, segment.end
        lower = segment.width / (start.a * end.a)
        crossing = (segment.log_e - segment.log_s) / target.q
        if target.is_zero:
            return FlowTime(lower + crossing, lower + jnp.abs(crossing))
        y = target.y
        t0, t1 = y / start.a, y / end.a
        near = t1 < SMALL
        series = lower + (t1 * flow.second_order(t1) / end.a - t0 * flow.second_order(t0) / start.a)
        log_lower = segment.log_e - segment.log_a
        # The end is the root of an equation, known like z itself to its last digits.
        ends = (1.0 + jnp.abs(start.z) + jnp.abs(end.z)) / end.e
        return FlowTime(
            jnp.where(near, series, log_lower / y) + crossing,
            jnp.where(near, lower, jnp.abs(log_lower) / y) + jnp.abs(crossing) + ends,
        )

    def log_duration(self, segment: SigmoidSegment, target: Target) -> Scalar:
        shrink = jnp.exp(-segment.log_a)
        t0, t1 = (flow.target_share(p.z, target) for p in (segment.start, segment.end))
        remaining = flow.log_ratio(t1) - shrink * flow.log_ratio(t0)
        decay = jax.nn.softplus(-segment.end.z) + jnp.log(remaining)
        return jnp.where(
            segment.end.z < -_LARGE, decay, jnp.log(self.duration(segment, target).time)
        )

    def level_crossing(self, z0: Scalar, target: Target, drop: Drop) -> Scalar:
        loss = jax.nn.softplus(z0)
        kept = drop.keep * loss
        tiny = z0 < -40.0
        # There softplus(z) = exp(z) to float64: the loss and the output decrease alike.
        share = -jnp.expm1(-kept) / jnp.where(tiny, 1.0, jax.nn.sigmoid(z0))
        log_share = jnp.log(jnp.where(tiny, drop.keep, share))
        to_zero = jnp.where(
            z0 > 0, kept + jnp.log(-jnp.expm1(-kept)), z0 + log_share - drop.fraction * loss
        )
        if target.is_zero:
            return to_zero
        positive = target.y > 0
        inner = Target(jnp.where(positive, target.y, 0.5), jnp.where(positive, target.q, 0.5))
        centre = flow.logit(inner)
        u0 = jnp.maximum(z0 - centre, 0.0)
        return jnp.where(positive, centre + flow.divergence_root(u0, inner, drop), to_zero)

    def to_level(self, start: SigmoidPoint, target: Target, drop: Drop) -> SigmoidSegment:
        if not target.is_zero:
            end = flow.make_point(self.level_crossing(start.z, target, drop), target)
            return flow.make_segment(start, end, target)
        # With y = 0 the loss is -ln s: s grows by exp(drop * loss).
        loss = jnp.maximum(start.z, 0.0) + log1p(jnp.exp(-jnp.abs(start.z)))
        decrease = drop.fraction * loss
        end_a = -jnp.expm1(-drop.keep * loss)
        end_s = jnp.exp(-drop.keep * loss)
        width = jnp.where(decrease < 1.0, start.s * jnp.expm1(decrease), end_s - start.s)
        log_a = log1p(width / end_a)
        end = SigmoidPoint(start.z - (log_a + decrease), end_a, end_s, end_a)
        return SigmoidSegment(start, end, width, log_a, -decrease, log_a)

    def stiffness(self, segment: SigmoidSegment) -> Scalar:
        return largest_spread(segment)

    def stride(self, segment: SigmoidSegment) -> Scalar:
        # Far out the terms decrease like those of x / (exp(x) - 1) at x = h e: by 2 pi each.
        return jnp.maximum(largest_spread(segment), 0.25 * segment.start.e)

    def saturation(self, stiffness: Scalar, target: Target) -> Scalar:
        return stiffness

    def fastest(self, z: Scalar, target: Target) -> Scalar:
        return z


SIGMOID_DYNAMICS: Mapping[str, type[SigmoidDynamics]] = {
    "quadratic": QuadraticSigmoid,
    "cross_entropy": CrossEntropySigmoid,
}
"""The two losses of a sigmoid by name."""


def log_flow_time(z0: Scalar, z1: Scalar, y: Scalar, *, loss: str) -> jax.Array:
    """Return the natural logarithm of the time that the gradient flow takes from z0 to z1.

    Args:
        z0: start, a float64 scalar, with |z0| up to 10**4 and beyond.
        z1: end, between z0 and the target's ``logit(y)``.
        y: target output in [0, 1].
        loss: ``"quadratic"`` (with the one half) or ``"cross_entropy"``.

    Returns:
        A float64 scalar, the logarithm of epochs times ``h = lr (1 + x**2)``. NaN where the flow
        from z0 never meets z1.
    """
    mirrored, target = flow.canonical_target(z0, y)
    z0, z1 = (jnp.where(mirrored, -z, z) for z in (z0, z1))
    return jnp.asarray(SIGMOID_DYNAMICS[loss]().log_time_between(z0, z1, target))


def level_crossing(z0: Scalar, y: Scalar, drop: Drop, *, loss: str) -> jax.Array:
    """Return the pre-activation at which the loss excess has dropped by ``drop.fraction``.

    Args:
        z0: start, a float64 scalar with ``sigma(z0) != y``.
        y: target output in [0, 1].
        drop: from ``Drop.of``.
        loss: ``"quadratic"`` or ``"cross_entropy"``; the excess is over the loss's minimum.
    """
    mirrored, target = flow.canonical_target(z0, y)
    z1 = SIGMOID_DYNAMICS[loss]().level_crossing(jnp.where(mirrored, -z0, z0), target, drop)
    return jnp.where(mirrored, -z1, z1)


def _difference(table: Table, start: Scalar, end: Scalar, v: Scalar) -> Scalar:
    rows = [_polynomial(row, v) for row in table]
    return _polynomial(rows, start) - _polynomial(rows, end)


def _polynomial(coefficients: tuple[float, ...] | list[Scalar], v: Scalar) -> Scalar:
    total: Scalar = 0.0
    for c in reversed(coefficients):
        total = total * v + c
    return total


def _norm(table: Table) -> float:
    return sum(abs(c) for row in table for c in row)
