"""Figures of the training dynamics beside theory: gradient, acceleration, learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogitLocator, NullFormatter
from numpy.typing import ArrayLike

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.bounds import NEVER, WITHOUT_PLATEAU, Bounds, median_bounds
from plateaumap.report.lattice import ESCAPED, Booleans, Float64, Lattice, choose, read
from plateaumap.report.scales import require_drawable, scale_of
from plateaumap.report.series import (
    few_ticks,
    group,
    ink,
    label_panel,
    legend_below,
    loss_look,
    loss_panels,
    most_ticks,
    sample,
    thinned,
)
from plateaumap.report.style import Size, SizeName, loss_words, new_figure, size_named, styled

MATCHING_FRACTION = 1 / 9
"""The largest T10/T90 of a matching loss, because its loss is convex along the gradient flow."""

_MOST_POINTS = 3000
_CLOSEST = 1e-6
_APART = 0.02
_THEORY: dict[str, Any] = {
    "color": "black",
    "linewidth": 0.8,
    "linestyle": (0, (4, 2)),
    "zorder": 3,
}
_DOTS: dict[str, Any] = {
    "markersize": 2.2,
    "markerfacecolor": "none",
    "markeredgewidth": 0.5,
    "linestyle": "none",
}


def quadratic_exponent(error: ArrayLike) -> Float64:
    """Return β = d ln|dC/dz| / d ln e of the quadratic loss for y = 0: (2 − 3e)/(1 − e)."""
    e = np.asarray(error, np.float64)
    return (2 - 3 * e) / (1 - e)


def quadratic_acceleration(output: ArrayLike) -> Float64:
    """Return the peak gradient over the first gradient of the quadratic loss for y = 0.

    It is (4/27) / (a² (1 − a)) for a first output a above 2/3, where a² (1 − a) has its peak, and
    1 otherwise.
    """
    a = np.asarray(output, np.float64)
    return np.where(a > 2 / 3, (4 / 27) / (a**2 * (1 - a)), 1.0)


@styled
def speed_against_error(
    frame: pd.DataFrame, *, losses: Sequence[str] | None = None, size: SizeName = "page"
) -> Figure:
    """Draw the initial gradient against the initial error.

    The left panel shows the gradient |dC/dz| against the error e = |a₀ − y|. The right panel shows
    the slope of the left one in logarithms, β = d ln|dC/dz| / d ln e. It is 1 for cross-entropy.
    For the quadratic loss with y = 0 it is (2 − 3e)/(1 − e), the dashed line. Where β is negative,
    a larger error has a smaller gradient and is learned more slowly.

    Args:
        frame: a table of results with one target y ≤ ½; only initial points whose output is above
            the target are drawn.
        losses: the losses to draw; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: The table has fewer than three different errors, or several targets.

    Example:
        >>> import plateaumap as pm
        >>> axis = pm.linspace("w0", -1, 5, 20)
        >>> frame = pm.run(pm.Sweep(axes=[axis], fixed={"b0": 0, "lr": 0.5}, horizon=200))
        >>> len(pm.figures.speed_against_error(frame).axes)
        2
    """
    page = size_named(size)
    columns = ("initial_output", "initial_gradient", "y")
    lattice = read(frame, "speed_against_error", columns)
    losses = choose(lattice, losses, "speed_against_error")
    target = _single(lattice, "y", "speed_against_error")
    figure = new_figure(page, 0.32 * page.width + 26, layout="constrained")
    speed, exponent = figure.subplots(1, 2)
    handles: list[Artist] = []
    for number, loss in enumerate(losses):
        error, gradient = speeds(lattice, loss, target)
        look = loss_look(number, markersize=2.5, linewidth=0.8)
        every = max(1, len(error) // 15)
        speed.plot(error, gradient, **look, markevery=every)
        slope = exponents(error, gradient, 1 - target)
        exponent.plot(error[1:-1], slope[1:-1], **look, markevery=every)
        handles.append(sample(loss_words(loss), **look))
    if target == 0 and "quadratic" in losses:
        error = speeds(lattice, "quadratic", target)[0]
        exponent.plot(error, quadratic_exponent(error), **_THEORY)
        handles.append(sample(r"theory: $(2 - 3e)/(1 - e)$", **_THEORY))
    exponent.axhline(0, color="0.5", linewidth=0.6, zorder=0)
    speed.set_yscale("log")
    exponent.set_yscale("symlog", linthresh=1)
    for panel, label in ((speed, "gradient $|dC/dz|$"), (exponent, r"exponent $\beta$")):
        _label_shares(panel, page, "error at the start $e$", label)
    legend_below(figure, page, handles)
    return figure


def exponents(error: Float64, gradient: Float64, largest: float) -> Float64:
    """Return β = d ln|dC/dz| / d ln e by finite differences, of the shape of `error`.

    The differences are taken in u = ln(e/(largest − e)), in which the errors are evenly spread and
    d ln e / du is 1 − e/largest, because ln e alone hardly varies near the largest error.
    """
    logit = np.log(error / (largest - error))
    return np.gradient(np.log(gradient), logit, edge_order=2) / (1 - error / largest)


def _single(lattice: Lattice, name: str, figure: str) -> float:
    values = np.unique(lattice.frame[name].to_numpy(np.float64))
    if len(values) != 1:
        raise PlateaumapError(
            f"{figure}: {name} takes {len(values)} values; select the rows of one of them"
        )
    return float(values[0])


def speeds(lattice: Lattice, loss: str, target: float) -> tuple[Float64, Float64]:
    """Return errors in ascending order, apart enough to be distinguished, and their gradients.

    Raises:
        PlateaumapError: The table has fewer than three different errors.
    """
    rows = lattice.is_loss(loss)
    error = lattice.numbers("initial_output")[rows] - target
    gradient = np.abs(lattice.numbers("initial_gradient")[rows])
    largest = 1 - target
    usable = (error > _CLOSEST) & (error < largest - _CLOSEST) & (gradient > 0)
    # Errors that are even in the logit show both ends.
    place = np.round(np.log(error[usable] / (largest - error[usable])) / _APART)
    first = np.unique(place, return_index=True)[1]
    if len(first) < 3:
        raise PlateaumapError(
            f"speed_against_error: {loss} has {len(first)} different errors above the target; "
            "select rows with three or more"
        )
    return error[usable][first], gradient[usable][first]


def _label_shares(panel: Axes, page: Size, x: str, y: str) -> None:
    """Give a panel labels and a logit scale along x, which stretches both ends of 0 to 1."""
    panel.set_xscale("logit")
    panel.xaxis.set_major_locator(LogitLocator(nbins=max(3, int(page.width / 30))))
    panel.xaxis.set_minor_formatter(NullFormatter())
    label_panel(panel, page, x, y)


@styled
def acceleration(
    frame: pd.DataFrame, *, losses: Sequence[str] | None = None, size: SizeName = "page"
) -> Figure:
    """Draw the peak gradient over the first gradient against the first output a₀.

    The ratio is 1 for cross-entropy. The dashed line is theory for the quadratic loss with y = 0:
    (4/27)/(a₀² (1 − a₀)) above a₀ = 2/3. Runs that were not followed to T90 are omitted, because
    their peak may come later.

    Args:
        frame: a table of results.
        losses: the losses to draw; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: No run has an acceleration, or the table has several targets.

    Example:
        >>> import plateaumap as pm
        >>> axis = pm.linspace("w0", -1, 3, 20)
        >>> frame = pm.run(pm.Sweep(axes=[axis], fixed={"b0": 0, "lr": 5}, horizon=500))
        >>> pm.figures.acceleration(frame).axes[0].get_yscale()
        'log'
    """
    page = size_named(size)
    columns = ("initial_output", "acceleration", "tenth_epochs", "y")
    lattice = read(frame, "acceleration", columns)
    losses = choose(lattice, losses, "acceleration")
    target = _single(lattice, "y", "acceleration")
    output, measured = lattice.numbers("initial_output"), lattice.numbers("acceleration")
    usable = accelerated(lattice)
    if not usable.any():
        raise PlateaumapError("acceleration: no run of this table reached T90 and has one")
    figure = new_figure(page, 0.4 * page.width + 26, layout="constrained")
    panel = figure.subplots()
    handles: list[Artist] = []
    for number, loss in enumerate(losses):
        rows = np.flatnonzero(usable & lattice.is_loss(loss))
        rows = thinned(rows[np.argsort(output[rows], kind="stable")], _MOST_POINTS)
        look = loss_look(number, **_DOTS)
        panel.plot(output[rows], measured[rows], **look, rasterized=len(rows) > 1000)
        handles.append(sample(loss_words(loss), **look))
    if target == 0 and "quadratic" in losses:
        low, high = (np.log(a / (1 - a)) for a in (output[usable].min(), output[usable].max()))
        a = 1 / (1 + np.exp(-np.linspace(low, high, 400)))
        panel.plot(a, quadratic_acceleration(a), **_THEORY)
        handles.append(sample(r"theory: $(4/27)/(a_0^2(1 - a_0))$", **_THEORY))
    panel.set_yscale("log")
    _label_shares(panel, page, "first output $a_0$", "acceleration (peak / first gradient)")
    legend_below(figure, page, handles)
    return figure


def accelerated(lattice: Lattice) -> Booleans:
    """Return the rows that were followed to T90 and whose output a logit scale can show."""
    output = lattice.numbers("initial_output")
    followed = lattice.frame["tenth_epochs"].notna().to_numpy()
    shown = (output > _CLOSEST) & (output < 1 - _CLOSEST)
    return np.isfinite(lattice.numbers("acceleration")) & followed & shown


@styled
def collapse(
    frame: pd.DataFrame, *, losses: Sequence[str] | None = None, size: SizeName = "page"
) -> Figure:
    """Draw the plateau length times the step size against z₀ for all learning rates.

    Along the gradient flow T10 · η (1 + x²) depends only on z₀ = w₀x + b₀ and the target, so all
    learning rates fall on one curve. The discreteness of epochs causes the scatter.

    Args:
        frame: a table of results of the single neuron.
        losses: the losses to draw; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Returns:
        The figure, with one panel per loss and one colour for each of up to 9 learning rates.

    Raises:
        PlateaumapError: The learning rate does not vary, or no run left its plateau.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.linspace("w0", 0, 4, 10), pm.values("lr", [0.1, 1])]
        >>> frame = pm.run(pm.Sweep(axes=axes, fixed={"b0": 0}, horizon=500))
        >>> len(pm.figures.collapse(frame).axes)
        2
    """
    page = size_named(size)
    lattice = read(frame, "collapse", ("w0", "b0", "lr", "x"))
    losses = choose(lattice, losses, "collapse")
    groups = group(lattice, [lattice.axis_of("lr")], {}, "collapse")
    z, scaled = collapsing(lattice)
    usable = np.isfinite(lattice.lengths) & np.isfinite(z)
    if not usable.any():
        raise PlateaumapError("collapse: no run of this table left its plateau")
    require_drawable(scaled[usable], "collapse", "T10 times the step")
    scale = scale_of(z[usable], is_log=False)
    z = np.where(usable, scale.drawn(z), np.nan)
    lines = len(groups.titles)
    looks = [loss_look(line, **_DOTS) | {"color": ink(line, lines)} for line in range(lines)]
    figure, panels = loss_panels(page, losses, lines)
    for panel, loss in zip(panels, losses, strict=True):
        for line, look in enumerate(looks):
            rows = np.flatnonzero(usable & lattice.is_loss(loss) & (groups.places == line))
            rows = rows[np.unique(z[rows].round(9), return_index=True)[1]]
            rows = thinned(rows, _MOST_POINTS // 10)
            panel.plot(z[rows], scaled[rows], **look)
        panel.set_yscale("log")
        scale.set_ticks(panel.xaxis, most_ticks(page, len(losses)))
        panel.set_xlabel(scale.label("$z_0 = w_0 x + b_0$"))
    panels[0].set_ylabel(r"$T_{10} \, \eta \, (1 + x^2)$")
    samples = [sample(title, **look) for title, look in zip(groups.titles, looks, strict=True)]
    legend_below(figure, page, samples)
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
    """Draw the plateau fraction F = T10/T90 against the learning rate.

    Each loss has a line for the median over the runs that can leave their plateau, and a shaded
    band from the least to the largest observed value. A run that was not followed to T90 counts as
    a bound: F is at most T10 over the epochs that were run, or 1. Bars show the possible values of
    the median. For a matching loss such as cross-entropy, F ≤ 1/9 (dashed) at every learning rate
    if the targets are 0 or 1, or if η (1 + x²) ≤ 4.

    Args:
        frame: a table of results.
        losses: the losses to draw; by default all.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: The learning rate does not vary, or no run reached T90.

    Example:
        >>> import plateaumap as pm
        >>> axes = [pm.linspace("w0", 0, 3, 5), pm.values("lr", [0.5, 1, 2])]
        >>> frame = pm.run(pm.Sweep(axes=axes, fixed={"b0": 0}, horizon=500))
        >>> pm.figures.plateau_fraction(frame).axes[0].get_ylim()
        (np.float64(0.0), np.float64(1.0))
    """
    page = size_named(size)
    lattice = read(frame, "plateau_fraction", ("lr", "plateau_fraction"))
    losses = choose(lattice, losses, "plateau_fraction")
    axis = lattice.axis_of("lr")
    require_drawable(axis.columns["lr"], "plateau_fraction", "lr")
    fraction = fraction_bounds(lattice)
    if not fraction.exact.any():
        raise PlateaumapError("plateau_fraction: no run of this table reached T90")
    figure = new_figure(page, 0.4 * page.width + 26, layout="constrained")
    panel = figure.subplots()
    handles: list[Artist] = []
    for number, loss in enumerate(losses):
        rows = lattice.is_loss(loss)
        spread = _spread(axis.columns["lr"][axis.places[rows]], fraction.at(rows))
        look = loss_look(number, markersize=3)
        seen = spread.dropna(subset=["least"])
        band = seen.index, seen["least"], seen["most"]
        panel.fill_between(*band, color=look["color"], alpha=0.2, lw=0)
        panel.plot(spread.index, (spread["low"] + spread["high"]) / 2, **look)
        bars = spread.index, spread["low"], spread["high"]
        panel.vlines(*bars, color=look["color"], linewidth=0.8)
        handles.append(sample(f"{loss_words(loss)}, median", **look))
    panel.axhline(MATCHING_FRACTION, **_THEORY)
    words = "1/9: the most for a matching loss\n(y in {0, 1} or η (1 + x²) ≤ 4)"
    handles.append(sample(words, **_THEORY))
    panel.set(xscale="log", ylim=(0, 1))
    few_ticks(panel, page, 1)
    label_panel(panel, page, r"learning rate $\eta$", "plateau fraction $F = T_{10}/T_{90}$")
    legend_below(figure, page, handles)
    return figure


def fraction_bounds(lattice: Lattice) -> Bounds:
    """Return the bounds of the plateau fraction T10/T90 of each run.

    They are NaN for a run without a fraction: it converged at the start, diverged, or never leaves
    its plateau.
    """
    fraction = lattice.numbers("plateau_fraction")
    with np.errstate(divide="ignore", invalid="ignore"):
        most = np.fmin(lattice.lengths / lattice.stops, 1.0)
    unknown = np.where(lattice.is_status(ESCAPED) & ~np.isnan(most), most, 1.0)
    none = lattice.is_status(*NEVER, *WITHOUT_PLATEAU)
    seen = np.isfinite(fraction)
    return Bounds(
        np.where(seen, fraction, np.where(none, np.nan, 0.0)),
        np.where(seen, fraction, np.where(none, np.nan, unknown)),
    )


def _spread(rates: Float64, fraction: Bounds) -> pd.DataFrame:
    """Return the extreme observed fractions and the bounds of the median by learning rate."""
    rows = {}
    for rate in np.unique(rates):
        part = fraction.at(rates == rate)
        seen = part.least[part.least == part.most]
        ends = (seen.min(), seen.max()) if len(seen) else (np.nan, np.nan)
        rows[rate] = (*ends, *median_bounds(part))
    return pd.DataFrame.from_dict(rows, "index", columns=["least", "most", "low", "high"])
