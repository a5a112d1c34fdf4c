"""Advances runs of which nobody knows how long they are: in rounds, the survivors put together.

A block of lanes goes on until its longest run has stopped, so runs of unlike length waste each
other's time. Here a block is followed to an epoch only. Its runs that are still under way wait
for those of other blocks that have come as far, and those of them that have about as much before
them make a block that goes on to a later epoch.

No round waits for all blocks of the round before. Runs that have come furthest go first, so that
few are under way at any time, however many there are.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Records = dict[str, np.ndarray]
Runs = tuple[Any, ...]
Advance = Callable[[np.ndarray, Runs, bool, int], tuple[Runs, Any, Any, Records]]

FIRST_ROUND = 256
"""Epochs of the first round."""

COST = 16384
"""What a round costs, in epochs, times what makes rounds of that length best.

With rounds longer by a share s, finished lanes idle for about a share s/2 of all epochs; with
rounds of n epochs, what a round itself costs is a share c/n. Their sum is least where n grows as
the square root of the epochs made so far. From 8,192 to 32,768 it makes no difference.
"""

POOL_BYTES = 16_000_000
"""Memory of the runs that wait in one round, among which those of like length are found."""

_WORTH_PACKING = 7 / 8
"""Share of a block's lanes in use up to which its survivors are put elsewhere."""

_ENDED = math.inf
"""The round of runs that are no longer under way."""


class _Block(NamedTuple):
    """Some runs: their numbers, of shape (n,), and arrays of shape (…, lanes) that hold them."""

    numbers: np.ndarray
    runs: Runs


class _Advanced(NamedTuple):
    """A block one round later.

    Attributes:
        block: its runs.
        under_way: which of them are, of shape (n,).
        left: what each has still before it, of shape (n,): the more, the longer it will take.
        records: arrays of shape (n,), of any content as long as a run is under way.
    """

    block: _Block
    under_way: np.ndarray
    left: np.ndarray
    records: Records


class _Pool:
    """Runs that have come to the same round, and wait to be put into blocks."""

    def __init__(self, like: Runs, lanes: int, blocks: int) -> None:
        room = lanes * blocks
        self._lanes = lanes
        self._runs = [np.empty((*array.shape[:-1], room), array.dtype) for array in like]
        self._numbers = np.empty(room, np.int64)
        self._left = np.empty(room)
        self._filled = 0
        self._waiting = np.empty(0, np.int64)

    @property
    def room(self) -> int:
        """How many runs can be added."""
        return len(self._numbers) - self._filled

    @property
    def waiting(self) -> int:
        """How many runs are in here."""
        return len(self._waiting)

    def add(self, advanced: _Advanced, places: np.ndarray) -> None:
        """Copy the runs at some places of a block."""
        here = slice(self._filled, self._filled + len(places))
        self._numbers[here] = advanced.block.numbers[places]
        self._left[here] = advanced.left[places]
        for source, target in zip(advanced.block.runs, self._runs, strict=True):
            np.take(source, places, -1, target[..., here], mode="clip")
        self._filled += len(places)
        self._waiting = np.concatenate([self._waiting, np.arange(here.start, here.stop)])

    def drain(self, whole: bool) -> list[_Block]:
        """Take out blocks of runs that have about as much before them, those with least first.

        Args:
            whole: to leave in here what does not fill a block, those with least before them.
        """
        ordered = self._waiting[np.argsort(-self._left[self._waiting], kind="stable")]
        end = len(ordered) // self._lanes * self._lanes if whole else len(ordered)
        self._waiting = ordered[end:]
        cuts = [ordered[at : min(at + self._lanes, end)] for at in range(0, end, self._lanes)]
        return [self._block(places) for places in reversed(cuts)]

    def _block(self, places: np.ndarray) -> _Block:
        padded = filled_up(places, self._lanes)
        runs = tuple(np.take(array, padded, -1, mode="clip") for array in self._runs)
        return _Block(self._numbers[places], runs)


def in_rounds(
    advance: Advance, blank: Runs, count: int, last: int, pool: Executor, at_once: int
) -> Future[Records]:
    """Begin to make runs 0 … count − 1, and return the future of their records.

    Args:
        advance: from the numbers of a block's runs, the runs so far, whether they have yet to
            begin, and an epoch to these runs at that epoch, whether each is still under way, what
            each has still before it (the more, the longer it will take) and, if none is under way
            any more, their records.
        blank: what stands for a block of runs that has not begun, arrays of shape (…, lanes);
            blocks that are not full repeat their last run.
        count: how many runs.
        last: the largest epoch that can be given to `advance`.
        pool: threads that do the work.
        at_once: how many blocks are worked on at the same time.

    Returns:
        A future of arrays of shape (count,).
    """
    rounds = _Rounds(advance, blank, count, last)
    return _Driver(rounds, pool, at_once).begin()


class _Rounds:
    """Which block is to be advanced next; not to be used by two threads at once.

    `advance` alone may be called by several.
    """

    def __init__(self, advance: Advance, blank: Runs, count: int, last: int) -> None:
        self._advance, self._blank, self._last = advance, blank, last
        self._lanes = blank[0].shape[-1]
        self._count, self._begun = count, 0
        self._ready: defaultdict[float, list[_Block]] = defaultdict(list)
        self._pools: dict[float, _Pool] = {}
        self._pooled = max(1, POOL_BYTES // sum(array.nbytes for array in blank))
        self._working: Counter[float] = Counter()
        self.records: Records = {}

    def take(self) -> tuple[float, _Block] | None:
        """Return a round and a block to be advanced in it; None if others must end first."""
        taken = self._furthest() or self._fresh() or self._drained()
        if taken is not None:
            self._working[taken[0]] += 1
        return taken

    def advance(self, number: float, block: _Block) -> _Advanced:
        """Return a block one round later."""
        until = 0 if number == _ENDED else _last_epoch(int(number), FIRST_ROUND, COST)
        known, numbers = len(block.numbers), filled_up(block.numbers, self._lanes)
        runs, under_way, left, records = self._advance(
            numbers, block.runs, number == 0, min(until, self._last)
        )
        return _Advanced(
            _Block(block.numbers, tuple(np.asarray(array) for array in runs)),
            np.asarray(under_way)[:known],
            np.asarray(left)[:known],
            {name: np.asarray(values)[:known] for name, values in records.items()},
        )

    def put(self, number: float, advanced: _Advanced) -> None:
        """Take note of a block that has been advanced."""
        self._working[number] -= 1
        if not advanced.under_way.any():
            self._keep(advanced.block.numbers, advanced.records)
        elif number and advanced.under_way.sum() > _WORTH_PACKING * self._lanes:
            self._ready[number + 1].append(advanced.block)
        else:
            self._add(number + 1, advanced, np.flatnonzero(advanced.under_way))
            self._add(_ENDED, advanced, np.flatnonzero(~advanced.under_way))

    def _furthest(self) -> tuple[float, _Block] | None:
        """Return a block of the latest round; those that have ended come last."""
        rounds = [number for number, blocks in self._ready.items() if blocks]
        if not rounds:
            return None
        number = max(rounds, key=lambda number: (number != _ENDED, number))
        return number, self._ready[number].pop()

    def _fresh(self) -> tuple[float, _Block] | None:
        """Return a block that has not begun."""
        first = self._begun
        if first == self._count:
            return None
        self._begun = min(first + self._lanes, self._count)
        return 0, _Block(np.arange(first, self._begun), self._blank)

    def _drained(self) -> tuple[float, _Block] | None:
        """Return a block of a round to which no run comes any more, or else a full one."""
        first = min(self._pools, default=_ENDED)
        if first in self._pools and not any(n < first for n in self._working.elements()):
            self._drain(first, whole=False)
            return self._furthest()
        for number, pool in sorted(self._pools.items(), reverse=True):
            if pool.waiting >= self._lanes:
                self._drain(number, whole=True)
                return self._furthest()
        return None

    def _drain(self, number: float, whole: bool) -> None:
        pool = self._pools[number]
        self._ready[number] += pool.drain(whole)
        if not pool.waiting:
            del self._pools[number]

    def _add(self, number: float, advanced: _Advanced, places: np.ndarray) -> None:
        while len(places):
            if number not in self._pools:
                blocks = 1 if number == _ENDED else self._pooled
                self._pools[number] = _Pool(advanced.block.runs, self._lanes, blocks)
            pool = self._pools[number]
            some, places = places[: pool.room], places[pool.room :]
            pool.add(advanced, some)
            if not pool.room:
                self._drain(number, whole=False)

    def _keep(self, numbers: np.ndarray, records: Records) -> None:
        for name, values in records.items():
            if name not in self.records:
                self.records[name] = np.empty(self._count, values.dtype)
            self.records[name][numbers] = values


@cache
def _last_epoch(number: int, first: int, cost: int) -> int:
    """Return the epoch to which a round goes."""
    if number == 0:
        return first
    before = _last_epoch(number - 1, first, cost)
    return before + math.isqrt(cost * before)


class _Driver:
    """Has a pool's threads advance blocks until all runs have ended."""

    def __init__(self, rounds: _Rounds, pool: Executor, at_once: int) -> None:
        self._rounds, self._pool, self._at_once = rounds, pool, at_once
        self._guard = threading.Lock()
        self._working = 0
        self._records: Future[Records] = Future()

    def begin(self) -> Future[Records]:
        """Submit the first blocks, and return the future of all records."""
        with self._guard:
            self._submit()
        return self._records

    def _submit(self) -> None:
        while self._working < self._at_once and not self._records.done():
            taken = self._rounds.take()
            if taken is None:
                return
            self._working += 1
            self._pool.submit(self._work, *taken).add_done_callback(self._ended)

    def _work(self, number: float, block: _Block) -> None:
        advanced = self._rounds.advance(number, block)
        with self._guard:
            self._working -= 1
            self._rounds.put(number, advanced)
            self._submit()
            if not self._working and not self._records.done():
                self._records.set_result(self._rounds.records)

    def _ended(self, work: Future[None]) -> None:
        """Pass on that a block has failed, or that the pool has been shut down."""
        error = CancelledError() if work.cancelled() else work.exception()
        if error is not None and not self._records.done():
            self._records.set_exception(error)


def filled_up(array: np.ndarray, lanes: int) -> np.ndarray:
    """Repeat the last run of a block: one more lane that stops when that one does."""
    if len(array) == lanes:
        return array
    return np.concatenate([array, np.repeat(array[-1:], lanes - len(array))])
