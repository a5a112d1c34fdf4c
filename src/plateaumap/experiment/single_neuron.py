"""The neuron with one input and one sample, trained by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from plateaumap.experiment.coordinates import Coordinate
from plateaumap.experiment.protocol import Experiment, LossLike, Point, PyTree
from plateaumap.inputs.errors import PlateaumapError, first_line
from plateaumap.neuron import activations, losses
from plateaumap.neuron.formulas import Parameters, pre_activation
from plateaumap.neuron.losses import Loss
from plateaumap.theory.base import Theory
from plateaumap.theory.single_neuron import NeuronTheory
from plateaumap.training.measures import (
    ENDINGS,
    STANDARD,
    Displacement,
    InitialGradient,
    Losses,
    Measure,
    Outputs,
)


@dataclass(frozen=True)
class SingleNeuron(Experiment):
    """One neuron with one input and one sample, trained by gradient descent.

    Attributes:
        activation: the name of the activation.

    Raises:
        PlateaumapError: the activation is unknown.

    Example:
        >>> import plateaumap as pm
        >>> [coordinate.name for coordinate in pm.SingleNeuron("tanh").coordinates]
        ['w0', 'b0', 'lr', 'x', 'y']
    """

    activation: str = "sigmoid"

    def __post_init__(self) -> None:
        """Refuse an unknown activation."""
        activations.get(self.activation)

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:  # type: ignore[override]
        """Return initial weight and bias, learning rate, input and target."""
        return (
            Coordinate("w0", "weight at the start", None),
            Coordinate("b0", "bias at the start", None),
            Coordinate("lr", "learning rate", None, 0.0, math.inf, minimum_excluded=True),
            Coordinate("x", "input", 1.0),
            Coordinate("y", "target", 0.0, *self._targets()),
        )

    def _targets(self) -> tuple[float, float]:
        # A sigmoid refuses unreachable targets for every loss, others only if a loss requires it.
        return (0.0, 1.0) if self.activation == "sigmoid" else (-math.inf, math.inf)

    @property
    def known_losses(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the names of the losses."""
        return losses.known_losses(self.activation)

    @property
    def default_losses(self) -> tuple[str, ...]:
        """Return the quadratic loss, and the matching loss of the activation if it has one."""
        matching = "cross_entropy" if self.activation == "sigmoid" else "matching"
        return tuple(name for name in ("quadratic", matching) if name in self.known_losses)

    def why_not_loss(self, loss_name: LossLike) -> str | None:
        """Return why the neuron cannot be trained with a loss, or None."""
        if isinstance(loss_name, str):
            return losses.why_not(loss_name, self.activation) if losses.is_name(loss_name) else None
        return _why_not_differentiable(loss_name)

    def why_not_values(self, loss_name: LossLike, name: str, values: np.ndarray) -> str | None:
        """Return why a loss does not allow one of some targets, or None."""
        if name != "y" or not isinstance(loss_name, str):
            return None
        return losses.why_not_target(loss_name, self.activation, values)

    def init(self, point: Point) -> Parameters:
        """Return the initial weight w0 and bias b0."""
        return Parameters(point["w0"], point["b0"])

    def loss(self, parameters: PyTree, point: Point, loss_name: LossLike) -> Array:
        """Return the raw loss of the pre-activation."""
        return self._loss(loss_name)(pre_activation(parameters, point["x"]), point["y"])

    def floor(self, point: Point, loss_name: LossLike) -> Array:
        """Return the infimum of the loss for the target of a point."""
        return self._loss(loss_name).floor(point["y"])

    def excess(self, parameters: PyTree, point: Point, loss_name: LossLike) -> Array:
        """Return the loss above its floor."""
        return self._loss(loss_name).above_floor(pre_activation(parameters, point["x"]), point["y"])

    def gradient_scalar(self, gradients: PyTree) -> Array:
        """Return dC/dz, which is the gradient of the bias."""
        return (
            gradients.b if isinstance(gradients, Parameters) else super().gradient_scalar(gradients)
        )

    def decrease(
        self, point: Point, loss_name: LossLike
    ) -> Callable[[PyTree, PyTree], Array] | None:
        """Return the decrease of the loss in one update of z, if the loss defines it."""
        decrease = self._loss(loss_name).decrease
        if decrease is None:
            return None
        x, y = point["x"], point["y"]
        return lambda p, u: decrease(pre_activation(p, x), pre_activation(u, x), y)

    def direction(self, gradients: PyTree) -> Array | None:
        """Return dC/dz, which has the sign of dC/da, as activations do not decrease."""
        return gradients.b if isinstance(gradients, Parameters) else None

    def theory(self, loss_name: LossLike) -> Theory | None:
        """Return the theory of this activation and loss under gradient descent, or None."""
        name = loss_name if isinstance(loss_name, str) else None
        if name is not None and name not in self.known_losses:
            return None
        return NeuronTheory(self.activation, self._loss(loss_name), name)

    def converged(self, parameters: PyTree, point: Point, tolerance: Array) -> Array:
        """Return whether the output is within the tolerance of the target."""
        if type(self).output is not SingleNeuron.output:
            return jnp.abs(self.output(parameters, point) - point["y"]) <= tolerance
        activation = activations.get(self.activation)
        error = activation.error(pre_activation(parameters, point["x"]), point["y"])
        return jnp.abs(error) <= tolerance

    def output(self, parameters: PyTree, point: Point) -> Array:
        """Return the output of the neuron."""
        return activations.get(self.activation)(pre_activation(parameters, point["x"]))

    def _loss(self, loss_name: LossLike) -> Loss:
        if isinstance(loss_name, str):
            return losses.resolve(loss_name, self.activation)
        return losses.as_loss(loss_name)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return the standard measures, the outputs, and the displacements of w and b."""
        return (
            *STANDARD,
            Outputs(),
            InitialGradient("dC/dz at the start"),
            Losses(),
            Displacement(("w_moved", "b_moved")),
            *ENDINGS,
        )

    def describe(self) -> dict[str, Any]:
        """Return the description in a specification."""
        return {"kind": "single_neuron", "activation": self.activation}


_MEMBERS = {base: dict(vars(base)) for base in (SingleNeuron, Experiment)}
"""The members of the neuron as this package defines them."""


def is_plain_neuron(experiment: object) -> bool:
    """Return whether an experiment is the neuron of this package, with nothing patched."""
    return (
        type(experiment) is SingleNeuron
        and set(vars(experiment)) <= {"activation"}
        and all(
            vars(base).get(name) is member
            for base, members in _MEMBERS.items()
            for name, member in members.items()
            if not name.startswith(("__", "_abc_"))
        )
    )


def _why_not_differentiable(function: Callable) -> str | None:
    """Return why JAX cannot trace and differentiate a function `loss(z, y)`, or None."""
    loss = losses.as_loss(function)
    for bits, dtype in ((False, jnp.float32), (True, jnp.float64)):
        number = jax.ShapeDtypeStruct((), dtype)
        try:
            with jax.enable_x64(bits):
                value, _ = jax.eval_shape(jax.value_and_grad(loss.value), number, number)
        except Exception as error:  # any error of a user's function
            return f"calling it as loss(z, y) raised {first_line(error)}"
        if value.dtype != dtype:
            return (
                f"for z of {number.dtype} it returned {value.dtype}; compute in the precision of z"
            )
    return None


def experiment_from(description: Mapping[str, Any]) -> Experiment:
    """Return the experiment that `describe` described.

    Raises:
        PlateaumapError: the kind or a field is unknown.
    """
    fields = dict(description)
    kind = fields.pop("kind", "single_neuron")
    if kind != "single_neuron" or "defined_in" in fields:
        where = f" ({fields['defined_in']})" if "defined_in" in fields else ""
        raise PlateaumapError(
            f"experiment.kind is {kind!r}{where}; a file can only name 'single_neuron' and holds "
            "no code: run the script that defines the experiment, or pass it in "
            "Sweep(experiment=...) or open(folder, experiment=...)"
        )
    unknown = sorted(set(fields) - {"activation"})
    if unknown:
        raise PlateaumapError(
            f"experiment.{unknown[0]} is unknown; the only field of a neuron is activation"
        )
    return SingleNeuron(**fields)
