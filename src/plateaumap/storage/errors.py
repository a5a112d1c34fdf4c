"""What can go wrong with a folder of results."""

import errno
from pathlib import Path

from plateaumap.inputs.errors import PlateaumapError


class StorageError(PlateaumapError):
    """A folder cannot be used as asked; the message says why and what to do."""


class DamagedManifestError(StorageError):
    """A folder's `manifest.json` is not one that this library wrote whole."""


class LockedError(StorageError):
    """Another run is writing to the folder; the message says which."""


class WriteError(StorageError):
    """The disk refused a write: it is full, read-only, out of order, or permission is denied.

    Unlike other errors of storage it is no fault of the input. What was written before is whole,
    and the same command goes on from there.
    """

    exit_code = 1


_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ENOENT: "the folder is gone",
    errno.ENAMETOOLONG: "the name is too long",
}


def reason(error: OSError) -> str:
    """The cause of `error` in words."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


_STATES_OF_THE_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
}


def not_writable(path: Path, error: OSError) -> StorageError:
    """The refusal of an output folder that cannot be written to."""
    kind = WriteError if error.errno in _STATES_OF_THE_DISK else StorageError
    return kind(f"cannot write to {path}: {reason(error)}; choose another folder")


def write_failed(path: Path, error: OSError) -> WriteError:
    """The error for a write that failed half way through a run."""
    return WriteError(
        f"could not write {path}: {reason(error)}. "
        "All parts written before are whole: put it right and run the same command to go on"
    )
