"""Extends a sweep: a new sweep that takes over every row of an old one that is still valid.

A row is a pure function of its point, its loss and the settings of the sweep, so it is still
valid if all of these are equal to the last bit; its indices are not taken over. Of the settings
only the horizon may differ, and only for rows whose run stopped by itself before both horizons.
All other rows are computed. The old folder is only read.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Self, Unpack

import numpy as np
import pandas as pd

from plateaumap.execution.backend import Backend, BackendOptions, Pending, select_backend
from plateaumap.execution.evaluator import Evaluator, epoch_counter
from plateaumap.experiment.reference import FunctionReference
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.paths import local_path
from plateaumap.runner.run import run_into
from plateaumap.runner.sweep_table import SweepTable
from plateaumap.storage.manifest import describe_difference
from plateaumap.storage.results import Results, open_results
from plateaumap.sweep.axes import Grid
from plateaumap.sweep.circumstances import (
    comparable,
    environment_differences,
    version_differences,
)
from plateaumap.sweep.spec import VERSIONS, Sweep
from plateaumap.table.columns import Arrays, allocate, put
from plateaumap.training.measures import LEVELS, STATUSES

_MAY_DIFFER = {"name", "losses", "axes", "fixed", "horizon"}
_CIRCUMSTANCES = ("versions", "platform", "compiler")
_PARTS_IN_MEMORY = 4


def extend(
    folder: str | PathLike[str],
    settings: Mapping[str, Any] | None = None,
    out: str | PathLike[str] | None = None,
    *,
    sweep: Sweep | None = None,
    progress: bool | None = None,
    mix_versions: bool = False,
    **options: Unpack[BackendOptions],
) -> Results:
    """Create a new sweep from the results of an old one, and compute only its new rows.

    Args:
        folder: the old results, finished or not; nothing in the folder is changed.
        settings: new values by path, as for `Sweep.with_settings`: more values on an axis, more
            losses, another horizon.
        out: the folder of the new sweep; by default beside the old one, see `Extension.path`.
        sweep: the sweep whose settings change; by default the sweep of the folder. It is needed if
            the sweep has losses or an experiment of yours, because a folder holds no code.
        progress: whether to show a progress bar; None to show it if standard error is a terminal.
        mix_versions: whether to take over rows that other versions of the libraries computed.
        options: `backend`, `threads`, `scheduler` and `workers`, see
            `plateaumap.execution.backend.BackendOptions`.

    Returns:
        The finished results, equal to those of a fresh run bit for bit.

    Raises:
        PlateaumapError: see `Extension` and `plateaumap.runner.run.run`.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.values("w0", [0.0, 2.0])]
        >>> sweep = pm.Sweep(losses="quadratic", axes=axes, fixed={"b0": 2, "lr": 0.15})
        >>> _ = pm.run(sweep, out="old")
        >>> results = pm.extend("old", {"axes.w0.values": [0.0, 1.0, 2.0]})
        >>> results.frame()["plateau_epochs"].tolist()
        [13, 45, 152]
    """
    backend = select_backend(**options)
    return Extension(folder, settings, out, sweep, mix_versions).run(backend, progress)


class Extension:
    """A new sweep, and the rows that it takes over from an old one.

    Attributes:
        sweep: the new sweep.
        table: the table of the new sweep.
        path: the folder of the new sweep. Its default name is the old folder's name and the
            beginning of the new sweep's fingerprint, so that the same extension finds it again.
        reused: the number of rows that the runs of this object have taken over.
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
            PlateaumapError: the folder cannot be read, or none of its rows can be valid in the
                new sweep, or the new sweep is the old one, or it cannot be run.
        """
        self._old = open_results(folder)
        base = self._old.sweep if sweep is None else sweep
        self.sweep = base.with_settings(settings) if settings else base
        self.path = local_path(out) if out is not None else _beside(self._old.path, self.sweep)
        self.reused = 0
        self._mix_versions = mix_versions
        self._mixed = _require_growth(self._old, self.sweep, self.path, mix_versions)
        self.table = SweepTable(self.sweep)
        _require_columns(self._old, self.table)
        self._same = _SamePoints(self._old, self.sweep, bool(self._mixed))
        self._part = functools.lru_cache(maxsize=_PARTS_IN_MEMORY)(self._old.part)

    def run(self, backend: Backend, progress: bool | None = None) -> Results:
        """Fill the new folder; call the method again to continue an interrupted run.

        Raises:
            PlateaumapError: see `plateaumap.runner.run.run`; or other versions computed the old
                rows.
        """
        reusing = _ReusingBackend(backend, self)
        return run_into(self.table, self.path, reusing, progress, amend=self._with_origin)

    def known(self, loss_index: int, points: Mapping[str, np.ndarray]) -> tuple[np.ndarray, Arrays]:
        """Return which points have a valid old row, and arrays that contain these rows."""
        chunks, places = self._same.find(loss_index, points)
        known = np.zeros(len(chunks), np.bool_)
        measured = allocate(self.table.measured, len(chunks))
        for index in np.unique(chunks[chunks >= 0]):
            part = self._part(int(index))
            if part is None:  # A part that is missing or damaged there is computed here.
                continue
            here = np.flatnonzero(chunks == index)
            valid = _is_valid(part, self._old.manifest["spec"], self.sweep)[places[here]]
            rows = {c.name: part[c.name][places[here][valid]] for c in self.table.measured}
            put(measured, here[valid], rows)
            known[here[valid]] = True
        return known, measured

    def _with_origin(self, provenance: dict[str, Any]) -> dict[str, Any]:
        """Return a provenance with the origin of the old rows added."""
        manifest = self._old.manifest
        origins = [manifest["provenance"], *manifest["resumed"]]
        if not self._mix_versions:
            for origin in origins:
                _require_same_circumstances(self._old.path, origin, provenance)
        mark = {"mixed_versions": self._mixed} if self._mixed else {}
        extends = {"fingerprint": manifest["fingerprint"], "provenance": origins}
        return {**provenance, **mark, "extends": extends}


class _ReusingBackend(Backend):
    """Takes rows over from an extension's old folder, and has another backend evaluate the rest."""

    def __init__(self, inner: Backend, extension: Extension) -> None:
        self._inner, self._extension = inner, extension

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._inner.__exit__(*exception)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._inner.call(function, *arguments)

    def points_in_flight(self) -> int:
        return self._inner.points_in_flight()

    def evaluate(self, evaluator: Evaluator, points: Mapping[str, np.ndarray]) -> Pending:
        loss_index = self._extension.table.evaluators.index(evaluator)
        known, measured = self._extension.known(loss_index, points)
        new = {name: column[~known] for name, column in points.items()}
        pending = None if known.all() else self._inner.evaluate(evaluator, new)
        return _Extended(self._extension, known, measured, pending)


class _Extended(NamedTuple):
    """Rows of which some were known, and the others are pending."""

    extension: Extension
    known: np.ndarray
    measured: Arrays
    pending: Pending | None

    def result(self) -> Arrays:
        if self.pending is not None:
            put(self.measured, ~self.known, self.pending.result())
        self.extension.reused += int(self.known.sum())
        return self.measured


def _beside(folder: Path, sweep: Sweep) -> Path:
    folder = folder.absolute() if folder.name in ("", "..") else folder
    return folder.with_name(f"{folder.name}-{sweep.fingerprint[:8]}")


def _require_growth(old: Results, new: Sweep, out: Path, mix_versions: bool) -> list[str]:
    """Raise if the new sweep can take over no row; return the differences in JAX's settings."""
    there, here = old.manifest["spec"], new.to_dict()
    versions = version_differences(there, {"versions": VERSIONS})
    if versions:
        raise PlateaumapError(
            f"the rows of {old.path} were computed by {'; '.join(versions)}, so that new rows may "
            "differ; run the new sweep separately"
        )
    mixed = environment_differences(there, here)
    if mixed and not mix_versions:
        raise PlateaumapError(
            f"{old.path} was computed under other circumstances: {'; '.join(mixed)}; run the new "
            "sweep separately, or take the rows over with --mix-versions (mix_versions=True)"
        )
    if new.fingerprint == old.manifest["fingerprint"]:
        raise PlateaumapError(
            f"{old.path} holds this same sweep; change a setting, such as horizon or axes.w0.num, "
            "or run the sweep again to finish it"
        )
    difference = describe_difference(
        _fixed_settings(there, here, bool(mixed)), _fixed_settings(here, there, bool(mixed))
    )
    if difference:
        raise PlateaumapError(
            f"no row of {old.path} would be valid in the new sweep, because not only axes, losses "
            f"and horizon differ; run it as a separate sweep.\n{difference}"
        )
    if out.resolve() == old.path.resolve():
        raise PlateaumapError(f"out = {out}: is the old folder; choose another one")
    references = [loss for loss in new.losses if isinstance(loss, FunctionReference)]
    if references:
        names = ", ".join(f"{loss.name!r} ({loss.function})" for loss in references)
        raise PlateaumapError(
            f"the functions of these losses are unknown: {names}; a folder holds no code, so name "
            "the script that defines them: --file SCRIPT (extend(..., sweep=))"
        )
    return mixed


def _fixed_settings(
    spec: Mapping[str, Any], other: Mapping[str, Any], mixed: bool
) -> dict[str, Any]:
    """Return the settings that may not differ; of the programs only those of both sweeps."""
    kept = comparable(spec, digests=not mixed)
    experiment = dict(kept["experiment"])
    if "programs" in experiment:
        both = set(experiment["programs"]) & set(other["experiment"].get("programs", {}))
        experiment["programs"] = {k: v for k, v in experiment["programs"].items() if k in both}
    return {k: v for k, v in {**kept, "experiment": experiment}.items() if k not in _MAY_DIFFER}


def _require_columns(old: Results, new: SweepTable) -> None:
    there = {column.name: (column.dtype, column.categories) for column in old.columns}
    here = {column.name: (column.dtype, column.categories) for column in new.measured}
    differing = [name for name, kind in here.items() if there.get(name) != kind]
    if differing:
        raise PlateaumapError(
            f"{old.path} was computed by a version that measured other columns (differing: "
            f"{', '.join(differing)}); run the new sweep separately"
        )


def _require_same_circumstances(
    folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]
) -> None:
    pair = [{key: origin.get(key) for key in _CIRCUMSTANCES} for origin in (there, here)]
    difference = describe_difference(*pair)
    if difference:
        raise PlateaumapError(
            f"{folder} was computed with other versions or on another machine, so that its rows "
            "may differ from new ones in their last bits; run the new sweep separately, or take "
            f"the rows over with --mix-versions (mix_versions=True).\n{difference}"
        )


class _SamePoints:
    """Finds the points of a new sweep in an old one, by the bits of their coordinates."""

    def __init__(self, old: Results, new: Sweep, mixed: bool) -> None:
        spec = old.manifest["spec"]
        there = comparable(spec, digests=not mixed)["losses"]
        here = comparable(new.to_dict(), digests=not mixed)["losses"]
        self._losses = [there.index(loss) if loss in there else None for loss in here]
        self._grid: Grid = Sweep(**{**spec, "experiment": new.experiment}).grid
        self._axes = [_Positions(self._grid.columns_of(axis)) for axis in self._grid.axes]
        self._plan = old.plan

    def find(
        self, loss_index: int, points: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of each point's old chunk, or −1, and the point's place in it."""
        count = len(next(iter(points.values())))
        loss = self._losses[loss_index]
        if loss is None:
            return np.full(count, -1), np.zeros(count, np.int64)
        flat, exists = np.zeros(count, np.int64), np.ones(count, np.bool_)
        for axis, size in zip(self._axes, self._grid.shape, strict=True):
            position = axis.find(points)
            exists &= position >= 0
            flat = flat * size + position
        for name, value in self._grid.constants.items():
            exists &= _bits(points[name]) == _bits(value)
        chunks, places = np.divmod(flat, self._plan.chunk_points)
        return np.where(exists, loss * self._plan.chunks_per_loss + chunks, -1), places


class _Positions:
    """Finds the points of one axis by the bits of all their coordinates."""

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self._names = tuple(columns)
        index = self._index(columns)
        self._first = np.flatnonzero(~index.duplicated())
        self._distinct = index[self._first]

    def find(self, points: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the positions of points on the axis, −1 for points that are not on it."""
        places = self._distinct.get_indexer(self._index(points))
        return np.where(places >= 0, self._first[places], -1)

    def _index(self, columns: Mapping[str, np.ndarray]) -> pd.MultiIndex:
        return pd.MultiIndex.from_arrays([_bits(columns[name]) for name in self._names])


def _bits(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64).view(np.int64)


def _is_valid(part: Arrays, old: Mapping[str, Any], new: Sweep) -> np.ndarray:
    """Return which rows of an old part do not depend on the horizon, boolean of shape (rows,)."""
    count = len(part["status"])
    horizons = (old["horizon"], new.horizon)
    if horizons[0] == horizons[1]:
        return np.ones(count, np.bool_)
    counters = {epoch_counter(horizon) for horizon in horizons}
    if len(counters) > 1:  # The programs count with different integers: last bits may differ.
        return np.zeros(count, np.bool_)
    converged = part["status"] == STATUSES.index("converged_at_start")
    stopped = part[_last_crossing(new.until) if new.method == "leap" else "epochs_run"]
    end = min(math.inf if horizon is None else horizon for horizon in horizons)
    return converged | (~np.ma.getmaskarray(stopped) & (np.ma.getdata(stopped) < end))


def _last_crossing(until: str) -> str:
    names: Sequence[str] = tuple(LEVELS)
    return names[0] if until == "plateau" else names[-1]
