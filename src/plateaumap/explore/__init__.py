"""The plateau microscope: a live page in which the visible window is swept again."""

from plateaumap.explore.view import View

__all__ = ["View"]
