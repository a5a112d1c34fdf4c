"""A folder of results contains enough to compute its rows again."""

import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.numerics.compiler import compiler_options

SWEEP = pm.Sweep(
    name="small",
    losses="cross_entropy",
    axes=[pm.linspace("w0", -1, 3, 5)],
    fixed={"b0": 0.5, "lr": 0.1},
    horizon=500,
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pm.Results:
    return pm.run(SWEEP, out=tmp_path_factory.mktemp("results") / "small")


def test_the_sweep_that_a_folder_gives_back_gives_the_same_rows(results: pm.Results) -> None:
    again = results.sweep
    assert again.fingerprint == SWEEP.fingerprint
    pd.testing.assert_frame_equal(pm.run(again), results.frame(), check_exact=True)


def test_a_manifest_names_the_command_the_processor_and_the_compiler(results: pm.Results) -> None:
    provenance = results.manifest["provenance"]
    assert shlex.split(provenance["command"]) == sys.orig_argv
    assert provenance["platform"]["cpu"]
    assert provenance["compiler"]["options"] == compiler_options()
    assert {"jax", "jaxlib", "numpy", "plateaumap"} <= set(provenance["versions"])


def test_every_column_is_defined_in_the_manifest(results: pm.Results) -> None:
    columns = {column["name"]: column for column in results.manifest["columns"]}
    assert list(columns) == list(results.frame().columns)
    assert all(column["meaning"] and column["unit"] for column in columns.values())


def test_the_command_line_is_stored_as_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["plateaumap", "run", "my sweep.toml", "--out", "out"]
    monkeypatch.setattr(sys, "orig_argv", command)
    manifest = pm.run(SWEEP, out=tmp_path).manifest
    assert shlex.split(manifest["provenance"]["command"]) == command


def test_running_again_by_another_command_is_no_other_circumstance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    pm.run(SWEEP, out=out)
    next((out / "parts").iterdir()).unlink()
    monkeypatch.setattr(sys, "orig_argv", ["another", "command"])
    assert pm.run(SWEEP, out=out).manifest["resumed"] == []
