"""From table to image: the numbers and the covers of the cells of a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plateaumap.explore.lengths import UNANSWERED, Lengths
from plateaumap.explore.view import Span
from plateaumap.report.page.looks import LOOKS
from plateaumap.training.measures import STATUSES

COVERS = (*LOOKS[: 2 + len(STATUSES) - 1], ("no theory for this path: simulate", "#c9b6d9"))
"""Label and colour by code: 0 has a value, 1 lacks this one, then the statuses but `escaped`."""

_NO_VALUE = 1
_FIRST_STATUS = 1


@dataclass(frozen=True)
class Picture:
    """The cells of a window, of shape (y, x), the lowest row first.

    Attributes:
        values: what is coloured, NaN where a cell has no value.
        covers: positions in `COVERS`, uint8.
        scale: "log" or "ratio".
        limits: the least and the largest value, equally far from 1 for a ratio.
        spans: the window on the map: positions to the right, and upward.
    """

    values: NDArray[np.float64]
    covers: NDArray[np.uint8]
    scale: str
    limits: Span
    spans: tuple[Span, Span]

    @property
    def found(self) -> list[int]:
        """The covers that occur, other than 0."""
        return [int(code) for code in np.unique(self.covers) if code > 0]


def picture(found: list[Lengths], shape: tuple[int, int], spans: tuple[Span, Span]) -> Picture:
    """The picture of one loss's lengths, or of the ratio of two losses'.

    Args:
        found: the lengths of all cells in C order, of one loss or of two.
        shape: cells upward and to the right.
        spans: the window on the map.
    """
    first = found[0]
    values = _numbers(first)
    covers = _covers(first)
    scale = "log"
    if len(found) > 1:
        values = values / _numbers(found[1])
        other = _covers(found[1])
        covers = np.where(covers > 0, covers, other)
        scale = "ratio"
    covers = np.where(np.isfinite(values), 0, np.maximum(covers, _NO_VALUE)).astype(np.uint8)
    return Picture(
        values.reshape(shape), covers.reshape(shape), scale, _limits(values, scale), spans
    )


def _numbers(known: Lengths) -> NDArray[np.float64]:
    """Lengths as numbers to be coloured, NaN where there is none."""
    return np.where(np.ma.getmaskarray(known.epochs), np.nan, np.ma.getdata(known.epochs))


def _covers(known: Lengths) -> NDArray[np.uint8]:
    """What covers a cell: the status's place in `COVERS`, 0 where there is a length."""
    status = known.status.astype(np.int64)
    codes = np.where(status == UNANSWERED, len(COVERS) - 1, status + _FIRST_STATUS)
    return np.where(np.ma.getmaskarray(known.epochs), codes, 0).astype(np.uint8)


def _limits(values: NDArray[np.float64], scale: str) -> Span:
    seen = values[np.isfinite(values)]
    if not len(seen):
        return (0.1, 10.0) if scale == "ratio" else (1.0, 10.0)
    low, high = float(seen.min()), float(seen.max())
    if scale == "ratio":
        reach = max(high, 1 / low, 1.0001)
        return 1 / reach, reach
    return low, high if high > low else 10 * low
