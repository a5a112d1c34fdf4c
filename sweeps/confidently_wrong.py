"""A sigmoid neuron with many samples, some of which are wrong at the start, learns slowly.

The samples lie evenly on a circle; the targets of its right half are 1. The neuron has two weights.
Their angle to the right direction sets the share of samples that are wrong at the start, and their
norm sets its confidence. The plateau of a single wrong sample would be `exp(z)` epochs long. Here
the samples about which the neuron is uncertain keep it learning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

import plateaumap as pm
from plateaumap.experiment.protocol import Experiment, Point
from plateaumap.training.measures import Column, End, Measure, Start


@dataclass(frozen=True)
class Mistakes(Measure):
    """The shares of samples that are wrong, and confidently wrong, at the start.

    Attributes:
        samples: the number of samples.
        confident: the least error of a confidently wrong sample.
    """

    samples: int
    confident: float = 0.99

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the two shares."""
        return (
            Column("wrong", "float64", "1", "share of samples with |a - y| > 1/2 at the start"),
            Column("confidently_wrong", "float64", "1", f"share with |a - y| >= {self.confident}"),
        )

    def result(self, state: tuple[()], start: Start, end: End, record: Any) -> dict[str, Array]:
        """Return the two shares."""
        inputs, targets = circle(self.samples, start.excess.dtype)
        errors = jnp.abs(pm.neuron.sigmoid(start.parameters @ inputs) - targets)
        return {
            "wrong": jnp.mean(errors > 0.5),
            "confidently_wrong": jnp.mean(errors >= self.confident),
        }


def circle(samples: int, dtype: Any) -> tuple[Array, Array]:
    """Return inputs of shape (2, samples), evenly on a circle, and targets: 1 on its right half."""
    angles = 2 * np.pi * (np.arange(samples) + 0.5) / samples
    inputs = np.stack([np.cos(angles), np.sin(angles)])
    return jnp.asarray(inputs, dtype), jnp.asarray(inputs[0] > 0, dtype)


@dataclass(frozen=True)
class SamplesOnACircle(Experiment):
    """A neuron of two weights; the loss is the mean over samples.

    A bias would stay zero: samples that face each other have opposite targets.
    """

    samples: int = 256
    coordinates = (
        pm.Coordinate("share", "share of samples that are wrong at the start", None, 0.0, 1.0),
        pm.Coordinate("z0", "largest pre-activation at the start", None, 0.0),
        pm.Coordinate("lr", "learning rate", None, 0.0, minimum_excluded=True),
    )
    known_losses = ("quadratic", "cross_entropy")

    def init(self, point: Point) -> Array:
        """Start at an angle of `pi share` to the right direction."""
        angle = jnp.pi * point["share"]
        return point["z0"] * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    def loss(self, parameters: Array, point: Point, loss_name: Any) -> Array:
        """Return the mean loss of the samples."""
        inputs, targets = circle(self.samples, parameters.dtype)
        return jnp.mean(getattr(pm.losses, loss_name)(parameters @ inputs, targets))

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return the standard measures, and how wrong the start is."""
        return (*super().measures, Mistakes(self.samples))

    def theory(self, loss_name: Any) -> "FlowOnACircle":
        """Return the length along the gradient flow for many samples."""
        return FlowOnACircle(loss_name)


@dataclass(frozen=True)
class FlowOnACircle(pm.Theory):
    """The length along the gradient flow for many samples, in the limit of a large z0.

    Attributes:
        loss: the loss that is trained.
    """

    loss: str

    def predict(self, points: Mapping[str, np.ndarray], drop: float) -> np.ndarray:
        """Return the length, from z0 = 4 on.

        With θ the angle of the weights and R = z0, the loss is then
        `θ/2π` (quadratic) or `R (1 − cos θ)/π` (cross-entropy). Of the quadratic loss only
        samples within `1/R` of the neuron's own boundary have a gradient; together they turn the
        weights by `1/(2π R²)` each epoch. Where all samples are wrong both ends of that boundary
        pull alike: no length.
        """
        angle = np.pi * points["share"]
        holds = points["z0"] >= 4
        if self.loss == "quadratic":
            holds &= points["share"] < 1
            flow = drop * angle * 2 * np.pi * points["z0"] ** 2
        else:
            near, far = 1 + np.cos(angle), 1 - np.cos(angle)
            flow = np.pi / 4 * points["z0"] * (far * drop - near * np.log1p(-drop))
        return np.where(holds, flow, np.nan) / points["lr"]


sweep = pm.Sweep(
    name="confidently_wrong",
    experiment=SamplesOnACircle(),
    losses=("quadratic", "cross_entropy"),
    axes=[pm.values("z0", [2, 4, 8, 16]), pm.linspace("share", 1 / 32, 1, 32)],
    fixed={"lr": 0.05},
    horizon=100_000,
    until="plateau",
)


def alone(frame: pd.DataFrame) -> dict[float, int]:
    """Return the plateau length of a single wrong sample, without a bias, for each z0."""
    rate = float(frame["lr"].iloc[0])
    # A neuron with a bias moves z by lr (1 + x²); this one by lr x².
    starts = sorted(frame["z0"].unique())
    lengths = pm.plateau_epochs(starts, 0.0, rate / 2, x=1.0, y=0.0, loss="quadratic")
    return dict(zip(starts, np.asarray(lengths).tolist(), strict=True))


def slowdown(frame: pd.DataFrame) -> pd.DataFrame:
    """Return both plateau lengths and their ratio for each z0 and share."""
    table = pd.DataFrame()
    for loss, rows in frame.groupby("loss", observed=True):
        rows = rows.set_index(["z0", "share"])
        table["confidently_wrong"] = rows["confidently_wrong"]
        table[f"{loss}"] = rows["plateau_epochs"]
        table[f"{loss}_theory"] = rows["predicted_epochs"]
    table["slowdown"] = table["quadratic"] / table["cross_entropy"]
    table["slowdown_theory"] = table["quadratic_theory"] / table["cross_entropy_theory"]
    return table


def show(results: pm.Results) -> None:
    """Draw the figure into the folder of results and print the slowdown."""
    from figures.confidently_wrong import confidently_wrong

    frame = results.frame()
    figures = results.path / "figures"
    figures.mkdir(exist_ok=True)
    lone = alone(frame)
    pm.figures.save(confidently_wrong(frame, alone=lone), figures / "confidently_wrong.png")
    print(slowdown(frame).to_string(float_format="{:.3g}".format))
    for start, length in lone.items():
        print(f"one wrong sample alone, z0 = {start:g}: {length:,} epochs (quadratic)")
    print(f"figure and table are in {results.path}")


if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(sweep, then=show)
