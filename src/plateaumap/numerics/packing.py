"""Pairs of real numbers as complex numbers, so that one compiled loop computes both.

XLA's CPU compiler fuses elementwise operations into loops of one output each, and each loop
recomputes its intermediate results. Two numbers from the same intermediate results cost little
more than one if a loop returns them together, as the parts of a complex number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

PyTree = Any


class Packing(NamedTuple):
    """The arrangement of the leaves of a pytree in fewer arrays.

    Attributes:
        structure: the pytree's structure.
        groups: the indices of the leaves that share an array, one or two.
    """

    structure: Any
    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tree: PyTree) -> Packing:
        """Return the packing of pytrees like `tree`, with real leaves of one type in pairs."""
        leaves, structure = jax.tree.flatten(tree)
        waiting: dict[Any, int] = {}
        groups: list[tuple[int, ...]] = []
        for number, leaf in enumerate(leaves):
            key = (leaf.dtype, leaf.shape)
            if leaf.dtype not in (jnp.float32, jnp.float64):
                groups.append((number,))
            elif key in waiting:
                groups.append((waiting.pop(key), number))
            else:
                waiting[key] = number
        return cls(structure, (*groups, *((number,) for number in waiting.values())))

    def pack(self, tree: PyTree) -> tuple[Array, ...]:
        """Return the arrays that hold `tree`."""
        leaves = jax.tree.leaves(tree)
        return tuple(
            jax.lax.complex(leaves[group[0]], leaves[group[1]])
            if len(group) == 2
            else leaves[group[0]]
            for group in self.groups
        )

    def unpack(self, arrays: tuple[Array, ...]) -> PyTree:
        """Return the pytree that `pack` packed."""
        leaves: dict[int, Array] = {}
        for group, array in zip(self.groups, arrays, strict=True):
            parts = (array.real, array.imag) if len(group) == 2 else (array,)
            leaves |= dict(zip(group, parts, strict=True))
        return jax.tree.unflatten(self.structure, [leaves[n] for n in range(len(leaves))])
