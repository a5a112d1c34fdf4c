import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.storage.small_sweep import Case

from plateaumap.storage.errors import StorageError
from plateaumap.storage.manifest import Manifest
from plateaumap.storage.results import Results, load, open_results
from plateaumap.storage.store import Store
from plateaumap.sweep.axes import linspace, points
from plateaumap.sweep.chunks import Plan
from plateaumap.sweep.spec import Sweep


def test_chosen_columns_come_in_the_requested_order(case: Case, folder: Path) -> None:
    case.fill(folder)
    results = open_results(folder)
    chosen = ["plateau_epochs", "loss", "w0_index"]
    pd.testing.assert_frame_equal(results.frame(chosen), case.frame()[chosen])
    assert list(results.frame("loss").columns) == ["loss"]
    with pytest.raises(StorageError) as caught:
        results.frame(["loss", "losss"])
    assert str(caught.value).startswith(f"{folder} has no column 'losss'; it has loss, w0, b0,")


def test_the_table_can_be_written_to(case: Case, folder: Path) -> None:
    case.fill(folder)
    frame = load(folder)
    frame.loc[0, "w0"] = 99.0
    frame.loc[0, "plateau_epochs"] = 2**62 + 1
    assert frame["w0"][0] == 99.0
    assert frame["plateau_epochs"][0] == 2**62 + 1


def test_an_unfinished_folder_opens_but_its_table_needs_asking(case: Case, folder: Path) -> None:
    case.fill(folder, skip=(1, 4))
    results = open_results(folder)
    assert not results.is_complete
    assert results.missing == [1, 4]
    with pytest.raises(StorageError) as caught:
        results.frame()
    assert str(caught.value) == (
        f"{folder} is unfinished: 2 of 6 parts are missing or damaged; run the sweep again to "
        "finish it, or read the stored rows with frame(partial=True)"
    )
    there = [*range(8), *range(16, 29), *range(37, 42)]
    expected = case.frame().iloc[there].reset_index(drop=True)
    pd.testing.assert_frame_equal(results.frame(partial=True), expected)
    with pytest.raises(StorageError, match="unfinished"):
        results.to_xarray()
    with pytest.raises(StorageError, match="unfinished"):
        load(folder)


def test_a_folder_without_rows_yet(case: Case, folder: Path) -> None:
    case.store(folder)
    results = open_results(folder)
    assert results.missing == list(range(6))
    empty = results.frame(partial=True)
    pd.testing.assert_series_equal(empty.dtypes, case.frame().dtypes)
    assert results.counts() == {"escaped": 0, "censored": 0, "stalled": 0}


def test_counts_name_every_status(case: Case, folder: Path) -> None:
    case.fill(folder)
    status = case.whole()["status"]
    assert open_results(folder).counts() == {
        "escaped": int((status == 0).sum()),
        "censored": int((status == 1).sum()),
        "stalled": 0,
    }


def test_a_part_damaged_inside_is_reported_and_not_read(case: Case, folder: Path) -> None:
    case.fill(folder)
    path = folder / "parts" / "part-00002.parquet"
    data = bytearray(path.read_bytes())
    for position in range(50, 400):
        data[position] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(StorageError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder} is damaged: part-00002.parquet cannot be read")
    assert str(caught.value).endswith("run the sweep again to recompute this part")


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"format_version": "1"}', ""])
def test_a_damaged_manifest_is_reported(case: Case, folder: Path, content: str) -> None:
    case.fill(folder)
    (folder / "manifest.json").write_text(content)
    with pytest.raises(StorageError, match=r"manifest\.json is damaged"):
        open_results(folder)


@pytest.mark.parametrize("key", ["spec", "fingerprint", "plan", "provenance", "columns", "parts"])
def test_a_manifest_that_lacks_a_field_is_reported(case: Case, folder: Path, key: str) -> None:
    case.fill(folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for broken in (
        {name: value for name, value in manifest.items() if name != key},
        {**manifest, key: 7},
    ):
        path.write_text(json.dumps(broken))
        if key == "fingerprint" and key in broken:
            continue
        with pytest.raises(StorageError, match=r"manifest\.json is damaged"):
            open_results(folder)


def test_a_manifest_that_lists_a_part_too_many_is_reported(case: Case, folder: Path) -> None:
    case.fill(folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"part": 5', '"part": 6'))
    with pytest.raises(StorageError, match="lists a part that is not in the plan"):
        open_results(folder)


def test_a_newer_format_is_reported(case: Case, folder: Path) -> None:
    case.fill(folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 7'))
    with pytest.raises(StorageError) as caught:
        open_results(folder)
    assert str(caught.value) == (
        f"{path} has format version 7, and this plateaumap reads versions up to 1; install a newer "
        "plateaumap"
    )


def test_paths_that_hold_no_results_are_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path, message in {
        tmp_path / "nothing": "does not exist",
        tmp_path / "file": "is a file, not a folder of results",
        tmp_path: "is not a folder of results: it holds no manifest.json",
    }.items():
        for reader in (open_results, load):
            with pytest.raises(StorageError) as caught:
                reader(path)
            assert str(caught.value) == f"{path} {message}"


def test_a_moved_folder_is_the_same(case: Case, folder: Path, tmp_path: Path) -> None:
    case.fill(folder)
    moved = folder.rename(tmp_path / "moved")
    results = Results(str(moved))
    assert repr(results) == f"Results('{moved}': 42 rows in 6 parts)"
    assert results.verify() == []
    pd.testing.assert_frame_equal(results.frame(), case.frame())


# A real sweep, for what needs one.


@pytest.fixture
def sweep() -> Sweep:
    return Sweep(
        name="small",
        axes=[linspace("w0", -3, 3, 7), points(b0=[0.9, 2.0, 2.0], lr=[0.15, 0.15, 0.005])],
        fixed={"y": 0.25},
        horizon=1000,
    )


def manifest_of(case: Case, sweep: Sweep, plan: Plan) -> Manifest:
    return Manifest(sweep.to_dict(), sweep.fingerprint, plan, case.columns, {})


def fill(case: Case, sweep: Sweep, folder: Path) -> Results:
    plan = Plan(sweep.size, sweep.loss_names, 8)
    store = Store.create_or_resume(folder, manifest_of(case, sweep, plan))
    with store.lock():
        for chunk in plan:
            store.write(chunk, case.rows(chunk))
        return store.finish()


def test_the_sweep_comes_back(case: Case, sweep: Sweep, folder: Path) -> None:
    back = fill(case, sweep, folder).sweep
    assert back.to_dict() == sweep.to_dict()
    assert back.fingerprint == sweep.fingerprint


def test_xarray_has_a_dimension_for_each_axis(case: Case, sweep: Sweep, folder: Path) -> None:
    results = fill(case, sweep, folder)
    data = results.to_xarray()
    assert dict(data.sizes) == {"loss": 2, "w0": 7, "b0_lr": 3}
    assert data["w0"].dims == ("w0",)
    assert data["lr"].dims == data["b0"].dims == ("b0_lr",)
    assert data["lr"].values.tolist() == [0.15, 0.15, 0.005]
    assert data["y"].dims == ()
    assert "w0_index" not in data.variables
    assert data.attrs == {"name": "small", "fingerprint": sweep.fingerprint}
    assert data["plateau_epochs"].attrs["units"] == "epochs"
    for _, row in results.frame().iterrows():
        place = {"w0": row["w0_index"], "b0_lr": row["b0_index"]}
        cell = data.sel(loss=row["loss"]).isel(place)
        assert cell["w0"] == row["w0"]
        assert cell["lr"] == row["lr"]
        assert cell["status"] == row["status"]
        assert cell["path"].item() is None
        np.testing.assert_equal(cell["final_output"].item(), row["final_output"])
        # Beyond 2**53 with nulls: exact Python integers and None.
        epochs = cell["plateau_epochs"].item()
        assert epochs is None if row["plateau_epochs"] is pd.NA else epochs == row["plateau_epochs"]


@pytest.mark.parametrize(
    ("top", "null", "dtype"),
    [(2**53, True, "float64"), (2**53 + 1, True, "object"), (2**53 + 1, False, "int64")],
)
def test_xarray_keeps_whole_numbers_exact(
    case: Case, sweep: Sweep, folder: Path, top: int, null: bool, dtype: str
) -> None:
    rows = case.whole()
    rows["plateau_epochs"] = np.ma.MaskedArray([top, *range(41)], mask=[False, null, *[False] * 40])
    plan = Plan(21, sweep.loss_names, 21)
    store = Store.create_or_resume(folder, manifest_of(case, sweep, plan))
    with store.lock():
        for chunk in plan:
            stop = chunk.first_row + chunk.rows
            store.write(chunk, {name: rows[name][chunk.first_row : stop] for name in rows})
        epochs = store.finish().to_xarray()["plateau_epochs"]
    assert epochs.dtype == dtype
    flat = epochs.values.ravel()
    assert int(flat[0]) == top
    assert bool(pd.isna(flat[1])) is null
    assert flat[2:].tolist() == list(range(1, 41))


def test_without_xarray_the_extra_is_named(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.fill(folder)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(StorageError) as caught:
        open_results(folder).to_xarray()
    assert str(caught.value) == (
        "to_xarray needs xarray, which is not installed: pip install 'plateaumap[xarray]'"
    )
