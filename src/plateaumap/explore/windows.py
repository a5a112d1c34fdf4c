"""From a request to pictures of its window: coarse first where the full resolution takes long."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plateaumap.explore.lengths import NO_THEORY, WindowLengths, lengths, table
from plateaumap.explore.view import Span, View, position, until
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.comparison import ratio_map
from plateaumap.report.maps import plateau_map
from plateaumap.report.page.looks import LOOKS
from plateaumap.report.style import save
from plateaumap.sweep.spec import Sweep
from plateaumap.training.measures import STATUSES

COVERS = (*LOOKS[: 2 + len(STATUSES) - 1], ("no theory for this path: simulate", "#c9b6d9"))
"""Labels and colours of cells without a value, by code.

0 stands for a cell with a value, 1 for a missing value, 2 and above for the statuses but
`escaped`, the last one for a path without a theory.
"""

PATIENCE = 0.6
"""Seconds that a window may take at full resolution before it is drawn coarsely first."""

_COARSENESS = (8, 4, 2, 1)
_FEWEST_POINTS, _MOST_POINTS = 8192, 131_072
_SLICE_SECONDS = (0.1, 0.3)
_MOST_CELLS_IN_PRINT = 400


@dataclass(frozen=True)
class Request:
    """A picture to compute.

    Attributes:
        view: the window.
        width: the number of cells on the horizontal side.
        height: the number of cells on the vertical side.
        losses: positions of losses of the view; two of them for their ratio.
        measure: the column to draw, a key of `plateaumap.training.measures.LEVELS`.
    """

    view: View
    width: int
    height: int
    losses: tuple[int, ...]
    measure: str


@dataclass(frozen=True)
class Image:
    """The cells of a window, of shape (y, x), the lowest row first.

    Attributes:
        values: the number that is coloured, NaN where a cell has none.
        covers: positions in `COVERS`, uint8.
        scale: "log" or "ratio".
        limits: the least and the largest value; of a ratio, equally far from 1.
        spans: the window in positions on the map: horizontal, vertical.
    """

    values: NDArray[np.float64]
    covers: NDArray[np.uint8]
    scale: str
    limits: Span
    spans: tuple[Span, Span]


@dataclass(frozen=True)
class Answer:
    """A picture at one resolution.

    Attributes:
        request: the request that it answers.
        image: the cells.
        coarseness: the side of a cell in pixels; 1 is the full resolution.
        lengths: the lengths of all cells for each requested loss.
        sweep: the spec of these cells, with all requested losses.
        seconds: the time since the request.
    """

    request: Request
    image: Image
    coarseness: int
    lengths: dict[str, WindowLengths]
    sweep: Sweep
    seconds: float

    @property
    def is_final(self) -> bool:
        """Whether the picture has its full resolution."""
        return self.coarseness == 1


class Sweeper:
    """Answers the latest request only.

    `answered` and `failed` are called from its one thread.
    """

    def __init__(
        self, answered: Callable[[Answer], None], failed: Callable[[Exception], None]
    ) -> None:
        """Create an idle sweeper."""
        self._answered, self._failed = answered, failed
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="explore")
        self._latest = 0

    def submit(self, request: Request) -> None:
        """Drop the current request and answer this one instead."""
        self._latest += 1
        self._pool.submit(self._work, request, self._latest, time.perf_counter())

    def close(self, wait: bool = False) -> None:
        """Drop the current request and stop; with `wait`, return once the thread has ended."""
        self._latest += 1
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def _work(self, request: Request, number: int, begin: float) -> None:
        def superseded() -> bool:
            return number != self._latest

        try:
            for answer in answers(request, begin, superseded):
                if superseded():
                    return
                self._answered(answer)
        except Exception as error:
            if not superseded():
                self._failed(error)


def answers(
    request: Request, begin: float, superseded: Callable[[], bool] = lambda: False
) -> Iterator[Answer]:
    """Yield pictures of growing resolution, the last one at full resolution.

    Args:
        request: the picture to compute.
        begin: the time of the request, by `time.perf_counter`.
        superseded: returns whether to stop; called every few tenths of a second.

    Raises:
        PlateaumapError: the window cannot be swept.
    """
    cells_per_second = 0.0
    for coarseness in _COARSENESS:
        cells = request.width * request.height * len(request.losses)
        if 1 < coarseness < _COARSENESS[0] and cells_per_second * PATIENCE >= cells:
            continue
        start = time.perf_counter()
        answer = _answer(request, coarseness, begin, superseded)
        if answer is None:
            return
        cells_per_second = answer.sweep.rows / (time.perf_counter() - start)
        yield answer


def _answer(
    request: Request, coarseness: int, begin: float, superseded: Callable[[], bool]
) -> Answer | None:
    """Return the picture at one resolution, or None if the request is superseded."""
    view = request.view
    width, height = (max(1, side // coarseness) for side in (request.width, request.height))
    losses = tuple(view.losses[number] for number in request.losses)
    sweep = view.sweep(width, height, losses, until(request.measure))
    lengths_by_loss: dict[str, WindowLengths] = {}
    for name, loss in zip(sweep.loss_names, losses, strict=True):
        one = view.sweep(width, height, (loss,), until(request.measure))
        known = _in_slices(one, request.measure, superseded)
        if known is None:
            return None
        lengths_by_loss[name] = known
    spans = [
        (position(name, view.spans[name][0]), position(name, view.spans[name][1]))
        for name in (view.across, view.up)
    ]
    drawn = image(list(lengths_by_loss.values()), (height, width), (spans[0], spans[1]))
    seconds = time.perf_counter() - begin
    return Answer(request, drawn, coarseness, lengths_by_loss, sweep, seconds)


def _in_slices(sweep: Sweep, measure: str, superseded: Callable[[], bool]) -> WindowLengths | None:
    """Return the lengths of a sweep, computed in slices between which it can be stopped."""
    parts, start, step = [], 0, _FEWEST_POINTS
    while start < sweep.size:
        if superseded():
            return None
        begin = time.perf_counter()
        stop = min(start + step, sweep.size)
        parts.append(lengths(sweep, measure, start, stop))
        start, seconds = stop, time.perf_counter() - begin
        if seconds < _SLICE_SECONDS[0]:
            step = min(2 * step, _MOST_POINTS)
        elif seconds > _SLICE_SECONDS[1]:
            step = max(step // 2, _FEWEST_POINTS)
    return WindowLengths.concatenate(parts)


def image(known: list[WindowLengths], shape: tuple[int, int], spans: tuple[Span, Span]) -> Image:
    """Return the image of the lengths under one loss, or of the ratio of two.

    Args:
        known: the lengths of all cells in C order, under one loss or two.
        shape: the number of cells on the vertical and on the horizontal side.
        spans: the window in positions on the map.
    """
    numbers = [np.where(k.epochs.mask, np.nan, k.epochs.data) for k in known]
    covers = [_covers(k) for k in known]
    scale = "log" if len(known) == 1 else "ratio"
    values = numbers[0] if scale == "log" else numbers[0] / numbers[1]
    cover = covers[0] if scale == "log" else np.where(covers[0] > 0, covers[0], covers[1])
    cover = np.where(np.isfinite(values), 0, np.maximum(cover, 1)).astype(np.uint8)
    return Image(values.reshape(shape), cover.reshape(shape), scale, _limits(values, scale), spans)


def _covers(known: WindowLengths) -> NDArray[np.uint8]:
    """Return the position in `COVERS` for each cell, 0 where it has a length."""
    status = known.status.astype(np.int64)
    codes = np.where(status == NO_THEORY, len(COVERS) - 1, status + 1)
    return np.where(np.ma.getmaskarray(known.epochs), codes, 0).astype(np.uint8)


def _limits(values: NDArray[np.float64], scale: str) -> Span:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return (0.1, 10.0) if scale == "ratio" else (1.0, 10.0)
    low, high = float(finite.min()), float(finite.max())
    if scale == "ratio":
        reach = max(high, 1 / low, 1.0001)
        return 1 / reach, reach
    return low, high if high > low else 10 * low


def figure_bytes(request: Request, kind: str) -> bytes:
    """Return a figure of the window for print: all losses side by side, or their ratio.

    Args:
        request: the picture on the page.
        kind: "png", "pdf" or "svg".

    Raises:
        PlateaumapError: the measure is not T10, or theory has no length in the window.
    """
    frame, view = _table_for_print(request), request.view
    if len(request.losses) > 1:
        first, second = view.loss_names[:2]
        figure = ratio_map(frame, x=view.across, y=view.up, losses=(first, second))
    else:
        figure = plateau_map(frame, x=view.across, y=view.up)
    buffer = io.BytesIO()
    save(figure, buffer, f".{kind}")
    return buffer.getvalue()


def _table_for_print(request: Request) -> pd.DataFrame:
    if request.measure != "plateau_epochs":
        raise PlateaumapError(
            f"measure = {request.measure}: figures show T10; choose plateau_epochs, then save"
        )
    scale = min(1.0, _MOST_CELLS_IN_PRINT / max(request.width, request.height))
    width, height = (max(2, round(side * scale)) for side in (request.width, request.height))
    losses = tuple(range(len(request.view.losses)))
    whole = replace(request, width=width, height=height, losses=losses)
    *_, answer = answers(whole, time.perf_counter())
    frame = table(answer.sweep, answer.lengths)
    if not len(frame):
        raise PlateaumapError("theory has no length in this window; simulate it first")
    return frame
