"""The four demonstrations of the article on which this project is based, with whole curves.

M. Nielsen, Neural Networks and Deep Learning, chapter 3: one sigmoid neuron, input 1, target 0,
300 epochs; an easy start (w = 0.6, b = 0.9) and an unlucky one (w = b = 2); the quadratic loss
at the learning rate 0.15, the cross-entropy at 0.005. The second demonstration is shown three
ways: as the text describes it, as the page's script computes it, and as the text derives it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import pandas as pd

import plateaumap as pm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STARTS = {"easy": (0.6, 0.9), "unlucky": (2.0, 2.0)}
RATES = {"quadratic": 0.15, "cross_entropy": 0.005}
WORDS = {"quadratic": "quadratic loss", "cross_entropy": "cross-entropy"}
EPOCHS = 300


def as_coded(z, y):
    """Return the loss of the page's script, whose gradient is dC/da = 1/(1 − a) instead of a.

    It has no floor, so it has curves but no plateau length.
    """
    return z + jnp.exp(z) + 0 * y


sweep = pm.Sweep(
    name="nielsen_chapter3",
    losses=("quadratic", "cross_entropy"),
    axes=[
        pm.points(w0=[w for w, _ in STARTS.values()], b0=[b for _, b in STARTS.values()]),
        pm.values("lr", sorted(RATES.values())),
    ],
    horizon=20_000,
)


def curve(start: str, loss, lr: float, epochs: int = EPOCHS) -> pd.DataFrame:
    """Return the curve of one demonstration."""
    w, b = STARTS[start]
    return pm.simulate(loss=loss, w0=w, b0=b, lr=lr, epochs=epochs)


def demonstration(start: str, loss: str) -> dict[str, object]:
    """Return the numbers of one column of the article."""
    seen = curve(start, loss, RATES[loss])
    point = dict(zip(("w0", "b0"), STARTS[start], strict=True), lr=RATES[loss])
    measured = pm.evaluate(sweep, point | {"loss": loss})
    return {
        "input": 1.0,
        "target": 0.0,
        "initial weight": STARTS[start][0],
        "initial bias": STARTS[start][1],
        "initial output": seen["output"].iloc[0],
        f"output after {EPOCHS} epochs": seen["output"].iloc[-1],
        "learning rate": RATES[loss],
        "plateau length T10 (epochs)": measured["plateau_epochs"],
        "T10 as a share of T90": measured["plateau_fraction"],
        "initial gradient dC/dz": measured["initial_gradient"],
        "largest gradient over the first": measured["acceleration"],
        "movement of w by T10": measured["w_moved"],
        "movement of b by T10": measured["b_moved"],
        "movement of w in the first epoch": seen["w"].iloc[1] - seen["w"].iloc[0],
    }


def matching_rate(start: str, output: float) -> float:
    """Return the learning rate at which the derived gradient ends at `output`, by bisection."""
    low, high = RATES["cross_entropy"], 1.0
    for _ in range(50):
        middle = (low * high) ** 0.5
        reached = curve(start, "cross_entropy", middle)["output"].iloc[-1] <= output
        low, high = (low, middle) if reached else (middle, high)
    return high


def three_ways(start: str) -> dict[str, object]:
    """Return the cross-entropy demonstration as described, as coded and as derived."""
    rate = RATES["cross_entropy"]
    # The script counts epochs from 0 to 300 and therefore runs 301 updates.
    coded = curve(start, as_coded, rate, EPOCHS + 1)["output"].iloc[-1]
    return {
        "learning rate": rate,
        "as described": f"learned quickly within {EPOCHS} epochs",
        "as coded: output after 301 updates": coded,
        f"as derived: output after {EPOCHS} updates": curve(start, "cross_entropy", rate)[
            "output"
        ].iloc[-1],
        "learning rate that makes the derived gradient end where the script does": matching_rate(
            start, coded
        ),
    }


def both_columns() -> Figure:
    """Draw the article's two columns side by side: each loss at its rate, from both starts."""
    return pm.figures.learning_curves(
        {
            f"{words}, learning rate {RATES[loss]:g}": {
                f"{start} start (w = {w:g}, b = {b:g})": curve(start, loss, RATES[loss])
                for start, (w, b) in STARTS.items()
            }
            for loss, words in {
                "quadratic": "quadratic loss",
                "cross_entropy": "cross-entropy",
            }.items()
        }
    )


def show(results: pm.Results) -> None:
    """Write the tables and figures of the demonstrations into the folder of results."""
    columns = {f"{loss}, {start}": demonstration(start, loss) for loss in RATES for start in STARTS}
    tables = {
        "demonstrations": pd.DataFrame(columns),
        "cross_entropy_three_ways": pd.DataFrame({s: three_ways(s) for s in STARTS}),
    }
    figures = results.path / "figures"
    figures.mkdir(exist_ok=True)
    for name, table in tables.items():
        table.to_csv(results.path / f"{name}.csv", index_label="")
        print(f"\n{name}\n{table.to_string(float_format='{:.4g}'.format)}")
    pm.figures.save(both_columns(), figures / "demonstrations.png")
    for start in STARTS:
        rate = RATES["cross_entropy"]
        matched = matching_rate(start, curve(start, as_coded, rate, EPOCHS + 1)["output"].iloc[-1])
        pm.figures.learning_curves(
            {
                f"as described, at a rate of {matched:.3g}": curve(start, "cross_entropy", matched),
                "as coded": curve(start, as_coded, rate),
                "as derived": curve(start, "cross_entropy", rate),
            }
        ).savefig(figures / f"three_ways_{start}.png")
    print(f"\nfigures and tables are in {results.path}")


if __name__ == "__main__":
    from plateaumap.cli import run_sweep

    run_sweep(sweep, then=show)
