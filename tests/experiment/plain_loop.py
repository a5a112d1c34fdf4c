"""Training as a plain Python loop that observes every epoch: the reference for any experiment.

It knows nothing of theories, strides, blocks or excesses without cancellation: only the methods
`init`, `loss`, `floor`, `descent` and `optimizer` of an experiment, and the definitions in
docs/statuses.md.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

SHARES_LEFT = {"plateau_epochs": 0.9, "half_epochs": 0.5, "tenth_epochs": 0.1}


def train(
    experiment: Any,
    point: Mapping[str, Any],
    loss_name: Any,
    horizon: int,
    until: str = "tenth",
    tolerance: float = 0.01,
) -> dict[str, Any]:
    """Return status, crossings, epochs run and losses of one run; None for a null."""
    with jax.enable_x64(True):
        return _train(experiment, point, loss_name, horizon, until, tolerance)


def _train(experiment, point, loss_name, horizon, until, tolerance):
    point = {name: jnp.asarray(value) for name, value in point.items()}
    floor = float(experiment.floor(point, loss_name))
    optimizer = optax.with_extra_args_support(experiment.optimizer(point))
    if experiment.descent is None:
        slope = jax.value_and_grad(lambda p, n: experiment.loss(p, point, loss_name))
    else:
        slope = jax.value_and_grad(lambda p, n: experiment.descent(p, point, loss_name, n))

    @jax.jit
    def look(parameters, state, epoch):
        value, gradients = slope(parameters, epoch)
        updates, after = optimizer.update(
            gradients, state, parameters, value=value, grad=gradients, value_fn=None
        )
        ahead = optax.apply_updates(parameters, updates)
        return experiment.loss(parameters, point, loss_name), gradients, ahead, after

    parameters = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), experiment.init(point))
    state = optimizer.init(parameters)
    crossings = dict.fromkeys(SHARES_LEFT)
    first = initial_size = None
    largest = 0.0
    status, epoch = "censored", 0
    while True:
        loss, gradients, ahead, after = look(parameters, state, epoch)
        excess = float(loss) - floor
        size = float(optax.tree.norm(gradients))
        if first is None:
            first, initial_size = excess, size
            if bool(experiment.converged(parameters, point, jnp.asarray(tolerance))) or first <= 0:
                status = "converged_at_start"
                break
        largest = max(largest, size)
        broken = not all(map(np.isfinite, (excess, *_numbers(parameters))))
        if not broken:
            for name, left in SHARES_LEFT.items():
                if crossings[name] is None and excess <= left * first:
                    crossings[name] = epoch
        escaped = crossings["plateau_epochs"] is not None
        last = {"tenth": "tenth_epochs", "plateau": "plateau_epochs"}.get(until)
        same = _equal(parameters, ahead)
        flat = not any(_numbers(gradients)) and _rests(optimizer, gradients, state, parameters)
        if broken:
            status = "escaped" if escaped else "not_finite"
            break
        if last is not None and crossings[last] is not None:
            status = "escaped"
            break
        settled = experiment.descent is not None or (until == "horizon" and escaped)
        if same and not settled and (flat or _equal(state, after)):
            status = "escaped" if escaped else "stationary" if flat else "stalled"
            break
        if epoch == horizon:
            status = "escaped" if escaped else "censored"
            break
        parameters, state, epoch = ahead, after, epoch + 1
    if until == "plateau":
        crossings["half_epochs"] = crossings["tenth_epochs"] = None
    finished = crossings["tenth_epochs"] is not None
    return {
        "status": status,
        **crossings,
        "epochs_run": epoch,
        "initial_loss": first + floor,
        "final_loss": float(loss),
        "loss_floor": floor,
        "acceleration": largest / initial_size if finished and until != "horizon" else None,
        "parameters": parameters,
    }


def _leaves(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def _rests(optimizer: Any, nothing: Any, state: Any, parameters: Any) -> bool:
    """Return whether an optimizer that is given no gradient moves nothing for 200 updates."""
    for _ in range(200):
        updates, state = optimizer.update(
            nothing, state, parameters, value=0.0, grad=nothing, value_fn=None
        )
        if any(_numbers(updates)):
            return False
    return True


def _equal(one: Any, other: Any) -> bool:
    pairs = zip(_leaves(one), _leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _numbers(tree: Any) -> list[float]:
    return [float(number) for leaf in _leaves(tree) for number in leaf.ravel()]
