"""The Bokeh models of the explorer's page: the map, the controls, the curves, the texts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from bokeh.models import (
    BasicTickFormatter,
    Button,
    ColorBar,
    ColorMapper,
    ColumnDataSource,
    CustomJS,
    CustomJSTickFormatter,
    Div,
    LinearColorMapper,
    RadioButtonGroup,
    Range1d,
    Select,
    Slider,
    TextInput,
)
from bokeh.models.text import PlainText
from bokeh.plotting import figure

from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.explore.curves import PointDetail
from plateaumap.explore.view import METHODS, SIMULATION, View, is_logarithmic, position
from plateaumap.explore.windows import COVERS, Answer
from plateaumap.neuron.activations import ACTIVATIONS
from plateaumap.report.page.parts import POSITION_TICKS, TOOLS, curve_plots, mappers
from plateaumap.report.style import RATIOS
from plateaumap.training.measures import LEVELS

MEASURES = {
    "plateau_epochs": "T10, plateau (epochs)",
    "half_epochs": "T50 (epochs)",
    "tenth_epochs": "T90 (epochs)",
}
"""The columns that the map can show, and their labels."""

MOST_CURVES = 4
"""Losses whose curves fit into a plot."""

EMPTY: dict[str, Any] = {"x": [0.0], "y": [0.0], "dw": [1.0], "dh": [1.0]}
"""The place of an image without content."""

_MARKUP_STYLE = """
table { border-collapse: collapse; font-size: 0.8rem; }
th { text-align: left; font-weight: normal; color: #555; padding: 0 0.9rem 0 0; }
td { font-variant-numeric: tabular-nums; padding: 0 0.9rem 0 0; }
ul { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; padding: 0; margin: 0; }
li span { display: inline-block; width: 1.1em; height: 1.1em; margin-right: 0.4em;
  border: 1px solid #888; vertical-align: -0.2em; }
"""
_MARGIN = 0.04
_SMALLEST_WINDOW, _LARGEST_WINDOW = 1e-9, 1e5
_SLIDER_ENDS = {"lr": (-3.0, 1.0), "x": (-4.0, 4.0), "y": (0.0, 1.0)}


@dataclass(frozen=True)
class MapModels:
    """The map and its data.

    Attributes:
        plot: the figure. Its first tag describes the picture to scripts.
        image: the source of the numbers.
        cover: the source of the colours of cells without a number.
        scales: the mapper, the renderer and the colour bar of each scale.
    """

    plot: Any
    image: ColumnDataSource
    cover: ColumnDataSource
    scales: dict[str, tuple[ColorMapper, Any, ColorBar]]

    def clear(self) -> None:
        """Remove the picture."""
        self.image.data = {**EMPTY, "image": [np.full((1, 1), np.nan)]}
        self.cover.data = {**EMPTY, "image": [np.zeros((1, 1), np.uint8)]}

    def draw(self, answer: Answer) -> None:
        """Show the picture of an answer."""
        image = answer.image
        (left, right), (bottom, top) = image.spans
        box = {"x": [left], "y": [bottom], "dw": [right - left], "dh": [top - bottom]}
        for name, (mapper, renderer, bar) in self.scales.items():
            renderer.visible = bar.visible = name == image.scale
            if name == image.scale:
                mapper.update(low=image.limits[0], high=image.limits[1])
        self.image.data = {"image": [image.values], **box}
        self.cover.data = {"image": [image.covers], **box}

    def show_window(self, view: View) -> None:
        """Show the window of a view, with its coordinates as labels."""
        for name, axis, range_ in (
            (view.across, self.plot.xaxis[0], self.plot.x_range),
            (view.up, self.plot.yaxis[0], self.plot.y_range),
        ):
            axis.axis_label = PlainText(text=name)
            axis.formatter = (
                CustomJSTickFormatter(code=POSITION_TICKS)
                if is_logarithmic(name)
                else BasicTickFormatter()
            )
            low, high = (position(name, value) for value in view.spans[name])
            range_.update(start=low, end=high, reset_start=low, reset_end=high)

    def centre_of_cell(self, x: float, y: float) -> list[float]:
        """Return the centre of the cell at a position on the map."""
        source = self.image.data
        height, width = source["image"][0].shape
        centre = []
        for place, low, size, cells in (
            (x, source["x"][0], source["dw"][0], width),
            (y, source["y"][0], source["dh"][0], height),
        ):
            cell = min(cells - 1, max(0, int((place - low) / size * cells)))
            centre.append(low + (cell + 0.5) * size / cells)
        return centre


def empty_map() -> MapModels:
    """Return a map without a picture."""
    plot = figure(
        name="map",
        tools=TOOLS,
        active_scroll="wheel_zoom",
        sizing_mode="stretch_width",
        height=640,
        min_width=360,
        # Labels of any length fit in, so the size of the map does not depend on its window.
        min_border_left=76,
        min_border_right=40,
        min_border_bottom=118,
        x_range=Range1d(0, 1, min_interval=_SMALLEST_WINDOW, max_interval=_LARGEST_WINDOW),
        y_range=Range1d(0, 1, min_interval=_SMALLEST_WINDOW, max_interval=_LARGEST_WINDOW),
        background_fill_color="#ffffff",
        output_backend="canvas",
    )
    plot.grid.visible = False
    columns: dict[str, Any] = {"image": [], "x": [], "y": [], "dw": [], "dh": []}
    image = ColumnDataSource(dict(columns), name="image")
    cover = ColumnDataSource(dict(columns), name="cover")
    fields = {name: name for name in columns}
    scales: dict[str, tuple[ColorMapper, Any, ColorBar]] = {}
    for name, mapper in mappers(RATIOS).items():
        if name == "linear":
            continue
        renderer = plot.image(**fields, source=image, color_mapper=mapper, visible=name == "log")
        bar = ColorBar(color_mapper=mapper, visible=name == "log")
        plot.add_layout(bar, "below")
        scales[name] = mapper, renderer, bar
    palette = [colour for _, colour in COVERS]
    codes = LinearColorMapper(palette=palette, low=-0.5, high=len(COVERS) - 0.5)
    plot.image(**fields, source=cover, color_mapper=codes)
    models = {"plot": plot, "image": image, "cover": cover}
    plot.js_on_event(
        "mousemove", CustomJS(args=models, code="Explorer.hover(plot, image, cover, cb_obj)")
    )
    plot.js_on_event("mouseleave", CustomJS(code="Tooltip.hide()"))
    drawn = MapModels(plot, image, cover, scales)
    drawn.clear()
    return drawn


def controls(view: View) -> dict[str, Any]:
    """Return the controls by name, in the order of the page, set to the values of a view."""
    models: list[Any] = [
        Select(title="loss", name="loss", options=loss_options(view), value="0"),
        Select(
            title="measure",
            name="measure",
            options=list(MEASURES.items()),
            value=next(iter(LEVELS)),
        ),
        RadioButtonGroup(
            name="method", labels=["by theory", "simulate"], active=METHODS.index(view.method)
        ),
        TextInput(title="horizon (epochs)", name="horizon", value=str(view.horizon)),
    ]
    if isinstance(view.experiment, SingleNeuron):
        known = list(ACTIVATIONS)
        chosen = view.experiment.activation
        models.insert(0, Select(title="activation", name="activation", options=known, value=chosen))
    sides = list(view.continuous_names)
    for name, title, value in (("across", "horizontal", view.across), ("up", "vertical", view.up)):
        models.append(Select(title=title, name=name, options=sides, value=value))
    for name, fixed in view.fixed.items():
        written = f"{fixed:.10g}" if isinstance(fixed, float) else str(fixed)
        models.append(TextInput(title=name, name=f"value-{name}", value=written))
        if name in _SLIDER_ENDS and name in sides:
            models.append(_slider(name, position(name, float(fixed))))
    for kind, words in (("toml", "spec"), ("png", "figure, PNG"), ("pdf", "figure, PDF")):
        models.append(Button(label=f"save {words}", name=f"save-{kind}"))
    return {model.name: model for model in models}


def _slider(name: str, value: float) -> Slider:
    low, high = _SLIDER_ENDS[name]
    return Slider(
        name=f"slider-{name}",
        start=min(low, value),
        end=max(high, value),
        step=0.01,
        value=value,
        show_value=False,
        title=None,
    )


def loss_options(view: View) -> list[tuple[str, str]]:
    """Return the options of the control of the loss: values and labels."""
    names = view.loss_names
    options = [(str(number), name) for number, name in enumerate(names)]
    return [*options, ("ratio", f"ratio {names[0]} / {names[1]}")] if len(names) > 1 else options


def text(name: str, **settings: Any) -> Div:
    """Return a text that the browser never reads as markup."""
    return Div(name=name, render_as_text=True, disable_math=True, **settings)


def markup(name: str) -> Div:
    """Return an element for markup in which this package has escaped every text."""
    return Div(name=name, disable_math=True, stylesheets=[_MARKUP_STYLE])


@dataclass(frozen=True)
class CurveModels:
    """The plots of the curves of one point.

    Attributes:
        plots: the plot of each quantity.
        sources: the data of the lines, one source for each loss.
    """

    plots: dict[str, Any]
    sources: list[ColumnDataSource]

    def draw(self, detail: PointDetail) -> None:
        """Show the curves of a point; hide the plots if it has none."""
        names = [name if name in detail.curves else None for name in detail.rows]
        names += [None] * MOST_CURVES
        empty: dict[str, Any] = {name: [] for name in ("epoch", *self.plots)}
        for number, (source, name) in enumerate(zip(self.sources, names, strict=False)):
            source.data = empty if name is None else dict(detail.curves[name].columns)
            for plot in self.plots.values():
                item = plot.legend[0].items[number]
                item.update(label={"value": name or ""}, visible=name is not None)
        for quantity, plot in self.plots.items():
            plot.visible = bool(detail.curves)
            if detail.curves:
                _set_range(plot.x_range, *detail.extent("epoch"))
                _set_range(plot.y_range, *detail.extent(quantity))


def empty_curves() -> CurveModels:
    """Return the plots of curves, hidden."""
    plots = curve_plots([""] * MOST_CURVES)
    for plot in plots.values():
        # Bokeh warns about ranges that follow the data of an empty source.
        plot.update(visible=False, x_range=Range1d(0, 1), y_range=Range1d(0, 1))
    first = next(iter(plots.values()))
    return CurveModels(plots, [renderer.data_source for renderer in first.renderers])


def _set_range(range_: Range1d, low: float, high: float) -> None:
    """Show all values from `low` to `high` with a margin, also after a reset."""
    margin = _MARGIN * (high - low) or max(abs(high), 1.0) * _MARGIN
    start, end = low - margin, high + margin
    range_.update(start=start, end=end, reset_start=start, reset_end=end)


def status_text(answer: Answer) -> str:
    """Return how a picture was computed."""
    view = answer.request.view
    losses = [view.losses[number] for number in answer.request.losses]
    names = [view.loss_names[number] for number in answer.request.losses]
    without = [n for n, loss in zip(names, losses, strict=True) if not view.has_theory(loss)]
    method = f"simulated up to {view.horizon:,} epochs"
    if view.method != SIMULATION:
        method = (
            f"no theory for {' and '.join(without)}: {method}" if without else "by theory, exact"
        )
    side = answer.coarseness
    resolution = "one per pixel" if side == 1 else f"one per {side} x {side} pixels so far"
    return f"{answer.sweep.rows:,} cells, {resolution}; {method}; {answer.seconds:.2f} s"


def legend_html(answer: Answer) -> str:
    """Return a legend of the colours of cells without a number."""
    covers = [COVERS[code] for code in np.unique(answer.image.covers) if code > 0]
    items = "".join(
        f'<li><span style="background:{escape(colour)}"></span>{escape(label)}</li>'
        for label, colour in covers
    )
    return f"<ul>{items}</ul>"


def rows_html(detail: PointDetail) -> str:
    """Return the rows of a point under every loss as a table."""
    rows: Sequence[Mapping[str, Any]] = list(detail.rows.values())
    skipped = {"loss", *detail.point, *(f"{name}_index" for name in detail.point)}
    lines: list[tuple[str, list[Any]]] = [("loss", list(detail.rows))]
    lines += [(name, [value] * len(rows)) for name, value in detail.point.items()]
    lines += [(name, [row[name] for row in rows]) for name in rows[0] if name not in skipped]
    return f"<table>{''.join(_line(head, values) for head, values in lines)}</table>"


def _line(head: str, values: Sequence[Any]) -> str:
    cells = "".join(f"<td>{escape(_value_text(value))}</td>" for value in values)
    return f"<tr><th>{escape(head)}</th>{cells}</tr>"


def _value_text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.10g}"
