"""The summary of one neuron: its row in words, and its curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.paths import local_path
from plateaumap.queries.simulate import simulate
from plateaumap.runner.run import evaluate
from plateaumap.sweep.spec import Sweep

LONGEST_PLOT = 1_000_000
"""The last epoch of a plot."""

_FORMATS = (".png", ".pdf", ".svg")
_PLOT_WIDTH, _PLOT_HEIGHT = 64, 12


@dataclass(frozen=True)
class PointSummary:
    """One run and its curve.

    Attributes:
        record: the row of the table for this point.
        curve: the table of `simulate`, past the end of the run.
        activation: the name of the activation.
        horizon: the epoch at which the run is censored.
    """

    record: Mapping[str, Any]
    curve: pd.DataFrame
    activation: str
    horizon: int

    def to_text(self) -> str:
        """Return the summary as lines of text, with a plot of the loss."""
        r = self.record
        z = r["w0"] * r["x"] + r["b0"]
        title = (
            f"A {self.activation} neuron under the {r['loss']} loss, from w = {r['w0']:g}, "
            f"b = {r['b0']:g}\n(z = {z:g} at the input x = {r['x']:g}) towards y = {r['y']:g}, "
            f"learning rate {r['lr']:g}"
        )
        entries = [f"  {name:<22} {text}" for name, text in self._entries()]
        return "\n".join([title, "", *entries, "", *plot(self.curve)])

    def draw(self, path: Path) -> None:
        """Draw the curves into a file.

        Raises:
            PlateaumapError: the suffix is not that of a format, or the file cannot be written.
        """
        from plateaumap.report.figures import learning_curves, save

        path = figure_file(path)
        loss = self.record["loss"]
        lengths = {loss: self.record["plateau_epochs"]}
        figure = learning_curves({loss: self.curve}, plateau_epochs=lengths)
        try:
            save(figure, path)
        except OSError as error:
            raise PlateaumapError(
                f"{path} cannot be written: {error.strerror}; choose another file"
            ) from error

    @property
    def plateau(self) -> str:
        """The length of the plateau, or why the run has none."""
        r = self.record
        if r["plateau_epochs"] is not None:
            return f"{r['plateau_epochs']} epochs   T10: the loss lost a tenth"
        return {
            "censored": f"longer than {self.horizon} epochs (the horizon)",
            "converged_at_start": "none: the initial output is at its target",
            "stationary": f"endless: the gradient is zero from epoch {r['epochs_run']} on",
            "stalled": f"endless: rounding stops the run at epoch {r['epochs_run']}",
            "partially_stalled": f"unknown: rounding freezes w or b at epoch {r['epochs_run']}",
            "not_finite": f"none: the run is not finite at epoch {r['epochs_run']}",
            "beyond_int64": "longer than 2^63 epochs",
        }[r["status"]]

    def _entries(self) -> list[tuple[str, str]]:
        r = self.record
        entries = [
            ("initial output", f"{r['initial_output']:.4g}"),
            ("initial loss", f"{r['initial_loss']:.4g}"),
            ("initial gradient", f"{r['initial_gradient']:.4g}   dC/dz"),
            ("plateau", self.plateau),
            ("half of the loss left", _epochs(r["half_epochs"], "T50")),
            ("a tenth of it left", _epochs(r["tenth_epochs"], "T90")),
            ("plateau fraction", _number(r["plateau_fraction"], "T10/T90")),
            ("acceleration", _number(r["acceleration"], "largest over initial gradient")),
            ("steepest epoch", "-" if r["steepest_epoch"] is None else str(r["steepest_epoch"])),
            ("tangent lag", _number(r["tangent_lag"], "epochs")),
            ("w and b moved by T10", f"{_number(r['w_moved'])} and {_number(r['b_moved'])}"),
            ("plateau by theory", _number(r["predicted_epochs"], "epochs")),
            ("shape", r["shape"] or "-"),
        ]
        return entries if r["path"] is None else [*entries, ("path", r["path"])]


def figure_file(path: str | PathLike[str]) -> Path:
    """Return the path of a file for a figure.

    Raises:
        PlateaumapError: the suffix is not that of a format of figures.
    """
    file = local_path(path, "file")
    if file.suffix not in _FORMATS:
        raise PlateaumapError(f"{file}: the name of the file must end in {' or '.join(_FORMATS)}")
    return file


def summarize_point(
    loss: str, point: Mapping[str, float], activation: str, horizon: int
) -> PointSummary:
    """Run one neuron and return its summary.

    Args:
        loss: the name of a loss.
        point: w0, b0, lr, x and y.
        activation: the name of the activation.
        horizon: the epoch at which the run is censored.

    Raises:
        PlateaumapError: an argument has a value that `Sweep` refuses.
    """
    experiment = SingleNeuron(activation)
    sweep = Sweep(
        name="point", experiment=experiment, losses=[loss], fixed=dict(point), horizon=horizon
    )
    record = evaluate(sweep, point)
    epochs = min(max(10, int(1.2 * record["epochs_run"])), LONGEST_PLOT)
    arguments: dict[str, Any] = dict(point)
    curve = simulate(loss=loss, **arguments, epochs=epochs, experiment=experiment)
    return PointSummary(record, curve, activation, horizon)


def plot(curve: pd.DataFrame) -> list[str]:
    """Return the loss against the epoch as lines of characters.

    Args:
        curve: a table with the columns `epoch` and `loss`.
    """
    places = np.linspace(0, len(curve) - 1, _PLOT_WIDTH).round().astype(int)
    loss = curve["loss"].to_numpy()[places]
    top = float(np.max(loss, initial=0.0, where=np.isfinite(loss))) or 1.0
    level = np.clip(np.nan_to_num(loss / top), 0, 1) * (_PLOT_HEIGHT - 1)
    rows = np.rint(level).astype(int)
    labels = {_PLOT_HEIGHT - 1: f"{top:.3g}", 0: "0"}
    lines = []
    for row in range(_PLOT_HEIGHT - 1, -1, -1):
        dots = "".join("*" if at == row else " " for at in rows).rstrip()
        lines.append(f"{labels.get(row, ''):>9} |{dots}")
    last = f"{int(curve['epoch'].iloc[-1])}"
    lines.append(f"{'':>9} +{'-' * _PLOT_WIDTH}")
    lines.append(f"{'loss':>9}  0{'epoch':^{_PLOT_WIDTH - len(last) - 1}}{last}")
    return lines


def _epochs(value: int | None, name: str) -> str:
    return f"-   {name} not reached" if value is None else f"{value} epochs   {name}"


def _number(value: float, unit: str = "") -> str:
    return "-" if np.isnan(value) else f"{value:.4g}   {unit}".rstrip()
