"""Axes hold the given values; a grid is the arithmetic of NumPy's own indexing."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from plateaumap.inputs.errors import SpecError
from plateaumap.sweep import axes as pm
from plateaumap.sweep.axes import Axis, Coordinate, Grid

COORDINATES = tuple(Coordinate(name, name, None) for name in ("w0", "b0", "lr", "x", "y"))
AXIS = TypeAdapter(Axis)

finite = st.floats(allow_nan=False, allow_infinity=False)
sizes = st.integers(1, 6)


def column(size):
    return st.lists(finite, min_size=size, max_size=size)


def faults_of(build):
    with pytest.raises(SpecError) as caught:
        build()
    return {fault.path: str(fault) for fault in caught.value.faults}


# --- axes -------------------------------------------------------------------------------------


def test_linspace_holds_exact_grid_points():
    column = pm.linspace("w0", -8, 8, 257).columns["w0"]
    np.testing.assert_array_equal(column, np.arange(-128, 129) / 16)
    assert 2.0 in column


@given(
    ends=st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=2, unique=True).map(sorted),
    num=st.integers(2, 60),
)
def test_linspace_and_its_ends(ends, num):
    start, stop = (end + 0.0 for end in ends)
    if start == stop:  # −0.0 and 0.0 are one value
        return
    axis = pm.linspace("w0", start, stop, num)
    assert axis.size == num
    assert (axis.values[0], axis.values[-1]) == (start, stop)
    assert np.all(np.diff(axis.columns["w0"]) >= 0)


@pytest.mark.parametrize(("start", "stop"), [(1e-3, 10.0), (-8.0, -0.5), (5e-324, 1e308)])
def test_geomspace_has_exact_ends_and_one_ratio(start, stop):
    values = pm.geomspace("lr", start, stop, 9).columns["lr"]
    assert (values[0], values[-1]) == (start, stop)
    logs = np.log(np.abs(values[1:]))  # the first may be subnormal, with few digits
    np.testing.assert_allclose(np.diff(logs), np.diff(logs)[0], rtol=1e-9)


def test_one_value_of_a_span_is_its_start():
    assert pm.linspace("w0", 1, 2, 1).values == (1.0,)
    assert pm.geomspace("lr", 1, 2, 1).values == (1.0,)


def test_values_keep_their_order_and_take_any_sequence():
    for given_values in ([3, 1, 2], (3.0, 1.0, 2.0), np.array([3, 1, 2]), iter([3, 1, 2])):
        axis = pm.values("lr", given_values)
        assert axis.values == (3.0, 1.0, 2.0)
        assert all(type(value) is float for value in axis.values)


def test_numpy_scalars_are_numbers():
    axis = pm.linspace("w0", np.float32(0.5), np.int64(2), np.int32(4))
    assert axis == pm.linspace("w0", 0.5, 2, 4)
    assert pm.linspace("w0", np.array(0.5), 2, 4.0) == axis


def test_float32_values_are_kept_exactly():
    assert pm.values("lr", np.array([0.1], np.float32)).values == (float(np.float32(0.1)),)


def test_negative_zero_is_zero():
    for axis in (pm.values("w0", [-0.0]), pm.points(w0=[-0.0, 1]), pm.linspace("w0", -0.0, 1, 2)):
        assert math.copysign(1, axis.columns["w0"][0]) == 1


def test_draws_follow_their_seed_and_distribution():
    normal = pm.normal("w0", 3, 0.5, 4000, seed=1)
    assert normal == pm.normal("w0", 3, 0.5, 4000, seed=1)
    assert normal != pm.normal("w0", 3, 0.5, 4000, seed=2)
    column = normal.columns["w0"]
    assert abs(column.mean() - 3) < 5 * 0.5 / math.sqrt(4000)
    assert abs(column.std() - 0.5) < 5 * 0.5 / math.sqrt(2 * 4000)
    flat = pm.uniform("w0", -2, 5, 4000, seed=1).columns["w0"]
    assert flat.min() >= -2
    assert flat.max() <= 5
    assert abs(flat.mean() - 1.5) < 5 * 7 / math.sqrt(12 * 4000)


def test_a_uniform_axis_may_be_as_wide_as_float64():
    column = pm.uniform("w0", -1.7e308, 1.7e308, 99, 1).columns["w0"]
    assert np.isfinite(column).all()
    assert column.min() < 0 < column.max()


def test_points_and_zips_vary_together():
    points = pm.points(w0=[1, 2], b0=[3, 4])
    assert (points.names, points.size) == (("w0", "b0"), 2)
    nested = pm.zip(pm.linspace("lr", 1, 2, 2), pm.zip(points, pm.values("y", [0, 1])))
    assert (nested.names, nested.size) == (("lr", "w0", "b0", "y"), 2)
    assert {name: list(c) for name, c in nested.columns.items()} == {
        "lr": [1, 2],
        "w0": [1, 2],
        "b0": [3, 4],
        "y": [0, 1],
    }


AXES = [
    pm.linspace("w0", -1, 1, 5),
    pm.geomspace("lr", 1e-3, 1, 4),
    pm.values("lr", [1, 2]),
    pm.points(w0=[1, 2], b0=[3, 4]),
    pm.normal("w0", 0, 1, 3, 7),
    pm.uniform("w0", 0, 1, 3, 7),
    pm.zip(pm.linspace("w0", 0, 1, 2), pm.zip(pm.values("b0", [1, 2]))),
]


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.kind)
def test_an_axis_survives_its_dict_form_which_holds_its_values(axis):
    words = axis.to_dict()
    again = AXIS.validate_python(words)
    assert again == axis
    assert hash(again) == hash(axis)
    assert again.to_dict() == words
    assert words["kind"] == axis.kind
    if axis.kind != "zip":
        assert "values" in words


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis.kind)
def test_the_dict_form_without_values_makes_them_anew(axis):
    words = axis.to_dict()
    if "num" in words:
        del words["values"]
        assert AXIS.validate_python(words) == axis


def test_stored_values_win_over_the_librarys():
    words = pm.linspace("w0", 0, 1, 3).to_dict()
    words["values"][1] = 0.4999999999999999
    assert AXIS.validate_python(words).values == (0.0, 0.4999999999999999, 1.0)


@pytest.mark.parametrize(
    ("axis", "stored", "reported"),
    [
        (pm.linspace("w0", 0, 1, 3), [0.0, 1.0], "2 values are stored but num is 3"),
        (pm.linspace("w0", 0, 1, 3), [0.1, 0.5, 1.0], "0.1 but start is 0.0"),
        (pm.geomspace("lr", 1, 4, 3), [1.0, 2.0, 3.0], "3.0 but stop is 4.0"),
        (pm.uniform("lr", 1, 4, 2, 0), [1.0, 5.0], "5.0 is outside [low, high]"),
        (pm.normal("lr", 1, 4, 2, 0), [1.0], "1 values are stored but num is 2"),
    ],
)
def test_stored_values_that_cannot_be_right_are_refused(axis, stored, reported):
    words = axis.to_dict() | {"values": stored}
    with pytest.raises(ValueError, match="omit `values`") as caught:
        AXIS.validate_python(words)
    assert reported in str(caught.value)


def test_a_repr_is_short():
    long = [*range(1000)]
    for axis in (pm.linspace("w0", -8, 8, 257), pm.values("w0", long), pm.points(w0=long, b0=long)):
        assert len(repr(axis)) < 100
        assert str(axis) == repr(axis)


REFUSED = [
    (lambda: pm.linspace("w0", 0, 1, 0), "num", "num = 0", "at least 1"),
    (lambda: pm.linspace("w0", 0, 1, -3), "num", "num = -3", "at least 1"),
    (lambda: pm.linspace("w0", 0, 1, 2.5), "num", "2.5", "whole number"),
    (lambda: pm.linspace("w0", 0, 1, True), "num", "True", "whole number"),
    (lambda: pm.linspace("w0", 0, 1, "7"), "num", "'7'", "without quotes"),
    (lambda: pm.linspace("w0", 0, 1, 10**12), "num", "1000000000000", "at most 10,000,000"),
    (lambda: pm.linspace("w0", 0, 1, 10**30), "num", "1000000", "at most"),
    (lambda: pm.linspace("w0", 1, 1, 3), "stop", "start = 1.0", "must be start < stop"),
    (lambda: pm.linspace("w0", 2, 1, 3), "stop", "stop = 1.0", "must be start < stop"),
    (lambda: pm.linspace("w0", math.nan, 1, 3), "start", "= nan", "finite number"),
    (lambda: pm.linspace("w0", 0, math.inf, 3), "stop", "= inf", "finite number"),
    (lambda: pm.linspace("w0", 0, 10**400, 3), "stop", "= inf", "finite number"),
    (lambda: pm.linspace("w0", "0", 1, 3), "start", "= '0'", "without quotes"),
    (lambda: pm.linspace("w0", False, 1, 3), "start", "= False", "finite number"),
    (lambda: pm.linspace("w0", None, 1, 3), "start", "= None", "finite number"),
    (lambda: pm.linspace("w0", 1j, 2, 3), "start", "= 1j", "finite number"),
    (lambda: pm.linspace("w0", -1.7e308, 1.7e308, 3), "", "overflows", "closer to zero"),
    (lambda: pm.linspace("", 0, 1, 3), "name", "''", "must not be empty"),
    (lambda: pm.linspace(3, 0, 1, 3), "name", "= 3", "must be a string"),
    (lambda: pm.geomspace("lr", 0, 1, 3), "start", "0.0", "contains 0"),
    (lambda: pm.geomspace("lr", -1, 0, 3), "stop", "0.0", "contains 0"),
    (lambda: pm.geomspace("lr", -1, 2, 3), "stop", "-1.0 to 2.0", "the same sign"),
    (lambda: pm.geomspace("lr", 3, 2, 3), "stop", "start = 3.0", "start < stop"),
    (lambda: pm.values("lr", []), "values", "empty", "at least one"),
    (lambda: pm.values("lr", 3), "values", "3 is not a list", "must be a list"),
    (lambda: pm.values("lr", "12"), "values", "'12' is not a list", "must be a list"),
    (lambda: pm.values("lr", {1, 2}), "values", "{1, 2} is not a list", "must be a list"),
    (lambda: pm.values("lr", [1, math.nan]), "values[1]", "= nan", "finite number"),
    (lambda: pm.values("lr", [1, "2"]), "values[1]", "= '2'", "without quotes"),
    (lambda: pm.values("lr", [1, True]), "values[1]", "= True", "finite number"),
    (lambda: pm.values("lr", [10**400]), "values[0]", "= inf", "finite number"),
    (lambda: pm.values("lr", np.array([[1.0, 0.0]])), "values[0]", "[1.0, 0.0]", "finite number"),
    (lambda: pm.points(), "values", "no coordinate", "at least one"),
    (lambda: pm.points(w0=[1, 2], b0=[1]), "values", "w0 has 2, b0 has 1", "same number"),
    (lambda: pm.points(w0=[1, "x"]), "values.w0[1]", "= 'x'", "without quotes"),
    (lambda: pm.points(w0=[]), "values.w0", "empty", "at least one"),
    (lambda: pm.zip(), "axes", "no axis", "at least one"),
    (
        lambda: pm.zip(pm.values("lr", [1]), pm.values("w0", [1, 2])),
        "axes",
        "lr has 1, w0 has 2",
        "same number",
    ),
    (lambda: pm.zip(3), "axes[0]", "= 3: not an axis", "linspace(...)"),
    (lambda: pm.normal("w0", 0, 0, 3, 1), "sd", "= 0", "greater than 0"),
    (lambda: pm.normal("w0", 0, -1, 3, 1), "sd", "= -1", "greater than 0"),
    (lambda: pm.normal("w0", 0, 1, 3, -1), "seed", "-1", "at least 0"),
    (lambda: pm.normal("w0", 1.7e308, 1.7e308, 99, 1), "", "overflows", "closer to zero"),
    (lambda: pm.uniform("w0", 1, 1, 3, 1), "high", "low = 1.0", "must be low < high"),
    (lambda: pm.uniform("w0", 0, 1, 3, 1.5), "seed", "1.5", "whole number"),
]


@pytest.mark.parametrize(("build", "path", "value", "remedy"), REFUSED)
def test_a_bad_axis_is_refused_with_place_value_and_remedy(build, path, value, remedy):
    faults = faults_of(build)
    assert list(faults) == [path]
    assert value in faults[path]
    assert remedy in faults[path]


def test_all_faults_of_an_axis_are_reported_at_once():
    faults = faults_of(lambda: pm.linspace(3, 2, 1, 0))
    assert set(faults) == {"name", "stop", "num"}
    assert set(faults_of(lambda: pm.values("lr", [math.nan, 1, "a"]))) == {"values[0]", "values[2]"}


def test_a_list_of_nothing_but_faults_is_reported_briefly():
    faults = faults_of(lambda: pm.values("lr", [math.nan] * 1000))
    assert len(faults) == 6
    assert "995 more" in faults["values"]


# --- coordinates ------------------------------------------------------------------------------


def test_a_coordinate_knows_its_range():
    rate = Coordinate("lr", "learning rate", None, 0.0, math.inf, minimum_excluded=True)
    target = Coordinate("y", "target", 0.0, 0.0, 1.0)
    assert rate.allows([-1, 0, 5e-324, 1e308]).tolist() == [False, False, True, True]
    assert target.allows([-1e-9, 0, 1, 1 + 1e-9]).tolist() == [False, True, True, False]
    assert rate.range == "greater than 0"
    assert target.range == "at least 0 and at most 1"
    assert Coordinate("x", "input", 1.0).range == "any finite number"


# --- grids ------------------------------------------------------------------------------------


@st.composite
def grids(draw):
    names = list(draw(st.permutations([c.name for c in COORDINATES])))
    axes, on_axes = [], 0
    for group in draw(st.lists(st.integers(1, 2), max_size=3)):
        held, size = names[on_axes : on_axes + group], draw(sizes)
        if len(held) < group:
            break
        on_axes += group
        if group == 1:
            axes.append(pm.values(held[0], draw(column(size))))
        elif draw(st.booleans()):
            axes.append(pm.points(**{name: draw(column(size)) for name in held}))
        else:
            axes.append(pm.zip(*(pm.values(name, draw(column(size))) for name in held)))
    fixed = {name: draw(finite) + 0.0 for name in names[on_axes:]}
    return Grid(axes, fixed, COORDINATES)


@given(grid=grids())
def test_coordinates_are_those_of_meshgrid(grid):
    meshed = np.meshgrid(*(np.arange(axis.size) for axis in grid.axes), indexing="ij")
    flat = [index.ravel() for index in meshed]
    actual = grid.coordinates(0, grid.size)
    assert list(actual) == [c.name for c in COORDINATES]
    for place, axis in enumerate(grid.axes):
        for name, values in axis.columns.items():
            np.testing.assert_array_equal(actual[name], values[flat[place]])
    for name, value in grid.fixed.items():
        np.testing.assert_array_equal(actual[name], np.full(grid.size, value))
    assert {array.dtype for array in actual.values()} == {np.dtype("float64")}


@given(grid=grids(), data=st.data())
def test_indices_are_those_of_unravel_index(grid, data):
    rows = np.array(data.draw(st.lists(st.integers(0, grid.size - 1), max_size=9)), dtype=np.int64)
    expected = np.unravel_index(rows, grid.shape) if grid.shape else ()
    actual, columns = grid.indices(rows), grid.index_columns(rows)
    assert tuple(columns) == grid.index_names == tuple(f"{name}_index" for name in actual)
    for place, axis in enumerate(grid.axes):
        for name in axis.names:
            np.testing.assert_array_equal(actual[name], expected[place])
            assert columns[f"{name}_index"].dtype == np.int32
            np.testing.assert_array_equal(columns[f"{name}_index"], expected[place])
    assert set(actual) == {name for axis in grid.axes for name in axis.names}


@given(grid=grids(), data=st.data())
def test_any_slice_is_a_slice_of_the_whole(grid, data):
    start = data.draw(st.integers(0, grid.size))
    stop = data.draw(st.integers(start, grid.size))
    whole, part = grid.coordinates(0, grid.size), grid.coordinates(start, stop)
    for name in whole:
        np.testing.assert_array_equal(part[name], whole[name][start:stop])
        assert part[name].shape == (stop - start,)


def test_rows_may_have_any_shape():
    grid = Grid([pm.values("w0", [5, 6, 7])], dict.fromkeys(("b0", "lr", "x", "y"), 1), COORDINATES)
    assert grid.coordinates_at([[2, 0], [1, 1]])["w0"].tolist() == [[7, 5], [6, 6]]
    assert grid.coordinates_at(2)["w0"].tolist() == 7
    assert grid.coordinates_at(2)["x"].tolist() == 1
    assert grid.coordinates_at([])["w0"].shape == (0,)


def test_the_first_axis_is_the_slowest():
    axes = [pm.values("w0", [1, 2]), pm.values("b0", [3, 4, 5])]
    grid = Grid(axes, {"lr": 1, "x": 1, "y": 0}, COORDINATES)
    assert grid.coordinates(0, 6)["w0"].tolist() == [1, 1, 1, 2, 2, 2]
    assert grid.coordinates(0, 6)["b0"].tolist() == [3, 4, 5, 3, 4, 5]


def test_names_of_one_axis_share_their_index():
    grid = Grid([pm.points(w0=[1, 1], b0=[2, 2])], {"lr": 1, "x": 1, "y": 0}, COORDINATES)
    columns = grid.index_columns([0, 1])
    assert columns["w0_index"].tolist() == columns["b0_index"].tolist() == [0, 1]


def test_a_grid_without_axes_is_one_point():
    grid = Grid([], dict.fromkeys(("w0", "b0", "lr", "x", "y"), 2.0), COORDINATES)
    assert (grid.size, grid.shape) == (1, ())
    assert grid.coordinates(0, 1)["w0"].tolist() == [2.0]
    assert grid.index_columns([0]) == {}


@pytest.mark.parametrize("rows", [[-1], [6], [0, 10**9], [0.0], [True]])
def test_a_row_outside_the_grid_is_refused(rows):
    grid = Grid([pm.values("w0", range(6))], dict.fromkeys(("b0", "lr", "x", "y"), 1), COORDINATES)
    with pytest.raises(IndexError, match="row"):
        grid.coordinates_at(rows)


def test_a_grid_of_a_billion_points_costs_nothing():
    axes = [pm.linspace(name, 1, 2, 1000) for name in ("w0", "b0", "lr")]
    tracemalloc.start()
    grid = Grid(axes, {"x": 1, "y": 0}, COORDINATES)
    last = grid.coordinates(grid.size - 5, grid.size)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grid.size == 10**9
    assert last["lr"].tolist() == list(np.linspace(1, 2, 1000)[-5:])
    assert peak < 1_000_000
