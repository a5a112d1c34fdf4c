"""Differences of two specifications besides the sweep: versions of parts, JAX and its settings.

A digest of a program holds for one version of JAX and its settings only. If these differ, programs
that a user wrote cannot be compared, but all other fields can.
"""

from collections.abc import Mapping
from typing import Any

_DIGESTS = {"programs", "sha256", "traced_with"}


def version_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return the differing versions of parts: `version 1 of neuron, this is 2`."""
    old, new = there.get("versions", {}), here.get("versions", {})
    return [
        f"version {old.get(part, 1)} of {part}, this is {new.get(part, 1)}"
        for part in dict.fromkeys([*old, *new])
        if old.get(part, 1) != new.get(part, 1)
    ]


def environment_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return how JAX and its settings differ: `computed with jax 0.9.1, this is 0.10.2`."""
    old, new = _environment(there), _environment(here)
    return [
        f"computed with jax {old[name]}, this is {value}"
        if name == "jax"
        else f"{name} was {old[name]}, is {value}"
        for name, value in new.items()
        if name in old and old[name] != value
    ]


def _environment(words: Any) -> dict[str, Any]:
    """Return the first `traced_with` in the fields of a specification."""
    if isinstance(words, Mapping):
        if "traced_with" in words:
            return dict(words["traced_with"])
        words = list(words.values())
    inner = map(_environment, words if isinstance(words, list) else ())
    return next(filter(None, inner), {})


def comparable(spec: Mapping[str, Any], digests: bool = True) -> dict[str, Any]:
    """Return the fields that identify a sweep: without the name and descriptions of users' code.

    Args:
        spec: the fields of a specification.
        digests: whether to keep digests, which hold for one version of JAX and its settings.
    """
    dropped = set() if digests else _DIGESTS

    def kept(words: Any) -> Any:
        if isinstance(words, list):
            return [kept(part) for part in words]
        if not isinstance(words, Mapping) or "traced_with" not in words:
            return words
        named = "coordinates" if "programs" in words else "name"
        return {key: words[key] for key in words if key in {named, *_DIGESTS} - dropped}

    return {key: kept(value) for key, value in spec.items() if key != "name"}
