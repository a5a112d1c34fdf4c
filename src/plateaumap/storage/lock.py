"""Locks a folder for one writer at a time.

The lock is an advisory lock of the operating system (`flock` on Linux and macOS) on a file in the
folder. It ends with its process: after a kill -9 or a power cut nobody has to remove it, and the
next run acquires it. A second file names the owner. Only a run that failed to acquire the lock
reads it, and by itself it means nothing.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from plateaumap.storage.errors import LockedError, not_writable
from plateaumap.storage.files import write_atomic

LOCK = ".lock"
OWNER = ".lock-owner.json"


@contextlib.contextmanager
def writer_lock(folder: Path) -> Iterator[None]:
    """Lock the folder for this process, and name this process to others.

    Raises:
        LockedError: another run holds it; the message names its process, host and start.
        StorageError: the folder cannot be written to.
    """
    with exclusive(folder):
        try:
            write_atomic(folder / OWNER, json.dumps(_owner()).encode())
        except OSError as error:
            raise not_writable(folder, error) from error
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / OWNER).unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock the folder as `writer_lock` does, without naming the owner; it may be renamed."""
    # Not thread-local, because any thread may release the lock at the end of a run.
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(_held(folder)) from None
    except OSError as error:
        raise not_writable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _owner() -> dict[str, str | int]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _held(folder: Path) -> str:
    try:
        owner = json.loads((folder / OWNER).read_text())
        who = f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return (
        f"{folder} is being written by {who}; wait until it has finished, stop it, "
        "or choose another folder"
    )
