"""The table of an extension equals that of a fresh run, bit for bit."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.program import plateaumap, settings_restored

import plateaumap as pm
from plateaumap.execution.evaluator import Evaluator
from plateaumap.execution.local import LocalBackend
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.runner.extend import Extension, extend

W0 = (-9.0, -3.0, -1.0, 0.0, 1.0, 2.5, 5.0, 6.0, 30.0)

SWEEP = pm.Sweep(
    name="old",
    losses=("quadratic", "cross_entropy"),
    axes=[pm.values("w0", W0), pm.points(b0=[0.9, 2, 2], lr=[0.15, 0.15, 0.5])],
    fixed={"y": 0.0},
    horizon=60,
)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extension") / "old"
    pm.run(SWEEP, out=folder)
    return folder


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def grown(old: Path, out: Path, settings: dict[str, Any], **more: Any) -> int:
    """Return how many rows an extension reuses, after comparing it with a fresh run."""
    before = snapshot(old)
    extension = Extension(old, settings, out, **more)
    results = extension.run(LocalBackend())
    assert snapshot(old) == before
    assert results.verify() == []
    fresh = pm.run(extension.sweep)
    pd.testing.assert_frame_equal(results.frame(), fresh, check_exact=True)
    for name, column in fresh.items():  # zeros' signs, too
        if column.dtype == np.float64:
            bits = results.frame()[name].to_numpy().view(np.int64)
            assert (bits == column.to_numpy().view(np.int64)).all(), name
    return extension.reused


def test_a_longer_horizon_computes_only_the_rows_that_the_old_one_cut_off(
    old: Path, tmp_path: Path
) -> None:
    frame = pm.load(old)
    cut_off = (frame["epochs_run"] == 60) & (frame["status"] != "converged_at_start")
    # Both kinds are there: censored plateaus, and plateaus without a T90.
    assert (frame[cut_off]["status"] == "censored").any()
    assert (frame[cut_off]["status"] == "escaped").any()
    assert (frame["status"] == "converged_at_start").any()
    assert grown(old, tmp_path / "new", {"horizon": 900}) == (~cut_off).sum()


def test_a_shorter_horizon_takes_over_what_stopped_before_it(old: Path, tmp_path: Path) -> None:
    before = pm.load(old)["epochs_run"] < 20
    assert 0 < before.sum() < len(before)
    assert grown(old, tmp_path / "new", {"horizon": 20}) == before.sum()


def test_runs_that_stalled_are_not_run_longer(tmp_path: Path) -> None:
    sweep = pm.Sweep(
        losses="quadratic",
        axes=[pm.values("w0", [1.0, 30.0, 40.0])],
        fixed={"b0": 0.0, "lr": 1.0},
        horizon=50,
    )
    pm.run(sweep, out=tmp_path / "old")
    stalled = pm.load(tmp_path / "old")["status"].isin(["stalled", "partially_stalled"])
    assert stalled.any()
    assert grown(tmp_path / "old", tmp_path / "new", {"horizon": 500}) >= stalled.sum()


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(60, 10**6), (None, 700), (60, None)])
def test_leaps_are_taken_over_where_their_last_crossing_was_seen(
    tmp_path: Path, before: int | None, after: int | None
) -> None:
    sweep = SWEEP.with_settings({"method": "leap", "horizon": before})
    frame = pm.run(sweep, out=tmp_path / "old").frame()
    end = min(horizon for horizon in (before, after) if horizon is not None)
    right = (frame["tenth_epochs"] < end).fillna(False) | (frame["status"] == "converged_at_start")
    assert 0 < right.sum() < len(right)
    assert grown(tmp_path / "old", tmp_path / "new", {"horizon": after}) == right.sum()


def test_more_values_on_an_axis_get_new_indices(old: Path, tmp_path: Path) -> None:
    values = [4.0, *reversed(W0), 0.5]
    taken = grown(old, tmp_path / "new", {"axes.w0.values": values})
    assert taken == 2 * len(W0) * 3
    frame = pm.load(tmp_path / "new")
    assert frame.loc[frame["w0"] == -3.0, "w0_index"].unique().tolist() == [len(W0) - 1]


def test_points_are_the_same_only_if_all_that_vary_together_are(old: Path, tmp_path: Path) -> None:
    sweep = SWEEP.with_settings({"axes.b0.values": {"b0": [2, 0.9, 2], "lr": [0.5, 0.5, 0.15]}})
    assert grown(old, tmp_path / "new", {}, sweep=sweep) == 2 * len(W0) * 2


@pytest.mark.slow
def test_a_fixed_coordinate_may_become_an_axis(old: Path, tmp_path: Path) -> None:
    axes = [*SWEEP.axes, pm.values("y", [0.25, 0.0, 0.5])]
    sweep = pm.Sweep(**{**SWEEP.to_dict(), "fixed": {}, "axes": axes})
    assert grown(old, tmp_path / "new", {}, sweep=sweep) == SWEEP.rows


@pytest.mark.slow
def test_more_losses_and_both_horizon_and_axis_at_once(old: Path, tmp_path: Path) -> None:
    settings = {
        "losses": ["cross_entropy", "matching", "quadratic"],
        "horizon": 200,
        "axes.w0.values": [0.25, *W0],
    }
    frame = pm.load(old)
    right = (frame["epochs_run"] < 60).sum()
    assert grown(old, tmp_path / "new", settings) == right


def test_an_axis_that_shares_only_its_ends(tmp_path: Path) -> None:
    sweep = pm.Sweep(
        losses="quadratic", axes=[pm.linspace("w0", 0, 4, 5)], fixed={"b0": 2, "lr": 1}, horizon=99
    )
    pm.run(sweep, out=tmp_path / "old")
    assert grown(tmp_path / "old", tmp_path / "new", {"axes.w0.num": 8}) == 2


def test_unfinished_and_damaged_folders_are_taken_for_what_is_right_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plateaumap.sweep.chunks.FEWEST_ROWS", 9)
    old = tmp_path / "old"
    pm.run(SWEEP, out=old)
    parts = sorted((old / "parts").iterdir())
    assert len(parts) == 6
    parts[1].unlink()
    data = bytearray(parts[3].read_bytes())
    data[len(data) // 2] ^= 1
    parts[3].write_bytes(data)
    assert grown(old, tmp_path / "new", {"axes.w0.values": [*W0, 7.0]}) == 4 * 9


def test_an_interrupted_extension_goes_on(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plateaumap.sweep.chunks.FEWEST_ROWS", 9)
    out = tmp_path / "new"
    settings = {"horizon": 900}
    real = Evaluator.evaluate
    calls = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(Evaluator, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        extend(old, settings, out)
    there = len(list((out / "parts").iterdir()))
    assert 0 < there < 6
    monkeypatch.setattr(Evaluator, "evaluate", real)
    results = extend(old, settings, out)
    pd.testing.assert_frame_equal(results.frame(), pm.run(results.sweep), check_exact=True)


def test_the_folder_is_beside_the_old_one_and_found_again(tmp_path: Path) -> None:
    pm.run(SWEEP, out=tmp_path / "old")
    first = Extension(tmp_path / "old", {"horizon": 70})
    assert first.path == tmp_path / f"old-{first.sweep.fingerprint[:8]}"
    first.run(LocalBackend())
    again = Extension(tmp_path / "old", {"horizon": 70})
    results = again.run(LocalBackend())
    assert (again.path, again.reused) == (first.path, 0)
    origin = results.manifest["provenance"]["extends"]
    assert origin["fingerprint"] == SWEEP.fingerprint
    # And it is a sweep like any other: running it by itself finds it finished.
    assert pm.run(first.sweep, out=again.path).manifest["parts"] == results.manifest["parts"]


def mine(z: Any, y: Any) -> Any:
    """Return a custom loss."""
    return 0.5 * (z - y) ** 2


def mine_changed(z: Any, y: Any) -> Any:
    """Return another loss, which will have the same name."""
    return 0.75 * (z - y) ** 2


@pytest.mark.slow
def test_functions_are_known_by_what_they_compute(old: Path, tmp_path: Path) -> None:
    sweep = SWEEP.with_settings({"losses": ["quadratic", mine]})
    pm.run(sweep, out=tmp_path / "mine")
    with pytest.raises(PlateaumapError, match=r"are unknown: 'mine' .*--file SCRIPT"):
        extend(tmp_path / "mine", {"horizon": 90})
    longer = grown(tmp_path / "mine", tmp_path / "new", {"horizon": 90}, sweep=sweep)
    assert longer == (pm.load(tmp_path / "mine")["epochs_run"] < 60).sum()
    mine_changed.__name__ = "mine"
    changed = SWEEP.with_settings({"losses": ["quadratic", mine_changed]})
    taken = grown(tmp_path / "mine", tmp_path / "changed", {}, sweep=changed)
    assert taken == SWEEP.size  # the quadratic loss only


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "holds this same sweep"),
        ({"name": "renamed"}, "holds this same sweep"),
        ({"tolerance": 0.02}, "tolerance: 0.01 there, 0.02 here"),
        ({"until": "plateau"}, 'until: "tenth" there, "plateau" here'),
        ({"precision": "float32", "horizon": 90}, 'precision: "float64" there, "float32" here'),
        ({"axes.w1.num": 3}, "no axis holds 'w1'"),
    ],
)
def test_what_cannot_be_an_extension_is_refused(
    old: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    before = snapshot(old)
    with pytest.raises(PlateaumapError) as caught:
        extend(old, settings, tmp_path / "new")
    assert message in str(caught.value)
    assert not (tmp_path / "new").exists()
    assert snapshot(old) == before


def test_the_old_folder_is_refused_as_the_new_one(old: Path) -> None:
    with pytest.raises(PlateaumapError, match="is the old folder"):
        extend(old, {"horizon": 90}, old / "parts" / "..")


def test_rows_of_other_versions_are_mixed_only_on_demand(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    pm.run(SWEEP, out=old)
    path = old / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["provenance"]["versions"]["jax"] = "0.9.0"
    path.write_text(json.dumps(manifest))
    with pytest.raises(PlateaumapError) as caught:
        extend(old, {"horizon": 90}, new)
    assert 'versions.jax: "0.9.0" there' in str(caught.value)
    assert not new.exists()
    results = extend(old, {"horizon": 90}, new, mix_versions=True)
    assert results.manifest["provenance"]["extends"]["provenance"][0]["versions"]["jax"] == "0.9.0"


def test_rows_counted_by_another_integer_are_computed_again(old: Path, tmp_path: Path) -> None:
    extension = Extension(old, {"horizon": 2**31})
    points = extension.sweep.grid.coordinates_at(np.arange(extension.sweep.size))
    known, _ = extension.known(0, points)
    assert not known.any()


SCRIPT = """
import plateaumap as pm

def own(z, y):
    return 0.5 * (z - y) ** 2

sweep = pm.Sweep(
    losses=own, axes=[pm.values("w0", [0.5, 1, 9])], fixed={"b0": 1, "lr": 0.1}, horizon=12
)
"""


def test_the_command_line_extends(tmp_path: Path) -> None:
    script = tmp_path / "own.py"
    script.write_text(SCRIPT)
    with settings_restored(tmp_path / "cache"), contextlib.chdir(tmp_path):
        assert plateaumap("run", script, "--out", "old").code == 0
        longer = ["extend", "old", "--set", "horizon=90", "--set", "axes.w0.values=[1, 9, 2]"]
        refused = plateaumap(*longer)
        assert refused.code == 2
        assert "--file SCRIPT" in refused.output
        done = plateaumap(*longer, "--file", script)
        assert done.code == 0, done.output
        assert "rows were reused from old" in done.output
        assert plateaumap("run", script, "--out", "fresh", *longer[2:]).code == 0
        again = plateaumap("extend", "old", "--file", script)
        assert again.code == 2
        assert "holds this same sweep" in again.output
    (new,) = tmp_path.glob("old-*")
    assert str(new.name) in done.output
    pd.testing.assert_frame_equal(pm.load(new), pm.load(tmp_path / "fresh"), check_exact=True)
