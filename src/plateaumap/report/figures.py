"""Figures of tables of results: each takes a DataFrame and returns a matplotlib `Figure`.

Every figure takes `size="page"` (180 mm wide) or `size="column"` (85 mm). `applicable` lists the
figures that a table supports.
"""

from plateaumap.report.catalogue import Applicable, applicable
from plateaumap.report.comparison import difference_map, ratio_map
from plateaumap.report.curves import learning_curves
from plateaumap.report.dynamics import (
    acceleration,
    collapse,
    plateau_fraction,
    speed_against_error,
)
from plateaumap.report.lines import cut, plateau_bars, plateau_points
from plateaumap.report.maps import plateau_map
from plateaumap.report.style import save
from plateaumap.report.survival import survival

__all__ = [
    "Applicable",
    "acceleration",
    "applicable",
    "collapse",
    "cut",
    "difference_map",
    "learning_curves",
    "plateau_bars",
    "plateau_fraction",
    "plateau_map",
    "plateau_points",
    "ratio_map",
    "save",
    "speed_against_error",
    "survival",
]
