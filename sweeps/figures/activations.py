"""Draw the plateau lengths of every activation of `sweeps/activations.py` in one figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plateaumap.report.lattice import require
from plateaumap.report.scales import scale_of
from plateaumap.report.series import (
    EDGE_STATUSES,
    draw_at_edge,
    edge_samples,
    legend_below,
    loss_panels,
    most_ticks,
)
from plateaumap.report.style import (
    DASHES,
    INKS,
    LENGTH_LABEL,
    SizeName,
    plain,
    size_named,
    styled,
)

_NEEDED = ("activation", "loss", "w0", "b0", "lr", "x", "status", "plateau_epochs", "epochs_run")


@styled
def activation_lines(frame: pd.DataFrame, *, size: SizeName = "page") -> Figure:
    """Draw the plateau lengths T10 of several activations against the first pre-activation.

    The plateau of a neuron depends on its initial point only through `z0 = w0 x + b0`, so one line
    shows a whole map of w0 and b0. A line is interrupted where a run has no plateau length. A
    triangle at the epochs that were run marks a censored run. A symbol at the upper edge marks a
    run that never leaves its plateau (stationary or stalled), that diverged, or whose length is no
    int64 number.

    Args:
        frame: the concatenated tables of several activations, with a column `activation`. Each
            table has one learning rate, one input and one target.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, with one panel per loss. The labels of the lines are the activations.

    Raises:
        PlateaumapError: The table lacks a column.
    """
    require(frame, _NEEDED, "activation_lines")
    page = size_named(size)
    losses = list(dict.fromkeys(frame["loss"].astype(str)))
    names = list(dict.fromkeys(frame["activation"].astype(str)))
    looks = {name: _look(place) for place, name in enumerate(names)}
    frame = frame.assign(z=frame["w0"] * frame["x"] + frame["b0"])
    frame = frame[np.isfinite(frame["z"])]
    scale = scale_of(frame["z"], is_log=False)
    frame = frame.assign(z=scale.drawn(frame["z"]))
    figure, panels = loss_panels(page, losses, len(names) + 1)
    for panel, loss in zip(panels, losses, strict=True):
        panel.set_yscale("log")
        panel.set_xlabel(scale.label("first pre-activation $z_0$"))
        for name in names:
            selected = (frame["activation"].astype(str) == name) & (
                frame["loss"].astype(str) == loss
            )
            _draw(panel, frame[selected], name, looks[name])
        scale.set_ticks(panel.xaxis, most_ticks(page, len(panels)))
    panels[0].set_ylabel(LENGTH_LABEL)
    handles = _handles(looks, bool((frame["status"] == "censored").any()))
    statuses = set(frame["status"].astype(str))
    handles += edge_samples(status for status in EDGE_STATUSES if status in statuses)
    legend_below(figure, page, handles)
    return figure


def _look(place: int) -> dict[str, Any]:
    return {"color": INKS[place % len(INKS)], "linestyle": DASHES[place % len(DASHES)]}


def _draw(panel: Axes, rows: pd.DataFrame, name: str, look: dict[str, Any]) -> None:
    first = rows.drop_duplicates("z").sort_values("z")
    escaped = first["status"] == "escaped"
    lengths = (
        first["plateau_epochs"].astype("Float64").where(escaped).to_numpy(float, na_value=np.nan)
    )
    panel.plot(first["z"].to_numpy(), lengths, label=name, linewidth=1.1, **look)
    censored = first[(first["status"] == "censored").to_numpy()]
    panel.plot(
        censored["z"].to_numpy(),
        censored["epochs_run"].to_numpy(float, na_value=np.nan),
        label=f"{name}, censored",
        linestyle="none",
        marker="^",
        markersize=2.5,
        color=look["color"],
    )
    for status in EDGE_STATUSES:
        draw_at_edge(panel, first["z"].to_numpy()[(first["status"] == status).to_numpy()], status)


def _handles(looks: dict[str, dict[str, Any]], any_censored: bool) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], label=plain(name), linewidth=1.1, **look) for name, look in looks.items()
    ]
    if any_censored:
        mark = {"linestyle": "none", "marker": "^", "markersize": 2.5, "color": "0.3"}
        handles.append(Line2D([], [], label="censored", **mark))  # type: ignore[arg-type]
    return handles
