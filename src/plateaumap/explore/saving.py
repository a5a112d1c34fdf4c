"""The view as a file: a spec, or a figure of print quality."""

from __future__ import annotations

import io
import time

import pandas as pd

from plateaumap.explore.lengths import table
from plateaumap.explore.sweeping import Question, answers
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.comparison import ratio_map
from plateaumap.report.maps import plateau_map
from plateaumap.report.style import save

_MOST_CELLS = 400


def view_table(question: Question) -> pd.DataFrame:
    """The table of a window under all of its view's losses, at a resolution for print.

    Raises:
        PlateaumapError: a figure shows another measure than T10, or has no cell to show.
    """
    if question.measure != "plateau_epochs":
        raise PlateaumapError(
            f"figures show T10, not {question.measure}; choose that measure, then save"
        )
    shrunk = min(1.0, _MOST_CELLS / max(question.width, question.height))
    whole = Question(
        question.view,
        max(2, round(question.width * shrunk)),
        max(2, round(question.height * shrunk)),
        tuple(range(len(question.view.losses))),
        question.measure,
    )
    *_, answer = answers(whole, time.perf_counter())
    frame = table(answer.sweep, answer.found)
    if not len(frame):
        raise PlateaumapError("theory has no answer anywhere in this window; simulate it first")
    return frame


def figure_bytes(question: Question, kind: str) -> bytes:
    """A figure of the window, every loss side by side, or their ratio where that is drawn.

    Args:
        question: what is on the page.
        kind: "png", "pdf" or "svg".

    Raises:
        PlateaumapError: see `view_table`.
    """
    frame = view_table(question)
    view = question.view
    if len(question.losses) > 1:
        names = view.loss_names
        drawn = ratio_map(frame, x=view.across, y=view.up, losses=(names[0], names[1]))
    else:
        drawn = plateau_map(frame, x=view.across, y=view.up)
    buffer = io.BytesIO()
    save(drawn, buffer, f".{kind}")
    return buffer.getvalue()
