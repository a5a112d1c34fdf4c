"""The rows and the full-length curves of one cell of the explorer's map.

Short runs are simulated epoch by epoch. A run of millions of epochs is drawn along its gradient
flow, which a step size far below the plateau's length follows closely: the flow gives the epoch at
which z reaches a value, at any length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from plateaumap.experiment.coordinates import Choice
from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.explore.view import View
from plateaumap.neuron.formulas import Parameters
from plateaumap.numerics.compiler import double_precision
from plateaumap.queries.simulate import simulate
from plateaumap.runner import run as runner
from plateaumap.sweep.spec import Sweep
from plateaumap.theory.base import case_of
from plateaumap.theory.sigmoid import log_flow_time

SIMULATED_UP_TO = 200_000
"""Epochs up to which a curve is always simulated; this takes about half a second."""

LONGEST = 2_000_000
"""Epochs after which a curve is cut if no flow can continue it."""

QUANTITIES = ("loss", "output", "w", "b")
"""The columns of a curve, beside `epoch`."""

_SHORTEST = 20
_KEPT = 1000
_FLOW_POINTS = 600
_FAR = 60.0
_BISECTIONS = 60


@dataclass(frozen=True)
class Curve:
    """One run under one loss.

    Attributes:
        columns: `epoch` and `QUANTITIES`, float64 of one shape.
        method: how the curve was computed, in words.
    """

    columns: Mapping[str, NDArray[np.float64]]
    method: str


@dataclass(frozen=True)
class PointDetail:
    """The runs from one cell of the map.

    Attributes:
        point: the coordinates.
        rows: the row of the table for each loss.
        curves: the curve for each loss that has one.
        note: how the curves were computed, or why there are none.
    """

    point: Mapping[str, Choice]
    rows: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Curve]
    note: str

    def extent(self, name: str) -> tuple[float, float]:
        """Return the least and the largest finite value of a column; 0 and 1 without any."""
        values = np.concatenate([curve.columns[name] for curve in self.curves.values()])
        values = values[np.isfinite(values)]
        return (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)


def point_detail(view: View, across: float, up: float) -> PointDetail:
    """Return the rows and curves of one point of a window.

    Raises:
        PlateaumapError: a coordinate does not allow its value.
    """
    sweep = view.point(across, up)
    record = runner.evaluate(sweep, {})
    rows = {sweep.loss_names[0]: record} if len(sweep.losses) == 1 else record
    if not isinstance(view.experiment, SingleNeuron):
        note = f"{type(view.experiment).__name__} has no curves here; its row is below"
        return PointDetail(sweep.fixed, rows, {}, note)
    names = ("plateau_epochs", "half_epochs", "tenth_epochs")
    crossings = [int(row[name]) for row in rows.values() for name in names if row[name] is not None]
    last = max(_SHORTEST, *map(_reach, rows.values()))
    curves = {
        name: curve(sweep, loss, last, crossings)
        for name, loss in zip(sweep.loss_names, sweep.losses, strict=True)
    }
    methods = {curve.method for curve in curves.values()}
    if len(methods) == 1:
        return PointDetail(sweep.fixed, rows, curves, methods.pop())
    note = "; ".join(f"{name}: {curve.method}" for name, curve in curves.items())
    return PointDetail(sweep.fixed, rows, curves, note)


def _reach(row: Mapping[str, Any]) -> int:
    """Return the number of epochs to draw: past T90, or past the latest known epoch."""
    if row["tenth_epochs"] is not None:
        return math.ceil(1.1 * row["tenth_epochs"])
    if row["plateau_epochs"] is not None:
        return 2 * int(row["plateau_epochs"])
    predicted = row.get("predicted_epochs", math.nan)
    if np.isfinite(predicted):
        return math.ceil(2 * predicted)
    return int(row["epochs_run"] or 0)


def curve(sweep: Sweep, loss: Any, last: int, marked: list[int]) -> Curve:
    """Return the curve of a sweep of one point under one loss, from epoch 0 to about `last`.

    Args:
        sweep: a sweep of one point of a single neuron.
        loss: one of its losses.
        last: the last epoch, of any size.
        marked: epochs that the curve must contain.
    """
    case = case_of(sweep.experiment.theory(loss))
    name = None if case is None else case.flow_loss
    if last > SIMULATED_UP_TO and name is not None:
        columns = _along_flow(sweep, loss, name, last)
        if columns is not None:
            return Curve(columns, "along the gradient flow, at full length")
    end = min(last, LONGEST)
    point: dict[str, Any] = dict(sweep.fixed)
    frame = simulate(loss=loss, **point, epochs=end, experiment=sweep.experiment)
    epochs = drawn_epochs(end, marked)
    columns = {name: frame[name].to_numpy()[epochs] for name in QUANTITIES}
    cut = f", cut after {end:,} of {last:,} epochs" if end < last else ""
    columns = {"epoch": epochs.astype(np.float64), **columns}
    return Curve(columns, f"simulated epoch by epoch{cut}")


def drawn_epochs(last: int, marked: list[int]) -> NDArray[np.int64]:
    """Return the epochs to draw: evenly spread, denser at the beginning, and those marked."""
    even = np.linspace(0, last, _KEPT + 1)
    early = np.expm1(np.linspace(0, np.log1p(last), _KEPT + 1))
    inside = np.array([epoch for epoch in marked if 0 <= epoch <= last], dtype=np.float64)
    together = np.concatenate([even, early, inside, [last]])
    return np.unique(np.clip(np.rint(together), 0, last).astype(np.int64))


def _along_flow(
    sweep: Sweep, loss: Any, name: str, last: int
) -> dict[str, NDArray[np.float64]] | None:
    """Return the curve along the flow, or None where its times are beyond float64."""
    point = {name: float(value) for name, value in sweep.fixed.items()}
    w0, b0, lr, x, y = (point[name] for name in ("w0", "b0", "lr", "x", "y"))
    z0, rate = w0 * x + b0, lr * (1 + x**2)
    with double_precision():

        def epochs_to(z: NDArray[np.float64]) -> NDArray[np.float64]:
            start, target = np.full_like(z, z0), np.full_like(z, y)
            return np.asarray(_compiled_time(name)(start, z, target)) / rate

        z1 = _reached(epochs_to, z0, _limit_of_z(z0, y), last)
        # z hardly changes on the plateau; most points are therefore close to z0.
        share = np.concatenate(
            [[0.0], np.geomspace(1e-9, 1, _FLOW_POINTS), np.linspace(0, 1, _FLOW_POINTS)[1:]]
        )
        z = z0 + (z1 - z0) * np.unique(share)
        epochs = epochs_to(z)
        epochs[0] = 0.0
        raw, output = map(
            np.asarray, _compiled_values(sweep.experiment, loss)(z, np.full_like(z, y))
        )
    moved = (z - z0) / (1 + x**2)
    columns = {
        "epoch": epochs,
        "loss": raw,
        "output": output,
        "w": w0 + moved * x,
        "b": b0 + moved,
    }
    known = np.isfinite(epochs) & (epochs <= 1.001 * last)
    if known.sum() < 2:
        return None
    drawn = {quantity: column[known] for quantity, column in columns.items()}
    if drawn["epoch"][-1] < last:  # The output reached its target and stays there.
        drawn = {q: np.append(c, last if q == "epoch" else c[-1]) for q, c in drawn.items()}
    return drawn


def _limit_of_z(z0: float, y: float) -> float:
    """Return the pre-activation at the target, or one that no run reaches in float64."""
    if y in (0.0, 1.0):
        return min(z0, 0.0) - _FAR if y == 0.0 else max(z0, 0.0) + _FAR
    return math.log(y) - math.log1p(-y)


def _reached(epochs_to: Any, z0: float, limit: float, last: int) -> float:
    """Return z of the flow at the last epoch, by bisection between z0 and `limit`."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        epochs = float(epochs_to(np.array([z0 + (limit - z0) * middle]))[0])
        low, high = (middle, high) if epochs <= last else (low, middle)
    return z0 + (limit - z0) * low


@lru_cache(maxsize=8)
def _compiled_time(name: str) -> Any:
    def time(z0: Any, z1: Any, y: Any) -> Any:
        return jax.numpy.exp(log_flow_time(z0, z1, y, loss=name))

    return jax.jit(jax.vmap(time))


@lru_cache(maxsize=16)
def _compiled_values(experiment: SingleNeuron, loss: Any) -> Any:
    def values(z: Any, y: Any) -> Any:
        point = {"w0": z, "b0": 0.0 * z, "lr": 1.0 + 0.0 * z, "x": 1.0 + 0.0 * z, "y": y}
        parameters = Parameters(z, 0.0 * z)
        raw = experiment.loss(parameters, point, loss)
        return raw, experiment.output(parameters, point)

    return jax.jit(jax.vmap(values))
