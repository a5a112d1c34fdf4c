"""References to functions in files: name and digest of a loss that a user wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.validation import show

_KEYS = ("name", "function", "sha256")


@dataclass(frozen=True)
class FunctionReference:
    """A reference to a function that is not available, since a file contains no code.

    Attributes:
        name: the name in the table.
        function: the place of the definition, `module:qualname`, for readers only.
        sha256: the digest of the program, 64 hexadecimal digits.
        traced_with: versions and settings for which the digest holds, as pairs; empty in old
            files, whose digests are of source text.
    """

    name: str
    function: str
    sha256: str
    traced_with: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> FunctionReference:
        """Return the reference that `to_dict` wrote.

        Raises:
            PlateaumapError: a key is missing, unknown or malformed.
        """
        if not set(_KEYS) <= set(fields) <= {*_KEYS, "traced_with"}:
            raise PlateaumapError(
                f"{show(dict(fields))} is not a reference to a function; its keys must be "
                f"{', '.join(_KEYS)}"
            )
        for key in _KEYS:
            if not isinstance(fields[key], str) or not fields[key]:
                raise PlateaumapError(f"{key} = {show(fields[key])} is not text; must be a string")
        if not re.fullmatch("[0-9a-f]{64}", fields["sha256"]):
            raise PlateaumapError(
                f"sha256 = {show(fields['sha256'])} is not a digest; must be 64 hexadecimal digits"
            )
        traced_with = fields.get("traced_with", {})
        if not isinstance(traced_with, Mapping):
            raise PlateaumapError(
                f"traced_with = {show(traced_with)} is not a table; must map names to values"
            )
        return cls(**{**fields, "traced_with": tuple(traced_with.items())})

    def to_dict(self) -> dict[str, Any]:
        """Return the reference as JSON and TOML hold it."""
        fields: dict[str, Any] = {key: getattr(self, key) for key in _KEYS}
        return {**fields, "traced_with": dict(self.traced_with)} if self.traced_with else fields


def name_of(function: Callable[..., Any]) -> str | None:
    """Return the name of a function, or the `name` of a callable object, or None."""
    name = getattr(function, "__name__", None) or getattr(function, "name", None)
    return name if isinstance(name, str) and name else None


def place_of(value: object) -> str:
    """Return `module:qualname` of a class, of a function or of the class of an object."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', None)}:{getattr(named, '__qualname__', '?')}"
