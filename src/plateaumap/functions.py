"""Functions as data: a loss that a user wrote stands in a spec by its place and a digest.

A reference can be compared and shown but not called, so that opening somebody's results runs
none of their code. The digest is the sha256 of the function's source text, followed by what the
function captured (defaults and closure), if anything; libraries' functions count by name.
Globals are not followed.
"""

import dataclasses
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from plateaumap.errors import PlateaumapError
from plateaumap.validation import show

_KEYS = ("name", "function", "sha256")

_LIBRARIES = sys.stdlib_module_names - {"__main__"} | {
    "jax",
    "jaxlib",
    "numpy",
    "optax",
    "plateaumap",
    "scipy",
}


@dataclasses.dataclass(frozen=True)
class FunctionReference:
    """A function that is known but not at hand.

    Attributes:
        name: what the table calls it.
        function: `module:qualname`; for a script, the module is the name of its file.
        sha256: the digest, 64 hexadecimal digits.
    """

    name: str
    function: str
    sha256: str

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "FunctionReference":
        """Reads what `to_dict` wrote.

        Raises:
            PlateaumapError: if a key is missing, unknown or malformed.
        """
        if set(fields) != set(_KEYS):
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
        return cls(**fields)

    def to_dict(self) -> dict[str, str]:
        """The reference in the words of JSON and TOML."""
        return dataclasses.asdict(self)


def name_of(function: Callable[..., Any]) -> str | None:
    """The name of a function, or the `name` of a callable object; None if it has none."""
    name = getattr(function, "__name__", None) or getattr(function, "name", None)
    return name if isinstance(name, str) and name else None


def reference_to(function: Callable[..., Any]) -> FunctionReference:
    """The reference that stands for `function` in a spec.

    Raises:
        PlateaumapError: if the function has no name, or captured something without stable form.
    """
    name = name_of(function)
    if name is None:
        raise PlateaumapError(f"{show(function)} has no name; define a function: def NAME(z, y)")
    plain = _underlying(function)
    digest = hashlib.sha256()
    for part in _parts(plain, frozenset()):
        digest.update(part)
    return FunctionReference(name, _place(plain), digest.hexdigest())


def definition_of(experiment: object) -> dict[str, str]:
    """What stands in a spec for the code of an experiment whose class, or measures, a user wrote.

    Args:
        experiment: an experiment; what it and its `measures` hold counts, too.

    Returns:
        `{"defined_in": "module:class", "sha256": digest}`, the digest over the sources of the
        classes and those that they derive from; empty if all of them are this package's.

    Raises:
        PlateaumapError: if a field holds something without stable form.
    """
    parts = [
        part
        for value in (experiment, *getattr(experiment, "measures", ()))
        for part in _instance_parts(value)
    ]
    if not parts:
        return {}
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return {"defined_in": _place(type(experiment)), "sha256": digest.hexdigest()}


def _instance_parts(value: object) -> Iterator[bytes]:
    """The sources of an object's own classes, and what it holds; nothing for a library's object."""
    own = [c for c in type(value).__mro__ if c.__module__.split(".")[0] not in _LIBRARIES]
    own = [c for c in own if c is not object]
    for definition in own:
        yield from _parts(definition, frozenset())
    if own:
        yield from _parts(_held_by(value), frozenset())


def _held_by(value: object) -> dict[str, object]:
    """The fields of a dataclass, else all attributes but those that only cache something."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    cached = functools.cached_property
    held = getattr(value, "__dict__", {})
    return {k: held[k] for k in sorted(held) if not isinstance(getattr(type(value), k, 0), cached)}


def _underlying(value: object) -> object:
    """The Python function within what `jax.jit` and its like return; else `value` itself.

    A function that wraps another one is not looked through: it may do something else.
    """
    inner = value
    while not isinstance(inner, FunctionType) and hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    return inner if isinstance(inner, FunctionType) else value


def _place(value: object) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{_module_name(str(named.__module__))}:{named.__qualname__}"


def _module_name(module: str) -> str:
    # A script run by itself and the same script run by the command line are one and the same.
    path = getattr(sys.modules.get(module), "__file__", None) if module == "__main__" else None
    return Path(path).stem if path else module


def _parts(value: object, seen: frozenset[int]) -> Iterator[bytes]:
    """What makes up `value`, as bytes that are the same in every process."""
    if id(value) in seen:
        return
    seen = seen | {id(value)}
    value = _underlying(value)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        yield repr(value).encode("utf-8", "backslashreplace")
    elif isinstance(value, (tuple, list)):
        yield from _all_parts(value, seen)
    elif isinstance(value, dict):
        yield from _all_parts(value.items(), seen)
    elif isinstance(value, ModuleType):
        yield value.__name__.encode()
    elif isinstance(value, functools.partial):
        yield from _all_parts((value.func, value.args, value.keywords), seen)
    elif isinstance(value, type) or (callable(value) and hasattr(value, "__name__")):
        yield from _definition_parts(value, seen)
    elif dataclasses.is_dataclass(value):
        yield from _parts(type(value), seen)
        yield from _all_parts((getattr(value, f.name) for f in dataclasses.fields(value)), seen)
    elif hasattr(value, "__array__"):
        array = np.asarray(value)
        yield f"{array.dtype.str}{array.shape}".encode() + array.tobytes()
    else:
        raise PlateaumapError(
            f"the function uses {show(value)}, which has no stable form to be recorded; "
            "let it capture numbers, strings, arrays, dataclasses and functions only"
        )


def _all_parts(values: Iterable[object], seen: frozenset[int]) -> Iterator[bytes]:
    for value in values:
        yield from _parts(value, seen)


def _definition_parts(value: Any, seen: frozenset[int]) -> Iterator[bytes]:
    """A function or class: its source, unless it belongs to a library."""
    package = str(getattr(value, "__module__", None) or type(value).__module__).split(".")[0]
    if package in _LIBRARIES:
        # Not by source: the fingerprint must not hang on a library's version.
        yield f"{package}:{value.__name__}".encode()
    elif isinstance(value, FunctionType):
        yield from _source_parts(value.__code__)
        for captured in (value.__defaults__, value.__kwdefaults__):
            if captured:
                yield from _parts(captured, seen)
        yield from _all_parts(inspect.getclosurevars(value).nonlocals.values(), seen)
    else:
        yield from _source_parts(value)


def _source_parts(definition: Any) -> Iterator[bytes]:
    try:
        yield inspect.getsource(definition).encode("utf-8", "backslashreplace")
    except (OSError, TypeError):  # typed into a session that keeps no source
        if isinstance(definition, CodeType):
            yield from _code_parts(definition)
        else:
            yield _place(definition).encode()


def _code_parts(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_parts(constant)
        else:
            yield repr(constant).encode()
