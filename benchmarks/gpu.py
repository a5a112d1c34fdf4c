"""What an NVIDIA GPU brings: are the answers those of the processor, and how fast are they?

`python -m benchmarks.gpu [--rounds 3] [--quick] [--largest 1048576] [--xla]` prints Markdown. Every
job is done by the GPU and by all cores of the same machine, in a process of its own that is told to
leave the GPU alone. Times are from points in memory to the arrays of all columns in memory: what
theory predicts, the order of the runs and the copies to the GPU and back are in them, compiling
is not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from benchmarks.engine import machine
from benchmarks.engine.jobs import PRECISIONS, Job, all_jobs, five_decades
from benchmarks.engine.programs import jax_while_loop, submitted

import plateaumap as pm
from plateaumap.execution.cuda.device import gpu
from plateaumap.execution.simulator import UNROLL, Simulator
from plateaumap.experiment.evaluation import Limits
from plateaumap.runner.sweep_table import SweepTable

INTEGERS = ("plateau_epochs", "half_epochs", "tenth_epochs", "steepest_epoch", "epochs_run")
CODES = ("status", "path", "shape")
GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "neuron.json"
_LOSS = {"mse": "quadratic", "ce": "cross_entropy"}

Answers = dict[str, np.ndarray]


def jobs(quick: bool, largest: int) -> list[Job]:
    """Return the jobs of `benchmarks.engine`, and the same five decades in finer grids."""
    chosen = all_jobs(quick)
    if quick:
        return chosen
    for side in (1024, 4096):
        if side * side > largest:
            continue
        for loss, precision, measures in product(_LOSS.values(), PRECISIONS, ("T10", "all")):
            if side > 1024 and (precision, measures) != ("float64", "all"):
                continue
            job = five_decades(loss, precision, measures, quick=False)
            chosen.append(replace(job, name=f"{side}² points", axes=_finer(job.axes, side)))
    return chosen


def _finer(axes: tuple, side: int) -> tuple:
    starts, b0, rates = axes
    return (
        pm.linspace("w0", min(starts.values), max(starts.values), side),
        b0,
        pm.geomspace("lr", min(rates.values), max(rates.values), side),
    )


def timed(run: Callable[[], Any], rounds: int) -> tuple[Any, dict[str, float]]:
    """Return answers, and the seconds of the first call and, by the median, of later ones."""
    begin = time.perf_counter()
    answers = run()
    first = time.perf_counter() - begin
    later = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        later.append(time.perf_counter() - begin)
    return answers, {"first": first, "seconds": statistics.median(later or [first])}


def clocked_kernels() -> list[float]:
    """Return a list to which every kernel adds the seconds that it takes, copies not included."""
    device, taken = gpu(), list[float]()
    if device is not None:
        launch = device.launch

        def clocked(*arguments: Any) -> None:
            device.wait()
            begin = time.perf_counter()
            launch(*arguments)
            device.wait()
            taken.append(time.perf_counter() - begin)

        device.launch = clocked  # type: ignore[method-assign]
    return taken


def told(answers: Answers) -> Answers:
    """Return the columns that are compared."""
    numbers = ("plateau_fraction", "acceleration", "tangent_lag", "final_output", "final_loss")
    names = (*INTEGERS, *CODES, *numbers, "w_moved", "b_moved")
    return {name: answers[name] for name in names if name in answers}


def on_this_device(arguments: argparse.Namespace, folder: Path) -> None:
    """Do every job here, and leave times and answers in a folder."""
    simulator, on_cores = Simulator(), jax.default_backend() == "cpu"
    kernels = clocked_kernels()
    for number, job in enumerate(jobs(arguments.quick, arguments.largest)):
        if on_cores and job.sweep.size > 2**20:
            continue
        # What is large has been compiled for a small job before: once is enough.
        again = job.sweep.size < 2**20 or (job.sweep.size == 2**20 and not on_cores)
        rounds = arguments.rounds if again else 0
        answers, seconds = timed(submitted(job.sweep, simulator), rounds)
        if job.sweep.size <= 2**20:
            np.savez(folder / f"{number}.npz", **told(answers))
        seconds["kernel"] = kernels[-1] if kernels else float("nan")
        seconds["useful"] = int(answers["epochs_run"].sum(dtype=np.int64))
        (folder / f"{number}.json").write_text(json.dumps(seconds))
        print(f"{jax.default_backend()}: {job.title}: {seconds}", file=sys.stderr, flush=True)


def compare(ours: Answers, theirs: Answers) -> dict[str, float]:
    """Return how many integers and codes differ, by how much, and how far numbers are apart."""
    different = worst = total = codes = 0
    for name in INTEGERS:
        apart = np.abs(ours[name].astype(np.int64) - theirs[name].astype(np.int64))
        different += int(np.count_nonzero(apart))
        total += apart.size
        worst = max(worst, int(apart.max(initial=0)))
    for name in CODES:
        codes += int(np.count_nonzero(ours[name] != theirs[name]))
    farthest = 0.0
    same = ours["epochs_run"] == theirs["epochs_run"]
    for name in set(ours) - {*INTEGERS, *CODES}:
        one, other = (np.asarray(answers[name], float)[same] for answers in (ours, theirs))
        scale = np.maximum(np.maximum(np.abs(one), np.abs(other)), 1e-290)
        relative = np.abs(one - other)[np.isfinite(one)] / scale[np.isfinite(one)]
        farthest = max(farthest, float(relative.max(initial=0)))
    return {
        "different": different,
        "total": total,
        "worst": worst,
        "codes": codes,
        "relative": farthest,
    }


def golden_departures() -> tuple[int, int]:
    """Return how many departures of the golden file there are, and how many are missed."""
    configs = json.loads(GOLDEN.read_text())["configs"]
    count = wrong = 0
    for key, loss in _LOSS.items():
        some = [config for config in configs if config["loss"] == key]
        columns = {"w0": "w0", "b0": "b0", "lr": "eta", "x": "x", "y": "y"}
        axes = [pm.points(**{to: [c[name] for c in some] for to, name in columns.items()})]
        sweep = pm.Sweep(name="golden", losses=[loss], axes=axes, horizon=20_000, tolerance=0)
        frame = pm.run(sweep)
        for drop, column in (("0.1", "plateau_epochs"), ("0.5", "half_epochs")):
            for config, found in zip(some, frame[column], strict=True):
                expected = config["departure_epoch"][drop]
                count += 1
                wrong += expected != (None if found is pd.NA else int(found))
    return count, wrong


def stages(job: Job) -> Iterator[str]:
    """Yield rows with what the time of a job is spent on."""
    simulator, evaluator = Simulator(), SweepTable(job.sweep).evaluators[0]
    evaluation = evaluator.evaluation
    limits = Limits(np.asarray(job.horizon, evaluation.counter), np.asarray(0.0, evaluation.dtype))
    points = job.sweep.grid.coordinates_at(np.arange(job.sweep.size))

    def predicted() -> np.ndarray:
        drop = 0.1 if job.measures == "T10" else 0.9
        length = job.sweep.experiment.theory(job.loss).predict(points, drop)
        assert length is not None
        return length

    length = predicted()
    parts: dict[str, Callable[[], object]] = {
        "coordinates of the grid": lambda: job.sweep.grid.coordinates_at(np.arange(job.sweep.size)),
        "theory's prediction of one length": predicted,
        "to order by it": lambda: np.argsort(-np.nan_to_num(length), kind="stable"),
        "to order and simulate, copies included": lambda: simulator.simulate(
            evaluation, points, limits, length
        )(),
        "to simulate in the order of the grid": lambda: simulator.simulate(
            evaluation, points, limits
        )(),
        "all, from points to columns": submitted(job.sweep, simulator),
        "`pm.run`, to a DataFrame": lambda: pm.run(job.sweep),
    }
    for name, part in parts.items():
        yield _row(name, f"{timed(part, 3)[1]['seconds']:.3f}")


def same_bits(job: Job) -> bool:
    """Return whether runs have the same bits in the order of the grid and in another one."""
    simulator, evaluator = Simulator(), SweepTable(job.sweep).evaluators[0]
    evaluation = evaluator.evaluation
    limits = Limits(np.asarray(job.horizon, evaluation.counter), np.asarray(0.0, evaluation.dtype))
    points = job.sweep.grid.coordinates_at(np.arange(job.sweep.size))
    one = simulator.simulate(evaluation, points, limits)
    length = np.random.default_rng(0).uniform(size=job.sweep.size)
    other = simulator.simulate(evaluation, points, limits, length)
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def by_xla(rounds: int) -> Iterator[str]:
    """Yield rows of the same runs as XLA compiles them for this device."""
    job = five_decades("quadratic", "float64", "T10", quick=False)
    programs = {
        "one thread a run": submitted(job.sweep, Simulator()),
        "rounds, compiled by XLA": submitted(job.sweep, Simulator(unroll=UNROLL)),
        "`vmap(while_loop)`, T10 only": jax_while_loop(job, 1),
    }
    useful = 0
    for name, run in programs.items():
        answers, seconds = timed(run, rounds)
        useful = useful or int(answers["epochs_run"].sum(dtype=np.int64))
        yield _row(
            name, f"{seconds['first']:.2f}", f"{seconds['seconds']:.3f}", _rate(useful, seconds)
        )


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _heading(*cells: str) -> str:
    return "\n".join([_row(*cells), _row(*("---" for _ in cells))])


def _rate(useful: int, seconds: dict[str, float]) -> str:
    return f"{useful / seconds['seconds']:.2e}"


def report(arguments: argparse.Namespace) -> None:
    """Measure and print."""
    print(_heading("measured on", ""))
    print(_row("accelerator", f"{jax.devices()[0].device_kind}, {_driver()}"))
    for name, value in machine.describe().items():
        print(_row(name, value))
    count, wrong = golden_departures()
    print(f"\nGolden departures: {count - wrong} of {count} met exactly.\n", flush=True)
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        on_this_device(arguments, Path(here))
        alone = {**os.environ, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:], "--answers", there]
        subprocess.run(command, env=alone, check=True)
        print(
            _heading(
                *("job", "runs", "useful epochs", "first call, s", "GPU, s", "GPU, epochs/s"),
                *("kernel alone, s", "kernel alone, epochs/s"),
                *("all cores, s", "GPU over cores", "integers that differ", "by at most"),
                *("codes that differ", "numbers apart by"),
            )
        )
        for number, job in enumerate(jobs(arguments.quick, arguments.largest)):
            seconds = json.loads(Path(here, f"{number}.json").read_text())
            useful = int(seconds["useful"])
            cells = [job.title, f"{job.sweep.size:,}", f"{useful:.2e}", f"{seconds['first']:.2f}"]
            cells += [f"{seconds['seconds']:.3f}", _rate(useful, seconds)]
            cells += [f"{seconds['kernel']:.4f}", f"{useful / seconds['kernel']:.2e}"]
            if Path(there, f"{number}.npz").exists():
                cores = json.loads(Path(there, f"{number}.json").read_text())
                ours, theirs = (dict(np.load(Path(at, f"{number}.npz"))) for at in (here, there))
                found = compare(ours, theirs)
                cells += [f"{cores['seconds']:.3f}", f"{cores['seconds'] / seconds['seconds']:.1f}"]
                cells += [f"{found['different']} of {found['total']}", f"{found['worst']}"]
                cells += [f"{found['codes']}", f"{found['relative']:.1e}"]
            print(_row(*cells, *("" for _ in range(14 - len(cells)))), flush=True)
    middle = [job for job in jobs(arguments.quick, arguments.largest) if job.measures == "all"]
    middle = [job for job in middle if job.sweep.size <= 2**20 and job.precision == "float64"]
    told_bits = "the same" if same_bits(middle[0]) else "NOT the same"
    print(f"\nBits of {middle[0].sweep.size:,} runs in two orders: {told_bits}.\n", flush=True)
    print(_heading(f"{middle[-1].title}, {middle[-1].sweep.size:,} runs", "s"))
    for row in stages(middle[-1]):
        print(row, flush=True)
    if arguments.xla:
        print("\n" + _heading("five decades, quadratic, float64, T10", "first", "s", "epochs/s"))
        for row in by_xla(1):
            print(row, flush=True)


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return "driver " + subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return "driver unknown"


def main() -> None:
    """Report, or in the process for the cores leave answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each job is timed")
    parser.add_argument("--quick", action="store_true", help="a few small jobs")
    parser.add_argument("--largest", type=int, default=2**20, help="runs of the largest grid")
    parser.add_argument("--xla", action="store_true", help="also what XLA makes of the runs")
    parser.add_argument("--answers", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answers is None and gpu() is None:
        print(
            "JAX finds no NVIDIA GPU here; install plateaumap[cuda13] or plateaumap[cuda12] where "
            "there is one",
            file=sys.stderr,
        )
        sys.exit(2)
    if arguments.answers is not None:
        on_this_device(arguments, arguments.answers)
    else:
        report(arguments)


if __name__ == "__main__":
    main()
