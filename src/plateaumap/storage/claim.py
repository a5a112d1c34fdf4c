"""Whether a folder is free, holds the sweep that is asked for, or is to be left alone."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from plateaumap.storage import files, lock, parts
from plateaumap.storage.errors import DamagedManifestError, StorageError, not_writable
from plateaumap.storage.manifest import MANIFEST, Manifest, describe_difference, read_manifest
from plateaumap.storage.parts import PARTS
from plateaumap.sweep import circumstances
from plateaumap.table.columns import Column

_DAMAGED_MANIFEST = "manifest.damaged.json"


class RefusedError(StorageError):
    """A folder is not free and not this sweep's.

    Attributes:
        movable: whether it holds results of a sweep, so that `force` may move it aside.
    """

    def __init__(self, path: Path, problem: str, detail: str = "") -> None:
        """Ends the `problem` with what can be done about it."""
        self.movable = _holds_results(path)
        remedy = "choose another folder"
        if self.movable:
            remedy += ", or move this one aside with --force (force=True)"
        super().__init__(f"{problem}; {remedy}" + (f".\n{detail}" if detail else ""))


class Found(NamedTuple):
    """A folder that holds the sweep asked for.

    Attributes:
        manifest: its manifest.
        rebuilt: whether that had to be made anew from what the parts say of themselves.
    """

    manifest: Manifest
    rebuilt: bool


def find(path: Path, wanted: Manifest, mix_versions: bool = False) -> Found | None:
    """The same sweep in a folder; None where the folder is free to take. Changes nothing.

    With `mix_versions` a sweep counts as the same where only JAX or its settings differ.

    Where the manifest is damaged or lost, and all parts say that they are of this sweep, a new
    one is made that lists none of them, so that each is read before it is trusted.

    Raises:
        RefusedError: the folder is not free and not this sweep's.
        StorageError: the folder cannot be looked into.
    """
    try:
        if not path.exists() or _is_free(path):
            return None
        if not path.is_dir():
            raise RefusedError(path, f"{path} is a file")
        found = _read(path, wanted)
    except OSError as error:
        raise not_writable(path, error) from error
    _require_same(path, found.manifest, wanted, mix_versions)
    return found


def _is_free(path: Path) -> bool:
    """Whether a folder holds nothing, or only what a run leaves that is killed as it starts."""
    return path.is_dir() and all(_is_leftover(item) for item in path.iterdir())


def _is_leftover(item: Path) -> bool:
    if item.name == PARTS and item.is_dir():
        return not any(item.iterdir())
    return item.name in (lock.LOCK, lock.OWNER) or files.is_temporary(item)


def _holds_results(path: Path) -> bool:
    return (path / PARTS).is_dir() and ((path / MANIFEST).exists() or any(_part_files(path)))


def _part_files(path: Path) -> Sequence[Path]:
    return sorted((path / PARTS).glob("part-*.parquet"))


def _read(path: Path, wanted: Manifest) -> Found:
    try:
        if (path / MANIFEST).exists():
            return Found(read_manifest(path)[0], rebuilt=False)
        problem = f"{path} holds files but no {MANIFEST}"
    except DamagedManifestError as error:
        problem = str(error)
    except StorageError as error:
        raise RefusedError(path, str(error)) from error
    rebuilt = _rebuilt(path, wanted)
    if rebuilt is None:
        raise RefusedError(path, problem)
    return Found(rebuilt, rebuilt=True)


def _rebuilt(path: Path, wanted: Manifest) -> Manifest | None:
    """A manifest without entries, where every part that can say so is of the sweep asked for."""
    told = [identity for file in _part_files(path) if (identity := parts.identity_of(file))]
    if not told or any(identity != told[0] for identity in told):
        return None
    if told[0].fingerprint != wanted.fingerprint:
        return None
    spec = told[0].spec if told[0].spec is not None else wanted.spec
    return Manifest(spec, wanted.fingerprint, told[0].plan, wanted.columns, wanted.provenance)


def _require_same(path: Path, found: Manifest, wanted: Manifest, mix_versions: bool) -> None:
    if found.fingerprint != wanted.fingerprint and not (
        mix_versions and differ_in_environment(found, wanted)
    ):
        _refuse_circumstances(path, found, wanted)
        difference = describe_difference(found.spec, wanted.spec)
        raise RefusedError(
            path,
            f"{path} holds another sweep",
            difference or f"  fingerprint: {found.fingerprint} there, {wanted.fingerprint} here",
        )
    if _types(found.columns) != _types(wanted.columns):
        names = {column.name for column in found.columns} ^ {c.name for c in wanted.columns}
        told = ", ".join(sorted(names)) or "the same names, but other types"
        raise RefusedError(path, f"{path} holds this sweep with other columns ({told})")
    if (found.plan.points, found.plan.losses) != (wanted.plan.points, wanted.plan.losses):
        raise RefusedError(path, f"{path} holds this sweep with another number of rows")


def differ_in_environment(found: Manifest, wanted: Manifest) -> list[str]:
    """In what JAX and its settings differ, if two sweeps are known to differ in nothing else."""
    one, other = (circumstances.comparable(m.spec, digests=False) for m in (found, wanted))
    differing = circumstances.environment_differences(found.spec, wanted.spec)
    return differing if one == other else []


def _refuse_circumstances(path: Path, found: Manifest, wanted: Manifest) -> None:
    """Refuse rows of another version of this package, or of JAX, with that reason."""
    differing = circumstances.version_differences(found.spec, wanted.spec)
    if differing:
        raise RefusedError(
            path,
            f"{path} holds rows computed by {'; '.join(differing)}: they can be read, but new "
            "rows may differ",
        )
    differing = differ_in_environment(found, wanted)
    if differing:
        raise RefusedError(
            path,
            f"{path} holds rows of this sweep made under other circumstances: "
            f"{'; '.join(differing)}, so that new rows may differ; continue under the old ones, or "
            "all the same with --mix-versions (mix_versions=True)",
        )


def _types(columns: Sequence[Column]) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(column.name, column.dtype, column.categories) for column in columns]


def create(path: Path, wanted: Manifest) -> Manifest:
    """Makes the folder and its manifest, or takes the one that another run has just made.

    Raises:
        StorageError: the folder cannot be made or written to, or is another sweep's by now.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(path, error) from error
    with lock.writer_lock(path):
        found = find(path, wanted)
        if found is not None:
            return found.manifest
        try:
            (path / PARTS).mkdir(exist_ok=True)
            wanted.save(path)
        except OSError as error:
            raise not_writable(path, error) from error
    return wanted


def move_aside(path: Path) -> Path:
    """Renames a folder that no run is writing to, and returns its new name.

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
    """Renames a manifest that could not be read, before a new one takes its place."""
    with contextlib.suppress(FileNotFoundError):
        (path / MANIFEST).replace(path / _DAMAGED_MANIFEST)
