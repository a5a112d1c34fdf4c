"""Checks of paths: local folders and files, with ~ as the home folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.validation import show

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+:/")
"""The beginning of a URL. `Path` keeps one of its slashes; a drive of Windows has one letter."""


def local_path(given: str | os.PathLike[str], what: str = "folder") -> Path:
    """Return the path of a local folder or file, with `~` expanded.

    Args:
        given: the path.
        what: "folder" or "file", for messages.

    Raises:
        PlateaumapError: the argument is not a path, or it is a URL.
    """
    text = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise PlateaumapError(f"{show(given)} is not a path; must be a local {what}")
    if _URL.match(text):
        raise PlateaumapError(f"{text} is a URL; must be a local {what}")
    path = Path(os.path.expanduser(text))
    if re.match(r"~[^/]", text) and str(path).startswith("~"):
        raise PlateaumapError(f"{text}: unknown user name; write the path of the {what} in full")
    # A folder that is literally named "~" must not be expanded again.
    return path.absolute() if path.parts and path.parts[0].startswith("~") else path


def existing_file(given: str | os.PathLike[str], suffixes: tuple[str, ...]) -> Path:
    """Return the path of a specification file that exists and has one of the `suffixes`.

    Raises:
        PlateaumapError: the file does not exist, is a folder or has another suffix.
    """
    path = local_path(given, "file")
    if not path.exists():
        raise PlateaumapError(f"{path} does not exist; must be the path of a specification file")
    if not path.is_file():
        raise PlateaumapError(f"{path} is a folder; must be the path of a specification file")
    if path.suffix.lower() not in suffixes:
        raise PlateaumapError(
            f"{path} has the suffix {path.suffix!r}; must end in {' or '.join(suffixes)}"
        )
    return path
