"""Learning curves: loss, output, weight, bias and gradient of every epoch."""

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
from plateaumap.report.series import label_panel
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
    """Draw loss, output, weight, bias and gradient against the epoch.

    Args:
        curves: the tables of `simulate`, in one of three forms: a mapping from labels to tables,
            each drawn in a separate column; a mapping from column headings to such mappings; or
            one table with a column `label` and optionally a column `column` for the heading.
        plateau_epochs: T10 of each label, to be marked. By default it is the first epoch at which
            10 % of the loss excess over the column `loss_floor` (0 if the table lacks it) is gone.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, with a row of panels for each quantity and a column for each heading. A dot on
        each line marks the end of the plateau, which the legend states.

    Raises:
        PlateaumapError: No curve was passed, the figure has too many columns (4 on a page, 2 in a
            column), or a table is no curve.

    Example:
        >>> import plateaumap as pm
        >>> curve = pm.simulate(loss="quadratic", w0=2, b0=2, lr=0.15, epochs=300)
        >>> len(pm.figures.learning_curves({"unlucky": curve}).axes)
        5
    """
    page = size_named(size)
    columns = _columns(curves, dict(plateau_epochs or {}), _MOST_COLUMNS[size])
    lines_below = max(map(len, columns.values())) * (3 if len(columns) > 2 else 2)
    height = 16 + len(_QUANTITIES) * (_panel_height(page) + 2) + 3 * lines_below
    figure = new_figure(page, height, layout="constrained")
    panels = figure.subplots(len(_QUANTITIES), len(columns), sharex="col", squeeze=False)
    # Losses have different units, so the panels of the first row do not share a scale.
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
            panel.yaxis.set_major_locator(MaxNLocator(4))
            ticks = max(2, int(page.width / len(columns) / 15))
            panel.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
            panel.margins(x=0.03, y=0.12)
            label_panel(panel, page, y=with_unit(label, powers[quantity]) if column == 0 else "")
            panel.tick_params(labelleft=column == 0 or row == 0)
        title = wrapped(loss_words(heading), _characters(page, len(columns)))
        panels[0, column].set_title(title, loc="center", fontweight="bold")
        panels[-1, column].set_xlabel("epoch")
        _add_legend(panels[-1, column], handles, lines, page, len(columns))
    figure.align_ylabels()
    return figure


def _columns(curves: Curves, known: dict[str, int | None], most: int) -> dict[str, list[_Line]]:
    nested = _nested(curves)
    if not nested or not all(nested.values()):
        raise PlateaumapError("learning_curves has nothing to draw: pass at least one curve")
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
    """Return T10 of a curve in epochs, or None if 10 % of the loss excess is never gone."""
    loss = curve["loss"].to_numpy(np.float64)
    floor = curve["loss_floor"].to_numpy(np.float64) if "loss_floor" in curve.columns else 0.0
    excess = loss - floor
    if not excess[0] > 0:
        return None
    passed = np.flatnonzero(excess <= (1 - _DROP) * excess[0])
    return int(curve["epoch"].iloc[passed[0]]) if len(passed) else None


def _powers(columns: Mapping[str, list[_Line]]) -> dict[str, int]:
    """Return the power of ten that is the unit of each quantity in all columns."""
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
    look = {"color": ink, "linestyle": dash, "label": loss_words(line.label)}
    (drawn,) = panel.plot(epochs[::stride], values[::stride], **look)
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
    panel: Axes, handles: list[Line2D], lines: list[_Line], page: Size, columns: int
) -> None:
    """Draw the label and T10 of each line under the lowest panel of a column."""
    samples = [_sample(handle, line) for handle, line in zip(handles, lines, strict=True)]
    characters = _characters(page, columns) - 6
    labels = [wrapped(_legend(line, len(lines) > 1), characters) for line in lines]
    below = -(3.2 * page.font * 0.3528) / _panel_height(page)
    panel.legend(
        samples,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, below),
        borderaxespad=0.3,
    )


def _sample(handle: Line2D, line: _Line) -> Line2D:
    """Return a line for the legend, with the dot of the end of its plateau if it has one."""
    sample = Line2D([], [], color=handle.get_color(), linestyle=handle.get_linestyle())
    if line.plateau is not None:
        sample.set(marker="o", markersize=4, markerfacecolor="white")
    return sample


def _characters(page: Size, columns: int) -> int:
    """Return the number of characters that fit into one of `columns` columns."""
    return max(12, int((page.width - 14) / columns / (0.58 * page.font / 72 * 25.4)))


def _panel_height(page: Size) -> float:
    """Return the height of one panel in millimetres."""
    return 0.14 * page.width + 6


def _legend(line: _Line, several: bool) -> str:
    ending = "not reached" if line.plateau is None else f"{count(line.plateau)} epochs"
    length = f"$T_{{10}}$ = {ending}".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{loss_words(line.label)}: {length}" if several else length
