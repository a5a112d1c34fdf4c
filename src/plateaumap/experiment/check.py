"""A check of an experiment: traced once without computing, so that mistakes are named plainly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import optax

from plateaumap.experiment.coordinates import Coordinate, why_not_column_name
from plateaumap.experiment.data import with_arrays
from plateaumap.experiment.evaluation import PRECISIONS, Evaluation
from plateaumap.experiment.identity import Static, is_custom, require_traceable
from plateaumap.experiment.problem import bind, is_key, with_bits_of
from plateaumap.experiment.protocol import Experiment, LossLike
from plateaumap.inputs.errors import PlateaumapError
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

_KINDS = {"Int64": "iub", "category": "iu", "float64": "fiub"}
"""Kinds of the dtypes that a measure may return for a column."""


def require_sound(
    experiment: Experiment, loss: LossLike, precision: str, static: Static = ()
) -> None:
    """Refuse a model that cannot be evaluated or has no identity.

    Args:
        experiment: the experiment.
        loss: a loss, a name or a function.
        precision: of the sweep.
        static: names and values of coordinates with choices.

    Raises:
        PlateaumapError: naming the method at fault, and the reason.
    """
    key = _key(experiment, loss, precision, static)
    checked = _sound.setdefault(type(experiment), set())
    if key in checked:
        return
    if is_custom(experiment):
        evaluation = Evaluation(experiment, loss, precision, static=static, identity="not needed")
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
    """One experiment under one loss and one combination of choices."""

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._experiment = evaluation.experiment
        self._name = type(evaluation.experiment).__name__
        self._point, self._data = evaluation.a_point(), evaluation.data()

    def run(self) -> None:
        """Trace each method by itself, so that it can be named; then the measures."""
        loss_name, dtype = self._evaluation.loss, self._evaluation.dtype
        parameters = self._traced("init", lambda e, p: self._floats(e.init(p)))
        parameters = jax.tree.map(
            lambda leaf: leaf if is_key(leaf) else jax.ShapeDtypeStruct(leaf.shape, dtype),
            parameters,
        )
        loss = self._traced("loss", lambda e, p, w: e.loss(w, p, loss_name), parameters)
        self._require_scalar("loss", loss)
        self._require_scalar(
            "floor", self._traced("floor", lambda e, p: e.floor(p, loss_name)), False
        )
        if self._experiment.descent is not None:
            step = jax.ShapeDtypeStruct((), self._evaluation.counter)
            slope = self._traced(
                "descent", lambda e, p, w, n: e.descent(w, p, loss_name, n), parameters, step
            )
            self._require_scalar("descent", slope)
        if self._experiment.output is not None:
            output = self._traced("output", lambda e, p, w: e.output(w, p), parameters)
            self._require_scalar("output", output)
        self._traced("optimizer", lambda e, p: self._optimizer(e.optimizer(p)) and 0)
        self._traced("optimizer", self._updated)
        if not all(map(_is_built_in, self._experiment.measures)):
            self._traced("measures", self._measured)

    def _traced(self, what: str, method: Callable[..., Any], *arguments: Any) -> Any:
        def call(point: Any, data: Any, *arguments: Any) -> Any:
            experiment = with_arrays(self._experiment, data)
            return method(experiment, {**point, **dict(self._evaluation.static)}, *arguments)

        user = with_bits_of(self._evaluation.dtype)
        try:
            return user(jax.eval_shape)(call, self._point, self._data, *arguments)
        except PlateaumapError:
            raise
        except Exception as error:  # whatever a user's method raises
            raise self._at_fault(what, error) from error

    def _at_fault(self, what: str, error: Exception) -> PlateaumapError:
        lines = str(error).strip().splitlines()
        return PlateaumapError(
            f"{self._name}.{what} raised {type(error).__name__}: {lines[0] if lines else ''}"
        )

    def _floats(self, parameters: PyTree) -> PyTree:
        leaves = jax.tree.leaves(parameters)
        for leaf in leaves:
            dtype = getattr(leaf, "dtype", None)
            floating = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
            if not (isinstance(leaf, float) or floating or is_key(leaf)):
                what = type(leaf).__name__ if dtype is None else f"an array of {dtype}"
                raise PlateaumapError(
                    f"{self._name}.init returned {what} among the parameters; return arrays of "
                    "floats (of an Equinox model: equinox.filter(model, "
                    "equinox.is_inexact_array)) or random keys"
                )
        if all(map(is_key, leaves)):
            raise PlateaumapError(
                f"{self._name}.init returned no parameters; return arrays of floats"
            )
        return jax.tree.map(jnp.asarray, parameters)

    def _require_scalar(self, what: str, value: Any, same_dtype: bool = True) -> None:
        shape, found = getattr(value, "shape", None), getattr(value, "dtype", None)
        dtype = self._evaluation.dtype
        if shape != ():
            raise PlateaumapError(
                f"{self._name}.{what} returned "
                f"{'no number' if shape is None else f'an array of shape {shape}'}; "
                "return one number, such as the mean over samples"
            )
        if same_dtype and found != dtype:
            raise PlateaumapError(
                f"{self._name}.{what} is {found} where the sweep computes in "
                f"{jnp.dtype(dtype).name}: something in it has a dtype of its own; make arrays "
                "like the parameters, such as jnp.zeros_like(w), or keep them as attributes of "
                "the experiment"
            )

    def _optimizer(self, optimizer: Any) -> bool:
        if isinstance(optimizer, optax.GradientTransformation):
            return True
        raise PlateaumapError(
            f"{self._name}.optimizer returned {type(optimizer).__name__}; return an Optax "
            'optimizer, such as optax.adam(point["lr"])'
        )

    def _updated(self, experiment: Any, point: Any) -> PyTree:
        """Return one update, to see that the optimizer can make it."""
        problem = bind(
            experiment, point, self._evaluation.loss, jnp.zeros((), self._evaluation.dtype)
        )
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
        if jax.tree.structure(updates) != jax.tree.structure(parameters):  # type: ignore[operator]
            raise PlateaumapError(
                f"{self._name}.optimizer: its updates have the structure "
                f"{jax.tree.structure(updates)} and the parameters "
                f"{jax.tree.structure(parameters)}; return one update for each parameter"
            )
        for update, parameter in zip(
            jax.tree.leaves(updates), jax.tree.leaves(parameters), strict=True
        ):
            shape, dtype = jnp.shape(update), jnp.result_type(update)
            real = any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer))
            if shape != parameter.shape or not real:
                raise PlateaumapError(
                    f"{self._name}.optimizer: the update of a parameter of shape "
                    f"{parameter.shape} is an array of {dtype} of shape {shape}; return real "
                    "numbers of the same shape"
                )

    def _require_same_state(self, before: PyTree, after: PyTree) -> None:
        """Refuse a state that a loop cannot carry from one update to the next."""
        if jax.tree.structure(after) != jax.tree.structure(before):  # type: ignore[operator]
            raise PlateaumapError(
                f"{self._name}.optimizer: its state changes its structure from one update to the "
                f"next, from {jax.tree.structure(before)} to {jax.tree.structure(after)}; return "
                "an optimizer whose state keeps its form"
            )
        try:
            jax.lax.while_loop(lambda _: jnp.bool_(False), lambda _: after, before)
        except TypeError as error:
            forms = [
                [
                    f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
                    for leaf in jax.tree.leaves(tree)
                ]
                for tree in (before, after)
            ]
            raise PlateaumapError(
                f"{self._name}.optimizer: an update changes the shapes or dtypes of its state from "
                f"{', '.join(forms[0])} to {', '.join(forms[1])}; return an optimizer whose state "
                "keeps its form"
            ) from error

    def _measured(self, experiment: Any, point: Any) -> PyTree:
        """Return the record of a run of no length, each measure blamed for what it raises."""
        with jax.enable_x64(True):
            evaluation = self._evaluation
            problem = bind(experiment, point, evaluation.loss, jnp.zeros((), evaluation.dtype))
            blamed: Any = tuple(_Blamed(self._name, measure) for measure in experiment.measures)
            observer = Measures(Crossings(evaluation.until), blamed)
            descent = Descent(problem, observer, PRECISIONS[evaluation.precision].apply)
            counter = jnp.dtype(evaluation.counter)
            start, state = descent.start(counter)
            last = descent.step(start, state, jnp.zeros((), counter))
            _require_same(self._name, observer.others, state.measured[1:], last.measured[1:])
            for measure, measured in zip(observer.others, last.measured[1:], strict=True):
                _require_decisive_epochs(self._name, measure, measured)
            record = observer.result(last.measured, start, descent.end(last))
        for column in observer.columns:
            _require_fits(self._name, column, record.get(column.name))
        return 0


def _forms(tree: PyTree) -> str:
    return ", ".join(
        f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}" for leaf in jax.tree.leaves(tree)
    )


def _is_built_in(measure: Measure) -> bool:
    named_by_the_user = isinstance(measure, (Final, Displacement, FunctionMeasure))
    return type(measure).__module__ == measures.__name__ and not named_by_the_user


class _Blamed:
    """A measure whose errors say which measure it is."""

    def __init__(self, owner: str, measure: Measure) -> None:
        self._owner, self._measure = owner, measure
        self.columns = measure.columns

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._measure, name)
        if not callable(method):
            return method

        def called(*arguments: Any) -> Any:
            try:
                return method(*arguments)
            except Exception as error:  # whatever a user's method raises
                lines = str(error).strip().splitlines()
                raise PlateaumapError(
                    f"{self._owner}.measures: {self}.{name} raised {type(error).__name__}: "
                    f"{lines[0] if lines else ''}"
                ) from error

        return called

    def __str__(self) -> str:
        columns = ", ".join(column.name for column in self.columns)
        return f"{type(self._measure).__name__} ({columns})"


def _require_same(owner: str, named: tuple[Measure, ...], before: Any, after: Any) -> None:
    for measure, old, new in zip(named, before, after, strict=True):
        forms = [
            (jax.tree.structure(state), [(x.shape, x.dtype) for x in jax.tree.leaves(state)])
            for state in jax.tree.map(jnp.asarray, (old, new))
        ]
        if forms[0] != forms[1]:
            raise PlateaumapError(
                f"{owner}.measures: {measure}.update returned a state of another form than init: "
                f"{forms[1][1]} after {forms[0][1]}; keep structure, shapes and dtypes"
            )


def _require_decisive_epochs(owner: str, measure: Measure, state: Any) -> None:
    epochs = measure.decisive_epochs(state)
    if not (epochs is None or isinstance(epochs, tuple)):
        raise PlateaumapError(
            f"{owner}.measures: {measure}.decisive_epochs returned {type(epochs).__name__}; return "
            "a tuple of epochs, () for none, or None for all of them"
        )


def _require_fits(owner: str, column: Column, value: Any) -> None:
    if value is None:
        raise PlateaumapError(
            f"{owner}.measures: result returned nothing for the column {column.name!r}; return a "
            "scalar for each column"
        )
    array = jnp.asarray(value)
    if array.shape != ():
        raise PlateaumapError(
            f"{owner}.measures: the column {column.name!r} has the shape {array.shape}; return "
            "one number for each run"
        )
    kinds = _KINDS.get(column.dtype, "b")
    if array.dtype.kind not in kinds and not (kinds == _KINDS["float64"] and _is_float(array)):
        raise PlateaumapError(
            f"{owner}.measures: the column {column.name!r} is of type {column.dtype}, and result "
            f"returned {array.dtype}; return an integer for Int64 and category columns"
        )


def _is_float(array: Any) -> bool:
    return bool(jnp.issubdtype(array.dtype, jnp.floating))


DeclarationFault = tuple[tuple[str | int, ...], str]
"""Where in an experiment something is wrong, such as `("coordinates", 0)`, and what."""

FEWEST_LANES = 8
"""The smallest number of runs that an experiment may have advanced together."""


def declaration_faults(experiment: Any) -> list[DeclarationFault]:
    """Return everything that is wrong in what an experiment declares; empty if nothing is."""
    if isinstance(experiment, type):
        kind = experiment.__name__
        return [((), f"{kind} is a class; give an object of it, such as {kind}()")]
    if not isinstance(experiment, Experiment):
        return [((), f"{show(experiment)} is no experiment; give one, such as SingleNeuron()")]
    faults: list[DeclarationFault] = []

    def declared(name: str, check: Callable[[Any], Iterator[DeclarationFault]]) -> Any:
        """Return an attribute if nothing is wrong with it, else None."""
        try:
            value = getattr(experiment, name)
        except Exception as error:  # whatever a user's property raises
            found: list[DeclarationFault] = [((name,), _why_not_read(experiment, name, error))]
        else:
            found = [((name, *place), text) for place, text in check(value)]
        faults.extend(found)
        return None if found else value

    coordinates = declared("coordinates", _coordinate_faults)
    losses = declared("known_losses", _loss_faults)
    if losses is not None and hasattr(experiment, "default_losses"):
        declared("default_losses", _sequence_faults)
    if hasattr(experiment, "lanes"):
        declared("lanes", _lane_faults)
    if hasattr(type(experiment), "measures"):
        names = [coordinate.name for coordinate in coordinates or ()]
        declared("measures", lambda measures: _measure_faults(experiment, measures, names))
    return faults


def _why_not_read(experiment: Any, name: str, error: Exception) -> str:
    if not hasattr(type(experiment), name) and isinstance(error, AttributeError):
        return f"is missing; {_REMEDIES[name]}"
    lines = str(error).strip().splitlines()
    return f"raised {type(error).__name__}: {lines[0] if lines else ''}"


_REMEDIES = {
    "coordinates": 'give a tuple of Coordinate, such as (Coordinate("lr"),)',
    "known_losses": 'give a tuple of names, such as ("loss",)',
    "default_losses": 'give a tuple of names, such as ("loss",)',
    "measures": "give a tuple of measures as a property: (*super().measures, ...)",
}


def _sequence_faults(value: Any, what: str = "default_losses") -> Iterator[DeclarationFault]:
    if callable(value):
        yield (), "is a method; write @property above its def"
    elif not isinstance(value, tuple):
        yield (), f"{show(value)} is no tuple; {_REMEDIES[what]}"


def _coordinate_faults(coordinates: Any) -> Iterator[DeclarationFault]:
    yield from _sequence_faults(coordinates, "coordinates")
    if not isinstance(coordinates, tuple):
        return
    if not coordinates:
        yield (), f"() holds no coordinate; {_REMEDIES['coordinates']}"
    names: list[str] = []
    taken = [column.name for column in (*_fixed_columns(), *_columns(_standard_measures()))]
    for index, coordinate in enumerate(coordinates):
        if not isinstance(coordinate, Coordinate):
            yield (index,), f"{show(coordinate)} is no Coordinate; write Coordinate({coordinate!r})"
            continue
        reasons = [
            coordinate.why_not,
            _why_not_name(coordinate.name, taken, "the table has a column of this name"),
            _why_not_name(coordinate.name, names, "two coordinates have this name"),
        ]
        yield from (((index,), reason) for reason in reasons if reason)
        names.append(coordinate.name)


def _why_not_name(name: str, taken: Sequence[str], reason: str) -> str | None:
    if name not in taken:
        return None
    return f"{name!r}: {reason}; choose another one (taken: {', '.join(taken)})"


def _loss_faults(losses: Any) -> Iterator[DeclarationFault]:
    yield from _sequence_faults(losses, "known_losses")
    if not isinstance(losses, tuple):
        return
    for index, loss in enumerate(losses):
        if not isinstance(loss, str) or not loss:
            yield (index,), f"{show(loss)} is no name of a loss; {_REMEDIES['known_losses']}"
        elif loss in losses[:index]:
            yield (index,), f"{loss!r} is listed twice; keep one of them"


def _lane_faults(lanes: Any) -> Iterator[DeclarationFault]:
    if lanes is None:
        return
    if type(lanes) is not int or lanes < FEWEST_LANES or lanes & (lanes - 1):
        yield (), f"{show(lanes)} is no power of two from {FEWEST_LANES} on; give one, such as 64"


def _measure_faults(
    experiment: Any, measures: Any, coordinates: Sequence[str]
) -> Iterator[DeclarationFault]:
    yield from _sequence_faults(measures, "measures")
    if not isinstance(measures, tuple):
        return
    fixed = [column.name for column in _fixed_columns()]
    standard = [column.name for column in _columns(_standard_measures())]
    names: list[str] = []
    for index, measure in enumerate(measures):
        reason = _why_not_measure(measure)
        if reason:
            yield (index,), reason
            continue
        for column in measure.columns:
            own = [name for name in coordinates if name not in standard]
            reasons = [
                _why_not_name(column.name, fixed, "every table has a column of this name"),
                _why_not_name(column.name, names, "another measure has a column of this name"),
                _why_not_name(column.name, own, "a coordinate has this name"),
                why_not_column_name(column.name),
            ]
            yield from (((index,), text) for text in reasons if text)
            names.append(column.name)
    missing = [name for name in standard if name not in names]
    if missing:
        yield (
            (),
            f"the columns {', '.join(missing)} are missing, which reports and commands need; add "
            "yours to the standard measures in a property: (*super().measures, ...)",
        )


def _why_not_measure(measure: Any) -> str | None:
    """Return why something is not a measure, judged by its class and columns, or None."""
    if isinstance(measure, type):
        return f"{measure.__name__} is a class; give an object of it: {measure.__name__}(...)"
    try:
        columns = measure.columns if isinstance(measure, Measure) else None
    except Exception as error:  # whatever a user's property raises
        return f"the columns of {show(measure)} raised {type(error).__name__}: {error}"
    if not isinstance(measure, Measure):
        return (
            f"{show(measure)} is not a pm.measures.Measure; for a number from the last parameters "
            'write pm.measures.Final("name", function)'
        )
    if not isinstance(columns, tuple) or not all(isinstance(c, Column) for c in columns):
        return f"the columns of {show(measure)} are {show(columns)}; give a tuple of Column"
    return None


def _fixed_columns() -> tuple[Column, ...]:
    """Return the columns of every table that no measure of an experiment fills."""
    loss = Column("loss", "category", "1", "the loss that is trained", ("loss",))
    return (loss, *Crossings().columns, PREDICTION, UNCERTAIN)


def _standard_measures() -> tuple[Any, ...]:
    return (*STANDARD, InitialGradient(), Losses(), *ENDINGS)


def _columns(measures: Sequence[Any]) -> tuple[Column, ...]:
    return tuple(column for measure in measures for column in measure.columns)
