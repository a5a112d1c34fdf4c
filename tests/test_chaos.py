"""`plateaumap run` reports or repairs every damage to a folder, and loses nothing.

`benchmarks/chaos.py` kills; here disks and files go wrong.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.storage.lock import writer_lock
from tests.program import plateaumap, settings_restored

SPEC = """
losses = ["quadratic"]
horizon = 50
fixed = { lr = 0.5 }
[[axes]]
kind = "linspace"
name = "w0"
start = -4
stop = 4
num = 20
[[axes]]
kind = "linspace"
name = "b0"
start = -4
stop = 4
num = 40
"""
PARTS = 8


@pytest.fixture(scope="module", autouse=True)
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with settings_restored(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plateaumap.sweep.chunks.FEWEST_ROWS", 100)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def undisturbed() -> pd.DataFrame:
    return pm.run(pm.Sweep.from_toml(SPEC))


def parts(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "parts").iterdir()}


def part(folder: Path, index: int) -> Path:
    return folder / "parts" / f"part-{index:05d}.parquet"


def truncate(folder: Path) -> None:
    part(folder, 3).write_bytes(part(folder, 3).read_bytes()[:-9])


def flip(folder: Path) -> None:
    data = bytearray(part(folder, 3).read_bytes())
    data[len(data) // 3] ^= 4
    part(folder, 3).write_bytes(data)


def delete(folder: Path) -> None:
    part(folder, 3).unlink()


def swap(folder: Path) -> None:
    part(folder, 3).write_bytes(part(folder, 2).read_bytes())


def break_manifest(folder: Path) -> None:
    data = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(data[: len(data) // 2])


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def leave_half_a_part(folder: Path) -> None:
    (folder / "parts" / ".part-00003.parquet.77-abcdef01.tmp").write_bytes(b"PAR1half")
    (folder / ".manifest.json.77-abcdef01.tmp").write_bytes(b"{")


@pytest.mark.parametrize("damage", [truncate, flip, delete, swap])
def test_a_damaged_part_is_reported_and_computed_again_and_nothing_else(
    spec: Path, tmp_path: Path, undisturbed: pd.DataFrame, damage: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    assert plateaumap("run", spec, "--out", out).code == 0
    before = parts(out)
    assert len(before) == PARTS
    damage(out)
    result = plateaumap("info", out, "--verify")
    assert result.code == 1
    assert "part-00003.parquet" in result.output
    assert plateaumap("run", spec, "--out", out).code == 0
    after = parts(out)
    assert [name for name in before if after[name] != before[name]] == ["part-00003.parquet"]
    assert plateaumap("info", out, "--verify").code == 0
    pd.testing.assert_frame_equal(pm.load(out), undisturbed, check_exact=True)


@pytest.mark.parametrize("damage", [break_manifest, lose_manifest, leave_half_a_part])
def test_a_lost_manifest_or_half_a_file_costs_no_row(
    spec: Path, tmp_path: Path, undisturbed: pd.DataFrame, damage: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    assert plateaumap("run", spec, "--out", out).code == 0
    before = parts(out)
    damage(out)
    done = plateaumap("run", spec, "--out", out)
    assert done.code == 0, done.output
    assert parts(out) == before
    assert plateaumap("info", out, "--verify").code == 0
    pd.testing.assert_frame_equal(pm.load(out), undisturbed, check_exact=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(place)],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_reported_and_the_same_command_goes_on(
    spec: Path, disk: Path, undisturbed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, ballast = disk / "out", disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    assert plateaumap("run", spec, "--out", out).code == 2  # by the estimate it does not fit
    assert not out.exists()
    monkeypatch.setattr("plateaumap.runner.run.check_space", lambda path, needed: None)
    for _ in range(2):  # The error is reported again as long as the disk is full.
        done = plateaumap("run", spec, "--out", out)
        assert done.code == 1, done.output
        assert "the disk is full" in done.output
    there = parts(out)
    assert 0 < len(there) < PARTS
    assert all(name.startswith("part-") for name in there)
    ballast.unlink()
    done = plateaumap("run", spec, "--out", out)
    assert done.code == 0, done.output
    assert {name: parts(out)[name] for name in there} == there
    pd.testing.assert_frame_equal(pm.load(out), undisturbed, check_exact=True)


def test_a_read_only_disk_is_reported(
    spec: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plateaumap.runner.run.check_space", lambda path, needed: None)
    out = disk / "out"
    assert plateaumap("run", spec, "--out", out).code == 0
    delete(out)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for folder in (out, disk / "another"):
        done = plateaumap("run", spec, "--out", folder)
        assert done.code == 1
        assert f"cannot write to {folder}: the file system is read-only" in done.output
    # Reading needs no permission to write.
    assert plateaumap("info", out).code == 0
    assert len(pm.open(out).frame(partial=True)) == 700


def test_permission_that_is_lost_half_way_is_reported(
    spec: Path, tmp_path: Path, undisturbed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", Path.open

    def refuse(self: Path, mode: str = "r", *arguments: object, **more: object) -> object:
        if "x" in mode and "part-00004" in self.name:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, mode, *arguments, **more)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        done = plateaumap("run", spec, "--out", out)
    assert done.code == 1
    assert "permission is denied" in done.output
    there = parts(out)
    assert {f"part-0000{index}.parquet" for index in range(4)} <= set(there)
    assert "part-00004.parquet" not in there
    assert plateaumap("run", spec, "--out", out).code == 0
    pd.testing.assert_frame_equal(pm.load(out), undisturbed, check_exact=True)


def test_the_error_of_a_second_writer_names_the_first(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert plateaumap("run", spec, "--out", out).code == 0
    with writer_lock(out):
        done = plateaumap("run", spec, "--out", out)
    assert done.code == 2
    assert (
        f"{out} is being written by process {os.getpid()} on {os.uname().nodename}" in done.output
    )
    assert plateaumap("run", spec, "--out", out).code == 0


@pytest.mark.slow
def test_two_writers_at_once_make_one_table(
    spec: Path, tmp_path: Path, undisturbed: pd.DataFrame
) -> None:
    command = [sys.executable, "-m", "plateaumap", "run", str(spec), "--out", "out"]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    messages = [process.communicate(timeout=120)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 2]), messages
    if codes == [0, 2]:
        assert any("is being written by process" in message for message in messages)
    pd.testing.assert_frame_equal(pm.load(tmp_path / "out"), undisturbed, check_exact=True)
    assert pm.open(tmp_path / "out").verify() == []


def test_a_sweep_larger_than_the_disk_is_refused_with_the_estimate(
    spec: Path, tmp_path: Path
) -> None:
    huge = ["--set", "axes.w0.num=1000000", "--set", "axes.b0.num=1000000"]
    done = plateaumap("run", spec, "--out", tmp_path / "out", *huge)
    assert done.code == 2
    assert "this sweep would write about" in done.output
    assert "TB" in done.output
    assert not (tmp_path / "out").exists()
