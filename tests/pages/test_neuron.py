"""The neuron's update in the page's JavaScript against the one in Python, in ulps."""

from __future__ import annotations

from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from tests.pages.browser import new_page

import plateaumap as pm
from plateaumap.experiment.problem import bind
from plateaumap.neuron import activations
from plateaumap.numerics.compiler import double_precision
from plateaumap.report.page.build import PAGE_ACTIVATIONS
from plateaumap.training.descent import Descent, PlainApply, TrainState
from plateaumap.training.measures import Crossings, Measures

POINTS = 500
PAIRS = [
    (activation, loss)
    for activation in PAGE_ACTIVATIONS
    for loss in pm.SingleNeuron(activation).known_losses
    if loss in ("quadratic", "cross_entropy", "matching")
]
ULPS = {"loss": 8, "gradient": 4, "w": 2, "b": 2}
"""The largest differences, in ulps of the largest term of each quantity."""

SMALLEST = np.finfo(float).tiny * 2**52
"""The size below which differences are absolute: XLA flushes subnormal numbers to zero."""

ONE_UPDATE = """([activation, loss, points]) => points.map((point) => {
  const { w, b, loss: losses } = Neuron.curve(activation, loss, point, 1);
  const z = point.w0 * point.x + point.b0;
  const gradient = Neuron.lossOf(activation, loss).gradient(z, point.y);
  return [losses[0], gradient, w[1], b[1]];
})"""


@pytest.fixture(scope="module")
def page(chromium: Any) -> Any:
    page, _ = new_page(chromium)
    script = resources.files("plateaumap.report.page").joinpath("neuron.js").read_text("utf-8")
    page.add_script_tag(content=script)
    return page


def random_points(activation: str) -> dict[str, np.ndarray]:
    """Return points of which half are in deep saturation and half have a target at a limit.

    Weights, biases and inputs have few digits, so that z is exact: in deep saturation a rounding
    error of z would change every digit of the gradient.
    """
    random = np.random.default_rng(17)
    function = activations.get(activation)
    low, high = max(function.low, -1.0), min(function.high, 1.0)
    ends = random.choice([low, high], POINTS)
    return {
        "w0": random.integers(-256, 256, POINTS) / 64 * random.choice([1, 40], POINTS),
        "b0": random.integers(-400, 400, POINTS) / 64,
        "lr": 10 ** random.uniform(-3, 1, POINTS),
        "x": random.integers(-192, 192, POINTS) / 64,
        "y": np.where(random.random(POINTS) < 0.5, ends, random.uniform(low, high, POINTS)),
    }


def python_update(activation: str, loss: str, points: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return loss and gradient at the points, and the parameters after one update."""
    experiment = pm.SingleNeuron(activation)

    def step(point: dict[str, Any]) -> dict[str, Any]:
        problem, apply = bind(experiment, point, loss, jnp.zeros(())), PlainApply()
        start = problem.parameters
        excess, gradients = problem.slope(start)
        state = TrainState(start, problem.optimizer.init(start), apply.init(start))
        descent = Descent(problem, Measures(Crossings()), apply)
        _, after = descent.update(state, excess, gradients)
        return {
            "loss": experiment.loss(start, point, loss),
            "gradient": problem.gradient_scalar(gradients),
            "w": after.parameters.w,
            "b": after.parameters.b,
        }

    with double_precision():
        return {name: np.asarray(v) for name, v in jax.jit(jax.vmap(step))(points).items()}


@pytest.mark.parametrize(("activation", "loss"), PAIRS)
def test_the_page_updates_a_neuron_as_the_package_does(
    page: Any, activation: str, loss: str
) -> None:
    points = random_points(activation)
    rows = pd.DataFrame(points).to_dict("records")
    columns = np.array(page.evaluate(ONE_UPDATE, [activation, loss, rows]), float).T
    drawn = dict(zip(("loss", "gradient", "w", "b"), columns, strict=True))
    expected = python_update(activation, loss, points)
    for name, scale in scales(activation, loss, points, expected).items():
        ulps = np.abs(drawn[name] - expected[name]) / np.spacing(scale)
        assert ulps.max() <= ULPS[name], (name, rows[int(ulps.argmax())])


def test_the_page_knows_the_activations_that_it_is_given(page: Any) -> None:
    assert page.evaluate("Neuron.activations") == list(PAGE_ACTIVATIONS)


def scales(
    activation: str, loss: str, points: dict[str, np.ndarray], expected: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Return the size of the largest term in the sum that gives each quantity."""
    z = points["w0"] * points["x"] + points["b0"]
    step = points["lr"] * np.abs(expected["gradient"])
    matching = np.abs(points["y"] * z) if loss == "matching" else 0.0
    constant = np.log(2) if (activation, loss) == ("tanh", "matching") else 0.0
    terms = {
        "loss": np.maximum.reduce([np.abs(expected["loss"]), matching + constant + 0 * z]),
        "gradient": np.abs(expected["gradient"]),
        "w": np.maximum(np.abs(points["w0"]), step * np.abs(points["x"])),
        "b": np.maximum(np.abs(points["b0"]), step),
    }
    return {name: np.maximum(scale, SMALLEST) for name, scale in terms.items()}
