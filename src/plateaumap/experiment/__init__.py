"""What a sweep repeats: the protocol, the single neuron, and what is checked before a run."""
