"""Digests of programs as JAX lowers them, and refusal of programs that no digest covers.

A program is traced for abstract inputs, lowered for one platform, and hashed together with the
content of every array that it uses. Functions under `jax.jit` are inlined, and computations that
reach no output are removed.
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
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.interpreters import partial_eval

from plateaumap.inputs.errors import PlateaumapError, first_line
from plateaumap.numerics.compiler import double_precision
from plateaumap.numerics.equations import equations

PyTree = Any

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
"""JAX reuses traces only under the same value of this context.

So a function under `jax.jit` is traced again for a new digest, since its globals may have changed.
"""

_tokens = itertools.count()


def environment() -> dict[str, Any]:
    """Return the version of JAX, and those of its settings that change programs."""
    with double_precision():
        settings = {name: getattr(jax.config, name, None) for name in _SETTINGS}
    # None as text, since TOML has no null.
    return {"jax": jax.__version__, **{k: str(v) if v is None else v for k, v in settings.items()}}


class Program(NamedTuple):
    """A program of several parts, as a function of named inputs.

    Attributes:
        name: the name in messages.
        inputs: a pytree of abstract numbers, and of arrays, whose content is part of the digest.
        parts: yields the name and the outputs of each part, from tracers in place of the inputs.
        header: other parts of the digest, JSON-ready.
    """

    name: str
    inputs: dict[str, Any]
    parts: Callable[[dict[str, Any]], Iterator[tuple[str, PyTree]]]
    header: list[Any]


def digest_of(program: Program) -> str:
    """Return the sha256 of a program, the same in every process.

    Raises:
        PlateaumapError: it cannot be traced, is not pure, or calls code that JAX does not trace.
    """
    first, second = (_traced(program, f"digest {next(_tokens)}") for _ in range(2))
    digest = _digest(first)
    if _digest(second) != digest:
        _require_same(first, second)
    return digest


def require_pure(program: Program) -> None:
    """Refuse a program without digest, at a tenth of the cost of `digest_of`."""
    first, second = _traced(program, "first look"), _traced(program, "second look")
    texts = [re.sub(" at 0x[0-9a-f]+", "", str(traced.jaxpr)) for traced in (first, second)]
    contents = [list(map(_content, traced.jaxpr.consts)) for traced in (first, second)]
    if texts[0] != texts[1] or contents[0] != contents[1]:
        _require_same(first, second)


class _Traced(NamedTuple):
    """A program after tracing; its `inputs` are names, or arrays."""

    program: Program
    jaxpr: ClosedJaxpr
    inputs: list[Any]
    parts: list[str]


def _traced(program: Program, token: str) -> _Traced:
    names: list[str] = []

    def outputs(inputs: dict[str, Any]) -> list[Any]:
        parts = [(part, jax.tree.leaves(tree)) for part, tree in program.parts(inputs)]
        names.extend(part for part, leaves in parts for _ in leaves)
        return [leaf for _, leaves in parts for leaf in leaves]

    inputs = jax.tree_util.tree_leaves_with_path(program.inputs)
    with double_precision(), program_context(token), named_errors(program.name):
        jaxpr = jax.make_jaxpr(outputs)(jax.tree.map(_shape, program.inputs))
    _require_covered(program.name, jaxpr)
    held = [v if isinstance(v, jax.Array) else jax.tree_util.keystr(path) for path, v in inputs]
    return _Traced(program, jaxpr, held, names)


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Convert any error of a user's function into a PlateaumapError."""
    try:
        yield
    except PlateaumapError:
        raise
    except Exception as error:
        raise PlateaumapError(f"tracing {name} raised {first_line(error)}") from error


_UNCOVERED = ("callback", "debug_print", "ffi_call", "custom_call", "infeed", "outfeed")


def _require_covered(name: str, jaxpr: ClosedJaxpr) -> None:
    """Refuse a program that calls code outside of it, or that mixes the runs of a block."""
    for equation in equations(jaxpr):
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


def _require_same(first: _Traced, second: _Traced) -> None:
    parts = dict.fromkeys(first.parts)
    differing = [part for part in parts if _digest(first, part) != _digest(second, part)]
    if differing or first.parts != second.parts:
        raise PlateaumapError(
            f"{first.program.name}: traced twice, it gave two different programs (differing: "
            f"{', '.join(differing) or 'the parts themselves'}); write pure functions: draw random "
            "numbers from jax.random.key(point[...]), and read files and clocks beforehand"
        )


def _digest(traced: _Traced, only: str | None = None) -> str:
    """Return the sha256 of a lowered program, or of one part of it."""
    selected = [only in (None, part) for part in traced.parts]
    with double_precision(), named_errors(traced.program.name):
        flat = jax.make_jaxpr(_inlined(traced.jaxpr))(*traced.jaxpr.in_avals)
        jaxpr, used = partial_eval.dce_jaxpr(flat.jaxpr, selected)
        inputs = [held for held, is_used in zip(traced.inputs, used, strict=True) if is_used]
        holders = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*flat.consts, *inputs), strict=True))
        # Arrays in the order of their use: the name of the attribute or closure does not count.
        reads = [v for e in jaxpr.eqns for v in e.invars] + [*jaxpr.outvars]
        order = [v for v in holders if isinstance(holders[v], str)]
        order += dict.fromkeys(
            v for v in reads if not isinstance(v, Literal) and v in holders and v not in order
        )

        def call(*values: Any) -> list[Any]:
            return _evaluated(jaxpr, dict(zip(order, values, strict=True)))

        shapes = [_shape(v.aval) for v in order]
        text = jax.jit(call).trace(*shapes).lower(lowering_platforms=("cpu",)).as_text()
    held = [holders[v] if isinstance(holders[v], str) else _content(holders[v]) for v in order]
    words = [traced.program.header, traced.parts, held, _without_names(text)]
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
    """Return a program as a function, with functions under `jax.jit` inlined."""
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
            results = _inlined(equation.params["jaxpr"])(*arguments)
        else:
            parameters = equation.primitive.get_bind_params(equation.params)
            with equation.ctx.manager:
                results = equation.primitive.bind(*arguments, **parameters)
        outputs = results if isinstance(results, (list, tuple)) else [results]
        values.update(zip(equation.outvars, outputs, strict=True))
    return list(map(read, jaxpr.outvars))


def _without_names(text: str) -> str:
    """Return the text of a module with numbers instead of the names of its functions."""
    symbol = r'@(?:"[^"]*"|[\w$.-]+)'
    names = re.findall(rf"func\.func (?:\w+ )?({symbol})", text)
    numbers = {name: f"@f{number}" for number, name in enumerate(dict.fromkeys(names))}
    return re.sub(symbol, lambda match: numbers.get(match[0], match[0]), text)
