"""Handwritten digits: the share of outputs that start confidently wrong, and its effect.

A network of 64 inputs, 30 hidden and 10 output sigmoid units learns scikit-learn's bundled 8 × 8
digits by gradient descent on the full batch, from random weights of three widths, at three
learning rates, under the quadratic loss and the cross-entropy. `linear` is the quadratic loss of
linear outputs, whose slope does not vanish.
"""

import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

import plateaumap as pm
from plateaumap.experiment.protocol import Experiment, Point
from plateaumap.training.measures import Column, End, Measure, Observation, Start

INPUTS, HIDDEN, OUTPUTS = 64, 30, 10
LOOKS = (10, 30, 100)
"""The epochs at which the test accuracy is measured, in addition to the start and the end."""

CONFIDENT = 0.99
"""The least output of a saturated unit, and the least error of a confidently wrong one."""


def logits(parameters: dict[str, Array], pixels: Array) -> Array:
    """Return the pre-activations of the outputs, of shape (10, samples).

    Units come first and samples last, so that sums over samples are contiguous in memory.
    """
    hidden = pm.neuron.sigmoid(parameters["w1"] @ pixels + parameters["b1"][:, None])
    return parameters["w2"] @ hidden + parameters["b2"][:, None]


@dataclass(frozen=True)
class StartingOutputs(Measure):
    """The shares of outputs, as sigmoids, that are saturated or confidently wrong at the start.

    Attributes:
        pixels: of the training samples, of shape (64, samples).
        targets: one-hot, of shape (10, samples).
    """

    pixels: Any
    targets: Any

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the two shares."""
        far = f"{CONFIDENT:g}"
        return (
            Column("saturated", "float64", "1", f"share of outputs a beyond {far} or 1 - {far}"),
            Column("confidently_wrong", "float64", "1", f"share of outputs with |a - y| >= {far}"),
        )

    def result(self, state: tuple[()], start: Start, end: End, record: Any) -> dict[str, Array]:
        """Return the two shares."""
        outputs = pm.neuron.sigmoid(logits(start.parameters, self.pixels))
        return {
            "saturated": jnp.mean(jnp.abs(outputs - 0.5) >= CONFIDENT - 0.5),
            "confidently_wrong": jnp.mean(jnp.abs(outputs - self.targets) >= CONFIDENT),
        }


@dataclass(frozen=True)
class TestAccuracy(Measure):
    """The share of test samples that are classified correctly, at several epochs.

    The measure keeps the parameters of a few epochs and evaluates the test set after the run.

    Attributes:
        pixels: of the test samples, of shape (64, samples).
        labels: their digits, of shape (samples,).
    """

    __test__ = False
    pixels: Any
    labels: Any

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the accuracies in order of their epochs."""
        share = "share of test samples classified correctly"
        return (
            Column("accuracy_0", "float64", "1", f"{share} at the start"),
            *(Column(f"accuracy_{n}", "float64", "1", f"{share} after {n} epochs") for n in LOOKS),
            Column("final_accuracy", "float64", "1", f"{share} at the horizon"),
        )

    def init(self, start: Start) -> Any:
        """Return NaN for the parameters of each epoch."""
        return tuple(jax.tree.map(lambda p: p * jnp.nan, start.parameters) for _ in LOOKS)

    def update(self, state: Any, start: Start, now: Observation) -> Any:
        """Keep the parameters if this is one of the epochs."""
        return tuple(
            jax.tree.map(
                lambda old, p, n=n: jnp.where(now.epoch == n, p, old), kept, now.parameters
            )
            for n, kept in zip(LOOKS, state, strict=True)
        )

    def result(self, state: Any, start: Start, end: End, record: Any) -> dict[str, Array]:
        """Return the accuracies, NaN where a run stopped before."""
        kept = (start.parameters, *state, end.parameters)
        names = [column.name for column in self.columns]
        return {name: self._accuracy(p) for name, p in zip(names, kept, strict=True)}

    def _accuracy(self, parameters: dict[str, Array]) -> Array:
        answers = logits(parameters, self.pixels)
        right = jnp.mean(jnp.argmax(answers, axis=0) == self.labels)
        return jnp.where(jnp.isfinite(answers).all(), right, jnp.nan)


@dataclass(frozen=True)
class Network(Experiment):
    """The network, with its data.

    Attributes:
        pixels: of the training samples, in [0, 1], of shape (64, samples).
        labels: their digits, of shape (samples,).
        test_pixels: of the test samples.
        test_labels: their digits.
    """

    pixels: Any
    labels: Any
    test_pixels: Any
    test_labels: Any

    lanes = 64
    coordinates = (
        pm.Coordinate("scale", "standard deviation of the weights at the start", None, 0.0),
        pm.Coordinate("lr", "learning rate", None, 0.0, minimum_excluded=True),
        pm.Coordinate("seed", "draws the weights", None, 0, integer=True),
    )
    known_losses = ("quadratic", "cross_entropy", "linear")

    def init(self, point: Point) -> dict[str, Array]:
        """Draw all weights and biases from one normal distribution."""
        shapes = {
            "w1": (HIDDEN, INPUTS),
            "b1": (HIDDEN,),
            "w2": (OUTPUTS, HIDDEN),
            "b2": (OUTPUTS,),
        }
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        key = jax.random.key(point["seed"])
        drawn = point["scale"] * jax.random.normal(key, (sum(sizes),), point["scale"].dtype)
        parts = jnp.split(drawn, np.cumsum(sizes)[:-1])
        return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}

    def loss(self, parameters: dict[str, Array], point: Point, loss_name: Any) -> Array:
        """Return the mean over samples of the loss of all outputs."""
        answers, targets = logits(parameters, self.pixels).T, self.targets.T
        if loss_name == "cross_entropy":
            return pm.losses.binary_cross_entropy(answers, targets)
        activation = "identity" if loss_name == "linear" else "sigmoid"
        return pm.losses.l2_loss(answers, targets, activation)

    @property
    def targets(self) -> Array:
        """Return the labels as one-hot columns, of shape (10, samples)."""
        return (np.arange(OUTPUTS)[:, None] == self.labels).astype(self.pixels.dtype)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return the standard measures, the outputs at the start, and the test accuracy."""
        return (
            *super().measures,
            StartingOutputs(self.pixels, self.targets),
            TestAccuracy(self.test_pixels, self.test_labels),
        )


def network() -> Network:
    """Return the experiment on scikit-learn's digits, a fifth of them kept for the test."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        print("digits.py needs scikit-learn: pip install 'plateaumap[digits]'", file=sys.stderr)
        sys.exit(2)
    data = load_digits()
    order = np.random.default_rng(2026).permutation(len(data.target))
    pixels, labels = data.data[order].T / 16, data.target[order].astype(np.int32)
    tested = len(order) // 5
    return Network(pixels[:, tested:], labels[tested:], pixels[:, :tested], labels[:tested])


sweep = pm.Sweep(
    name="digits",
    experiment=network(),
    losses=("quadratic", "cross_entropy", "linear"),
    axes=[
        pm.values("scale", [0.3, 1.0, 3.0]),
        pm.values("lr", [0.3, 3.0, 10.0]),
        pm.linspace("seed", 0, 199, 200),
    ],
    horizon=300,
    until="horizon",
    precision="float32",
)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the medians over the seeds and the shares of failures, by loss, width and rate.

    A run that did not reach T10 or T50 counts as longer than all others, so a median can be
    infinite. `rank_correlation` is Spearman's correlation between the share of outputs that start
    confidently wrong and T50.
    """
    from figures.digits import accuracies

    lengths = frame[["plateau_epochs", "half_epochs"]].astype("Float64").fillna(np.inf)
    frame = frame.assign(
        plateau_epochs=lengths["plateau_epochs"].astype(float),
        half=lengths["half_epochs"].astype(float),
        on_plateau=~frame["status"].isin(["escaped", "converged_at_start", "not_finite"]),
        diverged=frame["status"] == "not_finite",
        final=accuracies(frame)[1][:, -1],
    )
    groups = frame.groupby(["loss", "scale", "lr"], observed=True)
    medians = groups[["saturated", "confidently_wrong", "plateau_epochs", "half", "final"]].median()
    shares = groups[["on_plateau", "diverged"]].mean()
    ranked = groups[["confidently_wrong", "half"]].apply(_rank_correlation)
    return medians.join(shares).assign(rank_correlation=ranked)


def _rank_correlation(rows: pd.DataFrame) -> float:
    shares, lengths = rows["confidently_wrong"], rows["half"].astype(float)
    if min(shares.nunique(), lengths.nunique()) < 2:
        return np.nan
    return float(shares.corr(lengths, method="spearman"))


def sentences(table: pd.DataFrame) -> list[str]:
    """Return the summary in words."""
    lines = []
    scales, rates = (list(table.index.unique(name)) for name in ("scale", "lr"))
    for scale in scales:
        both = table.xs(scale, level="scale")
        bad = both.loc["quadratic"].iloc[0]
        lines.append(
            f"Weights of width {scale:g}: {bad['saturated']:.0%} of the outputs start saturated, "
            f"{bad['confidently_wrong']:.1%} confidently wrong."
        )
        for rate in rates:
            at = both.xs(rate, level="lr")
            lines.append(
                f"  learning rate {rate:g}: "
                + "; ".join(
                    f"{loss} {_plateau(row)}, test accuracy {row['final']:.1%}"
                    for loss, row in at.iterrows()
                )
            )
        best = both.loc[both.groupby(level="loss", observed=True)["final"].idxmax()]
        lines.append(
            "  each at its own best: "
            + "; ".join(
                f"{loss} {row['final']:.1%} (learning rate {rate:g})"
                for (loss, rate), row in best.iterrows()
            )
        )
    return lines


def _plateau(row: pd.Series) -> str:
    if row["diverged"] > 0.5:
        return f"diverges in {row['diverged']:.0%}"
    return f"T10 {_epochs(row['plateau_epochs'])}, T50 {_epochs(row['half'])}"


def _epochs(median: float) -> str:
    return "not reached" if np.isinf(median) else f"{median:g}"


def show(results: pm.Results) -> None:
    """Draw the figures into the folder of results and print what they show."""
    from figures.digits import accuracy_curves, starts_against_plateaus

    frame = results.frame()
    figures = results.path / "figures"
    figures.mkdir(exist_ok=True)
    slow = frame[frame["lr"] == frame["lr"].min()]
    for name, figure in {
        "starts_against_plateaus": starts_against_plateaus(frame),
        "survival": pm.figures.survival(slow, by="scale"),
        "accuracy_curves": accuracy_curves(frame),
    }.items():
        pm.figures.save(figure, figures / f"{name}.png")
    table = summary(frame)
    table.to_csv(results.path / "digits.csv")
    print(table.to_string(float_format="{:.3g}".format))
    print(*sentences(table), sep="\n")
    print(f"figures and table are in {results.path}")


if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(sweep, then=show)
