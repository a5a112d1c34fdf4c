"""The lengths of any smooth activation: against simulation, closed forms and high precision."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pandas as pd
import pytest
from tests.theory import oracle

import plateaumap as pm
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron import activations
from plateaumap.theory.abel_series import abel_densities, sigmoid_terms
from plateaumap.theory.applicability import dynamics_of, why_no_theory
from plateaumap.theory.canonical import EpochState
from plateaumap.theory.epochs import count_epochs, plateau_epochs
from plateaumap.theory.flow import Drop, Target
from plateaumap.theory.kernels import followed, plans, series_lengths
from plateaumap.theory.leap import SIMULATED_UP_TO
from plateaumap.theory.smooth import SmoothDynamics, SmoothSegment

CASES = [(name, loss) for name in oracle.SMOOTH for loss in ("quadratic", "matching")]
QUICK = [("softsign", "quadratic")]


def check_against_simulation(activation, loss, count, horizon):
    rng = np.random.default_rng(31)
    for drop in (0.1, 0.5, 0.9):
        z0, h, y = oracle.smooth_neurons(activation, loss, count, rng)
        counts = count_epochs(z0, 0.0, h / 2, 1.0, y, loss, drop, activation=activation)
        short = counts.known & (counts.epochs <= horizon)
        expected = oracle.smooth_epochs(
            activation, loss, z0[short], h[short], y[short], drop, horizon + 1
        )
        assert short.sum() > count / 2
        np.testing.assert_array_equal(counts.epochs[short], expected)
        assert np.mean(counts.predicted[short] != expected) < 0.1


@pytest.mark.parametrize(("activation", "loss"), QUICK)
def test_lengths_are_those_of_simulation(activation, loss):
    check_against_simulation(activation, loss, 100, 2000)


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "loss"), CASES)
def test_lengths_of_every_activation_are_those_of_simulation(activation, loss):
    check_against_simulation(activation, loss, 400, 20_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss", ["quadratic", pytest.param("cross_entropy", marks=pytest.mark.slow)]
)
def test_the_sigmoid_by_quadrature_is_the_sigmoid_by_its_closed_forms(loss):
    rng = np.random.default_rng(32)
    z0, lr, y = rng.uniform(-9, 12, 400), 10 ** rng.uniform(-5, 1, 400), rng.uniform(0, 1, 400)
    z0[:50], y[:50] = np.abs(z0[:50]), 0.0
    sigmoid, drop = activations.get("sigmoid"), Drop.of(0.5)
    general = SmoothDynamics(sigmoid, "matching" if loss != "quadratic" else loss)
    columns = {"w0": z0, "b0": np.zeros(1), "lr": lr, "x": np.ones(1), "y": y}
    columns = {name: np.broadcast_to(column, 400) for name, column in columns.items()}
    expected = count_epochs(*columns.values(), loss, 0.5)
    _, (group,) = general.canonical(400, columns)
    direct = series_lengths(general, False, drop, group.neurons)
    plan = plans(general, False, drop, 0.05, group.neurons)
    far = followed(general, False, drop, 0.05, group.neurons, plan)
    holds = np.isfinite(direct.bound)
    whole = np.where(holds, 0, far.whole)
    remainder = np.where(holds, direct.epochs, far.remainder)
    bound = np.where(holds, direct.bound, far.bound)
    low, high = (np.maximum(whole + np.ceil(remainder + b), 1) for b in (-bound, bound))
    both = expected.known & (low == high)
    assert both.mean() > 0.9
    np.testing.assert_array_equal(low[both], expected.epochs[both])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["quadratic", "matching"])
def test_tanh_by_quadrature_is_tanh_as_a_stretched_sigmoid(loss):
    rng = np.random.default_rng(33)
    z0, lr, y = rng.uniform(-5, 5, 300), 10 ** rng.uniform(-4, -1, 300), rng.uniform(-1, 1, 300)
    columns = {"w0": z0, "b0": np.zeros(300), "lr": lr, "x": np.ones(300), "y": y}
    general = SmoothDynamics(activations.get("tanh"), loss)
    _, (group,) = general.canonical(300, columns)
    direct = series_lengths(general, False, Drop.of(0.1), group.neurons)
    low, high = (np.maximum(np.ceil(direct.epochs + b), 1) for b in (-direct.bound, direct.bound))
    expected = plateau_epochs(*columns.values(), loss=loss, activation="tanh")
    sure = low == high
    assert sure.mean() > 0.8
    np.testing.assert_array_equal(low[sure], expected[sure])


@pytest.mark.slow
def test_the_level_is_found_wherever_the_tail_of_the_activation_underflows():
    z0 = np.arange(0.0, 6.0, 0.125)
    counts = count_epochs(z0, 0.0, 0.15, 1.0, 0.0, activation="probit")
    assert np.all(counts.known)
    assert np.all(np.abs(counts.predicted / counts.epochs - 1) < 0.01)
    assert np.all(np.diff(counts.epochs[z0 > 1]) > 0)
    short = counts.epochs < 3000
    expected = oracle.smooth_epochs("probit", "quadratic", z0[short], 0.3, 0.0, 0.1, 3000)
    np.testing.assert_array_equal(counts.epochs[short], expected)


@pytest.mark.slow
def test_mirrored_neurons_of_odd_activations_take_equally_long():
    rng = np.random.default_rng(34)
    z0, lr, y = rng.uniform(-6, 6, 100), 10 ** rng.uniform(-4, 1, 100), rng.uniform(-1, 1, 100)
    one = count_epochs(z0, 0.0, lr, 1.0, y, activation="softsign")
    other = count_epochs(-z0, 0.0, lr, 1.0, -y, activation="softsign")
    np.testing.assert_array_equal(one.epochs, other.epochs)
    np.testing.assert_array_equal(one.state, other.state)


@pytest.mark.slow
@pytest.mark.parametrize("lr", [0.2, 0.01, 0.1, 0.45])
def test_a_linear_neuron_decays_geometrically(lr):
    epochs = plateau_epochs(3.0, 1.0, lr, loss="matching", drop=0.9, activation="identity")
    assert epochs == np.ceil(np.log(0.1) / (2 * np.log(1 - 2 * lr)))


@pytest.mark.slow
def test_the_densities_are_those_of_the_sigmoid_series():
    """``psi_{k+1}`` of the general recursion is the derivative of the sigmoid's ``P_k`` times f."""
    with jax.enable_x64(True):
        dynamics = SmoothDynamics(activations.get("sigmoid"), "quadratic", terms=6)
        z, target = jnp.float64(0.7), Target(jnp.float64(0.0), jnp.float64(1.0))
        point = dynamics.point(z, target)
        segment = SmoothSegment(point, point._replace(z=z - 1e-9))
        nodes = dynamics.nodes(segment, target, jnp.float64(1.0), short=True)
        steps = [float(d[-1]) for d in nodes.steps]
    for k, term in enumerate(sigmoid_terms("quadratic", 5), start=1):
        total = sum(
            float(c) * np.prod([d**p for d, p in zip(steps, powers, strict=False)])
            for powers, c in abel_densities(6)[k].items()
        )

        def phi(v, term=term):
            s = 1 / (1 + mpmath.exp(v))
            series = oracle.polynomial(term.polynomial, s, mpmath.mpf(1))
            return series + oracle.polynomial(term.logarithm, s, mpmath.mpf(1)) * mpmath.log(1 - s)

        with mpmath.workdps(40):
            slope = mpmath.diff(phi, mpmath.mpf(0.7))
        assert total == pytest.approx(float(slope) * float(point.gradient), rel=1e-7)


def reference_length(activation, z0, h, y, drop):
    """Return Abel's difference of the quadratic loss for small steps, by mpmath's quadrature."""
    sigma, slope = activation
    with mpmath.workdps(40):
        z0, h, y = (mpmath.mpf(float(v)) for v in (z0, h, y))

        def gradient(z):
            return (sigma(z) - y) * slope(z)

        level = y + mpmath.sqrt(1 - mpmath.mpf(str(drop))) * (sigma(z0) - y)
        z1 = mpmath.findroot(lambda z: sigma(z) - level, (z0 - 20, z0), solver="anderson")
        cuts = [z1 + (z0 - z1) * k / 24 for k in range(25)]
        flow = mpmath.quad(lambda z: 1 / gradient(z), cuts)
        bend = mpmath.quad(lambda z: mpmath.diff(gradient, z) ** 2 / gradient(z), cuts)
        first = mpmath.diff(gradient, z0) - mpmath.diff(gradient, z1) + bend
        return flow / h - mpmath.log(gradient(z0) / gradient(z1)) / 2 - h / 12 * first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("z0", "state"),
    [(3.0, EpochState.FLOAT64), (4.5, EpochState.FLOAT64), (5.2, EpochState.UNDECIDED)],
)
def test_long_lengths_agree_with_forty_digits(z0, state):
    """Past some 10¹² epochs float64 cannot tell, and there the prediction is all that is told."""
    erf = (mpmath.erf, lambda z: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-z * z))
    expected = reference_length(erf, z0, 2e-3, 0.25, 0.1)
    counts = count_epochs(z0, 0.0, 1e-3, 1.0, 0.25, activation="erf")
    assert counts.state == state
    assert abs(counts.predicted - expected) <= 1e-12 * expected + 1
    if state == EpochState.FLOAT64:
        assert counts.bound < 0.2
        assert counts.epochs == mpmath.ceil(expected)


@pytest.mark.slow
def test_what_has_no_theory_says_so():
    for name in ("relu", "leaky_relu", "gelu", "swish"):
        assert why_no_theory(name) is not None
        with pytest.raises(PlateaumapError, match=f"{name} .*simulate"):
            plateau_epochs(1.0, 1.0, 0.1, activation=name)
    with pytest.raises(PlateaumapError, match="use one of quadratic, matching"):
        plateau_epochs(1.0, 1.0, 0.1, loss="cross_entropy", activation="erf")
    with pytest.raises(PlateaumapError, match="unknown"):
        plateau_epochs(1.0, 1.0, 0.1, activation="tanhh")
    cell = {"w0": 0.0, "b0": 3.0, "lr": 0.1, "loss": "matching", "activation": "atan"}
    assert count_epochs(**cell, y=1.0).state == EpochState.INVALID
    assert count_epochs(**cell | {"b0": 0.0}, y=0.0).state == EpochState.NO_EXCESS
    assert count_epochs(30.0, 30.0, 0.1, activation="erf", y=-1.0).state == EpochState.BEYOND_INT64
    too_long = count_epochs(5.9, 0.0, 0.15, activation="erf", y=-1.0)
    assert too_long.state in (EpochState.UNDECIDED, EpochState.FLOAT64)
    assert too_long.predicted > 1e14


def test_equal_dynamics_are_one_program():
    assert dynamics_of("erf", "quadratic") == dynamics_of("erf", "quadratic")
    assert hash(dynamics_of("erf", "quadratic")) == hash(dynamics_of("erf", "quadratic"))
    assert (
        dynamics_of("tanh", "matching").compiled_as
        == dynamics_of("sigmoid", "matching").compiled_as
    )
    assert replace(dynamics_of("erf", "quadratic"), terms=2) != dynamics_of("erf", "quadratic")


@pytest.fixture(scope="module")
def pair():
    """One sweep of a neuron that is no sigmoid, simulated and leapt."""
    fields = {
        "experiment": pm.SingleNeuron("algebraic"),
        "losses": ("quadratic",),
        "axes": [pm.linspace("w0", -6, 6, 9), pm.linspace("b0", 0, 4, 5)],
        "fixed": {"lr": 0.002, "y": -0.9},
    }
    return (
        pm.run(pm.Sweep(**fields, horizon=300_000)),
        pm.run(pm.Sweep(**fields, method="leap")),
    )


@pytest.mark.slow
def test_a_leap_is_the_sweep_that_simulation_makes(pair):
    simulated, leapt = pair
    seen = simulated["tenth_epochs"].notna()
    assert (simulated["tenth_epochs"][seen] > SIMULATED_UP_TO).sum() > 10
    for column in ("plateau_epochs", "half_epochs", "tenth_epochs", "predicted_epochs", "status"):
        pd.testing.assert_series_equal(simulated[column][seen], leapt[column][seen])
    for column in ("acceleration", "plateau_fraction", "tangent_lag", "w_moved", "b_moved"):
        both = simulated[column].notna() & leapt[column].notna() & seen
        assert both.sum() > 10
        np.testing.assert_allclose(leapt[column][both], simulated[column][both], rtol=1e-2)


def test_predictions_order_simulation(pair):
    simulated, _ = pair
    seen = simulated["plateau_epochs"].notna()
    off = (simulated["predicted_epochs"] - simulated["plateau_epochs"])[seen].abs()
    assert seen.sum() > 30
    assert off.max() <= 1
    assert (off > 0).mean() < 0.05
