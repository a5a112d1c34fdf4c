"""Shows a progress bar with rate and remaining time, on a terminal or in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

_SECONDS_BETWEEN_UPDATES = 0.2
"""Seconds between two updates of a notebook's bar."""


@contextmanager
def progress_bar(
    title: str, total: int, done: int, show: bool | None
) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` rows are done.

    Args:
        title: the title of the bar.
        total: the number of rows.
        done: the number of rows that are done at the start; they do not count for the rate.
        show: whether to show the bar; None to show it in a notebook, or if standard error is a
            terminal.

    Yields:
        A function that adds a number of rows to those that are done.
    """
    display = _notebook_display()
    if show is None:
        show = display is not None or sys.stderr.isatty()
    if not show:
        yield lambda rows: None
    elif display is not None:
        notebook_bar = _NotebookBar(display, title, total, done)
        try:
            yield notebook_bar.advance
        finally:
            notebook_bar.draw()
    else:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        rate = "{task.fields[rate]:,.0f} rows/s"
        columns = (BarColumn(), MofNCompleteColumn(), rate)
        times = (TimeElapsedColumn(), TimeRemainingColumn())
        with Progress("{task.description}", *columns, *times, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total, completed=done, rate=0)

            def advance(rows: int) -> None:
                bar.advance(task, rows)
                bar.update(task, rate=bar.tasks[task].speed or 0)

            yield advance


def _notebook_display() -> Callable[..., Any] | None:
    """Return IPython's `display` in a notebook, otherwise None; IPython is not imported."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display  # type: ignore[import-not-found]

    return display


class _Html:
    """Markup that a notebook displays."""

    def __init__(self, markup: str) -> None:
        self._markup = markup

    def _repr_html_(self) -> str:
        return self._markup


class _NotebookBar:
    """A bar in the output of a notebook's cell, which needs no widgets."""

    def __init__(self, display: Callable[..., Any], title: str, total: int, done: int) -> None:
        self._title, self._total, self._done, self._first = title, total, done, done
        self._start = self._drawn = time.monotonic()
        self._handle = display(_Html(self.markup()), display_id=True)

    def advance(self, rows: int) -> None:
        """Add rows to those that are done, and redraw the bar if it is time to."""
        self._done += rows
        if time.monotonic() - self._drawn >= _SECONDS_BETWEEN_UPDATES:
            self.draw()

    def draw(self) -> None:
        """Redraw the bar."""
        self._drawn = time.monotonic()
        self._handle.update(_Html(self.markup()))

    def markup(self) -> str:
        """Return the bar with rows, rate, elapsed and remaining time."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = (self._done - self._first) / elapsed
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate else ""
        return (
            f"<div>{escape(self._title)} "
            f'<progress value="{self._done}" max="{self._total}"></progress> '
            f"{self._done:,} of {self._total:,} rows, {rate:,.0f} rows/s, {elapsed:.0f} s{left}"
            "</div>"
        )
