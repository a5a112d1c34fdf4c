"""Interleaved runs of all programs on a job, and whether their answers agree."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from benchmarks.engine.apart import Apart
from benchmarks.engine.compiled import MEASURES
from benchmarks.engine.jobs import Job
from benchmarks.engine.programs import PROGRAMS, Answers, Program

SLOW_ROUNDS = 2
"""Rounds in which the slow programs take part."""

_RELATIVE = {"float64": 1e-9, "float32": 1e-3}
"""By how much measures that are no epochs may differ."""

_SHIFTED = {"float64": 1e-3, "float32": 5e-2}
"""Share of lanes whose epochs may differ, and then by one, or in float32 by a thousandth.

Programs round differently, so that a crossing may fall on the next epoch; without compensation
float32 shifts long plateaus further.
"""


@dataclass
class Timing:
    """The times of one program on one job.

    Attributes:
        program: its name.
        threads: how many it was given.
        wall: seconds on the clock, one for each round.
        cpu: seconds of processor time, of all threads together.
        useful: epochs that the runs of the job have, all lanes together.
        faults: how its answers differ from ours; none if they agree.
    """

    program: str
    threads: int
    useful: int
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def rate(self, clock: str = "wall") -> float:
        """Return useful epochs in a second, by the median."""
        return self.useful / statistics.median(getattr(self, clock))


def measure(
    job: Job, threads: int, rounds: int, tell: Callable[[str], object] = print
) -> list[Timing]:
    """Run every program that does a job, in turns, and compare what they answer.

    Args:
        job: the job.
        threads: how many each program is given.
        rounds: how often; slow programs take part in the first `SLOW_ROUNDS` only.
        tell: receives messages about the progress.
    """
    programs = [program for program in PROGRAMS if program.does(job, threads)]
    runs = {
        program.name: Apart(program.name, job, threads)
        if program.apart
        else program.prepare(job, threads)
        for program in programs
    }
    first: dict[str, Answers] = {}
    for program in programs:  # compiles, and touches memory
        first[program.name] = runs[program.name]()
    ours = first["plateaumap"]
    useful = int(np.sum(ours["epochs_run"], dtype=np.int64))
    timings = {
        program.name: Timing(
            program.name,
            threads,
            useful,
            faults=faults(ours, first[program.name], loose=_loose(job, program)),
        )
        for program in programs
    }
    for turn in range(rounds):
        for program in programs:
            if program.slow and turn >= SLOW_ROUNDS:
                continue
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            run = runs[program.name]
            run()
            timings[program.name].wall.append(time.perf_counter() - wall)
            own = run.cpu if isinstance(run, Apart) else time.process_time() - cpu
            timings[program.name].cpu.append(own)
    for run in runs.values():
        if isinstance(run, Apart):
            run.close()
    for timing in timings.values():
        agreement = "; ".join(timing.faults) or "answers agree"
        tell(
            f"  {timing.program:<26} {threads} threads "
            f"{timing.rate() / 1e9:8.3f}e9 epochs/s by the clock, "
            f"{timing.rate('cpu') / 1e9:8.3f}e9 by processor time; {agreement}"
        )
    return list(timings.values())


def _loose(job: Job, program: Program) -> str:
    return "float64" if job.precision == "float64" else "float32"


def faults(ours: Answers, theirs: Answers, loose: str) -> list[str]:
    """Return how answers differ by more than their rounding explains, in words.

    Args:
        ours: our answers.
        theirs: those of another program; measures that it lacks are not compared.
        loose: "float64" or "float32", the arithmetic that rounds.
    """
    found = []
    for name in MEASURES:
        if name not in theirs or name not in ours:
            continue
        one, other = np.asarray(ours[name], float), np.asarray(theirs[name], float)
        if name in ("plateau_fraction", "acceleration", "tangent_lag", "w_moved", "b_moved"):
            share = _differing(ours, theirs, one, other, loose)
        else:
            share = _shifted(one, other, loose)
        if share > _SHIFTED[loose]:
            found.append(f"{name} differs in {share:.2%} of lanes")
    return found


def _shifted(one: np.ndarray, other: np.ndarray, loose: str) -> float:
    missing = (one < 0) != (other < 0)
    allowed = 0 if loose == "float64" else 1 + 1e-3 * np.abs(one)
    # In float64 a shift by one is counted; by more than one it is a fault wherever it happens.
    apart = np.abs(one - other)
    if loose == "float64" and np.any((apart > 1) & ~missing):
        return 1.0
    return float(np.mean(missing | (apart > allowed)))


def _differing(
    ours: Mapping[str, np.ndarray],
    theirs: Mapping[str, np.ndarray],
    one: np.ndarray,
    other: np.ndarray,
    loose: str,
) -> float:
    both = np.asarray(ours["plateau_epochs"]) == np.asarray(theirs["plateau_epochs"])
    if "tenth_epochs" in ours:
        both &= np.asarray(ours["tenth_epochs"]) >= 0
    both &= np.isfinite(one)
    if not both.any():
        return 0.0
    scale = np.maximum(np.abs(one[both]), 1.0)
    return float(np.mean(np.abs(one[both] - other[both]) > _RELATIVE[loose] * scale))
