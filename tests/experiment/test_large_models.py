"""What a model of many numbers asks for: few runs at once, small chunks, the whole horizon."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.execution import simulator
from plateaumap.experiment.protocol import Experiment
from plateaumap.runner.sweep_table import SweepTable
from plateaumap.sweep.axes import Coordinate
from plateaumap.sweep.chunks import block_chunk
from plateaumap.table.columns import Column
from plateaumap.training.measures import Measure

HORIZON = 60


@dataclass(frozen=True)
class LossAt(Measure):
    """The loss excess at one epoch, for whose sake runs go on."""

    epoch: int

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("loss_then", "float64", "loss", "the loss at that epoch"),)

    def init(self, start: Any) -> Any:
        return jnp.full_like(start.excess, jnp.nan)

    def update(self, state: Any, start: Any, now: Any) -> Any:
        return jnp.where(now.epoch == self.epoch, now.excess, state)

    def done(self, state: Any) -> Any:
        return ~jnp.isnan(state)

    def result(self, state: Any, start: Any, end: Any, record: Any) -> Any:
        return state


@dataclass(frozen=True)
class Well(Experiment):
    """Gradient descent in a parabola: the loss at epoch n is `L0 (1 − lr)^2n`."""

    watch: int | None = None
    lanes: int | None = None
    coordinates = (Coordinate("w0", "start", None), Coordinate("lr", "learning rate", None, 0.0))

    def init(self, point: Any) -> Any:
        return point["w0"]

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return parameters**2 / 2

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (*super().measures, *((LossAt(self.watch),) if self.watch else ()))


def sweep(**settings: Any) -> pm.Sweep:
    return pm.Sweep(
        name="well",
        experiment=Well(**settings),
        losses="loss",
        axes=[pm.linspace("w0", 1, 2, 20), pm.values("lr", [0.01, 0.05, 0.2, 0.5])],
        horizon=HORIZON,
    )


@pytest.fixture(scope="module")
def plain() -> pd.DataFrame:
    return pm.run(sweep())


@pytest.mark.slow
def test_a_run_goes_on_for_a_measure_that_waits(plain: pd.DataFrame) -> None:
    frame = pm.run(sweep(watch=40))
    expected = frame["initial_loss"] * (1 - frame["lr"]) ** (2 * 40)
    np.testing.assert_allclose(frame["loss_then"], expected, rtol=1e-10)
    # By itself it would have ended where nine tenths of the loss are gone.
    assert (plain["epochs_run"] < 40).any()
    assert (frame["epochs_run"] == np.maximum(plain["epochs_run"], 40)).all()
    crossings = ["status", "plateau_epochs", "half_epochs", "tenth_epochs", "plateau_fraction"]
    pd.testing.assert_frame_equal(frame[crossings], plain[crossings])


def test_the_horizon_ends_a_run_that_a_measure_waits_in_vain_for(plain: pd.DataFrame) -> None:
    frame = pm.run(sweep(watch=HORIZON + 1))
    assert (frame["epochs_run"] == HORIZON).all()
    assert frame["loss_then"].isna().all()
    assert (frame["status"] == plain["status"]).all()


def test_an_experiment_bounds_the_runs_in_a_block(
    plain: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    real = simulator.simulate_in_rounds

    def noted(advance: Any, *arguments: Any) -> Any:
        def counting(numbers: np.ndarray, *rest: Any) -> Any:
            seen.add((len(numbers), len(np.unique(numbers))))
            return advance(numbers, *rest)

        return real(counting, *arguments)

    monkeypatch.setattr(simulator, "simulate_in_rounds", noted)
    pd.testing.assert_frame_equal(pm.run(sweep(lanes=64), threads=1), plain)
    assert seen == {(64, 64), (64, 16)}


def test_chunks_of_a_large_model_are_a_few_whole_blocks() -> None:
    assert SweepTable(sweep(lanes=64)).plan.chunk_points == 80
    assert block_chunk(1800, 64) == 4 * 64
    assert block_chunk(65_536, 64) == 65_536 // 8
    assert block_chunk(10**9, 64) == 131_072
    assert block_chunk(10, 128) % 128 == 0
