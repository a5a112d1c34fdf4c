"""Runs in rounds are the runs made in one go, however the rounds are cut and packed."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.execution import rounds
from plateaumap.execution.local import LocalExecutor
from plateaumap.experiment import Experiment, SingleNeuron
from plateaumap.grid import Coordinate
from plateaumap.rows import Rows


@dataclass(frozen=True)
class Unpredicted(SingleNeuron):
    """A neuron of which nobody knows how long it takes."""

    def predict(self, points: Any, choice: Any, drop: float) -> None:
        """Tell nothing."""


def sweep(experiment: SingleNeuron, **settings: Any) -> pm.Sweep:
    """A map with short and long runs, steady and overshooting ones, and censored ones."""
    return pm.Sweep(
        experiment=experiment,
        axes=[pm.linspace("w0", -3, 7, 15), pm.geomspace("lr", 0.05, 30, 9)],
        fixed={"b0": 0.5, "x": 1.0, **settings.pop("fixed", {"y": 0.0})},
        horizon=3000,
        **settings,
    )


def without_prediction(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="predicted_epochs")


@pytest.mark.parametrize(
    "settings",
    [
        {"losses": ("quadratic", "cross_entropy")},
        {"losses": "quadratic", "fixed": {"y": 0.3}},
        {"losses": "cross_entropy", "precision": "float32"},
    ],
    ids=["both losses", "overshooting", "float32"],
)
def test_rounds_make_the_same_rows_as_one_go(settings: dict[str, Any]) -> None:
    known, unknown = (
        pm.run(sweep(experiment, **dict(settings)))
        for experiment in (SingleNeuron(), Unpredicted())
    )
    assert known["epochs_run"].nunique() > 20
    pd.testing.assert_frame_equal(
        without_prediction(known), without_prediction(unknown), check_exact=True
    )


def arrays(executor: LocalExecutor, some: pm.Sweep) -> dict[str, np.ndarray]:
    with executor:
        found = Rows(some).submit(executor, 0, 0, some.size)()
    return {name: np.ma.filled(array, -1) for name, array in found.items()}


def test_rows_do_not_depend_on_blocks_groups_or_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    some = sweep(Unpredicted(), losses="quadratic")
    expected = arrays(LocalExecutor(1), some)
    monkeypatch.setattr(rounds, "FIRST_ROUND", 7)
    monkeypatch.setattr(rounds, "LONG_ROUND", 30)
    for share in (0.0, 1.0):  # packs as late as it can, and in each round
        monkeypatch.setattr(rounds, "_WORTH_PACKING", share)
        for name, array in arrays(LocalExecutor(2, 64), some).items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_wide_blocks_and_unrolled_epochs_of_accelerators_make_the_same_rows() -> None:
    """Another program, so last bits may differ, but no epoch and no status."""
    some = sweep(SingleNeuron(), losses="quadratic", fixed={"y": 0.3})
    expected = arrays(LocalExecutor(1), some)
    for name, array in arrays(LocalExecutor(1, 4096, unroll=3), some).items():
        if array.dtype == np.float64:
            np.testing.assert_allclose(array, expected[name], rtol=1e-12, err_msg=name)
        else:
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


class Counted(Experiment):
    """Gradient descent on a parabola; every trace is noted."""

    coordinates = (Coordinate("start", "start", None), Coordinate("lr", "rate", None))
    traces: list[int] = []  # noqa: RUF012 - shared on purpose

    def init(self, point: Any) -> Any:
        """Start anywhere."""
        self.traces.append(1)
        return point["start"]

    def loss(self, parameters: Any, point: Any, choice: Any) -> jax.Array:
        """Return half the square."""
        del point, choice
        return jnp.square(parameters) / 2


def test_survivors_are_packed_and_all_is_compiled_once() -> None:
    some = pm.Sweep(
        experiment=Counted(),
        losses="loss",
        axes=[pm.linspace("start", 1, 2, 16), pm.geomspace("lr", 1e-3, 1, 32)],
        horizon=100_000,
    )
    calls: list[int] = []
    real = rounds.in_rounds

    def noted(advance: Any, *arguments: Any) -> Any:
        def counting(numbers: np.ndarray, *rest: Any) -> Any:
            calls.append(len(np.unique(numbers)))
            return advance(numbers, *rest)

        return real(counting, *arguments)

    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event)
    )
    with pytest.MonkeyPatch.context() as patch, LocalExecutor(1, 64) as executor:
        patch.setattr("plateaumap.execution.local.in_rounds", noted)
        rows = Rows(some)
        found = rows.submit(executor, 0, 0, some.size)()
        traced = len(Counted.traces)
        rows.submit(executor, 0, 0, some.size)()
    lr = np.repeat(np.geomspace(1e-3, 1, 32)[None], 16, 0).ravel()
    drop = np.ceil(np.log(0.1) / (2 * np.log1p(-lr[lr < 1])))
    np.testing.assert_array_equal(found["tenth_epochs"][lr < 1], drop)
    assert compiled.count("/jax/core/compile/backend_compile_duration") == 1
    assert len(Counted.traces) == traced
    rounds_of_all = 2 * 8
    assert rounds_of_all < len(calls) / 2 < 3 * rounds_of_all
    assert min(calls) < 64
