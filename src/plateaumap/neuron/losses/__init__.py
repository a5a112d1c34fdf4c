"""Losses of one neuron as functions of its pre-activation and target, `loss(z, y)`.

They are computed from z, not from the output: at a saturated output the textbook formulas give an
infinite or undefined loss and a gradient that is falsely zero.

A `Loss` has a value and the functions that measures need in addition. Each of these has a default,
so that `as_loss` accepts a plain function `loss(z, y)`. `resolve` returns the loss of an activation
by its name.

`binary_cross_entropy`, `softmax_cross_entropy` and `l2_loss` are losses of a whole network: over
all its samples and outputs, from the logits of its last layer.

Example:
    >>> import plateaumap as pm
    >>> f"{pm.losses.quadratic(4.0, 0.0):.4f} {pm.losses.cross_entropy(4.0, 0.0):.4f}"
    '0.4822 4.0181'
"""

from plateaumap.neuron.losses.base import Loss, LossFunction, as_loss
from plateaumap.neuron.losses.families import matching_of, quadratic_of
from plateaumap.neuron.losses.named import (
    is_name,
    known_losses,
    refused_targets,
    resolve,
    why_not,
    why_not_target,
)
from plateaumap.neuron.losses.outputs import (
    UNITS,
    binary_cross_entropy,
    binary_entropy,
    entropy,
    l2_loss,
    softmax_cross_entropy,
)
from plateaumap.neuron.losses.sigmoid import cross_entropy, quadratic

__all__ = [
    "UNITS",
    "Loss",
    "LossFunction",
    "as_loss",
    "binary_cross_entropy",
    "binary_entropy",
    "cross_entropy",
    "entropy",
    "is_name",
    "known_losses",
    "l2_loss",
    "matching_of",
    "quadratic",
    "quadratic_of",
    "refused_targets",
    "resolve",
    "softmax_cross_entropy",
    "why_not",
    "why_not_target",
]
