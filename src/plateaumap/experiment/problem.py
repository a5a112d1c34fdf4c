"""An experiment bound to one point: the training problem of a run.

Only this module calls the functions that a user wrote. It calls them with the bits of the sweep's
precision, so that a float32 sweep draws the random numbers that JAX draws by default. It separates
random keys from trained parameters, and passes the loss to optimizers that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from plateaumap.training.descent import Problem

if TYPE_CHECKING:
    from plateaumap.experiment.protocol import Experiment, LossLike, Point

PyTree = Any
_Call = Callable[..., Any]


def bind(experiment: Experiment, point: Point, loss_name: LossLike, tolerance: Array) -> Problem:
    """Return the training problem of one point.

    Args:
        experiment: the model that is trained.
        point: a scalar for each coordinate.
        loss_name: a loss of the sweep, a name or a function.
        tolerance: the largest |output − target| of a converged initial point; its dtype is that of
            the arithmetic.
    """
    dtype = tolerance.dtype
    user = with_bits_of(dtype)
    initial = user(experiment.init)(point)
    trained, whole = _trainable(jax.tree.map(lambda leaf: _cast(leaf, dtype), initial))

    @user
    def excess(parameters: PyTree) -> Array:
        # A loss without parameters may be a Python number, which has no dtype.
        return jnp.asarray(experiment.excess(whole(parameters), point, loss_name))

    @user
    def descent(parameters: PyTree, epoch: Array) -> Array:
        assert experiment.descent is not None
        return experiment.descent(whole(parameters), point, loss_name, epoch)

    @user
    def loss(parameters: PyTree) -> Array:
        return experiment.loss(whole(parameters), point, loss_name)

    @user
    def output(parameters: PyTree) -> Array:
        assert experiment.output is not None
        return experiment.output(whole(parameters), point)

    theory = experiment.theory(loss_name)
    changes = experiment.descent is not None
    decrease = user(experiment.decrease)(point, loss_name)
    return Problem(
        parameters=trained,
        whole=whole,
        optimizer=_optimizer(user(experiment.optimizer)(point), trained, loss, user),
        excess=excess,
        slope=user(jax.value_and_grad(excess)),
        descent=user(jax.value_and_grad(descent)) if changes else None,
        floor=jnp.asarray(user(experiment.floor)(point, loss_name), dtype),
        gradient_scalar=user(lambda gradients: experiment.gradient_scalar(gradients)),
        direction=_direction(experiment, output, user),
        decrease=None if decrease is None else user(lambda p, u: decrease(whole(p), u)),
        unimodal=None if theory is None or decrease is None else theory.unimodal(point),
        never_flat=theory is not None and theory.never_flat,
        converged=user(experiment.converged)(whole(trained), point, tolerance),
        output=None if experiment.output is None else output,
    )


def with_bits_of(dtype: Any) -> Callable[[_Call], _Call]:
    """Return a decorator that enables 64 bits in a function exactly if `dtype` is float64."""

    def decorate(function: _Call) -> _Call:
        @wraps(function)
        def called(*arguments: Any, **keywords: Any) -> Any:
            with jax.enable_x64(dtype == jnp.float64):
                return function(*arguments, **keywords)

        return called

    return decorate


def _cast(leaf: Any, dtype: Any) -> Any:
    """Return a float leaf in a dtype; JAX reports other leaves where they are wrong."""
    floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.asarray(leaf, dtype) if floating or isinstance(leaf, float) else leaf


def is_key(leaf: Any) -> bool:
    """Return whether a leaf of a pytree is an array of random keys."""
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _trainable(initial: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Return the parameters without random keys, and a function that restores the keys."""
    leaves, structure = jax.tree.flatten(initial)
    if not any(map(is_key, leaves)):
        return initial, lambda parameters: parameters

    def whole(parameters: PyTree) -> PyTree:
        values = structure.flatten_up_to(parameters)  # type: ignore[attr-defined]
        kept = [old if is_key(old) else new for old, new in zip(leaves, values, strict=True)]
        return jax.tree.unflatten(structure, kept)

    trained = [None if is_key(leaf) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, trained), whole


def _optimizer(
    optimizer: optax.GradientTransformation,
    parameters: PyTree,
    loss: Callable[[PyTree], Array],
    user: Callable[[_Call], _Call],
) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that receives the loss, and whose state contains numbers only.

    `update` takes `value`, the loss at the parameters of the gradients. Random keys in the state
    are carried as their data.
    """
    full = optax.with_extra_args_support(optimizer)
    implementations: list[Any] = []

    def note_keys(parameters: PyTree) -> Array:
        for leaf in jax.tree.leaves(full.init(parameters)):
            implementations.append(jax.random.key_impl(leaf) if is_key(leaf) else None)
        return jnp.zeros(())

    user(jax.eval_shape)(note_keys, parameters)

    def plain(state: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, state)

    def with_keys(state: PyTree) -> PyTree:
        leaves, structure = jax.tree.flatten(state)
        keyed = [
            leaf if impl is None else jax.random.wrap_key_data(leaf, impl=impl)
            for leaf, impl in zip(leaves, implementations, strict=True)
        ]
        return jax.tree.unflatten(structure, keyed)

    @user
    def init(parameters: PyTree) -> PyTree:
        return plain(full.init(parameters))

    @user
    def update(
        gradients: PyTree, state: PyTree, parameters: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, PyTree]:
        extra = {"grad": gradients, "value_fn": loss, **extra}
        updates, state = full.update(gradients, with_keys(state), parameters, **extra)
        return updates, plain(state)

    return optax.GradientTransformationExtraArgs(init, update)


def _direction(
    experiment: Experiment,
    output: Callable[[PyTree], Array],
    user: Callable[[_Call], _Call],
) -> Callable[[PyTree, PyTree], Array | None]:
    """Return a function for the sign of dC/da: on which side of its target the output a is.

    `⟨∇C, ∇a⟩ = dC/da |∇a|²` if the loss depends on the parameters through one output a. The
    function returns None for minibatches and for models without one output.
    """

    @user
    def direction(parameters: PyTree, gradients: PyTree) -> Array | None:
        known = experiment.direction(gradients)
        if known is not None:
            return known
        if experiment.descent is not None or experiment.output is None:
            return None
        slopes = jax.grad(output)(parameters)
        gradients, slopes = _scaled(gradients), _scaled(slopes)
        products = jax.tree.map(lambda g, s: jnp.sum(g * s), gradients, slopes)
        return jnp.sign(sum(jax.tree.leaves(products)))

    return direction


def _scaled(tree: PyTree) -> PyTree:
    """Return numbers divided by the largest magnitude, so that no product underflows."""
    sizes = [jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(tree)]
    largest = jnp.max(jnp.stack(sizes))
    return jax.tree.map(lambda leaf: leaf / jnp.where(largest > 0, largest, 1), tree)
