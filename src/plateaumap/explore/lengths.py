"""From spec to table: how long the plateaus of a sweep's points are, some points at a time."""

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
from plateaumap.theory.cells import EpochState
from plateaumap.theory.epochs import count_epochs, plateau_epochs
from plateaumap.theory.theory import case_of
from plateaumap.training.measures import LEVELS, STATUSES

UNANSWERED = len(STATUSES)
"""The status of a point whose length theory does not know: its path overshoots the target."""

_ESCAPED, _CENSORED, _CONVERGED, _BEYOND = (
    STATUSES.index(name) for name in ("escaped", "censored", "converged_at_start", "beyond_int64")
)
_STATUS = pd.CategoricalDtype(list(STATUSES))


@dataclass(frozen=True)
class Lengths:
    """What is known of some points.

    Attributes:
        epochs: lengths, int64 and masked where there is none, of shape (n,).
        status: positions in `STATUSES`, or `UNANSWERED`, uint8 of shape (n,).
    """

    epochs: np.ma.MaskedArray
    status: NDArray[np.uint8]

    @classmethod
    def empty(cls, points: int) -> Lengths:
        """Of points of which nothing is known yet."""
        return cls(np.ma.masked_all(points, np.int64), np.full(points, UNANSWERED, np.uint8))

    def put(self, start: int, part: Lengths) -> None:
        """Write what is known of the points from `start` on."""
        rows = slice(start, start + len(part.status))
        self.epochs[rows], self.status[rows] = part.epochs, part.status


def lengths(sweep: Sweep, measure: str, start: int, stop: int) -> Lengths:
    """Lengths of the points `start` … `stop` − 1 of a sweep of one loss.

    By theory at once where the sweep leaps and its loss has a theory; else by simulation.

    Args:
        sweep: of one loss.
        measure: which level of the loss ends a length, a key of `LEVELS`.
        start: the first point.
        stop: one past the last.
    """
    if sweep.method == "leap" and case_of(sweep.experiment.theory(sweep.losses[0])) is not None:
        return _by_theory(sweep, measure, start, stop)
    return _by_simulation(sweep, measure, start, stop)


def _by_theory(sweep: Sweep, measure: str, start: int, stop: int) -> Lengths:
    points = sweep.grid.coordinates(start, stop)
    case = case_of(sweep.experiment.theory(sweep.losses[0]))
    assert case is not None
    asked: dict[str, Any] = {**points, **case._asdict(), "drop": LEVELS[measure]}
    epochs = plateau_epochs(**asked, errors="mask")
    without = np.flatnonzero(np.ma.getmaskarray(epochs))
    status = np.full(len(epochs), _ESCAPED, np.uint8)
    if len(without):
        some = {name: column[without] for name, column in points.items()}
        state = count_epochs(**{**asked, **some}).state
        reasons = np.full(len(without), UNANSWERED, np.uint8)
        reasons[state == EpochState.BEYOND_INT64] = _BEYOND
        reasons[state == EpochState.NO_EXCESS] = _CONVERGED
        status[without] = reasons
    status[_converged(sweep, points)] = _CONVERGED
    return Lengths(np.ma.MaskedArray(epochs.data, mask=status != _ESCAPED), status)


def _converged(sweep: Sweep, points: dict[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    with double_precision():
        return np.asarray(_compiled(sweep.experiment)(points, np.float64(sweep.tolerance)))


@lru_cache(maxsize=16)
def _compiled(experiment: Any) -> Any:
    def one(point: dict[str, Any], tolerance: Any) -> Any:
        return experiment.converged(experiment.init(point), point, tolerance)

    return jax.jit(jax.vmap(one, in_axes=(0, None)))


def _by_simulation(sweep: Sweep, measure: str, start: int, stop: int) -> Lengths:
    frame = runner.run(sweep, rows=range(start, stop), progress=False)
    epochs = frame[measure]
    missing = epochs.isna().to_numpy()
    status = frame["status"].cat.codes.to_numpy(np.uint8)
    # A run may have left its plateau and been given up before a lower level.
    status = np.where(missing & (status == _ESCAPED), _CENSORED, status)
    whole = epochs.fillna(0).to_numpy(np.int64)
    return Lengths(np.ma.MaskedArray(whole, mask=missing), status.astype(np.uint8))


def table(sweep: Sweep, found: dict[str, Lengths]) -> pd.DataFrame:
    """The table of a window, as figures take it; points that theory does not know are left out.

    Args:
        sweep: of all losses of the table.
        found: for each loss what is known of all its points.
    """
    names = tuple(found)
    parts = []
    everything = np.arange(sweep.size)
    identity = {**sweep.grid.coordinates_at(everything), **sweep.grid.index_columns(everything)}
    for name, known in found.items():
        answered = known.status != UNANSWERED
        codes = pd.Categorical.from_codes(
            np.where(answered, known.status, 0).astype(np.int8), dtype=_STATUS
        )
        epochs = pd.array(known.epochs.filled(0), dtype="Int64")
        epochs[np.ma.getmaskarray(known.epochs)] = pd.NA
        # Theory follows no run; what was given up was given up at the horizon.
        run = pd.array(np.full(sweep.size, sweep.horizon or 0), dtype="Int64")
        run[known.status != _CENSORED] = pd.NA
        loss = pd.Categorical([name], categories=list(names)).repeat(sweep.size)
        part = pd.DataFrame(
            {
                "loss": loss,
                **identity,
                "status": codes,
                "plateau_epochs": epochs,
                "epochs_run": run,
            }
        )
        parts.append(part[answered])
    return pd.concat(parts, ignore_index=True)
