"""The quadratic and matching loss of every activation, against mpmath, and losses by name."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from tests.accuracy import DTYPES, compute, either_sign, exactly, relative_errors
from tests.exact_activations import (
    END_FLOORS,
    END_TARGETS,
    INNER_TARGETS,
    INTEGRALS,
    SLOPES,
    VALUES,
)
from tests.marks import usual_first

import plateaumap as pm
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron import losses
from plateaumap.neuron.activations import ACTIVATIONS, increasing
from plateaumap.neuron.losses import (
    Loss,
    known_losses,
    matching_of,
    quadratic_of,
    resolve,
    why_not,
    why_not_target,
)
from plateaumap.neuron.losses.named import LOSSES, NamedLoss

MATCHING = sorted(INTEGRALS)
Z = either_sign(np.geomspace(1e-6, 50, 30))


def targets(name):
    return (*INNER_TARGETS[name], *END_TARGETS.get(name, ()))


def root(name, y):
    """Return the exact pre-activation of an output that can be reached."""
    with jax.enable_x64(True):
        start = float(ACTIVATIONS[name].target(jnp.asarray(float(y))))
    if start == 0:
        return mpmath.mpf(0)
    near = (start, start * (1 + 1e-6))
    return mpmath.findroot(lambda z: VALUES[name](z) - y, near, tol=1e-60, verify=False)


def scaled_errors(values, exact, scales):
    """Return |value − exact| over a scale, where that is no subnormal number."""
    rows = zip(values.astype(float), exact, scales, strict=True)
    with mpmath.workdps(60):
        return np.array([float(abs(v - e) / max(s, mpmath.mpf("1e-290"))) for v, e, s in rows])


def floor_exactly(name, y):
    if float(y) in END_TARGETS.get(name, ()):
        return END_FLOORS.get(name, mpmath.mpf(0))
    z = root(name, y)
    return INTEGRALS[name](z) - y * z


@pytest.mark.parametrize("name", usual_first(MATCHING))
def test_the_gradient_of_the_matching_loss_is_the_error(name):
    loss = matching_of(name)
    for y in targets(name):
        ys = np.full_like(Z, y)
        gradients = compute(jax.grad(loss.value), Z, ys)
        digits = 350 if y in END_TARGETS.get(name, ()) else 60
        exact = exactly(lambda z, y: VALUES[name](z) - y, Z, ys, digits=digits)
        scales = exactly(lambda z, y: max(abs(VALUES[name](z)), abs(y)), Z, ys)
        assert scaled_errors(gradients, exact, scales).max() < 1e-12
        excess = compute(jax.grad(loss.above_floor), Z, ys)
        assert np.array_equal(gradients, excess)


@pytest.mark.parametrize("name", usual_first(MATCHING))
def test_the_curvature_of_the_matching_loss_is_the_slope_which_is_never_negative(name):
    loss = matching_of(name)
    for y in targets(name):
        ys = np.full_like(Z, y)
        slope = compute(ACTIVATIONS[name].slope, Z)
        assert (slope >= 0).all()
        for function in (loss.value, loss.above_floor):
            assert np.array_equal(compute(jax.grad(jax.grad(function)), Z, ys), slope)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", usual_first(MATCHING))
def test_matching_values_and_floors_agree_with_mpmath(name, dtype):
    loss = matching_of(name)
    z = Z if name != "exp" or dtype is np.float64 else Z[np.abs(Z) < 40]
    eps = np.finfo(dtype).eps
    for y in targets(name):
        ys = np.full_like(z, y)
        exact = exactly(lambda z, y: INTEGRALS[name](z) - y * z, z, ys, dtype=dtype)
        assert relative_errors(compute(loss, z, ys, dtype=dtype), exact, 1).max() < 16 * eps
        floor = exactly(lambda y: floor_exactly(name, y), [y], dtype=dtype)
        assert relative_errors(compute(loss.floor, [y], dtype=dtype), floor, 1).max() < 16 * eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", usual_first(MATCHING))
def test_the_excess_is_right_close_to_the_target(name, dtype):
    loss = matching_of(name)
    eps = np.finfo(dtype).eps
    for y in INNER_TARGETS[name]:
        y = float(dtype(y))
        with mpmath.workdps(60):
            target = root(name, mpmath.mpf(y))
            floor = INTEGRALS[name](target) - y * target
        z = (float(target) + either_sign(np.geomspace(1e-4, 8, 25))).astype(dtype)
        ys = np.full_like(z, y)
        distance = np.abs(z.astype(float) - float(target))
        z, ys, distance = (c[distance > 5e-5] for c in (z, ys, distance))
        values = compute(loss.above_floor, z, ys, dtype=dtype)
        assert (values >= 0).all()

        def excess(z, y, floor=floor):
            return INTEGRALS[name](z) - y * z - floor

        exact = exactly(excess, z, ys, dtype=dtype)
        errors = relative_errors(values, exact)
        # The rounded target shifts the distance; further away, value and floor are subtracted.
        constant = abs(END_FLOORS.get(name, 0))

        def size(z, y, constant=constant):
            return abs(INTEGRALS[name](z)) + abs(y * z) + constant

        parts = exactly(size, z, ys, dtype=dtype)
        shift = abs(float(target)) + abs(y) / float(SLOPES[name](target))
        near = 64 + 16 * shift / distance
        far = 16 + 8 * np.array([float(p / e) for p, e in zip(parts, exact, strict=True)])
        radius = 1 / 32 if dtype is np.float64 else 1 / 4
        allowed = np.where(distance < radius, near, near + far) * eps
        assert (errors <= allowed).all()


@pytest.mark.parametrize("name", usual_first(sorted(END_TARGETS)))
def test_the_excess_at_an_end_of_the_range_keeps_its_relative_accuracy(name):
    loss = matching_of(name)
    for y in END_TARGETS[name]:
        z = Z * (1 if y == ACTIVATIONS[name].high else -1)
        z = z[z > 0] if y == ACTIVATIONS[name].high else z[z < 0]
        ys = np.full_like(z, y)
        values = compute(loss.above_floor, z, ys)
        assert (values >= 0).all()

        def excess(z, y):
            return INTEGRALS[name](z) - y * z + (mpmath.log(2) if name == "tanh" else 0)

        exact = exactly(excess, z, ys, digits=400)
        errors = relative_errors(values, exact, 1e-290)
        assert errors.max() < 2e-13


@pytest.mark.parametrize("family", ["quadratic", "matching"])
@pytest.mark.parametrize("name", usual_first(sorted(VALUES)))
def test_falls_agree_with_mpmath(name, family):
    if family not in known_losses(name):
        pytest.skip("this activation has no matching loss")
    loss = resolve(family, name)
    value = {
        "quadratic": lambda z, y: (VALUES[name](z) - y) ** 2 / 2,
        "matching": lambda z, y: INTEGRALS[name](z) - y * z,
    }[family]
    z, step, y = (
        column.ravel()
        for column in np.meshgrid(
            [-12.0, -3.0, -0.4, -1e-4, 0.0, 1e-4, 0.7, 5.0, 12.0],
            either_sign(np.array([1e-12, 1e-6, 1e-3, 7.8e-3, 7.9e-3, 0.03, 1.0, 20.0])),
            targets(name)[:3] if name in INNER_TARGETS else (0.5,),
        )
    )
    exact = exactly(lambda z, s, y: value(z, y) - value(z + s, y), z, step, y, digits=120)
    values = compute(loss.decrease, z, step, y)

    def scale(z, s, y):
        """Return the size of the terms of which a fall is the difference."""
        error = max(abs(VALUES[name](p)) + abs(y) for p in (z, z + s))
        if family == "matching":
            return abs(s) * error
        return abs(VALUES[name](z + s) - VALUES[name](z)) * error

    assert scaled_errors(values, exact, exactly(scale, z, step, y, digits=120)).max() < 5e-11


@pytest.mark.parametrize("name", usual_first(sorted(VALUES)))
def test_the_quadratic_gradient_is_the_error_times_the_slope(name):
    loss = quadratic_of(name)
    y = INNER_TARGETS.get(name, (0.5,))[0]
    ys = np.full_like(Z, y)
    exact = exactly(lambda z: (VALUES[name](z) - y) * SLOPES[name](z), Z)
    scales = exactly(lambda z: (abs(VALUES[name](z)) + abs(y)) * abs(SLOPES[name](z)), Z)
    assert scaled_errors(compute(jax.grad(loss), Z, ys), exact, scales).max() < 1e-12
    assert (compute(loss.floor, [y, -7.0]) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", usual_first(MATCHING))
def test_everything_is_finite_up_to_ten_thousand(name, dtype):
    limit = 1e4 if name != "exp" else 300 if dtype is np.float64 else 40

    def everything(z, y):
        found = []
        for loss in (quadratic_of(name), matching_of(name)):
            excess, gradient = jax.value_and_grad(loss.above_floor)(z, y)
            found += [loss(z, y), excess, gradient, loss.decrease(z, -z / 3, y)]
        return jnp.stack(found)

    z, y = np.meshgrid(either_sign(np.geomspace(1e-8, limit, 40)), targets(name))
    assert np.isfinite(compute(everything, z.ravel(), y.ravel(), dtype=dtype)).all()


@pytest.mark.parametrize("name", usual_first(MATCHING))
def test_learning_by_a_matching_loss_has_no_plateau(name):
    """A convex curve of the loss gets its first tenth done within a ninth of the way to T90."""
    loss = matching_of(name)

    def plateau_fraction(z, y):
        def step(z, _):
            excess, gradient = jax.value_and_grad(loss.above_floor)(z, y)
            return z - 0.01 * gradient, excess

        excess = jax.lax.scan(step, z, length=16_000)[1]
        first, last = (crossing(excess, share * excess[0]) for share in (0.9, 0.1))
        return first / last

    def crossing(excess, level):
        n = jnp.argmax(excess <= level)
        return n - 1 + (excess[n - 1] - level) / (excess[n - 1] - excess[n])

    y = INNER_TARGETS[name][0]
    z = float(root(name, y)) + np.array([-1.0, -0.3, 0.3, 1.0])
    fractions = compute(plateau_fraction, z, np.full_like(z, y))
    assert (fractions > 0).all()
    assert (fractions <= (1 + 1e-9) / 9).all()


def test_an_activation_by_quadrature_has_both_losses():
    made = increasing("asinh", jnp.arcsinh)
    loss = matching_of(made)
    z, y = np.array([-3.0, 0.5, 40.0]), np.array([0.5, -1.0, 3.0])
    floors = y * np.sinh(y) - np.cosh(y) + 1 - y * np.sinh(y)
    values = z * np.arcsinh(z) - np.sqrt(1 + z * z) + 1 - y * z
    np.testing.assert_allclose(compute(loss.value, z, y), values, rtol=1e-13)
    np.testing.assert_allclose(compute(loss.floor, y), floors, rtol=1e-13)
    np.testing.assert_allclose(compute(loss.above_floor, z, y), values - floors, rtol=1e-12)
    np.testing.assert_allclose(compute(jax.grad(loss), z, y), np.arcsinh(z) - y, rtol=1e-13)


def test_the_sigmoid_has_the_losses_of_the_hot_loop():
    assert quadratic_of("sigmoid") is losses.quadratic is resolve("quadratic", "sigmoid")
    assert resolve("cross_entropy", "sigmoid") is losses.cross_entropy
    matching = resolve("matching", "sigmoid")
    assert matching.name == "matching"
    assert matching.value is losses.cross_entropy.value


def test_losses_by_name():
    assert known_losses("sigmoid") == ("quadratic", "cross_entropy", "matching")
    assert known_losses("tanh") == ("quadratic", "matching")
    assert known_losses("gelu") == ("quadratic",)
    for name in VALUES:
        for loss in known_losses(name):
            assert why_not(loss, name) is None
            assert resolve(loss, name) is resolve(loss, ACTIVATIONS[name])
            assert resolve(loss, name).name == loss


@pytest.mark.parametrize(
    ("loss", "activation", "message"),
    [
        (
            "cross_entropy",
            "tanh",
            "'cross_entropy' is refused: it is the matching loss of a sigmoid; "
            "for tanh use 'matching'",
        ),
        (
            "cross_entropy",
            "gelu",
            "'cross_entropy' is refused: it is the matching loss of a sigmoid; "
            "for gelu use 'quadratic'",
        ),
        (
            "matching",
            "gelu",
            "'matching' is refused: gelu is not monotone: it decreases for z < -0.7518, and there "
            "its matching loss would not be convex; train it with 'quadratic'",
        ),
        (
            "crossentropy",
            "sigmoid",
            "no loss is called 'crossentropy'; did you mean 'cross_entropy'? "
            "(known: quadratic, cross_entropy, matching)",
        ),
    ],
)
def test_losses_that_are_refused(loss, activation, message):
    assert why_not(loss, activation) == message
    with pytest.raises(PlateaumapError) as caught:
        resolve(loss, activation)
    assert str(caught.value) == message


def test_an_unknown_activation_is_refused_everywhere():
    for call in (known_losses, quadratic_of, matching_of):
        with pytest.raises(PlateaumapError, match="activation = 'sgmoid': unknown"):
            call("sgmoid")


@pytest.mark.parametrize(
    ("loss", "activation", "y", "message"),
    [
        ("quadratic", "sigmoid", 1.2, "y = 1.2: with a sigmoid a target lies in [0, 1]"),
        (
            "cross_entropy",
            "sigmoid",
            [0, -0.5, 7],
            "y = -0.5: with a sigmoid a target lies in [0, 1]",
        ),
        ("quadratic", "sigmoid", float("nan"), "y = nan: with a sigmoid a target lies in [0, 1]"),
        ("quadratic", "tanh", float("inf"), "y = inf: must be finite"),
        (
            "matching",
            "tanh",
            1.5,
            "y = 1.5: the matching loss of tanh is bounded below only for targets in [-1, 1]",
        ),
        (
            "matching",
            "atan",
            1.0,
            "y = 1.0: the matching loss of atan is bounded below only for targets in (-1, 1)",
        ),
        (
            "matching",
            "relu",
            -0.1,
            "y = -0.1: the matching loss of relu is bounded below only for targets in [0, inf)",
        ),
    ],
)
def test_targets_that_are_refused(loss, activation, y, message):
    assert why_not_target(loss, activation, y) == message


@pytest.mark.parametrize("name", sorted(VALUES))
def test_an_infinite_pre_activation_has_the_limit_of_large_ones(name):
    for family in known_losses(name):
        loss = resolve(family, name)
        ys = (*targets(name), 0.4) if name in INNER_TARGETS else (0.0, 0.4)
        y = np.tile(np.array(ys), 2)
        sign = np.repeat([-1.0, 1.0], len(ys))
        large, larger, infinite = (compute(loss, sign * z, y) for z in (1e150, 1e300, np.inf))
        with np.errstate(invalid="ignore"):
            growth = np.where(larger == large, 0.0, larger - large)
        # Values that neither grow nor decrease have reached their limit.
        limit = np.where(np.abs(growth) > 1e-100, np.copysign(np.inf, growth), larger)
        np.testing.assert_allclose(infinite, limit, rtol=0, atol=1e-100)
        gradients = compute(jax.grad(loss.value), sign * np.inf, y)
        assert not np.isnan(gradients).any()


def test_a_new_named_loss_is_one_entry(monkeypatch):
    def value(z, y):
        return jnp.log(jnp.cosh(jnp.tanh(z) - y))

    new = NamedLoss(lambda activation: Loss("log_cosh", value))
    monkeypatch.setitem(LOSSES, "log_cosh", new)
    assert known_losses("tanh") == ("quadratic", "matching", "log_cosh")
    sweep = pm.Sweep(
        experiment=pm.SingleNeuron("tanh"),
        losses=("log_cosh",),
        axes=[pm.values("w0", [0.5, 1.0])],
        fixed={"b0": 0.0, "lr": 0.5},
        horizon=100,
    )
    frame = pm.run(sweep, progress=False)
    assert (frame["status"] == "escaped").all()
    assert frame["predicted_epochs"].isna().all()
    with pytest.raises(PlateaumapError, match="'log_cosh': no exact lengths"):
        pm.plateau_epochs(1.0, 0.0, 0.5, loss="log_cosh", activation="tanh")


def test_integers_are_pre_activations_too():
    for name in VALUES:
        assert ACTIVATIONS[name](2) == ACTIVATIONS[name](2.0)
        for family in known_losses(name):
            loss = resolve(family, name)
            assert loss(2, 0) == loss(2.0, 0.0)
            assert loss(2, 0).dtype == jnp.float32


def test_targets_that_are_allowed():
    for name in MATCHING:
        assert why_not_target("matching", name, targets(name)) is None
    assert why_not_target("quadratic", "tanh", 1.5) is None
    assert why_not_target("quadratic", "gelu", -3.0) is None
    assert why_not_target("matching", "identity", -1e9) is None
