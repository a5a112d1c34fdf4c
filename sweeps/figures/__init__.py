"""Figures that serve one sweep each: one module per script, with the script's name."""
