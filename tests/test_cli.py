"""The command line as a user meets it: what it prints, what it refuses, how it exits."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import plateaumap as pm
from tests.program import Done, heed_interrupts
from tests.program import plateaumap as in_process

SPEC = """
name = "corner"
losses = ["quadratic", "cross_entropy"]
horizon = 500
fixed = { b0 = 2.0 }
[[axes]]
kind = "linspace"
name = "w0"
start = 0
stop = 4
num = 9
[[axes]]
kind = "points"
values = { lr = [0.15, 0.005], y = [0.0, 0.0] }
"""


def plateaumap(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "plateaumap", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a spec and the results of running it."""
    place = tmp_path_factory.mktemp("command line")
    (place / "corner.toml").write_text(SPEC)
    done = plateaumap("run", "corner.toml", cwd=place)
    assert done.returncode == 0, done.stderr
    return place


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("plateaumap: ")
    return done.stderr


def refusal(done: Done) -> str:
    assert done.code == 2, done.told
    assert "\nplateaumap: " in f"\n{done.told}"
    assert "Traceback" not in done.told
    return done.told


def test_point_tells_the_story_of_the_unlucky_neuron() -> None:
    done = plateaumap("point", "--loss", "quadratic", "--w0", 2, "--b0", 2, "--lr", 0.15)
    assert done.returncode == 0
    for told in ("0.982", "152 epochs", "212 epochs", "214", "175.2"):
        assert told in done.stdout
    plot = [line for line in done.stdout.splitlines() if "|" in line]
    assert len(plot) == 12
    # The curve falls: its first column is at the top, its last one at the bottom.
    assert plot[0].split("|")[1].startswith("*")
    assert plot[-1].rstrip().endswith("*")


def test_point_draws_its_curve_into_a_file(tmp_path: Path) -> None:
    arguments = ["--loss", "cross_entropy", "--w0", 2, "--b0", 2, "--lr", 0.005]
    done = plateaumap("point", *arguments, "--figure", tmp_path / "curve.png")
    assert done.returncode == 0, done.stderr
    assert "43 epochs" in done.stdout
    assert "228 epochs" in done.stdout
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["nowhere/curve.png", "curve.xyz"])
def test_point_refuses_a_figure_that_cannot_be_written(tmp_path: Path, path: str) -> None:
    arguments = ["--loss", "quadratic", "--w0", 1, "--b0", 1, "--lr", 1]
    assert path in refusal(in_process("point", *arguments, "--figure", tmp_path / path))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["--lr", "-1"], ["lr", "-1", "greater than 0"]),
        (["--loss", "quadratik"], ["quadratik", "quadratic"]),
        (["--y", "1.5"], ["y", "1.5"]),
        (["--w0", "nan"], ["w0", "nan"]),
        (["--horizon", "0"], ["horizon", "0"]),
        (["--activation", "sigmod"], ["sigmod", "sigmoid"]),
    ],
)
def test_point_refuses_bad_values(change: list[str], told: list[str]) -> None:
    arguments = ["--loss", "quadratic", "--w0", "2", "--b0", "2", "--lr", "0.15", *change]
    message = refusal(in_process("point", *arguments))
    for part in told:
        assert part in message


def test_run_writes_the_table_that_memory_has(folder: Path) -> None:
    frame = pm.load(folder / "results/corner")
    pd.testing.assert_frame_equal(frame, pm.run(pm.Sweep.from_toml(SPEC)))
    assert len(frame) == 36


def test_run_again_computes_nothing_and_says_the_same(folder: Path) -> None:
    parts = sorted((folder / "results/corner/parts").iterdir())
    before = [part.stat().st_mtime_ns for part in parts]
    done = plateaumap("run", "corner.toml", cwd=folder)
    assert done.returncode == 0
    assert "36" in done.stdout or "18 points" in done.stdout
    assert [part.stat().st_mtime_ns for part in parts] == before


def test_set_changes_the_spec(folder: Path) -> None:
    settings = ["--set", "axes.w0.num=3", "--set", "horizon=50", "--set", 'losses=["quadratic"]']
    done = plateaumap("run", "corner.toml", *settings, "--out", "small", cwd=folder)
    assert done.returncode == 0, done.stderr
    frame = pm.load(folder / "small")
    assert len(frame) == 6
    assert set(frame["w0"]) == {0.0, 2.0, 4.0}
    assert frame["epochs_run"].max() == 50


def test_dry_run_tells_and_writes_nothing(folder: Path) -> None:
    done = plateaumap("run", "corner.toml", "--dry-run", "--out", "dry", cwd=folder)
    assert done.returncode == 0, done.stderr
    for word in ("18", "36 rows", "chunks", "bytes", "time"):
        assert word in done.stdout
    assert not (folder / "dry").exists()
    there = plateaumap("run", "corner.toml", "--dry-run", cwd=folder)
    assert "2, of which 2 are there" in there.stdout


def test_info_counts_by_status_and_verifies(folder: Path) -> None:
    done = plateaumap("info", "results/corner", "--verify", cwd=folder)
    assert done.returncode == 0, done.stderr
    counts = pm.load(folder / "results/corner")["status"].value_counts()
    for status, number in counts.items():
        if number:
            line = next(line for line in done.stdout.splitlines() if str(status) in line)
            assert line.split()[-1] == f"{number:,}"
    assert "verified" in done.stdout


def test_a_script_runs_by_itself_and_as_a_file(folder: Path) -> None:
    script = folder / "my_sweep.py"
    script.write_text(
        "'''A sweep of mine.'''\nimport plateaumap as pm\n"
        "sweep = pm.Sweep(name='mine', losses='quadratic', fixed={'b0': 1, 'lr': 1},\n"
        "                 axes=[pm.values('w0', [1, 2])], horizon=100)\n"
        "if __name__ == '__main__':\n"
        "    from plateaumap.cli import run_sweep\n    run_sweep(sweep)\n"
    )
    alone = [sys.executable, str(script), "--out", "alone"]
    subprocess.run(alone, cwd=folder, check=True, capture_output=True)
    assert plateaumap("run", script, "--out", "given", cwd=folder).returncode == 0
    one, other = pm.load(folder / "alone"), pm.load(folder / "given")
    pd.testing.assert_frame_equal(one, other)
    shown = subprocess.run(
        [*alone[:2], "--help"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "A sweep of mine" in shown.stdout


def test_report_draws_a_sweep_with_a_loss_of_ones_own(folder: Path) -> None:
    script = folder / "own_loss.py"
    script.write_text(
        "import jax.numpy as jnp\nimport plateaumap as pm\n"
        "def own(z, y):\n    return jnp.exp(z) * jnp.exp(z) + 0 * y\n"
        "sweep = pm.Sweep(name='own', losses=['quadratic', own], fixed={'b0': 2, 'lr': 0.1},\n"
        "                 axes=[pm.values('w0', [1, 2])], horizon=500)\n"
    )
    assert plateaumap("run", script, "--out", "own", cwd=folder).returncode == 0
    done = plateaumap("report", "own", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "own" in (folder / "own/figures/report.md").read_text()
    assert (folder / "own/figures/learning_curves.png").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "missing.toml"], ["missing.toml", "does not exist"]),
        (["run", "."], ["folder"]),
        (["run", "broken.toml"], ["broken.toml", "line 1"]),
        (["run", "faulty.toml"], ["num", "0", "horizon", "-3", "quadratik", "colour"]),
        (["run", "corner.toml", "--set", "axes.w1.num=3"], ["w1", "w0"]),
        (["run", "corner.toml", "--set", "horizon"], ["horizon", "NAME=VALUE"]),
        (["run", "corner.toml", "--out", "corner.toml"], ["corner.toml", "is a file"]),
        (["run", "corner.toml", "--out", "corner.toml/under"], ["corner.toml/under"]),
        (["run", "corner.toml", "--set", "horizon=7"], ["horizon", "500", "7"]),
        (["info", "nowhere"], ["nowhere"]),
        (["info", "."], ["manifest"]),
        (["report", "nowhere"], ["nowhere"]),
        (["derive", "gelu"], ["gelu", "monotone"]),
        (["derive", "nonsense"], ["nonsense"]),
    ],
)
def test_bad_input_gets_one_message_and_touches_nothing(
    folder: Path, arguments: list[str], told: list[str]
) -> None:
    (folder / "broken.toml").write_text("name = = 3")
    (folder / "faulty.toml").write_text(
        SPEC.replace("num = 9", "num = 0")
        .replace("horizon = 500", "horizon = -3\ncolour = 1")
        .replace('"quadratic",', '"quadratik",')
    )
    before = snapshot(folder)
    with contextlib.chdir(folder):
        message = refusal(in_process(*arguments))
    for part in told:
        assert part in message
    assert snapshot(folder) == before


def test_a_refusal_is_all_that_another_process_says(folder: Path) -> None:
    done = plateaumap("run", "missing.toml", cwd=folder)
    assert "missing.toml" in refused(done)
    assert done.stdout == ""


def test_usage_errors_exit_with_two(folder: Path) -> None:
    for arguments in (
        ["run"],
        ["nonsense"],
        ["point", "--w0", "abc"],
        ["run", "x.toml", "--bogus"],
    ):
        with contextlib.chdir(folder):
            assert in_process(*arguments).code == 2


def test_an_interrupted_run_exits_with_130_and_goes_on_to_the_same_table(tmp_path: Path) -> None:
    spec = SPEC.replace("num = 9", "num = 40001").replace("horizon = 500", "horizon = 3000")
    (tmp_path / "long.toml").write_text(spec)
    command = [sys.executable, "-m", "plateaumap", "run", "long.toml", "--out", "results"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    )
    parts = tmp_path / "results/parts"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (parts.is_dir() and any(parts.glob("*.parquet"))):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=120)
    assert process.returncode == 130, message
    assert "Traceback" not in message
    there = {part.name: part.stat().st_mtime_ns for part in parts.glob("*.parquet")}
    assert 0 < len(there) < len(pm.open(tmp_path / "results").manifest["parts"]) + 10
    assert pm.open(tmp_path / "results").missing

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all((parts / name).stat().st_mtime_ns == when for name, when in there.items())
    pd.testing.assert_frame_equal(
        pm.load(tmp_path / "results"), pm.run(pm.Sweep.from_toml(spec)), check_exact=True
    )


def snapshot(folder: Path) -> dict[str, int]:
    return {
        os.path.relpath(path, folder): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }
