"""Special knowledge is attached to the class that states it, and never inherited by accident.

Some members of an experiment restate others in a better form: `excess` is `loss` less `floor`
without cancellation, `theory` is what follows from all of them. A subclass that overrides `loss`
and nothing else would inherit statements about a loss that it no longer has. So such a member
holds only where everything that it was derived from is still what it was: not overridden by a
subclass, not patched on a class, not shadowed by an attribute. Elsewhere the general definition
takes its place.
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
"""Members that state special knowledge, and what each was derived from; None: from everything."""

_COMPUTED = ("excess", "decrease")
"""Members that restate a computation, and so depend on the helpers that `loss` may call, too."""

_CALLS = ("__call__", "__getitem__", "__getattribute__", "__getattr__")
"""Special methods by which a class may compute."""

_UNRELATED = frozenset(
    {"measures", "lanes", "known_losses", "default_losses", "why_not_loss", "why_not_values"}
    | {"describe", "theory", "data"}
)
"""Members that no theory depends on."""


def guard(definer: type, general: type | None) -> None:
    """Let the special members that a new class defines hold only where they were derived.

    Args:
        definer: the new class; its special members are wrapped in place.
        general: the class whose members take their place elsewhere.
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
    """Return a member that a class or its mixins define; None if a guarded base does."""
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
    own = getattr(instance, "__dict__", {})
    return all(
        (name not in own or isinstance(member, functools.cached_property))
        and _static(type(instance), name) is member
        for name, member in derived_from.items()
    )


def _all_members(definer: type) -> tuple[str, ...]:
    """Return all methods, properties and class attributes of a class but its dataclass fields."""
    fields = {name for base in definer.__mro__ for name in vars(base).get("__annotations__", {})}
    kept = {"output", "descent", "coordinates"}  # annotated in the protocol, and no fields
    names = (set(dir(definer)) - (fields - kept)) - _UNRELATED
    named = {name for name in names if not name.startswith(("__", "_abc_"))}
    return tuple(sorted(named | set(_CALLS)))


def _helpers(definer: type, general: type) -> tuple[str, ...]:
    """Return methods and properties that are no part of the protocol."""
    return tuple(
        name
        for name in _all_members(definer)
        if name in _CALLS
        or (not hasattr(general, name) and hasattr(type(_static(definer, name)), "__get__"))
    )


def _static(owner: type, name: str) -> object:
    """Return a member as it stands in the class's own or its bases' namespace, unbound."""
    for base in owner.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None  # no object of its own: it has to stay the same where a class is unpickled
