"""The map and the curves as Bokeh models, still empty: the page's script fills them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.models import (
    ColorBar,
    ColorMapper,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    Legend,
    LegendItem,
    LinearColorMapper,
    LogColorMapper,
    Range1d,
)
from bokeh.models.text import PlainText
from bokeh.plotting import figure
from matplotlib.colors import to_hex

from plateaumap.report.page.looks import CLEAR, LOOKS
from plateaumap.report.page.picture import Picture, Side
from plateaumap.report.style import INKS, LENGTHS, colours

_TOOLS = "pan,wheel_zoom,box_zoom,reset,save"
_QUANTITIES = {"loss": "loss", "output": "output", "w": "weight w", "b": "bias b"}
_DASHES = ("solid", [8, 4], [2, 3], [10, 3, 2, 3])


def components_of(
    picture: Picture, losses: Sequence[str], ratios: str, with_curves: bool
) -> tuple[str, str, list[str]]:
    """The script that draws them, the map's element, and those of the curves."""
    drawn: dict[str, Any] = {"map": _map(picture, ratios)}
    if with_curves:
        drawn |= _curves(losses)
    script, elements = components(drawn)
    return script, elements["map"], [elements[name] for name in drawn if name != "map"]


def _palette(name: str) -> list[str]:
    return [to_hex(colour) for colour in colours(name)(np.linspace(0, 1, 256))]


def _map(picture: Picture, ratios: str) -> figure:
    across, up = picture.across, picture.up
    height, width = picture.rows.shape[2:]
    strip = up is None
    bottom, top = (0.0, 1.0) if up is None else (float(up.edges[0]), float(up.edges[-1]))
    left, right = float(across.edges[0]), float(across.edges[-1])
    plot = figure(
        name="map",
        tools=_TOOLS,
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
    for name, mapper in _mappers(ratios).items():
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


def _mappers(ratios: str) -> dict[str, ColorMapper]:
    return {
        "log": LogColorMapper(palette=_palette(LENGTHS), low=1, high=10, nan_color=CLEAR),
        "linear": LinearColorMapper(palette=_palette(LENGTHS), low=0, high=1, nan_color=CLEAR),
        "ratio": LogColorMapper(palette=_palette(ratios), low=0.1, high=10, nan_color=CLEAR),
    }


def _ticks(side: Side) -> CustomJSTickFormatter:
    if side.kind == "log":
        return CustomJSTickFormatter(code="return String(Number((10 ** tick).toPrecision(3)))")
    if side.kind == "linear":
        return CustomJSTickFormatter(code="return String(Number(tick.toPrecision(6)))")
    values = next(iter(side.columns.values()), np.zeros(1))
    if side.label in side.columns:
        values = side.columns[side.label]
    labels = [f"{value:.6g}" for value in values] if side.label in side.columns else []
    code = "return Number.isInteger(tick) ? (labels[tick] ?? '') : ''"
    if not labels:
        code = "return Number.isInteger(tick) ? String(tick) : ''"
    return CustomJSTickFormatter(args={"labels": labels}, code=code)


def _curves(losses: Sequence[str]) -> dict[str, figure]:
    sources = [
        ColumnDataSource(
            {"epoch": [], **{name: [] for name in _QUANTITIES}}, name=f"curve-{number}"
        )
        for number in range(len(losses))
    ]
    plots = {}
    for quantity, label in _QUANTITIES.items():
        plot = figure(tools=_TOOLS, width=560, height=260, y_axis_label=label, x_axis_label="epoch")
        lines = [
            plot.line(
                "epoch",
                quantity,
                source=source,
                line_width=2,
                color=INKS[number % len(INKS)],
                line_dash=_DASHES[number % len(_DASHES)],
            )
            for number, source in enumerate(sources)
        ]
        items = [
            LegendItem(label={"value": loss}, renderers=[line])
            for loss, line in zip(losses, lines, strict=True)
        ]
        plot.add_layout(Legend(items=items, orientation="horizontal"), "above")
        plots[quantity] = plot
    return plots
