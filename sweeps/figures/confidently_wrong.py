"""Draw how much confidently wrong samples slow a neuron down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plateaumap.report.lattice import require
from plateaumap.report.series import dash, ink, label_panel, legend_below
from plateaumap.report.style import (
    LENGTH_LABEL,
    MARKERS,
    SizeName,
    loss_words,
    new_figure,
    number,
    size_named,
    styled,
)

_NEEDED = ("loss", "share", "z0", "status", "plateau_epochs", "predicted_epochs")
_SHARE = "share of wrong samples"
_START = "largest $|z|$ at the start"
_THEORY: dict[str, Any] = {"color": "0.5", "linestyle": ":", "linewidth": 0.8}
_LONE: dict[str, Any] = {"color": "0.5", "linestyle": "--", "linewidth": 0.9, "marker": "x"}


@styled
def confidently_wrong(
    frame: pd.DataFrame, *, alone: Mapping[float, float] | None = None, size: SizeName = "page"
) -> Figure:
    """Draw plateau lengths against the share of wrong samples and against the confidence.

    The first panel shows T10 over the share, with one colour per `z0` and one dash pattern per
    loss. The second panel shows the ratio of the lengths of the first and the last loss. The third
    panel shows T10 over `z0` at the share closest to one half. Dotted lines are theory's lengths,
    or their ratio.

    Args:
        frame: rows of two losses with the columns `share`, the initial share of wrong samples, and
            `z0`, the largest initial pre-activation.
        alone: the plateau length in epochs of a single wrong sample under the first loss, for some
            values of `z0`.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: The table lacks a column.
    """
    require(frame, _NEEDED, "confidently_wrong")
    page = size_named(size)
    losses = list(dict.fromkeys(frame["loss"].astype(str)))
    starts = sorted(frame["z0"].unique())
    stacked = size == "column"
    height = (1.9 if stacked else 0.38) * page.width + 12
    figure = new_figure(page, height, layout="constrained")
    over_share, ratio, over_start = figure.subplots(*((3, 1) if stacked else (1, 3)))
    for place, start in enumerate(starts):
        colour = ink(place, len(starts))
        rows = frame[frame["z0"] == start]
        for loss in losses:
            line = _look(losses, loss) | {"color": colour, "marker": None}
            _draw(over_share, rows[rows["loss"].astype(str) == loss], "share", line)
        _draw_ratio(ratio, rows, losses, colour)
    middle = _closest(frame["share"], 0.5)
    for loss in losses:
        rows = frame[(frame["loss"].astype(str) == loss) & (frame["share"] == middle)]
        _draw(over_start, rows, "z0", _look(losses, loss) | {"color": "black"})
    if alone:
        over_start.plot(list(alone), list(alone.values()), markersize=3, **_LONE)
    label_panel(over_share, page, _SHARE, LENGTH_LABEL, "plateau length")
    slower = f"{loss_words(losses[0])} / {loss_words(losses[-1])}"
    label_panel(ratio, page, _SHARE, slower, "how much slower")
    title = f"share of wrong samples {middle:.2g}"
    label_panel(over_start, page, _START, LENGTH_LABEL, title)
    for panel in (over_share, ratio, over_start):
        panel.set_yscale("log")
    over_start.set_xscale("log", base=2)
    over_start.set_xticks(starts, [number(start) for start in starts])
    over_start.minorticks_off()
    legend_below(figure, page, _handles(losses, starts, bool(alone)))
    return figure


def _look(losses: list[str], loss: str) -> dict[str, Any]:
    place = losses.index(loss)
    return {"linestyle": dash(place), "marker": MARKERS[place], "markersize": 2.5}


def _draw(panel: Axes, rows: pd.DataFrame, along: str, look: dict[str, Any]) -> None:
    rows = rows.sort_values(along)
    panel.plot(rows[along], _lengths(rows, "plateau_epochs"), **look)
    panel.plot(rows[along], _lengths(rows, "predicted_epochs"), **_THEORY)


def _draw_ratio(panel: Axes, rows: pd.DataFrame, losses: list[str], colour: Any) -> None:
    first, last = (
        rows[rows["loss"].astype(str) == loss].sort_values("share")
        for loss in (losses[0], losses[-1])
    )
    for column, look in (("plateau_epochs", {"color": colour}), ("predicted_epochs", _THEORY)):
        panel.plot(first["share"], _lengths(first, column) / _lengths(last, column), **look)


def _lengths(rows: pd.DataFrame, column: str) -> Any:
    """Return a column as floats, with NaN for runs that did not leave their plateau."""
    values = rows[column].to_numpy(float, na_value=np.nan)
    escaped = rows["status"].astype(str).to_numpy() == "escaped"
    return np.where(escaped | (column != "plateau_epochs"), values, np.nan)


def _closest(values: pd.Series, target: float) -> float:
    distinct = np.sort(values.unique())
    return float(distinct[np.argmin(np.abs(distinct - target))])


def _handles(losses: list[str], starts: list[float], lone: bool) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], color="black", label=loss_words(loss), **_look(losses, loss))
        for loss in losses
    ]
    handles += [
        Line2D([], [], color=ink(place, len(starts)), label=f"$|z| \\leq$ {number(start)}")
        for place, start in enumerate(starts)
    ]
    handles.append(Line2D([], [], label="theory", **_THEORY))
    if lone:
        handles.append(Line2D([], [], label="one wrong sample alone", markersize=3, **_LONE))
    return handles
