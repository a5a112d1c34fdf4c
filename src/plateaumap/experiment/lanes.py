"""How much memory one run works on, and so how many runs suit a processor's cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax

from plateaumap.numerics.equations import equations

CACHE = 2**17
"""Bytes that the largest array of a block may take, so that several stay in a core's cache."""

FEWEST, MOST = 8, 64
"""Runs in a block of a model with arrays: what keeps vectors full, and what hides a call's cost."""


def lanes_for_cache(function: Callable[..., Any], *arguments: Any) -> int | None:
    """Return how many runs to advance together, a power of two.

    Args:
        function: what a run does in an epoch.
        arguments: arrays, or their shapes and dtypes; what is shared by all runs is closed over.

    Returns:
        None if the function works on scalars only: then the cache is no bound.
    """
    traced = jax.make_jaxpr(function)(*arguments)
    shapes = (v.aval.shape for equation in equations(traced) for v in equation.outvars)
    largest = max(map(math.prod, shapes), default=1)
    if largest == 1:
        return None
    item = max(leaf.dtype.itemsize for leaf in jax.tree.leaves(arguments))
    lanes = 2 ** int(math.log2(max(CACHE // (largest * item), 1)))
    return min(max(lanes, FEWEST), MOST)
