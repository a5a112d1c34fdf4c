"""What whole processes take: from start to results on disk, in time, memory and compilation."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.engine.scripts import PROGRAMS

import plateaumap as pm

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent


def process(arguments: list[str], cache: Path) -> tuple[float, float, str]:
    """Run a Python process; return its wall and processor seconds and what it printed."""
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(cache),
        "PYTHONPATH": os.pathsep.join([str(_ROOT), str(Path(pm.__file__).parent.parent)]),
    }
    before, begin = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, check=True, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - begin, os.times()
    children = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return wall, children, done.stdout


def whole_processes(
    sizes: tuple[str, ...], rounds: int, tell: Callable[[str], object] = print
) -> dict[str, dict[str, Any]]:
    """Return the times from start to results on disk of each program, caches warm.

    Args:
        sizes: keys of `scripts.SIZES`.
        rounds: how often each is run, after once to warm the caches.
        tell: receives messages about the progress.

    Returns:
        By size and program: wall and processor seconds, and whether the answers agree.
    """
    found: dict[str, dict[str, Any]] = {}
    script = str(_HERE / "scripts.py")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            times: dict[str, Any] = {name: {"wall": [], "cpu": []} for name in PROGRAMS}
            answers: dict[str, np.ndarray] = {}
            for turn in range(rounds + 1):
                for name in PROGRAMS:
                    out = Path(folder) / f"{size}-{turn}-{name.split()[0]}.npy"
                    wall, cpu, _ = process([script, name, size, str(out)], Path(folder) / "cache")
                    if turn == 0:
                        answers[name] = _answers(out)
                        continue
                    times[name]["wall"].append(wall)
                    times[name]["cpu"].append(cpu)
            for name, own in times.items():
                apart = answers[name] != answers["plateaumap"]
                own["differing"] = float(np.mean(apart))
                tell(
                    f"  {size:<6} {name:<24} {statistics.median(own['wall']):7.2f} s by the clock, "
                    f"{statistics.median(own['cpu']):7.2f} s of processor time, "
                    f"{own['differing']:.4%} of lanes differ"
                )
            found[size] = times
    return found


def _answers(out: Path) -> np.ndarray:
    if out.is_dir():
        return pm.load(out)["plateau_epochs"].fillna(-1).to_numpy(np.int64)
    return np.load(out).astype(np.int64)


_MEMORY = """
import json, re, sys, tempfile, time
from pathlib import Path
import plateaumap as pm
side = int(sys.argv[1])
sweep = pm.Sweep(losses="quadratic", method="leap", horizon=None, axes=[
    pm.linspace("w0", 6, 18, side), pm.linspace("b0", 6, 18, side),
    pm.geomspace("lr", 0.001, 10, int(sys.argv[2]))])
begin = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    pm.run(sweep, out=folder + "/run", progress=False)
    seconds = time.perf_counter() - begin
# Not ru_maxrss, which a process inherits from the one that started it.
(peak,) = map(int, re.findall(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text()))
print(json.dumps({"rows": sweep.rows, "seconds": seconds, "peak_mib": peak / 1024}))
"""


def memory(shapes: tuple[tuple[int, int], ...]) -> list[dict[str, float]]:
    """Return rows, seconds and peak memory of leaping sweeps of growing size, from spec to disk.

    Args:
        shapes: points along w0 and along b0 alike, and learning rates.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [
            json.loads(process(["-c", _MEMORY, *map(str, shape)], Path(folder))[2])
            for shape in shapes
        ]


_STARTUP = """
import json, sys, time
begin = time.perf_counter()
import jax
import plateaumap as pm
from plateaumap import cli
from benchmarks.engine.stages import compiling
imported = time.perf_counter() - begin
cli.cache_compilations()
sweep = pm.Sweep(losses=("quadratic", "cross_entropy"), horizon=50, axes=[
    pm.linspace("w0", -8, 8, 64), pm.linspace("b0", -8, 8, 64)], fixed={"lr": 0.15})
with compiling() as seconds:
    begin = time.perf_counter()
    pm.run(sweep, progress=False)
    ran = time.perf_counter() - begin
print(json.dumps({"import": imported, "run": ran, **seconds}))
"""


def startup(rounds: int) -> dict[str, Mapping[str, float]]:
    """Return what a first and a second start spend on importing and compiling, in seconds."""
    with tempfile.TemporaryDirectory() as folder:
        starts = [json.loads(process(["-c", _STARTUP], Path(folder))[2]) for _ in range(rounds + 1)]
    later = starts[1:]
    return {
        "first": starts[0],
        "second": {name: statistics.median(one[name] for one in later) for name in starts[0]},
    }
