"""Why a neuron has no exact plateau length, in words, with the values that are to blame."""

import math

import numpy as np
from numpy.typing import NDArray

from plateaumap.neuron import losses
from plateaumap.neuron.activations import Activation
from plateaumap.theory.cells import EpochState
from plateaumap.theory.descents import PLAIN, Grid, neurons
from plateaumap.theory.laws import law_of

_LONGEST_STEP = 1e100
"""Of longer steps not even their roundings can be followed."""


def complaint(
    grid: Grid, state: NDArray[np.uint8], loss: str, activation: Activation | str, drop: float
) -> str:
    """Returns how many cells have no length, and why the first of them has none."""
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
    """Returns the reason for a state without a length, true of this cell.

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
        return "its plateau is longer than int64 holds, 2**63 epochs" + _about(cell, h)
    if state == EpochState.NO_EXCESS:
        return (
            f"it starts at its target, as far as float64 can tell: at w0 x + b0 = {z:g} the output "
            f"is {cell['y']:g}, and there is no loss excess to lose"
        )
    if state == EpochState.NO_THEORY or h > _LONGEST_STEP:
        return (
            f"its steps are too long for theory, lr (1 + x**2) = {h:g}: its path passes the target "
            "or cannot be followed exactly; simulate it"
        )
    return (
        "its length lies so near to an integer, or is so long, that the arithmetic cannot tell "
        f"between two integers (z = {z:g}, lr (1 + x**2) = {h:g}, drop = {drop:g}); "
        "predict_epochs gives it in float64"
    )


def _about(cell: dict[str, float], h: float) -> str:
    """Returns what makes a length huge, if it is the learning rate."""
    return f"; lr = {cell['lr']:g} makes steps of {h:g}" if h < 2.0**-60 else ""


def _start_and_step(cell: dict[str, float]) -> tuple[float, float]:
    w0, b0, lr, x = (np.asarray(cell[name]) for name in ("w0", "b0", "lr", "x"))
    with np.errstate(all="ignore"):
        (z, _, h, _), _ = neurons(w0, b0, lr, x)
    return float(z), float(h)


def _why_invalid(cell: dict[str, float], loss: str, activation: Activation | str) -> str:
    for name, value in cell.items():
        if not math.isfinite(value):
            return f"{name} is {value!r}; it must be finite"
    if cell["lr"] <= 0:
        return f"lr is {cell['lr']!r}; it must be greater than 0"
    refused = losses.why_not_target(loss, activation, cell["y"])
    if refused is not None:
        return refused
    z, _ = _start_and_step(cell)
    # A tanh neuron is a sigmoid with twice the z.
    stretch = getattr(law_of(activation, loss), "stretch", PLAIN)
    if not math.isfinite(stretch.z * z):
        return f"w0 x + b0 overflows float64 with w0 = {cell['w0']:g} and x = {cell['x']:g}"
    return f"lr (1 + x**2) overflows float64 with lr = {cell['lr']:g} and x = {cell['x']:g}"
