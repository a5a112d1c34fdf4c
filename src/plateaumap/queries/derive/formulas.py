"""The activations and their integrals as SymPy expressions, for `derivation`.

`formula` imports SymPy; importing this module does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.activations import LEAK, get

if TYPE_CHECKING:
    import sympy

MISSING = (
    "deriving a loss needs SymPy, which is not installed; "
    "install it with: pip install 'plateaumap[derive]'"
)


@dataclass(frozen=True)
class Formula:
    """One activation in symbols: z the pre-activation, a the output, y the target; all real.

    `derive` verifies each expression against `value`.

    Attributes:
        value: σ(z).
        slope: σ'(z), in a form that shows its sign.
        slope_of_output: σ' as a function of a, where that form is simple.
        integral: Σ(z); None if the activation is not monotone.
        inverse: z as a function of a, where it has a closed form.
        loss: the matching loss as a function of a, where `inverse` has a form.
        outputs: the range of a in words.
        remark: another name of the result, in a sentence.
        kinked: whether σ is one expression for z > 0 and another for z < 0.
        why_no_inverse: why the matching loss is not a function of a; "" if it is one.
    """

    value: Any
    slope: Any
    slope_of_output: Any = None
    integral: Any = None
    inverse: Any = None
    loss: Any = None
    outputs: str = ""
    remark: str = ""
    kinked: bool = False
    why_no_inverse: str = ""


def import_sympy() -> Any:
    """Return the module SymPy.

    Raises:
        PlateaumapError: SymPy is not installed.
    """
    try:
        import sympy
    except ModuleNotFoundError as error:
        raise PlateaumapError(MISSING) from error
    return sympy


def symbols() -> tuple[sympy.Symbol, sympy.Symbol, sympy.Symbol]:
    """Return z, a and y, all real."""
    return import_sympy().symbols("z a y", real=True)


def formula(name: str) -> Formula:
    """Return the formulas of a named activation.

    Raises:
        PlateaumapError: the activation is unknown, or SymPy is not installed.
    """
    return _FORMULAS[get(name).name](import_sympy(), *symbols())


def _sigmoid(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    return Formula(
        value=1 / (1 + sp.exp(-z)),
        slope=sp.exp(-z) / (1 + sp.exp(-z)) ** 2,
        slope_of_output=a * (1 - a),
        integral=sp.log(1 + sp.exp(z)),
        inverse=sp.log(a / (1 - a)),
        loss=-(y * sp.log(a) + (1 - y) * sp.log(1 - a)),
        outputs="0 < a < 1",
    )


def _tanh(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    return Formula(
        value=sp.tanh(z),
        slope=1 / sp.cosh(z) ** 2,
        slope_of_output=1 - a**2,
        integral=sp.log(sp.cosh(z)),
        inverse=sp.log((1 + a) / (1 - a)) / 2,
        loss=-((1 + y) * sp.log(1 + a) + (1 - y) * sp.log(1 - a)) / 2,
        outputs="-1 < a < 1",
        remark="With $(1 + a)/2$ for the output and $(1 + y)/2$ for the target it is the "
        "cross-entropy, less ln 2.",
    )


def _softplus(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    return Formula(
        value=sp.log(1 + sp.exp(z)),
        slope=1 / (1 + sp.exp(-z)),
        slope_of_output=1 - sp.exp(-a),
        integral=-sp.polylog(2, -sp.exp(z)),
        inverse=sp.log(sp.exp(a) - 1),
        loss=-sp.polylog(2, 1 - sp.exp(a)) - y * sp.log(sp.exp(a) - 1),
        outputs="a > 0",
        remark="$Li₂$ is the dilogarithm.",
    )


def _probit(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    cdf = (1 + sp.erf(z / sp.sqrt(2))) / 2
    density = sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)
    quantile = sp.sqrt(2) * sp.erfinv(2 * a - 1)
    return Formula(
        value=cdf,
        slope=density,
        integral=z * cdf + density,
        inverse=quantile,
        loss=(a - y) * quantile + density.subs(z, quantile),
        outputs="0 < a < 1",
        remark="The activation is the normal distribution function $Φ$, its derivative the density "
        "$φ$, and the integral $z Φ(z) + φ(z)$.",
    )


def _erf(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    return Formula(
        value=sp.erf(z),
        slope=2 * sp.exp(-(z**2)) / sp.sqrt(sp.pi),
        integral=z * sp.erf(z) + sp.exp(-(z**2)) / sp.sqrt(sp.pi),
        inverse=sp.erfinv(a),
        loss=(a - y) * sp.erfinv(a) + sp.exp(-(sp.erfinv(a) ** 2)) / sp.sqrt(sp.pi),
        outputs="-1 < a < 1",
    )


def _atan(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    angle = sp.pi * a / 2
    return Formula(
        value=2 * sp.atan(z) / sp.pi,
        slope=2 / (sp.pi * (1 + z**2)),
        slope_of_output=2 * sp.cos(angle) ** 2 / sp.pi,
        integral=2 * (z * sp.atan(z) - sp.log(1 + z**2) / 2) / sp.pi,
        inverse=sp.tan(angle),
        loss=(a - y) * sp.tan(angle) + 2 * sp.log(sp.cos(angle)) / sp.pi,
        outputs="-1 < a < 1",
    )


def _softsign(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    return Formula(
        value=z / (1 + sp.Abs(z)),
        slope=1 / (1 + sp.Abs(z)) ** 2,
        slope_of_output=(1 - sp.Abs(a)) ** 2,
        integral=sp.Abs(z) - sp.log(1 + sp.Abs(z)),
        inverse=a / (1 - sp.Abs(a)),
        loss=(sp.Abs(a) - y * a) / (1 - sp.Abs(a)) + sp.log(1 - sp.Abs(a)),
        outputs="-1 < a < 1",
        kinked=True,
    )


def _algebraic(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    return Formula(
        value=z / sp.sqrt(1 + z**2),
        slope=(1 + z**2) ** sp.Rational(-3, 2),
        slope_of_output=(1 - a**2) ** sp.Rational(3, 2),
        integral=sp.sqrt(1 + z**2),
        inverse=a / sp.sqrt(1 - a**2),
        loss=(1 - a * y) / sp.sqrt(1 - a**2),
        outputs="-1 < a < 1",
    )


def _leaky_relu(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    leak = sp.Rational(str(LEAK))
    return Formula(
        value=sp.Piecewise((z, z > 0), (leak * z, True)),
        slope=sp.Piecewise((1, z > 0), (leak, True)),
        integral=sp.Piecewise((z**2 / 2, z > 0), (leak * z**2 / 2, True)),
        inverse=sp.Piecewise((a, a > 0), (a / leak, True)),
        loss=sp.Piecewise((a**2 / 2 - y * a, a > 0), ((a**2 / 2 - y * a) / leak, True)),
        outputs="every a",
        kinked=True,
    )


def _identity(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    return Formula(
        value=z,
        slope=sp.Integer(1),
        integral=z**2 / 2,
        inverse=a,
        loss=a**2 / 2 - y * a,
        outputs="every a",
        remark="It is the quadratic loss again, less the constant $y²/2$.",
    )


def _exp(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    return Formula(
        value=sp.exp(z),
        slope=sp.exp(z),
        slope_of_output=a,
        integral=sp.exp(z),
        inverse=sp.log(a),
        loss=a - y * sp.log(a),
        outputs="a > 0",
        remark="It is the loss of Poisson regression, up to a constant.",
    )


def _relu(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    return Formula(
        value=sp.Piecewise((z, z > 0), (0, True)),
        slope=sp.Piecewise((1, z > 0), (0, True)),
        integral=sp.Piecewise((z**2 / 2, z > 0), (0, True)),
        kinked=True,
        why_no_inverse="every $z ≤ 0$ gives the output 0, so that $a$ does not determine $z$",
    )


def _gelu(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    normal = _probit(sp, z, a, y)
    return Formula(value=z * normal.value, slope=normal.value + z * normal.slope)


def _swish(sp: Any, z: Any, a: Any, y: Any) -> Formula:
    logistic = _sigmoid(sp, z, a, y)
    return Formula(value=z * logistic.value, slope=logistic.value + z * logistic.slope)


_FORMULAS: dict[str, Callable[[Any, Any, Any, Any], Formula]] = {
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "softplus": _softplus,
    "probit": _probit,
    "erf": _erf,
    "atan": _atan,
    "softsign": _softsign,
    "algebraic": _algebraic,
    "leaky_relu": _leaky_relu,
    "identity": _identity,
    "exp": _exp,
    "relu": _relu,
    "gelu": _gelu,
    "swish": _swish,
}
