import numpy as np
import pytest
from tests.report.tables import LOSSES, table

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.lattice import direction, read


def test_axes_are_found_in_order_with_what_varies_together():
    frame = table({"w0": [0, 1]}, {"b0": [1, 2, 3], "lr": [0.1, 0.1, 0.2]}, {"y": [0.0]})
    lattice = read(frame, "test")
    assert [axis.names for axis in lattice.axes] == [("w0",), ("b0", "lr")]
    assert [axis.size for axis in lattice.axes] == [2, 3]
    assert lattice.axes[1].columns["lr"].tolist() == [0.1, 0.1, 0.2]
    assert dict(lattice.fixed) == {"x": 1.0, "y": 0.0}
    assert lattice.losses == LOSSES


def test_the_order_of_rows_does_not_matter():
    frame = table({"w0": [3, 1, 2]}, {"b0": [0, 5]})
    shuffled = frame.sample(frac=1, random_state=4)
    lattice = read(shuffled, "test")
    assert lattice.axis_of("w0").columns["w0"].tolist() == [3, 1, 2]
    for axis in lattice.axes:
        (name,) = axis.names
        np.testing.assert_array_equal(axis.columns[name][axis.places], shuffled[name])


def test_a_part_of_a_table_has_the_axes_that_are_left():
    frame = table({"w0": [0, 1, 2]}, {"b0": [0, 1, 2]}, {"lr": [0.1, 1]})
    part = frame[(frame["lr_index"] == 1) & (frame["w0_index"] > 0)]
    lattice = read(part, "test")
    assert [(axis.names, axis.size) for axis in lattice.axes] == [(("w0",), 2), (("b0",), 3)]
    assert lattice.fixed["lr"] == 1.0
    assert read(frame[frame["loss"] == "quadratic"], "test").losses == ("quadratic",)


def test_products_are_in_c_order():
    frame = table({"w0": [0, 1]}, {"b0": [0, 1, 2]}, losses=["quadratic"])
    lattice = read(frame, "test")
    places, titles = lattice.product(lattice.axes)
    assert places.tolist() == list(range(6))
    assert titles[4] == "$w_0$ = 1, $b_0$ = 1"


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        (np.linspace(1, 100, 20), False),
        (np.geomspace(1, 100, 20), True),
        ([0.001, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5, 10], True),
        (np.linspace(-1, 1, 5), False),
        ([0.1, 10], True),
        ([1, 2], False),
        ([0.15], False),
    ],
)
def test_a_scale_is_logarithmic_if_the_ratios_are_even(values, is_log):
    frame = table({"b0": values, "w0": range(len(values))}, plateau=lambda *_: 5.0)
    lattice = read(frame, "test")
    if len(values) == 1:
        assert not lattice.axes
        return
    x = direction(lattice.axis_of("b0"), "b0", "test")
    assert x.is_log == is_log
    assert len(x.edges) == len(values) + 1
    assert np.all(x.edges[:-1] < x.centres)
    assert np.all(x.edges[1:] > x.centres)


def test_unknown_coordinates_are_refused():
    with pytest.raises(PlateaumapError, match=r"'lr' does not vary .* w0"):
        read(table({"w0": [0, 1]}), "test").axis_of("lr")
