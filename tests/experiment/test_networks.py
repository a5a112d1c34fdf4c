"""A network that a user wrote, with Adam, over learning rate, initial scale and seed."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.execution.local import LocalBackend
from plateaumap.experiment.data import arrays_of, with_arrays
from plateaumap.experiment.evaluation import Evaluation
from plateaumap.report.lattice import read

HORIZON = 60
SOURCE = np.random.default_rng(1)
INPUTS = SOURCE.standard_normal((12, 3))
TARGETS = (SOURCE.random((12, 2)) < 0.5).astype(float)


@dataclass(frozen=True)
class TwoLayers(pm.Experiment):
    inputs: np.ndarray
    targets: np.ndarray
    width: int = 5

    coordinates = (
        pm.Coordinate("lr", "learning rate", minimum=0),
        pm.Coordinate("scale", "standard deviation of the weights"),
        pm.Coordinate("seed", integer=True),
    )

    def init(self, point: Any) -> Any:
        first, second = jax.random.split(jax.random.key(point["seed"]))
        shapes = (self.inputs.shape[1], self.width), (self.width, self.targets.shape[1])
        return {
            "hidden": point["scale"] * jax.random.normal(first, shapes[0]),
            "bias": jnp.zeros(self.width),
            "out": point["scale"] * jax.random.normal(second, shapes[1]),
        }

    def logits(self, parameters: Any) -> Any:
        hidden = jnp.tanh(self.inputs @ parameters["hidden"] + parameters["bias"])
        return hidden @ parameters["out"]

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return pm.losses.binary_cross_entropy(self.logits(parameters), self.targets)

    def optimizer(self, point: Any) -> Any:
        return optax.adam(point["lr"])


def sweep(experiment: Any = None, **changes: Any) -> pm.Sweep:
    settings = {
        "experiment": experiment or TwoLayers(INPUTS, TARGETS),
        "axes": [
            pm.geomspace("lr", 0.003, 0.3, 4),
            pm.values("scale", [0.3, 3.0]),
            pm.values("seed", range(5)),
        ],
        "horizon": HORIZON,
    }
    return pm.Sweep(**{**settings, **changes})


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return pm.run(sweep())


def trained(lr: float, scale: float, seed: int, epochs: int = HORIZON) -> list[float]:
    """Return the loss of every epoch, by a plain loop over the same pure step."""
    experiment, point = TwoLayers(INPUTS, TARGETS), {"lr": lr, "scale": scale, "seed": seed}
    parameters, optimizer = experiment.init(point), experiment.optimizer(point)
    state = optimizer.init(parameters)
    losses = []
    for _ in range(epochs + 1):
        loss, gradients = SLOPE(parameters)
        losses.append(float(loss))
        updates, state = optimizer.update(gradients, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    return losses


SLOPE = jax.jit(jax.value_and_grad(lambda p: TwoLayers(INPUTS, TARGETS).loss(p, {}, "loss")))


def first_at_or_below(losses: list[float], level: float) -> Any:
    reached = np.flatnonzero(np.array(losses) <= level)
    return reached[0] if reached.size else pd.NA


def test_each_run_is_that_of_a_plain_loop(frame: pd.DataFrame) -> None:
    with jax.enable_x64(True):
        for row in frame.iloc[::3].itertuples():
            losses = trained(row.lr, row.scale, row.seed)
            assert row.initial_loss == pytest.approx(losses[0], rel=1e-10)
            assert row.final_loss == pytest.approx(losses[row.epochs_run], rel=1e-10)
            for column, left in (("plateau_epochs", 0.9), ("half_epochs", 0.5)):
                expected = first_at_or_below(losses, left * losses[0])
                assert getattr(row, column) is expected or getattr(row, column) == expected
    assert frame["status"].isin(["escaped", "censored"]).all()
    assert frame["status"].nunique() == 2


def test_whole_numbers_stay_whole_numbers(frame: pd.DataFrame) -> None:
    assert frame["seed"].dtype == "Int64"
    assert frame["seed"].tolist() == [*range(5)] * 8
    words = sweep().to_dict()
    assert words["axes"][2]["values"] == [0, 1, 2, 3, 4]
    assert all(type(value) is int for value in words["axes"][2]["values"])
    fixed = sweep(axes=[], fixed={"lr": 0.1, "scale": 1, "seed": 7})
    assert repr(fixed.fixed) == "{'lr': 0.1, 'scale': 1.0, 'seed': 7}"
    for seed in (0.5, 2**53):
        with pytest.raises(pm.SpecError, match="whole numbers"):
            sweep(axes=[], fixed={"lr": 0.1, "scale": 1, "seed": seed})


@pytest.mark.slow
def test_one_compilation_for_a_sweep_and_none_for_the_next() -> None:
    """Counted by XLA, in blocks of which the last ones are not full."""
    compiled: list[str] = []

    def listen(event: str, *_: Any, **__: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    wider = sweep(TwoLayers(INPUTS, TARGETS, width=6))
    backend = LocalBackend(threads=2, lanes=64)
    assert wider.identify()  # which traces the model, and compiles nothing of a run
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        pm.run(wider, rows=range(40), backend=backend)
        assert len(compiled) == 1
        pm.run(wider, rows=range(23), backend=backend)
        again = sweep(TwoLayers(INPUTS.copy(), TARGETS.copy(), width=6), horizon=70)
        pm.run(again, threads=1)
        assert len(compiled) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_rows_do_not_depend_on_how_they_were_computed(frame: pd.DataFrame) -> None:
    bound = sweep()
    pd.testing.assert_frame_equal(pm.run(bound, threads=1), frame)
    pd.testing.assert_frame_equal(
        pm.run(bound, rows=range(7, 30)), frame.iloc[7:30].reset_index(drop=True)
    )
    record = pm.evaluate(bound, dict(frame.loc[11, ["lr", "scale", "seed"]]))
    assert record["final_loss"] == frame.loc[11, "final_loss"]


@pytest.mark.slow
def test_a_sweep_resumes_and_its_folder_gets_its_sweep_back(
    frame: pd.DataFrame, tmp_path: Any
) -> None:
    results = pm.run(sweep(TwoLayersInBlocks(INPUTS, TARGETS)), out=tmp_path / "out")
    parts = sorted((results.path / "parts").iterdir())
    parts[-1].unlink()
    again = pm.run(sweep(TwoLayersInBlocks(INPUTS, TARGETS)), out=tmp_path / "out")
    measured = [name for name in frame if name != "seed"]
    pd.testing.assert_frame_equal(again.frame()[measured], frame[measured])
    opened = pm.open(results.path, experiment=TwoLayersInBlocks(INPUTS, TARGETS))
    assert opened.sweep == sweep(TwoLayersInBlocks(INPUTS, TARGETS))
    # In which blocks runs are advanced changes no row.
    assert pm.open(results.path, experiment=TwoLayers(INPUTS, TARGETS)).sweep == opened.sweep
    with pytest.raises(pm.PlateaumapError, match="was not computed by the code passed"):
        pm.open(results.path, experiment=TwoLayersInBlocks(INPUTS, 1 - TARGETS))
    with pytest.raises(pm.SpecError, match="open"):
        pm.open(results.path).sweep  # noqa: B018


class TwoLayersInBlocks(TwoLayers):
    lanes = 8


@pytest.mark.slow
def test_workers_make_the_same_rows(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(pm.run(sweep(), backend="dask", workers=2), frame)


@pytest.mark.slow
def test_data_have_the_precision_of_the_sweep() -> None:
    evaluation = Evaluation(TwoLayers(INPUTS, TARGETS), "loss", "float32")
    with jax.enable_x64(True):
        assert {array.dtype for array in evaluation.data()} == {np.dtype(np.float32)}
        doubled = with_arrays(evaluation.experiment, [2 * a for a in evaluation.data()])
        np.testing.assert_allclose(doubled.targets, 2 * TARGETS)
        assert doubled.width == 5
        assert len(arrays_of(doubled, np.float64)) == 2
    point = {"lr": 0.03, "scale": 1.0, "seed": 3}
    narrow = pm.run(sweep(precision="float32", axes=[], fixed=point))
    model = TwoLayers(INPUTS, TARGETS)
    with jax.enable_x64(False):  # as JAX by itself computes
        right = float(model.loss(model.init(point), point, "loss"))
    assert narrow["initial_loss"][0] == pytest.approx(right, rel=1e-5)


@dataclass(frozen=True)
class Batches(TwoLayers):
    """Each update follows three samples, drawn anew."""

    def descent(self, parameters: Any, point: Any, loss_name: Any, epoch: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(point["seed"]), epoch)
        some = jax.random.choice(key, len(self.inputs), (3,), replace=False)
        batch = replace(self, inputs=self.inputs[some], targets=self.targets[some])
        return batch.loss(parameters, point, loss_name)


@pytest.mark.slow
def test_minibatches_are_those_of_a_plain_loop() -> None:
    experiment = Batches(INPUTS, TARGETS)
    point = {"lr": 0.03, "scale": 1.0, "seed": 3}
    row = pm.run(sweep(experiment, axes=[], fixed=point)).iloc[0]
    with jax.enable_x64(True):
        bound = with_arrays(experiment, arrays_of(experiment, np.float64))
        parameters, optimizer = bound.init(point), bound.optimizer(point)
        state = optimizer.init(parameters)
        slope = jax.jit(jax.grad(lambda p, n: bound.descent(p, point, "loss", n)))
        for epoch in range(row["epochs_run"]):
            updates, state = optimizer.update(slope(parameters, epoch), state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        assert row["final_loss"] == pytest.approx(float(SLOPE(parameters)[0]), rel=1e-10)


@dataclass(frozen=True)
class Chosen(pm.Experiment):
    """A parabola, under an optimizer and of a width that are chosen."""

    coordinates = (
        pm.Coordinate("method", choices=("sgd", "adam"), default="sgd"),
        pm.Coordinate("width", choices=(1, 3)),
        pm.Coordinate("lr", minimum=0),
    )

    def init(self, point: Any) -> Any:
        return jnp.ones(point["width"])

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return jnp.sum(parameters**2) / 2

    def optimizer(self, point: Any) -> Any:
        return getattr(optax, point["method"])(point["lr"])


def parabola(method: str, lr: float, epochs: int) -> float:
    optimizer, w = getattr(optax, method)(lr), jnp.ones(())
    state = optimizer.init(w)
    for _ in range(epochs):
        updates, state = optimizer.update(w, state)
        w = w + updates
    return float(w**2 / 2)


@pytest.mark.slow
def test_choices_are_compiled_in_and_are_columns(tmp_path: Any) -> None:
    compact = pm.Sweep(
        experiment=Chosen(),
        axes=[
            pm.values("lr", [0.1, 0.2]),
            pm.points(method=["sgd", "adam", "adam"], width=[1, 3, 1]),
        ],
        horizon=4,
    )
    frame = pm.run(compact, out=tmp_path / "out").frame()
    assert frame["method"].tolist() == ["sgd", "adam", "adam"] * 2
    assert list(frame["method"].cat.categories) == ["sgd", "adam"]
    assert frame["width"].tolist() == [1, 3, 1] * 2
    assert (frame["initial_loss"] == frame["width"] / 2).all()
    with jax.enable_x64(True):
        expected = [parabola(row.method, row.lr, row.epochs_run) for row in frame.itertuples()]
    np.testing.assert_allclose(frame["final_loss"] / frame["width"], expected, rtol=1e-12)
    dataset = pm.open(tmp_path / "out").to_xarray()  # no code of the experiment is needed
    assert dataset["method"].values.tolist() == ["sgd", "adam", "adam"]
    assert dataset["width"].values.tolist() == [1, 3, 1]
    assert dataset["width"].dims == ("method_width",)
    assert pm.Sweep.from_dict({**compact.to_dict(), "experiment": Chosen()}) == compact
    one = pm.evaluate(compact, {"lr": 0.2, "method": "adam", "width": 3})
    assert one["final_loss"] == frame["final_loss"][4]
    assert one["method"] == "adam"


@pytest.mark.parametrize(
    ("axis", "reported"),
    [
        (pm.values("method", ["sgd", "adm"]), "'adm'.*must be one of.*'sgd', 'adam'"),
        (pm.values("method", [1.0]), "one of 'sgd', 'adam'"),
        (pm.values("lr", ["a"]), "'a': must be a finite number"),
        (pm.values("width", [2]), "one of 1, 3"),
    ],
)
def test_values_that_are_not_choices_are_refused(axis: Any, reported: str) -> None:
    given = {"method": "sgd", "lr": 0.1, "width": 1}
    del given[axis.name]
    with pytest.raises(pm.SpecError, match=reported):
        pm.Sweep(experiment=Chosen(), axes=[axis], fixed=given)


@pytest.mark.parametrize(
    ("method", "returns", "reported"),
    [
        ("init", lambda s, p: {"w": jnp.ones(2), "f": jnp.tanh}, "among the parameters"),
        ("init", lambda s, p: jnp.arange(3), "array of int"),
        ("init", lambda s, p: p["nothing"], "init raised KeyError"),
        ("loss", lambda s, w, p, c: w**2, r"shape \(3,\); return one number"),
        ("loss", lambda s, w, p, c: jnp.sum(w).astype("float16"), "is float16 where"),
        ("optimizer", lambda s, p: 0.1, "return an Optax optimizer"),
    ],
)
def test_a_users_mistake_is_reported_before_anything_runs(
    method: str, returns: Any, reported: str
) -> None:
    faulty = type("Faulty", (Chosen,), {method: returns, "__module__": __name__})
    with pytest.raises(pm.SpecError, match=reported):
        pm.Sweep(experiment=faulty(), fixed={"width": 3, "lr": 0.1}, precision="float32")


@pytest.mark.slow
def test_a_report_tells_the_choices(tmp_path: Any) -> None:
    compact = pm.Sweep(
        experiment=Chosen(),
        axes=[pm.values("method", ["sgd", "adam"]), pm.geomspace("lr", 0.01, 1, 5)],
        fixed={"width": 3},
        horizon=50,
    )
    frame = pm.run(compact)
    axis = read(frame, "a figure").axes[0]
    assert [axis.title(place) for place in (0, 1)] == ["method = sgd", "method = adam"]
    for draw in (pm.figures.plateau_map, pm.figures.survival):
        assert draw(frame).axes
