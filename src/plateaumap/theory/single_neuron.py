"""The theory of one neuron with one input and one sample under plain gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from plateaumap.neuron import activations
from plateaumap.neuron.losses import Loss
from plateaumap.numerics.compiler import double_precision
from plateaumap.theory.applicability import DERIVED_LOSSES, dynamics_of, why_no_theory
from plateaumap.theory.base import Case, Points, Theory
from plateaumap.theory.dynamics import Dynamics, FlowLimits
from plateaumap.theory.epochs import EpochCounts, count_epochs, predict_epochs


@dataclass(frozen=True)
class NeuronTheory(Theory):
    """Results known of a neuron under one loss.

    Attributes:
        activation: the name of its activation.
        loss: the loss; without a name among those derived, only `unimodal` is known.
        name: the name under which the sweep trains it, None for a user's function.
    """

    activation: str
    loss: Loss
    name: str | None

    @property
    def case(self) -> Case | None:  # type: ignore[override]
        """Return the case of `plateau_epochs`, if it knows this loss of this activation."""
        if self.name not in DERIVED_LOSSES or why_no_theory(self.activation) is not None:
            return None
        return Case(self.name, self.activation)

    @property
    def never_flat(self) -> bool:  # type: ignore[override]
        """Return whether the slope of the activation is positive for every z, for named losses."""
        return self.name in DERIVED_LOSSES and not activations.get(self.activation).flat

    def predict(self, points: Points, drop: float) -> np.ndarray | None:
        """Return the length by `predict_epochs`."""
        if self.case is None:
            return None
        return predict_epochs(**_coordinates(points), drop=drop, **self.case._asdict())

    def lengths(self, points: Points, drop: float) -> EpochCounts | None:
        """Return the length by `count_epochs`."""
        if self.case is None:
            return None
        return count_epochs(**_coordinates(points), drop=drop, **self.case._asdict())

    def flow_limits(self, points: Points) -> FlowLimits | None:
        """Return the limits of the gradient flow."""
        if self.case is None:
            return None
        with np.errstate(over="ignore"), double_precision():
            z = points["w0"] * points["x"] + points["b0"]
            h = points["lr"] * (1 + np.square(points["x"]))
            dynamics = dynamics_of(self.case.activation, self.case.loss)
            return jax.tree.map(np.asarray, _flow_limits(dynamics)(z, h, points["y"]))

    def unimodal(self, point: Mapping[str, Any]) -> Array | None:
        """Return whether z is known to approach its target without passing it."""
        if self.loss.unimodal is None or self.loss.decrease is None:
            return None
        return self.loss.unimodal(point["lr"] * (1 + jnp.square(point["x"])), point["y"])

    def rounding_shift(
        self, points: Points, measured: Mapping[str, np.ndarray], digits: int
    ) -> np.ndarray | None:
        """Return `N² (|x| ulp(w) + ulp(b)) / 2`, with N the epochs of the run.

        Each epoch rounds w and b by half a unit at most, and a shift of z by δ early on shifts
        the end of a plateau of N epochs by about N δ. A run that has passed its target may amplify
        errors, and no such bound holds.
        """
        epochs = np.ma.filled(measured["epochs_run"], 0).astype(np.float64)
        w, b = (
            _largest_unit(points[start], measured[moved], digits)
            for start, moved in (("w0", "w_moved"), ("b0", "b_moved"))
        )
        with np.errstate(over="ignore", invalid="ignore"):
            shift = np.square(epochs) * (np.abs(points["x"]) * w + b) / 2
        return np.where(measured["path"] >= 0, np.inf, shift)


@lru_cache(maxsize=8)
def _flow_limits(dynamics: Dynamics) -> Any:
    return jax.jit(jax.vmap(dynamics.flow_limits))


def _coordinates(points: Points) -> dict[str, Any]:
    return {name: points[name] for name in ("w0", "b0", "lr", "x", "y")}


def _largest_unit(start: np.ndarray, moved: np.ndarray, digits: int) -> np.ndarray:
    """Return the unit in the last place of a parameter, where it was largest by T10."""
    size = np.maximum(np.abs(start), np.abs(start + np.nan_to_num(moved)))
    return np.where(size > 0, np.ldexp(1.0, np.frexp(size)[1] - digits), 0.0)
