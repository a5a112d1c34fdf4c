"""The law of a sigmoid: closed forms, exact to the last digits, and of what is one in disguise.

``tanh z = 2 sigma(2 z) - 1``: gradient descent of a tanh neuron is that of a sigmoid with the
target ``(1 + y) / 2``, from ``2 z``, with a step 16 times as long for the quadratic loss and 4
times for the matching one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from plateaumap.theory import abel, descents, flow, landmarks
from plateaumap.theory.flow import DYNAMICS, Condition, Drop, Leg, Point, Scalar, Target
from plateaumap.theory.law import Estimate, Landmarks, Law, Leap

RATIO = 0.1
"""Ratio of terms above which the series is not trusted to far below an epoch."""

_CURVATURE = 0.15
"""Bound on ``|f''|``, of either loss and every target."""


@dataclass(frozen=True)
class SigmoidLaw(Law):
    """The law of ``sigma(scale z)`` with outputs from 0 to 1 or, for tanh, from -1.

    Attributes:
      loss: a key of ``DYNAMICS``.
      stretch: how z and h relate to those of a sigmoid, and where the outputs begin.
    """

    loss: str
    stretch: descents.Stretch = descents.PLAIN

    leap_slope: ClassVar[dict[bool, float]] = {True: 0.1, False: 0.02}
    width: ClassVar[int] = 1 << 30
    step_budget: ClassVar[int] = 4000

    @property
    def span(self) -> tuple[float, float]:
        return DYNAMICS[self.loss].span

    @property
    def canonical(self) -> "SigmoidLaw":
        return SigmoidLaw(self.loss)

    def descents(
        self,
        count: int,
        w0: NDArray[np.float64],
        b0: NDArray[np.float64],
        lr: NDArray[np.float64],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint8], list[descents.Group]]:
        return descents.descents(count, w0, b0, lr, x, y, self.stretch)

    def point(self, z: Scalar, target: Target, z_low: Scalar = 0.0) -> Point:
        return flow.make_point(z, target, z_low)

    def leg(self, start: Point, end: Point, target: Target) -> Leg:
        return flow.make_leg(start, end, target)

    def depart(self, start: Point, target: Target, drop: Drop) -> Leg:
        return DYNAMICS[self.loss].depart(start, target, drop)

    def mark(self, point: Point) -> Scalar:
        return point.s

    def speed(self, point: Point) -> Scalar:
        return DYNAMICS[self.loss].speed(point)

    def slope(self, point: Point) -> Scalar:
        return DYNAMICS[self.loss].slope(point)

    def curvature(self, point: Point) -> Scalar:
        return _CURVATURE

    def noise(self, point: Point, target: Target) -> Scalar:
        p = point
        sides = p.e if target.is_zero else target.q * p.a + target.y * p.s * (1.0 + jnp.abs(p.z))
        return 12.0 * jnp.abs(self.speed(p) / p.e) * sides

    def excess(self, point: Point, target: Target) -> Scalar:
        return DYNAMICS[self.loss].excess(point, target)

    def end_error(self, whole: Leg, target: Target) -> Scalar:
        return 8.0 * 2.0**-53 * (1.0 + jnp.abs(whole.end.z) + jnp.abs(whole.start.z))

    def correction(
        self, leg: Leg, target: Target, h: Scalar, slope: Scalar | None = None, short: bool = False
    ) -> Estimate:
        return abel.abel_correction(self.loss, leg, target, h, slope, short)

    def with_flow(
        self,
        leg: Leg,
        target: Target,
        h: Scalar,
        h_low: Scalar,
        correction: Estimate,
        short: bool = False,
    ) -> Estimate:
        return abel.with_flow(self.loss, leg, target, h, h_low, correction)

    def flow_time(self, leg: Leg, target: Target) -> Scalar:
        return DYNAMICS[self.loss].duration(leg, target).time

    def calm(
        self, whole: Leg, target: Target, h: Scalar, slope: Scalar
    ) -> Callable[[Point], Condition]:
        dynamics = DYNAMICS[self.loss]

        def test(p: Point) -> Condition:
            leg = Leg(p, whole.end, 0.0, 0.0, 0.0, 0.0)
            small = h * dynamics.stiffness(leg) <= slope
            return small & (h * dynamics.stride(leg) <= jnp.maximum(RATIO, slope))

        return test

    def leap(self, whole: Leg, target: Target, h: Scalar, slope: Scalar) -> Leap:
        dynamics = DYNAMICS[self.loss]
        s = jnp.minimum(dynamics.saturation(slope / h, target), 0.45 * target.q)
        inside = (whole.start.s < 0.7 * s) & (s < whole.end.s)
        end = flow.point_at(jnp.where(inside, s, 0.25 * target.q), target)
        leg = flow.make_leg(whole.start, end, target)
        return Leap(leg, inside & (h * dynamics.stride(leg) <= RATIO))

    def far_speed(self, target: Target) -> Scalar:
        return DYNAMICS[self.loss].far_speed(target)

    def log_flow_time(self, z: Scalar, target: Target, drop: Drop) -> Scalar:
        dynamics = DYNAMICS[self.loss]
        end = flow.make_point(dynamics.departure(z, target, drop), target)
        leg = flow.make_leg(flow.make_point(z, target), end, target)
        return dynamics.log_duration(leg, target)

    def landmarks(self, z0: Scalar, h: Scalar, y: Scalar) -> Landmarks:
        scale, factor = self.stretch.z, self.stretch.h
        output = y if self.stretch is descents.PLAIN else (1.0 + y) / 2.0
        found = landmarks.landmarks(scale * z0, factor * h, output, loss=self.loss)
        return found._replace(
            displacement=found.displacement / scale, largest_step=found.largest_step / scale
        )
