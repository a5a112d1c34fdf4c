"""Every status, its precedence and its null columns, against brute force and the oracle."""

import itertools
import math
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pandas as pd
import pytest

import plateaumap as pm
from plateaumap.training.measures import LEVELS, Path, PathState, share_left

BOTH = ("quadratic", "cross_entropy")
CROSSINGS = ["plateau_epochs", "half_epochs", "tenth_epochs"]
NULL_UNLESS_FINISHED = [
    "plateau_fraction",
    "acceleration",
    "tangent_lag",
    "steepest_epoch",
    "shape",
]
DTYPE = {"float64": np.float64, "float32": np.float32, "float32_plain": np.float32}
START = {"w0": 2.0, "b0": 2.0, "lr": 0.15}


def row_of(loss="quadratic", horizon=1000, tolerance=0.01, **settings):
    """Return the one row of a sweep of one point."""
    sweep = {k: settings.pop(k) for k in ("precision", "until") if k in settings}
    fixed = {**START, **settings}
    return pm.run(
        pm.Sweep(losses=loss, fixed=fixed, horizon=horizon, tolerance=tolerance, **sweep)
    ).iloc[0]


def saturated_points(count, seed):
    """Return points that float32 represents exactly, many of them deep in saturation."""
    random = np.random.default_rng(seed)
    x = random.choice([0.0, 0.125, 1.0, 1.0, 1.0, -2.0, 16.0], count)
    z0 = random.uniform(1, 24, count)
    w0 = np.round(random.uniform(-8, 8, count) * 16) / 16
    b0 = np.round((z0 - w0 * x) * 16) / 16
    lr = 2.0 ** random.integers(-9, 3, count)
    y = random.choice([0.0, 0.0, 0.25], count)
    return {"w0": w0, "b0": b0, "lr": lr, "x": x, "y": y}


def by_brute_force(curve, point, precision, horizon, floor):
    """Return status, epochs run and crossings of a whole curve, by the definitions."""
    dtype = DTYPE[precision]
    w, b = (curve[name].to_numpy(dtype) for name in ("w", "b"))
    excess = curve["loss"].to_numpy() - floor
    step_w, step_b = (curve[name].to_numpy() * point["lr"] for name in ("gradient_w", "gradient_b"))
    share_w, share_b = point["x"] ** 2 / (1 + point["x"] ** 2), 1 / (1 + point["x"] ** 2)
    crossings, lost, stop = [], 0.0, "censored"
    for epoch in range(horizon + 1):
        while len(crossings) < 3 and excess[epoch] <= (0.9, 0.5, 0.1)[len(crossings)] * excess[0]:
            crossings.append(epoch)
        if len(crossings) == 3 or epoch == horizon:
            break
        w_frozen, b_frozen = w[epoch + 1] == w[epoch], b[epoch + 1] == b[epoch]
        if w_frozen and b_frozen:
            stop = "stalled"
            break
        lost += share_w * (w_frozen and step_w[epoch] != 0)
        lost += share_b * (b_frozen and step_b[epoch] != 0)
        if lost > 0.5:
            stop = "partially_stalled"
            break
    return "escaped" if crossings else stop, epoch, (*crossings, None, None, None)[:3]


@pytest.mark.parametrize("precision", ["float64", "float32_plain"])
def test_statuses_are_what_a_whole_curve_shows(precision):
    """In plain arithmetic: the definitions, applied to each epoch of a curve of `simulate`."""
    horizon, count, seed, depth = {"float64": (1500, 60, 5, 2), "float32_plain": (1500, 40, 6, 1)}[
        precision
    ]
    points = saturated_points(count, seed)
    points["b0"] *= depth  # float64 saturates later
    axes = [pm.points(**{name: values.tolist() for name, values in points.items()})]
    seen = set()
    for loss in BOTH:
        sweep = pm.Sweep(losses=loss, axes=axes, horizon=horizon, precision=precision, tolerance=0)
        for _, row in pm.run(sweep).iterrows():
            point = {name: float(row[name]) for name in points}
            curve = pm.simulate(loss=loss, **point, epochs=horizon, precision=precision)
            status, epoch, crossings = by_brute_force(
                curve, point, precision, horizon, row["loss_floor"]
            )
            assert row["status"] == status, point
            assert row["epochs_run"] == epoch, point
            assert [None if row[c] is pd.NA else row[c] for c in CROSSINGS] == list(crossings)
            seen.add(status)
    assert seen == {"escaped", "censored", "stalled", "partially_stalled"}


def test_a_first_update_freezes_exactly_below_half_a_gap():
    """`|lr g x|` against half the distance to the neighbour of w, with the exact gradient."""
    random = np.random.default_rng(7)
    count = 1500
    x = random.choice([0.5, 1.0, 4.0], count)
    w0 = random.uniform(0.25, 12, count).astype(np.float32).astype(float)
    b0 = random.uniform(0.25, 12, count).astype(np.float32).astype(float)
    lr = 2.0 ** random.integers(-6, 6, count)
    starts = pm.points(w0=w0.tolist(), b0=b0.tolist(), x=x.tolist(), lr=lr.tolist())
    sweep = pm.Sweep(losses="quadratic", axes=[starts], horizon=1, precision="float32_plain")
    frame = pm.run(sweep)
    compared = {True: 0, False: 0}
    for row in frame.itertuples():
        # z itself is rounded, or fused into one operation; both are within these ends.
        z, blur = row.w0 * row.x + row.b0, 2.0**-23 * (abs(row.w0 * row.x) + abs(row.b0))
        a = [1 / (1 + mpmath.exp(-(z + shift))) for shift in (-blur, blur)]
        slopes = [float(a_ * a_ / (1 + mpmath.exp(z))) for a_ in a]
        frozen = set()
        for slope in (min(slopes) * (1 - 4 * blur), max(slopes) * (1 + 4 * blur)):
            update = row.lr * slope
            halves = [half_gap_below(value) for value in (row.w0, row.b0)]
            frozen.add((update * row.x < halves[0], update < halves[1]))
        if len(frozen) > 1:
            continue  # rounding of the gradient decides
        both = all(frozen.pop())
        assert (row.status == "stalled") == both, row
        compared[both] += 1
        if both:
            assert row.epochs_run == 0
            assert row.final_output == row.initial_output
    assert min(compared.values()) > 250


def half_gap_below(value):
    number = np.float32(value)
    return float(number - np.nextafter(number, np.float32(-np.inf))) / 2


def test_a_frozen_parameter_without_influence_does_not_stall_a_run():
    """x = 1000 freezes b at once and x = 0 leaves w alone; neither lengthens the plateau."""
    plain = {"precision": "float32_plain", "horizon": 20_000}
    for start in (
        {"w0": 0.004, "b0": 2.0, "x": 1000.0, "lr": 1e-7},
        {"w0": 5.0, "b0": 3.0, "x": 0.0, "lr": 0.15},
    ):
        rounded, exact = row_of(**start, **plain), row_of(**start, horizon=20_000)
        assert rounded["status"] == exact["status"] == "escaped"
        assert abs(rounded["plateau_epochs"] - exact["plateau_epochs"]) <= 1


def test_a_frozen_parameter_with_influence_is_reported_even_where_squares_underflow():
    """w moves from 0 by updates down to 10⁻²⁵, b is frozen: half of every epoch is lost."""
    for b0 in (20.0, 30.0, 44.0, 50.0, 56.0):
        row = row_of(w0=0.0, b0=b0, precision="float32_plain", horizon=5000)
        assert row["status"] == "partially_stalled"
        assert row["epochs_run"] <= 2


def test_a_plateau_that_a_frozen_parameter_prolongs_is_not_reported_as_a_length():
    """Plain float32 at x = 1: cells where exactly one of w and b freezes."""
    sweep = pm.Sweep(
        losses="quadratic",
        axes=[pm.linspace("w0", 0.0, 14.0, 57)],
        fixed={"b0": 0.25, "lr": 0.5},
        horizon=50_000,
    )
    exact = pm.run(sweep)
    plain = pm.run(pm.Sweep.from_dict({**sweep.to_dict(), "precision": "float32_plain"}))
    off = (plain["plateau_epochs"] - exact["plateau_epochs"]).abs() > exact["plateau_epochs"] / 4
    assert not off.any()
    assert (plain["status"] == "partially_stalled").any()


@pytest.mark.parametrize("precision", DTYPE)
def test_converged_precedes_every_other_status(precision):
    """An initial point within the tolerance is converged even if it cannot move."""
    for settings in (
        {"b0": -30.0, "w0": 0.0},  # frozen
        {"b0": -30.0, "w0": 0.0, "horizon": 1},
        {"b0": 30.0, "w0": 0.0, "y": 1.0, "lr": 1e300 if precision == "float64" else 1e30},
    ):
        row = row_of(**settings, precision=precision)
        assert row["status"] == "converged_at_start"
        assert row["epochs_run"] == 0
        assert pd.isna(row[CROSSINGS + NULL_UNLESS_FINISHED]).all()
        assert math.isnan(row["predicted_epochs"])
        assert row["final_output"] == row["initial_output"]
        assert row["final_loss"] == row["initial_loss"]


@pytest.mark.parametrize("loss", BOTH)
def test_the_tolerance_is_on_the_output_for_every_loss_alike(loss):
    inside, outside = (math.log(a / (1 - a)) for a in (0.3 + 0.0099, 0.3 + 0.0101))
    for z, status in ((inside, "converged_at_start"), (outside, "escaped")):
        row = row_of(loss, w0=0.0, b0=z, y=0.3, lr=1.0)
        assert row["status"] == status
    row = row_of(loss, w0=0.0, b0=inside, y=0.3, lr=1.0, tolerance=0)
    assert row["status"] == "escaped"


@pytest.mark.parametrize("precision", DTYPE)
@pytest.mark.parametrize("loss", BOTH)
def test_no_initial_excess_is_converged_for_any_tolerance(loss, precision):
    row = row_of(loss, w0=0.0, b0=0.0, y=0.5, tolerance=0, precision=precision)
    assert row["status"] == "converged_at_start"
    assert row["initial_loss"] == row["loss_floor"]


def test_a_censored_run_keeps_its_horizon_and_has_no_length():
    row = row_of(horizon=100)
    assert row["status"] == "censored"
    assert row["epochs_run"] == 100
    assert pd.isna(row[CROSSINGS + NULL_UNLESS_FINISHED]).all()
    assert pd.isna(row[["w_moved", "b_moved"]]).all()
    curve = pm.simulate(loss="quadratic", **START, epochs=100)
    assert row["final_output"] == curve["output"].iloc[-1]
    assert row["final_loss"] == curve["loss"].iloc[-1]


def test_the_horizon_itself_is_still_observed():
    """The unlucky neuron: T10 = 152, T50 = 212, T90 = 260."""
    for horizon, status, known in ((151, "censored", 0), (152, "escaped", 1), (212, "escaped", 2)):
        row = row_of(horizon=horizon)
        assert row["status"] == status
        assert row[CROSSINGS].notna().sum() == known
        assert row["epochs_run"] == horizon
        assert pd.isna(row[NULL_UNLESS_FINISHED]).all()
    row = row_of(horizon=260)
    assert row[CROSSINGS].tolist() == [152, 212, 260]
    assert row[NULL_UNLESS_FINISHED].notna().all()


def test_until_plateau_stops_at_t10_and_nulls_the_rest():
    whole, short = row_of(), row_of(until="plateau")
    assert short["status"] == "escaped"
    assert short["plateau_epochs"] == whole["plateau_epochs"] == short["epochs_run"]
    nulled = {"half_epochs", "tenth_epochs", *NULL_UNLESS_FINISHED}
    assert pd.isna(short[list(nulled)]).all()
    differs = {*nulled, "epochs_run", "final_output", "final_loss", "path"}
    for name in set(whole.index) - differs:
        same = short[name] == whole[name] or (pd.isna(short[name]) and pd.isna(whole[name]))
        assert same, name


def blows_up(z, y):
    """Return a loss with its minimum of 1 at z = 1, which is not defined for negative z."""
    return z - jnp.log(z) + 0 * y


@pytest.mark.slow
def test_a_status_describes_the_plateau_and_not_later_epochs():
    """From z = 10 with h = 6: T10 and T50 come at epoch 1, nan at epoch 2."""
    row = row_of(blows_up, w0=5.0, b0=5.0, lr=3.0)
    assert row["status"] == row_of(blows_up, w0=5.0, b0=5.0, lr=3.0, horizon=1)["status"]
    assert row["status"] == "escaped"
    assert (row["plateau_epochs"], row["half_epochs"], row["epochs_run"]) == (1, 1, 2)
    assert pd.isna(row[["tenth_epochs", *NULL_UNLESS_FINISHED]]).all()


def test_a_loss_that_cannot_fall_by_a_tenth_is_censored():
    """The initial loss is 1.09 above a floor of zero."""
    row = row_of(blows_up, w0=0.75, b0=0.75, lr=0.1, horizon=100)
    assert row["status"] == "censored"
    assert row["epochs_run"] == 100
    assert 1 <= row["final_loss"] < 1 + 1e-9


def test_an_initial_point_that_is_not_finite_is_reported_at_epoch_0():
    row = row_of(blows_up, w0=-5.0, b0=-5.0, tolerance=0)
    assert row["status"] == "not_finite"
    assert row["epochs_run"] == 0


@pytest.mark.parametrize("precision", DTYPE)
def test_parameters_that_overflow_are_not_finite(precision):
    huge = 1e308 if precision == "float64" else 1e38
    row = row_of(w0=0.0, b0=2.0, x=100.0, lr=huge, precision=precision)
    assert row["status"] == "not_finite"
    assert row["epochs_run"] == 1


def test_a_run_that_freezes_after_its_plateau_has_escaped_without_a_t90():
    """Where w and b are multiples of 1/2: T10 and T50 at the first update, frozen at the second."""
    row = row_of(
        "cross_entropy",
        w0=8e6,
        b0=1 - 8e6,
        y=0.25,
        lr=0.9,
        precision="float32_plain",
        horizon=10**5,
    )
    assert row["status"] == "escaped"
    assert row[["plateau_epochs", "half_epochs"]].tolist() == [1, 1]
    assert row["tenth_epochs"] is pd.NA
    assert row["epochs_run"] == 1
    assert pd.isna(row[NULL_UNLESS_FINISHED]).all()


def path_of(gradients):
    """Return the path of a run from its gradients, by the definition."""
    flips, rebounded = 0, False
    for before, now in itertools.pairwise(gradients):
        if before * now < 0:
            flips += 1
        elif flips and abs(now) > abs(before) * (1 + 1e-9):
            rebounded = True
    return "rebound" if rebounded else (None, "overshoot")[flips] if flips < 2 else "oscillating"


@pytest.mark.parametrize("loss", BOTH)
def test_paths_are_what_a_whole_curve_shows(loss):
    random = np.random.default_rng(11)
    y = random.uniform(0.02, 0.98, 80)
    z0 = random.uniform(-6, 6, 80)
    lr = 10 ** random.uniform(-1, 2.5, 80)
    points = pm.points(b0=z0.tolist(), y=y.tolist(), lr=lr.tolist())
    sweep = pm.Sweep(losses=loss, axes=[points], fixed={"w0": 0.0}, horizon=200)
    seen = set()
    for _, row in pm.run(sweep).iterrows():
        epochs = int(row["epochs_run"])
        curve = pm.simulate(loss=loss, w0=0, b0=row["b0"], lr=row["lr"], y=row["y"], epochs=epochs)
        expected = path_of(curve["gradient"].tolist())
        path = None if pd.isna(row["path"]) else row["path"]
        assert path == expected, row
        seen.add(path)
    # The cross-entropy is convex in z: past the target its gradient cannot grow unless it flips.
    assert seen == {None, "overshoot", "oscillating"} | (
        {"rebound"} if loss == "quadratic" else set()
    )


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_a_target_at_the_edge_is_never_overshot(y):
    sweep = pm.Sweep(
        losses=BOTH,
        axes=[pm.linspace("b0", -8, 8, 33), pm.geomspace("lr", 0.01, 1000, 6)],
        fixed={"w0": 0.0, "y": y},
        horizon=2000,
    )
    assert pm.run(sweep)["path"].isna().all()


@pytest.mark.slow
def test_shapes_follow_from_acceleration_and_fraction():
    sweep = pm.Sweep(
        losses=BOTH,
        axes=[pm.linspace("w0", -3, 6, 40), pm.geomspace("lr", 0.01, 10, 4)],
        fixed={"b0": 0.0, "y": 0.0},
        horizon=3000,
    )
    frame = pm.run(sweep)
    seen = frame[frame["tenth_epochs"].notna()]
    expected = np.where(
        seen["acceleration"] <= 1 + 1e-9,
        "none",
        np.where(seen["plateau_fraction"] >= 0.5, "plateau", "weak"),
    )
    assert (seen["shape"].astype(str) == expected).all()
    assert set(expected) == {"none", "plateau", "weak"}
    assert frame["shape"].isna().equals(frame["tenth_epochs"].isna())


def test_a_level_is_the_decimal_share_that_is_left():
    assert [share_left(drop) for drop in LEVELS.values()] == [0.9, 0.5, 0.1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_change_of_sign_is_detected_for_gradients_of_any_size(dtype):
    tiny = np.finfo(dtype).tiny
    state = PathState(dtype(tiny), np.int32(0), np.bool_(False))
    now = SimpleNamespace(gradient=dtype(-tiny), direction=dtype(-tiny))
    with jax.enable_x64(True):
        assert Path().update(state, None, now).flips == 1
