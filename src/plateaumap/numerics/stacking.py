"""A pytree of lanes as a few arrays, one for each dtype, so that lanes move in few copies."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PyTree = Any


class _Leaf(NamedTuple):
    """The position of a leaf: its array, its first row, and its shape without lanes."""

    array: int
    row: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def rows(self) -> slice:
        return slice(self.row, self.row + self.size)


class Stacking(NamedTuple):
    """The arrangement of the leaves of a pytree in arrays of shape (rows, lanes).

    Attributes:
        structure: the pytree's structure.
        leaves: the position of each leaf.
        shapes: dtype and rows of each array.
    """

    structure: Any
    leaves: tuple[_Leaf, ...]
    shapes: tuple[tuple[Any, int], ...]

    @classmethod
    def of(cls, lane: PyTree) -> Stacking:
        """Return the stacking of pytrees of which `lane` describes one lane.

        Args:
            lane: a pytree of arrays, or of objects with a shape and a dtype.
        """
        described, structure = jax.tree.flatten(lane)
        rows: dict[Any, int] = {}
        leaves = []
        for leaf in described:
            first = rows.setdefault(leaf.dtype, 0)
            leaves.append(_Leaf(list(rows).index(leaf.dtype), first, leaf.shape))
            rows[leaf.dtype] += leaves[-1].size
        return cls(structure, tuple(leaves), tuple(rows.items()))

    def blank(self, lanes: int) -> tuple[np.ndarray, ...]:
        """Return arrays of zeros for `lanes` lanes."""
        return tuple(np.zeros((rows, lanes), dtype) for dtype, rows in self.shapes)

    def stack(self, tree: PyTree) -> tuple[Array, ...]:
        """Return the arrays that hold a pytree whose leaves have the shape (lanes, ...)."""
        parts: list[list[Array]] = [[] for _ in self.shapes]
        for place, leaf in zip(self.leaves, jax.tree.leaves(tree), strict=True):
            parts[place.array].append(leaf.reshape(leaf.shape[0], place.size).T)
        return tuple(jnp.concatenate(rows) for rows in parts)

    def unstack(self, arrays: tuple[Array, ...]) -> PyTree:
        """Return the pytree that `stack` stacked."""
        lanes = arrays[0].shape[1]  # the rows of a leaf of size zero do not contain it
        leaves = [
            arrays[leaf.array][leaf.rows].T.reshape(lanes, *leaf.shape) for leaf in self.leaves
        ]
        return jax.tree.unflatten(self.structure, leaves)
