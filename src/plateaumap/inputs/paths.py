"""A user's folders and files: what a path given as an argument stands for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.validation import show

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+:/")
"""The beginning of a URL, of which `Path` leaves one slash; a drive of Windows has one letter."""


def local_path(given: str | os.PathLike[str], what: str = "folder") -> Path:
    """Return the path of a folder or file that a user gave, `~` standing for the home folder.

    Args:
        given: the path.
        what: "folder" or "file", for messages.

    Raises:
        PlateaumapError: it is no path, or the address of another machine.
    """
    text = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise PlateaumapError(f"{show(given)} is no path; give a {what} of this machine")
    if _URL.match(text):
        raise PlateaumapError(f"{text} is a URL; give a {what} of this machine")
    path = Path(os.path.expanduser(text))
    if re.match(r"~[^/]", text) and str(path).startswith("~"):
        raise PlateaumapError(f"{text}: there is no user of this name; give a {what} in full")
    # What is still named "~" is so literally; nobody further on shall expand it.
    return path.absolute() if path.parts and path.parts[0].startswith("~") else path
