"""Custom measures: a fold over the epochs, compared with whole curves."""

from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.training.measures import Column, Measure

HORIZON = 400


class Below(Measure):
    """The first epoch at which 99 % of the loss is gone; a run continues until then."""

    columns = (Column("below", "Int64", "epochs", "first epoch"),)

    def init(self, start: Any) -> int:
        return -1

    def update(self, state: Any, start: Any, now: Any) -> Any:
        return jnp.where((state < 0) & (now.excess <= 0.01 * start.excess), now.epoch, state)

    def done(self, state: Any) -> Any:
        return state >= 0

    def result(self, state: Any, start: Any, end: Any, record: Any) -> Any:
        return state


class Ends(Measure):
    """Two columns of the two ends of a run, and of the columns before."""

    columns = (
        Column("ratio", "float64", "1", "last loss over first loss"),
        Column("after_plateau", "Int64", "epochs", "epochs after T10"),
    )

    def result(self, state: Any, start: Any, end: Any, record: Any) -> dict[str, Any]:
        after = end.epochs - record["plateau_epochs"]
        return {"ratio": end.excess / start.excess, "after_plateau": after}


class LastEpoch(Measure):
    """The last epoch that was observed."""

    def __init__(self, name: str, **flags: bool) -> None:
        self.columns = (Column(name, "Int64", "epochs", "last epoch"),)
        vars(self).update(flags)

    def init(self, start: Any) -> int:
        return -1

    def update(self, state: Any, start: Any, now: Any) -> Any:
        return now.epoch

    def result(self, state: Any, start: Any, end: Any, record: Any) -> Any:
        return state


class Measured(pm.SingleNeuron):
    @property
    def measures(self) -> tuple[Measure, ...]:
        mean = pm.measures.measure(
            "mean_loss",
            init=lambda start: (0.0, 0),
            update=lambda state, start, now: (state[0] + now.excess, state[1] + 1),
            result=lambda state: state[0] / state[1],
        )
        largest = pm.measures.measure(
            "largest_w",
            init=lambda start: start.parameters.w,
            update=lambda state, start, now: jnp.maximum(state, now.parameters.w),
        )
        last = LastEpoch("last"), LastEpoch("last_needed", needs_tenth=True)
        until_tenth = LastEpoch("last_of_learning", stops_at_tenth=True)
        return (*super().measures, mean, largest, Ends(), *last, until_tenth)


class Prolonged(pm.SingleNeuron):
    @property
    def measures(self) -> tuple[Measure, ...]:
        return (*super().measures, Below())


@lru_cache
def rows(until: str = "tenth", precision: str = "float64", prolonged: bool = False) -> pd.DataFrame:
    sweep = pm.Sweep(
        experiment=Prolonged() if prolonged else Measured(),
        losses="quadratic",
        axes=[pm.linspace("w0", -1, 3, 5), pm.values("lr", [0.15, 0.6])],
        fixed={"b0": 1.0},
        horizon=HORIZON,
        until=until,
        precision=precision,
    )
    return pm.run(sweep, progress=False)


def curve_of(row: Any) -> pd.DataFrame:
    point = {name: getattr(row, name) for name in ("w0", "b0", "lr", "x", "y")}
    return pm.simulate(loss="quadratic", **point, epochs=HORIZON)


@pytest.mark.parametrize(("precision", "rtol"), [("float64", 1e-12), ("float32", 1e-4)])
def test_a_measure_of_functions_is_a_fold_over_the_curve(precision: str, rtol: float) -> None:
    for row in rows(precision=precision).itertuples():
        curve = curve_of(row)[: row.epochs_run + 1]
        assert row.mean_loss == pytest.approx(curve["loss"].mean(), rel=rtol)
        assert row.largest_w == pytest.approx(curve["w"].max(), rel=rtol)


def test_the_result_of_a_measure_sees_both_ends_and_the_columns_before() -> None:
    frame = rows()
    np.testing.assert_allclose(frame["ratio"], frame["final_loss"] / frame["initial_loss"])
    escaped = frame["status"] == "escaped"
    after = frame["epochs_run"] - frame["plateau_epochs"]
    assert (frame["after_plateau"] == after)[escaped].all()
    assert escaped.any()


@pytest.mark.slow
def test_a_custom_measure_changes_no_other_column() -> None:
    for until in ("tenth", "plateau", "horizon"):
        frame = rows(until)
        sweep = pm.Sweep(
            losses="quadratic",
            axes=[pm.linspace("w0", -1, 3, 5), pm.values("lr", [0.15, 0.6])],
            fixed={"b0": 1.0},
            horizon=HORIZON,
            until=until,
        )
        plain = pm.run(sweep, progress=False)
        pd.testing.assert_frame_equal(frame[plain.columns], plain)


def test_a_run_continues_until_its_measures_are_done() -> None:
    plain, frame = rows(), rows(prolonged=True)
    for row in frame.itertuples():
        loss = curve_of(row)["loss"]
        epochs = np.flatnonzero(loss <= 0.01 * loss[0])
        assert row.below is pd.NA if len(epochs) == 0 else row.below == epochs[0]
    end = np.maximum(frame["below"].fillna(HORIZON), frame["tenth_epochs"].fillna(HORIZON))
    assert (frame["epochs_run"] == end).all()
    assert (frame["epochs_run"] > plain["epochs_run"]).any()


def test_flags_say_for_which_part_of_a_run_a_measure_counts() -> None:
    tenth, plateau, horizon = (rows(until) for until in ("tenth", "plateau", "horizon"))
    for frame in (tenth, plateau, horizon):
        assert (frame["last"] == frame["epochs_run"]).all()
    assert (tenth["last_needed"] == tenth["epochs_run"]).all()
    assert plateau["last_needed"].isna().all()
    assert (horizon["last_needed"] == HORIZON).all()
    learned = horizon["tenth_epochs"].fillna(HORIZON)
    assert (horizon["last_of_learning"] == learned).all()
    assert (learned < HORIZON).any()


def test_only_a_measure_with_an_update_needs_every_epoch() -> None:
    assert Ends().decisive_epochs(()) == ()
    assert LastEpoch("last").decisive_epochs(-1) is None
    assert Ends().done(()) is None


def test_a_measure_needs_a_result() -> None:
    with pytest.raises(TypeError, match="result"):
        type("Nothing", (Measure,), {})()
