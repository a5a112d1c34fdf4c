"""Bokeh models that the pages share: colour mappers and plots of curves."""

from __future__ import annotations

from collections.abc import Sequence

from bokeh.models import (
    ColorMapper,
    ColumnDataSource,
    Legend,
    LegendItem,
    LinearColorMapper,
    LogColorMapper,
)
from bokeh.plotting import figure
from matplotlib.colors import to_hex

from plateaumap.report.page.looks import CLEAR
from plateaumap.report.style import INKS, LENGTHS, colours

TOOLS = "pan,wheel_zoom,box_zoom,reset,save"
QUANTITIES = {"loss": "loss", "output": "output", "w": "weight w", "b": "bias b"}
POSITION_TICKS = """
const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : 1;
const digits = Math.min(15, Math.max(3, Math.ceil(2 - Math.log10(step))));
return String(Number((10 ** tick).toPrecision(digits)));
"""
"""JavaScript that labels a tick of an axis of decimal logarithms with the value itself."""
NUMBER_TICKS = "return String(Number(tick.toPrecision(6)))"

_DASHES = ("solid", [8, 4], [2, 3], [10, 3, 2, 3])


def _palette(name: str) -> list[str]:
    return [to_hex(colour) for colour in colours(name)([place / 255 for place in range(256)])]


def mappers(ratios: str) -> dict[str, ColorMapper]:
    """Return the colour mappers of lengths ("log"), plain numbers ("linear") and ratios ("ratio").

    Args:
        ratios: the name of the colour map of ratios.
    """
    return {
        "log": LogColorMapper(palette=_palette(LENGTHS), low=1, high=10, nan_color=CLEAR),
        "linear": LinearColorMapper(palette=_palette(LENGTHS), low=0, high=1, nan_color=CLEAR),
        "ratio": LogColorMapper(palette=_palette(ratios), low=0.1, high=10, nan_color=CLEAR),
    }


def curve_plots(losses: Sequence[str]) -> dict[str, figure]:
    """Return a plot for each quantity with an empty line for each loss.

    The lines of a loss share one source, named `curve-0`, `curve-1` and so on.
    """
    sources = [
        ColumnDataSource({"epoch": [], **{name: [] for name in QUANTITIES}}, name=f"curve-{number}")
        for number in range(len(losses))
    ]
    plots = {}
    for quantity, label in QUANTITIES.items():
        plot = figure(tools=TOOLS, width=560, height=260, y_axis_label=label, x_axis_label="epoch")
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
