"""What is done for any points of a sweep, under one of its losses: the cells of their rows.

A task knows no grid and no file, so that it can be sent wherever points are evaluated. It binds
what is simulated to what theory tells beforehand, or instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from plateaumap import leap, table
from plateaumap.evaluation import Evaluation, Limits
from plateaumap.experiment.protocol import Experiment
from plateaumap.measures import LEVELS, PLATEAU_DROP
from plateaumap.table import Arrays, Column

PREDICTION = Column(
    "predicted_epochs",
    "float64",
    "epochs",
    "length of the plateau by theory; NaN where none applies",
)
UNCERTAIN = Column(
    "uncertain",
    "bool",
    "1",
    "whether uncompensated rounding may have shifted a crossing by more than one epoch",
)
LARGEST_SHIFT = 1.0
"""Epochs by which rounding may shift a row that is not marked as uncertain."""

_UNCOMPENSATED = {"float32_plain": 24}
"""Precisions whose rows need that mark, and their binary digits."""

_BRIEF_HORIZON = 64
"""Up to this horizon, making all epochs costs less than ordering runs and looking for landmarks."""

_LONGEST_INT32_HORIZON = 2**31 - 1024

Points = Mapping[str, np.ndarray]


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
        predicted = self._predict(points, PLATEAU_DROP)
        if self.method == "leap":
            wait = self._leap(lanes, points, predicted)
        else:
            assert self.horizon is not None
            wait = self._simulate(lanes, points, predicted, self.horizon)

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
        self, lanes: Lanes, points: Points, predicted: np.ndarray | None, horizon: int
    ) -> Callable[[], Arrays]:
        length = predicted
        if predicted is not None and self._brief(horizon):
            length = np.zeros_like(predicted)
        elif predicted is not None and self.evaluation.until == "tenth" and lanes.waits:
            length = self._predict(points, LEVELS["tenth_epochs"])
        return self._evaluate(lanes, points, horizon, length)

    def _leap(
        self, lanes: Lanes, points: Points, predicted: np.ndarray | None
    ) -> Callable[[], Arrays]:
        horizon = self.horizon
        starts = self._evaluate(lanes, points, 0, np.zeros(len(next(iter(points.values())))))
        case = self._experiment.theory(self.evaluation.choice)
        lengths = None if case is None else leap.Lengths(points, case, self.evaluation.until)

        def arrays() -> Arrays:
            measured = starts()
            running = measured["status"] == leap.CENSORED
            simulated = running if lengths is None else running & lengths.unanswered
            if lengths is not None:
                lengths.fill(measured, running & ~simulated, horizon)
            if simulated.any():
                some = {name: column[simulated] for name, column in points.items()}
                limit = min(horizon or leap.FALLBACK_HORIZON, leap.FALLBACK_HORIZON)
                length = None if predicted is None else predicted[simulated]
                made = self._simulate(lanes, some, length, limit)()
                table.put(measured, simulated, made)
            leap.forget(measured)
            return measured

        return arrays

    def _predict(self, points: Points, drop: float) -> np.ndarray | None:
        return self._experiment.predict(self._values(points), self.evaluation.choice, drop)

    def _values(self, points: Points) -> Points:
        coordinates = self._experiment.coordinates
        return {c.name: c.values(points[c.name]) for c in coordinates}

    def _brief(self, horizon: int) -> bool:
        """Return whether runs are brief; those of models with arrays all share one compilation."""
        return horizon <= _BRIEF_HORIZON and self.evaluation.lanes is None

    def _evaluate(
        self,
        lanes: Lanes,
        points: Points,
        horizon: int,
        length: np.ndarray | None = None,
    ) -> Callable[[], Arrays]:
        evaluation = replace(self.evaluation, brief=self._brief(horizon))
        limits = Limits(
            np.asarray(horizon, evaluation.counter),
            np.asarray(self.tolerance, evaluation.dtype),
        )
        wait = lanes.simulate(evaluation, points, limits, length)
        return lambda: self._marked(points, horizon, evaluation.arrays(wait()))

    def _marked(self, points: Points, horizon: int, measured: Arrays) -> Arrays:
        """Add which rows are uncertain, where the precision asks for it."""
        digits = _UNCOMPENSATED.get(self.evaluation.precision)
        if digits is None:
            return measured
        shift = self._experiment.rounding_shift(self._values(points), measured, digits)
        within = False if shift is None else shift <= LARGEST_SHIFT
        # Rounding has also ended a run that left its plateau and stopped with nothing reached.
        last = measured["tenth_epochs" if self.evaluation.until == "tenth" else "plateau_epochs"]
        cut = (measured["status"] == leap.ESCAPED) & np.ma.getmaskarray(last)
        cut &= np.ma.getdata(measured["epochs_run"]) < horizon
        running = measured["status"] != leap.CONVERGED
        return {**measured, UNCERTAIN.name: running & (cut | ~np.bool_(within))}


def epoch_counter(horizon: int | None) -> str:
    """Return the dtype that counts epochs up to a horizon; None for a leap without one."""
    horizon = horizon or leap.FALLBACK_HORIZON
    return "int32" if horizon <= _LONGEST_INT32_HORIZON else "int64"


def _with_prediction(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Put theory's length behind what the run itself tells of its length."""
    place = [column.name for column in columns].index("epochs_run") + 1
    return (*columns[:place], PREDICTION, *columns[place:])
