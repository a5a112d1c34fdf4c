"""A pytree of lanes as a few arrays, one for each dtype, so that lanes move in few copies."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

PyTree = Any


class Stacking(NamedTuple):
    """The arrangement of the leaves of a pytree in arrays of shape (rows, lanes).

    Attributes:
        structure: the pytree's structure.
        leaves: the array, the rows and the shape without lanes of each leaf.
        shapes: dtype and rows of each array.
    """

    structure: Any
    leaves: tuple[tuple[int, slice, tuple[int, ...]], ...]
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
            rows[leaf.dtype] += math.prod(leaf.shape)
            array = list(rows).index(leaf.dtype)
            leaves.append((array, slice(first, rows[leaf.dtype]), leaf.shape))
        return cls(structure, tuple(leaves), tuple(rows.items()))

    def blank(self, lanes: int) -> tuple[np.ndarray, ...]:
        """Return arrays of zeros for `lanes` lanes."""
        return tuple(np.zeros((rows, lanes), dtype) for dtype, rows in self.shapes)

    def stack(self, tree: PyTree) -> tuple[Array, ...]:
        """Return the arrays that hold a pytree whose leaves have the shape (lanes, ...)."""
        parts: list[list[Array]] = [[] for _ in self.shapes]
        for (array, _, shape), leaf in zip(self.leaves, jax.tree.leaves(tree), strict=True):
            parts[array].append(leaf.reshape(leaf.shape[0], math.prod(shape)).T)
        return tuple(jnp.concatenate(rows) for rows in parts)

    def unstack(self, arrays: tuple[Array, ...]) -> PyTree:
        """Return the pytree that `stack` stacked."""
        lanes = arrays[0].shape[1]  # the rows of a leaf of size zero do not contain it
        leaves = [
            arrays[array][rows].T.reshape(lanes, *shape) for array, rows, shape in self.leaves
        ]
        return jax.tree.unflatten(self.structure, leaves)
