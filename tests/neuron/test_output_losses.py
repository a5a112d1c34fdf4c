"""The losses over samples and outputs: against Optax, PyTorch, mpmath, and the single neuron's."""

import itertools
from functools import cache

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import optax
import pytest
from tests.accuracy import DTYPES
from tests.marks import slow

import plateaumap as pm
from plateaumap.neuron import losses

SHAPES = [(2, 4, 3), (5, 1)]


def drawn(shape, dtype, spread=4.0, seed=0):
    """Return logits, targets in [0, 1] and one-hot targets."""
    source = np.random.default_rng(seed)
    logits = (spread * source.standard_normal(shape)).astype(dtype)
    chosen = source.integers(shape[-1], size=shape[:-1])
    return logits, source.random(shape).astype(dtype), np.eye(shape[-1], dtype=dtype)[chosen]


def with_gradient(function, logits, targets):
    """Return value and gradient in the logits, computed in their dtype."""
    with jax.enable_x64(logits.dtype == np.float64):
        found = compiled(function)(jnp.asarray(logits), jnp.asarray(targets))
        return [np.asarray(part) for part in found]


@cache
def compiled(function):
    return jax.jit(jax.value_and_grad(function))


def summed(elementwise):
    return lambda z, y: jnp.mean(jnp.sum(elementwise(z, y), axis=-1))


OPTAX = {
    "binary": (losses.binary_cross_entropy, summed(optax.sigmoid_binary_cross_entropy)),
    "softmax": (
        losses.softmax_cross_entropy,
        lambda z, y: jnp.mean(optax.softmax_cross_entropy(z, y)),
    ),
    "sigmoid": (losses.l2_loss, summed(lambda z, y: optax.l2_loss(jax.nn.sigmoid(z), y))),
    "linear": (lambda z, y: losses.l2_loss(z, y, "identity"), summed(optax.l2_loss)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPTAX)
def test_values_and_gradients_are_those_of_optax(name, shape, dtype):
    ours, theirs = OPTAX[name]
    logits, shares, one_hot = drawn(shape, dtype)
    for targets in (shares, one_hot):
        if name == "softmax":
            targets = targets / targets.sum(-1, keepdims=True)
        pairs = zip(*(with_gradient(f, logits, targets) for f in (ours, theirs)), strict=True)
        for found, expected in pairs:
            assert found.dtype == dtype
            np.testing.assert_allclose(
                found, expected, rtol=40 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps
            )


def torch_losses():
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra `torch` only")
    functional = torch.nn.functional
    return torch, {
        "binary": lambda z, y: functional.binary_cross_entropy_with_logits(z, y) * z.shape[-1],
        "softmax": functional.cross_entropy,
        "sigmoid": lambda z, y: functional.mse_loss(torch.sigmoid(z), y) * z.shape[-1] / 2,
        "linear": lambda z, y: functional.mse_loss(z, y) * z.shape[-1] / 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTAX)
def test_values_and_gradients_are_those_of_pytorch(name, dtype):
    torch, theirs = torch_losses()
    logits, _, targets = drawn((7, 3), dtype, spread=30.0)
    z = torch.tensor(logits, requires_grad=True)
    value = theirs[name](z, torch.tensor(targets))
    value.backward()
    expected = (value.detach().numpy(), z.grad.numpy())
    found = with_gradient(OPTAX[name][0], logits, targets)
    tolerance = {"rtol": 60 * np.finfo(dtype).eps, "atol": 2 * np.finfo(dtype).eps}
    for ours, pytorch in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, pytorch, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y", [0.0, 0.3, 1.0])
def test_one_sample_of_one_output_is_the_single_neuron(y, dtype):
    pairs = (
        (losses.binary_cross_entropy, losses.cross_entropy),
        (losses.l2_loss, losses.quadratic),
        (lambda z, y: losses.l2_loss(z, y, "tanh"), losses.quadratic_of("tanh")),
    )
    for z in (-80.0, -3.0, 0.0, 0.7, 20.0, 80.0):
        z, target = np.asarray([[z]], dtype), np.asarray([[y]], dtype)
        for network, neuron in pairs:
            value, gradient = with_gradient(network, z, target)
            one = with_gradient(neuron, z[0, 0], target[0, 0])
            assert value == one[0]
            assert gradient[0, 0] == one[1]
            assert with_gradient(network, z[0, 0], target[0, 0]) == one


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_softmax_outputs_are_one_sigmoid(dtype):
    z = np.array([-700, -90, -40, -5, 0, 1e-3, 7, 40, 90, 700], dtype)[:, None]
    for y in (np.zeros_like(z), np.full_like(z, 0.3), np.ones_like(z)):
        both = np.concatenate([z, np.zeros_like(z)], axis=1), np.concatenate([y, 1 - y], axis=1)
        value, gradient = with_gradient(losses.softmax_cross_entropy, *both)
        one_value, one_gradient = with_gradient(losses.binary_cross_entropy, z, y)
        np.testing.assert_allclose(value, one_value, rtol=8 * np.finfo(dtype).eps)
        smallest = np.finfo(dtype).tiny
        tolerance = {"rtol": 16 * np.finfo(dtype).eps, "atol": smallest}
        np.testing.assert_allclose(gradient[:, :1], one_gradient, **tolerance)
        np.testing.assert_allclose(gradient[:, 1:], -one_gradient, **tolerance)


def softmax_exactly(logits, right):
    """Return −ln of the right output, and outputs less one-hot targets, to 60 digits."""
    with mpmath.workdps(60):
        z = [mpmath.mpf(float(v)) for v in logits]
        terms = [mpmath.exp(v - max(z)) for v in z]
        others = [sum(t for k, t in enumerate(terms) if k != j) for j in range(len(z))]
        value = mpmath.log1p(others[right] / terms[right])
        gradient = [t / sum(terms) for t in terms]
        gradient[right] = -others[right] / sum(terms)
        return value, gradient


@pytest.mark.parametrize("dtype", DTYPES)
def test_certainty_is_right_relative_to_itself(dtype):
    """Where Optax has an exact zero: a right output that is almost certain still learns."""
    eps = np.finfo(dtype).eps
    far = (1.0, 20.0, 40.0, 80.0)
    for gap, right, other in itertools.product(far, range(3), (0.0, 0.5, 1.0)):
        logits = np.array([gap, 0.0, other * gap], dtype)
        value, gradient = with_gradient(
            losses.softmax_cross_entropy, logits, np.eye(3, dtype=dtype)[right]
        )
        exact, exact_gradient = softmax_exactly(logits, right)
        assert abs(value - exact) <= 8 * eps * exact
        for ours, theirs in zip(gradient, exact_gradient, strict=True):
            assert abs(ours - theirs) <= 8 * eps * abs(theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTAX)
def test_everything_is_finite_for_huge_logits(name, dtype):
    sizes = [-1e4, -800.0, -90.0, 0.0, 90.0, 800.0, 1e4]
    logits = np.array(list(itertools.product(sizes, repeat=3)), dtype)
    for right in range(3):
        targets = np.broadcast_to(np.eye(3, dtype=dtype)[right], logits.shape)
        for part in with_gradient(OPTAX[name][0], logits, targets):
            assert np.isfinite(part).all()


def test_a_class_ruled_out_by_an_infinite_logit_costs_nothing():
    logits, targets = np.array([[1.0, 0.0, -np.inf]]), np.array([[0.0, 1.0, 0.0]])
    value, gradient = with_gradient(losses.softmax_cross_entropy, logits, targets)
    assert value == pytest.approx(np.log1p(np.e), rel=1e-15)
    assert gradient[0, 2] == 0
    assert np.isfinite(gradient).all()


def test_bits_are_nats_over_ln_2():
    logits, shares, one_hot = drawn((7, 3), np.float64)
    with jax.enable_x64(True):
        for function, targets in (
            (losses.binary_cross_entropy, shares),
            (losses.softmax_cross_entropy, one_hot),
        ):
            bits, nats = function(logits, targets, unit="bits"), function(logits, targets)
            assert bits == pytest.approx(float(nats) / np.log(2), rel=1e-15)
        # An output of one half costs one bit for every target; one of four classes two.
        one = losses.binary_cross_entropy(0.0, 1.0, unit="bits")
        assert one == pytest.approx(1, rel=1e-15)
        four = losses.softmax_cross_entropy(np.zeros(4), np.eye(4)[2], unit="bits")
        assert four == pytest.approx(2, rel=1e-15)


def test_the_floor_is_the_entropy_of_the_targets_and_is_reached():
    source = np.random.default_rng(3)
    shares = source.uniform(0.01, 0.99, (6, 3))
    distributions = shares / shares.sum(-1, keepdims=True)
    with jax.enable_x64(True):
        for unit in losses.UNITS:
            logits = np.log(shares / (1 - shares))
            least = float(losses.binary_cross_entropy(logits, shares, unit))
            assert losses.binary_entropy(shares, unit) == pytest.approx(least, rel=1e-14)
            logits = np.log(distributions)
            least = float(losses.softmax_cross_entropy(logits, distributions, unit))
            assert losses.entropy(distributions, unit) == pytest.approx(least, rel=1e-14)
            assert losses.entropy(np.eye(3), unit) == 0
            assert losses.binary_entropy(np.eye(3), unit) == 0


def test_samples_are_averaged_and_outputs_summed():
    logits, shares, one_hot = drawn((4, 3), np.float64)
    with jax.enable_x64(True):
        for name, (function, _) in OPTAX.items():
            targets = one_hot if name == "softmax" else shares
            whole = function(logits, targets)
            each = [function(z, y) for z, y in zip(logits, targets, strict=True)]
            assert whole == pytest.approx(np.mean(each), rel=1e-14)
        each = [losses.l2_loss(z, y) for z, y in zip(logits[0], shares[0], strict=True)]
        assert losses.l2_loss(logits[0], shares[0]) == pytest.approx(np.sum(each), rel=1e-14)


@pytest.mark.slow
def test_second_derivatives_are_those_of_optax():
    logits, _, one_hot = drawn((2, 3), np.float64)
    with jax.enable_x64(True):
        for name in ("binary", "softmax", "sigmoid"):
            ours, theirs = (jax.hessian(f)(logits, one_hot) for f in OPTAX[name])
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


def test_an_unknown_unit_is_told():
    with pytest.raises(pm.PlateaumapError, match="did you mean 'bits'"):
        losses.binary_cross_entropy(0.0, 1.0, unit="bit")
    with pytest.raises(pm.PlateaumapError, match=r"shape \(\.\.\., outputs\)"):
        losses.softmax_cross_entropy(0.0, 1.0)


def hessian_exactly(logits, targets):
    """Return `Σy (diag(a) − a aᵀ)` of the softmax cross-entropy, to 60 digits."""
    with mpmath.workdps(60):
        z = [mpmath.mpf(float(v)) for v in logits]
        terms = [mpmath.exp(v - max(z)) for v in z]
        weight = mpmath.fsum(mpmath.mpf(float(v)) for v in targets)
        total, n = mpmath.fsum(terms), range(len(z))
        rest = [mpmath.fsum(terms[k] for k in n if k != j) / total for j in n]
        a = [term / total for term in terms]
        return [[weight * a[i] * (rest[i] if i == j else -a[j]) for j in n] for i in n]


@pytest.mark.parametrize(
    "logits",
    [
        [0.0, 0.0, 0.0],
        [2.0, 2.0, -1.0],
        [-1.0, 3.0, 3.0],
        [0.5, 0.2, -0.3],
        [40.0, 0.0, 0.0],
        [0.0, 700.0, 100.0],
        [1e4, 1e4, 0.0],
    ],
)
@pytest.mark.parametrize("targets", [[1.0, 0.0, 0.0], [0.0, 0.25, 0.75], [0.0, 0.0, 0.0]])
def test_the_hessian_of_the_softmax_is_exact_at_ties_and_in_saturation(logits, targets):
    with jax.enable_x64(True):
        z, y = jnp.asarray(logits), jnp.asarray(targets)
        found = jax.hessian(losses.softmax_cross_entropy)(z, y)
        reverse = jax.jacrev(jax.jacrev(losses.softmax_cross_entropy))(z, y)
    np.testing.assert_allclose(found, reverse, rtol=1e-14, atol=1e-300)
    for row, exact_row in zip(np.asarray(found), hessian_exactly(logits, targets), strict=True):
        for value, exact in zip(row, exact_row, strict=True):
            assert abs(value - exact) <= 1e-14 * abs(exact) + 1e-300


@pytest.mark.slow
def test_third_derivatives_of_the_softmax_are_right_at_ties():
    with jax.enable_x64(True):
        z, y = jnp.zeros(3), jnp.asarray([0.0, 1.0, 0.0])
        found, expected = (
            jax.jacfwd(jax.hessian(function))(z, y)
            for function in (
                losses.softmax_cross_entropy,
                lambda z, y: -jnp.sum(y * (z - jnp.log(jnp.sum(jnp.exp(z))))),
            )
        )
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_the_softmax_is_differentiable_in_its_targets():
    with jax.enable_x64(True):
        z, y = jnp.asarray([0.3, 0.3, -1.0]), jnp.asarray([0.2, 0.5, 0.3])
        found = jax.grad(losses.softmax_cross_entropy, argnums=1)(z, y)
        np.testing.assert_allclose(found, -jax.nn.log_softmax(z), rtol=1e-15)
        mixed = jax.jacfwd(jax.grad(losses.softmax_cross_entropy), argnums=1)(z, y)
        a = jax.nn.softmax(z)
        np.testing.assert_allclose(mixed, a[:, None] - jnp.eye(3), rtol=1e-14)


@pytest.mark.parametrize("name", ["linear", *slow("binary", "sigmoid")])
def test_hessians_are_differences_of_gradients(name):
    function = OPTAX[name][0]
    with jax.enable_x64(True):
        for logit, target in itertools.product((-30.0, -2.0, 0.0, 1e-9, 3.0, 30.0), (0.0, 0.4, 1)):
            z, y = jnp.full((2, 2), logit), jnp.full((2, 2), target)
            found = jax.hessian(function)(z, y).reshape(4, 4)
            step = 1e-4
            ahead, behind = (jax.grad(function)(z.at[0, 0].add(s), y) for s in (step, -step))
            difference = np.ravel((ahead - behind) / (2 * step))
            np.testing.assert_allclose(found[0], difference, rtol=1e-6, atol=1e-11)


NETWORK_LOSSES = (losses.binary_cross_entropy, losses.softmax_cross_entropy, losses.l2_loss)


@pytest.mark.parametrize("function", NETWORK_LOSSES)
@pytest.mark.parametrize(
    ("outputs", "shape"),
    [
        ((4, 1), (4,)),
        ((4, 3), (4,)),
        ((3,), (2, 3)),
        ((3,), (1, 3)),
        ((4, 3), (4, 2)),
        ((3, 3), (3,)),
    ],
)
def test_targets_that_do_not_fit_are_refused_with_both_shapes(function, outputs, shape):
    with pytest.raises(pm.PlateaumapError) as caught:
        jax.jit(function)(jnp.zeros(outputs), jnp.ones(shape))
    assert f"targets of shape {shape} with logits of shape {outputs}: " in str(caught.value)


@pytest.mark.parametrize("function", NETWORK_LOSSES)
@pytest.mark.parametrize(("outputs", "shape"), [((4, 3), ()), ((4, 3), (3,)), ((3, 3), (1, 3))])
def test_targets_may_be_shared_where_it_is_plain_which_logits_they_belong_to(
    function, outputs, shape
):
    z = jnp.linspace(-1, 2, 12 if outputs == (4, 3) else 9).reshape(outputs)
    y = jnp.full(shape, 0.25)
    assert function(z, y) == function(z, jnp.broadcast_to(y, outputs))


def test_class_numbers_are_refused_with_the_way_to_use_them():
    cases = [
        ((4, 3), [0, 2, 1, 0]),
        ((3, 3), [0, 2, 1]),
        ((3,), 2),
        ((4, 3), 1),
        ((2, 3), [[1], [2]]),
    ]
    for outputs, numbers in cases:
        for function in (losses.softmax_cross_entropy, jax.jit(losses.softmax_cross_entropy)):
            with pytest.raises(pm.PlateaumapError, match=r"use jax.nn.one_hot\(targets, 3\)"):
                function(jnp.zeros(outputs), jnp.asarray(numbers))
    one_hot = np.eye(3, dtype=int)[[0, 2]]
    assert losses.softmax_cross_entropy(jnp.zeros((2, 3)), one_hot) == pytest.approx(np.log(3))


@pytest.mark.parametrize("function", [*NETWORK_LOSSES, losses.quadratic, losses.cross_entropy])
def test_masked_arrays_are_refused(function):
    plain = np.array([[0.2, 0.8]])
    masked = np.ma.masked_array(plain, [[True, False]])
    for arguments in ((plain, masked), (masked, plain)):
        with pytest.raises(pm.PlateaumapError, match="is a masked array of shape"):
            function(*arguments)
