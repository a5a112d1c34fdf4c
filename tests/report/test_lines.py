import numpy as np
import pytest
from tests.marks import slow
from tests.report.layout import legend_labels, problems
from tests.report.tables import HORIZON, LOSSES, atlas, table, with_all_statuses

import plateaumap as pm
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.figures import cut, plateau_bars, plateau_points

SIZES = ("page", "column")


def measured(panel):
    return [line for line in panel.lines if line.get_label() == "_measured"]


def test_the_diagonal_is_where_weight_and_bias_agree():
    frame = atlas(9).sample(frac=1, random_state=2)
    figure = cut(frame)
    for panel, loss in zip(figure.axes, LOSSES, strict=True):
        for rate, line in enumerate(measured(panel)):
            part = frame[
                (frame["loss"] == loss)
                & (frame["lr_index"] == rate)
                & (frame["w0_index"] == frame["b0_index"])
            ].sort_values("w0")
            np.testing.assert_array_equal(line.get_xdata(), part["w0"])
            expected = part["plateau_epochs"].to_numpy(float, na_value=np.nan)
            np.testing.assert_array_equal(line.get_ydata(), expected)


def test_axes_of_different_values_meet_where_they_agree():
    frame = table({"w0": [0, 1, 2, 3]}, {"b0": [3, 2.5, 1]})
    assert measured(cut(frame).axes[0])[0].get_xdata().tolist() == [1.0, 3.0]
    apart = table({"w0": [0, 1, 2]}, {"b0": [0.5, 1.5, 2.5]})
    with pytest.raises(PlateaumapError, match="0 values in common"):
        cut(apart)


def test_along_one_axis_at_the_nearest_of_another():
    frame = atlas(9)
    figure = cut(frame, along="w0", at={"b0": 2.3})
    part = frame[(frame["loss"] == "quadratic") & (frame["b0"] == 2) & (frame["lr_index"] == 1)]
    line = measured(figure.axes[0])[1]
    expected = part["plateau_epochs"].to_numpy(float, na_value=np.nan)
    np.testing.assert_array_equal(line.get_ydata(), expected)
    assert legend_labels(figure)[:2] == [
        "learning rate $\\eta$ = 0.005",
        "learning rate $\\eta$ = 0.15",
    ]


def test_censored_runs_are_triangles_at_their_horizon():
    figure = cut(atlas(9))
    (triangles,) = [x for x in figure.axes[0].lines if x.get_label() == "_censored"][:1]
    assert set(triangles.get_ydata()) == {HORIZON}
    assert "at least (censored)" in legend_labels(figure)
    calm = table({"w0": [0.1, 0.2, 0.3]})
    assert "at least (censored)" not in legend_labels(cut(calm))


def test_theory_is_drawn_beside_what_was_measured():
    frame = atlas(9)
    figure = cut(frame)
    assert "theory" in legend_labels(figure)
    theory = [x for x in figure.axes[0].lines if x.get_label() == "_predicted_epochs"]
    assert len(theory) == 2
    frame["flow_epochs"] = frame["predicted_epochs"] - 1
    both = cut(frame, compare={"flow_epochs": "gradient flow"})
    assert "gradient flow" in legend_labels(both)
    assert "theory" not in legend_labels(both)


def test_a_huge_prediction_does_not_squeeze_what_was_measured():
    frame = atlas(9)
    frame["predicted_epochs"] *= 1e200
    assert cut(frame).axes[0].get_ylim()[1] < 100 * HORIZON


def test_a_logarithmic_axis_stays_one():
    assert cut(table({"lr": np.geomspace(1e-3, 1, 7)})).axes[0].get_xscale() == "log"
    assert cut(table({"w0": np.linspace(1, 3, 7)})).axes[0].get_xscale() == "linear"


@pytest.mark.parametrize(
    ("frame", "settings", "words"),
    [
        (table({"w0": [2]}), {}, "no axis .* more than one value"),
        (table({"w0": [1, 2]}), {"along": "diagonal"}, "needs w0 and b0 on separate axes"),
        (table({"w0": [1, 2]}), {"along": "lr"}, "'lr' does not vary"),
        (table({"w0": [1, 2]}), {"at": {"b0": 1}}, "at names 'b0'"),
        (table({"w0": [1, 2]}), {"compare": {"flow": "flow"}}, "lacks flow"),
    ],
)
def test_refused_cuts(frame, settings, words):
    with pytest.raises(PlateaumapError, match=words):
        cut(frame, **settings)


def test_bars_show_lengths_and_numbers():
    frame = table({"w0": [0.6, 2, 9], "b0": [0.9, 2, 9]})
    panel = plateau_bars(frame).axes[0]
    widths = sorted(bar.get_width() for bar in panel.patches)
    escaped = frame["plateau_epochs"].dropna().astype(float).tolist()
    assert widths == sorted([*escaped, HORIZON])
    texts = {text.get_text() for text in panel.texts}
    assert {f"{value:,.0f}" for value in escaped} <= texts
    assert f"at least {HORIZON:,} (censored)" in texts
    assert [bar.get_hatch() for bar in panel.patches if bar.get_width() == HORIZON] == ["//////"]


def test_bars_say_what_has_no_length():
    frame = with_all_statuses(table({"w0": np.linspace(-1, 1, 13)}))
    texts = [text.get_text() for text in plateau_bars(frame).axes[0].texts]
    for words in ("converged at the start", "stalled by rounding", "not finite"):
        assert words in texts


def test_one_point_is_labelled_by_the_fixed_coordinates():
    panel = plateau_bars(table({"w0": [2]})).axes[0]
    (label,) = panel.get_yticklabels()
    assert "$w_0$ = 2" in " ".join(label.get_text().split())


def test_many_points_are_refused():
    with pytest.raises(PlateaumapError, match="room for 24 points, not 30"):
        plateau_bars(table({"w0": np.arange(30) / 10}))


def cloud(num=40):
    rng = np.random.default_rng(0)
    return table({"w0": rng.normal(0, 4, num), "b0": rng.normal(0, 4, num)})


def test_points_are_where_the_starts_are():
    frame = cloud()
    figure = plateau_points(frame)
    for panel, loss in zip(figure.axes, LOSSES, strict=False):
        part = frame[(frame["loss"] == loss) & (frame["status"] == "escaped")]
        dots = panel.collections[0]
        np.testing.assert_array_equal(dots.get_offsets(), part[["w0", "b0"]])
        np.testing.assert_array_equal(dots.get_array(), part["plateau_epochs"].astype(float))
        others = sum(len(line.get_xdata()) for line in panel.lines)
        assert others == len(frame) / 2 - len(part)


def test_points_need_two_coordinates():
    with pytest.raises(PlateaumapError, match="two coordinates that vary"):
        plateau_points(table({"w0": [1, 2]}))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("draw", "frame"),
    [
        (cut, atlas(9, rates=np.geomspace(0.001, 10, 9))),
        (cut, table({"lr": np.geomspace(1e-3, 1, 7)}, {"w0": [1, 2]})),
        (cut, table({"w0": np.linspace(-4, 4, 33)}, losses=["quadratic"])),
        (plateau_bars, with_all_statuses(table({"w0": np.linspace(-1, 5, 12)}))),
        (plateau_bars, table({"w0": [0.6, 2], "b0": [0.9, 2], "lr": [0.15, 0.005], "y": [0, 0]})),
        (plateau_bars, table({"w0": [2]})),
        (plateau_points, with_all_statuses(cloud())),
    ],
)
def test_nothing_lies_on_anything_else(draw, frame, size):
    assert problems(draw(frame, size=size)) == []


@pytest.mark.parametrize("size", ["column", *slow("page")])
def test_a_cut_shows_simulation_flow_and_exact_theory_on_one_axis(size):
    values = np.linspace(-3, 5, 33)
    sweep = pm.Sweep(
        axes=[pm.values("w0", values), pm.values("b0", values)], fixed={"lr": 0.5}, horizon=2000
    )
    frame = pm.run(sweep)
    figure = cut(pm.add_theory(frame), size=size)
    assert legend_labels(figure)[:3] == ["measured", "gradient flow", "exact theory"]
    for panel, loss in zip(figure.axes, sweep.losses, strict=True):
        drawn = {line.get_label(): line.get_ydata() for line in panel.lines}
        known = np.isfinite(drawn["_measured"])
        np.testing.assert_array_equal(drawn["_exact_epochs"][known], drawn["_measured"][known])
        exact = pm.plateau_epochs(values, values, 0.5, loss=loss)
        np.testing.assert_array_equal(drawn["_exact_epochs"], exact)
        if loss == "quadratic":
            # An integral of 1/f by hand, for y = 0 and the level sqrt(0.9) of the output.
            a = 1 / (1 + np.exp(-2 * values))
            z1 = np.log(np.sqrt(0.9) * a / (1 - np.sqrt(0.9) * a))

            def potential(z):
                return np.exp(z) + 3 * z - 3 * np.exp(-z) - np.exp(-2 * z) / 2

            by_hand = (potential(2 * values) - potential(z1)) / (2 * 0.5)
            np.testing.assert_allclose(drawn["_flow_epochs"], by_hand, rtol=1e-9)
    # Theory is seen where runs were given up.
    low, high = figure.axes[0].get_ylim()
    assert high > 10 * 2000 > low
    assert problems(figure) == []


def test_theory_is_left_out_where_there_is_none():
    def custom(z, y):
        return (z - y) ** 2

    frame = pm.run(
        pm.Sweep(
            losses=[custom],
            axes=[pm.linspace("w0", 1, 2, 3)],
            fixed={"b0": 0, "lr": 0.1},
            horizon=50,
        )
    )
    table_with_theory = pm.add_theory(frame)
    assert table_with_theory["flow_epochs"].isna().all()
    assert table_with_theory["exact_epochs"].isna().all()
    with pytest.raises(PlateaumapError, match="the columns x are missing"):
        pm.add_theory(frame.drop(columns="x"))
