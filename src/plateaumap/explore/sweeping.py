"""Sweeps windows in a thread: coarse first if the whole takes long, and gives way to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from plateaumap.explore.lengths import Lengths, lengths
from plateaumap.explore.picture import Picture, picture
from plateaumap.explore.view import View, position, until
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.sweep.spec import Sweep

AT_ONCE = 0.6
"""Seconds that a window may take before it is shown coarsely first."""

_COARSENESS = (8, 4, 2, 1)
_FEWEST, _MOST = 8192, 131_072
_SLICE_SECONDS = (0.1, 0.3)


@dataclass(frozen=True)
class Question:
    """What is to be drawn.

    Attributes:
        view: the window.
        width: cells to the right.
        height: cells upward.
        losses: which of the view's losses; two for their ratio.
        measure: a key of `plateaumap.training.measures.LEVELS`.
    """

    view: View
    width: int
    height: int
    losses: tuple[int, ...]
    measure: str


@dataclass(frozen=True)
class Answer:
    """A window as far as it is known.

    Attributes:
        question: what was asked.
        picture: its image.
        coarseness: pixels along a side of its cells, 1 for full resolution.
        found: for each loss asked for the lengths of all cells.
        sweep: the spec of these cells, of all losses asked for.
        seconds: since the question came.
    """

    question: Question
    picture: Picture
    coarseness: int
    found: dict[str, Lengths]
    sweep: Sweep
    seconds: float

    @property
    def cells(self) -> int:
        """Points that were swept, for all losses."""
        return self.sweep.rows

    @property
    def is_final(self) -> bool:
        """Whether it has the resolution that was asked for."""
        return self.coarseness == 1


class SupersededError(Exception):
    """A newer question has come."""


class Sweeper:
    """Answers the latest question, and no other.

    One thread works; `answered` and `failed` are called from it.
    """

    def __init__(
        self, answered: Callable[[Answer], None], failed: Callable[[Exception], None]
    ) -> None:
        """Start idle."""
        self._answered, self._failed = answered, failed
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="explore")
        self._turn = 0

    def ask(self, question: Question) -> None:
        """Drop what is being swept, and sweep this instead."""
        self._turn += 1
        self._pool.submit(self._work, question, self._turn, time.perf_counter())

    def close(self, wait: bool = False) -> None:
        """Stop; nothing is answered any more. Wait for what is being swept if that is wanted."""
        self._turn += 1
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def _work(self, question: Question, turn: int, asked: float) -> None:
        def require_turn() -> None:
            if turn != self._turn:
                raise SupersededError

        try:
            for answer in answers(question, asked, require_turn):
                require_turn()
                self._answered(answer)
        except SupersededError:
            pass
        except Exception as error:
            if turn == self._turn:
                self._failed(error)


def answers(
    question: Question, asked: float, between: Callable[[], None] = lambda: None
) -> Iterator[Answer]:
    """Answers of growing resolution, the last one full.

    Args:
        question: what is to be drawn.
        asked: when it was asked, by `time.perf_counter`.
        between: is called every few tenths of a second, and may raise.

    Raises:
        PlateaumapError: the window cannot be swept.
    """
    speed = 0.0
    for coarseness in _COARSENESS:
        cells = question.width * question.height * len(question.losses)
        if 1 < coarseness < _COARSENESS[0] and speed * AT_ONCE >= cells:
            continue
        begin = time.perf_counter()
        answer = _answer(question, coarseness, asked, between)
        speed = answer.cells / (time.perf_counter() - begin)
        yield answer


def _answer(
    question: Question, coarseness: int, asked: float, between: Callable[[], None]
) -> Answer:
    view = question.view
    width, height = (max(1, side // coarseness) for side in (question.width, question.height))
    chosen = tuple(view.losses[place] for place in question.losses)
    whole = view.sweep(width, height, chosen, until(question.measure))
    found = {
        name: _swept(view, loss, (width, height), question.measure, between)
        for name, loss in zip(whole.loss_names, chosen, strict=True)
    }
    spans = tuple(
        (position(name, view.spans[name][0]), position(name, view.spans[name][1]))
        for name in (view.across, view.up)
    )
    image = picture(list(found.values()), (height, width), (spans[0], spans[1]))
    return Answer(question, image, coarseness, found, whole, time.perf_counter() - asked)


def _swept(
    view: View, loss: object, shape: tuple[int, int], measure: str, between: Callable[[], None]
) -> Lengths:
    sweep = view.sweep(*shape, (loss,), until(measure))
    found, start, step = Lengths.empty(sweep.size), 0, _FEWEST
    while start < sweep.size:
        between()
        begin = time.perf_counter()
        stop = min(start + step, sweep.size)
        found.put(start, lengths(sweep, measure, start, stop))
        start, seconds = stop, time.perf_counter() - begin
        if seconds < _SLICE_SECONDS[0]:
            step = min(2 * step, _MOST)
        elif seconds > _SLICE_SECONDS[1]:
            step = max(step // 2, _FEWEST)
    return found


def told(error: Exception) -> str:
    """What to write into the page about an error."""
    if isinstance(error, PlateaumapError):
        return str(error)
    return f"{type(error).__name__}: {error}; this is a fault of plateaumap's, please report it"
