"""Emulates a GPU: kernels are compiled for the processor, and simulate one run at a time."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from plateaumap.execution.cuda.kernel import ENTRY

COMPILER = shutil.which("g++") or shutil.which("clang++")

_BEFORE = """
#include <cmath>
#include <cstring>
using std::isfinite;
#define __global__
#define __device__
#define __constant__
#define __launch_bounds__(threads, blocks)
static double erfinv(double);
static float erfinvf(float);
struct place { long long x; };
static thread_local place blockIdx, threadIdx, blockDim = {1};
"""

_AFTER = """
extern "C" void all_runs(void **arguments) {{
  for (long long run = 0; run < *(long long *)arguments[0]; ++run) {{
    blockIdx.x = run;
    {entry}({arguments});
  }}
}}
"""


class HostGpu:
    """Replaces `plateaumap.execution.cuda.device.Gpu`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count, self.launches = folder, 0, 0

    def load(self, text: str) -> Any:
        self._count += 1
        source = self._folder / f"kernel_{self._count}.cpp"
        declared = text.split(f" {ENTRY}(")[1].split(") {")[0].split(", ")
        kinds = [d.rpartition("*")[0] + "*" if "*" in d else d.rpartition(" ")[0] for d in declared]
        arguments = ", ".join(f"*({kind} *)arguments[{n}]" for n, kind in enumerate(kinds))
        source.write_text(_BEFORE + text + _AFTER.format(entry=ENTRY, arguments=arguments))
        library = source.with_suffix(".so")
        # Like XLA, the compiler must not fuse multiplications and additions.
        flags = ["-O2", "-std=c++17", "-fwrapv", "-ffp-contract=off", "-shared", "-fPIC", "-w"]
        subprocess.run([str(COMPILER), *flags, "-o", str(library), str(source)], check=True)
        return ctypes.CDLL(str(library)).all_runs

    @contextmanager
    def memory(self, size: int) -> Iterator[int]:
        memory = np.full(size, 0xFF, np.uint8)
        yield memory.ctypes.data

    def send(self, place: int, array: np.ndarray) -> None:
        ctypes.memmove(place, array.ctypes.data, array.nbytes)

    def fetch(self, array: np.ndarray, place: int) -> None:
        ctypes.memmove(array.ctypes.data, place, array.nbytes)

    def launch(self, function: Any, count: int, arguments: Sequence[Any]) -> None:
        assert arguments[0].value == count
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        function(pointers)
        self.launches += 1
