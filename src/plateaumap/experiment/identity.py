"""The identity of a model: a digest of the program that its parts lower to, and of their data.

Two models are the same if they compute the same thing. What a user wrote is therefore traced by
JAX for an abstract point, lowered for one platform, and hashed together with the content of every
array that it uses. Names of classes, functions and attributes, source text and `repr` do not count.
A part of this package counts by its name, and by a version that the sweep holds.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params
from jax.interpreters import partial_eval

from plateaumap import measures
from plateaumap.compiler import double_precision
from plateaumap.errors import PlateaumapError
from plateaumap.experiment.data import arrays_of, held_by, with_arrays
from plateaumap.experiment.problem import bind
from plateaumap.experiment.protocol import Experiment, LossChoice
from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.table import Column
from plateaumap.training import End, Observation, Start

PyTree = Any
Static = tuple[tuple[str, Any], ...]

_SETTINGS = (
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_default_matmul_precision",
    "jax_random_seed_offset",
    "jax_high_dynamic_range_gumbel",
    "jax_softmax_custom_jvp",
    "jax_use_direct_linearize",
)
"""Settings of JAX that change what a function is traced to."""

program_context = jax.make_user_context()
"""What JAX has traced is used again only under the same value of this context.

So a function under `jax.jit` is traced anew for a new digest: its globals may have changed.
"""

_tokens = itertools.count()


def is_custom(experiment: object) -> bool:
    """Return whether an experiment is identified by its program, not by its name."""
    return isinstance(experiment, Experiment) and type(experiment) is not SingleNeuron


def environment() -> dict[str, Any]:
    """Return the version of JAX, and those of its settings that change programs."""
    with double_precision():
        found = {name: getattr(jax.config, name, None) for name in _SETTINGS}
    # None as text, since TOML has no null.
    return {"jax": jax.__version__, **{k: str(v) if v is None else v for k, v in found.items()}}


def identity_of(
    experiment: Experiment, choice: LossChoice, precision: str, static: Static = ()
) -> str:
    """Return what tells a model from every other one, the same text in every process.

    Args:
        experiment: the experiment.
        choice: a loss, a name or a function.
        precision: of the sweep.
        static: names and values of coordinates with choices.

    Raises:
        PlateaumapError: a part that a user wrote cannot be traced, is not pure, or calls code
            that JAX cannot see.
    """
    if isinstance(choice, str) and not is_custom(experiment):
        return json.dumps([experiment.describe(), choice], sort_keys=True)
    model = _model(experiment, choice, precision, static)
    first, second = (_traced(model, f"digest {next(_tokens)}") for _ in range(2))
    digest = _digest(first)
    if _digest(second) != digest:
        _require_pure(first, second)
    return digest


def require_traceable(
    experiment: Experiment, choice: LossChoice, precision: str, static: Static = ()
) -> None:
    """Refuse a model that has no identity, at a tenth of the cost; see `identity_of`."""
    model = _model(experiment, choice, precision, static)
    first, second = _traced(model, "first look"), _traced(model, "second look")
    texts = [re.sub(" at 0x[0-9a-f]+", "", str(traced.jaxpr)) for traced in (first, second)]
    contents = [list(map(_content, traced.jaxpr.consts)) for traced in (first, second)]
    if texts[0] != texts[1] or contents[0] != contents[1]:
        _require_pure(first, second)


class _Model(NamedTuple):
    """A model as a function of named inputs.

    Attributes:
        name: what messages call it.
        inputs: a pytree of abstract numbers, and of the model's arrays.
        parts: yields the name and the outputs of each part, from tracers in place of the inputs.
        header: what counts beside the program, JSON-ready.
    """

    name: str
    inputs: dict[str, Any]
    parts: Callable[[dict[str, Any]], Iterator[tuple[str, PyTree]]]
    header: list[Any]


_WHOLE = ("epoch", "epochs", "fall_epoch", "stop")
"""Fields that a measure sees and that are whole numbers."""


def _model(experiment: Experiment, choice: LossChoice, precision: str, static: Static) -> _Model:
    dtype = np.dtype(np.float64 if precision == "float64" else np.float32)
    number, whole = (jax.ShapeDtypeStruct((), kind) for kind in (dtype, np.dtype(np.int32)))
    with double_precision(), _named_errors(type(experiment).__name__):
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
        problem = bind(model, point, choice, given["tolerance"])
        here = _opaque(problem.parameters)
        yield "init", problem.parameters
        yield "loss", model.loss(problem.whole(here), point, choice)
        excess, gradients = problem.slope(here)
        yield "excess", (excess, gradients)
        yield "floor", problem.floor
        yield "converged", problem.converged
        yield "theory", problem.unimodal
        if problem.descent is not None:
            yield "descent", problem.descent(here, given["epoch"])
        yield "output", None if problem.output is None else problem.output(here)
        slope = _opaque(gradients)
        yield "speed", problem.speed(slope)
        direction = problem.direction(here, slope)
        yield "direction", direction
        state = problem.optimizer.init(here)
        updates, after = problem.optimizer.update(slope, _opaque(state), here, value=excess)
        yield "optimizer", (state, updates, after)
        yield "fall", None if problem.fall is None else problem.fall(here, _opaque(updates))

        def seen(kind: Any, parameters: PyTree) -> Any:
            numbers = dict(given[kind.__name__])
            if problem.output is None and "output" in numbers:
                numbers["output"] = None
            if direction is None and "direction" in numbers:
                numbers["direction"] = None
            if "levels" in numbers:
                numbers["levels"] = (numbers["levels"],) * len(measures.LEVELS)
            return kind(**{**numbers, "parameters": problem.whole(parameters)})

        later = _opaque(here)
        views = seen(Start, here), seen(Observation, later), seen(End, _opaque(later))
        record: dict[str, Any] = {}
        for measure in (measures.Crossings(), *model.measures):
            if _named(measure) is None:
                yield type(measure).__name__, _measured(measure, *views, record)
            record |= {c.name: given["record"][c.name] for c in measure.columns}

    header = [_named(measure) or list(map(_words, measure.columns)) for measure in observers]
    return _Model(type(experiment).__name__, inputs, parts, header)


def _measured(measure: Any, start: Start, now: Observation, end: End, record: dict) -> PyTree:
    """Return all that the methods of a measure return."""
    state = measure.init(start)
    after = measure.step(_opaque(state), start, now)
    last = _opaque(after)
    asked = (getattr(measure, name, None) for name in ("done", "landmarks"))
    ended = [None if method is None else method(last) for method in asked]
    filled = measure.finish(last, start, end, dict(record))
    return state, after, ended, [filled.get(c.name) for c in measure.columns]


def _named(measure: object) -> list[Any] | None:
    """Return name and fields of a measure of this package; None if a user had a hand in it."""
    kind, held = type(measure), held_by(measure)
    if getattr(measures, kind.__name__, None) is not kind or not _is_plain([*held.values()]):
        return None
    return [kind.__name__, json.loads(json.dumps(held, default=_words))]


def _is_plain(value: object) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, Column))


def _words(column: Column) -> list[Any]:
    return [column.name, column.dtype, list(column.categories)]


def _opaque(tree: PyTree) -> PyTree:
    """Return the same values as new ones, so that a program shows which of them it uses."""
    leaves, form = jax.tree.flatten(tree)
    return jax.tree.unflatten(form, jax.lax.optimization_barrier(leaves)) if leaves else tree


class _Traced(NamedTuple):
    """A model as one program; its `inputs` are names, or contents of arrays."""

    model: _Model
    jaxpr: ClosedJaxpr
    inputs: list[Any]
    parts: list[str]


def _traced(model: _Model, token: str) -> _Traced:
    names: list[str] = []

    def outputs(inputs: dict[str, Any]) -> list[Any]:
        found = [(part, jax.tree.leaves(tree)) for part, tree in model.parts(inputs)]
        names.extend(part for part, leaves in found for _ in leaves)
        return [leaf for _, leaves in found for leaf in leaves]

    inputs = jax.tree_util.tree_leaves_with_path(model.inputs)
    with double_precision(), program_context(token), _named_errors(model.name):
        jaxpr = jax.make_jaxpr(outputs)(jax.tree.map(_shape, model.inputs))
    _require_covered(model.name, jaxpr)
    held = [v if isinstance(v, jax.Array) else jax.tree_util.keystr(path) for path, v in inputs]
    return _Traced(model, jaxpr, held, names)


@contextmanager
def _named_errors(name: str) -> Iterator[None]:
    """Turn whatever a user's function raises into one message."""
    try:
        yield
    except PlateaumapError:
        raise
    except Exception as error:
        lines = [*str(error).strip().splitlines(), ""]
        kind = type(error).__name__
        raise PlateaumapError(f"tracing {name} raised {kind}: {lines[0]}") from error


_UNCOVERED = ("callback", "debug_print", "ffi_call", "custom_call", "infeed", "outfeed")


def _require_covered(name: str, jaxpr: ClosedJaxpr) -> None:
    """Refuse a program with code that is not in it, or that mixes the runs of a block."""
    for equation in _equations(jaxpr.jaxpr):
        primitive = equation.primitive.name
        if any(word in primitive for word in _UNCOVERED):
            raise PlateaumapError(
                f"{name} calls {primitive}, which runs code that JAX does not trace, so that no "
                "digest shows whether two models are the same; write it in jax.numpy, and remove "
                "debugging output"
            )
        kinds = {str(getattr(v.aval, "dtype", "")) for v in (*equation.invars, *equation.outvars)}
        if primitive.startswith("rng_") or any("rbg" in kind for kind in kinds):
            raise PlateaumapError(
                f"{name} draws random numbers by the generator rbg, whose numbers depend on the "
                "runs in the same block; use keys of the generator threefry2x32"
            )
    if jaxpr.effects:
        effects = ", ".join(sorted({type(effect).__name__ for effect in jaxpr.effects}))
        raise PlateaumapError(f"{name} has side effects ({effects}); write pure functions")


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)


def _require_pure(first: _Traced, second: _Traced) -> None:
    parts = dict.fromkeys(first.parts)
    differing = [part for part in parts if _digest(first, part) != _digest(second, part)]
    if differing or first.parts != second.parts:
        raise PlateaumapError(
            f"{first.model.name}: traced twice, it gave two different programs (differing: "
            f"{', '.join(differing) or 'the parts themselves'}); write pure functions: draw random "
            "numbers from jax.random.key(point[...]), and read files and clocks beforehand"
        )


def _digest(traced: _Traced, only: str | None = None) -> str:
    """Return the sha256 of a program as it is lowered, or of one part of it."""
    wanted = [only in (None, part) for part in traced.parts]
    with double_precision(), _named_errors(traced.model.name):
        flat = jax.make_jaxpr(_inlined(traced.jaxpr))(*traced.jaxpr.in_avals)
        jaxpr, used = partial_eval.dce_jaxpr(flat.jaxpr, wanted)
        inputs = [held for held, is_used in zip(traced.inputs, used, strict=True) if is_used]
        holders = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*flat.consts, *inputs), strict=True))
        # Arrays in the order of their use: which attribute or closure holds them does not count.
        reads = [v for e in jaxpr.eqns for v in e.invars] + [*jaxpr.outvars]
        order = [v for v in holders if isinstance(holders[v], str)]
        order += dict.fromkeys(
            v for v in reads if not isinstance(v, Literal) and v in holders and v not in order
        )

        def program(*values: Any) -> list[Any]:
            return _evaluated(jaxpr, dict(zip(order, values, strict=True)))

        shapes = [_shape(v.aval) for v in order]
        text = jax.jit(program).trace(*shapes).lower(lowering_platforms=("cpu",)).as_text()
    held = [holders[v] if isinstance(holders[v], str) else _content(holders[v]) for v in order]
    words = [traced.model.header, traced.parts, held, _without_names(text)]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _content(array: Any) -> str:
    """Return the digest of an array: of its dtype, shape and values."""
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    plain = np.ascontiguousarray(array)
    plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(f"{plain.dtype}{plain.shape}".encode() + plain.tobytes()).hexdigest()


def _inlined(closed: ClosedJaxpr) -> Callable[..., list[Any]]:
    """Return a program as a function, with what stands under `jax.jit` in its place."""
    variables = (*closed.jaxpr.constvars, *closed.jaxpr.invars)

    def function(*values: Any) -> list[Any]:
        known = dict(zip(variables, (*closed.consts, *values), strict=True))
        return _evaluated(closed.jaxpr, known, inline=True)

    return function


def _evaluated(jaxpr: Jaxpr, values: dict[Any, Any], inline: bool = False) -> list[Any]:
    """Return the outputs of a program from the values of its inputs and constants."""

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
        arguments = list(map(read, equation.invars))
        if inline and equation.primitive.name in ("jit", "closed_call"):
            found = _inlined(equation.params["jaxpr"])(*arguments)
        else:
            parameters = equation.primitive.get_bind_params(equation.params)
            with equation.ctx.manager:
                found = equation.primitive.bind(*arguments, **parameters)
        outputs = found if isinstance(found, (list, tuple)) else [found]
        values.update(zip(equation.outvars, outputs, strict=True))
    return list(map(read, jaxpr.outvars))


def _without_names(text: str) -> str:
    """Return a module's text with its own functions numbered: JAX names them after the user's."""
    symbol = r'@(?:"[^"]*"|[\w$.-]+)'
    own = re.findall(rf"func\.func (?:\w+ )?({symbol})", text)
    numbers = {name: f"@f{number}" for number, name in enumerate(dict.fromkeys(own))}
    return re.sub(symbol, lambda found: numbers.get(found[0], found[0]), text)
