"""The laws of a sweep by learning rate, as the tables of docs/learning_rate.md.

`python benchmarks/laws.py results/plateau_atlas`; prints Markdown.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

import plateaumap as pm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sweeps.learning_rate import laws_by_rate

WORDS = {
    "lr": "learning rate",
    "runs": "runs to T90",
    "largest_fraction": "largest F",
    "nine": "9 F − 1",
    "least_acceleration": "least acceleration",
    "largest_acceleration": "largest acceleration",
    "off_theory": "farthest from theory",
}


def markdown(laws: pd.DataFrame) -> str:
    """Return the rows of one loss as a Markdown table."""
    shown = pd.DataFrame(
        {
            "lr": laws["lr"].map("{:g}".format),
            "runs": laws["runs"].map("{:,}".format),
            "largest_fraction": laws["largest_fraction"].map("{:.10f}".format),
            "nine": (9 * laws["largest_fraction"] - 1).map("{:.1e}".format),
            "least_acceleration": laws["least_acceleration"].map("{:.6g}".format),
            "largest_acceleration": laws["largest_acceleration"].map("{:.6g}".format),
            "off_theory": laws["off_theory"].map("{:.2g}".format),
        }
    )
    if laws["off_theory"].isna().all():
        shown = shown.drop(columns="off_theory")
    lines = [[WORDS[name] for name in shown], ["---:"] * len(shown.columns), *shown.to_numpy()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Print a table for each loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    folder = parser.parse_args().folder
    laws = laws_by_rate(pm.load(folder))
    for loss, rows in laws.groupby("loss", observed=True):
        print(f"{loss}, {folder}\n\n{markdown(rows)}\n")


if __name__ == "__main__":
    main()
