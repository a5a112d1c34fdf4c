"""How likely a unit is to be stuck: its random start, through the map of plateaus.

A unit with inputs `x_i` that learns one sample is a single neuron: its pre-activation moves by
`-lr (1 + Σ x_i²) dC/dz`, as that of a neuron whose one input is the norm of all of them. With a
slope `k` in front of its pre-activation the rate is that of `k² lr`. So the chance of a plateau
of more than n epochs is the probability of the starts that the map gives more than n epochs.

Such a plateau has one of two reasons. The output is far from its target and the gradient vanishes:
the unit is stuck. Or the output is close to its target, and little is left to learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron import activations
from plateaumap.neuron.initialisation import Initialisation
from plateaumap.numerics.compiler import double_precision
from plateaumap.runner.run import run
from plateaumap.sweep.axes import points
from plateaumap.sweep.spec import Sweep

MARGIN = 0.01
"""An output is saturated within this share of the range from its end."""

WRONG_SHARE = 0.5
"""An output starts wrong from this share of its largest possible error on."""

WRONG_ERROR = 0.5
"""The same as an error, for outputs that have no largest error."""

_GRID = 4097
"""Starts among which the map is first searched, from one end of the reach to the other."""
_FINER = 64
_REFINEMENTS = 4


@dataclass(frozen=True)
class Risk:
    """The chance of a plateau, and where it comes from.

    Attributes:
        stuck: probability that the unit starts wrong (`|output − target| ≥ wrong_error`) and does
            not leave its plateau within `epochs`.
        near: probability that it starts nearer to its target than that, though not within the
            sweeps' tolerance of it, and does not leave its plateau within `epochs`.
        starts_wrong: probability that it starts wrong, however long it takes.
        wrong: probability that the output starts within `MARGIN` of the end of the range that is
            opposite to the target; None if the target is no end of a bounded range.
        starts: the intervals of pre-activations that are stuck, from low to high.
        near_starts: the intervals behind `near`, from low to high.
        sd: standard deviation of the pre-activation at the start.
        epochs: the length from which on a plateau counts.
        wrong_error: the error `|output − target|` from which on a start is wrong.
    """

    stuck: float
    near: float
    starts_wrong: float
    wrong: float | None
    starts: tuple[tuple[float, float], ...]
    near_starts: tuple[tuple[float, float], ...]
    sd: float
    epochs: int
    wrong_error: float

    def to_text(self) -> str:
        """Return the risk in a few lines."""
        lines = [
            f"pre-activation at the start: mean 0, standard deviation {self.sd:.4g}",
            f"starts wrong (error of at least {self.wrong_error:.4g}): {_share(self.starts_wrong)}",
            f"of all units, these start wrong and are stuck for more than {self.epochs:,} epochs: "
            f"{_share(self.stuck)}{_where(self.starts)}",
            f"of all units, these start near the target and take more than {self.epochs:,} epochs: "
            f"{_share(self.near)}{_where(self.near_starts)}",
        ]
        if self.wrong is not None:
            lines.append(
                f"saturated at the wrong end at the start (within {MARGIN:g} of it): "
                f"{_share(self.wrong)}"
            )
        return "\n".join(lines)


def _where(intervals: tuple[tuple[float, float], ...]) -> str:
    where = " or ".join(f"{low:.4g} to {high:.4g}" for low, high in intervals)
    return f" (starts from {where})" if where else ""


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
    wrong_error: float | None = None,
) -> Risk:
    """Return the chance that a unit starts wrong and is stuck for longer than `epochs`.

    Units that start near their target are reported apart: their plateau is long because little
    is left to learn. Those within the sweeps' tolerance of the target have no plateau. A unit
    that rounding would stop, or whose gradient is zero, never leaves.

    Args:
        initialisation: the distribution of the unit's pre-activation.
        lr: learning rate.
        epochs: length of the plateau (T10) from which on a unit counts as stuck.
        loss: a loss that the activation knows.
        activation: its name.
        y: target.
        slope: factor in front of the pre-activation: the output is `σ(slope · z)`.
        wrong_error: the error `|output − target|` from which on a start is wrong; by default half
            of the largest error that the ends of the output's range allow, and 0.5 where the
            range has no end away from the target.

    Raises:
        PlateaumapError: a value is out of its range, or the names do not go together.
    """
    if not (math.isfinite(slope) and slope > 0):
        raise PlateaumapError(f"slope is {slope!r}; give a number greater than 0")
    if wrong_error is None:
        wrong_error = _usual_error(activation, y)
    if not (math.isfinite(wrong_error) and wrong_error > 0):
        raise PlateaumapError(f"wrong_error is {wrong_error!r}; give a number greater than 0")
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
    pieces = [
        (low / slope, high / slope, kind)
        for low, high, kind in _pieces(sweep, slope * initialisation.reach, wrong_error)
    ]
    stuck, near, wrong = (
        _joined(pieces, kinds) for kinds in ((_SLOW | _WRONG,), (_SLOW,), (_WRONG, _SLOW | _WRONG))
    )

    def chance(intervals: tuple[tuple[float, float], ...]) -> float:
        return sum(_between(initialisation, *interval) for interval in intervals)

    return Risk(
        stuck=chance(stuck),
        near=chance(near),
        starts_wrong=chance(wrong),
        wrong=_saturated(initialisation, activation, y, slope),
        starts=stuck,
        near_starts=near,
        sd=initialisation.sd,
        epochs=epochs,
        wrong_error=wrong_error,
    )


def _usual_error(activation: str, y: float) -> float:
    function = activations.get(activation)
    ends = [abs(end - y) for end in (function.low, function.high) if math.isfinite(end)]
    return WRONG_SHARE * max(ends, default=0.0) or WRONG_ERROR


_SLOW, _WRONG = 1, 2
"""What a start is, as bits: its plateau is too long; its output is wrong."""


def _pieces(sweep: Sweep, reach: float, wrong_error: float) -> list[tuple[float, float, int]]:
    """Return the pre-activations within the reach as intervals of starts of one kind."""
    z = np.linspace(-reach, reach, _GRID)
    kinds = _kinds(sweep, z, wrong_error)
    for _ in range(_REFINEMENTS):
        edges = np.flatnonzero(kinds[1:] != kinds[:-1])
        if not edges.size:
            break
        between = np.linspace(z[edges], z[edges + 1], _FINER + 1)[1:-1].ravel()
        # Always as many, so that nothing is compiled for another number.
        between = np.resize(between, max(_GRID, between.size))
        finer, places = np.unique(np.concatenate([z, between]), return_index=True)
        known = np.concatenate([kinds, _kinds(sweep, between, wrong_error)])
        z, kinds = finer, known[places]
    edges = np.flatnonzero(kinds[1:] != kinds[:-1])
    bounds = [-reach, *((z[edges] + z[edges + 1]) / 2).tolist(), reach]
    own = [*kinds[edges].tolist(), int(kinds[-1])]
    return list(zip(bounds[:-1], bounds[1:], own, strict=True))


def _joined(
    pieces: list[tuple[float, float, int]], kinds: tuple[int, ...]
) -> tuple[tuple[float, float], ...]:
    """Return the intervals of some kinds, those that touch as one."""
    joined: list[tuple[float, float]] = []
    for low, high, kind in pieces:
        if kind not in kinds:
            continue
        if joined and joined[-1][1] == low:
            low = joined.pop()[0]
        joined.append((low, high))
    return tuple(joined)


def _kinds(sweep: Sweep, z: np.ndarray, wrong_error: float) -> np.ndarray:
    fixed = {name: value for name, value in sweep.fixed.items() if name != "b0"}
    starts = Sweep(**{**dict(sweep), "fixed": fixed, "axes": [points(b0=z.tolist())]})
    frame = run(starts)
    slow = ~frame["status"].isin(["escaped", "converged_at_start", "not_finite"]).to_numpy()
    error = np.abs(frame["initial_output"].to_numpy(float) - sweep.fixed["y"])
    return _SLOW * slow + _WRONG * (error >= wrong_error)


def _between(initialisation: Initialisation, low: float, high: float) -> float:
    # Symmetric about zero: the upper tail is taken as a lower one, where no digit is lost.
    if low > 0:
        low, high = -high, -low
    first, last = initialisation.below([low, high])
    # Beyond the reach there is nothing to speak of, on either side.
    return float(last - (0.0 if low <= -initialisation.reach else first))


def _saturated(
    initialisation: Initialisation, activation: str, y: float, slope: float
) -> float | None:
    function = activations.get(activation)
    span = function.high - function.low
    if not math.isfinite(span) or y not in (function.low, function.high):
        return None
    share = 1 - MARGIN if y == function.low else MARGIN
    with double_precision():
        edge = float(function.target(jnp.float64(function.low + share * span))) / slope
    return float(initialisation.below(-edge if y == function.low else edge))
