"""Marks that many tests use."""

from typing import Any

import pytest


def slow(*values: Any) -> list[Any]:
    """Return values of a parameter, or tuples of several, that are tested in `.ci/run` only."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
        for value in values
    ]
