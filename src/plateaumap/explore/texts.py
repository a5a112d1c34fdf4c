"""What the page says in words: everything that may hold a user's name is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from plateaumap.explore.curves import Story
from plateaumap.explore.sweeping import Answer
from plateaumap.explore.view import SIMULATION


def status_words(answer: Answer) -> str:
    """How a picture came to be."""
    view = answer.question.view
    losses = [view.losses[place] for place in answer.question.losses]
    names = [view.loss_names[place] for place in answer.question.losses]
    without = [n for n, loss in zip(names, losses, strict=True) if not view.has_theory(loss)]
    up_to = f"simulated up to {view.horizon:,} epochs"
    if view.method == SIMULATION:
        how = up_to
    elif without:
        how = f"there is no theory for {' and '.join(without)} here: {up_to}"
    else:
        how = "by theory, exact"
    if answer.is_final:
        resolution = "one for each pixel"
    else:
        resolution = f"one for {answer.coarseness} x {answer.coarseness} pixels, going on"
    return f"{answer.cells:,} cells, {resolution}; {how}; {answer.seconds:.2f} s"


def legend_html(covers: Sequence[tuple[str, str]]) -> str:
    """Samples of the colours that are no length."""
    items = "".join(
        f'<li><span style="background:{escape(colour)}"></span>{escape(label)}</li>'
        for label, colour in covers
    )
    return f"<ul>{items}</ul>"


def rows_html(heard: Story) -> str:
    """The row of a cell under each loss, as a table."""
    losses = list(heard.rows)
    lines = [_line("loss", losses)]
    lines += [_line(name, [value] * len(losses)) for name, value in heard.point.items()]
    skipped = {"loss", *heard.point, *(f"{name}_index" for name in heard.point)}
    columns = [name for name in heard.rows[losses[0]] if name not in skipped]
    lines += [_line(name, [heard.rows[loss][name] for loss in losses]) for name in columns]
    return f"<table>{''.join(lines)}</table>"


def _line(head: str, values: Sequence[Any]) -> str:
    cells = "".join(f"<td>{escape(_words(value))}</td>" for value in values)
    return f"<tr><th>{escape(head)}</th>{cells}</tr>"


def _words(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.10g}"
