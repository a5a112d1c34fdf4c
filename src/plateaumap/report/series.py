"""A panel for each loss with a line for each value of a further axis: what such figures share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.lattice import CONVERGED, Axis, Integers, Lattice
from plateaumap.report.style import (
    DASHES,
    LENGTHS,
    STATUS_LOOKS,
    Size,
    colours,
    loss_words,
    new_figure,
)

MOST_LINES = 9
"""Lines in one panel; of more, some are drawn, evenly spread."""


def _symbol(marker: str, face: str) -> dict[str, Any]:
    return {
        "marker": marker,
        "markersize": 3.5,
        "markerfacecolor": face,
        "markeredgecolor": "0.2",
        "markeredgewidth": 0.6,
        "linestyle": "none",
    }


STATUS_SYMBOLS: dict[str, dict[str, Any]] = {
    "censored": _symbol("^", "white"),
    CONVERGED: _symbol(".", "0.8"),
    "stationary": _symbol("o", "white"),
    "stalled": _symbol("s", "0.2"),
    "partially_stalled": _symbol("D", "0.6"),
    "not_finite": _symbol("x", "0.2"),
    "beyond_int64": _symbol("*", "white"),
}
"""A symbol for each status other than `escaped`, where runs are drawn as points."""

EDGE_STATUSES = ("stationary", "stalled", "partially_stalled", "not_finite", "beyond_int64")
"""Statuses whose runs have no height among plateau lengths, and stand at the upper edge."""

_MOST_SYMBOLS = 24
_EDGE = 0.97


def draw_at_edge(panel: Axes, positions: NDArray[np.float64], status: str) -> None:
    """Draw a status's symbol along the upper edge of a panel, at some positions along x."""
    if not len(positions):
        return
    panel.plot(
        thinned(positions, _MOST_SYMBOLS),
        np.full(min(len(positions), _MOST_SYMBOLS), _EDGE),
        transform=panel.get_xaxis_transform(),
        label=f"_{status}",
        **STATUS_SYMBOLS[status],
    )


def edge_samples(statuses: Iterable[str]) -> list[Artist]:
    """Return samples for the legend of what `draw_at_edge` draws."""
    return [
        Line2D([], [], label=STATUS_LOOKS[status].label, **STATUS_SYMBOLS[status])
        for status in statuses
    ]


@dataclass(frozen=True)
class Groups:
    """Rows of a table by the line that they belong to.

    Attributes:
        titles: a name for each line.
        places: for each row of the table its line, −1 for none; of shape (rows,).
    """

    titles: tuple[str, ...]
    places: Integers


def group(lattice: Lattice, axes: Sequence[Axis], at: Mapping[str, float], figure: str) -> Groups:
    """One line for each combination of places on `axes`, at most `MOST_LINES` of them.

    Args:
        lattice: the table's shape.
        axes: the axes that are not drawn along.
        at: for some coordinates the value to stay at; the nearest on the axis is taken.
        figure: who asks, for messages.

    Raises:
        PlateaumapError: `at` names a coordinate that is on none of `axes`.
    """
    keep = np.ones(len(lattice.frame), bool)
    free = list(axes)
    for name, value in at.items():
        axis = next((axis for axis in axes if name in axis.names), None)
        if axis is None:
            raise PlateaumapError(
                f"{figure}: at names {name!r}, which is not on an axis that is left over "
                f"({', '.join(n for a in axes for n in a.names) or 'none is'})"
            )
        keep &= axis.places == np.argmin(np.abs(axis.columns[name] - float(value)))
        free = [other for other in free if other is not axis]
    places, titles = lattice.product(free)
    kept = np.unique(np.linspace(0, len(titles) - 1, MOST_LINES).round().astype(int))
    number = np.full(len(titles), -1)
    number[kept] = np.arange(len(kept))
    return Groups(tuple(titles[i] for i in kept), np.where(keep, number[places], -1))


def ink(line: int, lines: int) -> Any:
    """The colour of a line, in order from dark to light."""
    return colours(LENGTHS)(0.0 if lines == 1 else 0.88 * line / (lines - 1))


def dash(line: int) -> Any:
    """The dashes of a line, which tell neighbours apart in grey."""
    return DASHES[line % len(DASHES)]


def loss_panels(
    size: Size, losses: Sequence[str], entries: int, share_y: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each loss beside each other, and room for a legend below."""
    lines = -(-entries // legend_columns(size))
    height = 0.32 * size.width + 18 + lines * 0.55 * size.font
    figure = new_figure(size, height, layout="constrained")
    panels = figure.subplots(1, len(losses), sharey=share_y, squeeze=False)[0]
    for panel, loss in zip(panels, losses, strict=True):
        panel.set_title(loss_words(loss), loc="center", fontsize=size.font, fontweight="bold")
        panel.grid(True)
        panel.tick_params(which="both", labelsize=size.font)
    return figure, list(panels)


def legend_columns(size: Size) -> int:
    """Entries beside each other in a legend under the panels."""
    return max(1, int(size.width // (6.5 * size.font)))


def legend_below(figure: Figure, size: Size, handles: Sequence[Artist]) -> None:
    """Puts a legend under all panels."""
    if not handles:
        return
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=min(len(handles), legend_columns(size)),
        fontsize=size.font,
    )


def few_ticks(panel: Axes, size: Size, panels: int) -> None:
    """As many ticks along x as their labels have room for, on a linear or logarithmic scale."""
    most = most_ticks(size, panels)
    log = panel.get_xscale() == "log"
    linear = MaxNLocator(most, steps=[1, 2, 4, 5, 10])
    panel.xaxis.set_major_locator(LogLocator(numticks=most) if log else linear)


def most_ticks(size: Size, panels: int) -> int:
    """Return how many ticks along x have room for their labels."""
    return max(2, int(size.width / panels / 12))


def thinned(rows: NDArray, most: int) -> NDArray:
    """Return at most `most` of these, evenly spread and in order."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
