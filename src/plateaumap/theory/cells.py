"""Cells of a grid of neurons as columns of numbers, and how each cell was settled."""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class EpochState(IntEnum):
    """How a cell was settled, or why it has no length.

    The first three have one: settled in float64, in double-double, or by following every epoch.
    """

    FLOAT64 = 0
    DOUBLE_DOUBLE = 1
    SIMULATED = 2
    BEYOND_INT64 = 3
    NO_EXCESS = 4
    NO_THEORY = 5
    UNDECIDED = 6
    INVALID = 7


class Columns(NamedTuple):
    """Descents in canonical form, float64 of shape (n,): start, step and target.

    ``z + z_low``, ``h + h_low`` and ``y + y_low``, ``q + q_low`` are double-double numbers.
    """

    z: Array
    z_low: Array
    h: Array
    h_low: Array
    y: Array
    y_low: Array
    q: Array
    q_low: Array

    def take(self, index: NDArray[Any] | slice) -> "Columns":
        """Returns some of the descents."""
        return Columns(*(_taken(column, index) for column in self))


class Group(NamedTuple):
    """Descents towards targets of zero, or towards others, and which cells they are."""

    zero: bool
    where: NDArray[np.int64]
    cells: Columns

    def take(self, index: NDArray[np.int64] | slice) -> "Group":
        """Returns some of the descents."""
        return Group(self.zero, self.where[index], self.cells.take(index))


def _taken(column: Array, index: NDArray[Any] | slice) -> Array:
    if is_shared(column) and not isinstance(index, slice):
        return np.broadcast_to(column[:1].reshape(()), len(index))
    return column[index]


def is_shared(column: Array) -> bool:
    """Whether all cells share one number in memory."""
    return column.strides == (0,) and len(column) > 0
