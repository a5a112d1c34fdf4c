"""A progress bar with rate and time left, on a terminal or in a notebook; nothing elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

_BETWEEN = 0.2
"""Seconds between two pictures of a notebook's bar."""


@contextmanager
def progress_bar(
    title: str, total: int, done: int, show: bool | None
) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` rows are there.

    Args:
        title: what is being done.
        total: rows in all.
        done: rows that are there already; they do not count for the rate.
        show: None to show it only if standard error is a terminal, or in a notebook.

    Yields:
        A function that is told how many more rows are there.
    """
    display = _notebook_display()
    if show is None:
        show = display is not None or sys.stderr.isatty()
    if not show:
        yield lambda rows: None
        return
    if display is not None:
        drawn = _NotebookBar(display, title, total, done)
        try:
            yield drawn.advance
        finally:
            drawn.draw()
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class Rate(TextColumn):
        """Rows per second."""

        def __init__(self) -> None:
            super().__init__("")

        def render(self, task):  # type: ignore[no-untyped-def]
            from rich.text import Text

            return Text(f"{task.speed or 0:,.0f} rows/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=done)
        yield lambda rows: bar.advance(task, rows)


def _notebook_display() -> Callable[..., Any] | None:
    """IPython's `display` where a notebook's kernel runs this, else None; imports nothing."""
    shell = sys.modules.get("IPython")
    current = None if shell is None else shell.get_ipython()
    if current is None or getattr(current, "kernel", None) is None:
        return None
    from IPython.display import display  # type: ignore[import-not-found]

    return display


class _Html:
    """Markup that a notebook shows."""

    def __init__(self, markup: str) -> None:
        self._markup = markup

    def _repr_html_(self) -> str:
        return self._markup


class _NotebookBar:
    """A bar in the output of a cell, drawn anew in its place. It needs no widgets."""

    def __init__(self, display: Callable[..., Any], title: str, total: int, done: int) -> None:
        self._title, self._total, self._done, self._first = title, total, done, done
        self._begin = self._drawn = time.monotonic()
        self._handle = display(_Html(self.markup()), display_id=True)

    def advance(self, rows: int) -> None:
        """Count more rows, and draw if it is some time since it was done last."""
        self._done += rows
        if time.monotonic() - self._drawn >= _BETWEEN:
            self.draw()

    def draw(self) -> None:
        """Draw the bar as it stands."""
        self._drawn = time.monotonic()
        self._handle.update(_Html(self.markup()))

    def markup(self) -> str:
        """The bar with rows, rate, and time gone and left."""
        gone = max(time.monotonic() - self._begin, 1e-9)
        rate = (self._done - self._first) / gone
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
        return (
            f"<div>{escape(self._title)} "
            f'<progress value="{self._done}" max="{self._total}"></progress> '
            f"{self._done:,} of {self._total:,} rows, {rate:,.0f} rows/s, {gone:.0f} s{left}</div>"
        )
