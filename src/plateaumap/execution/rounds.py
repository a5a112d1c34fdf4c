"""Simulates runs of unknown lengths: in rounds, after each of which the survivors are packed.

A block of lanes advances until its longest run has stopped, so runs of different lengths waste
each other's time. Here a block advances to a given epoch only. Its runs that are still under way
then wait for the runs of other blocks that have reached the same epoch. Of these, the runs that
have about as much left form a new block, which advances to a later epoch.

A round does not wait for all blocks of the round before. The runs that have come furthest go
first, so that few runs are under way at any time, however many there are in total.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from plateaumap.table.columns import Arrays

Runs = tuple[Any, ...]
Advance = Callable[[np.ndarray, Runs, bool, int], tuple[Runs, Any, Any, Arrays]]

FIRST_ROUND = 256
"""Epochs of the first round."""

COST = 16384
"""Epochs that cost as much as a round does, times the factor that makes that length the best.

If rounds are longer by a share s, finished lanes idle for about a share s/2 of all epochs. The
cost of the rounds themselves is a share c/n in rounds of n epochs. The sum is least if n grows as
the square root of the epochs so far. Values from 8,192 to 32,768 make no difference.
"""

POOL_BYTES = 16_000_000
"""Memory of the runs that wait in one round, in bytes. Runs of similar lengths are found there."""

WORTH_PACKING = 7 / 8
"""The share of a block's lanes in use up to which its survivors move to other blocks."""

_ENDED = math.inf
"""The round of runs that are no longer under way."""


class _Block(NamedTuple):
    """The numbers of some runs, of shape (n,), and arrays of shape (…, lanes) that hold them."""

    numbers: np.ndarray
    runs: Runs


class _Advanced(NamedTuple):
    """A block after one more round.

    Attributes:
        block: the runs.
        under_way: which runs are still under way, of shape (n,).
        left: how much each run has left, of shape (n,): the more, the longer it will take.
        records: arrays of shape (n,), of arbitrary content while a run is under way.
    """

    block: _Block
    under_way: np.ndarray
    left: np.ndarray
    records: Arrays


class _Pool:
    """Runs that have reached the same round and wait to form blocks."""

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
        """Return the number of runs that can be added."""
        return len(self._numbers) - self._filled

    @property
    def waiting(self) -> int:
        """Return the number of runs that wait."""
        return len(self._waiting)

    def add(self, advanced: _Advanced, places: np.ndarray) -> None:
        """Copy the runs at the given places of a block."""
        here = slice(self._filled, self._filled + len(places))
        self._numbers[here] = advanced.block.numbers[places]
        self._left[here] = advanced.left[places]
        for source, target in zip(advanced.block.runs, self._runs, strict=True):
            np.take(source, places, -1, target[..., here], mode="clip")
        self._filled += len(places)
        self._waiting = np.concatenate([self._waiting, np.arange(here.start, here.stop)])

    def drain(self, whole: bool) -> list[_Block]:
        """Remove and return blocks of runs that have about as much left, the shortest first.

        Args:
            whole: whether to keep the runs that do not fill a block, which have the least left.
        """
        ordered = self._waiting[np.argsort(-self._left[self._waiting], kind="stable")]
        end = len(ordered) // self._lanes * self._lanes if whole else len(ordered)
        self._waiting = ordered[end:]
        cuts = [ordered[at : min(at + self._lanes, end)] for at in range(0, end, self._lanes)]
        return [self._block(places) for places in reversed(cuts)]

    def _block(self, places: np.ndarray) -> _Block:
        padded = fill_block(places, self._lanes)
        runs = tuple(np.take(array, padded, -1, mode="clip") for array in self._runs)
        return _Block(self._numbers[places], runs)


def simulate_in_rounds(
    advance: Advance, blank: Runs, count: int, last: int, pool: Executor, at_once: int
) -> Arrays:
    """Simulate runs 0 to count − 1 in rounds, and return their records.

    Args:
        advance: a function that advances one block to an epoch. Its arguments are the numbers of
            the block's runs, the runs as arrays of shape (…, lanes), whether the runs are new, and
            the epoch. It returns the advanced runs, whether each is still under way, how much each
            has left (the more, the longer it will take) and, if no run is under way any more, their
            records.
        blank: arrays of shape (…, lanes) that stand for a block of new runs. A block that is not
            full repeats its last run.
        count: the number of runs.
        last: the largest epoch that `advance` accepts.
        pool: the threads that call `advance`.
        at_once: the number of blocks that are advanced at the same time.

    Returns:
        Arrays of shape (count,).
    """
    rounds = _Rounds(advance, blank, count, last)
    working: set[Future[tuple[float, _Advanced]]] = set()
    try:
        while True:
            while len(working) < at_once and (block := rounds.take()) is not None:
                working.add(pool.submit(rounds.advance, *block))
            if not working:
                return rounds.records
            done, working = wait(working, return_when=FIRST_COMPLETED)
            for future in done:
                rounds.put(*future.result())
    finally:
        for future in working:
            future.cancel()


class _Rounds:
    """Decides which block advances next.

    One thread calls its methods; only `advance` may be called by several threads.
    """

    def __init__(self, advance: Advance, blank: Runs, count: int, last: int) -> None:
        self._advance, self._blank, self._last = advance, blank, last
        self._lanes = blank[0].shape[-1]
        self._count, self._begun = count, 0
        self._ready: defaultdict[float, list[_Block]] = defaultdict(list)
        self._pools: dict[float, _Pool] = {}
        self._pooled = max(1, POOL_BYTES // sum(array.nbytes for array in blank))
        self._working: Counter[float] = Counter()
        self.records: Arrays = {}

    def take(self) -> tuple[float, _Block] | None:
        """Return a round and a block to advance in it, or None if others must end first."""
        selected = self._furthest() or self._fresh() or self._drained()
        if selected is not None:
            self._working[selected[0]] += 1
        return selected

    def advance(self, number: float, block: _Block) -> tuple[float, _Advanced]:
        """Advance a block by one round, and return the round and the block."""
        until = 0 if number == _ENDED else _last_epoch(int(number), FIRST_ROUND, COST)
        count, numbers = len(block.numbers), fill_block(block.numbers, self._lanes)
        runs, under_way, left, records = self._advance(
            numbers, block.runs, number == 0, min(until, self._last)
        )
        return number, _Advanced(
            _Block(block.numbers, tuple(np.asarray(array) for array in runs)),
            np.asarray(under_way)[:count],
            np.asarray(left)[:count],
            {name: np.asarray(values)[:count] for name, values in records.items()},
        )

    def put(self, number: float, advanced: _Advanced) -> None:
        """Record a block that has advanced."""
        self._working[number] -= 1
        if not advanced.under_way.any():
            self._keep(advanced.block.numbers, advanced.records)
        elif number and advanced.under_way.sum() > WORTH_PACKING * self._lanes:
            self._ready[number + 1].append(advanced.block)
        else:
            self._add(number + 1, advanced, np.flatnonzero(advanced.under_way))
            self._add(_ENDED, advanced, np.flatnonzero(~advanced.under_way))

    def _furthest(self) -> tuple[float, _Block] | None:
        """Return a block of the latest round; blocks of ended runs come last."""
        rounds = [number for number, blocks in self._ready.items() if blocks]
        if not rounds:
            return None
        number = max(rounds, key=lambda number: (number != _ENDED, number))
        return number, self._ready[number].pop()

    def _fresh(self) -> tuple[float, _Block] | None:
        """Return a block of new runs."""
        first = self._begun
        if first == self._count:
            return None
        self._begun = min(first + self._lanes, self._count)
        return 0, _Block(np.arange(first, self._begun), self._blank)

    def _drained(self) -> tuple[float, _Block] | None:
        """Return a block of a round that no more runs will reach, or else a full block."""
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
            now, places = places[: pool.room], places[pool.room :]
            pool.add(advanced, now)
            if not pool.room:
                self._drain(number, whole=False)

    def _keep(self, numbers: np.ndarray, records: Arrays) -> None:
        for name, values in records.items():
            if name not in self.records:
                self.records[name] = np.empty(self._count, values.dtype)
            self.records[name][numbers] = values


@cache
def _last_epoch(number: int, first: int, cost: int) -> int:
    """Return the last epoch of a round."""
    if number == 0:
        return first
    before = _last_epoch(number - 1, first, cost)
    return before + math.isqrt(cost * before)


def fill_block(array: np.ndarray, lanes: int) -> np.ndarray:
    """Return an array of one entry per lane, filled up with copies of the last run.

    A copy stops when the last run stops, so that it costs no additional epochs.
    """
    if len(array) == lanes:
        return array
    return np.concatenate([array, np.repeat(array[-1:], lanes - len(array))])
