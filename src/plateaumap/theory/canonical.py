"""The canonical form of a neuron: pre-activation, step and target, without rounding.

In exact arithmetic the plateau length depends on ``z0 = w0 x + b0`` and ``h = lr (1 + x**2)``
alone. The length changes by about N epochs for a unit of z0, so that both numbers are kept in
double-double. A start below its target is mirrored, ``(z, y) -> (-z, 1 - y)``: in canonical form
z decreases.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

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

_UNIT = 2.0**-53
_NO_TARGET = 1e-290
_LARGE_INPUT = 2.0**500


class EpochState(IntEnum):
    """How the length of a neuron was settled, or why the neuron has none.

    The first three have a length: settled in float64, in double-double, or by following every
    epoch.
    """

    FLOAT64 = 0
    DOUBLE_DOUBLE = 1
    SIMULATED = 2
    BEYOND_INT64 = 3
    NO_EXCESS = 4
    NO_THEORY = 5
    UNDECIDED = 6
    INVALID = 7


class CanonicalNeurons(NamedTuple):
    """Neurons in canonical form, float64 of shape (n,): start, step and target.

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

    def take(self, index: NDArray[Any] | slice) -> "CanonicalNeurons":
        """Return some of the neurons."""
        return CanonicalNeurons(*(column[index] for column in self))


class NeuronGroup(NamedTuple):
    """Neurons whose targets are all 0, or all others, and their positions in the grid."""

    zero: bool
    where: NDArray[np.int64]
    neurons: CanonicalNeurons

    def take(self, index: NDArray[np.int64] | slice) -> "NeuronGroup":
        """Return some of the neurons."""
        return NeuronGroup(self.zero, self.where[index], self.neurons.take(index))


class NeuronGrid:
    """Neurons of one broadcast shape, read in slices; shared values are kept once."""

    def __init__(self, **columns: ArrayLike) -> None:
        """Broadcast ``w0, b0, lr, x, y``.

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
        """Return a slice of the neurons in C order, shared values as arrays of no dimension."""
        return {name: c[where] if c.ndim else c for name, c in self._columns.items()}

    def cell(self, index: int) -> dict[str, float]:
        """Return one neuron."""
        return {name: float(c[index] if c.ndim else c) for name, c in self._columns.items()}


class SigmoidScale(NamedTuple):
    """An activation as a sigmoid of a scaled z that learns with a scaled step.

    Attributes:
        z: the factor of z, a power of two.
        h: the factor of the step, a power of two.
        signed: whether the outputs lie between -1 and 1, not between 0 and 1.
    """

    z: float = 1.0
    h: float = 1.0
    signed: bool = False


UNSCALED = SigmoidScale()
"""The scale of the sigmoid itself."""


def start_and_step(
    columns: Mapping[str, Array],
) -> tuple[tuple[Array, Array, Array, Array], NDArray[np.bool_]]:
    """Return ``w0 x + b0`` and ``lr (1 + x**2)`` as pairs, and which of them are valid."""
    w0, b0, lr, x = (columns[name] for name in ("w0", "b0", "lr", "x"))
    z, z_low = _start(w0, b0, x)
    h, h_low = _step(lr, x)
    valid = np.isfinite(z + z_low) & np.isfinite(h + h_low) & (h > 0) & (lr > 0)
    return (z, z_low, h, h_low), valid


def canonical(
    count: int, columns: Mapping[str, Array], scale: SigmoidScale
) -> tuple[NDArray[np.uint8], list[NeuronGroup]]:
    """Return the state of each neuron, and the canonical form of the undecided ones."""
    y = columns["y"]
    with np.errstate(all="ignore"):
        (z, z_low, h, h_low), valid = start_and_step(columns)
        z, z_low, h, h_low = scale.z * z, scale.z * z_low, scale.h * h, scale.h * h_low
        valid &= np.isfinite(z) & np.isfinite(h)
        (y, y_low), (q, q_low) = _shares(y, scale.signed)
        # A target this close to 0 only matters below z = -600, where nothing moves anyway.
        y = np.where((y > 0) & (y < _NO_TARGET), 0.0, y)
        inner = (y > 0) & (q > 0)
        centre = np.log(y) - np.log(q)
        rounding = 8.0 * _UNIT * (np.abs(z) + np.abs(np.log(y)) + np.abs(np.log(q)))
        balanced = inner & (np.abs(z - centre) <= rounding)
    known = valid & (inner | (y == 0) | (q == 0))
    mirrored = np.where(inner, z < centre, q == 0)
    state = np.where(balanced, EpochState.NO_EXCESS, EpochState.UNDECIDED)
    state = np.broadcast_to(np.where(known, state, EpochState.INVALID), count).astype(np.uint8)
    sign = np.where(mirrored, -1.0, 1.0)
    target = (np.where(mirrored, q, y), np.where(mirrored, q_low, y_low))
    complement = (np.where(mirrored, y, q), np.where(mirrored, y_low, q_low))
    parts = (sign * z, sign * z_low, h, h_low, *target, *complement)
    neurons = CanonicalNeurons(*(np.broadcast_to(part, count) for part in parts))
    groups = []
    for zero in (True, False):
        index = np.flatnonzero((state == EpochState.UNDECIDED) & (inner != zero))
        if index.size:
            groups.append(NeuronGroup(zero, index, neurons.take(index)))
    return state, groups


def _shares(y: Array, signed: bool) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return the target as a share of the range of outputs, and its complement."""
    one = np.ones_like(y)
    if not signed:
        return (y, np.zeros_like(y)), two_sum(one, -y)
    (above, above_low), (below, below_low) = two_sum(one, y), two_sum(one, -y)
    return (above / 2, above_low / 2), (below / 2, below_low / 2)


def _start(w0: Array, b0: Array, x: Array) -> tuple[Array, Array]:
    """Return ``w0 x + b0``."""
    product, error = scaled_product(w0, x)
    total, low = two_sum(product, b0)
    return quick_two_sum(total, low + error)


def _step(lr: Array, x: Array) -> tuple[Array, Array]:
    """Return ``lr (1 + x**2)``; both are scaled, so that only the result can overflow."""
    power = np.where(np.abs(x) > _LARGE_INPUT, np.frexp(x)[1], 0)
    x = np.ldexp(x, -power)
    square, error = two_product(x, x)
    factor, low = two_sum(np.ldexp(1.0, -2 * power), square)
    factor, low = quick_two_sum(factor, low + error)
    lr, exponent = np.frexp(lr)
    product, error = two_product(lr, factor)
    h, h_low = quick_two_sum(product, error + lr * low)
    exponent = exponent + 2 * power
    return np.ldexp(h, exponent), np.ldexp(h_low, exponent)
