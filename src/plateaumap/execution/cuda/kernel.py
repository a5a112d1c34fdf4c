"""Translates the run of one point to C++, so that each run is one thread of a GPU.

XLA makes a GPU advance many runs in lockstep, and launches a kernel for each turn of each loop. The
trace of one point contains everything that a single thread needs, loops included. This module
translates it to C++, each of JAX's primitives to an expression, so that a run costs nothing after
it has stopped. Functions of scalars and of small arrays can be translated; XLA compiles the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

MOST_ELEMENTS = 64
"""Elements of the largest array that is translated, to one variable for each element."""

ENTRY = "runs"
"""The name of the kernel."""

THREADS = 64
"""Threads that a GPU starts and releases together: few, so that a long run blocks few of them."""

BLOCKS = 16
"""Groups of `THREADS` that a multiprocessor must hold at once, which leaves 64 registers a thread.

With more registers the outer parts of a run would be faster. But the innermost loop, which takes
nearly all of the time, waits less for its own results if there are more threads.
"""


class UntranslatableError(Exception):
    """An operation or a value has no translation; the caller lets XLA compile the function."""


class Form(NamedTuple):
    """Name and dtype of an array that a kernel reads or writes."""

    name: str
    dtype: np.dtype


class Source(NamedTuple):
    """A kernel in C++.

    Its parameters are the number of runs; an array of int32 with the order in which the runs start,
    or null; one array for each of `inputs`; `scalars` by value; one array for each of `outputs`.
    """

    text: str
    inputs: tuple[Form, ...]
    scalars: tuple[np.dtype, ...]
    outputs: tuple[Form, ...]


def translate(function: Callable[..., Any], point: Any, limits: Any, data: Any) -> Source:
    """Return the kernel that calls a function once for each point.

    Args:
        function: a function of a point, limits and data that returns a dictionary of scalars.
        point: a dictionary of scalars, of which only the dtypes are used.
        limits: a pytree of scalars that all points share, of which only the dtypes are used.
        data: a pytree of arrays that all points share; they become constants of the source.

    Raises:
        UntranslatableError: the trace contains something that has no translation.
    """
    traced = jax.make_jaxpr(lambda p, shared: function(p, shared, data), return_shape=True)
    closed, form = traced(point, limits)
    # Names are sorted, because JAX flattens dictionaries in this order.
    inputs = tuple(Form(name, np.dtype(point[name].dtype)) for name in sorted(point))
    scalars = tuple(np.dtype(leaf.dtype) for leaf in jax.tree.leaves(limits))
    outputs = tuple(Form(name, np.dtype(form[name].dtype)) for name in sorted(form))
    read = [f"input_{n}[lane]" for n in range(len(inputs))]
    read += [f"scalar_{n}" for n in range(len(scalars))]
    writer = _Writer()
    try:
        results = writer.call(closed, [_array([place], ()) for place in read])
        for n, result in enumerate(results):
            writer.line(f"output_{n}[lane] = {result.item()};")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # Another version of JAX may trace the same function in another form.
        raise UntranslatableError(f"something in an unknown form ({error!r})") from error
    parameters = [
        "long long count",
        "const int *order",
        *(f"const {_ctype(form.dtype)} *input_{n}" for n, form in enumerate(inputs)),
        *(f"{_ctype(dtype)} scalar_{n}" for n, dtype in enumerate(scalars)),
        *(f"{_ctype(form.dtype)} *output_{n}" for n, form in enumerate(outputs)),
    ]
    body = "\n".join(f"  {line}" for line in writer.lines)
    text = _FRAME.format(
        entry=ENTRY,
        threads=THREADS,
        blocks=BLOCKS,
        constants=", ".join(writer.constants) or "0",
        parameters=", ".join(parameters),
        body=body,
    )
    return Source(text, inputs, scalars, outputs)


_FRAME = """\
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

struct complex64 {{ float re, im; }};
struct complex128 {{ double re, im; }};

template <class To, class From> __device__ To bits(From x) {{
  To y;
  memcpy(&y, &x, sizeof y);
  return y;
}}

__constant__ double constants[] = {{{constants}}};

extern "C" __global__ void __launch_bounds__({threads}, {blocks}) {entry}({parameters}) {{
  const long long place = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (place >= count) return;
  const long long lane = order ? order[place] : place;
{body}
}}
"""

_CTYPES = {
    "bool": "bool",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned",
    "uint64": "unsigned long long",
    "float32": "float",
    "float64": "double",
    "complex64": "complex64",
    "complex128": "complex128",
}


def _ctype(dtype: Any) -> str:
    if dtype.name not in _CTYPES:  # For example JAX's keys of random numbers.
        raise UntranslatableError(f"numbers of type {dtype.name}")
    return _CTYPES[dtype.name]


def _array(expressions: Iterable[str], shape: tuple[int, ...]) -> np.ndarray:
    """Return expressions as an array of objects."""
    filled = list(expressions)
    array = np.empty(len(filled), object)
    array[:] = filled
    return array.reshape(shape)


_SPECIAL = {"nan": "NAN", "inf": "INFINITY", "-inf": "-INFINITY"}


def _number(value: np.generic) -> str:
    """Return a constant in C++, exact to the last bit."""
    kind, ctype = value.dtype.kind, _ctype(value.dtype)
    if kind == "f":
        if np.isfinite(value):
            return f"(({ctype}){float(value).hex()})"
        return f"(({ctype}){_SPECIAL[str(float(value))]})"
    if kind == "b":
        return "true" if value else "false"
    if kind == "i" and int(value) == np.iinfo(np.int64).min:
        return f"(({ctype})(-{np.iinfo(np.int64).max}LL - 1))"
    if kind in "iu":
        return f"(({ctype}){int(value)}{'ULL' if kind == 'u' else 'LL'})"
    raise UntranslatableError(f"a constant of type {value.dtype}")


class _Writer:
    """Writes statements. A value is an array of names or literals, in the traced shape."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, int] = {}
        self._names = 0

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append(text)

    def name(self) -> str:
        """Return a new name."""
        self._names += 1
        return f"v{self._names}"

    def literal(self, value: Any) -> np.ndarray:
        """Return an array of constants."""
        array = np.asarray(value)
        if array.size > MOST_ELEMENTS:
            raise UntranslatableError(f"an array of shape {array.shape}")
        return _array(map(self.number, array.ravel()), array.shape)

    def number(self, value: np.generic) -> str:
        """Return a constant.

        An instruction of a GPU can contain half a double. The compiler would assemble any other
        double from two halves in each turn of a loop, but it can also refer to constant memory.
        """
        text = _number(value)
        if value.dtype != np.float64 or int(value.view(np.uint64)) % 2**32 == 0:
            return text
        return f"constants[{self.constants.setdefault(text, len(self.constants))}]"

    def declared(self, values: Sequence[np.ndarray], avals: Sequence[Any]) -> list[np.ndarray]:
        """Declare variables with initial values, and return their names."""
        variables = []
        for value, aval in zip(values, avals, strict=True):
            names = [self.name() for _ in range(value.size)]
            for name, start in zip(names, value.ravel(), strict=True):
                self.line(f"{_ctype(aval.dtype)} {name} = {start};")
            variables.append(_array(names, value.shape))
        return variables

    def assign(self, places: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> None:
        """Assign values to variables."""
        for place, value in zip(places, values, strict=True):
            for name, new in zip(place.ravel(), value.ravel(), strict=True):
                self.line(f"{name} = {new};")

    def call(self, function: Any, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Write the equations of a traced function, and return its results."""
        jaxpr, consts = getattr(function, "jaxpr", function), getattr(function, "consts", ())
        known: dict[Any, np.ndarray] = {}
        known.update(zip(jaxpr.constvars, map(self.literal, consts), strict=True))
        known.update(zip(jaxpr.invars, arguments, strict=True))

        def value(atom: Any) -> np.ndarray:
            if hasattr(atom, "val"):
                return self.literal(np.asarray(atom.val, atom.aval.dtype))
            return known[atom]

        for equation in jaxpr.eqns:
            results = self.equation(equation, [value(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return [value(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Any, values: list[np.ndarray]) -> list[np.ndarray]:
        """Write one equation, and return its results."""
        name, params = equation.primitive.name, equation.params
        if name in _CALLS and _CALLS[name] in params:
            return self.call(params[_CALLS[name]], values)
        if name == "while":
            return self.loop_while(equation, values)
        if name == "scan":
            return self.loop_counted(equation, values)
        if name == "cond":
            return self.branches(equation, values)
        if name == "optimization_barrier":
            return values
        out = equation.outvars[0].aval
        if np.prod(out.shape, dtype=int) > MOST_ELEMENTS:
            raise UntranslatableError(f"an array of shape {out.shape}")
        if name in _SHAPES:
            return [np.asarray(_SHAPES[name](values, params, out), object)]
        if name == "dynamic_slice":
            return [self.dynamic_slice(values, equation, out)]
        if name in _REDUCTIONS:
            return [self.reduction(values[0], equation, out)]
        if name not in _ELEMENTS:
            raise UntranslatableError(f"the operation {name}")
        element, dtype = _ELEMENTS[name], equation.invars[0].aval.dtype
        _ctype(dtype)
        rows = zip(*(np.broadcast_to(v, out.shape).ravel() for v in values), strict=True)
        expressions = (element(list(row), dtype, params, out.dtype) for row in rows)
        return [_array([self.variable(text, out) for text in expressions], out.shape)]

    def variable(self, expression: str, aval: Any) -> str:
        """Declare a constant, and return its name."""
        name = self.name()
        self.line(f"const {_ctype(aval.dtype)} {name} = {expression};")
        return name

    def loop_while(self, equation: Any, values: list[np.ndarray]) -> list[np.ndarray]:
        """Write a loop that tests a condition before each turn."""
        params = equation.params
        at, to = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        carry = self.declared(values[to:], [v.aval for v in equation.outvars])
        self.line("while (true) {")
        (condition,) = self.call(params["cond_jaxpr"], [*values[:at], *carry])
        self.line(f"if (!{condition.item()}) break;")
        self.turn(params["body_jaxpr"], values[at:to], carry, equation)
        self.line("}")
        return carry

    def loop_counted(self, equation: Any, values: list[np.ndarray]) -> list[np.ndarray]:
        """Write a loop of known length that carries all its results, as `fori_loop` does."""
        params = equation.params
        if "ft_in" in params:  # From JAX 0.11 on.
            consts, _, inputs = (len(group) for group in params["ft_in"].unpack())
        else:
            consts = params["num_consts"]
            inputs = len(values) - consts - params["num_carry"]
        if inputs or len(equation.outvars) != len(values) - consts or params["reverse"]:
            raise UntranslatableError("a scan over arrays")
        carry = self.declared(values[consts:], [v.aval for v in equation.outvars])
        turn = self.name()
        # If the loop were unrolled, its body would be compiled many times.
        self.line("#pragma unroll 1")
        self.line(f"for (int {turn} = 0; {turn} < {params['length']}; ++{turn}) {{")
        self.turn(params["jaxpr"], values[:consts], carry, equation)
        self.line("}")
        return carry

    def turn(
        self, body: Any, consts: list[np.ndarray], carry: list[np.ndarray], equation: Any
    ) -> None:
        """Write one turn of a loop: all results first, as one may need another's old value."""
        results = self.call(body, [*consts, *carry])
        self.assign(carry, self.declared(results, [v.aval for v in equation.outvars]))

    def branches(self, equation: Any, values: list[np.ndarray]) -> list[np.ndarray]:
        """Write a choice between branches; an index out of range selects the nearest branch."""
        avals = [v.aval for v in equation.outvars]
        blanks = [_array(["{}"] * int(np.prod(a.shape, dtype=int)), a.shape) for a in avals]
        results = self.declared(blanks, avals)
        index, arguments = values[0].item(), values[1:]
        last = len(equation.params["branches"]) - 1
        for number, branch in enumerate(equation.params["branches"]):
            this = (
                f"if ({index} {'<=' if number == 0 else '=='} {number}) " if number < last else ""
            )
            self.line(f"{'else ' if number else ''}{this}{{")
            self.assign(results, self.call(branch, arguments))
            self.line("}")
        return results

    def dynamic_slice(self, values: list[np.ndarray], equation: Any, out: Any) -> np.ndarray:
        """Write the selection of one element of a row by its number."""
        row, *indices = values
        if row.ndim != 1 or equation.params["slice_sizes"] != (1,):
            raise UntranslatableError("a slice that starts at a computed index")
        chosen = row[-1]
        for number in reversed(range(len(row) - 1)):
            chosen = f"({indices[0].item()} <= {number} ? {row[number]} : {chosen})"
        return _array([self.variable(chosen, out)], (1,))

    def reduction(self, value: np.ndarray, equation: Any, out: Any) -> np.ndarray:
        """Write a reduction of some elements, such as their sum or maximum."""
        axes = equation.params["axes"]
        kept = [axis for axis in range(value.ndim) if axis not in axes]
        rows = value.transpose([*kept, *axes]).reshape(*out.shape, -1)
        combine = _ELEMENTS[_REDUCTIONS[equation.primitive.name]]
        dtype = out.dtype
        totals = []
        for place in np.ndindex(*out.shape):
            total, *others = rows[place]
            for other in others:
                total = self.variable(combine([total, other], dtype, {}, dtype), out)
            totals.append(total)
        return _array(totals, out.shape)


_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "eval_jaxpr": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
"""Primitives that call traced functions, and the names of the parameters that hold these."""

_REDUCTIONS = {
    "reduce_sum": "add",
    "reduce_prod": "mul",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_and": "and",
    "reduce_or": "or",
}

_SHAPES: dict[str, Callable[[list[np.ndarray], Any, Any], Any]] = {
    "reshape": lambda v, p, out: v[0].reshape(out.shape),
    "squeeze": lambda v, p, out: v[0].reshape(out.shape),
    "expand_dims": lambda v, p, out: v[0].reshape(out.shape),
    "transpose": lambda v, p, out: v[0].transpose(p["permutation"]),
    "concatenate": lambda v, p, out: np.concatenate(v, p["dimension"]),
    "slice": lambda v, p, out: v[0][
        tuple(map(slice, p["start_indices"], p["limit_indices"], p["strides"] or [1] * v[0].ndim))
    ],
    "broadcast_in_dim": lambda v, p, out: np.broadcast_to(
        v[0].reshape(
            [
                v[0].shape[p["broadcast_dimensions"].index(d)]
                if d in p["broadcast_dimensions"]
                else 1
                for d in range(len(out.shape))
            ]
        ),
        out.shape,
    ),
    "stack": lambda v, p, out: np.stack(v, p["axis"]),
    "copy": lambda v, p, out: v[0],
    "copy_p": lambda v, p, out: v[0],
    "stop_gradient": lambda v, p, out: v[0],
}

_Element = Callable[[list[str], np.dtype, Any, np.dtype], str]
"""Returns C++ for the operands, the dtype of the first, the parameters and the result's dtype."""


def _unsigned(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"u{dtype.itemsize}")


def _arithmetic(sign: str) -> _Element:
    def element(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
        if dtype.kind == "i":  # In C++ only unsigned numbers may overflow, as JAX's do.
            unsigned = _ctype(_unsigned(dtype))
            return f"({_ctype(dtype)})(({unsigned}){x[0]} {sign} ({unsigned}){x[1]})"
        if dtype.kind not in "uf":
            raise UntranslatableError(f"arithmetic with {dtype}")
        return f"{x[0]} {sign} {x[1]}"

    return element


def _infix(sign: str) -> _Element:
    def element(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
        if dtype.kind == "c":
            raise UntranslatableError("complex numbers compared")
        return f"{x[0]} {sign} {x[1]}"

    return element


def _function(name: str) -> _Element:
    def element(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
        if dtype.kind != "f":
            raise UntranslatableError(f"{name} of {dtype}")
        return f"{name}{'f' if dtype == np.float32 else ''}({', '.join(x)})"

    return element


def _extreme(sign: str) -> _Element:
    def element(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
        a, b = x
        return f"({a} != {a} || {a} {sign} {b}) ? {a} : {b}"  # A NaN is the result.

    return element


def _shift(sign: str, logical: bool = False) -> _Element:
    def element(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
        unsigned, width = _unsigned(dtype), 8 * dtype.itemsize
        within = f"({_ctype(unsigned if logical else dtype)}){x[0]} {sign} {x[1]}"
        # A shift by the width or more leaves nothing, or the sign.
        beyond = "0" if logical else f"{x[0]} >> {width - 1}"
        result = f"({_ctype(unsigned)}){x[1]} >= {width} ? {beyond} : {within}"
        return f"({_ctype(dtype)})({result})"

    return element


def _abs(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    if dtype.kind == "i":
        return f"{x[0]} < 0 ? -{x[0]} : {x[0]}"
    return _function("fabs")(x, dtype, params, out)


def _rem(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    if dtype.kind in "iu":
        return f"{x[0]} % {x[1]}"
    return _function("fmod")(x, dtype, params, out)


def _not(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    return f"!{x[0]}" if dtype.kind == "b" else f"~{x[0]}"


def _sign(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    one = f"({_ctype(dtype)})1"
    return f"{x[0]} > 0 ? {one} : {x[0]} < 0 ? -{one} : {x[0]}"


def _round(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    to_even = int(params["rounding_method"]) == 1
    return _function("rint" if to_even else "round")(x, dtype, params, out)


def _integer_pow(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    exponent = params["y"]
    if dtype.kind != "f" or not 0 < abs(exponent) <= 16:
        raise UntranslatableError(f"the power {exponent} of {dtype}")
    product = _power(x[0], abs(exponent))
    return product if exponent > 0 else f"({_ctype(dtype)})1 / ({product})"


def _power(x: str, exponent: int) -> str:
    """Return a product, by squaring."""
    if exponent == 1:
        return x
    half = _power(x, exponent // 2)
    return f"(({half}) * ({half}){f' * {x}' if exponent % 2 else ''})"


def _select(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    which, *cases = x
    if dtype.kind == "b":
        return f"{which} ? {cases[1]} : {cases[0]}"
    chosen = cases[-1]
    for number in reversed(range(len(cases) - 1)):
        chosen = f"({which} == {number} ? {cases[number]} : {chosen})"
    return chosen


def _convert(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    if "c" in (dtype.kind, out.kind):
        raise UntranslatableError("complex numbers converted")
    return f"{x[0]} != 0" if out.kind == "b" else f"({_ctype(out)}){x[0]}"


def _bitcast(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    if dtype.itemsize != out.itemsize:
        raise UntranslatableError("a bitcast to another size")
    return f"bits<{_ctype(out)}>({x[0]})"


def _logistic(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    one = f"({_ctype(dtype)})1"
    return f"{one} / ({one} + {_function('exp')([f'-{x[0]}'], dtype, params, out)})"


def _clamp(x: list[str], dtype: np.dtype, params: Any, out: np.dtype) -> str:
    low, value, high = x
    return f"{value} < {low} ? {low} : {value} > {high} ? {high} : {value}"


_FUNCTIONS = (
    *("exp", "exp2", "expm1", "log", "log1p", "sqrt", "rsqrt", "cbrt", "pow", "erf", "erfc"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "lgamma", "floor", "ceil"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "nextafter"),
)
"""Functions with the same name in JAX and in C."""

_ELEMENTS: dict[str, _Element] = {
    **{name: _arithmetic(sign) for name, sign in {"add": "+", "sub": "-", "mul": "*"}.items()},
    "add_any": _arithmetic("+"),
    **{
        name: _infix(sign)
        for name, sign in {
            "div": "/",
            "eq": "==",
            "ne": "!=",
            "lt": "<",
            "le": "<=",
            "gt": ">",
            "ge": ">=",
            "and": "&",
            "or": "|",
            "xor": "^",
        }.items()
    },
    **{name: _function(name) for name in _FUNCTIONS},
    "erf_inv": _function("erfinv"),
    "max": _extreme(">"),
    "min": _extreme("<"),
    "shift_left": _shift("<<", logical=True),
    "shift_right_logical": _shift(">>", logical=True),
    "shift_right_arithmetic": _shift(">>"),
    "abs": _abs,
    "rem": _rem,
    "not": _not,
    "sign": _sign,
    "round": _round,
    "integer_pow": _integer_pow,
    "select_n": _select,
    "convert_element_type": _convert,
    "bitcast_convert_type": _bitcast,
    "clamp": _clamp,
    "neg": lambda x, dtype, params, out: f"-{x[0]}",
    "square": lambda x, dtype, params, out: f"{x[0]} * {x[0]}",
    "one_minus_square": lambda x, dtype, params, out: f"(1 + {x[0]}) * (1 - {x[0]})",
    "is_finite": lambda x, dtype, params, out: f"(bool)isfinite({x[0]})",
    "logistic": _logistic,
    "complex": lambda x, dtype, params, out: f"{_ctype(out)}{{{x[0]}, {x[1]}}}",
    "real": lambda x, dtype, params, out: f"{x[0]}.re",
    "imag": lambda x, dtype, params, out: f"{x[0]}.im",
}
"""The expression for each element of a result."""
