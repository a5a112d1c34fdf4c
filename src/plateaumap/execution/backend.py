"""The interface of every backend, and the choice of one by name and options."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar, Protocol, Self, TypedDict, Unpack

import numpy as np

from plateaumap.execution.evaluator import Evaluator
from plateaumap.inputs.errors import PlateaumapError, advice
from plateaumap.table.columns import Arrays

_log = logging.getLogger(__name__)

_BACKENDS = {
    "local": "plateaumap.execution.local:LocalBackend",
    "dask": "plateaumap.execution.dask:DaskBackend",
}
"""Where each named backend is defined. A backend is imported when it is first used."""


class Pending(Protocol):
    """Rows that are being computed, such as a `concurrent.futures.Future`."""

    def result(self) -> Arrays:
        """Wait for the evaluation and return its arrays, or raise its error."""
        ...


class Backend(ABC):
    """Evaluates points somewhere: in this process, on a GPU, in a cluster.

    A backend is a context manager. It acquires what it needs when it is entered, and releases it
    when it is left; it can be entered again. A subclass must define `evaluate`.

    Attributes:
        name: the name by which `pm.run(..., backend=name)` selects this backend.
        options: the keyword arguments of `pm.run` that the constructor accepts.
        announce: a function of a line of text that says where the work can be watched.

    Example:
        >>> import plateaumap as pm
        >>> from concurrent.futures import Future
        >>> from plateaumap.execution.simulator import Simulator
        >>> class Serial(pm.Backend):
        ...     def evaluate(self, evaluator, points):
        ...         pending = Future()
        ...         with Simulator(threads=1) as simulator:
        ...             pending.set_result(evaluator.evaluate(simulator, points))
        ...         return pending
        >>> sweep = pm.Sweep(losses="quadratic", fixed={"w0": 2, "b0": 2, "lr": 0.15})
        >>> int(pm.run(sweep, backend=Serial())["plateau_epochs"][0])
        152
    """

    name: ClassVar[str] = ""
    options: ClassVar[tuple[str, ...]] = ()
    announce: Callable[[str], object] = staticmethod(_log.info)

    @abstractmethod
    def evaluate(self, evaluator: Evaluator, points: Mapping[str, np.ndarray]) -> Pending:
        """Start to evaluate points, and return their rows as a future.

        Args:
            evaluator: computes rows with `evaluator.evaluate(simulator, points)`. It can be
                pickled, so that the evaluation can run in another process.
            points: arrays of shape (n,), one for each coordinate.

        Raises:
            ExecutionError: the backend is lost. Any other error, here or from the future's
                `result()`, is a failure of these points alone, and they are tried again.
        """

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function where the points are evaluated, and return its result."""
        return function(*arguments)

    def points_in_flight(self) -> int:
        """Return the number of points that keep every worker busy at the moment."""
        return 0

    def __enter__(self) -> Self:
        """Acquire what the evaluation needs."""
        return self

    def __exit__(self, *exception: object) -> None:  # noqa: B027 - optional, unlike `evaluate`
        """Release what was acquired, and cancel every evaluation that has not started."""


class BackendOptions(TypedDict, total=False):
    """The options that select a backend; an option that is None counts as not given.

    Attributes:
        backend: "local" for this process, "dask" for a cluster of processes, or a `Backend`. By
            default "dask" if `scheduler` is given, otherwise "local".
        threads: the number of blocks that the local backend computes at the same time; by default
            one for each core.
        scheduler: the address of a Dask cluster to join, such as "tcp://host:8786"; by default a
            cluster is started on this machine.
        workers: the number of processes of the Dask cluster that is started; by default one for
            each accelerator, or one for each core if there are no accelerators.
    """

    backend: str | Backend | None
    threads: int | None
    scheduler: str | None
    workers: int | None


def select_backend(**options: Unpack[BackendOptions]) -> Backend:
    """Return the backend that the options select.

    Raises:
        PlateaumapError: the backend is unknown, or does not accept one of the options.
    """
    settings: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    backend = settings.pop("backend", "dask" if "scheduler" in settings else "local")
    if isinstance(backend, Backend):
        for name, value in settings.items():
            raise PlateaumapError(
                f"{name} = {value!r}: not allowed beside backend = {type(backend).__name__}(...); "
                "pass it to the backend's constructor"
            )
        return backend
    if not isinstance(backend, str) or backend not in _BACKENDS:
        raise PlateaumapError(
            f"backend = {backend!r}: unknown backend; {advice(backend, _BACKENDS)}"
        )
    module, _, attribute = _BACKENDS[backend].partition(":")
    kind: type[Backend] = getattr(import_module(module), attribute)
    for name, value in settings.items():
        if name not in kind.options:
            raise PlateaumapError(
                f"{name} = {value!r}: not an option of backend = {backend!r}, which accepts "
                f"{' and '.join(kind.options)}; omit it, or choose another backend"
            )
    return kind(**settings)


def require_count(name: str, value: int | None) -> None:
    """Raise unless an option is None or a positive whole number.

    Raises:
        PlateaumapError: names the option and its value.
    """
    if value is not None and (type(value) is not int or value < 1):
        raise PlateaumapError(f"{name} = {value!r}: must be a whole number of at least 1")
