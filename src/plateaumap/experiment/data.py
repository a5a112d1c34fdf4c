"""The arrays in the attributes of an experiment, passed to compiled functions as arguments.

JAX would compile an array in an attribute as a constant in its dtype. Passed as an argument, in
the dtype of the sweep, the array is not copied into each program, and float64 data do not turn a
float32 sweep into a float64 one.
"""

from __future__ import annotations

import copy
import dataclasses
from functools import cached_property
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from plateaumap.inputs.errors import PlateaumapError

T = TypeVar("T")


def held_by(value: object) -> dict[str, Any]:
    """Return attributes and dataclass fields of an object, without cached properties."""
    held = dict(getattr(value, "__dict__", {}))
    if dataclasses.is_dataclass(value):
        held |= {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    cached = {name for name in held if isinstance(getattr(type(value), name, 0), cached_property)}
    return {name: held[name] for name in sorted(held) if name not in cached}


def arrays_of(value: object, dtype: Any) -> list[Array]:
    """Return the arrays in the attributes of an object, or in pytrees there.

    Args:
        value: the object.
        dtype: the dtype of floats; whole numbers get the same number of bits.

    Raises:
        PlateaumapError: whole numbers of a float32 sweep do not fit into 32 bits.
    """
    return [_cast(leaf, dtype) for leaf in jax.tree.leaves(held_by(value)) if _is_array(leaf)]


def with_arrays(value: T, arrays: list[Array]) -> T:
    """Return a copy of an object with the arrays of `arrays_of` replaced by others.

    NumPy's scalars become Python numbers, which JAX treats as weakly typed.
    """
    replacements = iter(arrays)

    def replaced(leaf: Any) -> Any:
        if _is_array(leaf):
            return next(replacements)
        return leaf.item() if isinstance(leaf, np.generic) else leaf

    held = held_by(value)
    changed = copy.copy(value)
    for name in set(getattr(changed, "__dict__", {})) - set(held):
        del changed.__dict__[name]  # a cached property
    for name, content in jax.tree.map(replaced, held).items():
        object.__setattr__(changed, name, content)
    return changed


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) or (
        isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiubc"
    )


def _cast(array: Any, dtype: Any) -> Array:
    """Return data as JAX holds them by default in this precision, in native byte order."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    if jnp.issubdtype(array.dtype, jnp.floating):
        return jnp.asarray(array, dtype)
    narrow = _NARROW.get(array.dtype.name) if jnp.dtype(dtype).itemsize == 4 else None
    plain = np.asarray(array, narrow or array.dtype.newbyteorder("="))
    if narrow is not None and not np.array_equal(plain, array):
        raise PlateaumapError(
            f"an array of {array.dtype} among the experiment's attributes does not fit into "
            f"{narrow}, which a float32 sweep uses; use precision='float64' or smaller numbers"
        )
    return jnp.asarray(plain)


_NARROW = {"int64": "int32", "uint64": "uint32"}
"""The dtypes of whole numbers in JAX without 64 bits."""
