"""The sigmoid's two losses against mpmath: values, excesses, falls and gradients."""

import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from tests.accuracy import DTYPES, compute, either_sign, exactly, relative_errors

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron import losses
from plateaumap.neuron.formulas import sigmoid_error
from plateaumap.neuron.losses import Loss, as_loss, cross_entropy, quadratic

TARGETS = (0.0, 1.0, 0.5, 0.3, 0.999, 1e-6, 1e-10, 1 - 2.0**-20, 1e-30)


def output(z):
    return 1 / (1 + mpmath.exp(-z))


def complement(z):
    return 1 / (1 + mpmath.exp(z))


def quadratic_exactly(z, y):
    return ((1 - y) * output(z) - y * complement(z)) ** 2 / 2


def quadratic_gradient_exactly(z, y):
    return ((1 - y) * output(z) - y * complement(z)) * output(z) * complement(z)


def cross_entropy_exactly(z, y):
    return y * mpmath.log1p(mpmath.exp(-z)) + (1 - y) * mpmath.log1p(mpmath.exp(z))


def cross_entropy_gradient_exactly(z, y):
    return (1 - y) * output(z) - y * complement(z)


def entropy_exactly(y):
    return -sum(p * mpmath.log(p) for p in (y, 1 - y) if p > 0)


def terms(z, y):
    """Return the size of what the error is the difference of: rounding is relative to it."""
    return (1 - y) * output(z) + y * complement(z)


LOSSES = {
    "quadratic": (quadratic, quadratic_exactly, quadratic_gradient_exactly),
    "cross_entropy": (cross_entropy, cross_entropy_exactly, cross_entropy_gradient_exactly),
}
VALUE_SCALES = {
    "quadratic": lambda z, y: terms(z, y) ** 2,
    "cross_entropy": cross_entropy_exactly,
}
GRADIENT_SCALES = {
    "quadratic": lambda z, y: terms(z, y) * output(z) * complement(z),
    "cross_entropy": terms,
}
FALL_SCALES = {
    "quadratic": lambda z, s, y: abs(output(z + s) - output(z)) * (terms(z, y) + terms(z + s, y)),
    "cross_entropy": lambda z, s, y: (
        (1 - y) * abs(mpmath.log1p(mpmath.exp(z)) - mpmath.log1p(mpmath.exp(z + s)))
        + y * abs(mpmath.log1p(mpmath.exp(-z)) - mpmath.log1p(mpmath.exp(-z - s)))
    ),
}


def errors_in_eps(values, exact, scales):
    """Return the errors relative to their scales, in the epsilon of the dtype of the values."""
    info = np.finfo(values.dtype)
    rows = zip(values.astype(float), exact, scales, strict=True)
    return np.array([float(abs(v - e) / (s + info.tiny / info.eps) / info.eps) for v, e, s in rows])


def pre_activations(dtype):
    limit = -np.log(np.finfo(dtype).tiny) - 2
    return either_sign(np.geomspace(1e-4, limit, 25))


def grid(dtype):
    z, y = np.meshgrid(pre_activations(dtype), TARGETS)
    return z.ravel(), y.ravel()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_agree_with_mpmath(name, dtype):
    loss, value, gradient = LOSSES[name]
    columns = grid(dtype)
    for ours, reference, scale in (
        (loss, value, VALUE_SCALES[name]),
        (jax.grad(loss), gradient, GRADIENT_SCALES[name]),
    ):
        errors = errors_in_eps(
            compute(ours, *columns, dtype=dtype),
            exactly(reference, *columns, dtype=dtype),
            exactly(scale, *columns, dtype=dtype),
        )
        assert errors.max() < 8


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
def test_everything_is_finite_up_to_ten_thousand(name, dtype, y):
    loss = LOSSES[name][0]
    z = either_sign(np.geomspace(1e-8, 1e4, 200))
    ys = np.full_like(z, y)
    gradient = jax.grad(loss.above_floor)
    for function in (loss, loss.above_floor, gradient, jax.grad(gradient)):
        assert np.isfinite(compute(function, z, ys, dtype=dtype)).all()
    for step in (-1e4, -1e-3, 1e-12, 3.0, 1e9):
        falls = compute(loss.decrease, z, np.full_like(z, step), ys, dtype=dtype)
        assert np.isfinite(falls).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_excess_has_the_gradient_and_curvature_of_the_value(name, dtype):
    loss = LOSSES[name][0]
    z, y = grid(dtype)
    for derivative in (jax.grad, lambda f: jax.grad(jax.grad(f))):
        assert np.array_equal(
            compute(derivative(loss.value), z, y, dtype=dtype),
            compute(derivative(loss.above_floor), z, y, dtype=dtype),
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_of_cross_entropy_is_the_error_to_the_last_bit(dtype):
    z, y = grid(dtype)
    assert np.array_equal(
        compute(jax.grad(cross_entropy), z, y, dtype=dtype),
        compute(sigmoid_error, z, y, dtype=dtype),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_curvature_agrees_with_mpmath(name, dtype):
    loss = LOSSES[name][0]

    def curvature(z, y):
        a, s = output(z), complement(z)
        e = (1 - y) * a - y * s
        return a * s if name == "cross_entropy" else (a * s) ** 2 + e * a * s * (s - a)

    z, y = grid(dtype)
    errors = errors_in_eps(
        compute(jax.grad(jax.grad(loss)), z, y, dtype=dtype),
        exactly(curvature, z, y, dtype=dtype),
        exactly(lambda z, y: output(z) * complement(z), z, y, dtype=dtype),
    )
    assert errors.max() < 8


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_excess_is_right_near_the_target_too(dtype):
    rows = []
    for y in (0.5, 0.3, 0.9, 0.999, 1e-3, 1e-6, 1e-10, 1 - 2.0**-20):
        target = float(mpmath.log(mpmath.mpf(float(dtype(y)))) - mpmath.log1p(-float(dtype(y))))
        rows += [(target + u, y) for u in either_sign(np.geomspace(1e-3, 20, 40)) if u]
    z, y = np.array(rows).T
    exact = exactly(
        lambda z, y: cross_entropy_exactly(z, y) - entropy_exactly(y), z, y, dtype=dtype
    )
    values = compute(cross_entropy.above_floor, z, y, dtype=dtype)
    assert (values >= 0).all()
    y = y.astype(dtype).astype(float)
    u = np.abs(z.astype(dtype).astype(float) - np.log(y / (1 - y)))
    # The series suffers the rounding of u, the difference that of the value and its floor.
    series = 10 + 4 * (1 + np.abs(z)) / u
    difference = 4 * np.array(
        [float(entropy_exactly(t) / e) for t, e in zip(y, exact, strict=True)]
    )
    radius = 1 / 16 if dtype is np.float64 else 1 / 2
    allowed = np.where(u < radius, series, 10 + difference)
    assert (relative_errors(values, exact) <= allowed * np.finfo(dtype).eps).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_floor_of_cross_entropy_is_the_entropy(dtype):
    y = np.array([0, 1, 0.5, 0.3, 1e-3, 1e-10, 1e-30, 1 - 2.0**-22])
    values = compute(cross_entropy.floor, y, dtype=dtype)
    errors = relative_errors(values, exactly(entropy_exactly, y, dtype=dtype))
    assert errors.max() < 4 * np.finfo(dtype).eps
    assert not np.signbit(values).any()
    assert (compute(quadratic.floor, y, dtype=dtype) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_falls_agree_with_mpmath_for_tiny_and_huge_steps(name, dtype):
    loss, value, _ = LOSSES[name]
    columns = [
        column.ravel()
        for column in np.meshgrid(
            either_sign(np.geomspace(1e-3, 60, 9)),
            either_sign(np.array([1e-20, 1e-9, 1e-3, 0.03, 0.2499, 0.2501, 1, 7, 100])),
            (0.0, 1.0, 0.3, 1e-10),
        )
    ]
    errors = errors_in_eps(
        compute(loss.decrease, *columns, dtype=dtype),
        exactly(lambda z, s, y: value(z, y) - value(z + s, y), *columns, dtype=dtype),
        exactly(FALL_SCALES[name], *columns, dtype=dtype),
    )
    # The sum z + step is rounded, which shifts an exponential by |z + step| epsilon.
    assert (errors / (16 + np.abs(columns[0] + columns[1]))).max() < 1


@pytest.mark.parametrize("name", LOSSES)
def test_falls_mirror(name):
    random = np.random.default_rng(0)
    z, step = random.uniform(-700, 700, 500), random.normal(0, 1, 500) ** 9
    y = random.integers(0, 65, 500) / 64
    fall = LOSSES[name][0].decrease
    np.testing.assert_allclose(
        compute(fall, z, step, y), compute(fall, -z, -step, 1 - y), rtol=1e-12, atol=1e-300
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_mirror_to_the_last_bit(name, dtype):
    loss = LOSSES[name][0]
    z = pre_activations(dtype)
    for y in (0.0, 0.25, 0.75, 1.0):
        ys = np.full_like(z, y)
        for function, sign in ((loss, 1), (jax.grad(loss), -1)):
            there = compute(function, z, ys, dtype=dtype)
            assert np.array_equal(there, sign * compute(function, -z, 1 - ys, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cross_entropy_is_optax_sigmoid_binary_cross_entropy(dtype):
    z, y = grid(dtype)
    info = np.finfo(dtype)
    ours, theirs = (
        compute(f, z, y, dtype=dtype) for f in (cross_entropy, optax.sigmoid_binary_cross_entropy)
    )
    np.testing.assert_allclose(ours, theirs, rtol=16 * info.eps, atol=info.tiny)


def test_a_plain_function_is_a_loss():
    def hinge(z, y):
        return jnp.maximum(0, 1 - (2 * y - 1) * z)

    loss = as_loss(hinge)
    assert isinstance(loss, Loss)
    assert loss.name == "hinge"
    assert loss(0.5, 1.0) == loss.above_floor(jnp.float32(0.5), jnp.float32(1.0)) == 0.5
    assert loss.decrease is None
    assert as_loss(quadratic) is quadratic


def test_the_page_about_losses_prints_what_it_says(capsys):
    page = (Path(__file__).parents[2] / "docs" / "losses.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (expected,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "docs/losses.md", "exec"), {})
    assert capsys.readouterr().out == expected


def softplus_exactly(z):
    return mpmath.log1p(mpmath.exp(z))


def cross_entropy_exactly(z, y):
    return y * softplus_exactly(-z) + (1 - y) * softplus_exactly(z)


def gradient_exactly(loss, z, y):
    a, s = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
    error = (1 - y) * a - y * s
    return error if loss == "cross_entropy" else error * a * s


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("name", ["quadratic", "cross_entropy"])
def test_nothing_underflows_above_the_smallest_normal_number(name, y, dtype):
    """Values, gradients and falls, on both sides, next to where `exp(−|z|)` underflows."""
    loss = losses.resolve(name, "sigmoid")
    edge = -math.log(np.finfo(dtype).tiny)
    halfway = np.linspace(edge / 2 - 3, edge / 2 + 3, 13)
    sizes = np.concatenate([halfway, edge - np.arange(0.01, 4)])
    z = np.concatenate([sizes, -sizes]).astype(dtype)
    step = (0.25 + np.arange(len(z)) % 3).astype(dtype)
    # A step outwards would leave the normal numbers.
    step = np.where(z > 0, -step, step)
    targets = np.full_like(z, y)

    def value_exactly(z, y):
        if name == "cross_entropy":
            return cross_entropy_exactly(z, y)
        return gradient_exactly("cross_entropy", z, y) ** 2 / 2

    found = (
        compute(loss.value, z, targets, dtype=dtype),
        compute(jax.grad(loss.value), z, targets, dtype=dtype),
        compute(loss.decrease, z, step, targets, dtype=dtype),
    )
    with mpmath.workdps(60):
        exact = (
            exactly(value_exactly, z, targets, dtype=dtype, digits=700),
            exactly(lambda z, y: gradient_exactly(name, z, y), z, targets, dtype=dtype),
            exactly(
                lambda z, s, y: value_exactly(z, y) - value_exactly(z + s, y),
                *(z, step, targets),
                dtype=dtype,
                digits=700,
            ),
        )
        smallest = float(np.finfo(dtype).tiny)
        for values, right in zip(found, exact, strict=True):
            for v, r in zip(values, right, strict=True):
                off = abs(mpmath.mpf(float(v)) - r)
                assert off <= 64 * np.finfo(dtype).eps * abs(r) or abs(r) < smallest


@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["quadratic", "cross_entropy"])
def test_derivatives_of_every_order_are_right_also_at_zero(name, y):
    value = losses.resolve(name, "sigmoid").value

    def plain(z, y):
        a = 1 / (1 + jnp.exp(-z))
        return (
            (a - y) ** 2 / 2
            if name == "quadratic"
            else y * jnp.log1p(jnp.exp(-z)) + (1 - y) * jnp.log1p(jnp.exp(z))
        )

    ours, theirs = value, plain
    with jax.enable_x64(True):
        for _ in range(4):
            ours, theirs = jax.grad(ours), jax.grad(theirs)
            for z in (-2.0, 0.0, 0.7):
                assert ours(z, y) == pytest.approx(float(theirs(z, y)), rel=1e-12, abs=1e-15)


def test_targets_do_not_enlarge_pre_activations() -> None:
    for loss in (losses.quadratic, losses.cross_entropy):
        for z, y in (((4, 1), (4,)), ((2,), (3, 2)), ((3,), (2,))):
            with pytest.raises(PlateaumapError, match="do not broadcast to the shape of z"):
                loss(np.ones(z), np.zeros(y))
        assert loss(np.ones((4, 2)), np.zeros(2)).shape == (4, 2)
        assert loss(1.0, np.zeros(3)).shape == (3,)
