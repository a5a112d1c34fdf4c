"""Cells of a grid of neurons, brought into canonical form without rounding.

In exact arithmetic a plateau depends on ``z0 = w0 x + b0`` and ``h = lr (1 + x**2)`` alone, and
the length changes by about ``N`` epochs for a unit of z0, so that both are kept in double-double.
A start below its target is mirrored, ``(z, y) -> (-z, 1 - y)``: every cell becomes a descent.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.losses.base import refuse_masked
from plateaumap.numerics.double_double import (
    Array,
    quick_two_sum,
    scaled_product,
    two_product,
    two_sum,
)
from plateaumap.theory.cells import Columns, EpochState, Group

_UNIT = 2.0**-53
_NO_TARGET = 1e-290
_LARGE_INPUT = 2.0**500


class Grid:
    """Neurons of one broadcast shape, read in slices; values shared by all are kept once."""

    def __init__(self, **columns: ArrayLike) -> None:
        """Takes ``w0, b0, lr, x, y``.

        Raises:
          PlateaumapError: they do not broadcast, are not numbers, or are masked.
        """
        refuse_masked(**columns)
        try:
            arrays = {name: np.asarray(c, dtype=np.float64) for name, c in columns.items()}
            self.shape = np.broadcast_shapes(*(a.shape for a in arrays.values()))
        except (TypeError, ValueError) as error:
            raise PlateaumapError(
                f"{', '.join(columns)} must be numbers or arrays of numbers that broadcast: {error}"
            ) from None
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self._columns = {
            name: a.reshape(()) if a.size == 1 else np.broadcast_to(a, self.shape).reshape(-1)
            for name, a in arrays.items()
        }

    def part(self, where: slice) -> dict[str, Array]:
        """Returns a slice of the cells in C order, shared values as arrays of no dimension."""
        return {name: c[where] if c.ndim else c for name, c in self._columns.items()}

    def cell(self, index: int) -> dict[str, float]:
        """Returns one cell."""
        return {name: float(c[index] if c.ndim else c) for name, c in self._columns.items()}


class Stretch(NamedTuple):
    """An activation as a sigmoid of another z, learning with another step.

    Attributes:
      z: how much longer its z is, a power of two.
      h: how much longer its step is, a power of two.
      signed: whether its outputs lie between -1 and 1, not between 0 and 1.
    """

    z: float = 1.0
    h: float = 1.0
    signed: bool = False


PLAIN = Stretch()
"""The sigmoid itself."""


def neurons(
    w0: Array, b0: Array, lr: Array, x: Array
) -> tuple[tuple[Array, Array, Array, Array], NDArray[np.bool_]]:
    """Returns ``w0 x + b0`` and ``lr (1 + x**2)`` as pairs, and which of them are valid."""
    z, z_low = _start(w0, b0, x)
    h, h_low = _step(lr, x)
    valid = np.isfinite(z + z_low) & np.isfinite(h + h_low) & (h > 0) & (lr > 0)
    return (z, z_low, h, h_low), valid


def descents(
    count: int, w0: Array, b0: Array, lr: Array, x: Array, y: Array, stretch: Stretch = PLAIN
) -> tuple[NDArray[np.uint8], list[Group]]:
    """Returns the states of cells that have no descent, and the descents of the others.

    Cells of a descent come with the state ``UNDECIDED``.
    """
    with np.errstate(all="ignore"):
        (z, z_low, h, h_low), valid = neurons(w0, b0, lr, x)
        z, z_low, h, h_low = stretch.z * z, stretch.z * z_low, stretch.h * h, stretch.h * h_low
        valid &= np.isfinite(z) & np.isfinite(h)
        (y, y_low), (rest, rest_low) = _shares(y, stretch)
        # So near to 0 a target counts from z = -600 down alone, where nothing moves anyway.
        y = np.where((y > 0) & (y < _NO_TARGET), 0.0, y)
        inner = (y > 0) & (rest > 0)
        centre = np.log(y) - np.log(rest)
        fuzz = 8.0 * _UNIT * (np.abs(z) + np.abs(np.log(y)) + np.abs(np.log(rest)))
        balanced = inner & (np.abs(z - centre) <= fuzz)
    known = valid & (inner | (y == 0) | (rest == 0))
    mirrored = np.where(inner, z < centre, rest == 0)
    state = np.where(
        known, np.where(balanced, EpochState.NO_EXCESS, EpochState.UNDECIDED), EpochState.INVALID
    )
    state = np.broadcast_to(state, count).astype(np.uint8)
    sign = np.where(mirrored, -1.0, 1.0)
    columns = Columns(
        *(
            np.broadcast_to(column, count)
            for column in (
                sign * z,
                sign * z_low,
                h,
                h_low,
                np.where(mirrored, rest, y),
                np.where(mirrored, rest_low, y_low),
                np.where(mirrored, y, rest),
                np.where(mirrored, y_low, rest_low),
            )
        )
    )
    return state, list(_groups(state, np.broadcast_to(inner, count), columns))


def _groups(state: NDArray[np.uint8], inner: NDArray[np.bool_], columns: Columns) -> list[Group]:
    ready = state == EpochState.UNDECIDED
    groups = []
    for zero in (True, False):
        chosen = ready & (inner != zero)
        index = np.flatnonzero(chosen)
        if index.size == len(state):
            groups.append(Group(zero, index, columns))
        elif index.size:
            groups.append(Group(zero, index, columns.take(index)))
    return groups


def _shares(y: Array, stretch: Stretch) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Returns a target as a share of the range of outputs, and what is left of the range."""
    one = np.ones_like(y)
    if not stretch.signed:
        return (y, np.zeros_like(y)), two_sum(one, -y)
    (above, above_low), (below, below_low) = two_sum(one, y), two_sum(one, -y)
    return (above / 2, above_low / 2), (below / 2, below_low / 2)


def _start(w0: Array, b0: Array, x: Array) -> tuple[Array, Array]:
    """Returns ``w0 x + b0``."""
    product, error = scaled_product(w0, x)
    total, rest = two_sum(product, b0)
    return quick_two_sum(total, rest + error)


def _step(lr: Array, x: Array) -> tuple[Array, Array]:
    """Returns ``lr (1 + x**2)``; both are scaled, so that only the result may overflow."""
    power = np.where(np.abs(x) > _LARGE_INPUT, np.frexp(x)[1], 0)
    x = np.ldexp(x, -power)
    square, error = two_product(x, x)
    factor, rest = two_sum(np.ldexp(1.0, -2 * power), square)
    factor, rest = quick_two_sum(factor, rest + error)
    lr, exponent = np.frexp(lr)
    product, error = two_product(lr, factor)
    h, h_low = quick_two_sum(product, error + lr * rest)
    exponent = exponent + 2 * power
    return np.ldexp(h, exponent), np.ldexp(h_low, exponent)
