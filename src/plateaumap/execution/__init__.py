"""Evaluate points: an `Evaluator` computes rows, and a `Backend` decides where it runs."""
