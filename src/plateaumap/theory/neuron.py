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
from plateaumap.theory.epochs import EpochCounts, count_epochs, predict_epochs
from plateaumap.theory.law import Landmarks, Law
from plateaumap.theory.laws import Case, law_of, why_no_theory
from plateaumap.theory.theory import Points, Theory

_DERIVED_FOR = ("quadratic", "cross_entropy", "matching")
"""The names of losses whose lengths were derived; any other loss has none."""


@dataclass(frozen=True)
class NeuronTheory(Theory):
    """What is known of a neuron under one loss.

    Attributes:
        activation: the name of its activation.
        loss: the loss; of one that has no name of its own only `unimodal` is known.
        name: the name under which the sweep trains it, None for a user's function.
    """

    activation: str
    loss: Loss
    name: str | None

    @property
    def case(self) -> Case | None:  # type: ignore[override]
        """Return the names for `plateau_epochs`, if it knows this loss of this activation."""
        if self.name not in _DERIVED_FOR or why_no_theory(self.activation) is not None:
            return None
        return Case(self.name, self.activation)

    @property
    def never_flat(self) -> bool:  # type: ignore[override]
        """Return whether the slope of the activation is positive for every z, for named losses."""
        return self.name in _DERIVED_FOR and not activations.get(self.activation).flat

    def predict(self, points: Points, drop: float) -> np.ndarray | None:
        """Return the length by `predict_epochs`."""
        case = self.case
        return (
            None if case is None else predict_epochs(**_cells(points), drop=drop, **case._asdict())
        )

    def lengths(self, points: Points, drop: float) -> EpochCounts | None:
        """Return the length by `count_epochs`."""
        case = self.case
        return None if case is None else count_epochs(**_cells(points), drop=drop, **case._asdict())

    def landmarks(self, points: Points) -> Landmarks | None:
        """Return the landmarks of the gradient flow."""
        case = self.case
        if case is None:
            return None
        with np.errstate(over="ignore"), double_precision():
            z = points["w0"] * points["x"] + points["b0"]
            h = points["lr"] * (1 + np.square(points["x"]))
            found = _landmarks(law_of(case.activation, case.loss))(z, h, points["y"])
            return jax.tree.map(np.asarray, found)

    def unimodal(self, point: Mapping[str, Any]) -> Array | None:
        """Return whether z is known to run down its loss without going past the target."""
        if self.loss.unimodal is None or self.loss.decrease is None:
            return None
        return self.loss.unimodal(point["lr"] * (1 + jnp.square(point["x"])), point["y"])

    def rounding_shift(
        self, points: Points, measured: Mapping[str, np.ndarray], digits: int
    ) -> np.ndarray | None:
        """Return `N² (|x| ulp(w) + ulp(b)) / 2`, with N the epochs that the run was followed.

        Each epoch rounds w and b by half a unit at most, and a shift of z by δ early on shifts
        the end of a plateau of N epochs by about N δ. Past its target a run may amplify errors,
        and no such bound holds.
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
def _landmarks(law: Law) -> Any:
    return jax.jit(jax.vmap(law.landmarks))


def _cells(points: Points) -> dict[str, Any]:
    return {name: points[name] for name in ("w0", "b0", "lr", "x", "y")}


def _largest_unit(start: np.ndarray, moved: np.ndarray, digits: int) -> np.ndarray:
    """Return the unit in the last place of a parameter, where it was largest by T10."""
    size = np.maximum(np.abs(start), np.abs(start + np.nan_to_num(moved)))
    return np.where(size > 0, np.ldexp(1.0, np.frexp(size)[1] - digits), 0.0)
