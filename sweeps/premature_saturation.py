"""The probability that an output starts saturated and wrong, and that it is stuck there.

A unit with many inputs and wide weights starts at an end of its sigmoid, half of the time at the
wrong end. The sweep samples weights (Monte Carlo) and compares the shares with formulas: the
distribution of a sum of independent weights and, through the map of plateaus, the probability of
being stuck for longer than the horizon of the sweep (`plateaumap risk`). Units that start near
their target and take as long are counted separately. Y. Lee, S.-H. Oh and M. W. Kim ("The effect of
initial weights on premature saturation in back-propagation learning", IJCNN 1991) studied the range
of the weights, the fan-in and the slope in this way.
"""

import itertools

import numpy as np
import pandas as pd

import plateaumap as pm

DRAWS = 2000
FAN_INS = (10, 100, 1000)
HALF_WIDTHS = np.geomspace(0.03, 3, 9)
SLOPES = (0.5, 2.0)
LEARNING_RATE = 0.05
WRONG_ERROR = 0.5
"""The least error of a unit that starts wrong; a unit with a smaller error is not stuck."""

SETTINGS = list(itertools.product(FAN_INS, HALF_WIDTHS, SLOPES))


def drawn() -> dict[str, list[float]]:
    """Return the neurons that are equivalent to units of every setting, `DRAWS` of each.

    A slope multiplies the pre-activation by the slope and the learning rate by its square. Inputs
    of size 1 are equivalent to one input of their norm.
    """
    random = np.random.default_rng(2026)
    columns: dict[str, list[np.ndarray]] = {"b0": [], "x": [], "lr": []}
    for fan_in, half_width, slope in SETTINGS:
        weights = random.uniform(-half_width, half_width, (DRAWS, fan_in))
        columns["b0"].append(slope * weights.sum(axis=1))
        columns["x"].append(np.full(DRAWS, np.sqrt(fan_in)))
        columns["lr"].append(np.full(DRAWS, LEARNING_RATE * slope**2))
    return {name: np.concatenate(parts).tolist() for name, parts in columns.items()}


sweep = pm.Sweep(
    name="premature_saturation",
    losses=("quadratic", "cross_entropy"),
    axes=[pm.points(**drawn())],
    fixed={"w0": 0.0, "y": 0.0},
    horizon=300,
    until="plateau",
)


def compared(frame: pd.DataFrame, epochs: int) -> pd.DataFrame:
    """Return the sampled shares and the formulas for each setting and loss."""
    setting = frame["b0_index"] // DRAWS
    slow = ~frame["status"].isin(["escaped", "converged_at_start"])
    starts_wrong = frame["initial_output"] >= WRONG_ERROR
    shares = pd.DataFrame(
        {
            "loss": frame["loss"],
            "setting": setting,
            "wrong": frame["initial_output"] >= 0.99,
            "stuck": slow & starts_wrong,
            "near": slow & ~starts_wrong,
        }
    )
    shares = shares.groupby(["loss", "setting"], observed=True, as_index=False).mean()
    rows = []
    for row in shares.itertuples():
        fan_in, half_width, slope = SETTINGS[row.setting]
        start = pm.Initialisation.named("uniform", fan_in, scale=float(half_width))
        risk = pm.risk(
            start, LEARNING_RATE, epochs, str(row.loss), slope=slope, wrong_error=WRONG_ERROR
        )
        known = {"loss": row.loss, "fan_in": fan_in, "half_width": half_width, "slope": slope}
        for event, share, formula in (
            ("wrong", row.wrong, risk.wrong),
            ("stuck", row.stuck, risk.stuck),
            ("near", row.near, risk.near),
        ):
            rows.append({**known, "event": event, "drawn": share, "formula": formula})
    return pd.DataFrame(rows).assign(draws=DRAWS)


def show(results: pm.Results) -> None:
    """Write the table and the figure into the folder of results."""
    from figures.premature_saturation import premature_saturation

    epochs = results.sweep.horizon
    table = compared(results.frame(), epochs)
    figures = results.path / "figures"
    figures.mkdir(exist_ok=True)
    table.to_csv(results.path / "premature_saturation.csv", index=False)
    figure = premature_saturation(table, epochs=epochs)
    pm.figures.save(figure, figures / "premature_saturation.png")
    error = np.sqrt(table["formula"] * (1 - table["formula"]) / DRAWS)
    off = (table["drawn"] - table["formula"]).abs()
    print(table.to_string(float_format="{:.4g}".format))
    print(
        f"\nof {len(table)} shares {np.mean(off <= 2 * error):.1%} lie within two standard errors "
        f"of the formula, {np.mean(off <= 4 * error):.1%} within four"
    )
    print(f"figure and table are in {results.path}")


if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(sweep, then=show)
