"""The map and the curves as Bokeh models, still empty: the page's script fills them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    LinearColorMapper,
    Range1d,
)
from bokeh.models.text import PlainText
from bokeh.plotting import figure

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


def components_of(
    picture: Picture, losses: Sequence[str], ratios: str, with_curves: bool
) -> tuple[str, str, list[str]]:
    """The script that draws them, the map's element, and those of the curves."""
    drawn: dict[str, Any] = {"map": _map(picture, ratios)}
    if with_curves:
        drawn |= curve_plots(losses)
    script, elements = components(drawn)
    return script, elements["map"], [elements[name] for name in drawn if name != "map"]


def _map(picture: Picture, ratios: str) -> figure:
    across, up = picture.across, picture.up
    height, width = picture.rows.shape[2:]
    strip = up is None
    bottom, top = (0.0, 1.0) if up is None else (float(up.edges[0]), float(up.edges[-1]))
    left, right = float(across.edges[0]), float(across.edges[-1])
    plot = figure(
        name="map",
        tools=TOOLS,
        active_scroll="wheel_zoom",
        width=700,
        height=400 if strip else 620,
        x_range=Range1d(left, right, bounds="auto"),
        **({} if strip else {"y_range": Range1d(bottom, top, bounds="auto")}),
        y_axis_type="log" if strip else "linear",
        background_fill_color="#ffffff",
        output_backend="canvas",
    )
    plot.grid.visible = strip
    plot.xaxis.axis_label = PlainText(text=across.label)
    plot.xaxis.formatter = _ticks(across)
    if up is not None:
        plot.yaxis.axis_label = PlainText(text=up.label)
        plot.yaxis.formatter = _ticks(up)
    box = {"x": [left], "y": [bottom], "dw": [right - left], "dh": [top - bottom]}
    empty = np.full((height, width), np.nan)
    values = ColumnDataSource({"image": [empty], **box}, name="image")
    cover = ColumnDataSource({"image": [np.zeros((height, width))], **box}, name="cover")
    place = {"image": "image", "x": "x", "y": "y", "dw": "dw", "dh": "dh"}
    for name, mapper in mappers(ratios).items():
        mapper.name = f"mapper-{name}"
        renderer = plot.image(**place, source=values, color_mapper=mapper, visible=name == "log")
        renderer.name = f"map-{name}"
        bar = ColorBar(color_mapper=mapper, name=f"bar-{name}", visible=name == "log" and not strip)
        plot.add_layout(bar, "right")
    codes = LinearColorMapper(
        palette=[colour for _, colour in LOOKS], low=-0.5, high=len(LOOKS) - 0.5
    )
    renderer = plot.image(**place, source=cover, color_mapper=codes)
    renderer.visible = not strip
    if strip:
        # One axis, or a single point: dots say more than a strip of colour.
        dots = ColumnDataSource({"x": across.positions, "value": empty[0]}, name="dots")
        plot.scatter("x", "value", source=dots, size=5, color=INKS[0])
    for event, answer in (("tap", "tap"), ("mousemove", "hover")):
        plot.js_on_event(event, CustomJS(code=f"PlateauPage.{answer}(cb_obj.x, cb_obj.y)"))
    return plot


def _ticks(side: Side) -> CustomJSTickFormatter:
    if side.kind == "log":
        return CustomJSTickFormatter(code=POSITION_TICKS)
    if side.kind == "linear":
        return CustomJSTickFormatter(code=NUMBER_TICKS)
    values = next(iter(side.columns.values()), np.zeros(1))
    if side.label in side.columns:
        values = side.columns[side.label]
    labels = [f"{value:.6g}" for value in values] if side.label in side.columns else []
    code = "return Number.isInteger(tick) ? (labels[tick] ?? '') : ''"
    if not labels:
        code = "return Number.isInteger(tick) ? String(tick) : ''"
    return CustomJSTickFormatter(args={"labels": labels}, code=code)
