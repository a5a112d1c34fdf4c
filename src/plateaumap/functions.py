"""Functions as data: a loss that a user wrote stands in a spec by its place and a digest.

A reference can be compared and shown but not called, so that opening somebody's results runs
none of their code. The digest is the sha256 of the function's source text, followed by what the
function uses: what it captured (defaults and closure), and the functions, classes and values among
its module's globals that it names, and so on. Libraries' functions count by name. Not followed are
attributes of modules (`helpers.forward`) and globals without stable form.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
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
    return FunctionReference(name, _place(plain), _sha256(_Uses().parts(plain)))


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


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
    uses = _Uses()
    parts = list(uses.instance(experiment))
    for measure in getattr(experiment, "measures", ()):
        parts += uses.instance(measure)
    if not parts:
        return {}
    return {"defined_in": _place(type(experiment)), "sha256": _sha256(parts)}


def identity_of(experiment: Any) -> str:
    """One line of JSON by which experiments can be compared: description and definition."""
    words = {**experiment.describe(), **definition_of(experiment)}
    return json.dumps(words, sort_keys=True)


def is_own(definition: object) -> bool:
    """Whether a class or function was written by a user: it is of no library."""
    return not _is_of_library(definition)


def held_by(value: object) -> dict[str, Any]:
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


class _Uses:
    """What values are made of, as bytes that are the same in every process; definitions once."""

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._kept: list[object] = []

    def instance(self, value: object) -> Iterator[bytes]:
        """An object's own classes, and what it holds; of a library's object what is not its own."""
        own = [c for c in type(value).__mro__ if c is not object and not _is_of_library(c)]
        for definition in own:
            yield from self._definition(definition, frozenset())
        if own:
            yield from self.parts(held_by(value))
        else:
            for held in held_by(value).values():
                if callable(held) and not _is_of_library(_underlying(held)):
                    yield from self.parts(held)

    def parts(self, value: object, path: frozenset[int] = frozenset()) -> Iterator[bytes]:
        """All that makes up a value.

        Raises:
            PlateaumapError: it has no stable form.
        """
        if id(value) in path:
            return
        path = path | {id(value)}
        value = _underlying(value)
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
            yield repr(value).encode("utf-8", "backslashreplace")
        elif isinstance(value, (tuple, list)):
            yield from self._all(value, path)
        elif isinstance(value, dict):
            yield from self._all(value.items(), path)
        elif isinstance(value, ModuleType):
            yield value.__name__.encode()
        elif isinstance(value, functools.partial):
            yield from self._all((value.func, value.args, value.keywords), path)
        elif isinstance(value, type) or (callable(value) and hasattr(value, "__name__")):
            yield from self._definition(value, path)
        elif dataclasses.is_dataclass(value):
            yield from self.parts(type(value), path)
            yield from self._all(held_by(value).values(), path)
        elif hasattr(value, "__array__"):
            yield from _array_parts(value)
        else:
            raise _without_form(value)

    def _all(self, values: Iterable[object], path: frozenset[int]) -> Iterator[bytes]:
        for value in values:
            yield from self.parts(value, path)

    def _definition(self, value: Any, path: frozenset[int]) -> Iterator[bytes]:
        """A function or class: its source and what that names, unless it belongs to a library."""
        if _is_of_library(value):
            # Not by source: the fingerprint must not hang on a library's version.
            yield f"{_package(value)}:{value.__name__}".encode()
            return
        if id(value) in self._told:
            return
        self._told.add(id(value))
        self._kept.append(value)  # so that no other object gets its id
        if isinstance(value, FunctionType):
            yield from _source_parts(value.__code__)
            for captured in (value.__defaults__, value.__kwdefaults__):
                if captured:
                    yield from self.parts(captured, path)
            yield from self._all(inspect.getclosurevars(value).nonlocals.values(), path)
        else:
            yield from _source_parts(value)
            if not _has_source(value):  # typed into a session that keeps no source
                for function in _functions_of(value):
                    yield from _code_parts(function.__code__)
        for function in _functions_of(value):
            yield from self._globals(function, path)

    def _globals(self, function: FunctionType, path: frozenset[int]) -> Iterator[bytes]:
        for name in sorted(_names_in(function.__code__) & set(function.__globals__)):
            used = function.__globals__[name]
            if isinstance(used, ModuleType):
                continue
            try:
                parts = list(self.parts(used, path))
            except PlateaumapError:  # not everything that a module holds can be told
                continue
            yield name.encode()
            yield from parts


def _functions_of(value: object) -> list[FunctionType]:
    """A function, or the functions in the body of a class, the accessors of properties included."""
    if not isinstance(value, type):
        return [value] if isinstance(value, FunctionType) else []
    found = []
    for held in vars(value).values():
        for name in ("__func__", "fget", "func"):  # static and class methods, properties
            held = getattr(held, name, held)
        if isinstance(_underlying(held), FunctionType):
            found.append(_underlying(held))
    return [function for function in found if isinstance(function, FunctionType)]


def _names_in(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names


def _package(value: Any) -> str:
    return str(getattr(value, "__module__", None) or type(value).__module__).split(".")[0]


def _is_of_library(value: object) -> bool:
    """Whether a definition is not a user's to edit: of a library, or an installed package."""
    package = _package(value)
    if package in _LIBRARIES:
        return True
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    return bool({"site-packages", "dist-packages"} & set(Path(file).parts))


def _array_parts(value: Any) -> Iterator[bytes]:
    try:
        array = np.asarray(value)
    except TypeError:  # such as JAX's typed keys
        raise _without_form(value) from None
    yield f"{array.dtype.str}{array.shape}".encode() + array.tobytes()


def _without_form(value: object) -> PlateaumapError:
    return PlateaumapError(
        f"the function uses {show(value)}, which has no stable form to be recorded; "
        "let it capture numbers, strings, arrays, dataclasses and functions only"
    )


def _has_source(definition: Any) -> bool:
    try:
        inspect.getsource(definition)
    except (OSError, TypeError):
        return False
    return True


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
