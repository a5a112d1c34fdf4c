"""A progress bar with rate and time left, on a terminal; nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    title: str, total: int, done: int, show: bool | None
) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` rows are there.

    Args:
        title: what is being done.
        total: rows in all.
        done: rows that are there already; they do not count for the rate.
        show: None to show it only if standard error is a terminal.

    Yields:
        A function that is told how many more rows are there.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda rows: None
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
