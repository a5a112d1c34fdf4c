"""The story of one neuron: what is measured of its run, in sentences and as a small plot."""

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
"""Epochs beyond which the curve is cut off in plots."""

_FORMATS = (".png", ".pdf", ".svg")
_PLOT_WIDTH, _PLOT_HEIGHT = 64, 12


@dataclass(frozen=True)
class Story:
    """One run and its curve.

    Attributes:
        record: the row that the table would have for this point.
        curve: `simulate`'s table, to somewhat past the end of the run.
        activation: the name of the neuron's activation.
        horizon: epochs after which the run was given up.
    """

    record: Mapping[str, Any]
    curve: pd.DataFrame
    activation: str
    horizon: int

    def to_text(self) -> str:
        """Return the story as lines of text, with a plot of the loss."""
        return "\n".join([self._title(), "", *self._lines(), "", *plot(self.curve)])

    def draw(self, path: Path) -> None:
        """Draw the curves into a file.

        Raises:
            PlateaumapError: the file's suffix names no format, or it cannot be written.
        """
        from plateaumap.report.figures import learning_curves, save

        path = figure_file(path)
        figure = learning_curves(
            {self.record["loss"]: self.curve},
            plateau_epochs={self.record["loss"]: self.record["plateau_epochs"]},
        )
        try:
            save(figure, path)
        except OSError as error:
            raise PlateaumapError(
                f"{path} cannot be written: {error.strerror}; give another file"
            ) from error

    def _title(self) -> str:
        r = self.record
        z = r["w0"] * r["x"] + r["b0"]
        return (
            f"A {self.activation} neuron under the {r['loss']} loss, from w = {r['w0']:g}, "
            f"b = {r['b0']:g}\n(z = {z:g} at the input x = {r['x']:g}) towards y = {r['y']:g}, "
            f"learning rate {r['lr']:g}"
        )

    def _lines(self) -> list[str]:
        r = self.record
        entries = [
            ("first output", f"{r['initial_output']:.4g}"),
            ("first loss", f"{r['initial_loss']:.4g}"),
            ("first gradient", f"{r['initial_gradient']:.4g}   dC/dz"),
            ("plateau", self._plateau()),
            ("half of the loss gone", _epochs(r["half_epochs"], "T50")),
            ("a tenth of it left", _epochs(r["tenth_epochs"], "T90")),
            ("plateau fraction", _number(r["plateau_fraction"], "T10/T90")),
            ("acceleration", _number(r["acceleration"], "largest over first gradient")),
            ("steepest epoch", "-" if r["steepest_epoch"] is None else str(r["steepest_epoch"])),
            ("tangent lag", _number(r["tangent_lag"], "epochs")),
            ("w and b moved by T10", f"{_short(r['w_moved'])} and {_short(r['b_moved'])}"),
            ("plateau by theory", _number(r["predicted_epochs"], "epochs")),
            ("shape", r["shape"] or "-"),
        ]
        if r["path"] is not None:
            entries.append(("path", r["path"]))
        return [f"  {name:<22} {text}" for name, text in entries]

    def _plateau(self) -> str:
        r = self.record
        if r["plateau_epochs"] is not None:
            return f"{r['plateau_epochs']} epochs   T10: a tenth of the loss gone"
        return {
            "censored": f"longer than {self.horizon} epochs (the horizon)",
            "converged_at_start": "none: the output starts at its target",
            "stationary": f"without end: the gradient is zero from epoch {r['epochs_run']} on",
            "stalled": f"without end: rounding stops the run at epoch {r['epochs_run']}",
            "partially_stalled": f"unknown: rounding freezes w or b at epoch {r['epochs_run']}",
            "not_finite": f"none: the run is not finite at epoch {r['epochs_run']}",
            "beyond_int64": "longer than 2^63 epochs",
        }[r["status"]]


def figure_file(given: str | PathLike[str]) -> Path:
    """Return the path of a file to draw into.

    Raises:
        PlateaumapError: its suffix names no format of figures.
    """
    path = local_path(given, "file")
    if path.suffix not in _FORMATS:
        raise PlateaumapError(
            f"{path} ends in {path.suffix!r}; give a file that ends in {' or '.join(_FORMATS)}"
        )
    return path


def tell(loss: str, point: Mapping[str, float], activation: str, horizon: int) -> Story:
    """Run one neuron and return its story.

    Args:
        loss: the name of a loss.
        point: w0, b0, lr, x and y.
        activation: the neuron's activation.
        horizon: epochs after which to give up.

    Raises:
        PlateaumapError: for values that no sweep would take.
    """
    sweep = Sweep(
        name="point",
        experiment=SingleNeuron(activation),
        losses=[loss],
        fixed=dict(point),
        horizon=horizon,
    )
    record = evaluate(sweep, point)
    length = min(max(10, int(1.2 * record["epochs_run"])), LONGEST_PLOT)
    curve = simulate(
        loss=loss,
        w0=point["w0"],
        b0=point["b0"],
        lr=point["lr"],
        x=point["x"],
        y=point["y"],
        epochs=length,
        experiment=SingleNeuron(activation),
    )
    return Story(record, curve, activation, horizon)


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
    lines = []
    for row in range(_PLOT_HEIGHT - 1, -1, -1):
        label = {_PLOT_HEIGHT - 1: f"{top:.3g}", 0: "0"}.get(row, "")
        dots = "".join("*" if at == row else " " for at in rows).rstrip()
        lines.append(f"{label:>9} |{dots}")
    last = f"{int(curve['epoch'].iloc[-1])}"
    lines.append(f"{'':>9} +{'-' * _PLOT_WIDTH}")
    lines.append(f"{'loss':>9}  0{'epoch':^{_PLOT_WIDTH - len(last) - 1}}{last}")
    return lines


def _epochs(value: int | None, name: str) -> str:
    return f"-   {name} not reached" if value is None else f"{value} epochs   {name}"


def _number(value: float, meaning: str) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}   {meaning}"


def _short(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}"
