"""An independent reference: gradient descent on one neuron in plain NumPy, gradients by hand.

Imports nothing of plateaumap. Written to be read, not to be fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


def sigmoid(z: float) -> float:
    """Return the logistic function without overflow."""
    if z >= 0:
        return 1 / (1 + math.exp(-z))
    return math.exp(z) / (1 + math.exp(z))


def log_sigmoid(z: float) -> float:
    """Return ln σ(z) without overflow."""
    return -math.log1p(math.exp(-z)) if z >= 0 else z - math.log1p(math.exp(z))


def entropy(y: float) -> float:
    """Return the entropy of a target in nats."""
    return -sum(p * math.log(p) for p in (y, 1 - y) if p > 0)


def loss_of(name: str, z: float, y: float) -> float:
    """Return the raw loss."""
    if name == "quadratic":
        return ((1 - y) * sigmoid(z) - y * sigmoid(-z)) ** 2 / 2
    return -(y * log_sigmoid(z) + (1 - y) * log_sigmoid(-z))


def gradient_of(name: str, z: float, y: float) -> float:
    """Return dC/dz, derived by hand."""
    error = (1 - y) * sigmoid(z) - y * sigmoid(-z)
    return error * sigmoid(z) * sigmoid(-z) if name == "quadratic" else error


@dataclass
class Run:
    """What happened in one run: a `None` for what did not happen within the horizon."""

    plateau: int | None
    half: int | None
    tenth: int | None
    steepest: int
    gradients: list[float]
    excess: list[float]
    w: list[float]
    b: list[float]


def train(name: str, w0: float, b0: float, lr: float, x: float, y: float, horizon: int) -> Run:
    """Train one neuron to a tenth of its loss excess, or to the horizon."""
    floor = entropy(y) if name == "cross_entropy" else 0.0
    w, b = np.float64(w0), np.float64(b0)
    excess: list[float] = []
    gradients: list[float] = []
    ws, bs = [], []
    crossings: dict[float, int] = {}
    for epoch in range(horizon + 1):
        z = float(w * x + b)
        excess.append(loss_of(name, z, y) - floor)
        gradients.append(gradient_of(name, z, y))
        ws.append(float(w))
        bs.append(float(b))
        for drop in (0.1, 0.5, 0.9):
            if drop not in crossings and excess[-1] <= (1 - drop) * excess[0]:
                crossings[drop] = epoch
        if 0.9 in crossings:
            break
        w, b = w - lr * gradients[-1] * x, b - lr * gradients[-1]
    falls = -np.diff(excess)
    return Run(
        plateau=crossings.get(0.1),
        half=crossings.get(0.5),
        tenth=crossings.get(0.9),
        steepest=int(np.argmax(falls)) if len(falls) else 0,
        gradients=gradients,
        excess=excess,
        w=ws,
        b=bs,
    )
