"""The probability of being stuck against units that are drawn at random and trained."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from tests.program import plateaumap, settings_restored

import plateaumap as pm
from plateaumap.neuron.initialisation import NAMES

DRAWS = 4000
NORMAL = pm.Initialisation.named("normal", 30, scale=1.0)
SETTINGS = {
    "wide normal weights": (NORMAL, {"lr": 0.15, "epochs": 200}),
    "two inputs and a bias": (
        pm.Initialisation.named("uniform", 2, scale=4.0, bias_scale=2.0),
        {"lr": 0.05, "epochs": 50},
    ),
    "small inputs, cross-entropy": (
        pm.Initialisation.named("uniform", 50, scale=2.0, input_rms=0.5),
        {"lr": 0.002, "epochs": 20, "loss": "cross_entropy"},
    ),
    "a slope": (
        pm.Initialisation.named("glorot_normal", 20, fan_out=5),
        {"lr": 0.03, "epochs": 20, "slope": 4.0},
    ),
    "tanh": (
        pm.Initialisation.named("normal", 20, scale=0.7),
        {"lr": 0.02, "epochs": 100, "activation": "tanh", "y": -1.0},
    ),
}


def drawn(random: np.random.Generator, scale: float, family: str, shape: tuple) -> np.ndarray:
    return (
        random.normal(0, scale, shape)
        if family == "normal"
        else random.uniform(-scale, scale, shape)
    )


def trained(
    unit: pm.Initialisation, settings: dict, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of many units do not leave, and all initial errors, in plain NumPy."""
    tanh = settings.get("activation") == "tanh"
    y, slope, lr = settings.get("y", 0.0), settings.get("slope", 1.0), settings["lr"]
    x = unit.input_rms * random.choice([-1.0, 1.0], unit.fan_in)
    w = drawn(random, unit.scale, unit.family, (DRAWS, unit.fan_in))
    b = drawn(random, unit.bias_scale, unit.family, (DRAWS,))

    def forward() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        z = slope * (w @ x + b)
        a = np.tanh(z) if tanh else 1 / (1 + np.exp(-z))
        if settings.get("loss") == "cross_entropy":
            return a, np.logaddexp(0, z), a
        return a, (a - y) ** 2 / 2, (a - y) * ((1 - a**2) if tanh else a * (1 - a))

    a, first, gradient = forward()
    error = np.abs(a - y)
    slow = error > 0.01
    for _ in range(settings["epochs"]):
        w -= lr * slope * gradient[:, None] * x
        b -= lr * slope * gradient
        _, loss, gradient = forward()
        slow &= loss > 0.9 * first
    return slow, error


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n != "a slope" else []) for n in SETTINGS],
)
def test_the_probabilities_are_the_shares_of_trained_units(name: str) -> None:
    unit, settings = SETTINGS[name]
    slow, error = trained(unit, settings, np.random.default_rng(7))
    result = pm.risk(unit, **settings)
    # Half of the largest error: outputs between 0 and 1, or -1 and 1.
    assert result.wrong_error == (1.0 if settings.get("activation") == "tanh" else 0.5)
    wrong = error >= result.wrong_error
    shares = {"stuck": slow & wrong, "near": slow & ~wrong, "starts_wrong": wrong}
    for probability, units in shares.items():
        expected = getattr(result, probability)
        assert abs(units.mean() - expected) <= 4 * np.sqrt(expected * (1 - expected) / DRAWS)
    assert 0.02 < result.stuck + result.near < 0.9


def test_units_near_their_target_are_not_stuck() -> None:
    start = pm.Initialisation.named("uniform", 10, scale=3.0)
    result = pm.risk(start, lr=0.05, epochs=300, slope=0.5)
    [(low, high)] = result.near_starts
    [(first, last)] = result.starts
    assert low < high < 0 < first < last
    assert result.stuck == pytest.approx(start.below(-first))
    assert result.near == pytest.approx(start.below(high) - start.below(low))
    # Each end is where a plateau or an error passes its limit. A slope of ½ halves z, and makes
    # the rate that of a quarter.
    ends = [0.5 * (z + d) for z in (high, first) for d in (-1e-6, 1e-6)]
    lengths = pm.plateau_epochs(w0=0.0, b0=ends, lr=0.05 / 4, x=start.input_norm)
    assert lengths.tolist() == [301, 300, 300, 301]
    assert 1 / (1 + np.exp(-0.5 * low)) == pytest.approx(0.01)


@pytest.mark.slow
def test_the_error_of_a_wrong_output_is_an_argument() -> None:
    for error in (0.02, 0.9):
        result = pm.risk(NORMAL, lr=0.002, epochs=200, wrong_error=error)
        edge = np.log(error / (1 - error))
        assert result.starts_wrong == pytest.approx(float(NORMAL.below(-edge)))
        assert result.stuck + result.near == pytest.approx(
            pm.risk(NORMAL, lr=0.002, epochs=200).stuck + pm.risk(NORMAL, lr=0.002, epochs=200).near
        )
    with pytest.raises(pm.PlateaumapError, match="wrong_error = 0"):
        pm.risk(NORMAL, lr=0.1, epochs=10, wrong_error=0)


@pytest.mark.slow
def test_dead_units_are_stuck_where_their_output_is_wrong() -> None:
    result = pm.risk(NORMAL, lr=0.001, epochs=100, activation="relu", y=2.0)
    [(low, high)] = result.starts
    assert result.wrong_error == 1
    assert low == -NORMAL.reach
    assert high == pytest.approx(0, abs=1e-5)
    assert result.stuck == pytest.approx(0.5, abs=1e-5)
    assert result.starts_wrong == pytest.approx(
        1 - float(NORMAL.below(3.0) - NORMAL.below(1.0)), abs=1e-5
    )


def test_stuck_starts_are_where_plateaus_are_longer() -> None:
    result = pm.risk(NORMAL, lr=0.15, epochs=200)
    [(low, _)] = result.starts
    lengths = pm.plateau_epochs(w0=0.0, b0=[low - 1e-6, low + 1e-6], lr=0.15, x=NORMAL.input_norm)
    assert lengths.tolist() == [200, 201]


@pytest.mark.parametrize("fan_in", [1, 2, 3, 12, 400])
def test_uniform_weights_have_the_distribution_that_is_drawn(fan_in: int) -> None:
    start = pm.Initialisation("uniform", 0.5, fan_in, input_rms=2.0, bias_scale=0.25)
    random = np.random.default_rng(fan_in)
    z = 2.0 * random.uniform(-0.5, 0.5, (20_000, fan_in)).sum(axis=1)
    z += random.uniform(-0.25, 0.25, 20_000)
    assert z.std() == pytest.approx(start.sd, rel=0.03)
    places = np.linspace(-2.5, 2.5, 11) * start.sd
    expected = start.below(places)
    assert np.abs((z[:, None] <= places).mean(axis=0) - expected).max() < 4 * 0.5 / np.sqrt(20_000)
    np.testing.assert_allclose(expected + start.below(-places), 1, atol=1e-12)


def test_a_sum_of_three_uniforms_has_irwin_and_halls_distribution() -> None:
    start = pm.Initialisation("uniform", 0.5, 3)
    s = np.array([0.2, 0.9, 1.0, 1.5, 2.4, 2.9])
    terms = [(-1) ** k * c * np.clip(s - k, 0, None) ** 3 / 6 for k, c in enumerate((1, 3, 3, 1))]
    np.testing.assert_allclose(start.below(s - 1.5), sum(terms), atol=1e-13)
    assert start.below([-1.5, -2.0, 1.5, 7.0]).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_named_weights_have_their_variance(name: str) -> None:
    scale = 0.3 if name in ("normal", "uniform") else None
    start = pm.Initialisation.named(name, 50, scale=scale, fan_out=30)
    variance = {"lecun": 1 / 50, "he": 2 / 50, "glorot": 2 / 80}.get(name.split("_")[0])
    if variance is None:
        variance = 0.09 if name == "normal" else 0.03
    assert start.sd == pytest.approx(np.sqrt(50 * variance))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "cauchy"}, "family = 'cauchy'"),
        ({"scale": 0.0}, "scale = 0.0"),
        ({"fan_in": 0}, "fan_in = 0"),
        ({"input_rms": float("nan")}, "input_rms = nan"),
        ({"bias_scale": -1.0}, "bias_scale = -1.0"),
    ],
)
def test_values_of_no_distribution_are_refused(change: dict, message: str) -> None:
    with pytest.raises(pm.PlateaumapError, match=message):
        dataclasses.replace(NORMAL, **change)


RISK = ("risk", "--lr", 0.15, "--epochs", 200, "--fan-in", 30)


@pytest.fixture(scope="module", autouse=True)
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with settings_restored(tmp_path_factory.mktemp("cache")):
        yield


def test_the_command_shows_the_probability() -> None:
    done = plateaumap(*RISK, "--scale", 1)
    assert done.code == 0
    probability = 100 * pm.risk(NORMAL, lr=0.15, epochs=200).stuck
    assert f"starts wrong and is stuck for more than 200 epochs: {probability:.3g} %" in done.output
    assert "starts wrong (error of at least 0.5): 50 %" in done.output
    assert "starts near the target and takes more than 200 epochs: 0 %" in done.output


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "--scale is missing"),
        (["--weights", "he_normal", "--scale", "1"], "he_normal sets its own scale"),
        (["--weights", "glorot_normal"], "--fan-out is missing"),
        (["--weights", "norml"], "did you mean 'normal'"),
        (["--scale", "1", "--y", "2"], "--y 2.0"),
        (["--scale", "1", "--lr", "-1"], "lr"),
        (["--scale", "1", "--loss", "hinge"], "hinge"),
        (["--scale", "1", "--slope", "0"], "--slope 0.0"),
        (["--scale", "inf"], "--scale inf"),
    ],
)
def test_the_command_refuses_bad_values(wrong: list[str], message: str) -> None:
    done = plateaumap(*RISK, *wrong)
    assert done.code == 2
    assert message in done.output
