"""The accuracy of each precision: where it is exact, and which rows it marks."""

import itertools

import jax
import mpmath
import numpy as np
import optax
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.accuracy import compute
from tests.marks import slow
from tests.test_golden import LOSS, run_golden

import plateaumap as pm

BOTH = ("quadratic", "cross_entropy")
CROSSINGS = ["plateau_epochs", "half_epochs", "tenth_epochs"]
DTYPE = {"float64": np.float64, "float32": np.float32, "float32_plain": np.float32}
ALWAYS_FINITE = [
    *("initial_output", "final_output", "initial_gradient"),
    *("initial_loss", "final_loss", "loss_floor"),
]
UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


def off_by_more_than_one(frame: pd.DataFrame, exact: pd.DataFrame) -> np.ndarray:
    """Return the cells with a crossing that differs by two or more epochs, or is null only once."""
    off = np.zeros(len(frame), bool)
    for name in CROSSINGS:
        here, there = (f[name].to_numpy(float, na_value=np.nan) for f in (frame, exact))
        off |= (np.isnan(here) != np.isnan(there)) | (np.abs(here - there) > 1)
    return off


def saturated(precision: str, loss: str = "quadratic", **axes) -> pd.DataFrame:
    """Return a sweep from points that learn at once to points that float32 cannot move."""
    sweep = pm.Sweep(
        losses=loss,
        axes=[
            axes.get("w0", pm.linspace("w0", 0, 8, 25)),
            axes.get("b0", pm.linspace("b0", -1, 8, 19)),
            pm.values("lr", [0.005, 0.15, 5]),
        ],
        horizon=axes.get("horizon", 50_000),
        precision=precision,
    )
    return pm.run(sweep)


STARTS = {
    "on a grid": {},
    "anywhere": {"w0": pm.uniform("w0", 0, 8, 25, 1), "b0": pm.uniform("b0", -1, 8, 19, 2)},
}


@pytest.mark.parametrize("starts", STARTS)
def test_compensated_float32_is_right_to_one_epoch_into_saturation(starts):
    exact, frame = (saturated(precision, **STARTS[starts]) for precision in ("float64", "float32"))
    off = off_by_more_than_one(frame, exact)
    marked = frame["status"].isin(["stalled", "partially_stalled"])
    assert not (off & ~marked).any()
    assert (exact["plateau_epochs"] > 10_000).sum() > 30


@pytest.mark.parametrize("starts", STARTS)
def test_plain_float32_marks_every_cell_that_it_gets_wrong(starts):
    exact, frame = (
        saturated(precision, **STARTS[starts]) for precision in ("float64", "float32_plain")
    )
    off = off_by_more_than_one(frame, exact)
    stalled = frame["status"].isin(["stalled", "partially_stalled"])
    assert not (off & ~stalled & ~frame["uncertain"]).any()
    assert (off & frame["uncertain"]).sum() > 15
    assert stalled.sum() > 50
    # The mark is informative: most correct rows are not marked.
    assert (~frame["uncertain"])[~off].mean() > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float32_plain"])
@pytest.mark.parametrize("loss", BOTH)
def test_float32_is_right_or_marked_up_to_the_longest_horizon_of_the_atlas(loss, precision):
    axes = {"w0": pm.linspace("w0", -8, 8, 65), "b0": pm.linspace("b0", -8, 8, 65)}
    exact, frame = (saturated(p, loss, **axes, horizon=100_000) for p in ("float64", precision))
    marked = frame["status"].isin(["stalled", "partially_stalled"])
    if precision == "float32_plain":
        marked |= frame["uncertain"]
    assert not (off_by_more_than_one(frame, exact) & ~marked).any()


@pytest.mark.slow
def test_only_plain_float32_has_the_column_uncertain():
    columns = {}
    for precision in DTYPE:
        sweep = pm.Sweep(losses="quadratic", fixed={"w0": 2, "b0": 2, "lr": 0.15}, horizon=300)
        sweep = pm.Sweep.from_dict({**sweep.to_dict(), "precision": precision})
        columns[precision] = pm.run(sweep).dtypes
    assert list(columns["float32"].index) == list(columns["float64"].index)
    assert list(columns["float32_plain"].index) == [*columns["float64"].index, "uncertain"]
    assert columns["float32_plain"]["uncertain"].kind == "b"


def test_uncertain_follows_from_the_bound_on_rounding():
    """`N² (|x| ulp(w) + ulp(b)) / 2` against one epoch, for decreasing parameters."""
    sweep = pm.Sweep(
        losses="quadratic",
        axes=[pm.linspace("w0", 0.5, 7.5, 29), pm.values("x", [0.25, 1.0])],
        fixed={"b0": 2.0, "lr": 0.15},
        horizon=20_000,
        precision="float32_plain",
    )
    frame = pm.run(sweep)
    units = [np.spacing(frame[name].to_numpy(np.float32)).astype(float) for name in ("w0", "b0")]
    shift = frame["epochs_run"].to_numpy(float) ** 2 * (frame["x"] * units[0] + units[1]) / 2
    clear = (shift < 0.4) | (shift > 2.5)  # b may have grown on the way
    assert clear.mean() > 0.4
    assert (frame["uncertain"] == (shift > 1))[clear].all()
    assert 5 < frame["uncertain"].sum() < len(frame) - 5


def test_a_run_past_its_target_has_no_bound_and_is_uncertain():
    sweep = pm.Sweep(
        losses="quadratic",
        axes=[pm.geomspace("lr", 1, 200, 30)],
        fixed={"w0": 1, "b0": 1, "y": 0.3},
        horizon=50,
        precision="float32_plain",
    )
    frame = pm.run(sweep)
    assert frame["path"].notna().sum() > 5
    assert frame["uncertain"][frame["path"].notna()].all()
    assert not frame["uncertain"][frame["path"].isna()].all()


@pytest.mark.parametrize("key", LOSS)
def test_compensated_float32_gives_every_golden_departure(key):
    configs, frame = run_golden(key, "float32")
    for row, config in enumerate(configs):
        for drop, column in (("0.1", "plateau_epochs"), ("0.5", "half_epochs")):
            epoch = frame[column][row]
            assert (None if epoch is pd.NA else epoch) == config["departure_epoch"][drop], config
        # Beyond z = 87.3 σ(−z) is below the smallest normal number: no gradient, so it stalls.
        z0 = abs(config["w0"] * config["x"] + config["b0"])
        out_of_range = key == "mse" and z0 > 87.3
        assert (frame["status"][row] == "stalled") == out_of_range, config


SIZES = (0.0, 0.3, 5.0, 17.0, 37.0, 80.0, 100.0, 700.0, 720.0, 1e4)
Z = sorted({sign * z for z in SIZES for sign in (1, -1)})
X = (1e-6, 1e-3, 1.0, -1.0, 1e3, 1e6)
LR = (1e-9, 1e-3, 1.0, 1e3, 1e9)
Y = (0.0, 1.0, 0.5, 0.3, 1e-6, 1e-300, 1 - 2.0**-53)


def extreme_points() -> dict[str, list[float]]:
    """Return every combination of extremes, z put into the bias or into the weight."""
    rows = []
    for z, x, lr, y, in_weight in itertools.product(Z, X, LR, Y, (False, True)):
        rows.append((z / x, 0.0, lr, x, y) if in_weight else (0.0, z, lr, x, y))
    return dict(zip(("w0", "b0", "lr", "x", "y"), map(list, zip(*rows, strict=True)), strict=True))


def assert_sound(frame: pd.DataFrame) -> None:
    """Assert that numbers are finite, except for the documented missing values."""
    assert np.isfinite(frame[ALWAYS_FINITE].to_numpy()).all()
    for name in ("initial_output", "final_output"):
        assert frame[name].between(0, 1).all()
    assert (frame["initial_loss"] >= frame["loss_floor"]).all()
    finished = frame["tenth_epochs"].notna()
    for name in ("plateau_fraction", "acceleration", "tangent_lag"):
        assert np.isfinite(frame[name])[finished].all(), name
        assert frame[name][~finished].isna().all(), name
    assert frame["plateau_fraction"][finished].between(0, 1, inclusive="right").all()
    escaped = frame["status"] == "escaped"
    for name in ("w_moved", "b_moved"):
        assert np.isfinite(frame[name])[escaped].all(), name
        assert frame[name][~escaped].isna().all(), name
    assert not np.isinf(frame["predicted_epochs"]).any()
    assert (frame["plateau_epochs"].notna() == escaped).all()


@pytest.mark.parametrize("precision", ["float64", *slow("float32", "float32_plain")])
@pytest.mark.parametrize("loss", ["quadratic", *slow("cross_entropy")])
def test_extremes_give_no_nan_no_infinity_and_no_false_zero(loss, precision):
    sweep = pm.Sweep(
        losses=loss,
        axes=[pm.points(**extreme_points())],
        horizon=20,
        precision=precision,
        tolerance=0,
    )
    frame = pm.run(sweep)
    assert (frame["status"] != "not_finite").all()
    assert_sound(frame)
    assert_no_false_zero(loss, frame, DTYPE[precision])


def assert_no_false_zero(loss: str, frame: pd.DataFrame, dtype: type) -> None:
    """Assert that a number is zero only if it is below the range of the format."""
    tiny = float(np.finfo(dtype).tiny)
    inputs = frame[["w0", "b0", "x", "y"]].to_numpy(dtype).astype(float)
    names = ["initial_output", "initial_gradient", "initial_loss", "loss_floor"]
    checked = 0
    for (w, b, x, y), row in zip(inputs, frame[names].to_numpy(), strict=True):
        least = least_sizes(loss, w * x + b, 4 * np.finfo(dtype).eps, y)
        for name, value, size in zip(names, (*row[:2], row[2] - row[3]), least, strict=False):
            assert value != 0 or size < 8 * tiny, (name, w, b, x, y)
            checked += size >= 8 * tiny
    assert checked > len(frame)


def least_sizes(loss: str, z: float, blur: float, y: float) -> tuple[float, float, float]:
    """Return the least output, gradient and excess that a z rounded by `blur` can have."""
    ends = [z - blur * abs(z), z, z + blur * abs(z)]
    outputs = [float(1 / (1 + mpmath.exp(-end))) for end in ends]
    slopes = [float(1 / (2 + mpmath.exp(end) + mpmath.exp(-end))) for end in ends]
    # At y in {0, 1} the error is an output; inside it may vanish, and nothing is asserted there.
    if y in (0, 1):
        errors = outputs if y == 0 else [float(1 / (1 + mpmath.exp(end))) for end in ends]
        gradients = [e * s for e, s in zip(errors, slopes, strict=True)]
        excesses = [e * e / 2 for e in errors]
        if loss == "cross_entropy":
            gradients, excesses = errors, errors
        return min(outputs), min(gradients), min(excesses)
    return min(outputs), 0.0, 0.0


points = st.fixed_dictionaries(
    {
        "w0": st.floats(-1e4, 1e4),
        "b0": st.floats(-1e4, 1e4),
        "lr": st.floats(-9, 9).map(lambda power: 10**power),
        "x": st.tuples(st.floats(-6, 6), st.sampled_from([1, -1])).map(lambda t: t[1] * 10 ** t[0]),
        "y": st.floats(0, 1),
    }
)


@pytest.mark.slow
@settings(max_examples=40, **UNHURRIED)
@given(points, st.sampled_from(BOTH), st.sampled_from(sorted(DTYPE)))
def test_any_point_of_the_stable_domain_is_sound(point, loss, precision):
    """Up to |z| = 10¹⁰, since w0 is not divided by x here."""
    frame = pm.run(pm.Sweep(losses=loss, fixed=point, horizon=30, precision=precision))
    assert (frame["status"] != "not_finite").all()
    assert_sound(frame)


ANY = st.floats(allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
TARGET = st.floats(0, 1)
VALUES = {"w0": ANY, "b0": ANY, "lr": POSITIVE, "x": ANY, "y": TARGET}


@st.composite
def any_sweep(draw, precisions=tuple(DTYPE), losses=BOTH, activations=("sigmoid",), **settings_):
    """Draw the settings of a small sweep, valid or not."""
    names = list(draw(st.permutations(list(VALUES))))
    count = draw(st.integers(0, 3))
    on_axes, fixed = names[:count], names[count:]
    axes = [draw(any_axis(name)) for name in on_axes]
    return {
        "experiment": pm.SingleNeuron(draw(st.sampled_from(activations))),
        "losses": [draw(st.sampled_from(losses))],
        "axes": axes,
        "fixed": {name: draw(VALUES[name]) for name in fixed},
        "horizon": draw(st.integers(1, 64)),
        "tolerance": draw(st.sampled_from([0.0, 0.01]) | st.floats(0, 1)),
        "precision": draw(st.sampled_from(precisions)),
        **{name: draw(options) for name, options in settings_.items()},
    }


@st.composite
def any_axis(draw, name):
    """Draw the name and the arguments of a function that builds an axis of a few values."""
    value = VALUES[name]
    few = st.lists(value, min_size=1, max_size=3)
    return draw(
        st.one_of(
            st.tuples(st.just("values"), st.just(name), few),
            st.tuples(st.just("linspace"), st.just(name), value, value, st.integers(1, 3)),
            st.tuples(
                st.just("normal"), st.just(name), ANY, POSITIVE, st.integers(1, 3), st.just(0)
            ),
            st.tuples(
                st.just("uniform"), st.just(name), value, value, st.integers(1, 3), st.just(0)
            ),
        )
    )


def valid_or_none(settings_: dict) -> pm.Sweep | None:
    try:
        axes = [getattr(pm, kind)(*arguments) for kind, *arguments in settings_["axes"]]
        return pm.Sweep(**{**settings_, "axes": axes})
    except pm.PlateaumapError:
        return None


def assert_survives(settings_: dict) -> None:
    """Assert that a sweep that passes validation runs, and that its table is consistent."""
    sweep = valid_or_none(settings_)
    if sweep is None:
        return
    frame = pm.run(sweep)
    assert len(frame) == sweep.rows
    assert frame["status"].notna().all()
    escaped = frame["status"] == "escaped"
    assert (frame["plateau_epochs"].notna() == escaped).all()
    assert not np.isinf(frame["predicted_epochs"]).any()
    crossings = frame[CROSSINGS].to_numpy(float, na_value=np.inf)
    assert (crossings[:, 0] <= crossings[:, 1]).all()
    assert (crossings[:, 1] <= crossings[:, 2]).all()
    if sweep.method == "simulate":
        assert frame["epochs_run"].between(0, sweep.horizon).all()


@settings(max_examples=60, **UNHURRIED)
@given(any_sweep())
def test_nothing_that_passes_validation_crashes(settings_):
    assert_survives(settings_)


@pytest.mark.slow
@settings(max_examples=300, **UNHURRIED)
@given(
    any_sweep(
        losses=(*BOTH, "matching"),
        activations=("sigmoid", "tanh", "relu", "softplus", "exp", "gelu"),
        until=st.sampled_from(["tenth", "plateau"]),
        method=st.sampled_from(["simulate", "leap"]),
    )
)
def test_nothing_that_passes_validation_crashes_whatever_the_activation(settings_):
    assert_survives(settings_)


def textbook(z, y):
    """Return the cross-entropy as the book writes it, in plain NumPy."""
    with np.errstate(all="ignore"):
        a = 1 / (1 + np.exp(-z))
        return -(y * np.log(a) + (1 - y) * np.log(1 - a))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_textbook_formula_fails_where_ours_agrees_with_optax(dtype):
    z = np.array([-800.0, -40, -20, 20, 40, 800], dtype)
    z, y = np.tile(z, 2), np.repeat(np.array([0, 1], dtype), len(z))
    ours = compute(pm.losses.cross_entropy, z, y, dtype=dtype)
    theirs = compute(optax.sigmoid_binary_cross_entropy, z, y, dtype=dtype)
    np.testing.assert_allclose(ours, theirs, rtol=16 * np.finfo(dtype).eps)
    naive = textbook(z, y)
    seen = np.isfinite(naive)
    assert (~seen).sum() > 2
    assert (naive[seen & (ours > 0)] == 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_cross_entropy_is_pytorchs_bce_with_logits(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    magnitudes = np.geomspace(1e-6, 1e4, 300)
    z = np.concatenate([-magnitudes, [0], magnitudes]).astype(dtype)
    for y in (0.0, 1.0, 0.3, 0.5, 1e-6):
        ys = np.full_like(z, y)
        logits = torch.tensor(z, requires_grad=True)
        theirs = torch.nn.BCEWithLogitsLoss(reduction="none")(logits, torch.tensor(ys))
        theirs.sum().backward()
        ours = compute(pm.losses.cross_entropy, z, ys, dtype=dtype)
        slopes = compute(jax.grad(pm.losses.cross_entropy), z, ys, dtype=dtype)
        eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
        # PyTorch takes (1 − y) z − ln σ(z), whose terms cancel for negative z.
        cancelled = 4 * eps * np.abs(z)
        error = np.abs(ours - theirs.detach().numpy())
        assert (error <= 16 * eps * np.abs(ours) + cancelled + tiny).all()
        np.testing.assert_allclose(slopes, logits.grad.numpy(), rtol=16 * eps, atol=2 * eps)
