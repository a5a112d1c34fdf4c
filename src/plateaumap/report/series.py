"""The shared parts of figures with lines: groups of rows, symbols, panels and legends."""

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
    INKS,
    LENGTHS,
    MARKERS,
    STATUS_LOOKS,
    Size,
    colours,
    loss_words,
    new_figure,
)

MOST_LINES = 9
"""The largest number of lines in one panel; of more, evenly spread ones are drawn."""

STATUS_SYMBOLS: dict[str, dict[str, Any]] = {
    status: {
        "marker": marker,
        "markersize": 3.5,
        "markerfacecolor": face,
        "markeredgecolor": "0.2",
        "markeredgewidth": 0.6,
        "linestyle": "none",
    }
    for status, marker, face in (
        ("censored", "^", "white"),
        (CONVERGED, ".", "0.8"),
        ("stationary", "o", "white"),
        ("stalled", "s", "0.2"),
        ("partially_stalled", "D", "0.6"),
        ("not_finite", "x", "0.2"),
        ("beyond_int64", "*", "white"),
    )
}
"""The symbol of each status other than `escaped`, where runs are drawn as points."""

EDGE_STATUSES = ("stationary", "stalled", "partially_stalled", "not_finite", "beyond_int64")
"""The statuses without a plateau length, whose runs are drawn at the upper edge of a panel."""

_MOST_SYMBOLS = 24
_EDGE = 0.97


def draw_at_edge(panel: Axes, positions: NDArray[np.float64], status: str) -> None:
    """Draw the symbol of a status along the upper edge of a panel, at positions along x."""
    if not len(positions):
        return
    panel.plot(
        thinned(positions, _MOST_SYMBOLS),
        np.full(min(len(positions), _MOST_SYMBOLS), _EDGE),
        transform=panel.get_xaxis_transform(),
        label=f"_{status}",
        **STATUS_SYMBOLS[status],
    )


def sample(label: str, **look: Any) -> Line2D:
    """Return a line for the legend."""
    return Line2D([], [], label=label, **look)


def edge_samples(statuses: Iterable[str]) -> list[Line2D]:
    """Return the legend's samples of the symbols of some statuses."""
    return [sample(STATUS_LOOKS[status].label, **STATUS_SYMBOLS[status]) for status in statuses]


@dataclass(frozen=True)
class Groups:
    """The rows of a table by the line to which they belong.

    Attributes:
        titles: the name of each line.
        places: the line of each row, −1 for none, of shape (rows,).
    """

    titles: tuple[str, ...]
    places: Integers


def group(lattice: Lattice, axes: Sequence[Axis], at: Mapping[str, float], figure: str) -> Groups:
    """Return one line for each combination of places on `axes`, at most `MOST_LINES`.

    Args:
        lattice: the shape of the table.
        axes: the axes along which no line is drawn.
        at: values at which coordinates are fixed; the nearest value on the axis is used.
        figure: the name of the figure, for messages.

    Raises:
        PlateaumapError: `at` names a coordinate that is on none of `axes`.
    """
    keep = np.ones(len(lattice.frame), bool)
    free = list(axes)
    for name, value in at.items():
        axis = next((axis for axis in axes if name in axis.names), None)
        if axis is None:
            names = ", ".join(name for axis in axes for name in axis.names)
            raise PlateaumapError(
                f"{figure}: at names {name!r}, which is not on a remaining axis; "
                f"choose one of {names or 'none'}"
            )
        keep &= axis.places == np.argmin(np.abs(axis.columns[name] - float(value)))
        free = [other for other in free if other is not axis]
    places, titles = lattice.product(free)
    kept = np.unique(np.linspace(0, len(titles) - 1, MOST_LINES).round().astype(int))
    number = np.full(len(titles), -1)
    number[kept] = np.arange(len(kept))
    return Groups(tuple(titles[i] for i in kept), np.where(keep, number[places], -1))


def ink(line: int, lines: int) -> Any:
    """Return the colour of a line; the colours of `lines` lines go from dark to light."""
    return colours(LENGTHS)(0.0 if lines == 1 else 0.88 * line / (lines - 1))


def dash(line: int) -> Any:
    """Return the dash pattern of a line, which differs from that of its neighbours."""
    return DASHES[line % len(DASHES)]


def loss_look(number: int, **look: Any) -> dict[str, Any]:
    """Return the colour and marker of the loss with a number, and `look`."""
    return {"color": INKS[number % len(INKS)], "marker": MARKERS[number % len(MARKERS)], **look}


def label_panel(panel: Axes, size: Size, x: str = "", y: str = "", title: str = "") -> None:
    """Give a panel a grid, tick labels of the size's font, labels and a bold title."""
    panel.grid(True)
    panel.tick_params(which="both", labelsize=size.font)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.set_title(title, loc="center", fontweight="bold")


def loss_panels(size: Size, losses: Sequence[str], entries: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with a row of panels, one per loss, and space for a legend below."""
    lines = -(-entries // _legend_columns(size))
    height = 0.32 * size.width + 18 + lines * 0.55 * size.font
    figure = new_figure(size, height, layout="constrained")
    panels = figure.subplots(1, len(losses), sharey=True, squeeze=False)[0]
    for panel, loss in zip(panels, losses, strict=True):
        label_panel(panel, size, title=loss_words(loss))
    return figure, list(panels)


def _legend_columns(size: Size) -> int:
    return max(1, int(size.width // (6.5 * size.font)))


def legend_below(figure: Figure, size: Size, handles: Sequence[Artist]) -> None:
    """Draw a legend under all panels, unless it is empty."""
    if handles:
        columns = min(len(handles), _legend_columns(size))
        figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)


def few_ticks(panel: Axes, size: Size, panels: int) -> None:
    """Set the ticks along x of one of `panels` panels in a row, so that their labels fit."""
    most = most_ticks(size, panels)
    log = panel.get_xscale() == "log"
    linear = MaxNLocator(most, steps=[1, 2, 4, 5, 10])
    panel.xaxis.set_major_locator(LogLocator(numticks=most) if log else linear)


def most_ticks(size: Size, panels: int) -> int:
    """Return the number of ticks along x whose labels fit in one of `panels` panels in a row."""
    return max(2, int(size.width / panels / 12))


def thinned(rows: NDArray, most: int) -> NDArray:
    """Return at most `most` of the rows, evenly spread and in order."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
