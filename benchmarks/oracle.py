"""How many rows of a float64 sweep differ from 50-digit arithmetic, over random runs.

`python benchmarks/oracle.py [--count 2000] [--seed 0] [--horizon 20000]`; a row that differs is
printed with the line that reproduces it, and the exit code is 1. Takes a few minutes on two cores.
"""

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.oracle import Answer, Config, answer, random_config


def rows(configs: list[Config], precision: str) -> list[dict]:
    """Return the engine's row for each run."""
    import plateaumap as pm

    found: dict[int, dict] = {}
    for loss in ("quadratic", "cross_entropy"):
        places = [i for i, config in enumerate(configs) if config.loss == loss]
        if not places:
            continue
        names = ("w0", "b0", "lr", "x", "y")
        points = {name: [getattr(configs[i], name) for i in places] for name in names}
        horizon, tolerance = configs[0].horizon, configs[0].tolerance
        sweep = pm.Sweep(
            losses=loss,
            axes=[pm.points(**points)],
            horizon=horizon,
            tolerance=tolerance,
            precision=precision,
        )
        found |= dict(zip(places, pm.run(sweep).to_dict("records"), strict=True))
    return [found[i] for i in range(len(configs))]


def exactly(configs: list[Config]) -> list[Answer]:
    """Return the oracle's answers, one process for each core."""
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        return list(pool.map(answer, configs, chunksize=10))


def main() -> int:
    """Compare, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--horizon", type=int, default=20_000)
    parser.add_argument("--precision", default="float64")
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    configs = [random_config(random, options.horizon) for _ in range(options.count)]

    begin = time.perf_counter()
    found = rows(configs, options.precision)
    middle = time.perf_counter()
    expected = exactly(configs)
    end = time.perf_counter()

    wrong = 0
    for config, row, exact in zip(configs, found, expected, strict=True):
        if different := exact.differences(row):
            wrong += 1
            print(f"wrong: {'; '.join(different)}\n  {config}")
    print(", ".join(f"{n} {status}" for status, n in Counter(e.status for e in expected).items()))
    print(f"engine {middle - begin:.0f} s, oracle {end - middle:.0f} s")
    print(
        f"{wrong} wrong of {options.count} (status, T10, T50, T90, steepest epoch, epochs run; "
        f"seed {options.seed}, horizon {options.horizon}, {options.precision})"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
