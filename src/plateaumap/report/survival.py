"""Survival curves: the share of runs still on their plateau after n epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.bounds import NEVER, last_seen
from plateaumap.report.lattice import CONVERGED, ESCAPED, Booleans, Float64, Lattice, read
from plateaumap.report.series import dash, few_ticks, group, ink, legend_below, loss_panels, sample
from plateaumap.report.style import SizeName, size_named, styled

_BEFORE_THE_FIRST = 0.5


class Survival(NamedTuple):
    """A Kaplan–Meier estimate.

    Attributes:
        epochs: the times at which the share decreases, ascending, of shape (n,).
        shares: the share that is still on the plateau after each time, of shape (n,).
    """

    epochs: Float64
    shares: Float64


def kaplan_meier(times: ArrayLike, ended: ArrayLike, weights: ArrayLike | None = None) -> Survival:
    """Return the Kaplan–Meier estimate of the share of lifetimes longer than each time.

    The estimate is `S(t) = Π (1 − d_i / n_i)` over the times t_i ≤ t at which a lifetime ended:
    d_i lifetimes ended at t_i, and n_i had not ended before (Kaplan and Meier, J. Am. Stat. Assoc.
    53, 1958). A lifetime that was last observed at t_i still counts in n_i. A lifetime that never
    ends has the time infinity and counts in every n_i.

    Args:
        times: the time at which each lifetime ended or was last observed, of shape (m,).
        ended: whether each lifetime ended, of shape (m,).
        weights: the weight of each lifetime, of shape (m,); by default all weights are equal.

    Returns:
        The times at which lifetimes ended, and the shares after them.
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
    """Draw the share of runs still on their plateau after n epochs, one panel per loss.

    The shares are Kaplan–Meier estimates over the rows of the table. The status of a run decides
    how it counts:

    - `escaped`: the run leaves its plateau at T10.
    - `stationary` and `stalled`: the run never leaves and stays in the curve.
    - `censored`, `partially_stalled` and `beyond_int64`: the run is right-censored when it was last
      observed on its plateau (`epochs_run`, or 2⁶³ epochs).
    - `not_finite`: the run is right-censored at its last epoch. Divergence is a competing risk; the
      curve is that of leaving alone, as if no run diverged.
    - `converged_at_start`: the run does not count, because it has no plateau.

    Args:
        frame: a table of results; its rows are the distribution of initial points.
        by: the coordinate whose values have one line each, at most 9; by default lr if it is on an
            axis.
        weights: the weight of each row, or a function from the table to the weights; by default
            all weights are equal. A normal density over w0 and b0 turns an even grid into a normal
            initialisation.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure. A cross marks the last epoch at which censored runs of a line were observed.
        Runs that never leave their plateau extend the line to the edge of the panel.

    Raises:
        PlateaumapError: No row has a plateau, or a weight is negative or not finite.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.linspace("w0", 0, 4, 10), pm.values("lr", [0.1, 1])]
        >>> frame = pm.run(pm.Sweep(axes=axes, fixed={"b0": 0}, horizon=500))
        >>> len(pm.figures.survival(frame).axes)
        2
    """
    page = size_named(size)
    lattice = read(frame, "survival")
    by = by or ("lr" if "lr" in lattice.varying else None)
    axes = [] if by is None else [lattice.axis_of(by)]
    groups = group(lattice, axes, {}, "survival")
    times, ended = plateau_times(lattice)
    weight = _weights(lattice, weights)
    usable = ~lattice.is_status(CONVERGED) & (weight > 0)
    if not usable.any():
        raise PlateaumapError("survival: no row of the table has left a plateau or been on one")
    lines = len(groups.titles)
    looks = [{"color": ink(line, lines), "linestyle": dash(line)} for line in range(lines)]
    handles = [sample(t, **look) for t, look in zip(groups.titles, looks, strict=True) if t]
    figure, panels = loss_panels(page, lattice.losses, len(handles) + 1)
    finite = np.isfinite(times)
    latest = 1.5 * float(times[usable & finite].max(initial=10.0))
    crossed = False
    for panel, loss in zip(panels, lattice.losses, strict=True):
        for line, look in enumerate(looks):
            rows = usable & lattice.is_loss(loss) & (groups.places == line)
            if not rows.any():
                continue
            curve = kaplan_meier(times[rows], ended[rows], weight[rows])
            share = curve.shares[-1] if len(curve.shares) else 1.0
            panel.step(
                [_BEFORE_THE_FIRST, *curve.epochs, min(float(times[rows].max()), latest)],
                [1.0, *curve.shares, share],
                where="post",
                **look,
            )
            seen = times[rows & finite & ~ended]
            if len(seen) and seen.max() >= curve.epochs.max(initial=0.0) and share > 0:
                panel.plot(seen.max(), share, marker="+", markersize=5, color="black", zorder=3)
                crossed = True
        panel.set(xscale="log", xlim=(_BEFORE_THE_FIRST, latest), ylim=(-0.02, 1.02))
        few_ticks(panel, page, len(lattice.losses))
        panel.set_xlabel("epochs $n$")
    label = "share still on the plateau" if size == "page" else "share on the plateau"
    panels[0].set_ylabel(label)
    if crossed:
        look = {"marker": "+", "color": "black", "linestyle": "none"}
        handles.append(sample("followed to here", **look))
    legend_below(figure, page, handles)
    return figure


def plateau_times(lattice: Lattice) -> tuple[Float64, Booleans]:
    """Return when each run left its plateau or was last observed, in epochs, and whether it left.

    The epoch of a run that never leaves its plateau is infinity.
    """
    ended = lattice.is_status(ESCAPED)
    times = np.where(ended, lattice.lengths, last_seen(lattice))
    return np.where(lattice.is_status(*NEVER), np.inf, times), ended


def _weights(
    lattice: Lattice, weights: ArrayLike | Callable[[pd.DataFrame], ArrayLike] | None
) -> Float64:
    if weights is None:
        return np.ones(len(lattice.frame))
    values = np.asarray(weights(lattice.frame) if callable(weights) else weights, np.float64)
    if values.shape != (len(lattice.frame),) or not np.all(values >= 0) or np.isinf(values).any():
        raise PlateaumapError(
            f"survival: weights of shape {values.shape}; pass one finite number that is not "
            f"negative for each of the {len(lattice.frame):,} rows of the table"
        )
    return values
