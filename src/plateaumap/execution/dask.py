"""The Dask backend: evaluates points in the processes of a cluster, on this machine or on many.

The points of an evaluation are dealt like cards into pieces that are small beside a sweep and take
about equally long, so that workers finish together and a worker that dies costs only its current
piece. The caller fetches each result and releases it: the cluster keeps nothing, and the truth is
what the caller stores. Each worker is one process with one thread, or with one accelerator, and
computes complete rows, as the local backend does. The caller only sends coordinates and stores
rows.

Dask's wire format is pickle: join only clusters, and networks, that you trust.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import math
import multiprocessing.process
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from plateaumap.execution.backend import Backend, Pending, require_count
from plateaumap.execution.errors import ExecutionError
from plateaumap.execution.evaluator import Evaluator
from plateaumap.execution.simulator import Simulator
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.table import columns as table
from plateaumap.table.columns import Arrays

if TYPE_CHECKING:
    from distributed import Client, Future

Points = Mapping[str, np.ndarray]

PIECE = 65_536
"""Points that a worker receives at once: enough blocks that the runs of one block have similar
lengths, and about 12 MB of results."""

DEATHS_ALLOWED = 2
"""Workers that may die of one piece before it counts as failed."""

TIMEOUT = "10s"
"""The time in which a scheduler must answer."""

SECONDS_BETWEEN_CHECKS = 5
"""Seconds between two checks that the cluster still has workers."""

SECONDS_WITHOUT_WORKERS = 60
"""Seconds without a worker after which a cluster that was started here counts as lost."""

_LOOPBACK = "127.0.0.1"
_CACHE_SETTINGS = {
    "jax_compilation_cache_dir": str,
    "jax_persistent_cache_min_compile_time_secs": float,
}
"""Settings of the driver's compilation cache that its workers receive, with their types."""

_ONE_THREAD = {"PJRT_NPROC": "1"}
"""Keeps JAX from moving the work of one thread from core to core, at a third of its time."""

_STARTS = 3
"""How often a cluster is started whose processes die as they start."""


class DaskBackend(Backend):
    """Evaluates points in the workers of a cluster."""

    name = "dask"
    options = ("scheduler", "workers")

    def __init__(self, scheduler: str | None = None, workers: int | None = None) -> None:
        """Set the options, see `BackendOptions`; nothing is started yet.

        Raises:
            PlateaumapError: an option has no valid value, or both are given.
        """
        require_count("workers", workers)
        if scheduler is not None and not (isinstance(scheduler, str) and scheduler):
            raise PlateaumapError(
                f"scheduler = {scheduler!r}: must be an address, such as tcp://host:8786"
            )
        if scheduler is not None and workers is not None:
            raise PlateaumapError(
                f"workers = {workers}: the cluster at {scheduler} has its own workers; omit workers"
            )
        self._scheduler, self._workers = scheduler, workers

    def __enter__(self) -> Self:
        """Connect to the cluster, or start one on this machine that ends with the context.

        Raises:
            PlateaumapError: distributed is not installed.
            ExecutionError: no scheduler answers at the address, or no workers could be started.
        """
        try:
            import distributed
        except ImportError as error:
            raise PlateaumapError(
                "backend = 'dask': needs the package distributed, which is not installed; run "
                "pip install 'plateaumap[dask]'"
            ) from error
        self._packed = functools.lru_cache(maxsize=32)(_pack)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_quiet("distributed", "tornado", "asyncio"))
            self.address = self._scheduler or stack.enter_context(_local_cluster(self._workers))
            try:
                self.client: Client = distributed.Client(
                    self.address,
                    timeout=TIMEOUT,
                    set_as_default=False,
                    # Workers behind another scheduler may be out of reach.
                    direct_to_workers=self._scheduler is None,
                )
            except (OSError, TimeoutError, ValueError) as error:
                raise ExecutionError(
                    f"scheduler = {self.address!r}: no Dask scheduler answers there "
                    f"({type(error).__name__}); use the address that the scheduler prints as it "
                    "starts, such as tcp://host:8786"
                ) from error
            stack.callback(_close, self.client, 2)
            count = self._count_workers()
            workers = "1 worker" if count == 1 else f"{count} workers"
            dashboard = self.client.dashboard_link
            self.announce(f"Dask: {workers} at {self.address}, dashboard {dashboard}")
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Disconnect, and end the cluster if it was started here."""
        self._open.close()

    def points_in_flight(self) -> int:
        """Return the number of points that keep every worker busy: two pieces for each."""
        return 2 * PIECE * self._count_workers()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in one of the workers, and return its result."""
        return self.wait_for(self.client.submit(function, *arguments, pure=False))

    def evaluate(self, evaluator: Evaluator, points: Points) -> Pending:
        """Start to evaluate points, see `Backend.evaluate`."""
        count = len(next(iter(points.values())))
        pieces = math.ceil(count / PIECE)
        payload = self._packed(evaluator)
        with self._detect_loss():
            futures = [
                self.client.submit(
                    evaluate_piece,
                    payload,
                    {name: array[at::pieces] for name, array in points.items()},
                    pure=False,
                )
                for at in range(pieces)
            ]
        return _Pieces(self, evaluator, count, futures)

    def wait_for(self, future: Future) -> Any:
        """Return a future's result; wait without limit only if somebody may add workers.

        Raises:
            ExecutionError: the scheduler or all workers are lost.
        """
        idle_since = time.monotonic()
        while True:
            with self._detect_loss():
                try:
                    return future.result(timeout=SECONDS_BETWEEN_CHECKS)
                except TimeoutError:
                    if future.done():
                        raise
            if self._count_workers() or self._scheduler is not None:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > SECONDS_WITHOUT_WORKERS:
                raise ExecutionError(
                    "all workers of the Dask cluster have died and none was restarted; every part "
                    "stored so far is complete: run the same command again to continue"
                )

    def _count_workers(self) -> int:
        with self._detect_loss():
            return len(self.client.nthreads())

    @contextlib.contextmanager
    def _detect_loss(self) -> Iterator[None]:
        """Distinguish a lost cluster from a piece that failed."""
        try:
            yield
        except (CancelledError, OSError, TimeoutError) as error:
            if self.client.status == "running":
                raise
            raise ExecutionError(
                f"the Dask scheduler at {self.address} is gone ({type(error).__name__}); every "
                "part stored so far is complete: start a cluster and run the same command again "
                "to continue"
            ) from error


class _Pieces:
    """The pieces of one evaluation; `result` fetches them into the driver's memory."""

    def __init__(
        self, backend: DaskBackend, evaluator: Evaluator, count: int, futures: list[Future]
    ) -> None:
        self._backend, self._evaluator = backend, evaluator
        self._count, self._futures = count, futures

    def result(self) -> Arrays:
        arrays = table.allocate(self._evaluator.columns, self._count)
        try:
            for at, future in enumerate(self._futures):
                piece = self._backend.wait_for(future)
                future.release()
                table.put(arrays, slice(at, None, len(self._futures)), piece)
        except BaseException:
            with contextlib.suppress(Exception):
                self._backend.client.cancel(self._futures)
            raise
        return arrays


def dask_setup(worker: Any) -> None:
    """Prepare a worker that this backend started; Dask calls this function as it starts."""
    del worker
    # The driver handles Ctrl-C, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import jax

    # JAX may have been imported with the main script, before these variables were set.
    for name, kind in _CACHE_SETTINGS.items():
        if name.upper() in os.environ:
            jax.config.update(name, kind(os.environ[name.upper()]))


def evaluate_piece(payload: bytes, points: Points) -> Arrays:
    """Evaluate points in a worker, and return their measured columns."""
    return _unpack(payload).evaluate(_simulator(), points)


@functools.lru_cache(maxsize=1)
def _simulator() -> Simulator:
    """Return the simulator of a worker, which lives as long as the worker."""
    return Simulator(threads=1)


# Each evaluator is unpacked once, so that its functions stay the same objects and are compiled
# once.
@functools.lru_cache(maxsize=32)
def _unpack(payload: bytes) -> Evaluator:
    versions, folders, packed = pickle.loads(payload)
    if versions != package_versions():
        raise ExecutionError(
            f"a worker on {socket.gethostname()} has {package_versions()}, the driver has "
            f"{versions}; the last bits of rows would differ: install the same versions everywhere"
        )
    sys.path += [folder for folder in folders if folder not in sys.path]
    evaluator: Evaluator = pickle.loads(packed)
    return evaluator


def package_versions() -> dict[str, str]:
    """Return the versions that decide the last bits of rows."""
    return {package: version(package) for package in ("plateaumap", "jax", "jaxlib", "numpy")}


def _pack(evaluator: Evaluator) -> bytes:
    """Pickle an evaluator, with the code of those modules that no worker can import."""
    import cloudpickle

    scripts = _scripts()
    for module in scripts:
        cloudpickle.register_pickle_by_value(module)
    try:
        packed = cloudpickle.dumps(evaluator)
    finally:
        for module in scripts:
            cloudpickle.unregister_pickle_by_value(module)
    folders = sorted({str(Path(str(module.__file__)).parent.resolve()) for module in scripts})
    return pickle.dumps((package_versions(), folders, packed))


def _scripts() -> list[ModuleType]:
    """Return the modules that were loaded by the path of a file, such as the script of a sweep."""
    return [
        module
        for name, module in list(sys.modules.items())
        if "." not in name
        and name not in sys.stdlib_module_names
        and not name.startswith("__")
        and getattr(module, "__file__", None)
        and not _is_importable(name, module)
    ]


def _is_importable(name: str, module: ModuleType) -> bool:
    # Not importlib.util.find_spec, which asks sys.modules first.
    specs = (finder.find_spec(name, None) for finder in sys.meta_path)
    spec = next((spec for spec in specs if spec is not None), None)
    return spec is not None and spec.origin == module.__file__


def _close(connection: Any, timeout: float) -> None:
    with contextlib.suppress(Exception):
        connection.close(timeout=timeout)


@contextlib.contextmanager
def _quiet(*packages: str) -> Iterator[None]:
    """Silence the loggers of packages; the errors of this module report what a user must know."""
    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] in packages]
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextlib.contextmanager
def _local_cluster(workers: int | None) -> Iterator[str]:
    """Start a scheduler and workers on this machine's loopback, and yield the address."""
    _require_guarded_main()
    environments = worker_environments(workers)
    with tempfile.TemporaryDirectory(
        prefix="plateaumap-dask-", ignore_cleanup_errors=True
    ) as scratch:
        cluster = _start_cluster(environments, scratch)
        try:
            yield cluster.scheduler_address
        finally:
            _close(cluster, 5)


def _start_cluster(environments: list[dict[str, str]], scratch: str) -> Any:
    """Start a cluster, again if one of its processes dies as it starts."""
    for attempts_left in reversed(range(_STARTS)):
        try:
            return _cluster(environments, scratch)
        except (RuntimeError, OSError, TimeoutError) as error:
            if not attempts_left:
                raise ExecutionError(
                    f"the processes of the Dask cluster could not be started ({error}); in a "
                    'script, guard the call by if __name__ == "__main__":'
                ) from error
    raise AssertionError


def _cluster(environments: list[dict[str, str]], scratch: str) -> Any:
    import dask
    from distributed import Nanny, Scheduler, SpecCluster

    nanny = {
        "nthreads": 1,
        "host": _LOOPBACK,
        "dashboard_address": f"{_LOOPBACK}:0",
        "local_directory": scratch,
        "memory_limit": 0,
        "silence_logs": logging.CRITICAL,
        "preload": [__name__],
    }
    scheduler = {
        "host": _LOOPBACK,
        "port": 0,
        "dashboard": True,
        "dashboard_address": f"{_LOOPBACK}:0",
    }
    settings = {
        # A worker holds only its current piece, so that its death costs only that piece.
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.allowed-failures": DEATHS_ALLOWED,
        "distributed.worker.multiprocessing-method": "spawn",
    }
    with dask.config.set(settings):
        return SpecCluster(
            workers={
                index: {"cls": Nanny, "options": {**nanny, "env": environment}}
                for index, environment in enumerate(environments)
            },
            scheduler={"cls": Scheduler, "options": scheduler},
            silence_logs=logging.CRITICAL,
        )


def _require_guarded_main() -> None:
    """Raise if this process is itself being spawned for a cluster."""
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise PlateaumapError(
            "a worker of the Dask cluster runs the script again as it starts; guard the call by "
            'if __name__ == "__main__":'
        )


def worker_environments(workers: int | None) -> list[dict[str, str]]:
    """Return the environment variables of each worker: one process for each accelerator."""
    import jax

    shared = {
        name.upper(): str(getattr(jax.config, name))
        for name in _CACHE_SETTINGS
        if getattr(jax.config, name) is not None
    }
    devices = accelerators()
    if not devices:
        shared |= _ONE_THREAD
        return [shared] * (workers or len(os.sched_getaffinity(0)))
    if workers is not None and workers > len(devices):
        raise PlateaumapError(
            f"workers = {workers}: must be at most {len(devices)}, one process for each "
            "accelerator of this machine; use fewer, or set JAX_PLATFORMS=cpu"
        )
    return [{**shared, "CUDA_VISIBLE_DEVICES": device} for device in devices[:workers]]


def accelerators() -> list[str]:
    """Return the CUDA devices that JAX would use, as CUDA_VISIBLE_DEVICES names them.

    A separate process asks JAX, because the process that asks reserves the devices' memory.
    """
    if not any(map(importlib.util.find_spec, ("jax_cuda12_plugin", "jax_cuda13_plugin"))):
        return []
    question = "import jax; print(jax.default_backend(), jax.local_device_count())"
    answer = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, check=False
    ).stdout.split()
    if len(answer) != 2 or answer[0] != "gpu":
        return []
    count = int(answer[1])
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else list(map(str, range(count)))
    return names[:count]
