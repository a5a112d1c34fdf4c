"""One whole curve of one neuron, epoch by epoch; sweeps keep none."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from plateaumap.execution.local import FEWEST_LANES
from plateaumap.experiment.evaluation import PRECISIONS
from plateaumap.experiment.problem import bind
from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.formulas import pre_activation
from plateaumap.numerics.compiler import double_precision
from plateaumap.sweep.spec import Sweep

STRETCH = 1024
"""Epochs that are computed at a time, so that curves of any length share one compilation."""

LONGEST_CURVE = 50_000_000
"""Epochs beyond which a curve is refused: it would fill the memory."""


def simulate(
    *,
    loss: str | Callable[..., Any],
    w0: float,
    b0: float,
    lr: float,
    x: float = 1.0,
    y: float = 0.0,
    epochs: int,
    experiment: SingleNeuron | None = None,
    precision: str = "float64",
) -> pd.DataFrame:
    """Return the whole curve of one neuron under gradient descent.

    Args:
        loss: a name that the experiment knows, or a function `loss(z, y)`.
        w0: weight at the start.
        b0: bias at the start.
        lr: learning rate, above 0.
        x: input.
        y: target.
        epochs: number of updates.
        experiment: the neuron; by default a sigmoid one.
        precision: "float64", "float32" (compensated) or "float32_plain".

    Returns:
        `epochs + 1` rows, the first one the start, with the columns `epoch` (int64) and, as
        float64, `w`, `b`, `z`, `output`, `loss` (raw), `gradient` (dC/dz), `gradient_w` and
        `gradient_b`.

    Raises:
        PlateaumapError: for arguments that no sweep would take.
    """
    length = _checked(epochs)
    sweep = Sweep(
        name="curve",
        experiment=experiment or SingleNeuron(),
        losses=[loss],
        fixed={"w0": w0, "b0": b0, "lr": lr, "x": x, "y": y},
        horizon=max(1, length),
        precision=precision,
    )
    sweep.require_runnable()
    with double_precision():
        lanes = {
            name: jnp.full(FEWEST_LANES, value, PRECISIONS[precision].dtype)
            for name, value in sweep.grid.constants.items()
        }
        identity = sweep.identify()[0][()]
        begin, advance = _compiled(sweep.experiment, sweep.losses[0], precision, identity)
        carry, stretches = begin(lanes), []
        for _ in range(length // STRETCH + 1):
            carry, rows = advance(lanes, carry)
            stretches.append(jax.tree.map(np.asarray, rows))
    columns = {
        name: np.concatenate([getattr(rows, name) for rows in stretches])[: length + 1]
        for name in _Row._fields
    }
    numbers = {name: column.astype(np.float64) for name, column in columns.items()}
    return pd.DataFrame({"epoch": np.arange(length + 1, dtype=np.int64), **numbers})


def _checked(epochs: int) -> int:
    whole = isinstance(epochs, numbers.Real) and not isinstance(epochs, bool)
    if not whole or epochs % 1 or not 0 <= epochs <= LONGEST_CURVE:
        raise PlateaumapError(
            f"epochs is {epochs!r}; give a whole number from 0 to {LONGEST_CURVE:,}, or let "
            "`run` measure without keeping the curve"
        )
    return int(epochs)


class _Row(NamedTuple):
    w: Array
    b: Array
    z: Array
    output: Array
    loss: Array
    gradient: Array
    gradient_w: Array
    gradient_b: Array


@lru_cache(maxsize=16)
def _compiled(
    experiment: SingleNeuron, loss_name: Any, precision: str, identity: str
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the compiled start of a curve, and its continuation by `STRETCH` rows.

    All lanes but the first only serve to give it the bits that it has in a sweep. The `identity`
    is what experiment and loss compute now, so that one that has changed is compiled again.
    """
    del identity
    dtype, apply, _ = PRECISIONS[precision]

    def begin(point: dict[str, Array]) -> Any:
        problem = bind(experiment, point, loss_name, jnp.zeros((), dtype))
        start = problem.parameters
        return start, problem.optimizer.init(start), apply.init(start)

    def advance(point: dict[str, Array], carry: Any) -> tuple[Any, _Row]:
        problem = bind(experiment, point, loss_name, jnp.zeros((), dtype))

        def step(carry: Any, _: None) -> tuple[Any, _Row]:
            parameters, optimizer, compensation = carry
            gradients = problem.slope(parameters)[1]
            row = _Row(
                w=parameters.w,
                b=parameters.b,
                z=pre_activation(parameters, point["x"]),
                output=experiment.output(parameters, point),
                loss=experiment.loss(parameters, point, loss_name),
                gradient=problem.gradient_scalar(gradients),
                gradient_w=gradients.w,
                gradient_b=gradients.b,
            )
            loss = experiment.loss(parameters, point, loss_name)
            updates, optimizer = problem.optimizer.update(
                gradients, optimizer, parameters, value=loss
            )
            parameters, compensation = apply(parameters, updates, compensation)
            return (parameters, optimizer, compensation), row

        return jax.lax.scan(step, carry, length=STRETCH)

    def advance_lanes(lanes: dict[str, Array], carry: Any) -> tuple[Any, _Row]:
        carry, rows = jax.vmap(advance)(lanes, carry)
        return carry, jax.tree.map(lambda lane_rows: lane_rows[0], rows)

    return jax.jit(jax.vmap(begin)), jax.jit(advance_lanes)
