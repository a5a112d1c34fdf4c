"""Runs kernels written in C++ on an NVIDIA GPU, through the driver and NVIDIA's run-time compiler.

Both are installed with JAX's CUDA backend. They are called through `ctypes`, so that installing
this package builds nothing.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterable, Mapping, Sequence
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from plateaumap.execution.cuda.kernel import ENTRY, THREADS, Source
from plateaumap.execution.errors import ExecutionError

_log = logging.getLogger(__name__)

_ALIGNMENT = 256
_MAJOR, _MINOR = 75, 76
"""The driver's attribute numbers of the two parts of a GPU's compute capability."""

_OWN_STREAM = c_void_p(2)
"""The driver's handle of the calling thread's stream."""

_OPTIONS = ("--std=c++17", "--diag-suppress=177")
"""Options of NVIDIA's compiler. Unused variables (177) are normal in generated code."""


class Kernel:
    """A compiled kernel, which any thread may call."""

    def __init__(self, gpu: Gpu, source: Source) -> None:
        """Compile and load it.

        Raises:
            ExecutionError: the compiler or the driver refuses it.
        """
        self._gpu, self._source = gpu, source
        self._function = gpu.load(source.text)

    def __call__(
        self, points: Mapping[str, np.ndarray], limits: Sequence[Any], order: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Run the kernel for some points, and return its outputs.

        Args:
            points: an array of shape (n,) for each input.
            limits: the scalars.
            order: the numbers of the points in the order in which their runs start, or None.

        Raises:
            ExecutionError: the driver reports a fault.
        """
        source = self._source
        count = len(next(iter(points.values())))
        inputs = [np.ascontiguousarray(points[form.name], form.dtype) for form in source.inputs]
        if order is not None:
            inputs.append(np.ascontiguousarray(order, np.int32))
        outputs = [np.empty(count, form.dtype) for form in source.outputs]
        scalars = [np.array(v, d) for v, d in zip(limits, source.scalars, strict=True)]
        sizes = [-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in (*inputs, *outputs)]
        with self._gpu.memory(sum(sizes)) as start:
            places = [start + int(offset) for offset in np.cumsum([0, *sizes[:-1]])]
            read, written = places[: len(inputs)], places[len(inputs) :]
            for place, array in zip(read, inputs, strict=True):
                self._gpu.send(place, array)
            first = read.pop() if order is not None else 0
            arguments: list[Any] = [c_uint64(count), c_uint64(first), *map(c_uint64, read)]
            arguments += [np.ctypeslib.as_ctypes(scalar) for scalar in scalars]
            self._gpu.launch(self._function, count, [*arguments, *map(c_uint64, written)])
            for place, array in zip(written, outputs, strict=True):
                self._gpu.fetch(array, place)
        return {form.name: array for form, array in zip(source.outputs, outputs, strict=True)}


class _Memory:
    """Memory of a GPU that is allocated while a context is entered."""

    def __init__(self, gpu: Gpu, size: int) -> None:
        self._gpu, self._size = gpu, size
        self._address = c_uint64()

    def __enter__(self) -> int:
        self._gpu.enter()
        size = c_size_t(self._size)
        self._gpu.driver("cuMemAllocAsync", byref(self._address), size, _OWN_STREAM)
        return self._address.value

    def __exit__(self, *exception: object) -> None:
        self._gpu.driver("cuMemFreeAsync", self._address, _OWN_STREAM)
        self._gpu.wait()


class Gpu:
    """The first GPU of JAX, in the context in which JAX uses it."""

    def __init__(self) -> None:
        """Connect to the device.

        Raises:
            OSError: a library is missing.
            ExecutionError: a library reports an error.
        """
        self._libcuda = ctypes.CDLL("libcuda.so.1")
        self.driver("cuInit", c_uint(0))
        device = c_int()
        number = jax.local_devices()[0].local_hardware_id or 0
        self.driver("cuDeviceGet", byref(device), c_int(number))
        self._context = c_void_p()
        self.driver("cuDevicePrimaryCtxRetain", byref(self._context), device)
        capability = (self._attribute(part, device) for part in (_MAJOR, _MINOR))
        self._architecture = "sm_" + "".join(map(str, capability))
        self._nvrtc = nvrtc()

    def enter(self) -> None:
        """Select this GPU for the calling thread."""
        self.driver("cuCtxSetCurrent", self._context)

    def load(self, text: str) -> c_void_p:
        """Compile a source for this GPU, and return its function."""
        binary = compiled(self._nvrtc, text, self._architecture)
        self.enter()
        module, function = c_void_p(), c_void_p()
        self.driver("cuModuleLoadData", byref(module), c_char_p(binary))
        self.driver("cuModuleGetFunction", byref(function), module, c_char_p(ENTRY.encode()))
        return function

    def memory(self, size: int) -> _Memory:
        """Return a context manager that allocates bytes and returns their address."""
        return _Memory(self, size)

    def send(self, place: int, array: np.ndarray) -> None:
        """Copy an array to the GPU."""
        where = array.ctypes.data_as(c_void_p)
        size = c_size_t(array.nbytes)
        self.driver("cuMemcpyHtoDAsync_v2", c_uint64(place), where, size, _OWN_STREAM)

    def fetch(self, array: np.ndarray, place: int) -> None:
        """Copy from the GPU into an array, which is complete when the memory is released."""
        where = array.ctypes.data_as(c_void_p)
        size = c_size_t(array.nbytes)
        self.driver("cuMemcpyDtoHAsync_v2", where, c_uint64(place), size, _OWN_STREAM)

    def launch(self, function: c_void_p, count: int, arguments: Sequence[Any]) -> None:
        """Start one thread for each of `count` runs."""
        pointers = (c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        grid = map(c_uint, (-(-count // THREADS), 1, 1, THREADS, 1, 1, 0))
        self.driver("cuLaunchKernel", function, *grid, _OWN_STREAM, pointers, None)

    def wait(self) -> None:
        """Wait for everything that the calling thread has started."""
        self.driver("cuStreamSynchronize", _OWN_STREAM)

    def driver(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver.

        Raises:
            ExecutionError: the driver reports an error.
        """
        code = getattr(self._libcuda, name)(*arguments)
        if code:
            message = c_char_p()
            self._libcuda.cuGetErrorString(c_int(code), byref(message))
            text = (message.value or b"unknown").decode()
            raise ExecutionError(
                f"the driver of the GPU reports an error in {name}: {text} ({code})"
            )

    def _attribute(self, attribute: int, device: c_int) -> int:
        value = c_int()
        self.driver("cuDeviceGetAttribute", byref(value), c_int(attribute), device)
        return value.value


def compiled(nvrtc: ctypes.CDLL, text: str, architecture: str) -> bytes:
    """Compile a source to machine code, which needs no GPU.

    Args:
        nvrtc: NVIDIA's run-time compiler.
        text: the source.
        architecture: the target, such as "sm_90".

    Raises:
        ExecutionError: the compiler rejects the source.
    """

    def call(name: str, *arguments: Any) -> int:
        return int(getattr(nvrtc, f"nvrtc{name}")(*arguments))

    def output(what: str) -> bytes:
        size = c_size_t()
        call(f"Get{what}Size", program, byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        call(f"Get{what}", program, buffer)
        return buffer.raw

    program = c_void_p()
    call("CreateProgram", byref(program), text.encode(), b"runs.cu", 0, None, None)
    try:
        options = [o.encode() for o in (*_OPTIONS, f"--gpu-architecture={architecture}")]
        count = len(options)
        if code := call("CompileProgram", program, count, (c_char_p * count)(*options)):
            log = output("ProgramLog").decode(errors="replace")
            raise ExecutionError(f"NVIDIA's run-time compiler reports {code}: {log}")
        return output("CUBIN")
    finally:
        call("DestroyProgram", byref(program))


@cache
def gpu() -> Gpu | None:
    """Return the NVIDIA GPU that JAX uses by default, or None if it uses another device."""
    if jax.default_backend() != "gpu":
        return None
    try:
        return Gpu()
    except (OSError, ExecutionError) as error:
        _log.warning("XLA compiles all models, because the GPU's driver cannot be used: %s", error)
        return None


def nvrtc() -> ctypes.CDLL:
    """Return NVIDIA's run-time compiler: the one installed with JAX, or else the system's.

    Raises:
        OSError: the compiler is not installed.
    """
    names = [*_beside_jax("libnvrtc.so.*"), "libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"]
    for name in names[:-1]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return ctypes.CDLL(names[-1])


def _beside_jax(pattern: str) -> Iterable[str]:
    try:
        import nvidia
    except ImportError:
        return []
    paths = (path for folder in nvidia.__path__ for path in Path(folder).glob(f"*/lib/{pattern}"))
    return [str(path) for path in sorted(paths, key=lambda path: path.suffix, reverse=True)]
