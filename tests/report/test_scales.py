"""Axes of any float64 are drawn at their values, in a unit, by place, or refused."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sweeps.figures.activations import activation_lines
from sweeps.figures.two_weights import loss_surface
from tests.report.folders import fill
from tests.report.tables import table

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.figures import (
    applicable,
    collapse,
    cut,
    learning_curves,
    plateau_fraction,
    plateau_map,
)
from plateaumap.report.lattice import direction, read
from plateaumap.report.lines import plateau_points
from plateaumap.report.page.picture import picture_of
from plateaumap.report.scales import in_unit, power_of, scale_of
from plateaumap.report.write import write_report

EXTREME = {
    "to both ends": np.linspace(-8e307, 8e307, 9),
    "1e300": np.linspace(1e299, 1e300, 9),
    "all decades": np.geomspace(1e-300, 1e300, 9),
    "1e-300": np.linspace(0, 1e-300, 9),
    "denormal": np.arange(9) * 5e-324,
    "neighbouring floats": 1 + np.arange(9) * 2.0**-52,
    "whole numbers past 2^53": 2.0**53 + 2 * np.arange(9),
    "everything": np.array([-1e300, -1, -1e-300, 0, 5e-324, 1e-9, 1, 1e9, 1.7e308]),
    "two": np.array([1e-320, 1e300]),
}
NAMES = [("w0", "b0"), ("w0", "lr"), ("x", "w0")]
FAST = {("to both ends", ("w0", "b0")), ("everything", ("x", "w0"))}


def extreme_table(values, names=("w0", "b0"), **settings):
    with np.errstate(all="ignore"):
        others = [0.5, 1.0, 2.0]
        return table(
            {names[0]: values},
            {names[1]: others},
            plateau=lambda loss, p: 5 + 40 * (loss == "quadratic") + 2 * others.index(p[names[1]]),
            **settings,
        )


def render(figure):
    FigureCanvasAgg(figure)
    figure.set_dpi(50)
    figure.draw_without_rendering()
    return figure


@pytest.mark.parametrize(
    ("values", "names"),
    [
        pytest.param(
            values, pair, id=f"{name}, {'-'.join(pair)}",
            marks=[] if (name, pair) in FAST else pytest.mark.slow,
        )
        for name, values in EXTREME.items()
        for pair in NAMES
    ],
)  # fmt: skip
def test_every_figure_that_applies_is_drawn(values, names):
    frame = extreme_table(values, names)
    figures = applicable(frame)
    assert {"plateau_map", "ratio_map"} <= {figure.name for figure in figures}
    for figure in figures:
        render(figure.draw(frame, size="column"))
    render(cut(frame, along=names[0], size="column"))


@pytest.mark.parametrize("values", EXTREME.values(), ids=EXTREME)
@pytest.mark.parametrize("draw", [loss_surface, activation_lines, plateau_points])
def test_other_figures_are_drawn(draw, values):
    frame = extreme_table(values).assign(activation="sigmoid")
    heights = 1.0 + frame["w0_index"] * frame["b0_index"]
    render(draw(frame.assign(initial_loss=heights), size="column"))


def test_a_surface_of_huge_losses_is_refused():
    frame = extreme_table(EXTREME["1e300"]).assign(initial_loss=1e200)
    with pytest.raises(PlateaumapError, match="loss_surface: initial_loss reaches 1e"):
        loss_surface(frame)


@pytest.mark.parametrize("values", EXTREME.values(), ids=EXTREME)
def test_cells_are_in_order_and_hold_their_values(values):
    way = direction(read(extreme_table(values), "test").axis_of("w0"), "w0", "test")
    assert np.isfinite(way.edges).all()
    assert (way.edges[:-1] < way.edges[1:]).all()
    inside = way.scale.drawn(np.sort(values))
    assert ((way.edges[:-1] <= inside) & (inside <= way.edges[1:])).all()
    if way.scale.kind == "place":
        assert inside.tolist() == list(range(len(values)))
        assert np.isnan(way.scale.drawn([0.123])[0])


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=9, unique=True)
)
@settings(max_examples=200, deadline=None)
def test_a_scale_keeps_the_order_and_says_what_it_draws(values):
    values = np.unique(np.array(values))
    scale = scale_of(values)
    drawn = scale.drawn(values)
    assert np.isfinite(drawn).all()
    assert (np.diff(drawn) >= 0).all()
    if scale.kind == "place":
        assert (np.diff(drawn) == 1).all()
        return
    back = np.array([float(Decimal(number).scaleb(scale.power)) for number in drawn.tolist()])
    np.testing.assert_allclose(back, values, rtol=1e-13, atol=1e-13 * abs(values).max() + 1e-323)
    assert f"10^{{{scale.power}}}" in scale.label("w") or not scale.power


def test_ordinary_numbers_are_drawn_as_they_are():
    for values in (np.linspace(-8, 8, 5), np.geomspace(1e-90, 1e90, 5), np.array([0.0, 1e-20])):
        assert scale_of(values).is_usual
        np.testing.assert_array_equal(scale_of(values).drawn(values), values)
    assert power_of([0.0]) == power_of([]) == 0
    assert power_of([-3e150, 1.0]) == 150
    assert in_unit([5e-324], -324).tolist() == pytest.approx([4.94], rel=1e-2)


def test_a_map_of_huge_starts_names_its_unit():
    figure = render(plateau_map(extreme_table(EXTREME["1e300"])))
    panel = figure.axes[0]
    assert panel.get_xlim() == pytest.approx((0.94375, 10.05625)) or panel.get_xlim()[1] < 11
    assert any("10^{300}" in text.get_text() for text in figure.texts)


def test_a_cut_of_neighbouring_floats_names_them():
    values = EXTREME["neighbouring floats"]
    panel = render(cut(extreme_table(values), along="w0")).axes[0]
    labels = [label.get_text() for label in panel.get_xticklabels()]
    assert labels[0] == "1.0"
    assert set(labels) <= {repr(float(value)) for value in values}
    assert "by place" in panel.get_xlabel()


def test_what_no_logarithm_can_show_is_refused():
    frame = extreme_table(np.geomspace(1e-300, 1e300, 9), ("lr", "w0"))
    with pytest.raises(PlateaumapError, match="plateau_fraction: lr reaches from 1e-300 to 1e"):
        plateau_fraction(frame)
    with pytest.raises(PlateaumapError, match="collapse: T10 times the step reaches from"):
        collapse(frame)
    names = {figure.name for figure in applicable(frame)}
    assert not {"collapse", "plateau_fraction"} & names


@pytest.mark.parametrize("values", EXTREME.values(), ids=EXTREME)
def test_the_page_has_places_for_them(values):
    pytest.importorskip("bokeh")
    side = picture_of(read(extreme_table(values), "test")).across
    assert np.isfinite(side.edges).all()
    assert (np.diff(side.edges) > 0).all()
    np.testing.assert_array_equal(side.columns["w0"], np.sort(values))


def test_a_whole_report_of_huge_starts(tmp_path):
    pytest.importorskip("bokeh")
    folder = fill(tmp_path / "huge", extreme_table(EXTREME["to both ends"]))
    written = write_report(folder, sizes=("column",), formats=(".png",), page=True)
    assert (folder / "report.html") in written


def test_curves_of_any_size_are_drawn_in_a_unit():
    epochs = np.arange(4)
    values = {"loss": [np.inf, 1e308, 1.0, 0.0], "w": [-1.7e308, 1.7e308, 0, 1]}
    curve = pd.DataFrame(
        {"epoch": epochs, **values, "b": 5e-324, "output": 0.5, "gradient": 1e-200}
    )
    figure = render(learning_curves({"quadratic": curve}))
    weight = figure.axes[2]
    assert "10^{308}" in weight.get_ylabel()
    np.testing.assert_allclose(weight.lines[0].get_ydata(), np.array(values["w"]) / 1e308)
