"""docs/your_own_model.md: its programs run and do what the text says."""

import re
import runpy
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import plateaumap as pm

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "your_own_model.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the global names after the programs of the page ran as one script."""
    folder = tmp_path_factory.mktemp("page")
    script = folder / "page.py"
    script.write_text("\n".join(BLOCKS))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return runpy.run_path(str(script))


def test_one_screen_of_code_draws_the_map(names: dict[str, Any]) -> None:
    assert BLOCKS[0].count("\n") < 65
    frame = names["frame"]
    assert len(frame) == 2 * 21 * 21
    assert (frame["status"] == "escaped").all()
    small, at_best = (frame[(frame["scale_index"] == index)] for index in (0, 14))
    assert (small["plateau_epochs"].to_numpy() >= at_best["plateau_epochs"].to_numpy()).mean() > 0.9
    assert names["figure"].axes


def test_the_optimizers_and_the_minibatches_differ(names: dict[str, Any]) -> None:
    compared = names["compared"]
    assert compared["accuracy"].between(0, 1).all()
    medians = compared.groupby("method", observed=True)["accuracy"].median()
    assert medians["adam"] == 1
    noisy = names["noisy"]
    assert noisy["final_loss"].nunique() == 16
    assert (noisy["status"] == "escaped").all()


def test_the_mean_loss_lies_between_the_last_and_the_first(names: dict[str, Any]) -> None:
    measured = names["measured"]
    assert (measured["mean_loss"] < measured["initial_loss"]).all()
    assert (measured["mean_loss"] > measured["final_loss"]).all()


def test_an_equinox_model_is_trained_unchanged(names: dict[str, Any]) -> None:
    rows, build = names["equinox"], names["build"]
    inputs, targets = names["xor"]
    assert rows["seed"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3] * 2
    with jax.enable_x64(True):
        for seed in range(4):
            logits = jax.vmap(build(jax.random.key(seed)))(inputs)
            expected = pm.losses.binary_cross_entropy(logits, targets)
            here = rows.query("loss == 'cross_entropy' and seed == @seed")["initial_loss"]
            np.testing.assert_allclose(here, expected, rtol=1e-12)


def test_the_sweep_of_a_folder_is_restored(names: dict[str, Any]) -> None:
    assert names["same"] == names["sweep"]
