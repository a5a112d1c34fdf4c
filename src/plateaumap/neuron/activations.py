"""Activations: output, derivative, error and integral, each accurate in saturation.

An `Activation` `σ` holds what the losses need: the derivative `slope`, the `error` σ(z) − y
without cancellation, and the integral Σ(z), from which the matching loss `Σ(z) − y z` is formed
(P. Auer, M. Herbster, M. K. Warmuth, "Exponentially many local minima for single neurons",
NIPS 8 (1995); D. P. Helmbold, J. Kivinen, M. K. Warmuth, "Worst-case loss bounds for single
neurons", ibid.). An activation that decreases somewhere has no matching loss.

The integrals, and the error of each in float64 for |z| ≤ 50, against mpmath, over max(|Σ|, 1):

==========  ================================  =====
name        Σ(z)                              error
==========  ================================  =====
sigmoid     ln(1 + e^z)                       5e-16
tanh        ln cosh z                         5e-16
softplus    -Li2(-e^z)                        5e-16
probit      z Φ(z) + φ(z)                     2e-15
erf         z erf z + e^(-z²)/√π              3e-15
atan        (2/π)(z atan z - ln(1 + z²)/2)    5e-16
softsign    |z| - ln(1 + |z|)                 5e-16
algebraic   √(1 + z²)                         5e-16
leaky_relu  z²/2 or 0.01 z²/2                 5e-16
identity    z²/2                              5e-16
exp         e^z                               5e-16
relu        max(z, 0)²/2                      5e-16
==========  ================================  =====

Where Σ tends to zero for z → −∞ (sigmoid, softplus, exp) the error is as small relative to Σ
itself; for probit it is 6e-14, from the rounding of z². Where Σ is zero at z = 0 (tanh, atan,
softsign) the error is absolute near there; excesses over a floor are not affected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import erf, erfinv, ndtri
from jax.typing import ArrayLike

from plateaumap.inputs.errors import PlateaumapError, advice
from plateaumap.neuron.formulas import (
    sigmoid,
    sigmoid_error,
    sigmoid_pair,
    sigmoid_slope,
    softplus,
    softplus_remainder,
)
from plateaumap.numerics.elementary import (
    EXPM1_RADIUS,
    expm1_near,
    horner,
    log1p,
    logit,
    product,
)
from plateaumap.numerics.gaussian import density, integrated_mills_ratio, mills_ratio
from plateaumap.numerics.quadrature import integral_from_zero

Function = Callable[[Array], Array]

LEAK = 0.01
"""The slope of the leaky ReLU for negative pre-activations."""

_TAIL = 0.5
"""From this |z| on, errors of a bounded activation are taken from its tail."""


@dataclass(frozen=True)
class Activation:
    """An activation function with the functions that its losses need.

    All functions are elementwise, in the dtype of their argument, and differentiable by JAX.

    Attributes:
        name: its name in specs.
        value: `σ(z)`, the output.
        slope: `σ'(z)`, without cancellation; JAX uses it as the derivative of `value`.
        error: `error(z, y)` = σ(z) − y, without cancellation at the ends of the range.
        low: infimum of the outputs.
        high: supremum of the outputs.
        smooth: whether σ' is smooth; with a kink at z = 0 only simulation applies.
        flat: whether σ' is exactly zero on an interval, so that a unit can be dead.
        remainder: `Σ(z)` less its asymptote `asymptote(z) z` and less `constant`; it tends to
            zero where the outputs tend to a finite end of the range, if `light_tailed`.
        constant: the constant of integration with which `Σ` is the textbook integral.
        light_tailed: whether the integral of the distance to a finite end of the range
            converges; if not, the matching loss of a target there has no floor.
        inverse: `z` for an output strictly within the range; None if it has no closed form.
        why_no_matching_loss: the reason if there is no matching loss, else None.
    """

    name: str
    value: Function
    slope: Function = field(repr=False)
    error: Callable[[Array, Array], Array] = field(repr=False)
    low: float
    high: float
    smooth: bool = True
    flat: bool = False
    remainder: Function | None = field(default=None, repr=False)
    constant: float = field(default=0.0, repr=False)
    light_tailed: bool = field(default=True, repr=False)
    inverse: Function | None = field(default=None, repr=False)
    why_no_matching_loss: str | None = None

    def __call__(self, z: ArrayLike) -> Array:
        """Return the output `σ(z)`."""
        return self.value(_floating(z))

    def asymptote(self, z: Array) -> Array:
        """Return the finite end of the range that outputs approach on the side of `z`, else 0."""
        ends = (self.low, self.high) if self.why_no_matching_loss is None else (0.0, 0.0)
        below, above = (end if math.isfinite(end) else 0.0 for end in ends)
        return jnp.where(z > 0, jnp.asarray(above, z.dtype), jnp.asarray(below, z.dtype))

    def integral(self, z: ArrayLike) -> Array:
        """Return `Σ(z)`, the integral of the activation; its derivative is `value`.

        Raises:
            PlateaumapError: the activation has no matching loss, so no use for an integral.
        """
        remainder = self.remainder
        if remainder is None:
            raise PlateaumapError(f"{self.name} has no integral here: {self.why_no_matching_loss}")

        def integral(z: Array) -> Array:
            return self.asymptote(z) * z + (remainder(z) + self.constant)

        return with_slope(integral, self.value)(_floating(z))

    def target(self, y: Array) -> Array:
        """Return the pre-activation whose output is `y`, infinite at the ends of the range.

        By the closed form if there is one, polished by one step of Newton's method against
        `error`; else by bisection.
        """
        inside = (y > self.low) & (y < self.high)
        reachable = jnp.where(inside, y, self.value(jnp.zeros_like(y)))
        z = _bisect(self, reachable) if self.inverse is None else self.inverse(reachable)
        slope = self.slope(z)
        correction = jnp.where(
            slope > 0, self.error(z, reachable) / jnp.where(slope > 0, slope, 1), 0
        )
        return jnp.where(inside, z - correction, jnp.where(y <= self.low, -inf, inf))


def _floating(z: ArrayLike) -> Array:
    return jnp.asarray(z, jnp.result_type(z, 0.0))


def _bisect(activation: Activation, y: Array) -> Array:
    """Return the root of `error(·, y)` by bisection in `v = arsinh z`, for an increasing σ."""

    def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        lower, upper = bracket
        middle = (lower + upper) / 2
        too_high = activation.error(jnp.sinh(middle), y) > 0
        return jnp.where(too_high, lower, middle), jnp.where(too_high, middle, upper)

    limit = math.asinh(float(jnp.finfo(y.dtype).max) ** 0.25)
    bits = jnp.finfo(y.dtype).nmant + 8
    lower, upper = jax.lax.fori_loop(
        0, bits, halve, (jnp.full_like(y, -limit), jnp.full_like(y, limit))
    )
    return jnp.sinh((lower + upper) / 2)


def with_slope(function: Function, slope: Function) -> Function:
    """Return `function` with `slope` for its derivative."""

    @jax.custom_jvp
    def value(z: Array) -> Array:
        return function(jnp.asarray(z))

    value.defjvps(lambda z_dot, output, z: slope(z) * z_dot)
    return value


def _error_with_slope(
    function: Callable[[Array, Array], Array], slope: Function
) -> Callable[[Array, Array], Array]:
    @jax.custom_jvp
    def error(z: Array, y: Array) -> Array:
        return function(jnp.asarray(z), y)

    error.defjvps(
        lambda z_dot, difference, z, y: slope(z) * z_dot, lambda y_dot, difference, z, y: -y_dot
    )
    return error


def _activation(
    name: str,
    function: Function,
    slope: Function,
    low: float,
    high: float,
    *,
    difference: Callable[[Array, Array], Array] | None = None,
    **others: object,
) -> Activation:
    value = with_slope(function, slope)
    error = _error_with_slope(difference or (lambda z, y: function(z) - y), slope)
    return Activation(name, value, slope, error, low, high, **others)  # type: ignore[arg-type]


def _odd(
    name: str, function: Function, tail: Function, slope: Function, **others: object
) -> Activation:
    """Return an odd activation with outputs in (−1, 1), `tail(t)` being 1 − σ(t) for t ≥ 0."""

    def difference(z: Array, y: Array) -> Array:
        sign = jnp.where(z < 0, -1, 1)
        far = sign * ((1 - sign * y) - tail(jnp.abs(z)))
        return jnp.where(jnp.abs(z) > _TAIL, far, function(z) - y)

    return _activation(name, function, slope, -1.0, 1.0, difference=difference, **others)


_SIGMOID = Activation(
    "sigmoid",
    sigmoid,
    sigmoid_slope,
    sigmoid_error,
    0.0,
    1.0,
    remainder=softplus_remainder,
    inverse=logit,
)


def _tanh(z: Array) -> Array:
    # With e = exp(−2|z|) it is (1 − e)/(1 + e), which shares e with the tail and the slope.
    double = 2 * jnp.abs(z)
    small = double < EXPM1_RADIUS
    larger, smaller = sigmoid_pair(double)
    near = -larger * expm1_near(jnp.where(small, -double, 0))
    return jnp.sign(z) * jnp.where(small, near, larger - smaller)


_TANH = _odd(
    "tanh",
    _tanh,
    tail=lambda t: 2 * sigmoid_pair(2 * t)[1],
    slope=lambda z: 4 * sigmoid_slope(2 * z),
    # At z = 0 remainder and constant cancel to the last bit, so that ln cosh 0 is 0.
    remainder=lambda z: jnp.where(z == 0, math.log(2), softplus_remainder(2 * z)),
    constant=-math.log(2),
    inverse=lambda y: (log1p(y) - log1p(-y)) / 2,
)


def _dilogarithm_softplus(length: Array) -> Array:
    """Return `−Li₂(1 − exp(length))` for length in [0, ln 2], by Debye's series.

    With `length = ln(1 + t)` it is `−Li₂(−t) = Σ (−1)ⁿ Bₙ lengthⁿ⁺¹/(n+1)!` in Bernoulli numbers.
    """
    bernoulli = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)
    even = [b / math.factorial(2 * k + 3) for k, b in enumerate(bernoulli)]
    square = length * length
    return length + square / 4 + length * square * horner(even, square)


def _softplus_integral(z: Array) -> Array:
    # Li₂(−1/t) + Li₂(−t) = −π²/6 − ln²(t)/2 leaves the series a logarithm of at most ln 2.
    small = _dilogarithm_softplus(softplus_remainder(z))
    return jnp.where(z > 0, math.pi**2 / 6 + jnp.square(z) / 2 - small, small)


_SOFTPLUS = Activation(
    "softplus",
    softplus,
    sigmoid,
    _error_with_slope(lambda z, y: softplus(z) - y, sigmoid),
    0.0,
    inf,
    remainder=_softplus_integral,
    inverse=lambda y: y + jnp.log(-jnp.expm1(-y)),
)


_ROOT_2, _ROOT_PI = math.sqrt(2), math.sqrt(math.pi)


def _normal_tail(t: Array) -> Array:
    return density(t) * mills_ratio(t)


def _normal_difference(z: Array, y: Array) -> Array:
    """Return `Φ(z) − y`, from the tail on the side of z, or around ½ for small |z|."""
    tail = _normal_tail(jnp.abs(z))
    far = jnp.where(z > 0, (1 - y) - tail, tail - y)
    near = (0.5 - y) + erf(z / _ROOT_2) / 2
    return jnp.where(jnp.abs(z) > _TAIL, far, near)


_PROBIT = _activation(
    "probit",
    lambda z: _normal_difference(z, jnp.zeros_like(z)),
    density,
    0.0,
    1.0,
    difference=_normal_difference,
    remainder=lambda z: density(z) * integrated_mills_ratio(jnp.abs(z)),
    inverse=ndtri,
)


def _bell(z: Array) -> Array:
    return jnp.exp(-jnp.square(z))


_ERF = _odd(
    "erf",
    erf,
    tail=lambda t: _bell(t) * mills_ratio(_ROOT_2 * t) * (_ROOT_2 / _ROOT_PI),
    slope=lambda z: _bell(z) * (2 / _ROOT_PI),
    remainder=lambda z: _bell(z) * integrated_mills_ratio(_ROOT_2 * jnp.abs(z)) / _ROOT_PI,
    inverse=erfinv,
)


def _small_angle(t: Array) -> Array:
    """Return `atan(t)` for t in [0, 1], by its Taylor series.

    `jnp.arctan` is wrong by up to 1.4 where XLA compiles for vectors of 512 bits, as a sweep does.
    From tan(π/8) on the angle is taken from π/4: `atan t = π/4 + atan((t − 1)/(t + 1))`.
    """
    far = t > math.tan(math.pi / 8)
    r = jnp.where(far, (t - 1) / (t + 1), t)
    coefficients = [(-1) ** k / (2 * k + 1) for k in range(1, 22)]
    square = jnp.square(r)
    angle = r + r * (square * horner(coefficients, square))
    return jnp.where(far, math.pi / 4 + angle, angle)


def _angle(t: Array) -> tuple[Array, Array]:
    """Return `atan(t)` and `π/2 − atan(t)` for t ≥ 0, one arc tangent serving both."""
    steep = t > 1
    angle = _small_angle(jnp.where(steep, 1 / jnp.where(steep, t, 1), t))
    other = math.pi / 2 - angle
    return jnp.where(steep, other, angle), jnp.where(steep, angle, other)


def _atan_remainder(z: Array) -> Array:
    t = jnp.abs(z)
    # The square of a large t would overflow; there ln(1 + t²) is 2 ln t.
    large = t > 1e9
    logarithm = jnp.where(large, jnp.log(t), log1p(jnp.square(jnp.where(large, 0, t))) / 2)
    return -(2 / math.pi) * (product(_angle(t)[1], t) + logarithm)


_ATAN = _odd(
    "atan",
    lambda z: (2 / math.pi) * jnp.sign(z) * _angle(jnp.abs(z))[0],
    tail=lambda t: (2 / math.pi) * _angle(t)[1],
    slope=lambda z: (2 / math.pi) / (1 + jnp.square(z)),
    remainder=_atan_remainder,
    light_tailed=False,
    inverse=lambda y: jnp.tan(y * (math.pi / 2)),
)


def _quotient(z: Array, size: Array) -> Array:
    """Return `z / size` of a size that grows like |z|, with its limit ±1 at infinity."""
    return jnp.where(jnp.isinf(z), jnp.sign(z), z / size)


_SOFTSIGN = _odd(
    "softsign",
    lambda z: _quotient(z, 1 + jnp.abs(z)),
    tail=lambda t: 1 / (1 + t),
    slope=lambda z: 1 / jnp.square(1 + jnp.abs(z)),
    smooth=False,
    remainder=lambda z: -log1p(jnp.abs(z)),
    light_tailed=False,
    inverse=lambda y: y / (1 - jnp.abs(y)),
)


def _reciprocal_of_sum(t: Array) -> Array:
    """Return `√(1 + t²) − t` for t ≥ 0 without cancellation."""
    return 1 / (jnp.hypot(1, t) + t)


_ALGEBRAIC = _odd(
    "algebraic",
    lambda z: _quotient(z, jnp.hypot(1, z)),
    tail=lambda t: _reciprocal_of_sum(t) / jnp.hypot(1, t),
    slope=lambda z: (1 + jnp.square(z)) ** -1.5,
    remainder=lambda z: _reciprocal_of_sum(jnp.abs(z)),
    inverse=lambda y: y / jnp.sqrt((1 - y) * (1 + y)),
)

_IDENTITY = _activation(
    "identity",
    lambda z: z,
    jnp.ones_like,
    -inf,
    inf,
    remainder=lambda z: jnp.square(z) / 2,
    inverse=lambda y: y,
)

_EXP = _activation("exp", jnp.exp, jnp.exp, 0.0, inf, remainder=jnp.exp, inverse=jnp.log)

_RELU = _activation(
    "relu",
    lambda z: jnp.maximum(z, 0),
    lambda z: jnp.where(z > 0, jnp.ones_like(z), 0),
    0.0,
    inf,
    smooth=False,
    flat=True,
    remainder=lambda z: jnp.square(jnp.maximum(z, 0)) / 2,
    inverse=lambda y: y,
)


def _leaky(z: Array) -> Array:
    return jnp.where(z > 0, z, LEAK * z)


_LEAKY_RELU = _activation(
    "leaky_relu",
    _leaky,
    lambda z: jnp.where(z > 0, jnp.ones_like(z), LEAK),
    -inf,
    inf,
    smooth=False,
    remainder=lambda z: _leaky(z) * z / 2,
    inverse=lambda y: jnp.where(y > 0, y, y / LEAK),
)

_GELU = _activation(
    "gelu",
    lambda z: product(_PROBIT.value(z), z),
    lambda z: _PROBIT.value(z) + product(density(z), z),
    -0.16997120747990369,
    inf,
    why_no_matching_loss=(
        "gelu is not monotone: it decreases for z < -0.7518, and there its matching loss "
        "would not be convex; train it with 'quadratic'"
    ),
)

_SWISH = _activation(
    "swish",
    lambda z: product(sigmoid(z), z),
    lambda z: product(sigmoid(z), 1 + product(sigmoid(-z), z)),
    -0.27846454276107379,
    inf,
    why_no_matching_loss=(
        "swish is not monotone: it decreases for z < -1.2785, and there its matching loss "
        "would not be convex; train it with 'quadratic'"
    ),
)

ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        _SIGMOID,
        _TANH,
        _SOFTPLUS,
        _PROBIT,
        _ERF,
        _ATAN,
        _SOFTSIGN,
        _ALGEBRAIC,
        _LEAKY_RELU,
        _IDENTITY,
        _EXP,
        _RELU,
        _GELU,
        _SWISH,
    )
}
"""The activations by name."""


def get(activation: str | Activation) -> Activation:
    """Return the activation of a name; an `Activation` is returned as it is.

    Raises:
        PlateaumapError: no activation has that name.
    """
    if isinstance(activation, Activation):
        return activation
    if activation not in ACTIVATIONS:
        raise PlateaumapError(
            f"activation = {activation!r}: unknown; {advice(activation, ACTIVATIONS)}"
        )
    return ACTIVATIONS[activation]


def increasing(
    name: str,
    function: Function,
    *,
    low: float = -inf,
    high: float = inf,
    slope: Function | None = None,
    smooth: bool = True,
    inverse: Function | None = None,
) -> Activation:
    """Return an activation of any increasing function, its integral by quadrature.

    `Σ(z) = ∫₀ᶻ σ`, so that Σ(0) = 0; right to about 10⁻¹⁵ for |z| ≤ 300 if σ varies on the scale
    of z = 1. The matching loss takes targets strictly inside (low, high).

    Args:
        name: its name.
        function: `σ(z)`, elementwise and traceable by JAX; it must not decrease anywhere.
        low: infimum of the outputs.
        high: supremum of the outputs.
        slope: its derivative; by default JAX's, which may cancel in saturation.
        smooth: False if it has a kink, which may only be at z = 0.
        inverse: `z` for an output; found by bisection by default.

    Raises:
        PlateaumapError: `function` decreases somewhere between z = −30 and 30.
    """
    if slope is None:

        def slope(z: Array) -> Array:
            return jax.jvp(function, (z,), (jnp.ones_like(z),))[1]

    activation = _activation(name, function, slope, low, high, smooth=smooth, inverse=inverse)
    z = jnp.linspace(-30, 30, 2001)
    decreasing = jnp.diff(function(z)) < -8 * jnp.finfo(z.dtype).eps * jnp.max(jnp.abs(function(z)))
    if bool(decreasing.any()):
        where = float(z[int(jnp.argmax(decreasing))])
        raise PlateaumapError(
            f"activation = {name!r}: decreases at z = {where:.2f}; only an increasing activation "
            "has a matching loss"
        )

    def remainder(z: Array) -> Array:
        side = activation.asymptote(z)[..., None]
        return integral_from_zero(lambda s: function(s) - side, z)

    return replace(activation, remainder=remainder, light_tailed=False)
