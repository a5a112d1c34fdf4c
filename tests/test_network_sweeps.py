"""The networks of `sweeps/` at small sizes have the properties that the gallery states."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.sweep.files import load_spec

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


@pytest.mark.slow
def test_the_share_of_wrong_samples_is_the_coordinate(circle: pd.DataFrame) -> None:
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
    # Learning does not stop: the plateau of a single wrong sample is thousands of times longer.
    alone = pm.plateau_epochs(16.0, 0.0, 0.05 / 2)
    assert lengths["quadratic"].max() < alone / 1000


@pytest.fixture(scope="module")
def surface() -> pd.DataFrame:
    return pm.run(small("two_weights", axes__w__num=6, axes__v__num=8, horizon=3000))


@pytest.mark.slow
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


LOSSES = ("quadratic", "cross_entropy", "linear")
EPOCHS = 12


@pytest.fixture(scope="module")
def digits() -> pd.DataFrame:
    return pm.run(
        small("digits", axes__scale__values=[1.0], axes__lr__values=[0.3],
              axes__seed__num=2, horizon=EPOCHS)
    )  # fmt: skip


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def trained(network: Any, point: dict[str, Any], loss: str) -> tuple[list[float], dict[str, float]]:
    """The same network in NumPy and float64, its gradients by hand: losses, accuracies, shares."""
    with jax.enable_x64(True):
        start = network.init(
            {"scale": np.float32(point["scale"]), "seed": np.int64(point["seed"]), "lr": 0}
        )
    p = {name: np.asarray(value, float) for name, value in start.items()}
    x, y = network.pixels, (np.arange(10)[:, None] == network.labels).astype(float)

    def forward(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hidden = sigmoid(p["w1"] @ pixels + p["b1"][:, None])
        return hidden, p["w2"] @ hidden + p["b2"][:, None]

    def accuracy() -> float:
        answers = forward(network.test_pixels)[1].argmax(axis=0)
        return float(np.mean(answers == network.test_labels))

    outputs = sigmoid(forward(x)[1])
    expected = {
        "accuracy_0": accuracy(),
        "saturated": np.mean((outputs <= 0.01) | (outputs >= 0.99)),
        "confidently_wrong": np.mean(np.abs(outputs - y) >= 0.99),
    }
    losses = []
    for epoch in range(EPOCHS + 1):
        hidden, z = forward(x)
        a = z if loss == "linear" else sigmoid(z)
        if loss == "cross_entropy":
            each, error = np.logaddexp(0, z) - y * z, a - y
        else:
            each = (a - y) ** 2 / 2
            error = (a - y) * (1 if loss == "linear" else a * (1 - a))
        losses.append(each.sum(axis=0).mean())
        if epoch == 10:
            expected["accuracy_10"] = accuracy()
        if epoch < EPOCHS:
            error = error / x.shape[1]
            back = (p["w2"].T @ error) * hidden * (1 - hidden)
            steps = {
                "w2": error @ hidden.T,
                "b2": error.sum(1),
                "w1": back @ x.T,
                "b1": back.sum(1),
            }
            p = {name: value - point["lr"] * steps[name] for name, value in p.items()}
    expected["final_accuracy"] = accuracy()
    return losses, expected


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_the_digits_are_learned_as_by_a_plain_loop(digits: pd.DataFrame, loss: str) -> None:
    network = small("digits").experiment
    rows = digits[digits["loss"] == loss]
    assert len(rows) == 2
    for row in rows.to_dict("records"):
        losses, expected = trained(network, row, loss)
        assert row["initial_loss"] == pytest.approx(losses[0], rel=1e-5)
        assert row["final_loss"] == pytest.approx(losses[-1], rel=1e-3)
        crossed = np.flatnonzero(np.array(losses) <= 0.9 * losses[0])
        assert row["plateau_epochs"] == crossed[0]
        for name in ("saturated", "confidently_wrong"):
            assert row[name] == pytest.approx(expected[name], abs=2e-4)
        for name in ("accuracy_0", "accuracy_10", "final_accuracy"):
            assert row[name] == pytest.approx(expected[name], abs=1.01 / 359)


@pytest.mark.slow
def test_every_digit_run_goes_on_to_the_horizon(digits: pd.DataFrame) -> None:
    assert (digits["epochs_run"] == EPOCHS).all()
    assert digits["accuracy_30"].isna().all()


def test_digits_say_what_they_need(tmp_path: Path) -> None:
    code = (
        "import runpy, sys; sys.modules['sklearn'] = None; "
        f"runpy.run_path({str(SWEEPS / 'digits.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "digits.py needs scikit-learn: pip install 'plateaumap[digits]'\n"


@pytest.mark.slow
def test_trainability_is_the_papers_measure() -> None:
    sweep = small("trainability", horizon=60)
    problem = sweep.experiment
    rates = [0.5, 5, 20, 40, 90, 1e4]
    frame = pm.run(
        pm.Sweep(
            experiment=problem, losses="squared_error", horizon=60,
            axes=[pm.values("lr_hidden", rates), pm.values("lr_output", rates)],
        )
    )  # fmt: skip
    assert 5 < frame["converged"].sum() < 31
    compared = 0
    for row in frame.to_dict("records"):
        pair = relative_losses(problem, row["lr_hidden"], row["lr_output"], 60)
        # Where tiny differences grow, two correct results diverge.
        if not np.allclose(*pair, rtol=1e-6):
            continue
        compared += 1
        relative = pair[0]
        converged = relative[-20:].mean() < 1
        assert row["converged"] == converged
        intensity = relative.sum() if converged else (1 / relative[relative < 1e6]).sum()
        assert row["intensity"] == pytest.approx(intensity, rel=1e-4)
    assert compared >= 24


def relative_losses(problem: Any, hidden: float, output: float, epochs: int) -> list[np.ndarray]:
    """Return losses over the first one, at most 1e6, from the same start and from a nearby one."""
    pair = []
    for nudge in (0.0, 1e-13):
        x, y = problem.inputs, problem.targets
        w, v = problem.first + nudge, problem.second
        n, losses = x.shape[1], []
        with np.errstate(all="ignore"):
            for _ in range(epochs + 1):
                h = np.tanh(np.sqrt(2 / n) * (x @ w))
                error = h @ v / n - y
                losses.append(np.mean(error**2))
                step = 2 * error / len(y)
                back = np.outer(step, v / n) * (1 - h**2) * np.sqrt(2 / n)
                w, v = w - hidden * (x.T @ back), v - output * (h.T @ step) / n
        relative = np.array(losses) / losses[0]
        pair.append(np.where(relative < 1e6, relative, 1e6))
    return pair
