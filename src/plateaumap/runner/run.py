"""Runs a sweep: what is missing is evaluated, stored and counted.

What is computed, where it runs and how it is kept meet here and nowhere else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias, overload

import pandas as pd

from plateaumap.execution.backend import Backend, Session, chosen_backend
from plateaumap.execution.errors import ExecutionError
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.paths import local_path
from plateaumap.inputs.validation import show
from plateaumap.runner.progress import progress_bar
from plateaumap.runner.provenance import command, provenance
from plateaumap.runner.rows import Executor, Rows
from plateaumap.storage.errors import StorageError
from plateaumap.storage.failures import describe_failures
from plateaumap.storage.results import Results
from plateaumap.storage.space import check_space, estimate_bytes
from plateaumap.storage.store import Store
from plateaumap.sweep.chunks import Chunk, Plan
from plateaumap.sweep.spec import Sweep
from plateaumap.table import columns as table
from plateaumap.table.columns import Arrays

_log = logging.getLogger(__name__)

CHUNKS_IN_FLIGHT = 3
"""Chunks that are being evaluated; with those of the writers they bound memory."""

WRITERS = 2
"""Threads that store chunks: hashing and encoding one takes about as long as evaluating it."""

ATTEMPTS = 3
"""How often a chunk is tried that raises; then its message is recorded."""

_SETTINGS = ("name", "horizon", "precision", "method", "until", "tolerance")

LARGEST_FRAME = 200_000_000
"""Rows beyond which a table in memory is refused."""

Submit: TypeAlias = Callable[[Executor, int, int, int], Callable[[], Arrays]]
"""Begins to evaluate some points of a loss, as `Rows.submit` does."""


class RunError(ExecutionError):
    """Some chunks failed, again and again; all others are stored.

    Attributes:
        failures: the message of each chunk that failed, by its number.
    """

    def __init__(self, message: str, failures: Mapping[int, str] = {}) -> None:
        """Keeps the failures beside the message that names them."""
        super().__init__(message)
        self.failures = dict(failures)


@overload
def run(
    sweep: Sweep,
    out: None = None,
    *,
    rows: range | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    backend: str | Backend | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
) -> pd.DataFrame: ...


@overload
def run(
    sweep: Sweep,
    out: str | PathLike[str],
    *,
    threads: int | None = None,
    progress: bool | None = None,
    force: bool = False,
    backend: str | Backend | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    mix_versions: bool = False,
) -> Results: ...


def run(
    sweep: Sweep,
    out: str | PathLike[str] | None = None,
    *,
    rows: range | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    force: bool = False,
    backend: str | Backend | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    mix_versions: bool = False,
) -> pd.DataFrame | Results:
    """Evaluate a sweep, in memory or into a folder.

    Args:
        sweep: what to evaluate.
        out: a folder; what it holds of the same sweep already is not computed again. None for a
            table in memory.
        rows: only these rows of the table, in memory; a range of step 1.
        threads: how many blocks are worked on at once; None for one for each core.
        progress: whether to show a progress bar; None if standard error is a terminal.
        force: if the folder holds something else, move that aside and start anew.
        backend: "local" or "dask", or a `Backend`; by default the one that `scheduler` implies.
            With "dask", a script must guard what it runs by `if __name__ == "__main__":`.
        scheduler: address of a Dask cluster to join, such as "tcp://host:8786".
        workers: processes of the Dask cluster that is started where no scheduler is given.
        mix_versions: continue a folder although its rows of your own model were made by another
            JAX, or under other settings of it; the manifest records that.

    Returns:
        The table (one row for each loss and point), or with `out` the finished `Results`.

    Raises:
        PlateaumapError: the folder holds another sweep, cannot be written to, or the sweep
            cannot be run; rows outside of the table.
        RunError: some chunks failed; with `out`, after all others have been stored.
        ExecutionError: memory ran out, or a cluster could not be started or was lost.
    """
    where = chosen_backend(backend, threads=threads, scheduler=scheduler, workers=workers)
    with _out_of_memory_told():
        if out is None:
            return _run_in_memory(sweep, rows, where, progress)
        if rows is not None:
            raise PlateaumapError(f"rows = {rows} goes with a table in memory; leave `out` away")
        folder = local_path(out)
        bound = Rows(sweep)
        return run_into(bound, folder, bound.submit, where, progress, force, mix_versions)


def evaluate(sweep: Sweep, point: Mapping[str, float | str]) -> dict[str, Any]:
    """Return the record of one point, exactly as its row in the table would have it.

    Args:
        sweep: tells everything but the point.
        point: a value for each coordinate, on the grid or not; a coordinate that is missing
            takes its value from `fixed`. With several losses also `loss`, the name of one; without
            it the record of each loss is returned under its name.

    Returns:
        Column names to values; a null is None.

    Raises:
        PlateaumapError: a coordinate is unknown, missing or out of its range, or the loss is
            none of the sweep's.
    """
    if not isinstance(point, Mapping):
        raise PlateaumapError(
            f"point = {show(point)} is no mapping; give a value for each coordinate, such as "
            '{"w0": 2.0}'
        )
    wanted: dict[str, Any] = dict(point)
    names = sweep.loss_names
    loss = wanted.pop("loss", names[0] if len(names) == 1 else None)
    if loss is None:
        return {name: evaluate(sweep, {**wanted, "loss": name}) for name in names}
    if loss not in names:
        raise PlateaumapError(f"loss is {loss!r}; the sweep has {', '.join(names)}")
    single = Sweep(
        experiment=sweep.experiment,
        losses=[sweep.losses[names.index(loss)]],
        fixed=_completed(sweep, wanted),
        **{field: getattr(sweep, field) for field in _SETTINGS},
    )
    frame = _run_in_memory(single, None, Backend(threads=1), False)
    return {str(name): _scalar(column) for name, column in frame.items()}


def _scalar(column: pd.Series) -> Any:
    """Return the one value of a column; a null is None, a float that is not there NaN."""
    value = column.iloc[0]
    if pd.api.types.is_float_dtype(column.dtype):
        return float(value)
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value


def _completed(sweep: Sweep, point: Mapping[str, float | str]) -> dict[str, float | str]:
    """Return a point with the coordinates that the sweep holds fixed."""
    on_axes = {name for axis in sweep.axes for name in axis.names}
    missing = sorted(on_axes - set(point))
    if missing:
        raise PlateaumapError(
            f"the point {dict(point)} has no {', '.join(missing)}; give a value for each "
            "coordinate that is on an axis"
        )
    return {**sweep.fixed, **point}


def _run_in_memory(
    sweep: Sweep, wanted: range | None, backend: Backend, progress: bool | None
) -> pd.DataFrame:
    rows = Rows(sweep)
    wanted = _checked(wanted, sweep.rows)
    whole = table.allocate(rows.columns, len(wanted))
    plan = rows.plan
    chunks = _overlapping(plan, wanted)
    with (
        backend.open() as session,
        progress_bar(sweep.name, len(wanted), 0, progress) as advance,
    ):
        for chunk, outcome in _evaluated(rows.submit, session, chunks, plan.chunk_points):
            if isinstance(outcome, Exception):
                _raise_failures({chunk.index: _message(outcome)}, plan, "nothing is kept", outcome)
            first = chunk.first_row - wanted.start
            table.put(whole, slice(first, first + chunk.rows), outcome)
            advance(chunk.rows)
    return table.frame(rows.columns, whole)


def run_into(
    rows: Rows,
    out: Path,
    submit: Submit,
    backend: Backend,
    progress: bool | None,
    force: bool = False,
    mix_versions: bool = False,
    amend: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Results:
    """Fill a folder with what is missing of a sweep's rows.

    Args:
        rows: the rows.
        out: the folder.
        submit: begins to evaluate a chunk, as `rows.submit` does.
        backend: where.
        progress: whether to show a progress bar; None if standard error is a terminal.
        force: if the folder holds something else, move that aside and start anew.
        mix_versions: see `run`.
        amend: returns what the manifest is to tell, from the provenance of this run; may raise.

    Raises:
        PlateaumapError: see `run`.
    """
    sweep = rows.sweep
    sweep.require_current()
    _require_space(rows, out, force, mix_versions)
    with backend.open() as session:
        told = amend({"command": command(), **session.ask(provenance, sweep.precision)})
        store = _open_store(rows, out, told, force, mix_versions)
        with store.lock():
            missing = [store.plan[index] for index in store.missing(verify=True)]
            there = sweep.rows - sum(chunk.rows for chunk in missing)
            with progress_bar(sweep.name, sweep.rows, there, progress) as advance:
                _fill(store, _evaluated(submit, session, missing, store.plan.chunk_points), advance)
            return store.finish()


def _fill(
    store: Store,
    outcomes: Iterator[tuple[Chunk, Arrays | Exception]],
    advance: Callable[[int], None],
) -> None:
    """Store what was evaluated and record what failed; raise only when all has been done."""
    failures: dict[int, str] = {}
    error: Exception | None = None
    for chunk, failed in _stored(store, outcomes):
        if failed is not None:
            error = failed
            failures[chunk.index] = _message(failed)
            store.record_failures({chunk.index: failures[chunk.index]})
        advance(chunk.rows)
    if failures:
        kept = f"all else is stored in {store.path}: run the same command again to try only these"
        _raise_failures(failures, store.plan, kept, error)


def _stored(
    store: Store, outcomes: Iterator[tuple[Chunk, Arrays | Exception]]
) -> Iterator[tuple[Chunk, Exception | None]]:
    """Store chunks while the next ones are waited for; yield why one failed, or None."""
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="plateaumap-writer") as writers:
        coming: deque[tuple[Chunk, Future[Exception | None]]] = deque()
        for chunk, outcome in outcomes:
            coming.append((chunk, writers.submit(_written, store, chunk, outcome)))
            if len(coming) > WRITERS:
                first, written = coming.popleft()
                yield first, written.result()
        for first, written in coming:
            yield first, written.result()


def _written(store: Store, chunk: Chunk, outcome: Arrays | Exception) -> Exception | None:
    """Store a chunk, and return why its rows cannot be stored, if it is the rows' fault."""
    if isinstance(outcome, Exception):
        return outcome
    try:
        store.write(chunk, outcome)
    except StorageError:
        raise
    except (ValueError, TypeError, MemoryError) as error:
        return error
    return None


def find_store(rows: Rows, out: Path, mix_versions: bool = False) -> Store | None:
    """Return what a folder holds of a sweep already, None if nothing; touches nothing.

    Raises:
        StorageError: the folder holds something else.
    """
    sweep = rows.sweep
    identity = (sweep.to_dict(), sweep.fingerprint)
    return Store.find(out, *identity, rows.columns, rows.plan, mix_versions)


def bytes_to_write(rows: Rows, store: Store | None) -> int:
    """Return about how many bytes are still to be written for a sweep."""
    if store is not None:
        return store.expected_bytes(store.missing())
    return estimate_bytes(rows.columns, rows.plan.rows, len(rows.plan))


def _require_space(rows: Rows, out: Path, force: bool, mix_versions: bool) -> None:
    """Refuse a folder of another sweep, or one on a disk that cannot hold what is to come."""
    try:
        found = find_store(rows, out, mix_versions)
    except StorageError:
        if not force:
            raise
        found = None
    check_space(out, bytes_to_write(rows, found))


def _open_store(
    rows: Rows, out: Path, told: Mapping[str, Any], force: bool, mix_versions: bool
) -> Store:
    sweep = rows.sweep
    store = Store.create_or_resume(
        out,
        sweep.to_dict(),
        sweep.fingerprint,
        rows.columns,
        rows.plan,
        told,
        force=force,
        mix_versions=mix_versions,
    )
    if store.moved_aside is not None:
        _log.warning("what stood in %s was moved to %s", out, store.moved_aside)
    return store


class _Attempt(NamedTuple):
    """One try at a chunk; `wait` returns its arrays, or raises."""

    chunk: Chunk
    number: int
    wait: Callable[[], Arrays]


def _evaluated(
    submit: Submit, session: Session, chunks: Iterable[Chunk], chunk_points: int
) -> Iterator[tuple[Chunk, Arrays | Exception]]:
    """Yield each chunk's arrays, or what its last attempt raised; the next are on their way then.

    Chunks come in order, but for those that had to be tried again.
    """
    coming = iter(chunks)
    in_flight: deque[_Attempt] = deque()
    while True:
        wanted = _chunks_wanted(session, chunk_points)
        while len(in_flight) < wanted and (chunk := next(coming, None)) is not None:
            in_flight.append(_begun(submit, session.executor, chunk, 1))
        if not in_flight:
            return
        chunk, number, wait = in_flight.popleft()
        try:
            outcome: Arrays | Exception = wait()
        except ExecutionError:
            raise
        except Exception as error:
            if number < ATTEMPTS:
                _log.info("chunk %d failed (%s) and is tried again", chunk.index, _message(error))
                in_flight.append(_begun(submit, session.executor, chunk, number + 1))
                continue
            outcome = error
        yield chunk, outcome


def _chunks_wanted(session: Session, chunk_points: int) -> int:
    return max(CHUNKS_IN_FLIGHT, 1 + math.ceil(session.points_in_flight() / chunk_points))


def _begun(submit: Submit, executor: Executor, chunk: Chunk, number: int) -> _Attempt:
    try:
        wait = submit(executor, chunk.loss_index, chunk.start, chunk.stop)
    except ExecutionError:
        raise
    except Exception as error:
        wait = functools.partial(_raise, error)
    return _Attempt(chunk, number, wait)


def _raise(error: Exception) -> NoReturn:
    raise error


_LONGEST_MESSAGE = 300


def _message(error: Exception) -> str:
    """Return one line that tells an error, the innermost one where it quotes a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    line = lines[-1] if "Traceback (most recent call last)" in str(error) else lines[0]
    told = f"{type(error).__name__}: {line}"[:_LONGEST_MESSAGE]
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory ({told}); give it fewer threads or workers, or more memory"
    return told


def _raise_failures(
    failures: Mapping[int, str], plan: Plan, kept: str, error: Exception | None
) -> NoReturn:
    count = "1 chunk" if len(failures) == 1 else f"{len(failures)} chunks"
    lines = [f"{count} of {len(plan)} failed, {kept}", *describe_failures(failures, plan)]
    raise RunError("\n  ".join(lines), failures) from error


@contextlib.contextmanager
def _out_of_memory_told() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise ExecutionError(
            f"out of memory ({error or 'no more could be had'}); what is stored is whole: run the "
            "same command again with fewer threads or workers, or more memory"
        ) from error


def _checked(wanted: range | None, rows: int) -> range:
    whole = range(rows)
    if wanted is None:
        wanted = whole
    elif wanted.step != 1 or not len(wanted) or wanted[0] < 0 or wanted[-1] >= rows:
        raise PlateaumapError(
            f"rows is {wanted}; give a range of step 1 within 0 to {rows - 1}, such as range(0, 10)"
        )
    if len(wanted) > LARGEST_FRAME:
        raise PlateaumapError(
            f"{len(wanted):,} rows are too many for a table in memory (at most "
            f"{LARGEST_FRAME:,}); give `out`, a folder, or `rows`, a range"
        )
    return wanted


def _overlapping(plan: Plan, wanted: range) -> Iterator[Chunk]:
    """Yield the plan's chunks, cut down to the rows that are wanted."""
    for chunk in plan:
        head = max(0, wanted.start - chunk.first_row)
        tail = max(0, chunk.first_row + chunk.rows - wanted.stop)
        if head + tail < chunk.rows:
            yield dataclasses.replace(
                chunk,
                start=chunk.start + head,
                stop=chunk.stop - tail,
                first_row=chunk.first_row + head,
            )
