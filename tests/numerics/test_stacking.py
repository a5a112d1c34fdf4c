"""Unstacking inverts stacking, and moving lanes of the stack moves those of the tree."""

import jax
import jax.numpy as jnp
import numpy as np

from plateaumap.numerics.compiler import double_precision
from plateaumap.numerics.stacking import Stacking


def test_a_stack_holds_a_tree_lane_by_lane() -> None:
    lanes = 5
    random = np.random.default_rng(1)
    with double_precision():
        tree = {
            "a": jnp.asarray(random.normal(size=(lanes, 2, 3))),
            "b": (jnp.arange(lanes, dtype=jnp.int32), jnp.asarray(random.normal(size=lanes))),
            "c": jnp.asarray(random.normal(size=lanes) > 0),
            "none": None,
            "empty": jnp.zeros((lanes, 0, 3)),
            "d": jnp.asarray(random.normal(size=(lanes, 4)), jnp.float32),
        }
        stacking = Stacking.of(jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0], tree)))
        stack = stacking.stack(tree)
        assert [(a.shape, a.dtype) for a in stack] == [
            (a.shape, a.dtype) for a in stacking.blank(lanes)
        ]
        assert [len(a) for a in stack] == [7, 1, 1, 4]
        order = np.array([3, 3, 0])
        moved = stacking.unstack(tuple(array[:, order] for array in stack))
        jax.tree.map(np.testing.assert_array_equal, moved, jax.tree.map(lambda x: x[order], tree))
