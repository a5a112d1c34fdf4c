import itertools

import numpy as np
import pandas as pd
import pytest
from sweeps.figures.digits import accuracies, accuracy_curves, best_rates, starts_against_plateaus
from tests.report.layout import legend_labels, problems

from plateaumap.inputs.errors import PlateaumapError

LOSSES = ("quadratic", "cross_entropy", "linear")
SCALES, RATES = (0.3, 1.0, 3.0), (0.1, 1.0, 10.0)
HORIZON = 300
BEST = {"quadratic": 10.0, "cross_entropy": 1.0, "linear": 0.1}


def made_up() -> pd.DataFrame:
    random = np.random.default_rng(5)
    rows = []
    for loss, scale, rate, seed in itertools.product(LOSSES, SCALES, RATES, range(6)):
        length = int(random.integers(1, 400) / rate**0.5)
        diverged = (loss, rate, seed) == ("cross_entropy", 10.0, 0)
        end = 0.9 if rate == BEST[loss] else 0.5
        rows.append(
            {
                "loss": loss, "scale": scale, "lr": rate, "seed": seed,
                "status": "not_finite" if diverged
                else "escaped" if length <= HORIZON else "censored",
                "plateau_epochs": None if diverged or length > HORIZON else length,
                "half_epochs": None if diverged or 3 * length > HORIZON else 3 * length,
                "epochs_run": 20 if diverged else HORIZON,
                "confidently_wrong": scale / 10 + 0.01 * seed,
                "accuracy_0": 0.1, "accuracy_10": 0.2 + 0.01 * seed,
                "accuracy_30": None if diverged else 0.3,
                "accuracy_100": None if diverged else 0.4 + 0.01 * seed,
                "final_accuracy": None if diverged else end - 0.01 * seed,
            }
        )  # fmt: skip
    frame = pd.DataFrame(rows).astype({"plateau_epochs": "Int64", "half_epochs": "Int64"})
    return frame.astype({"accuracy_30": float, "accuracy_100": float, "final_accuracy": float})


def test_every_run_is_a_dot_where_it_belongs() -> None:
    frame = made_up()
    panels = starts_against_plateaus(frame).axes
    assert len(panels) == 2 * len(LOSSES)
    levels = ("plateau_epochs", "half_epochs")
    for panel, (level, loss) in zip(panels, itertools.product(levels, LOSSES), strict=True):
        rows = frame[frame["loss"] == loss]
        lengths = rows[level].to_numpy(float, na_value=np.nan)
        reached = np.isfinite(lengths)
        diverged = (rows["status"] == "not_finite").to_numpy()
        heights = np.maximum(np.where(reached, lengths, rows["epochs_run"]), 1)
        for kind, selected in {
            "reached": reached,
            "hollow": ~reached & ~diverged,
            "x": ~reached & diverged,
        }.items():
            expected = np.c_[rows["confidently_wrong"], heights][selected]
            lines = [line for line in panel.lines if kind_of(line) == kind]
            seen = np.concatenate([line.get_xydata() for line in lines])
            assert sorted(map(tuple, seen)) == sorted(map(tuple, expected))


def kind_of(line) -> str:
    if line.get_marker() == "x":
        return "x"
    return "hollow" if line.get_markerfacecolor() == "none" else "reached"


def test_colour_and_shape_tell_rate_and_width() -> None:
    frame = made_up()
    panel = starts_against_plateaus(frame).axes[0]
    reached = [line for line in panel.lines if kind_of(line) == "reached"]
    assert len({line.get_color() for line in reached}) == len(RATES)
    assert len({line.get_marker() for line in reached}) == len(SCALES)
    labels = legend_labels(starts_against_plateaus(frame))
    assert "learning rate $\\eta$ = 0.1" in labels
    assert {"weights of width 3", "not within the horizon", "diverged"} <= set(labels)


def test_lines_are_medians_and_shades_quartiles() -> None:
    frame = made_up()
    epochs, known = accuracies(frame)
    np.testing.assert_array_equal(epochs, [0, 10, 30, 100, HORIZON])
    figure = accuracy_curves(frame)
    panels = np.reshape(figure.axes, (len(RATES) + 1, len(SCALES)))
    for (row, rate), (column, scale) in itertools.product(enumerate(RATES), enumerate(SCALES)):
        for place, loss in enumerate(LOSSES):
            selected = (frame["loss"] == loss) & (frame["scale"] == scale) & (frame["lr"] == rate)
            middle = np.median(known[selected], axis=0)
            panel = panels[row][column]
            np.testing.assert_allclose(panel.lines[place].get_xydata(), np.c_[epochs, middle])
            shade = panel.collections[place].get_paths()[0].vertices
            low, high = np.quantile(known[selected], (0.25, 0.75), axis=0)
            for edge in (low, high):
                for point in zip(epochs, edge, strict=True):
                    assert np.isclose(shade, point).all(axis=1).any()


def test_the_last_row_holds_each_loss_at_its_best_rates_rate() -> None:
    frame = made_up()
    best = best_rates(frame)
    assert {(row.loss, row.lr) for row in best.itertuples()} == set(BEST.items())
    assert len(best) == len(LOSSES) * len(SCALES) * 6
    _, known = accuracies(frame)
    panels = np.reshape(accuracy_curves(frame).axes, (len(RATES) + 1, len(SCALES)))
    for place, loss in enumerate(LOSSES):
        selected = (frame["loss"] == loss) & (frame["scale"] == 3) & (frame["lr"] == BEST[loss])
        seen = panels[-1][SCALES.index(3)].lines[place].get_ydata()
        np.testing.assert_allclose(seen, np.median(known[selected], axis=0))


def test_a_run_that_ended_early_keeps_what_it_had() -> None:
    frame = made_up()
    early = (frame["status"] == "not_finite").to_numpy()
    _, known = accuracies(frame)
    np.testing.assert_array_equal(known[early][:, 2:], known[early][:, 1:2] * np.ones((1, 3)))


@pytest.mark.parametrize("size", ["page", "column"])
@pytest.mark.parametrize("draw", [accuracy_curves, starts_against_plateaus])
def test_nothing_lies_on_anything_else(draw, size: str) -> None:
    assert problems(draw(made_up(), size=size)) == []


@pytest.mark.parametrize("draw", [accuracy_curves, starts_against_plateaus])
def test_a_table_without_widths_is_refused(draw) -> None:
    with pytest.raises(PlateaumapError, match="scale"):
        draw(made_up().drop(columns="scale"))
