import re

import numpy as np
import pandas as pd
import pytest
from tests.report.tables import HORIZON, atlas, table, with_all_statuses

from plateaumap.report import findings


def said(frame, pattern):
    """The groups of the one sentence that matches."""
    (match,) = [m for s in findings(frame) if (m := re.search(pattern, s))]
    return match.groups()


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
    (share,) = said(frame, r"^quadratic: ([\d.]+) % of the runs with .* after 1,000 epochs\.$")
    assert float(share) == pytest.approx(100 * stuck, abs=0.05)


def test_a_shorter_horizon_replaces_the_1000_epochs():
    frame = atlas(9, horizon=200)
    said(
        frame,
        r"^quadratic: [\d.]+ % of the runs with something to learn are still on their plateau "
        r"after (200) epochs\.$",
    )


def with_a_few_of_each_status(frame):
    changed = with_all_statuses(frame)
    some = np.random.default_rng(4).random(len(frame)) < 0.15
    return pd.concat([changed[some], frame[~some]], ignore_index=True)


def by_hand(frame):
    """Return the bounds of each point's ratio: plain Python over the table's rows."""
    rows = {}
    for row in frame.itertuples():
        if row.status not in ("converged_at_start", "not_finite"):
            seen = {"escaped": row.plateau_epochs, "beyond_int64": 2**63}.get(
                row.status, row.epochs_run
            )
            never = row.status in ("stalled", "stationary")
            bounds = (np.inf if never else seen, seen if row.status == "escaped" else np.inf)
            rows[row.loss, row.w0_index, row.b0_index, row.lr_index] = bounds
    ratios = []
    for (loss, *point), (least, most) in rows.items():
        other = rows.get(("cross_entropy", *point))
        if loss == "quadratic" and other:
            open_ended = most == np.inf and other[1] == np.inf
            ratios.append((0, np.inf) if open_ended else (least / other[1], most / other[0]))
    return np.array(ratios, float).T


@pytest.mark.parametrize("rates", [(0.005, 0.15), (0.15, 0.5), (0.001, 0.01)])
@pytest.mark.parametrize("change", [lambda frame: frame, with_a_few_of_each_status])
def test_the_median_ratio_counts_runs_that_did_not_leave_as_bounds(rates, change):
    frame = change(atlas(9, rates=rates)).sample(frac=1, random_state=3)
    least, most = by_hand(frame)
    low, high = np.median(least), np.median(most)
    median, points, extreme = said(
        frame,
        r"^The plateau is (.*) as long with .* of ([\d,]+) points; the largest ratio is (.*)\.$",
    )
    assert int(points.replace(",", "")) == len(least)
    assert median.startswith("at least") == (low < high == np.inf)
    numbers = [float(n.replace(",", "")) for n in re.findall(r"[\d.,]+", median)]
    assert numbers == pytest.approx([n for n in dict.fromkeys((low, high)) if n < np.inf], rel=5e-3)
    if least.max() < np.inf:
        assert extreme.startswith("at least") == bool((most == np.inf).any())
        assert float(extreme.split()[-1].replace(",", "")) == pytest.approx(least.max(), rel=5e-3)
    else:
        assert extreme == "infinite"
    if (least < most).any():
        (bounds,) = said(frame, r"^At ([\d,]+) of these points the ratio is a bound")
        assert int(bounds.replace(",", "")) == (least < most).sum()


def test_an_unknown_ratio_has_no_sentence():
    sentences = findings(atlas(9, rates=(1e-5, 1e-4)))
    assert not any("ratio" in sentence for sentence in sentences)


def test_runs_of_unknown_length_are_neither_stuck_nor_free():
    frame = table({"w0": np.linspace(1, 5, 20)}, losses=["quadratic"], plateau=lambda *_: 10)
    rows = {"partially_stalled": 2, "stationary": 3, "stalled": 1, "not_finite": 4}
    start = 0
    for status, number in rows.items():
        rows_of_status = slice(start, start + number - 1)
        frame.loc[rows_of_status, ["status", "plateau_epochs", "epochs_run"]] = [status, pd.NA, 5]
        start += number
    known = r"^quadratic: ([\d.]+) .* known to be still .*; for ([\d.]+) % this is unknown"
    assert said(frame, known) == ("25.0", "12.5")


def test_the_horizon_of_a_leap_is_not_exceeded():
    frame = atlas(9, horizon=200)
    frame["epochs_run"] = pd.array([pd.NA] * len(frame), dtype="Int64")
    longest = frame["plateau_epochs"].max()
    assert longest <= 200
    (after,) = said(frame, r"^quadratic: .* are still on their plateau after (\d+) epochs")
    assert int(after) == longest


def test_the_findings_state_the_statuses_that_occur():
    frame = with_all_statuses(atlas(9))
    text = " ".join(findings(frame))
    for words in (
        "zero gradient",
        "stopped by rounding",
        "partly stopped",
        "not finite",
        "2^63",
        "the horizon",
    ):
        assert words in text
    calm = " ".join(findings(table({"w0": [0, 1]})))
    for words in ("zero gradient", "rounding", "not finite", "horizon"):
        assert words not in calm


def test_the_unlucky_start_has_a_length_for_every_rate():
    frame = atlas(9, rates=(0.005, 0.15))
    here = (frame["w0"] == 2) & (frame["b0"] == 2) & (frame["loss"] == "cross_entropy")
    lengths = [f"{row.plateau_epochs} at lr = {row.lr:g}" for row in frame[here].itertuples()]
    (words,) = said(frame, r"^cross-entropy: from the unlucky start .* length in epochs is (.*)\.")
    assert words == ", ".join(lengths)
    huge = atlas(9, rates=(0.0005,))
    (words,) = said(huge, r"^quadratic: from the unlucky start .* length in epochs is (.*)\.")
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
    assert not any("ratio" in s for s in findings(table({"w0": [0, 1]}, losses=["quadratic"])))
