import numpy as np
import pandas as pd
import pytest
from tests.report.layout import legend_labels, problems
from tests.report.tables import HORIZON, LOSSES, atlas, table, with_all_statuses

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.figures import difference_map, ratio_map

COMBINE = {ratio_map: np.divide, difference_map: np.subtract}
FUNCTIONS = list(COMBINE)


def image(panel):
    mappable = [*panel.images, *panel.collections][0]
    return np.ma.MaskedArray(mappable.get_array()).astype(float).filled(np.nan)


def known(row):
    """What is known of a length: the length, or what it exceeds; and whether it exceeds it."""
    if row.status == "escaped":
        return float(row.plateau_epochs), False
    if row.status in ("censored", "partially_stalled"):
        return float(row.epochs_run), True
    if row.status == "beyond_int64":
        return 2.0**63, True
    return np.nan, False


def expected(frame, rate, combine):
    """Brute force: values of each (b0, w0), and where they are lower and upper bounds."""
    num = frame["w0_index"].max() + 1
    values, low, high = np.full((num, num), np.nan), *np.zeros((2, num, num), bool)
    part = frame[frame["lr_index"] == rate].set_index(["loss", "b0_index", "w0_index"])
    for b, w in np.ndindex(num, num):
        (first, over), (second, under) = (known(part.loc[loss, b, w]) for loss in LOSSES)
        if over and under:
            continue
        values[b, w] = combine(first, second)
        low[b, w] = over and np.isfinite(second)
        high[b, w] = under and np.isfinite(first)
    return values, low, high


@pytest.mark.parametrize("draw", FUNCTIONS)
def test_cells_show_the_comparison_and_its_bounds(draw):
    frame = with_all_statuses(atlas(9)).sample(frac=1, random_state=5)
    figure = draw(frame)
    span = np.linspace(-8, 8, 9)
    centres = np.stack(np.meshgrid(span, span), axis=-1).reshape(-1, 2)
    for rate in range(2):
        panel = figure.axes[rate]
        values, low, high = expected(frame, rate, COMBINE[draw])
        np.testing.assert_allclose(image(panel), values)
        for words, cells in (("lower bound", low), ("upper bound", high)):
            patches = [p for p in panel.patches if p.get_label().startswith(words)]
            covered = np.zeros(cells.shape, bool)
            for patch in patches:
                covered |= patch.get_path().contains_points(centres).reshape(cells.shape)
            np.testing.assert_array_equal(covered, cells)


@pytest.mark.parametrize(("draw", "neutral"), [(ratio_map, 1.0), (difference_map, 0.0)])
def test_the_middle_of_the_colours_means_alike(draw, neutral):
    figure = draw(atlas(9))
    norm = figure.axes[0].images[0].norm
    assert norm(neutral) == pytest.approx(0.5)
    assert len({id(panel.images[0].norm) for panel in figure.axes[:-1]}) == 1


def test_the_scale_ends_where_the_values_do():
    frame = table({"w0": [1, 2, 3]}, {"b0": [0, 1, 2]}, horizon=10**6)
    figure = ratio_map(frame)
    ratios = image(figure.axes[0])
    low, high = figure.axes[-1].get_xlim()
    assert low == pytest.approx(1.0)
    assert high == pytest.approx(np.nanmax(ratios))


def test_cells_where_the_first_is_shorter_are_hatched():
    frame = table(
        {"w0": [0, 1]}, {"b0": [0, 1]}, plateau=lambda loss, p: 5 if loss == LOSSES[0] else 50
    )
    assert "quadratic loss is shorter" in legend_labels(ratio_map(frame))
    other = ratio_map(frame, losses=("cross_entropy", "quadratic"))
    np.testing.assert_allclose(image(other.axes[0]), 10.0)
    assert not any("shorter" in label for label in legend_labels(other))


def test_both_censored_differs_from_a_bound():
    frame = table({"w0": [0, 1]}, {"b0": [0, 1]}, plateau=lambda *_: 10.0 * HORIZON)
    figure = ratio_map(frame)
    assert legend_labels(figure) == ["both censored"]
    assert np.isnan(image(figure.axes[0])).all()


@pytest.mark.parametrize("draw", FUNCTIONS)
@pytest.mark.parametrize(
    ("statuses", "label"),
    [
        (("stationary", "escaped"), "stationary (zero gradient)"),
        (("escaped", "stationary"), "stationary (zero gradient)"),
        (("stationary", "stalled"), "stationary (zero gradient)"),
        (("stalled", "escaped"), "stalled by rounding"),
        (("censored", "stalled"), "stalled by rounding"),
        (("not_finite", "escaped"), "nothing to compare"),
    ],
)
def test_runs_that_never_leave_are_named_and_have_no_number(draw, statuses, label):
    frame = table({"w0": [0, 1]}, {"b0": [0, 1]})
    for loss, status in zip(LOSSES, statuses, strict=True):
        if status != "escaped":
            frame.loc[frame["loss"] == loss, ["status", "plateau_epochs"]] = [status, pd.NA]
    figure = draw(frame)
    assert legend_labels(figure) == [label]
    assert np.isnan(image(figure.axes[0])).all()


def test_missing_rows_are_named():
    frame = atlas(5, rates=(0.15,))
    part = frame[(frame["loss"] != "quadratic") | (frame["w0_index"] > 0)]
    assert "not in the table" in legend_labels(ratio_map(part))


@pytest.mark.parametrize("size", ["page", "column"])
@pytest.mark.parametrize("draw", FUNCTIONS)
@pytest.mark.parametrize("rates", [(0.15,), (0.005, 0.15), tuple(np.geomspace(0.001, 10, 9))])
def test_nothing_lies_on_anything_else(draw, rates, size):
    assert problems(draw(with_all_statuses(atlas(9, rates=rates)), size=size)) == []


def test_one_loss_is_refused():
    with pytest.raises(PlateaumapError, match="compares 2 losses; the table has quadratic"):
        ratio_map(atlas(3, losses=["quadratic"]))


def test_other_losses_are_compared_in_the_tables_order():
    frame = atlas(5)
    frame["loss"] = pd.Categorical(
        frame["loss"].map({"quadratic": "mine", "cross_entropy": "yours"}), ["mine", "yours"]
    )
    label = ratio_map(frame).axes[-1]
    assert "mine / yours" in label.get_xlabel() + label.get_ylabel()


@pytest.mark.parametrize("factor", [1.5, 3.0, 30.0])
def test_a_narrow_scale_of_ratios_is_labelled_in_plain_numbers(factor):
    frame = table(
        {"w0": [0, 1, 2]},
        {"b0": [0, 1, 2]},
        plateau=lambda loss, point: 60 * (factor if loss == "quadratic" and point["w0"] else 1),
    )
    bar = ratio_map(frame).axes[-1].xaxis
    labels = [label.get_text() for label in bar.get_ticklabels()]
    assert [float(label) for label in labels] == pytest.approx(list(bar.get_ticklocs()))
    assert labels[0] == "1"
    assert len(labels) >= 2
    assert not any("e" in label for label in labels)
    assert list(bar.get_minorticklocs()) == []
