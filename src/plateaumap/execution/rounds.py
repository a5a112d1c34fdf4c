"""Advances runs of which nobody knows how long they are: in rounds, the survivors put together.

A block of lanes goes on until its longest run has stopped, so runs of unlike length waste each
other's time. Here every run of a group is followed to the same epoch; those that are still under
way then fill fewer blocks, and go on to a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from plateaumap.course import Stage

PyTree = Any
Records = dict[str, np.ndarray]
Advance = Callable[[np.ndarray, PyTree, int, Stage], tuple[Any, Records]]

FIRST_ROUND = 128
"""Epochs of the first round."""

LONG_ROUND = 1024
"""Epochs from which a round's work outweighs what a round costs."""

_GROWTH, _LATER_GROWTH = 4, 1.25
"""By how much each round goes further than the one before, up to such an epoch and from there."""

_WORTH_PACKING = 7 / 8
"""Share of the lanes in use up to which survivors are put together."""


class _Block(NamedTuple):
    """Some runs: their numbers, of shape (n,), and a pytree of arrays of shape (lanes, ...)."""

    numbers: np.ndarray
    runs: PyTree


def in_rounds(advance: Advance, blank: PyTree, count: int, lanes: int, last: int) -> Records:
    """Return the records of runs 0 … count − 1, arrays of shape (count,).

    Args:
        advance: from the numbers of `lanes` runs, the runs so far, an epoch and a stage to these
            runs at that epoch, with an attribute `under_way`, and their records.
        blank: what stands for a block of runs that has not begun.
        count: how many runs.
        lanes: runs in one block; blocks that are not full repeat their last run.
        last: the largest epoch that can be given to `advance`.
    """
    blocks = [_Block(some, blank) for some in _cut(np.arange(count), lanes)]
    ended: list[_Block] = []
    until, stage = FIRST_ROUND, Stage.FIRST
    while blocks:
        blocks = [
            _Block(some, advance(_padded(some, lanes), runs, until, stage)[0])
            for some, runs in blocks
        ]
        alive = [np.asarray(runs.under_way)[: len(some)] for some, runs in blocks]
        if sum(a.sum() for a in alive) <= _WORTH_PACKING * sum(map(len, alive)):
            ended += _packed(blocks, [~a for a in alive], lanes)
            blocks = _packed(blocks, alive, lanes)
        until = min(int(until * (_GROWTH if until < LONG_ROUND else _LATER_GROWTH)), last)
        stage = Stage.GO_ON
    records: Records = {}
    for some, runs in _packed(ended, [np.ones(len(some), np.bool_) for some, _ in ended], lanes):
        _, made = advance(_padded(some, lanes), runs, 0, Stage.CONCLUDE)
        for name, values in made.items():
            if name not in records:
                records[name] = np.empty(count, values.dtype)
            records[name][some] = np.asarray(values)[: len(some)]
    return records


def _packed(blocks: Sequence[_Block], chosen: Sequence[np.ndarray], lanes: int) -> list[_Block]:
    """Put the chosen runs of some blocks into as few blocks as can hold them."""
    places = [np.flatnonzero(c) for c in chosen]
    numbers = np.concatenate([b.numbers[p] for b, p in zip(blocks, places, strict=True)])
    structure = jax.tree.structure(blocks[0].runs)
    leaves = zip(*(jax.tree.leaves(block.runs) for block in blocks), strict=True)
    whole = [
        np.concatenate([np.asarray(leaf)[p] for leaf, p in zip(same, places, strict=True)])
        for same in leaves
    ]
    parts = zip(*(_cut(leaf, lanes) for leaf in (numbers, *whole)), strict=True)
    return [
        _Block(some, jax.tree.unflatten(structure, [_padded(leaf, lanes) for leaf in runs]))
        for some, *runs in parts
    ]


def _cut(array: np.ndarray, lanes: int) -> list[np.ndarray]:
    return [array[at : at + lanes] for at in range(0, len(array), lanes)]


def _padded(array: np.ndarray, lanes: int) -> np.ndarray:
    """Repeat the last run of a block: one more lane that stops when that one does."""
    return np.concatenate([array, np.repeat(array[-1:], lanes - len(array), axis=0)])
