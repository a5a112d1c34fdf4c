"""Findings: sentences about a table of results, computed from the table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from plateaumap.report.bounds import (
    NEVER,
    Bounds,
    last_seen,
    median_bounds,
    plateau_bounds,
    ratio_bounds,
)
from plateaumap.report.comparison import usual_pair
from plateaumap.report.lattice import CONVERGED, ESCAPED, STATUSES, Booleans, Lattice, read
from plateaumap.report.maps import UNLUCKY
from plateaumap.report.style import count

STUCK_AFTER = 1000
"""The number of epochs after which a run that is still on its plateau is called stuck."""

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
    """Return sentences that describe a table, in plain text.

    The sentences state the number of runs; for each loss the share of runs that are still on their
    plateau after 1,000 epochs (or the horizon, if that is less) and the shares of the statuses; the
    median ratio of the plateau lengths of two losses, in which runs that did not leave their
    plateau count as bounds; and the plateau lengths of the unlucky initial point, if the table has
    it.

    Args:
        frame: a table of results.

    Raises:
        PlateaumapError: The table is empty or lacks a column.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.values("w0", [0.5, 2.0])]
        >>> sweep = pm.Sweep(losses="quadratic", axes=axes, fixed={"b0": 2, "lr": 1}, horizon=200)
        >>> findings(pm.run(sweep))[0]
        '2 runs with quadratic.'
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
    """Return a share in per cent; only an empty share is "none", only a full one "all"."""
    if part in (0, whole):
        return "none" if part == 0 else "all"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return f"less than 0.1 % ({part:,})"
    if 99.9 < percent < 100:
        return f"over 99.9 % (all but {whole - part:,})"
    return f"{percent:.1f} %"


def _size(lattice: Lattice) -> str:
    converged = int(lattice.is_status(CONVERGED).sum())
    names = " and ".join(map(_name, lattice.losses))
    text = f"{len(lattice.frame):,} runs with {names}"
    if not converged:
        return f"{text}."
    return f"{text}; {_share(converged, len(lattice.frame))} start where nothing is to be learned."


def _stuck(lattice: Lattice, loss: str) -> list[str]:
    known = plateau_bounds(lattice)
    rows = lattice.is_loss(loss) & known.some
    runs = int(rows.sum())
    if not runs:
        return []
    horizons = known.least[rows & lattice.is_status("censored")]
    after = int(min(STUCK_AFTER, horizons.min(initial=np.inf)))
    left = rows & (known.most <= after)
    stuck = rows & ~left & (known.least >= after)
    unknown = runs - int(left.sum()) - int(stuck.sum())
    return [
        f"{_name(loss)}: {_share(int(stuck.sum()), runs)} of the runs with something to learn are "
        f"{'known to be ' * bool(unknown)}still on their plateau after {count(after)} epochs"
        + (f"; for {_share(unknown, runs)} this is unknown." if unknown else ".")
    ]


def _endings(lattice: Lattice, loss: str) -> list[str]:
    rows = lattice.is_loss(loss)
    counts = {status: int((rows & lattice.is_status(status)).sum()) for status in _WORDS}
    shares = [f"{_share(n, int(rows.sum()))} {_WORDS[s]}" for s, n in counts.items() if n]
    return [f"{_name(loss)}: of all runs, {', '.join(shares)}."] if shares else []


def _ratio(lattice: Lattice) -> list[str]:
    pair = usual_pair(lattice)
    if len(pair) < 2:
        return []
    ratios = paired_ratios(lattice, pair)
    points = int(ratios.some.sum())
    low, high = median_bounds(ratios)
    if not (low > 0 or high < np.inf):  # Nothing is known; without any ratio both are NaN.
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
        sentences.append(f"At {only:,} points only {second} left its plateau.")
    return sentences


def paired_ratios(lattice: Lattice, pair: tuple[str, ...]) -> Bounds:
    """Return the bounds of the ratio of the plateau lengths of two losses at each point."""
    places, titles = lattice.product(lattice.axes)
    known = plateau_bounds(lattice)
    first, second = (np.full((2, len(titles)), np.nan) for _ in range(2))
    for lengths, loss in zip((first, second), pair, strict=False):
        rows = lattice.is_loss(loss)
        lengths[:, places[rows]] = known.at(rows)
    return ratio_bounds(Bounds(*first), Bounds(*second))


def _between(low: float, high: float) -> str:
    if low == high:
        return _times(low)
    return f"at least {_times(low)}" if high == np.inf else f"{_ratio_words(low)} to {_times(high)}"


def _times(ratio: float) -> str:
    return "infinitely" if ratio == np.inf else f"{_ratio_words(ratio)} times"


def _ratio_words(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def _unlucky(lattice: Lattice) -> list[str]:
    """Return a sentence per loss with the plateau length of the unlucky start at each rate."""
    names = ("w0", "b0", "x", "y", "lr")
    if not set(names) <= set(lattice.frame.columns):
        return []
    here = rows_at(lattice, dict(zip(names, (*UNLUCKY, 1.0, 0.0), strict=False)))
    if not here.any():
        return []
    sentences = []
    for loss in lattice.losses:
        rows = np.flatnonzero(here & lattice.is_loss(loss)).tolist()
        rates = lattice.frame["lr"].to_numpy()
        lengths = [f"{_length(lattice, row)} at lr = {rates[row]:g}" for row in rows]
        if lengths:
            sentences.append(
                f"{_name(loss)}: from the unlucky start (w0 = 2, b0 = 2) the plateau length in "
                f"epochs is {', '.join(lengths)}."
            )
    return sentences


def _length(lattice: Lattice, row: int) -> str:
    status = STATUSES[lattice.status_codes[row]]
    if status == ESCAPED:
        return count(lattice.lengths[row])
    if status == "censored":
        return f"more than {count(last_seen(lattice)[row])}"
    words = status.replace("_", " ")
    return f"infinite ({words})" if status in NEVER else f"unknown ({words})"


def rows_at(lattice: Lattice, point: Mapping[str, float]) -> Booleans:
    """Return the rows at a point, whose values may differ from it by rounding."""
    here = np.ones(len(lattice.frame), bool)
    for name, value in point.items():
        column = lattice.frame[name].to_numpy(np.float64)
        here &= np.isclose(column, value, rtol=1e-12, atol=0)
    return here
