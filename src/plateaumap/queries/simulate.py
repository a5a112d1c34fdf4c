"""The whole curve of one neuron, epoch by epoch."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from plateaumap.execution.simulator import FEWEST_LANES
from plateaumap.experiment.evaluation import PRECISIONS
from plateaumap.experiment.problem import bind
from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.formulas import pre_activation
from plateaumap.numerics.compiler import double_precision
from plateaumap.sweep.spec import Sweep
from plateaumap.training.descent import Descent, TrainState
from plateaumap.training.measures import Crossings, Measures

_EPOCHS_PER_CALL = 1024
"""Epochs of one call, so that curves of any length share one compilation."""

_COLUMNS = ("w", "b", "z", "output", "loss", "gradient", "gradient_w", "gradient_b")

LONGEST_CURVE = 50_000_000
"""The largest number of epochs: a longer curve would fill the memory."""


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
        w0: initial weight.
        b0: initial bias.
        lr: learning rate, greater than 0.
        x: input.
        y: target.
        epochs: number of updates.
        experiment: the neuron; by default one with a sigmoid.
        precision: "float64", "float32" (compensated) or "float32_plain".

    Returns:
        `epochs + 1` rows, the first one before any update. The columns are `epoch` (int64) and,
        as float64, `w`, `b`, `z`, `output`, `loss` (raw), `gradient` (dC/dz), `gradient_w` and
        `gradient_b`.

    Raises:
        PlateaumapError: an argument has a value that `Sweep` refuses.

    Example:
        >>> import plateaumap as pm
        >>> curve = pm.simulate(loss="quadratic", w0=2, b0=2, lr=0.15, epochs=200)
        >>> curve.loc[[0, 152, 200], ["epoch", "output", "loss"]].round(3)
             epoch  output   loss
        0        0   0.982  0.482
        152    152   0.931  0.434
        200    200   0.789  0.311
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
        position, calls = begin(lanes), []
        for _ in range(length // _EPOCHS_PER_CALL + 1):
            position, rows = advance(lanes, position)
            calls.append(jax.tree.map(np.asarray, rows))
    columns = {
        name: np.concatenate([rows[name] for rows in calls])[: length + 1] for name in _COLUMNS
    }
    frame = pd.DataFrame(columns, dtype=np.float64)
    frame.insert(0, "epoch", np.arange(length + 1, dtype=np.int64))
    return frame


def _checked(epochs: int) -> int:
    is_number = isinstance(epochs, numbers.Real) and not isinstance(epochs, bool)
    if not is_number or epochs % 1 or not 0 <= epochs <= LONGEST_CURVE:
        raise PlateaumapError(
            f"epochs = {epochs!r}: must be an integer from 0 to {LONGEST_CURVE:,}; `run` measures "
            "longer runs without their curves"
        )
    return int(epochs)


@lru_cache(maxsize=16)
def _compiled(
    experiment: SingleNeuron, loss_name: Any, precision: str, identity: str
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the compiled start of a curve and its continuation by `_EPOCHS_PER_CALL` rows.

    The curve is that of the first lane. The other lanes give it the bits that it has in a sweep.
    `identity` is the digest of experiment and loss, so that a changed model is compiled again.
    """
    del identity
    dtype, apply, _ = PRECISIONS[precision]

    def descent_from(point: dict[str, Array]) -> Descent:
        problem = bind(experiment, point, loss_name, jnp.zeros((), dtype))
        return Descent(problem, Measures(Crossings()), apply)

    def begin(point: dict[str, Array]) -> TrainState:
        problem = descent_from(point).problem
        initial = problem.parameters
        return TrainState(initial, problem.optimizer.init(initial), apply.init(initial))

    def advance(
        point: dict[str, Array], train_state: TrainState
    ) -> tuple[TrainState, dict[str, Array]]:
        descent = descent_from(point)
        problem = descent.problem

        def step(train_state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
            parameters = train_state.parameters
            gradients = problem.slope(parameters)[1]
            loss = experiment.loss(parameters, point, loss_name)
            row = (
                *parameters,
                pre_activation(parameters, point["x"]),
                experiment.output(parameters, point),
                loss,
                problem.gradient_scalar(gradients),
                *gradients,
            )
            _, train_state = descent.update(train_state, loss, gradients)
            return train_state, dict(zip(_COLUMNS, row, strict=True))

        return jax.lax.scan(step, train_state, length=_EPOCHS_PER_CALL)

    def advance_lanes(
        lanes: dict[str, Array], train_state: TrainState
    ) -> tuple[TrainState, dict[str, Array]]:
        train_state, rows = jax.vmap(advance)(lanes, train_state)
        return train_state, jax.tree.map(lambda lane_rows: lane_rows[0], rows)

    return jax.jit(jax.vmap(begin)), jax.jit(advance_lanes)
