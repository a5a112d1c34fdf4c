"""Synthetic tables of results with the columns of `run`, for tests of figures."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

STATUSES = (
    "escaped",
    "censored",
    "converged_at_start",
    "stationary",
    "stalled",
    "partially_stalled",
    "not_finite",
    "beyond_int64",
)
LOSSES = ("quadratic", "cross_entropy")
FIXED = {"w0": 2.0, "b0": 2.0, "lr": 0.15, "x": 1.0, "y": 0.0}
HORIZON = 1000
TOLERANCE = 0.01

Columns = dict[str, Sequence[float]]
Length = Callable[[str, dict[str, float]], float]


def length(loss: str, point: dict[str, float]) -> float:
    """Return a synthetic plateau length that resembles that of a neuron."""
    z = point["w0"] * point["x"] + point["b0"]
    rate = point["lr"] * (1 + point["x"] ** 2)
    course = 0.1 * np.exp(abs(z)) + 1 if loss == "quadratic" else 0.2 * (1 + abs(z))
    return float(np.ceil(course / rate))


def table(
    *axes: Columns,
    losses: Sequence[str] = LOSSES,
    fixed: dict[str, float] | None = None,
    plateau: Length = length,
    horizon: int = HORIZON,
) -> pd.DataFrame:
    """Return a table over the product of `axes`, in the order of a sweep."""
    rows = []
    for loss in losses:
        for place in itertools.product(*(range(len(next(iter(a.values())))) for a in axes)):
            point = FIXED | (fixed or {})
            indices = {}
            for axis, index in zip(axes, place, strict=True):
                point |= {name: float(values[index]) for name, values in axis.items()}
                indices |= {f"{name}_index": index for name in axis}
            rows.append(
                {"loss": loss, **point, **indices, **_measured(loss, point, plateau, horizon)}
            )
    return _typed(pd.DataFrame(rows), losses)


def _measured(loss: str, point: dict[str, float], plateau: Length, horizon: int) -> dict:
    z = point["w0"] * point["x"] + point["b0"]
    a, s, y = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z)), point["y"]
    gradient = (a - y) * a * s if loss == "quadratic" else a - y
    epochs = plateau(loss, point)
    status = "escaped" if epochs <= horizon else "censored"
    if abs(a - y) <= TOLERANCE:
        status = "converged_at_start"
    escaped = status == "escaped"
    fast = (4 / 27) / (a**2 * s) if loss == "quadratic" and a > 2 / 3 else 1.0
    return {
        "status": status,
        "plateau_epochs": int(epochs) if escaped else None,
        "half_epochs": min(3 * int(epochs), 2**63 - 1) if escaped else None,
        "tenth_epochs": min(9 * int(epochs), 2**63 - 1) if escaped else None,
        "plateau_fraction": 1 / 9 if escaped else np.nan,
        "acceleration": fast if escaped else np.nan,
        "initial_output": a,
        "initial_gradient": gradient,
        "loss_floor": 0.0,
        "epochs_run": 0
        if status == "converged_at_start"
        else (min(9 * int(epochs), 2**63 - 1) if escaped else horizon),
        "predicted_epochs": np.nan if status == "converged_at_start" else epochs,
    }


def _typed(frame: pd.DataFrame, losses: Sequence[str]) -> pd.DataFrame:
    frame["loss"] = pd.Categorical(frame["loss"], list(losses))
    frame["status"] = pd.Categorical(frame["status"], list(STATUSES))
    for name in ("plateau_epochs", "half_epochs", "tenth_epochs", "epochs_run"):
        frame[name] = frame[name].astype("Int64")
    for name in frame.columns:
        if name.endswith("_index"):
            frame[name] = frame[name].astype(np.int32)
    return frame


def atlas(num: int = 9, rates: Sequence[float] = (0.005, 0.15), **settings: object) -> pd.DataFrame:
    """Return a table over w0, b0 and lr; the grid has the unlucky start if `num` is 8 k + 1."""
    span = np.linspace(-8, 8, num)
    return table({"w0": span}, {"b0": span}, {"lr": rates}, **settings)


def with_all_statuses(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a few rows of each status."""
    changed = frame.copy()
    rows = np.arange(len(changed))
    for number, status in enumerate(STATUSES[1:]):
        selected = rows[rows % 13 == number]
        changed.loc[selected, "status"] = status
        changed.loc[selected, "plateau_epochs"] = pd.NA
        changed.loc[selected, "epochs_run"] = HORIZON if status == "censored" else 7
    return changed
