"""What a table of results says, in sentences computed from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plateaumap.report.comparison import usual_pair
from plateaumap.report.lattice import CONVERGED, ESCAPED, STATUSES, Lattice, read
from plateaumap.report.maps import UNLUCKY
from plateaumap.report.style import count

STUCK_AFTER = 1000
"""Epochs after which a run that is still on its plateau is called stuck."""

_NAMES = {"cross_entropy": "cross-entropy"}
_WORDS = {
    "censored": "were given up at the horizon",
    "stalled": "were stopped by rounding",
    "partially_stalled": "were partly stopped by rounding",
    "not_finite": "became not finite",
    "beyond_int64": "take more than 2^63 epochs",
}


def findings(frame: pd.DataFrame) -> list[str]:
    """Says what a table shows, one sentence each, in plain text.

    How many runs there are; for each loss the share of runs stuck beyond 1,000 epochs (or the
    horizon, if that is less) and the shares of other endings; the median ratio of the plateau
    lengths of two losses; and the plateaus of the unlucky start, if the table has it.

    Args:
        frame: a table of results.

    Raises:
        PlateaumapError: the table is empty or lacks a column.
    """
    lattice = read(frame, "findings")
    sentences = [_size(lattice)]
    for loss in lattice.losses:
        sentences += _stuck(lattice, loss)
        sentences += _endings(lattice, loss)
    sentences += _ratio(lattice)
    sentences += _unlucky(lattice)
    return sentences


def _name(loss: str) -> str:
    return _NAMES.get(loss, loss)


def _share(part: int, whole: int) -> str:
    """A share in percent that never rounds something to nothing, or nearly all to all."""
    if part in (0, whole):
        return "none" if part == 0 else "all"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return f"less than 0.1 % ({part:,})"
    if 99.9 < percent < 100:
        return f"over 99.9 % (all but {whole - part:,})"
    return f"{percent:.1f} %"


def _own(lattice: Lattice, loss: str) -> NDArray[np.bool_]:
    return lattice.loss_codes == lattice.losses.index(loss)


def _size(lattice: Lattice) -> str:
    converged = int(lattice.is_status(CONVERGED).sum())
    names = " and ".join(map(_name, lattice.losses))
    text = f"{len(lattice.frame):,} runs with {names}"
    if not converged:
        return f"{text}."
    return f"{text}; {_share(converged, len(lattice.frame))} start where nothing is to be learned."


def _stuck(lattice: Lattice, loss: str) -> list[str]:
    own = _own(lattice, loss) & ~lattice.is_status(CONVERGED, "not_finite", "partially_stalled")
    if not own.any():
        return []
    given_up = lattice.stops[own & lattice.is_status("censored")]
    after = int(min(STUCK_AFTER, np.nanmin(given_up, initial=np.inf)))
    left = own & lattice.is_status(ESCAPED) & (lattice.lengths <= after)
    stuck = int(own.sum()) - int(left.sum())
    return [
        f"{_name(loss)}: {_share(stuck, int(own.sum()))} of the other runs are still on their "
        f"plateau after {count(after)} epochs."
    ]


def _endings(lattice: Lattice, loss: str) -> list[str]:
    own = _own(lattice, loss)
    counts = np.bincount(lattice.status_codes[own], minlength=len(STATUSES))
    told = [
        f"{_share(int(counts[STATUSES.index(status)]), int(own.sum()))} {words}"
        for status, words in _WORDS.items()
        if counts[STATUSES.index(status)]
    ]
    return [f"{_name(loss)}: of all runs, {', '.join(told)}."] if told else []


def _ratio(lattice: Lattice) -> list[str]:
    pair = usual_pair(lattice)
    if len(pair) < 2:
        return []
    places, titles = lattice.product(lattice.axes)
    lengths = np.full((2, len(titles)), np.nan)
    given_up = np.zeros((2, len(titles)), bool)
    for number, loss in enumerate(pair):
        rows = np.flatnonzero(_own(lattice, loss))
        lengths[number, places[rows]] = lattice.lengths[rows]
        given_up[number, places[rows]] = lattice.is_status("censored")[rows]
    first, second = map(_name, pair)
    both = np.isfinite(lengths).all(axis=0)
    if not both.any():
        return []
    ratios = lengths[0, both] / lengths[1, both]
    sentences = [
        f"Where both losses leave their plateau ({int(both.sum()):,} points), it is "
        f"{_times(float(np.median(ratios)))} as long with {first} as with {second} in the median, "
        f"and {_times(float(ratios.max()))} at the most."
    ]
    only = int((given_up[0] & np.isfinite(lengths[1])).sum())
    if only:
        sentences.append(f"At {only:,} points only {second} leaves it within the horizon.")
    return sentences


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 100 else f"{ratio:.3g} times"


def _unlucky(lattice: Lattice) -> list[str]:
    """The plateaus of the unlucky start, for each learning rate that the table has."""
    names = ("w0", "b0", "x", "y", "lr")
    if not set(names) <= set(lattice.frame.columns):
        return []
    here = rows_at(lattice, dict(zip(names, (*UNLUCKY, 1.0, 0.0), strict=False)))
    if not here.any():
        return []
    sentences = []
    for loss in lattice.losses:
        rows = np.flatnonzero(here & _own(lattice, loss))
        if len(rows):
            told = [f"{_length(lattice, row)} at lr = {_rate(lattice, row)}" for row in rows]
            sentences.append(
                f"{_name(loss)}: from the unlucky start (w0 = 2, b0 = 2) the plateau lasts "
                f"{', '.join(told)} (epochs)."
            )
    return sentences


def _rate(lattice: Lattice, row: np.int64) -> str:
    return f"{lattice.frame['lr'].iloc[row]:g}"


def _length(lattice: Lattice, row: np.int64) -> str:
    status = STATUSES[lattice.status_codes[row]]
    if status == ESCAPED:
        return count(lattice.lengths[row])
    if status == "censored":
        return f"more than {count(lattice.stops[row])}"
    return status.replace("_", " ")


def rows_at(lattice: Lattice, point: Mapping[str, float]) -> NDArray[np.bool_]:
    """The rows at a point, found on each axis by the place whose value is the nearest."""
    here = np.ones(len(lattice.frame), bool)
    for name, value in point.items():
        axis = next((axis for axis in lattice.axes if name in axis.names), None)
        if axis is None:
            column = lattice.frame[name].to_numpy(np.float64)[:1]
            here &= bool(np.isclose(column, value, rtol=1e-12, atol=0).all())
        else:
            near = np.isclose(axis.columns[name], value, rtol=1e-12, atol=0)
            here &= near[axis.places]
    return here
