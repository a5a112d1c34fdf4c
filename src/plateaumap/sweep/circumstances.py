"""What two specs differ in besides the sweep: versions of this package's parts, JAX, its settings.

A digest of a program holds for one JAX and its settings only. Where these differ, what a user
wrote cannot be compared, and everything else in the specs still can.
"""

from collections.abc import Mapping
from typing import Any

_DIGESTS = {"programs", "sha256", "traced_with"}


def version_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The parts of this package whose versions differ: `version 1 of neuron, this is 2`."""
    old, new = there.get("versions", {}), here.get("versions", {})
    return [
        f"version {old.get(part, 1)} of {part}, this is {new.get(part, 1)}"
        for part in dict.fromkeys([*old, *new])
        if old.get(part, 1) != new.get(part, 1)
    ]


def environment_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """In what JAX and its settings differ: `computed with jax 0.9.1, this is 0.10.2`."""
    old, new = _environment(there), _environment(here)
    return [
        f"computed with jax {old[name]}, this is {value}"
        if name == "jax"
        else f"{name} was {old[name]}, is {value}"
        for name, value in new.items()
        if name in old and old[name] != value
    ]


def _environment(words: Any) -> dict[str, Any]:
    """The first `traced_with` in the words of a spec."""
    if isinstance(words, Mapping):
        if "traced_with" in words:
            return dict(words["traced_with"])
        words = list(words.values())
    inner = map(_environment, words if isinstance(words, list) else ())
    return next(filter(None, inner), {})


def comparable(spec: Mapping[str, Any], digests: bool = True) -> dict[str, Any]:
    """What identifies a sweep: all fields but the name, of what a user wrote no description.

    Args:
        spec: the words of a spec.
        digests: whether to keep what only holds for one JAX and its settings.
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
