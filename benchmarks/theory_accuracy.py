"""Accuracy and speed of the exact epochs: the tables of docs/theory.md.

`python benchmarks/theory_accuracy.py [--cases 300] [--horizon 20000] [--digits 4] [--cells 1e6]`;
`--cases 3000 --horizon 1000000 --digits 30 --cells 1e7` are the sizes of the docs. The exit code is
1 if any length is wrong.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.theory import oracle  # noqa: E402

from plateaumap.theory.canonical import EpochState  # noqa: E402
from plateaumap.theory.epochs import EpochCounts, count_epochs, predict_epochs  # noqa: E402

DROPS = (0.1, 0.5, 0.9)
GOLDEN = {"mse": "quadratic", "ce": "cross_entropy"}


def golden() -> int:
    """Compare with the golden files."""
    print("\ngolden file            lengths  wrong")
    wrong = 0
    for file, drops in (("neuron.json", ("0.1", "0.5")), ("neuron_large.json", (None,))):
        checked = differ = 0
        for case in json.loads((ROOT / "tests" / "golden" / file).read_text())["configs"]:
            for drop in drops:
                expected = (
                    case["departure_epoch"] if drop is None else case["departure_epoch"][drop]
                )
                if expected is None:
                    continue
                inputs = (case[name] for name in ("w0", "b0", "eta", "x", "y"))
                counts = count_epochs(*inputs, GOLDEN[case["loss"]], float(drop or case["delta"]))
                checked += 1
                differ += int(counts.epochs) != int(expected)
        print(f"{file:<22} {checked:>7}  {differ:>5}")
        wrong += differ
    return wrong


def random_cells(inner: bool, loss: str, cases: int, random: np.random.Generator) -> tuple:
    """Return random neurons with targets of 0 and 1 and any step, or between and a stable step."""
    if inner:
        y, h = random.uniform(0, 1, 9 * cases), 10 ** random.uniform(-2, 2, 9 * cases)
        stable = h * (y * (1 - y)) ** (2 if loss == "quadratic" else 1) < 2
        y, h = y[stable][:cases], h[stable][:cases]
        z0 = random.uniform(-10, 10, cases)
    else:
        y, h = random.integers(0, 2, cases).astype(float), 10 ** random.uniform(-2, 4, cases)
        z0 = np.where(y == 1, -1, 1) * random.uniform(-8, 22, cases)
    x, b0 = random.choice([0.5, 1.0, -2.0], cases), random.normal(size=cases)
    return (z0 - b0) / x, b0, h / (1 + x * x), x, y


def against_simulation(cases: int, horizon: int, random: np.random.Generator) -> int:
    """Compare with plain simulation, wherever that is short enough."""
    print("\nagainst simulation                compared  wrong  no answer  prediction off")
    total = 0
    for loss in oracle.LOSSES:
        for inner in (False, True):
            compared = wrong = silent = off = 0
            for drop in DROPS:
                cells = random_cells(inner, loss, cases // len(DROPS), random)
                counts = count_epochs(*cells, loss, drop)
                short = counts.known & (counts.epochs <= horizon)
                w0, b0, lr, x, y = (c[short] for c in cells)
                z0, h = w0 * x + b0, lr * (1 + x * x)
                expected = oracle.simulated_epochs(loss, z0, h, y, drop, horizon + 1)
                compared += expected.size
                wrong += int((counts.epochs[short] != expected).sum())
                silent += int((counts.state > EpochState.BEYOND_INT64).sum())
                off += int((counts.predicted[short] != expected).sum())
            name = f"{loss}, {'0 < y < 1, stable' if inner else 'y = 0 and 1'}"
            print(f"{name:<33} {compared:>8}  {wrong:>5}  {silent:>9}  {off:>14}")
            total += wrong
    return total


def against_digits(cases: int, random: np.random.Generator) -> int:
    """Compare lengths up to 2**63 with eighty digits."""
    print("\nagainst 80 digits                 compared  wrong  longest")
    total = 0
    for loss in oracle.LOSSES:
        for y in (0.0, 1.0, 0.3):
            z0 = random.uniform(-25, 42, cases)
            cells = (
                z0 * (1 - 2 * (y == 1)),
                np.zeros(cases),
                10 ** random.uniform(-9, -0.5, cases),
            )
            counts = count_epochs(*cells, 1.0, y, loss)
            compared = wrong = 0
            for w0, b0, lr, epochs, state in zip(*cells, counts.epochs, counts.state, strict=True):
                try:
                    expected = oracle.leapt_epochs(loss, w0, b0, lr, 1.0, y, 0.1)
                except ValueError:  # the oracle's leap needs a start further from the target
                    continue
                compared += 1
                beyond = state == EpochState.BEYOND_INT64
                wrong += expected < 2**63 if beyond else expected != epochs
            longest = int(counts.epochs.max())
            print(f"{loss + f', y = {y:g}':<33} {compared:>8}  {wrong:>5}  {longest:.1e}")
            total += wrong
    return total


def other_activations(cases: int, horizon: int, random: np.random.Generator) -> int:
    """Compare every smooth activation with plain simulation, by independent formulas."""
    print(
        "\nactivation, loss       compared  wrong  beyond  too long  overshoot prediction off bound"
    )
    total = 0
    for name in oracle.SMOOTH:
        for loss in ("quadratic", "matching"):
            states = np.zeros(len(EpochState), int)
            compared = wrong = off = 0
            relative = []
            for drop in DROPS:
                z0, h, y = oracle.smooth_neurons(name, loss, cases // len(DROPS), random)
                counts = count_epochs(z0, 0.0, h / 2, 1.0, y, loss, drop, activation=name)
                states += np.bincount(counts.state, minlength=len(EpochState))
                short = counts.known & (counts.epochs <= horizon)
                expected = oracle.smooth_epochs(
                    name, loss, z0[short], h[short], y[short], drop, horizon + 1
                )
                compared += expected.size
                wrong += int((counts.epochs[short] != expected).sum())
                off += int((counts.predicted[short] != expected).sum())
                long = (counts.state == EpochState.FLOAT64) & (counts.epochs > 1e6)
                relative += list(counts.bound[long] / counts.epochs[long])
            typical = f"{np.median(relative):.0e}" if relative else ""
            print(
                f"{name + ', ' + loss:<22} {compared:>8}  {wrong:>5}  "
                f"{states[EpochState.BEYOND_INT64]:>6}  {states[EpochState.UNDECIDED]:>8}  "
                f"{states[EpochState.NO_THEORY]:>9}  {off:>13} {typical}",
                flush=True,
            )
            total += wrong
    return total


def speed(count: int, random: np.random.Generator) -> None:
    """Time the stages over lengths spread evenly in logarithm from 1 to 10**15."""
    print(f"\nspeed, {count:,} cells, 1 to 1e15 epochs")
    print(f"{'':<30}{'float64':<14} {'followed':<17} {'double-double':<17} prediction")
    print(
        f"{'':<30}{'cells/s':<14} {'cells':<8} {'seconds':<8} {'cells':<8} {'seconds':<8} cells/s"
    )
    for loss, name, largest in (
        ("quadratic", "lr 0.15", None),
        ("quadratic", "lr 0.01 to 1", 0.0),
        ("quadratic", "lr 0.01 to 10^4", 4.0),
        ("cross_entropy", "lr 1e-9 to 1", 0.0),
    ):
        smallest = -9 if loss == "cross_entropy" else -2
        lr = (
            np.full(count, 0.15)
            if largest is None
            else 10 ** random.uniform(smallest, largest, count)
        )
        lengths = 10 ** random.uniform(0, 15, count)
        z0 = np.log(2 * lr * lengths) if loss == "quadratic" else random.uniform(-20, 60, count)
        z0 = np.maximum(z0, -8.0)
        cells = (z0 / 2, z0 - z0 / 2, lr)
        count_epochs(*(c[:50_000] for c in cells), loss=loss)
        counts: EpochCounts = count_epochs(*cells, loss=loss)
        begin = time.perf_counter()
        predict_epochs(*cells, loss=loss)
        predicted = count / (time.perf_counter() - begin)
        first, followed, exact = counts.stages
        print(
            f"{loss + ', ' + name:<30}{first.cells / first.seconds:<14.2e} "
            f"{followed.cells:<8} {followed.seconds:<8.2f} {exact.cells:<8} {exact.seconds:<8.2f} "
            f"{predicted:.2e}"
        )


def main() -> int:
    """Print the tables and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--horizon", type=int, default=20_000)
    parser.add_argument("--digits", type=int, default=4)
    parser.add_argument("--cells", type=float, default=1e6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    wrong = golden()
    wrong += against_simulation(options.cases, options.horizon, random)
    wrong += other_activations(options.cases, min(options.horizon, 20_000), random)
    wrong += against_digits(options.digits, random)
    if options.cells:
        speed(int(options.cells), random)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
