"""Evaluates points under one loss: simulates them, and applies theory where it holds.

An evaluator knows no grid and no file, so that it can be sent to wherever points are evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from plateaumap.execution.simulator import Simulator
from plateaumap.experiment.evaluation import Evaluation, Limits
from plateaumap.experiment.protocol import Experiment
from plateaumap.experiment.reference import name_of
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.table import columns as table
from plateaumap.table.columns import PREDICTION, UNCERTAIN, Arrays, Column
from plateaumap.theory import leap
from plateaumap.theory.base import Theory
from plateaumap.training.descent import Stop
from plateaumap.training.measures import LEVELS, NO_EPOCH, PLATEAU_DROP

LARGEST_SHIFT = 1.0
"""Epochs by which rounding may shift a row that is not marked as uncertain."""

_UNCOMPENSATED = {"float32_plain": 24}
"""Precisions whose rows need that mark, with their binary digits."""

_FLOAT64_DIGITS = 53

_SAFETY = 4
"""A crossing this many times the bound on the rounding shift from an epoch is checked exactly."""

_EXCESS_ROUNDING = 2.0**-46
"""Epochs by which rounding of the loss itself may shift a crossing, for each epoch of a run."""

_NUDGE = 1e-3
"""The relative change of a level, times epochs, that moves its crossing by less than an epoch."""

_SHORT_HORIZON = 64
"""The horizon up to which observing every epoch costs less than ordering the runs."""

_LONGEST_INT32_HORIZON = 2**31 - 1024

Points = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Computes the measured columns of any points under one loss.

    Unlike evaluations, no two evaluators are equal, because the predictions of an experiment are
    not part of the compiled program.

    Attributes:
        evaluation: one run as a pure function.
        method: "simulate" or "leap".
        horizon: epochs after which a run is censored; None for never, with "leap".
        tolerance: the largest |output − target| of an initial point that counts as converged.
    """

    evaluation: Evaluation
    method: str
    horizon: int | None
    tolerance: float

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the measured columns, in order."""
        columns = self.evaluation.columns
        place = [column.name for column in columns].index("epochs_run") + 1
        uncertain = (UNCERTAIN,) if self.evaluation.precision in _UNCOMPENSATED else ()
        return (*columns[:place], PREDICTION, *columns[place:], *uncertain)

    def evaluate(self, simulator: Simulator, points: Points) -> Arrays:
        """Return the measured columns of points.

        Args:
            simulator: simulates them.
            points: arrays of shape (n,), one for each coordinate of the experiment, in the form
                that `Coordinate.stored` returns.

        Returns:
            An array of shape (n,) for each of `columns`.
        """
        if not any(coordinate.choices for coordinate in self._experiment.coordinates):
            return self._measure(simulator, points)
        measured = table.allocate(self.columns, _count(points))

        def measure(rows: np.ndarray, evaluator: Evaluator) -> None:
            table.put(measured, rows, evaluator._measure(simulator, _select(points, rows)))

        with ThreadPoolExecutor(simulator.threads) as pool:  # Programs are compiled in parallel.
            list(pool.map(measure, *zip(*self._by_program(points), strict=True)))
        return measured

    def _by_program(self, points: Points) -> Iterator[tuple[np.ndarray, Evaluator]]:
        """Yield the numbers of points that share all choices, and the evaluator with these."""
        coordinates = [c for c in self._experiment.coordinates if c.choices]
        stored = np.stack([points[coordinate.name] for coordinate in coordinates])
        combinations, group = np.unique(stored, axis=1, return_inverse=True)
        for number, combination in enumerate(combinations.T):
            pairs = zip(coordinates, combination, strict=True)
            static = tuple((c.name, c.plain(value)) for c, value in pairs)
            rows = np.flatnonzero(group.ravel() == number)
            yield rows, replace(self, evaluation=self.evaluation.choose(static))

    def _measure(self, simulator: Simulator, points: Points) -> Arrays:
        """Return the measured columns of points that share one program."""
        theory = self._experiment.theory(self.evaluation.loss)
        predicted = self._predict(theory, points, PLATEAU_DROP)
        if self.method == "leap":
            measured = self._leap(simulator, points, theory, predicted)
        else:
            assert self.horizon is not None
            measured = self._simulate(simulator, points, theory, predicted, self.horizon)
        converged = measured["status"] == leap.CONVERGED
        prediction = np.nan if predicted is None else predicted
        return {**measured, PREDICTION.name: np.where(converged, np.nan, prediction)}

    @property
    def _experiment(self) -> Experiment:
        return self.evaluation.experiment

    def _simulate(
        self,
        simulator: Simulator,
        points: Points,
        theory: Theory | None,
        predicted: np.ndarray | None,
        horizon: int,
    ) -> Arrays:
        length = predicted
        if predicted is not None and (
            self._every_epoch(horizon) or self.evaluation.until == "horizon"
        ):
            length = np.zeros_like(predicted)
        elif predicted is not None and self.evaluation.until == "tenth" and simulator.lockstep:
            length = self._predict(theory, points, LEVELS["tenth_epochs"])
        records = self._records(simulator, points, horizon, length)
        self._require_floor(points, records)
        self._settle_ties(simulator, points, theory, records, horizon)
        return self._mark_uncertain(points, theory, horizon, self.evaluation.arrays(records))

    def _leap(
        self,
        simulator: Simulator,
        points: Points,
        theory: Theory | None,
        predicted: np.ndarray | None,
    ) -> Arrays:
        records = self._records(simulator, points, 0, np.zeros(_count(points)))
        self._require_floor(points, records)
        measured = self._mark_uncertain(points, theory, 0, self.evaluation.arrays(records))
        lengths = leap.lengths_of(theory, points, self.evaluation.until)
        running = np.isin(measured["status"], leap.UNDECIDED_AT_START)
        simulated = running if lengths is None else running & lengths.unanswered
        if lengths is not None:
            columns = self.evaluation.columns
            lengths.fill(measured, columns, running & ~simulated, self.horizon)
        if simulated.any():
            some = _select(points, simulated)
            length = None if predicted is None else predicted[simulated]
            horizon = self.horizon or leap.FALLBACK_HORIZON
            rows = self._simulate(simulator, some, theory, length, horizon)
            table.put(measured, simulated, leap.without_stalls(rows))
        return measured

    def _predict(self, theory: Theory | None, points: Points, drop: float) -> np.ndarray | None:
        return None if theory is None else theory.predict(self._values(points), drop)

    def _values(self, points: Points) -> Points:
        coordinates = self._experiment.coordinates
        return {c.name: c.values(points[c.name]) for c in coordinates}

    def _every_epoch(self, horizon: int) -> bool:
        """Return whether every epoch is observed; models with arrays share one compilation."""
        return horizon <= _SHORT_HORIZON and self.evaluation.lanes is None

    def _records(
        self,
        simulator: Simulator,
        points: Points,
        horizon: int,
        length: np.ndarray | None = None,
        nudges: Sequence[float] = (0.0,) * len(LEVELS),
    ) -> Arrays:
        evaluation = replace(self.evaluation, every_epoch=self._every_epoch(horizon))
        limits = Limits(
            np.asarray(horizon, evaluation.counter),
            np.asarray(self.tolerance, evaluation.dtype),
            tuple(np.asarray(nudge, np.float64) for nudge in nudges),
        )
        return simulator.simulate(evaluation, points, limits, length)

    def _require_floor(self, points: Points, records: Arrays) -> None:
        """Raise if a loss fell below its floor, because no share of the excess has a meaning then.

        Raises:
            PlateaumapError: naming the first of these runs.
        """
        floors = np.isfinite(records["loss_floor"])
        below = np.flatnonzero((records[".stop"] == Stop.BELOW_FLOOR) | ~floors)
        if not below.size:
            return
        first = below[0]
        values = self._values(points)
        where = ", ".join(f"{name} = {column[first]}" for name, column in values.items())
        loss = self.evaluation.loss
        name = loss if isinstance(loss, str) else name_of(loss)
        low, floor = (records[key][first] for key in ("final_loss", "loss_floor"))
        if not np.isfinite(floor):
            raise PlateaumapError(
                f"the floor of the loss {name!r} is {floor} at {where}: must be finite; return the "
                "smallest value of the loss"
            )
        raise PlateaumapError(
            f"the loss {name!r} is {low:g} at {where}: below its floor {floor:g}; return the "
            "smallest value of the loss from the experiment's `floor`, or wrap your own function "
            "in plateaumap.neuron.losses.Loss(name, value, floor=...)"
        )

    def _settle_ties(
        self,
        simulator: Simulator,
        points: Points,
        theory: Theory | None,
        records: Arrays,
        horizon: int,
    ) -> None:
        """Decide by exact arithmetic, in place, the crossings that rounding may have decided.

        In deep saturation the cross-entropy decreases by the same amount in every epoch, and its
        levels can coincide with an epoch. Such a run is simulated again with its levels moved, by
        a fraction of the decrease in an epoch, to the side on which they are.
        """
        doubtful = self._doubtful(points, theory, records)
        if theory is None or not doubtful.any():
            return
        some = _select(points, doubtful)
        sides, exact = self._sides(theory, some, _select(records, doubtful))
        places = np.flatnonzero(doubtful)
        for side in np.unique(sides[np.any(sides != 0, axis=1)], axis=0):
            chosen = np.all(sides == side, axis=1)
            longest = max(int(exact[chosen].max()), 1)
            nudges = [float(direction) * _NUDGE / longest for direction in side]
            zeros = np.zeros(int(chosen.sum()))
            repeated = self._records(simulator, _select(some, chosen), horizon, zeros, nudges)
            table.put(records, places[chosen], repeated)

    def _doubtful(self, points: Points, theory: Theory | None, records: Arrays) -> np.ndarray:
        """Return which runs have a crossing that rounding may have moved to another epoch."""
        nothing = np.zeros(_count(points), np.bool_)
        if theory is None or theory.case is None or self.evaluation.precision != "float64":
            return nothing
        shift = theory.rounding_shift(points, records, _FLOAT64_DIGITS)
        if shift is None:
            return nothing
        epochs = records["epochs_run"].astype(np.float64)
        with np.errstate(over="ignore"):  # An enormous shift means only that nothing is certain.
            near = np.minimum(_SAFETY * shift + _EXCESS_ROUNDING * epochs, 0.25)
        # A run past its target has no exact length that could decide.
        running = ~np.isin(records[".stop"], (Stop.CONVERGED, Stop.NOT_FINITE))
        running &= np.isfinite(shift)
        past = np.stack([records[f".past {name}"] for name in self._levels])
        return running & np.any((past <= near) | (past >= 1 - near), axis=0)

    @property
    def _levels(self) -> list[str]:
        return list(LEVELS)[: 1 if self.evaluation.until == "plateau" else None]

    def _sides(
        self, theory: Theory, points: Points, records: Arrays
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the directions in which levels must move for runs to cross them when they should.

        Returns:
            The direction for each point and level: −1 (a later crossing), 0 or 1, of shape
            (n, levels). And the exact crossings, of the same shape, 0 where they are not known.
        """
        sides = np.zeros((_count(points), len(LEVELS)), np.int8)
        exact = np.zeros(sides.shape, np.int64)
        for number, name in enumerate(self._levels):
            counts = theory.lengths(points, LEVELS[name])
            if counts is None:
                continue
            measured = records[name].astype(np.int64)
            measured = np.where(measured == NO_EPOCH, np.iinfo(np.int64).max, measured)
            side = np.sign(measured.astype(np.float64) - counts.epochs).astype(np.int8)
            sides[:, number] = np.where(counts.known, side, 0)
            exact[:, number] = np.where(counts.known, counts.epochs, 0)
        return sides, exact

    def _mark_uncertain(
        self, points: Points, theory: Theory | None, horizon: int, measured: Arrays
    ) -> Arrays:
        """Add the column of uncertain rows, if the precision needs it."""
        digits = _UNCOMPENSATED.get(self.evaluation.precision)
        if digits is None:
            return measured
        shift = None
        if theory is not None:
            shift = theory.rounding_shift(self._values(points), measured, digits)
        within = False if shift is None else shift <= LARGEST_SHIFT
        # Rounding has also ended a run that left its plateau but stopped before its last crossing.
        last = measured["plateau_epochs" if self.evaluation.until == "plateau" else "tenth_epochs"]
        cut = (measured["status"] == leap.ESCAPED) & np.ma.getmaskarray(last)
        cut &= np.ma.getdata(measured["epochs_run"]) < horizon
        running = measured["status"] != leap.CONVERGED
        return {**measured, UNCERTAIN.name: running & (cut | ~np.bool_(within))}


def _count(points: Points) -> int:
    return len(next(iter(points.values())))


def _select(points: Points, rows: np.ndarray) -> Arrays:
    return {name: array[rows] for name, array in points.items()}


def epoch_counter(horizon: int | None) -> str:
    """Return the dtype that counts epochs up to a horizon.

    Args:
        horizon: epochs; None for a leap without a horizon.
    """
    horizon = horizon or leap.FALLBACK_HORIZON
    return "int32" if horizon <= _LONGEST_INT32_HORIZON else "int64"
