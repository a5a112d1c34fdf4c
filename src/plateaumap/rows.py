"""The rows of a sweep's table: their columns, and the arrays of any range of points.

Binds a spec to what evaluates it. Where the points are evaluated is the executor's business, and
what becomes of the arrays the runner's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from plateaumap import leap
from plateaumap.evaluation import Evaluation, Limits
from plateaumap.measures import LEVELS, PLATEAU_DROP
from plateaumap.spec import Sweep
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

_LONGEST_INT32_HORIZON = 2**31 - 1024


class Executor(Protocol):
    """Whoever evaluates points; see `plateaumap.execution`."""

    def submit(
        self,
        evaluation: Any,
        points: Mapping[str, np.ndarray],
        limits: Any,
        length: np.ndarray | None = None,
    ) -> Callable[[], dict[str, np.ndarray]]:
        """Begin to evaluate points; the function returned waits for their records."""
        ...


class Rows:
    """The rows of one sweep.

    Attributes:
        sweep: the spec.
        columns: the columns of the table, in order.
    """

    def __init__(self, sweep: Sweep) -> None:
        """Bind the sweep; nothing is evaluated yet.

        Raises:
            PlateaumapError: the sweep names functions that only its file's author has.
        """
        sweep.require_runnable()
        self.sweep = sweep
        self._evaluations = tuple(_evaluation(sweep, choice) for choice in sweep.losses)
        self.columns = (
            *_identity(sweep),
            *_with_prediction(self._evaluations[0].columns),
            *((UNCERTAIN,) if sweep.precision in _UNCOMPENSATED else ()),
        )

    def submit(
        self, executor: Executor, loss_index: int, start: int, stop: int
    ) -> Callable[[], Arrays]:
        """Begin to evaluate the points `start` … `stop` − 1 of one loss.

        Args:
            executor: who evaluates them.
            loss_index: which of the sweep's losses.
            start: flat number of the first point.
            stop: one past the last.

        Returns:
            A function that waits for their arrays, one of shape (stop − start,) for each column.
        """
        numbers = np.arange(start, stop, dtype=np.int64)
        points = self.sweep.grid.coordinates_at(numbers)
        wait = self.submit_points(executor, loss_index, points)
        return lambda: {**self.identity(loss_index, numbers), **wait()}

    def identity(self, loss_index: int, numbers: np.ndarray) -> Arrays:
        """Return what tells some rows apart: loss, coordinates and indices.

        Args:
            loss_index: which of the sweep's losses.
            numbers: flat numbers of points, int64 of shape (n,).
        """
        return {
            "loss": np.full(len(numbers), loss_index, np.int8),
            **self.sweep.grid.coordinates_at(numbers),
            **self.sweep.grid.index_columns(numbers),
        }

    @property
    def measured(self) -> tuple[Column, ...]:
        """Return the columns of what is measured, which are those that `identity` does not fill."""
        return self.columns[len(_identity(self.sweep)) :]

    def submit_points(
        self, executor: Executor, loss_index: int, points: Mapping[str, np.ndarray]
    ) -> Callable[[], Arrays]:
        """Begin to evaluate points that need not be on the grid; see `submit`.

        Args:
            executor: who evaluates them.
            loss_index: which of the sweep's losses.
            points: float64 arrays of shape (n,), one for each coordinate of the experiment.

        Returns:
            A function that waits for the arrays of what is measured, without loss, coordinates
            and indices.
        """
        how = self._leap if self.sweep.method == "leap" else self._simulate
        wait = how(executor, loss_index, points)
        predicted = self._predict(loss_index, points, PLATEAU_DROP)

        def arrays() -> Arrays:
            measured = wait()
            converged = measured["status"] == leap.CONVERGED
            known = np.nan if predicted is None else predicted
            return {**measured, PREDICTION.name: np.where(converged, np.nan, known)}

        return arrays

    def _simulate(
        self, executor: Executor, loss_index: int, points: Mapping[str, np.ndarray]
    ) -> Callable[[], Arrays]:
        assert self.sweep.horizon is not None
        length = self._predict(loss_index, points, self._last_level)
        return self._evaluate(executor, loss_index, points, self.sweep.horizon, length)

    def _leap(
        self, executor: Executor, loss_index: int, points: Mapping[str, np.ndarray]
    ) -> Callable[[], Arrays]:
        choice, horizon = self.sweep.losses[loss_index], self.sweep.horizon
        starts = self._evaluate(executor, loss_index, points, 0)
        loss = self.sweep.experiment.theory(choice)
        lengths = None if loss is None else leap.Lengths(points, loss, self.sweep.until)

        def arrays() -> Arrays:
            measured = starts()
            running = measured["status"] == leap.CENSORED
            simulated = running if lengths is None else running & lengths.unanswered
            if lengths is not None:
                lengths.fill(measured, running & ~simulated, horizon)
            if simulated.any():
                some = {name: column[simulated] for name, column in points.items()}
                limit = min(horizon or leap.FALLBACK_HORIZON, leap.FALLBACK_HORIZON)
                length = self._predict(loss_index, some, self._last_level)
                made = self._evaluate(executor, loss_index, some, limit, length)()
                for name, column in made.items():
                    leap.write(measured[name], simulated, column)
            leap.forget(measured)
            return measured

        return arrays

    @property
    def _last_level(self) -> float:
        return LEVELS["tenth_epochs"] if self.sweep.until == "tenth" else PLATEAU_DROP

    def _predict(
        self, loss_index: int, points: Mapping[str, np.ndarray], drop: float
    ) -> np.ndarray | None:
        return self.sweep.experiment.predict(points, self.sweep.losses[loss_index], drop)

    def _evaluate(
        self,
        executor: Executor,
        loss_index: int,
        points: Mapping[str, np.ndarray],
        horizon: int,
        length: np.ndarray | None = None,
    ) -> Callable[[], Arrays]:
        evaluation = self._evaluations[loss_index]
        limits = Limits(
            np.asarray(horizon, evaluation.counter),
            np.asarray(self.sweep.tolerance, evaluation.dtype),
        )
        wait = executor.submit(evaluation, points, limits, length)
        return lambda: self._marked(points, horizon, evaluation.arrays(wait()))

    def _marked(self, points: Mapping[str, np.ndarray], horizon: int, measured: Arrays) -> Arrays:
        """Add which rows are uncertain, where the precision asks for it."""
        digits = _UNCOMPENSATED.get(self.sweep.precision)
        if digits is None:
            return measured
        shift = self.sweep.experiment.rounding_shift(points, measured, digits)
        within = False if shift is None else shift <= LARGEST_SHIFT
        # Rounding has also ended a run that left its plateau and stopped with nothing reached.
        last = measured["tenth_epochs" if self.sweep.until == "tenth" else "plateau_epochs"]
        cut = (measured["status"] == leap.ESCAPED) & np.ma.getmaskarray(last)
        cut &= np.ma.getdata(measured["epochs_run"]) < horizon
        running = measured["status"] != leap.CONVERGED
        return {**measured, UNCERTAIN.name: running & (cut | ~np.bool_(within))}


def epoch_counter(horizon: int) -> str:
    """Return the dtype that counts epochs up to a horizon."""
    return "int32" if horizon <= _LONGEST_INT32_HORIZON else "int64"


def _evaluation(sweep: Sweep, choice: Any) -> Evaluation:
    counter = epoch_counter(sweep.horizon or leap.FALLBACK_HORIZON)
    return Evaluation(sweep.experiment, choice, sweep.precision, sweep.until, counter)


def _identity(sweep: Sweep) -> tuple[Column, ...]:
    coordinates = sweep.experiment.coordinates
    index_of = {f"{coordinate.name}_index": coordinate for coordinate in coordinates}
    return (
        Column("loss", "category", "1", "the loss that is trained", sweep.loss_names),
        *(Column(c.name, "float64", "1", c.meaning) for c in coordinates),
        *(
            Column(name, "int32", "1", f"position of {index_of[name].name} on its axis")
            for name in sweep.grid.index_names
        ),
    )


def _with_prediction(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Put theory's length behind what the run itself tells of its length."""
    place = [column.name for column in columns].index("epochs_run") + 1
    return (*columns[:place], PREDICTION, *columns[place:])
