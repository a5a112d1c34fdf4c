"""A run is a plain loop of JAX and Optax, for any parameters, optimizer and keys."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.marks import slow

import plateaumap as pm

HORIZON = 60


class Bowl(pm.Experiment):
    """`|p − 1|²`, with parameters and an optimizer that a test chooses."""

    coordinates = (pm.Coordinate("scale", default=2.0),)

    def __init__(self, optimizer: Any = None, extra: Any = None) -> None:
        self.rule, self.extra = optimizer or optax.sgd(0.05), extra

    def init(self, point: Any) -> Any:
        return {"p": point["scale"] * jnp.arange(1.0, 4.0), "extra": self.extra}

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return jnp.sum((parameters["p"] - 1.0) ** 2)

    def optimizer(self, point: Any) -> Any:
        return self.rule

    @property
    def measures(self) -> Any:
        last = pm.measures.Final("last", lambda parameters: parameters["p"][2])
        return (*super().measures, last)


def row_of(experiment: pm.Experiment, **fields: Any) -> Any:
    sweep = pm.Sweep(experiment=experiment, horizon=HORIZON, until="horizon", **fields)
    return pm.run(sweep, progress=False).iloc[0]


def by_hand(rule: Any) -> float:
    """Return the last parameter after all updates, by the loop of Optax's documentation."""
    with jax.enable_x64(True):
        rule = optax.with_extra_args_support(rule)

        def loss(p: Any) -> Any:
            return jnp.sum((p - 1.0) ** 2)

        p = 2.0 * jnp.arange(1.0, 4.0)
        state = rule.init(p)
        for _ in range(HORIZON):
            value, gradients = jax.value_and_grad(loss)(p)
            updates, state = rule.update(
                gradients, state, p, value=value, grad=gradients, value_fn=loss
            )
            p = optax.apply_updates(p, updates)
        return float(p[2])


RULES = {
    "reduce on plateau": lambda: optax.chain(
        optax.sgd(0.05), optax.contrib.reduce_on_plateau(patience=3, factor=0.5)
    ),
    "polyak": lambda: optax.polyak_sgd(max_learning_rate=0.02),
    "noise": lambda: optax.noisy_sgd(0.05, key=jax.random.key(7)),
    "weight decay": lambda: optax.adamw(0.05),
    "schedule": lambda: optax.sgd(optax.warmup_cosine_decay_schedule(0.0, 0.1, 10, 50)),
}


@pytest.mark.parametrize(
    "name", ["reduce on plateau", *slow(*(name for name in RULES if name != "reduce on plateau"))]
)
def test_an_optimizer_gets_what_it_needs(name: str) -> None:
    with jax.enable_x64(True):
        rule = RULES[name]()
    assert row_of(Bowl(rule))["last"] == pytest.approx(by_hand(rule), rel=1e-9)


@pytest.mark.slow
def test_a_line_search_gets_the_loss_as_a_function() -> None:
    with jax.enable_x64(True):
        rule = optax.lbfgs()
    assert row_of(Bowl(rule))["last"] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("precision", ["float32", *slow("float64")])
def test_keys_and_empty_arrays_are_carried_along(precision: str) -> None:
    class Keyed(Bowl):
        def init(self, point: Any) -> Any:
            keys = jax.random.split(jax.random.key(3), 2)
            return {**super().init(point), "extra": {"keys": keys, "none": jnp.zeros((0, 2))}}

        def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
            drawn = jax.random.uniform(parameters["extra"]["keys"][1])
            return super().loss(parameters, point, loss_name) * (1 + drawn)

    plain, keyed = row_of(Bowl(), precision=precision), row_of(Keyed(), precision=precision)
    bits = precision == "float64"
    with jax.enable_x64(bits):
        factor = 1 + float(jax.random.uniform(jax.random.split(jax.random.key(3), 2)[1]))
    assert keyed["initial_loss"] == pytest.approx(factor * plain["initial_loss"], rel=1e-6)
    assert keyed["status"] == "escaped"
    momentum = row_of(Keyed(optax.sgd(0.01, momentum=0.5)), precision=precision)
    assert momentum["status"] == "escaped"


@pytest.mark.slow
def test_an_equinox_model_keeps_its_key() -> None:
    class Noisy(eqx.Module):
        weight: jax.Array
        key: jax.Array

    class Model(pm.Experiment):
        coordinates = (pm.Coordinate("seed", integer=True), pm.Coordinate("lr", minimum=0))

        def init(self, point: Any) -> Any:
            return Noisy(jnp.ones(3), jax.random.key(point["seed"]))

        def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
            inputs = jax.random.normal(parameters.key, (3,))
            return (jnp.dot(parameters.weight, inputs) - 1.0) ** 2

    row = row_of(Model(), fixed={"seed": 5, "lr": 0.01})
    with jax.enable_x64(True):
        inputs = jax.random.normal(jax.random.key(5), (3,))
        assert row["initial_loss"] == pytest.approx(float((inputs.sum() - 1) ** 2), rel=1e-12)


@pytest.mark.parametrize("kind", [">f4", ">i8", *slow(">f8", ">i2", ">i4", "<i8", "u1")])
@pytest.mark.parametrize("precision", ["float64", *slow("float32")])
def test_data_of_any_byte_order_are_those_numbers(kind: str, precision: str) -> None:
    class Fit(pm.Experiment):
        coordinates = (pm.Coordinate("w0"), pm.Coordinate("lr", default=0.01))

        def __init__(self, data: np.ndarray) -> None:
            self.data = data

        def init(self, point: Any) -> Any:
            return point["w0"]

        def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
            return jnp.sum(self.data * parameters**2)

    row = row_of(Fit(np.array([1, 2, 5], kind)), fixed={"w0": 0.5}, precision=precision)
    assert row["initial_loss"] == 2.0


def test_whole_numbers_beyond_32_bits_are_refused_in_a_float32_sweep() -> None:
    class Fit(Bowl):
        def __init__(self) -> None:
            super().__init__()
            self.large = np.array([2**40])

    with pytest.raises(pm.PlateaumapError, match="int32"):
        row_of(Fit(), precision="float32")
    assert row_of(Fit())["status"] == "escaped"


@pytest.mark.slow
def test_a_float32_sweep_draws_what_jax_draws_by_default() -> None:
    class Drawn(pm.Experiment):
        coordinates = (pm.Coordinate("seed", integer=True), pm.Coordinate("lr", default=0.1))

        def init(self, point: Any) -> Any:
            return {"w": jax.random.normal(jax.random.key(point["seed"]), (3,))}

        def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
            return jnp.mean(parameters["w"] ** 2)

    sweep = pm.Sweep(
        experiment=Drawn(), axes=[pm.values("seed", range(8))], horizon=5, precision="float32"
    )
    drawn = pm.run(sweep, progress=False)["initial_loss"]
    with jax.enable_x64(False):
        right = [
            float(jnp.mean(jax.random.normal(jax.random.key(seed), (3,)) ** 2)) for seed in range(8)
        ]
    np.testing.assert_allclose(drawn, right, rtol=1e-6)
