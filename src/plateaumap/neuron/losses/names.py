"""Losses by name: which of them an activation has, and why not the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from plateaumap.inputs.errors import PlateaumapError, advice
from plateaumap.neuron.activations import Activation, get
from plateaumap.neuron.losses.base import Loss
from plateaumap.neuron.losses.families import matching_of, quadratic_of
from plateaumap.neuron.losses.sigmoid import cross_entropy


class _Family(NamedTuple):
    """One name: the loss it gives an activation, and what it refuses.

    Attributes:
        loss: the loss of an activation.
        why_not: why an activation has no such loss, or None.
        refused: which targets an activation cannot have (boolean, of their shape), and why.
    """

    loss: Callable[[Activation], Loss]
    why_not: Callable[[Activation], str | None]
    refused: Callable[[Activation, np.ndarray], tuple[np.ndarray, str]]


def _always(activation: Activation) -> str | None:
    del activation
    return None


def _unless_monotone(activation: Activation) -> str | None:
    return activation.why_no_matching_loss


def _unless_sigmoid(activation: Activation) -> str | None:
    if activation is get("sigmoid"):
        return None
    its_own = "'quadratic'" if activation.why_no_matching_loss else "'matching'"
    return f"it is the matching loss of a sigmoid; for {activation.name} use {its_own}"


def _not_finite(activation: Activation, targets: np.ndarray) -> tuple[np.ndarray, str]:
    del activation
    return ~np.isfinite(targets), "a target is finite"


def _without_floor(activation: Activation, targets: np.ndarray) -> tuple[np.ndarray, str]:
    low, high = activation.low, activation.high
    within = (targets > low) & (targets < high)
    left, right = "(", ")"
    if activation.light_tailed:
        within |= ((targets == low) | (targets == high)) & np.isfinite(targets)
        left, right = "[" if np.isfinite(low) else "(", "]" if np.isfinite(high) else ")"
    return ~within, (
        f"the matching loss of {activation.name} is bounded below only for targets in "
        f"{left}{low:g}, {high:g}{right}"
    )


_FAMILIES: Mapping[str, _Family] = MappingProxyType(
    {
        "quadratic": _Family(quadratic_of, _always, _not_finite),
        "cross_entropy": _Family(lambda activation: cross_entropy, _unless_sigmoid, _without_floor),
        "matching": _Family(matching_of, _unless_monotone, _without_floor),
    }
)


def is_name(name: str) -> bool:
    """Return whether any activation has a loss of this name."""
    return name in _FAMILIES


def known_losses(activation: Activation | str) -> tuple[str, ...]:
    """Return the names of the losses that an activation can be trained with.

    Raises:
        PlateaumapError: the activation is unknown.
    """
    activation = get(activation)
    return tuple(name for name, family in _FAMILIES.items() if family.why_not(activation) is None)


def why_not(name: str, activation: Activation | str) -> str | None:
    """Return why an activation cannot be trained with a loss, or None if it can.

    Args:
        name: the name of a loss, known or not.
        activation: an activation or its name.

    Raises:
        PlateaumapError: the activation is unknown.
    """
    activation = get(activation)
    if name not in _FAMILIES:
        return f"no loss is called {name!r}; {advice(name, known_losses(activation))}"
    reason = _FAMILIES[name].why_not(activation)
    return None if reason is None else f"{name!r} is refused: {reason}"


def resolve(name: str, activation: Activation | str) -> Loss:
    """Return the loss of a name for an activation; the same object every time.

    Raises:
        PlateaumapError: the loss or the activation is unknown, or they do not go together.
    """
    reason = why_not(name, activation)
    if reason is not None:
        raise PlateaumapError(reason)
    return _FAMILIES[name].loss(get(activation))


def why_not_target(name: str, activation: Activation | str, y: ArrayLike) -> str | None:
    """Return why a loss of an activation cannot have a target, or None if it can.

    With a sigmoid, targets lie in [0, 1] for every loss. A matching loss has a floor only for
    targets within the range of its activation, and at an end of the range only if the outputs
    approach that end fast enough.

    Args:
        name: the name of a loss that the activation has.
        activation: an activation or its name.
        y: one target or several; the first that is refused is told.
    """
    targets = np.atleast_1d(np.asarray(y, dtype=np.float64))
    refused, reason = _refused(name, get(activation), targets)
    return f"y is {targets[np.argmax(refused)]!s}; {reason}" if refused.any() else None


def refused_targets(name: str, activation: Activation | str, y: ArrayLike) -> np.ndarray:
    """Return which targets a loss of an activation cannot have, boolean of the shape of `y`.

    The arguments are those of `why_not_target`.
    """
    return _refused(name, get(activation), np.asarray(y, dtype=np.float64))[0]


def _refused(name: str, activation: Activation, targets: np.ndarray) -> tuple[np.ndarray, str]:
    if activation is get("sigmoid"):
        return ~((targets >= 0) & (targets <= 1)), "with a sigmoid a target lies in [0, 1]"
    return _FAMILIES[name].refused(activation, targets)
