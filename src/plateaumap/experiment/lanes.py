"""The number of runs of a block whose arrays fit into the cache of a processor core."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax

from plateaumap.numerics.equations import equations

CACHE = 2**17
"""The largest size in bytes of an array of a block, so that several fit into the cache."""

FEWEST, MOST = 8, 64
"""The range of runs in a block: enough to fill vectors, and to hide the cost of a call."""


def lanes_for_cache(function: Callable[..., Any], *arguments: Any) -> int | None:
    """Return the number of runs to advance together, a power of two.

    Args:
        function: the computation of one epoch of a run.
        arguments: arrays of one run, or their shapes and dtypes.

    Returns:
        The number, or None if the function has scalars only, for which the cache is no limit.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    shapes = (v.aval.shape for equation in equations(traced) for v in equation.outvars)
    largest = max(map(math.prod, shapes), default=1)
    if largest == 1:
        return None
    item = max(leaf.dtype.itemsize for leaf in jax.tree.leaves(arguments))
    lanes = 2 ** int(math.log2(max(CACHE // (largest * item), 1)))
    return min(max(lanes, FEWEST), MOST)
