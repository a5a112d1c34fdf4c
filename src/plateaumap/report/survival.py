"""How many starts are still on their plateau after n epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.bounds import NEVER, last_seen
from plateaumap.report.lattice import CONVERGED, ESCAPED, Lattice, read
from plateaumap.report.series import dash, few_ticks, group, ink, legend_below, loss_panels
from plateaumap.report.style import SizeName, size_named, styled

Float64 = NDArray[np.float64]

_BEFORE_THE_FIRST = 0.5


class Survival(NamedTuple):
    """A Kaplan–Meier estimate.

    Attributes:
        epochs: the times at which the share drops, ascending, of shape (n,).
        shares: the share that is still on the plateau after each, of shape (n,).
    """

    epochs: Float64
    shares: Float64


def kaplan_meier(times: ArrayLike, ended: ArrayLike, weights: ArrayLike | None = None) -> Survival:
    """Estimate the share that lasts beyond each time when some were only followed for a while.

    `S(t) = Π (1 − d_i / n_i)` over the times t_i ≤ t at which something ended: d_i ended there
    and n_i had lasted until then (Kaplan and Meier, J. Am. Stat. Assoc. 53, 1958). A life that
    was last seen at t_i still counts in n_i; one that never ends has the time infinity and counts
    in every n_i.

    Args:
        times: when each ended or was last seen, of shape (m,); infinity for one that never ends.
        ended: whether it ended, of shape (m,).
        weights: how much each counts, of shape (m,); by default all the same.

    Returns:
        The times at which something ended, and the shares after them.
    """
    time, end = np.asarray(times, np.float64), np.asarray(ended, bool)
    weight = np.ones(len(time)) if weights is None else np.asarray(weights, np.float64)
    distinct, place = np.unique(time, return_inverse=True)
    leaving = np.bincount(place, weight, len(distinct))
    dying = np.bincount(place, weight * end, len(distinct))
    at_risk = np.cumsum(leaving[::-1])[::-1]
    happened = dying > 0
    lasting = np.clip(1 - dying[happened] / at_risk[happened], 0, 1)
    return Survival(distinct[happened], np.cumprod(lasting, dtype=np.float64))


@styled
def survival(
    frame: pd.DataFrame,
    *,
    by: str | None = None,
    weights: ArrayLike | Callable[[pd.DataFrame], ArrayLike] | None = None,
    size: SizeName = "page",
) -> Figure:
    """Draw the share of runs still on their plateau after n epochs, a panel for each loss.

    The shares are Kaplan–Meier estimates over the table's rows, by status:

    - `escaped`: leaves at T10.
    - `stationary` and `stalled`: never leaves, and stays in the curve for ever.
    - `censored`, `partially_stalled` and `beyond_int64`: right-censored when it was last seen on
      its plateau (`epochs_run`, or 2⁶³ epochs).
    - `not_finite`: right-censored at its last epoch. Divergence competes with leaving; the curve
      is that of leaving alone, as if no run diverged.
    - `converged_at_start`: not counted, since it has nothing to learn and no plateau.

    Args:
        frame: a table of results; its rows are the distribution of starts.
        by: the coordinate that gets a line for each of its values, at most 9; by default lr if it
            is on an axis.
        weights: how much each row counts, or a function of the table that says so; by default
            all the same. A normal density over w0 and b0 turns an even grid into normal starts.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure. A cross marks where a line's last censored runs were seen; runs that never
        leave carry the line on to the edge of the panel.

    Raises:
        PlateaumapError: no row has a plateau, or a weight is negative or not finite.
    """
    room = size_named(size)
    lattice = read(frame, "survival")
    varying = [name for axis in lattice.axes for name in axis.names]
    by = by or ("lr" if "lr" in varying else None)
    axes = [] if by is None else [lattice.axis_of(by)]
    groups = group(lattice, axes, {}, "survival")
    times, ended = plateau_times(lattice)
    weight = _weights(lattice, weights)
    usable = ~lattice.is_status(CONVERGED) & (weight > 0)
    if not usable.any():
        raise PlateaumapError("survival: no row of the table has left a plateau or been on one")
    lines = len(groups.titles)
    handles = [
        Line2D([], [], color=ink(i, lines), linestyle=dash(i), label=title)
        for i, title in enumerate(groups.titles)
        if title
    ]
    figure, panels = loss_panels(room, lattice.losses, len(handles) + 1)
    finite = np.isfinite(times)
    latest = 1.5 * float(times[usable & finite].max(initial=10.0))
    crossed = False
    for panel, loss in zip(panels, lattice.losses, strict=True):
        own = usable & (lattice.loss_codes == lattice.losses.index(loss))
        for line in range(lines):
            rows = own & (groups.places == line)
            if not rows.any():
                continue
            curve = kaplan_meier(times[rows], ended[rows], weight[rows])
            share = curve.shares[-1] if len(curve.shares) else 1.0
            panel.step(
                [_BEFORE_THE_FIRST, *curve.epochs, min(float(times[rows].max()), latest)],
                [1.0, *curve.shares, share],
                where="post",
                color=ink(line, lines),
                linestyle=dash(line),
            )
            seen = times[rows & finite & ~ended]
            if len(seen) and seen.max() >= curve.epochs.max(initial=0.0) and share > 0:
                panel.plot(seen.max(), share, marker="+", markersize=5, color="black", zorder=3)
                crossed = True
        panel.set(xscale="log", xlim=(_BEFORE_THE_FIRST, latest), ylim=(-0.02, 1.02))
        few_ticks(panel, room, len(lattice.losses))
        panel.set_xlabel("epochs $n$", fontsize=room.font)
    label = "share still on the plateau" if size == "page" else "share on the plateau"
    panels[0].set_ylabel(label, fontsize=room.font)
    if crossed:
        handles.append(
            Line2D([], [], marker="+", color="black", linestyle="none", label="followed to here")
        )
    legend_below(figure, room, handles)
    return figure


def plateau_times(lattice: Lattice) -> tuple[Float64, NDArray[np.bool_]]:
    """Return when each run left its plateau or was last seen on it, and whether it left.

    Runs that never leave have the time infinity.
    """
    ended = lattice.is_status(ESCAPED)
    times = np.where(ended, lattice.lengths, last_seen(lattice))
    return np.where(lattice.is_status(*NEVER), np.inf, times), ended


def _weights(
    lattice: Lattice, weights: ArrayLike | Callable[[pd.DataFrame], ArrayLike] | None
) -> Float64:
    if weights is None:
        return np.ones(len(lattice.frame))
    given = np.asarray(weights(lattice.frame) if callable(weights) else weights, np.float64)
    if given.shape != (len(lattice.frame),) or not np.all(given >= 0) or np.isinf(given).any():
        raise PlateaumapError(
            f"survival: weights of shape {given.shape}; give one number for each of the table's "
            f"{len(lattice.frame):,} rows, none of them negative or not finite"
        )
    return given
