"""The losses that a spec can name: each activation's loss by name, and which names it refuses.

A new loss is an entry of `LOSSES`: a function from an activation to its `Loss`, and the reasons
for which it refuses activations and targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from plateaumap.inputs.errors import PlateaumapError, advice
from plateaumap.neuron.activations import Activation, get
from plateaumap.neuron.losses.base import Loss
from plateaumap.neuron.losses.families import matching_of, quadratic_of
from plateaumap.neuron.losses.sigmoid import cross_entropy


def _never(activation: Activation) -> str | None:
    del activation
    return None


def _not_finite(activation: Activation, targets: np.ndarray) -> tuple[np.ndarray, str]:
    del activation
    return ~np.isfinite(targets), "must be finite"


@dataclass(frozen=True)
class NamedLoss:
    """A loss that every activation has unless it is refused.

    Attributes:
        of: `of(activation)`, the loss of an activation.
        why_not: `why_not(activation)`, why an activation has no such loss, or None.
        refused: `refused(activation, targets)`, which targets an activation cannot have (boolean,
            of their shape), and why.
    """

    of: Callable[[Activation], Loss]
    why_not: Callable[[Activation], str | None] = _never
    refused: Callable[[Activation, np.ndarray], tuple[np.ndarray, str]] = _not_finite


def _unless_sigmoid(activation: Activation) -> str | None:
    if activation is get("sigmoid"):
        return None
    other = "'quadratic'" if activation.why_no_matching_loss else "'matching'"
    return f"it is the matching loss of a sigmoid; for {activation.name} use {other}"


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


LOSSES: dict[str, NamedLoss] = {
    "quadratic": NamedLoss(quadratic_of),
    "cross_entropy": NamedLoss(lambda activation: cross_entropy, _unless_sigmoid, _without_floor),
    "matching": NamedLoss(
        matching_of, lambda activation: activation.why_no_matching_loss, _without_floor
    ),
}
"""The losses by name, in the order in which they are listed to users."""


def is_name(name: str) -> bool:
    """Return whether any activation has a loss of this name.

    Example:
        >>> import plateaumap as pm
        >>> pm.losses.is_name("quadratic"), pm.losses.is_name("hinge")
        (True, False)
    """
    return name in LOSSES


def known_losses(activation: Activation | str) -> tuple[str, ...]:
    """Return the names of the losses that an activation can be trained with.

    Raises:
        PlateaumapError: the activation is unknown.

    Example:
        >>> import plateaumap as pm
        >>> pm.losses.known_losses("tanh")
        ('quadratic', 'matching')
    """
    activation = get(activation)
    return tuple(name for name, loss in LOSSES.items() if loss.why_not(activation) is None)


def why_not(name: str, activation: Activation | str) -> str | None:
    """Return why an activation cannot be trained with a loss, or None if it can.

    Args:
        name: the name of a loss, known or not.
        activation: an activation or its name.

    Raises:
        PlateaumapError: the activation is unknown.

    Example:
        >>> import plateaumap as pm
        >>> pm.losses.why_not("cross_entropy", "tanh")
        "'cross_entropy' is refused: it is the matching loss of a sigmoid; for tanh use 'matching'"
    """
    activation = get(activation)
    if name not in LOSSES:
        return f"no loss is called {name!r}; {advice(name, known_losses(activation))}"
    reason = LOSSES[name].why_not(activation)
    return None if reason is None else f"{name!r} is refused: {reason}"


def resolve(name: str, activation: Activation | str) -> Loss:
    """Return the loss of a name for an activation; the same object every time.

    Raises:
        PlateaumapError: the loss or the activation is unknown, or they do not go together.

    Example:
        >>> import plateaumap as pm
        >>> pm.losses.resolve("matching", "tanh").name
        'matching'
    """
    reason = why_not(name, activation)
    if reason is not None:
        raise PlateaumapError(reason)
    return LOSSES[name].of(get(activation))


def why_not_target(name: str, activation: Activation | str, y: ArrayLike) -> str | None:
    """Return why a loss of an activation cannot have a target, or None if it can.

    With a sigmoid, targets lie in [0, 1] for every loss. A matching loss has a floor only for
    targets within the range of its activation, and at an end of the range only if the outputs
    approach that end fast enough.

    Args:
        name: the name of a loss that the activation has.
        activation: an activation or its name.
        y: one target or several; the message names the first that is refused.

    Example:
        >>> import plateaumap as pm
        >>> pm.losses.why_not_target("quadratic", "sigmoid", [0.5, 2.0])
        'y = 2.0: with a sigmoid a target lies in [0, 1]'
    """
    targets = np.atleast_1d(np.asarray(y, dtype=np.float64))
    refused, reason = _refused(name, get(activation), targets)
    return f"y = {targets[np.argmax(refused)]!s}: {reason}" if refused.any() else None


def refused_targets(name: str, activation: Activation | str, y: ArrayLike) -> np.ndarray:
    """Return which targets a loss of an activation cannot have, boolean of the shape of `y`.

    The arguments are those of `why_not_target`.

    Example:
        >>> import plateaumap as pm
        >>> pm.losses.refused_targets("quadratic", "sigmoid", [0.5, 2.0])
        array([False,  True])
    """
    return _refused(name, get(activation), np.asarray(y, dtype=np.float64))[0]


def _refused(name: str, activation: Activation, targets: np.ndarray) -> tuple[np.ndarray, str]:
    if activation is get("sigmoid"):
        return ~((targets >= 0) & (targets <= 1)), "with a sigmoid a target lies in [0, 1]"
    return LOSSES[name].refused(activation, targets)
