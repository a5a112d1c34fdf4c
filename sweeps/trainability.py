"""Which learning rates of the two layers of a small network converge: the boundary is a fractal.

J. Sohl-Dickstein, "The boundary of neural network trainability is fractal" (arXiv:2402.06184,
2024). A network with one hidden layer of tanh units and no biases fits random targets by full
batch gradient descent; each layer has its own learning rate. Each point of the fine grid is a run;
its colour shows how fast it converged or diverged.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import plateaumap as pm
from plateaumap.experiment.protocol import Experiment, Point
from plateaumap.training.measures import Column, End, Measure, Observation, Start

WIDTH = 8
SEED = 0
LARGEST = 1e6
"""The largest loss over the first one; larger losses count as this one."""

LAST = 20
"""The number of last epochs whose mean loss decides whether a run converged."""


class RelativeLosses(NamedTuple):
    """Sums over the losses so far, relative to the first, and the last few of them."""

    total: Array
    inverse: Array
    latest: Array


@dataclass(frozen=True)
class Trainability(Measure):
    """The measure of the paper: whether a run converges, and how fast.

    With v the loss over the first loss: `converged` is 1 if the mean of the last 20 is below 1;
    `intensity` is the sum of v over all epochs if so, and the sum of 1/v if not. A run that
    ends because it is not finite adds nothing visible.
    """

    columns = (
        Column("converged", "bool", "1", "whether the mean of the last losses is below the first"),
        Column("intensity", "float64", "1", "sum of the relative losses, or of their inverses"),
    )

    def init(self, start: Start) -> RelativeLosses:
        """Return empty sums."""
        zero = jnp.zeros_like(start.excess)
        return RelativeLosses(zero, zero, jnp.full(LAST, jnp.nan, start.excess.dtype))

    def update(self, state: RelativeLosses, start: Start, now: Observation) -> RelativeLosses:
        """Add this epoch's loss."""
        relative = now.excess / start.excess
        relative = jnp.where(relative < LARGEST, relative, LARGEST)
        return RelativeLosses(
            state.total + relative,
            state.inverse + 1 / relative,
            jnp.concatenate([state.latest[1:], relative[None]]),
        )

    def done(self, state: RelativeLosses) -> Array:
        """Return False: the run continues to its horizon."""
        return jnp.bool_(False)

    def result(
        self, state: RelativeLosses, start: Start, end: End, record: Any
    ) -> dict[str, Array]:
        """Return both columns."""
        converged = (jnp.nanmean(state.latest) < 1) & jnp.isfinite(end.excess)
        return {
            "converged": converged,
            "intensity": jnp.where(converged, state.total, state.inverse),
        }


@dataclass(frozen=True)
class TwoRates(Experiment):
    """A hidden layer of tanh units in mean field scaling, a learning rate for each layer.

    Attributes:
        inputs: of shape (samples, width).
        targets: of shape (samples,).
        first: the hidden weights at the start, of shape (width, width).
        second: the output's weights at the start, of shape (width,).
    """

    inputs: Any
    targets: Any
    first: Any
    second: Any

    lanes = 64
    coordinates = (
        pm.Coordinate("lr_hidden", "learning rate of the hidden layer", None, 0.0),
        pm.Coordinate("lr_output", "learning rate of the output layer", None, 0.0),
    )
    known_losses = ("squared_error",)

    def init(self, point: Point) -> dict[str, Array]:
        """Start all runs at the same weights."""
        return {"first": jnp.asarray(self.first), "second": jnp.asarray(self.second)}

    def loss(self, parameters: dict[str, Array], point: Point, loss_name: Any) -> Array:
        """Return the mean squared error of all samples."""
        width = self.inputs.shape[1]
        hidden = jnp.tanh(self.inputs @ parameters["first"] * np.sqrt(2 / width))
        return jnp.mean(jnp.square(hidden @ parameters["second"] / width - self.targets))

    def optimizer(self, point: Point) -> optax.GradientTransformation:
        """Return gradient descent with a rate for each layer."""
        rates = {"first": optax.sgd(point["lr_hidden"]), "second": optax.sgd(point["lr_output"])}
        return optax.partition(rates, {"first": "first", "second": "second"})

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return the standard measures, and whether and how fast a run converges."""
        return (*super().measures, Trainability())


def random_problem(width: int, seed: int) -> TwoRates:
    """Return a network with standard normal weights and as many random samples as weights."""
    random = np.random.default_rng(seed)
    samples = width * (width + 1)
    return TwoRates(
        inputs=random.standard_normal((samples, width)),
        targets=random.standard_normal(samples),
        first=random.standard_normal((width, width)),
        second=random.standard_normal(width),
    )


def region(
    name: str, hidden: tuple[float, float], output: tuple[float, float], num: int
) -> pm.Sweep:
    """Return the sweep of a region of the two learning rates, on a grid of num by num."""
    return pm.Sweep(
        name=name,
        experiment=random_problem(WIDTH, SEED),
        losses="squared_error",
        axes=[
            pm.geomspace("lr_hidden", *hidden, num),
            pm.geomspace("lr_output", *output, num),
        ],
        horizon=500,
    )


sweep = region("trainability", hidden=(0.1, 1e5), output=(0.1, 1e3), num=128)
detail = region("trainability_detail", hidden=(8.0, 200.0), output=(25.0, 63.0), num=256)


def show(whole: pm.Results, part: pm.Results) -> None:
    """Draw both regions into one figure and print the dimensions of the boundary."""
    from figures.trainability import boundary_boxes, converged_grid, trainability_map

    frames = whole.frame(), part.frame()
    folder = whole.path.parent
    figure = trainability_map(frames[0], detail=frames[1])
    pm.figures.save(figure, folder / "trainability.png")
    for results, frame in zip((whole, part), frames, strict=True):
        boxes = boundary_boxes(converged_grid(frame))
        print(
            f"{results.path.name}: {frame['converged'].mean():.1%} of {len(frame):,} runs "
            f"converge; {boxes.counts[0]:,} places on the boundary, box-counting dimension "
            f"{boxes.dimension:.2f}"
        )
    print(f"the figure is {folder / 'trainability.png'}")


if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(sweep, detail, then=show)
