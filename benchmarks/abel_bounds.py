"""The share that is used of the bounds on what the Abel series omits.

`python benchmarks/abel_bounds.py [--segments 100000]` follows random neurons for 1 to 60 epochs, so
that the length of the segment is known, and divides the error of the series by its bound. The exit
code is 1 if a bound is broken. The benchmark counts only segments on which the series may be used,
and only errors that are visible in float64: the bounds on rounding of both ends are subtracted.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.theory import oracle  # noqa: E402

from plateaumap.theory.applicability import dynamics_of  # noqa: E402
from plateaumap.theory.dynamics import Dynamics, Neuron  # noqa: E402
from plateaumap.theory.flow import Drop, Target  # noqa: E402

UNIT = 2.0**-53
BLOCK = 1000
ACTIVATIONS = ("softplus", "probit", "erf", "atan", "softsign", "algebraic", "identity", "exp")


def measured(dynamics: Dynamics, zero: bool, cells: tuple, limit: int) -> tuple[np.ndarray, ...]:
    """Follow paths and return the errors that are seen, their bounds and their errors."""

    def one(z0, h, y, q, epochs):
        target = Target(0.0, 1.0) if zero else Target(y, q)

        def advance(n, state):
            z, error, straight = state
            p = dynamics.point(z, target)
            moved = z - h * dynamics.gradient(p)
            rounding = UNIT * (
                jnp.abs(z) + jnp.abs(moved) + h * dynamics.gradient_rounding(p, target)
            )
            wider = jnp.abs(1.0 - h * dynamics.curvature(p)) * error + rounding
            running = n < epochs
            # A path that has passed its target is not a segment, even if it comes back.
            straight &= ~running | ((p.e > 0.0) & (moved < z))
            return jnp.where(running, moved, z), jnp.where(running, wider, error), straight

        begin = (z0, 0.0 * z0, z0 == z0)
        z1, error, straight = jax.lax.fori_loop(0, limit, advance, begin)
        start, end = dynamics.point(z0, target), dynamics.point(z1, target)
        neuron = Neuron(z0, h, 0.0, 0.0, target, Drop.of(0.1))
        length = dynamics.length(dynamics.segment(start, end, target), neuron)
        blur = length.rounding + 2.0 * error / (h * dynamics.gradient(end))
        usable = straight & (end.e > 0.0) & jnp.isfinite(blur)
        bound = jnp.where(usable, length.truncation, jnp.inf)
        return jnp.abs(length.epochs - epochs), bound, blur

    with jax.enable_x64(True):
        return tuple(np.asarray(c) for c in jax.jit(jax.vmap(one))(*cells))


def segments(dynamics: Dynamics, inner: bool, count: int, random: np.random.Generator) -> tuple:
    """Return random neurons with steps of any size on which the series may be used."""
    h = 10 ** random.uniform(-2, 4, count)
    z0 = random.uniform(-8, 22, count)
    y = random.uniform(0, 1, count) if inner else np.zeros(count)
    q = 1 - y
    if inner:
        below = z0 < np.log(y) - np.log(q)
        z0, y, q = np.where(below, -z0, z0), np.where(below, q, y), np.where(below, y, q)
    return z0, h, y, q


def smooth_segments(name: str, loss: str, count: int, random: np.random.Generator) -> tuple:
    """Return random neurons of an activation by quadrature, in canonical form."""
    z0, h, y = oracle.smooth_neurons(name, loss, count, random)
    side = np.sign(oracle.SMOOTH[name]["error"](z0, y))
    return side * z0, h, y, side


def report(
    name: str, dynamics: Dynamics, zero: bool, cells: tuple, random: np.random.Generator
) -> bool:
    """Print one line and return whether a bound is broken."""
    epochs = np.floor(10 ** random.uniform(0, np.log10(61), len(cells[0])))
    parts = [
        measured(dynamics, zero, tuple(c[i : i + BLOCK] for c in (*cells, epochs)), 60)
        for i in range(0, len(epochs), BLOCK)
    ]
    error, bound, blur = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    seen = np.isfinite(bound) & (bound / 10 > blur)
    used = np.maximum(error[seen] - blur[seen], 0.0) / bound[seen]
    largest, typical = (used.max(), np.quantile(used, 0.99)) if used.size else (0.0, 0.0)
    print(f"{name:<28} {used.size:>8}  {typical:>8.3f}  {largest:>8.3f}", flush=True)
    return bool(largest > 1.0)


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    count = -(-options.segments // BLOCK) * BLOCK
    print("share of the bound that is used segments  99 of 100   largest")
    broken = False
    for loss in ("quadratic", "cross_entropy"):
        dynamics = dynamics_of("sigmoid", loss)
        for inner in (False, True):
            name = f"sigmoid, {loss}, {'inner y' if inner else 'y = 0'}"
            broken |= report(
                name, dynamics, not inner, segments(dynamics, inner, count, random), random
            )
    for activation in ACTIVATIONS:
        for loss in ("quadratic", "matching"):
            dynamics = dynamics_of(activation, loss)
            cells = smooth_segments(activation, loss, count, random)
            broken |= report(f"{activation}, {loss}", dynamics, False, cells, random)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
