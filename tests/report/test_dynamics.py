import numpy as np
import pytest
from tests.report.layout import legend_labels, problems
from tests.report.tables import LOSSES, atlas, table, with_all_statuses

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.dynamics import exponents, quadratic_acceleration, quadratic_exponent
from plateaumap.report.figures import acceleration, collapse, plateau_fraction, speed_against_error

FINE = table({"w0": np.linspace(-6, 6, 121)})


def test_theorys_exponent_is_the_slope_of_the_gradient():
    e = np.linspace(0.05, 0.95, 19)
    step = 1e-6

    def speed(error):
        return np.log(error**2 * (1 - error))

    slope = (speed(e + step) - speed(e - step)) / (2 * step) * e
    np.testing.assert_allclose(quadratic_exponent(e), slope, rtol=1e-6, atol=1e-6)
    assert quadratic_exponent(1 / (1 + np.exp(-4.0))) == pytest.approx(-52.6, abs=0.05)


def test_theorys_acceleration_is_the_peak_over_the_start():
    a0 = np.array([0.3, 0.6, 0.7, 0.9, 0.999])
    a = np.linspace(0, 1, 200_001)[:, None]
    gradient = np.where(a <= a0, a**2 * (1 - a), 0)
    expected = np.maximum(gradient.max(axis=0) / (a0**2 * (1 - a0)), 1)
    np.testing.assert_allclose(quadratic_acceleration(a0), expected, rtol=1e-3)


def test_measured_exponents_agree_with_theory():
    place = np.linspace(-8, 8, 161)
    error = 1 / (1 + np.exp(-place))
    quadratic = exponents(error, error**2 * (1 - error), 1.0)
    np.testing.assert_allclose(quadratic, quadratic_exponent(error), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(exponents(error, error, 1.0)[1:-1], 1.0, rtol=0.01)


def test_speed_is_drawn_at_its_error():
    figure = speed_against_error(FINE)
    speed = figure.axes[0]
    error, gradient = speed.lines[0].get_data()
    np.testing.assert_allclose(gradient, error**2 * (1 - error))
    error, gradient = speed.lines[1].get_data()
    np.testing.assert_allclose(gradient, error)
    assert "theory: $(2 - 3e)/(1 - e)$" in legend_labels(figure)


def test_no_theory_is_claimed_for_other_targets():
    figure = speed_against_error(table({"w0": np.linspace(0, 6, 61)}, fixed={"y": 0.25}))
    assert not any("theory" in label for label in legend_labels(figure))


def test_accelerations_are_drawn_at_their_first_output():
    panel = acceleration(FINE).axes[0]
    for line, loss in zip(panel.lines, LOSSES, strict=False):
        part = FINE[(FINE["loss"] == loss) & (FINE["status"] == "escaped")]
        a, value = line.get_data()
        np.testing.assert_allclose(np.sort(a), np.sort(part["initial_output"]))
        expected = quadratic_acceleration(a) if loss == "quadratic" else np.ones(len(a))
        np.testing.assert_allclose(value, expected)
    a, value = panel.lines[2].get_data()
    np.testing.assert_allclose(value, quadratic_acceleration(a))


def test_rates_collapse_onto_one_curve():
    frame = atlas(17, rates=(1e-4, 1e-5), horizon=10**12)
    for panel in collapse(frame).axes:
        first, second = (dict(zip(*line.get_data(), strict=True)) for line in panel.lines)
        assert first.keys() == second.keys()
        for z in first:
            assert first[z] == pytest.approx(second[z], rel=1e-2)


def fractions_by_hand(rows):
    """Return the bounds of each run's fraction: what was seen, or what can still be."""
    bounds = []
    for row in rows.itertuples():
        if np.isfinite(row.plateau_fraction):
            bounds.append((row.plateau_fraction,) * 2)
        elif row.status == "escaped":
            bounds.append((0, min(1, row.plateau_epochs / row.epochs_run)))
        elif row.status in ("censored", "partially_stalled", "beyond_int64"):
            bounds.append((0, 1))
    return np.array(bounds, float)


@pytest.mark.parametrize("change", [lambda frame: frame, with_all_statuses])
def test_fractions_have_a_median_and_a_range(change):
    frame = change(atlas(9, rates=(0.005, 0.15, 0.5)))
    rng = np.random.default_rng(1)
    seen = (frame["status"] == "escaped") & (rng.random(len(frame)) < 0.9)
    frame["plateau_fraction"] = np.where(seen, rng.random(len(frame)), np.nan)
    panel = plateau_fraction(frame).axes[0]
    for place, loss in enumerate(LOSSES):
        band, bars = panel.collections[2 * place : 2 * place + 2]
        groups = [rows for _, rows in frame[frame["loss"] == loss].groupby("lr")]
        medians = [np.median(fractions_by_hand(rows), axis=0) for rows in groups]
        ends = [segment[:, 1] for segment in bars.get_segments()]
        np.testing.assert_allclose(ends, medians)
        np.testing.assert_allclose(panel.lines[place].get_ydata(), np.mean(medians, axis=1))
        reach = band.get_paths()[0].vertices[:, 1]
        fractions = frame.loc[frame["loss"] == loss, "plateau_fraction"]
        assert reach.min() == pytest.approx(fractions.min())
        assert reach.max() == pytest.approx(fractions.max())
    assert panel.lines[2].get_ydata()[0] == pytest.approx(1 / 9)


@pytest.mark.parametrize(
    ("draw", "frame", "words"),
    [
        (speed_against_error, table({"w0": [0, 1]}), "2 different errors"),
        (speed_against_error, table({"y": [0, 1]}), "y takes 2 values"),
        (acceleration, table({"w0": [20, 21]}), "no run"),
        (collapse, table({"w0": [0, 1]}), "'lr' does not vary"),
        (plateau_fraction, table({"w0": [0, 1]}), "'lr' does not vary"),
        (plateau_fraction, table({"lr": [0.1, 1]}, fixed={"w0": -20}), "no run"),
    ],
)
def test_refusals(draw, frame, words):
    with pytest.raises(PlateaumapError, match=words):
        draw(frame)


@pytest.mark.parametrize("size", ["page", "column"])
@pytest.mark.parametrize("draw", [speed_against_error, acceleration, collapse, plateau_fraction])
def test_nothing_lies_on_anything_else(draw, size):
    frame = atlas(17, rates=np.geomspace(0.001, 10, 9), horizon=10**9)
    assert problems(draw(frame, size=size)) == []
