"""Writes a folder of results: parts, manifest and failures.

```
manifest.json                the spec, the chunk plan, and the parts that are stored
parts/part-00000.parquet …   the rows of one chunk each
.lock, .lock-owner.json      one writer at a time (`plateaumap.storage.lock`)
```

A part appears whole or not at all (write, fsync, rename, fsync of the folder), and carries the
content hash of its rows. The manifest lists the parts. It is rewritten, whole or not at all, every
few seconds and at the end of a run, however the run ends. After a kill -9 the manifest may lack a
few parts: they are read, compared with their own hashes, and listed.
"""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from plateaumap.storage import files, lock, ownership, parts
from plateaumap.storage.errors import StorageError, not_writable, write_failed
from plateaumap.storage.manifest import MANIFEST, Manifest, PartEntry, canonical
from plateaumap.storage.parts import PARTS, DamagedPartError
from plateaumap.storage.results import Results
from plateaumap.sweep.chunks import Chunk, Plan

SAVE_EVERY = 5.0
"""Seconds between two manifests while parts are written."""

SAVE_SHARE = 20
"""A manifest takes at most one part in this of the time, however long it is."""


class Store:
    """A folder of results that one run at a time fills.

    ```
    store = Store.create_or_resume(path, manifest)
    with store.lock():
        for index in store.missing(verify=True):
            store.write(store.plan[index], arrays)
        results = store.finish()
    ```

    Attributes:
        path: the folder.
        plan: how rows are divided into parts. A folder keeps the plan that it was created with.
        moved_aside: where `force` moved the folder that was there before; otherwise None.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        provenance: Mapping[str, Any],
        moved_aside: Path | None = None,
    ) -> None:
        """Bind a folder; use `create_or_resume`, which checks it."""
        self.path = path
        self.moved_aside = moved_aside
        self._manifest = manifest
        self._provenance = dict(provenance)
        self._guard = threading.RLock()
        self._locked = False
        self._dirty = False
        self._next_save = 0.0

    @property
    def plan(self) -> Plan:
        """Return how rows are divided into parts."""
        return self._manifest.plan

    @classmethod
    def create_or_resume(
        cls, path: Path, new: Manifest, force: bool = False, mix_versions: bool = False
    ) -> "Store":
        """Create the folder, or resume the same sweep in it.

        Args:
            path: the folder; missing parent folders are created.
            new: the manifest of a new folder. A folder of the same sweep keeps its own plan. The
                time is added to its provenance.
            force: whether to rename a folder that would be refused; it is never deleted. A folder
                of the same sweep is resumed in any case.
            mix_versions: whether to continue a folder although another version of JAX, or other
                settings of JAX, computed its rows of a user's own functions.

        Raises:
            StorageError: the path is a file or cannot be written to; the folder holds another
                sweep, other columns, a newer format or foreign files. Nothing is changed.
            LockedError: another run is writing to the folder.
        """
        # Through JSON, so that the provenance equals what a stored manifest returns.
        stamp = {"utc_time": datetime.now(UTC).isoformat(timespec="seconds")}
        provenance = json.loads(canonical({**stamp, **new.provenance}))
        new = dataclasses.replace(new, provenance=provenance)
        moved_aside = None
        try:
            manifest = ownership.find(path, new, mix_versions)
        except ownership.RefusedError as refusal:
            if not (force and refusal.movable):
                raise
            moved_aside, manifest = ownership.move_aside(path), None
        if manifest is None:
            manifest = ownership.create(path, new)
        mixed = ownership.environment_differences(manifest, new)
        mark = {"mixed_versions": mixed} if mixed else {}
        return cls(path, manifest, {**provenance, **mark}, moved_aside)

    @classmethod
    def find(cls, path: Path, new: Manifest, mix_versions: bool = False) -> "Store | None":
        """Return the store that `create_or_resume` would resume, or None if it would create one.

        Nothing is changed, so that a caller can learn before a run what is missing.

        Raises:
            StorageError: see `create_or_resume` without `force`.
        """
        manifest = ownership.find(path, new, mix_versions)
        return None if manifest is None else cls(path, manifest, new.provenance)

    @contextlib.contextmanager
    def lock(self) -> Iterator["Store"]:
        """Hold the folder for this run; at the end, the manifest lists every stored part.

        Raises:
            LockedError: another run holds it; the message names its process, host and start.
            StorageError: the folder cannot be written to, or now holds another sweep.
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
        """Take over what earlier runs left, now that no other run can change it."""
        manifest = ownership.find(self.path, self._manifest)
        if manifest is None:
            raise StorageError(f"{self.path} was removed or emptied during the run; run it again")
        try:
            (self.path / PARTS).mkdir(exist_ok=True)
            for folder in (self.path, self.path / PARTS):
                files.remove_temporary(folder)
            if manifest.rebuilt:
                ownership.set_damaged_manifest_aside(self.path)
        except OSError as error:
            raise not_writable(self.path, error) from error
        self._manifest = manifest
        self._locked = True
        self._dirty = manifest.rebuilt
        self._next_save = time.monotonic() + SAVE_EVERY

    def missing(self, verify: bool = False) -> list[int]:
        """Return the numbers of the chunks that have no part or a damaged part, in order.

        A part must have a readable footer with the right rows, sweep, columns and size. Parts that
        the manifest does not list are always read in full.

        Args:
            verify: whether to compare every byte of the listed parts with the manifest, too.
        """
        with self._guard:
            present = parts.present(self.path, self._manifest)
            missing = [
                chunk.index
                for chunk in self.plan
                if chunk.index not in present or not self._is_sound(chunk, verify)
            ]
            for index in missing:
                if self._manifest.parts.pop(index, None) is not None:
                    self._dirty = True
            if self._locked:
                # Before a new part replaces a damaged one, the manifest must not list the old one.
                self._save()
            return missing

    def _is_sound(self, chunk: Chunk, verify: bool) -> bool:
        try:
            if chunk.index not in self._manifest.parts:
                self._list(parts.entry_of(self.path, self._manifest, chunk))
                return True
            if verify:
                parts.check_bytes(self.path, self._manifest, chunk)
            parts.check_part(self.path, self._manifest, chunk)
        except DamagedPartError:
            return False
        return True

    def _list(self, entry: PartEntry) -> None:
        self._manifest.parts[entry.part] = entry
        self._manifest.failures.pop(entry.part, None)
        self._dirty = True

    def write(self, chunk: Chunk, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a chunk's rows as its part, whole or not at all. Several threads may write.

        Raises:
            ValueError: the arrays do not fit the columns.
            WriteError: the disk is full or not writable; the run can be resumed.
            RuntimeError: the caller does not hold `lock()`.
        """
        if not self._locked:
            raise RuntimeError("Store.write must be called inside `with store.lock()`")
        try:
            entry = parts.write_part(self.path, self._manifest, chunk, arrays)
        except OSError as error:
            path = parts.part_path(self.path, self.plan, chunk.index)
            raise write_failed(path, error) from error
        with self._guard:
            self._add_provenance()
            self._list(entry)
            if time.monotonic() >= self._next_save:
                self._save()

    def _add_provenance(self) -> None:
        """Add this run's provenance, if its circumstances differ from those of earlier runs."""
        known = [self._manifest.provenance, *self._manifest.resumed]
        if not any(_same_circumstances(self._provenance, other) for other in known):
            self._manifest.resumed.append(self._provenance)

    def record_failures(self, failures: Mapping[int, str]) -> None:
        """Store the messages of failed chunks; each is kept until its part is written.

        Raises:
            WriteError: the disk is full or not writable.
        """
        with self._guard:
            self._manifest.failures.update(failures)
            self._dirty = True
            self._save()

    def finish(self) -> Results:
        """List all parts in the manifest, and return the folder for reading.

        Raises:
            WriteError: the disk is full or not writable.
        """
        self._save()
        return Results(self.path)

    def _save(self) -> None:
        with self._guard:
            if not self._dirty:
                return
            start = time.monotonic()
            try:
                self._manifest.save(self.path)
            except OSError as error:
                raise write_failed(self.path / MANIFEST, error) from error
            self._dirty = False
            end = time.monotonic()
            self._next_save = end + max(SAVE_EVERY, SAVE_SHARE * (end - start))

    def expected_bytes(self, chunks: Iterable[int]) -> int:
        """Return about how many bytes the parts of some chunks take."""
        return self._manifest.expected_bytes(chunks)


def _same_circumstances(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two runs differ at most in their time and their command."""
    incidental = {"utc_time": None, "command": None}
    return {**one, **incidental} == {**other, **incidental}
