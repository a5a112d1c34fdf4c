"""What can go wrong in a picture, measured on the renderer's bounding boxes."""

import itertools

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

DPI = 300

SLACK = 1.8
"""Dots by which boxes of text may touch: they include some white."""


def draw(figure: Figure) -> Figure:
    """Lays the figure out as saving it would."""
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> list[Text]:
    """Every text that is seen, legends included."""
    seen = [*figure.texts, *(t for legend in figure.legends for t in legend.get_texts())]
    for axes in figure.axes:
        seen += [*axes.texts, axes.title, axes._left_title, axes._right_title]
        seen += [axes.xaxis.label, axes.yaxis.label]
        if axes.get_legend() is not None:
            seen += axes.get_legend().get_texts()
        seen += _tick_labels(axes)
    return [text for text in seen if text.get_visible() and text.get_text().strip()]


def _tick_labels(axes: Axes) -> list[Text]:
    labels: list[Text] = []
    if axes.name == "3d":  # placed while they are drawn, and moved away by asking for them
        return labels
    for axis in (axes.xaxis, axes.yaxis):
        ticks = axis._update_ticks()
        labels += [label for t in ticks for label in (t.label1, t.label2) if label.get_visible()]
    return labels


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other."""
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
    """Texts that the picture's edge cuts."""
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
    """How many pairs of a legend and a panel share room."""
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    return sum(
        _overlap(legend.get_window_extent(), axes.get_window_extent())
        for legend in legends
        for axes in figure.axes
    )


def problems(figure: Figure) -> list[str]:
    """What a reader would object to: texts on each other or cut off, a legend over data."""
    draw(figure)
    found = [f"{one!r} lies on {other!r}" for one, other in overlaps(figure)]
    found += [f"{text!r} is cut off" for text in outside(figure)]
    return found + ["a legend lies over a panel"] * legends_over_data(figure)


def legend_labels(figure: Figure) -> list[str]:
    """All labels of all legends, each on one line."""
    legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
    return [" ".join(t.get_text().split()) for legend in legends for t in legend.get_texts()]
