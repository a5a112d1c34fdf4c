"""Answers about single neurons, curves, risks, folders and derivations."""
