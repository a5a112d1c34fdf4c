"""Compiler options change no result of the operations that are compiled with them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import plateaumap as pm
from plateaumap.execution.verified import COMPUTES, unverified
from plateaumap.experiment.evaluation import Evaluation, Limits
from plateaumap.neuron import activations, losses
from plateaumap.numerics.compiler import compiler_options
from plateaumap.numerics.equations import equations

DTYPES = (np.float64, np.float32)
ULPS = 4

SLOW_TO_COMPILE = {"exp1", "expi", "expn", "poly"}
"""Functions that take XLA minutes; they consist of the same operations as the others."""


def grid(dtype: Any) -> np.ndarray:
    """Return 1,024 numbers over the whole range of a format, special values included."""
    info = np.finfo(dtype)
    sizes = np.geomspace(float(info.tiny), float(info.max) / 4, 203)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, info.tiny, info.max, -info.max, info.eps, 1, -1]
    parts = (np.linspace(-8, 8, 403), np.linspace(-1, 1, 204), special, sizes, -sizes)
    return np.concatenate(parts).astype(dtype)


class Case(NamedTuple):
    """A function of one or two arrays, and its arguments."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[np.ndarray, ...]


def public_functions(*modules: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in modules:
        for name in sorted(dir(module)):
            function = getattr(module, name)
            if not callable(function) or name.startswith("_") or isinstance(function, type):
                continue
            if not str(getattr(function, "__module__", "")).startswith("numpy"):
                yield f"{module.__name__}.{name}", function


def elementary(dtype: Any) -> Iterator[Case]:
    """Yield every public function that maps one or two arrays of numbers to one of their shape."""
    x = grid(dtype)
    for name, function in public_functions(jnp, jax.nn, jax.scipy.special):
        if name.rpartition(".")[2] in SLOW_TO_COMPILE:
            continue
        for arguments in ((x,), (x, np.roll(x, 331))):
            try:
                shapes = jax.tree.leaves(jax.eval_shape(function, *arguments))
            except Exception:  # it takes something else
                continue
            if shapes and all(shape.shape == x.shape for shape in shapes):
                yield Case(f"{name}/{len(arguments)}", function, arguments)


def distance(actual: Any, expected: Any) -> float:
    """Return the largest difference in units in the last place; NaN and NaN are equal."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.dtype.kind != "f":
        return 0.0 if np.array_equal(actual, expected) else np.inf
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(all="ignore"):
        unit = np.maximum(np.spacing(np.abs(expected)), np.finfo(actual.dtype).tiny)
        off = np.where(same, 0, np.abs(actual - expected) / unit)
    return float(np.nan_to_num(off, nan=np.inf).max())


def with_and_without(function: Callable[..., Any], *arguments: Any) -> float:
    """Return the distance of the results of the two compilations."""
    default, tuned = (
        jax.tree.leaves(jax.jit(function, compiler_options=options)(*arguments))
        for options in (None, compiler_options())
    )
    return max(map(distance, tuned, default), default=0.0)


def in_a_loop(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a function that a vectorised loop calls in every turn, as in a run."""

    def one(*row: Any) -> Any:
        def turn(state: Any) -> Any:
            count, rest, _ = state
            return count + 1, rest, function(*rest)

        blank = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, *row))
        return jax.lax.while_loop(lambda state: state[0] < 2, turn, (0, row, blank))[2]

    return jax.vmap(one)(*arguments)


EXAMPLES: dict[str, tuple[Callable[..., Any], int]] = {
    "exponentials": (lambda x: (jnp.exp(x), jnp.exp2(x), jnp.expm1(x), jax.nn.sigmoid(x)), 1),
    "logarithms": (lambda x: (jnp.log(x), jnp.log1p(x)), 1),
    "roots": (lambda x: (jnp.sqrt(x), jax.lax.rsqrt(x), jnp.cbrt(x)), 1),
    "powers": (lambda x, y: (jnp.power(x, y), x**3, jnp.square(x)), 2),
    "circles": (lambda x: (jnp.sin(x), jnp.cos(x), jnp.tan(x)), 1),
    "hyperbolas": (lambda x: (jnp.tanh(x), jnp.sinh(x), jnp.cosh(x)), 1),
    "slopes": (lambda x: jax.jvp(jnp.tanh, (x,), (jnp.ones_like(x),))[1], 1),
    "areas": (lambda x: (jnp.arcsinh(x), jnp.arccosh(x), jnp.arctanh(x)), 1),
    "errors": (lambda x: (jax.lax.erf(x), jax.lax.erfc(x), jax.lax.erf_inv(x)), 1),
    "factorials": (lambda x: (jax.lax.lgamma(x), jax.lax.digamma(x)), 1),
    "arithmetic": (lambda x, y: (x + y, x - y, x * y, x / y, -x, abs(x), jnp.sign(x), x % y), 2),
    "orders": (lambda x, y: (jnp.maximum(x, y), jnp.minimum(x, y), jnp.clip(x, -1, 1)), 2),
    "roundings": (lambda x, y: (jnp.floor(x), jnp.ceil(x), jnp.round(x), jnp.nextafter(x, y)), 2),
}
"""The elementary functions on the list, grouped by kind, with their numbers of arguments."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXAMPLES)
def test_elementary_functions_on_the_list_are_the_same_with_the_options(
    name: str, dtype: Any
) -> None:
    function, count = EXAMPLES[name]
    x = grid(dtype)
    arguments = (x, np.roll(x, 331))[:count]
    with jax.enable_x64(True):
        looped = partial(in_a_loop, function)
        assert not unverified(jax.make_jaxpr(looped)(*arguments))
        assert with_and_without(looped, *arguments) <= ULPS


def sums(x: Any, y: Any) -> Any:
    """Return functions that add many numbers, of arrays of shape (32, 32)."""
    wide = (1, 1, *x.shape)
    convolved = jax.lax.conv(x.reshape(wide), y[:3, :3].reshape(1, 1, 3, 3), (1, 1), "SAME")
    scattered = jnp.zeros(8, x.dtype).at[jnp.arange(32) % 8].add(x[0])
    along = (jnp.cumsum(x, 0), jnp.cumprod(1 + x / 100, 0), jax.lax.cumlogsumexp(x))
    return x @ y, convolved, scattered, x.sum(), x.prod(0), *along


def choices(x: Any) -> Any:
    """Return functions that compare and order numbers."""
    bits = jax.random.bits(jax.random.fold_in(jax.random.key(3), 1), (64,))
    ordered = (jnp.sort(x, axis=None), jnp.argmax(x), jnp.argmin(x), *jax.lax.top_k(x[0], 4))
    ends = (x.max(0), x.min(0), jax.lax.cummax(x), jax.lax.cummin(x), (x > 0).all(), (x > 0).any())
    whole = (bits & 7, bits | 7, bits ^ 7, ~bits, bits >> 3, jax.lax.clz(bits))
    return *ordered, *ends, *whole, jax.lax.population_count(bits), jnp.isfinite(x)


@pytest.mark.parametrize("dtype", [pytest.param(np.float64, marks=pytest.mark.slow), np.float32])
def test_sums_choices_and_random_bits_are_the_same_with_the_options(dtype: Any) -> None:
    source = np.random.default_rng(0)
    # Sums may be added up in another order: of positive numbers that costs a few last digits.
    x, y = source.uniform(0.1, 1, (2, 32, 32)).astype(dtype)
    with jax.enable_x64(True):
        for function, arguments, ulps in ((sums, (x, y), 40), (choices, (x - 0.5,), 0)):
            assert not unverified(jax.make_jaxpr(function)(*arguments))
            assert with_and_without(function, *arguments) <= ulps


def test_every_elementary_function_on_the_list_is_among_the_examples() -> None:
    x = grid(np.float32)
    covered = {
        equation.primitive.name
        for function, count in EXAMPLES.values()
        for equation in equations(jax.make_jaxpr(function)(*(x, x)[:count]))
    }
    for function, count in ((sums, 2), (choices, 1)):
        covered |= {
            equation.primitive.name
            for equation in equations(jax.make_jaxpr(function)(*(x.reshape(32, 32),) * count))
        }
    functions = {name for name in COMPUTES if hasattr(jax.lax, name)} - covered
    # The remaining operations are exact for all vectors: comparisons, shifts, changes of dtype.
    assert not {name for name in functions if name.startswith(("exp", "log", "erf", "cum"))}
    assert not functions & {"dot_general", "tanh", "pow", "sqrt", "sin", "lgamma", "sort", "div"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_elementary_function_of_jax_is_the_same_or_left_to_its_defaults(dtype: Any) -> None:
    with jax.enable_x64(True):
        kept = [
            case
            for case in elementary(dtype)
            if not unverified(jax.make_jaxpr(case.function)(*case.arguments))
        ]
        assert len(kept) > 100
        off = {c.name: with_and_without(c.function, *c.arguments) for c in kept}
    assert {name: ulps for name, ulps in off.items() if ulps > ULPS} == {}


@pytest.mark.parametrize("function", [jnp.arctan, jnp.arcsin, jnp.arccos])
def test_inverse_trigonometric_functions_are_compiled_without_options(function: Any) -> None:
    assert unverified(jax.make_jaxpr(jax.grad(lambda z: function(z) ** 2))(0.5)) == {
        equation.primitive.name for equation in equations(jax.make_jaxpr(function)(0.5))
    }


def test_a_program_is_looked_through_to_its_innermost_loop() -> None:
    def one(x: Any) -> Any:
        inner = jax.jit(lambda v: jax.lax.cond(v > 0, jnp.arctan, jnp.sin, v))
        return jax.lax.while_loop(lambda v: v > 1, lambda v: jax.checkpoint(inner)(v) / 2, x)

    assert unverified(jax.make_jaxpr(jax.vmap(one))(np.ones(4))) == {"atan"}
    assert unverified(jax.make_jaxpr(jnp.arctan2)(1.0, 2.0)) == {"atan2"}


def test_complex_numbers_and_half_precision_are_compiled_without_options() -> None:
    assert unverified(jax.make_jaxpr(jnp.log)(np.complex64(1j))) == {"log"}
    assert unverified(jax.make_jaxpr(jnp.tanh)(np.float16(1))) == {"tanh"}
    # Two real numbers may travel as a complex one.
    pair = jax.make_jaxpr(lambda x, y: jnp.where(x > y, 2 * x, jax.lax.complex(x, y).real))
    assert not unverified(pair(1.0, 2.0))


def arctangent(z: Any, y: Any) -> Any:
    return (jnp.arctan(z) / jnp.pi + 0.5 - y) ** 2 / 2


def options_used(sweep: pm.Sweep, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.INFO, "plateaumap.execution.compiled"):
        caplog.clear()
        pm.run(sweep, threads=1)
        return [record.getMessage() for record in caplog.records]


def test_a_loss_with_an_arc_tangent_is_right(caplog: pytest.LogCaptureFixture) -> None:
    w0 = np.linspace(-4, 8, 65)
    fixed = {"b0": 0.0, "lr": 0.3}
    sweep = pm.Sweep(losses=(arctangent,), axes=[pm.values("w0", w0)], fixed=fixed, horizon=2000)
    with caplog.at_level(logging.INFO, "plateaumap.execution.compiled"):
        lengths = pm.run(sweep)["plateau_epochs"]
    assert [r.getMessage() for r in caplog.records] == [
        "compiled without options, because it uses atan"
    ]

    z, n = w0.copy(), np.full(len(w0), -1)
    level = 0.9 * (np.arctan(z) / np.pi + 0.5) ** 2
    for epoch in range(2001):
        a = np.arctan(z) / np.pi + 0.5
        n = np.where((n < 0) & (a * a <= level), epoch, n)
        z = z - 0.6 * a / (np.pi * (1 + z * z))
    np.testing.assert_array_equal(lengths.fillna(-1), n)


def test_the_sigmoid_neuron_is_compiled_with_options(caplog: pytest.LogCaptureFixture) -> None:
    fixed = {"w0": 0.3, "b0": 0.2, "lr": 0.1, "y": 0.25}
    sweep = pm.Sweep(losses=("quadratic", "cross_entropy"), fixed=fixed, horizon=7)
    assert options_used(sweep, caplog) == []


def test_a_usual_network_is_compiled_with_options(caplog: pytest.LogCaptureFixture) -> None:
    class Network(pm.Experiment):
        coordinates = (pm.Coordinate("seed", integer=True), pm.Coordinate("lr", minimum=0))

        def init(self, point: Any) -> Any:
            return {"w": jax.random.normal(jax.random.key(point["seed"]), (2, 3))}

        def loss(self, parameters: Any, point: Any, loss_name: Any) -> Any:
            logits = jnp.tanh(jnp.ones((4, 2)) @ parameters["w"])
            return pm.losses.softmax_cross_entropy(logits, jnp.eye(3)[jnp.array([0, 1, 2, 0])])

        def descent(self, parameters: Any, point: Any, loss_name: Any, epoch: Any) -> Any:
            key = jax.random.fold_in(jax.random.key(point["seed"]), epoch)
            return self.loss(parameters, point, loss_name) * jax.random.uniform(key)

        def optimizer(self, point: Any) -> Any:
            return optax.adam(point["lr"])

    sweep = pm.Sweep(experiment=Network(), fixed={"seed": 0, "lr": 0.1}, horizon=7)
    assert options_used(sweep, caplog) == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float64", "float32", "float32_plain"])
def test_every_neuron_is_compiled_with_options(precision: str) -> None:
    for name in activations.ACTIVATIONS:
        for loss in losses.known_losses(name):
            evaluation = Evaluation(pm.SingleNeuron(activation=name), loss, precision)
            limits = Limits(np.int32(700), np.zeros((), evaluation.dtype))
            coordinates = {"w0": 0.3, "b0": 0.2, "lr": 0.1, "x": 1.0, "y": 0.5}
            points = evaluation.cast({n: np.full(64, value) for n, value in coordinates.items()})
            block = jax.jit(jax.vmap(evaluation.evaluate, (0, None, None)))
            with jax.enable_x64(True):
                traced = block.trace(points, limits, evaluation.data())
            assert unverified(traced.jaxpr) == frozenset(), (name, loss)


SHORT_LOOPS = """
import sys
import jax, numpy as np
from tests.execution.test_verified import DTYPES, EXAMPLES, grid, in_a_loop
from functools import partial
import jax.numpy as jnp

functions = EXAMPLES | {"angles": (lambda x: (jnp.arctan(x), jnp.arcsin(x), jnp.arccos(x)), 1)}
results = []
with jax.enable_x64(True):
    for dtype in DTYPES:
        x = grid(dtype)
        for function, count in functions.values():
            arguments = (x, np.roll(x, 331))[:count]
            results += jax.tree.leaves(jax.jit(partial(in_a_loop, function))(*arguments))
np.savez(sys.argv[1], *map(np.asarray, results))
"""


@pytest.mark.slow
def test_short_loops_in_one_piece_return_the_same(tmp_path: Any) -> None:
    """The settings of `prepare_compiler` change no elementary function."""
    option = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold={}"
    results = []
    for size in (0, 100_000_000):
        out = tmp_path / f"{size}.npz"
        flags = os.environ | {"XLA_FLAGS": option.format(size)}
        subprocess.run([sys.executable, "-c", SHORT_LOOPS, out], env=flags, check=True)
        with np.load(out) as file:
            results.append([file[name] for name in file.files])
    assert max(map(distance, *results)) <= ULPS
