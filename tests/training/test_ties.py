"""Crossings exactly on an epoch, and parameters that freeze: rounding decides neither."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.training.test_statuses import by_brute_force

import plateaumap as pm
from plateaumap.training.measures import LEVELS

RATES = [0.01, 0.05, 0.125, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0]


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_simulation_leap_and_theory_agree_on_ties_in_deep_saturation(x: float) -> None:
    """The loss is z − h n up to e^−z: where 0.1 z is a multiple of h, a level lies on an epoch."""
    biases = [*np.arange(40, 120, 8.0), *-np.arange(40, 120, 8.0)]
    fields: dict[str, Any] = {
        "losses": "cross_entropy",
        "axes": [pm.values("b0", biases), pm.values("lr", RATES), pm.values("y", [0, 0.25, 1])],
        "fixed": {"w0": 0.0, "x": x},
    }
    simulated = pm.run(pm.Sweep(**fields, horizon=20_000), progress=False)
    leapt = pm.run(pm.Sweep(**fields, method="leap"), progress=False)
    points = {name: simulated[name].to_numpy() for name in ("w0", "b0", "lr", "x", "y")}
    for name, drop in LEVELS.items():
        exact = pm.plateau_epochs(**points, loss="cross_entropy", drop=drop, errors="mask")
        for frame in (simulated, leapt):
            both = ~np.ma.getmaskarray(exact) & frame[name].notna().to_numpy()
            assert both.sum() > 200
            np.testing.assert_array_equal(frame[name][both].to_numpy(np.int64), exact[both].data)


def test_the_other_columns_of_a_tie_belong_to_the_exact_epoch() -> None:
    # The loss is 100 − n/2 + 4e−44: a hair above its level at n = 20.
    fixed = {"w0": 0.0, "b0": 100.0, "lr": 0.5, "x": 0.0}
    sweep = pm.Sweep(losses="cross_entropy", fixed=fixed, horizon=1000)
    row = pm.run(sweep, progress=False).iloc[0]
    assert row["plateau_epochs"] == 21
    assert row["b_moved"] == -10.5
    assert pm.evaluate(sweep, {})["plateau_epochs"] == 21


def test_parameters_that_freeze_between_two_observations_are_detected() -> None:
    """Large parts of z that cancel: updates are near half a unit in the last place."""
    random = np.random.default_rng(3)
    count, horizon = 64, 700
    size = 2.0 ** random.integers(44, 54, count)
    w0 = size * random.uniform(1, 2, count).round(3)
    z0 = random.uniform(0.5, 6, count).round(2)
    x = random.choice([0.25, 1.0, 4.0], count)
    starts = {
        "w0": w0,
        "b0": z0 - w0 * x,  # rounded: the run starts from the stored number
        "lr": 2.0 ** random.integers(-9, 6, count),
        "x": x,
        "y": random.choice([0.0, 0.0, 0.3], count),
    }
    axis = pm.points(**{name: values.tolist() for name, values in starts.items()})
    frame = pm.run(
        pm.Sweep(losses="cross_entropy", axes=[axis], horizon=horizon, tolerance=0), progress=False
    )
    seen = set()
    for row in frame.to_dict("records"):
        point = {name: float(row[name]) for name in ("w0", "b0", "lr", "x", "y")}
        if row["status"] == "converged_at_start":
            continue
        curve = pm.simulate(loss="cross_entropy", **point, epochs=horizon)
        status, epoch, crossings = by_brute_force(
            curve, point, "float64", horizon, row["loss_floor"]
        )
        measured = [None if row[name] is pd.NA else row[name] for name in LEVELS]
        assert (row["status"], row["epochs_run"], measured) == (status, epoch, list(crossings)), (
            point
        )
        seen.add(status)
    assert {"escaped", "stalled", "partially_stalled"} <= seen
