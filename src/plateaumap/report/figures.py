"""Figures of tables of results: each takes a DataFrame and returns a matplotlib `Figure`.

Every figure takes `size="page"` (180 mm wide) or `size="column"` (85 mm). `applicable` lists the
figures that a table supports. To add a figure, write its function in a module of this package, and
add its name to `__all__` and, if `plateaumap report` is to draw it, an entry to `_ENTRIES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.comparison import difference_map, ratio_map
from plateaumap.report.curves import learning_curves
from plateaumap.report.dynamics import (
    accelerated,
    acceleration,
    collapse,
    collapsing,
    plateau_fraction,
    speed_against_error,
    speeds,
)
from plateaumap.report.lattice import CONVERGED, Lattice, read, require, stack
from plateaumap.report.lines import (
    MOST_BARS,
    cut,
    is_cloud,
    line_through,
    plateau_bars,
    plateau_points,
)
from plateaumap.report.maps import plateau_map
from plateaumap.report.scales import is_drawable
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

_FEWEST_FOR_SHARES = 20
_T10 = (
    "T10 is the first epoch at which 10 % of the initial loss excess is gone; an epoch is one "
    "update."
)
_CELLS = (
    "Cells without a length are hatched: censored runs were still on their plateau at the "
    "horizon, converged runs had nothing to learn, stationary runs have a zero gradient and "
    "stalled runs lose their updates to rounding, so that neither ever leaves its plateau."
)
_BOUNDS = (
    "Hatched colours are bounds: one of the two runs was still on its plateau when it was last "
    "observed. Runs that never leave their plateau have the hatch of their status: stationary or "
    "stalled."
)


@dataclass(frozen=True)
class Applicable:
    """A figure that a table supports.

    Attributes:
        name: the name of the figure and of its files.
        draw: the function, which takes the table and `size`.
        caption: a description of the figure, with definitions.

    Example:
        >>> from matplotlib.figure import Figure
        >>> import plateaumap as pm
        >>> pm.figures.Applicable("empty", lambda frame, size: Figure(), "Nothing.").name
        'empty'
    """

    name: str
    draw: Callable[..., Figure]
    caption: str


def applicable(frame: pd.DataFrame) -> list[Applicable]:
    """Return the figures that a table supports, the most informative first.

    Args:
        frame: a table of results.

    Returns:
        The figures; at least one for every table with rows that `run` returned.

    Raises:
        PlateaumapError: The table is empty or lacks a column.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.values("w0", [0.5, 2.0])]
        >>> frame = pm.run(pm.Sweep(axes=axes, fixed={"b0": 0.5, "lr": 0.5}, horizon=200))
        >>> [figure.name for figure in pm.figures.applicable(frame)]
        ['plateau_bars']
    """
    lattice = read(frame, "applicable")
    fixed = lattice.plain_fixed()
    end = f" Fixed: {fixed}." if fixed else ""
    return [
        Applicable(draw.__name__, draw, caption + end)
        for draw, supports, caption in _ENTRIES
        if _is_supported(lattice, supports)
    ]


def _is_supported(lattice: Lattice, supports: Callable[[Lattice], bool]) -> bool:
    """Return whether a condition is true and raises no error about the table."""
    try:
        return supports(lattice)
    except PlateaumapError:
        return False


def _points(lattice: Lattice) -> int:
    return math.prod(axis.size for axis in lattice.axes)


def _has_shares(lattice: Lattice) -> bool:
    return _points(lattice) >= _FEWEST_FOR_SHARES


def _is_few(lattice: Lattice) -> bool:
    return _points(lattice) <= MOST_BARS


def _has_map(lattice: Lattice) -> bool:
    return bool(stack(lattice, lattice.losses, None, None, "applicable").titles)


def _has_two_losses(lattice: Lattice) -> bool:
    return len(lattice.losses) > 1 and _has_map(lattice)


def _has_cut(lattice: Lattice) -> bool:
    line_through(lattice, None)
    return not is_cloud(lattice) and (not _is_few(lattice) or _has_map(lattice))


def _has_survival(lattice: Lattice) -> bool:
    return _has_shares(lattice) and not lattice.is_status(CONVERGED).all()


def _has_speeds(lattice: Lattice) -> bool:
    require(lattice.frame, ("initial_output", "initial_gradient"), "applicable")
    if "y" not in lattice.fixed:
        return False
    for loss in lattice.losses:
        speeds(lattice, loss, lattice.fixed["y"])
    return _has_shares(lattice)


def _has_accelerations(lattice: Lattice) -> bool:
    require(lattice.frame, ("initial_output", "acceleration", "tenth_epochs"), "applicable")
    one_target = "y" in lattice.fixed
    return one_target and _has_shares(lattice) and bool(accelerated(lattice).any())


def _has_collapse(lattice: Lattice) -> bool:
    require(lattice.frame, ("w0", "b0", "lr", "x"), "applicable")
    lattice.axis_of("lr")
    z, scaled = collapsing(lattice)
    usable = np.isfinite(lattice.lengths) & np.isfinite(z)
    return _has_shares(lattice) and bool(usable.any()) and is_drawable(scaled[usable])


def _has_fractions(lattice: Lattice) -> bool:
    require(lattice.frame, ("plateau_fraction",), "applicable")
    axis = lattice.axis_of("lr")
    fractions = lattice.numbers("plateau_fraction")
    is_scale = "lr" in axis.varying and is_drawable(axis.columns["lr"])
    return is_scale and bool(np.isfinite(fractions).any())


_ENTRIES: Sequence[tuple[Callable[..., Figure], Callable[[Lattice], bool], str]] = (
    (
        plateau_map,
        _has_map,
        f"Plateau length T10 in epochs. {_T10} All panels share one logarithmic scale. {_CELLS}",
    ),
    (
        ratio_map,
        _has_two_losses,
        f"Plateau length of the first loss over that of the second. {_T10} {_BOUNDS}",
    ),
    (
        difference_map,
        _has_two_losses,
        f"Plateau length of the first loss minus that of the second, in epochs. {_T10} {_BOUNDS}",
    ),
    (
        cut,
        _has_cut,
        f"Plateau length T10 in epochs along one line. {_T10} Triangles are censored runs, at "
        "their horizon. Thin lines, if the model has a theory, are the limit of vanishing steps "
        "and the exact theory, which continues beyond the horizon.",
    ),
    (plateau_bars, _is_few, f"Plateau length T10 of each point in epochs. {_T10}"),
    (
        plateau_points,
        is_cloud,
        f"Plateau length T10 of scattered points in epochs. {_T10} {_CELLS}",
    ),
    (
        survival,
        _has_survival,
        "Share of runs still on their plateau after n epochs: Kaplan-Meier estimate over the "
        f"points of the sweep, without runs that converged at the start. {_T10} Stationary and "
        "stalled runs never leave their plateau and stay in the curve; a cross marks the last "
        "epoch at which censored runs were observed. Runs that diverge count until they do.",
    ),
    (
        speed_against_error,
        _has_speeds,
        "Left: the initial gradient |dC/dz| against the initial error e = |a - y|. Right: the "
        "slope of the left panel in logarithms, the exponent beta. Where it is negative, a larger "
        "error is learned more slowly.",
    ),
    (
        acceleration,
        _has_accelerations,
        "Peak gradient over first gradient of each run that was followed to T90, against the "
        "first output. The value 1 means that the gradient was never larger than at the start.",
    ),
    (
        collapse,
        _has_collapse,
        f"Plateau length times step size against the first pre-activation. {_T10} Along the "
        "gradient flow all learning rates fall on one curve; the discreteness of epochs causes "
        "the scatter.",
    ),
    (
        plateau_fraction,
        _has_fractions,
        "Plateau fraction F = T10/T90, the share of the learning time spent on the plateau, "
        "against the learning rate: the median over the runs that can leave their plateau, and "
        "shaded the range of the runs that were followed to T90. The other runs are bounds, and "
        "bars show the possible values of the median. For a matching loss F is at most 1/9 if the "
        "targets are 0 or 1, or if lr (1 + x^2) is at most 4.",
    ),
)
"""The figures of `plateaumap report`: function, condition on the table, and caption."""
