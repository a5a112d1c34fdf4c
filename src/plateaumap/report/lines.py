"""Plateau lengths of few points or along one line: cuts, bars and scattered points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.cells import draw_key, length_colours
from plateaumap.report.lattice import (
    ESCAPED,
    STATUSES,
    Axis,
    Booleans,
    Direction,
    Float64,
    Integers,
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
    dash,
    draw_at_edge,
    edge_samples,
    few_ticks,
    group,
    ink,
    legend_below,
    loss_panels,
    most_ticks,
    sample,
)
from plateaumap.report.style import (
    DASHES,
    INKS,
    LENGTH_LABEL,
    STATUS_LOOKS,
    SizeName,
    axis_words,
    count,
    loss_words,
    new_figure,
    plain,
    size_named,
    styled,
    wrapped,
)

MOST_BARS = 24
"""The largest number of points that bars can show."""

DIAGONAL = "diagonal"
_THEORY_COLUMNS = (
    {"flow_epochs": "gradient flow", "exact_epochs": "exact theory"},
    {"predicted_epochs": "theory"},
)
_ROOM_ABOVE, _BEYOND_HORIZON = 3.0, 50.0
_WIDE = float(np.log(30))
"""Scattered values are drawn on a logarithmic scale if the largest is over 30 times the least."""


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
    """Draw the plateau lengths T10 along one line through the table.

    Args:
        frame: a table of results.
        along: "diagonal" for w0 = b0, or the name of a coordinate; by default the diagonal if w0
            and b0 are axes, or else the largest axis.
        at: values at which other coordinates are fixed; the nearest value on the axis is used.
            Each combination of the remaining coordinates is a line; at most 9 lines are drawn.
        losses: the losses to draw; by default all.
        compare: columns of float64 epochs to draw beside the measured lengths, with their labels;
            by default `flow_epochs` and `exact_epochs` if the table has them (see
            `plateaumap.add_theory`), or else the prediction.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, with one panel per loss. Censored runs are triangles at the horizon. Runs that
        never leave their plateau, that diverged, or whose length is no int64 number are symbols of
        their status along the upper edge.

    Raises:
        PlateaumapError: The table has no such axis, or fewer than two places along it.

    Example:
        >>> import plateaumap as pm
        >>> axis = pm.linspace("w0", 0, 2, 5)
        >>> frame = pm.run(pm.Sweep(axes=[axis], fixed={"b0": 0.5, "lr": 0.5}, horizon=200))
        >>> [panel.get_xlabel() for panel in pm.figures.cut(frame).axes]
        ['initial weight $w_0$', 'initial weight $w_0$']
    """
    page = size_named(size)
    lattice = read(frame, "cut")
    losses = choose(lattice, losses, "cut")
    columns = _compared(lattice, compare)
    name, label, used, keep = line_through(lattice, along)
    groups = group(lattice, [axis for axis in lattice.axes if axis not in used], at or {}, "cut")
    scale = direction(used[0], name, "cut").scale
    position = scale.drawn(lattice.frame[name])
    lines = len(groups.titles)
    looks = [{"color": ink(line, lines), "linestyle": dash(line)} for line in range(lines)]
    beside = {column: _beside(number, lines) for number, column in enumerate(columns)}
    handles: list[Artist] = [
        sample(title or "measured", **look)
        for title, look in zip(groups.titles, looks, strict=True)
    ]
    handles += [sample(plain(columns[column]), **beside[column]) for column in columns]
    figure, axes = loss_panels(page, losses, len(handles))
    for panel, loss in zip(axes, losses, strict=True):
        for line, look in enumerate(looks):
            rows = np.flatnonzero(keep & lattice.is_loss(loss) & (groups.places == line))
            rows = rows[np.argsort(position[rows], kind="stable")]
            _draw_measured(panel, lattice, position, rows, look)
            for column in columns:
                values = lattice.numbers(column)[rows]
                panel.plot(position[rows], values, **beside[column], label=f"_{column}")
        panel.set_xlabel(scale.label(label))
        panel.set_yscale("log")
        scale.set_axis(panel, "x")
        scale.set_ticks(panel.xaxis, most_ticks(page, len(losses)))
    axes[0].set_ylim(*_limits(lattice, keep & (groups.places >= 0), columns))
    axes[0].set_ylabel(LENGTH_LABEL)
    if (keep & lattice.is_status("censored")).any():
        triangle = {"marker": "^", "markersize": 3, "markerfacecolor": "white"}
        handles.append(sample("at least (censored)", color="0.3", linestyle="none", **triangle))
    handles += edge_samples(s for s in EDGE_STATUSES if (keep & lattice.is_status(s)).any())
    legend_below(figure, page, handles)
    return figure


def _compared(lattice: Lattice, compare: Mapping[str, str] | None) -> dict[str, str]:
    if compare is not None:
        require(lattice.frame, compare, "cut")
        return dict(compare)
    for columns in _THEORY_COLUMNS:
        present = columns.keys() & set(lattice.frame.columns)
        finite = {c for c in present if np.isfinite(lattice.numbers(c)).any()}
        if finite:
            return {column: label for column, label in columns.items() if column in finite}
    return {}


def line_through(lattice: Lattice, along: str | None) -> tuple[str, str, list[Axis], Booleans]:
    """Return the coordinate along a line, its label, the axes of the line, and the rows on it.

    Raises:
        PlateaumapError: The table has no such line.
    """
    names = lattice.varying
    square = {"w0", "b0"} <= set(names) and lattice.axis_of("w0") is not lattice.axis_of("b0")
    if along == DIAGONAL or (along is None and square):
        if not square:
            raise PlateaumapError(
                "cut: a diagonal needs w0 and b0 on separate axes; draw along one of "
                f"{', '.join(names) or 'none'}"
            )
        used = [lattice.axis_of("w0"), lattice.axis_of("b0")]
        return "w0", "start $w_0 = b_0$", used, _on_diagonal(*used)
    if not names:
        raise PlateaumapError("cut: no axis of this table has more than one value; draw bars")
    axis = max(lattice.axes, key=lambda a: a.size) if along is None else lattice.axis_of(along)
    distinct = (n for n in axis.names if len(np.unique(axis.columns[n])) == axis.size)
    name = along or next(distinct, None)
    if name is None:
        raise PlateaumapError(
            f"cut: none of {', '.join(axis.names)} has as many values as the axis has places; "
            "draw bars or points"
        )
    return name, axis_words(name), [axis], np.ones(len(lattice.frame), bool)


def _on_diagonal(first: Axis, second: Axis) -> Booleans:
    """Return the rows whose places on two axes hold the same value."""
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


def _draw_measured(
    panel: Axes, lattice: Lattice, position: Float64, rows: Integers, look: Mapping[str, Any]
) -> None:
    """Draw the plateau lengths of one line, and the symbols of its runs without a length."""
    marker = "o" if len(rows) <= 30 else ""
    lengths = lattice.lengths[rows]
    panel.plot(position[rows], lengths, **look, marker=marker, markersize=2.5, label="_measured")
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
            color=look["color"],
            linestyle="none",
            label="_censored",
        )
    for status in EDGE_STATUSES:
        draw_at_edge(panel, position[rows[lattice.is_status(status)[rows]]], status)


def _beside(number: int, lines: int) -> dict[str, Any]:
    """Return the look of a compared column: grey and underneath if several lines are measured."""
    look = {"linestyle": DASHES[(number + 2) % len(DASHES)], "linewidth": 0.7}
    if lines == 1:
        return {**look, "color": INKS[(number + 4) % len(INKS)], "zorder": 3}
    return {**look, "color": ("0.25", "0.6")[number % 2], "zorder": 1.5}


def _limits(lattice: Lattice, rows: Booleans, columns: Mapping[str, str]) -> tuple[float, float]:
    """Return the limits along y of the measured lengths, or of `columns` if there are none.

    A prediction is not included, because it may extend over 300 orders of magnitude.
    """
    censored = rows & lattice.is_status("censored")
    seen = _positive(lattice.lengths[rows], lattice.stops[censored])
    if not len(seen):
        seen = _positive(np.ones(1), *(lattice.numbers(column)[rows] for column in columns))
    # Beyond the horizon, theory is shown for some distance.
    above = _BEYOND_HORIZON if censored.any() else _ROOM_ABOVE
    return seen.min() / 1.5, min(seen.max() * above, LARGEST)


def _positive(*values: Float64) -> Float64:
    joined = np.concatenate(values)
    return joined[(joined > 0) & (joined < LARGEST)]


@styled
def plateau_bars(
    frame: pd.DataFrame, *, losses: Sequence[str] | None = None, size: SizeName = "page"
) -> Figure:
    """Draw the plateau length T10 of each of a few points as a bar, with its number.

    Args:
        frame: a table of results with at most 24 points.
        losses: the losses to draw; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, with one panel. A censored run is a hatched bar up to its horizon. Other runs
        without a length have words instead of a bar.

    Raises:
        PlateaumapError: The table has more points, or lacks a column.

    Example:
        >>> import plateaumap as pm
        >>> axis = pm.values("w0", [0.5, 2.0])
        >>> frame = pm.run(pm.Sweep(axes=[axis], fixed={"b0": 2.0, "lr": 0.5}, horizon=200))
        >>> [text.get_text() for text in pm.figures.plateau_bars(frame).axes[0].texts]
        ['8', '46', '1', '1']
    """
    page = size_named(size)
    lattice = read(frame, "plateau_bars")
    losses = choose(lattice, losses, "plateau_bars")
    places, titles = lattice.product(lattice.axes)
    present = np.unique(places)
    if len(present) > MOST_BARS:
        raise PlateaumapError(
            f"plateau_bars has room for {MOST_BARS} points, not {len(present)}; "
            "select fewer rows, or draw a map or a cut"
        )
    step = 1 / (len(losses) + 0.6)
    height = 18 + len(present) * (2.5 + 0.62 * page.font * len(losses))
    figure = new_figure(page, height, layout="constrained")
    panel = figure.subplots()
    for number, loss in enumerate(losses):
        offset = (number - (len(losses) - 1) / 2) * step
        for row in np.flatnonzero(lattice.is_loss(loss)).tolist():
            level = np.searchsorted(present, places[row]) + offset
            look = {"height": 0.9 * step, "color": INKS[number % len(INKS)]}
            _draw_bar(panel, lattice, row, level, look, 0.9 * page.font)
    panel.set_xlabel(LENGTH_LABEL)
    panel.tick_params(which="both", labelsize=page.font)
    labels = [wrapped(titles[place] or lattice.describe_fixed(), 24) for place in present]
    panel.set_yticks(range(len(present)), labels)
    panel.set(xscale="log", ylim=(len(present) - 0.4, -0.6))
    longest = np.nanmax(np.concatenate([lattice.lengths, lattice.stops, [10.0]]))
    # The numbers to the right of the bars need space.
    panel.set_xlim(0.7, longest ** (1.6 if size == "page" else 2.2))
    few_ticks(panel, page, 2)
    handles = [
        Patch(facecolor=INKS[number % len(INKS)], label=loss_words(loss))
        for number, loss in enumerate(losses)
    ]
    legend_below(figure, page, handles)
    return figure


def _draw_bar(
    panel: Axes, lattice: Lattice, row: int, level: float, look: dict[str, Any], font: float
) -> None:
    """Draw a bar up to the length or horizon of a run, and its length or status in words."""
    status = STATUSES[lattice.status_codes[row]]
    if status == ESCAPED:
        end = lattice.lengths[row]
        words = count(end)
    elif status == "censored":
        end = lattice.stops[row]
        words = f"at least {count(end)} (censored)"
    else:
        end, words = 1.0, STATUS_LOOKS[status].label
    if status in (ESCAPED, "censored"):
        hatched = {} if status == ESCAPED else {"color": "white", "hatch": "//////"}
        panel.barh(level, end, linewidth=0.5, **{**look, "edgecolor": look["color"], **hatched})
    panel.annotate(
        words,
        (end, level),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=font,
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
    """Draw scattered points in the colours of their plateau lengths T10.

    Args:
        frame: a table of results whose coordinates vary together along one axis.
        x: the coordinate to the right; by default the first that varies.
        y: the coordinate upward; by default the second that varies.
        losses: the losses to draw; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, with one panel per loss. Runs without a length have a symbol for their status.

    Raises:
        PlateaumapError: Fewer than two coordinates vary.

    Example:
        >>> import plateaumap as pm
        >>> points = pm.points(w0=[0, 1, 2, 0.5], b0=[1, 0, 2, 1.5])
        >>> frame = pm.run(pm.Sweep(axes=[points], fixed={"lr": 0.5}, horizon=200))
        >>> len(pm.figures.plateau_points(frame).axes)
        3
    """
    page = size_named(size)
    lattice = read(frame, "plateau_points")
    losses = choose(lattice, losses, "plateau_points")
    across, up = _scattered(lattice, x, y)
    statuses = [s for s in STATUSES[1:] if lattice.is_status(s).any()]
    pair = [way.scale.drawn(lattice.frame[way.name]) for way in (across, up)]
    figure = panels(page, [loss_words(n) for n in losses], [""], (across, up), len(statuses))
    has_length = np.isfinite(lattice.lengths)
    norm, cmap = length_colours(lattice.lengths)
    for panel, loss in zip(figure.axes[0], losses, strict=True):
        for status in statuses:
            rows = lattice.is_loss(loss) & lattice.is_status(status)
            panel.plot(*(places[rows] for places in pair), **STATUS_SYMBOLS[status])
        rows = lattice.is_loss(loss) & has_length
        panel.scatter(
            pair[0][rows],
            pair[1][rows],
            c=lattice.lengths[rows],
            norm=norm,
            cmap=cmap,
            s=9,
            edgecolors="0.2",
            linewidths=0.2,
            rasterized=len(frame) > 20_000,
        )
    scale = (norm, cmap) if has_length.any() else None
    draw_key(figure, scale, LENGTH_LABEL, edge_samples(statuses))
    return figure.figure


def is_cloud(lattice: Lattice) -> bool:
    """Return whether many points vary together without an order along which to draw them."""
    if len(lattice.axes) != 1 or lattice.axes[0].size <= MOST_BARS:
        return False
    return len(lattice.axes[0].varying) > 1


def _scattered(lattice: Lattice, x: str | None, y: str | None) -> tuple[Direction, Direction]:
    free = [n for axis in lattice.axes for n in axis.varying if n not in (x, y)]
    names = [name or (free.pop(0) if free else "") for name in (x, y)]
    if not all(names):
        raise PlateaumapError(
            "plateau_points needs two coordinates that vary; draw a cut or bars instead"
        )
    first, second = (_span(lattice.axis_of(name), name) for name in names)
    return first, second


def _span(axis: Axis, name: str) -> Direction:
    """Return a direction whose edges include all values of a coordinate and a margin."""
    values = np.unique(axis.columns[name])
    is_wide = values[0] > 0 and np.log(values[-1]) - np.log(values[0]) > _WIDE
    scale = scale_of(values, is_log=bool(is_wide))
    ends = scale.drawn(values[[0, -1]])
    if scale.is_log:
        ends = np.log(ends)
    margin = 0.05 * (ends[1] - ends[0]) or 0.5
    ends = ends + np.array([-margin, margin])
    return Direction(name, scale, np.exp(ends) if scale.is_log else ends, axis.places)
