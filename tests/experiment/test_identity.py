"""Two models are the same if and only if they compute the same: programs and data, not source."""

import functools
import itertools
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.experiment.identity import identity_of
from plateaumap.experiment.program import environment
from plateaumap.queries.overview import overview
from plateaumap.sweep.spec import VERSIONS
from plateaumap.table.columns import Column
from plateaumap.training.measures import Duration, Outputs

LARGE = np.linspace(0.5, 1.0, 3000)
OTHER = np.where(np.arange(3000) == 1500, 0.9, LARGE)


class Base(pm.Experiment):
    """Two numbers under gradient descent; the family changes one member at a time."""

    coordinates = (
        pm.Coordinate("w0"),
        pm.Coordinate("lr", minimum=0),
        pm.Coordinate("seed", default=0, integer=True),
    )

    def init(self, point: Any) -> Any:
        return {"w": point["w0"], "v": 0.5 * point["w0"]}

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return parameters["w"] ** 2 + jnp.sin(parameters["v"]) ** 2

    def optimizer(self, point: Any) -> Any:
        return optax.sgd(point["lr"])


def model(**members: Any) -> pm.Experiment:
    """Return an instance of `Base` with other methods (functions) or attributes (the rest)."""
    methods = {k: v for k, v in members.items() if callable(v) or isinstance(v, property)}
    instance = type("Model", (Base,), methods)()
    for name in set(members) - set(methods):
        setattr(instance, name, members[name])
    return instance


def sweep_of(experiment: pm.Experiment, **changes: Any) -> pm.Sweep:
    fields = {
        "experiment": experiment,
        "axes": [pm.values("w0", [1.0, 2.0])],
        "fixed": {"lr": 0.05},
        "horizon": 200,
    }
    return pm.Sweep(**{**fields, **changes})


def rows(experiment: pm.Experiment, **changes: Any) -> list[Any]:
    table = pm.run(sweep_of(experiment, **changes), progress=False)
    selected = ["tenth_epochs", "initial_loss", "final_loss", "loss_floor", "predicted_epochs"]
    selected += ["epochs_run", "status", "initial_gradient", "steepest_epoch"]
    more = [name for name in table.columns if name.startswith("extra") or "output" in name]
    return table[[*selected, *more]].astype(object).where(table.notna(), None).values.tolist()


def surrogate(slope: float, mode: str = "jvp") -> Callable[..., Any]:
    if mode == "jvp":
        square = jax.custom_jvp(lambda z: z**2)
        square.defjvp(lambda p, t: (square(p[0]), slope * p[0] * t[0]))
        return square
    turned = jax.custom_vjp(lambda z: z**2)
    turned.defvjp(lambda z: (z**2, z), lambda z, g: (slope * z * g,))
    return turned


def of(activation: Callable[..., Any]) -> dict[str, Any]:
    return {"loss": lambda self, p, q, c: activation(p["w"]) + p["v"] ** 2}


class Kit:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def act(self, z: Any) -> Any:
        return self.factor * z**2


@dataclass(frozen=True)
class Extra(Duration):
    """A measure of a user: a column of its own."""

    factor: float = 1.0
    column: str = "extra"

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column(self.column, "float64", "1", "no matter what"),)

    def result(self, state: Any, start: Any, end: Any, record: Any) -> Any:
        return {self.column: self.factor * end.excess + record["loss_floor"]}


@dataclass(frozen=True)
class Speed(Extra):
    """A measure that keeps the gradient's scalar."""

    def init(self, start: Any) -> Any:
        return start.gradient

    def update(self, state: Any, start: Any, now: Any) -> Any:
        return jnp.maximum(state, now.gradient)

    def result(self, state: Any, start: Any, end: Any, record: Any) -> Any:
        return {"extra": state}


def measured(*extra: Any) -> dict[str, Any]:
    return {"measures": property(lambda self: (*pm.Experiment.measures.fget(self), *extra))}


def optimized(build: Callable[[Any], Any]) -> dict[str, Any]:
    return {"optimizer": lambda self, point: build(point["lr"])}


def power(z: Any, k: int) -> Any:
    return z**k


def scaled(array: np.ndarray) -> dict[str, Any]:
    return {"loss": lambda self, p, q, c: jnp.mean(array * p["w"] ** 2) + p["v"] ** 2}


def read(p: Any) -> Any:
    return p["w"] ** 2 + jnp.sin(p["v"]) ** 2


FAMILY: dict[str, dict[str, Any]] = {
    "base": {},
    "init": {"init": lambda self, q: {"w": q["w0"], "v": 0.25 * q["w0"]}},
    "random init": {
        "init": lambda self, q: {"w": q["w0"], "v": jax.random.normal(jax.random.key(q["seed"]))}
    },
    "loss": {"loss": lambda self, p, q, c: 2 * read(p)},
    "cosine": {"loss": lambda self, p, q, c: p["w"] ** 2 + 1 - jnp.cos(p["v"])},
    "another coordinate": {"loss": lambda self, p, q, c: q["lr"] * read(p)},
    "floor": {"floor": lambda self, q, c: -0.5},
    "descent": {"descent": lambda self, p, q, c, n: read(p) * (1 + 0.1 * (n % 2))},
    "descent by seed": {
        "descent": lambda self, p, q, c, n: (
            read(p)
            * (1 + 0.1 * jax.random.uniform(jax.random.fold_in(jax.random.key(q["seed"]), n)))
        )
    },
    "momentum": optimized(lambda lr: optax.sgd(lr, momentum=0.5)),
    "nesterov": optimized(lambda lr: optax.sgd(lr, momentum=0.5, nesterov=True)),
    "adam": optimized(optax.adam),
    "adam b1": optimized(lambda lr: optax.adam(lr, b1=0.8)),
    "schedule": optimized(lambda lr: optax.sgd(optax.exponential_decay(0.1, 5, 0.99))),
    "other schedule": optimized(lambda lr: optax.sgd(optax.exponential_decay(0.1, 5, 0.5))),
    "clipped": optimized(lambda lr: optax.chain(optax.clip(0.1), optax.sgd(lr))),
    "square": of(lambda z: z**2),
    "fourth power": of(lambda z: z**4),
    "custom rule": of(surrogate(3.0)),
    "other custom rule": of(surrogate(4.0)),
    "custom vjp": of(surrogate(5.0, "vjp")),
    "bound method": of(Kit(0.75).act),
    "other bound method": of(Kit(0.8).act),
    "jit of partial": of(jax.jit(functools.partial(power, k=6))),
    "checkpoint of partial": of(jax.checkpoint(functools.partial(power, k=8))),
    "array": scaled(LARGE),
    "other array": scaled(OTHER),
    "measure": measured(Extra()),
    "other measure": measured(Extra(2.0)),
    "converged": {"converged": lambda self, p, q, t: jnp.abs(p["w"]) < 1.5},
    "speed": {**measured(Speed()), "gradient_scalar": lambda self, g: g["w"]},
    "other speed": {**measured(Speed()), "gradient_scalar": lambda self, g: g["v"]},
    "output": {**measured(Outputs()), "output": lambda self, p, q: p["w"]},
    "output of the point": {**measured(Outputs()), "output": lambda self, p, q: q["w0"]},
    "fall": {"decrease": lambda self, q, c: lambda p, u: jnp.sum(p["w"] * u["w"])},
}
"""Models of which no two compute the same."""


CHANGED = ("custom rule", "other custom rule")
"""Of these, and of the base, the rows are compared, too."""


@functools.cache
def fingerprints() -> dict[str, str]:
    return {name: sweep_of(model(**members)).fingerprint for name, members in FAMILY.items()}


def test_no_two_of_a_family_are_taken_for_each_other() -> None:
    known = fingerprints()
    pairs = list(itertools.combinations(known, 2))
    assert len(pairs) >= 500
    assert [pair for pair in pairs if known[pair[0]] == known[pair[1]]] == []


@pytest.mark.slow
def test_their_rows_differ_in_one_process() -> None:
    actual = [rows(model(**FAMILY[name])) for name in ("base", *CHANGED)]
    assert all(one != other for one, other in itertools.combinations(actual, 2))


@pytest.mark.slow
def test_the_rows_of_all_of_them_differ() -> None:
    actual = {name: rows(model(**members)) for name, members in FAMILY.items()}
    same = {
        pair for pair in itertools.combinations(actual, 2) if actual[pair[0]] == actual[pair[1]]
    }
    assert same == set()


class Renamed(pm.Experiment):
    """What `Base` computes, written otherwise."""

    coordinates = Base.coordinates
    unused = LARGE

    def __init__(self) -> None:
        self.rate = object()

    def init(self, q: Any) -> Any:
        half = 0.5 * q["w0"]
        return {"v2": half, "w2": q["w0"]}

    def loss(self, p: Any, q: Any, c: Any) -> Any:
        jnp.exp(p["w2"])  # reaches no output
        return jax.jit(lambda w, v: w**2 + jnp.sin(v) ** 2)(p["w2"], p["v2"])


class Rate(Base):
    """A model with a rate as an attribute."""

    def __init__(self, rate: Any, **more: Any) -> None:
        self.rate = rate
        vars(self).update(more)

    def optimizer(self, point: Any) -> Any:
        return optax.sgd(self.rate)


class Kept(Base):
    """A model with data as an attribute."""

    def __init__(self, data: Any, name: str = "data") -> None:
        setattr(self, name, data)
        self._name = name

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        data = getattr(self, self._name)
        return jnp.mean(data * parameters["w"] ** 2) + parameters["v"] ** 2


class Counted(Base):
    """A model with a table of pandas as an attribute."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return jnp.mean(jnp.asarray(self.table["a"].to_numpy())) * read(parameters)


EQUAL: dict[str, tuple[pm.Experiment, pm.Experiment]] = {
    "another class": (Base(), model()),
    "other names and dead code": (Base(), Renamed()),
    "NumPy's numbers": (Rate(0.1), Rate(np.float64(0.1))),
    "a quotient": (Rate(0.1), Rate(1 / 10)),
    "objects": (Rate(0.1), Rate(0.1, labels=np.array(["a", object()], object))),
    "unused data": (Rate(0.1), Rate(0.1, data=LARGE)),
    "a lambda and a function": (
        model(loss=lambda self, p, q, c: read(p)),
        model(loss=lambda self, p, q, c: p["w"] ** 2 + jnp.sin(p["v"]) ** 2),
    ),
    "under jit": (model(**of(lambda z: z**4)), model(**of(jax.jit(lambda x: x**4)))),
    "partial": (model(**of(lambda z: z**4)), model(**of(functools.partial(power, k=4)))),
    "attribute and closure": (Kept(LARGE), model(**scaled(LARGE))),
    "another attribute": (Kept(LARGE), Kept(LARGE.copy(), "a")),
    "big-endian": (Kept(LARGE), Kept(LARGE.astype(">f8"))),
    "JAX's array": (Kept(np.arange(3.0)), Kept(jax.device_put(np.arange(3.0, dtype="f4")))),
    "table": (
        Counted(pd.DataFrame({"a": [1.0, 2]})),
        Counted(pd.DataFrame({"b": 0, "a": [1.0, 2]})),
    ),
    "optimizer": (
        model(**optimized(optax.sgd)),
        model(**optimized(lambda lr: optax.chain(optax.scale(-1.0 * lr)))),
    ),
    "measures": (model(**measured(Extra(2))), model(**measured(Extra(2.0)))),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_programs_from_different_source_are_the_same(name: str) -> None:
    one, other = (sweep_of(experiment).fingerprint for experiment in EQUAL[name])
    assert one == other


@pytest.mark.slow
def test_tables_that_differ_in_their_labels_are_distinguished() -> None:
    one, other = pd.DataFrame({"a": [1.0], "b": [3.0]}), pd.DataFrame({"b": [1.0], "a": [3.0]})
    assert rows(Counted(one)) != rows(Counted(other))
    assert sweep_of(Counted(one)).fingerprint != sweep_of(Counted(other)).fingerprint


NEURON: dict[str, Any] = {"fixed": {"w0": 1.0, "b0": 0.5, "lr": 0.1}, "horizon": 100}


def loss_named(name: str, value: Callable[..., Any], **more: Any) -> pm.losses.Loss:
    return pm.losses.Loss(name, value, **more)


def test_losses_of_the_neuron_are_known_by_their_programs_and_names() -> None:
    def square(z: Any, y: Any) -> Any:
        return (z - y) ** 2

    kits = [functools.partial(lambda self, z, y: self * (z - y) ** 2, k) for k in (2.0, 3.0)]
    different = [
        square,
        loss_named("square", kits[0]),
        loss_named("square", kits[1]),
        loss_named("other", square),
        loss_named("square", square, floor=lambda y: 0 * y - 1),
        loss_named("square", square, decrease=lambda z, s, y: (z - y) ** 2 - (z + s - y) ** 2),
    ]
    prints = [pm.Sweep(losses=[loss], **NEURON).fingerprint for loss in different]
    assert len(set(prints)) == len(prints)
    same = [square, loss_named("square", lambda a, b: (a - b) ** 2), jax.jit(square)]
    assert len({pm.Sweep(losses=[loss], **NEURON).fingerprint for loss in same}) == 1


def test_each_combination_of_choices_has_its_own_digest() -> None:
    method = pm.Coordinate("method", choices=("sgd", "adam"))
    experiment = model(
        coordinates=(*Base.coordinates, method),
        optimizer=lambda self, q: getattr(optax, q["method"])(q["lr"]),
    )
    methods = [pm.values("method", ["adam", "sgd"])]
    sweep = sweep_of(experiment, axes=methods, fixed={"w0": 1, "lr": 1})
    programs = sweep.to_dict()["experiment"]["programs"]
    assert list(programs) == ["loss, method='adam'", "loss, method='sgd'"]
    assert len(set(programs.values())) == 2
    one = sweep_of(experiment, fixed={"lr": 1, "method": "sgd"})
    assert one.to_dict()["experiment"]["programs"] == {
        "loss, method='sgd'": programs["loss, method='sgd'"]
    }


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.experiment.test_identity import EQUAL, FAMILY, json, model, sweep_of
names = sys.argv[2:]
print(json.dumps([sweep_of(model(**FAMILY[name])).fingerprint for name in names]))
"""


def test_digests_are_the_same_in_every_process() -> None:
    names = ["base", "adam", "random init", "other array", "custom vjp", "other measure"]
    root = Path(__file__).resolve().parents[2]
    settings = {"PYTHONHASHSEED": "7", "JAX_THREEFRY_PARTITIONABLE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(root), *names],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **settings, "JAX_DEFAULT_PRNG_IMPL": "rbg"},
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [fingerprints()[name] for name in names]


# --- what no digest covers --------------------------------------------------------------------

COUNTER = itertools.count()


class Grows(Base):
    """Another loss with each call."""

    calls = 0

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        type(self).calls += 1
        return type(self).calls * read(parameters)


def printed(z: Any) -> Any:
    jax.debug.print("z = {}", z)
    return z**2


def called(z: Any) -> Any:
    return (
        jax.pure_callback(np.square, jax.ShapeDtypeStruct((), z.dtype), jax.lax.stop_gradient(z))
        + z
    )


def drawn(impl: str) -> dict[str, Any]:
    def init(self: Any, point: Any) -> Any:
        return {"w": jax.random.normal(jax.random.key(point["seed"], impl=impl)), "v": point["w0"]}

    return {"init": init}


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (model(**of(called)), "calls pure_callback"),
        (model(**of(jax.jit(called))), "calls pure_callback"),
        (model(**of(printed)), "calls debug"),
        (model(**drawn("rbg")), "generator rbg"),
        (model(**drawn("unsafe_rbg")), "generator rbg"),
        (Grows(), r"Grows: traced twice.*differing: excess"),
        (model(**of(lambda z: z**2 * np.random.default_rng().normal())), "traced twice"),
        (model(**of(jax.jit(lambda z: z**2 * next(COUNTER)))), "traced twice"),
        (model(**of(lambda z: z**2 * time.perf_counter())), "traced twice"),
        (model(**of(lambda z: z**2 if z > 0 else z)), "TracerBoolConversionError"),
        (
            model(**optimized(lambda lr: optax.sgd(lr * np.random.default_rng().normal()))),
            "optimizer",
        ),
        (model(**measured(Extra(None))), "Extra .extra..result raised TypeError"),  # type: ignore[arg-type]
    ],
)
def test_what_a_digest_cannot_cover_is_refused_by_the_sweep(
    experiment: pm.Experiment, message: str
) -> None:
    with pytest.raises(pm.SpecError, match=message):
        sweep_of(experiment)


def test_a_loss_of_the_neuron_is_refused_likewise() -> None:
    with pytest.raises(pm.SpecError, match=r"losses\[0\].*calls debug"):
        pm.Sweep(losses=lambda z, y: printed(z - y), **NEURON)


# --- in memory --------------------------------------------------------------------------------


def test_a_model_that_was_changed_gets_rows_of_its_own() -> None:
    experiment = Rate(0.05)
    sweep = sweep_of(experiment)
    before = rows(experiment)
    name = sweep.fingerprint
    experiment.rate = 0.2
    assert rows(experiment) == rows(Rate(0.2)) != before
    assert sweep_of(experiment).fingerprint != name
    with pytest.raises(pm.PlateaumapError, match=r"experiment = Rate: .*make a new Sweep"):
        pm.run(sweep, progress=False)


FACTOR = 1.0


@jax.jit
def helped(z: Any) -> Any:
    return FACTOR * z**2


def test_patched_methods_and_changed_globals_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = model(**of(helped))
    names, seen = [sweep_of(experiment).fingerprint], [rows(experiment)]
    for change in (
        lambda: monkeypatch.setitem(globals(), "FACTOR", 3.0),
        lambda: monkeypatch.setattr(type(experiment), "loss", lambda self, p, q, c: 5 * read(p)),
    ):
        change()
        names.append(sweep_of(experiment).fingerprint)
        seen.append(rows(experiment))
    assert len(set(names)) == 3
    assert all(one != other for one, other in itertools.combinations(seen, 2))


def test_curves_of_the_neuron_follow_a_changed_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(z: Any, y: Any) -> Any:
        return FACTOR * (z - y) ** 2

    point = {"w0": 1.0, "b0": 0.5, "lr": 0.1, "epochs": 3}
    before = pm.simulate(loss=loss, **point)
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert pm.simulate(loss=loss, **point)["loss"][0] == 2 * before["loss"][0]


# --- in a folder ------------------------------------------------------------------------------


@pytest.fixture
def written_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with one part missing, computed by another JAX."""
    with monkeypatch.context() as patch:
        patch.setattr(jax, "__version__", "0.9.1")
        patch.setattr("plateaumap.sweep.chunks.FEWEST_ROWS", 1)
        pm.run(sweep_of(model(), axes=LINE), out=tmp_path / "out", progress=False)
    (tmp_path / "out" / "parts" / "part-00001.parquet").unlink()
    return tmp_path / "out"


LINE = [pm.values("w0", [1.0, 1.5, 2.0, 2.5])]


def test_a_folder_of_another_jax_is_refused_and_continued_on_request(
    written_before: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sweep = sweep_of(model(), axes=LINE)
    message = f"computed with jax 0.9.1, this is {jax.__version__}"
    with pytest.raises(pm.PlateaumapError, match=message) as refused:
        pm.run(sweep, out=written_before, progress=False)
    assert "--mix-versions" in str(refused.value)
    results = pm.run(sweep, out=written_before, progress=False, mix_versions=True)
    assert results.is_complete
    assert results.manifest["resumed"][-1]["mixed_versions"] == [message]
    assert message in overview(results)
    with caplog.at_level(logging.WARNING):
        assert pm.open(written_before, experiment=model()).sweep == sweep
    assert message in caplog.text


def test_another_sweep_is_refused_with_and_without_that_option(written_before: Path) -> None:
    other = sweep_of(model(), axes=LINE, horizon=100)
    for mix in (False, True):
        with pytest.raises(pm.PlateaumapError, match="horizon: 200 there, 100 here"):
            pm.run(other, out=written_before, progress=False, mix_versions=mix)


def test_growing_rows_of_another_jax_needs_the_option(written_before: Path) -> None:
    sweep, more = sweep_of(model(), axes=LINE), {"axes.w0.values": [1.0, 1.5, 2.0, 3.0]}
    with pytest.raises(pm.PlateaumapError, match=r"jax 0.9.1.*--mix-versions"):
        pm.extend(written_before, more, sweep=sweep, progress=False)
    grown = pm.extend(written_before, more, sweep=sweep, progress=False, mix_versions=True)
    assert "jax 0.9.1" in grown.manifest["provenance"]["mixed_versions"][0]


def test_another_setting_of_jax_is_named(tmp_path: Path) -> None:
    pm.run(sweep_of(model()), out=tmp_path / "out", progress=False)
    message = "matmul_precision was None, is highest"
    with jax.default_matmul_precision("highest"), pytest.raises(pm.PlateaumapError, match=message):
        pm.run(sweep_of(model()), out=tmp_path / "out", progress=False)


def test_another_model_is_another_sweep(tmp_path: Path) -> None:
    pm.run(sweep_of(Rate(0.05)), out=tmp_path / "out", progress=False)
    with pytest.raises(pm.PlateaumapError, match=r"another sweep.*\n  experiment.programs.loss"):
        pm.run(sweep_of(Rate(0.06)), out=tmp_path / "out", progress=False)
    assert pm.run(sweep_of(Rate(np.float64(0.05))), out=tmp_path / "out", progress=False)


def test_results_open_with_their_model_only(tmp_path: Path) -> None:
    pm.run(sweep_of(Rate(0.05)), out=tmp_path / "out", progress=False)
    assert pm.open(tmp_path / "out", experiment=Rate(0.05)).sweep == sweep_of(Rate(0.05))
    with pytest.raises(pm.PlateaumapError, match="was not computed by the code passed here"):
        pm.open(tmp_path / "out", experiment=Rate(0.06))


def as_first_release(folder: Path) -> None:
    """Make of a folder one as the first release wrote it: without versions."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["spec"]["versions"]
    old = pm.Sweep.from_dict({**manifest["spec"], "versions": {}}).fingerprint
    for file in (path, *folder.glob("parts/*")):
        file.unlink()
    manifest["fingerprint"] = old
    manifest["parts"] = []
    from plateaumap.storage.manifest import Manifest

    Manifest.from_dict(manifest).save(folder)


def test_rows_of_an_earlier_version_can_be_read_but_not_continued(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep = pm.Sweep(losses="quadratic", **NEURON)
    pm.run(sweep, out=out, progress=False)
    as_first_release(out)
    results = pm.open(out)
    assert results.sweep.versions == {}
    assert results.sweep.fingerprint == results.manifest["fingerprint"]
    message = f"version 1 of neuron, this is {VERSIONS['neuron']}"
    for resumed in (sweep, results.sweep):
        with pytest.raises(pm.PlateaumapError, match=message):
            pm.run(resumed, out=out, progress=False)
    with pytest.raises(pm.PlateaumapError, match=message):
        pm.extend(out, {"horizon": 200}, progress=False)


def test_versions_are_filled_in_and_come_back() -> None:
    sweep = pm.Sweep(**NEURON)
    text = sweep.to_toml()
    assert pm.Sweep.from_toml(text) == sweep
    short = text[: text.index("[versions]")]
    assert pm.Sweep.from_toml(short).fingerprint == sweep.fingerprint
    later = pm.Sweep(**NEURON, versions={**VERSIONS, "neuron": 99})
    assert later.fingerprint != sweep.fingerprint


def test_a_named_loss_of_the_neuron_needs_no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pm.Sweep(**NEURON).fingerprint
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    monkeypatch.setattr(jax, "make_jaxpr", None)
    assert pm.Sweep(**NEURON).fingerprint == before
    assert identity_of(pm.SingleNeuron(), "quadratic", "float64")
    assert environment()["jax"] == "0.0.1"
