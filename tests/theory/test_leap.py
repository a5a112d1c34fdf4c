"""`method="leap"`: the same table as simulation where both can tell, and more where only it can."""

import numpy as np
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.theory import leap

BOTH = ("quadratic", "cross_entropy")
CROSSINGS = ["plateau_epochs", "half_epochs", "tenth_epochs"]


@pytest.fixture(scope="module")
def pair() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one sweep simulated and leapt, with runs on both sides of what is simulated anyway."""
    axes = [pm.linspace("w0", -5, 7, 13), pm.linspace("b0", -2, 4, 7), pm.values("y", [0, 0.3, 1])]
    fields = {"losses": BOTH, "axes": axes, "fixed": {"lr": 0.2, "x": 1.5}}
    simulated = pm.run(pm.Sweep(**fields, horizon=300_000))
    leapt = pm.run(pm.Sweep(**fields, method="leap"))
    assert (simulated["tenth_epochs"].dropna() > leap.SIMULATED_UP_TO).sum() > 30
    return simulated, leapt


@pytest.mark.slow
def test_every_status_and_crossing_is_that_of_simulation(
    pair: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    simulated, leapt = pair
    seen = simulated["tenth_epochs"].notna() | (simulated["status"] == "converged_at_start")
    assert seen.mean() > 0.9
    for column in ["status", "path", "predicted_epochs", *CROSSINGS]:
        pd.testing.assert_series_equal(simulated[column][seen], leapt[column][seen])


def test_the_other_measures_are_those_of_simulation_up_to_the_size_of_a_step(
    pair: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    simulated, leapt = pair
    tolerances = {
        "initial_output": 0,
        "initial_gradient": 0,
        "initial_loss": 0,
        "loss_floor": 0,
        "acceleration": 2e-3,
        "plateau_fraction": 2e-3,
        "tangent_lag": 2e-3,
        "w_moved": 2e-2,
        "b_moved": 2e-2,
    }
    for column, tolerance in tolerances.items():
        both = simulated[column].notna() & leapt[column].notna()
        assert both.sum() > 100
        np.testing.assert_allclose(
            leapt[column][both], simulated[column][both], rtol=tolerance, atol=tolerance / 100
        )


def test_what_theory_cannot_fill_is_null_in_its_rows_and_simulated_in_the_others(
    pair: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    simulated, leapt = pair
    by_theory = (leapt["tenth_epochs"] > leap.SIMULATED_UP_TO).fillna(False).to_numpy(bool)
    seen = simulated["tenth_epochs"].notna() & ~by_theory
    assert min(by_theory.sum(), seen.sum()) > 30
    for column in ("steepest_epoch", "final_output", "final_loss"):
        assert leapt[column][by_theory].isna().all()
        pd.testing.assert_series_equal(leapt[column][seen], simulated[column][seen])
    both = simulated["tenth_epochs"].notna()
    pd.testing.assert_series_equal(leapt["epochs_run"][both], simulated["epochs_run"][both])


def test_no_length_is_censored_without_a_horizon_and_later_ones_are_with_one() -> None:
    fields = {"axes": [pm.linspace("w0", 0, 16, 17)], "fixed": {"b0": 8.0, "lr": 0.15}}
    free = pm.run(pm.Sweep(losses="quadratic", method="leap", **fields))
    assert (free["status"] == "escaped").all()
    assert free["plateau_epochs"].is_monotonic_increasing
    horizon = int(free["plateau_epochs"][8])
    bound = pm.run(pm.Sweep(losses="quadratic", method="leap", horizon=horizon, **fields))
    assert (bound["status"] == np.where(np.arange(17) <= 8, "escaped", "censored")).all()
    assert bound["plateau_epochs"][:9].tolist() == free["plateau_epochs"][:9].tolist()
    assert bound["plateau_epochs"][9:].isna().all()
    assert bound["tenth_epochs"][8:].isna().all()


def test_a_length_beyond_int64_has_its_status_and_its_prediction() -> None:
    sweep = pm.Sweep(
        losses="quadratic",
        method="leap",
        axes=[pm.values("w0", [20.0, 50.0, 300.0])],
        fixed={"b0": 0.0, "lr": 1.0},
    )
    frame = pm.run(sweep)
    assert frame["status"].tolist() == ["escaped", "beyond_int64", "beyond_int64"]
    assert frame["plateau_epochs"].isna().tolist() == [False, True, True]
    # The flow time is e^z over h = 2 in this limit.
    np.testing.assert_allclose(frame["predicted_epochs"], np.exp(frame["w0"]) / 2, rtol=0.11)


def test_an_overshooting_path_is_simulated() -> None:
    fields = {"axes": [pm.values("lr", [10.0, 50.0])], "fixed": {"w0": 1, "b0": 1, "y": 0.3}}
    leapt = pm.run(pm.Sweep(losses=BOTH, method="leap", **fields))
    simulated = pm.run(pm.Sweep(losses=BOTH, **fields))
    for column in ["status", "path", *CROSSINGS]:
        pd.testing.assert_series_equal(leapt[column], simulated[column])
    assert simulated["path"].notna().any()


@pytest.mark.slow
def test_a_neuron_without_theory_is_simulated() -> None:
    fields = {
        "experiment": pm.SingleNeuron("relu"),
        "losses": ("quadratic", "matching"),
        "axes": [pm.values("w0", [-1.0, 1.0])],
        "fixed": {"b0": 0.5, "lr": 0.1, "y": 0.25},
    }
    leapt, simulated = pm.run(pm.Sweep(method="leap", **fields)), pm.run(pm.Sweep(**fields))
    for column in CROSSINGS:
        pd.testing.assert_series_equal(leapt[column], simulated[column])


def test_with_until_plateau_the_later_crossings_are_null() -> None:
    fields = {"axes": [pm.values("w0", [2.0, 20.0])], "fixed": {"b0": 2.0, "lr": 0.15}}
    frame = pm.run(pm.Sweep(losses=BOTH, method="leap", until="plateau", **fields))
    assert frame["plateau_epochs"].notna().all()
    for column in ("half_epochs", "tenth_epochs"):
        assert frame[column].isna().all()
    for column in ("plateau_fraction", "acceleration", "tangent_lag", "shape"):
        assert frame[column].isna().all()
