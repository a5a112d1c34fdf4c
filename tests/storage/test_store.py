import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tests.storage.small_sweep import Case

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.storage import files, parts
from plateaumap.storage import store as store_module
from plateaumap.storage.errors import LockedError, StorageError, WriteError
from plateaumap.storage.results import load, open_results
from plateaumap.storage.store import Store
from plateaumap.storage.verify import find_damages
from plateaumap.sweep.chunks import Plan
from plateaumap.table.columns import Column

Maker = Callable[[Path], None]


def part(folder: Path, index: int) -> Path:
    return folder / "parts" / f"part-{index:05d}.parquet"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock")
    }


def test_a_finished_folder_holds_the_table_and_says_what_it_is(case: Case, folder: Path) -> None:
    case.fill(folder)
    pd.testing.assert_frame_equal(load(folder), case.frame())
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "manifest.json",
        "parts",
    ]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["spec"] == case.spec
    assert manifest["fingerprint"] == case.fingerprint
    assert manifest["format_version"] == 1
    assert manifest["plan"]["chunk_points"] == 8
    assert manifest["complete"] is True
    assert manifest["provenance"]["versions"] == {"jax": "0.10.2"}
    assert manifest["provenance"]["utc_time"].endswith("+00:00")
    assert [(entry["first_row"], entry["rows"]) for entry in manifest["parts"]] == [
        (0, 8), (8, 8), (16, 5), (21, 8), (29, 8), (37, 5),
    ]  # fmt: skip
    for entry in manifest["parts"]:
        metadata = pq.read_schema(folder / entry["file"]).metadata
        assert metadata[b"sha256"].decode() == entry["sha256"]
        assert metadata[b"fingerprint"].decode() == case.fingerprint
        assert json.loads(metadata[b"spec"]) == case.spec
        assert (folder / entry["file"]).stat().st_size == entry["bytes"]


def test_other_readers_see_the_same_values(case: Case, folder: Path) -> None:
    case.fill(folder)
    (folder / "parts" / ".part-00001.parquet.1-abcd.tmp").write_bytes(b"half a part")
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "parts"), case.frame())
    plain = pq.read_table(folder / "parts")
    assert plain["plateau_epochs"].to_pylist() == case.whole()["plateau_epochs"].tolist()
    chunk = pq.ParquetFile(part(folder, 0)).metadata.row_group(0).column(1)
    assert chunk.compression == "ZSTD"


def test_the_same_rows_make_the_same_files(case: Case, folder: Path, tmp_path: Path) -> None:
    case.fill(folder)
    case.fill(tmp_path / "again")
    assert [part(folder, i).read_bytes() for i in range(6)] == [
        part(tmp_path / "again", i).read_bytes() for i in range(6)
    ]


def test_an_interrupted_run_goes_on_with_what_is_missing(case: Case, folder: Path) -> None:
    store = case.store(folder)

    def interrupted() -> None:
        with store.lock():
            store.write(store.plan[4], case.rows(store.plan[4]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [entry["part"] for entry in open_results(folder).manifest["parts"]] == [4]
    again = case.store(folder)
    assert again.missing() == [0, 1, 2, 3, 5]
    written = part(folder, 4).stat().st_mtime_ns
    case.fill(folder)
    assert part(folder, 4).stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(load(folder), case.frame())


def test_a_part_that_the_manifest_does_not_list_is_read_before_it_is_trusted(
    case: Case, folder: Path
) -> None:
    case.store(folder)
    empty = (folder / "manifest.json").read_bytes()
    case.fill(folder)
    (folder / "manifest.json").write_bytes(empty)  # as a kill -9 leaves it
    flip(part(folder, 2))
    store = case.store(folder)
    with store.lock():
        assert store.missing() == [2]
    listed = [entry["part"] for entry in open_results(folder).manifest["parts"]]
    assert listed == [0, 1, 3, 4, 5]


def test_writing_from_many_threads(case: Case, folder: Path) -> None:
    plan = Plan(21, case.plan.losses, 1)
    store = case.store(folder, plan=plan)
    gate = threading.Barrier(8)

    def write(index: int) -> None:
        if index < 8:
            gate.wait()
        store.write(plan[index], case.rows(plan[index]))

    with store.lock(), ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(len(plan))))
        results = store.finish()
    assert results.is_complete
    assert len(results.manifest["parts"]) == 42
    assert results.verify() == []
    pd.testing.assert_frame_equal(results.frame(), case.frame())


def test_the_manifest_is_kept_up_while_parts_come_in(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(store_module, "SAVE_SHARE", 0)
    store = case.store(folder)
    with store.lock():
        for index in (0, 3):
            store.write(store.plan[index], case.rows(store.plan[index]))
        assert [entry["part"] for entry in open_results(folder).manifest["parts"]] == [0, 3]


def test_a_folder_keeps_its_chunk_plan(case: Case, folder: Path) -> None:
    case.fill(folder, skip=(2,))
    store = case.store(folder, plan=Plan(21, case.plan.losses, 5))
    assert store.plan == case.plan
    assert store.missing() == [2]


def test_names_of_parts_sort_like_rows_however_many(case: Case, folder: Path) -> None:
    plan = Plan(10**6, case.plan.losses, 2)
    store = case.store(folder, plan=plan)
    with store.lock():
        for index in (2, 10**6 - 1):
            rows = case.rows(case.plan[0])
            store.write(plan[index], {name: array[:2] for name, array in rows.items()})
    names = sorted(path.name for path in (folder / "parts").iterdir())
    assert names == ["part-000002.parquet", "part-999999.parquet"]


# Damaged parts are detected and computed again.


def flip(path: Path, position: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(position * (len(data) - 1))] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap(path: Path) -> None:
    path.write_bytes(part(path.parent.parent, 0).read_bytes())


@pytest.mark.parametrize("damage", [Path.unlink, truncate, empty, swap])
def test_gross_damage_is_always_work(case: Case, folder: Path, damage: Maker) -> None:
    case.fill(folder)
    damage(part(folder, 3))
    assert case.store(folder).missing() == [3]
    damages = open_results(folder).verify()
    assert len(damages) == 1
    assert damages[0].startswith("parts/part-00003.parquet ")
    assert damages[0].endswith("(rows 21 to 28)")
    assert open_results(folder).missing == [3]
    case.fill(folder)
    assert open_results(folder).verify() == []
    pd.testing.assert_frame_equal(load(folder), case.frame())


@pytest.mark.parametrize("position", [0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99, 1.0])
def test_any_flipped_byte_is_found_and_recomputed(
    case: Case, folder: Path, position: float
) -> None:
    case.fill(folder)
    flip(part(folder, 3), position)
    (damage,) = open_results(folder).verify()
    assert damage == ("parts/part-00003.parquet is not the file that was written (rows 21 to 28)")
    again = case.store(folder)
    with again.lock():
        assert again.missing(verify=True) == [3]
        again.write(again.plan[3], case.rows(again.plan[3]))
    assert open_results(folder).verify() == []


def test_rows_of_an_unlisted_part_are_checked_against_its_own_hash(
    case: Case, folder: Path
) -> None:
    """The Parquet file is sound, but its rows do not match the content hash of the part."""
    case.fill(folder)
    sound = pq.read_table(part(folder, 1))
    column = sound.schema.get_field_index("final_output")
    wrong = sound.set_column(column, sound.schema.field(column), sound["y"])
    pq.write_table(wrong.replace_schema_metadata(sound.schema.metadata), part(folder, 1))
    forget(folder, 1)
    assert case.store(folder).missing() == [1]
    assert open_results(folder).verify()[-1] == (
        "parts/part-00001.parquet holds rows that do not match its content hash (rows 8 to 15)"
    )


def test_no_damage_passes_for_other_rows_or_ends_in_a_traceback(case: Case, folder: Path) -> None:
    """An unlisted part has only its own content hash; the damage may be in its footer, too."""
    case.fill(folder)
    forget(folder, 1)
    path = part(folder, 1)
    sound, random = path.read_bytes(), np.random.default_rng(0)
    detected = 0
    for _ in range(150):
        data = bytearray(sound)
        for position in random.integers(0, len(data), random.integers(1, 4)):
            data[position] ^= int(random.integers(1, 256))
        path.write_bytes(data)
        if case.store(folder).missing() == [1]:
            detected += 1
        else:
            assert pd.read_parquet(path).equals(case.frame()[8:16].reset_index(drop=True))
    assert detected > 50


def forget(folder: Path, index: int) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["parts"] = [entry for entry in manifest["parts"] if entry["part"] != index]
    path.write_text(json.dumps(manifest))


def test_verify_names_an_edited_manifest_and_stray_parts(case: Case, folder: Path) -> None:
    case.fill(folder)
    forget(folder, 1)
    (folder / "parts" / "part-00006.parquet").write_bytes(part(folder, 0).read_bytes())
    assert open_results(folder).verify() == [
        "manifest.json was changed after it was written: its checksum does not match",
        "parts/part-00006.parquet is not a part of this sweep",
    ]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format_version": 1}'])
def test_a_damaged_manifest_is_rebuilt_from_the_parts(
    case: Case, folder: Path, content: bytes
) -> None:
    case.fill(folder, skip=(5,))
    (folder / "manifest.json").write_bytes(content)
    case_store = case.store(folder)
    (damage,) = find_damages(folder)
    assert "manifest.json is damaged" in damage
    flip(part(folder, 2))
    assert (folder / "manifest.json").read_bytes() == content  # nothing changed as yet
    with case_store.lock():
        assert case_store.missing() == [2, 5]
        for index in (2, 5):
            case_store.write(case.plan[index], case.rows(case.plan[index]))
        results = case_store.finish()
    assert results.verify() == []
    assert (folder / "manifest.damaged.json").read_bytes() == content
    pd.testing.assert_frame_equal(results.frame(), case.frame())


def test_a_lost_manifest_is_rebuilt_with_the_plan_of_the_parts(case: Case, folder: Path) -> None:
    case.fill(folder)
    (folder / "manifest.json").unlink()
    store = case.store(folder, plan=Plan(21, case.plan.losses, 21))
    with store.lock():
        assert store.plan == case.plan
        assert store.missing() == []
    assert open_results(folder).verify() == []


@pytest.mark.parametrize("content", [b"{", b'{"name": "a web page", "icons": []}'])
def test_a_damaged_manifest_without_parts_is_refused(
    case: Case, folder: Path, content: bytes
) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"manifest\.json is damaged.*; choose another folder$"):
        case.store(folder, force=True)
    assert snapshot(folder) == {"manifest.json": content}


def test_a_damaged_manifest_over_parts_of_another_sweep_is_refused(
    case: Case, folder: Path
) -> None:
    case.fill(folder)
    (folder / "manifest.json").write_bytes(b"{")
    before = snapshot(folder)
    with pytest.raises(StorageError, match=r"manifest\.json is damaged"):
        case.store(folder, fingerprint="0" * 64)
    assert snapshot(folder) == before


def test_stray_temporary_files_are_removed_by_the_next_writer_only(
    case: Case, folder: Path
) -> None:
    case.fill(folder, skip=(1,))
    strays = [
        folder / ".manifest.json.12-abcd.tmp",
        folder / "parts" / ".part-00001.parquet.12-abcd.tmp",
    ]
    for stray in strays:
        stray.write_bytes(b"half")
    store = case.store(folder)
    assert open_results(folder).missing == [1]
    assert all(stray.exists() for stray in strays)
    with store.lock():
        assert not any(stray.exists() for stray in strays)


# Folders that are not ours to write to.


def test_another_sweep_is_refused_field_by_field(case: Case, folder: Path) -> None:
    case.fill(folder)
    before = snapshot(folder)
    other = json.loads(json.dumps(case.spec))
    other["name"] = "renamed"
    other["horizon"] = 5000
    other["losses"] = ["quadratic"]
    other["fixed"]["y"] = 1.0
    other["axes"][0] |= {"num": 13, "values": [0.5 * i - 3 for i in range(13)]}
    del other["axes"][1]
    with pytest.raises(StorageError) as caught:
        case.store(folder, spec=other, fingerprint="0" * 64)
    assert str(caught.value).splitlines() == [
        f"{folder} holds another sweep; choose another folder, or move this one aside with "
        "--force (force=True).",
        '  losses: ["quadratic", "cross_entropy"] there, ["quadratic"] here',
        "  axes.w0.num: 7 there, 13 here",
        '  axes.1: {"kind": "points", "values": {"b0": [0.9, 2.0, 2.0], "lr": [0.15, 0.15, '
        "0.005]}} there, nothing here",
        "  fixed.y: 0.0 there, 1.0 here",
        "  horizon: 1000 there, 5000 here",
    ]
    assert isinstance(caught.value, PlateaumapError)
    assert snapshot(folder) == before


def test_long_differences_are_cut(case: Case, folder: Path) -> None:
    case.fill(folder)
    other = {**case.spec, **{f"field_{i}": list(range(i)) for i in range(20)}}
    with pytest.raises(StorageError) as caught:
        case.store(folder, spec=other, fingerprint="0" * 64)
    lines = str(caught.value).splitlines()
    assert len(lines) == 14
    assert lines[8] == "  field_7: nothing there, [0, 1, 2, …, 6] (7 values) here"
    assert lines[-1] == "  and 8 more"


def test_a_renamed_sweep_is_the_same_sweep(case: Case, folder: Path) -> None:
    case.fill(folder, skip=(0,))
    renamed = {**case.spec, "name": "renamed"}
    store = case.store(folder, spec=renamed)
    with store.lock():
        assert store.missing() == [0]
    (folder / "manifest.json").unlink()
    assert case.store(folder, spec=renamed).missing() == [0]


def test_a_fingerprint_without_a_difference_is_reported(case: Case, folder: Path) -> None:
    case.fill(folder)
    with pytest.raises(StorageError, match=f"fingerprint: {'f' * 64} there, {'0' * 64} here"):
        case.store(folder, fingerprint="0" * 64)


def test_other_columns_are_refused(case: Case, folder: Path) -> None:
    case.fill(folder)
    more = (*case.columns, Column("extra", "float64", "1", "an addition"))
    with pytest.raises(StorageError, match=r"this sweep with other columns \(extra\)"):
        case.store(folder, columns=more)
    types = (Column("loss", "float64", "1", "the loss"), *case.columns[1:])
    with pytest.raises(StorageError, match="the same names, but other types"):
        case.store(folder, columns=types)


def test_a_newer_format_is_refused(case: Case, folder: Path) -> None:
    case.fill(folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(StorageError, match=r"has format version 2, .* install a newer plateaumap"):
        case.store(folder)


def test_force_moves_another_sweep_aside_and_deletes_nothing(case: Case, folder: Path) -> None:
    case.fill(folder)
    before = snapshot(folder)
    for number in (1, 2):
        store = case.store(folder, fingerprint=str(number) * 64, force=True)
        assert store.moved_aside == folder.with_name(f"small.aside-{number}")
        assert store.missing() == list(range(6))
    assert snapshot(folder.with_name("small.aside-1")) == before
    pd.testing.assert_frame_equal(load(folder.with_name("small.aside-1")), case.frame())


def test_force_resumes_the_same_sweep(case: Case, folder: Path) -> None:
    case.fill(folder, skip=(3,))
    store = case.store(folder, force=True)
    assert store.moved_aside is None
    assert store.missing() == [3]


@pytest.mark.parametrize("force", [False, True])
def test_a_foreign_folder_is_left_alone_even_with_force(
    case: Case, folder: Path, force: bool
) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("\\begin{document}")
    with pytest.raises(StorageError) as caught:
        case.store(folder, force=force)
    assert str(caught.value) == (
        f"{folder} holds files but no manifest.json; choose another folder"
    )
    assert snapshot(folder) == {"thesis.tex": b"\\begin{document}"}


def test_a_file_is_no_folder(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    with pytest.raises(StorageError, match=r"file is a file; choose another folder$"):
        case.store(path, force=True)
    with pytest.raises(StorageError, match="a part of the path is a file, not a folder"):
        case.store(path / "below" / "deeper")
    assert path.read_text() == "text"


def test_an_empty_folder_and_the_rest_of_a_killed_start_are_free(case: Case, folder: Path) -> None:
    (folder / "parts").mkdir(parents=True)
    (folder / ".lock").touch()
    (folder / ".lock-owner.json").write_text("{")
    (folder / ".manifest.json.1-ab.tmp").touch()
    case.fill(folder)
    pd.testing.assert_frame_equal(load(folder), case.frame())


def test_find_returns_the_same_and_changes_nothing(case: Case, folder: Path) -> None:
    assert Store.find(folder, case.manifest()) is None
    assert not folder.parent.exists()
    case.fill(folder, skip=(2,))
    before = snapshot(folder)
    store = Store.find(folder, case.manifest())
    assert store is not None
    assert store.missing() == [2]
    other = case.manifest(spec={**case.spec, "horizon": 5}, fingerprint="0" * 64)
    with pytest.raises(StorageError, match="holds another sweep"):
        Store.find(folder, other)
    assert snapshot(folder) == before


# One writer.


def test_the_error_of_a_second_writer_names_the_first(case: Case, folder: Path) -> None:
    first, second = case.store(folder), case.store(folder)
    with first.lock():
        with pytest.raises(LockedError) as caught, second.lock():
            pass
        with pytest.raises(LockedError):
            case.store(folder, fingerprint="0" * 64, force=True)
    host = os.uname().nodename
    assert str(caught.value).startswith(
        f"{folder} is being written by process {os.getpid()} on {host} since 20"
    )
    with second.lock():
        assert second.missing() == list(range(6))
    assert not (folder / ".lock-owner.json").exists()


def test_writing_needs_the_lock(case: Case, folder: Path) -> None:
    store = case.store(folder)
    with pytest.raises(RuntimeError, match="inside `with"):
        store.write(case.plan[0], case.rows(case.plan[0]))


HOLDER = """
    import sys, time
    from pathlib import Path
    from plateaumap.storage.lock import writer_lock

    with writer_lock(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
"""


def test_the_lock_of_a_killed_run_is_taken_over(case: Case, folder: Path) -> None:
    store = case.store(folder)
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=f"by process {holder.pid} on"), store.lock():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=10)
    assert (folder / ".lock-owner.json").exists()
    with store.lock():
        owner = json.loads((folder / ".lock-owner.json").read_text())
        assert owner["pid"] == os.getpid()


WRITER = """
    import os, sys
    from pathlib import Path
    from tests.storage.small_sweep import small_sweep

    fsync, left = os.fsync, int(sys.argv[2])

    def fatal_fsync(descriptor):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
        fsync(descriptor)

    os.fsync = fatal_fsync
    small_sweep().fill(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_any_write_the_table_is_the_same(case: Case, folder: Path) -> None:
    """Kill a run at its first fsync, the next run at its second, and so on, in one folder."""
    script = [sys.executable, "-c", textwrap.dedent(WRITER), str(folder)]
    root = Path(__file__).parents[2]
    for count in range(1, 30):
        done = subprocess.run([*script, str(count)], cwd=root, timeout=60, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert 8 < count < 29
    assert open_results(folder).verify() == []
    pd.testing.assert_frame_equal(load(folder), case.frame())


# Disks that refuse.


def test_a_full_disk_leaves_a_resumable_folder(
    case: Case, folder: Path, no_space: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = case.store(folder)

    def run() -> None:
        with store.lock():
            store.write(case.plan[0], case.rows(case.plan[0]))
            no_space("part-00001")
            store.write(case.plan[1], case.rows(case.plan[1]))

    with pytest.raises(WriteError) as caught:
        run()
    assert str(caught.value) == (
        f"could not write {part(folder, 1)}: the disk is full. All parts written before are "
        "whole: fix the cause and run the same command to continue"
    )
    assert [path.name for path in (folder / "parts").iterdir()] == ["part-00000.parquet"]
    monkeypatch.undo()
    case.fill(folder)
    pd.testing.assert_frame_equal(load(folder), case.frame())


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk(case: Case, tiny_disk: Path) -> None:
    folder = tiny_disk / "small"
    store = case.store(folder)

    def run() -> None:
        with store.lock():
            for chunk in store.plan:
                store.write(chunk, case.rows(chunk))

    ballast = tiny_disk / "ballast"
    ballast.write_bytes(bytes(30_000))
    with pytest.raises(WriteError, match="the disk is full"):
        run()
    ballast.unlink()
    left = case.store(folder).missing()
    assert 0 < len(left) <= 6
    assert not [path for path in folder.rglob("*") if files.is_temporary(path)]


def test_a_really_read_only_disk(case: Case, tiny_disk: Path) -> None:
    folder = tiny_disk / "small"
    store = case.store(folder)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(StorageError) as caught, store.lock():
        pass
    assert str(caught.value) == (
        f"cannot write to {folder}: the file system is read-only; choose another folder"
    )
    with pytest.raises(StorageError, match="the file system is read-only"):
        case.store(tiny_disk / "other")


def test_a_folder_without_permission(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError) as caught:
        case.store(folder)
    assert str(caught.value) == (
        f"cannot write to {folder}: permission is denied; choose another folder"
    )


def test_failures_are_kept_until_their_part_is_written(case: Case, folder: Path) -> None:
    case.fill(folder, skip=(1, 3))
    store = case.store(folder)
    with store.lock():
        store.record_failures({3: "ValueError: no", 1: "out of memory"})
        assert open_results(folder).manifest["failures"] == [
            {"chunk": 1, "message": "out of memory"},
            {"chunk": 3, "message": "ValueError: no"},
        ]
        store.write(case.plan[3], case.rows(case.plan[3]))
    assert [entry["chunk"] for entry in open_results(folder).manifest["failures"]] == [1]


def test_runs_under_other_circumstances_are_reported(case: Case, folder: Path) -> None:
    case.fill(folder, skip=(0, 1))
    case.fill(folder, skip=(0, 1))
    assert open_results(folder).manifest["resumed"] == []
    other = {**case.provenance, "versions": {"jax": "0.11.0"}}
    for index in (0, 1):
        store = case.store(folder, provenance=other)
        with store.lock():
            store.write(case.plan[index], case.rows(case.plan[index]))
    manifest = open_results(folder).manifest
    assert manifest["provenance"]["versions"] == {"jax": "0.10.2"}
    (resumed,) = manifest["resumed"]
    assert resumed["versions"] == {"jax": "0.11.0"}


def test_expected_bytes_come_from_the_parts_once_there_are_any(case: Case, folder: Path) -> None:
    store = case.store(folder)
    guess = store.expected_bytes(range(6))
    assert guess > 0
    case.fill(folder, skip=(0,))
    size = sum(path.stat().st_size for path in (folder / "parts").iterdir())
    assert case.store(folder).expected_bytes([0]) == pytest.approx(size * 8 / 34, abs=1)
    assert case.store(folder).expected_bytes([]) == 0


def test_a_spec_too_long_for_every_part_stands_in_the_manifest(case: Case, folder: Path) -> None:
    spec = {**case.spec, "note": "x" * 70_000}
    store = case.store(folder, spec=spec)
    with store.lock():
        store.write(case.plan[0], case.rows(case.plan[0]))
    assert b"spec" not in pq.read_schema(part(folder, 0)).metadata
    assert part(folder, 0).stat().st_size < 20_000
    (folder / "manifest.json").unlink()
    again = case.store(folder, spec=spec)
    with again.lock():
        assert again.missing() == [1, 2, 3, 4, 5]
    assert open_results(folder).manifest["spec"] == spec


def test_two_runs_that_start_at_once_make_one_folder(case: Case, tmp_path: Path) -> None:
    for attempt in range(5):
        path = tmp_path / str(attempt)
        gate = threading.Barrier(4)

        def start(_: int, path: Path = path, gate: threading.Barrier = gate) -> str:
            gate.wait()
            try:
                case.store(path)
            except LockedError:
                return "locked"
            return "created"

        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(start, range(4)))
        assert "created" in outcomes
        assert case.store(path).missing() == list(range(6))


def test_the_folder_is_listed_once_for_any_number_of_parts(
    case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = case.store(folder, plan=Plan(10**6, case.plan.losses, 10))
    listings = []
    present = parts.present
    monkeypatch.setattr(
        parts, "present", lambda *arguments: listings.append(1) or present(*arguments)
    )
    monkeypatch.setattr(Path, "exists", None)
    assert len(store.missing()) == 200_000
    assert len(listings) == 1
