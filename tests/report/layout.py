"""Faults of the layout of a figure, measured on the bounding boxes of the renderer."""

import itertools

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

DPI = 300

SLACK = 1.8
"""The number of dots by which boxes of text may overlap, because they include some white."""


def draw(figure: Figure) -> Figure:
    """Apply the layout of a figure as `savefig` does, and return the figure."""
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> list[Text]:
    """Return every visible text, including legends."""
    seen = [*figure.texts, *(t for legend in figure.legends for t in legend.get_texts())]
    for axes in figure.axes:
        seen += [child for child in axes.get_children() if isinstance(child, Text)]
        seen += [axes.xaxis.label, axes.yaxis.label]
        if axes.get_legend() is not None:
            seen += axes.get_legend().get_texts()
        seen += _tick_labels(axes)
    return [text for text in seen if text.get_visible() and text.get_text().strip()]


def _tick_labels(axes: Axes) -> list[Text]:
    """Return the tick labels within the view; a 3D panel places its labels while drawing."""
    if axes.name == "3d":
        return []
    labels = []
    for axis in (axes.xaxis, axes.yaxis):
        transform = axis.get_transform().transform
        low, high = sorted(transform(axis.get_view_interval()))
        rounding = 1e-6 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            (place,) = transform([tick.get_loc()])
            if low - rounding <= place <= high + rounding:
                labels += [tick.label1, tick.label2]
    return labels


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Return pairs of texts that overlap."""
    boxes = [(text.get_text(), _box(text)) for text in texts(figure)]
    return [
        (one, other) for (one, a), (other, b) in itertools.combinations(boxes, 2) if _overlap(a, b)
    ]


def _box(text: Text) -> Bbox:
    return text.get_window_extent()


def _overlap(a: Bbox, b: Bbox) -> bool:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width > SLACK and height > SLACK


def outside(figure: Figure) -> list[str]:
    """Return the texts that extend beyond the figure."""
    edge = figure.bbox
    return [
        text.get_text()
        for text in texts(figure)
        if (box := _box(text)).x0 < edge.x0 - SLACK
        or box.x1 > edge.x1 + SLACK
        or box.y0 < edge.y0 - SLACK
        or box.y1 > edge.y1 + SLACK
    ]


def legends_over_data(figure: Figure) -> int:
    """Return the number of pairs of a legend and a panel that overlap."""
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    return sum(
        _overlap(legend.get_window_extent(), axes.get_window_extent())
        for legend in legends
        for axes in figure.axes
    )


def problems(figure: Figure) -> list[str]:
    """Return the faults: overlapping texts, texts beyond the edge, and legends over panels."""
    draw(figure)
    faults = [f"{one!r} overlaps {other!r}" for one, other in overlaps(figure)]
    faults += [f"{text!r} is cut off" for text in outside(figure)]
    return faults + ["a legend lies over a panel"] * legends_over_data(figure)


def legend_labels(figure: Figure) -> list[str]:
    """Return the labels of all legends, each on one line."""
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    return [" ".join(t.get_text().split()) for legend in legends for t in legend.get_texts()]
