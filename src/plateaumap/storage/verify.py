"""Finds the damages in a folder of results, by reading all of it."""

from pathlib import Path

from plateaumap.storage import parts
from plateaumap.storage.errors import DamagedManifestError
from plateaumap.storage.manifest import MANIFEST, checksum, read_manifest
from plateaumap.storage.parts import PARTS, DamagedPartError


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
    damages = []
    if data.get("checksum") != checksum(data):
        damages.append(f"{MANIFEST} was changed after it was written: its checksum does not match")
    for index in sorted(parts.present(folder, manifest) | manifest.parts.keys()):
        chunk = manifest.plan[index]
        try:
            if index in manifest.parts:
                parts.check_bytes(folder, manifest, chunk)
            parts.check_rows(folder, manifest, chunk)
        except DamagedPartError as error:
            last_row = chunk.first_row + chunk.rows - 1
            damages.append(f"{PARTS}/{error} (rows {chunk.first_row} to {last_row})")
    # A reader of all of `parts/` would take any other file for rows of this sweep.
    names = {parts.part_name(manifest.plan, chunk.index) for chunk in manifest.plan}
    for path in sorted((folder / PARTS).glob("[!.]*")):
        if path.name not in names:
            damages.append(f"{PARTS}/{path.name} is not a part of this sweep")
    return damages
