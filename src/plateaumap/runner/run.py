"""Runs a sweep: evaluates the missing chunks, and stores them."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Unpack, overload

import pandas as pd

from plateaumap.execution.backend import Backend, BackendOptions, Pending, select_backend
from plateaumap.execution.errors import ExecutionError
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.paths import local_path
from plateaumap.inputs.validation import show
from plateaumap.runner.progress import progress_bar
from plateaumap.runner.provenance import command, provenance
from plateaumap.runner.sweep_table import SweepTable
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
"""Chunks that are evaluated at the same time; with those of the writers they bound memory."""

WRITERS = 2
"""Threads that store chunks: to hash and encode one takes about as long as to evaluate it."""

ATTEMPTS = 3
"""How often a chunk that raises is tried before its message is recorded."""

LARGEST_FRAME = 200_000_000
"""The largest number of rows of a table in memory."""

_SETTINGS = ("name", "horizon", "precision", "method", "until", "tolerance")


class RunError(ExecutionError):
    """Some chunks failed in every attempt; all others are stored.

    Attributes:
        failures: the message of each failed chunk, by its number.

    Example:
        >>> import plateaumap as pm
        >>> pm.RunError("1 chunk of 8 failed", {3: "ValueError: no"}).failures
        {3: 'ValueError: no'}
    """

    def __init__(self, message: str, failures: Mapping[int, str] = {}) -> None:
        """Keep the failures beside the message that names them."""
        super().__init__(message)
        self.failures = dict(failures)


@overload
def run(
    sweep: Sweep,
    out: None = None,
    *,
    rows: range | None = None,
    progress: bool | None = None,
    **options: Unpack[BackendOptions],
) -> pd.DataFrame: ...


@overload
def run(
    sweep: Sweep,
    out: str | PathLike[str],
    *,
    progress: bool | None = None,
    force: bool = False,
    mix_versions: bool = False,
    **options: Unpack[BackendOptions],
) -> Results: ...


def run(
    sweep: Sweep,
    out: str | PathLike[str] | None = None,
    *,
    rows: range | None = None,
    progress: bool | None = None,
    force: bool = False,
    mix_versions: bool = False,
    **options: Unpack[BackendOptions],
) -> pd.DataFrame | Results:
    """Evaluate a sweep, in memory or into a folder.

    Args:
        sweep: the sweep.
        out: a folder. Rows of the same sweep that it already holds are not computed again. None
            for a table in memory.
        rows: a range of step 1 of the rows to compute; only for a table in memory.
        progress: whether to show a progress bar; None to show it if standard error is a terminal.
        force: whether to move a folder that holds something else aside, and start again.
        mix_versions: whether to continue a folder although another version of JAX, or other
            settings of JAX, computed its rows of your own model; the manifest records that.
        options: `backend`, `threads`, `scheduler` and `workers`, see
            `plateaumap.execution.backend.BackendOptions`. With `backend="dask"`, a script must
            guard the call by `if __name__ == "__main__":`.

    Returns:
        The table (one row for each loss and point), or with `out` the finished `Results`.

    Raises:
        PlateaumapError: the folder holds another sweep, cannot be written to, or the sweep cannot
            be run; or the rows are outside of the table.
        RunError: some chunks failed; with `out`, after all others have been stored.
        ExecutionError: memory ran out, or a cluster could not be started or was lost.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.linspace("w0", 0, 2, 3)]
        >>> sweep = pm.Sweep(losses="quadratic", axes=axes, fixed={"b0": 2, "lr": 0.15})
        >>> pm.run(sweep)["plateau_epochs"].tolist()
        [13, 45, 152]
    """
    backend = select_backend(**options)
    try:
        if out is None:
            return _run_in_memory(SweepTable(sweep), rows, backend, progress)
        if rows is not None:
            raise PlateaumapError(f"rows = {rows}: only for a table in memory; omit rows or out")
        sweep_table = SweepTable(sweep)
        return run_into(sweep_table, local_path(out), backend, progress, force, mix_versions)
    except MemoryError as error:
        raise ExecutionError(
            f"out of memory ({error or 'no memory could be allocated'}); every part stored so far "
            "is complete: run the same command again with fewer threads or workers, or more memory"
        ) from error


def evaluate(sweep: Sweep, point: Mapping[str, float | str]) -> dict[str, Any]:
    """Return the record of one point, equal to its row in the table.

    Args:
        sweep: everything but the point.
        point: a value for each coordinate, on the grid or not. A missing coordinate takes its value
            from `fixed`. If the sweep has several losses, `loss` selects one by name; without it,
            the record of each loss is returned under its name.

    Returns:
        A dictionary from column names to values; a null is None.

    Raises:
        PlateaumapError: a coordinate is unknown, missing or out of its range, or the sweep does not
            have the loss.

    Example:
        >>> import plateaumap as pm
        >>> sweep = pm.Sweep(losses="quadratic", axes=[pm.linspace("w0", 0, 2, 3)],
        ...                  fixed={"b0": 2, "lr": 0.15})
        >>> record = pm.evaluate(sweep, {"w0": 2.0})
        >>> record["status"], record["plateau_epochs"]
        ('escaped', 152)
    """
    if not isinstance(point, Mapping):
        raise PlateaumapError(
            f"point = {show(point)}: must be a mapping with a value for each coordinate, such as "
            '{"w0": 2.0}'
        )
    coordinates: dict[str, Any] = dict(point)
    names = sweep.loss_names
    loss = coordinates.pop("loss", names[0] if len(names) == 1 else None)
    if loss is None:
        return {name: evaluate(sweep, {**coordinates, "loss": name}) for name in names}
    if loss not in names:
        raise PlateaumapError(f"loss = {loss!r}: not in the sweep, which has {', '.join(names)}")
    single = Sweep(
        experiment=sweep.experiment,
        losses=[sweep.losses[names.index(loss)]],
        fixed=_with_fixed(sweep, coordinates),
        **{field: getattr(sweep, field) for field in _SETTINGS},
    )
    frame = run(single, progress=False, threads=1)
    return {str(name): _scalar(column) for name, column in frame.items()}


def _scalar(column: pd.Series) -> Any:
    """Return the only value of a column; a null is None, but in a column of floats NaN."""
    value = column.iloc[0]
    if pd.api.types.is_float_dtype(column.dtype):
        return float(value)
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value


def _with_fixed(sweep: Sweep, point: Mapping[str, float | str]) -> dict[str, float | str]:
    """Return a point with the fixed coordinates of the sweep added."""
    on_axes = {name for axis in sweep.axes for name in axis.names}
    missing = sorted(on_axes - set(point))
    if missing:
        raise PlateaumapError(
            f"point = {dict(point)}: has no {', '.join(missing)}; pass a value for each coordinate "
            "that is on an axis"
        )
    return {**sweep.fixed, **point}


def _run_in_memory(
    sweep_table: SweepTable, rows: range | None, backend: Backend, progress: bool | None
) -> pd.DataFrame:
    sweep, plan = sweep_table.sweep, sweep_table.plan
    rows = _valid_rows(rows, sweep.rows)
    arrays = table.allocate(sweep_table.columns, len(rows))
    with backend, progress_bar(sweep.name, len(rows), 0, progress) as advance:
        chunks = _overlapping(plan, rows)
        for chunk, outcome in _evaluate_chunks(sweep_table, backend, chunks, plan.chunk_points):
            if isinstance(outcome, Exception):
                _raise_failures({chunk.index: _message(outcome)}, plan, "nothing is kept", outcome)
            first = chunk.first_row - rows.start
            table.put(arrays, slice(first, first + chunk.rows), outcome)
            advance(chunk.rows)
    return table.frame(sweep_table.columns, arrays)


def run_into(
    sweep_table: SweepTable,
    out: Path,
    backend: Backend,
    progress: bool | None,
    force: bool = False,
    mix_versions: bool = False,
    amend: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Results:
    """Compute the missing rows of a sweep, and store them in a folder.

    Args:
        sweep_table: the table to complete.
        out: the folder.
        backend: evaluates the points.
        progress: see `run`.
        force: see `run`.
        mix_versions: see `run`.
        amend: returns the provenance to store, from the provenance of this run; may raise.

    Raises:
        PlateaumapError: see `run`.
    """
    sweep = sweep_table.sweep
    sweep.require_current()
    _require_space(sweep_table, out, force, mix_versions)
    with backend:
        here = amend({"command": command(), **backend.call(provenance, sweep.precision)})
        store = Store.create_or_resume(out, sweep_table.manifest(here), force, mix_versions)
        if store.moved_aside is not None:
            _log.warning("the old content of %s was moved to %s", out, store.moved_aside)
        with store.lock():
            missing = [store.plan[index] for index in store.missing(verify=True)]
            done = sweep.rows - sum(chunk.rows for chunk in missing)
            with progress_bar(sweep.name, sweep.rows, done, progress) as advance:
                points = store.plan.chunk_points
                _complete(store, _evaluate_chunks(sweep_table, backend, missing, points), advance)
            return store.finish()


def _require_space(sweep_table: SweepTable, out: Path, force: bool, mix_versions: bool) -> None:
    """Raise if the folder is not free, or its disk too small for the missing rows."""
    new = sweep_table.manifest()
    try:
        store = Store.find(out, new, mix_versions)
    except StorageError:
        if not force:
            raise
        store = None
    check_space(out, bytes_to_write(sweep_table, store))


def bytes_to_write(sweep_table: SweepTable, store: Store | None) -> int:
    """Return about how many bytes the missing parts of a sweep will take."""
    if store is None:
        return estimate_bytes(sweep_table.columns, sweep_table.plan.rows, len(sweep_table.plan))
    return store.expected_bytes(store.missing())


class _Attempt(NamedTuple):
    """One attempt to evaluate a chunk."""

    chunk: Chunk
    number: int
    points: Arrays
    pending: Pending


def _evaluate_chunks(
    sweep_table: SweepTable, backend: Backend, chunks: Iterable[Chunk], chunk_points: int
) -> Iterator[tuple[Chunk, Arrays | Exception]]:
    """Yield each chunk's rows, or the error of its last attempt; the next chunks are under way.

    Chunks come in order, except for those that are tried again.
    """
    remaining = iter(chunks)
    attempts: deque[_Attempt] = deque()
    while True:
        limit = _most_in_flight(backend, chunk_points)
        while len(attempts) < limit and (chunk := next(remaining, None)) is not None:
            attempts.append(_begin(sweep_table, backend, chunk, 1))
        if not attempts:
            return
        chunk, number, points, pending = attempts.popleft()
        outcome: Arrays | Exception
        try:
            outcome = sweep_table.rows(chunk, points, pending.result())
        except ExecutionError:
            raise
        except Exception as error:
            if number < ATTEMPTS:
                _log.info("chunk %d failed and is tried again: %s", chunk.index, _message(error))
                attempts.append(_begin(sweep_table, backend, chunk, number + 1))
                continue
            outcome = error
        yield chunk, outcome


def _most_in_flight(backend: Backend, chunk_points: int) -> int:
    return max(CHUNKS_IN_FLIGHT, 1 + math.ceil(backend.points_in_flight() / chunk_points))


def _begin(sweep_table: SweepTable, backend: Backend, chunk: Chunk, number: int) -> _Attempt:
    points = sweep_table.points(chunk)
    try:
        pending = backend.evaluate(sweep_table.evaluators[chunk.loss_index], points)
    except ExecutionError:
        raise
    except Exception as error:
        pending = Future[Arrays]()
        pending.set_exception(error)
    return _Attempt(chunk, number, points, pending)


def _complete(
    store: Store,
    outcomes: Iterator[tuple[Chunk, Arrays | Exception]],
    advance: Callable[[int], None],
) -> None:
    """Store rows and record failures; raise only after the last chunk."""
    failures: dict[int, str] = {}
    last_error: Exception | None = None
    for chunk, error in _store_chunks(store, outcomes):
        if error is not None:
            last_error = error
            failures[chunk.index] = _message(error)
            store.record_failures({chunk.index: failures[chunk.index]})
        advance(chunk.rows)
    if failures:
        kept = f"all others are stored in {store.path}: run the same command again to retry them"
        _raise_failures(failures, store.plan, kept, last_error)


def _store_chunks(
    store: Store, outcomes: Iterator[tuple[Chunk, Arrays | Exception]]
) -> Iterator[tuple[Chunk, Exception | None]]:
    """Store chunks while the next ones are evaluated; yield each with its error, or None."""
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="plateaumap-writer") as writers:
        storing: deque[tuple[Chunk, Future[Exception | None]]] = deque()
        for chunk, outcome in outcomes:
            storing.append((chunk, writers.submit(_store_chunk, store, chunk, outcome)))
            if len(storing) > WRITERS:
                first, stored = storing.popleft()
                yield first, stored.result()
        for first, stored in storing:
            yield first, stored.result()


def _store_chunk(store: Store, chunk: Chunk, outcome: Arrays | Exception) -> Exception | None:
    """Store a chunk, or return the error of its rows."""
    if isinstance(outcome, Exception):
        return outcome
    try:
        store.write(chunk, outcome)
    except StorageError:
        raise
    except (ValueError, TypeError, MemoryError) as error:
        return error
    return None


_LONGEST_MESSAGE = 300


def _message(error: Exception) -> str:
    """Return an error as one line; of a quoted traceback, the innermost error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    line = lines[-1] if "Traceback (most recent call last)" in str(error) else lines[0]
    message = f"{type(error).__name__}: {line}"[:_LONGEST_MESSAGE]
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory ({message}); use fewer threads or workers, or more memory"
    return message


def _raise_failures(
    failures: Mapping[int, str], plan: Plan, kept: str, error: Exception | None
) -> NoReturn:
    count = "1 chunk" if len(failures) == 1 else f"{len(failures)} chunks"
    lines = [f"{count} of {len(plan)} failed, {kept}", *describe_failures(failures, plan)]
    raise RunError("\n  ".join(lines), failures) from error


def _valid_rows(rows: range | None, total: int) -> range:
    """Return the rows to compute: the given ones, or all of them."""
    if rows is None:
        rows = range(total)
    elif rows.step != 1 or not len(rows) or rows[0] < 0 or rows[-1] >= total:
        raise PlateaumapError(
            f"rows = {rows}: must be a range of step 1 within 0 to {total - 1}, such as "
            "range(0, 10)"
        )
    if len(rows) > LARGEST_FRAME:
        raise PlateaumapError(
            f"{len(rows):,} rows are too many for a table in memory (at most {LARGEST_FRAME:,}); "
            "pass out = a folder, or rows = a range"
        )
    return rows


def _overlapping(plan: Plan, rows: range) -> Iterator[Chunk]:
    """Yield the chunks of a plan, reduced to some rows."""
    for chunk in plan:
        head = max(0, rows.start - chunk.first_row)
        tail = max(0, chunk.first_row + chunk.rows - rows.stop)
        if head + tail < chunk.rows:
            yield dataclasses.replace(
                chunk,
                start=chunk.start + head,
                stop=chunk.stop - tail,
                first_row=chunk.first_row + head,
            )
