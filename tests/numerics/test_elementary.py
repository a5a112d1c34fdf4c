"""The exponential of the hot loop against mpmath."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from plateaumap.numerics.elementary import exp_nonpositive, log1p, log1p_unit, logit

SMALLEST = {np.float64: 708.39, np.float32: 87.33}


@pytest.fixture(autouse=True)
def _double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("dtype", SMALLEST)
def test_the_exponential_is_right_to_two_units_in_the_last_place(dtype):
    rng = np.random.default_rng(0)
    edge = SMALLEST[dtype]
    sizes = np.concatenate([rng.uniform(0, high, 1_000) for high in (1e-3, 1, 40, edge)])
    x = -np.concatenate([sizes, [0, 1e-300, edge], np.log(2) * (np.arange(50) + 0.5)]).astype(dtype)

    value = np.asarray(jax.jit(exp_nonpositive)(x))

    with mp.workdps(40):
        off = [
            abs(mp.mpf(float(v)) / mp.exp(mp.mpf(float(a))) - 1)
            for v, a in zip(value, x, strict=True)
        ]
    assert value.dtype == dtype
    assert float(max(off)) <= 2 * np.finfo(dtype).eps / 2


@pytest.mark.parametrize("dtype", SMALLEST)
def test_below_the_smallest_normal_number_it_is_zero_and_a_nan_stays_one(dtype):
    x = np.array([-SMALLEST[dtype] - 0.02, -1e5, -np.inf, np.nan], dtype)
    value = np.asarray(jax.jit(exp_nonpositive)(x))
    np.testing.assert_array_equal(value, np.array([0, 0, 0, np.nan], dtype))


def test_it_is_its_own_derivative_to_any_order():
    for order in (jax.grad(exp_nonpositive), jax.grad(jax.grad(exp_nonpositive))):
        assert order(-1.25) == exp_nonpositive(-1.25)


def test_whole_numbers_and_half_precision_are_taken_as_well():
    assert exp_nonpositive(jnp.asarray(-2)) == pytest.approx(np.exp(-2), rel=1e-15)
    half = exp_nonpositive(jnp.asarray(-2, jnp.float16))
    assert half.dtype == jnp.float16
    assert half == pytest.approx(np.exp(-2), rel=1e-3)


@pytest.mark.parametrize("dtype", SMALLEST)
def test_the_logarithm_of_one_more_is_right_to_three_units_over_the_whole_range(dtype):
    rng = np.random.default_rng(1)
    edge = {np.float64: 300, np.float32: 37}[dtype]
    small, near_minus_one = 10 ** rng.uniform(-edge, 0, 500), 10 ** rng.uniform(-6, 0, 300) - 1
    where_jax_is_wrong = np.linspace(-0.53, -0.28, 500)
    parts = [small, -small, near_minus_one, where_jax_is_wrong, rng.uniform(0, 3, 500)]
    x = np.concatenate([*parts, 10 ** rng.uniform(0, edge, 300), [-0.5, 1.0]]).astype(dtype)
    x = x[x > -1]

    value = np.asarray(jax.jit(log1p)(x))

    with mp.workdps(60):
        exact = [mp.log1p(mp.mpf(float(a))) for a in x]
        off = [
            float(abs(mp.mpf(float(v)) - e)) / np.spacing(np.abs(dtype(float(e))))
            for v, e in zip(value, exact, strict=True)
        ]
    assert value.dtype == dtype
    assert max(off) <= 3


def test_the_ends_of_the_logarithm_of_one_more():
    x = np.array([-2, -1, -0.0, np.inf, np.nan])
    np.testing.assert_array_equal(log1p(x), [np.nan, -np.inf, -0.0, np.inf, np.nan])
    assert jax.grad(log1p)(-0.41) == 1 / (1 - 0.41)
    assert jax.grad(jax.grad(log1p))(1.0) == -0.25
    assert logit(jnp.asarray([0.0, 0.5, 1.0])).tolist() == [-np.inf, 0, np.inf]


@pytest.mark.parametrize("dtype", SMALLEST)
def test_logarithms_next_to_one_do_not_underflow_early(dtype):
    e = np.finfo(dtype).tiny * np.array([1, 1.25, 1.5, 2, 3, 5], dtype)
    np.testing.assert_array_equal(jax.jit(log1p_unit)(e), e)
    np.testing.assert_array_equal(jax.jit(log1p)(e), e)
