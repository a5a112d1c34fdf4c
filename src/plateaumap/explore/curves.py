"""The story of one cell: its row under every loss, and the curves of that start at full length.

Short runs are simulated epoch by epoch. A run of millions of epochs is drawn along its gradient
flow, which a step size far below the plateau's length follows closely: the flow tells at which
epoch z comes by a value, whatever the length.
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
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.formulas import Parameters
from plateaumap.numerics.compiler import double_precision
from plateaumap.queries.simulate import simulate
from plateaumap.runner import run as runner
from plateaumap.sweep.spec import Sweep
from plateaumap.theory.flow import log_flow_time
from plateaumap.theory.flow_lengths import flow_of
from plateaumap.theory.theory import case_of

SIMULATED_UP_TO = 200_000
"""Epochs up to which a curve is simulated whatever theory says: half a second's work."""

LONGEST = 2_000_000
"""Epochs after which a curve is cut where no flow can continue it."""

QUANTITIES = ("loss", "output", "w", "b")

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
        how: how it was computed, in words.
    """

    columns: Mapping[str, NDArray[np.float64]]
    how: str


@dataclass(frozen=True)
class Story:
    """One cell.

    Attributes:
        point: its coordinates.
        rows: for each loss its row as the table would have it.
        curves: for each loss that has one its curve.
        note: how the curves were computed, or why there are none.
    """

    point: Mapping[str, Choice]
    rows: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Curve]
    note: str

    def extent(self, name: str) -> tuple[float, float]:
        """The least and the largest finite value of a column over all curves, 0 and 1 of none."""
        seen = np.concatenate([curve.columns[name] for curve in self.curves.values()])
        seen = seen[np.isfinite(seen)]
        return (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)


def story(view: View, across: float, up: float) -> Story:
    """Tell one point of a window.

    Raises:
        PlateaumapError: the coordinates cannot have these values.
    """
    sweep = view.point(across, up)
    told = runner.evaluate(sweep, {})
    rows = {sweep.loss_names[0]: told} if len(sweep.losses) == 1 else told
    curves: dict[str, Curve] = {}
    if isinstance(view.experiment, SingleNeuron):
        last = reach(list(rows.values()))
        for name, loss in zip(sweep.loss_names, sweep.losses, strict=True):
            curves[name] = curve(sweep, loss, last, _marks(list(rows.values())))
        note = _note(curves)
    else:
        note = f"{type(view.experiment).__name__} has no curves here; its row is below"
    return Story(sweep.fixed, rows, curves, note)


def _note(curves: Mapping[str, Curve]) -> str:
    ways = {curve.how for curve in curves.values()}
    if len(ways) == 1:
        return next(iter(ways))
    return "; ".join(f"{name}: {curve.how}" for name, curve in curves.items())


def reach(rows: list[Mapping[str, Any]]) -> int:
    """Epochs worth drawing: past T90 of the slower loss, or what is known of it."""
    return max(_SHORTEST, *(_own_reach(row) for row in rows))


def _own_reach(row: Mapping[str, Any]) -> int:
    if row["tenth_epochs"] is not None:
        return math.ceil(1.1 * row["tenth_epochs"])
    if row["plateau_epochs"] is not None:
        return 2 * int(row["plateau_epochs"])
    predicted = row.get("predicted_epochs", math.nan)
    if np.isfinite(predicted):
        return math.ceil(2 * predicted)
    return int(row["epochs_run"] or 0)


def _marks(rows: list[Mapping[str, Any]]) -> list[int]:
    names = ("plateau_epochs", "half_epochs", "tenth_epochs")
    return [int(row[name]) for row in rows for name in names if row[name] is not None]


def curve(sweep: Sweep, loss: Any, last: int, marks: list[int]) -> Curve:
    """The curve of a sweep of one point under one loss, from epoch 0 to about `last`.

    Args:
        sweep: of one point, of a single neuron.
        loss: one of its losses.
        last: the last epoch, of any size.
        marks: epochs that must be among those kept.
    """
    name = flow_of(case_of(sweep.experiment.theory(loss)))
    if last > SIMULATED_UP_TO and name is not None:
        along = _along_flow(sweep, loss, name, last)
        if along is not None:
            return Curve(along, "along the gradient flow, at full length")
    end = min(last, LONGEST)
    at: dict[str, Any] = dict(sweep.fixed)
    whole = simulate(loss=loss, **at, epochs=end, experiment=sweep.experiment)
    kept = kept_epochs(end, marks)
    columns = {q: whole[q].to_numpy()[kept] for q in QUANTITIES}
    cut = f", cut after {end:,} of {last:,} epochs" if end < last else ""
    return Curve({"epoch": kept.astype(np.float64), **columns}, f"simulated epoch by epoch{cut}")


def kept_epochs(last: int, marks: list[int]) -> NDArray[np.int64]:
    """Epochs that are drawn: evenly spread, denser at the beginning, and those marked."""
    even = np.linspace(0, last, _KEPT + 1)
    early = np.expm1(np.linspace(0, np.log1p(last), _KEPT + 1))
    marked = np.array([mark for mark in marks if 0 <= mark <= last], dtype=np.float64)
    together = np.concatenate([even, early, marked, [last]])
    return np.unique(np.clip(np.rint(together), 0, last).astype(np.int64))


def _along_flow(
    sweep: Sweep, loss: Any, name: str, last: int
) -> dict[str, NDArray[np.float64]] | None:
    """The flow's curve from 0 to the last epoch; None where float64 holds no time."""
    at = {name: float(value) for name, value in sweep.fixed.items()}
    z0, h = at["w0"] * at["x"] + at["b0"], at["lr"] * (1 + at["x"] ** 2)
    with double_precision():

        def epochs_to(z: NDArray[np.float64]) -> NDArray[np.float64]:
            start, target = np.full_like(z, z0), np.full_like(z, at["y"])
            return np.asarray(_times(name)(start, z, target)) / h

        z1 = _comes_by(epochs_to, z0, _aim(z0, at["y"]), last)
        # The plateau is where z hardly moves: many points go there.
        share = np.concatenate(
            [[0.0], np.geomspace(1e-9, 1, _FLOW_POINTS), np.linspace(0, 1, _FLOW_POINTS)[1:]]
        )
        z = z0 + (z1 - z0) * np.unique(share)
        epochs = epochs_to(z)
        epochs[0] = 0.0
        raw, output = map(np.asarray, _values(sweep.experiment, loss)(z, np.full_like(z, at["y"])))
    moved = (z - z0) / (1 + at["x"] ** 2)
    columns = {
        "epoch": epochs,
        "loss": raw,
        "output": output,
        "w": at["w0"] + moved * at["x"],
        "b": at["b0"] + moved,
    }
    known = np.isfinite(epochs) & (epochs <= 1.001 * last)
    if known.sum() < 2:
        return None
    drawn = {quantity: column[known] for quantity, column in columns.items()}
    if drawn["epoch"][-1] < last:  # It has come to its target, and stays.
        drawn = {q: np.append(c, last if q == "epoch" else c[-1]) for q, c in drawn.items()}
    return drawn


def _aim(z0: float, y: float) -> float:
    """A pre-activation at the target, or as far towards it as any run comes."""
    if y in (0.0, 1.0):
        return min(z0, 0.0) - _FAR if y == 0.0 else max(z0, 0.0) + _FAR
    return math.log(y) - math.log1p(-y)


def _comes_by(epochs_to: Any, z0: float, aim: float, last: int) -> float:
    """Where the flow is at the last epoch, by bisection of the way from z0 to `aim`."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        epochs = float(epochs_to(np.array([z0 + (aim - z0) * middle]))[0])
        low, high = (middle, high) if epochs <= last else (low, middle)
    return z0 + (aim - z0) * low


@lru_cache(maxsize=8)
def _times(name: str) -> Any:
    def one(z0: Any, z1: Any, y: Any) -> Any:
        return jax.numpy.exp(log_flow_time(z0, z1, y, loss=name))

    return jax.jit(jax.vmap(one))


@lru_cache(maxsize=16)
def _values(experiment: SingleNeuron, loss: Any) -> Any:
    def one(z: Any, y: Any) -> Any:
        point = {"w0": z, "b0": 0.0 * z, "lr": 1.0 + 0.0 * z, "x": 1.0 + 0.0 * z, "y": y}
        parameters = Parameters(z, 0.0 * z)
        raw = experiment.loss(parameters, point, loss)
        return raw, experiment.output(parameters, point)

    return jax.jit(jax.vmap(one))


def parse_number(name: str, text: str) -> float:
    """A number as typed into the page.

    Raises:
        PlateaumapError: it is none.
    """
    try:
        return float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        raise PlateaumapError(f"{name} is {text!r}; give a number, such as 0.15 or 1e-3") from None
