"""What is looked at: a window onto two coordinates, the others at rest. Window in, spec out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
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
from plateaumap.theory.theory import case_of
from plateaumap.training.measures import LEVELS

Span = tuple[float, float]

THEORY, SIMULATION = "theory", "simulation"
METHODS = (THEORY, SIMULATION)

_ON_THE_MAP = ("w0", "b0")
_LOGARITHMIC = ("lr",)
_SPANS: Mapping[str, Span] = {"lr": (1e-3, 10.0), "x": (-4.0, 4.0), "y": (0.0, 1.0)}
_DEFAULT_SPAN = (-8.0, 8.0)
_START = {"w0": 2.0, "b0": 2.0, "lr": 0.15, "x": 1.0, "y": 0.0}
_MARGIN = 0.05
_SHORTEST_NAME = "view"


@dataclass(frozen=True)
class View:
    """A window onto the plateaus of an experiment.

    Attributes:
        experiment: what is trained.
        losses: names or functions, as a sweep takes them.
        across: the coordinate drawn to the right.
        up: the coordinate drawn upward.
        spans: for these two the ends of the window, low and high.
        rest: a value for every coordinate; those on the map take theirs from the window.
        method: "theory" (each window at once, where there is one) or "simulation".
        horizon: epochs after which a simulated run is given up.
        tolerance: a start with |output − target| up to this counts as converged.
        name: of the sweep that it began with.
        wanted: the losses that it began with, of which an activation may not have all; None: they
            are those that it has.
    """

    experiment: Any = dataclasses.field(default_factory=SingleNeuron)
    losses: tuple[Any, ...] = ("quadratic", "cross_entropy")
    across: str = "w0"
    up: str = "b0"
    spans: Mapping[str, Span] = dataclasses.field(
        default_factory=lambda: {"w0": _DEFAULT_SPAN, "b0": _DEFAULT_SPAN}
    )
    rest: Mapping[str, Choice] = dataclasses.field(default_factory=lambda: dict(_START))
    method: str = THEORY
    horizon: int = DEFAULT_HORIZON
    tolerance: float = 0.01
    name: str = _SHORTEST_NAME
    wanted: tuple[Any, ...] | None = None

    @classmethod
    def of(cls, sweep: Sweep) -> View:
        """The view of a whole sweep: its first two axes, the others at their middle value.

        w0 and b0 come first where they vary.

        Raises:
            PlateaumapError: the sweep has fewer than two coordinates, or needs functions that
                only its author has.
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
        varied = [name for name in names if len(np.unique(columns.get(name, ()))) > 1]
        ranked = sorted(
            dict.fromkeys([*varied, *(n for n in _ON_THE_MAP if n in names), *names]),
            key=lambda name: (
                name not in _ON_THE_MAP if name in varied else 2,
                varied.index(name) if name in varied else 0,
            ),
        )
        across, up = ranked[:2]
        if {across, up} == set(_ON_THE_MAP):
            across, up = _ON_THE_MAP
        rest = {name: _plain(column[len(column) // 2]) for name, column in columns.items()}
        rest |= sweep.fixed
        spans = {
            name: _span(coordinates[name], columns.get(name), rest[name]) for name in (across, up)
        }
        return cls(
            experiment=sweep.experiment,
            losses=sweep.losses,
            across=across,
            up=up,
            spans=spans,
            rest={name: rest[name] for name in coordinates},
            horizon=sweep.horizon or DEFAULT_HORIZON,
            tolerance=sweep.tolerance,
            name=sweep.name,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All coordinates."""
        return tuple(coordinate.name for coordinate in self.experiment.coordinates)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What tables call the losses."""
        return tuple(str(loss_name(loss)) for loss in self.losses)

    @property
    def sides(self) -> tuple[str, ...]:
        """The coordinates that can be on the map."""
        return tuple(c.name for c in self.experiment.coordinates if is_continuous(c))

    def coordinate(self, name: str) -> Coordinate:
        """What the experiment tells about a coordinate.

        Raises:
            PlateaumapError: it has none of that name.
        """
        for coordinate in self.experiment.coordinates:
            if coordinate.name == name:
                return coordinate
        raise PlateaumapError(f"no coordinate {name!r}; {advice(name, self.names)}")

    def changed(self, **fields: Any) -> View:
        """The same view with some fields changed."""
        return dataclasses.replace(self, **fields)

    def at_rest(self, name: str, value: Choice) -> View:
        """The same view with another value of a coordinate.

        Raises:
            PlateaumapError: the coordinate cannot have it.
        """
        coordinate = self.coordinate(name)
        finite = isinstance(value, str) or math.isfinite(value)
        if not finite or not coordinate.allows(value).all():
            told = repr(value) if isinstance(value, str) else value_text(value)
            raise PlateaumapError(f"{name} is {told}; give {_allowed_words(coordinate)}")
        return self.changed(rest={**self.rest, name: value})

    def onto(self, across: str, up: str) -> View:
        """The same view with other coordinates on the map.

        Raises:
            PlateaumapError: both are the same, or unknown.
        """
        if across == up:
            raise PlateaumapError(f"{across} is on both sides of the map; choose two coordinates")
        spans = {
            name: self.spans.get(name, _span(self.coordinate(name), None, self.rest[name]))
            for name in (across, up)
        }
        return self.changed(across=across, up=up, spans=spans)

    def with_activation(self, activation: str) -> View:
        """The same view with another activation, and the losses that suit it.

        Raises:
            PlateaumapError: the activation is unknown, or a coordinate has a value that it
                cannot have.
        """
        experiment = SingleNeuron(activation)
        known = experiment.known_losses
        wanted = self.losses if self.wanted is None else self.wanted
        had = (_translated(loss, known) if isinstance(loss, str) else loss for loss in wanted)
        losses = tuple(loss for loss in dict.fromkeys(had) if loss is not None)
        view = self.changed(experiment=experiment, losses=losses or known[:1], wanted=wanted)
        for name in sorted(set(view.names) - {view.across, view.up}):
            view = view.at_rest(name, view.rest[name])
        return view.moved(view.spans[view.across], view.spans[view.up])

    def moved(self, across: Span, up: Span) -> View:
        """The same view with another window, cut to what the coordinates allow.

        Raises:
            PlateaumapError: nothing of it is allowed, or it is too small to tell values apart.
        """
        spans = {
            name: self._allowed(name, span) for name, span in ((self.across, across), (self.up, up))
        }
        return self.changed(spans=spans)

    def _allowed(self, name: str, span: Span) -> Span:
        low, high = sorted(span)
        coordinate = self.coordinate(name)
        low, high = max(low, coordinate.minimum), min(high, coordinate.maximum)
        if coordinate.minimum_excluded and low <= coordinate.minimum:
            low = min(_SPANS.get(name, (1e-3, 1.0))[0], high / 1e6)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise PlateaumapError(
                f"{name} would run from {span[0]:g} to {span[1]:g}; it must be {coordinate.range}"
                if coordinate.range
                else f"{name} would run from {span[0]:g} to {span[1]:g}; give a window"
            )
        if high - low < 1e4 * np.spacing(max(abs(low), abs(high))):
            raise PlateaumapError(
                f"{name} would run from {low!r} to {high!r}, too little for float64 to divide; "
                "zoom out"
            )
        return low, high

    def axis(self, name: str, cells: int) -> Axis:
        """The centres of so many cells along one side of the window, as an axis of a sweep."""
        low, high = self.spans[name]
        if is_logarithmic(name):
            half = (math.log(high) - math.log(low)) / cells / 2
            ends = math.exp(math.log(low) + half), math.exp(math.log(high) - half)
        else:
            half = (high - low) / cells / 2
            ends = low + half, high - half
        if cells == 1:
            return values(name, [ends[0]])
        return (
            geomspace(name, *ends, cells) if is_logarithmic(name) else linspace(name, *ends, cells)
        )

    def sweep(
        self, width: int, height: int, losses: tuple[Any, ...] | None = None, until: str = "plateau"
    ) -> Sweep:
        """The sweep of the window, one point at the centre of each cell.

        Args:
            width: cells to the right.
            height: cells upward; this is the slower axis.
            losses: some of the view's losses; by default all.
            until: as `Sweep` takes it.

        Raises:
            SpecError: the sweep would not be valid.
        """
        chosen = self.losses if losses is None else losses
        return self._sweep(
            chosen, until, axes=[self.axis(self.up, height), self.axis(self.across, width)]
        )

    def point(self, across: float, up: float) -> Sweep:
        """The sweep of one point of the window, for all losses and to T90."""
        here = {self.across: across, self.up: up}
        return self._sweep(self.losses, "tenth", axes=[], fixed={**self.rest, **here})

    def _sweep(self, losses: tuple[Any, ...], until: str, **fields: Any) -> Sweep:
        rest = {n: v for n, v in self.rest.items() if n not in (self.across, self.up)}
        by_theory = self.method == THEORY and any(map(self.has_theory, losses))
        return Sweep(
            name=self.name,
            experiment=self.experiment,
            losses=list(losses),
            method="leap" if by_theory else "simulate",
            horizon=None if by_theory else self.horizon,
            until=until,
            tolerance=self.tolerance,
            **{"fixed": rest, **fields},
        )

    def has_theory(self, loss: Any) -> bool:
        """Whether plateau lengths under a loss are known without simulating."""
        return case_of(self.experiment.theory(loss)) is not None

    def spec(self, width: int, height: int, measure: str) -> str:
        """The spec of the window as TOML text, which `plateaumap run` accepts.

        Raises:
            PlateaumapError: the view has code of its author's, which no file holds.
        """
        own = [loss_name(loss) for loss in self.losses if not isinstance(loss, str)]
        if own or not isinstance(self.experiment, SingleNeuron):
            told = f"the loss {own[0]!r}" if own else type(self.experiment).__name__
            raise PlateaumapError(
                f"{told} is code of its author's, which a spec does not hold; "
                "save the figure, or change the axes in the script that defines it"
            )
        return self.sweep(width, height, until=until(measure)).to_toml()


def until(measure: str) -> str:
    """How far runs must go so that a length is measured."""
    return "plateau" if measure == next(iter(LEVELS)) else "tenth"


def is_continuous(coordinate: Coordinate) -> bool:
    """Whether a coordinate can be on a map: neither a whole number nor one of some choices."""
    return not coordinate.choices and not coordinate.integer


def _allowed_words(coordinate: Coordinate) -> str:
    if coordinate.choices:
        return f"one of {', '.join(map(str, coordinate.choices))}"
    return coordinate.range or "a finite number"


def _plain(value: Any) -> Choice:
    return value.item() if isinstance(value, np.generic) else value


def is_logarithmic(name: str) -> bool:
    """Whether a coordinate is drawn by its logarithm."""
    return name in _LOGARITHMIC


def position(name: str, value: float) -> float:
    """Where a value stands on the map: itself, or its decimal logarithm."""
    return math.log10(value) if is_logarithmic(name) else value


def value_at(name: str, place: float) -> float:
    """The value at a position on the map."""
    return 10.0**place if is_logarithmic(name) else place


def _translated(loss: str, known: tuple[str, ...]) -> str | None:
    """A loss under another activation: cross-entropy is the sigmoid's matching loss."""
    twins = {"matching": "cross_entropy", "cross_entropy": "matching"}
    if loss == "matching" and "cross_entropy" in known:
        return "cross_entropy"
    return next((name for name in (loss, twins.get(loss)) if name in known), None)


def _span(coordinate: Coordinate, column: NDArray[Any] | None, rest: Choice) -> Span:
    """A window that holds all values of a column, or else the usual ones and `rest`."""
    name = coordinate.name
    if column is None or len(np.unique(column)) < 2:
        low, high = _SPANS.get(name, _DEFAULT_SPAN)
        return min(low, float(rest)), max(high, float(rest))
    low, high = float(np.min(column)), float(np.max(column))
    margin = _MARGIN if len(column) < 30 else 0.5 / (len(column) - 1)
    if is_logarithmic(name):
        reach = (high / low) ** margin
        return low / reach, high * reach
    reach = (high - low) * margin
    return max(low - reach, coordinate.minimum), min(high + reach, coordinate.maximum)
