"""Exact lengths against golden numbers, simulation, high precision and the laws of one neuron."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.theory import oracle

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.theory.canonical import EpochState, NeuronGrid
from plateaumap.theory.epochs import LengthStages, count_epochs, plateau_epochs, predict_epochs

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = {"mse": "quadratic", "ce": "cross_entropy"}
DROPS = (0.1, 0.5, 0.9)
COLUMNS = ("w0", "b0", "eta", "x", "y")


def golden(file, loss, **chosen):
    cases = json.loads((GOLDEN / file).read_text())["configs"]
    cases = [c for c in cases if c["loss"] == loss and all(c[k] == v for k, v in chosen.items())]
    return cases, [np.array([c[name] for c in cases]) for name in COLUMNS]


def neurons(z0, h, y, seed):
    """Neurons of given pre-activations and steps, with inputs of several sizes."""
    rng = np.random.default_rng(seed)
    x = rng.choice([0.5, 1.0, -2.0], len(z0))
    b0 = rng.normal(size=len(z0))
    return (z0 - b0) / x, b0, h / (1 + x * x), x, y


def check_against_simulation(loss, drop, cells, horizon, all_known=True):
    w0, b0, lr, x, y = cells
    counts = count_epochs(*cells, loss, drop)
    short = ~counts.known | (counts.epochs <= horizon)
    simulated = oracle.simulated_epochs(
        loss, (w0 * x + b0)[short], (lr * (1 + x * x))[short], y[short], drop, horizon
    )
    known = counts.known[short]
    np.testing.assert_array_equal(counts.epochs[short][known], simulated[known])
    if all_known:
        assert np.all(counts.known | (counts.state == EpochState.BEYOND_INT64))
    return counts, short.sum()


@pytest.mark.parametrize("drop", ["0.1", "0.5"])
def test_golden_lengths_up_to_1e16(drop):
    cases, columns = golden("neuron_large.json", "mse", delta=drop)
    assert len(cases) == 16
    expected = [int(c["departure_epoch"]) for c in cases]
    assert plateau_epochs(*columns, drop=float(drop)).tolist() == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("drop", ["0.1", "0.5"])
def test_golden_short_lengths(name, drop):
    cases, columns = golden("neuron.json", name)
    epochs = plateau_epochs(*columns, loss=NAMES[name], drop=float(drop), errors="mask")
    checked = 0
    for case, epoch in zip(cases, epochs.tolist(), strict=True):
        if case["departure_epoch"][drop] is not None:
            assert epoch == case["departure_epoch"][drop], case["name"]
            checked += 1
    assert checked > 30


@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("loss", oracle.LOSSES)
def test_targets_of_zero_and_one_agree_with_simulation(loss, drop):
    rng = np.random.default_rng(11)
    y = rng.integers(0, 2, 1500).astype(float)
    z0 = np.where(y == 1, -1, 1) * rng.uniform(-8, 12, 1500)
    cells = neurons(z0, 10 ** rng.uniform(-2, 4, 1500), y, 12)
    _, checked = check_against_simulation(loss, drop, cells, horizon=1000)
    assert checked > 700


@pytest.mark.slow
@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("loss", oracle.LOSSES)
def test_long_lengths_agree_with_simulation(loss, drop):
    rng = np.random.default_rng(13)
    y = rng.integers(0, 2, 500).astype(float)
    z0 = np.where(y == 1, -1, 1) * rng.uniform(-8, 16, 500)
    cells = neurons(z0, 10 ** rng.uniform(-2, 4, 500), y, 14)
    _, checked = check_against_simulation(loss, drop, cells, horizon=1_000_000)
    assert checked > 400


@pytest.mark.slow
@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("loss", oracle.LOSSES)
def test_inner_targets_in_the_stable_regime_agree_with_simulation(loss, drop):
    rng = np.random.default_rng(15)
    y, z0, h = rng.uniform(0, 1, 2000), rng.uniform(-10, 10, 2000), 10 ** rng.uniform(-2, 2, 2000)
    stable = h * (y * (1 - y)) ** (2 if loss == "quadratic" else 1) < 2
    cells = neurons(z0[stable], h[stable], y[stable], 16)
    _, checked = check_against_simulation(loss, drop, cells, horizon=3000)
    assert checked > 700


@pytest.mark.slow
@pytest.mark.parametrize("loss", oracle.LOSSES)
def test_overshooting_paths_are_answered_rightly_or_not_at_all(loss):
    rng = np.random.default_rng(17)
    y, z0, h = rng.uniform(0, 1, 3000), rng.uniform(-6, 6, 3000), 10 ** rng.uniform(1, 3, 3000)
    counts, _ = check_against_simulation(loss, 0.5, neurons(z0, h, y, 18), 3000, all_known=False)
    unknown = counts.state[~counts.known]
    assert unknown.size
    assert set(unknown) <= {EpochState.NO_THEORY, EpochState.BEYOND_INT64}


@pytest.mark.slow
@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("loss", oracle.LOSSES)
@pytest.mark.parametrize("y", [0.0, 1.0, 1e-9, 0.3, 0.95])
def test_lengths_to_the_end_of_int64_agree_with_eighty_digits(loss, drop, y):
    rng = np.random.default_rng(19)
    z0 = np.concatenate([rng.uniform(-25, 42, 12), rng.uniform(20, 42, 4)])
    z0 = -z0 if y == 1 else z0
    cells = neurons(z0, 10 ** rng.uniform(-9, -0.5, 16), np.full(16, y), 20)
    counts = count_epochs(*cells, loss, drop)
    for i in range(16):
        expected = oracle.leapt_epochs(loss, *(c[i] for c in cells), drop)
        if counts.state[i] == EpochState.BEYOND_INT64:
            assert expected >= 2**63
        else:
            assert counts.known[i]
            assert counts.epochs[i] == expected


@pytest.mark.parametrize("loss", oracle.LOSSES)
def test_one_length_near_the_end_of_int64(loss):
    z0 = {"quadratic": 42.0, "cross_entropy": -39.5}[loss]
    cell = (z0 - 0.3, 0.3, 0.11, 1.0, 0.0)
    (state,) = {int(count_epochs(*cell, loss).state)}
    assert state == EpochState.DOUBLE_DOUBLE
    assert plateau_epochs(*cell, loss) == oracle.leapt_epochs(loss, *cell, 0.1)


def test_double_double_agrees_with_float64_where_that_is_sure():
    rng = np.random.default_rng(21)
    grid = NeuronGrid(
        w0=rng.uniform(-4, 24, 2000), b0=0.25, lr=10 ** rng.uniform(-6, 2, 2000), x=1, y=0
    )
    for loss in oracle.LOSSES:
        stages = LengthStages.of(loss, 0.1)
        _, (group,) = stages.dynamics.canonical(grid.size, grid.part(slice(0, grid.size)))
        float64, exact = stages.by_series(group), stages.by_double_double(group)
        both = (float64.state == EpochState.FLOAT64) & (exact.state == EpochState.DOUBLE_DOUBLE)
        assert both.sum() > 500
        np.testing.assert_array_equal(float64.epochs[both], exact.epochs[both])


@pytest.mark.parametrize(("z0", "lr", "drop"), [(80.0, 0.5, 0.1), (100.0, 1.0, 0.5)])
def test_levels_met_almost_exactly_at_an_epoch(z0, lr, drop):
    """Here drop * z0 / h is an integer n, and after n epochs the loss is 1e-31 too high."""
    cell = (z0, 0.0, lr, 1.0, 0.0)
    expected = oracle.exact_epochs("cross_entropy", *cell, drop, horizon=100, digits=120)
    assert plateau_epochs(*cell, "cross_entropy", drop) == expected
    assert expected == round(drop * z0 / (2 * lr)) + 1


@pytest.mark.parametrize("loss", oracle.LOSSES)
@pytest.mark.parametrize("drop", DROPS)
def test_extreme_starts_and_steps_have_a_length_or_are_beyond(loss, drop):
    z0 = np.array([-1e4, -745.0, -350.0, -5.0, 0.0, 3.0, 36.9, 345.0, 709.0, 1e4])
    lr = np.array([1e-9, 1e-3, 0.3, 5.0, 3e4, 1e8, 1e20])
    for y in (0.0, 1.0):
        counts = count_epochs(z0[:, None], 0.0, lr, 1.0, y, loss, drop)
        beyond = counts.state == EpochState.BEYOND_INT64
        assert np.all(counts.known | beyond)
        assert not np.isinf(counts.predicted).any()
        length = counts.predicted[counts.known]
        assert np.all(np.abs(length / counts.epochs[counts.known] - 1) < 0.51)
        assert np.all(~(counts.predicted[beyond] < 9e18))


@pytest.mark.parametrize("loss", oracle.LOSSES)
def test_equal_pre_activations_and_mirror_images_take_equally_long(loss):
    w0, b0 = np.meshgrid(np.arange(-8, 24, 2.0), np.arange(-8, 24, 2.0))
    epochs = plateau_epochs(w0, b0, 0.25, loss=loss, errors="mask")
    for total in np.unique(w0 + b0):
        assert len(np.unique(epochs[w0 + b0 == total].filled(-1))) == 1
    mirrored = plateau_epochs(-w0, -b0, 0.25, y=1.0, loss=loss, errors="mask")
    np.testing.assert_array_equal(mirrored.filled(-1), epochs.filled(-1))


def test_shapes_and_types():
    single = plateau_epochs(2, 2, 0.15)
    assert isinstance(single, np.int64)
    assert single == 152
    assert plateau_epochs(2, 2, 0.005, loss="cross_entropy") == 43
    grid = plateau_epochs(np.zeros((3, 1)), np.ones(4), 0.15)
    assert grid.shape == (3, 4)
    assert grid.dtype == np.int64
    assert plateau_epochs(np.zeros((0, 3)), 1.0, 0.15).shape == (0, 3)
    masked = plateau_epochs([2, 2], 2, [0.15, -1], errors="mask")
    assert isinstance(masked, np.ma.MaskedArray)
    assert masked.tolist() == [152, None]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"w0": 40.0, "b0": 40.0}, EpochState.BEYOND_INT64),
        ({"w0": 0.0, "b0": 0.0, "y": 0.5}, EpochState.NO_EXCESS),
        ({"w0": np.nan}, EpochState.INVALID),
        ({"b0": np.inf}, EpochState.INVALID),
        ({"lr": 0.0}, EpochState.INVALID),
        ({"lr": -0.1}, EpochState.INVALID),
        ({"y": 1.5}, EpochState.INVALID),
        ({"y": -0.1}, EpochState.INVALID),
    ],
)
def test_cells_without_a_length_say_why(change, state):
    cell = {"w0": 2.0, "b0": 2.0, "lr": 0.15, "x": 1.0, "y": 0.0} | change
    counts = count_epochs(**cell)
    assert counts.state == state
    assert counts.epochs == 0
    assert np.isnan(counts.bound)
    assert plateau_epochs(**cell, errors="mask").mask.all()
    with pytest.raises(PlateaumapError) as caught:
        plateau_epochs(**cell)
    message = str(caught.value)
    assert message.startswith("1 of 1 cells have no plateau length; the first is w0=")
    assert f"lr={cell['lr']!r}" in message
    assert message.endswith("Use errors='mask' to mask them")


def test_the_complaint_counts_cells_and_names_the_first():
    with pytest.raises(PlateaumapError, match=r"^2 of 4 cells .* the first is w0=50\.0, b0=0\.0"):
        plateau_epochs([3.0, 50.0, 4.0, 60.0], 0.0, 0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"loss": "hinge"},
            "loss = 'hinge': no exact lengths; use one of quadratic",
        ),
        ({"drop": 0.0}, "drop = 0.0: must be a number between 0 and 1"),
        ({"drop": 1.0}, "drop = 1.0"),
        ({"drop": "0.1"}, "drop = '0.1'"),
        ({"errors": "ignore"}, "errors = 'ignore': unknown; use 'raise' or 'mask'"),
        ({"w0": [1, 2, 3], "b0": [1, 2]}, "must be numbers or arrays of numbers that broadcast"),
        ({"w0": "two"}, "must be numbers"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(PlateaumapError, match=message.replace("'", ".")):
        plateau_epochs(**{"w0": 2.0, "b0": 2.0, "lr": 0.15} | arguments)


@pytest.mark.parametrize("loss", oracle.LOSSES)
def test_prediction_is_the_length_nearly_always(loss):
    rng = np.random.default_rng(23)
    cells = rng.uniform(-10, 30, 4000), 0.0, 10 ** rng.uniform(-3, 0, 4000)
    counts = count_epochs(*cells, loss=loss)
    off = np.abs(counts.predicted - counts.epochs)[counts.epochs < 1e12]
    assert np.mean(off > 0) < 0.002
    assert off.max() <= 1
    np.testing.assert_array_equal(predict_epochs(*cells, loss=loss), counts.predicted)


def test_prediction_does_not_depend_on_its_company():
    rng = np.random.default_rng(24)
    w0, lr = rng.uniform(-9, 400, 40_000), 10 ** rng.uniform(-4, 3, 40_000)
    whole = predict_epochs(w0, 0.5, lr)
    for cut in (slice(7, 8), slice(100, 333), slice(16_000, 33_001)):
        np.testing.assert_array_equal(predict_epochs(w0[cut], 0.5, lr[cut]), whole[cut])


def test_prediction_is_missing_where_none_applies():
    cells = [2.0, np.nan, 2.0, 0.0, 400.0], [2.0, 0.0, 2.0, 0.0, 400.0], [0.15, 1, -1, 1, 1]
    predicted = predict_epochs(*cells, y=[0.0, 0.0, 0.0, 0.5, 0.0])
    assert predicted[0] == 152
    assert np.isnan(predicted[1:]).all()
