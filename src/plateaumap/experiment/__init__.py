"""Experiments: the protocol, the single neuron, the identity of models, and checks before a run."""
