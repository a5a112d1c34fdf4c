"""The interface of a theory: results known of one model beyond its definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jax import Array

if TYPE_CHECKING:
    from plateaumap.theory.dynamics import FlowLimits
    from plateaumap.theory.epochs import EpochCounts

Points = Mapping[str, np.ndarray]


class Case(NamedTuple):
    """The arguments `loss` and `activation` of `plateau_epochs` for a model."""

    loss: str
    activation: str = "sigmoid"

    @property
    def flow_loss(self) -> str | None:
        """The argument `loss` of `flow_epochs`, or None where the flow has no closed form.

        A sigmoid's flow has one; its matching loss is the cross-entropy.
        """
        if self.activation != "sigmoid":
            return None
        return "quadratic" if self.loss == "quadratic" else "cross_entropy"


def case_of(theory: Theory | None) -> Case | None:
    """Return the case under which `plateau_epochs` has exact lengths of a model, or None."""
    return None if theory is None else theory.case


class Theory:
    """Results that hold for one model, loss and optimizer, and for nothing else.

    General code queries a `Theory` and also works without one: each method returns None where
    nothing is known, which is the default. `Experiment.theory` returns the theory of a model, and
    its documentation says when that theory applies.

    Example:
        >>> import numpy as np
        >>> import plateaumap as pm
        >>> class Doubling(pm.Theory):
        ...     def predict(self, points, drop):
        ...         return np.log1p(-drop) / np.log1p(-points["lr"])
        >>> Doubling().predict({"lr": np.array([0.5])}, 0.75)
        array([2.])
    """

    case: Case | None = None
    """The case under which `plateau_epochs` has exact lengths of this model."""

    never_flat: bool = False
    """Whether a gradient of exactly zero, above the loss floor, can only be an underflow."""

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

    def flow_limits(self, points: Points) -> FlowLimits | None:
        """Return acceleration, tangent lag and displacement in the limit of small steps.

        Args:
            points: float64 arrays of shape (n,), one for each coordinate.
        """
        del points
        return None

    def unimodal(self, point: Mapping[str, Any]) -> Array | None:
        """Return whether the loss decreases in every epoch, with one peak of gradient and decrease.

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
