"""The law of any smooth increasing activation: quadrature of 1/f and automatic differentiation.

A length is one integral over z. With ``D_j = h**j f**(j-1) f^(j)`` (``expansion.py``),

    Phi(z0) - Phi(z1) = int_{z1}^{z0} (1 + sum_k h**k psi_k(D_1, D_2, ...)) dz / (h f),

of which ``psi_1`` is done in closed form, ``-ln(f0 / f1) / 2``, and the others at the nodes of a
double exponential rule (H. Takahasi, M. Mori, 1974), which are dense at both ends of a leg: at one
lies the plateau, near the other the target. The derivatives come from JAX.

The largest ``(|D_j| / j!)**(1/j)`` at a point is its *grade*: how far, on the scale on which f
changes, one step leads. What the series leaves out in one epoch is of the order of the first power
of the grade that it does not hold, so that its error is the integral of that power over the epochs.

A neuron is turned so that its path comes down: z and the error are taken times ``side``, the sign
of the error at the start, which is what ``Target.q`` holds here.
"""

from collections.abc import Callable
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
from plateaumap.theory.cells import Columns, EpochState, Group
from plateaumap.theory.descents import neurons
from plateaumap.theory.expansion import Terms, abel_densities
from plateaumap.theory.flow import Condition, Drop, Scalar, Target
from plateaumap.theory.law import Estimate, Landmarks, Law, Leap

UNIT = 2.0**-53
ROUNDINGS = 16.0
"""Bound on the relative error of an activation's slope and tail, in units of 2**-53."""

STEEPEST = 0.25
"""Largest grade at which the series is used."""

_SMALLEST = 1e-250
"""A slower speed counts as this one, so that the length is beyond all integers but no inf."""

_ROOT_STEPS = 64
_LEVEL_TOLERANCE = 1e-9
_NEAR = 1 / 32
"""Up to this distance from the target, excesses of matching losses do not cancel."""


class Spot(NamedTuple):
    """A place on a descent: ``z + low``, the error of the output, f and two derivatives."""

    z: Scalar
    low: Scalar
    e: Scalar
    speed: Scalar
    slope: Scalar
    bend: Scalar


class Stretch(NamedTuple):
    """A leg between two spots."""

    start: Spot
    end: Spot


class Nodes(NamedTuple):
    """What the series sees at the nodes of a leg, from its start to its end.

    ``epochs`` are the weights of an integral over the epochs of the flow.
    """

    z: jax.Array
    epochs: jax.Array
    steps: list[jax.Array]
    grade: jax.Array
    size: jax.Array


@dataclass(frozen=True)
class SmoothLaw(Law):
    """The law of an activation and a loss.

    Attributes:
      activation: an increasing one, smooth but for a kink at z = 0.
      loss: ``"quadratic"`` or ``"matching"``.
      terms: how many of the ``psi_k`` are used.
      spacing: of the nodes of the rule.
    """

    activation: Activation
    loss: str
    terms: int = 4
    spacing: float = 0.06

    leap_slope: ClassVar[dict[bool, float]] = {True: 0.05, False: 0.05}
    width: ClassVar[int] = 128
    step_budget: ClassVar[int] = 1000

    def roughly(self) -> "SmoothLaw":
        """Returns the law with fewer terms and nodes, for predictions."""
        return replace(self, terms=2, spacing=0.11)

    @cached_property
    def _loss(self) -> Loss:
        return losses.resolve(self.loss, self.activation)

    def descents(
        self,
        count: int,
        w0: NDArray[np.float64],
        b0: NDArray[np.float64],
        lr: NDArray[np.float64],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint8], list[Group]]:
        with np.errstate(all="ignore"):
            (z, z_low, h, h_low), valid = neurons(w0, b0, lr, x)
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
        columns = Columns(side * z, side * z_low, h, h_low, y, none, side, none)
        return state, [Group(False, index, columns.take(index))] if index.size else []

    def point(self, z: Scalar, target: Target, z_low: Scalar = 0.0) -> Spot:
        speed, slope, bend = _derivatives(lambda v: self._rate(v, target), z, 2)
        return Spot(z, z_low, self._error(z, target), speed, slope, bend)

    def leg(self, start: Spot, end: Spot, target: Target) -> Stretch:
        return Stretch(start, end)

    def depart(self, start: Spot, target: Target, drop: Drop) -> Stretch:
        return Stretch(start, self.point(self._level(start, target, drop), target))

    def mark(self, point: Spot) -> Scalar:
        return point.z

    def speed(self, point: Spot) -> Scalar:
        return point.speed

    def slope(self, point: Spot) -> Scalar:
        return point.slope

    def curvature(self, point: Spot) -> Scalar:
        return 2.0 * jnp.abs(point.bend) + jnp.abs(point.slope) + jnp.abs(point.speed)

    def noise(self, point: Spot, target: Target) -> Scalar:
        size = ROUNDINGS + self._error_size(point.z, target) / jnp.abs(point.e)
        return jnp.abs(point.speed) * size

    def excess(self, point: Spot, target: Target) -> Scalar:
        if self.loss == "quadratic":
            return 0.5 * point.e * point.e
        return self._loss.above_floor(jnp.asarray(target.q * point.z), jnp.asarray(target.y))

    def end_error(self, whole: Stretch, target: Target) -> Scalar:
        start, end = whole
        if self.loss == "quadratic":
            sizes = self._error_size(end.z, target) + self._error_size(start.z, target) * (
                end.e / start.e
            )
            vague = (sizes + 4.0 * end.e) / self._output_slope(end.z, target)
            moved = jnp.abs(start.z) * self._output_slope(start.z, target) / start.e
            moved = moved * end.e / self._output_slope(end.z, target)
        else:
            kept = self.excess(end, target) / self.excess(start, target)
            sizes = self._excess_size(end, target) + kept * self._excess_size(start, target)
            vague, moved = sizes / end.e, jnp.abs(start.z) * kept * start.e / end.e
        return 2.0 * UNIT * (vague + moved + 4.0 * jnp.abs(end.z))

    def correction(
        self,
        leg: Stretch,
        target: Target,
        h: Scalar,
        slope: Scalar | None = None,
        short: bool = False,
    ) -> Estimate:
        return self._corrected(self._nodes(leg, target, h, short), leg, target, slope)

    def _corrected(
        self, nodes: Nodes, leg: Stretch, target: Target, slope: Scalar | None
    ) -> Estimate:
        series = sum(
            (_polynomial(terms, nodes.steps) for terms in abel_densities(self.terms)[1:]),
            jnp.zeros_like(nodes.z),
        )
        logarithm = -0.5 * jnp.log(_positive(leg.start.speed) / _positive(leg.end.speed))
        left_out = jnp.sum(nodes.epochs * nodes.grade ** (self.terms + 1))
        allowed = jnp.max(nodes.grade) <= (STEEPEST if slope is None else slope)
        if not self.activation.smooth:
            allowed &= (leg.start.z <= 0.0) | (leg.end.z >= 0.0)
        series = jnp.sum(nodes.epochs * series)
        ends = self._error_size(leg.start.z, target) / jnp.abs(leg.start.e)
        ends = ends + self._error_size(leg.end.z, target) / jnp.abs(leg.end.e)
        rounding = UNIT * (ROUNDINGS * (2.0 + jnp.abs(series)) + jnp.abs(logarithm) + ends)
        return Estimate(logarithm + series, rounding, jnp.where(allowed, left_out, jnp.inf))

    def with_flow(
        self,
        leg: Stretch,
        target: Target,
        h: Scalar,
        h_low: Scalar,
        correction: Estimate,
        short: bool = False,
    ) -> Estimate:
        nodes = self._nodes(leg, target, h, short)
        return self._timed(nodes, leg, target, h, h_low, correction, short)

    def _timed(
        self,
        nodes: Nodes,
        leg: Stretch,
        target: Target,
        h: Scalar,
        h_low: Scalar,
        correction: Estimate,
        short: bool,
    ) -> Estimate:
        flow = jnp.sum(nodes.epochs)
        rounding = UNIT * jnp.sum(nodes.epochs * nodes.size)
        if not short:
            # The error of the rule is about the square of that with every other node.
            coarse = jnp.abs(1.0 - 2.0 * jnp.sum(nodes.epochs[::2]) / flow)
            rounding = rounding + flow * jnp.minimum(10.0 * coarse**2, coarse)
            rounding = rounding + self.end_error(leg, target) / (h * _positive(leg.end.speed))
        more = leg.start.low / (h * _positive(leg.start.speed)) - flow * (h_low / h)
        return Estimate(
            flow + more + correction.epochs,
            rounding + 4.0 * UNIT * jnp.abs(flow) + correction.rounding,
            correction.truncation,
        )

    def length(
        self,
        leg: Stretch,
        target: Target,
        h: Scalar,
        h_low: Scalar = 0.0,
        slope: Scalar | None = None,
        short: bool = False,
    ) -> Estimate:
        nodes = self._nodes(leg, target, h, short)
        correction = self._corrected(nodes, leg, target, slope)
        return self._timed(nodes, leg, target, h, h_low, correction, short)

    def flow_time(self, leg: Stretch, target: Target) -> Scalar:
        return jnp.sum(self._nodes(leg, target, jnp.ones_like(leg.start.z), False).epochs)

    def calm(
        self, whole: Stretch, target: Target, h: Scalar, slope: Scalar
    ) -> Callable[[Spot], Condition]:
        nodes = self._nodes(whole, target, h, False)
        last_bad = jnp.min(jnp.where(nodes.grade <= slope, jnp.inf, nodes.z))
        calm = jnp.max(jnp.where(nodes.z < last_bad, nodes.z, -jnp.inf))
        calm = jnp.where(last_bad < jnp.inf, calm, jnp.inf)
        if not self.activation.smooth:
            calm = jnp.where(whole.end.z < 0.0, jnp.minimum(calm, 0.0), calm)
        return lambda p: p.z <= calm

    def leap(self, whole: Stretch, target: Target, h: Scalar, slope: Scalar) -> Leap:
        nodes = self._nodes(whole, target, h, False)
        gentle = lax.cummax(nodes.grade) <= slope
        last = jnp.min(jnp.where(gentle, nodes.z, whole.start.z))
        beyond = jnp.max(jnp.where(gentle, whole.end.z, nodes.z))
        last_grade = jnp.max(jnp.where(gentle, nodes.grade, 0.0))
        next_grade = jnp.min(jnp.where(nodes.z == beyond, nodes.grade, jnp.inf))
        share = jnp.log(slope / last_grade) / jnp.log(next_grade / last_grade)
        share = jnp.where((share > 0.0) & (share < 1.0), 0.9 * share, 0.0)
        end = last + share * (beyond - last)
        if not self.activation.smooth:
            end = jnp.where(whole.start.z > 0.0, jnp.maximum(end, 0.0), end)
        useful = gentle[0] & (end < whole.start.z)
        return Leap(Stretch(whole.start, self.point(end, target)), useful)

    def landmarks(self, z0: Scalar, h: Scalar, y: Scalar) -> Landmarks:
        side = jnp.sign(self.activation.error(jnp.asarray(z0), jnp.asarray(y)))
        target = Target(y, side)
        start = self.point(side * z0, target)
        whole = self.depart(start, target, Drop(0.9, 0.1, 0.1**0.5, 1.0 - 0.1**0.5))
        fastest = self._fastest(whole, target)
        passes = fastest.z < start.z
        fallen = self.excess(start, target) - self.excess(fastest, target)
        epochs = self.flow_time(Stretch(start, fastest), target) / h
        end = self._level(start, target, Drop(0.1, 0.9, 0.9**0.5, 1.0 - 0.9**0.5))
        peak = fastest.speed
        return Landmarks(
            acceleration=jnp.asarray(peak / start.speed),
            tangent_lag=jnp.where(passes, epochs - fallen / (h * peak**2), 0.0),
            displacement=side * end - z0,
            largest_step=jnp.asarray(h * peak),
        )

    def _fastest(self, whole: Stretch, target: Target) -> Spot:
        """Returns the peak of f on a leg: its best node, refined where f' changes its sign."""
        nodes = self._nodes(whole, target, jnp.ones_like(whole.start.z), False)
        speed = self._rate(nodes.z, target)
        best = jnp.argmax(speed)
        last = len(nodes.z) - 1
        above, below = nodes.z[jnp.maximum(best - 1, 0)], nodes.z[jnp.minimum(best + 1, last)]

        def halve(_: int, bracket: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
            upper, lower = bracket
            middle = (upper + lower) / 2.0
            falling = self.point(middle, target).slope < 0.0
            return jnp.where(falling, middle, upper), jnp.where(falling, lower, middle)

        upper, _ = lax.fori_loop(0, 52, halve, (above, below))
        rises = self.point(whole.start.z, target).slope < 0.0
        return self.point(jnp.where(rises, upper, whole.start.z), target)

    def _error(self, z: Scalar, target: Target) -> Scalar:
        z = jnp.asarray(z)
        y = jnp.broadcast_to(jnp.asarray(target.y), z.shape)
        return target.q * self.activation.error(target.q * z, y)

    def _output_slope(self, z: Scalar, target: Target) -> Scalar:
        return _positive(self.activation.slope(target.q * jnp.asarray(z)))

    def _rate(self, z: Scalar, target: Target) -> Scalar:
        error = self._error(z, target)
        if self.loss == "matching":
            return error
        return error * self.activation.slope(target.q * jnp.asarray(z))

    def _error_size(self, z: Scalar, target: Target) -> Scalar:
        """Returns the sizes of the terms that an error is added up from."""
        z = target.q * jnp.asarray(z)
        side = self.activation.asymptote(z)
        tail = jnp.abs(self.activation.error(z, side)) + jnp.abs(side - target.y)
        plain = jnp.abs(self.activation(z)) + jnp.abs(jnp.asarray(target.y))
        return ROUNDINGS * jnp.where(jnp.abs(z) < 0.5, jnp.minimum(plain, tail), tail)

    def _excess_size(self, point: Spot, target: Target) -> Scalar:
        """Returns the same for the excess of the matching loss."""
        z, y = target.q * jnp.asarray(point.z), jnp.asarray(target.y)
        excess = self.excess(point, target)
        floor = self._loss.floor(y) - self.activation.constant
        terms = jnp.abs((self.activation.asymptote(z) - y) * z) + jnp.abs(floor)
        distance = jnp.abs(z - self.activation.target(y))
        close = jnp.abs(excess) * (4.0 + 2.0 * jnp.abs(z) / _positive(distance))
        return ROUNDINGS * jnp.where(distance < _NEAR, close, terms + jnp.abs(excess))

    def _level(self, start: Spot, target: Target, drop: Drop) -> Scalar:
        """Returns where the excess has dropped: Newton's method on its logarithm, bracketed.

        NaN where that was not found.
        """
        quadratic = self.loss == "quadratic"

        def height(z: Scalar) -> tuple[Scalar, Scalar]:
            e = self._error(z, target)
            if quadratic:
                return e, self.activation.slope(jnp.asarray(target.q * z))
            return self._loss.above_floor(jnp.asarray(target.q * z), jnp.asarray(target.y)), e

        first, _ = height(start.z)
        level = (drop.error_keep if quadratic else drop.keep) * first
        centre = target.q * self.activation.target(jnp.asarray(target.y))
        far = start.z - 1e3 * (1.0 + jnp.abs(start.z))
        bottom = jnp.maximum(centre, far)

        def refine(_: int, state: tuple[Scalar, Scalar, Scalar]) -> tuple[Scalar, Scalar, Scalar]:
            z, upper, lower = state
            value, rise = height(z)
            upper = jnp.where(value > level, z, upper)
            lower = jnp.where(value > level, lower, z)
            better = z - jnp.log(value / level) * value / rise
            inside = (better <= upper) & (better >= lower)
            return jnp.where(inside, better, (upper + lower) / 2.0), upper, lower

        z, _, _ = lax.fori_loop(0, _ROOT_STEPS, refine, (start.z, start.z, bottom))
        found = jnp.abs(height(z)[0] / level - 1.0) < _LEVEL_TOLERANCE
        return jnp.where(found, z, jnp.nan)

    def _nodes(self, leg: Stretch, target: Target, h: Scalar, short: bool) -> Nodes:
        if short:
            after, weights = legendre(12)
            before = 1.0 - after
        else:
            after, before, weights = double_exponential(self.spacing)
        start, end = leg.start.z, leg.end.z
        width = start - end
        z = jnp.where(after < 0.5, start - width * after, end + width * before)
        f, *others = _derivatives(lambda v: self._rate(v, target), z, self.terms)
        f = _positive(f)
        steps, factor = [], h
        for other in others:
            steps.append(factor * other)
            factor = factor * (h * f)
        grade = jnp.zeros_like(z)
        for root, (j, d) in zip(_ROOTS, enumerate(steps, start=1), strict=False):
            grade = jnp.maximum(grade, root(jnp.abs(d) / factorial(j)))
        size = 2.0 * ROUNDINGS + jnp.abs(z * others[0] / f)
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


def _polynomial(terms: Terms, steps: list[jax.Array]) -> jax.Array:
    total = jnp.zeros_like(steps[0])
    for powers, coefficient in terms.items():
        term = jnp.full_like(total, float(coefficient))
        for step, power in zip(steps, powers, strict=False):
            if power:
                term = term * step**power
        total = total + term
    return total


def _derivatives(function: Callable[[Scalar], Scalar], z: Scalar, count: int) -> list[jax.Array]:
    """Returns a function at z and its derivatives up to an order, by nested forward mode."""
    z = jnp.asarray(z)

    def ladder(v: jax.Array, order: int) -> tuple[jax.Array, ...]:
        if order == 0:
            return (jnp.asarray(function(v)),)
        values, slopes = jax.jvp(lambda u: ladder(u, order - 1), (v,), (jnp.ones_like(v),))
        return (*values, slopes[-1])

    return list(ladder(z, count))
