"""Where a sweep's time goes: compiling, evaluating, writing."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
from benchmarks.engine.jobs import Job

import plateaumap as pm
from plateaumap.execution.simulator import Simulator
from plateaumap.runner.sweep_table import SweepTable

_EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}


@contextmanager
def compiling() -> Iterator[dict[str, float]]:
    """Collect the seconds that JAX spends on tracing, lowering and compiling."""
    seconds = dict.fromkeys(_EVENTS.values(), 0.0)

    def note(event: str, duration: float, **_: Any) -> None:
        if event in _EVENTS:
            seconds[_EVENTS[event]] += duration

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


def wasted_share(job: Job) -> dict[str, float]:
    """Return lane-epochs that finished lanes idle through, as shares of the useful ones.

    Counted from the epochs that each run has and the blocks in which the executor puts them.
    """
    sweep = job.sweep
    evaluator = SweepTable(sweep).evaluators[0]
    points = sweep.grid.coordinates_at(np.arange(sweep.size, dtype=np.int64))
    with Simulator() as simulator:
        epochs = np.ma.getdata(evaluator.evaluate(simulator, points)["epochs_run"])
        lanes = simulator.block_lanes(evaluator.evaluation, sweep.size)
    drop = 0.1 if job.measures == "T10" else 0.9
    length = sweep.experiment.theory(job.loss).predict(points, drop)
    in_order = np.argsort(-np.nan_to_num(length), kind="stable")
    return {
        "predicted order": _wasted(epochs[in_order], lanes),
        "order of the grid": _wasted(epochs, lanes),
    }


def _wasted(epochs: np.ndarray, lanes: int) -> float:
    made = 0
    for at in range(0, len(epochs), lanes):
        block = epochs[at : at + lanes]
        made += int(block.max()) * len(block)
    return made / int(epochs.sum()) - 1


def spec_to_parquet(
    steps: int, rounds: int, tell: Callable[[str], object] = print
) -> dict[str, list[float]]:
    """Return the seconds of a cheap sweep from spec to disk, and of pyarrow writing its table.

    Args:
        steps: points along each of w0 and b0.
        rounds: how often each is done, in turns.
        tell: is told the medians.
    """
    sweep = pm.Sweep(
        losses="cross_entropy",
        axes=[pm.linspace("w0", -8, 8, steps), pm.linspace("b0", -8, 8, steps)],
        fixed={"lr": 1.0},
        horizon=1,
    )
    found: dict[str, list[float]] = {"plateaumap": [], "pyarrow": []}
    with tempfile.TemporaryDirectory() as folder:
        results = pm.run(sweep, out=Path(folder) / "first", progress=False)
        whole = pq.read_table(results.path / "parts")
        for turn in range(rounds):
            begin = time.perf_counter()
            pm.run(sweep, out=Path(folder) / f"ours-{turn}", progress=False)
            found["plateaumap"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            pq.write_table(whole, Path(folder) / f"theirs-{turn}.parquet", compression="zstd")
            found["pyarrow"].append(time.perf_counter() - begin)
    for name, seconds in found.items():
        tell(f"  {sweep.rows:,} rows, {name:<12} {statistics.median(seconds):.3f} s")
    return found


def atlas(tell: Callable[[str], object] = print) -> dict[str, float]:
    """Return the seconds of the plateau atlas, split into compile, evaluate and write.

    Evaluation and writing overlap, so each is measured alone: the table in memory, then the run
    into a folder. What the second takes longer is what writing costs.
    """
    import importlib.util

    path = Path(__file__).parents[2] / "sweeps/plateau_atlas.py"
    spec = importlib.util.spec_from_file_location("plateau_atlas", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with compiling() as compiled:
        begin = time.perf_counter()
        pm.run(module.sweep, progress=False, rows=range(1))
        pm.run(module.sweep, progress=False, rows=range(module.sweep.rows - 1, module.sweep.rows))
        first = time.perf_counter() - begin
    begin = time.perf_counter()
    pm.run(module.sweep, progress=False)
    evaluated = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        pm.run(module.sweep, out=Path(folder) / "atlas", progress=False)
        total = time.perf_counter() - begin
    seconds = {
        "rows": module.sweep.rows,
        "compile": sum(compiled.values()),
        "first rows": first,
        "evaluate": evaluated,
        "evaluate and write": total,
    }
    tell("  " + ", ".join(f"{name} {value:,.2f}" for name, value in seconds.items()))
    return seconds
