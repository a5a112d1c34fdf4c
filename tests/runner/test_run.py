"""Runs that fail in part: failed chunks are retried, reported, and tried again by the next run."""

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.program import plateaumap, settings_restored

import plateaumap as pm
from plateaumap.execution.backend import Backend, Pending, select_backend
from plateaumap.execution.errors import ExecutionError
from plateaumap.execution.evaluator import Evaluator
from plateaumap.execution.local import LocalBackend
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.queries.overview import overview
from plateaumap.runner import run as runner
from plateaumap.runner.run import RunError
from plateaumap.storage.errors import WriteError

AXES = [pm.linspace("w0", -4, 4, 8), pm.values("b0", [0.0, 2.0])]
SETTINGS: dict[str, Any] = {"axes": AXES, "fixed": {"lr": 0.5}, "horizon": 50}


@dataclass
class Fate:
    """The error of the chunks that contain some points, and how often it is raised."""

    above: float = np.inf
    error: Callable[[], BaseException] = lambda: ValueError("the well is\npoisoned")
    times: float = np.inf
    seen: list[float] = field(default_factory=list)

    def meet(self, points: Mapping[str, np.ndarray]) -> None:
        highest = float(points["w0"].max())
        self.seen.append(highest)
        if highest > self.above and self.times > 0:
            self.times -= 1
            raise self.error()


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch) -> Fate:
    """Make chunks of four points (two values of w0), and let the test choose their errors."""
    fresh, real = Fate(), Evaluator.evaluate

    def evaluate(self: Evaluator, simulator: Any, points: Any) -> Any:
        fresh.meet(points)
        return real(self, simulator, points)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    monkeypatch.setattr("plateaumap.sweep.chunks.FEWEST_ROWS", 4)
    return fresh


def fragile(**settings: Any) -> pm.Sweep:
    return pm.Sweep(**{**SETTINGS, **settings})


def test_a_chunk_that_fails_is_retried_recorded_and_tried_again(fate: Fate, tmp_path: Path) -> None:
    fate.above = 3.0
    with pytest.raises(RunError) as caught:
        pm.run(fragile(), out=tmp_path / "out")
    assert str(caught.value).splitlines() == [
        f"2 chunks of 8 failed, all others are stored in {tmp_path / 'out'}: run the same command "
        "again to retry them",
        "  chunks 3, 7 (quadratic and cross_entropy): ValueError: the well is",
    ]
    assert caught.value.exit_code == 1
    assert caught.value.failures == dict.fromkeys((3, 7), "ValueError: the well is")
    assert isinstance(caught.value.__cause__, ValueError)
    assert fate.seen.count(4.0) == 2 * runner.ATTEMPTS
    results = pm.open(tmp_path / "out")
    assert results.missing == [3, 7]
    assert [entry["chunk"] for entry in results.manifest["failures"]] == [3, 7]
    assert "chunks 3, 7 (quadratic and cross_entropy): ValueError" in overview(results)

    fate.above, fate.seen = np.inf, []
    again = pm.run(fragile(), out=tmp_path / "out")
    assert set(fate.seen) == {4.0}
    assert again.manifest["failures"] == []
    assert "failed" not in overview(again)
    pd.testing.assert_frame_equal(again.frame(), pm.run(fragile()), check_exact=True)


def test_a_failure_that_passes_is_not_recorded(fate: Fate, tmp_path: Path) -> None:
    fate.above, fate.times = 3.0, runner.ATTEMPTS - 1
    results = pm.run(fragile(losses="quadratic"), out=tmp_path)
    assert results.is_complete
    assert results.manifest["failures"] == []


def test_one_failed_chunk_is_reported_by_its_rows(fate: Fate, tmp_path: Path) -> None:
    fate.above = 3.0
    with pytest.raises(RunError, match=r"chunk 3 \(quadratic, rows 12 to 15\): ValueError"):
        pm.run(fragile(losses="quadratic"), out=tmp_path)


def test_rows_that_do_not_fit_their_columns_fail_alone(
    fate: Fate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.Store.write

    def write(self: Any, chunk: Any, arrays: Any) -> None:
        real(self, chunk, {**arrays, "w0": arrays["w0"][:1]} if chunk.index == 1 else arrays)

    monkeypatch.setattr(runner.Store, "write", write)
    with pytest.raises(RunError, match="w0: float64 of shape") as caught:
        pm.run(fragile(losses="quadratic"), out=tmp_path)
    assert list(caught.value.failures) == [1]
    assert pm.open(tmp_path).missing == [1]


def test_an_error_that_quotes_a_traceback_is_reported_by_its_last_line(
    fate: Fate, tmp_path: Path
) -> None:
    quoted = "Traceback (most recent call last):\n  in g\nOverflowError: z has gone too far"
    fate.above, fate.error = 3.0, lambda: RuntimeError(quoted)
    with pytest.raises(RunError) as caught:
        pm.run(fragile(losses="quadratic"), out=tmp_path)
    (message,) = caught.value.failures.values()
    assert "OverflowError: z has gone too far" in message
    assert "Traceback" not in str(caught.value)


def test_memory_that_runs_out_in_a_chunk_is_a_failure_like_others(
    fate: Fate, tmp_path: Path
) -> None:
    fate.above, fate.error = 3.0, lambda: MemoryError("Unable to allocate 9 TiB")
    with pytest.raises(RunError, match=r"out of memory .*9 TiB.*fewer threads"):
        pm.run(fragile(losses="quadratic"), out=tmp_path)
    assert pm.open(tmp_path).missing == [3]


def test_memory_that_runs_out_elsewhere_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(runner.table, "allocate", refuse)
    with pytest.raises(ExecutionError, match="out of memory") as caught:
        pm.run(pm.Sweep(**SETTINGS))
    assert caught.value.exit_code == 1


def test_in_memory_the_first_failure_ends_the_run(fate: Fate) -> None:
    fate.above = -1.0
    with pytest.raises(RunError, match=r"nothing is kept\n  chunk 1 \(quadratic"):
        pm.run(fragile())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_ends_the_run_which_can_go_on(
    fate: Fate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if Path(target).name == "part-00002.parquet":
            raise OSError(code, os.strerror(code), str(self))
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(WriteError) as caught:
            pm.run(fragile(losses="quadratic"), out=tmp_path)
    assert caught.value.exit_code == 1
    # A part that was being written at the same time may be there.
    assert pm.open(tmp_path).missing in ([2], [2, 3])
    results = pm.run(fragile(losses="quadratic"), out=tmp_path)
    pd.testing.assert_frame_equal(results.frame(), pm.run(fragile(losses="quadratic")))


def test_a_sweep_larger_than_the_disk_is_refused_up_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plateaumap.storage.space.free_bytes", lambda path: 1000)
    with pytest.raises(PlateaumapError, match=r"would write about .* to .*out.* 1.0 kB are free"):
        pm.run(pm.Sweep(**SETTINGS), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Counting(LocalBackend):
    """Counts the evaluations that are under way; the test sets how many points keep it busy."""

    def __init__(self, busy: int) -> None:
        super().__init__(threads=1)
        self.busy, self.under_way, self.most = busy, 0, 0

    def points_in_flight(self) -> int:
        return self.busy

    def evaluate(self, evaluator: Evaluator, points: Any) -> Pending:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        inner, counting = super().evaluate(evaluator, points), self

        class Counted:
            def result(self) -> Any:
                counting.under_way -= 1
                return inner.result()

        return Counted()


@pytest.mark.parametrize(("busy", "most"), [(0, runner.CHUNKS_IN_FLIGHT), (14, 5)])
def test_no_more_chunks_are_in_flight_than_keep_the_workers_busy(
    fate: Fate, busy: int, most: int
) -> None:
    backend = Counting(busy)
    pm.run(fragile(), backend=backend)
    assert (backend.most, backend.under_way) == (most, 0)


class Faulty(Backend):
    """Cannot even start an evaluation."""

    def evaluate(self, evaluator: Evaluator, points: Any) -> Pending:
        raise ValueError("cannot be sent")


def test_an_evaluation_that_cannot_start_is_a_failure_like_others(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ValueError: cannot be sent"):
        pm.run(fragile(), out=tmp_path, backend=Faulty())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "dsk"}, "did you mean 'dask'"),
        ({"backend": "local", "scheduler": "tcp://h:1"}, "scheduler = 'tcp://h:1': not an option"),
        ({"workers": 2}, "workers = 2: not an option of backend = 'local', which accepts threads"),
        ({"backend": "dask", "workers": 0}, "workers = 0: must be a whole number of at least 1"),
        ({"backend": "dask", "threads": 2}, "threads = 2: not an option of backend = 'dask'"),
        ({"scheduler": "tcp://h:1", "workers": 2}, "the cluster at tcp://h:1 has its own workers"),
        ({"backend": LocalBackend(), "threads": 2}, "threads = 2: not allowed beside backend"),
        ({"threds": 2}, "threds = 2: not an option"),
    ],
)
def test_options_that_select_no_backend_are_refused(options: Any, message: str) -> None:
    with pytest.raises(PlateaumapError) as caught:
        select_backend(**options)
    assert message in str(caught.value)


SPEC = """
horizon = 50
fixed = { b0 = 1, lr = 1 }
[[axes]]
kind = "values"
name = "w0"
values = [0, 1]
"""


def test_the_command_line_names_what_failed_and_exits_with_1(fate: Fate, tmp_path: Path) -> None:
    (tmp_path / "fragile.toml").write_text(SPEC)
    with settings_restored(tmp_path / "cache"):
        fate.above = 0.5
        failed = plateaumap("run", "fragile.toml", "--out", "out", cwd=tmp_path)
        assert failed.code == 1
        assert failed.errors.splitlines() == [
            "plateaumap: 2 chunks of 2 failed, all others are stored in out: run the same command "
            "again to retry them",
            "  chunks 0, 1 (quadratic and cross_entropy): ValueError: the well is",
        ]
        fate.above = np.inf
        assert plateaumap("run", "fragile.toml", "--out", "out", cwd=tmp_path).code == 0
    assert len(pm.load(tmp_path / "out")) == 4
