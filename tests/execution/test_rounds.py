"""Runs in rounds equal runs in one piece, however the rounds are cut and packed."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.marks import slow

import plateaumap as pm
from plateaumap.execution import rounds
from plateaumap.execution.local import LocalBackend
from plateaumap.execution.simulator import Simulator
from plateaumap.experiment.protocol import Experiment
from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.runner.sweep_table import SweepTable
from plateaumap.sweep.axes import Coordinate
from plateaumap.theory.single_neuron import NeuronTheory


class Silent(NeuronTheory):
    """The theory of a neuron without its predictions."""

    def predict(self, points: Any, drop: float) -> None:
        """Return no prediction."""


@dataclass(frozen=True)
class Unpredicted(SingleNeuron):
    """A neuron whose run lengths are unknown."""

    def theory(self, loss_name: Any) -> Silent:
        """Return the theory without its predictions."""
        known = super().theory(loss_name)
        return Silent(known.activation, known.loss, known.name)


def sweep(experiment: SingleNeuron, **chosen: Any) -> pm.Sweep:
    """Return a map with short and long, unimodal and overshooting, and censored runs."""
    return pm.Sweep(
        experiment=experiment,
        axes=[pm.linspace("w0", -3, 7, 15), pm.geomspace("lr", 0.05, 30, 9)],
        fixed={"b0": 0.5, "x": 1.0, **chosen.pop("fixed", {"y": 0.0})},
        horizon=3000,
        **chosen,
    )


def without_prediction(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="predicted_epochs")


@pytest.mark.parametrize(
    "chosen",
    [
        {"losses": "quadratic"},
        *slow(
            {"losses": "quadratic", "fixed": {"y": 0.3}},
            {"losses": "cross_entropy"},
            {"losses": "cross_entropy", "precision": "float32"},
        ),
    ],
    ids=["quadratic", "overshooting", "cross-entropy", "float32"],
)
def test_rounds_make_the_same_rows_as_one_go(chosen: dict[str, Any]) -> None:
    known, unknown = (
        pm.run(sweep(experiment, **dict(chosen))) for experiment in (SingleNeuron(), Unpredicted())
    )
    assert known["epochs_run"].nunique() > 20
    pd.testing.assert_frame_equal(
        without_prediction(known), without_prediction(unknown), check_exact=True
    )


def test_rows_do_not_depend_on_blocks_groups_or_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    some = sweep(Unpredicted(), losses="quadratic")
    expected = pm.run(some, threads=1)
    monkeypatch.setattr(rounds, "FIRST_ROUND", 7)
    monkeypatch.setattr(rounds, "COST", 30)
    for share, pooled in ((0.0, 1), (1.0, rounds.POOL_BYTES)):  # packs as late as it can; always
        monkeypatch.setattr(rounds, "WORTH_PACKING", share)
        monkeypatch.setattr(rounds, "POOL_BYTES", pooled)
        frame = pm.run(some, backend=LocalBackend(2, 64))
        pd.testing.assert_frame_equal(frame, expected, check_exact=True)


@pytest.mark.slow
def test_wide_blocks_and_unrolled_epochs_of_accelerators_make_the_same_rows() -> None:
    """It is another program, so that last bits may differ, but no epoch and no status."""
    some = sweep(SingleNeuron(), losses="quadratic", fixed={"y": 0.3})
    frame = pm.run(some, backend=LocalBackend(1, 4096, unroll=3))
    pd.testing.assert_frame_equal(frame, pm.run(some, threads=1), rtol=1e-12, atol=0)


class Counted(Experiment):
    """Gradient descent on a parabola, which records every trace."""

    coordinates = (Coordinate("start", "start", None), Coordinate("lr", "rate", None))
    traces: list[int] = []  # noqa: RUF012 - shared on purpose

    def init(self, point: Any) -> Any:
        """Return the initial point."""
        self.traces.append(1)
        return point["start"]

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> jax.Array:
        """Return half the square."""
        del point, loss_name
        return jnp.square(parameters) / 2


def test_survivors_are_packed_and_all_is_compiled_once() -> None:
    some = pm.Sweep(
        experiment=Counted(),
        losses="loss",
        axes=[pm.linspace("start", 1, 2, 16), pm.geomspace("lr", 1e-3, 1, 32)],
        horizon=100_000,
    )
    calls: list[int] = []
    real = rounds.simulate_in_rounds

    def noted(advance: Any, *arguments: Any) -> Any:
        def counting(numbers: np.ndarray, *rest: Any) -> Any:
            calls.append(len(np.unique(numbers)))
            return advance(numbers, *rest)

        return real(counting, *arguments)

    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event)
    )
    evaluator = SweepTable(some).evaluators[0]
    points = some.grid.coordinates_at(np.arange(some.size))
    with pytest.MonkeyPatch.context() as patch, Simulator(1, 64) as simulator:
        patch.setattr("plateaumap.execution.simulator.simulate_in_rounds", noted)
        record = evaluator.evaluate(simulator, points)
        traced = len(Counted.traces)
        evaluator.evaluate(simulator, points)
    lr = np.repeat(np.geomspace(1e-3, 1, 32)[None], 16, 0).ravel()
    drop = np.ceil(np.log(0.1) / (2 * np.log1p(-lr[lr < 1])))
    np.testing.assert_array_equal(record["tenth_epochs"][lr < 1], drop)
    assert compiled.count("/jax/core/compile/backend_compile_duration") == 1
    assert len(Counted.traces) == traced
    fewest = 2 * 8  # each block once, and then the ends of all runs
    assert fewest < len(calls) / 2 < 3 * fewest
    assert min(calls) < 64


class Clocks:
    """Runs that only count epochs; run `n` ends after `ends[n]` epochs."""

    def __init__(self, ends: np.ndarray) -> None:
        self.ends = ends
        self.epochs = self.begun = self.concluded = self.most_alive = 0
        self.guard = threading.Lock()

    def advance(self, numbers: np.ndarray, runs: Any, fresh: bool, until: int) -> Any:
        """Advance a block; a run holds its number and its epoch."""
        held, epoch = runs[0]
        if fresh:
            held, epoch = numbers, np.zeros_like(numbers)
        np.testing.assert_array_equal(held, numbers)
        ends = self.ends[numbers]
        after = np.maximum(epoch, np.minimum(ends, until))
        with self.guard:
            self.epochs += int((after - epoch).max()) * len(numbers)
            self.begun += fresh * len(np.unique(numbers))
            self.concluded += 0 if (after < ends).any() else len(np.unique(numbers))
            self.most_alive = max(self.most_alive, self.begun - self.concluded)
        return (np.stack([held, after]),), after < ends, ends - after, {"end": after}


def make(clocks: Clocks, lanes: int, threads: int) -> np.ndarray:
    blank = (np.zeros((2, lanes), np.int64),)
    with ThreadPoolExecutor(threads) as pool:
        count = len(clocks.ends)
        return rounds.simulate_in_rounds(clocks.advance, blank, count, 2**62, pool, threads)["end"]


@settings(max_examples=60, deadline=None)
@given(
    ends=st.lists(st.integers(0, 10**6), min_size=1, max_size=300),
    lanes=st.sampled_from([1, 4, 64]),
    threads=st.integers(1, 3),
)
def test_every_run_is_followed_to_its_end(ends: list[int], lanes: int, threads: int) -> None:
    """For any lengths, each run keeps its state and ends once, at the right epoch."""
    clocks = Clocks(np.array(ends, np.int64))
    np.testing.assert_array_equal(make(clocks, lanes, threads), clocks.ends)
    assert clocks.begun == clocks.concluded == len(ends)


def test_lanes_seldom_wait_and_few_runs_are_under_way_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "POOL_BYTES", 8 * 2 * 8 * 64)  # eight blocks of 64 lanes
    ends = np.geomspace(1, 1e6, 64 * 400).astype(np.int64)
    clocks = Clocks(np.random.default_rng(5).permutation(ends))
    make(clocks, 64, 2)
    assert clocks.epochs < 1.5 * ends.sum()
    together = clocks.ends[: len(ends) // 64 * 64].reshape(-1, 64).max(1).sum() * 64
    assert together > 5 * ends.sum()
    rounds_there_are = 14
    assert clocks.most_alive < 64 * 8 * rounds_there_are < len(ends) / 3


def test_a_block_that_fails_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(np.full(100, 1000))

    calls: list[int] = []
    real = clocks.advance

    def fails(numbers: np.ndarray, *rest: Any) -> Any:
        calls.append(len(numbers))
        if len(calls) == 2:
            raise ArithmeticError("no")
        return real(numbers, *rest)

    monkeypatch.setattr(clocks, "advance", fails)
    with pytest.raises(ArithmeticError, match="no"):
        make(clocks, 4, 2)
    assert len(calls) < 5  # of some fifty


def test_a_pool_that_is_shut_down_ends_all() -> None:
    clocks = Clocks(np.full(100, 10**9))
    begun, go_on = threading.Event(), threading.Event()
    real = clocks.advance

    def waits(*arguments: Any) -> Any:
        begun.set()
        go_on.wait(10)
        return real(*arguments)

    pool = ThreadPoolExecutor(1)
    blank = (np.zeros((2, 4), np.int64),)
    with ThreadPoolExecutor(1) as caller:
        future = caller.submit(rounds.simulate_in_rounds, waits, blank, 100, 2**62, pool, 2)
        begun.wait(10)
        pool.shutdown(wait=False, cancel_futures=True)
        go_on.set()
        with pytest.raises((CancelledError, RuntimeError)):
            future.result(10)
