"""Figures of tables of results: DataFrame in, matplotlib `Figure` out, no pyplot.

Every figure takes `size="page"` (180 mm wide) or `size="column"` (85 mm). `applicable` tells
which of them a table can be drawn as. `accuracies`, `boundary_boxes` and `converged_grid` are the
numbers behind some of them.
"""

from plateaumap.report.activations import activation_lines
from plateaumap.report.boundary import boundary_boxes, converged_grid, trainability_map
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
from plateaumap.report.mistakes import confidently_wrong
from plateaumap.report.networks import accuracies, accuracy_curves, starts_against_plateaus
from plateaumap.report.saturation import premature_saturation
from plateaumap.report.style import save
from plateaumap.report.surface import loss_surface
from plateaumap.report.survival import survival

__all__ = [
    "Applicable",
    "acceleration",
    "accuracies",
    "accuracy_curves",
    "activation_lines",
    "applicable",
    "boundary_boxes",
    "collapse",
    "confidently_wrong",
    "converged_grid",
    "cut",
    "difference_map",
    "learning_curves",
    "loss_surface",
    "plateau_bars",
    "plateau_fraction",
    "plateau_map",
    "plateau_points",
    "premature_saturation",
    "ratio_map",
    "save",
    "speed_against_error",
    "starts_against_plateaus",
    "survival",
    "trainability_map",
]
