"""Makes distance_and_information.png of docs/distance_and_information.md: `python FILE`."""

from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plateaumap import losses

TARGET = np.array([0.7, 0.2, 0.1])
CORNERS = np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])
COLOURS = {"L2": "#0072B2", "cross-entropy": "#D55E00"}
LEVELS = [0.01, 0.04, 0.09, 0.16, 0.25, 0.36]


def draw_losses(outputs: Axes, logits: Axes, slopes: Axes) -> None:
    """Draw both losses of one output with the target 0, in bits and squared units."""
    z = np.linspace(-8, 8, 401)
    a = 1 / (1 + np.exp(-z))
    functions = {"L2": losses.l2_loss, "cross-entropy": losses.binary_cross_entropy}
    for name, function in functions.items():
        values, gradients = jax.vmap(jax.value_and_grad(lambda z, f=function: f(z, 0.0)))(z)
        for axes, at, of in ((outputs, a, values), (logits, z, values), (slopes, z, gradients)):
            axes.plot(at, of, color=COLOURS[name], label=name)
    outputs.set(xlabel="output $a$", ylabel="loss, target 0", ylim=(0, 4), xlim=(0, 1))
    logits.set(xlabel="logit $z$", ylim=(0, 8), xlim=(-8, 8))
    slopes.set(xlabel="logit $z$", ylabel="gradient in $z$", xlim=(-8, 8))
    outputs.legend(frameon=False)


def draw_triangle(axes: Axes, name: str) -> None:
    """Draw the level lines of a loss over all outputs of three classes."""
    x, y = np.meshgrid(np.linspace(0, 1, 401), np.linspace(0, CORNERS[2, 1], 351))
    third = y / CORNERS[2, 1]
    second = x - third / 2
    a = np.stack([1 - second - third, second, third])
    inside = (a > 0).all(axis=0)
    a = np.where(inside, a, 1.0)
    if name == "L2":
        values = ((a - TARGET[:, None, None]) ** 2).sum(axis=0) / 2
    else:
        values = (TARGET[:, None, None] * np.log(TARGET[:, None, None] / a)).sum(axis=0)
    axes.contour(x, y, np.where(inside, values, np.nan), LEVELS, colors=COLOURS[name])
    axes.plot(*np.vstack([CORNERS, CORNERS[:1]]).T, color="0.3", linewidth=0.8)
    axes.plot(*(TARGET @ CORNERS), "o", color="black", markersize=4)
    for corner, word in zip(CORNERS, "123", strict=True):
        middle = CORNERS.mean(axis=0)
        axes.text(*(corner + 0.08 * (corner - middle)), word, ha="center", va="center")
    told = "squared distance / 2" if name == "L2" else "divergence in nats"
    axes.set_title(f"{name}: {told}", fontsize=9, pad=16)
    axes.set_aspect("equal")
    axes.axis("off")


def main() -> None:
    """Write the figure beside this file."""
    figure = Figure(figsize=(7.1, 5.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.15))
    draw_losses(*top.subplots(1, 3))
    for axes, name in zip(bottom.subplots(1, 2), COLOURS, strict=True):
        draw_triangle(axes, name)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
