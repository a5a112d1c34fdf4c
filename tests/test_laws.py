"""Laws of the neuron that the engine must obey."""

import numpy as np
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.execution.local import LocalBackend
from tests import reference
from tests.marks import slow

BOTH = ("quadratic", "cross_entropy")


def random_points(seed: int, count: int, **ranges: tuple[float, float]) -> dict[str, list[float]]:
    generator = np.random.default_rng(seed)
    return {name: generator.uniform(*ends, count).tolist() for name, ends in ranges.items()}


def test_the_reference_agrees_on_a_random_sweep() -> None:
    points = random_points(1, 60, w0=(-3, 3), b0=(-3, 3), x=(-2.5, 2.5), y=(0.05, 0.95))
    points["lr"] = np.geomspace(0.05, 0.8, 60).tolist()
    frame = pm.run(pm.Sweep(losses=BOTH, axes=[pm.points(**points)], horizon=4000, tolerance=0.02))
    compared = 0
    for row in frame.itertuples():
        run = reference.train(row.loss, row.w0, row.b0, row.lr, row.x, row.y, 4000)
        if row.status == "converged_at_start":
            assert abs(reference.sigmoid(row.w0 * row.x + row.b0) - row.y) <= 0.02
            continue
        found = [row.plateau_epochs, row.half_epochs, row.tenth_epochs]
        expected = [run.plateau, run.half, run.tenth]
        assert [None if value is pd.NA else value for value in found] == expected
        if run.tenth is not None:
            compared += 1
            assert row.steepest_epoch == run.steepest
            peak = max(abs(g) for g in run.gradients) / abs(run.gradients[0])
            assert row.acceleration == pytest.approx(peak, rel=1e-12)
            moved = run.w[run.plateau] - run.w[0]
            assert row.w_moved == pytest.approx(moved, rel=1e-9, abs=1e-14)
            assert row.epochs_run == run.tenth
            assert row.final_loss - row.loss_floor == pytest.approx(run.excess[-1], rel=1e-9)
    assert compared > 80


def test_plateaus_are_equal_along_lines_of_equal_pre_activation() -> None:
    """On a grid of sixteenths z0 is exact; rounding on the way differs between the starts."""
    split = np.arange(-4, 4.25, 0.25)
    for z0 in (-1.0, 2.0, 4.0, 6.5):
        starts = pm.points(w0=split.tolist(), b0=(z0 - split).tolist())
        frame = pm.run(pm.Sweep(losses=BOTH, axes=[starts], fixed={"lr": 0.15}))
        for _, rows in frame.groupby("loss", observed=True):
            for column in ("plateau_epochs", "half_epochs", "tenth_epochs", "steepest_epoch"):
                assert rows[column].nunique() == 1


def test_mirroring_the_start_and_the_target_changes_nothing() -> None:
    points = random_points(2, 200, w0=(-5, 5), b0=(-5, 5), x=(-2, 2))
    y = np.random.default_rng(3).choice([0.0, 0.25, 0.5, 1.0], 200)
    here = pm.points(**points, y=y.tolist())
    there = pm.points(
        w0=(-np.array(points["w0"])).tolist(),
        b0=(-np.array(points["b0"])).tolist(),
        x=points["x"],
        y=(1 - y).tolist(),
    )
    one, other = (
        pm.run(pm.Sweep(losses=BOTH, axes=[axis], fixed={"lr": 0.4}, horizon=3000))
        for axis in (here, there)
    )
    same = [c for c in one if not c.endswith("_index") and c not in ("w0", "b0", "y")]
    flipped = {"initial_gradient", "w_moved", "b_moved"}
    for column in same:
        if "output" in column:
            np.testing.assert_allclose(one[column], 1 - other[column], atol=1e-15)
        elif column in flipped:
            np.testing.assert_array_equal(one[column], -other[column])
        else:
            pd.testing.assert_series_equal(one[column], other[column])


def test_plateaus_grow_as_one_over_a_small_learning_rate() -> None:
    rates = [0.001, 0.0005, 0.00025]
    sweep = pm.Sweep(
        losses=BOTH,
        axes=[pm.values("w0", [0.5, 2.0]), pm.values("lr", rates)],
        fixed={"b0": 2.0},
        horizon=10**6,
        until="plateau",
    )
    frame = pm.run(sweep)
    for _, rows in frame.groupby(["loss", "w0"], observed=True):
        scaled = rows["plateau_epochs"].to_numpy(float) * rates
        np.testing.assert_allclose(scaled, scaled[-1], rtol=0.01)


@pytest.mark.slow
def test_cross_entropy_is_fastest_when_it_is_most_wrong() -> None:
    sweep = pm.Sweep(
        losses="cross_entropy",
        axes=[pm.linspace("w0", -4, 8, 49), pm.geomspace("lr", 0.01, 10, 7)],
        fixed={"b0": 0.0},
    )
    frame = pm.run(sweep)
    seen = frame[frame["tenth_epochs"].notna()]
    assert len(seen) > 200
    assert (seen["plateau_fraction"] <= (1 + 1e-9) / 9).all()
    assert (seen["acceleration"] <= 1 + 1e-12).all()
    assert (seen["steepest_epoch"] == 0).all()
    assert (seen["shape"] == "none").all()


def test_the_acceleration_of_the_quadratic_loss_is_what_theory_says() -> None:
    """(4/27) / (a0² (1 − a0)) for a0 > 2/3, reached in the limit of small steps."""
    sweep = pm.Sweep(
        losses="quadratic",
        axes=[pm.linspace("w0", 0.8, 6, 14)],
        fixed={"b0": 0.0, "lr": 0.001},
        horizon=10**6,
    )
    frame = pm.run(sweep)
    a0 = frame["initial_output"]
    theory = np.where(a0 > 2 / 3, (4 / 27) / (a0**2 * (1 - a0)), 1.0)
    np.testing.assert_allclose(frame["acceleration"], theory, rtol=1e-5)


@pytest.mark.parametrize("loss", ["quadratic", *slow("cross_entropy")])
def test_rows_do_not_depend_on_the_size_of_blocks_their_order_or_the_threads(loss: str) -> None:
    sweep = pm.Sweep(
        losses=loss,
        axes=[pm.linspace("w0", -4, 5, 23), pm.linspace("b0", -3, 4, 17)],
        fixed={"lr": 0.3, "x": 1.1, "y": 0.0},
        horizon=2000,
    )
    expected = pm.run(sweep, threads=1)
    for lanes, threads in ((64, 2), (192, 1), (4096, 2)):
        frame = pm.run(sweep, backend=LocalBackend(threads, lanes))
        pd.testing.assert_frame_equal(frame, expected, check_exact=True)


def test_any_slice_of_a_huge_sweep_can_be_evaluated_alone() -> None:
    sweep = pm.Sweep(
        losses=BOTH,
        axes=[
            pm.linspace("w0", -3, 3, 1000),
            pm.linspace("b0", -3, 3, 1000),
            pm.geomspace("lr", 0.1, 1, 1000),
        ],
        horizon=50,
    )
    assert sweep.size == 10**9
    slice_ = pm.run(sweep, rows=range(1_500_000_007, 1_500_000_010))
    assert slice_["loss"].tolist() == ["cross_entropy"] * 3
    assert slice_["lr_index"].tolist() == [7, 8, 9]
    alone = pm.evaluate(sweep, {"loss": "cross_entropy"} | dict(slice_.iloc[1][["w0", "b0", "lr"]]))
    for name, value in slice_.iloc[1].items():
        if not name.endswith("_index"):
            assert alone[name] == value or (
                pd.isna(value) and (alone[name] is None or pd.isna(alone[name]))
            )


@pytest.mark.parametrize("precision", ["float64", *slow("float32", "float32_plain")])
def test_only_the_horizon_censors_and_it_does_so_at_the_horizon(precision: str) -> None:
    """Among starts where rounding freezes b alone, both parameters, or nothing."""
    horizon = 1500
    starts = pm.points(w0=[-1.5, -1.5, 20.0, 6.7, 5.0, 2.0], b0=[56.875, 30.0, 20.0, 6.7, 5.0, 2.0])
    sweep = pm.Sweep(
        losses=BOTH,
        axes=[starts, pm.values("x", [0.125, 1.0, 16.0]), pm.values("y", [0.0, 0.25, 1.0])],
        fixed={"lr": 0.125},
        horizon=horizon,
        tolerance=0,
        precision=precision,
    )
    frame = pm.run(sweep)
    censored = frame["status"] == "censored"
    assert censored.any()
    assert (frame["epochs_run"][censored] == horizon).all()
    early = frame[~censored & frame["tenth_epochs"].isna()]
    assert early["status"].isin(["stalled", "partially_stalled"]).any()
