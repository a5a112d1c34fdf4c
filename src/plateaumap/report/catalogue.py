"""Which figures a table of results can be drawn as, and what to write under them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report import comparison, dynamics, lines, maps
from plateaumap.report.lattice import CONVERGED, Lattice, read, stack
from plateaumap.report.scales import is_drawable
from plateaumap.report.survival import survival

Draw = Callable[..., Figure]

_FEWEST_FOR_SHARES = 20
_T10 = (
    "T10 is the first epoch at which 10 % of the loss excess at the start is gone; "
    "an epoch is one update."
)
_CELLS = (
    "Cells without a length are hatched: censored runs were still on their plateau at the "
    "horizon, converged starts had nothing to learn, stationary runs have a zero gradient and "
    "stalled runs lose their updates to rounding, so that neither ever leaves."
)


@dataclass(frozen=True)
class Applicable:
    """A figure that applies to a table.

    Attributes:
        name: its name, and that of its files.
        draw: the function, which takes the table and `size`.
        caption: what is seen, with the definitions.
    """

    name: str
    draw: Draw
    caption: str


@dataclass(frozen=True)
class _Entry:
    draw: Draw
    applies: Callable[[Lattice], bool]
    caption: str


def applicable(frame: pd.DataFrame) -> list[Applicable]:
    """The figures that apply to a table, the most telling first.

    Args:
        frame: a table of results.

    Returns:
        At least one for every table with rows that was made by `run`.

    Raises:
        PlateaumapError: the table is empty or lacks a column.
    """
    lattice = read(frame, "applicable")
    return [
        Applicable(entry.draw.__name__, entry.draw, _caption(entry, lattice))
        for entry in _ENTRIES
        if entry.applies(lattice)
    ]


def _caption(entry: _Entry, lattice: Lattice) -> str:
    fixed = lattice.plain_fixed()
    return f"{entry.caption} Fixed: {fixed}." if fixed else entry.caption


def _has_map(lattice: Lattice) -> bool:
    if len(lattice.axes) < 2:
        return False
    try:
        stack(lattice, lattice.losses, None, None, "applicable")
    except PlateaumapError:
        return False
    return True


def _has_two_losses(lattice: Lattice) -> bool:
    return len(lattice.losses) > 1 and _has_map(lattice)


def _points(lattice: Lattice) -> int:
    return int(np.prod([axis.size for axis in lattice.axes], dtype=float))


def _is_few(lattice: Lattice) -> bool:
    return _points(lattice) <= lines.MOST_BARS


def _has_cut(lattice: Lattice) -> bool:
    if not lattice.axes or (_is_few(lattice) and not _has_map(lattice)):
        return False
    try:
        lines.line_through(lattice, None)
    except PlateaumapError:
        return False
    return not lines.is_cloud(lattice)


def _has_shares(lattice: Lattice) -> bool:
    return _points(lattice) >= _FEWEST_FOR_SHARES and bool((~lattice.is_status(CONVERGED)).any())


def _has(lattice: Lattice, *columns: str) -> bool:
    return set(columns) <= set(lattice.frame.columns)


def _has_speeds(lattice: Lattice) -> bool:
    if not _has(lattice, "initial_output", "initial_gradient") or "y" not in lattice.fixed:
        return False
    try:
        for loss in lattice.losses:
            dynamics.speeds(lattice, loss, lattice.fixed["y"])
    except PlateaumapError:
        return False
    return _points(lattice) >= _FEWEST_FOR_SHARES


def _has_accelerations(lattice: Lattice) -> bool:
    if not _has(lattice, "initial_output", "acceleration") or "y" not in lattice.fixed:
        return False
    return _points(lattice) >= _FEWEST_FOR_SHARES and bool(dynamics.accelerated(lattice).any())


def _varies(lattice: Lattice, name: str) -> bool:
    return any(name in axis.names for axis in lattice.axes)


def _has_collapse(lattice: Lattice) -> bool:
    return (
        _has(lattice, "w0", "b0", "lr", "x")
        and _varies(lattice, "lr")
        and _points(lattice) >= _FEWEST_FOR_SHARES
        and _can_collapse(lattice)
    )


def _can_collapse(lattice: Lattice) -> bool:
    z, scaled = dynamics.collapsing(lattice)
    usable = np.isfinite(lattice.lengths) & np.isfinite(z)
    return bool(usable.any()) and is_drawable(scaled[usable])


def _has_fractions(lattice: Lattice) -> bool:
    if not _has(lattice, "plateau_fraction") or not _varies(lattice, "lr"):
        return False
    rates = lattice.axis_of("lr").columns["lr"]
    return (
        len(np.unique(rates)) > 1
        and is_drawable(rates)
        and bool(np.isfinite(lattice.numbers("plateau_fraction")).any())
    )


_ENTRIES: Sequence[_Entry] = (
    _Entry(
        maps.plateau_map,
        _has_map,
        f"Plateau length T10 in epochs. {_T10} All panels share one logarithmic scale. {_CELLS}",
    ),
    _Entry(
        comparison.ratio_map,
        _has_two_losses,
        f"How many times longer the plateau of the first loss is than the second's. {_T10} "
        "Hatched colours are bounds: one of the two runs was still on its plateau when it was last "
        "seen. Runs that never leave are hatched as what they are: stationary or stalled.",
    ),
    _Entry(
        comparison.difference_map,
        _has_two_losses,
        f"How many epochs longer the plateau of the first loss is than the second's. {_T10} "
        "Hatched colours are bounds: one of the two runs was still on its plateau when it was last "
        "seen. Runs that never leave are hatched as what they are: stationary or stalled.",
    ),
    _Entry(
        lines.cut,
        _has_cut,
        f"Plateau length T10 in epochs along one line. {_T10} Triangles are censored runs, at "
        "their horizon. Thin lines, where there is a theory: the limit of vanishing steps, and "
        "theory exact to the epoch, which goes on where runs were given up.",
    ),
    _Entry(lines.plateau_bars, _is_few, f"Plateau length T10 of each point in epochs. {_T10}"),
    _Entry(
        lines.plateau_points,
        lines.is_cloud,
        f"Plateau length T10 of scattered points in epochs. {_T10} {_CELLS}",
    ),
    _Entry(
        survival,
        _has_shares,
        "Share of runs still on their plateau after n epochs: Kaplan-Meier estimate over the "
        f"points of the sweep, without converged starts. {_T10} Stationary and stalled runs never "
        "leave and stay in the curve for ever; a cross marks where censored runs were last seen. "
        "Runs that diverge count until then.",
    ),
    _Entry(
        dynamics.speed_against_error,
        _has_speeds,
        "Left, the gradient |dC/dz| at the start against the error e = |a - y|; right, the slope "
        "of the left in logarithms, the exponent beta. Where it is negative, a larger error is "
        "learned more slowly.",
    ),
    _Entry(
        dynamics.acceleration,
        _has_accelerations,
        "Peak gradient over first gradient of each run that was followed to T90, against the "
        "first output: 1 means that a run was never faster than at its start.",
    ),
    _Entry(
        dynamics.collapse,
        _has_collapse,
        f"Plateau length times step size against the first pre-activation. {_T10} Along the "
        "gradient flow all learning rates fall on one curve; what scatters is the discreteness "
        "of epochs.",
    ),
    _Entry(
        dynamics.plateau_fraction,
        _has_fractions,
        "Plateau fraction F = T10/T90, the share of learning spent getting started, against the "
        "learning rate: median over the starts that can leave their plateau, and shaded from the "
        "least to the most of the runs that were followed to T90. The runs that were not are "
        "bounds, and a bar spans what they let the median be. For a matching loss F is at most 1/9 "
        "while targets are 0 or 1, or lr (1 + x^2) is at most 4.",
    ),
)
