"""GPU kernels, compiled for the processor, compute the same rows as the blocks of XLA."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from tests.execution.host_gpu import COMPILER, HostGpu
from tests.marks import slow

import plateaumap as pm
from plateaumap.execution import simulator
from plateaumap.execution.cuda import device as cuda
from plateaumap.execution.cuda.kernel import Source, UntranslatableError, translate
from plateaumap.execution.simulator import Simulator
from plateaumap.experiment.evaluation import Evaluation, Limits
from plateaumap.numerics.compiler import double_precision

INTEGERS = ["plateau_epochs", "half_epochs", "tenth_epochs", "steepest_epoch", "epochs_run"]
WORDS = ["status", "path", "shape"]


def require_compiler(here: bool, why_not: str) -> None:
    """Skip a test if a compiler is missing; fail it if every compiler is required."""
    if not here:
        required = os.environ.get("PLATEAUMAP_COMPILERS") == "required"
        (pytest.fail if required else pytest.skip)(why_not)


def nvrtc_or_none() -> ctypes.CDLL | None:
    try:
        return cuda.nvrtc()
    except OSError:
        return None


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HostGpu:
    """Make the next simulators use an emulated GPU."""
    require_compiler(COMPILER is not None, "no C++ compiler is here")
    stand_in = HostGpu(tmp_path)
    monkeypatch.setattr(simulator, "gpu", lambda: stand_in)
    return stand_in


def both(gpu: HostGpu, sweep: pm.Sweep) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of a sweep by kernels and by XLA's blocks."""
    ours = pm.run(sweep)
    assert gpu.launches > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator, "gpu", lambda: None)
        return ours, pm.run(sweep)


def require_alike(ours: pd.DataFrame, theirs: pd.DataFrame, relative: float) -> None:
    pd.testing.assert_frame_equal(ours[INTEGERS], theirs[INTEGERS])
    pd.testing.assert_frame_equal(ours[WORDS], theirs[WORDS])
    numbers = [name for name in ours if ours[name].dtype == np.float64]
    for name in numbers:
        least = 1e-9 if name == "tangent_lag" else 1e-300  # a lag is a difference
        np.testing.assert_allclose(ours[name], theirs[name], relative, least, err_msg=name)


def a_map(loss: str, precision: str, **more: Any) -> pm.Sweep:
    axes = [pm.linspace("w0", -8, 9, 18), pm.geomspace("lr", 1e-3, 300, 9)]
    return pm.Sweep(
        name="map",
        losses=[loss],
        precision=precision,
        **{"horizon": 3000, "axes": axes, "fixed": {"b0": 0.5}, **more},
    )


@pytest.mark.parametrize(
    ("loss", "precision"),
    [
        ("quadratic", "float64"),
        *slow(("cross_entropy", "float64"), ("quadratic", "float32")),
        *slow(("cross_entropy", "float32")),
        *slow(("quadratic", "float32_plain"), ("cross_entropy", "float32_plain")),
    ],
)
def test_a_map_is_the_one_that_xla_makes(gpu: HostGpu, loss: str, precision: str) -> None:
    ours, theirs = both(gpu, a_map(loss, precision))
    assert len(set(ours["status"])) >= 2
    require_alike(ours, theirs, relative=1e-12 if precision == "float64" else 1e-4)


@pytest.mark.parametrize(
    "more",
    [
        *slow({"until": "plateau"}),
        {"horizon": 20},
        *slow({"method": "leap"}),
        *slow({"horizon": 2**31, "axes": [pm.linspace("w0", 0, 2, 8), pm.values("lr", [0.5])]}),
    ],
    ids=["at the end of its plateau", "at once", "by theory", "beyond 32 bits"],
)
def test_so_is_one_that_ends_elsewhere(gpu: HostGpu, more: dict[str, Any]) -> None:
    require_alike(*both(gpu, a_map("quadratic", "float64", **more)), relative=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "softplus", "algebraic", "swish"])
def test_so_is_one_of_another_activation(gpu: HostGpu, activation: str) -> None:
    sweep = pm.Sweep(
        name="other",
        experiment=pm.SingleNeuron(activation=activation),
        losses=["quadratic"],
        axes=[pm.linspace("w0", 0.1, 3, 30), pm.values("lr", [0.01, 0.1])],
        fixed={"b0": 0.1, "y": 0.5},
        horizon=2000,
    )
    require_alike(*both(gpu, sweep), relative=1e-9)


def test_the_order_of_the_runs_changes_no_bit(gpu: HostGpu) -> None:
    rng = np.random.default_rng(1)
    points = {name: rng.uniform(0, 5, 100) for name in ("w0", "b0", "lr", "x")}
    points["y"] = np.zeros(100)
    evaluation = Evaluation(pm.SingleNeuron(), "quadratic")
    limits = Limits(np.int32(500), np.float64(0.01))
    with Simulator(1) as here:
        one = here.simulate(evaluation, points, limits)
        other = here.simulate(evaluation, points, limits, rng.uniform(size=100))
    assert gpu.launches == 2
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


@dataclass(frozen=True)
class Drawn(pm.SingleNeuron):
    """A neuron with a random initial point, which no kernel can draw."""

    def init(self, point: Any) -> Any:
        start = super().init(point)
        key = jax.random.key(0)
        return start._replace(w=start.w + jax.random.normal(key, (), start.w.dtype))


@pytest.mark.slow
def test_what_has_no_kernel_is_left_to_xla(gpu: HostGpu, caplog: pytest.LogCaptureFixture) -> None:
    sweep = a_map("quadratic", "float64").model_copy(update={"experiment": Drawn()})
    with caplog.at_level("INFO", "plateaumap"):
        frame = pm.run(sweep)
    assert gpu.launches == 0
    assert frame["plateau_epochs"].notna().any()
    assert "XLA compiles this model" in caplog.text


def kernel_of(function: Any) -> Source:
    """Return the kernel of a function of one number."""
    with double_precision():
        one = {"x": np.float64(1)}
        return translate(lambda point, limits, data: {"out": function(point["x"])}, one, (), ())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.sort(jnp.stack([x, -x]))[0],
        lambda x: jnp.sum(jnp.arange(100.0) * x),
        lambda x: jax.lax.map(lambda y: y * x, jnp.arange(5.0)).sum(),
        lambda x: (x + 1j * x).real,
        lambda x: x.astype(jnp.float16).astype(x.dtype),
    ],
)
def test_an_operation_without_translation_is_named(function: Any) -> None:
    with pytest.raises(UntranslatableError):
        kernel_of(function)


OPERATIONS = {
    "round": jnp.round,
    "extremes": lambda x: jnp.maximum(x, 0.3) - jnp.minimum(x, jnp.nan_to_num(1 / x)),
    "sign": lambda x: jnp.sign(x) + jnp.abs(x) * jnp.sign(jnp.int32(x)),
    "powers": lambda x: x**7 + (1 + x * x) ** -3 + jnp.square(x),
    "small arrays": lambda x: jnp.sum(jnp.stack([x, 2 * x, x**2]) * jnp.asarray([1.5, 0.1, -7.0])),
    "an element": lambda x: jnp.asarray([0.1, 0.2, 0.7])[jnp.int32(jnp.clip(x, 0, 5))],
    "a branch": lambda x: jax.lax.cond(x > 0, jnp.exp, lambda v: v * v, x),
    "a switch": lambda x: jax.lax.switch(jnp.int32(x), [jnp.cos, lambda v: -v, lambda v: v + 3], x),
    "a loop": lambda x: jax.lax.while_loop(lambda s: s[0] < 9, lambda s: (s[1] + 1, s[0]), (x, x))[
        1
    ],
    "bits": lambda x: (jax.lax.bitcast_convert_type(x, jnp.int64) >> 40 << 3).astype(x.dtype),
    "wrapping": lambda x: (jnp.int32(x) + jnp.int32(2**31 - 1)).astype(x.dtype),
    "not finite": lambda x: jnp.where(jnp.isfinite(1 / x), jnp.log1p(jnp.abs(x)), jnp.inf),
    "remainder": lambda x: jax.lax.rem(x, 0.75) + jnp.int32(x) % 2,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_in_c_is_that_of_jax(tmp_path: Path, name: str) -> None:
    require_compiler(COMPILER is not None, "no C++ compiler is here")
    x = np.asarray([-8.0, -2.5, -1.0, -0.3, 0.0, 0.5, 1.0, 1.5, 2.5, 3.2, 8.9])
    kernel = cuda.Kernel(HostGpu(tmp_path), kernel_of(OPERATIONS[name]))
    result = kernel({"x": x}, (), None)["out"]
    with double_precision():
        expected = jax.vmap(OPERATIONS[name])(x)
    np.testing.assert_allclose(result, expected, rtol=1e-14, atol=0)


@pytest.mark.slow
def test_nvidias_compiler_takes_every_kernel() -> None:
    """The compiler needs no GPU; `.ci/run` installs it."""
    compiler = nvrtc_or_none()
    require_compiler(compiler is not None, "NVIDIA's run-time compiler is not here")
    assert compiler is not None
    for activation in ("sigmoid", "tanh", "probit", "gelu"):
        for precision in ("float64", "float32"):
            evaluation = Evaluation(pm.SingleNeuron(activation=activation), "quadratic", precision)
            limits = Limits(np.int32(5), np.zeros((), evaluation.dtype))
            with double_precision():
                point, data = evaluation.a_point(), evaluation.data()
                source = translate(evaluation.evaluate, point, limits, data)
            assert cuda.compiled(compiler, source.text, "sm_90")[:4] == b"\x7fELF"
