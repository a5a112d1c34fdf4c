"""Plateau lengths of few or one-dimensional starts: cuts, bars, and scattered points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.cells import draw_key
from plateaumap.report.lattice import (
    ESCAPED,
    STATUSES,
    Axis,
    Direction,
    Lattice,
    choose,
    direction,
    read,
    require,
)
from plateaumap.report.panels import panels
from plateaumap.report.scales import LARGEST, scale_of
from plateaumap.report.series import (
    EDGE_STATUSES,
    STATUS_SYMBOLS,
    Groups,
    dash,
    draw_at_edge,
    edge_samples,
    few_ticks,
    group,
    ink,
    legend_below,
    loss_panels,
    most_ticks,
)
from plateaumap.report.style import (
    DASHES,
    INKS,
    LENGTH_LABEL,
    LENGTHS,
    STATUS_LOOKS,
    SizeName,
    axis_words,
    colours,
    count,
    loss_words,
    new_figure,
    plain,
    size_named,
    styled,
    wrapped,
)

MOST_BARS = 24
"""Points that bars can show."""

DIAGONAL = "diagonal"
_BESIDE = {"flow_epochs": "gradient flow", "exact_epochs": "exact theory"}
_THEORY = {"predicted_epochs": "theory"}
_ROOM_ABOVE, _BEYOND_HORIZON = 3.0, 50.0
_WIDE = float(np.log(30))
"""Scattered values are drawn logarithmically where the largest is more than 30 times the least."""


@styled
def cut(
    frame: pd.DataFrame,
    *,
    along: str | None = None,
    at: Mapping[str, float] | None = None,
    losses: Sequence[str] | None = None,
    compare: Mapping[str, str] | None = None,
    size: SizeName = "page",
) -> Figure:
    """Draws the plateau lengths T10 along one line through the table.

    Args:
        frame: a table of results.
        along: "diagonal" for w0 = b0, or the name of a coordinate; by default the diagonal where
            w0 and b0 are axes, or else the largest axis.
        at: values at which other coordinates stay, the nearest on their axis; each further
            combination of the others is a line, at most 9 of them.
        losses: which losses; by default all.
        compare: columns of float64 epochs to draw beside the measured lengths, and their names;
            by default `flow_epochs` and `exact_epochs`, if the table has them (see
            `plateaumap.add_theory`), or else the prediction.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, a panel for each loss. Runs without a length because they were censored are
        triangles at the horizon; those that never leave, diverged or have no number are symbols
        of their status along the upper edge.

    Raises:
        PlateaumapError: no such axis, or fewer than two places along it.
    """
    room = size_named(size)
    lattice = read(frame, "cut")
    chosen = choose(lattice, losses, "cut")
    columns = _compared(lattice, compare)
    name, label, used, keep = line_through(lattice, along)
    rest = [axis for axis in lattice.axes if axis not in used]
    groups = group(lattice, rest, at or {}, "cut")
    scale = direction(used[0], name, "cut").scale
    position = scale.drawn(lattice.frame[name])
    handles = _cut_handles(groups, columns)
    figure, axes = loss_panels(room, chosen, len(handles))
    for panel, loss in zip(axes, chosen, strict=True):
        own = keep & (lattice.loss_codes == lattice.losses.index(loss))
        for line in range(len(groups.titles)):
            rows = np.flatnonzero(own & (groups.places == line))
            rows = rows[np.argsort(position[rows], kind="stable")]
            _draw_cut(panel, lattice, position, rows, (line, len(groups.titles)), columns)
        panel.set_xlabel(scale.label(label), fontsize=room.font)
        panel.set_yscale("log")
        scale.set_axis(panel, "x")
        scale.set_ticks(panel.xaxis, most_ticks(room, len(chosen)))
    _limit(axes[0], lattice, keep & (groups.places >= 0), columns)
    axes[0].set_ylabel(LENGTH_LABEL, fontsize=room.font)
    if (keep & lattice.is_status("censored")).any():
        handles.append(_triangle("0.3", "at least (censored)"))
    handles += edge_samples(s for s in EDGE_STATUSES if (keep & lattice.is_status(s)).any())
    legend_below(figure, room, handles)
    return figure


def _compared(lattice: Lattice, compare: Mapping[str, str] | None) -> dict[str, str]:
    if compare is not None:
        require(lattice.frame, list(compare), "cut")
        return dict(compare)
    for columns in (_BESIDE, _THEORY):
        known = {
            column: label
            for column, label in columns.items()
            if column in lattice.frame.columns and np.isfinite(lattice.numbers(column)).any()
        }
        if known:
            return known
    return {}


def line_through(
    lattice: Lattice, along: str | None
) -> tuple[str, str, list[Axis], NDArray[np.bool_]]:
    """A coordinate to draw along, its label, the axes that it uses up, and the rows on it."""
    varying = [name for axis in lattice.axes for name in axis.names]
    square = {"w0", "b0"} <= set(varying) and (lattice.axis_of("w0") is not lattice.axis_of("b0"))
    if along == DIAGONAL or (along is None and square):
        if not square:
            raise PlateaumapError(
                "cut: a diagonal needs w0 and b0 on axes of their own; draw along one of "
                f"{', '.join(varying) or 'none'}"
            )
        keep = _on_diagonal(lattice.axis_of("w0"), lattice.axis_of("b0"))
        used = [lattice.axis_of("w0"), lattice.axis_of("b0")]
        return "w0", "start $w_0 = b_0$", used, keep
    if not varying:
        raise PlateaumapError("cut: no axis of this table has more than one value; draw bars")
    axis = max(lattice.axes, key=lambda a: a.size) if along is None else lattice.axis_of(along)
    name = next((n for n in axis.names if len(np.unique(axis.columns[n])) == axis.size), None)
    name = along or name
    if name is None:
        raise PlateaumapError(
            f"cut: none of {', '.join(axis.names)} has as many values as the axis has places; "
            "draw bars or points"
        )
    return name, axis_words(name), [axis], np.ones(len(lattice.frame), bool)


def _on_diagonal(first: Axis, second: Axis) -> NDArray[np.bool_]:
    """Rows whose places on two axes hold the same value."""
    values, one, other = np.intersect1d(
        first.columns[first.names[0]], second.columns[second.names[0]], return_indices=True
    )
    if len(values) < 2:
        raise PlateaumapError(
            f"cut: {first.names[0]} and {second.names[0]} have {len(values)} values in common, "
            "too few for a diagonal; draw along one of them"
        )
    partner = np.full(first.size, -1)
    partner[one] = other
    return partner[first.places] == second.places


def _draw_cut(
    panel: Axes,
    lattice: Lattice,
    position: NDArray[np.float64],
    rows: NDArray[np.int64],
    which: tuple[int, int],
    columns: Mapping[str, str],
) -> None:
    line, lines = which
    colour = ink(line, lines)
    panel.plot(
        position[rows],
        lattice.lengths[rows],
        color=colour,
        linestyle=dash(line),
        marker="o" if len(rows) <= 30 else "",
        markersize=2.5,
        label="_measured",
    )
    censored = rows[lattice.is_status("censored")[rows]]
    if len(censored):
        shown = censored[:: max(1, len(rows) // 24)]
        panel.plot(
            position[shown],
            lattice.stops[shown],
            marker="^",
            markersize=3,
            markerfacecolor="white",
            markeredgewidth=0.7,
            color=colour,
            linestyle="none",
            label="_censored",
        )
    for status in EDGE_STATUSES:
        draw_at_edge(panel, position[rows[lattice.is_status(status)[rows]]], status)
    for number, column in enumerate(columns):
        panel.plot(
            position[rows],
            lattice.numbers(column)[rows],
            **_beside(number, lines),
            label=f"_{column}",
        )


def _beside(number: int, lines: int) -> dict[str, Any]:
    """The look of a compared column: over one measured line, under several and without colour."""
    look = {"linestyle": DASHES[(number + 2) % len(DASHES)], "linewidth": 0.7}
    if lines == 1:
        return {**look, "color": INKS[(number + 4) % len(INKS)], "zorder": 3}
    return {**look, "color": ("0.25", "0.6")[number % 2], "zorder": 1.5}


def _cut_handles(groups: Groups, columns: Mapping[str, str]) -> list[Artist]:
    lines = len(groups.titles)
    handles: list[Artist] = [
        Line2D([], [], color=ink(line, lines), linestyle=dash(line), label=title or "measured")
        for line, title in enumerate(groups.titles)
    ]
    handles += [
        Line2D(
            [],
            [],
            **_beside(number, lines),
            label=plain(label),
        )
        for number, label in enumerate(columns.values())
    ]
    return handles


def _triangle(colour: str, label: str) -> Line2D:
    return Line2D(
        [],
        [],
        marker="^",
        markerfacecolor="white",
        color=colour,
        linestyle="none",
        markersize=3,
        label=label,
    )


def _limit(
    panel: Axes, lattice: Lattice, rows: NDArray[np.bool_], columns: Mapping[str, str]
) -> None:
    """Keep to what was measured: a prediction may go on for 300 orders of magnitude.

    Where nothing was measured, the columns beside it decide.
    """
    censored = rows & lattice.is_status("censored")
    seen = _positive(np.concatenate([lattice.lengths[rows], lattice.stops[censored]]))
    if not len(seen):
        seen = _positive(np.concatenate([[1.0], *(lattice.numbers(c)[rows] for c in columns)]))
    # Where runs were given up, theory is to be seen going on for a while.
    above = _BEYOND_HORIZON if censored.any() else _ROOM_ABOVE
    panel.set_ylim(seen.min() / 1.5, min(seen.max() * above, LARGEST))


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[(values > 0) & (values < LARGEST)]


@styled
def plateau_bars(
    frame: pd.DataFrame, *, losses: Sequence[str] | None = None, size: SizeName = "page"
) -> Figure:
    """Draws the plateau length T10 of each of a few points as a bar, with its number.

    Args:
        frame: a table of results with at most 24 points.
        losses: which losses; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, with one panel. A censored run is a hatched bar up to its horizon; other runs
        without a length have words in place of a bar.

    Raises:
        PlateaumapError: the table has more points, or lacks a column.
    """
    room = size_named(size)
    lattice = read(frame, "plateau_bars")
    chosen = choose(lattice, losses, "plateau_bars")
    places, titles = lattice.product(lattice.axes)
    present = np.unique(places)
    if len(present) > MOST_BARS:
        raise PlateaumapError(
            f"plateau_bars has room for {MOST_BARS} points, not {len(present)}; "
            "select fewer rows, or draw a map or a cut"
        )
    step = 1 / (len(chosen) + 0.6)
    height = 18 + len(present) * (2.5 + 0.62 * room.font * len(chosen))
    figure = new_figure(room, height, layout="constrained")
    panel = figure.subplots()
    for number, loss in enumerate(chosen):
        for row in np.flatnonzero(lattice.loss_codes == lattice.losses.index(loss)).tolist():
            level = np.searchsorted(present, places[row])
            offset = (number - (len(chosen) - 1) / 2) * step
            _draw_bar(panel, lattice, row, level + offset, step * 0.9, number, room.font)
    labels = [wrapped(titles[place] or lattice.describe_fixed(), 24) for place in present]
    panel.set_yticks(range(len(present)), labels, fontsize=room.font)
    panel.set(xscale="log", ylim=(len(present) - 0.4, -0.6))
    longest = np.nanmax(np.concatenate([lattice.lengths, lattice.stops, [10.0]]))
    # The numbers stand right of the bars and need the room.
    panel.set_xlim(0.7, longest ** (1.6 if size == "page" else 2.2))
    few_ticks(panel, room, 2)
    panel.tick_params(which="both", labelsize=room.font)
    panel.set_xlabel(LENGTH_LABEL, fontsize=room.font)
    handles = [_bar_sample(number, loss_words(loss)) for number, loss in enumerate(chosen)]
    legend_below(figure, room, handles)
    return figure


def _bar_sample(number: int, label: str) -> Patch:
    return Patch(facecolor=_bar_colour(number), label=label)


def _bar_colour(number: int) -> str:
    return INKS[number % len(INKS)]


def _draw_bar(
    panel: Axes, lattice: Lattice, row: int, level: float, height: float, number: int, font: float
) -> None:
    status = STATUSES[lattice.status_codes[row]]
    length = lattice.lengths[row] if status == ESCAPED else lattice.stops[row]
    drawn = status in (ESCAPED, "censored")
    words = count(length) if status == ESCAPED else STATUS_LOOKS[status].label
    if status == "censored":
        words = f"at least {count(length)} (censored)"
    if drawn:
        panel.barh(
            level,
            length,
            height,
            color=_bar_colour(number) if status == ESCAPED else "white",
            edgecolor=_bar_colour(number),
            hatch="" if status == ESCAPED else "//////",
            linewidth=0.5,
        )
    panel.annotate(
        words,
        (length if drawn else 1.0, level),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=font * 0.9,
    )


@styled
def plateau_points(
    frame: pd.DataFrame,
    *,
    x: str | None = None,
    y: str | None = None,
    losses: Sequence[str] | None = None,
    size: SizeName = "page",
) -> Figure:
    """Draws scattered starts in the colours of their plateau lengths T10.

    Args:
        frame: a table of results whose points vary together along one axis.
        x: the coordinate to the right; by default the first that varies.
        y: the coordinate upward; by default the second.
        losses: which losses; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, a panel for each loss; runs without a length have a symbol for their status.

    Raises:
        PlateaumapError: fewer than two coordinates vary.
    """
    room = size_named(size)
    lattice = read(frame, "plateau_points")
    chosen = choose(lattice, losses, "plateau_points")
    across, up = _scattered(lattice, x, y)
    found = [s for s in STATUSES[1:] if lattice.is_status(s).any()]
    pair = [way.scale.drawn(lattice.frame[way.name]) for way in (across, up)]
    figure = panels(room, [loss_words(n) for n in chosen], [""], (across, up), len(found))
    known = np.isfinite(lattice.lengths)
    norm = _length_scale(lattice.lengths[known])
    for panel, loss in zip(figure.axes[0], chosen, strict=True):
        own = lattice.loss_codes == lattice.losses.index(loss)
        for status in found:
            rows = own & lattice.is_status(status)
            panel.plot(*(places[rows] for places in pair), **STATUS_SYMBOLS[status])
        rows = own & known
        panel.scatter(
            pair[0][rows],
            pair[1][rows],
            c=lattice.lengths[rows],
            norm=norm,
            cmap=colours(LENGTHS),
            s=9,
            edgecolors="0.2",
            linewidths=0.2,
            rasterized=len(frame) > 20_000,
        )
    samples = [
        Line2D([], [], **STATUS_SYMBOLS[status], label=STATUS_LOOKS[status].label)
        for status in found
    ]
    scale = ScalarMappable(norm, colours(LENGTHS)) if known.any() else None
    draw_key(figure, scale, LENGTH_LABEL, samples)
    return figure.figure


def is_cloud(lattice: Lattice) -> bool:
    """Whether points vary together without an order to draw them along, and are many."""
    if len(lattice.axes) != 1 or lattice.axes[0].size <= MOST_BARS:
        return False
    return len(varying(lattice.axes[0])) > 1


def varying(axis: Axis) -> list[str]:
    """The coordinates of an axis that take more than one value."""
    return [name for name in axis.names if len(np.unique(axis.columns[name])) > 1]


def _length_scale(lengths: NDArray[np.float64]) -> LogNorm:
    if not len(lengths):
        return LogNorm(1, 10)
    low, high = float(lengths.min()), float(lengths.max())
    return LogNorm(low, high if high > low else 10 * low)


def _scattered(lattice: Lattice, x: str | None, y: str | None) -> tuple[Direction, Direction]:
    free = [n for axis in lattice.axes for n in varying(axis) if n not in (x, y)]
    chosen = [given or (free.pop(0) if free else None) for given in (x, y)]
    if None in chosen:
        raise PlateaumapError(
            "plateau_points needs two coordinates that vary; draw a cut or bars instead"
        )
    first, second = (_span(lattice.axis_of(str(name)), str(name)) for name in chosen)
    return first, second


def _span(axis: Axis, name: str) -> Direction:
    """A direction that holds all values with a margin."""
    values = np.unique(axis.columns[name])
    scale = scale_of(
        values, is_log=bool(values[0] > 0 and np.log(values[-1]) - np.log(values[0]) > _WIDE)
    )
    ends = scale.drawn(values[[0, -1]])
    if scale.is_log:
        ends = np.log(ends)
    margin = 0.05 * (ends[1] - ends[0]) or 0.5
    ends = ends + np.array([-margin, margin])
    return Direction(name, scale, np.exp(ends) if scale.is_log else ends, axis.places)
