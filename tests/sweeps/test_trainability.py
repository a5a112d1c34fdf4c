import numpy as np
import pandas as pd
import pytest
from sweeps.figures.trainability import boundary_boxes, converged_grid, ranks, trainability_map
from tests.report.layout import legend_labels, problems
from tests.report.tables import table

from plateaumap.inputs.errors import PlateaumapError

X, Y = np.geomspace(1, 100, 24), np.geomspace(0.1, 10, 16)


def made_up(x: np.ndarray = X, y: np.ndarray = Y) -> pd.DataFrame:
    """Converges where the rates' product is small; slower the closer to that boundary."""
    frame = table({"lr_hidden": x}, {"lr_output": y}, losses=("squared_error",))
    product = frame["lr_hidden"] * frame["lr_output"]
    return frame.assign(converged=product < 5, intensity=1 / (0.1 + np.abs(np.log(product / 5))))


def test_a_line_has_dimension_one_and_noise_two() -> None:
    place = np.arange(256)
    line = boundary_boxes(place[:, None] < 0.4 * place + 60)
    assert line.dimension == pytest.approx(1, abs=0.05)
    assert line.counts[0] == pytest.approx(255 * 1.4, rel=0.02)
    noise = boundary_boxes(np.random.default_rng(1).random((256, 256)) < 0.5)
    assert noise.dimension == pytest.approx(2, abs=0.05)
    assert noise.counts[0] > 0.8 * 255**2


def test_a_koch_curve_lies_in_between() -> None:
    curve = np.array([0, 1], complex)
    for _ in range(6):
        start, step = curve[:-1], np.diff(curve) / 3
        parts = [start, start + step, start + step * (1 + np.exp(1j * np.pi / 3)), start + 2 * step]
        curve = np.append(np.stack(parts, axis=1).ravel(), curve[-1])
    places = np.linspace(0, 1, 512)
    height = np.full(512, -1.0)
    between = np.interp(np.linspace(0, len(curve) - 1, 400_000), np.arange(len(curve)), curve.imag)
    along = np.interp(np.linspace(0, len(curve) - 1, 400_000), np.arange(len(curve)), curve.real)
    np.maximum.at(height, np.round(along * 511).astype(int), between)
    under = np.linspace(-0.2, 0.8, 512)[:, None] < height
    assert places.size == under.shape[1]
    # The graph of its upper side, seen to the size of a cell: more than a line, less than 1.26.
    assert 1.02 < boundary_boxes(under).dimension < 1.3


def test_a_grid_without_a_boundary_is_refused() -> None:
    with pytest.raises(PlateaumapError, match="all cells are equal"):
        boundary_boxes(np.ones((16, 16)))
    with pytest.raises(PlateaumapError, match="at least 8 by 8"):
        boundary_boxes(np.ones((4, 16)))


def test_ranks_are_pale_where_fast_and_dark_at_the_boundary() -> None:
    converged = np.array([True, False, True, False, True])
    painted = ranks(converged, np.array([1.0, 8.0, 3.0, 2.0, 2.0]))
    np.testing.assert_allclose(painted, [0.25, -1, 1, -0.25, 0.625])


def test_the_map_holds_each_run_where_it_belongs() -> None:
    frame = made_up()
    (panel,) = trainability_map(frame).axes
    painted = ranks(frame["converged"].to_numpy(), frame["intensity"].to_numpy())
    expected = frame.assign(painted=painted).pivot(
        index="lr_output", columns="lr_hidden", values="painted"
    )
    (mesh,) = panel.collections
    np.testing.assert_array_equal(mesh.get_array().reshape(16, 24), expected.to_numpy())
    np.testing.assert_array_equal(converged_grid(frame), expected.to_numpy() > 0)
    assert "converges slowly" in legend_labels(trainability_map(frame))


def test_the_detail_is_framed_and_its_boundary_counted() -> None:
    frame, detail = made_up(), made_up(X[8:16], Y[4:12])
    whole, _, count = trainability_map(frame, detail=detail).axes
    (patch,) = whole.patches
    left, low = patch.get_xy()
    assert X[7] < left < X[8]
    assert Y[3] < low < Y[4]
    assert X[15] < left + patch.get_width() < X[16]
    boxes = boundary_boxes(converged_grid(detail))
    np.testing.assert_array_equal(count.lines[0].get_xydata(), np.c_[boxes.sizes, boxes.counts])
    assert f"{boxes.dimension:.2f}" in count.get_title(loc="center")


@pytest.mark.parametrize("size", ["page", "column"])
def test_nothing_lies_on_anything_else(size: str) -> None:
    detail = made_up(np.geomspace(3, 20, 40), np.geomspace(0.3, 2, 40))
    assert problems(trainability_map(made_up(), detail=detail, size=size)) == []


def test_a_table_without_its_measures_is_refused() -> None:
    with pytest.raises(PlateaumapError, match="intensity"):
        trainability_map(made_up().drop(columns="intensity"))
