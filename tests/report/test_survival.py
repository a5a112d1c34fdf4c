import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.layout import problems
from tests.report.tables import HORIZON, STATUSES, atlas, table, with_all_statuses

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.figures import survival
from plateaumap.report.survival import kaplan_meier

LIVES = st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=30)


@given(LIVES)
def test_kaplan_meier_is_the_product_over_events(lives):
    times, ended = zip(*lives, strict=True)
    estimate = kaplan_meier(times, ended)
    share, expected = 1.0, {}
    for t in sorted({t for t, e in lives if e}):
        at_risk = sum(other >= t for other, _ in lives)
        died = sum(other == t and e for other, e in lives)
        share *= 1 - died / at_risk
        expected[t] = share
    assert estimate.epochs.tolist() == list(expected)
    np.testing.assert_allclose(estimate.shares, list(expected.values()), atol=1e-12)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_without_censoring_it_is_the_share_that_is_longer(times):
    estimate = kaplan_meier(times, [True] * len(times))
    longer = [np.mean(np.array(times) > t) for t in estimate.epochs]
    np.testing.assert_allclose(estimate.shares, longer, atol=1e-12)


@given(LIVES, st.integers(2, 5))
def test_a_weight_counts_like_that_many_runs(lives, times_over):
    times, ended = map(list, zip(*lives, strict=True))
    weights = [times_over if i == 0 else 1 for i in range(len(times))]
    repeated = kaplan_meier(
        times + times[:1] * (times_over - 1), ended + ended[:1] * (times_over - 1)
    )
    np.testing.assert_allclose(kaplan_meier(times, ended, weights).shares, repeated.shares)


def test_freireich_leukemia_trial():
    """6-MP arm of Freireich et al. (1963), the estimate as printed in textbooks."""
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    ended = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    estimate = kaplan_meier(times, ended)
    assert estimate.epochs.tolist() == [6, 7, 10, 13, 16, 22, 23]
    printed = [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448]
    np.testing.assert_allclose(estimate.shares, printed, atol=5e-4)


EVERY_STATUS = [
    ("escaped", 2),
    ("escaped", 4),
    ("escaped", 4),
    ("escaped", 8),
    ("stationary", 0),
    ("stalled", 1),
    ("partially_stalled", 3),
    ("not_finite", 3),
    ("censored", 6),
    ("beyond_int64", None),
    ("converged_at_start", 0),
]
"""Runs and their epochs: T10 of one that left, the last epoch of the others."""

BY_HAND = {2: 9 / 10, 4: 9 / 10 * 5 / 7, 8: 9 / 10 * 5 / 7 * 3 / 4}
"""10 runs have a plateau; 7 are at risk at epoch 4, and 4 at epoch 8."""


def every_status() -> pd.DataFrame:
    frame = table({"w0": np.arange(len(EVERY_STATUS), dtype=float)}, losses=["quadratic"])
    statuses, epochs = zip(*EVERY_STATUS, strict=True)
    frame["status"] = pd.Categorical(statuses, STATUSES)
    escaped = frame["status"] == "escaped"
    run = pd.Series(pd.array(epochs, dtype="Int64"))
    frame["plateau_epochs"] = run.where(escaped)
    frame["epochs_run"] = run.mask(escaped, 99)
    return frame


def test_every_status_is_in_the_curve_as_it_is_stated():
    panel = survival(every_status()).axes[0]
    x, y = panel.lines[0].get_data()
    assert dict(zip(x[1:-1].tolist(), y[1:-1].tolist(), strict=True)) == pytest.approx(BY_HAND)
    assert (x[0], y[0]) == (0.5, 1)
    # Nobody is known to leave after the last event, and some never do.
    assert x[-1] == panel.get_xlim()[1]
    assert y[-1] == pytest.approx(BY_HAND[8])
    assert panel.lines[1].get_xdata()[0] == 2.0**63


@given(
    st.lists(
        st.tuples(st.sampled_from(STATUSES), st.integers(1, 9)), min_size=2, max_size=12
    ).filter(lambda runs: any(status != "converged_at_start" for status, _ in runs))
)
@settings(max_examples=25, deadline=None)
def test_the_curve_is_the_product_over_runs_at_risk(runs):
    frame = table({"w0": np.arange(len(runs), dtype=float)}, losses=["quadratic"])
    statuses, epochs = zip(*runs, strict=True)
    frame["status"] = pd.Categorical(statuses, STATUSES)
    frame["epochs_run"] = pd.array(epochs, dtype="Int64")
    frame["plateau_epochs"] = frame["epochs_run"].where(frame["status"] == "escaped")
    until = {"stationary": np.inf, "stalled": np.inf, "beyond_int64": 2.0**63}
    lives = [(until.get(s, t), s == "escaped") for s, t in runs if s != "converged_at_start"]
    share, expected = 1.0, {}
    for t in sorted({t for t, left in lives if left}):
        share *= 1 - sum(life == (t, True) for life in lives) / sum(u >= t for u, _ in lives)
        expected[float(t)] = share
    x, y = survival(frame).axes[0].lines[0].get_data()
    assert dict(zip(x[1:-1].tolist(), y[1:-1].tolist(), strict=True)) == pytest.approx(expected)
    assert y[-1] == pytest.approx(share)


def test_a_table_from_before_a_status_was_known_is_drawn():
    frame = with_all_statuses(atlas(9))
    old = [status for status in STATUSES if status != "stationary"]
    frame = frame[frame["status"] != "stationary"].reset_index(drop=True)
    frame["status"] = frame["status"].cat.set_categories(old)
    new = frame.assign(status=frame["status"].cat.set_categories(STATUSES))
    for line, other in zip(*(survival(t).axes[0].lines for t in (frame, new)), strict=True):
        np.testing.assert_array_equal(line.get_data(), other.get_data())


def test_all_censored_at_one_horizon_is_the_plain_share():
    frame = atlas(9, rates=(0.15,))
    figure = survival(frame)
    part = frame[(frame["loss"] == "quadratic") & (frame["status"] != "converged_at_start")]
    for epochs, share in zip(*figure.axes[0].lines[0].get_data(), strict=True):
        gone = (part["plateau_epochs"] <= epochs).sum()
        assert share == pytest.approx(1 - gone / len(part))
    assert figure.axes[0].lines[0].get_xdata()[-1] == HORIZON


def test_each_learning_rate_has_its_line():
    figure = survival(atlas(9))
    for panel in figure.axes:
        lines = [line for line in panel.lines if line.get_marker() != "+"]
        assert len(lines) == 2


def test_weights_choose_the_distribution_of_starts():
    frame = table({"w0": np.linspace(-4, 6, 41)})
    only = (frame["w0_index"] == 30).to_numpy(float)
    figure = survival(frame, weights=only)
    row = frame[(frame["w0_index"] == 30) & (frame["loss"] == "quadratic")].iloc[0]
    x, y = figure.axes[0].lines[0].get_data()
    np.testing.assert_allclose(x, [0.5, row["plateau_epochs"], row["plateau_epochs"]])
    assert y.tolist() == [1, 0, 0]
    called = survival(frame, weights=lambda t: np.exp(-(t["w0"] ** 2) / 2))
    assert called.axes[0].lines[0].get_ydata()[0] == 1


@pytest.mark.parametrize("weights", [[1, 2], -1.0, np.inf])
def test_bad_weights_are_refused(weights):
    frame = table({"w0": np.linspace(-1, 1, 5)})
    given = weights if isinstance(weights, list) else np.full(len(frame), weights)
    with pytest.raises(PlateaumapError, match="weights of shape"):
        survival(frame, weights=given)


def test_nothing_to_survive_is_refused():
    with pytest.raises(PlateaumapError, match="no row"):
        survival(table({"w0": [-20.0, -19.0]}))


@pytest.mark.parametrize("size", ["page", "column"])
@pytest.mark.parametrize(
    "frame",
    [
        with_all_statuses(atlas(9, rates=np.geomspace(0.001, 10, 9))),
        table({"w0": np.linspace(-4, 6, 41)}, losses=["quadratic"]),
    ],
)
def test_nothing_lies_on_anything_else(frame, size):
    assert problems(survival(frame, size=size)) == []
