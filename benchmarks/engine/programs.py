"""The programs that are compared, each as its users write it.

All but ours take x = 1 and y = 0 as known, and count epochs of w and b by the same updates. A
program returns T10, and those that measure all a row more for each measure, −1 for what did not
come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks.engine import compiled
from benchmarks.engine.jobs import Job

import plateaumap as pm
from plateaumap.execution.simulator import Simulator
from plateaumap.runner.sweep_table import SweepTable
from plateaumap.sweep.chunks import Chunk
from plateaumap.theory.single_neuron import NeuronTheory

Answers = Mapping[str, np.ndarray]
Run = Callable[[], Answers]

SCAN_LANES = 1024
"""Lanes at a time of the program that keeps whole curves, which would not fit otherwise."""


@dataclass(frozen=True)
class Program:
    """A program that does some of the jobs.

    Attributes:
        name: what it is called in tables.
        prepare: binds a job and a number of threads; what it returns is timed.
        does: whether it does a job with so many threads.
        slow: whether once is enough.
        apart: whether it runs in a process of its own, see `benchmarks.engine.apart`.
    """

    name: str
    prepare: Callable[[Job, int], Run]
    does: Callable[[Job, int], bool]
    slow: bool = False
    apart: bool = False


def ours(job: Job, threads: int) -> Run:
    """Return the engine, from points to the arrays of all columns."""
    return _ours(job, threads)


def ours_plain(job: Job, threads: int) -> Run:
    """Return the engine in float32 without compensation."""
    return _ours(replace(job, precision="float32_plain"), threads)


class Silent(NeuronTheory):
    """What is known of a neuron but how long it takes."""

    def predict(self, points: Any, drop: float) -> None:
        """Return no prediction."""


@dataclass(frozen=True)
class Unpredicted(pm.SingleNeuron):
    """The neuron without a prediction: its runs are advanced in rounds."""

    def theory(self, choice: Any) -> Silent:
        """Return what is known but the prediction."""
        known = super().theory(choice)
        return Silent(known.activation, known.loss, known.name)


def ours_unpredicted(job: Job, threads: int) -> Run:
    """Return the engine without a prediction of lengths."""
    return _ours(job, threads, Unpredicted())


def _ours(job: Job, threads: int, experiment: pm.SingleNeuron | None = None) -> Run:
    sweep = job.sweep
    if experiment is not None:
        sweep = sweep.model_copy(update={"experiment": experiment})
    return submitted(sweep, Simulator(threads))


def submitted(sweep: pm.Sweep, simulator: Simulator) -> Run:
    """Return a sweep as a program, from points to the arrays of all columns."""
    sweep_table = SweepTable(sweep)
    chunk = Chunk(0, 0, 0, sweep.size, 0)

    def run() -> Answers:
        points = sweep_table.points(chunk)
        measured = sweep_table.evaluators[0].evaluate(simulator, points)
        arrays = sweep_table.rows(chunk, points, measured)
        return {
            name: np.ma.filled(array, -1) if np.ma.isMaskedArray(array) else array
            for name, array in arrays.items()
        }

    return run


def c_loop(job: Job, threads: int) -> Run:
    """Return the C loop, in the order of the grid."""
    points = job.points()
    loop = compiled.loop(job.loss, job.precision, job.measures)
    return lambda: loop(**points, horizon=job.horizon, threads=threads)


def c_loop_plain(job: Job, threads: int) -> Run:
    """Return the C loop in float32 without compensation."""
    return c_loop(replace(job, precision="float32_plain"), threads)


def c_loop_ordered(job: Job, threads: int) -> Run:
    """Return the C loop, given its starts in the order in which our engine takes them."""
    points = job.points()
    sweep = job.sweep
    everything = {**points, "x": np.ones_like(points["w0"]), "y": np.zeros_like(points["w0"])}
    drop = 0.1 if job.measures == "T10" else 0.9
    length = sweep.experiment.theory(job.loss).predict(everything, drop)
    assert length is not None
    order = np.argsort(-np.nan_to_num(length), kind="stable")
    loop = compiled.loop(job.loss, job.precision, job.measures)
    ordered = {name: array[order] for name, array in points.items()}

    def run() -> Answers:
        found = loop(**ordered, horizon=job.horizon, threads=threads)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return {name: array[back] for name, array in found.items()}

    return run


def numpy_all_lanes(job: Job, threads: int) -> Run:
    """Return the plain NumPy loop, in which every lane goes on to the end."""
    del threads
    return _numpy(job, drops=False)


def numpy_dropping(job: Job, threads: int) -> Run:
    """Return the NumPy loop that drops finished lanes whenever half of them have finished."""
    del threads
    return _numpy(job, drops=True)


def _numpy(job: Job, drops: bool) -> Run:
    dtype = np.float64 if job.precision == "float64" else np.float32
    w0, b0, lr0 = (array.astype(dtype) for array in job.points().values())
    height = _numpy_height(job.loss)

    def run() -> Answers:
        t10 = np.full(len(w0), -1)
        w, b, lr, lanes = w0.copy(), b0.copy(), lr0, np.arange(len(w0))
        level = dtype(0.9) * height(w + b)[0]
        alive = np.ones(len(w0), bool)
        for epoch in range(job.horizon + 1):
            loss, gradient = height(w + b)
            crossed = alive & (loss <= level)
            if crossed.any():
                t10[lanes[crossed]] = epoch
                alive &= ~crossed
                left = np.count_nonzero(alive)
                if left == 0:
                    break
                if drops and 2 * left <= len(lanes):
                    w, b, lr, level, lanes, gradient = (
                        array[alive] for array in (w, b, lr, level, lanes, gradient)
                    )
                    alive = np.ones(left, bool)
            step = lr * gradient
            w -= step
            b -= step
        return {"plateau_epochs": t10}

    return run


def _numpy_height(loss: str) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def quadratic(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        e = np.exp(-z)
        a = 1 / (1 + e)
        square = a * a
        return square, square * (e * a)

    def cross_entropy(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        e = np.exp(-z)
        return z + np.log1p(e), 1 / (1 + e)

    return quadratic if loss == "quadratic" else cross_entropy


def numba_loop(job: Job, threads: int) -> Run:
    """Return the numba loop: lanes in parallel, each left as soon as it has finished."""
    import numba

    dtype = np.float64 if job.precision == "float64" else np.float32
    loop = _numba_loop(job.loss)
    w0, b0, lr = (array.astype(dtype) for array in job.points().values())

    def run() -> Answers:
        numba.set_num_threads(threads)
        return {"plateau_epochs": loop(w0, b0, lr, job.horizon, dtype(0.9), dtype(1))}

    return run


@cache
def _numba_loop(loss: str) -> Any:
    import math

    import numba

    quadratic = loss == "quadratic"

    @numba.njit(parallel=True, fastmath=True)
    def loop(w0, b0, lr, horizon, share, one):  # type: ignore[no-untyped-def]
        t10 = np.full(len(w0), -1)
        for lane in numba.prange(len(w0)):
            w, b, rate, level = w0[lane], b0[lane], lr[lane], one
            for epoch in range(horizon + 1):
                z = w + b
                e = math.exp(-z)
                a = one / (one + e)
                if quadratic:
                    height = a * a
                    gradient = height * (e * a)
                else:
                    height = z + math.log(one + e)
                    gradient = a
                if epoch == 0:
                    level = share * height
                elif height <= level:
                    t10[lane] = epoch
                    break
                w -= rate * gradient
                b -= rate * gradient
        return t10

    return loop


def jax_while_loop(job: Job, threads: int) -> Run:
    """Return `jit(vmap(while_loop))`: each lane stops by its own condition."""
    del threads
    excess = _jax_loss(job.loss)

    def evaluate(w0: jax.Array, b0: jax.Array, lr: jax.Array) -> jax.Array:
        level = 0.9 * excess((w0, b0))

        def running(state: Any) -> jax.Array:
            epoch, parameters = state
            return (excess(parameters) > level) & (epoch <= job.horizon)

        def update(state: Any) -> Any:
            epoch, parameters = state
            gradients = jax.grad(excess)(parameters)
            return epoch + 1, jax.tree.map(lambda p, g: p - lr * g, parameters, gradients)

        epoch, _ = jax.lax.while_loop(running, update, (0, (w0, b0)))
        return jnp.where(epoch > job.horizon, -1, epoch)

    return _jax(job, jax.jit(jax.vmap(evaluate)), len(job.points()["w0"]))


def jax_scan(job: Job, threads: int) -> Run:
    """Return `jit(vmap(scan))` that keeps whole curves and looks for the crossing afterwards."""
    del threads
    excess = _jax_loss(job.loss)

    def evaluate(w0: jax.Array, b0: jax.Array, lr: jax.Array) -> jax.Array:
        def update(parameters: Any, _: None) -> Any:
            value, gradients = jax.value_and_grad(excess)(parameters)
            return jax.tree.map(lambda p, g: p - lr * g, parameters, gradients), value

        _, curve = jax.lax.scan(update, (w0, b0), None, length=job.horizon + 1)
        crossed = curve <= 0.9 * curve[0]
        return jnp.where(crossed.any(), jnp.argmax(crossed), -1)

    return _jax(job, jax.jit(jax.vmap(evaluate)), SCAN_LANES)


def _jax_loss(loss: str) -> Callable[[Any], jax.Array]:
    def quadratic(parameters: Any) -> jax.Array:
        return jnp.square(jax.nn.sigmoid(parameters[0] + parameters[1])) / 2

    def cross_entropy(parameters: Any) -> jax.Array:
        return jax.nn.softplus(parameters[0] + parameters[1])

    return quadratic if loss == "quadratic" else cross_entropy


def _jax(job: Job, function: Any, lanes: int) -> Run:
    dtype = np.float64 if job.precision == "float64" else np.float32
    arrays = [array.astype(dtype) for array in job.points().values()]

    def run() -> Answers:
        with jax.enable_x64(True):
            parts = [
                np.asarray(function(*(array[at : at + lanes] for array in arrays)))
                for at in range(0, len(arrays[0]), lanes)
            ]
        return {"plateau_epochs": np.concatenate(parts)}

    return run


def torch_loop(job: Job, threads: int) -> Run:
    """Return the PyTorch loop over epochs, in place and without its gradient tape."""
    import torch

    dtype = torch.float64 if job.precision == "float64" else torch.float32
    w0, b0, lr = (torch.tensor(array, dtype=dtype) for array in job.points().values())
    quadratic = job.loss == "quadratic"

    def run() -> Answers:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            w, b = w0.clone(), b0.clone()
            t10 = torch.full(w.shape, -1)
            level = torch.zeros_like(w)
            for epoch in range(job.horizon + 1):
                z = w + b
                a = torch.sigmoid(z)
                if quadratic:
                    height = a * a
                    gradient = height * torch.sigmoid(-z)
                else:
                    height, gradient = torch.nn.functional.softplus(z), a
                if epoch == 0:
                    level = 0.9 * height
                t10.masked_fill_((height <= level) & (t10 < 0), epoch)
                if epoch % 64 == 0 and bool((t10 >= 0).all()):
                    break
                w.addcmul_(lr, gradient, value=-1)
                b.addcmul_(lr, gradient, value=-1)
        return {"plateau_epochs": t10.numpy()}

    return run


def _has(module: str) -> bool:
    return find_spec(module) is not None


def _compiles(job: Job, threads: int) -> bool:
    return compiled.compiler() is not None


def _plain(job: Job, threads: int) -> bool:
    # Where a start is deep, plain float32 freezes: its lengths are no answers.
    return job.precision == "float32" and job.name == "full horizon"


def _only_t10(job: Job, threads: int) -> bool:
    return job.measures == "T10"


def _short(job: Job, threads: int) -> bool:
    # Without dropping lanes, a map with few long runs takes a hundred times as long.
    return job.measures == "T10" and job.horizon <= 10_000


PROGRAMS = [
    Program("plateaumap", ours, lambda job, threads: True),
    Program(
        "plateaumap, no prediction",
        ours_unpredicted,
        lambda job, threads: job.name == "five decades",
    ),
    Program("plateaumap, float32_plain", ours_plain, _plain),
    Program("C", c_loop, _compiles),
    Program("C, not compensated", c_loop_plain, lambda *on: _compiles(*on) and _plain(*on)),
    Program(
        "C, in our order",
        c_loop_ordered,
        lambda *on: _compiles(*on) and on[0].name == "five decades",
    ),
    Program("numba, early exit", numba_loop, lambda *on: _has("numba") and _only_t10(*on), True),
    Program(
        "NumPy, dropping lanes",
        numpy_dropping,
        lambda job, threads: _only_t10(job, threads) and threads == 1,
        True,
    ),
    Program(
        "NumPy",
        numpy_all_lanes,
        lambda job, threads: _short(job, threads) and threads == 1,
        True,
    ),
    Program(
        "JAX vmap(while_loop)",
        jax_while_loop,
        lambda job, threads: _only_t10(job, threads) and threads > 1,
        slow=True,
        apart=True,
    ),
    Program(
        "JAX vmap(scan)",
        jax_scan,
        lambda job, threads: _short(job, threads) and threads > 1,
        slow=True,
        apart=True,
    ),
    Program("PyTorch", torch_loop, lambda *on: _has("torch") and _short(*on), True),
]
"""Ours first. JAX's own programs take as many threads as they find."""
