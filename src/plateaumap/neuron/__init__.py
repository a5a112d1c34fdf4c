"""One neuron as formulas: pre-activation, activations, losses and initialisation."""

from plateaumap.neuron.formulas import (
    Parameters,
    pre_activation,
    sigmoid,
    sigmoid_error,
    sigmoid_pair,
    sigmoid_slope,
    softplus,
    softplus_remainder,
)

__all__ = [
    "Parameters",
    "pre_activation",
    "sigmoid",
    "sigmoid_error",
    "sigmoid_pair",
    "sigmoid_slope",
    "softplus",
    "softplus_remainder",
]
