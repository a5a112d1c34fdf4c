"""The dynamics of one activation and loss: gradient descent of z, and the terms of its length.

In canonical form a path of ``z <- z - h f(z)`` with ``f = dC/dz`` decreases. Two subclasses of
`Dynamics` exist: closed forms of the sigmoid (``sigmoid.py``) and quadrature for any smooth
activation (``smooth.py``). All methods are scalar JAX functions of one neuron, to be ``vmap``-ed
and ``jit``-ed inside ``jax.enable_x64(True)``, except ``canonical``, which reads whole columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from plateaumap.theory.canonical import NeuronGroup
from plateaumap.theory.flow import Condition, Drop, Scalar, Target

Point = Any
"""A place on a path: at least its ``z`` and its error ``e``, positive before the target."""

Segment = Any
"""A segment of a path: at least the points ``start`` and ``end``."""


class Neuron(NamedTuple):
    """One neuron in canonical form: start, step, target and drop.

    ``z_low`` and ``h_low`` lie below the last digits of z and h.
    """

    z: Scalar
    h: Scalar
    z_low: Scalar
    h_low: Scalar
    target: Target
    drop: Drop


class Estimate(NamedTuple):
    """A length in epochs, a real number, and bounds on its two errors.

    ``rounding`` grows with the length. ``truncation`` bounds what the series omits; it is inf
    where the series must not be used.
    """

    epochs: Scalar
    rounding: Scalar
    truncation: Scalar

    @property
    def bound(self) -> Scalar:
        """The bound on both errors together."""
        return self.rounding + self.truncation


class Leap(NamedTuple):
    """A segment whose length the series gives, and whether it saves any steps."""

    segment: Segment
    useful: jax.Array


class FlowLimits(NamedTuple):
    """Limits of measures of a run for a vanishing step, float64 scalars.

    Attributes:
        acceleration: the largest gradient over the first one.
        tangent_lag: where the steepest tangent of the loss meets the first loss, in epochs.
        displacement: how far z has moved when a tenth of the loss excess is gone.
        largest_step: the largest change of z in one epoch.
    """

    acceleration: jax.Array
    tangent_lag: jax.Array
    displacement: jax.Array
    largest_step: jax.Array


class Dynamics(ABC):
    """One activation and loss. Hashable, so that programs are compiled once for each.

    Attributes:
        leap_gate: the gate at which a leap ends in float64, for targets of 0 (True) and others.
        width: the most neurons that fit in a block.
        step_budget: steps that are followed before a path counts as one without theory.
    """

    leap_gate: ClassVar[dict[bool, float]]
    width: ClassVar[int]
    step_budget: ClassVar[int]

    span: ClassVar[tuple[float, float]] = (-float("inf"), float("inf"))
    """The z between which no term of a length overflows float64."""

    loss: str

    @property
    def compiled_as(self) -> "Dynamics":
        """The dynamics whose programs apply to the canonical form."""
        return self

    @property
    def coarse(self) -> "Dynamics":
        """Cheaper dynamics for predictions, if any."""
        return self

    @abstractmethod
    def canonical(
        self, count: int, columns: Mapping[str, NDArray[np.float64]]
    ) -> tuple[NDArray[np.uint8], list[NeuronGroup]]:
        """Return the state of each neuron, and the canonical form of the undecided ones.

        Args:
            count: the number of neurons.
            columns: ``w0, b0, lr, x, y``, each of shape (count,) or a scalar.
        """

    @abstractmethod
    def point(self, z: Scalar, target: Target, z_low: Scalar = 0.0) -> Point:
        """Return the point at ``z + z_low``, ``z_low`` lying below the last digit of z."""

    @abstractmethod
    def segment(self, start: Point, end: Point, target: Target) -> Segment:
        """Return the segment between two points."""

    @abstractmethod
    def to_level(self, start: Point, target: Target, drop: Drop) -> Segment:
        """Return the segment from a start to where the loss excess has dropped."""

    @abstractmethod
    def gradient(self, point: Point) -> Scalar:
        """Return ``f``, the gradient dC/dz."""

    @abstractmethod
    def curvature(self, point: Point) -> Scalar:
        """Return ``f'``."""

    @abstractmethod
    def third_derivative(self, point: Point) -> Scalar:
        """Return a bound on ``|f''|`` next to a point."""

    @abstractmethod
    def gradient_rounding(self, point: Point, target: Target) -> Scalar:
        """Return a bound on the roundings in ``f``, in units of 2**-53."""

    @abstractmethod
    def excess(self, point: Point, target: Target) -> Scalar:
        """Return the loss above its minimum."""

    @abstractmethod
    def level_error(self, whole: Segment, target: Target) -> Scalar:
        """Return a bound on the error of z at the end of ``to_level``."""

    @abstractmethod
    def correction(self, segment: Segment, neuron: Neuron, gate: Scalar | None = None) -> Estimate:
        """Return the part of a length beyond the flow time over h.

        Args:
            segment: from the start to the end.
            neuron: its step and target.
            gate: the largest ``h |f'|`` to allow; by default what the series needs.
        """

    @abstractmethod
    def length(
        self, segment: Segment, neuron: Neuron, gate: Scalar | None = None, short: bool = False
    ) -> Estimate:
        """Return ``Phi(start) - Phi(end)``: the flow time over h, and the correction.

        A ``short`` segment is at most an epoch long and lies before the end of a leap. The other
        arguments are those of ``correction``.
        """

    @abstractmethod
    def flow_time(self, segment: Segment, target: Target) -> Scalar:
        """Return the flow time of a segment."""

    @abstractmethod
    def gate_test(
        self, whole: Segment, neuron: Neuron, gate: Scalar
    ) -> Callable[[Point], Condition]:
        """Return the test whether the series holds from a point to the end of a segment."""

    @abstractmethod
    def leap(self, whole: Segment, neuron: Neuron, gate: Scalar) -> Leap:
        """Return the leap from a start to where the path exceeds the gate."""

    @abstractmethod
    def flow_limits(self, z0: Scalar, h: Scalar, y: Scalar) -> FlowLimits:
        """Return the limits of the flow from z0 to the target y, in the neuron's own z."""

    def complement(self, point: Point) -> Scalar:
        """Return ``sigma(-z)`` of a sigmoid, which the pass in double-double reads; else NaN."""
        return jnp.full_like(point.z, jnp.nan)

    def saturated_gradient(self, target: Target) -> Scalar:
        """Return the limit of ``f`` as z grows if paths follow it, else 0."""
        del target
        return 0.0

    def log_flow_time(self, neuron: Neuron) -> Scalar:
        """Return the logarithm of the flow time to the level, or NaN without a closed form."""
        return jnp.full_like(neuron.z, jnp.nan)

    def landing_meets_level(self, segment: Segment, neuron: Neuron) -> Condition:
        """Return whether the epoch that passes the segment's end also meets the loss level.

        Where ``h f' < 1`` on the segment the map increases there, so that no step from it lands
        below the image of its end. With a target that can be passed that image may lie beyond the
        target. It must not lie so far that the excess is above the level again.
        """
        target = neuron.target
        if target.is_zero:
            return True
        landing = self.point(segment.end.z - neuron.h * self.gradient(segment.end), target)
        level = neuron.drop.keep * self.excess(segment.start, target)
        return (landing.e >= 0.0) | (self.excess(landing, target) < (1.0 - 1e-9) * level)
