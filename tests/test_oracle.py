"""The engine against the oracle, and the oracle against everything else that is exact."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import plateaumap as pm
from tests import reference
from tests.oracle import Answer, Config, answer, is_stable, random_config

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = json.loads((ROOT / "tests/golden/neuron.json").read_text())["configs"]
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@st.composite
def configs(draw, horizon: int) -> Config:
    """Draw a run of the oracle's domain; shrinks to simple numbers."""
    loss = draw(st.sampled_from(["quadratic", "cross_entropy"]))
    x, w0 = draw(st.floats(-10, 10)), draw(st.floats(-8, 8))
    y = draw(st.sampled_from([0.0, 1.0]) | st.floats(0, 1))
    z0, lr = draw(st.floats(-10, 12)), 10 ** draw(st.floats(-3, 1))
    config = Config(loss, w0, z0 - w0 * x, lr, x, y, horizon)
    assume(is_stable(config))
    return config


def assert_right(config: Config, exact: Answer, precision: str = "float64") -> None:
    fixed = {name: getattr(config, name) for name in ("w0", "b0", "lr", "x", "y")}
    sweep = pm.Sweep(
        losses=config.loss,
        fixed=fixed,
        horizon=config.horizon,
        tolerance=config.tolerance,
        precision=precision,
    )
    different = exact.differences(pm.evaluate(sweep, {}))
    assert not different, f"{'; '.join(different)}; reproduce with\n  {config}"


@settings(max_examples=100, **UNHURRIED)
@given(configs(horizon=300))
def test_short_runs_are_right_to_the_epoch(config):
    assert_right(config, answer(config))


@pytest.mark.slow
@settings(max_examples=400, **UNHURRIED)
@given(configs(horizon=20_000))
def test_long_runs_are_right_to_the_epoch(config):
    assert_right(config, answer(config))


def test_a_failure_prints_the_line_that_reproduces_it():
    config = Config("quadratic", 2.0, 2.0, 0.15, 1.0, 0.0, 1000)
    wrong = Answer("escaped", 153, 212, 260, 214, 260)
    with pytest.raises(AssertionError, match="plateau_epochs: 152, exactly 153") as failure:
        assert_right(config, wrong)
    line = str(failure.value).split("\n")[1].strip()
    assert eval(line, {"pm": pm})["plateau_epochs"] == 152


def golden_config(golden: dict, horizon: int) -> Config:
    loss = {"mse": "quadratic", "ce": "cross_entropy"}[golden["loss"]]
    numbers = (golden[name] for name in ("w0", "b0", "eta", "x", "y"))
    return Config(loss, *numbers, horizon, tolerance=0.0)


def assert_the_oracle_is_golden(golden: dict, horizon: int) -> None:
    exact = answer(golden_config(golden, horizon))
    expected = [golden["departure_epoch"][drop] for drop in ("0.1", "0.5")]
    reached = [None if n is None or n > horizon else n for n in expected]
    assert [exact.plateau, exact.half] == reached, golden["inputs_hex"]


def test_the_oracle_gives_the_golden_answers_of_short_runs():
    short = [g for g in GOLDEN if (g["departure_epoch"]["0.5"] or 10**9) <= 500]
    for golden in short:
        assert_the_oracle_is_golden(golden, 600)
    assert len(short) > 50


@pytest.mark.slow
def test_the_oracle_gives_all_golden_answers():
    for golden in GOLDEN:
        assert_the_oracle_is_golden(golden, 20_000)


def test_the_oracle_agrees_with_a_plain_loop():
    """Where the target is at rest; the loop is in float64, its losses differ at the last bits."""
    random = np.random.default_rng(8)
    for _ in range(60):
        config = random_config(random, 200)
        exact = answer(config)
        run = reference.train(
            config.loss, config.w0, config.b0, config.lr, config.x, config.y, config.horizon
        )
        if exact.status == "converged_at_start":
            z0 = config.w0 * config.x + config.b0
            assert abs(reference.sigmoid(z0) - config.y) <= config.tolerance
        else:
            assert (exact.plateau, exact.half, exact.tenth) == (run.plateau, run.half, run.tenth)
            assert exact.steepest in (None, run.steepest)


def test_the_oracle_foresees_what_a_format_freezes():
    """Deep starts in plain float32, whose numbers it holds exactly: who stalls, and where."""
    random = np.random.default_rng(9)
    count, horizon = 60, 60
    x = random.choice([0.25, 1.0, 8.0], count)
    w0 = random.integers(-80, 80, count) / 16
    b0 = np.round((random.uniform(5, 20, count) - w0 * x) * 16) / 16
    lr = 2.0 ** random.integers(-6, 4, count)
    seen = set()
    for numbers in zip(w0, b0, lr, x, strict=True):
        config = Config("quadratic", *map(float, numbers), 0.0, horizon)
        exact = answer(config, digits=24)
        fixed = {name: getattr(config, name) for name in ("w0", "b0", "lr", "x")}
        sweep = pm.Sweep(
            losses="quadratic", fixed=fixed, horizon=horizon, precision="float32_plain"
        )
        row = pm.evaluate(sweep, {})
        assert row["status"] == exact.status, str(config)
        if exact.status in ("stalled", "partially_stalled"):
            assert row["epochs_run"] == exact.epochs_run, str(config)
        seen.add(exact.status)
    assert seen == {"escaped", "censored", "stalled", "partially_stalled"}


@pytest.mark.slow
def test_the_benchmark_finds_nothing_wrong_and_says_how_much_it_looked_at():
    script = ROOT / "benchmarks/oracle.py"
    command = [sys.executable, script, "--count", "60", "--seed", "5", "--horizon", "2000"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "0 wrong of 60" in told.stdout
