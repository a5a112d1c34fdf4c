"""The limits of special knowledge: it holds for the class that defines it, not for subclasses.

Some members of an experiment are derived from others: `excess` is `loss` minus `floor` without
cancellation, and `theory` follows from all members. A subclass that overrides only `loss` would
inherit statements about a loss that it does not have. So a derived member applies only if all its
sources are unchanged: not overridden by a subclass, not patched on a class, not shadowed by an
attribute of an object. Otherwise the general definition applies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

DERIVED_FROM: Mapping[str, tuple[str, ...] | None] = {
    "floor": ("loss",),
    "excess": ("loss", "floor"),
    "gradient_scalar": ("loss", "floor", "excess", "descent"),
    "direction": ("loss", "floor", "excess", "descent", "output"),
    "decrease": ("loss", "floor", "excess"),
    "theory": None,
}
"""The members that state special knowledge, and the sources of each; None means all members."""

_COMPUTED = ("excess", "decrease")
"""Members that also depend on the helper methods that `loss` may call."""

_CALLS = ("__call__", "__getitem__", "__getattribute__", "__getattr__")
"""Special methods by which a class may compute."""

_UNRELATED = frozenset(
    {"measures", "lanes", "known_losses", "default_losses", "why_not_loss", "why_not_values"}
    | {"describe", "theory", "data"}
)
"""Members on which no theory depends."""


def guard(definer: type, general: type | None) -> None:
    """Restrict the derived members of a new class to objects whose sources are unchanged.

    Args:
        definer: the new class; its derived members are wrapped in place.
        general: the class whose members apply otherwise.
    """
    for name, sources in DERIVED_FROM.items():
        member = _stated_by(definer, name, general)
        if general is None or not callable(member):
            continue
        if isinstance(member, staticmethod):
            member = _as_method(member)
        if sources is None:
            sources = _all_members(definer)
        elif name in _COMPUTED:
            sources = (*sources, *_helpers(definer, general))
        setattr(definer, name, _guarded(member, getattr(general, name), definer, sources))


def _stated_by(definer: type, name: str, general: type | None) -> object:
    """Return a member that a class or its mixins define, or None if a guarded base does."""
    for base in definer.__mro__:
        if name in vars(base):
            guarded = base is not definer and general is not None and issubclass(base, general)
            return None if guarded else vars(base)[name]
    return None


def _as_method(static: staticmethod) -> Callable[..., Any]:
    @functools.wraps(static)
    def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
        del self
        return static(*arguments, **keywords)

    return method


def _guarded(
    member: Callable[..., Any],
    otherwise: Callable[..., Any],
    definer: type,
    sources: tuple[str, ...],
) -> Callable[..., Any]:
    derived_from = {name: _static(definer, name) for name in sources}

    @functools.wraps(member)
    def guarded(self: Any, *arguments: Any, **keywords: Any) -> Any:
        applies = _unchanged(self, derived_from)
        return (member if applies else otherwise)(self, *arguments, **keywords)

    return guarded


def _unchanged(instance: Any, derived_from: Mapping[str, object]) -> bool:
    attributes = getattr(instance, "__dict__", {})
    return all(
        (name not in attributes or isinstance(member, functools.cached_property))
        and _static(type(instance), name) is member
        for name, member in derived_from.items()
    )


def _all_members(definer: type) -> tuple[str, ...]:
    """Return methods, properties and class attributes of a class, without dataclass fields."""
    fields = {name for base in definer.__mro__ for name in vars(base).get("__annotations__", {})}
    kept = {"output", "descent", "coordinates"}  # annotated in the protocol, and no fields
    names = (set(dir(definer)) - (fields - kept)) - _UNRELATED
    named = {name for name in names if not name.startswith(("__", "_abc_"))}
    return tuple(sorted(named | set(_CALLS)))


def _helpers(definer: type, general: type) -> tuple[str, ...]:
    """Return methods and properties that are not members of `general`."""
    return tuple(
        name
        for name in _all_members(definer)
        if name in _CALLS
        or (not hasattr(general, name) and hasattr(type(_static(definer, name)), "__get__"))
    )


def _static(owner: type, name: str) -> object:
    """Return a member from the namespace of a class or of its bases, unbound."""
    for base in owner.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None  # not a sentinel object, which would differ after unpickling
