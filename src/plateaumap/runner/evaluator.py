"""What is done for any points of a sweep, under one of its losses: the cells of their rows.

A task knows no grid and no file, so that it can be sent wherever points are evaluated. It binds
what is simulated to what theory tells beforehand, or instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

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
"""Precisions whose rows need that mark, and their binary digits."""

_FLOAT64_DIGITS = 53

_SAFETY = 4
"""Times the bound on the shift by rounding, within which exact arithmetic is asked."""

_EXCESS_ROUNDING = 2.0**-46
"""Epochs, for each epoch of a run, by which rounding of the loss itself may shift a crossing."""

_NUDGE = 1e-3
"""The relative change of a level that moves its crossing by less than an epoch, times epochs."""

_BRIEF_HORIZON = 64
"""Up to this horizon, making all epochs costs less than ordering runs and looking for landmarks."""

_LONGEST_INT32_HORIZON = 2**31 - 1024

Points = Mapping[str, np.ndarray]
Records = dict[str, np.ndarray]


class Lanes(Protocol):
    """Whoever simulates points; see `plateaumap.execution.local`.

    Attributes:
        waits: whether many runs wait for the longest of them, so that good guesses pay.
    """

    waits: bool

    def simulate(
        self, evaluation: Any, points: Points, limits: Any, length: np.ndarray | None = None
    ) -> Callable[[], dict[str, np.ndarray]]:
        """Begin to simulate points; the function returned waits for their records."""
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """What is measured of points under one loss.

    Unlike evaluations, no two tasks are equal: what an experiment predicts is not compiled.

    Attributes:
        evaluation: what is done for one of them.
        method: "simulate" or "leap".
        horizon: epochs after which a run is censored; None for never, with "leap".
        tolerance: a start with |output − target| up to this is converged.
        programs: pairs of choices and the identity of the model with these choices.
    """

    evaluation: Evaluation
    method: str
    horizon: int | None
    tolerance: float
    programs: tuple[tuple[Any, str], ...] = ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the columns that are measured, in order."""
        return (
            *_with_prediction(self.evaluation.columns),
            *((UNCERTAIN,) if self.evaluation.precision in _UNCOMPENSATED else ()),
        )

    def begin(self, lanes: Lanes, points: Points) -> Callable[[], Arrays]:
        """Begin to evaluate points.

        Args:
            lanes: who simulates them.
            points: arrays of shape (n,), one for each coordinate of the experiment, as
                `Coordinate.stored` gives them.

        Returns:
            A function that waits for the arrays of `columns`, each of shape (n,).
        """
        groups = self._groups(points)
        if len(groups) == 1:
            return groups[0][1]._begin(lanes, points)
        waits = [
            (where, task._begin(lanes, {name: column[where] for name, column in points.items()}))
            for where, task in groups
        ]

        def arrays() -> Arrays:
            measured = table.allocate(self.columns, len(next(iter(points.values()))))
            for where, wait in waits:
                table.put(measured, where, wait())
            return measured

        return arrays

    def _groups(self, points: Points) -> list[tuple[np.ndarray, Task]]:
        """Return numbers of points that share all choices, and the task for these choices."""
        chosen = [coordinate for coordinate in self._experiment.coordinates if coordinate.choices]
        if not chosen:
            return [(np.arange(0), self)]
        stored = np.stack([points[coordinate.name] for coordinate in chosen])
        combinations, group = np.unique(stored, axis=1, return_inverse=True)
        return [
            (
                np.flatnonzero(group.ravel() == number),
                self._choosing(
                    (coordinate.name, coordinate.plain(value))
                    for coordinate, value in zip(chosen, combination, strict=True)
                ),
            )
            for number, combination in enumerate(combinations.T)
        ]

    def _choosing(self, static: Iterable[tuple[str, Any]]) -> Task:
        chosen = tuple(static)
        identity = dict(self.programs).get(chosen, "")
        return replace(self, evaluation=replace(self.evaluation, static=chosen, identity=identity))

    def _begin(self, lanes: Lanes, points: Points) -> Callable[[], Arrays]:
        theory = self._experiment.theory(self.evaluation.loss)
        predicted = self._predict(theory, points, PLATEAU_DROP)
        if self.method == "leap":
            wait = self._leap(lanes, points, theory, predicted)
        else:
            assert self.horizon is not None
            wait = self._simulate(lanes, points, theory, predicted, self.horizon)

        def arrays() -> Arrays:
            measured = wait()
            converged = measured["status"] == leap.CONVERGED
            known = np.nan if predicted is None else predicted
            return {**measured, PREDICTION.name: np.where(converged, np.nan, known)}

        return arrays

    @property
    def _experiment(self) -> Experiment:
        return self.evaluation.experiment

    def _simulate(
        self,
        lanes: Lanes,
        points: Points,
        theory: Theory | None,
        predicted: np.ndarray | None,
        horizon: int,
    ) -> Callable[[], Arrays]:
        length = predicted
        if predicted is not None and (
            self._every_epoch(horizon) or self.evaluation.until == "horizon"
        ):
            length = np.zeros_like(predicted)
        elif predicted is not None and self.evaluation.until == "tenth" and lanes.waits:
            length = self._predict(theory, points, LEVELS["tenth_epochs"])
        wait = self._evaluate(lanes, points, horizon, length)

        def arrays() -> Arrays:
            records = wait()
            self._require_floor(points, records)
            self._settle_ties(lanes, points, theory, records, horizon)
            return self._marked(points, theory, horizon, self.evaluation.arrays(records))

        return arrays

    def _leap(
        self,
        lanes: Lanes,
        points: Points,
        theory: Theory | None,
        predicted: np.ndarray | None,
    ) -> Callable[[], Arrays]:
        horizon = self.horizon
        starts = self._evaluate(lanes, points, 0, np.zeros(_count(points)))
        lengths = leap.lengths_of(theory, points, self.evaluation.until)

        def arrays() -> Arrays:
            records = starts()
            self._require_floor(points, records)
            measured = self._marked(points, theory, 0, self.evaluation.arrays(records))
            running = np.isin(measured["status"], leap.UNDECIDED_AT_START)
            simulated = running if lengths is None else running & lengths.unanswered
            if lengths is not None:
                lengths.fill(measured, self.evaluation.columns, running & ~simulated, horizon)
            if simulated.any():
                some = {name: column[simulated] for name, column in points.items()}
                length = None if predicted is None else predicted[simulated]
                limit = horizon or leap.FALLBACK_HORIZON
                made = self._simulate(lanes, some, theory, length, limit)()
                table.put(measured, simulated, leap.without_stalls(made))
            return measured

        return arrays

    def _predict(self, theory: Theory | None, points: Points, drop: float) -> np.ndarray | None:
        return None if theory is None else theory.predict(self._values(points), drop)

    def _values(self, points: Points) -> Points:
        coordinates = self._experiment.coordinates
        return {c.name: c.values(points[c.name]) for c in coordinates}

    def _every_epoch(self, horizon: int) -> bool:
        """Return whether every epoch is observed; models with arrays share one compilation."""
        return horizon <= _BRIEF_HORIZON and self.evaluation.lanes is None

    def _evaluate(
        self,
        lanes: Lanes,
        points: Points,
        horizon: int,
        length: np.ndarray | None = None,
        nudges: Sequence[float] = (0.0,) * len(LEVELS),
    ) -> Callable[[], Records]:
        evaluation = replace(self.evaluation, every_epoch=self._every_epoch(horizon))
        limits = Limits(
            np.asarray(horizon, evaluation.counter),
            np.asarray(self.tolerance, evaluation.dtype),
            tuple(np.asarray(nudge, np.float64) for nudge in nudges),
        )
        return lanes.simulate(evaluation, points, limits, length)

    def _require_floor(self, points: Points, records: Records) -> None:
        """Refuse runs whose loss fell below its floor: no share of it is a share of anything.

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
                f"the floor of the loss {name!r} is {floor} at {where}; return the least value of "
                "the loss, a finite number"
            )
        raise PlateaumapError(
            f"the loss {name!r} is {low:g} at {where}: below its floor {floor:g}; return the least "
            "value of the loss from the experiment's `floor`, or wrap a function of your own in "
            "plateaumap.neuron.losses.Loss(name, value, floor=...)"
        )

    def _settle_ties(
        self,
        lanes: Lanes,
        points: Points,
        theory: Theory | None,
        records: Records,
        horizon: int,
    ) -> None:
        """Let exact arithmetic decide crossings that rounding may have decided, in place.

        In deep saturation the cross-entropy falls by the same amount in every epoch, and its
        levels can lie on an epoch exactly. Such a run is made again with its levels moved by a
        fraction of an epoch's fall to the side on which they are.
        """
        doubtful = self._doubtful(points, theory, records)
        if theory is None or not doubtful.any():
            return
        some = {name: column[doubtful] for name, column in points.items()}
        sides, exact = self._sides(theory, some, {k: v[doubtful] for k, v in records.items()})
        places = np.flatnonzero(doubtful)
        for side in np.unique(sides[np.any(sides != 0, axis=1)], axis=0):
            chosen = np.all(sides == side, axis=1)
            again = {name: column[chosen] for name, column in some.items()}
            longest = max(int(exact[chosen].max()), 1)
            nudges = [float(direction) * _NUDGE / longest for direction in side]
            zeros = np.zeros(int(chosen.sum()))
            made = self._evaluate(lanes, again, horizon, zeros, nudges)()
            for name, values in made.items():
                records[name][places[chosen]] = values

    def _doubtful(self, points: Points, theory: Theory | None, records: Records) -> np.ndarray:
        """Return whether a crossing is nearer to an epoch than rounding may have shifted it."""
        nothing = np.zeros(_count(points), np.bool_)
        if theory is None or theory.case is None or self.evaluation.precision != "float64":
            return nothing
        shift = theory.rounding_shift(points, records, _FLOAT64_DIGITS)
        if shift is None:
            return nothing
        epochs = records["epochs_run"].astype(np.float64)
        with np.errstate(over="ignore"):  # of shifts that mean no more than "anything"
            near = np.minimum(_SAFETY * shift + _EXCESS_ROUNDING * epochs, 0.25)
        # Past its target a run has no exact length that could decide.
        running = ~np.isin(records[".stop"], (Stop.CONVERGED, Stop.NOT_FINITE))
        running &= np.isfinite(shift)
        past = np.stack([records[f".past {name}"] for name in self._levels])
        return running & np.any((past <= near) | (past >= 1 - near), axis=0)

    @property
    def _levels(self) -> list[str]:
        return list(LEVELS)[: 1 if self.evaluation.until == "plateau" else None]

    def _sides(
        self, theory: Theory, points: Points, records: Records
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return to which side levels have to move for runs to cross them when they should.

        Returns:
            For each point and level −1 (a later crossing), 0 or 1, of shape (n, levels); and the
            exact crossings, likewise, 0 where they are not known.
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

    def _marked(
        self, points: Points, theory: Theory | None, horizon: int, measured: Arrays
    ) -> Arrays:
        """Add which rows are uncertain, where the precision asks for it."""
        digits = _UNCOMPENSATED.get(self.evaluation.precision)
        if digits is None:
            return measured
        shift = None
        if theory is not None:
            shift = theory.rounding_shift(self._values(points), measured, digits)
        within = False if shift is None else shift <= LARGEST_SHIFT
        # Rounding has also ended a run that left its plateau and stopped with nothing reached.
        last = measured["plateau_epochs" if self.evaluation.until == "plateau" else "tenth_epochs"]
        cut = (measured["status"] == leap.ESCAPED) & np.ma.getmaskarray(last)
        cut &= np.ma.getdata(measured["epochs_run"]) < horizon
        running = measured["status"] != leap.CONVERGED
        return {**measured, UNCERTAIN.name: running & (cut | ~np.bool_(within))}


def _count(points: Points) -> int:
    return len(next(iter(points.values())))


def epoch_counter(horizon: int | None) -> str:
    """Return the dtype that counts epochs up to a horizon; None for a leap without one."""
    horizon = horizon or leap.FALLBACK_HORIZON
    return "int32" if horizon <= _LONGEST_INT32_HORIZON else "int64"


def _with_prediction(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Put theory's length behind what the run itself tells of its length."""
    place = [column.name for column in columns].index("epochs_run") + 1
    return (*columns[:place], PREDICTION, *columns[place:])
