"""A trial of an experiment: traced once without computing, so that mistakes are told plainly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from plateaumap.compiler import double_precision
from plateaumap.errors import PlateaumapError
from plateaumap.evaluation import Evaluation
from plateaumap.experiment.data import with_arrays

PyTree = Any


def require_sound(evaluation: Evaluation) -> None:
    """Refuse an experiment that cannot be evaluated.

    Raises:
        PlateaumapError: saying which of its methods is at fault, and how.
    """
    with double_precision():
        point, data = evaluation.a_point(), evaluation.data()
        name = type(evaluation.experiment).__name__

        def traced(what: str, method: Callable[..., Any], *arguments: Any) -> Any:
            def call(point: Any, data: Any, *arguments: Any) -> Any:
                experiment = with_arrays(evaluation.experiment, data)
                return method(experiment, {**point, **dict(evaluation.static)}, *arguments)

            try:
                return jax.eval_shape(call, point, data, *arguments)
            except PlateaumapError:
                raise
            except Exception as error:  # whatever a user's method raises
                lines = str(error).strip().splitlines()
                raise PlateaumapError(
                    f"{name}.{what} raised {type(error).__name__}: {lines[0] if lines else ''}"
                ) from error

        parameters = traced("init", lambda e, p: _only_floats(name, e.init(p)))
        parameters = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, evaluation.dtype), parameters
        )
        loss = traced("loss", lambda e, p, w: e.loss(w, p, evaluation.choice), parameters)
        _require_scalar(f"{name}.loss", loss, evaluation.dtype)
        descent = evaluation.experiment.descent
        if descent is not None:
            step = jax.ShapeDtypeStruct((), evaluation.counter)
            slope = traced(
                "descent",
                lambda e, p, w, n: e.descent(w, p, evaluation.choice, n),
                parameters,
                step,
            )
            _require_scalar(f"{name}.descent", slope, evaluation.dtype)
        traced("optimizer", lambda e, p, w: _started(name, e.optimizer(p), w), parameters)


def _only_floats(name: str, parameters: PyTree) -> PyTree:
    leaves = jax.tree.leaves(parameters)
    for leaf in leaves:
        dtype = getattr(leaf, "dtype", None)
        if not isinstance(leaf, float) and (
            dtype is None or not jnp.issubdtype(dtype, jnp.floating)
        ):
            what = type(leaf).__name__ if dtype is None else f"an array of {dtype}"
            raise PlateaumapError(
                f"{name}.init returned {what} among the parameters; return arrays of floats only "
                "(of an Equinox model: equinox.filter(model, equinox.is_inexact_array))"
            )
    if not leaves:
        raise PlateaumapError(f"{name}.init returned no parameters; return arrays of floats")
    return jax.tree.map(jnp.asarray, parameters)


def _require_scalar(what: str, value: Any, dtype: Any) -> None:
    shape, found = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != ():
        raise PlateaumapError(
            f"{what} returned {'no number' if shape is None else f'an array of shape {shape}'}; "
            "return one number, such as the mean over samples"
        )
    if found != dtype:
        raise PlateaumapError(
            f"{what} is {found} where the sweep computes in {jnp.dtype(dtype).name}: something in "
            "it has a dtype of its own; make arrays like the parameters, such as "
            "jnp.zeros_like(w), or keep them as attributes of the experiment"
        )


def _started(name: str, optimizer: Any, parameters: PyTree) -> PyTree:
    if not isinstance(optimizer, optax.GradientTransformation):
        raise PlateaumapError(
            f"{name}.optimizer returned {type(optimizer).__name__}; return an Optax optimizer, "
            'such as optax.adam(point["lr"])'
        )
    return optimizer.init(parameters)
