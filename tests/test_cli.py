"""The command line: output, refusals, exit codes, and the examples in its help."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.cli import app
from tests.program import Done, heed_interrupts, plateaumap, settings_restored

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
ONE_POINT = """
name = "corner"
losses = ["quadratic"]
horizon = 500
fixed = { w0 = 2.0, b0 = 2.0, lr = 0.15 }
"""
PROGRAM = [sys.executable, "-m", "plateaumap"]


@pytest.fixture(scope="module", autouse=True)
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with settings_restored(tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a spec and its results."""
    folder = tmp_path_factory.mktemp("command line")
    (folder / "corner.toml").write_text(SPEC)
    succeeded(plateaumap("run", "corner.toml", cwd=folder))
    return folder


def succeeded(done: Done) -> str:
    assert done.code == 0, done.output
    return done.output


def refusal(done: Done) -> str:
    assert done.code == 2, done.output
    assert "\nplateaumap: " in f"\n{done.output}"
    assert "Traceback" not in done.output
    return done.output


COMMANDS = {info.callback.__name__: str(info.epilog) for info in app.registered_commands}
"""The epilog of the help of each command, which is its example."""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_in_the_help_of_a_command_runs(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []
    monkeypatch.setattr("plateaumap.explore.server.serve", lambda *args: served.append(args))
    (tmp_path / "sweep.toml").write_text(ONE_POINT)
    if command != "run":
        succeeded(plateaumap("run", "sweep.toml", "--out", "results/corner", cwd=tmp_path))
    program, *arguments = shlex.split(COMMANDS[command].removeprefix("Example: "))
    assert (program, arguments[0]) == ("plateaumap", command)
    assert COMMANDS[command] in " ".join(succeeded(plateaumap(command, "--help")).split())
    output = succeeded(plateaumap(*arguments, cwd=tmp_path))
    assert output or served


def test_point_shows_the_run_of_the_unlucky_neuron() -> None:
    output = succeeded(
        plateaumap("point", "--loss", "quadratic", "--w0", 2, "--b0", 2, "--lr", 0.15)
    )
    for text in ("0.982", "152 epochs", "212 epochs", "214", "175.2"):
        assert text in output
    plot = [line for line in output.splitlines() if "|" in line]
    assert len(plot) == 12
    # The curve falls: its first column is at the top, its last one at the bottom.
    assert plot[0].split("|")[1].startswith("*")
    assert plot[-1].rstrip().endswith("*")


def test_point_draws_its_curve_into_a_file(tmp_path: Path) -> None:
    arguments = ["--loss", "cross_entropy", "--w0", 2, "--b0", 2, "--lr", 0.005]
    output = succeeded(plateaumap("point", *arguments, "--figure", tmp_path / "curve.png"))
    assert "43 epochs" in output
    assert "228 epochs" in output
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["nowhere/curve.png", "curve.xyz"])
def test_point_refuses_a_figure_that_cannot_be_written(tmp_path: Path, path: str) -> None:
    arguments = ["--loss", "quadratic", "--w0", 1, "--b0", 1, "--lr", 1]
    assert path in refusal(plateaumap("point", *arguments, "--figure", tmp_path / path))


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (["--lr", "-1"], ["lr", "-1", "greater than 0"]),
        (["--loss", "quadratik"], ["quadratik", "quadratic"]),
        (["--y", "1.5"], ["y", "1.5"]),
        (["--w0", "nan"], ["w0", "nan"]),
        (["--horizon", "0"], ["horizon", "0"]),
        (["--activation", "sigmod"], ["sigmod", "sigmoid"]),
    ],
)
def test_point_refuses_bad_values(change: list[str], parts: list[str]) -> None:
    arguments = ["--loss", "quadratic", "--w0", "2", "--b0", "2", "--lr", "0.15", *change]
    message = refusal(plateaumap("point", *arguments))
    for part in parts:
        assert part in message


def test_messages_name_options_instead_of_arguments() -> None:
    risk = ["risk", "--fan-in", 3, "--lr", 1, "--epochs", 9, "--scale", 1]
    message = refusal(plateaumap(*risk, "--slope", 0))
    assert message == "plateaumap: --slope 0.0: must be greater than 0\n"


def test_run_writes_the_table_that_memory_has(folder: Path) -> None:
    frame = pm.load(folder / "results/corner")
    pd.testing.assert_frame_equal(frame, pm.run(pm.Sweep.from_toml(SPEC)))
    assert len(frame) == 36


def test_run_again_computes_nothing_and_prints_the_same(folder: Path) -> None:
    parts = sorted((folder / "results/corner/parts").iterdir())
    before = [part.stat().st_mtime_ns for part in parts]
    assert "18 points" in succeeded(plateaumap("run", "corner.toml", cwd=folder))
    assert [part.stat().st_mtime_ns for part in parts] == before


def test_set_changes_the_spec(folder: Path) -> None:
    settings = ["--set", "axes.w0.num=3", "--set", "horizon=50", "--set", 'losses=["quadratic"]']
    succeeded(plateaumap("run", "corner.toml", *settings, "--out", "small", cwd=folder))
    frame = pm.load(folder / "small")
    assert len(frame) == 6
    assert set(frame["w0"]) == {0.0, 2.0, 4.0}
    assert frame["epochs_run"].max() == 50


def test_dry_run_estimates_and_writes_nothing(folder: Path) -> None:
    arguments = ["run", "corner.toml", "--dry-run"]
    output = succeeded(plateaumap(*arguments, "--out", "dry", cwd=folder))
    for word in ("18", "36 rows", "chunks", "bytes", "time"):
        assert word in output
    assert not (folder / "dry").exists()
    assert "2, of which 2 are stored" in succeeded(plateaumap(*arguments, cwd=folder))


def test_dry_run_accepts_the_folders_that_mix_versions_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "custom.py").write_text(
        "import plateaumap as pm\n"
        "def quartic(z, y):\n    return (z - y) ** 4\n"
        "sweep = pm.Sweep(losses=[quartic], fixed={'w0': 1, 'b0': 1, 'lr': 0.1}, horizon=9)\n"
    )
    run = ["run", "custom.py", "--out", "rows"]
    with monkeypatch.context() as patch:
        patch.setattr(jax, "__version__", "0.9.1")
        succeeded(plateaumap(*run, cwd=tmp_path))
    assert "--mix-versions" in refusal(plateaumap(*run, "--dry-run", cwd=tmp_path))
    succeeded(plateaumap(*run, "--dry-run", "--mix-versions", cwd=tmp_path))


def test_info_counts_by_status_and_verifies(folder: Path) -> None:
    output = succeeded(plateaumap("info", "results/corner", "--verify", cwd=folder))
    counts = pm.load(folder / "results/corner")["status"].value_counts()
    for status, number in counts.items():
        if number:
            line = next(line for line in output.splitlines() if str(status) in line)
            assert line.split()[-1] == f"{number:,}"
    assert "verified" in output


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
    succeeded(plateaumap("run", script, "--out", "by_file", cwd=folder))
    pd.testing.assert_frame_equal(pm.load(folder / "alone"), pm.load(folder / "by_file"))
    help = subprocess.run(
        [*alone[:2], "--help"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert "A sweep of mine" in help.stdout
    assert "axes.w0.num=65" in help.stdout


@pytest.mark.slow
def test_report_draws_a_sweep_with_a_custom_loss(folder: Path) -> None:
    script = folder / "custom_loss.py"
    script.write_text(
        "import jax.numpy as jnp\nimport plateaumap as pm\n"
        "def own(z, y):\n    return jnp.exp(z) * jnp.exp(z) + 0 * y\n"
        "sweep = pm.Sweep(name='own', losses=['quadratic', own], fixed={'b0': 2, 'lr': 0.1},\n"
        "                 axes=[pm.values('w0', [1, 2])], horizon=500)\n"
    )
    succeeded(plateaumap("run", script, "--out", "own", cwd=folder))
    succeeded(plateaumap("report", "own", cwd=folder))
    assert "own" in (folder / "own/figures/report.md").read_text()
    assert (folder / "own/figures/learning_curves.png").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
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
    folder: Path, arguments: list[str], parts: list[str]
) -> None:
    (folder / "broken.toml").write_text("name = = 3")
    (folder / "faulty.toml").write_text(
        SPEC.replace("num = 9", "num = 0")
        .replace("horizon = 500", "horizon = -3\ncolour = 1")
        .replace('"quadratic",', '"quadratik",')
    )
    before = snapshot(folder)
    message = refusal(plateaumap(*arguments, cwd=folder))
    for part in parts:
        assert part in message
    assert snapshot(folder) == before


def test_a_refusal_goes_to_the_error_stream_only(folder: Path) -> None:
    done = plateaumap("run", "missing.toml", cwd=folder)
    assert "missing.toml" in refusal(done)
    assert done.output == done.errors


def test_a_value_that_jax_refuses_is_reported_in_one_line() -> None:
    done = subprocess.run(
        [*PROGRAM, "derive", "tanh"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_ENABLE_X64": "maybe"},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("plateaumap: JAX does not start: ")
    assert "JAX_ENABLE_X64" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["nonsense"], ["point", "--w0", "abc"], ["run", "x.toml", "--bogus"]],
)
def test_usage_errors_exit_with_two(folder: Path, arguments: list[str]) -> None:
    assert plateaumap(*arguments, cwd=folder).code == 2


def test_an_interrupted_run_exits_with_130_and_resumes_to_the_same_table(tmp_path: Path) -> None:
    spec = SPEC.replace("num = 9", "num = 40001").replace("horizon = 500", "horizon = 3000")
    (tmp_path / "long.toml").write_text(spec)
    arguments = ["run", "long.toml", "--out", "results"]
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
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

    succeeded(plateaumap(*arguments, cwd=tmp_path))
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
