"""Which executor evaluates a sweep, and with what: one choice, made once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from plateaumap.inputs.errors import PlateaumapError, advice

_log = logging.getLogger(__name__)


class Session(NamedTuple):
    """An executor that is ready.

    Attributes:
        executor: evaluates points (`plateaumap.runner.rows.Executor`).
        ask: calls a function with arguments where the points are evaluated, and returns its result.
        points_in_flight: returns how many points keep every worker busy at the moment.
    """

    executor: Any
    ask: Callable[..., Any]
    points_in_flight: Callable[[], int]


@dataclass(frozen=True)
class Backend:
    """Where a sweep is evaluated.

    Attributes:
        name: "local", this process; "dask", a cluster of processes. None for "dask" if a
            scheduler is given, else "local".
        threads: of the local backend; None for one for each core.
        scheduler: the address of a Dask cluster to join; None to start one on this machine.
        workers: processes of the cluster that is started; None for one for each accelerator, or
            for each core where there is none.
        announce: is told, in a line of text, where the work can be watched.

    Raises:
        PlateaumapError: an unknown backend, or a setting that does not go with it.
    """

    name: str | None = None
    threads: int | None = None
    scheduler: str | None = None
    workers: int | None = None
    announce: Callable[[str], object] = _log.info

    def __post_init__(self) -> None:
        """Choose the backend that a scheduler implies, and refuse what does not fit."""
        implied = "local" if self.scheduler is None else "dask"
        name = implied if self.name is None else self.name
        object.__setattr__(self, "name", name)
        if not isinstance(name, str) or name not in _OPENERS:
            raise PlateaumapError(f"backend is {name!r}; {advice(name, _OPENERS)}")
        for setting in ("threads", "workers"):
            count = getattr(self, setting)
            if count is not None and (type(count) is not int or count < 1):
                raise PlateaumapError(f"{setting} is {count!r}; give a whole number of at least 1")
        if self.scheduler is not None and not (isinstance(self.scheduler, str) and self.scheduler):
            raise PlateaumapError(
                f"scheduler is {self.scheduler!r}; give an address, such as tcp://host:8786"
            )
        if name == "local" and (self.scheduler, self.workers) != (None, None):
            raise PlateaumapError("scheduler and workers go with backend = 'dask'; leave them away")
        if name == "dask" and self.threads is not None:
            raise PlateaumapError(
                f"threads is {self.threads}; a Dask worker has one thread: give `workers` instead"
            )
        if self.scheduler is not None and self.workers is not None:
            raise PlateaumapError(
                f"workers is {self.workers}, but the cluster at {self.scheduler} has its own; "
                "leave one of the two away"
            )

    def open(self) -> AbstractContextManager[Session]:
        """Return a context in which points can be evaluated.

        Raises:
            PlateaumapError: the backend is not installed.
            ExecutionError: it cannot be started or reached.
        """
        assert self.name is not None
        return _OPENERS[self.name](self)


def chosen_backend(backend: str | Backend | None = None, **settings: Any) -> Backend:
    """Return the backend of a name and its settings, or the one that was given ready-made.

    Args:
        backend: a name, a `Backend`, or None for the one that the settings imply.
        settings: `threads`, `scheduler` and `workers`; None where not given.

    Raises:
        PlateaumapError: see `Backend`; or settings stand beside a `Backend`, which has its own.
    """
    if not isinstance(backend, Backend):
        return Backend(backend, **settings)
    for name, value in settings.items():
        if value is not None:
            raise PlateaumapError(
                f"{name} = {value!r} stands beside a Backend, which has its own settings; give it "
                f"there: Backend(..., {name}={value!r})"
            )
    return backend


@contextmanager
def _local(backend: Backend) -> Iterator[Session]:
    from plateaumap.execution.local import LocalExecutor

    with LocalExecutor(backend.threads) as executor:
        yield Session(executor, lambda function, *arguments: function(*arguments), lambda: 0)


@contextmanager
def _dask(backend: Backend) -> Iterator[Session]:
    from plateaumap.execution.dask import dask_executor

    with dask_executor(backend.scheduler, backend.workers) as executor:
        backend.announce(executor.told)
        yield Session(executor, executor.ask, executor.points_in_flight)


_OPENERS: dict[str, Callable[[Backend], AbstractContextManager[Session]]] = {
    "local": _local,
    "dask": _dask,
}
"""How each backend is opened. A backend is imported when it is first used."""
