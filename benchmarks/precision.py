"""What each precision costs and how often it is right, as the tables of docs/precision.md.

`python benchmarks/precision.py [--num 65] [--horizon 100000]`: the atlas on a coarser grid, and as
many starts drawn at random, in each precision against float64. Also the textbook cross-entropy
beside the stable one. Prints Markdown. A few minutes on two cores.
"""

import argparse
import time

import jax
import mpmath
import numpy as np
import pandas as pd

import plateaumap as pm

RATES = [0.001, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5, 10]
PRECISIONS = ("float64", "float32", "float32_plain")
CROSSINGS = ("plateau_epochs", "half_epochs", "tenth_epochs")


def axes(kind: str, num: int) -> list:
    """Return the starts of a sweep: on the atlas's grid, or drawn from its square."""
    if kind == "grid":
        return [pm.linspace(name, -8, 8, num) for name in ("w0", "b0")]
    return [pm.uniform(name, -8, 8, num, seed) for seed, name in enumerate(("w0", "b0"))]


def evaluated(kind: str, num: int, horizon: int) -> dict[str, tuple[pd.DataFrame, float]]:
    """Return the table of each precision, and the seconds that it took once compiled."""
    tables = {}
    for precision in PRECISIONS:
        sweep = pm.Sweep(
            axes=[*axes(kind, num), pm.values("lr", RATES)], horizon=horizon, precision=precision
        )
        pm.run(sweep)  # compiles
        begin = time.perf_counter()
        frame = pm.run(sweep)
        tables[precision] = frame, time.perf_counter() - begin
    return tables


def distances(frame: pd.DataFrame, exact: pd.DataFrame) -> np.ndarray:
    """Return the largest error of a row's crossings in epochs, inf where one is there in vain."""
    errors = []
    for name in CROSSINGS:
        here, there = (f[name].to_numpy(float, na_value=np.nan) for f in (frame, exact))
        error = np.where(np.isnan(here) & np.isnan(there), 0, np.abs(here - there))
        errors.append(np.nan_to_num(error, nan=np.inf))
    return np.max(errors, axis=0)


def judged(frame: pd.DataFrame, exact: pd.DataFrame, seconds: float) -> dict[str, object]:
    """Return what is told of one precision."""
    running = (exact["status"] != "converged_at_start").to_numpy()
    frame, exact = frame[running], exact[running]
    error = distances(frame, exact)
    stalled = frame["status"].isin(["stalled", "partially_stalled"]).to_numpy()
    uncertain = frame.get("uncertain", pd.Series(False, frame.index)).to_numpy()
    marked = stalled | uncertain
    off = error > 1
    finite = error[np.isfinite(error) & ~stalled]
    return {
        "seconds": f"{seconds:.1f}",
        "rows that run": f"{len(frame):,}",
        "all crossings exact": f"{np.mean(error == 0):.2%}",
        "off by one epoch": f"{np.sum(error == 1):,}",
        "off by more": f"{np.sum(off):,}",
        "largest error (epochs)": f"{finite.max():,.0f}",
        "stalled, in part": f"{np.sum(stalled):,}",
        "uncertain": f"{np.sum(uncertain & ~stalled):,}",
        "off by more, unmarked": f"{np.sum(off & ~marked):,}",
        "marked needlessly": f"{np.sum(marked & ~stalled & ~off):,}",
    }


def textbook() -> pd.DataFrame:
    """Return the cross-entropy of y = 0 by the formula of the book, by ours, and exactly."""
    rows = []
    for z in (-800.0, -40.0, -20.0, 20.0, 36.0, 37.0, 800.0):
        with np.errstate(all="ignore"):
            a = 1 / (1 + np.exp(-np.float64(z)))
            loss = -(0 * np.log(a) + 1 * np.log(1 - a))
            slope = (a - 0) / (a * (1 - a)) * (a * (1 - a))
        with jax.enable_x64(True):
            ours, gradient = jax.value_and_grad(pm.losses.cross_entropy)(z, 0.0)
        rows.append(
            {
                "z": f"{z:g}",
                "textbook loss": f"{loss:.6g}",
                "ours": f"{ours:.6g}",
                "exact loss": mpmath.nstr(mpmath.log1p(mpmath.exp(z)), 6),
                "textbook gradient": f"{slope:.6g}",
                "our gradient": f"{float(gradient) + 0.0:.6g}",
            }
        )
    return pd.DataFrame(rows)


def markdown(frame: pd.DataFrame) -> str:
    """Return a table in Markdown."""
    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.to_numpy()]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=65)
    parser.add_argument("--horizon", type=int, default=100_000)
    options = parser.parse_args()
    for kind, title in (("grid", "Starts on a grid"), ("random", "Starts drawn at random")):
        tables = evaluated(kind, options.num, options.horizon)
        exact = tables["float64"][0]
        columns = {name: judged(*tables[name][:1], exact, tables[name][1]) for name in PRECISIONS}
        table = pd.DataFrame(columns).reset_index(names=f"horizon {options.horizon:,}")
        print(f"{title}\n\n{markdown(table)}\n", flush=True)
    print(f"The cross-entropy of y = 0, in float64\n\n{markdown(textbook())}")


if __name__ == "__main__":
    main()
