"""A cluster returns the rows of the local backend, whichever process dies during the run."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.experimental.compilation_cache import compilation_cache
from tests.program import heed_interrupts

import plateaumap as pm
from plateaumap.execution import dask
from plateaumap.execution.dask import DaskBackend
from plateaumap.execution.errors import ExecutionError
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.runner.run import RunError
from plateaumap.runner.sweep_table import SweepTable

pytest.importorskip("distributed")

SWEEP = pm.Sweep(
    losses="quadratic",
    axes=[pm.linspace("w0", -4, 4, 41), pm.geomspace("lr", 0.1, 10, 25)],
    fixed={"b0": 1.0},
    horizon=400,
)


@pytest.fixture(scope="module", autouse=True)
def small_pieces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Chunks of one piece of 192 lanes, compiled once for all processes."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plateaumap.sweep.chunks.FEWEST_ROWS", 129)
        patch.setattr(dask, "PIECE", 192)
        compilation_cache.reset_cache()
        jax.config.update(names[0], str(tmp_path_factory.mktemp("cache")))
        jax.config.update(names[1], 0.0)
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def expected() -> pd.DataFrame:
    """The table of the local backend."""
    return pm.run(SWEEP)


@pytest.fixture(scope="module")
def cluster(expected: pd.DataFrame) -> Iterator[DaskBackend]:
    """Two workers on this machine, shared by the tests of this file."""
    backend = DaskBackend(workers=2)
    announced: list[str] = []
    backend.announce = announced.append
    with backend:
        (line,) = announced
        assert line.startswith(f"Dask: 2 workers at {backend.address}, dashboard http://127.0.0.1:")
        yield backend


def kept_by_scheduler(cluster: DaskBackend) -> int:
    return cluster.client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def test_rows_are_those_of_the_local_backend_and_nothing_is_kept(
    cluster: DaskBackend, expected: pd.DataFrame, tmp_path: Path
) -> None:
    results = pm.run(SWEEP, out=tmp_path, scheduler=cluster.address)
    assert results.verify() == []
    assert len(results.manifest["parts"]) > 5
    pd.testing.assert_frame_equal(results.frame(), expected, check_exact=True)
    deadline = time.monotonic() + 10
    while kept_by_scheduler(cluster) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert kept_by_scheduler(cluster) == 0


@pytest.mark.slow
def test_functions_that_workers_cannot_import_are_sent(cluster: DaskBackend) -> None:
    half = 0.5

    def captured(z: Any, y: Any) -> Any:
        return half * (jnp.tanh(z) - y) ** 2

    sweep = pm.Sweep(losses=captured, axes=[pm.linspace("w0", -1, 1, 9)],
                     fixed={"b0": 1, "lr": 1}, horizon=40)  # fmt: skip
    frame = pm.run(sweep, scheduler=cluster.address)
    pd.testing.assert_frame_equal(frame, pm.run(sweep), check_exact=True)


def test_workers_of_other_versions_are_refused(
    cluster: DaskBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"plateaumap": "0.1.0", "jax": "0.9.0", "jaxlib": "0.9.0", "numpy": "2.4.0"}
    monkeypatch.setattr(dask, "package_versions", lambda: others)
    with pytest.raises(ExecutionError, match=r"the driver has .*'jax': '0.9.0'"):
        pm.run(SWEEP, scheduler=cluster.address)


def test_workers_are_processes_with_one_thread_each(cluster: DaskBackend) -> None:
    assert cluster.address.startswith("tcp://127.0.0.1:")
    threads = cluster.client.nthreads()
    assert sorted(threads.values()) == [1, 1]
    pids = set(cluster.client.run(os.getpid).values())
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert cluster.points_in_flight() == 2 * 2 * dask.PIECE


def test_a_poisoned_chunk_takes_no_other_down(
    cluster: DaskBackend,
    expected: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = dask.evaluate_piece

    def poisoned(payload: bytes, points: Any) -> Any:
        if (points["w0"] > 3.9).any():
            raise ValueError("the well is poisoned")
        return real(payload, points)

    with monkeypatch.context() as patch:
        patch.setattr(dask, "evaluate_piece", poisoned)
        with pytest.raises(RunError) as caught:
            pm.run(SWEEP, out=tmp_path, scheduler=cluster.address)
    missing = pm.open(tmp_path).missing
    assert set(caught.value.failures.values()) == {"ValueError: the well is poisoned"}
    assert list(caught.value.failures) == missing
    assert missing == [7]
    results = pm.run(SWEEP, out=tmp_path, scheduler=cluster.address)
    pd.testing.assert_frame_equal(results.frame(), expected, check_exact=True)


@pytest.mark.slow
def test_a_piece_that_kills_its_workers_takes_no_other_down(
    expected: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dask.evaluate_piece

    def deadly(payload: bytes, points: Any) -> Any:
        if (points["w0"] > 3.9).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return real(payload, points)

    with monkeypatch.context() as patch:
        patch.setattr(dask, "evaluate_piece", deadly)
        patch.setattr(dask, "DEATHS_ALLOWED", 0)
        patch.setattr("plateaumap.runner.run.ATTEMPTS", 2)
        with pytest.raises(RunError, match="KilledWorker"):
            pm.run(SWEEP, out=tmp_path, backend="dask", workers=2)
    assert len(pm.open(tmp_path).missing) == 1
    results = pm.run(SWEEP, out=tmp_path)
    pd.testing.assert_frame_equal(results.frame(), expected, check_exact=True)


@pytest.mark.slow
def test_killing_workers_costs_nothing_but_time(
    expected: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy worker is killed three times; the run completes and stores each part once."""
    real = dask.evaluate_piece

    def slow(payload: bytes, points: Any) -> Any:
        time.sleep(1.5)
        return real(payload, points)

    monkeypatch.setattr(dask, "evaluate_piece", slow)
    killed: list[int] = []
    with DaskBackend(workers=2) as backend:

        def kill() -> None:
            while len(killed) < 3:
                time.sleep(0.5)
                busy = backend.client.processing()
                if len(busy) == 2 and all(busy.values()):
                    pid = backend.client.run(os.getpid, workers=[next(iter(busy))])
                    killed.extend(pid.values())
                    os.kill(killed[-1], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        results = pm.run(SWEEP, out=tmp_path, scheduler=backend.address)
        killer.join(timeout=1)
    assert len(set(killed)) == 3
    assert results.verify() == []
    assert len(list((tmp_path / "parts").iterdir())) == len(results.plan)
    pd.testing.assert_frame_equal(results.frame(), expected, check_exact=True)


def test_without_distributed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(PlateaumapError, match=r"pip install 'plateaumap\[dask\]'"):
        pm.run(SWEEP, backend="dask")


def test_a_scheduler_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "TIMEOUT", "500ms")
    with pytest.raises(ExecutionError, match=r"tcp://127.*no Dask scheduler answers"):
        pm.run(SWEEP, scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ExecutionError, match=r"nonsense.*no Dask scheduler answers"):
        pm.run(SWEEP, scheduler="nonsense")


def test_importing_the_backend_does_not_import_distributed() -> None:
    check = (
        "import sys, plateaumap as pm, plateaumap.runner.run, plateaumap.execution.dask\n"
        "assert 'distributed' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def started(*arguments: str, cwd: Path, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, *arguments]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


LONG = """
import helper
import plateaumap as pm

def own(z, y):
    return helper.scale * (z - y) ** 2

sweep = pm.Sweep(
    name="long", losses=["quadratic", own], axes=[pm.linspace("w0", 3, 8, 300),
    pm.geomspace("lr", 0.001, 0.1, 400)], fixed={"b0": 2}, horizon=3000,
)
"""


@pytest.mark.slow
def test_a_closed_scheduler_is_survived_by_running_again(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("scale = 0.5\n")
    (tmp_path / "long.py").write_text(LONG)
    at = "tcp://127.0.0.1:18786"
    scheduler = started(
        *("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "18786"),
        *("--dashboard-address", "127.0.0.1:0"),
        cwd=tmp_path,
    )
    worker = started(
        *("-m", "distributed.cli.dask_worker", at, "--nthreads", "1", "--host", "127.0.0.1"),
        *("--dashboard-address", "127.0.0.1:0"),
        cwd=tmp_path,
    )
    run = ["-m", "plateaumap", "run", "long.py", "--out", "out"]
    driver = started(*run, "--scheduler", at, cwd=tmp_path)
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out/parts").glob("*.parquet")):
            assert time.monotonic() < deadline
            assert driver.poll() is None, driver.communicate()
            time.sleep(0.05)
        scheduler.terminate()
        _, message = driver.communicate(timeout=60)
    finally:
        for process in (scheduler, worker, driver):
            process.kill()
            process.wait(timeout=20)
    assert driver.returncode == 1, message
    errors = [line for line in message.splitlines() if line.startswith("plateaumap: ")]
    assert errors == [line for line in message.splitlines() if not line.startswith("Dask: ")]
    assert f"the Dask scheduler at {at} is gone" in errors[0]
    there = len(list((tmp_path / "out/parts").glob("*.parquet")))
    again = started(*run, "--backend", "dask", "--workers", "2", cwd=tmp_path)
    _, message = again.communicate(timeout=200)
    assert again.returncode == 0, message
    results = pm.open(tmp_path / "out")
    assert there < len(results.plan)
    assert results.verify() == []
    local = started(*run[:-1], "local", cwd=tmp_path)
    assert local.wait(timeout=200) == 0
    pd.testing.assert_frame_equal(results.frame(), pm.load(tmp_path / "local"), check_exact=True)


@pytest.mark.slow
def test_ctrl_c_ends_driver_and_workers_without_a_word_too_many(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("scale = 0.5\n")
    (tmp_path / "long.py").write_text(LONG)
    command = ["-m", "plateaumap", "run", "long.py", "--out", "out", "--backend", "dask"]
    driver = started(*command, cwd=tmp_path, start_new_session=True, preexec_fn=heed_interrupts)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out/parts").glob("*.parquet")):
        assert time.monotonic() < deadline
        assert driver.poll() is None, driver.communicate()
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    _, message = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert [line.split(":")[0] for line in message.splitlines()] == ["Dask", "plateaumap"]


@pytest.mark.slow
def test_a_script_without_a_guard_gets_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(
        textwrap.dedent("""
        import plateaumap as pm
        sweep = pm.Sweep(axes=[pm.values("w0", [1])], fixed={"b0": 1, "lr": 1}, horizon=9)
        pm.run(sweep, backend="dask", workers=1)
        """)
    )
    bare = started("bare.py", cwd=tmp_path)
    _, message = bare.communicate(timeout=120)
    assert bare.returncode == 1
    assert 'if __name__ == "__main__":' in message


def test_devices_are_given_to_one_worker_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "accelerators", lambda: ["2", "5"])
    visible = [
        environment["CUDA_VISIBLE_DEVICES"] for environment in dask.worker_environments(None)
    ]
    assert visible == ["2", "5"]
    assert len(dask.worker_environments(1)) == 1
    with pytest.raises(PlateaumapError, match="workers = 3: must be at most 2"):
        dask.worker_environments(3)


def test_pieces_come_back_in_the_order_of_their_points(
    cluster: DaskBackend, expected: pd.DataFrame
) -> None:
    order = np.random.default_rng(0).permutation(SWEEP.size)
    points = SWEEP.grid.coordinates_at(np.arange(SWEEP.size))
    evaluator = SweepTable(SWEEP).evaluators[0]
    pending = cluster.evaluate(evaluator, {k: v[order] for k, v in points.items()})
    assert (pending.result()["epochs_run"] == expected["epochs_run"].to_numpy()[order]).all()


@pytest.mark.slow
def test_a_cluster_whose_workers_all_died_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dask, "SECONDS_BETWEEN_CHECKS", 0.1)
    monkeypatch.setattr(dask, "SECONDS_WITHOUT_WORKERS", 0.5)
    monkeypatch.setattr(dask, "worker_environments", lambda workers: [])
    with (
        DaskBackend() as backend,
        pytest.raises(ExecutionError, match="have died and none was restarted"),
    ):
        backend.call(os.getpid)
