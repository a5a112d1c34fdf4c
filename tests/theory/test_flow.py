"""Flow times and level crossings against quadrature and root finding with 60 digits."""

import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from plateaumap.theory.flow import Drop
from plateaumap.theory.sigmoid import SIGMOID_DYNAMICS, level_crossing, log_flow_time

LOSSES = tuple(SIGMOID_DYNAMICS)
TARGETS = (0.0, 1e-12, 0.003, 0.25, 0.5, 0.7, 1 - 1e-9, 1.0)
STARTS = (-9000.0, -350.0, -30.0, -3.5, -0.4, 0.0, 0.7, 2.2, 17.0, 90.0, 720.0, 10_000.0)


def batched(function, loss, *columns, extra=()):
    """The one visible vmap of these tests."""
    with jax.enable_x64(True):
        mapped = jax.jit(jax.vmap(lambda *row: function(*row, *extra, loss=loss)))
        return np.asarray(mapped(*(jnp.asarray(c, dtype=jnp.float64) for c in columns)))


def gradient(loss, z, y):
    a, s = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
    e = (1 - y) * a - y * s
    return e * a * s if loss == "quadratic" else e


def excess(loss, z, y):
    if loss == "quadratic":
        a, s = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
        return ((1 - y) * a - y * s) ** 2 / 2
    entropy = -sum(p * mpmath.log(p) for p in (y, 1 - y) if p)
    return y * mpmath.log1p(mpmath.exp(-z)) + (1 - y) * mpmath.log1p(mpmath.exp(z)) - entropy


def centre(y):
    if y in (0, 1):
        return mpmath.inf * (2 * y - 1)
    return mpmath.log(y / (1 - y))


def reference_crossing(loss, z0, y, drop):
    """Bisection on the exact excess, in z, between the start and the target."""
    with mpmath.workdps(60):
        outer, y = mpmath.mpf(z0), mpmath.mpf(y)
        inner = centre(y)
        if mpmath.isinf(inner):
            inner = mpmath.sign(inner) * (20 + abs(outer))
        threshold = (1 - mpmath.mpf(drop)) * excess(loss, outer, y)
        for _ in range(66):
            middle = (inner + outer) / 2
            if excess(loss, middle, y) > threshold:
                outer = middle
            else:
                inner = middle
        return inner


def reference_log_time(loss, z0, z1, y):
    """The textbook antiderivative with 90 digits."""
    with mpmath.workdps(90):
        z0, z1, y = (mpmath.mpf(v) for v in (z0, z1, y))
        if z0 < centre(y):
            z0, z1, y = -z0, -z1, 1 - y
        q = 1 - y

        def antiderivative(z):
            if y == 0 and loss == "quadratic":
                return mpmath.exp(z) + 3 * z - 3 * mpmath.exp(-z) - mpmath.exp(-2 * z) / 2
            if y == 0:
                return z - mpmath.exp(-z)
            A, B = mpmath.log(q - y * mpmath.exp(-z)), mpmath.log(q * mpmath.exp(z) - y)
            if loss == "cross_entropy":
                return A / y + B / q
            ends = mpmath.exp(z) / q + mpmath.exp(-z) / y
            return ends + (1 + 2 * y) * A / y**2 + (1 + 2 * q) * B / q**2

        return mpmath.log(antiderivative(z0) - antiderivative(z1))


def cases():
    for z0, y in itertools.product(STARTS, TARGETS):
        if y in (0.0, 1.0) or abs(z0 - math.log(y / (1 - y))) > 0.05:
            yield z0, y


@pytest.mark.parametrize("drop", [0.1, 0.9])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_crossing_meets_the_level(loss, drop):
    z0, y = (np.array(c) for c in zip(*cases(), strict=True))
    z1 = batched(level_crossing, loss, z0, y, extra=(Drop.of(drop),))
    for row in zip(z0, y, z1, strict=True):
        expected = reference_crossing(loss, row[0], row[1], str(drop))
        assert abs(row[2] - expected) <= 2e-14 * max(1, abs(expected), abs(row[0])), row


@pytest.mark.parametrize("loss", LOSSES)
def test_log_time_agrees_with_the_antiderivative(loss):
    z0, y = (np.array(c) for c in zip(*cases(), strict=True))
    for drop in (0.1, 0.9):
        z1 = batched(level_crossing, loss, z0, y, extra=(Drop.of(drop),))
        logs = batched(log_flow_time, loss, z0, z1, y)
        with np.errstate(over="ignore"):
            times = np.exp(logs)
        for row in zip(z0, z1, y, logs, times, strict=True):
            expected = reference_log_time(loss, *row[:3])
            # The log of a time near exp(z) is only known to the last digit of z.
            tolerance = 4e-13 * max(1, abs(row[0]), abs(expected))
            assert abs(row[3] - expected) <= tolerance, row
            if expected < 700:
                assert row[4] == pytest.approx(float(mpmath.exp(expected)), rel=4e-13 * 700)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("z0", "z1", "y"), [(4.0, 2.5, 0.0), (3.0, 0.5, 0.3), (-6.0, -1.0, 0.9)])
def test_time_is_the_integral_of_one_over_the_gradient(loss, z0, z1, y):
    time = np.exp(batched(log_flow_time, loss, [z0], [z1], [y])[0])
    expected = mpmath.quad(lambda z: 1 / gradient(loss, z, mpmath.mpf(y)), [z1, z0])
    assert time == pytest.approx(float(expected), rel=1e-13)


@pytest.mark.parametrize("loss", LOSSES)
def test_mirror_image_takes_the_same_time(loss):
    z0, y = (np.array(c) for c in zip(*cases(), strict=True))
    exact = np.isin(y, (0.0, 0.25, 0.5, 1.0))
    z0, y = z0[exact], y[exact]
    z1 = batched(level_crossing, loss, z0, y, extra=(Drop.of(0.5),))
    np.testing.assert_array_equal(
        batched(level_crossing, loss, -z0, 1 - y, extra=(Drop.of(0.5),)), -z1
    )
    np.testing.assert_array_equal(
        batched(log_flow_time, loss, z0, z1, y), batched(log_flow_time, loss, -z0, -z1, 1 - y)
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_small_steps_take_the_flow_time(loss):
    """Golden plateaus with a small step: n h is the flow time, up to the logarithm's epochs."""
    golden = json.loads((Path(__file__).parents[1] / "golden" / "neuron.json").read_text())
    names = {"mse": "quadratic", "ce": "cross_entropy"}
    cases = []
    for case in golden["configs"]:
        epoch = case["departure_epoch"]["0.1"]
        h = case["eta"] * (1 + case["x"] ** 2)
        if names[case["loss"]] == loss and epoch is not None and h <= 0.5 and epoch >= 50:
            cases.append((case["w0"] * case["x"] + case["b0"], case["y"], h, epoch))
    z0, y, h, epochs = np.array(cases).T
    z1 = batched(level_crossing, loss, z0, y, extra=(Drop.of(0.1),))
    assert len(cases) >= 3
    np.testing.assert_allclose(
        np.exp(batched(log_flow_time, loss, z0, z1, y)) / h, epochs, rtol=0, atol=8
    )
