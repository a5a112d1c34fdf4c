"""The surroundings of the package: settings of JAX, forks, paths, encodings, backends of plots."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.cli import main
from plateaumap.explore.server import sweep_at, warm_up
from plateaumap.explore.view import View
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.paths import local_path
from plateaumap.numerics.compiler import double_precision
from plateaumap.queries.point import figure_file
from plateaumap.report import write_report
from plateaumap.runner.estimate import estimate
from plateaumap.runner.extend import Extension
from plateaumap.table.display import value_text
from tests.program import heed_interrupts, plateaumap, settings_restored

POINT = ["point", "--loss", "quadratic", "--w0", "2", "--b0", "2", "--lr", "0.15"]
RISK = ["risk", "--fan-in", "10", "--lr", "0.1", "--epochs", "100", "--scale", "1"]
SPEC = """name = "tiny"
losses = ["quadratic"]
horizon = 500
fixed = { b0 = 2.0, lr = 0.5 }
[[axes]]
kind = "values"
name = "w0"
values = [1.0, 2.0]
"""


def tiny(**changes) -> pm.Sweep:
    return pm.Sweep.from_toml(SPEC).with_settings(changes)


def python(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Settings of JAX --------------------------------------------------------------------------------

SETTINGS = {
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_check_tracer_leaks": True,
    "jax_debug_key_reuse": True,
    "jax_disable_jit": True,
}
EVERYTHING = """
import numpy as np, optax, jax, jax.numpy as jnp, plateaumap as pm
class Line(pm.Experiment):
    coordinates = (pm.Coordinate("lr", minimum=0), pm.Coordinate("seed", integer=True))
    targets = np.linspace(-1, 1, 5)
    def init(self, point):
        return {"p": jax.random.normal(jax.random.key(point["seed"]), (5,))}
    def loss(self, parameters, point, loss_name):
        return jnp.mean((parameters["p"] - self.targets) ** 2)
neuron = {"axes": [pm.values("w0", [2.0, -9.0, 800.0])], "fixed": {"b0": 2.0, "lr": 0.15}}
line = {"experiment": Line(), "axes": [pm.values("lr", [0.0, 0.1, 1e300])], "fixed": {"seed": 3}}
for spec in (neuron, {**neuron, "method": "leap"}, line):
    print(pm.run(pm.Sweep(**spec, horizon=300), progress=False).to_csv())
print(pm.simulate(loss="quadratic", w0=2, b0=2, lr=0.15, epochs=3).to_csv())
print(pm.plateau_epochs(np.linspace(-30, 30, 7), 0.0, 0.15, errors="mask").tolist())
"""


@pytest.mark.slow
def test_rows_are_the_same_under_every_debugging_setting():
    settings = {name.upper(): str(value).lower() for name, value in SETTINGS.items()}
    del settings["JAX_DISABLE_JIT"]  # by itself, since it hides the others
    plain = python(EVERYTHING)
    assert python(EVERYTHING, JAX_TRANSFER_GUARD="disallow", **settings) == plain


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_are_off_inside_and_back_outside(name):
    usual = getattr(jax.config, name)
    jax.config.update(name, SETTINGS[name])
    try:
        with double_precision():
            assert getattr(jax.config, name) == usual != SETTINGS[name]
            assert jnp.zeros(()).dtype == jnp.float64
        assert getattr(jax.config, name) == SETTINGS[name]
    finally:
        jax.config.update(name, usual)


def test_transfers_are_allowed_inside():
    with jax.transfer_guard("disallow"):
        with double_precision():
            assert float(jnp.sin(np.zeros(3))[0]) == 0
        with pytest.raises(Exception, match="Disallowed"):
            jnp.sin(np.zeros(4))


PLATFORM = """
import sys
from typer.testing import CliRunner
from plateaumap.cli import app
spec, *commands = sys.argv[1:]
for line in commands:
    done = CliRunner().invoke(app, line.split())
    assert isinstance(done.exception, SystemExit), (line, repr(done.exception))
    assert done.exit_code == 2, (line, done.exit_code)
    assert "finds no such device" in done.output and "JAX_PLATFORMS" in done.output, done.output
    assert len(done.output.splitlines()) == 1, done.output
"""


@pytest.mark.parametrize("platform", ["rocm", "cupp"])
def test_a_missing_platform_is_reported_in_one_line(tmp_path, platform):
    spec = tmp_path / "tiny.toml"
    spec.write_text(SPEC)
    explore = ["explore", "--no-browser", "--port", "0"]
    commands = [*map(" ".join, (POINT, RISK, explore)), f"run {spec} --out {tmp_path / 'rows'}"]
    python(PLATFORM, str(spec), *commands, JAX_PLATFORMS=platform, XDG_CACHE_HOME=str(tmp_path))
    assert not (tmp_path / "rows").exists()


FORKS = """
import os, sys, threading
import jax, jax.numpy as jnp
import plateaumap as pm
def job():
    sweep = pm.Sweep(axes=[pm.values("w0", [1.0])], fixed={"b0": 1.0, "lr": 0.5}, horizon=99)
    return pm.run(sweep, progress=False).plateau_epochs.tolist()
def curve():
    return pm.simulate(loss="quadratic", w0=2, b0=2, lr=0.15, epochs=3).epoch.tolist()
def in_a_fork(*calls):
    reader, writer = os.pipe()
    if os.fork() == 0:
        for call in calls:
            try: os.write(writer, f"{call()}\\n".encode())
            except pm.PlateaumapError as error: os.write(writer, f"{error}\\n".encode())
        os._exit(0)
    os.close(writer)
    os.wait()
    with open(reader) as lines: return lines.read().splitlines()
before = in_a_fork(job)
from plateaumap.numerics.compiler import prepare_compiler
flags, flags_read = os.environ.get("XLA_FLAGS"), []
threads = [threading.Thread(target=lambda: flags_read.append(prepare_compiler())) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(set(flags_read)) == 1 and len(flags_read) == 8 and os.environ.get("XLA_FLAGS") == flags
assert before[0].startswith("["), before
for line in in_a_fork(job, curve): assert "spawn" in line, line
"""


def test_a_fork_works_before_jax_has_begun_and_is_refused_after():
    python(FORKS)


# Paths ------------------------------------------------------------------------------------------

URLS = ["s3://bucket/rows", "gs://bucket/rows", "file:///tmp/rows", "https://host/rows.toml"]
NO_PATHS = ["", "a\0b", 5, None, b"rows"]
READERS = {
    "run": lambda path: pm.run(tiny(), out=path),
    "open": pm.open,
    "load": pm.load,
    "extend": pm.extend,
    "extend into": lambda path: Extension("rows", {"horizon": 9}, path),
    "report": write_report,
    "estimate": lambda path: estimate(tiny(), path),
    "explore": sweep_at,
    "spec": pm.Sweep.load,
    "figure": figure_file,
    "save": lambda path: pm.figures.save(matplotlib.figure.Figure(), path),
}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Return a home folder that is not the working folder, which holds rows."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir()
    home.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    pm.run(tiny(), out="rows", progress=False)
    return home


def test_a_url_is_refused_by_every_reader(home):
    for name, call in READERS.items():
        for url in (*URLS, *map(Path, URLS)):
            with pytest.raises(PlateaumapError, match="is a URL; must be a"):
                call(url)
        for value in NO_PATHS:
            if value is None and name in ("run", "extend into", "explore"):
                continue  # the default
            with pytest.raises(PlateaumapError, match="is not a path"):
                call(value)
    assert os.listdir() == ["rows"]


def test_a_url_is_refused_on_the_command_line(home):
    (home / "tiny.toml").write_text(SPEC)
    for line in (
        ["run", "~/tiny.toml", "--out", URLS[0]],
        ["run", URLS[0]],
        ["extend", URLS[0], "--set", "horizon=9"],
        ["extend", "rows", "--set", "horizon=9", "--out", URLS[0]],
        ["report", URLS[0]],
        ["info", URLS[0]],
        ["explore", URLS[0]],
        [*POINT, "--figure", f"{URLS[0]}.png"],
    ):
        done = plateaumap(*line)
        assert done.code == 2, line
        assert "is a URL" in done.output, line
    assert os.listdir() == ["rows"]


def test_a_tilde_is_the_home_folder_everywhere(home):
    (home / "tiny.toml").write_text(SPEC)
    with settings_restored(home / "cache"):
        for line in (
            ["run", "~/tiny.toml", "--out", "~/rows"],
            ["info", "~/rows", "--verify"],
            ["extend", "~/rows", "--set", "horizon=700", "--out", "~/more"],
            [*POINT, "--figure", "~/curve.png"],
        ):
            done = plateaumap(*line)
            assert done.code == 0, done.output
    assert {"rows", "more", "curve.png"} <= set(os.listdir(home))
    assert os.listdir() == ["rows"]
    pd.testing.assert_frame_equal(pm.load("~/rows"), pm.load("rows"))
    assert pm.open("~/more").sweep.horizon == 700
    assert sweep_at(Path("~/rows")) == sweep_at(Path("~/tiny.toml")) == tiny()
    assert pm.run(tiny(), out="~/rows", progress=False).path == home / "rows"


def test_a_folder_named_tilde_is_read_from_where_it_was_written(home):
    results = pm.run(tiny(), out="./~/rows", progress=False)
    assert os.path.isdir("~/rows")
    assert len(results.frame()) == len(pm.load("./~/rows")) == 2
    assert local_path("a:b/rows") == Path("a:b/rows")
    assert local_path("C:/rows") == Path("C:/rows")


# What is written --------------------------------------------------------------------------------


@pytest.fixture
def written(monkeypatch):
    """Return a function that calls the program with an encoding of its output."""

    def call(encoding: str, *arguments: object) -> tuple[int, str, str]:
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setenv("MPLBACKEND", "module://nowhere")
            patch.setattr(sys, "argv", ["plateaumap", *map(str, arguments)])
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            with pytest.raises(SystemExit) as ended:
                main()
            assert os.environ["MPLBACKEND"] == "agg"
        texts = []
        for stream in streams:
            stream.flush()
            texts.append(stream.buffer.getvalue().decode(encoding))
        return int(ended.value.code or 0), *texts

    return call


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_every_encoding_of_the_output_works(written, home, encoding):
    odd = home / "földer_日本"
    odd.mkdir()
    (odd / "σ.toml").write_text(SPEC)
    with settings_restored(home / "cache"):
        for line in (
            ["derive", "tanh"],
            ["derive", "sigmoid", "--format", "latex"],
            ["--help"],
            ["run", "--help"],
            POINT,
            RISK,
            ["run", odd / "σ.toml", "--out", odd / "rows"],
            ["info", odd / "rows"],
        ):
            code, out, err = written(encoding, *line)
            assert (code, err) == (0, ""), line
            assert out
        for line in (["info", odd / "nowhere"], ["run", odd / "ñ.toml"], ["nö"], ["derive", "ñ"]):
            code, out, err = written(encoding, *line)
            assert code == 2, line
            assert err


@pytest.mark.slow
def test_figures_of_the_program_need_no_backend_of_a_notebook(tmp_path):
    figure = tmp_path / "curve.pdf"
    done = subprocess.run(
        [sys.executable, "-m", "plateaumap", *POINT, "--figure", str(figure)],
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "module://nowhere", "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert figure.read_bytes().startswith(b"%PDF")


def test_every_figure_shows_itself_in_a_notebook():
    axes = [pm.linspace("w0", -4, 4, 5), pm.linspace("b0", -4, 4, 5), pm.values("lr", [0.5, 5.0])]
    frame = pm.run(pm.Sweep(axes=axes, horizon=300), progress=False)
    backend = matplotlib.rcParams["backend"]
    entries = pm.figures.applicable(frame)
    assert len(entries) > 5
    for entry in entries:
        figure = entry.draw(frame, size="column")
        assert figure._repr_png_().startswith(b"\x89PNG"), entry
    assert matplotlib.rcParams["backend"] == backend


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("adam", "adam"),
        (3, "3"),
        (10**15 + 1, "1000000000000001"),
        (np.int64(123456789012), "123456789012"),
        (123456789012.0, "123456789012"),
        (1e300, "1e+300"),
        (0.15, "0.15"),
        (-2.0, "-2"),
    ],
)
def test_a_value_is_shown_as_it_was_entered(value, text):
    assert value_text(value) == text


# Ctrl-C -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_explorer_ends_with_zero_while_it_compiles(tmp_path):
    command = [sys.executable, "-m", "plateaumap", "explore", "--no-browser", "--port", "0"]
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=heed_interrupts,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},  # nothing is compiled already
    )
    assert server.stdout is not None
    assert "Ctrl-C ends it" in server.stdout.readline()
    time.sleep(0.7)
    server.send_signal(signal.SIGINT)
    output, _ = server.communicate(timeout=60)
    assert (server.returncode, output.strip()) == (0, "ended")


def test_warming_up_stops_on_closing(monkeypatch):
    asked = []
    monkeypatch.setattr("plateaumap.explore.curves.point_detail", lambda *arguments: None)
    monkeypatch.setattr(
        "plateaumap.theory.epochs.plateau_epochs", lambda *arguments, **options: asked.append(1)
    )
    warm_up(View(), lambda: len(asked) == 1)
    assert len(asked) == 1
