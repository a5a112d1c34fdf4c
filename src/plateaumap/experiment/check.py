"""Checks of an experiment before a run: what it declares, and each method by its trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import optax

from plateaumap.experiment.coordinates import Coordinate, why_not_column_name
from plateaumap.experiment.data import with_arrays
from plateaumap.experiment.evaluation import PRECISIONS, Evaluation
from plateaumap.experiment.identity import ModelKey, Static, is_custom, require_traceable
from plateaumap.experiment.problem import bind, is_key, with_bits_of
from plateaumap.experiment.protocol import Experiment, LossLike
from plateaumap.inputs.errors import PlateaumapError, first_line
from plateaumap.inputs.validation import show
from plateaumap.numerics.compiler import double_precision
from plateaumap.table.columns import PREDICTION, UNCERTAIN, Column
from plateaumap.training import measures
from plateaumap.training.descent import Descent
from plateaumap.training.measures import (
    ENDINGS,
    STANDARD,
    Crossings,
    Displacement,
    Final,
    FunctionMeasure,
    InitialGradient,
    Losses,
    Measure,
    Measures,
)

PyTree = Any

FEWEST_LANES = 8
"""The smallest number of runs that an experiment may have advanced together."""

DeclarationFault = tuple[tuple[str | int, ...], str]
"""The location of a fault in an experiment, such as `("coordinates", 0)`, and the message."""


def declaration_faults(experiment: Any) -> list[DeclarationFault]:
    """Return all faults of the attributes of an experiment. Nothing is traced."""
    if isinstance(experiment, type):
        kind = experiment.__name__
        return [((), f"{kind} is a class; must be an object, such as {kind}()")]
    if not isinstance(experiment, Experiment):
        return [
            ((), f"{show(experiment)} is not an experiment; must be one, such as SingleNeuron()")
        ]
    faults: list[DeclarationFault] = []

    def declared(name: str, check: Callable[[Any], Iterator[DeclarationFault]]) -> Any:
        """Return an attribute if it is valid, else None."""
        try:
            value = getattr(experiment, name)
        except Exception as error:  # any error of a user's property
            reasons: list[DeclarationFault] = [((name,), _why_not_read(experiment, name, error))]
        else:
            reasons = [((name, *place), text) for place, text in check(value)]
        faults.extend(reasons)
        return None if reasons else value

    coordinates = declared("coordinates", _coordinate_faults)
    if declared("known_losses", _loss_faults) is not None:
        declared("default_losses", lambda losses: _tuple_faults("default_losses", losses))
    declared("lanes", _lane_faults)
    names = [coordinate.name for coordinate in coordinates or ()]
    declared("measures", lambda declaration: _measure_faults(declaration, names))
    return faults


def _why_not_read(experiment: Experiment, name: str, error: Exception) -> str:
    if not hasattr(type(experiment), name) and isinstance(error, AttributeError):
        return f"is missing; {_REMEDIES[name]}"
    return f"raised {first_line(error)}"


_REMEDIES = {
    "coordinates": 'must be a tuple of Coordinate, such as (Coordinate("lr"),)',
    "known_losses": 'must be a tuple of names, such as ("loss",)',
    "default_losses": 'must be a tuple of names, such as ("loss",)',
    "measures": "must be a tuple of measures, as a property: (*super().measures, ...)",
}


def _tuple_faults(name: str, value: Any) -> Iterator[DeclarationFault]:
    if callable(value):
        yield (), "is a method; write @property above its def"
    elif not isinstance(value, tuple):
        yield (), f"{show(value)} is not a tuple; {_REMEDIES[name]}"


def _coordinate_faults(coordinates: Any) -> Iterator[DeclarationFault]:
    yield from _tuple_faults("coordinates", coordinates)
    if not isinstance(coordinates, tuple):
        return
    if not coordinates:
        yield (), f"() has no coordinate; {_REMEDIES['coordinates']}"
    names: list[str] = []
    taken = [*_fixed_names(), *_standard_names()]
    for index, coordinate in enumerate(coordinates):
        if not isinstance(coordinate, Coordinate):
            message = f"{show(coordinate)} is not a Coordinate; write Coordinate({coordinate!r})"
            yield (index,), message
            continue
        reasons = [
            coordinate.why_not,
            _clash(coordinate.name, taken, "the table has a column of this name"),
            _clash(coordinate.name, names, "two coordinates have this name"),
        ]
        yield from (((index,), reason) for reason in reasons if reason)
        names.append(coordinate.name)


def _clash(name: str, taken: Iterable[str], reason: str) -> str | None:
    if name not in taken:
        return None
    return f"{name!r}: {reason}; choose another name (taken: {', '.join(taken)})"


def _loss_faults(losses: Any) -> Iterator[DeclarationFault]:
    yield from _tuple_faults("known_losses", losses)
    if not isinstance(losses, tuple):
        return
    for index, loss in enumerate(losses):
        if not isinstance(loss, str) or not loss:
            yield (index,), f"{show(loss)} is not a name of a loss; {_REMEDIES['known_losses']}"
        elif loss in losses[:index]:
            yield (index,), f"{loss!r} is listed twice; keep one of them"


def _lane_faults(lanes: Any) -> Iterator[DeclarationFault]:
    if lanes is None:
        return
    if type(lanes) is not int or lanes < FEWEST_LANES or lanes & (lanes - 1):
        yield (), f"{show(lanes)}: must be a power of two of at least {FEWEST_LANES}, such as 64"


def _measure_faults(declaration: Any, coordinates: list[str]) -> Iterator[DeclarationFault]:
    yield from _tuple_faults("measures", declaration)
    if not isinstance(declaration, tuple):
        return
    standard = _standard_names()
    extra = [name for name in coordinates if name not in standard]
    names: list[str] = []
    for index, measure in enumerate(declaration):
        reason = _why_not_measure(measure)
        if reason:
            yield (index,), reason
            continue
        for column in measure.columns:
            reasons = [
                _clash(column.name, _fixed_names(), "every table has a column of this name"),
                _clash(column.name, names, "another measure has a column of this name"),
                _clash(column.name, extra, "a coordinate has this name"),
                why_not_column_name(column.name),
            ]
            yield from (((index,), text) for text in reasons if text)
            names.append(column.name)
    missing = [name for name in standard if name not in names]
    if missing:
        yield (
            (),
            f"the columns {', '.join(missing)} are missing, which reports and commands need; add "
            "your measures to the standard ones in a property: (*super().measures, ...)",
        )


def _why_not_measure(measure: Any) -> str | None:
    """Return why something is not a measure, judged by its class and columns, or None."""
    if isinstance(measure, type):
        return f"{measure.__name__} is a class; must be an object: {measure.__name__}(...)"
    if not isinstance(measure, Measure):
        return (
            f"{show(measure)} is not a pm.measures.Measure; for a number from the last parameters "
            'write pm.measures.Final("name", function)'
        )
    try:
        columns = measure.columns
    except Exception as error:  # any error of a user's property
        return f"the columns of {show(measure)} raised {first_line(error)}"
    if not isinstance(columns, tuple) or not all(isinstance(c, Column) for c in columns):
        return f"the columns of {show(measure)} are {show(columns)}; must be a tuple of Column"
    return None


def _fixed_names() -> list[str]:
    """Return the columns of every table that no measure of an experiment fills."""
    return ["loss", *(c.name for c in (*Crossings().columns, PREDICTION, UNCERTAIN))]


def _standard_names() -> list[str]:
    """Return the columns of the measures that every experiment has."""
    standard = (*STANDARD, InitialGradient(), Losses(), *ENDINGS)
    return [column.name for measure in standard for column in measure.columns]


def require_sound(
    experiment: Experiment, loss: LossLike, precision: str, static: Static = ()
) -> None:
    """Refuse a model that cannot be evaluated or has no identity.

    Args:
        experiment: the experiment.
        loss: a loss, a name or a function.
        precision: the precision of the sweep.
        static: names and values of coordinates with choices.

    Raises:
        PlateaumapError: naming the method at fault, and the reason.
    """
    key = _key(experiment, loss, precision, static)
    checked = _sound.setdefault(type(experiment), set())
    if key in checked:
        return
    if is_custom(experiment):
        unknown = ModelKey.of({static: "not needed"})
        evaluation = Evaluation(experiment, loss, precision, static=static, key=unknown)
        with double_precision():
            _Check(evaluation).run()
    require_traceable(experiment, loss, precision, static)
    if key is not None:
        if len(checked) >= _MAX_SOUND:
            checked.clear()
        checked.add(key)


_MAX_SOUND = 1000
"""The number of models of one class that `_sound` holds."""

_sound: WeakKeyDictionary[type, set[Any]] = WeakKeyDictionary()
"""Models in which no mistake was found, by class: many sweeps of one model check it once.

Rows do not depend on it, since a run traces its models anew.
"""


def _key(experiment: Any, loss: LossLike, *others: Any) -> Any:
    """Return what determines a check, or None if attributes or the loss cannot be compared."""
    attributes = tuple(sorted(getattr(experiment, "__dict__", {}).items()))
    plain = all(isinstance(value, (bool, int, float, str)) for _, value in attributes)
    if not plain or not isinstance(loss, str):
        return None
    members = tuple(id(m) for base in type(experiment).__mro__ for m in vars(base).values())
    return (loss, *others, attributes, members)


class _Check:
    """The traces of one experiment under one loss and one combination of choices."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._experiment = evaluation.experiment
        self._name = type(evaluation.experiment).__name__
        self._point, self._data = evaluation.a_point(), evaluation.data()

    def run(self) -> None:
        """Trace each method by itself, so that a message can name it; then the measures."""
        loss_name, dtype = self._evaluation.loss, self._evaluation.dtype
        step = jax.ShapeDtypeStruct((), self._evaluation.counter)
        parameters = jax.tree.map(
            lambda leaf: leaf if is_key(leaf) else jax.ShapeDtypeStruct(leaf.shape, dtype),
            self._traced("init", lambda e, p: self._floats(e.init(p))),
        )
        self._scalar("loss", lambda e, p, w: e.loss(w, p, loss_name), parameters)
        self._scalar("floor", lambda e, p: e.floor(p, loss_name), same_dtype=False)
        if self._experiment.descent is not None:
            self._scalar(
                "descent", lambda e, p, w, n: e.descent(w, p, loss_name, n), parameters, step
            )
        if self._experiment.output is not None:
            self._scalar("output", lambda e, p, w: e.output(w, p), parameters)
        self._traced("optimizer", lambda e, p: self._require_optimizer(e.optimizer(p)))
        self._traced("optimizer", self._update)
        if not all(map(_is_built_in, self._experiment.measures)):
            self._traced("measures", self._measure)

    def _fail(self, member: str, message: str) -> PlateaumapError:
        colon = ":" if member == "measures" else ""
        return PlateaumapError(f"{self._name}.{member}{colon} {message}")

    def _traced(self, member: str, method: Callable[..., Any], *arguments: Any) -> Any:
        def call(point: Any, data: Any, *arguments: Any) -> Any:
            experiment = with_arrays(self._experiment, data)
            return method(experiment, {**point, **dict(self._evaluation.static)}, *arguments)

        user = with_bits_of(self._evaluation.dtype)
        try:
            return user(jax.eval_shape)(call, self._point, self._data, *arguments)
        except PlateaumapError:
            raise
        except Exception as error:  # any error of a user's method
            raise self._fail(member, f"raised {first_line(error)}") from error

    def _floats(self, parameters: PyTree) -> PyTree:
        leaves = jax.tree.leaves(parameters)
        for leaf in leaves:
            dtype = getattr(leaf, "dtype", None)
            floating = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
            if not (isinstance(leaf, float) or floating or is_key(leaf)):
                kind = type(leaf).__name__ if dtype is None else f"an array of {dtype}"
                raise self._fail(
                    "init",
                    f"returned {kind} among the parameters; return arrays of floats (for an "
                    "Equinox model: equinox.filter(model, equinox.is_inexact_array)) or random "
                    "keys",
                )
        if all(map(is_key, leaves)):
            raise self._fail("init", "returned no parameters; return arrays of floats")
        return jax.tree.map(jnp.asarray, parameters)

    def _scalar(
        self, member: str, method: Callable[..., Any], *arguments: Any, same_dtype: bool = True
    ) -> None:
        """Refuse a method that does not return one number in the dtype of the sweep."""
        value = self._traced(member, method, *arguments)
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if shape != ():
            kind = "no number" if shape is None else f"an array of shape {shape}"
            message = f"returned {kind}; return one number, such as the mean over samples"
            raise self._fail(member, message)
        if same_dtype and dtype != self._evaluation.dtype:
            raise self._fail(
                member,
                f"is {dtype} where the sweep computes in {jnp.dtype(self._evaluation.dtype).name}: "
                "something in it has another dtype; make arrays like the parameters, such as "
                "jnp.zeros_like(w), or keep them as attributes of the experiment",
            )

    def _require_optimizer(self, optimizer: Any) -> int:
        if not isinstance(optimizer, optax.GradientTransformation):
            raise self._fail(
                "optimizer",
                f"returned {type(optimizer).__name__}; return an Optax optimizer, such as "
                'optax.adam(point["lr"])',
            )
        return 0

    def _bound(self, experiment: Any, point: Any) -> Any:
        tolerance = jnp.zeros((), self._evaluation.dtype)
        return bind(experiment, point, self._evaluation.loss, tolerance)

    def _update(self, experiment: Any, point: Any) -> PyTree:
        """Return one update, after checking that the optimizer can compute it."""
        problem = self._bound(experiment, point)
        state = problem.optimizer.init(problem.parameters)
        gradients = jax.tree.map(jnp.zeros_like, problem.parameters)
        updates, after = problem.optimizer.update(
            gradients, state, problem.parameters, value=problem.floor
        )
        self._require_updates(updates, problem.parameters)
        self._require_same_state(state, after)
        return updates

    def _require_updates(self, updates: PyTree, parameters: PyTree) -> None:
        """Refuse updates that cannot be added to the parameters one by one."""
        structures = [jax.tree.structure(tree) for tree in (updates, parameters)]
        if structures[0] != structures[1]:  # type: ignore[operator]
            raise self._fail(
                "optimizer",
                f"returned updates of the structure {structures[0]} for parameters of the "
                f"structure {structures[1]}; return one update for each parameter",
            )
        for update, parameter in zip(*map(jax.tree.leaves, (updates, parameters)), strict=True):
            shape, dtype = jnp.shape(update), jnp.result_type(update)
            real = any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer))
            if shape != parameter.shape or not real:
                raise self._fail(
                    "optimizer",
                    f"returned an update of {dtype} of shape {shape} for a parameter of shape "
                    f"{parameter.shape}; return real numbers of the same shape",
                )

    def _require_same_state(self, before: PyTree, after: PyTree) -> None:
        """Refuse a state that a loop cannot carry from one update to the next."""
        structures = [jax.tree.structure(tree) for tree in (before, after)]
        remedy = "return an optimizer whose state keeps its form"
        if structures[0] != structures[1]:  # type: ignore[operator]
            raise self._fail(
                "optimizer",
                f"changes the structure of its state in an update from {structures[0]} to "
                f"{structures[1]}; {remedy}",
            )
        try:
            jax.lax.while_loop(lambda _: jnp.bool_(False), lambda _: after, before)
        except TypeError as error:
            raise self._fail(
                "optimizer",
                f"changes the shapes or dtypes of its state in an update from {_form(before)} to "
                f"{_form(after)}; {remedy}",
            ) from error

    def _measure(self, experiment: Any, point: Any) -> int:
        """Compute the record of a run of one epoch; errors name the measure that caused them."""
        with jax.enable_x64(True):
            evaluation = self._evaluation
            problem = self._bound(experiment, point)
            named: Any = tuple(_Named(self._name, measure) for measure in experiment.measures)
            observer = Measures(Crossings(evaluation.until), named)
            descent = Descent(problem, observer, PRECISIONS[evaluation.precision].apply)
            counter = jnp.dtype(evaluation.counter)
            start, state = descent.start(counter)
            last = descent.step(start, state, jnp.zeros((), counter))
            for measure, *states in zip(named, state.measured[1:], last.measured[1:], strict=True):
                self._require_state(measure, *states)
            record = observer.result(last.measured, start, descent.end(last))
        for column in observer.columns:
            self._require_fits(column, record.get(column.name))
        return 0

    def _require_state(self, measure: Any, before: PyTree, after: PyTree) -> None:
        forms = [
            (jax.tree.structure(state), _form(jax.tree.map(jnp.asarray, state)))
            for state in (before, after)
        ]
        if forms[0] != forms[1]:
            raise self._fail(
                "measures",
                f"{measure}.update returned a state of another form than init: {forms[1][1]} "
                f"after {forms[0][1]}; keep structure, shapes and dtypes",
            )
        epochs = measure.decisive_epochs(after)
        if not (epochs is None or isinstance(epochs, tuple)):
            raise self._fail(
                "measures",
                f"{measure}.decisive_epochs returned {type(epochs).__name__}; return a tuple of "
                "epochs, () for none, or None for all epochs",
            )

    def _require_fits(self, column: Column, value: Any) -> None:
        if value is None:
            raise self._fail(
                "measures",
                f"result returned nothing for the column {column.name!r}; return a scalar for "
                "each column",
            )
        array = jnp.asarray(value)
        if array.shape != ():
            raise self._fail(
                "measures",
                f"the column {column.name!r} has the shape {array.shape}; return one number for "
                "each run",
            )
        extended = column.dtype == "float64" and jnp.issubdtype(array.dtype, jnp.floating)
        if array.dtype.kind not in _KINDS.get(column.dtype, "b") and not extended:
            raise self._fail(
                "measures",
                f"the column {column.name!r} is of type {column.dtype}, and result returned "
                f"{array.dtype}; return an integer for Int64 and category columns",
            )


_KINDS = {"Int64": "iub", "category": "iu", "float64": "fiub"}
"""The kinds of dtypes that a measure may return for a column."""


def _form(tree: PyTree) -> str:
    leaves = jax.tree.leaves(tree)
    return ", ".join(f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}" for leaf in leaves)


def _is_built_in(measure: Measure) -> bool:
    named_by_the_user = isinstance(measure, (Final, Displacement, FunctionMeasure))
    return type(measure).__module__ == measures.__name__ and not named_by_the_user


class _Named:
    """A measure whose errors name it."""

    def __init__(self, owner: str, measure: Measure) -> None:
        self._owner, self._measure = owner, measure
        self.columns = measure.columns

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._measure, name)
        if not callable(member):
            return member

        def called(*arguments: Any) -> Any:
            try:
                return member(*arguments)
            except Exception as error:  # any error of a user's method
                raise PlateaumapError(
                    f"{self._owner}.measures: {self}.{name} raised {first_line(error)}"
                ) from error

        return called

    def __str__(self) -> str:
        columns = ", ".join(column.name for column in self.columns)
        return f"{type(self._measure).__name__} ({columns})"
