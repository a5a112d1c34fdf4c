"""The end of a run and its status: laws that hold for any model and horizon."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from tests.marks import slow

import plateaumap as pm

CROSSINGS = ["plateau_epochs", "half_epochs", "tenth_epochs"]


class Unit(pm.Experiment):
    """One unit on one sample, with any optimizer; dead where its pre-activation is negative."""

    coordinates = (
        pm.Coordinate("w0"),
        pm.Coordinate("lr", minimum=0),
        pm.Coordinate("method", default="sgd", choices=("sgd", "momentum", "adam", "adamw")),
    )

    def init(self, point: Any) -> Any:
        return {"w": point["w0"], "v": jnp.ones(2)}

    def output(self, parameters: Any, point: Any) -> Any:
        return jax.nn.relu(parameters["w"]) * jnp.sum(parameters["v"])

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return (self.output(parameters, point) - 1.0) ** 2

    def optimizer(self, point: Any) -> Any:
        rate = point["lr"]
        return {
            "sgd": optax.sgd(rate),
            "momentum": optax.sgd(rate, momentum=0.9),
            "adam": optax.adam(rate),
            "adamw": optax.adamw(rate, weight_decay=0.1),
        }[point["method"]]


class Polynomial(pm.Experiment):
    """`p⁴ − p² + 1/4`: runs that converge, oscillate, rest on the maximum, and diverge."""

    coordinates = (pm.Coordinate("p0"), pm.Coordinate("lr", minimum=0))

    def init(self, point: Any) -> Any:
        return {"p": point["p0"]}

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        square = parameters["p"] ** 2
        return square**2 - square + 0.25


def run(**fields: Any) -> pd.DataFrame:
    return pm.run(pm.Sweep(**fields), progress=False)


@pytest.mark.parametrize(
    "fields",
    [
        {
            "experiment": Unit(),
            "axes": [pm.linspace("w0", -2, 2, 9), pm.values("method", ["sgd", "momentum", "adam"])],
            "fixed": {"lr": 0.3},
        },
        {
            "experiment": Polynomial(),
            "axes": [pm.linspace("p0", -2, 2, 9), pm.values("lr", [0.01, 0.3, 0.6, 1.5])],
        },
        {
            "experiment": pm.SingleNeuron("relu"),
            "losses": "quadratic",
            "axes": [pm.linspace("w0", -3, 3, 7), pm.values("lr", [0.1, 2.0, 5.0])],
            "fixed": {"b0": 1.0, "y": 0.5},
        },
        {
            "losses": ("quadratic", "cross_entropy"),
            "axes": [pm.values("w0", [-3, 2, 20, 40, 800]), pm.values("lr", [0.1, 50.0])],
            "fixed": {"b0": 0.5, "y": 0.3},
        },
    ],
    ids=["unit", "polynomial", "relu", "sigmoid"],
)
def test_a_larger_horizon_changes_no_status_but_censored(fields: dict[str, Any]) -> None:
    before = None
    seen: set[str] = set()
    for horizon in (1, 2, 3, 9, 64, 65, 500):
        frame = run(**fields, horizon=horizon)
        status = frame["status"].astype(str)
        seen |= set(status)
        if before is not None:
            settled = before["status"].astype(str) != "censored"
            for column in ("status", "plateau_epochs"):
                pd.testing.assert_series_equal(frame[column][settled], before[column][settled])
        before = frame
    assert len(seen) >= 2


@pytest.mark.parametrize("method", ["sgd", *slow("momentum", "adam")])
def test_a_dead_unit_is_stationary_with_any_optimizer(method: str) -> None:
    fixed = {"lr": 0.1, "method": method}
    frame = run(experiment=Unit(), axes=[pm.linspace("w0", -2, -0.5, 4)], fixed=fixed, horizon=50)
    assert (frame["status"] == "stationary").all()
    assert frame["plateau_epochs"].isna().all()
    assert (frame["epochs_run"] == 0).all()


def test_a_unit_that_weight_decay_moves_is_not_stationary() -> None:
    fixed = {"lr": 0.1, "method": "adamw", "w0": -1.0}
    row = run(experiment=Unit(), fixed=fixed, horizon=50).iloc[0]
    assert row["status"] == "censored"
    assert row["epochs_run"] == 50


@pytest.mark.slow
def test_a_unit_that_a_schedule_moves_later_is_not_stationary() -> None:
    class WarmedUp(Unit):
        """Its rate and its weight decay begin at 0."""

        def optimizer(self, point: Any) -> Any:
            return optax.adamw(optax.linear_schedule(0.0, 0.1, 5), weight_decay=1.0)

    fixed = {"lr": 0.1, "w0": -1.0}
    row = run(experiment=WarmedUp(), fixed=fixed, horizon=50).iloc[0]
    assert (row["status"], row["epochs_run"]) == ("censored", 50)


def test_a_run_without_an_initial_gradient_has_no_acceleration() -> None:
    class Late(Unit):
        def descent(self, parameters: Any, point: Any, loss_name: Any, epoch: Any) -> Any:
            return jnp.where(epoch > 2, 1.0, 0.0) * self.loss(parameters, point, loss_name)

    row = run(experiment=Late(), fixed={"w0": 0.2, "lr": 0.1}, horizon=300).iloc[0]
    assert row["status"] == "escaped"
    assert np.isnan(row["acceleration"])
    assert pd.isna(row["shape"])


def test_a_unit_that_dies_during_a_run_is_stationary_from_then_on() -> None:
    # z = 1, a = 1, error 0.5: the first update takes b to −1.5.
    fixed = {"w0": 0.0, "b0": 1.0, "lr": 5.0, "y": 0.5}
    relu = pm.SingleNeuron("relu")
    row = run(experiment=relu, losses="quadratic", fixed=fixed, horizon=9).iloc[0]
    assert (row["status"], row["epochs_run"]) == ("stationary", 1)


def test_a_gradient_that_underflows_is_stalled_by_rounding() -> None:
    # No slope of the sigmoid is zero; at z = 800 it is e^−800.
    for loss, z in (("quadratic", 800.0), ("quadratic", -800.0)):
        fixed = {"w0": 0.0, "b0": z, "lr": 0.1, "y": 0.5}
        assert run(losses=loss, fixed=fixed, horizon=9)["status"].iloc[0] == "stalled"


@pytest.mark.slow
def test_a_batch_without_a_gradient_does_not_make_a_run_stationary() -> None:
    class Batches(Unit):
        def descent(self, parameters: Any, point: Any, loss_name: Any, epoch: Any) -> Any:
            return jnp.where(epoch % 3 == 2, 1.0, 0.0) * self.loss(parameters, point, loss_name)

    fixed = {"w0": 0.2, "lr": 0.05, "method": "sgd"}
    row = run(experiment=Batches(), fixed=fixed, horizon=300).iloc[0]
    plain = run(experiment=Unit(), fixed=fixed, horizon=300).iloc[0]
    assert row["status"] == "escaped"
    for name in CROSSINGS:  # only every third epoch moves the parameters
        assert row[name] == 3 * plain[name]


@pytest.mark.slow
def test_a_loss_below_its_floor_is_an_error_at_any_epoch() -> None:
    def below_at_once(z: Any, y: Any) -> Any:
        return pm.losses.quadratic(z, y) - 1.0

    def below_later(z: Any, y: Any) -> Any:
        return pm.losses.quadratic(z, y) - 0.1

    axes = [pm.values("w0", [2.0])]
    fields: dict[str, Any] = {"axes": axes, "fixed": {"b0": 2.0, "lr": 0.15}, "horizon": 1000}
    for loss, until in ((below_at_once, "plateau"), (below_later, "horizon")):
        with pytest.raises(pm.PlateaumapError, match=rf"{loss.__name__}.*below its floor 0"):
            run(losses=[loss], until=until, **fields)
    endless = pm.losses.Loss("endless", pm.losses.quadratic, floor=lambda y: -jnp.inf + 0 * y)
    with pytest.raises(pm.PlateaumapError, match=r"the floor of the loss 'endless' is -inf"):
        run(losses=[endless], **fields)
    lowered = pm.losses.Loss("lowered", below_later, floor=lambda y: jnp.full_like(y, -0.1))
    plain, shifted = (run(losses=[loss], **fields).iloc[0] for loss in ("quadratic", lowered))
    for name in CROSSINGS:
        assert plain[name] == shifted[name]


def test_the_steepest_epoch_is_the_first_of_equal_ones() -> None:
    """A loss that decreases equally in each epoch, up to the rounding of a difference."""

    def slope(z: Any, y: Any) -> Any:
        return jnp.maximum(0.7 * z, 0.0)

    axes = [pm.linspace("b0", 1, 9, 17)]
    frame = run(losses=[slope], axes=axes, fixed={"w0": 0.0, "lr": 0.01, "x": 0.0}, horizon=5000)
    assert (frame["status"] == "escaped").all()
    assert (frame["steepest_epoch"] == 0).all()
    assert frame["tangent_lag"].abs().max() < 1e-9


class Written(pm.Experiment):
    """The neuron as a user would write it: a model with one output."""

    coordinates = pm.SingleNeuron().coordinates

    def init(self, point: Any) -> Any:
        return [point["w0"], point["b0"]]

    def output(self, parameters: Any, point: Any) -> Any:
        return pm.neuron.sigmoid(parameters[0] * point["x"] + parameters[1])

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return (self.output(parameters, point) - point["y"]) ** 2 / 2


def test_the_path_of_a_written_model_is_that_of_the_neuron() -> None:
    fields: dict[str, Any] = {
        "axes": [pm.linspace("w0", -4, 4, 17), pm.values("lr", [0.5, 10.0, 40.0])],
        "fixed": {"b0": 0.3, "y": 0.3},
        "horizon": 300,
        "tolerance": 0,
    }
    neuron = run(losses="quadratic", **fields)
    written = run(experiment=Written(), **fields)
    assert neuron["path"].nunique() >= 2
    pd.testing.assert_series_equal(neuron["path"], written["path"])
    pd.testing.assert_series_equal(neuron["status"], written["status"])


@pytest.mark.slow
def test_until_the_horizon_only_the_last_epoch_changes() -> None:
    fields: dict[str, Any] = {
        "axes": [pm.linspace("w0", -3, 6, 7), pm.values("lr", [0.15, 3.0, 40.0])],
        "fixed": {"b0": 1.0, "y": 0.2},
    }
    tenth = run(**fields, horizon=300)
    whole = run(**fields, horizon=300, until="horizon")
    ends = {"final_output", "final_loss", "epochs_run"}
    for column in set(tenth.columns) - ends:
        pd.testing.assert_series_equal(tenth[column], whole[column])
    running = whole["status"].isin(["escaped", "censored"])
    assert (whole["epochs_run"][running] == 300).all()
    for row in whole[running].iloc[::5].itertuples():
        curve = pm.simulate(
            loss=row.loss, w0=row.w0, b0=row.b0, lr=row.lr, x=row.x, y=row.y, epochs=300
        )
        assert row.final_output == curve["output"].iloc[-1]
        assert row.final_loss == pytest.approx(curve["loss"].iloc[-1], rel=1e-12)


@pytest.mark.slow
def test_until_the_horizon_a_run_continues_although_rounding_prolongs_it() -> None:
    class Uneven(pm.Experiment):
        """One of two weights is too large for its updates in float32."""

        coordinates = (pm.Coordinate("lr", minimum=0),)

        def init(self, point: Any) -> Any:
            return {"large": jnp.asarray(1e6), "small": jnp.asarray(1.0)}

        def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
            return (parameters["large"] - 1e6 + parameters["small"]) ** 2

        @property
        def measures(self) -> Any:
            return (*super().measures, pm.measures.Final("small", lambda p: p["small"]))

    fields: dict[str, Any] = {"experiment": Uneven(), "fixed": {"lr": 1e-3}}
    plain = {**fields, "precision": "float32_plain", "horizon": 40}
    stopped, whole = run(**plain).iloc[0], run(**plain, until="horizon").iloc[0]
    assert stopped["status"] == whole["status"] == "partially_stalled"
    assert stopped["epochs_run"] < whole["epochs_run"] == 40
    assert whole["small"] == pytest.approx((1 - 2e-3) ** 40, rel=1e-4)


@pytest.mark.slow
def test_a_run_that_left_its_plateau_and_diverged_has_escaped() -> None:
    class Catapult(pm.Experiment):
        """The learning rate grows: the loss decreases at first and diverges later."""

        coordinates = (pm.Coordinate("p0"),)

        def init(self, point: Any) -> Any:
            return {"p": point["p0"]}

        def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
            return parameters["p"] ** 2

        def optimizer(self, point: Any) -> Any:
            return optax.sgd(lambda count: jnp.where(count < 3, 0.05, 1e200))

    row = run(experiment=Catapult(), fixed={"p0": 1.0}, horizon=50).iloc[0]
    assert row["status"] == "escaped"
    assert row["plateau_epochs"] == 1
    assert pd.isna(row["tenth_epochs"])
    assert not np.isfinite(row["final_loss"])
