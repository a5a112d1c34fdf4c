"""The writer's side of a folder of results.

```
manifest.json                what was asked, how it was cut, what is there
parts/part-00000.parquet …   one chunk's rows each
.lock, .lock-owner.json      one writer at a time (`plateaumap.storage.lock`)
```

A part appears whole or not at all (write, fsync, rename, fsync of the folder), and carries the
content hash of its rows. The manifest lists the parts; it is rewritten, whole or not at all, every
few seconds and at the end of a run, however the run ends. After a kill -9 a few parts may be there
that it does not list: they are read, compared with their own hashes, and listed.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from plateaumap.storage import claim, files, lock, parts
from plateaumap.storage.errors import StorageError, not_writable, write_failed
from plateaumap.storage.manifest import MANIFEST, Manifest, PartEntry, canonical
from plateaumap.storage.parts import PARTS, DamagedPartError
from plateaumap.storage.results import Results
from plateaumap.storage.verify import find_damages
from plateaumap.sweep.chunks import Chunk, Plan
from plateaumap.table.columns import Column

_SAVE_EVERY = 5.0  # seconds between manifests while parts come in
_SAVE_SHARE = 20  # and never more than one part in this of the time, however long it is


class Store:
    """A folder of results, to be filled by one run at a time.

    ```
    store = Store.create_or_resume(path, spec, fingerprint, columns, plan, provenance)
    with store.lock():
        for index in store.missing(verify=True):
            store.write(store.plan[index], arrays)
        results = store.finish()
    ```

    Attributes:
        path: the folder.
        plan: how rows are cut into parts. A folder keeps the plan that it was made with.
        columns: the table's columns.
        moved_aside: where `force` moved the folder that stood there before; None otherwise.
    """

    def __init__(self, path: Path, manifest: Manifest, provenance: Mapping[str, Any]) -> None:
        """Use `create_or_resume`, which checks the folder."""
        self.path = path
        self.moved_aside: Path | None = None
        self._manifest = manifest
        self._provenance = dict(provenance)
        self._guard = threading.RLock()
        self._locked = False
        self._dirty = False
        self._next_save = 0.0

    @property
    def plan(self) -> Plan:
        """How rows are cut into parts."""
        return self._manifest.plan

    @property
    def columns(self) -> tuple[Column, ...]:
        """The table's columns."""
        return self._manifest.columns

    @classmethod
    def create_or_resume(
        cls,
        path: Path | str,
        spec: dict[str, Any],
        fingerprint: str,
        columns: Sequence[Column],
        plan: Plan,
        provenance: Mapping[str, Any],
        force: bool = False,
        mix_versions: bool = False,
    ) -> "Store":
        """Makes the folder, or finds the same sweep in it.

        Args:
            path: the folder; folders above it are made as needed.
            spec: the sweep as JSON-ready data.
            fingerprint: the identity of the sweep.
            columns: the table's columns.
            plan: how to cut the rows; a folder of the same sweep keeps its own.
            provenance: what to tell in the manifest about versions, precision, platform, git
                commit and the like. `utc_time` is added.
            force: move a folder that would be refused aside, to a free name; it is never
                deleted. A folder of the same sweep is resumed all the same.
            mix_versions: continue a folder although its rows of what a user wrote were made by
                another JAX, or under other settings of it.

        Raises:
            StorageError: the path is a file or cannot be written to; the folder holds another
                sweep, other columns, a newer format or foreign files. Nothing is touched.
            LockedError: another run is writing to the folder.
        """
        path = Path(path)
        wanted = _wanted(spec, fingerprint, columns, plan, provenance)
        moved = None
        try:
            found = claim.find(path, wanted, mix_versions)
        except claim.RefusedError as refusal:
            if not (force and refusal.movable):
                raise
            moved, found = claim.move_aside(path), None
        manifest = claim.create(path, wanted) if found is None else found.manifest
        mixed = claim.differ_in_environment(manifest, wanted)
        mark = {"mixed_versions": mixed} if mixed else {}
        store = cls(path, manifest, {**wanted.provenance, **mark})
        store.moved_aside = moved
        return store

    @classmethod
    def find(
        cls,
        path: Path | str,
        spec: dict[str, Any],
        fingerprint: str,
        columns: Sequence[Column],
        plan: Plan,
        mix_versions: bool = False,
    ) -> "Store | None":
        """What `create_or_resume` would resume; None where it would make a folder.

        Nothing is touched, so this is how to ask what is missing before a run.

        Raises:
            StorageError: as `create_or_resume` without `force`.
        """
        wanted = _wanted(spec, fingerprint, columns, plan, {})
        found = claim.find(Path(path), wanted, mix_versions)
        return None if found is None else cls(Path(path), found.manifest, wanted.provenance)

    @contextlib.contextmanager
    def lock(self) -> Iterator["Store"]:
        """Holds the folder for this run; however it ends, the manifest lists what is there.

        Raises:
            LockedError: another run holds it; the message names its process, host and start.
            StorageError: the folder cannot be written to, or became another sweep's.
        """
        with lock.writer_lock(self.path):
            self._enter()
            try:
                yield self
            except BaseException:
                with contextlib.suppress(StorageError):
                    self._save()
                raise
            else:
                self._save()
            finally:
                self._locked = False

    def _enter(self) -> None:
        """Takes over what earlier runs left, now that nobody else changes it."""
        found = claim.find(self.path, self._manifest)
        if found is None:
            raise StorageError(f"{self.path} was removed or emptied meanwhile; run again")
        try:
            (self.path / PARTS).mkdir(exist_ok=True)
            for folder in (self.path, self.path / PARTS):
                files.remove_temporary(folder)
            if found.rebuilt:
                claim.set_damaged_manifest_aside(self.path)
        except OSError as error:
            raise not_writable(self.path, error) from error
        self._manifest = found.manifest
        self._locked = True
        self._dirty = found.rebuilt
        self._next_save = time.monotonic() + _SAVE_EVERY

    def missing(self, verify: bool = False) -> list[int]:
        """The chunks that have no part, or a damaged one, in order.

        A part must have a readable footer with the right rows, sweep, columns and size. Parts
        that the manifest does not list are always read in full.

        Args:
            verify: compare every byte of the listed parts with the manifest, too.
        """
        with self._guard:
            there = parts.present(self.path, self._manifest)
            lacking = [
                chunk.index
                for chunk in self.plan
                if chunk.index not in there or not self._is_sound(chunk, verify)
            ]
            self._unlist(lacking)
            return lacking

    def _is_sound(self, chunk: Chunk, verify: bool) -> bool:
        listed = chunk.index in self._manifest.parts
        try:
            if not listed:
                parts.check_rows(self.path, self._manifest, chunk)
                self._list(parts.entry_of(self.path, self._manifest, chunk))
            else:
                if verify:
                    parts.check_bytes(self.path, self._manifest, chunk)
                parts.check_part(self.path, self._manifest, chunk)
        except DamagedPartError:
            return False
        return True

    def _unlist(self, lacking: Iterable[int]) -> None:
        for index in lacking:
            if self._manifest.parts.pop(index, None) is not None:
                self._dirty = True
        if self._locked:
            # Before a new part takes a damaged one's place, nothing must vouch for the old.
            self._save()

    def _list(self, entry: PartEntry) -> None:
        self._manifest.parts[entry.part] = entry
        self._manifest.failures.pop(entry.part, None)
        self._dirty = True

    def write(self, chunk: Chunk, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a chunk's rows as its part, whole or not at all. Threads may write at once.

        Raises:
            ValueError: the arrays do not fit the columns.
            WriteError: the disk is full or not writable; the folder can be resumed.
            RuntimeError: the caller does not hold `lock()`.
        """
        if not self._locked:
            raise RuntimeError("Store.write outside of `with store.lock()`")
        try:
            entry = parts.write_part(self.path, self._manifest, chunk, arrays)
        except OSError as error:
            path = parts.part_path(self.path, self.plan, chunk.index)
            raise write_failed(path, error) from error
        with self._guard:
            self._tell_provenance()
            self._list(entry)
            if time.monotonic() >= self._next_save:
                self._save()

    def _tell_provenance(self) -> None:
        """Adds this run's provenance, if it wrote parts under other circumstances than before."""
        known = [self._manifest.provenance, *self._manifest.resumed]
        if not any(_same_circumstances(self._provenance, other) for other in known):
            self._manifest.resumed.append(self._provenance)

    def record_failures(self, failures: Mapping[int, str]) -> None:
        """Keeps the messages of chunks that failed, until their parts are written.

        Raises:
            WriteError: the disk is full or not writable.
        """
        with self._guard:
            self._manifest.failures.update(failures)
            self._dirty = True
            self._save()

    def finish(self) -> Results:
        """Lists all parts in the manifest and returns the folder to read.

        Raises:
            WriteError: the disk is full or not writable.
        """
        self._save()
        return Results(self.path)

    def _save(self) -> None:
        with self._guard:
            if not self._dirty:
                return
            began = time.monotonic()
            try:
                self._manifest.save(self.path)
            except OSError as error:
                raise write_failed(self.path / MANIFEST, error) from error
            self._dirty = False
            ended = time.monotonic()
            self._next_save = ended + max(_SAVE_EVERY, _SAVE_SHARE * (ended - began))

    def verify(self) -> list[str]:
        """Reads everything and says what is damaged, one line each; nothing is changed."""
        return find_damages(self.path)

    def expected_bytes(self, chunks: Iterable[int]) -> int:
        """About how many bytes the parts of these chunks take.

        From the parts that are there, if any; else by `plateaumap.storage.space`.
        """
        return self._manifest.expected_bytes(chunks)


def _same_circumstances(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs differ at most in when and how they were called."""
    incidental = {"utc_time": None, "command": None}
    return {**one, **incidental} == {**other, **incidental}


def _wanted(
    spec: dict[str, Any],
    fingerprint: str,
    columns: Sequence[Column],
    plan: Plan,
    provenance: Mapping[str, Any],
) -> Manifest:
    stamp = {"utc_time": datetime.now(UTC).isoformat(timespec="seconds")}
    # Through JSON, so that it compares equal to what a manifest gives back.
    told = json.loads(canonical({**stamp, **provenance}))
    return Manifest(spec, fingerprint, plan, tuple(columns), told)
