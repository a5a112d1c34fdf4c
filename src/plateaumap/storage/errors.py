"""The errors of folders of results."""

import errno
from pathlib import Path

from plateaumap.inputs.errors import PlateaumapError


class StorageError(PlateaumapError):
    """A folder cannot be used; the message says why and what to do."""


class DamagedManifestError(StorageError):
    """A folder's `manifest.json` is not a whole manifest of this library."""


class LockedError(StorageError):
    """Another run is writing to the folder; the message says which."""


class WriteError(StorageError):
    """The disk refused a write: it is full, read-only or broken, or permission is denied.

    The input is not at fault, so the exit code is 1. Everything written before is whole, and the
    same command continues from there.
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
    """Return the cause of an error in words."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


_STATES_OF_THE_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
}


def not_writable(path: Path, error: OSError) -> StorageError:
    """Return the error for an output folder that cannot be written to."""
    kind = WriteError if error.errno in _STATES_OF_THE_DISK else StorageError
    return kind(f"cannot write to {path}: {reason(error)}; choose another folder")


def write_failed(path: Path, error: OSError) -> WriteError:
    """Return the error for a write that failed during a run."""
    return WriteError(
        f"could not write {path}: {reason(error)}. "
        "All parts written before are whole: fix the cause and run the same command to continue"
    )
