"""The equations of a traced program and of the programs inside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core


def equations(jaxpr: core.Jaxpr | core.ClosedJaxpr) -> Iterator[Any]:
    """Yield every equation of a program, and of its loops, branches, calls and rules.

    Args:
        jaxpr: the result of `jax.make_jaxpr`, or the `jaxpr` of a traced function.
    """
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from equations(inner)


def _is_jaxpr(value: object) -> bool:
    return isinstance(value, (core.Jaxpr, core.ClosedJaxpr))
