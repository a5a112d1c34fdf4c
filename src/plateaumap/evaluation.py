"""`evaluate(point) -> record`: an experiment, a loss, a precision and the measures, bound.

Written for one point. It is cut into `start`, `step` and `finish`, because whoever evaluates
many points advances them all by one epoch at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from plateaumap import training
from plateaumap.experiment import Experiment, LossChoice, Point
from plateaumap.measures import Crossings, Measures, Record
from plateaumap.table import Arrays, Column
from plateaumap.training import Apply, CompensatedApply, PlainApply, RunState, Start, Stop


class Precision(NamedTuple):
    """The arithmetic of a run: the dtype of its numbers, and how updates are added."""

    dtype: Any
    apply: Apply


PRECISIONS = {
    "float64": Precision(jnp.float64, PlainApply()),
    "float32": Precision(jnp.float32, CompensatedApply()),
    "float32_plain": Precision(jnp.float32, PlainApply()),
}


class Limits(NamedTuple):
    """What ends a run from outside: numbers that need no new compilation when they change.

    Attributes:
        horizon: the last epoch that is observed, integer scalar.
        tolerance: a start with |output − target| up to this is converged, scalar.
    """

    horizon: Array
    tolerance: Array


@dataclass(frozen=True)
class Evaluation:
    """One run of an experiment under one loss, as a pure function of a point.

    Everything in here is static: two evaluations that are equal share one compilation.

    Attributes:
        experiment: what is trained.
        choice: the loss, a name or a function.
        precision: a key of `PRECISIONS`.
        until: "tenth" or "plateau".
        counter: the dtype that counts epochs, "int32" or "int64".
    """

    experiment: Experiment
    choice: LossChoice
    precision: str = "float64"
    until: str = "tenth"
    counter: str = "int32"

    @property
    def measures(self) -> Measures:
        """Return what is measured of the run."""
        return Measures(Crossings(self.until), self.experiment.measures)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the columns of a record, in order."""
        return self.measures.columns

    @property
    def dtype(self) -> Any:
        """Return the dtype of the arithmetic."""
        return PRECISIONS[self.precision].dtype

    def cast(self, points: Mapping[str, Any]) -> dict[str, Array]:
        """Return points in the dtype of the arithmetic."""
        return {name: jnp.asarray(value, self.dtype) for name, value in points.items()}

    def start(self, point: Point, limits: Limits) -> tuple[Start, RunState]:
        """Return the start of the run of `point` and its state before the first step."""
        apply = PRECISIONS[self.precision].apply
        problem = self._problem(point, limits)
        return training.start(problem, self.measures, apply, jnp.dtype(self.counter))

    def step(
        self, point: Point, limits: Limits, begin: Start, state: RunState, epoch: Array
    ) -> RunState:
        """Return the state after `epoch` has been observed and the next update made."""
        apply = PRECISIONS[self.precision].apply
        problem = self._problem(point, limits)
        return training.step(problem, self.measures, apply, begin, state, epoch, limits.horizon)

    def running(self, state: RunState) -> Array:
        """Return whether a run has not stopped yet."""
        return state.stop == Stop.RUNNING

    def finish(self, point: Point, limits: Limits, begin: Start, state: RunState) -> Record:
        """Return the record of a run that has stopped."""
        end = training.finish(self._problem(point, limits), state)
        return self.measures.finish(state.observed, begin, end)

    def evaluate(self, point: Point, limits: Limits) -> Record:
        """Return the record of one point: a scalar for each column.

        This is what every vectorised evaluation must agree with.
        """
        begin, state = self.start(point, limits)

        def advance(carry: tuple[Array, RunState]) -> tuple[Array, RunState]:
            epoch, state = carry
            return epoch + 1, self.step(point, limits, begin, state, epoch)

        _, state = jax.lax.while_loop(
            lambda carry: self.running(carry[1]), advance, (begin.epoch, state)
        )
        return self.finish(point, limits, begin, state)

    def arrays(self, record: Mapping[str, Any]) -> Arrays:
        """Return records as a chunk of results, negative integers as nulls.

        Args:
            record: for each column a NumPy array of shape (n,), as `finish` gives it.
        """
        return {column.name: _array(column, np.asarray(record[column.name])) for column in self.columns}

    def _problem(self, point: Point, limits: Limits) -> training.Problem:
        return self.experiment.problem(point, self.choice, limits.tolerance)


def _array(column: Column, values: np.ndarray) -> np.ndarray:
    values = values.astype(column.numpy_dtype, copy=False)
    if column.dtype == "Int64":
        return np.ma.MaskedArray(values, mask=values < 0)
    return values
