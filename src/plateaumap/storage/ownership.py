"""Decides whether a folder is free, holds a given sweep, or must be left alone."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from plateaumap.storage import files, lock, parts
from plateaumap.storage.errors import DamagedManifestError, StorageError, not_writable
from plateaumap.storage.manifest import MANIFEST, Manifest, describe_difference, read_manifest
from plateaumap.storage.parts import PARTS
from plateaumap.sweep import circumstances
from plateaumap.table.columns import Column

_DAMAGED_MANIFEST = "manifest.damaged.json"


class RefusedError(StorageError):
    """A folder is neither free nor a folder of this sweep.

    Attributes:
        movable: whether it holds results of a sweep, so that `force` may move it aside.
    """

    def __init__(self, path: Path, problem: str, detail: str = "") -> None:
        """Complete the description of a problem with what to do about it."""
        self.movable = (path / PARTS).is_dir() and (
            (path / MANIFEST).exists() or bool(_part_files(path))
        )
        remedy = "choose another folder"
        if self.movable:
            remedy += ", or move this one aside with --force (force=True)"
        super().__init__(f"{problem}; {remedy}" + (f".\n{detail}" if detail else ""))


def find(path: Path, new: Manifest, mix_versions: bool = False) -> Manifest | None:
    """Return the manifest of the same sweep in a folder, or None if the folder is free.

    Nothing is changed. If the manifest is damaged or lost, and all parts state that they belong to
    this sweep, the result is a new manifest with `rebuilt = True`. It lists no parts, so that each
    part is read before it is trusted.

    Args:
        path: the folder.
        new: the manifest of the sweep.
        mix_versions: whether a sweep is the same if only JAX or its settings differ.

    Raises:
        RefusedError: the folder is neither free nor a folder of this sweep.
        StorageError: the folder cannot be read.
    """
    try:
        if not path.exists() or _is_free(path):
            return None
        if not path.is_dir():
            raise RefusedError(path, f"{path} is a file")
        old = _read(path, new)
    except OSError as error:
        raise not_writable(path, error) from error
    _require_same(path, old, new, mix_versions)
    return old


def _is_free(path: Path) -> bool:
    """Return whether a folder holds at most what a run leaves that is killed as it starts."""
    return path.is_dir() and all(_is_leftover(item) for item in path.iterdir())


def _is_leftover(item: Path) -> bool:
    if item.name == PARTS and item.is_dir():
        return not any(item.iterdir())
    return item.name in (lock.LOCK, lock.OWNER) or files.is_temporary(item)


def _part_files(path: Path) -> Sequence[Path]:
    return sorted((path / PARTS).glob("part-*.parquet"))


def _read(path: Path, new: Manifest) -> Manifest:
    try:
        if (path / MANIFEST).exists():
            return read_manifest(path)[0]
        problem = f"{path} holds files but no {MANIFEST}"
    except DamagedManifestError as error:
        problem = str(error)
    except StorageError as error:
        raise RefusedError(path, str(error)) from error
    rebuilt = _rebuild(path, new)
    if rebuilt is None:
        raise RefusedError(path, problem)
    return rebuilt


def _rebuild(path: Path, new: Manifest) -> Manifest | None:
    """Return a manifest without parts, if every readable part belongs to the same sweep."""
    identities = [identity for file in _part_files(path) if (identity := parts.identity_of(file))]
    if not identities or any(identity != identities[0] for identity in identities):
        return None
    fingerprint, plan, spec = identities[0]
    if fingerprint != new.fingerprint:
        return None
    spec = new.spec if spec is None else spec
    return Manifest(spec, fingerprint, plan, new.columns, new.provenance, rebuilt=True)


def _require_same(path: Path, old: Manifest, new: Manifest, mix_versions: bool) -> None:
    if old.fingerprint != new.fingerprint and not (
        mix_versions and environment_differences(old, new)
    ):
        _refuse_circumstances(path, old, new)
        difference = describe_difference(old.spec, new.spec)
        raise RefusedError(
            path,
            f"{path} holds another sweep",
            difference or f"  fingerprint: {old.fingerprint} there, {new.fingerprint} here",
        )
    if _types(old.columns) != _types(new.columns):
        names = {column.name for column in old.columns} ^ {c.name for c in new.columns}
        differing = ", ".join(sorted(names)) or "the same names, but other types"
        raise RefusedError(path, f"{path} holds this sweep with other columns ({differing})")
    if (old.plan.points, old.plan.losses) != (new.plan.points, new.plan.losses):
        raise RefusedError(path, f"{path} holds this sweep with another number of rows")


def environment_differences(old: Manifest, new: Manifest) -> list[str]:
    """Return how JAX and its settings differ, if two sweeps are known to differ in nothing else."""
    one, other = (circumstances.comparable(m.spec, digests=False) for m in (old, new))
    return circumstances.environment_differences(old.spec, new.spec) if one == other else []


def _refuse_circumstances(path: Path, old: Manifest, new: Manifest) -> None:
    """Raise with that reason if another version of this package, or of JAX, computed the rows."""
    differing = circumstances.version_differences(old.spec, new.spec)
    if differing:
        raise RefusedError(
            path,
            f"{path} holds rows computed by {'; '.join(differing)}: they can be read, but new "
            "rows may differ",
        )
    differing = environment_differences(old, new)
    if differing:
        raise RefusedError(
            path,
            f"{path} holds rows of this sweep computed under other circumstances: "
            f"{'; '.join(differing)}, so that new rows may differ; continue under the old "
            "circumstances, or mix the rows with --mix-versions (mix_versions=True)",
        )


def _types(columns: Sequence[Column]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(column.name, column.dtype, column.categories) for column in columns]


def create(path: Path, new: Manifest) -> Manifest:
    """Create the folder and its manifest, or return the manifest that another run just created.

    Raises:
        StorageError: the folder cannot be created or written to, or now holds another sweep.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(path, error) from error
    with lock.writer_lock(path):
        old = find(path, new)
        if old is not None:
            return old
        try:
            (path / PARTS).mkdir(exist_ok=True)
            new.save(path)
        except OSError as error:
            raise not_writable(path, error) from error
    return new


def move_aside(path: Path) -> Path:
    """Rename a folder that no run is writing to, and return its new path.

    Raises:
        LockedError: a run is writing to it.
        StorageError: it cannot be renamed.
    """
    path = path.absolute()
    holder = lock.exclusive(path) if (path / lock.LOCK).exists() else contextlib.nullcontext()
    with holder:
        number = 1
        while (aside := path.with_name(f"{path.name}.aside-{number}")).exists():
            number += 1
        try:
            path.rename(aside)
            files.sync_folder(aside.parent)
        except OSError as error:
            raise not_writable(path, error) from error
    return aside


def set_damaged_manifest_aside(path: Path) -> None:
    """Rename a manifest that could not be read, before a new one takes its place."""
    with contextlib.suppress(FileNotFoundError):
        (path / MANIFEST).replace(path / _DAMAGED_MANIFEST)
