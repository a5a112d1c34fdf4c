import itertools

import numpy as np
import pandas as pd
import pytest
from sweeps.figures.confidently_wrong import confidently_wrong
from tests.report.layout import legend_labels, problems

from plateaumap.inputs.errors import PlateaumapError

SHARES = np.linspace(0.125, 1, 8)
STARTS = (2.0, 8.0)
ALONE = {2.0: 70, 8.0: 60_000}


def made_up() -> pd.DataFrame:
    rows = [
        {
            "loss": loss,
            "share": share,
            "z0": start,
            "status": "censored" if (loss, share, start) == ("quadratic", 1, 8) else "escaped",
            "plateau_epochs": round(start * (10 + 90 * share * start * (loss == "quadratic"))),
            "predicted_epochs": start * (10 + 80 * share * start * (loss == "quadratic")),
        }
        for loss, share, start in itertools.product(("quadratic", "cross_entropy"), SHARES, STARTS)
    ]
    frame = pd.DataFrame(rows).astype({"plateau_epochs": "Int64"})
    frame.loc[frame["status"] == "censored", "plateau_epochs"] = pd.NA
    return frame.sample(frac=1, random_state=1).sort_values("loss", ascending=False, kind="stable")


def column(frame: pd.DataFrame, loss: str, name: str, **at: float) -> np.ndarray:
    rows = frame[(frame["loss"] == loss)]
    for key, value in at.items():
        rows = rows[rows[key] == value]
    along = "share" if "z0" in at else "z0"
    return rows.sort_values(along)[name].to_numpy(float, na_value=np.nan)


def test_lines_are_the_lengths_their_ratio_and_theory() -> None:
    frame = made_up()
    over_share, ratio, over_start = confidently_wrong(frame, alone=ALONE).axes
    lines = iter(over_share.lines)
    for start, loss in itertools.product(STARTS, ("quadratic", "cross_entropy")):
        for name in ("plateau_epochs", "predicted_epochs"):
            expected = np.c_[SHARES, column(frame, loss, name, z0=start)]
            np.testing.assert_array_equal(next(lines).get_xydata(), expected)
    lines = iter(ratio.lines)
    for start in STARTS:
        for name in ("plateau_epochs", "predicted_epochs"):
            first, last = (column(frame, n, name, z0=start) for n in ("quadratic", "cross_entropy"))
            np.testing.assert_allclose(next(lines).get_ydata(), first / last)
    for place, loss in enumerate(("quadratic", "cross_entropy")):
        expected = np.c_[STARTS, column(frame, loss, "plateau_epochs", share=0.5)]
        np.testing.assert_array_equal(over_start.lines[2 * place].get_xydata(), expected)
    np.testing.assert_array_equal(over_start.lines[-1].get_xydata(), list(ALONE.items()))


def test_the_censored_run_has_no_length_and_the_legend_names_all() -> None:
    figure = confidently_wrong(made_up(), alone=ALONE)
    assert np.isnan(figure.axes[0].lines[4].get_ydata()[-1])
    labels = legend_labels(figure)
    assert {"quadratic loss", "cross-entropy", "theory", "one wrong sample alone"} <= set(labels)
    assert "one wrong sample alone" not in legend_labels(confidently_wrong(made_up()))


@pytest.mark.parametrize("size", ["page", "column"])
def test_nothing_lies_on_anything_else(size: str) -> None:
    assert problems(confidently_wrong(made_up(), alone=ALONE, size=size)) == []


def test_a_table_without_shares_is_refused() -> None:
    with pytest.raises(PlateaumapError, match="share"):
        confidently_wrong(made_up().drop(columns="share"))
