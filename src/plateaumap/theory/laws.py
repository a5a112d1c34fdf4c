"""Which law an activation and a loss have."""

from typing import NamedTuple

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron import activations, losses
from plateaumap.neuron.activations import Activation
from plateaumap.theory.descents import Stretch
from plateaumap.theory.law import Law
from plateaumap.theory.sigmoid import SigmoidLaw
from plateaumap.theory.smooth import SmoothLaw

_TANH_STEPS = {"quadratic": 16.0, "matching": 4.0}


class Case(NamedTuple):
    """What theory calls a loss of a neuron: the names of the loss and of the activation."""

    loss: str
    activation: str = "sigmoid"


def why_no_theory(activation: Activation | str) -> str | None:
    """Returns why the lengths of an activation are not told by theory, or None if they are.

    Raises:
      PlateaumapError: the activation is unknown.
    """
    activation = activations.get(activation)
    if activation.why_no_matching_loss is not None:
        return f"{activation.name} is not monotone"
    if not activation.smooth and activation is not activations.get("softsign"):
        return f"{activation.name} has a kink"
    return None


def law_of(activation: Activation | str, loss: str) -> Law:
    """Returns the law of an activation and a loss.

    Args:
      activation: an activation or its name.
      loss: ``"quadratic"``, ``"matching"``, or ``"cross_entropy"`` of a sigmoid.

    Raises:
      PlateaumapError: the activation is unknown or has no theory, or the loss is not one of its.
    """
    activation = activations.get(activation)
    reason = why_no_theory(activation)
    if reason is not None:
        raise PlateaumapError(f"there are no exact lengths for {reason}; simulate it")
    known = losses.known_losses(activation)
    if loss not in known:
        raise PlateaumapError(f"loss {loss!r} has no exact lengths; use one of {', '.join(known)}")
    if activation is activations.get("sigmoid"):
        return SigmoidLaw("quadratic" if loss == "quadratic" else "cross_entropy")
    if activation is activations.get("tanh"):
        stretch = Stretch(z=2.0, h=_TANH_STEPS[loss], signed=True)
        return SigmoidLaw("quadratic" if loss == "quadratic" else "cross_entropy", stretch)
    return SmoothLaw(activation, loss)
