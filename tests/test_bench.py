"""The benchmark of the engine runs, small, and its programs answer alike."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.engine import compiled
from benchmarks.engine.jobs import all_jobs
from benchmarks.engine.main import main
from benchmarks.engine.measure import faults, measure


@pytest.mark.slow
@pytest.mark.parametrize("job", all_jobs(quick=True), ids=lambda job: job.title)
def test_all_programs_give_the_same_answers(job) -> None:
    timings = measure(job, threads=2, rounds=1)
    assert {timing.program for timing in timings} >= {"plateaumap"}
    assert (compiled.compiler() is None) or "C" in {timing.program for timing in timings}
    assert not {timing.program: timing.faults for timing in timings if timing.faults}


def test_a_wrong_answer_is_told() -> None:
    job = all_jobs(quick=True)[0]
    right = {"plateau_epochs": [5.0] * 400, "tenth_epochs": [9.0] * 400}
    wrong = {"plateau_epochs": [7.0] + [5.0] * 399}
    assert faults(right, wrong, "float64") == ["plateau_epochs differs in 100.00% of lanes"]
    assert not faults(right, right, job.precision)


@pytest.mark.slow
def test_the_quick_benchmark_writes_its_tables(tmp_path: Path) -> None:
    found = main(["--quick", "--out", str(tmp_path)])
    text = (tmp_path / "engine.md").read_text()
    assert "whole process" not in text  # only the tiny one is made
    for job in found["jobs"]:
        assert f"## {job['name']}, {job['loss']}" in text
    assert (tmp_path / "engine.png").stat().st_size > 10_000
    assert all(row["differing"] == 0 for row in found["processes"]["tiny"].values())


def test_without_a_gpu_its_benchmark_says_so() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no NVIDIA GPU here" in done.stderr
    assert "Traceback" not in done.stderr
