import re

import numpy as np
import pandas as pd
import pytest
from tests.report.tables import HORIZON, atlas, table, with_all_statuses

from plateaumap.report import findings


def said(frame, pattern):
    """The groups of the one sentence that matches."""
    (found,) = [m for s in findings(frame) if (m := re.search(pattern, s))]
    return found.groups()


def test_rows_and_converged_starts_are_counted():
    frame = atlas(9)
    rows, share = said(frame, r"^([\d,]+) runs with quadratic and cross-entropy; ([\d.]+) % start")
    assert int(rows.replace(",", "")) == len(frame)
    assert float(share) == pytest.approx(
        100 * (frame["status"] == "converged_at_start").mean(), abs=0.05
    )


def test_the_share_of_stuck_runs_is_of_those_with_something_to_learn():
    frame = atlas(17, rates=(0.005,), horizon=5000)
    part = frame[(frame["loss"] == "quadratic") & (frame["status"] != "converged_at_start")]
    stuck = (part["plateau_epochs"].isna() | (part["plateau_epochs"] > 1000).fillna(True)).mean()
    (share,) = said(frame, r"^quadratic: ([\d.]+) % of the other runs .* after 1,000 epochs")
    assert float(share) == pytest.approx(100 * stuck, abs=0.05)


def test_a_shorter_horizon_is_asked_for_no_more_than_it_saw():
    frame = atlas(9, horizon=200)
    said(
        frame,
        r"^quadratic: [\d.]+ % of the other runs are still on their plateau after (200) epochs",
    )


def test_the_median_ratio_is_over_points_where_both_left():
    frame = atlas(9).sample(frac=1, random_state=3)
    keys = ["w0_index", "b0_index", "lr_index"]
    wide = frame.pivot(index=keys, columns="loss", values="plateau_epochs").dropna().astype(float)
    ratio = wide["quadratic"] / wide["cross_entropy"]
    count, median, most = said(
        frame, r"\(([\d,]+) points\), it is ([\d.,]+) times .* and ([\d.,]+) times at the most"
    )
    assert int(count.replace(",", "")) == len(wide)
    assert float(median) == pytest.approx(ratio.median(), rel=5e-3)
    assert float(most.replace(",", "")) == pytest.approx(ratio.max(), rel=5e-3)


def test_endings_are_told_as_they_occur():
    frame = with_all_statuses(atlas(9))
    text = " ".join(findings(frame))
    for words in ("stopped by rounding", "partly stopped", "not finite", "2^63", "the horizon"):
        assert words in text
    calm = " ".join(findings(table({"w0": [0, 1]})))
    for words in ("rounding", "not finite", "horizon"):
        assert words not in calm


def test_the_unlucky_start_is_told_for_every_rate():
    frame = atlas(9, rates=(0.005, 0.15))
    here = (frame["w0"] == 2) & (frame["b0"] == 2) & (frame["loss"] == "cross_entropy")
    told = [f"{row.plateau_epochs} at lr = {row.lr:g}" for row in frame[here].itertuples()]
    (words,) = said(frame, r"^cross-entropy: from the unlucky start .* lasts (.*) \(epochs\)")
    assert words == ", ".join(told)
    huge = atlas(9, rates=(0.0005,))
    (words,) = said(huge, r"^quadratic: from the unlucky start .* lasts (.*) \(epochs\)")
    assert words == f"more than {HORIZON:,} at lr = 0.0005"


@pytest.mark.parametrize(
    "frame",
    [
        atlas(8),
        atlas(9, fixed={"y": 1.0}),
        atlas(9, fixed={"x": -1.0}),
        table({"w0": [2.001]}),
    ],
)
def test_another_start_is_not_the_unlucky_one(frame):
    assert not any("unlucky" in sentence for sentence in findings(frame))


def test_a_few_of_very_many_are_not_none():
    frame = table({"w0": np.linspace(-1, 1, 1500)}, losses=["quadratic"])
    frame.loc[7, "status"] = "not_finite"
    frame.loc[7, "plateau_epochs"] = pd.NA
    assert any("less than 0.1 % (1) became not finite" in s for s in findings(frame))


def test_one_loss_has_no_ratio():
    assert not any("times" in s for s in findings(table({"w0": [0, 1]}, losses=["quadratic"])))
