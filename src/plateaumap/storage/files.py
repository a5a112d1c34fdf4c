"""Writes files that appear whole or not at all."""

import contextlib
import os
import secrets
from pathlib import Path

_SUFFIX = ".tmp"


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write data to a dot-file beside a path, flush it to the disk, and rename it.

    Whenever the process or the machine stops, the path holds its old content or all of the new
    content. If writing fails, the dot-file is removed.

    Raises:
        OSError: the disk is full, not writable, or gone.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, so that a rename survives a power cut."""
    if os.name == "nt":  # Windows cannot open a folder, and journals renames itself.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary(path: Path) -> bool:
    """Return whether a path has the name of a file that `write_atomic` did not finish."""
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)


def remove_temporary(folder: Path) -> None:
    """Remove the unfinished files that a killed run left in a folder."""
    for path in folder.iterdir():
        if is_temporary(path):
            path.unlink(missing_ok=True)
