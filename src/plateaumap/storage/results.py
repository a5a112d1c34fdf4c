"""The reader's side of a folder of results."""

import importlib
import logging
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import pandas as pd

from plateaumap.experiment.reference import name_of
from plateaumap.inputs.paths import local_path
from plateaumap.storage import parts
from plateaumap.storage.errors import StorageError
from plateaumap.storage.manifest import describe_difference, read_manifest
from plateaumap.storage.parts import DamagedPartError
from plateaumap.storage.verify import find_damages
from plateaumap.sweep.chunks import Chunk, Plan
from plateaumap.sweep.circumstances import comparable, environment_differences
from plateaumap.table import columns as table
from plateaumap.table.columns import Arrays, Column
from plateaumap.table.display import table_html

if TYPE_CHECKING:
    import xarray

    from plateaumap.sweep.spec import Sweep

_log = logging.getLogger(__name__)


class Results:
    """A folder of results, finished or not. Opening it reads the manifest and runs no code.

    Attributes:
        path: the folder.
        manifest: the content of its `manifest.json`.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        experiment: Any = None,
        losses: Sequence[Callable[..., Any]] = (),
    ) -> None:
        """Opens a folder.

        Args:
            path: the folder.
            experiment: the experiment of its sweep, where you wrote that: a folder holds no code.
            losses: likewise those losses of its sweep that are functions.

        Raises:
            StorageError: there is no such folder, no results in it, a damaged manifest, a newer
                format, or an experiment or losses that did not make these results.
        """
        self.path = local_path(path)
        self._manifest, self.manifest = read_manifest(self.path)
        self._own = {"experiment": experiment} if experiment is not None else {}
        if losses:
            self._own["losses"] = _matched(self._manifest.spec["losses"], losses)
        if self._own:
            self._require_own()

    def _require_own(self) -> None:
        """Refuse what a user gave if it is not what made the folder."""
        sweep = self.sweep
        if sweep.fingerprint != self._manifest.fingerprint:
            there, here = self._manifest.spec, sweep.to_dict()
            if "versions" not in there:
                raise StorageError(
                    f"{self.path} was made by a release of plateaumap that knew models by their "
                    "source text, so that they cannot be compared with what is given here; open "
                    "it without them to read its rows"
                )
            other = environment_differences(there, here)
            if other and comparable(there, False) == comparable(here, False):
                told = "%s cannot be compared with the model given here: %s"
                _log.warning(told, self.path, "; ".join(other))
                return
            difference = describe_difference(there, here)
            raise StorageError(
                f"{self.path} was not made by what is given here; give the code and settings that "
                f"made it, or open it without them to read its rows.\n{difference}"
            )

    def __repr__(self) -> str:
        """The path and how much is there."""
        plan = self.plan
        return f"Results({str(self.path)!r}: {plan.rows:,} rows in {len(plan):,} parts)"

    def _repr_html_(self) -> str:
        """What a notebook shows: how much is there, and the rows by status."""
        spec, plan, missing = self.manifest["spec"], self.plan, len(self.missing)
        parts = f"{len(plan) - missing} of {len(plan)}" + (": unfinished" if missing else "")
        counts = ((name, f"{number:,}") for name, number in self.counts().items() if number)
        rows = [("folder", self.path), ("rows", f"{plan.rows:,}"), ("parts", parts), *counts]
        return table_html(str(spec.get("name", self.path.name)), rows)

    @property
    def sweep(self) -> "Sweep":
        """The sweep; running it gives the same rows.

        Raises:
            SpecError: it has an experiment of somebody's own; see `open_results`.
        """
        from plateaumap.sweep.spec import Sweep

        return Sweep.from_dict({"versions": {}, **self._manifest.spec, **self._own})

    @property
    def columns(self) -> tuple[Column, ...]:
        """The table's columns, with units, meanings and categories."""
        return self._manifest.columns

    @property
    def plan(self) -> Plan:
        """How rows are cut into parts."""
        return self._manifest.plan

    @property
    def failures(self) -> dict[int, str]:
        """The messages of chunks that failed and were not written since, by number."""
        return dict(self._manifest.failures)

    def expected_bytes(self, chunks: Iterable[int]) -> int:
        """About how many bytes the parts of these chunks take, judged by those that are there."""
        return self._manifest.expected_bytes(chunks)

    @property
    def missing(self) -> list[int]:
        """The chunks without a part, or with one whose size, footer or sweep is not right."""
        present = {chunk.index for chunk in self._present()}
        return [index for index in range(len(self.plan)) if index not in present]

    @property
    def is_complete(self) -> bool:
        """Whether no chunk is missing."""
        return not self.missing

    def _present(self) -> list[Chunk]:
        plan = self.plan
        chunks = [plan[index] for index in sorted(parts.present(self.path, self._manifest))]
        return [chunk for chunk in chunks if self._is_sound(chunk)]

    def _is_sound(self, chunk: Chunk) -> bool:
        try:
            parts.check_part(self.path, self._manifest, chunk)
        except DamagedPartError:
            return False
        return True

    def frame(self, columns: Sequence[str] | None = None, partial: bool = False) -> pd.DataFrame:
        """The table.

        Args:
            columns: the names of the columns to read, in this order; all by default.
            partial: of an unfinished folder, return the rows that are there.

        Returns:
            One row per loss and point, ordered by loss and then axes in C order, with a
            RangeIndex and each column's dtype.

        Raises:
            StorageError: a column is unknown, the folder is unfinished, or a part is damaged.
        """
        chosen = self._chosen(columns)
        return table.frame(chosen, self._arrays(chosen, partial))

    def _chosen(self, names: Sequence[str] | None) -> tuple[Column, ...]:
        if names is None:
            return self.columns
        known = {column.name: column for column in self.columns}
        wanted = dict.fromkeys([names] if isinstance(names, str) else names)
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise StorageError(
                f"{self.path} has no column {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(known)}"
            )
        return tuple(known[name] for name in wanted)

    def _arrays(self, columns: Sequence[Column], partial: bool) -> Arrays:
        chunks = self._present()
        lacking = len(self.plan) - len(chunks)
        if lacking and not partial:
            raise StorageError(
                f"{self.path} is unfinished: {lacking} of {len(self.plan)} parts are "
                "missing or damaged; run the sweep again to finish it, "
                "or read what is there with frame(partial=True)"
            )
        arrays = table.allocate(columns, sum(chunk.rows for chunk in chunks))
        row = 0
        for chunk in chunks:
            path = parts.part_path(self.path, self.plan, chunk.index)
            try:
                part = parts.read_part(path, columns)
            except DamagedPartError as error:
                raise StorageError(
                    f"{self.path} is damaged: {error}; run the sweep again to recompute this part"
                ) from error
            table.put(arrays, slice(row, row + chunk.rows), part)
            row += chunk.rows
        return arrays

    def part(self, index: int) -> Arrays | None:
        """The rows of one chunk, compared with their content hash; None if they are not there.

        Args:
            index: the chunk's number in the plan.
        """
        chunk = self.plan[index]
        try:
            sha256 = parts.check_part(self.path, self._manifest, chunk)
            arrays = parts.read_part(parts.part_path(self.path, self.plan, index), self.columns)
        except DamagedPartError:
            return None
        return arrays if table.digest(self.columns, arrays) == sha256 else None

    def counts(self) -> dict[str, int]:
        """How many of the rows that are there have each status, in the statuses' order."""
        statuses = self.frame(["status"], partial=True)["status"]
        counted = statuses.value_counts(sort=False)
        return {str(status): int(counted[status]) for status in statuses.cat.categories}

    def to_xarray(self) -> "xarray.Dataset":
        """The table as a labelled array with one dimension for the loss and one for each axis.

        The dimension of an axis bears its coordinate's name; that of a `points` or `zip` axis
        joins its names by "_" and carries each of them as a coordinate. Fixed coordinates are
        scalars. Categories are strings, None where null. Whole numbers stay int64 where none is
        null; with nulls they are float64 and NaN, or, beyond 2⁵³ where float64 would round them,
        Python integers and None.

        Raises:
            StorageError: the folder is unfinished or damaged, or xarray is not installed.
        """
        try:
            importlib.import_module("xarray")
        except ImportError as error:
            raise StorageError(
                "to_xarray needs xarray, which is not installed: pip install 'plateaumap[xarray]'"
            ) from error
        from plateaumap.storage.dataset import dataset

        arrays = self._arrays(self.columns, partial=False)
        return dataset(self._manifest.spec, self._manifest.fingerprint, self.columns, arrays)

    def verify(self) -> list[str]:
        """Reads everything and says what is damaged, one line each; empty if nothing is."""
        return find_damages(self.path)


def _matched(words: Sequence[Any], given: Sequence[Callable[..., Any]]) -> list[Any]:
    """The losses of a spec, functions in the place of references to functions of their names."""
    by_name = {name_of(function): function for function in given}
    return [word if isinstance(word, str) else by_name.get(word["name"], word) for word in words]


def open_results(
    path: str | PathLike[str], experiment: Any = None, losses: Sequence[Callable[..., Any]] = ()
) -> Results:
    """Opens a folder of results, finished or not.

    Args:
        path: the folder.
        experiment: the experiment that made it, where that is your own; with it, `.sweep` is
            complete. It is compared with what the folder holds of it: description and digest.
        losses: likewise those losses that are functions of yours.

    Raises:
        StorageError: there is no such folder, no results in it, a damaged manifest, a newer
            format, or an experiment or losses that did not make these results.
    """
    return Results(path, experiment, losses)


def load(path: str | PathLike[str]) -> pd.DataFrame:
    """The table of a finished folder of results: `open_results(path).frame()`.

    Raises:
        StorageError: see `open_results` and `Results.frame`.
    """
    return open_results(path).frame()
