import numpy as np
import pandas as pd
import pytest
from sweeps.figures.activations import activation_lines
from tests.report.layout import legend_labels, problems
from tests.report.tables import HORIZON, LOSSES, table

from plateaumap.inputs.errors import PlateaumapError

GRID = np.linspace(-4, 4, 17)
FACTORS = {"tanh": 1.0, "atan": 3.0, "exp": 20.0}


def activations() -> pd.DataFrame:
    """Tables of several activations, whose lengths lie on `factor exp(|z|)` for the quadratic."""

    def of(name: str, factor: float) -> pd.DataFrame:
        def plateau(loss: str, point: dict[str, float]) -> float:
            z = point["w0"] + point["b0"]
            return float(np.ceil(factor * (np.exp(abs(z)) if loss == "quadratic" else 1 + abs(z))))

        frame = table({"w0": GRID}, {"b0": GRID}, plateau=plateau, horizon=HORIZON)
        return frame.assign(activation=name)

    together = pd.concat(of(name, factor) for name, factor in FACTORS.items())
    return together.sample(frac=1, random_state=3)


@pytest.mark.parametrize("size", ["page", "column"])
def test_each_line_holds_the_lengths_of_its_activation(size) -> None:
    frame = activations()
    figure = activation_lines(frame, size=size)
    assert not problems(figure)
    assert len(figure.axes) == len(LOSSES)
    seen = 0
    for panel, loss in zip(figure.axes, dict.fromkeys(frame["loss"].astype(str)), strict=True):
        for name in FACTORS:
            rows = frame[(frame["activation"] == name) & (frame["loss"] == loss)]
            rows = rows.assign(z=rows["w0"] + rows["b0"])
            (line,) = (entry for entry in panel.lines if entry.get_label() == name)
            for z, length in line.get_xydata():
                at = rows[rows["z"] == z]
                escaped = at[at["status"] == "escaped"]["plateau_epochs"]
                if np.isnan(length):
                    assert escaped.empty
                else:
                    assert escaped.eq(length).all()
                    seen += 1
            assert set(line.get_xdata()) == set(rows["z"])
    assert seen > 60


def test_censored_starts_are_marked_at_the_epochs_that_were_run() -> None:
    frame = activations()
    figure = activation_lines(frame)
    losses = list(dict.fromkeys(frame["loss"].astype(str)))
    panel = figure.axes[losses.index("quadratic")]
    (marks,) = (entry for entry in panel.lines if entry.get_label() == "exp, censored")
    rows = frame[(frame["activation"] == "exp") & (frame["loss"] == "quadratic")]
    censored = rows[rows["status"] == "censored"]
    assert set(marks.get_xdata()) == set(censored["w0"] + censored["b0"])
    assert set(marks.get_ydata()) == {HORIZON}
    assert "censored" in legend_labels(figure)
    assert set(FACTORS) <= set(legend_labels(figure))


def test_a_table_without_activations_is_refused() -> None:
    with pytest.raises(PlateaumapError, match=r"activation_lines needs .* lacks activation:"):
        activation_lines(table({"w0": [1.0, 2.0]}))
