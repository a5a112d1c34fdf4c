"""Runs the benchmark and writes what it measured into `benchmarks/results/`.

`python -m benchmarks.engine [--quick] [--rounds N] [--only TEXT] [--out FOLDER]`. The whole of it
takes about half an hour on two cores; `--quick` makes small jobs of everything, in a minute, whose
times say nothing. With `--out` the results go elsewhere, and docs/speed.md stays as it is.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.engine import jobs, processes, report, stages
from benchmarks.engine.machine import describe
from benchmarks.engine.measure import measure

ROOT = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print and write; returns what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small jobs, for tests")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved runs of each program")
    parser.add_argument("--only", default="", help="only jobs whose title holds this text")
    parser.add_argument("--out", type=Path, help="where the results go")
    chosen = parser.parse_args(arguments)
    rounds = 1 if chosen.quick else chosen.rounds
    found: dict[str, Any] = {"machine": describe(), "quick": chosen.quick, "jobs": []}
    for job in jobs.all_jobs(chosen.quick):
        if chosen.only not in job.title:
            continue
        print(f"{job.title}: {job.sweep.size:,} runs, horizon {job.horizon:,}", flush=True)
        timings = [timing for threads in (1, 2) for timing in measure(job, threads, rounds)]
        found["jobs"].append(
            {
                "name": job.name,
                "loss": job.loss,
                "precision": job.precision,
                "measures": job.measures,
                "runs": job.sweep.size,
                "horizon": job.horizon,
                "timings": [asdict(timing) for timing in timings],
            }
        )
    if not chosen.only:
        found |= _beside_the_loop(chosen.quick, rounds)
    folder = chosen.out or ROOT / "benchmarks/results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engine.json").write_text(json.dumps(found, indent=1) + "\n")
    report.write(found, folder, None if chosen.out else ROOT / "docs/speed.md")
    return found


def _beside_the_loop(quick: bool, rounds: int) -> dict[str, Any]:
    """Return what is measured beside the jobs."""
    found: dict[str, Any] = {}
    print("wasted lane-epochs", flush=True)
    found["wasted"] = {}
    for job in jobs.all_jobs(quick):
        if job.name == "five decades" and job.precision == "float64":
            found["wasted"][job.title] = stages.wasted_share(job)
            print(f"  {job.title}: {found['wasted'][job.title]}", flush=True)
    print("whole processes, from start to results on disk", flush=True)
    sizes = ("tiny",) if quick else ("small", "large")
    found["processes"] = processes.whole_processes(sizes, min(rounds, 3))
    print("spec to Parquet", flush=True)
    found["parquet"] = stages.spec_to_parquet(64 if quick else 1024, min(rounds, 3))
    print("starting up", flush=True)
    found["startup"] = processes.startup(min(rounds, 3))
    print(f"  {found['startup']}", flush=True)
    print("memory of a leaping sweep", flush=True)
    shapes = ((32, 1), (32, 2)) if quick else ((256, 16), (1024, 10), (3200, 10))
    found["memory"] = processes.memory(shapes)
    print(f"  {found['memory']}", flush=True)
    if not quick:
        print("the plateau atlas", flush=True)
        found["atlas"] = stages.atlas()
    return found
