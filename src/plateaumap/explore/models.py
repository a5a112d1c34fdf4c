"""The Bokeh models of the page, still without content: the map, the controls, the texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

from plateaumap.experiment.coordinates import Choice
from plateaumap.explore.picture import COVERS
from plateaumap.explore.view import METHODS, Span, View, is_logarithmic, position
from plateaumap.report.page.parts import POSITION_TICKS, TOOLS, curve_plots, mappers
from plateaumap.report.style import RATIOS
from plateaumap.training.measures import LEVELS

MEASURES = {
    "plateau_epochs": "T10, plateau (epochs)",
    "half_epochs": "T50 (epochs)",
    "tenth_epochs": "T90 (epochs)",
}
MOST_CURVES = 4
NOTHING: dict[str, Any] = {"x": [0.0], "y": [0.0], "dw": [1.0], "dh": [1.0]}
"""Where an image without content lies."""

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


@dataclass(frozen=True)
class Map:
    """The map and what it is filled from.

    Attributes:
        plot: the figure, whose first tag tells scripts what is drawn.
        image: the source of its values.
        cover: the source of what lies over cells without a value.
        scales: for each scale its mapper, renderer and colour bar.
    """

    plot: Any
    image: ColumnDataSource
    cover: ColumnDataSource
    scales: dict[str, tuple[ColorMapper, Any, ColorBar]]


def empty_map() -> Map:
    """A map without a window."""
    plot = figure(
        name="map",
        tools=TOOLS,
        active_scroll="wheel_zoom",
        sizing_mode="stretch_width",
        height=640,
        min_width=360,
        # Labels of any length fit in: the map keeps its size whatever window it shows.
        min_border_left=76,
        min_border_right=40,
        min_border_bottom=118,
        x_range=_range(),
        y_range=_range(),
        background_fill_color="#ffffff",
        output_backend="canvas",
    )
    plot.grid.visible = False
    nothing = np.full((1, 1), np.nan)
    image = ColumnDataSource({"image": [nothing], **NOTHING}, name="image")
    cover = ColumnDataSource({"image": [np.zeros((1, 1), np.uint8)], **NOTHING}, name="cover")
    place = {"image": "image", "x": "x", "y": "y", "dw": "dw", "dh": "dh"}
    scales: dict[str, tuple[ColorMapper, Any, ColorBar]] = {}
    for name, mapper in mappers(RATIOS).items():
        if name == "linear":
            continue
        renderer = plot.image(**place, source=image, color_mapper=mapper, visible=name == "log")
        bar = ColorBar(color_mapper=mapper, visible=name == "log")
        plot.add_layout(bar, "below")
        scales[name] = mapper, renderer, bar
    codes = LinearColorMapper(
        palette=[colour for _, colour in COVERS], low=-0.5, high=len(COVERS) - 0.5
    )
    plot.image(**place, source=cover, color_mapper=codes)
    told = {"plot": plot, "image": image, "cover": cover}
    plot.js_on_event(
        "mousemove", CustomJS(args=told, code="Explorer.hover(plot, image, cover, cb_obj)")
    )
    plot.js_on_event("mouseleave", CustomJS(code="Tooltip.hide()"))
    return Map(plot, image, cover, scales)


def _range() -> Range1d:
    return Range1d(0, 1, min_interval=_SMALLEST_WINDOW, max_interval=_LARGEST_WINDOW)


def aim(plot: Any, view: View) -> None:
    """Label the sides of a map and show a view's window on it."""
    for name, axis, reach in (
        (view.across, plot.xaxis[0], plot.x_range),
        (view.up, plot.yaxis[0], plot.y_range),
    ):
        axis.axis_label = PlainText(text=name)
        axis.formatter = (
            CustomJSTickFormatter(code=POSITION_TICKS)
            if is_logarithmic(name)
            else BasicTickFormatter()
        )
        low, high = (position(name, value) for value in view.spans[name])
        reach.update(start=low, end=high, reset_start=low, reset_end=high)


@dataclass(frozen=True)
class Controls:
    """What a reader can choose.

    Attributes:
        activation: of a single neuron; None for another experiment.
        loss: which losses are drawn, by place, or "ratio".
        measure: which length.
        method: theory or simulation.
        horizon: epochs after which simulated runs are given up.
        across: the coordinate to the right.
        up: the coordinate upward.
        values: for each coordinate its value at rest.
        sliders: for some of them a slider too.
        save: buttons by what they save.
    """

    activation: Select | None
    loss: Select
    measure: Select
    method: RadioButtonGroup
    horizon: TextInput
    across: Select
    up: Select
    values: dict[str, TextInput]
    sliders: dict[str, Slider]
    save: dict[str, Button]

    @property
    def all(self) -> list[Any]:
        """Every model, in the order of the page."""
        rest = [
            model
            for name, text in self.values.items()
            for model in (text, self.sliders.get(name))
            if model is not None
        ]
        first = [self.activation] if self.activation is not None else []
        return [
            *first,
            self.loss,
            self.measure,
            self.method,
            self.horizon,
            self.across,
            self.up,
            *rest,
            *self.save.values(),
        ]


def controls(view: View, activations: Sequence[str]) -> Controls:
    """The controls, set as a view is."""
    sides = list(view.sides)
    values = {
        name: TextInput(title=name, value=_written(view.rest[name]), name=f"value-{name}")
        for name in view.names
    }
    sliders = {name: _slider(name, span, view) for name, span in _slider_spans(view).items()}
    return Controls(
        activation=Select(
            title="activation",
            name="activation",
            options=list(activations),
            value=view.experiment.activation,
        )
        if activations
        else None,
        loss=Select(title="loss", name="loss", options=loss_options(view), value="0"),
        measure=Select(
            title="measure",
            name="measure",
            options=list(MEASURES.items()),
            value=next(iter(LEVELS)),
        ),
        method=RadioButtonGroup(
            labels=["by theory", "simulate"], active=METHODS.index(view.method), name="method"
        ),
        horizon=TextInput(title="horizon (epochs)", value=str(view.horizon), name="horizon"),
        across=Select(title="to the right", options=sides, value=view.across, name="across"),
        up=Select(title="upward", options=sides, value=view.up, name="up"),
        values=values,
        sliders=sliders,
        save={
            kind: Button(label=f"save {words}", name=f"save-{kind}")
            for kind, words in (("toml", "spec"), ("png", "figure, PNG"), ("pdf", "figure, PDF"))
        },
    )


def _written(value: Choice) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def loss_options(view: View) -> list[tuple[str, str]]:
    """What the loss's control offers: value and words."""
    names = view.loss_names
    options = [(str(place), name) for place, name in enumerate(names)]
    return [*options, ("ratio", f"ratio {names[0]} / {names[1]}")] if len(names) > 1 else options


def _slider_spans(view: View) -> dict[str, Span]:
    usual = {"lr": (-3.0, 1.0), "x": (-4.0, 4.0), "y": (0.0, 1.0)}
    return {name: usual[name] for name in view.sides if name in usual}


def _slider(name: str, span: Span, view: View) -> Slider:
    at = position(name, float(view.rest[name]))
    return Slider(
        start=min(span[0], at),
        end=max(span[1], at),
        step=0.01,
        value=at,
        show_value=False,
        title=None,
        name=f"slider-{name}",
    )


def span(reach: Range1d, low: float, high: float) -> None:
    """Show all values from `low` to `high`, with a margin, and come back to them on a reset."""
    margin = _MARGIN * (high - low) or max(abs(high), 1.0) * _MARGIN
    ends = low - margin, high + margin
    reach.update(start=ends[0], end=ends[1], reset_start=ends[0], reset_end=ends[1])


def text(name: str, **settings: Any) -> Div:
    """A text, never markup."""
    return Div(name=name, render_as_text=True, disable_math=True, **settings)


def markup(name: str) -> Div:
    """Markup that this package made, every text in it escaped."""
    return Div(name=name, disable_math=True, stylesheets=[_MARKUP_STYLE])


def curves() -> tuple[list[Any], list[ColumnDataSource], list[Any]]:
    """The plots of curves, the sources of their lines, and the entries of their legends."""
    plots = list(curve_plots([""] * MOST_CURVES).values())
    for plot in plots:
        # Bokeh complains of ranges that follow data as long as nothing is shown.
        plot.update(visible=False, x_range=Range1d(0, 1), y_range=Range1d(0, 1))
    sources = [renderer.data_source for renderer in plots[0].renderers]
    return plots, sources, [plot.legend[0].items for plot in plots]
