"""Marks that many tests use."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow(*values: Any) -> list[Any]:
    """Return values of a parameter, or tuples of several, that are tested in `.ci/run` only."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
        for value in values
    ]


USUAL = {"relu", "sigmoid", "tanh"}
"""Activations of which all laws are tested each time."""


def usual_first(names: Iterable[str]) -> list[Any]:
    """Return names of activations, those that are not usual as slow tests."""
    names = list(names)
    return [
        *(name for name in names if name in USUAL),
        *slow(*(name for name in names if name not in USUAL)),
    ]
