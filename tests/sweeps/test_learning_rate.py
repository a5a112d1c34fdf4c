"""The laws by learning rate, on tables made by hand and by a sweep."""

import numpy as np
import pandas as pd
import pytest
from sweeps.learning_rate import laws_by_rate

import plateaumap as pm


def table(**columns) -> pd.DataFrame:
    rows = {
        "loss": "cross_entropy",
        "lr": 1.0,
        "y": 0.0,
        "initial_output": 0.5,
        "plateau_fraction": 0.1,
        "acceleration": 1.0,
        "tenth_epochs": pd.array([9] * 3, "Int64"),
    }
    return pd.DataFrame({**rows, **columns})


def test_the_bound_is_one_ninth_but_for_rounding():
    for fraction, within in ((1 / 9, True), ((1 + 9e-10) / 9, True), ((1 + 2e-9) / 9, False)):
        laws = laws_by_rate(table(plateau_fraction=[0.05, fraction, 0.1]))
        assert laws["within_bound"].tolist() == [within]
        assert laws["largest_fraction"].tolist() == [fraction]


def test_runs_that_were_not_followed_to_t90_do_not_count():
    epochs = pd.array([9, None, 9], "Int64")
    laws = laws_by_rate(table(tenth_epochs=epochs, acceleration=[2.0, np.nan, 3.0]))
    assert laws.loc[0, ["runs", "least_acceleration", "largest_acceleration"]].tolist() == [2, 2, 3]


def test_the_quadratic_loss_nears_theory_with_the_square_of_the_rate():
    sweep = pm.Sweep(
        axes=[pm.linspace("w0", -1, 5, 9), pm.values("lr", [0.02, 0.2])],
        fixed={"b0": 0.0},
        horizon=50_000,
    )
    laws = laws_by_rate(pm.run(sweep)).set_index(["loss", "lr"])
    assert laws.loc["cross_entropy", "within_bound"].all()
    assert not laws.loc["quadratic", "within_bound"].any()
    assert (laws.loc["cross_entropy", "largest_acceleration"] == 1).all()
    off = laws.loc["quadratic", "off_theory"]
    assert off[0.02] < 1e-5
    assert off[0.2] == pytest.approx(100 * off[0.02], rel=0.5)
    assert laws.loc["cross_entropy", "off_theory"].isna().all()


def test_a_table_without_the_measures_is_refused():
    with pytest.raises(pm.PlateaumapError, match="plateau_fraction"):
        laws_by_rate(table().drop(columns="plateau_fraction"))
