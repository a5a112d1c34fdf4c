"""Draw how many networks train from different initialisations: plateaus and test accuracy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from plateaumap.report.bounds import NEVER
from plateaumap.report.lattice import require
from plateaumap.report.series import dash, draw_at_edge, edge_samples, ink, legend_below
from plateaumap.report.style import (
    INKS,
    MARKERS,
    Size,
    SizeName,
    equation,
    loss_words,
    new_figure,
    number,
    plain,
    size_named,
    styled,
    wrapped,
)

_LEVELS = {"plateau_epochs": "$T_{10}$ (epochs)", "half_epochs": "$T_{50}$ (epochs)"}
_ACCURACY = re.compile(r"accuracy_(\d+)")
_BEST_TITLE = "own best $\\eta$"


@styled
def starts_against_plateaus(
    frame: pd.DataFrame, *, share: str = "confidently_wrong", size: SizeName = "page"
) -> Figure:
    """Draw T10 and T50 of each network against the share of bad outputs, one panel per loss.

    The upper row shows the plateau length T10; the lower row shows T50, the epoch at which half of
    the loss excess is gone. Each dot is a run: its colour is the learning rate, its shape the
    width of the initial weights. A run that did not get so far is a hollow symbol at the epochs
    that it was run, or a cross if it diverged. A run that never leaves its plateau (stationary or
    stalled) has the symbol of its status at the upper edge.

    Args:
        frame: a table of results with the coordinates `scale` and `lr` and the column `share`.
        share: the column with the initial share of bad outputs.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: The table lacks a column.
    """
    require(
        frame, ("loss", "scale", "lr", "status", "epochs_run", share, *_LEVELS),
        "starts_against_plateaus",
    )  # fmt: skip
    page = size_named(size)
    losses = _losses(frame)
    rates, scales = (sorted(frame[name].unique()) for name in ("lr", "scale"))
    height = (0.5 if size == "page" else 1.0) * page.width + 20
    figure = new_figure(page, height, layout="constrained")
    panels = figure.subplots(2, len(losses), sharex=True, sharey=True, squeeze=False)
    for column, loss in enumerate(losses):
        for row, level in enumerate(_LEVELS):
            for place, rate in enumerate(rates):
                for shape, scale in zip(MARKERS, scales, strict=False):
                    rows = frame[
                        (frame["loss"].astype(str) == loss)
                        & (frame["lr"] == rate)
                        & (frame["scale"] == scale)
                    ]
                    look = {"marker": shape, "color": ink(place, len(rates))}
                    _scatter(panels[row][column], rows, share, level, look)
        panels[0][column].set_title(
            _fitted(loss_words(loss), page, len(losses)),
            loc="center",
            fontweight="bold",
        )
    for panel in panels.ravel():
        panel.set_yscale("log")
        panel.grid(True)
        panel.tick_params(which="both", labelsize=page.font)
    label = _fitted(f"{plain(share.replace('_', ' '))} at the start", page, len(losses))
    for panel in panels[-1]:
        panel.set_xlabel(label)
    for row, label in zip(panels, _LEVELS.values(), strict=True):
        row[0].set_ylabel(label)
    dot: dict[str, Any] = {"linestyle": "none", "markersize": 3}
    handles: list[Artist] = [
        Line2D([], [], marker="o", color=ink(i, len(rates)), label=equation("lr", rate), **dot)
        for i, rate in enumerate(rates)
    ]
    handles += [
        Line2D(
            [], [], marker=shape, color="black", label=f"weights of width {number(scale)}", **dot
        )
        for shape, scale in zip(MARKERS, scales, strict=False)
    ]
    dot["color"] = "black"
    hollow = {**dot, "marker": "o", "markerfacecolor": "none"}
    handles.append(Line2D([], [], label="not within the horizon", **hollow))
    handles.append(Line2D([], [], label="diverged", marker="x", **dot))
    statuses = set(frame["status"].astype(str))
    handles += edge_samples(status for status in NEVER if status in statuses)
    legend_below(figure, page, handles)
    return figure


def _fitted(text: str, page: Size, panels: int) -> str:
    """Wrap text to the width of one of `panels` panels in a row."""
    return wrapped(text, int(4.5 * page.width / page.font / panels))


def _scatter(panel: Axes, rows: pd.DataFrame, share: str, level: str, look: dict[str, Any]) -> None:
    epochs = rows[level].to_numpy(float, na_value=np.nan)
    stops = rows["epochs_run"].to_numpy(float, na_value=np.nan)
    diverged = (rows["status"] == "not_finite").to_numpy()
    reached = np.isfinite(epochs)
    shares = rows[share].to_numpy(float)
    never = rows["status"].isin(NEVER).to_numpy()
    for status in NEVER:
        draw_at_edge(panel, shares[(rows["status"] == status).to_numpy()], status)
    size: dict[str, Any] = {"linestyle": "none", "markersize": 1.6, "markeredgewidth": 0.4}
    for selected, heights, change in (
        (reached, epochs, {"alpha": 0.6}),
        (~reached & ~diverged & ~never, stops, {"markerfacecolor": "none"}),
        (~reached & diverged, stops, {"marker": "x"}),
    ):
        # A logarithmic scale cannot show an epoch of 0.
        epochs_shown = np.maximum(heights[selected], 1)
        panel.plot(shares[selected], epochs_shown, rasterized=True, **{**size, **look, **change})


@styled
def accuracy_curves(frame: pd.DataFrame, *, size: SizeName = "page") -> Figure:
    """Draw the test accuracy over the epochs, at each learning rate and at the best rate per loss.

    The panels have one column per width of the initial weights and one row per learning rate. In
    the last row every loss has the rate with the best final median (see `best_rates`). Lines are
    medians over the runs; shaded bands range from the first to the third quartile. A run that
    ended early keeps its last accuracy.

    Args:
        frame: a table of results with the coordinates `scale` and `lr`, and with the accuracies in
            the columns `accuracy_0`, `accuracy_10`, ... by epoch, and `final_accuracy`.
        size: "page" (180 mm wide) or "column" (85 mm).

    Raises:
        PlateaumapError: The table lacks a column.
    """
    require(
        frame, ("loss", "scale", "lr", "epochs_run", "accuracy_0", "final_accuracy"),
        "accuracy_curves",
    )  # fmt: skip
    page = size_named(size)
    losses = _losses(frame)
    rates, scales = (sorted(frame[name].unique()) for name in ("lr", "scale"))
    groups = [(equation("lr", rate), frame[frame["lr"] == rate]) for rate in rates]
    groups.append((_BEST_TITLE, best_rates(frame)))
    epochs, accuracy = accuracies(frame)
    height = (0.2 * len(groups) if size == "page" else 0.36 * len(groups)) * page.width + 16
    figure = new_figure(page, height, layout="constrained")
    panels = figure.subplots(len(groups), len(scales), sharex=True, sharey=True, squeeze=False)
    for row, (title, rows) in enumerate(groups):
        panels[row][0].set_ylabel(f"{title}\ntest accuracy")
        for column, scale in enumerate(scales):
            panel = panels[row][column]
            for place, loss in enumerate(losses):
                runs = rows[(rows["scale"] == scale) & (rows["loss"].astype(str) == loss)]
                _draw_accuracy(panel, epochs, accuracy[frame.index.get_indexer(runs.index)], place)
            _dress(panel, epochs, page, len(scales))
    for column, scale in enumerate(scales):
        title = _fitted(f"weights of width {number(scale)}", page, len(scales))
        panels[0][column].set_title(title, loc="center", fontweight="bold")
        panels[-1][column].set_xlabel("epochs")
    handles = [
        Line2D([], [], color=INKS[i], linestyle=dash(i), label=loss_words(loss))
        for i, loss in enumerate(losses)
    ]
    legend_below(figure, page, handles)
    return figure


def best_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the runs at the rate with the best final median, for each loss and width."""
    filled = frame.assign(final_accuracy=accuracies(frame)[1][:, -1])
    keys = ["loss", "scale", "lr"]
    medians = filled.groupby(keys, observed=True)["final_accuracy"].median()
    best = medians.groupby(level=keys[:2], observed=True).idxmax()
    settings = pd.MultiIndex.from_frame(frame[keys].astype({"loss": str}))
    return frame[settings.isin([(str(loss), scale, rate) for loss, scale, rate in best])]


def accuracies(frame: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the epochs at which the accuracy is known, and the accuracies of each row.

    A run that ended early keeps its last accuracy.

    Returns:
        The epochs of shape (n,), ascending, and the accuracies of shape (rows, n).

    Raises:
        PlateaumapError: The table lacks a column.
    """
    require(frame, ("epochs_run", "final_accuracy"), "accuracies")
    horizon = float(frame["epochs_run"].max())
    columns = {
        int(match[1]): match[0] for match in map(_ACCURACY.fullmatch, frame.columns) if match
    }
    epochs = sorted(epoch for epoch in columns if epoch < horizon)
    values = frame[[*(columns[epoch] for epoch in epochs), "final_accuracy"]].astype(float)
    return np.array([*epochs, horizon], float), values.ffill(axis=1).to_numpy()


def _draw_accuracy(
    panel: Axes, epochs: NDArray[np.float64], values: NDArray[np.float64], place: int
) -> None:
    if not len(values):
        return
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), axis=0)
    panel.fill_between(epochs, low, high, color=INKS[place], alpha=0.2, linewidth=0)
    panel.plot(epochs, middle, color=INKS[place], linestyle=dash(place), linewidth=1.1)


def _dress(panel: Axes, epochs: NDArray[np.float64], page: Size, panels: int) -> None:
    first = epochs[1] if len(epochs) > 1 else 1.0
    panel.set_xscale("symlog", linthresh=first)
    fitting = max(2, int(page.width / panels / 9))
    step = -(-len(epochs) // fitting)
    named = set(epochs[::-1][::step]) | {epochs[0]}
    panel.set_xticks(epochs, [f"{epoch:g}" if epoch in named else "" for epoch in epochs])
    panel.minorticks_off()
    panel.set_ylim(0, 1)
    panel.grid(True)
    panel.tick_params(labelsize=page.font)


def _losses(frame: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(frame["loss"].astype(str)))
