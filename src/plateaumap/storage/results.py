"""Reads a folder of results: its sweep, its table and its provenance."""

import importlib
import logging
from collections.abc import Callable, Sequence
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

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.linspace("w0", 0, 2, 3)]
        >>> sweep = pm.Sweep(losses="quadratic", axes=axes, fixed={"b0": 2, "lr": 0.15})
        >>> results = pm.run(sweep, out="results/three")
        >>> results.is_complete
        True
        >>> results.counts()["escaped"]
        3
        >>> results.frame(["w0", "plateau_epochs"])["plateau_epochs"].tolist()
        [13, 45, 152]
    """

    def __init__(
        self,
        path: str | PathLike[str],
        experiment: Any = None,
        losses: Sequence[Callable[..., Any]] = (),
    ) -> None:
        """Open a folder; see `open_results` for the arguments and errors."""
        self.path = local_path(path)
        self._manifest, self.manifest = read_manifest(self.path)
        self._code = {"experiment": experiment} if experiment is not None else {}
        if losses:
            self._code["losses"] = _matched(self._manifest.spec["losses"], losses)
        if self._code:
            self._require_code()

    def _require_code(self) -> None:
        """Raise unless the experiment and losses that were passed computed the folder."""
        sweep = self.sweep
        if sweep.fingerprint != self._manifest.fingerprint:
            there, here = self._manifest.spec, sweep.to_dict()
            if "versions" not in there:
                raise StorageError(
                    f"{self.path} was computed by a release of plateaumap that identified models "
                    "by their source text, so that they cannot be compared with the code passed "
                    "here; open it without the code to read its rows"
                )
            environment = environment_differences(there, here)
            if environment and comparable(there, False) == comparable(here, False):
                differences = "; ".join(environment)
                _log.warning("%s cannot be compared with your code: %s", self.path, differences)
                return
            difference = describe_difference(there, here)
            raise StorageError(
                f"{self.path} was not computed by the code passed here; pass the code and settings "
                f"that computed it, or open it without them to read its rows.\n{difference}"
            )

    def __repr__(self) -> str:
        """Return the path and the size of the table."""
        plan = self.plan
        return f"Results({str(self.path)!r}: {plan.rows:,} rows in {len(plan):,} parts)"

    def _repr_html_(self) -> str:
        """Return a summary for notebooks: size, progress, and rows by status."""
        spec, plan, missing = self.manifest["spec"], self.plan, len(self.missing)
        parts = f"{len(plan) - missing} of {len(plan)}" + (": unfinished" if missing else "")
        counts = ((name, f"{number:,}") for name, number in self.counts().items() if number)
        rows = [("folder", self.path), ("rows", f"{plan.rows:,}"), ("parts", parts), *counts]
        return table_html(str(spec.get("name", self.path.name)), rows)

    @property
    def sweep(self) -> "Sweep":
        """Return the sweep; running it gives the same rows.

        Raises:
            SpecError: the sweep has a custom experiment; see `open_results`.
        """
        from plateaumap.sweep.spec import Sweep

        return Sweep.from_dict({"versions": {}, **self._manifest.spec, **self._code})

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the table's columns, with units, meanings and categories."""
        return self._manifest.columns

    @property
    def plan(self) -> Plan:
        """Return how rows are divided into parts."""
        return self._manifest.plan

    @property
    def failures(self) -> dict[int, str]:
        """Return the messages of failed chunks that are not stored yet, by number."""
        return dict(self._manifest.failures)

    @property
    def missing(self) -> list[int]:
        """Return the numbers of the chunks whose part is missing or has a wrong size or footer."""
        present = {chunk.index for chunk in self._present()}
        return [index for index in range(len(self.plan)) if index not in present]

    @property
    def is_complete(self) -> bool:
        """Return whether no chunk is missing."""
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
        """Return the table.

        Args:
            columns: the names of the columns to read, in this order; by default all columns.
            partial: whether to return the stored rows of an unfinished folder.

        Returns:
            A table with one row per loss and point, ordered by loss and then by axes in C order,
            with a RangeIndex.

        Raises:
            StorageError: a column is unknown, the folder is unfinished, or a part is damaged.
        """
        chosen = self._chosen(columns)
        return table.frame(chosen, self._arrays(chosen, partial))

    def _chosen(self, names: Sequence[str] | None) -> tuple[Column, ...]:
        if names is None:
            return self.columns
        known = {column.name: column for column in self.columns}
        distinct = dict.fromkeys([names] if isinstance(names, str) else names)
        unknown = [name for name in distinct if name not in known]
        if unknown:
            raise StorageError(
                f"{self.path} has no column {', '.join(map(repr, unknown))}; "
                f"it has {', '.join(known)}"
            )
        return tuple(known[name] for name in distinct)

    def _arrays(self, columns: Sequence[Column], partial: bool) -> Arrays:
        chunks = self._present()
        lacking = len(self.plan) - len(chunks)
        if lacking and not partial:
            raise StorageError(
                f"{self.path} is unfinished: {lacking} of {len(self.plan)} parts are "
                "missing or damaged; run the sweep again to finish it, "
                "or read the stored rows with frame(partial=True)"
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
        """Return the rows of one chunk, or None if its part is missing or damaged.

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
        """Return the number of stored rows with each status, in the order of the statuses."""
        statuses = self.frame(["status"], partial=True)["status"]
        counted = statuses.value_counts(sort=False)
        return {str(status): int(counted[status]) for status in statuses.cat.categories}

    def to_xarray(self) -> "xarray.Dataset":
        """Return the table as a dataset with one dimension for the loss and one for each axis.

        The dimension of an axis has the name of its coordinate. The dimension of a `points` or
        `zip` axis joins its names by "_", and has each of them as a coordinate. Fixed coordinates
        are scalars. Categories are strings, and None for a null. Integers without nulls are int64.
        Integers with nulls are float64 with NaN or, if one is above 2⁵³ where float64 would round
        it, Python integers with None.

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
        """Read everything, and return a description of each damage; empty if nothing is damaged."""
        return find_damages(self.path)


def _matched(losses: Sequence[Any], functions: Sequence[Callable[..., Any]]) -> list[Any]:
    """Return the losses of a spec, with functions in place of references to their names."""
    by_name = {name_of(function): function for function in functions}
    return [loss if isinstance(loss, str) else by_name.get(loss["name"], loss) for loss in losses]


def open_results(
    path: str | PathLike[str], experiment: Any = None, losses: Sequence[Callable[..., Any]] = ()
) -> Results:
    """Open a folder of results, finished or not.

    Args:
        path: the folder.
        experiment: your own experiment that computed the folder; with it, `.sweep` is complete. It
            is compared with the description and the digest that the folder holds.
        losses: your own functions among the losses of the sweep, for the same purpose.

    Raises:
        StorageError: the folder does not exist, holds no results, a damaged manifest or a newer
            format, or the experiment or losses did not compute these results.

    Example:
        >>> import plateaumap as pm
        >>> _ = pm.run(pm.Sweep(fixed={"w0": 2, "b0": 2, "lr": 0.15}), out="results/one")
        >>> pm.open("results/one").plan.rows
        2
    """
    return Results(path, experiment, losses)


def load(path: str | PathLike[str]) -> pd.DataFrame:
    """Return the table of a finished folder of results, `pm.open(path).frame()`.

    Raises:
        StorageError: see `open_results` and `Results.frame`.

    Example:
        >>> import plateaumap as pm
        >>> _ = pm.run(pm.Sweep(fixed={"w0": 2, "b0": 2, "lr": 0.15}), out="results/one")
        >>> pm.load("results/one")["plateau_epochs"].tolist()
        [152, 2]
    """
    return open_results(path).frame()
