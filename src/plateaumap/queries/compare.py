"""Plateau lengths by theory, as columns beside the measured ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from plateaumap.experiment.protocol import Experiment
from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.theory.base import case_of
from plateaumap.theory.epochs import flow_epochs, plateau_epochs

_COORDINATES = ("w0", "b0", "lr", "x", "y")


def add_theory(frame: pd.DataFrame, experiment: Experiment | None = None) -> pd.DataFrame:
    """Return a copy of a table with plateau lengths by the gradient flow and by exact theory.

    Args:
        frame: a table of results of a neuron.
        experiment: the neuron; by default one with a sigmoid.

    Returns:
        A new table with two more float64 columns: `flow_epochs`, the length under the gradient
        flow, and `exact_epochs`, the length by `plateau_epochs`. They are NaN where no theory
        applies, such as under a custom loss. `pm.figures.cut` draws them beside the measured
        lengths.

    Raises:
        PlateaumapError: the table lacks a coordinate.

    Example:
        >>> import plateaumap as pm
        >>> sweep = pm.Sweep(axes=[pm.values("w0", [1.0, 2.0])], fixed={"b0": 2, "lr": 0.15})
        >>> frame = pm.add_theory(pm.run(sweep, progress=False))
        >>> (frame["exact_epochs"] == frame["plateau_epochs"]).all()
        np.True_
    """
    experiment = SingleNeuron() if experiment is None else experiment
    missing = [name for name in (*_COORDINATES, "loss") if name not in frame.columns]
    if missing:
        raise PlateaumapError(
            f"frame: the columns {', '.join(missing)} are missing; pass a table as `run` and "
            "`load` return it"
        )
    flow, exact = np.full((2, len(frame)), np.nan)
    for loss in frame["loss"].unique():
        known = str(loss) in experiment.known_losses
        case = case_of(experiment.theory(str(loss)) if known else None)
        if case is None:
            continue
        rows = np.flatnonzero((frame["loss"] == loss).to_numpy())
        points: dict[str, Any] = {n: frame[n].to_numpy(np.float64)[rows] for n in _COORDINATES}
        lengths = plateau_epochs(**points, errors="mask", **case._asdict())
        exact[rows] = lengths.astype(np.float64).filled(np.nan)
        if case.flow_loss is not None:
            flow[rows] = flow_epochs(**points, loss=case.flow_loss)
    return frame.assign(flow_epochs=flow, exact_epochs=exact)
