"""Growing a sweep: a new one that takes over every row of an old one that is still right.

A row is a pure function of its point, its loss and the settings of the sweep, so it is still
right if all of these are equal to the last bit; its indices are not taken over. Of the settings
only the horizon may differ, and only for rows whose run stopped by itself before both horizons.
Everything else is computed. The old folder is only read.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plateaumap.execution.backend import Backend, chosen_backend
from plateaumap.experiment.reference import FunctionReference
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.paths import local_path
from plateaumap.runner.evaluator import epoch_counter
from plateaumap.runner.rows import Executor, Rows
from plateaumap.runner.run import run_into
from plateaumap.storage.manifest import describe_difference
from plateaumap.storage.results import Results, open_results
from plateaumap.sweep.axes import Grid
from plateaumap.sweep.circumstances import (
    comparable,
    environment_differences,
    version_differences,
)
from plateaumap.sweep.spec import VERSIONS, Sweep
from plateaumap.table import columns as table
from plateaumap.table.columns import Arrays
from plateaumap.training.measures import LEVELS, STATUSES

_MAY_DIFFER = {"name", "losses", "axes", "fixed", "horizon"}
_MAKERS = ("versions", "platform", "compiler")
_PARTS_AT_HAND = 4


def extend(
    folder: str | PathLike[str],
    settings: Mapping[str, Any] | None = None,
    out: str | PathLike[str] | None = None,
    *,
    sweep: Sweep | None = None,
    backend: str | Backend | None = None,
    progress: bool | None = None,
    mix_versions: bool = False,
) -> Results:
    """Make a new sweep from the results of an old one, and compute only what is new in it.

    Args:
        folder: the results to start from, finished or not; nothing in it is changed.
        settings: new values by path, as for `Sweep.with_settings`: more values on an axis, more
            losses, another horizon.
        out: the folder of the new sweep; by default beside the old one, see `Extension.path`.
        sweep: what to change the settings of, by default the folder's own sweep. Needed where
            that has losses or an experiment of yours, since a folder holds no code.
        backend: where what is new is evaluated.
        progress: whether to show a progress bar; None if standard error is a terminal.
        mix_versions: take over rows although other versions of the libraries made them.

    Returns:
        The finished results, equal to those of a fresh run bit for bit.

    Raises:
        PlateaumapError: see `Extension` and `plateaumap.runner.run.run`.
    """
    where = chosen_backend(backend)
    extension = Extension(folder, settings, out, sweep, mix_versions)
    return extension.run(where, progress)


class Extension:
    """A new sweep, and what it takes over from an old one.

    Attributes:
        sweep: the new sweep.
        path: its folder; by default the old folder's name and the beginning of the new sweep's
            fingerprint, so that the same extension finds its own folder again.
        taken: how many rows the runs of this object have taken over.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        settings: Mapping[str, Any] | None = None,
        out: str | PathLike[str] | None = None,
        sweep: Sweep | None = None,
        mix_versions: bool = False,
    ) -> None:
        """Compare the sweeps; nothing is written. See `extend` for the arguments.

        Raises:
            PlateaumapError: the folder cannot be read, or none of its rows can be right in the
                new sweep, or the new sweep is the old one, or it cannot be run.
        """
        self._old = open_results(folder)
        base = self._old.sweep if sweep is None else sweep
        self.sweep = base.with_settings(settings) if settings else base
        self.path = local_path(out) if out is not None else _beside(self._old.path, self.sweep)
        self.taken = 0
        self._mix_versions = mix_versions
        self._mixed = _require_growth(self._old, self.sweep, self.path, mix_versions)
        self._rows = Rows(self.sweep)
        _require_columns(self._old, self._rows)
        self._same = _SamePoints(self._old, self.sweep, bool(self._mixed))
        self._part = functools.lru_cache(maxsize=_PARTS_AT_HAND)(self._old.part)

    def run(self, backend: Backend, progress: bool | None = None) -> Results:
        """Fill the new folder; call it again to go on where it stopped.

        Raises:
            PlateaumapError: see `plateaumap.runner.run.run`; or other versions made the old rows.
        """
        return run_into(
            self._rows, self.path, self.submit, backend, progress, amend=self._with_origin
        )

    def submit(
        self, executor: Executor, loss_index: int, start: int, stop: int
    ) -> Callable[[], Arrays]:
        """Begin to evaluate those of some points that are new; see `Rows.submit`."""
        numbers = np.arange(start, stop, dtype=np.int64)
        points = self.sweep.grid.coordinates_at(numbers)
        known, measured = self._known(loss_index, points)
        new = {name: column[~known] for name, column in points.items()}
        wait = None if known.all() else executor.begin(self._rows.tasks[loss_index], new)

        def arrays() -> Arrays:
            if wait is not None:
                table.put(measured, ~known, wait())
            self.taken += int(known.sum())
            return {**self._rows.identity(loss_index, numbers, points), **measured}

        return arrays

    def _known(
        self, loss_index: int, points: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, Arrays]:
        """Return which points have a row that is right, and arrays with these rows filled in."""
        chunks, places = self._same.find(loss_index, points)
        known = np.zeros(len(chunks), np.bool_)
        measured = table.allocate(self._rows.measured, len(chunks))
        for index in np.unique(chunks[chunks >= 0]):
            part = self._part(int(index))
            if part is None:  # missing or damaged there: it is computed here
                continue
            here = np.flatnonzero(chunks == index)
            right = _is_right(part, self._old.manifest["spec"], self.sweep)[places[here]]
            rows = {c.name: part[c.name][places[here][right]] for c in self._rows.measured}
            table.put(measured, here[right], rows)
            known[here[right]] = True
        return known, measured

    def _with_origin(self, told: dict[str, Any]) -> dict[str, Any]:
        """Add to a provenance what the rows taken over come from."""
        manifest = self._old.manifest
        makers = [manifest["provenance"], *manifest["resumed"]]
        if not self._mix_versions:
            for made in makers:
                _require_same_makers(self._old.path, made, told)
        origin = {"fingerprint": manifest["fingerprint"], "provenance": makers}
        mark = {"mixed_versions": self._mixed} if self._mixed else {}
        return {**told, **mark, "extends": origin}


def _beside(folder: Path, sweep: Sweep) -> Path:
    folder = folder.absolute() if folder.name in ("", "..") else folder
    return folder.with_name(f"{folder.name}-{sweep.fingerprint[:8]}")


def _require_growth(old: Results, new: Sweep, out: Path, mix_versions: bool) -> list[str]:
    """Refuse a sweep that can take over no row; return in what JAX and its settings differ."""
    there, here = old.manifest["spec"], new.to_dict()
    versions = version_differences(there, {"versions": VERSIONS})
    if versions:
        raise PlateaumapError(
            f"the rows of {old.path} were computed by {'; '.join(versions)}, from which new rows "
            "may differ; run the new sweep by itself"
        )
    mixed = environment_differences(there, here)
    if mixed and not mix_versions:
        raise PlateaumapError(
            f"{old.path} was made under other circumstances: {'; '.join(mixed)}; run the new sweep "
            "by itself, or take the rows over all the same with --mix-versions (mix_versions=True)"
        )
    if new.fingerprint == old.manifest["fingerprint"]:
        raise PlateaumapError(
            f"{old.path} holds this very sweep; change something, such as horizon or "
            "axes.w0.num, or run the sweep itself again to finish it"
        )
    rest = [_settings(spec, other, bool(mixed)) for spec, other in ((there, here), (here, there))]
    difference = describe_difference(*rest)
    if difference:
        raise PlateaumapError(
            f"no row of {old.path} would be right in the new sweep, since not only axes, losses "
            f"and horizon differ; run it as a sweep of its own.\n{difference}"
        )
    if out.resolve() == old.path.resolve():
        raise PlateaumapError(f"{out} is the folder to start from; give another one")
    references = [loss for loss in new.losses if isinstance(loss, FunctionReference)]
    if references:
        told = ", ".join(f"{loss.name!r} ({loss.function})" for loss in references)
        raise PlateaumapError(
            f"the functions of these losses are not at hand: {told}; a folder holds no code, so "
            "give the script that defines them: --file SCRIPT (extend(..., sweep=))"
        )
    return mixed


def _settings(spec: Mapping[str, Any], other: Mapping[str, Any], mixed: bool) -> dict[str, Any]:
    """Return what may not differ; of the programs only those that both sweeps have."""
    kept = comparable(spec, digests=not mixed)
    experiment = dict(kept["experiment"])
    if "programs" in experiment:
        both = set(experiment["programs"]) & set(other["experiment"].get("programs", {}))
        experiment["programs"] = {k: v for k, v in experiment["programs"].items() if k in both}
    return {k: v for k, v in {**kept, "experiment": experiment}.items() if k not in _MAY_DIFFER}


def _require_columns(old: Results, rows: Rows) -> None:
    there = {column.name: (column.dtype, column.categories) for column in old.columns}
    here = {column.name: (column.dtype, column.categories) for column in rows.measured}
    differing = [name for name, kind in here.items() if there.get(name) != kind]
    if differing:
        raise PlateaumapError(
            f"{old.path} was made by a version that measured other columns (differing: "
            f"{', '.join(differing)}); run the new sweep by itself"
        )


def _require_same_makers(folder: Path, made: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    pair = [{key: told.get(key) for key in _MAKERS} for told in (made, here)]
    difference = describe_difference(*pair)
    if difference:
        raise PlateaumapError(
            f"{folder} was made with other versions or on another machine, so its rows may differ "
            "from new ones in their last bits; run the new sweep by itself, or take them over all "
            f"the same with --mix-versions (mix_versions=True).\n{difference}"
        )


class _SamePoints:
    """Finds the points of a new sweep in an old one, by the bits of their coordinates."""

    def __init__(self, old: Results, new: Sweep, mixed: bool) -> None:
        spec = old.manifest["spec"]
        words = comparable(spec, digests=not mixed)["losses"]
        wanted = comparable(new.to_dict(), digests=not mixed)["losses"]
        self._losses = [words.index(loss) if loss in words else None for loss in wanted]
        self._grid: Grid = Sweep(**{**spec, "experiment": new.experiment}).grid
        self._axes = [_Positions(self._grid.columns_of(axis)) for axis in self._grid.axes]
        self._plan = old.plan

    def find(
        self, loss_index: int, points: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return for each point the number of its old chunk, or -1, and its place in there."""
        count = len(next(iter(points.values())))
        loss = self._losses[loss_index]
        if loss is None:
            return np.full(count, -1), np.zeros(count, np.int64)
        flat, found = np.zeros(count, np.int64), np.ones(count, np.bool_)
        for axis, size in zip(self._axes, self._grid.shape, strict=True):
            position = axis.find(points)
            found &= position >= 0
            flat = flat * size + position
        for name, value in self._grid.constants.items():
            found &= _bits(points[name]) == _bits(value)
        chunks, places = np.divmod(flat, self._plan.chunk_points)
        return np.where(found, loss * self._plan.chunks_per_loss + chunks, -1), places


class _Positions:
    """The points of one axis, to be found by the bits of all their coordinates."""

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self._names = tuple(columns)
        every = self._index(columns)
        self._first = np.flatnonzero(~every.duplicated())
        self._distinct = every[self._first]

    def find(self, points: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the positions of points on the axis, -1 for those that are not on it."""
        found = self._distinct.get_indexer(self._index(points))
        return np.where(found >= 0, self._first[found], -1)

    def _index(self, columns: Mapping[str, np.ndarray]) -> pd.MultiIndex:
        return pd.MultiIndex.from_arrays([_bits(columns[name]) for name in self._names])


def _bits(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64).view(np.int64)


def _is_right(part: Arrays, old: Mapping[str, Any], new: Sweep) -> np.ndarray:
    """Return which rows of an old part do not hang on the horizon, boolean of shape (rows,)."""
    count = len(part["status"])
    horizons = (old["horizon"], new.horizon)
    if horizons[0] == horizons[1]:
        return np.ones(count, np.bool_)
    counters = {epoch_counter(horizon) for horizon in horizons}
    if len(counters) > 1:  # compiled for another integer: last bits might differ
        return np.zeros(count, np.bool_)
    converged = part["status"] == STATUSES.index("converged_at_start")
    stopped = part[_last_crossing(new.until) if new.method == "leap" else "epochs_run"]
    end = min(math.inf if horizon is None else horizon for horizon in horizons)
    return converged | (~np.ma.getmaskarray(stopped) & (np.ma.getdata(stopped) < end))


def _last_crossing(until: str) -> str:
    names: Sequence[str] = tuple(LEVELS)
    return names[0] if until == "plateau" else names[-1]
