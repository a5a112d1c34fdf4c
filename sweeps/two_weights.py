"""The loss surface over two weights of a network, one in each layer, and its plateaus.

One hidden tanh unit and one sigmoid output, `a = σ(v tanh(w x))`, on a random input signal whose
sign is the target. X. Glorot and Y. Bengio ("Understanding the difficulty of training deep
feedforward neural networks", AISTATS 2010, figure 5) drew such a surface for both losses: the
quadratic loss has the more severe plateaus. Here each point of the surface is also an initial
point, and its colour is the number of epochs in which gradient descent removes a tenth of the
excess.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

import plateaumap as pm
from plateaumap.experiment.protocol import Experiment, Point


def signal(samples: int, seed: int) -> np.ndarray:
    """Return a random input signal: standard normal numbers, float64 of shape (samples,)."""
    return np.random.default_rng(seed).standard_normal(samples)


@dataclass(frozen=True)
class TwoWeights(Experiment):
    """A network of two weights: `a = σ(v tanh(w x))`; the loss is the mean over samples."""

    samples: int = 100
    seed: int = 2010
    coordinates = (
        pm.Coordinate("w", "weight of the first layer at the start", None),
        pm.Coordinate("v", "weight of the second layer at the start", None),
        pm.Coordinate("lr", "learning rate", None, 0.0, minimum_excluded=True),
    )
    known_losses = ("quadratic", "cross_entropy")

    def init(self, point: Point) -> dict[str, Array]:
        """Start at the two weights."""
        return {"w": point["w"], "v": point["v"]}

    def loss(self, parameters: dict[str, Array], point: Point, loss_name: Any) -> Array:
        """Return the mean loss of the samples."""
        inputs = jnp.asarray(signal(self.samples, self.seed), parameters["w"].dtype)
        logits = parameters["v"] * jnp.tanh(parameters["w"] * inputs)
        targets = (inputs > 0).astype(inputs.dtype)
        return jnp.mean(getattr(pm.losses, loss_name)(logits, targets))


sweep = pm.Sweep(
    name="two_weights",
    experiment=TwoWeights(),
    losses=("quadratic", "cross_entropy"),
    # An even number of places omits the saddle at 0, which no run leaves.
    axes=[pm.linspace("w", -4, 4, 80), pm.linspace("v", -8, 8, 80)],
    fixed={"lr": 0.15},
    horizon=10_000,
    until="plateau",
)


def show(results: pm.Results) -> None:
    """Draw the surfaces into the folder of results and print how the plateaus differ."""
    from figures.two_weights import loss_surface

    frame = results.frame()
    figures = results.path / "figures"
    figures.mkdir(exist_ok=True)
    pm.figures.save(loss_surface(frame), figures / "loss_surface.png")
    for loss, rows in frame.groupby("loss", observed=True):
        # A run that did not leave is longer than every other: all had the same horizon.
        lengths = rows["plateau_epochs"].astype("Float64").fillna(np.inf).astype(float)
        print(
            f"{loss}: median plateau {lengths.median():g} epochs, longest that was seen to end "
            f"{lengths[lengths < np.inf].max():g}, "
            f"{(rows['status'] != 'escaped').sum()} of {len(rows):,} did not leave; "
            f"loss from {rows['initial_loss'].min():.3g} to {rows['initial_loss'].max():.3g}"
        )
    print(f"figure and table are in {results.path}")


if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(sweep, then=show)
