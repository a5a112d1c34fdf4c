"""Decides which programs may be compiled with other options than JAX's defaults.

A compiler option must not change what a user's function returns, and some do: with vectors of
512 bits XLA's arc tangent is wrong by up to 1.57 (compare jax-ml/jax issue 39352). Therefore only
programs of verified operations are compiled with options. An operation is verified if it returns
the same with and without the options, up to a few units in the last place, in every program of the
tests (`tests/execution/test_verified.py`: every elementary function of `jax.numpy`, `jax.nn` and
`jax.scipy.special`). A program with any other operation, also one that a later JAX adds, is
compiled with JAX's defaults.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.extend import core

from plateaumap.numerics.equations import equations


def _names(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


MOVES = _names(
    # Nested programs.
    "jit closed_call custom_jvp_call custom_vjp_call custom_lin remat2 checkpoint while scan cond",
    "reduce",
    # Operations that copy, arrange or select numbers of any kind, or pack them in pairs.
    "broadcast_in_dim reshape squeeze expand_dims transpose rev concatenate stack split pad slice",
    "dynamic_slice dynamic_update_slice gather scatter select_n copy copy_p stop_gradient iota",
    "complex real imag random_wrap random_unwrap optimization_barrier",
)
"""Operations that are safe for every dtype, because they do not compute."""

COMPUTES = _names(
    # Integers and truth values.
    "and or xor not shift_left shift_right_logical shift_right_arithmetic population_count clz",
    "rem eq ne lt le gt ge eq_to lt_to le_to is_finite bitcast_convert_type convert_element_type",
    "random_bits random_seed random_split random_fold_in threefry2x32",
    # Arithmetic.
    "add add_any sub mul div neg abs sign max min clamp square integer_pow floor ceil round",
    "nextafter one_minus_square",
    # Sums, products and orders.
    "dot_general conv_general_dilated reduce_sum reduce_prod reduce_max reduce_min reduce_and",
    "reduce_or reduce_xor argmax argmin cumsum cumprod cummax cummin cumlogsumexp sort top_k",
    "scatter_add scatter-add",
    # Elementary functions, without the inverse trigonometric ones, which the options change.
    "exp exp2 expm1 log log1p logistic sqrt rsqrt cbrt pow tanh sin cos tan sinh cosh",
    "asinh acosh atanh erf erfc erf_inv lgamma digamma",
)
"""Operations that were verified for single and double precision, and for integers."""

_PRECISIONS = (jnp.float32, jnp.float64)


def unverified(jaxpr: core.Jaxpr | core.ClosedJaxpr) -> frozenset[str]:
    """Return the names of the operations of a program that compiler options might change.

    Args:
        jaxpr: the whole program, after vectorisation.
    """
    return frozenset(e.primitive.name for e in equations(jaxpr) if not _is_verified(e))


def _is_verified(equation: Any) -> bool:
    name = equation.primitive.name
    if name in COMPUTES:
        return all(_is_usual(v.aval.dtype) for v in (*equation.invars, *equation.outvars))
    return name in MOVES


def _is_usual(dtype: Any) -> bool:
    """Return whether a dtype is single or double precision, an integer, a boolean, or a key."""
    return not jnp.issubdtype(dtype, jnp.inexact) or dtype in _PRECISIONS
