"""The networks of `sweeps/`: what their scripts and the gallery say of them, at small sizes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.spec import load_spec

SWEEPS = Path(__file__).resolve().parent.parent / "sweeps"


def small(script: str, **settings: Any) -> pm.Sweep:
    changes = {name.replace("__", "."): value for name, value in settings.items()}
    return load_spec(SWEEPS / f"{script}.py").with_settings(changes)


@pytest.fixture(scope="module")
def circle() -> pd.DataFrame:
    return pm.run(
        small(
            "confidently_wrong", axes__z0__values=[2, 8, 16], axes__share__num=8,
            axes__share__start=0.125, horizon=12_000,
        )
    )  # fmt: skip


def test_the_share_of_wrong_samples_is_the_one_asked_for(circle: pd.DataFrame) -> None:
    np.testing.assert_array_equal(circle["wrong"], circle["share"])
    sure = circle["z0"] == 16
    assert (circle["confidently_wrong"] <= circle["wrong"]).all()
    assert (circle.loc[sure, "confidently_wrong"] > 0.5 * circle.loc[sure, "share"]).sum() >= 10


def test_plateaus_approach_their_limit_as_the_neuron_gets_surer(circle: pd.DataFrame) -> None:
    off = circle["plateau_epochs"].astype(float) / circle["predicted_epochs"] - 1
    inside = circle["share"].between(0.25, 0.75)
    for loss, allowed in (("quadratic", 0.1), ("cross_entropy", 0.06)):
        errors = [
            off[inside & (circle["loss"] == loss) & (circle["z0"] == start)].abs().max()
            for start in (8, 16)
        ]
        assert errors[1] < errors[0] < 0.2
        assert errors[1] < allowed


def test_quadratic_learning_slows_with_the_share_but_cross_entropy_does_not(
    circle: pd.DataFrame,
) -> None:
    sure = circle[(circle["z0"] == 16) & circle["share"].between(0.2, 0.9)]
    lengths = sure.pivot(index="share", columns="loss", values="plateau_epochs").astype(float)
    assert (np.diff(lengths["quadratic"]) > 0).all()
    assert lengths["cross_entropy"].max() <= 1.1 * lengths["cross_entropy"].min()
    # It does not stop: one wrong sample by itself would take thousands of times longer.
    alone = pm.plateau_epochs(16.0, 0.0, 0.05 / 2)
    assert lengths["quadratic"].max() < alone / 1000


@pytest.fixture(scope="module")
def surface() -> pd.DataFrame:
    return pm.run(small("two_weights", axes__w__num=6, axes__v__num=8, horizon=3000))


def test_both_weights_may_change_their_sign_together(surface: pd.DataFrame) -> None:
    columns = ["initial_loss", "plateau_epochs"]
    for _, rows in surface.groupby("loss", observed=True):
        ordered = rows.sort_values(["w", "v"])[columns].astype(float)
        np.testing.assert_allclose(ordered, ordered[::-1], rtol=1e-12)


def test_the_quadratic_loss_is_flat_where_it_is_high(surface: pd.DataFrame) -> None:
    wrong = surface[surface["w"] * surface["v"] < 0]
    furthest = wrong[(wrong["w"].abs() == 4) & (wrong["v"].abs() == 8)]
    lengths = furthest.groupby("loss", observed=True)["plateau_epochs"].mean()
    assert lengths["quadratic"] > 300 * lengths["cross_entropy"]
    highest = furthest[furthest["loss"] == "quadratic"]["initial_loss"]
    # All samples wrong with certainty: half a squared distance of one, and no more.
    assert highest.between(0.45, 0.5).all()
