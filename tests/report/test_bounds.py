"""Lengths as bounds: medians against every completion, and what each status says."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.tables import HORIZON, LOSSES, STATUSES, table, with_all_statuses

from plateaumap.report.bounds import Bounds, median_bounds, plateau_bounds, ratio_bounds
from plateaumap.report.lattice import read

INF = np.inf
STATED = {
    "escaped": (40.0, 40.0),
    "censored": (7.0, INF),
    "partially_stalled": (7.0, INF),
    "beyond_int64": (2.0**63, INF),
    "stationary": (INF, INF),
    "stalled": (INF, INF),
    "converged_at_start": (np.nan, np.nan),
    "not_finite": (np.nan, np.nan),
}
GRID = np.array([1.0, 2, 3, 5, 8, 13, INF])
INTERVALS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted), min_size=1, max_size=5
)


def one_of_each() -> pd.DataFrame:
    """A run of each status, all seen for 7 epochs; the one that left did so at epoch 40."""
    frame = table({"w0": np.arange(len(STATUSES), dtype=float)}, losses=["quadratic"])
    frame["status"] = pd.Categorical(list(STATUSES), list(STATUSES))
    frame["plateau_epochs"] = pd.array([40] + [pd.NA] * (len(STATUSES) - 1), dtype="Int64")
    frame["epochs_run"] = pd.array([400] + [7] * (len(STATUSES) - 1), dtype="Int64")
    return frame


def test_what_each_status_says():
    known = plateau_bounds(read(one_of_each(), "test"))
    for status, least, most in zip(STATUSES, *known, strict=True):
        np.testing.assert_equal((least, most), STATED[status])


@pytest.mark.parametrize(
    ("horizon", "predicted", "least"),
    [(None, np.nan, 40), (7, np.nan, 40), (90, np.nan, 90), (90, 60.5, 60.5), (None, 1e30, 40)],
)
def test_a_censored_leap_has_passed_the_horizon_that_the_table_shows(horizon, predicted, least):
    """The horizon is that of a run that was simulated to it, or no less than a plateau's end."""
    frame = one_of_each()
    frame["epochs_run"] = pd.array([pd.NA] * len(frame), dtype="Int64")
    row = STATUSES.index("censored")
    frame.loc[row, "predicted_epochs"] = predicted
    if horizon is not None:
        other = frame.loc[[row]].assign(w0_index=99, w0=99.0, predicted_epochs=np.nan)
        other["epochs_run"] = pd.array([horizon], dtype="Int64")
        frame = pd.concat([frame, other], ignore_index=True)
    known = plateau_bounds(read(frame, "test"))
    assert known.least[row] == least
    assert known.most[row] == INF


@given(INTERVALS)
@settings(deadline=None)
def test_the_median_is_between_the_medians_of_all_completions(intervals):
    low, high = (GRID[[pair[side] for pair in intervals]] for side in (0, 1))
    choices = [GRID[first : last + 1] for first, last in intervals]
    medians = [np.median(values) for values in itertools.product(*choices)]
    assert median_bounds(Bounds(low, high)) == (min(medians), max(medians))


def test_a_lower_bound_above_the_median_does_not_decide_it():
    assert median_bounds(Bounds(np.array([1, 2, 3.0]), np.array([1, 2, INF]))) == (2, 2)
    assert median_bounds(Bounds(np.array([1, 2, 1.5]), np.array([1, 2, INF]))) == (1.5, 2)
    assert median_bounds(Bounds(np.array([1, np.nan]), np.array([1, np.nan]))) == (1, 1)
    assert np.isnan(median_bounds(Bounds(np.array([np.nan]), np.array([np.nan])))).all()


@given(st.sampled_from(STATUSES), st.sampled_from(STATUSES))
def test_a_ratio_is_bounded_by_the_ratios_of_all_completions(one, other):
    sides = [Bounds(*(np.array([bound]) for bound in STATED[status])) for status in (one, other)]
    known = ratio_bounds(*sides)
    if np.isnan(STATED[one][0]) or np.isnan(STATED[other][0]):
        assert np.isnan(known.least[0])
        assert np.isnan(known.most[0])
        return
    values = [
        {least, most, *(v for v in (1e3, 1e300) if least <= v <= most)}
        for least, most in (STATED[one], STATED[other])
    ]
    with np.errstate(invalid="ignore"):
        ratios = [np.divide(a, b) for a in values[0] for b in values[1]]
    if all(STATED[s][1] == INF for s in (one, other)):
        assert (known.least[0], known.most[0]) == (0, INF)
    else:
        assert (known.least[0], known.most[0]) == (min(ratios), max(ratios))


@pytest.mark.parametrize("loss", LOSSES)
def test_tables_of_every_status_have_bounds_in_order(loss):
    frame = with_all_statuses(table({"w0": np.linspace(-4, 8, 60)}, losses=[loss]))
    known = plateau_bounds(read(frame, "test"))
    assert (known.least[known.some] <= known.most[known.some]).all()
    assert known.exact.sum() == (frame["status"] == "escaped").sum()
    assert known.least[(frame["status"] == "censored").to_numpy()].min() == HORIZON
