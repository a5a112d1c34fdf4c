"""A loss that a user wrote, as it stands in a file: known by its name and digest, not callable."""

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
    """A function that is known but not available: opening somebody's results runs no code.

    Attributes:
        name: its name in the table.
        function: where it was defined, `module:qualname`; for readers only.
        sha256: the digest of its program, 64 hexadecimal digits.
        traced_with: the versions and settings under which the digest was computed, as pairs;
            empty in files whose digest is one of source text.
    """

    name: str
    function: str
    sha256: str
    traced_with: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> FunctionReference:
        """Read what `to_dict` wrote.

        Raises:
            PlateaumapError: a key is missing, unknown or malformed.
        """
        if not set(_KEYS) <= set(fields) <= {*_KEYS, "traced_with"}:
            raise PlateaumapError(
                f"{show(dict(fields))} refers to no function; its keys must be {', '.join(_KEYS)}"
            )
        for key in _KEYS:
            if not isinstance(fields[key], str) or not fields[key]:
                raise PlateaumapError(f"{key} = {show(fields[key])} is no text; give a string")
        if not re.fullmatch("[0-9a-f]{64}", fields["sha256"]):
            raise PlateaumapError(
                f"sha256 = {show(fields['sha256'])} is no digest; give 64 hexadecimal digits"
            )
        traced_with = fields.get("traced_with", {})
        if not isinstance(traced_with, Mapping):
            raise PlateaumapError(f"traced_with = {show(traced_with)} is no mapping; give a table")
        return cls(**{**fields, "traced_with": tuple(traced_with.items())})

    def to_dict(self) -> dict[str, Any]:
        """Return the reference as JSON and TOML hold it."""
        words: dict[str, Any] = {key: getattr(self, key) for key in _KEYS}
        return {**words, "traced_with": dict(self.traced_with)} if self.traced_with else words


def name_of(function: Callable[..., Any]) -> str | None:
    """Return the name of a function, or the `name` of a callable object; None if it has none."""
    name = getattr(function, "__name__", None) or getattr(function, "name", None)
    return name if isinstance(name, str) and name else None


def place_of(value: object) -> str:
    """Return where a class or function, or the class of an object, was defined; for readers."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', None)}:{getattr(named, '__qualname__', '?')}"
