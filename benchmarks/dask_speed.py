"""What a Dask cluster gains and costs: two worker processes against one, and against threads.

`python benchmarks/dask_speed.py [--rounds 3] [--num 500]`

The same sweep is run into fresh folders, the ways interleaved, each as a whole process that has
compiled before: one thread and two threads of the local backend, one and two workers of a Dask
cluster on this machine. Times are of the whole command and of the evaluation alone, without
starting Python, JAX and the cluster. Prints seconds and ratios; those of processor time hold on a
machine that is busy with other things, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HORIZON = 100_000

WAYS = {
    "local, 1 thread": {"threads": 1},
    "dask, 1 worker": {"backend": "dask", "workers": 1},
    "local, 2 threads": {"threads": 2},
    "dask, 2 workers": {"backend": "dask", "workers": 2},
}


def work(options: dict, out: str, num: int) -> None:
    """Run the sweep in this process and print how long its evaluation took."""
    import jax

    import plateaumap as pm
    from plateaumap.execution.backend import select_backend

    jax.config.update("jax_compilation_cache_dir", os.environ["CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    sweep = pm.Sweep(
        name="dask_speed",
        axes=[
            pm.linspace("w0", -8, 8, num),
            pm.linspace("b0", -8, 8, num),
            pm.values("lr", [0.05, 0.5]),
        ],
        horizon=HORIZON,
    )
    begun: list[float] = []
    backend = select_backend(**options)
    evaluate = backend.evaluate

    def timed(*arguments):
        begun.append(time.perf_counter())
        return evaluate(*arguments)

    backend.evaluate = timed
    started = time.perf_counter()
    pm.run(sweep, out=out, backend=backend, progress=False)
    ended = time.perf_counter()
    print(json.dumps({"run": ended - started, "rows": sweep.rows, "evaluation": ended - begun[0]}))


def measured(options: dict, num: int, cache: str) -> dict[str, float]:
    """Run the sweep in a fresh process and folder."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, __file__, "--way", json.dumps(options), "--num", str(num)]
        begun, spent = time.perf_counter(), cpu_of_children()
        done = subprocess.run(
            [*command, "--out", str(Path(place) / "out")],
            env={**os.environ, "CACHE": cache},
            check=True,
            capture_output=True,
            text=True,
        )
        return {
            "process": time.perf_counter() - begun,
            "cpu": cpu_of_children() - spent,
            **json.loads(done.stdout),
        }


def cpu_of_children() -> float:
    """Return the processor seconds of all ended children and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num", type=int, default=500, help="values of w0, and of b0")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        work(json.loads(options.way), options.out, options.num)
        return
    times: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as cache:
        for way in WAYS.values():
            measured(way, 100, cache)
        for _ in range(options.rounds):
            for name, way in WAYS.items():
                times[name].append(measured(way, options.num, cache))
    for name, taken in times.items():
        told = ", ".join(
            f"{what} {statistics.median(one[what] for one in taken):6.1f} s"
            for what in ("evaluation", "run", "process", "cpu")
        )
        print(f"{name:<17} {told}", f"({taken[0]['rows']:,} rows)", sep="  ")

    def ratio(one: str, other: str, what: str) -> str:
        ratios = [a[what] / b[what] for a, b in zip(times[one], times[other], strict=True)]
        return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"

    for what in ("evaluation", "process", "cpu"):
        print(f"{what}: ratios of the same round, median (least to largest)")
        print("  two workers against one  ", ratio("dask, 1 worker", "dask, 2 workers", what))
        print("  two threads against one  ", ratio("local, 1 thread", "local, 2 threads", what))
        print("  2 workers / 2 threads    ", ratio("dask, 2 workers", "local, 2 threads", what))
        print("  1 worker / 1 thread      ", ratio("dask, 1 worker", "local, 1 thread", what))


if __name__ == "__main__":
    main()
