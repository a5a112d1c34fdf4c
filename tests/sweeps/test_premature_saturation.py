import itertools

import numpy as np
import pandas as pd
import pytest
from sweeps.figures.premature_saturation import premature_saturation
from tests.report.layout import legend_labels, problems

from plateaumap.inputs.errors import PlateaumapError

WIDTHS = np.geomspace(0.1, 3, 5)
TABLE = pd.DataFrame(
    [
        {
            "loss": loss,
            "fan_in": fan_in,
            "half_width": width,
            "slope": slope,
            "event": event,
            "drawn": 0.1 * width + 0.001 * slope,
            "formula": 0.11 * width,
            "draws": 100,
        }
        for loss, fan_in, width, slope, event in itertools.product(
            ("quadratic", "cross_entropy"),
            (10, 1000),
            WIDTHS,
            (0.5, 2.0),
            ("wrong", "stuck", "near"),
        )
    ]
)


@pytest.mark.parametrize(("event", "panels"), [("near", 5), ("stuck", 3)])
def test_lines_are_the_formula_and_marks_what_was_drawn(event: str, panels: int) -> None:
    """A table may lack the units that start near their target."""
    known = ("wrong", "stuck", event)
    figure = premature_saturation(TABLE[TABLE["event"].isin(known)], epochs=300)
    assert len(figure.axes) == panels
    for panel in figure.axes:
        lines = [line for line in panel.lines if line.get_linestyle() != "None"]
        marks = [line for line in panel.lines if line.get_linestyle() == "None"]
        assert len(lines) == len(marks) == 4
        for line, mark, slope in zip(lines, marks, (0.5, 2.0, 0.5, 2.0), strict=True):
            np.testing.assert_allclose(line.get_xydata(), np.c_[WIDTHS, 0.11 * WIDTHS])
            np.testing.assert_allclose(mark.get_ydata(), 0.1 * WIDTHS + 0.001 * slope)
    assert "fan-in 1,000, slope 2" in legend_labels(figure)


@pytest.mark.parametrize("size", ["page", "column"])
def test_nothing_lies_on_anything_else(size: str) -> None:
    assert problems(premature_saturation(TABLE, epochs=300, size=size)) == []


def test_a_table_without_shares_is_refused() -> None:
    with pytest.raises(PlateaumapError, match="formula"):
        premature_saturation(TABLE.drop(columns="formula"), epochs=300)
