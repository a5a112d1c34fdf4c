"""Draw the probability that a random initialisation is bad: sampled shares and formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from plateaumap.report.lattice import require
from plateaumap.report.series import dash, few_ticks, ink, legend_below
from plateaumap.report.style import (
    MARKERS,
    Size,
    SizeName,
    count,
    loss_words,
    new_figure,
    size_named,
    styled,
)

_NEEDED = ("loss", "fan_in", "half_width", "slope", "event", "drawn", "formula", "draws")


_TITLES = {
    "stuck": "starts wrong, stuck\n> {epochs} epochs",
    "near": "starts near, takes\n> {epochs} epochs",
}


@styled
def premature_saturation(frame: pd.DataFrame, *, epochs: int, size: SizeName = "page") -> Figure:
    """Draw the probability of a saturated, a stuck and a near unit against the range of weights.

    Lines are the formula; marks are the shares of sampled weights, with two standard errors. Each
    fan-in has a colour and each slope a dash pattern. The first panel shows the initialisation,
    which is the same for all losses. Each loss has a panel of the units that start wrong and whose
    plateau is longer than `epochs` epochs. If the table has them, each loss has another panel of
    the units that start near the target and whose plateau is as long.

    Args:
        frame: one row per loss, fan-in, half width of the weights, slope and event ("wrong" for
            saturated at the wrong end, "stuck", "near"), with the columns `drawn` and `formula`
            (probabilities) and `draws` (the number of sampled weights).
        epochs: the length of a stuck plateau, for the titles.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: The table lacks a column.
    """
    require(frame, _NEEDED, "premature_saturation")
    page = size_named(size)
    losses = list(dict.fromkeys(frame["loss"].astype(str)))
    events = [event for event in _TITLES if (frame["event"] == event).any()]
    contents = [("saturated and wrong at the start", "wrong", losses[0])]
    contents += [
        (f"{_TITLES[event].format(epochs=count(epochs))}: {loss_words(loss)}", event, loss)
        for event in events
        for loss in losses
    ]
    lines = frame[["fan_in", "slope"]].drop_duplicates().sort_values(["fan_in", "slope"])
    looks = _looks(lines)
    panels = _panels(page, size == "column", len(losses), len(events), len(contents))
    for place, (panel, (title, event, loss)) in enumerate(zip(panels, contents, strict=True)):
        rows = frame[(frame["event"] == event) & (frame["loss"].astype(str) == loss)]
        for key, line in rows.groupby(["fan_in", "slope"]):
            _draw(panel, line.sort_values("half_width"), looks[key])
        panel.set(xscale="log", ylim=(-0.02, 0.6))
        panel.set_title(title, loc="center", fontweight="bold")
        _dress(panel, page, 1 if size == "column" else 1 + len(losses))
        is_left = size == "column" or place in (0, len(losses) + 1)
        panel.tick_params(labelleft=is_left)
        panel.set_ylabel("probability" if is_left else "")
        panel.set_xlabel("half width of the weights")
    legend_below(panels[0].get_figure(), page, _handles(looks))  # type: ignore[arg-type]
    return panels[0].get_figure()  # type: ignore[return-value]


def _panels(page: Size, stacked: bool, losses: int, events: int, contents: int) -> list[Axes]:
    """Return the panel of the initialisation and the panels of the losses, one row per event."""
    columns, rows = (1, contents) if stacked else (1 + losses, max(events, 1))
    height = (0.6 if stacked else 0.36) * rows * page.width + 28
    figure = new_figure(page, height, layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    if stacked:
        return list(grid.ravel())
    for panel in grid[1:, 0]:  # The initialisation has a panel in the first row only.
        panel.remove()
    return [grid[0, 0], *grid[:, 1:].ravel()]


def _looks(lines: pd.DataFrame) -> dict[tuple[Any, ...], dict[str, Any]]:
    fan_ins, slopes = (sorted(lines[name].unique()) for name in ("fan_in", "slope"))
    return {
        (fan_in, slope): {
            "color": ink(fan_ins.index(fan_in), len(fan_ins)),
            "linestyle": dash(slopes.index(slope)),
            "marker": MARKERS[fan_ins.index(fan_in) % len(MARKERS)],
        }
        for fan_in, slope in lines.itertuples(index=False)
    }


def _draw(panel: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    drawn, formula = rows["drawn"].to_numpy(float), rows["formula"].to_numpy(float)
    width = rows["half_width"].to_numpy(float)
    panel.plot(width, formula, color=look["color"], linestyle=look["linestyle"], linewidth=0.9)
    error = 2 * np.sqrt(formula * (1 - formula) / rows["draws"].to_numpy(float))
    panel.errorbar(
        width, drawn, error, linestyle="none", marker=look["marker"], color=look["color"],
        markersize=2.5, elinewidth=0.6,
    )  # fmt: skip


def _dress(panel: Axes, page: Size, panels: int) -> None:
    few_ticks(panel, page, panels)
    panel.grid(True)
    panel.tick_params(which="both", labelsize=page.font)


def _handles(looks: dict[tuple[Any, ...], dict[str, Any]]) -> list[Artist]:
    return [
        Line2D(
            [],
            [],
            label=f"fan-in {fan_in:,}, slope {slope:g}",
            linewidth=0.9,
            markersize=2.5,
            **look,
        )
        for (fan_in, slope), look in looks.items()
    ]
