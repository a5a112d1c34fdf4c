import numpy as np
import pytest
from matplotlib.colors import LogNorm, to_rgb
from tests.report.layout import legend_labels, problems, texts
from tests.report.tables import HORIZON, LOSSES, STATUSES, atlas, length, table, with_all_statuses

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.cells import outline
from plateaumap.report.figures import plateau_map
from plateaumap.report.style import STATUS_LOOKS

SIZES = ("page", "column")
NINE = (0.001, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5, 10)


def image(panel):
    """The values of a panel's cells, (y, x), NaN where none is drawn."""
    mappable = [*panel.images, *panel.collections][0]
    values = np.ma.MaskedArray(mappable.get_array()).astype(float)
    return values.filled(np.nan)


def cells(frame, loss, **where):
    """A brute-force map: value and status of each (b0, w0)."""
    part = frame[frame["loss"] == loss]
    for name, index in where.items():
        part = part[part[name] == index]
    shape = frame["b0_index"].max() + 1, frame["w0_index"].max() + 1
    values, statuses = np.full(shape, np.nan), np.full(shape, "", object)
    for row in part.itertuples():
        statuses[row.b0_index, row.w0_index] = row.status
        if row.status == "escaped":
            values[row.b0_index, row.w0_index] = row.plateau_epochs
    return values, statuses


@pytest.mark.parametrize("order", ["as swept", "shuffled"])
def test_every_panel_shows_the_lengths_of_its_loss_and_rate(order):
    frame = with_all_statuses(atlas())
    rows = frame if order == "as swept" else frame.sample(frac=1, random_state=1)
    panels = plateau_map(rows).axes
    for rate in range(2):
        for column, loss in enumerate(LOSSES):
            expected, _ = cells(frame, loss, lr_index=rate)
            np.testing.assert_array_equal(image(panels[2 * rate + column]), expected)


def test_cells_lie_at_their_coordinates():
    panel = plateau_map(atlas(9)).axes[0]
    assert panel.images[0].get_extent() == [-9, 9, -9, 9]
    assert panel.get_xlim() == (-9, 9)
    assert panel.get_ylim() == (-9, 9)


def test_each_status_covers_exactly_its_cells():
    frame = with_all_statuses(atlas(17, rates=(0.15,)))
    panels = plateau_map(frame).axes
    span = np.linspace(-8, 8, 17)
    centres = np.stack(np.meshgrid(span, span), axis=-1).reshape(-1, 2)
    for panel, loss in zip(panels, LOSSES, strict=False):
        _, statuses = cells(frame, loss)
        seen = {patch.get_hatch(): patch for patch in panel.patches}
        assert len(seen) == len(STATUSES) - 1
        for status, look in STATUS_LOOKS.items():
            patch = seen[look.hatch]
            inside = patch.get_path().contains_points(centres).reshape(17, 17)
            np.testing.assert_array_equal(inside, statuses == status)
            assert patch.get_facecolor()[:3] == to_rgb(look.face)


def test_only_what_occurs_is_in_the_legend():
    labels = legend_labels(plateau_map(with_all_statuses(atlas())))
    assert len(labels) == len(STATUSES) - 1 + 1
    assert f"censored after {HORIZON:,} epochs" in labels
    calm = table({"w0": [0.1, 0.2, 0.3]}, {"b0": [0.1, 0.2, 0.3]})
    assert legend_labels(plateau_map(calm)) == []


def test_cells_that_the_table_lacks_are_named():
    frame = atlas(9, rates=(0.15,))
    part = frame[(frame["w0_index"] != 4) | (frame["b0_index"] != 4)]
    figure = plateau_map(part)
    assert "not in the table" in legend_labels(figure)
    assert np.isnan(image(figure.axes[0])[4, 4])


def test_one_logarithmic_scale_for_all_panels():
    frame = atlas(rates=NINE)
    figure = plateau_map(frame)
    norms = {id(panel.images[0].norm) for panel in figure.axes[:-1]}
    norm = figure.axes[0].images[0].norm
    assert len(norms) == 1
    assert isinstance(norm, LogNorm)
    lengths = frame["plateau_epochs"].dropna()
    assert norm.vmin == lengths.min()
    assert norm.vmax == HORIZON
    assert figure.axes[-1].get_xlabel() + figure.axes[-1].get_ylabel() == (
        "plateau length $T_{10}$ (epochs)"
    )


def test_each_learning_rate_has_a_row_that_says_so():
    figure = plateau_map(atlas(rates=NINE))
    titles = [t.get_text() for t in texts(figure) if "learning rate" in t.get_text()]
    assert titles == [f"learning rate $\\eta$ = {rate:g}" for rate in NINE]
    assert len(figure.axes) == 2 * len(NINE) + 1


def test_the_unlucky_start_is_ringed_on_every_panel():
    figure = plateau_map(atlas())
    for panel in figure.axes[:-1]:
        (ring,) = panel.lines
        assert ring.get_xydata().tolist() == [[2.0, 2.0]]
    assert "unlucky start (2, 2)" in legend_labels(figure)


@pytest.mark.parametrize(
    "frame",
    [
        table({"w0": [-1, 0, 1]}, {"b0": [-1, 0, 1]}),
        table({"x": [-1, 0, 1]}, {"b0": [-1, 0, 3]}),
    ],
)
def test_no_ring_where_the_unlucky_start_is_not(frame):
    figure = plateau_map(frame)
    assert not figure.axes[0].lines


def test_another_place_can_be_marked():
    figure = plateau_map(atlas(), mark=(-2, 0.5))
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[-2.0, 0.5]]
    assert not plateau_map(atlas(), mark=None).axes[0].lines
    with pytest.raises(PlateaumapError, match="mark = 'somewhere'"):
        plateau_map(atlas(), mark="somewhere")


def test_a_logarithmic_axis_has_its_cells_between_geometric_means():
    rates = np.geomspace(1e-3, 10, 9)
    figure = plateau_map(table({"lr": rates}, {"w0": np.linspace(-4, 4, 5)}))
    panel = figure.axes[0]
    assert panel.get_yscale() == "log"
    edges = panel.collections[0].get_coordinates()[:, 0, 1]
    np.testing.assert_allclose(edges[1:-1], np.sqrt(rates[1:] * rates[:-1]))
    np.testing.assert_allclose(edges[1:] / edges[:-1], 10**0.5)


def test_unsorted_axes_are_put_in_order():
    frame = table({"w0": [3, -1, 0.5]}, {"b0": [2, 1]}, losses=["quadratic"])
    panel = plateau_map(frame).axes[0]
    expected = [
        [length("quadratic", {"w0": w, "b0": b, "x": 1, "lr": 0.15}) for w in (-1, 0.5, 3)]
        for b in (1, 2)
    ]
    np.testing.assert_array_equal(image(panel), expected)


def test_axes_and_losses_can_be_chosen():
    frame = atlas(5, rates=(0.005, 0.15))
    figure = plateau_map(frame, x="lr", y="w0", losses=["cross_entropy"])
    assert len(figure.axes) == 5 + 1
    part = frame[(frame["loss"] == "cross_entropy") & (frame["b0_index"] == 2)]
    shown = image(figure.axes[2])
    for row in part.itertuples():
        value = shown[row.w0_index, row.lr_index]
        assert (np.isnan(value) and row.status != "escaped") or value == row.plateau_epochs


def test_points_that_vary_together_become_one_row_each():
    frame = table({"w0": [0, 1, 2]}, {"b0": [0, 1, 2]}, {"lr": [0.15, 0.005], "y": [0.0, 0.25]})
    titles = [t.get_text() for t in texts(plateau_map(frame)) if "learning" in t.get_text()]
    assert titles == [
        "learning rate $\\eta$ = 0.15, $y$ = 0",
        "learning rate $\\eta$ = 0.005, $y$ = 0.25",
    ]


def test_of_very_many_rows_some_are_drawn():
    frame = table({"w0": [0, 1]}, {"b0": [0, 1]}, {"lr": np.linspace(0.1, 1, 60)})
    figure = plateau_map(frame)
    assert len(figure.axes) == 2 * 24 + 1
    assert problems(figure) == []


def test_lengths_near_int64s_end_are_drawn():
    frame = table({"w0": [0, 1]}, {"b0": [0, 1]}, plateau=lambda *_: 2**62, horizon=2**63 - 1)
    assert np.all(image(plateau_map(frame).axes[0]) == 2.0**62)


def test_no_run_that_left_means_no_colour_bar():
    frame = table({"w0": [0, 1]}, {"b0": [0, 1]}, plateau=lambda *_: 9999.0)
    figure = plateau_map(frame)
    assert len(figure.axes) == 2
    assert problems(figure) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "frame",
    [
        with_all_statuses(atlas(9, rates=NINE)),
        with_all_statuses(atlas(9, rates=(0.15,))),
        with_all_statuses(atlas(9, rates=(0.005, 0.15), losses=["quadratic"])),
        atlas(9, rates=NINE[:5]),
        with_all_statuses(table({"lr": np.geomspace(1e-3, 10, 9)}, {"w0": np.linspace(-4, 4, 5)})),
        table({"lr": np.linspace(0.001, 0.0012, 3)}, {"x": [1, 1.0005, 1.001]}),
    ],
    ids=["nine", "one", "one loss", "five", "log", "narrow"],
)
def test_nothing_lies_on_anything_else(frame, size):
    assert problems(plateau_map(frame, size=size)) == []


@pytest.mark.parametrize(("size", "width"), [("page", 180), ("column", 85)])
def test_sizes(size, width):
    figure = plateau_map(atlas(9, rates=NINE), size=size)
    across, up = figure.get_size_inches() * 25.4
    assert across == pytest.approx(width)
    assert up <= 240


def test_statuses_differ_without_colour():
    assert all(len(set(to_rgb(look.face))) == 1 for look in STATUS_LOOKS.values())
    drawn = {(look.hatch, look.face) for look in STATUS_LOOKS.values()}
    hatches = {look.hatch for look in STATUS_LOOKS.values()}
    assert len(drawn) == len(hatches) == len(STATUS_LOOKS)
    for look in STATUS_LOOKS.values():
        assert not look.hatch or abs(float(look.face) - float(look.ink)) >= 0.4


def test_names_of_a_user_are_text_not_formulas():
    frame = atlas(5).rename(columns={"lr": "$\\frac$", "lr_index": "$\\frac$_index"})
    frame["loss"] = frame["loss"].cat.rename_categories(["a$b$", "cross_entropy"])
    assert problems(plateau_map(frame)) == []


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (table({"w0": [0, 1]}), "needs two axes .* the table has w0"),
        (table({"w0": [0, 1], "b0": [0, 1]}), "needs two axes .* the table has w0/b0"),
        (table({"w0": [0, 0, 1]}, {"b0": [0, 1]}), "w0 takes a value twice"),
        (atlas(3).drop(columns="epochs_run"), "the table lacks epochs_run"),
        (atlas(3)[:0], "has no rows"),
    ],
)
def test_refusals(frame, words):
    with pytest.raises(PlateaumapError, match=words):
        plateau_map(frame)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"x": "lr"}, "'lr' does not vary"),
        ({"x": "w0", "y": "w0"}, "vary together"),
        ({"losses": ["quadratc"]}, "did you mean 'quadratic'"),
        ({"size": "poster"}, "size = 'poster'.*column, page"),
    ],
)
def test_refused_settings(settings, words):
    with pytest.raises(PlateaumapError, match=words):
        plateau_map(atlas(3, rates=(0.15,)), **settings)


def test_two_tables_in_one_are_refused():
    import pandas as pd

    frame = atlas(3)
    with pytest.raises(PlateaumapError, match="several rows"):
        plateau_map(pd.concat([frame, frame]))


def test_an_outline_holds_the_cells_and_no_others():
    rng = np.random.default_rng(3)
    inside = rng.random((7, 11)) < 0.5
    x = np.sort(rng.normal(size=12))
    y = np.sort(rng.normal(size=8))
    path = outline(inside, x, y)
    centres = np.stack(np.meshgrid((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2), axis=-1)
    covered = path.contains_points(centres.reshape(-1, 2)).reshape(7, 11)
    np.testing.assert_array_equal(covered, inside)
