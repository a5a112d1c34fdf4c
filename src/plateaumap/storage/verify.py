"""Finds the damages in a folder of results, by reading all of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plateaumap.storage import parts
from plateaumap.storage.errors import DamagedManifestError
from plateaumap.storage.manifest import MANIFEST, Manifest, checksum, read_manifest
from plateaumap.storage.parts import PARTS, DamagedPartError
from plateaumap.sweep.chunks import Chunk


def find_damages(folder: Path) -> list[str]:
    """Return a description of each damage in a folder of results; empty if nothing is damaged.

    The manifest is compared with its checksum. The bytes of every part are compared with the
    manifest, its footer with its place in the sweep (rows, sweep, plan, columns), and its decoded
    rows with their content hash. A part that was written and is gone is a damage; a part that was
    never written is not.

    Raises:
        StorageError: the folder does not exist, holds no results, or has a newer format.
    """
    try:
        manifest, data = read_manifest(folder)
    except DamagedManifestError as error:
        return [str(error)]
    return [
        *_manifest_damages(data),
        *_part_damages(folder, manifest),
        *_foreign_files(folder, manifest),
    ]


def _manifest_damages(data: Mapping[str, Any]) -> Iterator[str]:
    if data.get("checksum") != checksum(data):
        yield f"{MANIFEST} was changed after it was written: its checksum does not match"


def _part_damages(folder: Path, manifest: Manifest) -> Iterator[str]:
    for index in sorted(parts.present(folder, manifest) | manifest.parts.keys()):
        chunk = manifest.plan[index]
        damage = _damage(folder, manifest, chunk)
        if damage:
            yield f"{PARTS}/{damage} (rows {chunk.first_row} to {chunk.first_row + chunk.rows - 1})"


def _damage(folder: Path, manifest: Manifest, chunk: Chunk) -> str | None:
    try:
        if chunk.index in manifest.parts:
            parts.check_bytes(folder, manifest, chunk)
        parts.check_rows(folder, manifest, chunk)
    except DamagedPartError as error:
        return str(error)
    return None


def _foreign_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield the files that a reader of all of `parts/` would take for rows of this sweep."""
    names = {parts.part_name(manifest.plan, chunk.index) for chunk in manifest.plan}
    for path in sorted((folder / PARTS).glob("[!.]*")):
        if path.name not in names:
            yield f"{PARTS}/{path.name} is not a part of this sweep"
