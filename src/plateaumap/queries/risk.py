"""The probability that a randomly initialised unit starts on a long plateau.

A unit with inputs `x_i` that learns one sample is a single neuron: its pre-activation moves by
`-lr (1 + Σ x_i²) dC/dz`, as that of a neuron whose one input is the norm of all of them. A slope
`k` in front of the pre-activation multiplies the rate by `k²`. So the probability of a plateau of
more than n epochs is that of the pre-activations with lengths of more than n epochs.

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
"""The distance from an end of the output's range within which an output is saturated, as a share
of the range."""

WRONG_SHARE = 0.5
"""The smallest error of a wrong output, as a share of the largest possible error."""

WRONG_ERROR = 0.5
"""The smallest error of a wrong output whose error has no upper bound."""

_GRID = 4097
"""Pre-activations at which the first search for the ends of intervals looks."""
_FINER = 64
_REFINEMENTS = 4

Intervals = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Risk:
    """The probability of a long plateau, by its reason.

    Attributes:
        stuck: probability that the unit starts wrong (`|output − target| ≥ wrong_error`) and does
            not leave its plateau within `epochs`.
        near: probability that the unit starts with a smaller error, yet not within the tolerance
            of `Sweep`, and does not leave its plateau within `epochs`.
        starts_wrong: probability that the unit starts wrong, with any length of its plateau.
        wrong: probability that the output starts within `MARGIN` of the end of the range opposite
            to the target; None if the target is not an end of a bounded range.
        starts: the intervals of pre-activations of `stuck`, from low to high.
        near_starts: the intervals of pre-activations of `near`, from low to high.
        sd: standard deviation of the initial pre-activation.
        epochs: the length that a long plateau exceeds.
        wrong_error: the smallest error `|output − target|` of a wrong output.

    Example:
        >>> import plateaumap as pm
        >>> unit = pm.Initialisation.named("normal", fan_in=30, scale=1.0)
        >>> print(pm.risk(unit, lr=0.15, epochs=200).to_text().splitlines()[0])
        initial pre-activation: mean 0, standard deviation 5.477
    """

    stuck: float
    near: float
    starts_wrong: float
    wrong: float | None
    starts: Intervals
    near_starts: Intervals
    sd: float
    epochs: int
    wrong_error: float

    def to_text(self) -> str:
        """Return the risk in a few lines."""
        lines = [
            f"initial pre-activation: mean 0, standard deviation {self.sd:.4g}",
            f"starts wrong (error of at least {self.wrong_error:.4g}): {_share(self.starts_wrong)}",
            f"starts wrong and is stuck for more than {self.epochs:,} epochs: "
            f"{_share(self.stuck)}{_where(self.starts)}",
            f"starts near the target and takes more than {self.epochs:,} epochs: "
            f"{_share(self.near)}{_where(self.near_starts)}",
        ]
        if self.wrong is not None:
            lines.append(
                f"starts saturated at the wrong end (within {MARGIN:g} of it): {_share(self.wrong)}"
            )
        return "\n".join(lines)


def _where(intervals: Intervals) -> str:
    text = " or ".join(f"from {low:.4g} to {high:.4g}" for low, high in intervals)
    return f" (z {text})" if text else ""


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
    """Return the probability that a unit starts wrong and is stuck for more than `epochs` epochs.

    Units that start near their target are counted apart: their plateau is long because little is
    left to learn. Units within the tolerance of `Sweep` have no plateau. Units that rounding would
    stop, or whose gradient is zero, never leave theirs.

    Args:
        initialisation: the distribution of the initial pre-activation.
        lr: learning rate.
        epochs: the length (T10) that the plateau of a stuck unit exceeds.
        loss: a loss that the activation knows.
        activation: the name of the activation.
        y: target.
        slope: factor in front of the pre-activation: the output is `σ(slope · z)`.
        wrong_error: the smallest error `|output − target|` of a wrong output. By default half of
            the largest error that the range of outputs allows, and 0.5 for an unbounded range.

    Raises:
        PlateaumapError: an argument is out of its range, or the names do not fit together.

    Example:
        >>> import plateaumap as pm
        >>> unit = pm.Initialisation.named("normal", fan_in=30, scale=1.0)
        >>> round(pm.risk(unit, lr=0.15, epochs=200).stuck, 3)
        0.106
    """
    if not (math.isfinite(slope) and slope > 0):
        raise PlateaumapError(f"slope = {slope!r}: must be greater than 0")
    if wrong_error is None:
        wrong_error = _usual_error(activation, y)
    elif not (math.isfinite(wrong_error) and wrong_error > 0):
        raise PlateaumapError(f"wrong_error = {wrong_error!r}: must be greater than 0")
    sweep = Sweep(
        name="risk",
        experiment=SingleNeuron(activation),
        losses=loss,
        fixed={"w0": 0.0, "b0": 0.0, "lr": lr * slope**2, "x": initialisation.input_norm, "y": y},
        horizon=epochs,
        method="leap",
        until="plateau",
    )
    pieces = [
        (low / slope, high / slope, kind)
        for low, high, kind in _pieces(sweep, slope * initialisation.reach, wrong_error)
    ]
    stuck, near = _joined(pieces, {_SLOW | _WRONG}), _joined(pieces, {_SLOW})

    def probability(intervals: Intervals) -> float:
        return sum(_between(initialisation, *interval) for interval in intervals)

    return Risk(
        stuck=probability(stuck),
        near=probability(near),
        starts_wrong=probability(_joined(pieces, {_WRONG, _SLOW | _WRONG})),
        wrong=_saturated(initialisation, activation, y, slope),
        starts=stuck,
        near_starts=near,
        sd=initialisation.sd,
        epochs=epochs,
        wrong_error=wrong_error,
    )


def _usual_error(activation: str, y: float) -> float:
    function = activations.get(activation)
    errors = [abs(end - y) for end in (function.low, function.high) if math.isfinite(end)]
    return WRONG_SHARE * max(errors, default=0.0) or WRONG_ERROR


_SLOW, _WRONG = 1, 2
"""Bits of a kind of pre-activation: its plateau is too long; its output is wrong."""


def _pieces(sweep: Sweep, reach: float, wrong_error: float) -> list[tuple[float, float, int]]:
    """Return the pre-activations within the reach as intervals of one kind each."""
    z = np.linspace(-reach, reach, _GRID)
    kinds = _kinds(sweep, z, wrong_error)
    for _ in range(_REFINEMENTS):
        edges = np.flatnonzero(kinds[1:] != kinds[:-1])
        if not edges.size:
            break
        between = np.linspace(z[edges], z[edges + 1], _FINER + 1)[1:-1].ravel()
        # A constant number of points, so that no other size is compiled.
        between = np.resize(between, max(_GRID, between.size))
        kinds = np.concatenate([kinds, _kinds(sweep, between, wrong_error)])
        z, places = np.unique(np.concatenate([z, between]), return_index=True)
        kinds = kinds[places]
    edges = np.flatnonzero(kinds[1:] != kinds[:-1])
    bounds = [-reach, *((z[edges] + z[edges + 1]) / 2).tolist(), reach]
    kind_of_piece = [*kinds[edges].tolist(), int(kinds[-1])]
    return list(zip(bounds[:-1], bounds[1:], kind_of_piece, strict=True))


def _joined(pieces: list[tuple[float, float, int]], kinds: set[int]) -> Intervals:
    """Return the intervals of some kinds, with touching intervals joined."""
    joined: list[tuple[float, float]] = []
    for low, high, kind in pieces:
        if kind in kinds:
            start = joined.pop()[0] if joined and joined[-1][1] == low else low
            joined.append((start, high))
    return tuple(joined)


def _kinds(sweep: Sweep, z: np.ndarray, wrong_error: float) -> np.ndarray:
    fixed = {name: value for name, value in sweep.fixed.items() if name != "b0"}
    frame = run(Sweep(**{**dict(sweep), "fixed": fixed, "axes": [points(b0=z.tolist())]}))
    slow = ~frame["status"].isin(["escaped", "converged_at_start", "not_finite"]).to_numpy()
    error = np.abs(frame["initial_output"].to_numpy(float) - sweep.fixed["y"])
    return _SLOW * slow + _WRONG * (error >= wrong_error)


def _between(initialisation: Initialisation, low: float, high: float) -> float:
    """Return the probability of an interval of pre-activations."""
    # The distribution is symmetric about 0, and its lower tail loses no digits.
    if low > 0:
        low, high = -high, -low
    below_low, below_high = initialisation.below([low, high])
    # An interval that ends at the reach includes the tail beyond it.
    return float(below_high - (0.0 if low <= -initialisation.reach else below_low))


def _saturated(
    initialisation: Initialisation, activation: str, y: float, slope: float
) -> float | None:
    """Return the probability of saturation at the wrong end of the range; see `Risk.wrong`."""
    function = activations.get(activation)
    span = function.high - function.low
    if not math.isfinite(span) or y not in (function.low, function.high):
        return None
    share = 1 - MARGIN if y == function.low else MARGIN
    with double_precision():
        edge = float(function.target(jnp.float64(function.low + share * span))) / slope
    return float(initialisation.below(-edge if y == function.low else edge))
