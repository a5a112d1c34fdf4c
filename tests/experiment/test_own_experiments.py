"""An experiment, or a measure, that a user wrote is part of a sweep's identity."""

import dataclasses
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from tests.program import Done, plateaumap, settings_restored

import plateaumap as pm
from plateaumap.experiment.protocol import Experiment
from plateaumap.sweep.axes import Coordinate
from plateaumap.sweep.files import load_spec

SCRIPT = """
from dataclasses import dataclass
import jax.numpy as jnp
import plateaumap as pm
from plateaumap.experiment.protocol import Experiment
from plateaumap.sweep.axes import Coordinate
from plateaumap.training.measures import Duration

@dataclass(frozen=True)
class Later(Duration):
    by: int = 0

    def result(self, state, start, end, record):
        return {{"epochs_run": end.epochs + self.by + {extra}}}

@dataclass(frozen=True)
class Well(Experiment):
    depth: float = 1.0
    by: int = 0
    coordinates = (Coordinate("w0", "start", None), Coordinate("lr", "learning rate", None, 0.0))

    def init(self, point):
        return point["w0"]

    def loss(self, parameters, point, loss_name):
        return {depth} * self.depth * parameters**2

    @property
    def measures(self):
        return tuple(Later(self.by) if m == Duration() else m for m in super().measures)

sweep = pm.Sweep(
    name="well", experiment=Well(), losses="loss", horizon=50,
    axes=[pm.linspace("w0", 1, 2, 3)], fixed={{"lr": 0.1}},
)
"""


def written(folder: Path, depth: float = 1.0, extra: int = 0) -> Path:
    path = folder / "well.py"
    path.write_text(SCRIPT.format(depth=depth, extra=extra))
    return path


def sweep_of(folder: Path, **changes: Any) -> pm.Sweep:
    return load_spec(written(folder, **changes))


@pytest.fixture(autouse=True)
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with settings_restored(tmp_path_factory.mktemp("cache")):
        yield


def test_what_experiment_and_measures_compute_is_in_the_fingerprint(tmp_path: Path) -> None:
    fingerprints = [
        sweep_of(tmp_path, **changes).fingerprint
        for changes in ({}, {"depth": 2.0}, {"extra": 1}, {})
    ]
    assert len(set(fingerprints)) == 3
    assert fingerprints[0] == fingerprints[-1]


def test_a_field_of_the_experiment_is_in_the_fingerprint_and_can_be_set(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    deeper = sweep.with_settings({"experiment.depth": 3.0, "horizon": 60})
    assert type(deeper.experiment) is type(sweep.experiment)
    assert deeper.experiment == dataclasses.replace(sweep.experiment, depth=3.0)
    assert deeper.horizon == 60
    same = sweep.with_settings({"experiment.depth": 1.0})
    assert (
        same.fingerprint
        == sweep.fingerprint
        != sweep.with_settings({"experiment.by": 1}).fingerprint
    )
    with pytest.raises(pm.SpecError, match="did you mean 'depth'"):
        sweep.with_settings({"experiment.dept": 3.0})


def test_a_subclass_of_the_neuron_stays_one_when_something_else_is_set() -> None:
    class Shifted(pm.SingleNeuron):
        def init(self, point: Any) -> Any:
            return super().init({**point, "b0": point["b0"] + 1})

    sweep = pm.Sweep(experiment=Shifted(), fixed={"w0": 1.0, "b0": 0.0, "lr": 0.1}, horizon=100)
    shorter = sweep.with_settings({"horizon": 50})
    assert type(shorter.experiment) is Shifted
    plain = pm.Sweep(**{**dict(sweep), "experiment": pm.SingleNeuron()})
    assert sweep.fingerprint != plain.fingerprint
    with pytest.raises(pm.SpecError, match="run the script that defines"):
        pm.Sweep.from_json(sweep.to_json())


@pytest.mark.slow
def test_rows_of_a_changed_experiment_never_mix_with_old_ones(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def run(*more: object, **changes: Any) -> Done:
        return plateaumap("run", written(tmp_path, **changes), "--out", out, *more)

    assert run().code == 0
    before = pm.load(out)
    assert run().code == 0
    refused = run(depth=2.0)
    assert refused.code == 2
    assert "experiment" in refused.output
    assert "programs" in refused.output
    assert pm.load(out).equals(before)
    assert run("--force", depth=2.0).code == 0
    assert not pm.load(out).equals(before)


def test_opening_results_of_an_own_experiment_runs_none_of_its_code(tmp_path: Path) -> None:
    results = pm.run(sweep_of(tmp_path), out=tmp_path / "out")
    sys.modules.pop("well", None)
    (tmp_path / "well.py").unlink()
    again = pm.open(results.path)
    assert len(again.frame()) == 3
    with pytest.raises(pm.SpecError, match=r"well.*run the script that defines the experiment"):
        again.sweep  # noqa: B018


class Plain(Experiment):
    """No dataclass: what `__init__` sets counts all the same."""

    coordinates = (Coordinate("w0", "start", None), Coordinate("lr", "learning rate", None, 0.0))

    def __init__(self, depth: object) -> None:
        self.depth = depth

    def init(self, point: Any) -> Any:
        return point["w0"]

    def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
        return self.depth * parameters**2

    @cached_property
    def twice(self) -> Any:
        return 2 * self.depth


def sweep_with(experiment: Experiment) -> pm.Sweep:
    return pm.Sweep(experiment=experiment, losses="loss", fixed={"w0": 1.0, "lr": 0.1}, horizon=9)


def test_attributes_of_a_plain_class_are_in_the_fingerprint(tmp_path: Path) -> None:
    assert sweep_with(Plain(1.0)).fingerprint == sweep_with(Plain(1.0)).fingerprint
    pm.run(sweep_with(Plain(1.0)), out=tmp_path / "out")
    with pytest.raises(pm.PlateaumapError, match="experiment"):
        pm.run(sweep_with(Plain(2.0)), out=tmp_path / "out")
    with pytest.raises(pm.SpecError, match=r"Plain\.loss raised TypeError"):
        sweep_with(Plain(object()))


def test_what_is_only_cached_is_not_in_the_fingerprint() -> None:
    used = Plain(1.0)
    assert used.twice == 2
    assert sweep_with(used).fingerprint == sweep_with(Plain(1.0)).fingerprint
