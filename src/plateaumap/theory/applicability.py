"""Which neurons have exact lengths, and why the others have none."""

import math

import numpy as np
from numpy.typing import NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron import activations, losses
from plateaumap.neuron.activations import Activation
from plateaumap.theory.canonical import (
    UNSCALED,
    EpochState,
    NeuronGrid,
    SigmoidScale,
    start_and_step,
)
from plateaumap.theory.dynamics import Dynamics
from plateaumap.theory.sigmoid import CrossEntropySigmoid, QuadraticSigmoid
from plateaumap.theory.smooth import SmoothDynamics

DERIVED_LOSSES = ("quadratic", "cross_entropy", "matching")
"""The names of losses whose lengths were derived; any other loss has none."""

_TANH_STEPS = {"quadratic": 16.0, "matching": 4.0}

_LONGEST_STEP = 1e100
"""Of longer steps not even the roundings can be followed."""


def why_no_theory(activation: Activation | str) -> str | None:
    """Return why an activation has no exact lengths, or None if it has.

    Raises:
        PlateaumapError: the activation is unknown.
    """
    activation = activations.get(activation)
    if activation.why_no_matching_loss is not None:
        return f"{activation.name} is not monotone"
    if not activation.smooth and activation is not activations.get("softsign"):
        return f"{activation.name} has a kink"
    return None


def dynamics_of(activation: Activation | str, loss: str) -> Dynamics:
    """Return the dynamics of an activation and a loss.

    Args:
        activation: an activation or its name.
        loss: ``"quadratic"``, ``"matching"``, or ``"cross_entropy"`` of a sigmoid.

    Raises:
        PlateaumapError: the activation is unknown or has no theory, or has no such loss.
    """
    activation = activations.get(activation)
    reason = why_no_theory(activation)
    if reason is not None:
        raise PlateaumapError(
            f"activation = {activation.name!r}: {reason}, so it has no exact lengths; simulate it"
        )
    known = [name for name in losses.known_losses(activation) if name in DERIVED_LOSSES]
    if loss not in known:
        raise PlateaumapError(f"loss = {loss!r}: no exact lengths; use one of {', '.join(known)}")
    scale = UNSCALED
    if activation is activations.get("tanh"):
        scale = SigmoidScale(z=2.0, h=_TANH_STEPS[loss], signed=True)
    elif activation is not activations.get("sigmoid"):
        return SmoothDynamics(activation, loss)
    return QuadraticSigmoid(scale) if loss == "quadratic" else CrossEntropySigmoid(scale)


def message_without_lengths(
    grid: NeuronGrid,
    state: NDArray[np.uint8],
    loss: str,
    activation: Activation | str,
    drop: float,
) -> str:
    """Return a message that counts the neurons without a length and explains the first."""
    missing = np.flatnonzero(state > EpochState.SIMULATED)
    first = int(missing[0])
    cell = grid.cell(first)
    values = ", ".join(f"{name}={value!r}" for name, value in cell.items())
    reason = why_no_length(cell, EpochState(int(state[first])), loss, activation, drop)
    return (
        f"{missing.size} of {grid.size} cells have no plateau length; the first is {values}: "
        f"{reason}. Use errors='mask' to mask them"
    )


def why_no_length(
    cell: dict[str, float],
    state: EpochState,
    loss: str,
    activation: Activation | str = "sigmoid",
    drop: float = 0.1,
) -> str:
    """Return the reason for a state without a length, true of this cell.

    Args:
        cell: ``w0, b0, lr, x, y``.
        state: one beyond ``SIMULATED``.
        loss: the name of the loss.
        activation: the neuron's activation, or its name.
        drop: the share of the loss excess that has to go.
    """
    if state == EpochState.INVALID:
        return _why_invalid(cell, loss, activation)
    z, h = _start_and_step(cell)
    if state == EpochState.BEYOND_INT64:
        cause = f"; lr = {cell['lr']:g} gives steps of {h:g}" if h < 2.0**-60 else ""
        return "the plateau is longer than int64 holds, 2**63 epochs" + cause
    if state == EpochState.NO_EXCESS:
        return (
            f"the initial output equals the target in float64: at w0 x + b0 = {z:g} the output "
            f"is {cell['y']:g}, and there is no loss excess to lose"
        )
    if state == EpochState.NO_THEORY or h > _LONGEST_STEP:
        return (
            f"the steps are too long for theory, lr (1 + x**2) = {h:g}: the path passes the target "
            "or cannot be followed exactly; simulate it"
        )
    return (
        "the length is so close to an integer, or so long, that the arithmetic cannot decide "
        f"between two integers (z = {z:g}, lr (1 + x**2) = {h:g}, drop = {drop:g}); "
        "predict_epochs gives it in float64"
    )


def _start_and_step(cell: dict[str, float]) -> tuple[float, float]:
    columns = {name: np.asarray(value) for name, value in cell.items()}
    with np.errstate(all="ignore"):
        (z, _, h, _), _ = start_and_step(columns)
    return float(z), float(h)


def _why_invalid(cell: dict[str, float], loss: str, activation: Activation | str) -> str:
    for name, value in cell.items():
        if not math.isfinite(value):
            return f"{name} = {value!r}: must be finite"
    if cell["lr"] <= 0:
        return f"lr = {cell['lr']!r}: must be greater than 0"
    refusal = losses.why_not_target(loss, activation, cell["y"])
    if refusal is not None:
        return refusal
    z, _ = _start_and_step(cell)
    # A tanh neuron is a sigmoid with twice the z.
    scale = getattr(dynamics_of(activation, loss), "scale", UNSCALED)
    if not math.isfinite(scale.z * z):
        return f"w0 x + b0 overflows float64 with w0 = {cell['w0']:g} and x = {cell['x']:g}"
    return f"lr (1 + x**2) overflows float64 with lr = {cell['lr']:g} and x = {cell['x']:g}"
