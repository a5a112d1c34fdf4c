"""The identity of a model: a digest of the program to which its parts lower, and of their data.

Two models are the same if they compute the same results. Names of classes, functions and
attributes, source text and `repr` do not count. A part of this package is identified by its name
and by a version in the specification.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from plateaumap.experiment.data import arrays_of, held_by, with_arrays
from plateaumap.experiment.problem import bind
from plateaumap.experiment.program import Program, digest_of, named_errors, require_pure
from plateaumap.experiment.protocol import Experiment, LossLike
from plateaumap.experiment.single_neuron import is_plain_neuron
from plateaumap.numerics.compiler import double_precision
from plateaumap.table.columns import Column
from plateaumap.theory.base import Theory
from plateaumap.theory.single_neuron import NeuronTheory
from plateaumap.training import measures
from plateaumap.training.measures import End, Measure, Observation, Start

PyTree = Any
Static = tuple[tuple[str, Any], ...]
Points = Mapping[str, np.ndarray]


class ModelKey(NamedTuple):
    """The key of compiled programs: two models with equal keys share them.

    Attributes:
        programs: pairs of choices and the identity of the model with these choices.
        matmul: JAX's setting for matrix products, which holds in all threads and processes.
    """

    programs: tuple[tuple[Static, str], ...]
    matmul: str | None

    @classmethod
    def of(cls, programs: Mapping[Static, str]) -> ModelKey:
        """Return the key of identities by choices, with the current setting of JAX."""
        matmul = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
        return cls(tuple(programs.items()), matmul)

    def choose(self, static: Static) -> ModelKey:
        """Return the key of one combination of choices."""
        return self._replace(programs=tuple(pair for pair in self.programs if pair[0] == static))


def is_custom(experiment: object) -> bool:
    """Return whether an experiment is identified by its program, not by its name."""
    return isinstance(experiment, Experiment) and not is_plain_neuron(experiment)


def identity_of(
    experiment: Experiment,
    loss: LossLike,
    precision: str,
    static: Static = (),
    sample: Points | None = None,
) -> str:
    """Return a text that identifies a model, the same in every process.

    Args:
        experiment: the experiment.
        loss: a loss, a name or a function.
        precision: the precision of the sweep.
        static: names and values of coordinates with choices.
        sample: some points, arrays of shape (n,). A user's theory is not traced, so that it is
            identified by its answers at these points.

    Raises:
        PlateaumapError: a part that a user wrote cannot be traced, is not pure, or calls code
            that JAX does not trace.
    """
    if isinstance(loss, str) and not is_custom(experiment):
        return json.dumps([experiment.describe(), loss], sort_keys=True)
    program = _program(experiment, loss, precision, static)
    answers = _answers(experiment.theory(loss), sample)
    return digest_of(program._replace(header=[*program.header, answers]))


def _answers(theory: Theory | None, sample: Points | None) -> list[Any]:
    """Return the answers of a theory at some points; for a theory of this package, its names."""
    if theory is None or type(theory) is NeuronTheory or sample is None:
        return [theory is not None and [theory.case, theory.never_flat]]
    known: list[Any] = [theory.never_flat]
    for drop in measures.LEVELS.values():
        try:
            predicted, counts = theory.predict(sample, drop), theory.lengths(sample, drop)
        except Exception as error:  # it is raised again where the answer is needed
            known.append(type(error).__name__)
            continue
        lengths = None if counts is None else np.where(counts.known, counts.epochs, -1).tolist()
        known.append([None if predicted is None else np.asarray(predicted).tolist(), lengths])
    return json.loads(json.dumps(known, default=str))


def require_traceable(
    experiment: Experiment, loss: LossLike, precision: str, static: Static = ()
) -> None:
    """Refuse a model without identity, at a tenth of the cost of `identity_of`."""
    require_pure(_program(experiment, loss, precision, static))


_WHOLE = ("epoch", "epochs", "decrease_epoch", "stop")
"""The fields of an observation that are whole numbers."""


def _program(experiment: Experiment, loss: LossLike, precision: str, static: Static) -> Program:
    dtype = np.dtype(np.float64 if precision == "float64" else np.float32)
    number, whole = (jax.ShapeDtypeStruct((), kind) for kind in (dtype, np.dtype(np.int32)))
    with double_precision(), named_errors(type(experiment).__name__):
        observers = (measures.Crossings(), *experiment.measures)
        data = arrays_of(experiment, dtype)
    inputs = {
        "point": {
            c.name: number if c.dtype is np.float64 else jax.ShapeDtypeStruct((), c.dtype)
            for c in experiment.coordinates
            if c.name not in dict(static)
        },
        "epoch": whole,
        "tolerance": number,
        "data": data,
        "record": {
            c.name: number if c.dtype == "float64" else jax.ShapeDtypeStruct((), c.numpy_dtype)
            for observer in observers
            for c in observer.columns
        },
        **{
            kind.__name__: {field: whole if field in _WHOLE else number for field in kind._fields}
            for kind in (Start, Observation, End)
        },
    }

    def parts(given: dict[str, Any]) -> Iterator[tuple[str, PyTree]]:
        model = with_arrays(experiment, given["data"]) if given["data"] else experiment
        point = {**given["point"], **dict(static)}
        problem = bind(model, point, loss, given["tolerance"])
        here = _opaque(problem.parameters)
        yield "init", problem.parameters
        excess, gradients = problem.slope(here)
        yield "excess", (excess, gradients)
        yield "floor", problem.floor
        yield "converged", problem.converged
        yield "theory", problem.unimodal
        if problem.descent is not None:
            yield "descent", problem.descent(here, given["epoch"])
        yield "output", None if problem.output is None else problem.output(here)
        slope = _opaque(gradients)
        yield "speed", problem.gradient_scalar(slope)
        direction = problem.direction(here, slope)
        yield "direction", direction
        state = problem.optimizer.init(here)
        updates, after = problem.optimizer.update(slope, _opaque(state), here, value=excess)
        yield "optimizer", (state, updates, after)
        yield "fall", None if problem.decrease is None else problem.decrease(here, _opaque(updates))

        def seen(kind: Any, parameters: PyTree) -> Any:
            numbers = dict(given[kind.__name__])
            if problem.output is None and "output" in numbers:
                numbers["output"] = None
            if direction is None and "direction" in numbers:
                numbers["direction"] = None
            if "shares" in numbers:
                numbers["shares"] = (numbers["shares"],) * len(measures.LEVELS)
            if "decrease_is_known" in numbers:
                numbers["decrease_is_known"] = problem.decrease is not None
            return kind(**{**numbers, "parameters": problem.whole(parameters)})

        later = _opaque(here)
        views = seen(Start, here), seen(Observation, later), seen(End, _opaque(later))
        record: dict[str, Any] = {}
        for measure in (measures.Crossings(), *model.measures):
            if _named(measure) is None:
                yield type(measure).__name__, _measured(measure, *views, record)
            record |= {c.name: given["record"][c.name] for c in measure.columns}

    header = [_named(measure) or _described(measure) for measure in observers]
    return Program(type(experiment).__name__, inputs, parts, header)


def _measured(measure: Measure, start: Start, now: Observation, end: End, record: dict) -> PyTree:
    """Return the results of all methods of a measure."""
    state = measures.initial_state(measure, start)
    after = measure.update(_opaque(state), start, now)
    last = _opaque(after)
    decisions = measure.done(last), measure.decisive_epochs(last)
    results = measures.named_results(measure, measure.result(last, start, end, dict(record)))
    return state, after, decisions, [results.get(c.name) for c in measure.columns]


def _named(measure: object) -> list[Any] | None:
    """Return name and fields of a measure of this package; None if a user wrote a part of it."""
    kind, held = type(measure), held_by(measure)
    if getattr(measures, kind.__name__, None) is not kind or not _is_plain([*held.values()]):
        return None
    return [kind.__name__, json.loads(json.dumps(held, default=_words))]


def _described(measure: Measure) -> list[Any]:
    """Return what identifies a user's measure besides its program: its columns and its kind."""
    prolongs = type(measure).done is not Measure.done
    kind = [measure.needs_tenth, measure.stops_at_tenth, prolongs]
    return [list(map(_words, measure.columns)), kind]


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Column))


def _words(column: Column) -> list[Any]:
    return [column.name, column.dtype, list(column.categories)]


def _opaque(tree: PyTree) -> PyTree:
    """Return new variables for some values, so that a program shows which of them it uses."""
    leaves, form = jax.tree.flatten(tree)
    return jax.tree.unflatten(form, jax.lax.optimization_barrier(leaves)) if leaves else tree
