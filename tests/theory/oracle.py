"""Plateau lengths by plain simulation, with formulas of its own: the judge of the theory."""

import mpmath
import numpy as np
from scipy import special

from plateaumap.theory.abel_series import sigmoid_terms

LOSSES = ("quadratic", "cross_entropy")


def softplus(z):
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def gradient(loss, z, y):
    tail = np.exp(-np.abs(z))
    a, s = np.where(z > 0, 1, tail) / (1 + tail), np.where(z > 0, tail, 1) / (1 + tail)
    error = (1 - y) * a - y * s
    return error * a * s if loss == "quadratic" else error


def excess(loss, z, y):
    if loss == "quadratic":
        tail = np.exp(-np.abs(z))
        a, s = np.where(z > 0, 1, tail) / (1 + tail), np.where(z > 0, tail, 1) / (1 + tail)
        return ((1 - y) * a - y * s) ** 2 / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(y > 0, y * np.log(y), 0) - np.where(y < 1, (1 - y) * np.log1p(-y), 0)
    return y * softplus(-z) + (1 - y) * softplus(z) - entropy


def simulated_epochs(loss, z0, h, y, drop, horizon):
    """First n with ``excess <= (1 - drop) excess_0`` of every cell, -1 past the horizon.

    Float64 updates of z. Cells that are done are dropped from the arrays, so that a few long
    plateaus do not keep the many short ones company.
    """
    z = np.array(z0, dtype=np.float64)
    h, y = (np.broadcast_to(np.asarray(v, dtype=np.float64), z.shape) for v in (h, y))
    level = (1 - drop) * excess(loss, z, y)
    epochs = np.full(z.shape, -1, dtype=np.int64)
    lanes = np.arange(z.size)
    for epoch in range(1, horizon + 1):
        z = z - h * gradient(loss, z, y)
        done = excess(loss, z, y) <= level
        if done.any():
            epochs[lanes[done]] = epoch
            z, h, y, level, lanes = (v[~done] for v in (z, h, y, level, lanes))
            if not lanes.size:
                break
    return epochs


def exact_epochs(loss, w0, b0, lr, x, y, drop, horizon, digits=60):
    """The same for one neuron in ``digits`` decimal digits, its inputs taken as exact."""
    with mpmath.workdps(digits):
        w0, b0, lr, x, y = (mpmath.mpf(float(v)) for v in (w0, b0, lr, x, y))
        z, h, keep = w0 * x + b0, lr * (1 + x * x), 1 - mpmath.mpf(str(drop))

        def state(z):
            a, s = 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))
            error = (1 - y) * a - y * s
            if loss == "quadratic":
                return error * a * s, error**2 / 2
            weighted = ((y, a), (1 - y, s))
            return error, sum(p * mpmath.log(p / r) for p, r in weighted if p)

        slope, start = state(z)
        for epoch in range(1, horizon + 1):
            z -= h * slope
            slope, height = state(z)
            if height <= keep * start:
                return epoch
        return -1


def leapt_epochs(loss, w0, b0, lr, x, y, drop, digits=80):
    """Length of any plateau in ``digits`` digits: the series to ``h |f'| = 0.004``, then steps.

    Eight terms of the series, so that what it leaves out is below 1e-18 epochs; inputs are taken
    as exact. Only for starts from which the path does not overshoot.
    """
    with mpmath.workdps(digits):
        w0, b0, lr, x, y = (mpmath.mpf(float(v)) for v in (w0, b0, lr, x, y))
        z0, h, keep = w0 * x + b0, lr * (1 + x * x), 1 - mpmath.mpf(str(drop))
        if y == 1 or (0 < y < 1 and z0 < mpmath.log(y / (1 - y))):
            z0, y = -z0, 1 - y
        q = 1 - y
        terms = sigmoid_terms(loss, 8)

        def outputs(z):
            return 1 / (1 + mpmath.exp(-z)), 1 / (1 + mpmath.exp(z))

        def speed(z):
            a, s = outputs(z)
            return (a - y) * (a * s if loss == "quadratic" else 1)

        def height(z):
            if loss == "quadratic":
                return (outputs(z)[0] - y) ** 2 / 2
            entropy = -sum(p * mpmath.log(p) for p in (y, q) if p)
            plus, minus = mpmath.log1p(mpmath.exp(z)), mpmath.log1p(mpmath.exp(-z))
            return y * minus + q * plus - entropy

        def stiffness(z):
            a, s = outputs(z)
            return a * s * (a * s + (a - y) if loss == "quadratic" else 1)

        def phi(z):
            a, s = outputs(z)
            if y:
                A, B = mpmath.log(1 - y / a), mpmath.log((a - y) / s)
            if loss == "quadratic" and y:
                flow = (A + y / a) / y**2 + 2 * A / y + 1 / (q * s) + (1 + 2 * q) * B / q**2
            elif loss == "quadratic":
                flow = mpmath.exp(z) + 3 * z - 3 * mpmath.exp(-z) - mpmath.exp(-2 * z) / 2
            else:
                flow = A / y + B / q if y else z - mpmath.exp(-z)
            total = flow / h - mpmath.log(speed(z)) / 2
            for k, term in enumerate(terms, start=1):
                logarithm = polynomial(term.logarithm, 0, q) * mpmath.log(a - y)
                total += h**k * (polynomial(term.polynomial, s, q) + logarithm)
            return total

        def solve(function, low, high):
            if function(low) * function(high) == 0:
                return low if function(low) == 0 else high
            return mpmath.findroot(
                function, (low, high), solver="illinois", tol=0.1**digits, maxsteps=400
            )

        floor = mpmath.log(y / q) if y else -abs(z0) - 30
        z1 = solve(lambda z: height(z) - keep * height(z0), floor, z0)
        if h * max(stiffness(z0), stiffness(z1), mpmath.mpf("0.32") if z0 * z1 < 0 else 0) < 0.004:
            return max(1, int(mpmath.ceil(phi(z0) - phi(z1))))
        calm = mpmath.log(h / mpmath.mpf("0.002"))
        if z0 <= calm:
            raise ValueError("no leap from here")
        leapt = mpmath.floor(phi(z0) - phi(calm))
        start = phi(z0) - leapt
        z, epochs = solve(lambda v: phi(v) - start, calm, calm + 1), int(leapt)
        while height(z) > keep * height(z0):
            z, epochs = z - h * speed(z), epochs + 1
        return epochs


def polynomial(coefficients, u, v):
    """Value of an exact polynomial in two variables."""
    return sum(
        mpmath.mpf(c.numerator) / c.denominator * u**i * v**j for (i, j), c in coefficients.items()
    )


def _tails(tail):
    """An activation from -1 to 1 by what is missing to 1 at t >= 0: its value and error."""

    def error(z, y):
        missing, sign = tail(np.abs(z)), np.where(z < 0, -1, 1)
        far = sign * ((1 - sign * y) - missing)
        return np.where(np.abs(z) > 0.3, far, sign * (1 - missing) - y)

    return error


def _unit_error(z, y):
    tail = special.ndtr(-np.abs(z))
    return np.where(z > 0, (1 - y) - tail, tail - y)


def _log_tail(z):
    return np.log1p(np.exp(-np.abs(z)))


def _scaled_gap(t):
    """phi(t) - t Phi(-t), from the asymptotic series where it would cancel."""
    t = np.abs(t)
    density = np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
    return density - t * special.ndtr(-t)


SMOOTH = {
    "tanh": {
        "ends": (-1.0, 1.0),
        "error": _tails(lambda t: 2 * special.expit(-2 * t)),
        "slope": lambda z: 4 * special.expit(2 * z) * special.expit(-2 * z),
        "integral": lambda z: np.abs(z) + np.log1p(np.exp(-2 * np.abs(z))),
        "inverse": np.arctanh,
    },
    "softplus": {
        "ends": (0.0, np.inf),
        "error": lambda z, y: softplus(z) - y,
        "slope": special.expit,
        "integral": lambda z: np.where(
            z > 0,
            np.pi**2 / 6 + z**2 / 2 + special.spence(1 + np.exp(-np.abs(z))),
            -special.spence(1 + np.exp(-np.abs(z))),
        ),
        "inverse": lambda y: y + np.log(-np.expm1(-y)),
    },
    "probit": {
        "ends": (0.0, 1.0),
        "error": _unit_error,
        "slope": lambda z: np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
        "integral": lambda z: np.maximum(z, 0) + _scaled_gap(z),
        "inverse": special.ndtri,
    },
    "erf": {
        "ends": (-1.0, 1.0),
        "error": _tails(special.erfc),
        "slope": lambda z: np.exp(-(z**2)) * 2 / np.sqrt(np.pi),
        "integral": lambda z: (
            np.abs(z) + np.exp(-(z**2)) / np.sqrt(np.pi) - np.abs(z) * special.erfc(np.abs(z))
        ),
        "inverse": special.erfinv,
    },
    "atan": {
        "ends": (-1.0, 1.0),
        "error": _tails(lambda t: 2 / np.pi * np.arctan2(1, t)),
        "slope": lambda z: 2 / np.pi / (1 + z**2),
        "integral": lambda z: 2 / np.pi * (z * np.arctan(z) - np.log1p(z**2) / 2),
        "inverse": lambda y: np.tan(y * np.pi / 2),
    },
    "softsign": {
        "ends": (-1.0, 1.0),
        "error": _tails(lambda t: 1 / (1 + t)),
        "slope": lambda z: (1 + np.abs(z)) ** -2,
        "integral": lambda z: np.abs(z) - np.log1p(np.abs(z)),
        "inverse": lambda y: y / (1 - np.abs(y)),
    },
    "algebraic": {
        "ends": (-1.0, 1.0),
        "error": _tails(lambda t: 1 / (np.hypot(1, t) * (np.hypot(1, t) + t))),
        "slope": lambda z: (1 + z**2) ** -1.5,
        "integral": lambda z: np.hypot(1, z),
        "inverse": lambda y: y / np.sqrt(1 - y**2),
    },
    "identity": {
        "ends": (-np.inf, np.inf),
        "error": lambda z, y: z - y,
        "slope": np.ones_like,
        "integral": lambda z: z**2 / 2,
        "inverse": lambda y: y,
    },
    "exp": {
        "ends": (0.0, np.inf),
        "error": lambda z, y: np.exp(z) - y,
        "slope": np.exp,
        "integral": np.exp,
        "inverse": np.log,
    },
}
"""Formulas of the smooth activations in NumPy and SciPy, none of them of the package."""


def smooth_height(activation, loss, z, y):
    """The excess up to a factor; of a matching loss with a target inside the range."""
    functions = SMOOTH[activation]
    if loss == "quadratic":
        return functions["error"](z, y) ** 2
    target = functions["inverse"](y)
    floor = functions["integral"](target) - y * target
    return functions["integral"](z) - y * z - floor


@np.errstate(all="ignore")
def smooth_epochs(activation, loss, z0, h, y, drop, horizon):
    """``simulated_epochs`` of any smooth activation."""
    functions = SMOOTH[activation]
    z = np.array(z0, dtype=np.float64)
    h, y = (np.broadcast_to(np.asarray(v, dtype=np.float64), z.shape) for v in (h, y))
    level = (1 - drop) * smooth_height(activation, loss, z, y)
    epochs = np.full(z.shape, -1, dtype=np.int64)
    lanes = np.arange(z.size)
    for epoch in range(1, horizon + 1):
        rate = functions["error"](z, y)
        z = z - h * (rate * functions["slope"](z) if loss == "quadratic" else rate)
        done = smooth_height(activation, loss, z, y) <= level
        if done.any():
            epochs[lanes[done]] = epoch
            z, h, y, level, lanes = (v[~done] for v in (z, h, y, level, lanes))
            if not lanes.size:
                break
    return epochs


def smooth_neurons(activation, loss, count, random):
    """Random starts, steps and targets whose flow is worth following."""
    low, high = SMOOTH[activation]["ends"]
    inside = (max(low, -2.0), min(high, 2.0))
    y = inside[0] + (inside[1] - inside[0]) * random.uniform(0.02, 0.98, count)
    if loss == "quadratic":
        y = np.where(random.uniform(size=count) < 0.3, random.choice(inside, count), y)
    reach = {"exp": 3.0, "erf": 3.0, "probit": 4.0}.get(activation, 8.0)
    return random.uniform(-reach, reach, count), 10 ** random.uniform(-2.5, 1.5, count), y
