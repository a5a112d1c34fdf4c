"""The plateau lengths of the points of a window, and the table of a window."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plateaumap.numerics.compiler import double_precision
from plateaumap.runner import run as runner
from plateaumap.sweep.spec import Sweep
from plateaumap.theory.base import case_of
from plateaumap.theory.canonical import EpochState
from plateaumap.theory.epochs import count_epochs, plateau_epochs
from plateaumap.training.measures import LEVELS, STATUSES

NO_THEORY = len(STATUSES)
"""The status of a point without a length by theory: its path overshoots the target."""

_ESCAPED, _CENSORED, _CONVERGED, _BEYOND = (
    STATUSES.index(name) for name in ("escaped", "censored", "converged_at_start", "beyond_int64")
)
_STATUS = pd.CategoricalDtype(list(STATUSES))


@dataclass(frozen=True)
class WindowLengths:
    """The lengths of some points under one loss.

    Attributes:
        epochs: the lengths, int64 of shape (n,), masked where a point has none.
        status: positions in `STATUSES`, or `NO_THEORY`, uint8 of shape (n,).
    """

    epochs: np.ma.MaskedArray
    status: NDArray[np.uint8]

    @classmethod
    def concatenate(cls, parts: list[WindowLengths]) -> WindowLengths:
        """Return the lengths of consecutive ranges of points as one."""
        return cls(
            np.ma.concatenate([part.epochs for part in parts]),
            np.concatenate([part.status for part in parts]),
        )


def lengths(sweep: Sweep, measure: str, start: int, stop: int) -> WindowLengths:
    """Return the lengths of the points from `start` to `stop − 1` of a sweep of one loss.

    They are exact by theory where the sweep leaps and its loss has a theory, else simulated.

    Args:
        sweep: a sweep of one loss.
        measure: the column of the length, a key of `LEVELS`.
        start: the first point.
        stop: one past the last point.
    """
    if sweep.method == "leap" and case_of(sweep.experiment.theory(sweep.losses[0])) is not None:
        return _by_theory(sweep, measure, start, stop)
    return _by_simulation(sweep, measure, start, stop)


def _by_theory(sweep: Sweep, measure: str, start: int, stop: int) -> WindowLengths:
    points = sweep.grid.coordinates(start, stop)
    case = case_of(sweep.experiment.theory(sweep.losses[0]))
    assert case is not None
    arguments: dict[str, Any] = {**points, **case._asdict(), "drop": LEVELS[measure]}
    epochs = plateau_epochs(**arguments, errors="mask")
    masked = np.flatnonzero(np.ma.getmaskarray(epochs))
    status = np.full(len(epochs), _ESCAPED, np.uint8)
    if len(masked):
        some = {name: column[masked] for name, column in points.items()}
        state = count_epochs(**{**arguments, **some}).state
        reasons = np.full(len(masked), NO_THEORY, np.uint8)
        reasons[state == EpochState.BEYOND_INT64] = _BEYOND
        reasons[state == EpochState.NO_EXCESS] = _CONVERGED
        status[masked] = reasons
    with double_precision():
        tolerance = np.float64(sweep.tolerance)
        converged = np.asarray(_compiled_converged(sweep.experiment)(points, tolerance))
    status[converged] = _CONVERGED
    return WindowLengths(np.ma.MaskedArray(epochs.data, mask=status != _ESCAPED), status)


@lru_cache(maxsize=16)
def _compiled_converged(experiment: Any) -> Any:
    def converged(point: dict[str, Any], tolerance: Any) -> Any:
        return experiment.converged(experiment.init(point), point, tolerance)

    return jax.jit(jax.vmap(converged, in_axes=(0, None)))


def _by_simulation(sweep: Sweep, measure: str, start: int, stop: int) -> WindowLengths:
    frame = runner.run(sweep, rows=range(start, stop), progress=False)
    epochs = frame[measure]
    missing = epochs.isna().to_numpy()
    status = frame["status"].cat.codes.to_numpy(copy=True).astype(np.uint8)
    # `status` speaks of the plateau: such a run left it, and was censored before this level.
    status[missing & (status == _ESCAPED)] = _CENSORED
    filled = epochs.fillna(0).to_numpy(np.int64)
    return WindowLengths(np.ma.MaskedArray(filled, mask=missing), status)


def table(sweep: Sweep, lengths_by_loss: dict[str, WindowLengths]) -> pd.DataFrame:
    """Return the table of a window, as figures take it, without points that have no theory.

    Args:
        sweep: the sweep of the window, with all losses of the table.
        lengths_by_loss: the lengths of all points under each loss.
    """
    points = np.arange(sweep.size)
    coordinates = {**sweep.grid.coordinates_at(points), **sweep.grid.index_columns(points)}
    names = list(lengths_by_loss)
    parts = []
    for name, known in lengths_by_loss.items():
        has_row = known.status != NO_THEORY
        codes = np.where(has_row, known.status, 0).astype(np.int8)
        epochs = pd.array(known.epochs.filled(0), dtype="Int64")
        epochs[np.ma.getmaskarray(known.epochs)] = pd.NA
        # Theory follows no run. A censored run was followed up to the horizon.
        epochs_run = pd.array(np.full(sweep.size, sweep.horizon or 0), dtype="Int64")
        epochs_run[known.status != _CENSORED] = pd.NA
        part = pd.DataFrame(
            {
                "loss": pd.Categorical([name], categories=names).repeat(sweep.size),
                **coordinates,
                "status": pd.Categorical.from_codes(codes, dtype=_STATUS),
                "plateau_epochs": epochs,
                "epochs_run": epochs_run,
            }
        )
        parts.append(part[has_row])
    return pd.concat(parts, ignore_index=True)
