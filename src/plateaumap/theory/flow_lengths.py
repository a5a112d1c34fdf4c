"""Plateau lengths along the gradient flow: what epochs tend to as the learning rate vanishes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.numerics.compiler import double_precision
from plateaumap.theory.flow import DYNAMICS, departure, log_flow_time, make_drop
from plateaumap.theory.laws import Case


def flow_epochs(
    w0: ArrayLike,
    b0: ArrayLike,
    lr: ArrayLike,
    x: ArrayLike = 1.0,
    y: ArrayLike = 0.0,
    loss: str = "quadratic",
    drop: float = 0.1,
) -> NDArray[np.float64]:
    """Return plateau lengths by the flow alone, ``T / h`` with ``h = lr (1 + x**2)``.

    Without the terms that tell steps from a flow they are off by some epochs at rates up to 1,
    and by more beyond; `plateau_epochs` is exact.

    Args:
        w0: weights at the start; like all arguments but the last two it broadcasts.
        b0: biases at the start.
        lr: learning rates.
        x: inputs.
        y: target outputs in [0, 1].
        loss: ``"quadratic"`` or ``"cross_entropy"``, of a sigmoid.
        drop: the share of the loss excess that has to go.

    Returns:
        Real numbers of epochs, float64 of the broadcast shape; NaN where a start has nothing to
        lose, and where float64 cannot hold the length.

    Raises:
        PlateaumapError: there is no flow for this loss.
    """
    if loss not in DYNAMICS:
        raise PlateaumapError(f"loss {loss!r} has no flow; use one of {', '.join(DYNAMICS)}")
    columns = np.broadcast_arrays(*(np.asarray(c, np.float64) for c in (w0, b0, lr, x, y)))
    with double_precision(), np.errstate(over="ignore", invalid="ignore"):
        found = np.asarray(_compiled(loss, drop)(*(column.ravel() for column in columns)))
    return np.where(np.isfinite(found) & (found > 0), found, np.nan).reshape(columns[0].shape)


def flow_of(case: Case | None) -> str | None:
    """Return what the closed form of a flow calls a loss, or None where there is none.

    There is one for the sigmoid, whose matching loss is the cross-entropy.
    """
    if case is None or case.activation != "sigmoid":
        return None
    return "quadratic" if case.loss == "quadratic" else "cross_entropy"


@lru_cache(maxsize=16)
def _compiled(loss: str, drop: float) -> Any:
    level = make_drop(drop)

    def one(w0: Any, b0: Any, lr: Any, x: Any, y: Any) -> Any:
        z0 = w0 * x + b0
        time = log_flow_time(z0, departure(z0, y, level, loss=loss), y, loss=loss)
        return jnp.exp(time - jnp.log(lr * (1.0 + jnp.square(x))))

    return jax.jit(jax.vmap(one))
