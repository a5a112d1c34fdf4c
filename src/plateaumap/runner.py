"""Runs a sweep: what is missing is evaluated, stored and counted.

What is computed, where it runs and how it is kept meet here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, overload

import pandas as pd

from plateaumap import table
from plateaumap.errors import PlateaumapError
from plateaumap.execution.local import LocalExecutor
from plateaumap.plan import Chunk, Plan
from plateaumap.progress import progress_bar
from plateaumap.provenance import provenance
from plateaumap.rows import Rows
from plateaumap.spec import Sweep
from plateaumap.storage.errors import StorageError
from plateaumap.storage.results import Results
from plateaumap.storage.space import check_space, estimate_bytes
from plateaumap.storage.store import Store
from plateaumap.table import Arrays

_log = logging.getLogger(__name__)

CHUNKS_IN_FLIGHT = 3
"""Chunks that are being evaluated or wait to be stored: bounds memory, keeps the cores busy."""

_SETTINGS = ("name", "horizon", "precision", "method", "until", "tolerance")

LARGEST_FRAME = 200_000_000
"""Rows beyond which a table in memory is refused."""


@overload
def run(
    sweep: Sweep,
    out: None = None,
    *,
    rows: range | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> pd.DataFrame: ...


@overload
def run(
    sweep: Sweep,
    out: str | PathLike[str],
    *,
    threads: int | None = None,
    progress: bool | None = None,
    force: bool = False,
) -> Results: ...


def run(
    sweep: Sweep,
    out: str | PathLike[str] | None = None,
    *,
    rows: range | None = None,
    threads: int | None = None,
    progress: bool | None = None,
    force: bool = False,
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

    Returns:
        The table (one row for each loss and point), or with `out` the finished `Results`.

    Raises:
        PlateaumapError: the folder holds another sweep, cannot be written to, or the sweep
            cannot be run; rows outside of the table.
    """
    if out is None:
        return _run_in_memory(sweep, rows, threads, progress)
    if rows is not None:
        raise PlateaumapError(f"rows = {rows} goes with a table in memory; leave `out` away")
    return _run_into(sweep, out, threads, progress, force)


def evaluate(sweep: Sweep, point: Mapping[str, float]) -> dict[str, Any]:
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
    wanted = dict(point)
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
    frame = _run_in_memory(single, None, 1, False)
    return {name: _scalar(column) for name, column in frame.items()}


def _scalar(column: pd.Series) -> Any:
    """Return the one value of a column; a null is None, a float that is not there NaN."""
    value = column.iloc[0]
    if pd.api.types.is_float_dtype(column.dtype):
        return float(value)
    return None if pd.isna(value) else value.item() if hasattr(value, "item") else value


def _completed(sweep: Sweep, point: Mapping[str, float]) -> dict[str, float]:
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
    sweep: Sweep, wanted: range | None, threads: int | None, progress: bool | None
) -> pd.DataFrame:
    rows = Rows(sweep)
    wanted = _checked(wanted, sweep.rows)
    whole = table.allocate(rows.columns, len(wanted))
    plan = Plan(sweep.size, sweep.loss_names)
    chunks = list(_overlapping(plan, wanted))
    with (
        LocalExecutor(threads) as executor,
        progress_bar(sweep.name, len(wanted), 0, progress) as advance,
    ):
        for chunk, arrays in _evaluated(rows, executor, chunks):
            table.place(whole, chunk.first_row - wanted.start, arrays)
            advance(chunk.rows)
    return table.frame(rows.columns, whole)


def _run_into(
    sweep: Sweep,
    out: str | PathLike[str],
    threads: int | None,
    progress: bool | None,
    force: bool,
) -> Results:
    rows = Rows(sweep)
    store = _open_store(rows, Path(out), force)
    with store.lock():
        missing = [store.plan[index] for index in store.missing(verify=True)]
        there = sweep.rows - sum(chunk.rows for chunk in missing)
        with (
            LocalExecutor(threads) as executor,
            progress_bar(sweep.name, sweep.rows, there, progress) as advance,
        ):
            for chunk, arrays in _evaluated(rows, executor, missing):
                store.write(chunk, arrays)
                advance(chunk.rows)
        return store.finish()


def find_store(rows: Rows, out: Path) -> Store | None:
    """Return what a folder holds of a sweep already, None if nothing; touches nothing.

    Raises:
        StorageError: the folder holds something else.
    """
    sweep = rows.sweep
    plan = Plan(sweep.size, sweep.loss_names)
    return Store.find(out, sweep.to_dict(), sweep.fingerprint, rows.columns, plan)


def bytes_to_write(rows: Rows, store: Store | None) -> int:
    """Return about how many bytes are still to be written for a sweep."""
    if store is not None:
        return store.expected_bytes(store.missing())
    plan = Plan(rows.sweep.size, rows.sweep.loss_names)
    return estimate_bytes(rows.columns, plan.rows, len(plan))


def _open_store(rows: Rows, out: Path, force: bool) -> Store:
    """Return the folder to write to, made only if the disk can hold what is to come."""
    sweep = rows.sweep
    try:
        found = find_store(rows, out)
    except StorageError:
        if not force:
            raise
        found = None
    check_space(out, bytes_to_write(rows, found))
    store = Store.create_or_resume(
        out,
        sweep.to_dict(),
        sweep.fingerprint,
        rows.columns,
        Plan(sweep.size, sweep.loss_names),
        provenance(sweep.precision),
        force=force,
    )
    if store.moved_aside is not None:
        _log.warning("what stood in %s was moved to %s", out, store.moved_aside)
    return store


def _evaluated(
    rows: Rows, executor: LocalExecutor, chunks: Iterable[Chunk]
) -> Iterator[tuple[Chunk, Arrays]]:
    """Yield chunks in order, the next ones being evaluated while one is dealt with."""
    in_flight: deque[tuple[Chunk, Callable[[], Arrays]]] = deque()
    for chunk in chunks:
        wait = rows.submit(executor, chunk.loss_index, chunk.start, chunk.stop)
        in_flight.append((chunk, wait))
        if len(in_flight) >= CHUNKS_IN_FLIGHT:
            first, wait = in_flight.popleft()
            yield first, wait()
    for chunk, wait in in_flight:
        yield chunk, wait()


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
