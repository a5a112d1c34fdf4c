"""The golden answers: 77 runs in 60-digit arithmetic, met exactly by the engine."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import plateaumap as pm

CONFIGS = json.loads((Path(__file__).parent / "golden/neuron.json").read_text())["configs"]
LOSS = {"mse": "quadratic", "ce": "cross_entropy"}
HORIZON = 20_000


def run_golden(key: str, precision: str = "float64") -> tuple[list[dict], pd.DataFrame]:
    configs = [config for config in CONFIGS if config["loss"] == key]
    columns = {"w0": "w0", "b0": "b0", "lr": "eta", "x": "x", "y": "y"}
    sweep = pm.Sweep(
        name="golden",
        losses=[LOSS[key]],
        axes=[
            pm.points(**{ours: [c[theirs] for c in configs] for ours, theirs in columns.items()})
        ],
        horizon=HORIZON,
        tolerance=0,
        precision=precision,
    )
    return configs, pm.run(sweep)


@pytest.mark.parametrize("key", LOSS)
def test_every_departure_is_met_exactly(key: str) -> None:
    configs, frame = run_golden(key)
    wrong = []
    for row, config in enumerate(configs):
        for drop, column in (("0.1", "plateau_epochs"), ("0.5", "half_epochs")):
            expected, found = config["departure_epoch"][drop], frame[column][row]
            found = None if found is pd.NA else int(found)
            if found != expected:
                wrong.append((config["name"], config["inputs_hex"], column, expected, found))
    assert len(configs) > 30
    assert not wrong


@pytest.mark.parametrize("key", LOSS)
def test_the_steepest_epoch_is_met_where_the_file_reaches_the_end_of_the_run(key: str) -> None:
    configs, frame = run_golden(key)
    compared = 0
    for row, config in enumerate(configs):
        tenth = frame["tenth_epochs"][row]
        if tenth is pd.NA or tenth > config["epochs_simulated"]:
            continue
        epoch, value = config["argmax_loss_drop"]
        if epoch < tenth:
            assert frame["steepest_epoch"][row] == epoch, config["name"]
            compared += 1
        assert float(value) >= 0
    assert compared >= 20


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c['name']}-{c['loss']}-{c['eta']}")
def test_trajectories_agree_to_the_tolerance_of_the_file(config: dict) -> None:
    wanted = {int(n): row for n, row in config["trajectory"].items() if row["compare_float64"]}
    curve = pm.simulate(
        loss=LOSS[config["loss"]],
        w0=config["w0"],
        b0=config["b0"],
        lr=config["eta"],
        x=config["x"],
        y=config["y"],
        epochs=max(wanted),
    )
    scale = max(1.0, abs(config["w0"] * config["x"]) + abs(config["b0"]))
    for epoch, row in wanted.items():
        a, s = float(row["a"]), float(row["one_minus_a"])
        tolerance = 8 * 2.2e-16 * (1 + abs(float(row["dz_dz0"])) * scale * a * s)
        assert abs(curve["output"][epoch] - a) <= tolerance
        assert abs(curve["z"][epoch] - float(row["z"])) * a * s <= tolerance


def test_the_gradient_at_the_start_is_right_where_one_minus_a_is_lost() -> None:
    deep = [c for c in CONFIGS if c["loss"] == "mse" and float(c["trajectory"]["0"]["z"]) > 36]
    for config in deep:
        curve = pm.simulate(
            loss="quadratic",
            w0=config["w0"],
            b0=config["b0"],
            lr=config["eta"],
            x=config["x"],
            y=config["y"],
            epochs=0,
        )
        exact = float(config["trajectory"]["0"]["dLdz"])
        np.testing.assert_allclose(curve["gradient"][0], exact, rtol=1e-13)
    assert deep
