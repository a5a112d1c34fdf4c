"""The derivation of the matching loss of an activation, step by step."""
