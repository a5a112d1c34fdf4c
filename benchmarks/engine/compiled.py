"""The C loop, compiled when the benchmark runs."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-mprefer-vector-width=512")
"""`-fno-associative-math` is added where Kahan summation must survive."""

MEASURES = (
    "plateau_epochs",
    "half_epochs",
    "tenth_epochs",
    "plateau_fraction",
    "acceleration",
    "steepest_epoch",
    "tangent_lag",
    "w_moved",
    "b_moved",
)
"""What the loop measures, in the order of its output; T10 alone is the first of them."""

_LOSSES = ("quadratic", "cross_entropy")
_PRECISIONS = ("float64", "float32", "float32_plain")


def compiler() -> str | None:
    """Return the C compiler, if there is one."""
    return shutil.which("gcc") or shutil.which("cc")


def version() -> str:
    """Return what the compiler calls itself."""
    found = compiler()
    if found is None:
        return "none"
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    return version.stdout.splitlines()[0]


@cache
def loop(loss: str, precision: str, measures: str) -> Callable[..., dict[str, np.ndarray]]:
    """Return the loop of a loss, a precision, and "T10" or "all" measures.

    It takes w0, b0 and lr (arrays of shape (n,)), the horizon and the number of threads.
    """
    function = getattr(_library(), _name(loss, precision, measures))
    function.restype = ctypes.c_int64
    dtype = np.float64 if precision == "float64" else np.float32
    names = MEASURES if measures == "all" else MEASURES[:1]

    def run(
        w0: np.ndarray, b0: np.ndarray, lr: np.ndarray, horizon: int, threads: int
    ) -> dict[str, np.ndarray]:
        given = [np.ascontiguousarray(array, dtype) for array in (w0, b0, lr)]
        out = np.empty((len(names), len(w0)))
        function(
            ctypes.c_int64(len(w0)),
            *(ctypes.c_void_p(array.ctypes.data) for array in given),
            ctypes.c_int64(horizon),
            ctypes.c_int(threads),
            ctypes.c_void_p(out.ctypes.data),
        )
        return dict(zip(names, out, strict=True))

    return run


def _name(loss: str, precision: str, measures: str) -> str:
    return f"{loss}_{precision}_{measures}"


@cache
def _library() -> ctypes.CDLL:
    found = compiler()
    if found is None:
        raise RuntimeError("no C compiler is here")
    source = Path(__file__).with_name("loop.c")
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for loss, precision, measures in product(_LOSSES, _PRECISIONS, ("T10", "all")):
            name = _name(loss, precision, measures)
            target = Path(folder) / f"{name}.o"
            compensated = precision == "float32"
            command = [found, *FLAGS, *(["-fno-associative-math"] if compensated else [])]
            command += [f"-DNAME={name}", f"-DLOSS={_LOSSES.index(loss)}"]
            command += [f"-DSINGLE={int(precision != 'float64')}"]
            command += [f"-DALL={int(measures == 'all')}", f"-DCOMPENSATED={int(compensated)}"]
            command += ["-fPIC", "-c", str(source), "-o", str(target)]
            subprocess.run(command, check=True, capture_output=True)
            objects.append(str(target))
        library = Path(folder) / "loop.so"
        command = [found, "-shared", "-fopenmp", *objects, "-o", str(library), "-lmvec", "-lm"]
        subprocess.run(command, check=True, capture_output=True)
        return ctypes.CDLL(str(library))
