"""What theory says of the runs, beside what they did: speed, acceleration, learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogitLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.bounds import NEVER, WITHOUT_PLATEAU, Bounds, median_bounds
from plateaumap.report.lattice import ESCAPED, Lattice, choose, read, require
from plateaumap.report.scales import require_drawable, scale_of
from plateaumap.report.series import (
    few_ticks,
    group,
    ink,
    legend_below,
    loss_panels,
    most_ticks,
    thinned,
)
from plateaumap.report.style import (
    INKS,
    MARKERS,
    Size,
    SizeName,
    loss_words,
    new_figure,
    size_named,
    styled,
)

Float64 = NDArray[np.float64]

MATCHING_FRACTION = 1 / 9
"""The most that T10/T90 of a matching loss can be: its loss is convex along the flow."""

_MOST_POINTS = 3000
_CLOSEST = 1e-6
_APART = 0.02
_THEORY: dict[str, Any] = {
    "color": "black",
    "linewidth": 0.8,
    "linestyle": (0, (4, 2)),
    "zorder": 3,
}


def quadratic_exponent(error: ArrayLike) -> Float64:
    """β = d ln|dC/dz| / d ln e of the quadratic loss for y = 0: (2 − 3e)/(1 − e)."""
    e = np.asarray(error, np.float64)
    return (2 - 3 * e) / (1 - e)


def quadratic_acceleration(output: ArrayLike) -> Float64:
    """Peak gradient over first gradient of the quadratic loss for y = 0.

    (4/27) / (a² (1 − a)) from a first output a above 2/3, where a² (1 − a) peaks, and 1 below.
    """
    a = np.asarray(output, np.float64)
    return np.where(a > 2 / 3, (4 / 27) / (a**2 * (1 - a)), 1.0)


@styled
def speed_against_error(
    frame: pd.DataFrame, *, losses: Sequence[str] | None = None, size: SizeName = "page"
) -> Figure:
    """Draws how the speed of learning follows the error at the start.

    Left, the gradient |dC/dz| against the error e = |a₀ − y|; right, the slope of the left in
    logarithms, β = d ln|dC/dz| / d ln e: 1 for cross-entropy, and for the quadratic loss with
    y = 0 the dashed (2 − 3e)/(1 − e). Where β is negative, a larger error is learned more slowly.

    Args:
        frame: a table of results; only starts with one target y ≤ ½ below the output are used.
        losses: which losses; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: fewer than three different errors, or several targets.
    """
    room = size_named(size)
    lattice = _read(frame, ("initial_output", "initial_gradient", "y"), "speed_against_error")
    chosen = choose(lattice, losses, "speed_against_error")
    target = _single(lattice, "y", "speed_against_error")
    figure = new_figure(room, 0.32 * room.width + 26, layout="constrained")
    speed, exponent = figure.subplots(1, 2)
    handles: list[Artist] = []
    for number, loss in enumerate(chosen):
        error, gradient = speeds(lattice, loss, target)
        colour, mark = INKS[number % len(INKS)], MARKERS[number % len(MARKERS)]
        look: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 2.5}
        look |= {"linewidth": 0.8, "markevery": max(1, len(error) // 15)}
        speed.plot(error, gradient, **look)
        slope = exponents(error, gradient, 1 - target)
        exponent.plot(error[1:-1], slope[1:-1], **look)
        handles.append(Line2D([], [], label=loss_words(loss), **{**look, "markevery": 1}))
    if target == 0 and "quadratic" in chosen:
        error = speeds(lattice, "quadratic", target)[0]
        exponent.plot(error, quadratic_exponent(error), **_THEORY)
        handles.append(Line2D([], [], label=r"theory: $(2 - 3e)/(1 - e)$", **_THEORY))
    exponent.axhline(0, color="0.5", linewidth=0.6, zorder=0)
    speed.set_yscale("log")
    exponent.set_yscale("symlog", linthresh=1)
    labels = ("gradient $|dC/dz|$", r"exponent $\beta$")
    for panel, label in zip((speed, exponent), labels, strict=True):
        _share_axis(panel, room, "error at the start $e$")
        panel.set_ylabel(label, fontsize=room.font)
    legend_below(figure, room, handles)
    return figure


def exponents(error: Float64, gradient: Float64, largest: float) -> Float64:
    """β = d ln|dC/dz| / d ln e by finite differences, of the shape of `error`.

    Taken in u = ln(e/(largest − e)), in which the errors are evenly spread and d ln e / du is
    1 − e/largest: near the largest error ln e alone hardly moves.
    """
    place = np.log(error / (largest - error))
    return np.gradient(np.log(gradient), place, edge_order=2) / (1 - error / largest)


def _read(frame: pd.DataFrame, columns: Sequence[str], figure: str) -> Lattice:
    lattice = read(frame, figure)
    require(frame, columns, figure)
    return lattice


def _single(lattice: Lattice, name: str, figure: str) -> float:
    values = np.unique(lattice.frame[name].to_numpy(np.float64))
    if len(values) != 1:
        raise PlateaumapError(
            f"{figure}: {name} takes {len(values)} values; select the rows of one of them"
        )
    return float(values[0])


def speeds(lattice: Lattice, loss: str, target: float) -> tuple[Float64, Float64]:
    """Errors in order, not nearer to each other than can be told apart, and the gradients."""
    own = lattice.loss_codes == lattice.losses.index(loss)
    error = lattice.numbers("initial_output")[own] - target
    gradient = np.abs(lattice.numbers("initial_gradient")[own])
    largest = 1 - target
    usable = (error > _CLOSEST) & (error < largest - _CLOSEST) & (gradient > 0)
    # Evenly in the logit of the error, so that both ends are seen.
    place = np.round(np.log(error[usable] / (largest - error[usable])) / _APART)
    first = np.unique(place, return_index=True)[1]
    if len(first) < 3:
        raise PlateaumapError(
            f"speed_against_error: {loss} has {len(first)} different errors above the target; "
            "it takes three or more"
        )
    return error[usable][first], gradient[usable][first]


def _share_axis(panel: Axes, room: Size, label: str) -> None:
    """An axis from 0 to 1 that stretches both ends."""
    panel.set_xscale("logit")
    panel.xaxis.set_major_locator(LogitLocator(nbins=max(3, int(room.width / 30))))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(label, fontsize=room.font)
    panel.tick_params(which="both", labelsize=room.font)
    panel.grid(True)


@styled
def acceleration(
    frame: pd.DataFrame, *, losses: Sequence[str] | None = None, size: SizeName = "page"
) -> Figure:
    """Draws how many times faster a run became than it was at the start.

    The peak gradient over the first against the first output a₀; dashed, for the quadratic loss
    with y = 0, theory's (4/27)/(a₀² (1 − a₀)) above a₀ = 2/3. It is 1 for cross-entropy. Runs
    that were not followed to T90 may not have seen their peak and are left out.

    Args:
        frame: a table of results.
        losses: which losses; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: no run has an acceleration, or there are several targets.
    """
    room = size_named(size)
    columns = ("initial_output", "acceleration", "tenth_epochs", "y")
    lattice = _read(frame, columns, "acceleration")
    chosen = choose(lattice, losses, "acceleration")
    target = _single(lattice, "y", "acceleration")
    output, measured = lattice.numbers("initial_output"), lattice.numbers("acceleration")
    usable = accelerated(lattice)
    if not usable.any():
        raise PlateaumapError("acceleration: no run of this table reached T90 and has one")
    figure = new_figure(room, 0.4 * room.width + 26, layout="constrained")
    panel = figure.subplots()
    handles: list[Artist] = []
    for number, loss in enumerate(chosen):
        own = usable & (lattice.loss_codes == lattice.losses.index(loss))
        rows = np.flatnonzero(own)
        rows = thinned(rows[np.argsort(output[rows], kind="stable")], _MOST_POINTS)
        look = _dots(number)
        panel.plot(output[rows], measured[rows], **look, rasterized=len(rows) > 1000)
        handles.append(Line2D([], [], label=loss_words(loss), **look))
    if target == 0 and "quadratic" in chosen:
        a = 1 / (1 + np.exp(-np.linspace(*_logit(output[usable]), 400)))
        panel.plot(a, quadratic_acceleration(a), **_THEORY)
        words = r"theory: $(4/27)/(a_0^2(1 - a_0))$"
        handles.append(Line2D([], [], label=words, **_THEORY))
    panel.set_yscale("log")
    _share_axis(panel, room, "first output $a_0$")
    panel.set_ylabel("acceleration (peak / first gradient)", fontsize=room.font)
    legend_below(figure, room, handles)
    return figure


def accelerated(lattice: Lattice) -> NDArray[np.bool_]:
    """Rows whose acceleration is known to the end and whose output a logit scale can show."""
    output = lattice.numbers("initial_output")
    followed = lattice.frame["tenth_epochs"].notna().to_numpy()
    shown = (output > _CLOSEST) & (output < 1 - _CLOSEST)
    return np.isfinite(lattice.numbers("acceleration")) & followed & shown


def _logit(shares: Float64) -> tuple[float, float]:
    low, high = float(shares.min()), float(shares.max())
    return float(np.log(low / (1 - low))), float(np.log(high / (1 - high)))


def _dots(number: int) -> dict[str, Any]:
    return {
        "color": INKS[number % len(INKS)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 2.2,
        "markerfacecolor": "none",
        "markeredgewidth": 0.5,
        "linestyle": "none",
    }


@styled
def collapse(
    frame: pd.DataFrame, *, losses: Sequence[str] | None = None, size: SizeName = "page"
) -> Figure:
    """Draws plateau lengths times step size against z₀, where all learning rates fall together.

    Along the gradient flow T10 · η (1 + x²) depends on z₀ = w₀x + b₀ and the target alone; what
    scatters is the discreteness of epochs.

    Args:
        frame: a table of results of the single neuron.
        losses: which losses; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, a panel for each loss, the dots in the colours of up to 9 learning rates.

    Raises:
        PlateaumapError: the learning rate does not vary, or no run left its plateau.
    """
    room = size_named(size)
    lattice = _read(frame, ("w0", "b0", "lr", "x"), "collapse")
    chosen = choose(lattice, losses, "collapse")
    groups = group(lattice, [lattice.axis_of("lr")], {}, "collapse")
    z, scaled = collapsing(lattice)
    usable = np.isfinite(lattice.lengths) & np.isfinite(z)
    if not usable.any():
        raise PlateaumapError("collapse: no run of this table left its plateau")
    require_drawable(scaled[usable], "collapse", "T10 times the step")
    scale = scale_of(z[usable], is_log=False)
    z = np.where(usable, scale.drawn(z), np.nan)
    lines = len(groups.titles)
    handles = [
        Line2D([], [], label=title, **_dots(line) | {"color": ink(line, lines)})
        for line, title in enumerate(groups.titles)
    ]
    figure, panels = loss_panels(room, chosen, lines)
    for panel, loss in zip(panels, chosen, strict=True):
        own = usable & (lattice.loss_codes == lattice.losses.index(loss))
        for line in range(lines):
            rows = np.flatnonzero(own & (groups.places == line))
            rows = rows[np.unique(z[rows].round(9), return_index=True)[1]]
            rows = thinned(rows, _MOST_POINTS // 10)
            look = _dots(line) | {"color": ink(line, lines)}
            panel.plot(z[rows], scaled[rows], **look)
        panel.set_yscale("log")
        scale.set_ticks(panel.xaxis, most_ticks(room, len(chosen)))
        panel.set_xlabel(scale.label("$z_0 = w_0 x + b_0$"), fontsize=room.font)
    panels[0].set_ylabel(r"$T_{10} \, \eta \, (1 + x^2)$", fontsize=room.font)
    legend_below(figure, room, handles)
    return figure


def collapsing(lattice: Lattice) -> tuple[Float64, Float64]:
    """Return the first pre-activations, and T10 times the step size, of shape (rows,)."""
    w0, b0, lr, x = (lattice.numbers(name) for name in ("w0", "b0", "lr", "x"))
    with np.errstate(over="ignore", invalid="ignore"):
        return w0 * x + b0, lattice.lengths * lr * (1 + x**2)


@styled
def plateau_fraction(
    frame: pd.DataFrame, *, losses: Sequence[str] | None = None, size: SizeName = "page"
) -> Figure:
    """Draws the plateau fraction F = T10/T90 against the learning rate.

    For each loss the median over the starts that can leave their plateau and, shaded, from the
    least to the most that was seen. A run that was not followed to T90 counts as a bound: F is at
    most T10 over the epochs that were run, or 1. Bars span what the median can be. For a matching
    loss such as cross-entropy, F ≤ 1/9 (dashed) at every learning rate, as long as targets are 0
    or 1, or η (1 + x²) ≤ 4.

    Args:
        frame: a table of results.
        losses: which losses; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: the learning rate does not vary, or no run reached T90.
    """
    room = size_named(size)
    lattice = _read(frame, ("lr", "plateau_fraction"), "plateau_fraction")
    chosen = choose(lattice, losses, "plateau_fraction")
    axis = lattice.axis_of("lr")
    require_drawable(axis.columns["lr"], "plateau_fraction", "lr")
    fraction = fraction_bounds(lattice)
    if not fraction.exact.any():
        raise PlateaumapError("plateau_fraction: no run of this table reached T90")
    figure = new_figure(room, 0.4 * room.width + 26, layout="constrained")
    panel = figure.subplots()
    handles: list[Artist] = []
    for number, loss in enumerate(chosen):
        own = lattice.loss_codes == lattice.losses.index(loss)
        spread = _spread(axis.columns["lr"][axis.places[own]], fraction.at(own))
        colour, mark = INKS[number % len(INKS)], MARKERS[number % len(MARKERS)]
        seen = spread.dropna(subset=["least"])
        panel.fill_between(seen.index, seen["least"], seen["most"], color=colour, alpha=0.2, lw=0)
        look: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 3}
        panel.plot(spread.index, (spread["low"] + spread["high"]) / 2, **look)
        panel.vlines(spread.index, spread["low"], spread["high"], color=colour, linewidth=0.8)
        handles.append(Line2D([], [], label=f"{loss_words(loss)}, median", **look))
    panel.axhline(MATCHING_FRACTION, **_THEORY)
    handles.append(
        Line2D(
            [],
            [],
            label="1/9: the most for a matching loss\n(y in {0, 1} or η (1 + x²) ≤ 4)",
            **_THEORY,
        )
    )
    panel.set(xscale="log", ylim=(0, 1))
    few_ticks(panel, room, 1)
    panel.grid(True)
    panel.tick_params(which="both", labelsize=room.font)
    panel.set_xlabel(r"learning rate $\eta$", fontsize=room.font)
    panel.set_ylabel("plateau fraction $F = T_{10}/T_{90}$", fontsize=room.font)
    legend_below(figure, room, handles)
    return figure


def fraction_bounds(lattice: Lattice) -> Bounds:
    """Return what is known of the plateau fraction T10/T90 of each run.

    NaN where a run has none: it started converged, diverged, or never leaves its plateau.
    """
    fraction = lattice.numbers("plateau_fraction")
    with np.errstate(divide="ignore", invalid="ignore"):
        most = np.fmin(lattice.lengths / lattice.stops, 1.0)
    unknown = np.where(lattice.is_status(ESCAPED), np.where(np.isnan(most), 1.0, most), 1.0)
    none = lattice.is_status(*NEVER, *WITHOUT_PLATEAU)
    seen = np.isfinite(fraction)
    return Bounds(
        np.where(seen, fraction, np.where(none, np.nan, 0.0)),
        np.where(seen, fraction, np.where(none, np.nan, unknown)),
    )


def _spread(rates: Float64, fraction: Bounds) -> pd.DataFrame:
    """Return, by learning rate, the least and most fraction seen and the bounds of the median."""
    told = {}
    for rate in np.unique(rates):
        own = fraction.at(rates == rate)
        seen = own.least[own.least == own.most]
        ends = (seen.min(), seen.max()) if len(seen) else (np.nan, np.nan)
        told[rate] = (*ends, *median_bounds(own))
    return pd.DataFrame.from_dict(told, "index", columns=["least", "most", "low", "high"])
