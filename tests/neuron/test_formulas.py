"""The neuron: right to the last few bits wherever a format has numbers, in saturation too."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from tests.accuracy import DTYPES, compute, either_sign, exactly, relative_errors

from plateaumap.neuron.formulas import (
    Parameters,
    pre_activation,
    sigmoid,
    sigmoid_error,
    sigmoid_pair,
    sigmoid_slope,
    softplus,
    softplus_remainder,
)

ULPS = 4
FUNCTIONS = {
    "sigmoid": (sigmoid, lambda z: 1 / (1 + mpmath.exp(-z))),
    "complement": (lambda z: sigmoid_pair(z)[1], lambda z: 1 / (1 + mpmath.exp(z))),
    "softplus": (softplus, lambda z: mpmath.log1p(mpmath.exp(z))),
    "softplus_remainder": (softplus_remainder, lambda z: mpmath.log1p(mpmath.exp(-abs(z)))),
    "slope": (sigmoid_slope, lambda z: 1 / (2 + mpmath.exp(z) + mpmath.exp(-z))),
    "gradient of sigmoid": (jax.grad(sigmoid), lambda z: 1 / (2 + mpmath.exp(z) + mpmath.exp(-z))),
    "gradient of softplus": (jax.grad(softplus), lambda z: 1 / (1 + mpmath.exp(-z))),
    "second derivative of sigmoid": (
        jax.grad(jax.grad(sigmoid)),
        lambda z: -mpmath.tanh(z / 2) / (2 + mpmath.exp(z) + mpmath.exp(-z)),
    ),
    "second derivative of softplus": (
        jax.grad(jax.grad(softplus)),
        lambda z: 1 / (2 + mpmath.exp(z) + mpmath.exp(-z)),
    ),
}


def pre_activations(dtype: type) -> np.ndarray:
    """Return z of either sign from 10⁻⁶ to the limit of the format, and on to 10⁴."""
    limit = -np.log(np.finfo(dtype).tiny) - 1
    return either_sign(np.concatenate([np.geomspace(1e-6, limit, 150), [0.5, 1, 16.7, 36.8, 1e4]]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_agrees_with_mpmath_up_to_the_limit_of_the_format(name, dtype):
    function, reference = FUNCTIONS[name]
    z = pre_activations(dtype)
    exact = exactly(reference, z, dtype=dtype)
    values = compute(function, z, dtype=dtype)
    # The second derivative of the sigmoid crosses zero at z = 0 and is absolute there.
    least = 0.1 if name == "second derivative of sigmoid" else 0.0
    errors = relative_errors(values, exact, least)
    info = np.finfo(dtype)
    representable = np.array([abs(e) > info.tiny or e == 0 for e in exact])
    assert errors[representable].max() <= ULPS * info.eps
    assert np.abs(values[~representable]).max() <= info.tiny


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_is_not_a_kink(dtype):
    with jax.enable_x64(dtype is np.float64):
        zero = jnp.zeros((), dtype)
        assert jax.grad(sigmoid)(zero) == 0.25
        assert jax.grad(lambda z: sigmoid_pair(z)[1])(zero) == -0.25
        assert jax.grad(softplus)(zero) == 0.5
        assert jax.grad(jax.grad(softplus))(zero) == 0.25
        assert jax.grad(jax.grad(jax.grad(sigmoid)))(zero) == -0.125


@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_and_complements_mirror_each_other_to_the_last_bit(dtype):
    z = pre_activations(dtype)
    assert np.array_equal(
        compute(sigmoid, z, dtype=dtype), compute(lambda z: sigmoid_pair(z)[1], -z, dtype=dtype)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y", [0.0, 1.0, 0.25, 2.0**-20, 0.5])
def test_the_error_mirrors_to_the_last_bit_where_one_minus_y_is_exact(dtype, y):
    z = pre_activations(dtype)
    ys = np.full_like(z, y)
    error = compute(sigmoid_error, z, ys, dtype=dtype)
    assert np.array_equal(error, -compute(sigmoid_error, -z, 1 - ys, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_error_does_not_cancel_at_targets_zero_and_one(dtype):
    z = pre_activations(dtype)
    for y, reference in (
        (0.0, lambda z: 1 / (1 + mpmath.exp(-z))),
        (1.0, lambda z: -1 / (1 + mpmath.exp(z))),
    ):
        values = compute(lambda z, y=y: sigmoid_error(z, y), z, dtype=dtype)
        exact = exactly(reference, z, dtype=dtype)
        seen = np.array([abs(e) > np.finfo(dtype).tiny for e in exact])
        assert relative_errors(values, exact)[seen].max() <= ULPS * np.finfo(dtype).eps


def test_derivatives_of_the_error():
    z, y = np.array([-30.0, 0.0, 2.5]), np.array([0.0, 0.3, 1.0])
    assert np.array_equal(compute(jax.grad(sigmoid_error), z, y), compute(sigmoid_slope, z))
    assert np.array_equal(compute(jax.grad(sigmoid_error, 1), z, y), [-1, -1, -1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_integers_and_python_floats_are_pre_activations_too(dtype):
    with jax.enable_x64(dtype is np.float64):
        for function in (sigmoid, softplus):
            assert function(2) == pytest.approx(float(function(jnp.asarray(2.0))))
            assert function(2.0).dtype == dtype


def test_pre_activation_keeps_the_dtype_of_the_parameters():
    w, b = jnp.float32(2), jnp.float32(0.5)
    z = pre_activation(Parameters(w, b), 3.0)
    assert z == 6.5
    assert z.dtype == jnp.float32
