"""What can be known of a model beyond its definition, as one object attached to that model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jax import Array

if TYPE_CHECKING:
    from plateaumap.theory.epochs import EpochCounts
    from plateaumap.theory.law import Landmarks
    from plateaumap.theory.laws import Case

Points = Mapping[str, np.ndarray]


def case_of(theory: Theory | None) -> Case | None:
    """Return the names under which `plateau_epochs` has exact lengths of a model, if it has."""
    return None if theory is None else theory.case


class Theory:
    """Results that hold for one model, loss and optimizer, and for nothing else.

    General code asks a `Theory` and works without one: each method returns None where nothing is
    known, which is the default. `Experiment.theory` returns it; see there for when it applies.

    Example:
        >>> class Doubling(Theory):
        ...     def predict(self, points, drop):
        ...         return np.log1p(-drop) / np.log1p(-points["lr"])
        >>> Doubling().predict({"lr": np.array([0.5])}, 0.75)
        array([2.])
    """

    case: Case | None = None
    """The names under which `plateau_epochs` has exact lengths of this model."""

    never_flat: bool = False
    """Whether an exact zero of the gradient, with loss to lose, can only be an underflow."""

    def predict(self, points: Points, drop: float) -> np.ndarray | None:
        """Return the predicted epoch at which `drop` of the loss excess is gone.

        A prediction orders runs and fills `predicted_epochs`; it changes no measured value.

        Args:
            points: arrays of shape (n,), one for each coordinate.
            drop: share of the loss excess, in (0, 1).

        Returns:
            float64 epochs of shape (n,), NaN where no prediction applies; None for no theory.
        """
        del points, drop
        return None

    def lengths(self, points: Points, drop: float) -> EpochCounts | None:
        """Return the exact epochs at which `drop` of the loss excess is gone, where known.

        Args:
            points: float64 arrays of shape (n,), one for each coordinate.
            drop: share of the loss excess, in (0, 1).
        """
        del points, drop
        return None

    def landmarks(self, points: Points) -> Landmarks | None:
        """Return acceleration, tangent lag and displacement in the limit of small steps.

        Args:
            points: float64 arrays of shape (n,), one for each coordinate.
        """
        del points
        return None

    def unimodal(self, point: Mapping[str, Any]) -> Array | None:
        """Return whether the loss falls in every epoch with one peak of gradient and fall.

        Runs that are unimodal are observed at intervals, which is many times faster.

        Args:
            point: a scalar for each coordinate; this method is traced by JAX.

        Returns:
            A boolean scalar, or None if nothing is known.
        """
        del point
        return None

    def rounding_shift(
        self, points: Points, measured: Mapping[str, np.ndarray], digits: int
    ) -> np.ndarray | None:
        """Return by how many epochs uncompensated updates may have shifted a crossing.

        Args:
            points: arrays of shape (n,), one for each coordinate.
            measured: the measured columns of these points.
            digits: binary digits of the arithmetic.

        Returns:
            float64 epochs of shape (n,), inf where no bound holds; None without any bound.
        """
        del points, measured, digits
        return None
