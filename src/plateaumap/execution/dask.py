"""Evaluates points in the processes of a Dask cluster, on this machine or on many.

The points of a task are dealt out like cards into pieces that are small beside a sweep and about
equally long, so that workers finish together and a worker that dies costs the piece that it was
at. Results come back to the caller at once and their futures are released: nothing is kept by the
cluster, the truth is what the caller stores. Each worker is one process with one thread, or with
one accelerator, and does all that is to be done for its points, as the local backend would: the
caller only hands out coordinates and stores rows.

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
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from plateaumap.execution.errors import ExecutionError
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.table import columns as table

if TYPE_CHECKING:
    from distributed import Client, Future

Points = Mapping[str, np.ndarray]
Records = dict[str, np.ndarray]

PIECE = 65_536
"""Points that a worker gets at once: blocks of lanes enough that those of one block are of like
length, and some 12 MB of results."""

_LOOPBACK = "127.0.0.1"
_SECONDS_TO_REACH = "10s"
_SECONDS_BETWEEN_LOOKS = 5
_SECONDS_WITHOUT_WORKERS = 60
_CACHE_SETTINGS = {
    "jax_compilation_cache_dir": str,
    "jax_persistent_cache_min_compile_time_secs": float,
}
"""What workers of one's own are told of the driver's compilation cache, and as what."""

_ONE_THREAD = {"PJRT_NPROC": "1"}
"""Keeps JAX from handing pieces of one thread's work from core to core, at a third of its time."""

_STARTS = 3
"""How often a cluster is started whose processes die as they start."""

_DEATHS_ALLOWED = 2
"""Workers that may die of one piece before it counts as failed."""


class DaskExecutor:
    """Evaluates points in the workers of a cluster."""

    def __init__(self, client: Client, address: str, own: bool = False) -> None:
        """Use a connected client, which stays the caller's to close.

        Args:
            client: connected to the cluster.
            address: the scheduler's, for messages.
            own: whether the cluster was started for this executor, and nobody adds to it.
        """
        self._client = client
        self._own = own
        self._address = address
        self._payloads: dict[Any, bytes] = {}
        self._guard = threading.Lock()

    @property
    def told(self) -> str:
        """Where the work is done and can be watched, in words."""
        count = self._workers()
        workers = "1 worker" if count == 1 else f"{count} workers"
        return f"Dask: {workers} at {self._address}, dashboard {self._client.dashboard_link}"

    def points_in_flight(self) -> int:
        """Return how many points keep every worker busy: two pieces for each."""
        return 2 * PIECE * self._workers()

    def _workers(self) -> int:
        with self._lost_told():
            return len(self._client.nthreads())

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in some worker, as soon as there is one, and return its result."""
        future = self._client.submit(function, *arguments, pure=False)
        return self._result(future)

    def begin(self, task: Any, points: Points) -> Callable[[], Records]:
        """Begin what a task does for points; see `plateaumap.execution.local.LocalExecutor.begin`.

        Raises:
            ExecutionError: here, or from the function returned: the cluster is lost.
        """
        count = len(next(iter(points.values())))
        pieces = math.ceil(count / PIECE)
        payload = self._payload(task)
        with self._lost_told():
            futures = [
                self._client.submit(
                    evaluate_piece,
                    payload,
                    {name: array[at::pieces] for name, array in points.items()},
                    pure=False,
                )
                for at in range(pieces)
            ]
        return lambda: self._gathered(table.allocate(task.columns, count), futures)

    def _gathered(self, arrays: Records, futures: list[Future]) -> Records:
        try:
            for at, future in enumerate(futures):
                part = self._result(future)
                future.release()
                table.put(arrays, slice(at, None, len(futures)), part)
        except BaseException:
            with contextlib.suppress(Exception):
                self._client.cancel(futures)
            raise
        return arrays

    def _result(self, future: Future) -> Any:
        """Wait for a result; for ever only where somebody else may still send workers."""
        idle_since = time.monotonic()
        while True:
            with self._lost_told():
                try:
                    return future.result(timeout=_SECONDS_BETWEEN_LOOKS)
                except TimeoutError:
                    if future.done():
                        raise
            if self._workers():
                idle_since = time.monotonic()
            elif self._own and time.monotonic() - idle_since > _SECONDS_WITHOUT_WORKERS:
                raise ExecutionError(
                    "all workers of the Dask cluster have died and do not come back; what is "
                    "stored is whole: run the same command again to go on"
                )

    @contextlib.contextmanager
    def _lost_told(self) -> Iterator[None]:
        """Tell a lost cluster from a piece that failed."""
        try:
            yield
        except (CancelledError, OSError, TimeoutError) as error:
            if self._client.status == "running":
                raise
            raise ExecutionError(
                f"the Dask scheduler at {self._address} is gone "
                f"({type(error).__name__}); what is stored is whole: start a cluster and run the "
                "same command again to go on"
            ) from error

    def _payload(self, task: Any) -> bytes:
        """Return what a worker needs to know of a task, the same bytes each time."""
        with self._guard:
            if task not in self._payloads:
                self._payloads[task] = _packed(task)
            return self._payloads[task]


def dask_setup(worker: Any) -> None:
    """Prepare a worker of one's own; Dask calls this as it starts."""
    del worker
    # Ctrl-C is for the driver, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import jax

    # JAX may have been imported with the main script, before these variables were set.
    for name, kind in _CACHE_SETTINGS.items():
        if name.upper() in os.environ:
            jax.config.update(name, kind(os.environ[name.upper()]))


def evaluate_piece(payload: bytes, points: Points) -> Records:
    """Do a task for some points; runs in a worker."""
    return _worker_executor().begin(_unpacked(payload), points)()


@functools.lru_cache(maxsize=1)
def _worker_executor() -> Any:
    from plateaumap.execution.local import LocalExecutor

    return LocalExecutor(threads=1)


# Unpacked once, so that the functions in it stay the same objects and are compiled once.
@functools.lru_cache(maxsize=32)
def _unpacked(payload: bytes) -> Any:
    versions, folders, packed = pickle.loads(payload)
    if versions != _versions():
        raise ExecutionError(
            f"a worker on {socket.gethostname()} has {_versions()}, the driver {versions}; rows "
            "would differ in their last bits: install the same versions everywhere"
        )
    sys.path += [folder for folder in folders if folder not in sys.path]
    return pickle.loads(packed)


def _versions() -> dict[str, str]:
    return {package: version(package) for package in ("plateaumap", "jax", "jaxlib", "numpy")}


def _packed(task: Any) -> bytes:
    """Pickle a task, with the source of those modules that no worker can import."""
    import cloudpickle

    own = _scripts()
    for module in own:
        cloudpickle.register_pickle_by_value(module)
    try:
        packed = cloudpickle.dumps(task)
    finally:
        for module in own:
            cloudpickle.unregister_pickle_by_value(module)
    folders = sorted({str(Path(str(module.__file__)).parent.resolve()) for module in own})
    return pickle.dumps((_versions(), folders, packed))


def _scripts() -> list[ModuleType]:
    """Return the modules that were loaded from a file by its path, such as a sweep's script."""
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
    found = next((spec for spec in specs if spec is not None), None)
    return found is not None and found.origin == module.__file__


@contextlib.contextmanager
def dask_executor(scheduler: str | None, workers: int | None) -> Iterator[DaskExecutor]:
    """Connect to a cluster, or start one on this machine that ends with the context.

    Args:
        scheduler: the address of a cluster; None to start one.
        workers: how many processes to start; None for one for each accelerator or core.

    Raises:
        PlateaumapError: distributed is not installed.
        ExecutionError: there is no scheduler at the address, or no workers could be started.
    """
    try:
        import distributed
    except ImportError as error:
        raise PlateaumapError(
            "the dask backend needs distributed, which is not installed: "
            "pip install 'plateaumap[dask]'"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet("distributed", "tornado", "asyncio"))
        own = scheduler is None
        if scheduler is None:
            scheduler = stack.enter_context(_local_cluster(workers))
        try:
            # Workers of one's own are in reach; those behind another scheduler may not be.
            client = distributed.Client(
                scheduler,
                timeout=_SECONDS_TO_REACH,
                set_as_default=False,
                direct_to_workers=own,
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise ExecutionError(
                f"there is no Dask scheduler at {scheduler} ({type(error).__name__}); give the "
                "address that it tells as it starts, such as tcp://host:8786"
            ) from error
        stack.callback(_close, client)
        yield DaskExecutor(client, scheduler, own)


def _close(client: Client) -> None:
    with contextlib.suppress(Exception):
        client.close(timeout=2)


@contextlib.contextmanager
def _quiet(*packages: str) -> Iterator[None]:
    """Keep the loggers of packages silent: what a user must know, our own errors tell."""
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
    """Start a scheduler and workers on this machine's loopback, and yield its address."""
    _require_guarded_main()
    environments = _environments(workers)
    with tempfile.TemporaryDirectory(
        prefix="plateaumap-dask-", ignore_cleanup_errors=True
    ) as scratch:
        cluster = _started(environments, scratch)
        try:
            yield cluster.scheduler_address
        finally:
            _close_cluster(cluster)


def _started(environments: list[dict[str, str]], scratch: str) -> Any:
    """Start a cluster, once more if one of its processes dies on the way."""
    for attempts_left in reversed(range(_STARTS)):
        try:
            return _cluster(environments, scratch)
        except (RuntimeError, OSError, TimeoutError) as error:
            if not attempts_left:
                raise ExecutionError(
                    f"the processes of the Dask cluster could not be started ({error}); a script "
                    'must guard what it runs by if __name__ == "__main__":'
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
        # A worker holds no piece but the one that it is at, so that its death costs only that.
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.allowed-failures": _DEATHS_ALLOWED,
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


def _close_cluster(cluster: Any) -> None:
    with contextlib.suppress(Exception):
        cluster.close(timeout=5)


def _require_guarded_main() -> None:
    """Refuse to start a cluster from a process that is itself just being spawned for one."""
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise PlateaumapError(
            "a worker of the Dask cluster runs the script anew as it starts; guard what the "
            'script runs by if __name__ == "__main__":'
        )


def _environments(workers: int | None) -> list[dict[str, str]]:
    """Return the environment variables of each worker: one process for each accelerator."""
    import jax

    shared = {
        name.upper(): str(getattr(jax.config, name))
        for name in _CACHE_SETTINGS
        if getattr(jax.config, name) is not None
    }
    devices = _accelerators()
    if not devices:
        shared |= _ONE_THREAD
        return [shared] * (workers or len(os.sched_getaffinity(0)))
    if workers is not None and workers > len(devices):
        raise PlateaumapError(
            f"workers is {workers}, but JAX finds {len(devices)} accelerators here and each "
            "takes one process; give fewer, or set JAX_PLATFORMS=cpu"
        )
    return [{**shared, "CUDA_VISIBLE_DEVICES": device} for device in devices[:workers]]


def _accelerators() -> list[str]:
    """Return the CUDA devices that JAX would use, as CUDA_VISIBLE_DEVICES names them.

    A process of its own is asked, since a process that asks takes hold of their memory.
    """
    if not any(map(importlib.util.find_spec, ("jax_cuda12_plugin", "jax_cuda13_plugin"))):
        return []
    question = "import jax; print(jax.default_backend(), jax.local_device_count())"
    told = subprocess.run(
        [sys.executable, "-c", question], capture_output=True, text=True, check=False
    ).stdout.split()
    if len(told) != 2 or told[0] != "gpu":
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else list(map(str, range(int(told[1]))))
    return names[: int(told[1])]
