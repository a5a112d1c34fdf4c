"""The view of the explorer: a window onto two coordinates, with all others fixed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plateaumap.experiment.coordinates import Choice, Coordinate
from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.inputs.errors import PlateaumapError, advice
from plateaumap.sweep.axes import Axis, geomspace, linspace, values
from plateaumap.sweep.meaning import loss_name
from plateaumap.sweep.spec import DEFAULT_HORIZON, Sweep
from plateaumap.table.display import value_text
from plateaumap.theory.base import case_of
from plateaumap.training.measures import LEVELS

Span = tuple[float, float]

THEORY, SIMULATION = "theory", "simulation"
METHODS = (THEORY, SIMULATION)

_PREFERRED = ("w0", "b0")
_LOGARITHMIC = ("lr",)
_SPANS: Mapping[str, Span] = {"lr": (1e-3, 10.0), "x": (-4.0, 4.0), "y": (0.0, 1.0)}
_DEFAULT_SPAN = (-8.0, 8.0)
_MARGIN = 0.05


def _usual_spans() -> Mapping[str, Span]:
    return dict.fromkeys(_PREFERRED, _DEFAULT_SPAN)


def _unlucky_start() -> Mapping[str, Choice]:
    return {"w0": 2.0, "b0": 2.0, "lr": 0.15, "x": 1.0, "y": 0.0}


@dataclass(frozen=True)
class View:
    """A window onto the plateau lengths of an experiment.

    Attributes:
        experiment: the model that is trained.
        losses: names or functions, as `Sweep` takes them.
        across: the coordinate on the horizontal side of the map.
        up: the coordinate on the vertical side of the map.
        spans: the ends of the window, low and high, for these two coordinates.
        fixed: a value for every coordinate. The window replaces the values of `across` and `up`.
        method: "theory" (exact lengths without a simulation, where a theory exists) or
            "simulation".
        horizon: the epoch at which a simulated run is censored.
        tolerance: an initial point with |output − target| up to this has converged.
        name: the name of the sweep from which the view was created.
        requested_losses: the losses from which the view was created; an activation may know only
            some of them. None stands for `losses`.

    Example:
        >>> view = View().with_window((-3, 6), (-2, 5))
        >>> view.sweep(width=9, height=7).size
        63
    """

    experiment: Any = field(default_factory=SingleNeuron)
    losses: tuple[Any, ...] = ("quadratic", "cross_entropy")
    across: str = "w0"
    up: str = "b0"
    spans: Mapping[str, Span] = field(default_factory=_usual_spans)
    fixed: Mapping[str, Choice] = field(default_factory=_unlucky_start)
    method: str = THEORY
    horizon: int = DEFAULT_HORIZON
    tolerance: float = 0.01
    name: str = "view"
    requested_losses: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, sweep: Sweep) -> View:
        """Return the view of a whole sweep.

        The map shows the first two coordinates that vary, w0 and b0 before others. Every other
        coordinate is fixed at the middle value of its axis.

        Raises:
            PlateaumapError: the experiment has fewer than two continuous coordinates, or the sweep
                needs functions that only its author has.
        """
        sweep.require_runnable()
        coordinates = {c.name: c for c in sweep.experiment.coordinates}
        names = [name for name, coordinate in coordinates.items() if is_continuous(coordinate)]
        if len(names) < 2:
            raise PlateaumapError(
                f"this experiment has the continuous coordinates {', '.join(names) or 'none'}; "
                "a map needs two"
            )
        columns = {name: column for axis in sweep.axes for name, column in axis.columns.items()}
        across, up = _sides(names, columns)
        fixed = {name: _plain(column[len(column) // 2]) for name, column in columns.items()}
        fixed |= sweep.fixed
        return cls(
            experiment=sweep.experiment,
            losses=sweep.losses,
            across=across,
            up=up,
            spans={
                name: _span(coordinates[name], columns.get(name), fixed[name])
                for name in (across, up)
            },
            fixed={name: fixed[name] for name in coordinates},
            horizon=sweep.horizon or DEFAULT_HORIZON,
            tolerance=sweep.tolerance,
            name=sweep.name,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all coordinates."""
        return tuple(coordinate.name for coordinate in self.experiment.coordinates)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """The names of the losses, as tables show them."""
        return tuple(str(loss_name(loss)) for loss in self.losses)

    @property
    def continuous_names(self) -> tuple[str, ...]:
        """The names of the coordinates that can be a side of the map."""
        return tuple(c.name for c in self.experiment.coordinates if is_continuous(c))

    def coordinate(self, name: str) -> Coordinate:
        """Return the coordinate of a name.

        Raises:
            PlateaumapError: the experiment has no coordinate of that name.
        """
        for coordinate in self.experiment.coordinates:
            if coordinate.name == name:
                return coordinate
        raise PlateaumapError(f"no coordinate {name!r}; {advice(name, self.names)}")

    def replace(self, **fields: Any) -> View:
        """Return a copy with some fields replaced."""
        return dataclasses.replace(self, **fields)

    def with_value(self, name: str, value: Choice) -> View:
        """Return a copy with another fixed value of a coordinate.

        Raises:
            PlateaumapError: the coordinate does not allow this value.
        """
        coordinate = self.coordinate(name)
        finite = isinstance(value, str) or math.isfinite(value)
        if not finite or not coordinate.allows(value).all():
            shown = repr(value) if isinstance(value, str) else value_text(value)
            raise PlateaumapError(f"{name} = {shown}: must be {_allowed_words(coordinate)}")
        return self.replace(fixed={**self.fixed, name: value})

    def with_sides(self, across: str, up: str) -> View:
        """Return a copy with other coordinates on the sides of the map.

        Raises:
            PlateaumapError: the names are equal, or one is unknown.
        """
        if across == up:
            raise PlateaumapError(f"{across} is on both sides of the map; choose two coordinates")
        spans = {
            name: self.spans.get(name, _span(self.coordinate(name), None, self.fixed[name]))
            for name in (across, up)
        }
        return self.replace(across=across, up=up, spans=spans)

    def with_activation(self, activation: str) -> View:
        """Return a copy with another activation and the requested losses that it knows.

        Raises:
            PlateaumapError: the activation is unknown, or does not allow a value of a coordinate.
        """
        experiment = SingleNeuron(activation)
        known = experiment.known_losses
        requested = self.losses if self.requested_losses is None else self.requested_losses
        losses = tuple(
            loss
            for loss in dict.fromkeys(
                _loss_under(loss, known) if isinstance(loss, str) else loss for loss in requested
            )
            if loss is not None
        )
        view = self.replace(
            experiment=experiment, losses=losses or known[:1], requested_losses=requested
        )
        for name in sorted(set(view.names) - {view.across, view.up}):
            view = view.with_value(name, view.fixed[name])
        return view.with_window(view.spans[view.across], view.spans[view.up])

    def with_window(self, across: Span, up: Span) -> View:
        """Return a copy with another window, cut to the ranges of the coordinates.

        Raises:
            PlateaumapError: the window lies outside a range, or is too small for float64.
        """
        spans = {
            name: self._allowed(name, span) for name, span in ((self.across, across), (self.up, up))
        }
        return self.replace(spans=spans)

    def _allowed(self, name: str, span: Span) -> Span:
        low, high = sorted(span)
        coordinate = self.coordinate(name)
        low, high = max(low, coordinate.minimum), min(high, coordinate.maximum)
        if coordinate.minimum_excluded and low <= coordinate.minimum:
            low = min(_SPANS.get(name, (1e-3, 1.0))[0], high / 1e6)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise PlateaumapError(
                f"{name} from {span[0]:g} to {span[1]:g}: the window must be "
                f"{coordinate.range or 'finite'}"
            )
        if high - low < 1e4 * np.spacing(max(abs(low), abs(high))):
            raise PlateaumapError(
                f"{name} from {low!r} to {high!r}: the window is too small for float64; zoom out"
            )
        return low, high

    def axis(self, name: str, cells: int) -> Axis:
        """Return the centres of `cells` cells along one side of the window as an axis."""
        low, high = self.spans[name]
        if is_logarithmic(name):
            half = (math.log(high) - math.log(low)) / cells / 2
            ends = math.exp(math.log(low) + half), math.exp(math.log(high) - half)
        else:
            half = (high - low) / cells / 2
            ends = low + half, high - half
        if cells == 1:
            return values(name, [ends[0]])
        return (geomspace if is_logarithmic(name) else linspace)(name, *ends, cells)

    def sweep(
        self, width: int, height: int, losses: tuple[Any, ...] | None = None, until: str = "plateau"
    ) -> Sweep:
        """Return the sweep of the window, with one point at the centre of each cell.

        Args:
            width: the number of cells on the horizontal side.
            height: the number of cells on the vertical side, which is the slower axis.
            losses: some of the losses of the view; by default all.
            until: as `Sweep` takes it.

        Raises:
            SpecError: the sweep is not valid.
        """
        axes = [self.axis(self.up, height), self.axis(self.across, width)]
        fixed = {n: v for n, v in self.fixed.items() if n not in (self.across, self.up)}
        return self._sweep(self.losses if losses is None else losses, until, axes, fixed)

    def point(self, across: float, up: float) -> Sweep:
        """Return the sweep of one point of the window, for all losses and up to T90."""
        fixed = {**self.fixed, self.across: across, self.up: up}
        return self._sweep(self.losses, "tenth", [], fixed)

    def _sweep(
        self, losses: tuple[Any, ...], until: str, axes: list[Axis], fixed: Mapping[str, Choice]
    ) -> Sweep:
        by_theory = self.method == THEORY and any(map(self.has_theory, losses))
        return Sweep(
            name=self.name,
            experiment=self.experiment,
            losses=list(losses),
            axes=axes,
            fixed=fixed,
            method="leap" if by_theory else "simulate",
            horizon=None if by_theory else self.horizon,
            until=until,
            tolerance=self.tolerance,
        )

    def has_theory(self, loss: Any) -> bool:
        """Return whether plateau lengths under a loss are known without a simulation."""
        return case_of(self.experiment.theory(loss)) is not None

    def spec(self, width: int, height: int, measure: str) -> str:
        """Return the spec of the window as TOML text, which `plateaumap run` accepts.

        Raises:
            PlateaumapError: a loss or the experiment is a user's code, which no file holds.
        """
        custom = [f"the loss {loss_name(v)!r}" for v in self.losses if not isinstance(v, str)]
        if not isinstance(self.experiment, SingleNeuron):
            custom.append(type(self.experiment).__name__)
        if custom:
            raise PlateaumapError(
                f"{custom[0]} is custom code, which a spec does not hold; save the figure, or "
                "change the axes in the script that defines it"
            )
        return self.sweep(width, height, until=until(measure)).to_toml()


def until(measure: str) -> str:
    """Return the setting `until` of `Sweep` with which runs reach a length."""
    return "plateau" if measure == next(iter(LEVELS)) else "tenth"


def is_continuous(coordinate: Coordinate) -> bool:
    """Return whether a coordinate can be a side of a map: neither an integer nor a choice."""
    return not coordinate.choices and not coordinate.integer


def is_logarithmic(name: str) -> bool:
    """Return whether a coordinate has a logarithmic scale."""
    return name in _LOGARITHMIC


def position(name: str, value: float) -> float:
    """Return the position of a value on the map: the value, or its decimal logarithm."""
    return math.log10(value) if is_logarithmic(name) else value


def value_at(name: str, place: float) -> float:
    """Return the value at a position on the map."""
    return 10.0**place if is_logarithmic(name) else place


def _sides(names: list[str], columns: Mapping[str, NDArray[Any]]) -> tuple[str, str]:
    """Return the two coordinates to draw: those that vary first, then w0 and b0."""
    varied = [name for name in names if len(np.unique(columns.get(name, ()))) > 1]
    varied.sort(key=lambda name: name not in _PREFERRED)
    usual = [name for name in _PREFERRED if name in names]
    across, up = list(dict.fromkeys([*varied, *usual, *names]))[:2]
    return _PREFERRED if {across, up} == set(_PREFERRED) else (across, up)


def _allowed_words(coordinate: Coordinate) -> str:
    if coordinate.choices:
        return f"one of {', '.join(map(str, coordinate.choices))}"
    return coordinate.range or "a finite number"


def _plain(value: Any) -> Choice:
    return value.item() if isinstance(value, np.generic) else value


def _loss_under(loss: str, known: tuple[str, ...]) -> str | None:
    """Return the name of a loss under another activation, or None if it has none there.

    The cross-entropy is the matching loss of the sigmoid.
    """
    if loss == "matching" and "cross_entropy" in known:
        return "cross_entropy"
    twins = {"matching": "cross_entropy", "cross_entropy": "matching"}
    return next((name for name in (loss, twins.get(loss)) if name in known), None)


def _span(coordinate: Coordinate, column: NDArray[Any] | None, fixed: Choice) -> Span:
    """Return a window that holds all values of a column, or the usual values and `fixed`."""
    name = coordinate.name
    if column is None or len(np.unique(column)) < 2:
        low, high = _SPANS.get(name, _DEFAULT_SPAN)
        return min(low, float(fixed)), max(high, float(fixed))
    low, high = float(np.min(column)), float(np.max(column))
    margin = _MARGIN if len(column) < 30 else 0.5 / (len(column) - 1)
    if is_logarithmic(name):
        reach = (high / low) ** margin
        return low / reach, high * reach
    reach = (high - low) * margin
    return max(low - reach, coordinate.minimum), min(high + reach, coordinate.maximum)
