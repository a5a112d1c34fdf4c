"""The explorer: a live page that sweeps the visible window of the map again."""

from plateaumap.explore.view import View

__all__ = ["View"]
