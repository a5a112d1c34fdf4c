import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from mpl_toolkits.mplot3d import Axes3D
from sweeps.figures.two_weights import loss_surface
from tests.report.layout import legend_labels, problems
from tests.report.tables import table

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.style import colours

W, B = np.linspace(-3, 3, 7), np.linspace(-2, 2, 5)


def made_up() -> pd.DataFrame:
    frame = table({"w0": W}, {"b0": B}, horizon=30)
    return frame.assign(initial_loss=np.hypot(frame["w0"], 2 * frame["b0"]) + 1)


def grid(frame: pd.DataFrame, loss: str, column: str) -> np.ndarray:
    rows = frame[frame["loss"] == loss]
    wide = rows.pivot(index="b0", columns="w0", values=column)
    return wide.to_numpy(float, na_value=np.nan)


def test_maps_hold_the_lengths_and_lines_the_loss() -> None:
    frame = made_up()
    figure = loss_surface(frame)
    assert len(figure.axes) == 5
    for panel, loss in zip(figure.axes[2:4], ("quadratic", "cross_entropy"), strict=True):
        lengths = grid(frame, loss, "plateau_epochs")
        np.testing.assert_array_equal(panel.images[0].get_array().filled(np.nan), lengths)
        contours = panel.collections[0]
        losses = grid(frame, loss, "initial_loss")
        inner = [level for level in contours.levels if losses.min() < level < losses.max()]
        assert len(inner) >= 4
        for level, path in zip(contours.levels, contours.get_paths(), strict=True):
            if level in inner:
                w, b = path.vertices.T
                # Linear between places, so close to the true contour of a coarse grid.
                np.testing.assert_allclose(np.hypot(w, 2 * b) + 1, level, rtol=0.25)


def test_surfaces_stand_at_the_loss_in_the_colour_of_the_length(monkeypatch) -> None:
    surfaces = []
    plot_surface = Axes3D.plot_surface

    def record(panel, *arrays, **settings):
        surfaces.append((arrays, settings["facecolors"]))
        return plot_surface(panel, *arrays, **settings)

    monkeypatch.setattr(Axes3D, "plot_surface", record)
    frame = made_up()
    figure = loss_surface(frame)
    norm, cmap = figure.axes[2].images[0].norm, colours("viridis")
    assert [len(panel.collections) for panel in figure.axes[:2]] == [1, 1]
    for (arrays, painted), loss in zip(surfaces, ("quadratic", "cross_entropy"), strict=True):
        expected = (*np.meshgrid(W, B), grid(frame, loss, "initial_loss"))
        for array, values in zip(arrays, expected, strict=True):
            np.testing.assert_allclose(array, values)
        lengths = grid(frame, loss, "plateau_epochs")
        colour = cmap(norm(np.ma.masked_invalid(lengths)))
        colour[np.isnan(lengths)] = to_rgba("0.6")
        np.testing.assert_array_equal(painted, colour)


@pytest.mark.parametrize("size", ["page", "column"])
def test_nothing_lies_on_anything_else(size: str) -> None:
    assert problems(loss_surface(made_up(), size=size)) == []


def test_what_has_no_length_is_hatched_and_named() -> None:
    frame = made_up()
    assert (frame["status"] == "censored").any()
    figure = loss_surface(frame)
    assert "censored" in legend_labels(figure)
    assert "censored" in [patch.get_label() for patch in figure.axes[2].patches]


def test_a_table_without_a_loss_or_a_second_axis_is_refused() -> None:
    with pytest.raises(PlateaumapError, match="initial_loss"):
        loss_surface(made_up().drop(columns="initial_loss"))
    line = table({"w0": W})
    with pytest.raises(PlateaumapError, match="two axes"):
        loss_surface(line.assign(initial_loss=1.0))
