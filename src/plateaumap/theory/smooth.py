"""The dynamics of any smooth increasing activation, by quadrature of 1/f.

A length is one integral over z. With ``D_j = h**j f**(j-1) f^(j)`` (``abel_series.py``),

    Phi(z0) - Phi(z1) = int_{z1}^{z0} (1 + sum_k h**k psi_k(D_1, D_2, ...)) dz / (h f).

The integral of ``psi_1`` has a closed form, ``-ln(f0 / f1) / 2``. The others are evaluated at the
nodes of a double exponential rule (H. Takahasi, M. Mori, 1974), which are dense at both ends of a
segment: at one lies the plateau, near the other the target. The derivatives come from JAX.

The largest ``(|D_j| / j!)**(1/j)`` at a point is its *grade*: the length of one step on the scale
on which f changes. What the series omits in one epoch is of the order of the first power of the
grade that it does not contain, so that its error is the integral of that power over the epochs.

In canonical form z and the error are multiplied by ``side``, the sign of the error at the start,
so that z decreases. ``Target.q`` holds ``side`` here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import factorial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from plateaumap.neuron import losses
from plateaumap.neuron.activations import Activation
from plateaumap.neuron.losses import Loss
from plateaumap.numerics.compiler import double_precision
from plateaumap.numerics.quadrature import double_exponential, legendre
from plateaumap.theory.abel_series import Polynomial, abel_densities
from plateaumap.theory.canonical import CanonicalNeurons, EpochState, NeuronGroup, start_and_step
from plateaumap.theory.dynamics import Dynamics, Estimate, FlowLimits, Leap, Neuron
from plateaumap.theory.flow import Condition, Drop, Scalar, Target

UNIT = 2.0**-53
ROUNDINGS = 16.0
"""Bound on the relative error of an activation's slope and tail, in units of 2**-53."""

STEEPEST = 0.25
"""Largest grade at which the series is used."""

_SMALLEST = 1e-250
"""A smaller gradient counts as this one, so that the length is beyond all integers but not inf."""

_ROOT_STEPS = 64
_LEVEL_TOLERANCE = 1e-9
_NEAR = 1 / 32
"""Up to this distance from the target, excesses of matching losses do not cancel."""


class SmoothPoint(NamedTuple):
    """A point of a path: ``z + low``, the error of the output, f and two derivatives."""

    z: Scalar
    low: Scalar
    e: Scalar
    gradient: Scalar
    curvature: Scalar
    third: Scalar


class SmoothSegment(NamedTuple):
    """A segment between two points."""

    start: SmoothPoint
    end: SmoothPoint


class Nodes(NamedTuple):
    """The nodes of a segment, from its start to its end, and the D_j of the series there.

    ``epochs`` are the weights of an integral over the epochs of the flow.
    """

    z: jax.Array
    epochs: jax.Array
    steps: list[jax.Array]
    grade: jax.Array
    size: jax.Array


@dataclass(frozen=True)
class SmoothDynamics(Dynamics):
    """The dynamics of an activation and a loss.

    Attributes:
        activation: an increasing one, smooth except for a kink at z = 0.
        loss: ``"quadratic"`` or ``"matching"``.
        terms: the number of ``psi_k`` that are used.
        spacing: of the nodes of the rule.
    """

    activation: Activation
    loss: str
    terms: int = 4
    spacing: float = 0.06

    leap_gate: ClassVar[dict[bool, float]] = {True: 0.05, False: 0.05}
    width: ClassVar[int] = 128
    step_budget: ClassVar[int] = 1000

    @property
    def coarse(self) -> "SmoothDynamics":
        """The dynamics with fewer terms and nodes, for predictions."""
        return replace(self, terms=2, spacing=0.11)

    @cached_property
    def _loss(self) -> Loss:
        return losses.resolve(self.loss, self.activation)

    def canonical(
        self, count: int, columns: Mapping[str, NDArray[np.float64]]
    ) -> tuple[NDArray[np.uint8], list[NeuronGroup]]:
        with np.errstate(all="ignore"):
            (z, z_low, h, h_low), valid = start_and_step(columns)
        y = columns["y"]
        allowed = ~losses.refused_targets(self.loss, self.activation, y)
        z, z_low, h, h_low, y, valid = (
            np.broadcast_to(column, count) for column in (z, z_low, h, h_low, y, valid & allowed)
        )
        with double_precision():
            side = np.sign(np.asarray(_error(self.activation)(z, y)))
        state = np.where(valid, EpochState.UNDECIDED, EpochState.INVALID)
        state = np.where(valid & ~(np.abs(side) > 0), EpochState.NO_EXCESS, state).astype(np.uint8)
        index = np.flatnonzero(state == EpochState.UNDECIDED)
        none = np.zeros(count)
        neurons = CanonicalNeurons(side * z, side * z_low, h, h_low, y, none, side, none)
        return state, [NeuronGroup(False, index, neurons.take(index))] if index.size else []

    def point(self, z: Scalar, target: Target, z_low: Scalar = 0.0) -> SmoothPoint:
        derivatives = _derivatives(lambda v: self._gradient(v, target), z, 2)
        return SmoothPoint(z, z_low, self._error(z, target), *derivatives)

    def segment(self, start: SmoothPoint, end: SmoothPoint, target: Target) -> SmoothSegment:
        return SmoothSegment(start, end)

    def to_level(self, start: SmoothPoint, target: Target, drop: Drop) -> SmoothSegment:
        return SmoothSegment(start, self.point(self._level(start, target, drop), target))

    def gradient(self, point: SmoothPoint) -> Scalar:
        return point.gradient

    def curvature(self, point: SmoothPoint) -> Scalar:
        return point.curvature

    def third_derivative(self, point: SmoothPoint) -> Scalar:
        size = jnp.abs(point.curvature) + jnp.abs(point.gradient)
        return 2.0 * jnp.abs(point.third) + size

    def gradient_rounding(self, point: SmoothPoint, target: Target) -> Scalar:
        size = ROUNDINGS + self._error_size(point.z, target) / jnp.abs(point.e)
        return jnp.abs(point.gradient) * size

    def excess(self, point: SmoothPoint, target: Target) -> Scalar:
        if self.loss == "quadratic":
            return 0.5 * point.e * point.e
        return self._loss.above_floor(jnp.asarray(target.q * point.z), jnp.asarray(target.y))

    def level_error(self, whole: SmoothSegment, target: Target) -> Scalar:
        start, end = whole
        if self.loss == "quadratic":
            share = end.e / start.e
            sizes = self._error_size(end.z, target) + self._error_size(start.z, target) * share
            error = (sizes + 4.0 * end.e) / self._output_slope(end.z, target)
            moved = jnp.abs(start.z) * self._output_slope(start.z, target) / start.e
            moved = moved * end.e / self._output_slope(end.z, target)
        else:
            kept = self.excess(end, target) / self.excess(start, target)
            sizes = self._excess_size(end, target) + kept * self._excess_size(start, target)
            error, moved = sizes / end.e, jnp.abs(start.z) * kept * start.e / end.e
        return 2.0 * UNIT * (error + moved + 4.0 * jnp.abs(end.z))

    def correction(
        self, segment: SmoothSegment, neuron: Neuron, gate: Scalar | None = None
    ) -> Estimate:
        nodes = self.nodes(segment, neuron.target, neuron.h)
        return self._correction(nodes, segment, neuron.target, gate)

    def _correction(
        self, nodes: Nodes, segment: SmoothSegment, target: Target, gate: Scalar | None
    ) -> Estimate:
        start, end = segment
        series = sum(
            (_polynomial(terms, nodes.steps) for terms in abel_densities(self.terms)[1:]),
            jnp.zeros_like(nodes.z),
        )
        logarithm = -0.5 * jnp.log(_positive(start.gradient) / _positive(end.gradient))
        omitted = jnp.sum(nodes.epochs * nodes.grade ** (self.terms + 1))
        allowed = jnp.max(nodes.grade) <= (STEEPEST if gate is None else gate)
        if not self.activation.smooth:
            allowed &= (start.z <= 0.0) | (end.z >= 0.0)
        series = jnp.sum(nodes.epochs * series)
        ends = sum(self._error_size(p.z, target) / jnp.abs(p.e) for p in segment)
        rounding = UNIT * (ROUNDINGS * (2.0 + jnp.abs(series)) + jnp.abs(logarithm) + ends)
        return Estimate(logarithm + series, rounding, jnp.where(allowed, omitted, jnp.inf))

    def length(
        self,
        segment: SmoothSegment,
        neuron: Neuron,
        gate: Scalar | None = None,
        short: bool = False,
    ) -> Estimate:
        target, h = neuron.target, neuron.h
        nodes = self.nodes(segment, target, h, short)
        correction = self._correction(nodes, segment, target, gate)
        flow = jnp.sum(nodes.epochs)
        rounding = UNIT * jnp.sum(nodes.epochs * nodes.size)
        if not short:
            # The error of the rule is about the square of that with every other node.
            coarse = jnp.abs(1.0 - 2.0 * jnp.sum(nodes.epochs[::2]) / flow)
            rounding = rounding + flow * jnp.minimum(10.0 * coarse**2, coarse)
            end_error = self.level_error(segment, target)
            rounding = rounding + end_error / (h * _positive(segment.end.gradient))
        low = segment.start.low / (h * _positive(segment.start.gradient)) - flow * (
            neuron.h_low / h
        )
        return Estimate(
            flow + low + correction.epochs,
            rounding + 4.0 * UNIT * jnp.abs(flow) + correction.rounding,
            correction.truncation,
        )

    def flow_time(self, segment: SmoothSegment, target: Target) -> Scalar:
        return jnp.sum(self.nodes(segment, target, jnp.ones_like(segment.start.z)).epochs)

    def gate_test(
        self, whole: SmoothSegment, neuron: Neuron, gate: Scalar
    ) -> Callable[[SmoothPoint], Condition]:
        nodes = self.nodes(whole, neuron.target, neuron.h)
        last_above = jnp.min(jnp.where(nodes.grade <= gate, jnp.inf, nodes.z))
        highest = jnp.max(jnp.where(nodes.z < last_above, nodes.z, -jnp.inf))
        highest = jnp.where(last_above < jnp.inf, highest, jnp.inf)
        if not self.activation.smooth:
            highest = jnp.where(whole.end.z < 0.0, jnp.minimum(highest, 0.0), highest)
        return lambda p: p.z <= highest

    def leap(self, whole: SmoothSegment, neuron: Neuron, gate: Scalar) -> Leap:
        nodes = self.nodes(whole, neuron.target, neuron.h)
        within = lax.cummax(nodes.grade) <= gate
        last = jnp.min(jnp.where(within, nodes.z, whole.start.z))
        beyond = jnp.max(jnp.where(within, whole.end.z, nodes.z))
        last_grade = jnp.max(jnp.where(within, nodes.grade, 0.0))
        next_grade = jnp.min(jnp.where(nodes.z == beyond, nodes.grade, jnp.inf))
        share = jnp.log(gate / last_grade) / jnp.log(next_grade / last_grade)
        share = jnp.where((share > 0.0) & (share < 1.0), 0.9 * share, 0.0)
        end = last + share * (beyond - last)
        if not self.activation.smooth:
            end = jnp.where(whole.start.z > 0.0, jnp.maximum(end, 0.0), end)
        useful = within[0] & (end < whole.start.z)
        return Leap(SmoothSegment(whole.start, self.point(end, neuron.target)), useful)

    def flow_limits(self, z0: Scalar, h: Scalar, y: Scalar) -> FlowLimits:
        side = jnp.sign(self.activation.error(jnp.asarray(z0), jnp.asarray(y)))
        target = Target(y, side)
        start = self.point(side * z0, target)
        fastest = self._fastest(self.to_level(start, target, Drop.of(0.9)), target)
        decrease = self.excess(start, target) - self.excess(fastest, target)
        epochs = self.flow_time(SmoothSegment(start, fastest), target) / h
        lag = epochs - decrease / (h * fastest.gradient**2)
        return FlowLimits(
            acceleration=jnp.asarray(fastest.gradient / start.gradient),
            tangent_lag=jnp.where(fastest.z < start.z, lag, 0.0),
            displacement=side * self._level(start, target, Drop.of(0.1)) - z0,
            largest_step=jnp.asarray(h * fastest.gradient),
        )

    def _fastest(self, whole: SmoothSegment, target: Target) -> SmoothPoint:
        """Return the peak of f on a segment: its best node, refined where f' changes its sign."""
        nodes = self.nodes(whole, target, jnp.ones_like(whole.start.z))
        best = jnp.argmax(self._gradient(nodes.z, target))
        last = len(nodes.z) - 1
        above, below = nodes.z[jnp.maximum(best - 1, 0)], nodes.z[jnp.minimum(best + 1, last)]

        def halve(_: int, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            upper, lower = bracket
            middle = (upper + lower) / 2.0
            passed = self.point(middle, target).curvature >= 0.0
            return jnp.where(passed, upper, middle), jnp.where(passed, middle, lower)

        upper, _ = lax.fori_loop(0, 52, halve, (above, below))
        grows = self.point(whole.start.z, target).curvature < 0.0
        return self.point(jnp.where(grows, upper, whole.start.z), target)

    def _error(self, z: Scalar, target: Target) -> Scalar:
        z = jnp.asarray(z)
        y = jnp.broadcast_to(jnp.asarray(target.y), z.shape)
        return target.q * self.activation.error(target.q * z, y)

    def _output_slope(self, z: Scalar, target: Target) -> Scalar:
        return _positive(self.activation.slope(target.q * jnp.asarray(z)))

    def _gradient(self, z: Scalar, target: Target) -> Scalar:
        error = self._error(z, target)
        if self.loss == "matching":
            return error
        return error * self.activation.slope(target.q * jnp.asarray(z))

    def _error_size(self, z: Scalar, target: Target) -> Scalar:
        """Return the sizes of the terms that an error is added up from."""
        z = target.q * jnp.asarray(z)
        side = self.activation.asymptote(z)
        tail = jnp.abs(self.activation.error(z, side)) + jnp.abs(side - target.y)
        plain = jnp.abs(self.activation(z)) + jnp.abs(jnp.asarray(target.y))
        return ROUNDINGS * jnp.where(jnp.abs(z) < 0.5, jnp.minimum(plain, tail), tail)

    def _excess_size(self, point: SmoothPoint, target: Target) -> Scalar:
        """Return the sizes of the terms that the excess of the matching loss is added up from."""
        z, y = target.q * jnp.asarray(point.z), jnp.asarray(target.y)
        excess = self.excess(point, target)
        floor = self._loss.floor(y) - self.activation.constant
        terms = jnp.abs((self.activation.asymptote(z) - y) * z) + jnp.abs(floor)
        distance = jnp.abs(z - self.activation.target(y))
        close = jnp.abs(excess) * (4.0 + 2.0 * jnp.abs(z) / _positive(distance))
        return ROUNDINGS * jnp.where(distance < _NEAR, close, terms + jnp.abs(excess))

    def _level(self, start: SmoothPoint, target: Target, drop: Drop) -> Scalar:
        """Return the z where the excess has dropped; NaN without convergence.

        By Newton's method on the logarithm of the excess, bracketed.
        """
        quadratic = self.loss == "quadratic"

        def value_and_slope(z: Scalar) -> tuple[Scalar, Scalar]:
            e = self._error(z, target)
            if quadratic:
                return e, self.activation.slope(jnp.asarray(target.q * z))
            return self._loss.above_floor(jnp.asarray(target.q * z), jnp.asarray(target.y)), e

        first, _ = value_and_slope(start.z)
        level = (drop.error_keep if quadratic else drop.keep) * first
        centre = target.q * self.activation.target(jnp.asarray(target.y))
        far = start.z - 1e3 * (1.0 + jnp.abs(start.z))
        bottom = jnp.maximum(centre, far)

        def refine(_: int, state: tuple[Scalar, Scalar, Scalar]) -> tuple[Scalar, Scalar, Scalar]:
            z, upper, lower = state
            value, rise = value_and_slope(z)
            upper = jnp.where(value > level, z, upper)
            lower = jnp.where(value > level, lower, z)
            better = z - jnp.log(value / level) * value / rise
            inside = (better <= upper) & (better >= lower)
            return jnp.where(inside, better, (upper + lower) / 2.0), upper, lower

        z, _, _ = lax.fori_loop(0, _ROOT_STEPS, refine, (start.z, start.z, bottom))
        converged = jnp.abs(value_and_slope(z)[0] / level - 1.0) < _LEVEL_TOLERANCE
        return jnp.where(converged, z, jnp.nan)

    def nodes(
        self, segment: SmoothSegment, target: Target, h: Scalar, short: bool = False
    ) -> Nodes:
        """Return the nodes of a segment; a short one takes fewer."""
        if short:
            after, weights = legendre(12)
            before = 1.0 - after
        else:
            after, before, weights = double_exponential(self.spacing)
        start, end = segment.start.z, segment.end.z
        width = start - end
        z = jnp.where(after < 0.5, start - width * after, end + width * before)
        f, *derivatives = _derivatives(lambda v: self._gradient(v, target), z, self.terms)
        f = _positive(f)
        steps, factor = [], h
        for derivative in derivatives:
            steps.append(factor * derivative)
            factor = factor * (h * f)
        grade = jnp.zeros_like(z)
        for root, (j, d) in zip(_ROOTS, enumerate(steps, start=1), strict=False):
            grade = jnp.maximum(grade, root(jnp.abs(d) / factorial(j)))
        size = 2.0 * ROUNDINGS + jnp.abs(z * derivatives[0] / f)
        size = size + self._error_size(z, target) / _positive(jnp.abs(self._error(z, target)))
        return Nodes(z, jnp.asarray(weights) * (width / (h * f)), steps, grade, size)


_ROOTS: tuple[Callable[[jax.Array], jax.Array], ...] = (
    lambda v: v,
    jnp.sqrt,
    jnp.cbrt,
    lambda v: jnp.sqrt(jnp.sqrt(v)),
)


@cache
def _error(activation: Activation) -> Callable[..., jax.Array]:
    return jax.jit(activation.error)


def _positive(x: Scalar) -> jax.Array:
    return jnp.maximum(x, _SMALLEST)


def _polynomial(terms: Polynomial, steps: list[jax.Array]) -> jax.Array:
    total = jnp.zeros_like(steps[0])
    for powers, coefficient in terms.items():
        term = jnp.full_like(total, float(coefficient))
        for step, power in zip(steps, powers, strict=False):
            if power:
                term = term * step**power
        total = total + term
    return total


def _derivatives(function: Callable[[Scalar], Scalar], z: Scalar, count: int) -> list[jax.Array]:
    """Return a function at z and its derivatives up to an order, by nested forward mode."""
    z = jnp.asarray(z)

    def ladder(v: jax.Array, order: int) -> tuple[jax.Array, ...]:
        if order == 0:
            return (jnp.asarray(function(v)),)
        values, slopes = jax.jvp(lambda u: ladder(u, order - 1), (v,), (jnp.ones_like(v),))
        return (*values, slopes[-1])

    return list(ladder(z, count))
