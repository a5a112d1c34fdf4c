"""A network of one's own against a hand-written `jit(vmap(scan))` of the same training.

`python benchmarks/own_model.py` trains a two-layer network with Adam over learning rate, initial
scale and seed, for so few and so small steps that no run ends early: there is nothing to skip.
Both do every update of every run, in float64, and give the last loss of each. They take turns;
what is printed is the ratio of each pair and their median, compilation left out. The hand-written
program measures nothing on the way; the sweep also finds crossings, path, frozen parameters.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import plateaumap as pm

SIZES = {"tiny": (8, 2, 4), "small": (32, 2, 8), "medium": (64, 2, 16), "large": (200, 8, 32)}
"""Samples, inputs and hidden units."""


@dataclass(frozen=True)
class Network(pm.Experiment):
    """Two layers under Adam."""

    inputs: np.ndarray
    targets: np.ndarray
    width: int

    coordinates = (
        pm.Coordinate("lr", "learning rate", minimum=0),
        pm.Coordinate("scale", "scale of the first weights"),
        pm.Coordinate("seed", integer=True),
    )

    def init(self, point: Any) -> Any:
        """Start at normal weights."""
        return start(point, self.inputs.shape[1], self.width)

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        """Return the cross-entropy."""
        return loss(parameters, self.inputs, self.targets)

    def optimizer(self, point: Any) -> Any:
        """Return Adam."""
        return optax.adam(point["lr"])


def start(point: Any, inputs: int, width: int) -> Any:
    """Return parameters."""
    first, second = jax.random.split(jax.random.key(point["seed"]))
    return {
        "hidden": point["scale"] * jax.random.normal(first, (inputs, width)),
        "bias": jnp.zeros(width),
        "out": point["scale"] * jax.random.normal(second, (width, 1)),
    }


def loss(parameters: Any, inputs: Any, targets: Any) -> Any:
    """Return the cross-entropy of the network."""
    hidden = jnp.tanh(inputs @ parameters["hidden"] + parameters["bias"])
    return pm.losses.binary_cross_entropy(hidden @ parameters["out"], targets)


def by_hand(points: dict[str, np.ndarray], model: Network, epochs: int) -> Callable[[], np.ndarray]:
    """Return a function that trains all points at once and returns their last losses."""

    def train(lr: Any, scale: Any, seed: Any, inputs: Any, targets: Any) -> Any:
        optimizer = optax.adam(lr)
        parameters = start({"scale": scale, "seed": seed}, inputs.shape[1], model.width)

        def step(carry: Any, _: None) -> tuple[Any, None]:
            parameters, state = carry
            gradients = jax.grad(loss)(parameters, inputs, targets)
            updates, state = optimizer.update(gradients, state, parameters)
            return (optax.apply_updates(parameters, updates), state), None

        carry = parameters, optimizer.init(parameters)
        (parameters, _), _ = jax.lax.scan(step, carry, length=epochs)
        return loss(parameters, inputs, targets)

    compiled = jax.jit(jax.vmap(train, (0, 0, 0, None, None)))

    def call() -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(compiled(*points.values(), model.inputs, model.targets))

    return call


def seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """Return how long a call takes, and the processor's time of all threads."""
    begin, spent = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - begin, time.process_time() - spent


def compare(name: str, seeds: int, epochs: int, rounds: int) -> None:
    """Print the ratios for one size of network."""
    samples, inputs, width = SIZES[name]
    source = np.random.default_rng(0)
    data = source.standard_normal((samples, inputs)), source.integers(0, 2, (samples, 1)) + 0.0
    sweep = pm.Sweep(
        experiment=Network(*data, width),
        axes=[
            pm.geomspace("lr", 1e-6, 1e-5, 4),
            pm.linspace("scale", 0.1, 0.2, 4),
            pm.values("seed", range(seeds)),
        ],
        horizon=epochs,
    )
    hand = by_hand(sweep.grid.coordinates(0, sweep.size), sweep.experiment, epochs)
    frame = pm.run(sweep)
    assert (frame["status"] == "censored").all()
    apart = float(np.abs(frame["final_loss"] - hand()).max())
    pairs = [(seconds(hand), seconds(lambda: pm.run(sweep))) for _ in range(rounds)]
    ratios = [ours[0] / theirs[0] for theirs, ours in pairs]
    spent = statistics.median(ours[1] / theirs[1] for theirs, ours in pairs)
    print(
        f"{name:<7}{samples} x {inputs} -> {width} -> 1, {sweep.size} runs of {epochs} epochs: "
        f"by hand {min(h[0] for h, _ in pairs):.2f} s, sweep {min(o[0] for _, o in pairs):.2f} s, "
        f"ratios {min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f}, "
        f"of processor time {spent:.2f}; "
        f"last losses differ by {apart:.1e} at most",
        flush=True,
    )


def main() -> None:
    """Compare all sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("sizes", nargs="*", default=list(SIZES), help=f"of {', '.join(SIZES)}")
    chosen = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    for name in chosen.sizes:
        compare(name, chosen.seeds, chosen.epochs, chosen.rounds)


if __name__ == "__main__":
    main()
