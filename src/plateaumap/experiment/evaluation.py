"""The run of a point for one experiment, loss, precision and set of measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, wraps
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from plateaumap.experiment.data import arrays_of, with_arrays
from plateaumap.experiment.identity import ModelKey, Static, identity_of
from plateaumap.experiment.lanes import lanes_for_cache
from plateaumap.experiment.problem import bind
from plateaumap.experiment.program import program_context
from plateaumap.experiment.protocol import Experiment, LossLike, Point
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.numerics.compiler import double_precision
from plateaumap.table.columns import Arrays, Column
from plateaumap.training.descent import Apply, CompensatedApply, Descent, PlainApply, RunState
from plateaumap.training.measures import LEVELS, Crossings, Measures, Record, Start
from plateaumap.training.search import STRIDES, PartialRun, Search

PyTree = Any

T = TypeVar("T")


class Precision(NamedTuple):
    """The arithmetic of a run.

    Attributes:
        dtype: the dtype of all numbers.
        apply: how updates are added to parameters.
        strides: the epochs between two observations of a unimodal run, see `training.search`; empty
            where rounding freezes parameters now and then, so that every epoch is observed.
    """

    dtype: Any
    apply: Apply
    strides: tuple[int, ...] = STRIDES


PRECISIONS = {
    "float64": Precision(jnp.float64, PlainApply()),
    "float32": Precision(jnp.float32, CompensatedApply()),
    "float32_plain": Precision(jnp.float32, PlainApply(), strides=()),
}


class Limits(NamedTuple):
    """The limits of a run. They are arguments: other limits need no new compilation.

    Attributes:
        horizon: the last epoch that is observed, integer scalar.
        tolerance: the largest |output − target| of a converged initial point, scalar.
        nudges: a relative change of each level, see `training.measures.Crossings`.
    """

    horizon: Any
    tolerance: Any
    nudges: tuple[Any, ...] = (np.float64(0.0),) * len(LEVELS)


def _traced_anew(method: Callable[..., T]) -> Callable[..., T]:
    """Trace a method without reusing what JAX traced for another key."""

    @wraps(method)
    def call(self: Evaluation, *arguments: Any, **named: Any) -> T:
        with program_context(self.key), jax.default_matmul_precision(self.key.matmul):
            return method(self, *arguments, **named)

    return call


@dataclass(frozen=True)
class Evaluation:
    """One run of an experiment with one loss, as a pure function of a point.

    All attributes are static: two equal evaluations share one compilation. Experiment and loss
    are compared by their `key`, that is by their programs.

    Attributes:
        experiment: the model that is trained.
        loss: the loss, a name or a function.
        precision: a key of `PRECISIONS`.
        until: "tenth", "plateau" or "horizon".
        counter: the dtype that counts epochs, "int32" or "int64".
        static: names and values of coordinates with choices.
        every_epoch: whether every epoch is observed, as suits short runs.
        key: the key of the compiled programs; computed if it has no program.
    """

    experiment: Experiment = field(compare=False)
    loss: LossLike = field(compare=False)
    precision: str = "float64"
    until: str = "tenth"
    counter: str = "int32"
    static: tuple[tuple[str, Any], ...] = ()
    every_epoch: bool = False
    key: ModelKey = field(default_factory=lambda: ModelKey.of({}))

    def __post_init__(self) -> None:
        """Compute the identity of experiment and loss if the key has none."""
        if not self.key.programs:
            identity = identity_of(self.experiment, self.loss, self.precision, self.static)
            key = self.key._replace(programs=((self.static, identity),))
            object.__setattr__(self, "key", key)

    def choose(self, static: Static) -> Evaluation:
        """Return the evaluation of points with these names and values of choices."""
        return replace(self, static=static, key=self.key.choose(static))

    @property
    def measures(self) -> Measures:
        """Return the measures of the run."""
        return Measures(Crossings(self.until), self.experiment.measures)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the columns of a record, in order."""
        return self.measures.columns

    @property
    def lanes(self) -> int | None:
        """Return the number of runs to advance together; None if runs consist of scalars."""
        return self.experiment.lanes or _lanes(self)

    def _an_epoch(self, point: Point, data: list[Array]) -> PyTree:
        """Return initial parameters and gradients of one run: the arrays of an epoch."""
        experiment = with_arrays(self.experiment, data) if data else self.experiment
        tolerance = jnp.zeros((), self.dtype)
        problem = bind(experiment, {**point, **dict(self.static)}, self.loss, tolerance)
        return problem.parameters, problem.slope(problem.parameters)

    def a_point(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shapes and dtypes of a point."""
        return {
            c.name: jax.ShapeDtypeStruct((), self.dtype if c.dtype is np.float64 else c.dtype)
            for c in self.experiment.coordinates
        }

    @property
    def dtype(self) -> Any:
        """Return the dtype of the arithmetic."""
        return PRECISIONS[self.precision].dtype

    def cast(self, points: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return points in the dtype of the arithmetic; whole numbers are not changed."""
        # A value beyond float32 becomes infinite, and its run `not_finite`.
        with np.errstate(over="ignore"):
            return {
                name: np.asarray(value, None if np.asarray(value).dtype.kind == "i" else self.dtype)
                for name, value in points.items()
            }

    def data(self) -> list[Array]:
        """Return the arrays of the experiment, which all points share."""
        return arrays_of(self.experiment, self.dtype)

    @_traced_anew
    def evaluate(self, point: Point, limits: Limits, data: list[Array]) -> Record:
        """Return the record of one point: a scalar for each column.

        Args:
            point: a scalar for each coordinate.
            limits: the limits of the run.
            data: the result of `data`.
        """
        search = self._search(point, limits, data)
        return _record(search, *search.run())

    @_traced_anew
    def begin(self, point: Point, limits: Limits, data: list[Array]) -> PartialRun:
        """Return the run of one point before its first step; see `training.search`."""
        return self._search(point, limits, data).begin()

    @_traced_anew
    def advance(
        self,
        point: Point,
        limits: Limits,
        data: list[Array],
        partial_run: PartialRun,
        until: Array,
        unroll: int = 1,
    ) -> PartialRun:
        """Return a run advanced to an epoch; see `training.search.Search.advance`.

        Args:
            point: a scalar for each coordinate.
            limits: the limits of the run.
            data: the result of `data`.
            partial_run: the run so far.
            until: an epoch, integer scalar of the dtype that counts epochs.
            unroll: epochs in one turn of the compiled loop.
        """
        search = self._search(point, limits, data)._replace(unroll=unroll)
        return search.advance(partial_run, until)

    @_traced_anew
    def finish(
        self,
        point: Point,
        limits: Limits,
        data: list[Array],
        partial_run: PartialRun,
        unroll: int = 1,
    ) -> Record:
        """Return the record of a run that is no longer under way."""
        search = self._search(point, limits, data)._replace(unroll=unroll)
        return _record(search, *search.finish(partial_run))

    def _search(self, point: Point, limits: Limits, data: list[Array]) -> Search:
        experiment = with_arrays(self.experiment, data) if data else self.experiment
        full_point = {**point, **dict(self.static)}
        problem = bind(experiment, full_point, self.loss, limits.tolerance)
        precision = PRECISIONS[self.precision]
        measures = Measures(Crossings(self.until, limits.nudges), experiment.measures)
        strides = () if self.every_epoch else precision.strides
        return Search(Descent(problem, measures, precision.apply), limits.horizon, strides)

    def arrays(self, record: Mapping[str, Any]) -> Arrays:
        """Return records as a chunk of results, with negative integers as nulls.

        Args:
            record: a NumPy array of shape (n,) for each column, as `finish` returns.
        """
        return {
            column.name: _array(column, np.asarray(record[column.name])) for column in self.columns
        }


def _record(search: Search, start: Start, state: RunState) -> Record:
    descent = search.descent
    return descent.measures.result(state.measured, start, descent.end(state))


@lru_cache(maxsize=256)
def _lanes(evaluation: Evaluation) -> int | None:
    with double_precision():
        return lanes_for_cache(evaluation._an_epoch, evaluation.a_point(), evaluation.data())


def _array(column: Column, values: np.ndarray) -> np.ndarray:
    if column.dtype == "category":
        _require_codes(column, values)
        values = np.maximum(values, -1)
    values = values.astype(column.numpy_dtype, copy=False)
    if column.dtype == "Int64":
        return np.ma.MaskedArray(values, mask=values < 0)
    return values


def _require_codes(column: Column, codes: np.ndarray) -> None:
    """Refuse indices beyond the categories before the conversion to int8, which wraps."""
    wrong = codes[codes >= len(column.categories)]
    if wrong.size:
        raise PlateaumapError(
            f"the column {column.name!r}: its measure returned the category {wrong[0]}, and there "
            f"are {len(column.categories)}; return the index of a category, or -1 for a null"
        )
