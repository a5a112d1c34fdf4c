import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.report.layout import legend_labels, problems

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.queries.simulate import simulate
from plateaumap.report.figures import learning_curves

QUANTITIES = ("loss", "output", "w", "b", "gradient")


def curve(start=2.0, rate=0.15, epochs=300):
    """Gradient descent on the quadratic loss by a plain loop, x = 1, y = 0."""
    w = b = start
    rows = []
    for epoch in range(epochs + 1):
        a = 1 / (1 + np.exp(-(w + b)))
        g = a * a * (1 - a)
        rows.append((epoch, w, b, w + b, a, a * a / 2, g, g, g))
        w, b = w - rate * g, b - rate * g
    names = ("epoch", "w", "b", "z", "output", "loss", "gradient", "gradient_w", "gradient_b")
    return pd.DataFrame(rows, columns=names)


def test_every_quantity_is_drawn_against_the_epoch():
    table = curve()
    figure = learning_curves({"quadratic": table})
    assert len(figure.axes) == len(QUANTITIES)
    for panel, quantity in zip(figure.axes, QUANTITIES, strict=True):
        line = panel.lines[0]
        np.testing.assert_array_equal(line.get_xdata(), table["epoch"])
        np.testing.assert_array_equal(line.get_ydata(), table[quantity])


def test_the_unlucky_neurons_plateau_is_marked_at_152():
    figure = learning_curves({"quadratic": curve()})
    for panel, quantity in zip(figure.axes, QUANTITIES, strict=True):
        dot = panel.lines[1]
        assert dot.get_xdata().tolist() == [152]
        assert dot.get_ydata()[0] == curve()[quantity][152]
    assert [label.replace("\xa0", " ") for label in legend_labels(figure)] == [
        "$T_{10}$ = 152 epochs"
    ]


def test_a_plateau_that_does_not_end_is_not_marked():
    figure = learning_curves({"quadratic": curve(epochs=100)})
    assert all(len(panel.lines) == 1 for panel in figure.axes)
    assert "not reached" in legend_labels(figure)[0].replace("\xa0", " ")


def test_the_excess_over_the_floor_decides():
    raised = curve().assign(loss_floor=0.4)
    raised["loss"] += 0.4
    assert learning_curves({"a": raised}).axes[0].lines[1].get_xdata().tolist() == [152]


def test_a_known_plateau_is_believed():
    figure = learning_curves({"a": curve()}, plateau_epochs={"a": 7})
    assert figure.axes[0].lines[1].get_xdata().tolist() == [7]
    assert len(learning_curves({"a": curve()}, plateau_epochs={"a": None}).axes[0].lines) == 1


def test_columns_hold_several_labelled_curves():
    nested = {"one": {"p": curve(0.75), "q": curve()}, "two": {"r": curve(1)}}
    figure = learning_curves(nested)
    assert len(figure.axes) == 2 * len(QUANTITIES)
    titles = [panel.get_title() for panel in figure.axes[:2]]
    assert titles == ["one", "two"]
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() != "None"]
    assert [line.get_label() for line in lines] == ["p", "q"]
    assert lines[0].get_linestyle() != lines[1].get_linestyle()


def test_one_table_with_labels_is_the_same():
    tables = {"a": curve(1), "b": curve(2)}
    joined = pd.concat([t.assign(label=name) for name, t in tables.items()])
    one, other = learning_curves(joined), learning_curves(tables)
    for first, second in zip(one.axes, other.axes, strict=True):
        np.testing.assert_array_equal(first.lines[0].get_ydata(), second.lines[0].get_ydata())
    grouped = joined.assign(column="together")
    assert len(learning_curves(grouped).axes) == len(QUANTITIES)


@pytest.mark.parametrize(
    ("size", "columns"), [("page", 1), ("page", 2), ("page", 4), ("column", 1), ("column", 2)]
)
@pytest.mark.parametrize("lines", [1, 3])
def test_nothing_lies_on_anything_else(size, columns, lines):
    nested = {
        f"column {c}": {
            f"w0 = {n / 3:.4f}, b0 = 2, lr = 0.15": curve(n / 3 + 1) for n in range(lines)
        }
        for c in range(columns)
    }
    assert problems(learning_curves(nested, size=size)) == []


def test_long_curves_are_thinned_but_keep_their_mark():
    table = curve(4.0, 0.05, 60_000)
    figure = learning_curves({"a": table})
    line, dot = figure.axes[0].lines
    assert len(line.get_xdata()) < 10_000
    drop = np.flatnonzero(table["loss"] <= 0.9 * table["loss"][0])[0]
    assert dot.get_xdata().tolist() == [drop]


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ({}, "nothing to draw"),
        ({"a": {}}, "nothing to draw"),
        ({"a": curve().drop(columns="gradient")}, "the curve 'a' .* lacks gradient"),
        ({"a": curve()[:0]}, "has no rows"),
        (curve(), "lacks label"),
        ({str(n): curve(epochs=3) for n in range(5)}, "room for 4 columns"),
    ],
)
def test_refusals(curves, words):
    with pytest.raises(PlateaumapError, match=words):
        learning_curves(curves)


def test_a_column_has_room_for_two():
    with pytest.raises(PlateaumapError, match="room for 2 columns"):
        learning_curves({str(n): curve(epochs=3) for n in range(3)}, size="column")


def test_labels_are_text_not_formulas():
    label = "$\\bad{$"
    assert problems(learning_curves({"c": {label: curve(1), "b$": curve()}})) == []


def test_the_articles_two_columns_are_one_figure():
    script = runpy.run_path(str(Path(__file__).parents[2] / "sweeps" / "nielsen_chapter3.py"))
    figure = script["both_columns"]()
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["quadratic loss, learning rate 0.15", "cross-entropy, learning rate 0.005"]
    losses, outputs = figure.axes[:2], figure.axes[2:4]
    for panel, loss, lr in zip(outputs, ("quadratic", "cross_entropy"), (0.15, 0.005), strict=True):
        lines = [line for line in panel.lines if len(line.get_xdata()) == 301]
        for line, (w0, b0) in zip(lines, ((0.6, 0.9), (2, 2)), strict=True):
            expected = simulate(loss=loss, w0=w0, b0=b0, lr=lr, epochs=300)["output"]
            np.testing.assert_array_equal(line.get_ydata(), expected)
    # The ends of the plateaus that the article tells: 7 and 152, 27 and 43 epochs.
    dots = [
        [int(line.get_xdata()[0]) for line in panel.lines if len(line.get_xdata()) == 1]
        for panel in losses
    ]
    assert dots == [[7, 152], [27, 43]]
    assert problems(figure) == []
