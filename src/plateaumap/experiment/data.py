"""The arrays that an experiment holds: its data, handed to compiled functions as arguments.

An array in an attribute would be compiled in as a constant, in its own dtype. It is handed over
instead, in the dtype of a sweep's arithmetic: no copy of it in each compilation, and float64 data
do not make a float32 sweep compute in float64.
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
    """Return an object's attributes, and the fields of a dataclass, but what is only cached."""
    held = dict(getattr(value, "__dict__", {}))
    if dataclasses.is_dataclass(value):
        held |= {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    cached = {name for name in held if isinstance(getattr(type(value), name, 0), cached_property)}
    return {name: held[name] for name in sorted(held) if name not in cached}


def arrays_of(value: object, dtype: Any) -> list[Array]:
    """Return the arrays in an object's attributes, or in pytrees there.

    Args:
        value: the object.
        dtype: what floats are cast to; whole numbers take as many bits.

    Raises:
        PlateaumapError: whole numbers are too large for 32 bits in a float32 sweep.
    """
    return [_cast(leaf, dtype) for leaf in jax.tree.leaves(held_by(value)) if _is_array(leaf)]


def with_arrays(value: T, arrays: list[Array]) -> T:
    """Return a copy of an object with others in place of the arrays of `arrays_of`.

    NumPy's scalars become Python's numbers, which take the dtype of what they meet.
    """
    coming = iter(arrays)

    def replaced(leaf: Any) -> Any:
        if _is_array(leaf):
            return next(coming)
        return leaf.item() if isinstance(leaf, np.generic) else leaf

    held = held_by(value)
    changed = copy.copy(value)
    for name in set(getattr(changed, "__dict__", {})) - set(held):
        del changed.__dict__[name]  # what is only cached
    for name, content in jax.tree.map(replaced, held).items():
        object.__setattr__(changed, name, content)
    return changed


def _is_array(leaf: object) -> bool:
    return isinstance(leaf, jax.Array) or (
        isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiubc"
    )


def _cast(array: Any, dtype: Any) -> Array:
    """Return data as JAX by itself would hold them in this precision, in native byte order."""
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return array
    if jnp.issubdtype(array.dtype, jnp.floating):
        return jnp.asarray(array, dtype)
    narrow = _NARROW.get(array.dtype.name) if jnp.dtype(dtype).itemsize == 4 else None
    plain = np.asarray(array, narrow or array.dtype.newbyteorder("="))
    if narrow is not None and not np.array_equal(plain, array):
        raise PlateaumapError(
            f"an array of {array.dtype} among the experiment's attributes has values beyond "
            f"{narrow}, which a float32 sweep holds; use precision='float64' or smaller numbers"
        )
    return jnp.asarray(plain)


_NARROW = {"int64": "int32", "uint64": "uint32"}
"""What JAX makes of whole numbers where it has not been told to use 64 bits."""
