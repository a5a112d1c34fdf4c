"""Every activation against mpmath: output, slope, error, integral, inverse."""

import re

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from tests.accuracy import DTYPES, compute, either_sign, exactly, relative_errors
from tests.exact_activations import END_TARGETS, INNER_TARGETS, INTEGRALS, SLOPES, VALUES
from tests.marks import usual_first

import plateaumap as pm
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron import activations
from plateaumap.neuron.activations import ACTIVATIONS, get, increasing

KINKED = {"relu", "leaky_relu", "softsign"}
FALLING = {"gelu": -0.7518, "swish": -1.2785}
GAUSSIAN = {"probit", "erf", "gelu"}
"""Their tails suffer the rounding of z²."""

Z = either_sign(np.concatenate([np.geomspace(1e-8, 50, 40), [0.1249, 0.1251, 0.499, 0.501]]))
TABLE = {
    name: float(error)
    for name, error in re.findall(r"^(\w+) .* (\S+e-\d\d)$", activations.__doc__, re.MULTILINE)
}


def allowed(name, dtype):
    return np.finfo(dtype).eps * (8 + (16 + Z**2 if name in GAUSSIAN else 0))


def test_all_of_them_are_here():
    assert set(ACTIVATIONS) == set(VALUES)
    assert {a.name for a in ACTIVATIONS.values() if not a.smooth} == KINKED
    assert {a.name for a in ACTIVATIONS.values() if a.why_no_matching_loss} == set(FALLING)
    assert set(TABLE) == set(INTEGRALS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", usual_first(VALUES))
def test_outputs_and_slopes_agree_with_mpmath(name, dtype):
    activation = ACTIVATIONS[name]
    tiny = np.finfo(dtype).tiny / np.finfo(dtype).eps
    z = Z.astype(dtype)
    for ours, reference in ((activation.value, VALUES[name]), (activation.slope, SLOPES[name])):
        errors = relative_errors(
            compute(ours, z, dtype=dtype), exactly(reference, z, dtype=dtype), tiny
        )
        assert (errors <= allowed(name, dtype)).all()


@pytest.mark.parametrize("name", usual_first(VALUES))
def test_the_derivative_is_the_slope_and_can_be_differentiated(name):
    activation = ACTIVATIONS[name]
    slope = compute(activation.slope, Z)
    for function in (activation.value, lambda z: activation.error(z, 0.25)):
        assert np.array_equal(compute(jax.grad(function), Z), slope)
    assert (compute(jax.grad(activation.error, 1), Z, np.full_like(Z, 0.25)) == -1).all()
    curvature = compute(jax.grad(activation.slope), Z)
    smooth = Z != 0 if name in KINKED else slice(None)
    exact = exactly(lambda z: mpmath.diff(SLOPES[name], z), Z)
    np.testing.assert_allclose(
        curvature[smooth], np.array(exact, float)[smooth], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", usual_first(VALUES))
def test_errors_do_not_cancel(name, dtype):
    activation = ACTIVATIONS[name]
    info = np.finfo(dtype)
    z = Z.astype(dtype)
    for y in (*INNER_TARGETS.get(name, (0.5,)), *END_TARGETS.get(name, ()), 0.7, -0.2):
        y = float(dtype(y))
        at_end = y in END_TARGETS.get(name, ())
        reference, digits = (lambda z, y=y: VALUES[name](z) - y), (350 if at_end else 60)
        exact = exactly(reference, z, dtype=dtype, digits=digits)
        values = compute(activation.error, z, np.full_like(z, y), dtype=dtype)
        sizes = np.array([max(abs(float(e + y)), abs(y)) for e in exact])
        errors = np.array(
            [float(abs(v - e)) for v, e in zip(values.astype(float), exact, strict=True)]
        )
        if at_end:
            sizes = np.abs(np.array(exact, float))
        if dtype is np.float64:
            assert (errors <= 1e-12 * sizes + info.tiny / info.eps).all()
        assert (errors <= allowed(name, dtype) * sizes + info.tiny / info.eps).all()


@pytest.mark.parametrize("name", usual_first(INTEGRALS))
def test_integrals_agree_with_mpmath_to_the_accuracy_stated(name):
    exact = exactly(INTEGRALS[name], Z)
    assert relative_errors(compute(ACTIVATIONS[name].integral, Z), exact, 1).max() <= TABLE[name]


@pytest.mark.parametrize("name", usual_first(INTEGRALS))
def test_integrals_agree_with_mpmath_in_single_precision(name):
    z = Z.astype(np.float32)
    exact = exactly(INTEGRALS[name], z, dtype=np.float32)
    values = compute(ACTIVATIONS[name].integral, z, dtype=np.float32)
    assert relative_errors(values, exact, 1).max() <= 8 * np.finfo(np.float32).eps


@pytest.mark.parametrize("name", usual_first(INTEGRALS))
def test_the_derivative_of_the_integral_is_the_output(name):
    activation = ACTIVATIONS[name]
    assert np.array_equal(compute(jax.grad(activation.integral), Z), compute(activation.value, Z))


@pytest.mark.parametrize("name", usual_first(sorted(INTEGRALS)))
def test_increasing_ones_never_fall(name):
    activation = ACTIVATIONS[name]
    z = np.linspace(-50, 50, 4001)
    assert (compute(activation.slope, z) >= 0).all()
    outputs = compute(activation.value, z)
    assert outputs.min() >= activation.low
    assert outputs.max() <= activation.high


@pytest.mark.parametrize("name", FALLING)
def test_the_others_fall_where_their_reason_says(name):
    activation = ACTIVATIONS[name]
    turn = FALLING[name]
    assert f"decreases for z < {turn}" in activation.why_no_matching_loss
    below, above = compute(activation.slope, [turn - 1e-4, turn + 1e-4])
    assert below < 0 < above
    assert compute(activation.value, [turn])[0] == pytest.approx(activation.low, rel=1e-7)
    with pytest.raises(PlateaumapError, match=f"{name} has no integral here: {name} is not mono"):
        activation.integral(1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", usual_first(sorted(set(VALUES) - {"exp"})))
def test_everything_is_finite_up_to_ten_thousand(name, dtype):
    activation = ACTIVATIONS[name]
    z = either_sign(np.geomspace(1e-8, 1e4, 60))
    functions = [activation.value, activation.slope, jax.grad(activation.slope)]
    functions += [] if name in FALLING else [activation.integral]
    for function in functions:
        assert np.isfinite(compute(function, z, dtype=dtype)).all()
    assert np.isfinite(compute(activation.error, z, np.ones_like(z), dtype=dtype)).all()


@pytest.mark.parametrize("name", usual_first(INTEGRALS))
def test_the_target_is_where_the_output_is_y(name):
    activation = ACTIVATIONS[name]
    y = np.array(INNER_TARGETS[name])
    z = compute(activation.target, y)
    np.testing.assert_allclose(compute(activation.value, z), y, rtol=4e-15, atol=1e-15)
    if name in END_TARGETS:
        ends = np.array(END_TARGETS[name])
        expected = np.where(ends == activation.low, -np.inf, np.inf)
        assert np.array_equal(compute(activation.target, ends), expected)


def test_a_name_that_is_unknown():
    with pytest.raises(PlateaumapError) as caught:
        get("tahn")
    assert str(caught.value) == (
        f"activation = 'tahn': unknown; did you mean 'tanh'? (known: {', '.join(ACTIVATIONS)})"
    )
    assert get("tanh") is ACTIVATIONS["tanh"]
    assert get(ACTIVATIONS["erf"]) is ACTIVATIONS["erf"]


def test_any_increasing_function_becomes_an_activation_by_quadrature():
    asinh = increasing("asinh", jnp.arcsinh)
    z = either_sign(np.geomspace(1e-6, 300, 60))
    exact = exactly(lambda z: z * mpmath.asinh(z) - mpmath.sqrt(1 + z * z) + 1, z)
    assert relative_errors(compute(asinh.integral, z), exact).max() < 4e-15
    assert np.array_equal(compute(jax.grad(asinh.integral), z), compute(jnp.arcsinh, z))
    y = np.array([-5.0, -1e-3, 0.0, 2.0])
    np.testing.assert_allclose(compute(asinh.target, y), np.sinh(y), rtol=1e-14)


@pytest.mark.parametrize("name", usual_first(sorted(set(INTEGRALS) - {"exp"})))
def test_closed_forms_agree_with_quadrature(name):
    closed = ACTIVATIONS[name]
    made = increasing(name, closed.value, low=closed.low, high=closed.high)
    z = either_sign(np.geomspace(1e-3, 50, 30))
    expected = compute(closed.integral, z) - compute(closed.integral, [0.0])
    scale = np.maximum(1, np.abs(expected))
    assert (np.abs(compute(made.integral, z) - expected) / scale).max() < 4e-15


def test_a_function_that_falls_is_refused():
    with pytest.raises(
        PlateaumapError, match=r"'sine': decreases at z = -29\.\d\d; only an increasing"
    ):
        increasing("sine", jnp.sin)


@pytest.mark.parametrize("name", usual_first(sorted(ACTIVATIONS)))
def test_a_sweep_puts_out_what_numpy_or_the_function_itself_does(name: str) -> None:
    """Sweeps are compiled with options of their own, under which an operation can be wrong."""
    sweep = pm.Sweep(
        experiment=pm.SingleNeuron(name),
        losses="quadratic",
        axes=[pm.linspace("w0", -8, 8, 65)],
        fixed={"b0": 0.0, "lr": 0.01, "y": 0.5},
        horizon=1,
        until="plateau",
    )
    frame = pm.run(sweep)
    with jax.enable_x64(True):
        expected = np.asarray(get(name)(frame["w0"].to_numpy()))
    if name == "atan":
        expected = 2 / np.pi * np.arctan(frame["w0"].to_numpy())
    np.testing.assert_allclose(frame["initial_output"], expected, rtol=1e-15, atol=1e-15)
