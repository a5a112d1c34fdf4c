"""Whole learning curves, epoch by epoch, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.lattice import require
from plateaumap.report.scales import in_unit, power_of, with_unit
from plateaumap.report.style import (
    DASHES,
    INKS,
    Size,
    SizeName,
    count,
    loss_words,
    new_figure,
    size_named,
    styled,
    wrapped,
)

_QUANTITIES = {
    "loss": "loss $C$",
    "output": "output $a$",
    "w": "weight $w$",
    "b": "bias $b$",
    "gradient": "gradient $dC/dz$",
}
_DROP = 0.1
_MOST_COLUMNS = {"column": 2, "page": 4}
_MOST_POINTS = 4000

Curves = Mapping[str, pd.DataFrame] | Mapping[str, Mapping[str, pd.DataFrame]] | pd.DataFrame


@dataclass(frozen=True)
class _Line:
    label: str
    curve: pd.DataFrame
    plateau: int | None


@styled
def learning_curves(
    curves: Curves,
    *,
    plateau_epochs: Mapping[str, int | None] | None = None,
    size: SizeName = "page",
) -> Figure:
    """Draws loss, output, weight, bias and gradient against the epoch.

    Args:
        curves: the tables of `simulate` by label, each in a column of its own; or, by the heading
            of a column, several by label; or one table with a column `label`, and perhaps
            `column` for the heading.
        plateau_epochs: T10 of each label, to be marked. By default the first epoch at which 10 %
            of the loss excess is gone, its floor being the table's `loss_floor` if there is such
            a column and 0 otherwise.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure: a row of panels for each quantity, a column for each heading. The end of a
        plateau is a dot on each line, and is named in the legend.

    Raises:
        PlateaumapError: nothing to draw, more columns than there is room for (4 on a page, 2 in a
            column), or a table that is no curve.
    """
    room = size_named(size)
    columns = _columns(curves, dict(plateau_epochs or {}), _MOST_COLUMNS[size])
    lines_below = max(map(len, columns.values())) * (3 if len(columns) > 2 else 2)
    height = 16 + len(_QUANTITIES) * (_panel_height(room) + 2) + 3 * lines_below
    figure = new_figure(room, height, layout="constrained")
    panels = figure.subplots(len(_QUANTITIES), len(columns), sharex="col", squeeze=False)
    # Two losses are not measured in one unit, so the first row shares no scale.
    for panel, first in ((p, row[0]) for row in panels[1:] for p in row[1:]):
        panel.sharey(first)
    powers = _powers(columns)
    for column, (heading, lines) in enumerate(columns.items()):
        for row, (quantity, label) in enumerate(_QUANTITIES.items()):
            panel = panels[row, column]
            handles = [
                _draw(panel, line, quantity, number, powers[quantity])
                for number, line in enumerate(lines)
            ]
            panel.grid(True)
            panel.yaxis.set_major_locator(MaxNLocator(4))
            ticks = max(2, int(room.width / len(columns) / 15))
            panel.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
            panel.margins(x=0.03, y=0.12)
            panel.tick_params(which="both", labelsize=room.font)
            panel.tick_params(labelleft=column == 0 or row == 0)
            if column == 0:
                panel.set_ylabel(with_unit(label, powers[quantity]), fontsize=room.font)
        title = wrapped(loss_words(heading), _characters(room, len(columns)))
        panels[0, column].set_title(title, loc="center", fontsize=room.font, fontweight="bold")
        panels[-1, column].set_xlabel("epoch", fontsize=room.font)
        _add_legend(panels[-1, column], handles, lines, room, len(columns))
    figure.align_ylabels()
    return figure


def _columns(curves: Curves, known: dict[str, int | None], most: int) -> dict[str, list[_Line]]:
    nested = _nested(curves)
    if not nested or not all(nested.values()):
        raise PlateaumapError("learning_curves has nothing to draw: no curve was given")
    if len(nested) > most:
        raise PlateaumapError(
            f"learning_curves has room for {most} columns at this size, not {len(nested)}; "
            "group the curves, as {heading: {label: table}}, or draw them at size 'page'"
        )
    return {
        heading: [_line(label, curve, known) for label, curve in group.items()]
        for heading, group in nested.items()
    }


def _nested(curves: Curves) -> dict[str, dict[str, pd.DataFrame]]:
    if isinstance(curves, pd.DataFrame):
        require(curves, ("label",), "learning_curves")
        heading = "column" if "column" in curves.columns else "label"
        nested: dict[str, dict[str, pd.DataFrame]] = {}
        for (first, label), part in curves.groupby([heading, "label"], sort=False, observed=True):
            nested.setdefault(str(first), {})[str(label)] = part
        return nested
    return {
        str(key): {str(key): value} if isinstance(value, pd.DataFrame) else dict(value)
        for key, value in curves.items()
    }


def _line(label: str, curve: pd.DataFrame, known: Mapping[str, int | None]) -> _Line:
    require(curve, ("epoch", *_QUANTITIES), f"the curve {label!r} of learning_curves")
    if not len(curve):
        raise PlateaumapError(f"the curve {label!r} of learning_curves has no rows")
    return _Line(label, curve, known[label] if label in known else plateau_end(curve))


def plateau_end(curve: pd.DataFrame) -> int | None:
    """T10 of a curve, in epochs: where 10 % of the loss excess is gone; None if it never is."""
    loss = curve["loss"].to_numpy(np.float64)
    floor = curve["loss_floor"].to_numpy(np.float64) if "loss_floor" in curve.columns else 0.0
    excess = loss - floor
    if not excess[0] > 0:
        return None
    passed = np.flatnonzero(excess <= (1 - _DROP) * excess[0])
    return int(curve["epoch"].iloc[passed[0]]) if len(passed) else None


def _powers(columns: Mapping[str, list[_Line]]) -> dict[str, int]:
    """Return for each quantity the power of ten that is its unit in all columns."""
    curves = [line.curve for lines in columns.values() for line in lines]
    return {
        quantity: power_of(np.concatenate([c[quantity].to_numpy(np.float64) for c in curves]))
        for quantity in _QUANTITIES
    }


def _draw(panel: Axes, line: _Line, quantity: str, number: int, power: int) -> Line2D:
    epochs = line.curve["epoch"].to_numpy()
    values = in_unit(line.curve[quantity], power)
    ink, dash = INKS[number % len(INKS)], DASHES[number % len(DASHES)]
    stride = max(1, len(epochs) // _MOST_POINTS)
    (drawn,) = panel.plot(
        epochs[::stride],
        values[::stride],
        color=ink,
        linestyle=dash,
        label=loss_words(line.label),
    )
    if line.plateau is not None:
        at = np.flatnonzero(epochs == line.plateau)
        panel.plot(
            epochs[at],
            values[at],
            marker="o",
            markersize=4,
            markerfacecolor="white",
            markeredgecolor=ink,
            linestyle="none",
            label="_end of the plateau",
            zorder=3,
        )
    return drawn


def _add_legend(
    panel: Axes, handles: list[Line2D], lines: list[_Line], room: Size, columns: int
) -> None:
    """Puts what each line is, and its T10, under the lowest panel of a column."""
    samples = [_sample(handle, line) for handle, line in zip(handles, lines, strict=True)]
    characters = _characters(room, columns) - 6
    labels = [wrapped(_legend(line, len(lines) > 1), characters) for line in lines]
    below = -(3.2 * room.font * 0.3528) / _panel_height(room)
    panel.legend(
        samples,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, below),
        borderaxespad=0.3,
        fontsize=room.font,
    )


def _sample(handle: Line2D, line: _Line) -> Line2D:
    """A line for the legend, with the dot of its plateau's end if it has one."""
    sample = Line2D([], [], color=handle.get_color(), linestyle=handle.get_linestyle())
    if line.plateau is not None:
        sample.set(marker="o", markersize=4, markerfacecolor="white")
    return sample


def _characters(room: Size, columns: int) -> int:
    """How many characters fit into the width of one column."""
    return max(12, int((room.width - 14) / columns / (0.58 * room.font / 72 * 25.4)))


def _panel_height(room: Size) -> float:
    """Millimetres of one panel's height."""
    return 0.14 * room.width + 6


def _legend(line: _Line, several: bool) -> str:
    ending = "not reached" if line.plateau is None else f"{count(line.plateau)} epochs"
    length = f"$T_{{10}}$ = {ending}".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{loss_words(line.label)}: {length}" if several else length
