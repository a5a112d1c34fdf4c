"""What the measures of a sweep obey, learning rate by learning rate, as a table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from plateaumap.report.dynamics import MATCHING_FRACTION, quadratic_acceleration
from plateaumap.report.lattice import require

_NEEDED = ("loss", "lr", "y", "initial_output", "plateau_fraction", "acceleration", "tenth_epochs")
_TOLERANCE = 1e-9
"""How far rounding may carry a plateau fraction past its bound, relative."""


def laws_by_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Tell, for each loss and learning rate, the extremes of fraction and acceleration.

    Only runs that were followed to T90 count: the others have neither.

    Args:
        frame: a table of results.

    Returns:
        A row for each loss and learning rate with the columns `loss`, `lr`, `runs`,
        `largest_fraction`, `within_bound` (whether that is at most (1 + 10⁻⁹)/9, the law of a
        matching loss for targets 0 and 1, or while η (1 + x²) ≤ 4), `least_acceleration`,
        `largest_acceleration`, and `off_theory`: how far the acceleration of the quadratic loss at
        y = 0 is at most from (4/27)/(a₀² (1 − a₀)), or 1 below a₀ = 2/3, relative; NaN for other
        losses and targets.

    Raises:
        PlateaumapError: the table lacks a column.
    """
    require(frame, _NEEDED, "laws_by_rate")
    followed = frame[frame["tenth_epochs"].notna()]
    groups = followed.groupby(["loss", "lr"], observed=True, sort=True)
    return pd.DataFrame(
        [{"loss": loss, "lr": lr, **_extremes(str(loss), rows)} for (loss, lr), rows in groups]
    )


def _extremes(loss: str, rows: pd.DataFrame) -> Mapping[str, object]:
    fraction = rows["plateau_fraction"].to_numpy(np.float64)
    acceleration = rows["acceleration"].to_numpy(np.float64)
    return {
        "runs": len(rows),
        "largest_fraction": fraction.max(),
        "within_bound": bool(fraction.max() <= (1 + _TOLERANCE) * MATCHING_FRACTION),
        "least_acceleration": acceleration.min(),
        "largest_acceleration": acceleration.max(),
        "off_theory": _off_theory(rows, acceleration) if loss == "quadratic" else np.nan,
    }


def _off_theory(rows: pd.DataFrame, acceleration: np.ndarray) -> float:
    if (rows["y"] != 0).any():
        return np.nan
    theory = quadratic_acceleration(rows["initial_output"].to_numpy(np.float64))
    return float(np.abs(acceleration / theory - 1).max())
