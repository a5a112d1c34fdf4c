"""What the leap asks of an activation and a loss, whoever answers.

A *descent* is a path of z under ``z <- z - h f(z)`` that comes down; a law brings every neuron
into that form. Two laws exist: the sigmoid's closed forms (``sigmoid.py``) and quadrature for any
smooth activation (``smooth.py``). All methods are scalar JAX functions of one neuron, to be
``vmap``-ed and ``jit``-ed inside ``jax.enable_x64(True)``, but for ``descents``, which reads
whole columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from plateaumap.theory.cells import Group
from plateaumap.theory.flow import Condition, Drop, Scalar, Target

Point = Any
"""A place on a descent: at least its ``z`` and its error ``e``, positive before the target."""

Leg = Any
"""A stretch of a descent: at least the points ``start`` and ``end``."""


class Estimate(NamedTuple):
    """A length in epochs, a real number, and bounds on its two errors.

    ``rounding`` grows with the length; ``truncation`` is what the series leaves out, inf where it
    must not be used.
    """

    epochs: Scalar
    rounding: Scalar
    truncation: Scalar


class Leap(NamedTuple):
    """A leg that the series may leap over, and whether it is worth it."""

    leg: Leg
    useful: jax.Array


class Landmarks(NamedTuple):
    """What the flow says of a run, float64 scalars.

    Attributes:
      acceleration: the largest speed over the first one.
      tangent_lag: where the tangent of the steepest fall meets the first loss, in epochs.
      displacement: how far z has moved when a tenth of the loss excess is gone.
      largest_step: the largest change of z in one epoch.
    """

    acceleration: jax.Array
    tangent_lag: jax.Array
    displacement: jax.Array
    largest_step: jax.Array


class Law(ABC):
    """One activation and loss. Hashable, so that programs are compiled once for each.

    Attributes:
      leap_slope: how gentle the end of a leap has to be, in float64, with targets at the end of
        the range that are known as such, and with others.
      width: the most lanes that fit in a block.
      step_budget: steps that are followed before a path counts as one without theory.
    """

    leap_slope: ClassVar[dict[bool, float]]
    width: ClassVar[int]
    step_budget: ClassVar[int]

    loss: str

    @property
    def span(self) -> tuple[float, float]:
        """The z between which no term of a length overflows float64."""
        return -jnp.inf, jnp.inf

    @property
    def canonical(self) -> "Law":
        """The law that the descents follow, if that is another one."""
        return self

    def roughly(self) -> "Law":
        """The law that predictions follow, if a cheaper one will do."""
        return self

    @abstractmethod
    def descents(
        self,
        count: int,
        w0: NDArray[np.float64],
        b0: NDArray[np.float64],
        lr: NDArray[np.float64],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint8], list[Group]]:
        """Returns the states of cells without a descent, and the descents of the others."""

    @abstractmethod
    def point(self, z: Scalar, target: Target, z_low: Scalar = 0.0) -> Point:
        """Returns the point at ``z + z_low``, ``z_low`` lying below the last digit of z."""

    @abstractmethod
    def leg(self, start: Point, end: Point, target: Target) -> Leg:
        """Returns the stretch between two points."""

    @abstractmethod
    def depart(self, start: Point, target: Target, drop: Drop) -> Leg:
        """Returns the leg from a start to where the loss excess has dropped."""

    @abstractmethod
    def mark(self, point: Point) -> Scalar:
        """Returns what tells the end of a leap to the pass in double-double, if there is one."""

    @abstractmethod
    def speed(self, point: Point) -> Scalar:
        """Returns ``f``."""

    @abstractmethod
    def slope(self, point: Point) -> Scalar:
        """Returns ``f'``."""

    @abstractmethod
    def curvature(self, point: Point) -> Scalar:
        """Returns a bound on ``|f''|`` next to a point."""

    @abstractmethod
    def noise(self, point: Point, target: Target) -> Scalar:
        """Returns a bound on the roundings in ``f``, in units of 2**-53."""

    @abstractmethod
    def excess(self, point: Point, target: Target) -> Scalar:
        """Returns the loss above its minimum."""

    @abstractmethod
    def end_error(self, whole: Leg, target: Target) -> Scalar:
        """Returns a bound on the error of z at the end of ``depart``."""

    @abstractmethod
    def correction(
        self, leg: Leg, target: Target, h: Scalar, slope: Scalar | None = None, short: bool = False
    ) -> Estimate:
        """Returns the part of a length beyond the flow time over h.

        Args:
          leg: from the start to the end.
          target: its target.
          h: the step ``lr (1 + x**2)``.
          slope: how gentle the leg has to be; as gentle as the series needs by default.
          short: whether the leg is at most an epoch long and lies before the end of a leap.
        """

    @abstractmethod
    def with_flow(
        self,
        leg: Leg,
        target: Target,
        h: Scalar,
        h_low: Scalar,
        correction: Estimate,
        short: bool = False,
    ) -> Estimate:
        """Returns a length: the flow time over h, and what ``correction`` adds to it."""

    @abstractmethod
    def flow_time(self, leg: Leg, target: Target) -> Scalar:
        """Returns the flow time of a leg."""

    @abstractmethod
    def calm(
        self, whole: Leg, target: Target, h: Scalar, slope: Scalar
    ) -> Callable[[Point], Condition]:
        """Returns the test whether the series reaches from a point to the end of a leg."""

    @abstractmethod
    def leap(self, whole: Leg, target: Target, h: Scalar, slope: Scalar) -> Leap:
        """Returns the leap from a start to where the path stops being gentle."""

    @abstractmethod
    def landmarks(self, z0: Scalar, h: Scalar, y: Scalar) -> Landmarks:
        """Returns the landmarks of the flow from z0 to the target y, in the neuron's own z."""

    def far_speed(self, target: Target) -> Scalar:
        """Returns the limit of ``f`` as z grows, if paths follow it; else 0."""
        del target
        return 0.0

    def log_flow_time(self, z: Scalar, target: Target, drop: Drop) -> Scalar:
        """Returns the logarithm of the flow time, also where the time overflows, else NaN."""
        del target, drop
        return jnp.full_like(z, jnp.nan)

    def length(
        self,
        leg: Leg,
        target: Target,
        h: Scalar,
        h_low: Scalar = 0.0,
        slope: Scalar | None = None,
        short: bool = False,
    ) -> Estimate:
        """Returns ``Phi(start) - Phi(end)``; the arguments are those of ``correction``.

        ``h_low`` is what lies below the last digit of h.
        """
        correction = self.correction(leg, target, h, slope, short)
        return self.with_flow(leg, target, h, h_low, correction, short)

    def lands_well(self, leg: Leg, target: Target, drop: Drop, h: Scalar) -> Condition:
        """Whether the epoch that passes the leg's end also meets the loss level.

        Where ``h f' < 1`` on the leg the map increases there, so that no step from it lands below
        the image of its end. With a target that can be passed that image may lie beyond it; it
        must not lie so far that the excess is above the level again.
        """
        if target.is_zero:
            return True
        landing = self.point(leg.end.z - h * self.speed(leg.end), target)
        level = drop.keep * self.excess(leg.start, target)
        return (landing.e >= 0.0) | (self.excess(landing, target) < (1.0 - 1e-9) * level)
