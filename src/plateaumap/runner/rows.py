"""The rows of a sweep's table: their columns, and the arrays of any range of points.

Binds a spec's grid to the tasks that fill its cells. Where these are evaluated is the executor's
business, and what becomes of the arrays the runner's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from plateaumap.experiment.coordinates import Coordinate
from plateaumap.experiment.evaluation import Evaluation
from plateaumap.runner.evaluator import Task, epoch_counter
from plateaumap.sweep.chunks import Plan, block_chunk
from plateaumap.sweep.spec import Sweep
from plateaumap.table.columns import Arrays, Column, Dtype


class Executor(Protocol):
    """Whoever evaluates points; see `plateaumap.execution`."""

    def begin(self, task: Task, points: Mapping[str, np.ndarray]) -> Callable[[], Arrays]:
        """Begin a task; the function returned waits for the arrays of what is measured."""
        ...


class Rows:
    """The rows of one sweep.

    Attributes:
        sweep: the spec.
        tasks: what is done for a point, for each loss.
        measured: the columns that a task fills.
        columns: all columns of the table, in order.
    """

    def __init__(self, sweep: Sweep) -> None:
        """Bind the sweep; nothing is evaluated yet.

        Raises:
            PlateaumapError: the sweep names functions that only its file's author has, or its
                experiment is not what it was when the sweep was made.
        """
        sweep.require_runnable()
        self.sweep = sweep
        counter = epoch_counter(sweep.horizon)
        self.tasks = tuple(
            Task(
                Evaluation(
                    sweep.experiment,
                    loss,
                    sweep.precision,
                    sweep.until,
                    counter,
                    identity="; ".join(programs.values()),
                ),
                sweep.method,
                sweep.horizon,
                sweep.tolerance,
                tuple(programs.items()),
            )
            for loss, programs in zip(sweep.losses, sweep.identify(), strict=True)
        )
        self.measured = self.tasks[0].columns
        self.columns = (*_identity(sweep), *self.measured)

    @property
    def plan(self) -> Plan:
        """Return how the rows are cut into chunks."""
        lanes = self.sweep.experiment.lanes
        size = self.sweep.size
        return Plan(size, self.sweep.loss_names, 0 if lanes is None else block_chunk(size, lanes))

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
        wait = executor.begin(self.tasks[loss_index], points)
        return lambda: {**self.identity(loss_index, numbers, points), **wait()}

    def identity(
        self, loss_index: int, numbers: np.ndarray, points: Mapping[str, np.ndarray]
    ) -> Arrays:
        """Return what tells some rows apart: loss, coordinates and indices.

        Args:
            loss_index: which of the sweep's losses.
            numbers: flat numbers of points, int64 of shape (n,).
            points: their coordinates.
        """
        return {
            "loss": np.full(len(numbers), loss_index, np.int8),
            **points,
            **self.sweep.grid.index_columns(numbers),
        }


def _identity(sweep: Sweep) -> tuple[Column, ...]:
    coordinates = sweep.experiment.coordinates
    index_of = {f"{coordinate.name}_index": coordinate for coordinate in coordinates}
    return (
        Column("loss", "category", "1", "the loss that is trained", sweep.loss_names),
        *(_coordinate_column(coordinate) for coordinate in coordinates),
        *(
            Column(name, "int32", "1", f"position of {index_of[name].name} on its axis")
            for name in sweep.grid.index_names
        ),
    )


def _coordinate_column(coordinate: Coordinate) -> Column:
    if coordinate.is_text:
        choices = tuple(map(str, coordinate.choices))
        return Column(coordinate.name, "category", "1", coordinate.meaning, choices)
    dtype: Dtype = "Int64" if coordinate.dtype is np.int64 else "float64"
    return Column(coordinate.name, dtype, "1", coordinate.meaning)
