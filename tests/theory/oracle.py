"""Plateau lengths by plain simulation, with formulas of its own: the judge of the theory."""

import mpmath
import numpy as np

LOSSES = ("quadratic", "cross_entropy")


def softplus(z):
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def gradient(loss, z, y):
    tail = np.exp(-np.abs(z))
    a, s = np.where(z > 0, 1, tail) / (1 + tail), np.where(z > 0, tail, 1) / (1 + tail)
    error = (1 - y) * a - y * s
    return error * a * s if loss == "quadratic" else error


def excess(loss, z, y):
    if loss == "quadratic":
        tail = np.exp(-np.abs(z))
        a, s = np.where(z > 0, 1, tail) / (1 + tail), np.where(z > 0, tail, 1) / (1 + tail)
        return ((1 - y) * a - y * s) ** 2 / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(y > 0, y * np.log(y), 0) - np.where(y < 1, (1 - y) * np.log1p(-y), 0)
    return y * softplus(-z) + (1 - y) * softplus(z) - entropy


def simulated_epochs(loss, z0, h, y, drop, horizon):
    """First n with ``excess <= (1 - drop) excess_0`` of every cell, -1 past the horizon.

    Float64 updates of z. Cells that are done are dropped from the arrays, so that a few long
    plateaus do not keep the many short ones company.
    """
    z = np.array(z0, dtype=np.float64)
    h, y = (np.broadcast_to(np.asarray(v, dtype=np.float64), z.shape) for v in (h, y))
    level = (1 - drop) * excess(loss, z, y)
    epochs = np.full(z.shape, -1, dtype=np.int64)
    lanes = np.arange(z.size)
    for epoch in range(1, horizon + 1):
        z = z - h * gradient(loss, z, y)
        done = excess(loss, z, y) <= level
        if done.any():
            epochs[lanes[done]] = epoch
            z, h, y, level, lanes = (v[~done] for v in (z, h, y, level, lanes))
            if not lanes.size:
                break
    return epochs


def exact_epochs(loss, w0, b0, lr, x, y, drop, horizon, digits=60):
    """The same for one neuron in ``digits`` decimal digits, its inputs taken as exact."""
    with mpmath.workdps(digits):
        w0, b0, lr, x, y = (mpmath.mpf(float(v)) for v in (w0, b0, lr, x, y))
        z, h, keep = w0 * x + b0, lr * (1 + x * x), 1 - mpmath.mpf(str(drop))

        def state(z):
            a, s = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
            error = (1 - y) * a - y * s
            if loss == "quadratic":
                return error * a * s, error**2 / 2
            weighted = ((y, a), (1 - y, s))
            return error, sum(p * mpmath.log(p / r) for p, r in weighted if p)

        slope, start = state(z)
        for epoch in range(1, horizon + 1):
            z -= h * slope
            slope, height = state(z)
            if height <= keep * start:
                return epoch
        return -1
