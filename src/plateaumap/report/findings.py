"""What a table of results says, in sentences computed from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plateaumap.report.bounds import (
    NEVER,
    Bounds,
    last_seen,
    median_bounds,
    plateau_bounds,
    ratio_bounds,
)
from plateaumap.report.comparison import usual_pair
from plateaumap.report.lattice import CONVERGED, ESCAPED, STATUSES, Lattice, read
from plateaumap.report.maps import UNLUCKY
from plateaumap.report.style import count

STUCK_AFTER = 1000
"""Epochs after which a run that is still on its plateau is called stuck."""

_NAMES = {"cross_entropy": "cross-entropy"}
_WORDS = {
    "censored": "were given up at the horizon",
    "stationary": "have a zero gradient and never leave",
    "stalled": "were stopped by rounding",
    "partially_stalled": "were partly stopped by rounding",
    "not_finite": "became not finite",
    "beyond_int64": "take more than 2^63 epochs",
}


def findings(frame: pd.DataFrame) -> list[str]:
    """Describe what a table shows, one sentence each, in plain text.

    How many runs there are; for each loss the share of runs stuck beyond 1,000 epochs (or the
    horizon, if that is less) and the shares of other endings; the median ratio of the plateau
    lengths of two losses, in which runs that did not leave their plateau count as bounds; and the
    plateaus of the unlucky start, if the table has it.

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
    known = plateau_bounds(lattice)
    own = _own(lattice, loss) & known.some
    if not own.any():
        return []
    seen = known.least[own & lattice.is_status("censored")]
    after = int(min(STUCK_AFTER, seen.min(initial=np.inf)))
    left = own & (known.most <= after)
    stuck = own & ~left & (known.least >= after)
    unsure = int(own.sum() - left.sum() - stuck.sum())
    return [
        f"{_name(loss)}: {_share(int(stuck.sum()), int(own.sum()))} of the runs with something to "
        f"learn are {'known to be ' * bool(unsure)}still on their plateau after {count(after)} "
        "epochs" + (f"; of {_share(unsure, int(own.sum()))} it is not known." if unsure else ".")
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
    ratios = paired_ratios(lattice, pair)
    points = int(ratios.some.sum())
    low, high = median_bounds(ratios)
    if not (low > 0 or high < np.inf):  # Nothing is known; of no ratio at all both are NaN.
        return []
    first, second = map(_name, pair)
    bounds = int((ratios.least < ratios.most).sum())
    most = float(ratios.least[ratios.some].max())
    is_bound = bool(np.isinf(ratios.most[ratios.some]).any())
    sentences = [
        f"The plateau is {_between(low, high)} as long with {first} as "
        f"with {second} in the median of {points:,} points; the largest ratio is "
        + ("infinite." if most == np.inf else f"{'at least ' * is_bound}{_ratio_words(most)}.")
    ]
    if bounds:
        sentences.append(
            f"At {bounds:,} of these points the ratio is a bound: a run was still on its plateau."
        )
    only = int((np.isinf(ratios.most) & (ratios.least > 0)).sum())
    if only:
        sentences.append(f"At {only:,} points only {second} is seen to leave it.")
    return sentences


def paired_ratios(lattice: Lattice, pair: tuple[str, ...]) -> Bounds:
    """Return what is known, at each point of a table, of the ratio of two losses' lengths."""
    places, titles = lattice.product(lattice.axes)
    known = plateau_bounds(lattice)
    both = []
    for loss in pair[:2]:
        rows = np.flatnonzero(_own(lattice, loss))
        own = Bounds(np.full(len(titles), np.nan), np.full(len(titles), np.nan))
        own.least[places[rows]], own.most[places[rows]] = known.least[rows], known.most[rows]
        both.append(own)
    return ratio_bounds(*both)


def _between(low: float, high: float) -> str:
    if low == high:
        return _times(low)
    return f"at least {_times(low)}" if high == np.inf else f"{_ratio_words(low)} to {_times(high)}"


def _times(ratio: float) -> str:
    return "infinitely" if ratio == np.inf else f"{_ratio_words(ratio)} times"


def _ratio_words(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


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
        return f"more than {count(last_seen(lattice)[row])}"
    words = status.replace("_", " ")
    return f"without end ({words})" if status in NEVER else f"no number ({words})"


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
