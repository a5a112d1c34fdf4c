"""How likely a unit is to be stuck: its random start, through the map of plateaus.

A unit with inputs `x_i` that learns one sample is a single neuron: its pre-activation moves by
`-lr (1 + Σ x_i²) dC/dz`, as that of a neuron whose one input is the norm of all of them. With a
slope `k` in front of its pre-activation the rate is that of `k² lr`. So the chance of a plateau
of more than n epochs is the probability of the starts that the map gives more than n epochs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from plateaumap import activations
from plateaumap.compiler import double_precision
from plateaumap.errors import PlateaumapError
from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.grid import points
from plateaumap.initialisation import Initialisation
from plateaumap.runner import run
from plateaumap.spec import Sweep

MARGIN = 0.01
"""An output is saturated within this share of the range from its end."""

_GRID = 4097
"""Starts among which the map is first searched, from one end of the reach to the other."""
_FINER = 64
_REFINEMENTS = 4


@dataclass(frozen=True)
class Risk:
    """The chance of a plateau, and where it comes from.

    Attributes:
        stuck: probability that the plateau is longer than `epochs`.
        wrong: probability that the output starts within `MARGIN` of the end of the range that is
            opposite to the target; None if the target is no end of a bounded range.
        starts: the intervals of pre-activations that are stuck, from low to high.
        sd: standard deviation of the pre-activation at the start.
        epochs: the length that is asked for.
    """

    stuck: float
    wrong: float | None
    starts: tuple[tuple[float, float], ...]
    sd: float
    epochs: int

    def to_text(self) -> str:
        """Return the risk in a few lines."""
        where = " or ".join(f"{low:.4g} to {high:.4g}" for low, high in self.starts)
        lines = [
            f"pre-activation at the start: mean 0, standard deviation {self.sd:.4g}",
            f"stuck for more than {self.epochs:,} epochs: {_share(self.stuck)}"
            + (f" (starts from {where})" if where else ""),
        ]
        if self.wrong is not None:
            lines.append(
                f"saturated at the wrong end at the start (within {MARGIN:g} of it): "
                f"{_share(self.wrong)}"
            )
        return "\n".join(lines)


def _share(probability: float) -> str:
    return f"{100 * probability:.3g} %"


def risk(
    initialisation: Initialisation,
    lr: float,
    epochs: int,
    loss: str = "quadratic",
    activation: str = "sigmoid",
    y: float = 0.0,
    slope: float = 1.0,
) -> Risk:
    """Return the chance that a unit is stuck for longer than so many epochs.

    A start that is already within the sweeps' tolerance of its target is not stuck; one that
    rounding would stop is.

    Args:
        initialisation: the distribution of the unit's pre-activation.
        lr: learning rate.
        epochs: length of the plateau (T10) from which on a unit counts as stuck.
        loss: a loss that the activation knows.
        activation: its name.
        y: target.
        slope: factor in front of the pre-activation: the output is `σ(slope · z)`.

    Raises:
        PlateaumapError: a value is out of its range, or the names do not go together.
    """
    if not (math.isfinite(slope) and slope > 0):
        raise PlateaumapError(f"slope is {slope!r}; give a number greater than 0")
    sweep = Sweep(
        name="risk",
        experiment=SingleNeuron(activation),
        losses=loss,
        fixed={
            "w0": 0.0,
            "b0": 0.0,
            "lr": lr * slope**2,
            "x": initialisation.input_norm,
            "y": y,
        },
        horizon=epochs,
        method="leap",
        until="plateau",
    )
    starts = tuple(
        (low / slope, high / slope)
        for low, high in _stuck_starts(sweep, slope * initialisation.reach)
    )
    return Risk(
        stuck=sum(_between(initialisation, *interval) for interval in starts),
        wrong=_wrong(initialisation, activation, y, slope),
        starts=starts,
        sd=initialisation.sd,
        epochs=epochs,
    )


def _stuck_starts(sweep: Sweep, reach: float) -> list[tuple[float, float]]:
    """Return the intervals of pre-activations within the reach whose plateaus are too long."""
    z = np.linspace(-reach, reach, _GRID)
    stuck = _is_stuck(sweep, z)
    for _ in range(_REFINEMENTS):
        edges = np.flatnonzero(stuck[1:] != stuck[:-1])
        if not edges.size:
            break
        between = np.linspace(z[edges], z[edges + 1], _FINER + 1)[1:-1].ravel()
        # Always as many, so that nothing is compiled for another number.
        between = np.resize(between, max(_GRID, between.size))
        finer, places = np.unique(np.concatenate([z, between]), return_index=True)
        known = np.concatenate([stuck, _is_stuck(sweep, between)])
        z, stuck = finer, known[places]
    edges = np.flatnonzero(stuck[1:] != stuck[:-1])
    crossings = (z[edges] + z[edges + 1]) / 2
    bounds = [-reach] * bool(stuck[0]) + crossings.tolist() + [reach] * bool(stuck[-1])
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def _is_stuck(sweep: Sweep, z: np.ndarray) -> np.ndarray:
    fixed = {name: value for name, value in sweep.fixed.items() if name != "b0"}
    starts = Sweep(**{**dict(sweep), "fixed": fixed, "axes": [points(b0=z.tolist())]})
    status = run(starts)["status"]
    return ~status.isin(["escaped", "converged_at_start", "not_finite"]).to_numpy()


def _between(initialisation: Initialisation, low: float, high: float) -> float:
    # Symmetric about zero: the upper tail is taken as a lower one, where no digit is lost.
    if low > 0:
        low, high = -high, -low
    first, last = initialisation.below([low, high])
    # Beyond the reach there is nothing to speak of, on either side.
    return float(last - (0.0 if low <= -initialisation.reach else first))


def _wrong(initialisation: Initialisation, activation: str, y: float, slope: float) -> float | None:
    function = activations.get(activation)
    span = function.high - function.low
    if not math.isfinite(span) or y not in (function.low, function.high):
        return None
    share = 1 - MARGIN if y == function.low else MARGIN
    with double_precision():
        edge = float(function.target(jnp.float64(function.low + share * span))) / slope
    return float(initialisation.below(-edge if y == function.low else edge))
