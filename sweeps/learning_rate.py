"""The article's claim for learning rates of seven decades, from lucky to saturated initialisations.

"It is not the speed of learning that matters but how the speed changes." Therefore every quantity
here is independent of the learning rate, or shows the remaining dependence: the plateau length
times the rate, its share of the learning time, the acceleration, the gradient against the error.
Equal rates compare different step sizes. Therefore the losses are also compared at rates for which
the first steps are equal, or the steps close to the target.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

import plateaumap as pm

sweep = pm.Sweep(
    name="learning_rate",
    losses=("quadratic", "cross_entropy"),
    axes=[pm.linspace("w0", -2, 8, 41), pm.geomspace("lr", 1e-4, 1e3, 29)],
    fixed={"b0": 0.0, "y": 0.0},
    horizon=20_000_000,
)

INSIDE = 0.1
"""A target at which both losses have a curvature; at y = 0 both are flat."""

STABLE = 10
"""The largest rate of the sweep at which both losses converge to that target."""

ROUNDING = 1e-9
"""The relative amount by which rounding may raise a plateau fraction above its bound."""


def equal_rate(rows: pd.DataFrame) -> np.ndarray:
    """Return 1: both losses have the same rate."""
    return np.ones(len(rows))


def equal_first_step(rows: pd.DataFrame) -> np.ndarray:
    """Return the factor of the rate that makes the first steps of both losses equal."""
    a = rows["initial_output"].to_numpy()
    return a * (1 - a)


def equal_at_the_target(rows: pd.DataFrame) -> np.ndarray:
    """Return the factor that makes steps near the target equal: lr times curvature times error.

    The curvatures are `(y (1 − y))²` and `y (1 − y)`.
    """
    y = rows["y"].to_numpy()
    return y * (1 - y)


def compared(
    frame: pd.DataFrame, basis: Callable[[pd.DataFrame], np.ndarray], y: float
) -> pd.DataFrame:
    """Return the plateau lengths of a table's points; a basis scales the rate of cross-entropy.

    Lengths are by theory, so that no run is censored. The column `lr` is the rate of the quadratic
    loss in all rows; `lr_used` is the rate of the row.
    """
    leap = {"method": "leap", "horizon": None, "until": "plateau"}
    rates = frame["lr"].unique()
    axes = [
        pm.values("w0", frame["w0"].unique()),
        pm.values("lr", rates[rates < 1.001 * STABLE] if y else rates),
    ]
    fixed = {"b0": 0.0, "y": y}
    quadratic = pm.run(pm.Sweep(losses="quadratic", axes=axes, fixed=fixed, **leap))
    used = quadratic["lr"].to_numpy() * basis(quadratic)
    points = pm.points(w0=quadratic["w0"].tolist(), lr=used.tolist())
    other = pm.run(pm.Sweep(losses="cross_entropy", axes=[points], fixed=fixed, **leap))
    places = {name: quadratic[name] for name in ("w0_index", "lr_index")}
    other = other.assign(lr=quadratic["lr"], lr_used=used, **places)
    both = pd.concat([quadratic.assign(lr_used=quadratic["lr"]), other], ignore_index=True)
    return both.assign(loss=pd.Categorical(both["loss"].astype(str), sweep.loss_names))


def ratios(frame: pd.DataFrame) -> dict[str, float]:
    """Return statistics of T10 of the quadratic loss over T10 of the cross-entropy.

    Runs that did not leave their plateau are bounds; `median_least` and `median_most` are equal
    unless such runs affect the median.
    """
    from plateaumap.report.bounds import median_bounds
    from plateaumap.report.findings import paired_ratios
    from plateaumap.report.lattice import read

    known = paired_ratios(read(frame, "ratios"), sweep.loss_names)
    low, high = median_bounds(known)
    return {
        "count": int(known.some.sum()),
        "bounds": int((known.least < known.most).sum()),
        "least": float(np.nanmin(known.least)),
        "median_least": low,
        "median_most": high,
        "largest": float(np.nanmax(known.most)),
    }


def collapsed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the deviation of T10 times lr from its value at the least rate, by loss and rate.

    `unknown` counts the runs that did not leave their plateau, which no other column includes.
    """
    rows = frame[frame["status"] != "converged_at_start"].sort_values("lr")
    scaled = rows["plateau_epochs"].astype("Float64").astype(float) * rows["lr"]
    limit = scaled.groupby([rows["loss"], rows["w0"]], observed=True).transform("first")
    off = (scaled / limit - 1).abs()
    by = off.groupby([rows["loss"], rows["lr"]], observed=True)
    return by.agg(["median", "max"]).assign(unknown=by.size() - by.count())


def laws_by_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the extremes of fraction and acceleration for each loss and learning rate.

    Only runs that were followed to T90 count; the others have neither measure.

    Args:
        frame: a table of results.

    Returns:
        One row per loss and learning rate with the columns `loss`, `lr`, `runs`,
        `largest_fraction`, `within_bound`, `least_acceleration`, `largest_acceleration` and
        `off_theory`. `within_bound` is whether the largest fraction is at most (1 + 10⁻⁹)/9, which
        is the law of a matching loss for the targets 0 and 1, or while η (1 + x²) ≤ 4.
        `off_theory` is the largest relative deviation of the acceleration of the quadratic loss at
        y = 0 from (4/27)/(a₀² (1 − a₀)), or from 1 if a₀ is below 2/3. It is NaN for other losses
        and targets.

    Raises:
        PlateaumapError: The table lacks a column.
    """
    from plateaumap.report.lattice import require

    columns = ("loss", "lr", "y", "initial_output", "plateau_fraction", "acceleration")
    require(frame, (*columns, "tenth_epochs"), "laws_by_rate")
    followed = frame[frame["tenth_epochs"].notna()]
    groups = followed.groupby(["loss", "lr"], observed=True, sort=True)
    return pd.DataFrame(
        [{"loss": loss, "lr": lr, **_extremes(str(loss), rows)} for (loss, lr), rows in groups]
    )


def _extremes(loss: str, rows: pd.DataFrame) -> dict[str, object]:
    from plateaumap.report.dynamics import MATCHING_FRACTION

    largest, acceleration = rows["plateau_fraction"].max(), rows["acceleration"]
    return {
        "runs": len(rows),
        "largest_fraction": largest,
        "within_bound": bool(largest <= (1 + ROUNDING) * MATCHING_FRACTION),
        "least_acceleration": acceleration.min(),
        "largest_acceleration": acceleration.max(),
        "off_theory": _off_theory(rows) if loss == "quadratic" else np.nan,
    }


def _off_theory(rows: pd.DataFrame) -> float:
    from plateaumap.report.dynamics import quadratic_acceleration

    if (rows["y"] != 0).any():
        return np.nan
    theory = quadratic_acceleration(rows["initial_output"].to_numpy(np.float64))
    return float(np.abs(rows["acceleration"] / theory - 1).max())


def show(results: pm.Results) -> None:
    """Write the tables and figures into the folder of results."""
    frame = results.frame()
    comparisons = {
        f"{basis.__name__}_y_{y:g}": compared(frame, basis, y)
        for basis, y in (
            (equal_rate, 0.0),
            (equal_first_step, 0.0),
            (equal_rate, INSIDE),
            (equal_first_step, INSIDE),
            (equal_at_the_target, INSIDE),
        )
    }
    tables = {
        "laws": laws_by_rate(frame).set_index("loss"),
        "collapse": collapsed(frame),
        "ratios": pd.DataFrame({name: ratios(t) for name, t in comparisons.items()}).T,
    }
    figures = results.path / "figures"
    figures.mkdir(exist_ok=True)
    for name, table in tables.items():
        table.to_csv(results.path / f"{name}.csv")
        print(f"\n{name}\n{table.to_string(float_format='{:.6g}'.format)}")
    for draw in ("collapse", "plateau_fraction", "acceleration", "speed_against_error"):
        pm.figures.save(getattr(pm.figures, draw)(frame), figures / f"{draw}.png")
    for name, table in comparisons.items():
        ratio_map = pm.figures.ratio_map(table, x="w0", y="lr", mark=None)
        pm.figures.save(ratio_map, figures / f"ratio_{name}.png")
    print(f"\nfigures and tables are in {results.path}")


if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(sweep, then=show)
