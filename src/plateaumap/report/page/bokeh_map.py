"""The map and the curves as empty Bokeh models, which the script of the page fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.models import (
    ColorBar,
    ColorMapper,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    LinearColorMapper,
    Range1d,
)
from bokeh.models.text import PlainText
from bokeh.plotting import figure

from plateaumap.report.lattice import Float64, display_value
from plateaumap.report.page.looks import LOOKS
from plateaumap.report.page.parts import (
    NUMBER_TICKS,
    POSITION_TICKS,
    TOOLS,
    curve_plots,
    mappers,
)
from plateaumap.report.page.picture import Picture, Side
from plateaumap.report.style import INKS
from plateaumap.table.display import value_text


def components_of(
    picture: Picture, losses: Sequence[str], ratios: str, with_curves: bool
) -> tuple[str, str, list[str]]:
    """Return the script that draws the models, the element of the map and those of the curves."""
    drawn: dict[str, Any] = {"map": _map(picture, ratios)}
    if with_curves:
        drawn |= curve_plots(losses)
    script, elements = components(drawn)
    return script, elements["map"], [elements[name] for name in drawn if name != "map"]


def _map(picture: Picture, ratios: str) -> figure:
    plot = _strip(picture) if picture.up is None and picture.cloud is None else None
    if plot is None:
        plot = _cells(picture, ratios) if picture.cloud is None else _cloud(picture, ratios)
    for event, answer in (("tap", "tap"), ("mousemove", "hover")):
        plot.js_on_event(event, CustomJS(code=f"PlateauPage.{answer}(cb_obj.x, cb_obj.y)"))
    plot.js_on_event("mouseleave", CustomJS(code="PlateauPage.leave()"))
    return plot


def _plot(x: tuple[float, float], y: tuple[float, float] | None, **settings: Any) -> figure:
    """Return an empty map over a window; without `y`, the vertical range follows the data."""
    ranges: dict[str, Any] = {"x_range": Range1d(*x, bounds="auto")}
    if y is not None:
        ranges["y_range"] = Range1d(*y, bounds="auto")
    return figure(
        name="map",
        tools=TOOLS,
        active_scroll="wheel_zoom",
        width=760,
        background_fill_color="#ffffff",
        output_backend="canvas",
        **ranges,
        **settings,
    )


def _sources(picture: Picture) -> tuple[ColumnDataSource, ColumnDataSource]:
    """Return the sources that the script fills: values, and colours of cells without a value."""
    across, up = picture.across, picture.up
    height, width = picture.rows.shape[2:]
    bottom, top = (0.0, 1.0) if up is None else (float(up.edges[0]), float(up.edges[-1]))
    left, right = float(across.edges[0]), float(across.edges[-1])
    box = {"x": [left], "y": [bottom], "dw": [right - left], "dh": [top - bottom]}
    empty, nothing = np.full((height, width), np.nan), np.zeros((height, width))
    return (
        ColumnDataSource({"image": [empty], **box}, name="image"),
        ColumnDataSource({"image": [nothing], **box}, name="cover"),
    )


def _cells(picture: Picture, ratios: str) -> figure:
    across, up = picture.across, picture.up
    assert up is not None
    plot = _plot(_ends(across.edges), _ends(up.edges), height=620)
    plot.grid.visible = False
    plot.xaxis.axis_label, plot.yaxis.axis_label = (PlainText(text=s.label) for s in (across, up))
    plot.xaxis.formatter, plot.yaxis.formatter = _ticks(across), _ticks(up)
    values, cover = _sources(picture)
    place = {"image": "image", "x": "x", "y": "y", "dw": "dw", "dh": "dh"}
    _with_scales(
        plot, ratios, lambda mapper: plot.image(**place, source=values, color_mapper=mapper)
    )
    plot.image(**place, source=cover, color_mapper=_codes())
    return plot


def _strip(picture: Picture) -> figure:
    """Return the map of one axis or one point: dots at the height of their value."""
    across = picture.across
    plot = _plot(_ends(across.edges), None, height=400, y_axis_type="log")
    plot.xaxis.axis_label, plot.xaxis.formatter = PlainText(text=across.label), _ticks(across)
    values, cover = _sources(picture)
    dots = ColumnDataSource(
        {"x": across.positions, "value": np.full(len(across.positions), np.nan)}, name="dots"
    )
    plot.scatter("x", "value", source=dots, size=5, color=INKS[0])
    # The page holds only models that a root refers to.
    plot.tags = [values, cover]
    return plot


def _cloud(picture: Picture, ratios: str) -> figure:
    """Return the map of scattered points: coloured dots, and squares for points without a value."""
    assert picture.cloud is not None
    x, y = (picture.across.columns[name] for name in picture.cloud)
    plot = _plot(_margined(x), _margined(y), height=620)
    plot.xaxis.axis_label, plot.yaxis.axis_label = (PlainText(text=n) for n in picture.cloud)
    values, cover = _sources(picture)
    missing = np.full(len(x), np.nan)
    source = ColumnDataSource({"x": x, "y": y, "value": missing, "code": missing}, name="cloud")
    place = {"x": "x", "y": "y", "source": source, "line_color": "#444444", "line_width": 0.5}
    plot.scatter(
        **place,
        size=7,
        marker="square",
        fill_color={"field": "code", "transform": _codes()},
        line_alpha=0.4,
    )
    _with_scales(
        plot,
        ratios,
        lambda mapper: plot.scatter(
            **place, size=8, fill_color={"field": "value", "transform": mapper}
        ),
    )
    plot.tags = [values, cover]
    return plot


def _with_scales(plot: figure, ratios: str, draw: Callable[[ColorMapper], Any]) -> None:
    """Draw once for each scale, of which the script shows one."""
    for name, mapper in mappers(ratios).items():
        mapper.name = f"mapper-{name}"
        renderer = draw(mapper)
        renderer.update(name=f"map-{name}", visible=name == "log")
        plot.add_layout(
            ColorBar(color_mapper=mapper, name=f"bar-{name}", visible=name == "log"), "right"
        )


def _codes() -> LinearColorMapper:
    return LinearColorMapper(
        palette=[colour for _, colour in LOOKS], low=-0.5, high=len(LOOKS) - 0.5
    )


def _ends(edges: Float64) -> tuple[float, float]:
    return float(edges[0]), float(edges[-1])


def _margined(values: Float64) -> tuple[float, float]:
    low, high = float(np.min(values)), float(np.max(values))
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def _ticks(side: Side) -> CustomJSTickFormatter:
    if side.kind == "log":
        return CustomJSTickFormatter(code=POSITION_TICKS)
    if side.kind == "linear":
        return CustomJSTickFormatter(code=NUMBER_TICKS)
    values = next(iter(side.columns.values()), np.zeros(1))
    if side.label in side.columns:
        values = side.columns[side.label]
    labels = [
        value_text(display_value(side.label, value, side.words))
        for value in (values if side.label in side.columns else ())
    ]
    code = "return Number.isInteger(tick) ? (labels[tick] ?? '') : ''"
    if not labels:
        code = "return Number.isInteger(tick) ? String(tick) : ''"
    return CustomJSTickFormatter(args={"labels": labels}, code=code)
