"""The explorer without a browser: views, sweeps, lengths, images and curves."""

import time

import numpy as np
import pytest
from tests.program import plateaumap

import plateaumap as pm
from plateaumap.explore.curves import curve, point_detail
from plateaumap.explore.lengths import NO_THEORY, WindowLengths, lengths, table
from plateaumap.explore.server import start_server, sweep_at
from plateaumap.explore.view import View
from plateaumap.explore.windows import COVERS, Request, answers, figure_bytes, image
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.theory.base import case_of

SMALL = View().with_window((-3, 6), (-2, 5))


def quartic(z, y):
    return (z - y) ** 4


def test_a_window_becomes_a_sweep_with_a_point_at_the_centre_of_each_cell():
    sweep = SMALL.sweep(9, 7)
    across, up = sweep.axes[1].columns["w0"], sweep.axes[0].columns["b0"]
    np.testing.assert_allclose(across, np.arange(-2.5, 6))
    np.testing.assert_allclose(up, np.arange(-1.5, 5))
    assert sweep.method == "leap"
    assert sweep.horizon is None
    rates = SMALL.with_sides("lr", "w0").sweep(4, 2).axes[1].columns["lr"]
    edges = np.geomspace(1e-3, 10, 9)
    np.testing.assert_allclose(rates, edges[1::2])


def test_the_saved_spec_is_that_of_the_window_and_runs(tmp_path):
    file = tmp_path / "view.toml"
    file.write_text(SMALL.spec(5, 4, "plateau_epochs"))
    assert pm.Sweep.load(file) == SMALL.sweep(5, 4)
    done = plateaumap("run", file, "--out", tmp_path / "out")
    assert done.code == 0, done.output
    frame = pm.load(tmp_path / "out")
    known = {
        name: lengths(SMALL.sweep(5, 4, (name,)), "plateau_epochs", 0, 20)
        for name in ("quadratic", "cross_entropy")
    }
    drawn = table(SMALL.sweep(5, 4), known)
    for column in drawn.columns.drop("epochs_run"):
        assert list(drawn[column]) == list(frame[column]), column


@pytest.mark.parametrize("method", ["theory", "simulation"])
def test_theory_and_simulation_give_the_same_lengths(method):
    sweep = SMALL.replace(method=method, horizon=100_000).sweep(6, 6, ("quadratic",))
    computed = lengths(sweep, "plateau_epochs", 0, 36)
    w0, b0 = (sweep.grid.coordinates(0, 36)[name] for name in ("w0", "b0"))
    exact = pm.plateau_epochs(w0, b0, 0.15)
    converged = 1 / (1 + np.exp(-(w0 + b0))) <= 0.01
    np.testing.assert_array_equal(np.ma.getmaskarray(computed.epochs), converged)
    np.testing.assert_array_equal(computed.epochs[~converged], exact[~converged])


def test_a_picture_shows_values_and_covers():
    epochs = np.ma.MaskedArray([10, 0, 0, 1000], mask=[False, True, True, False])
    status = np.array([0, 2, NO_THEORY, 0], np.uint8)
    drawn = image([WindowLengths(epochs, status)], (2, 2), ((0, 1), (0, 1)))
    np.testing.assert_array_equal(drawn.values, [[10, np.nan], [np.nan, 1000]])
    labels = [[COVERS[code][0] for code in row] for row in drawn.covers]
    assert labels == [["", "converged at the start"], ["no theory for this path: simulate", ""]]
    assert drawn.limits == (10, 1000)
    ratio = image([WindowLengths(epochs, status)] * 2, (2, 2), ((0, 1), (0, 1)))
    np.testing.assert_array_equal(ratio.values, [[1, np.nan], [np.nan, 1]])
    assert ratio.limits[0] * ratio.limits[1] == pytest.approx(1)


def test_answers_grow_to_full_resolution():
    *coarse, last = answers(Request(SMALL, 40, 32, (0,), "plateau_epochs"), time.perf_counter())
    assert coarse[0].coarseness == 8
    assert coarse[0].image.values.shape == (4, 5)
    assert last.is_final
    across = last.sweep.axes[1].columns["w0"]
    exact = pm.plateau_epochs(across, last.sweep.axes[0].columns["b0"][:, None], 0.15)
    known = ~np.isnan(last.image.values)
    np.testing.assert_array_equal(last.image.values[known], exact[known])


def test_a_view_begins_with_a_sweep_of_any_shape():
    atlas = pm.Sweep(
        axes=[
            pm.values("lr", [0.01, 0.15, 2]),
            pm.linspace("b0", -8, 8, 33),
            pm.linspace("w0", -4, 4, 33),
        ],
        horizon=500,
    )
    view = View.of(atlas)
    assert (view.across, view.up, view.fixed["lr"], view.horizon) == ("w0", "b0", 0.15, 500)
    assert view.spans["w0"] == pytest.approx((-4.125, 4.125))
    rates = pm.Sweep(axes=[pm.geomspace("lr", 0.01, 1, 40)], fixed={"w0": 2, "b0": 2})
    assert {View.of(rates).across, View.of(rates).up} == {"lr", "w0"}
    point = pm.Sweep(fixed={"w0": 20, "b0": 2, "lr": 0.1})
    assert View.of(point).spans["w0"] == (-8, 20)
    cloud = pm.Sweep(axes=[pm.points(w0=[1, 2, 4], b0=[0, 0, 1], lr=[0.1, 0.2, 0.3])])
    assert (View.of(cloud).across, View.of(cloud).up) == ("w0", "b0")


@pytest.mark.slow
def test_the_experiment_decides_whether_theory_applies():
    gelu = SMALL.with_activation("gelu")
    assert gelu.losses == ("quadratic",)
    for view in (SMALL, gelu):
        sweep = view.replace(horizon=700).sweep(4, 4)
        known = case_of(view.experiment.theory("quadratic")) is not None
        assert view.has_theory("quadratic") is known
        assert (sweep.method, sweep.horizon) == (("leap", None) if known else ("simulate", 700))
    tanh = SMALL.with_activation("tanh")
    sweep = tanh.sweep(4, 4, ("matching",))
    computed = lengths(sweep, "plateau_epochs", 0, 16)
    points = sweep.grid.coordinates(0, 16)
    exact = pm.plateau_epochs(**points, loss="matching", activation="tanh", errors="mask")
    known = ~np.ma.getmaskarray(computed.epochs)
    assert known.any()
    np.testing.assert_array_equal(computed.epochs[known], exact[known])
    assert tanh.losses == ("quadratic", "matching")
    back = SMALL.with_activation("tanh").with_activation("gelu").with_activation("sigmoid")
    assert back.losses == ("quadratic", "cross_entropy")


def test_impossible_views_are_refused():
    with pytest.raises(PlateaumapError, match="y = 2: must be at least 0 and at most 1"):
        SMALL.with_value("y", 2)
    with pytest.raises(PlateaumapError, match="choose two coordinates"):
        SMALL.with_sides("w0", "w0")
    with pytest.raises(PlateaumapError, match="too small for float64"):
        SMALL.with_window((1, 1 + 1e-14), (0, 1))
    with pytest.raises(PlateaumapError, match="y from 2 to 3: the window must be at least 0"):
        SMALL.with_sides("w0", "y").with_window((0, 1), (2, 3))
    assert SMALL.with_sides("w0", "y").with_window((0, 1), (-1, 0.5)).spans["y"] == (0, 0.5)
    custom = SMALL.replace(losses=(quartic,))
    with pytest.raises(PlateaumapError, match="'quartic' is custom code"):
        custom.spec(4, 4, "plateau_epochs")


def test_a_point_has_rows_and_curves():
    detail = point_detail(SMALL, 2.0, 2.0)
    assert detail.rows["quadratic"]["plateau_epochs"] == 152
    drawn = detail.curves["quadratic"].columns
    assert 152 in drawn["epoch"]
    curve_of = pm.simulate(loss="quadratic", w0=2, b0=2, lr=0.15, epochs=int(drawn["epoch"][-1]))
    for name in ("loss", "output", "w", "b"):
        expected = curve_of[name].to_numpy()[drawn["epoch"].astype(int)]
        np.testing.assert_array_equal(drawn[name], expected)


@pytest.mark.parametrize("loss", ["quadratic", "cross_entropy"])
def test_long_curves_follow_the_flow_at_full_length(loss):
    # 199,605 epochs for the quadratic loss: short enough to be simulated, too.
    sweep = SMALL.point(6.0, 5.0)
    drawn = curve(sweep, loss, 219_705, []).columns
    assert drawn["epoch"][-1] == pytest.approx(219_705, rel=1e-6)
    simulated = pm.simulate(loss=loss, w0=6, b0=5, lr=0.15, epochs=219_800)
    for name in ("loss", "output", "w", "b"):
        # The flow is off by up to 7 epochs at rates up to 1, and they lie between points.
        step = np.abs(np.diff(simulated[name])).max()
        expected = np.interp(drawn["epoch"], simulated["epoch"], simulated[name])
        np.testing.assert_allclose(drawn[name], expected, atol=8 * step)


def test_curves_of_any_length_pass_their_plateau():
    detail = point_detail(SMALL, 16.0, 16.0)
    length = detail.rows["quadratic"]["plateau_epochs"]
    drawn = detail.curves["quadratic"].columns
    assert "flow" in detail.note
    assert drawn["epoch"][-1] > length > 10**14
    before, after = np.interp([0.98 * length, 1.01 * length], drawn["epoch"], drawn["loss"])
    assert before > 0.9 * drawn["loss"][0]
    assert after < 0.01 * drawn["loss"][0]


def test_figures_show_the_window(tmp_path):
    request = Request(SMALL, 30, 30, (0,), "plateau_epochs")
    assert figure_bytes(request, "png").startswith(b"\x89PNG")
    with pytest.raises(PlateaumapError, match="figures show T10"):
        figure_bytes(Request(SMALL, 30, 30, (0,), "half_epochs"), "png")


def test_a_source_without_a_sweep_is_refused(tmp_path):
    assert sweep_at(None).size == 1
    done = plateaumap("explore", tmp_path / "nothing.toml", "--no-browser")
    assert done.code == 2
    assert "does not exist" in done.output
    done = plateaumap("explore", tmp_path, "--no-browser")
    assert done.code == 2


def test_a_port_in_use_is_refused():
    import asyncio

    async def twice() -> None:
        server = start_server(SMALL, port=0)
        try:
            with pytest.raises(PlateaumapError, match="give another --port"):
                start_server(SMALL, port=server.port)
            with pytest.raises(PlateaumapError, match="cannot listen on 203"):
                start_server(SMALL, address="203.0.113.7", port=0)
        finally:
            server.stop()

    asyncio.run(twice())
