"""Nothing is inherited by accident: every subclass trains as a plain Python loop says.

Each base has special knowledge (a theory, an excess without cancellation, a signed gradient), and
each change makes some of it wrong. Every method must then be right, or be refused.
"""

import pickle
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from tests.experiment.plain_loop import train

import plateaumap as pm
from plateaumap.theory.base import Theory

HORIZON = 400
STARTS = {"w0": [2.0, 0.6, -1.5, 5.0], "b0": [2.0, 0.9, 0.2, 3.0], "lr": [0.15, 1.5, 0.4, 0.3]}


class Halving(Theory):
    """A theory that is right for `Bowl` alone: it predicts and calls every run unimodal."""

    def predict(self, points: Any, drop: float) -> Any:
        left = np.abs(1 - 2 * points["lr"])
        with np.errstate(divide="ignore"):
            length = np.ceil(np.log1p(-drop) / (2 * np.log(left)))
        return np.where(left < 1, np.maximum(length, 1), np.nan)

    def unimodal(self, point: Any) -> Any:
        return point["lr"] < 0.5


@dataclass(frozen=True)
class Bowl(pm.Experiment):
    """`p²` under gradient descent, with all the knowledge that an experiment can state."""

    depth: float = 1.0
    coordinates = (
        pm.Coordinate("w0"),
        pm.Coordinate("b0", default=0.0),
        pm.Coordinate("lr", minimum=0),
    )

    def init(self, point: Any) -> Any:
        return {"p": point["w0"], "q": 0.0 * point["b0"]}

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return self.depth * parameters["p"] ** 2 + 0.0 * parameters["q"] + 0.25

    def floor(self, point: Any, loss_name: Any) -> Any:
        return 0.25

    def excess(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return self.depth * parameters["p"] ** 2 + 0.0 * parameters["q"]

    def decrease(self, point: Any, loss_name: Any) -> Any:
        return lambda p, u: -self.depth * u["p"] * (2 * p["p"] + u["p"])

    def gradient_scalar(self, gradients: Any) -> Any:
        return gradients["p"]

    def output(self, parameters: Any, point: Any) -> Any:
        return parameters["p"]

    def theory(self, loss_name: Any) -> Halving:
        return Halving()


def with_adam(base: type) -> type:
    class Changed(base):
        def optimizer(self, point: Any) -> Any:
            return optax.adam(point["lr"])

    return Changed


def with_momentum(base: type) -> type:
    class Changed(base):
        def optimizer(self, point: Any) -> Any:
            return optax.sgd(point["lr"] / 4, momentum=0.9)

    return Changed


def with_polyak(base: type) -> type:
    """An optimizer that needs the loss."""

    class Changed(base):
        def optimizer(self, point: Any) -> Any:
            return optax.polyak_sgd(max_learning_rate=0.3, scaling=point["lr"])

    return Changed


def with_another_loss(base: type) -> type:
    class Changed(base):
        def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
            w, b = jax.tree.leaves(parameters)
            return jnp.sqrt(1 + (w - 0.3) ** 2) - 1 + 0.1 * b**2

    return Changed


def with_another_floor(base: type) -> type:
    class Changed(base):
        def floor(self, point: Any, loss_name: Any) -> Any:
            return -0.75

    return Changed


def with_another_init(base: type) -> type:
    class Changed(base):
        def init(self, point: Any) -> Any:
            start = super().init(point)
            return jax.tree.map(lambda p: p * 0.5 + 0.5, start)

    return Changed


def with_batches(base: type) -> type:
    class Changed(base):
        def descent(self, parameters: Any, point: Any, loss_name: Any, epoch: Any) -> Any:
            return (1 + 0.5 * jnp.cos(1.0 * epoch)) * self.loss(parameters, point, loss_name)

    return Changed


def with_another_coordinate(base: type) -> type:
    class Changed(base):
        @property
        def coordinates(self) -> Any:
            return (*_coordinates(super()), pm.Coordinate("factor", default=0.5))

        def optimizer(self, point: Any) -> Any:
            return optax.sgd(point["factor"] * point["lr"])

    return Changed


def _coordinates(parent: Any) -> Any:
    return parent.coordinates


def with_another_measure(base: type) -> type:
    class Changed(base):
        @property
        def measures(self) -> Any:
            last = pm.measures.Final("sum_end", lambda p: sum(jax.tree.leaves(p)))
            return (*super().measures, last)

    return Changed


def unchanged(base: type) -> type:
    return base


CHANGES = (
    unchanged,
    with_adam,
    with_momentum,
    with_polyak,
    with_another_loss,
    with_another_floor,
    with_another_init,
    with_batches,
    with_another_coordinate,
    with_another_measure,
)
USUAL = (unchanged, with_adam, with_another_loss, with_another_floor)
"""The changes that every run of the tests covers; the slow tests cover all."""

KEEP_THEORY = (unchanged, with_another_measure)
BASES = {"neuron": (pm.SingleNeuron, "quadratic"), "bowl": (Bowl, "loss")}


def sweep_of(experiment: Any, loss: str, **settings: Any) -> pm.Sweep:
    settings = {"horizon": HORIZON, **settings}
    return pm.Sweep(experiment=experiment, losses=loss, axes=[pm.points(**STARTS)], **settings)


def may_be_null(sweep: pm.Sweep, row: dict[str, Any], name: str) -> bool:
    """Return whether a column is null because a leap cannot fill it: null or right, never wrong."""
    return sweep.method == "leap" and bool(np.isnan(row[name]))


def compare(experiment: Any, sweep: pm.Sweep, frame: pd.DataFrame) -> set[str]:
    """Hold each row to the plain loop; return the statuses that were seen."""
    names = [coordinate.name for coordinate in experiment.coordinates]
    for row in frame.to_dict("records"):
        point = {name: row[name] for name in names}
        right = train(
            experiment, point, sweep.losses[0], sweep.horizon, sweep.until, sweep.tolerance
        )
        exact = ("status", "plateau_epochs", "half_epochs", "tenth_epochs", "epochs_run")
        actual = {name: None if row[name] is pd.NA else row[name] for name in exact}
        assert actual == {name: right[name] for name in exact}, point
        for name in ("initial_loss", "final_loss", "loss_floor"):
            if name == "final_loss" and may_be_null(sweep, row, name):
                continue
            assert row[name] == pytest.approx(right[name], rel=1e-9, abs=1e-12), (name, point)
        if right["acceleration"] is not None and sweep.method != "leap":
            assert row["acceleration"] == pytest.approx(right["acceleration"], rel=1e-9), point
        if "sum_end" in row and not may_be_null(sweep, row, "sum_end"):
            total = sum(float(leaf) for leaf in jax.tree.leaves(right["parameters"]))
            assert row["sum_end"] == pytest.approx(total, rel=1e-9), point
    return set(frame["status"])


CASES = [
    pytest.param(
        base,
        change,
        marks=() if base == "neuron" and change in USUAL else pytest.mark.slow,
        id=f"{base}-{change.__name__}",
    )
    for base in BASES
    for change in CHANGES
]


@pytest.mark.parametrize(("base", "change"), CASES)
def test_one_changed_member_trains_as_a_plain_loop_does(base: str, change: Any) -> None:
    parent, loss = BASES[base]
    experiment = change(parent)()
    sweep = sweep_of(experiment, loss)
    frame = pm.run(sweep, progress=False)
    compare(experiment, sweep, frame)
    has_theory = change in KEEP_THEORY
    assert (experiment.theory(loss) is not None) is has_theory
    running = frame["status"] != "converged_at_start"
    assert frame["predicted_epochs"][running].notna().any() == has_theory


@pytest.mark.parametrize(("base", "change"), CASES)
def test_a_leap_of_a_changed_experiment_is_refused_or_right(base: str, change: Any) -> None:
    parent, loss = BASES[base]
    experiment = change(parent)()
    sweep = partial(sweep_of, experiment, loss, method="leap")
    if change not in KEEP_THEORY:
        with pytest.raises(pm.SpecError, match=r"leap.*theory"):
            sweep()
        return
    compare(experiment, sweep(), pm.run(sweep(), progress=False))


@pytest.mark.slow
@pytest.mark.parametrize("until", ["plateau", "horizon"])
@pytest.mark.parametrize(("base", "change"), CASES)
def test_where_a_run_ends_is_where_the_sweep_says(base: str, change: Any, until: str) -> None:
    parent, loss = BASES[base]
    experiment = change(parent)()
    sweep = sweep_of(experiment, loss, until=until)
    compare(experiment, sweep, pm.run(sweep, progress=False))


def test_a_patched_class_or_instance_loses_its_theory(monkeypatch: pytest.MonkeyPatch) -> None:
    neuron = pm.SingleNeuron()
    assert neuron.theory("quadratic") is not None
    object.__setattr__(neuron, "optimizer", lambda point: optax.adam(point["lr"]))
    assert neuron.theory("quadratic") is None
    assert pm.SingleNeuron().theory("quadratic") is not None
    monkeypatch.setattr(pm.SingleNeuron, "optimizer", lambda self, point: optax.adam(1.0))
    assert pm.SingleNeuron().theory("quadratic") is None


def test_a_loss_function_has_no_lengths_of_any_name() -> None:
    def quadratic(z: Any, y: Any) -> Any:
        return jnp.abs(pm.neuron.sigmoid(z) - y) ** 3

    frame = pm.run(
        pm.Sweep(losses=[quadratic], axes=[pm.points(**STARTS)], horizon=HORIZON), progress=False
    )
    assert frame["predicted_epochs"].isna().all()


SENT = """
import sys, cloudpickle, numpy as np, plateaumap as pm
class Guess(pm.Theory):
    def predict(self, points, drop): return np.ceil(1 / points["lr"])
class Model(pm.Experiment):
    coordinates = (pm.Coordinate("lr", minimum=0),)
    def init(self, point): return {"p": 1.0 + 0 * point["lr"]}
    def loss(self, parameters, point, loss_name): return parameters["p"] ** 2
    def theory(self, loss_name): return Guess()
class Changed(Model):
    def loss(self, parameters, point, loss_name): return parameters["p"] ** 4
sys.stdout.buffer.write(cloudpickle.dumps([Model(), Changed()]))
"""


def test_a_class_that_was_sent_to_another_process_keeps_what_it_knows() -> None:
    sent = subprocess.run([sys.executable, "-c", SENT], capture_output=True, check=True).stdout
    same, changed = pickle.loads(sent)
    assert same.theory("loss") is not None
    assert changed.theory("loss") is None


def test_a_patched_neuron_is_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def plateau() -> int:
        fixed = {"w0": 2.0, "b0": 2.0, "lr": 0.15}
        return pm.run(pm.Sweep(losses="quadratic", fixed=fixed, horizon=500), progress=False)[
            "plateau_epochs"
        ].iloc[0]

    assert plateau() == 152
    for owner in (pm.SingleNeuron, pm.Experiment):
        with monkeypatch.context() as patch:
            patch.setattr(owner, "optimizer", lambda self, point: optax.sgd(10 * point["lr"]))
            assert plateau() == 16
        assert plateau() == 152


class Stated:
    """Special knowledge in a plain mixin, for a loss that it does not define."""

    def floor(self, point: Any, loss_name: Any) -> Any:
        return 0.25

    def excess(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return parameters["p"] ** 2

    def theory(self, loss_name: Any) -> Halving:
        return Halving()


class Mixed(Stated, pm.Experiment):
    """A loss that calls a helper, beside knowledge that does not."""

    coordinates = Bowl.coordinates

    def init(self, point: Any) -> Any:
        return {"p": point["w0"]}

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return self.energy(parameters["p"]) + self(parameters["p"]) + 0.25

    def energy(self, p: Any) -> Any:
        return self.half * p**2

    def __call__(self, p: Any) -> Any:
        return 0.5 * p**2

    @cached_property
    def half(self) -> float:
        return 0.5


OF_A_LOSS = {
    "loss": lambda self, parameters, point, loss_name: jnp.cosh(parameters["p"] - 0.3) - 1,
    "energy": lambda self, p: jnp.abs(p) ** 1.5,
    "__call__": lambda self, p: jnp.abs(p) ** 1.5,
    "half": cached_property(lambda self: 0.75),
}


@pytest.mark.parametrize("name", OF_A_LOSS)
def test_what_a_mixin_states_is_not_inherited_by_another_loss_or_helper(name: str) -> None:
    experiment = type("Changed", (Mixed,), {name: OF_A_LOSS[name]})()
    assert experiment.theory("loss") is None
    point = {"w0": 2.0, "b0": 0.0, "lr": 0.1}
    loss, floor, excess = (
        float(member({"p": jnp.float32(2.0)}, point, "loss"))
        for member in (
            experiment.loss,
            lambda parameters, *where: experiment.floor(*where),
            experiment.excess,
        )
    )
    assert excess == pytest.approx(loss - floor)


def test_what_a_mixin_states_holds_where_it_is_taken_in() -> None:
    mixed = Mixed()
    assert mixed.half == 0.5  # what is cached in an instance changes nothing
    assert mixed.theory("loss") is not None
    assert mixed.excess({"p": 2.0}, {}, "loss") == 4.0
    compare(mixed, sweep_of(mixed, "loss"), pm.run(sweep_of(mixed, "loss"), progress=False))


@pytest.mark.slow
def test_a_static_method_states_a_floor() -> None:
    class Changed(pm.SingleNeuron):
        floor = staticmethod(lambda point, loss_name: -0.1)

    compare(
        Changed(),
        sweep_of(Changed(), "quadratic"),
        pm.run(sweep_of(Changed(), "quadratic"), progress=False),
    )


@pytest.mark.slow
def test_arrays_of_size_zero_and_random_keys_are_held_like_others() -> None:
    class Held(Bowl):
        def __init__(self) -> None:
            object.__setattr__(self, "depth", 1.0)
            object.__setattr__(self, "key", jax.random.key(3))

        def init(self, point: Any) -> Any:
            return {**super().init(point), "none": jnp.zeros((0, 3))}

        def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
            factor = 1 + jax.random.uniform(self.key, dtype=parameters["p"].dtype)
            return factor * parameters["p"] ** 2

        def optimizer(self, point: Any) -> Any:
            return optax.adam(point["lr"])

    compare(Held(), sweep_of(Held(), "loss"), pm.run(sweep_of(Held(), "loss"), progress=False))
