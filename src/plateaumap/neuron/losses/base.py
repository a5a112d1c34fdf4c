"""The class of a loss: its value, and the functions that measures need in addition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from plateaumap.inputs.errors import PlateaumapError

LossFunction = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Loss:
    """A loss of one neuron, and the functions that measures need.

    Attributes:
        name: its name in tables and specs.
        value: `value(z, y)`, the raw loss.
        floor: `floor(y)`, the smallest value that the loss can take for a target.
        excess: `excess(z, y)`, the loss above its floor, with the same gradient in z; None for
            `value − floor`, which is exact enough where the floor is zero.
        decrease: `decrease(z, step, y)`, the amount `value(z, y) − value(z + step, y)` without
            cancellation; None to subtract two values.
        unimodal: `unimodal(rate, y)`, whether gradient descent of z with this rate is known to
            lower the loss in every epoch, with one peak of gradient and decrease at most; None if
            nothing is known. It needs `decrease`.

    Example:
        >>> import jax.numpy as jnp
        >>> import plateaumap as pm
        >>> absolute = pm.losses.Loss("absolute", lambda z, y: jnp.abs(z - y))
        >>> float(absolute(3.0, 1.0))
        2.0
    """

    name: str
    value: LossFunction
    floor: Callable[[Array], Array] = jnp.zeros_like
    excess: LossFunction | None = None
    decrease: Callable[[Array, Array, Array], Array] | None = None
    unimodal: Callable[[Array, Array], Array] | None = None

    def __call__(self, z: ArrayLike, y: ArrayLike) -> Array:
        """Return the raw loss of each pre-activation; `y` broadcasts to the shape of `z`.

        A single `z` may have several targets.

        Raises:
            PlateaumapError: an argument is a masked array, or targets would enlarge `z`.
        """
        refuse_masked(z=z, y=y)
        refuse_enlarging(np.shape(z), np.shape(y))
        dtype = jnp.result_type(z, y, 0.0)
        return self.value(jnp.asarray(z, dtype), jnp.asarray(y, dtype))

    def above_floor(self, z: Array, y: Array) -> Array:
        """Return the loss excess: the loss above its floor."""
        if self.excess is None:
            return self.value(z, y) - self.floor(y)
        return self.excess(z, y)


def refuse_masked(**arrays: object) -> None:
    """Raise if an array is masked: JAX has no masks, and would use the values under them.

    Raises:
        PlateaumapError: one of the arrays is a `numpy.ma.MaskedArray`.
    """
    for name, array in arrays.items():
        if isinstance(array, np.ma.MaskedArray):
            raise PlateaumapError(
                f"{name} is a masked array of shape {array.shape}: masks are not supported; use "
                f"{name}.compressed() or {name}.filled(value)"
            )


def refuse_enlarging(z: tuple[int, ...], y: tuple[int, ...]) -> None:
    """Raise if broadcasting would pair pre-activations with targets of other samples.

    Raises:
        PlateaumapError: the shapes broadcast to more than that of several pre-activations.
    """
    try:
        together = np.broadcast_shapes(z, y)
    except ValueError:
        together = ()
    if z and together != z:
        raise PlateaumapError(
            f"z has the shape {z} and y {y}: the targets do not broadcast to the shape of z; "
            "reshape the targets to it"
        )


def as_loss(loss: Loss | LossFunction) -> Loss:
    """Return `loss` if it is a `Loss`, else the loss of a plain function `loss(z, y)`.

    The floor of a plain function is zero; for another floor use `Loss(name, value, floor=...)`.

    Example:
        >>> import plateaumap as pm
        >>> def squared(z, y):
        ...     return (z - y) ** 2
        >>> pm.losses.as_loss(squared).name
        'squared'
    """
    if isinstance(loss, Loss):
        return loss
    return Loss(getattr(loss, "__name__", type(loss).__name__), loss)
