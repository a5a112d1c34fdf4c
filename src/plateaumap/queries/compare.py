"""What theory says of the rows of a table, as columns beside what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from plateaumap.experiment.protocol import Experiment
from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.theory.epochs import plateau_epochs
from plateaumap.theory.flow_lengths import flow_epochs, flow_of
from plateaumap.theory.theory import case_of

FLOW, EXACT = "flow_epochs", "exact_epochs"

_COORDINATES = ("w0", "b0", "lr", "x", "y")


def add_theory(frame: pd.DataFrame, experiment: Experiment | None = None) -> pd.DataFrame:
    """Return a table with plateau lengths by the gradient flow and by exact theory beside it.

    Args:
        frame: a table of results of a neuron.
        experiment: what was trained; by default a sigmoid neuron.

    Returns:
        A new table with two more columns, float64: `flow_epochs`, the gradient flow's length, and
        `exact_epochs`, that of `plateau_epochs`; NaN where theory has none, such as under a loss
        of one's own. `pm.figures.cut` draws them beside the measured lengths.

    Raises:
        PlateaumapError: the table lacks a coordinate.
    """
    trained = SingleNeuron() if experiment is None else experiment
    missing = [name for name in (*_COORDINATES, "loss") if name not in frame.columns]
    if missing:
        raise PlateaumapError(
            f"add_theory needs the columns loss, {', '.join(_COORDINATES)}; the table lacks "
            f"{', '.join(missing)}: give it a table such as `run` and `load` return"
        )
    columns = {name: np.full(len(frame), np.nan) for name in (FLOW, EXACT)}
    for loss in frame["loss"].unique():
        rows = np.flatnonzero((frame["loss"] == loss).to_numpy())
        case = case_of(trained.theory(str(loss)) if loss in trained.known_losses else None)
        if case is None:
            continue
        points: dict[str, Any] = {n: frame[n].to_numpy(np.float64)[rows] for n in _COORDINATES}
        exact = plateau_epochs(**points, errors="mask", **case._asdict())
        columns[EXACT][rows] = exact.astype(np.float64).filled(np.nan)
        flow = flow_of(case)
        if flow is not None:
            columns[FLOW][rows] = flow_epochs(**points, loss=flow)
    return frame.assign(**columns)
