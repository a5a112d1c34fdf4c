"""The activations, their slopes and integrals in mpmath, as textbooks write them."""

import mpmath as mp

LEAK = mp.mpf(0.01)


def sigmoid(z):
    return 1 / (1 + mp.exp(-z))


def bell(z):
    return mp.exp(-z * z)


def sigmoid_slope(z):
    return 1 / (2 + mp.exp(z) + mp.exp(-z))


VALUES = {
    "sigmoid": sigmoid,
    "tanh": mp.tanh,
    "softplus": lambda z: mp.log1p(mp.exp(z)),
    "probit": mp.ncdf,
    "erf": mp.erf,
    "atan": lambda z: 2 / mp.pi * mp.atan(z),
    "softsign": lambda z: z / (1 + abs(z)),
    "algebraic": lambda z: z / mp.sqrt(1 + z * z),
    "leaky_relu": lambda z: z if z > 0 else LEAK * z,
    "identity": lambda z: z,
    "exp": mp.exp,
    "relu": lambda z: max(z, mp.mpf(0)),
    "gelu": lambda z: z * mp.ncdf(z),
    "swish": lambda z: z * sigmoid(z),
}
SLOPES = {
    "sigmoid": sigmoid_slope,
    "tanh": lambda z: 4 * sigmoid_slope(2 * z),
    "softplus": sigmoid,
    "probit": mp.npdf,
    "erf": lambda z: 2 / mp.sqrt(mp.pi) * bell(z),
    "atan": lambda z: 2 / mp.pi / (1 + z * z),
    "softsign": lambda z: 1 / (1 + abs(z)) ** 2,
    "algebraic": lambda z: (1 + z * z) ** mp.mpf(-1.5),
    "leaky_relu": lambda z: mp.mpf(1) if z > 0 else LEAK,
    "identity": lambda z: mp.mpf(1),
    "exp": mp.exp,
    "relu": lambda z: mp.mpf(z > 0),
    "gelu": lambda z: mp.ncdf(z) + z * mp.npdf(z),
    "swish": lambda z: sigmoid(z) + z * sigmoid_slope(z),
}
INTEGRALS = {
    "sigmoid": lambda z: mp.log1p(mp.exp(z)),
    "tanh": lambda z: mp.log(mp.cosh(z)),
    "softplus": lambda z: mp.re(-mp.polylog(2, -mp.exp(z))),
    "probit": lambda z: z * mp.ncdf(z) + mp.npdf(z),
    "erf": lambda z: z * mp.erf(z) + bell(z) / mp.sqrt(mp.pi),
    "atan": lambda z: 2 / mp.pi * (z * mp.atan(z) - mp.log1p(z * z) / 2),
    "softsign": lambda z: abs(z) - mp.log1p(abs(z)),
    "algebraic": lambda z: mp.sqrt(1 + z * z),
    "leaky_relu": lambda z: VALUES["leaky_relu"](z) * z / 2,
    "identity": lambda z: z * z / 2,
    "exp": mp.exp,
    "relu": lambda z: VALUES["relu"](z) ** 2 / 2,
}
"""Only the increasing ones have an integral that is a matching loss."""

INNER_TARGETS = {
    name: targets
    for names, targets in (
        (("sigmoid", "probit"), (0.5, 0.3, 0.99, 1e-6)),
        (("tanh", "erf", "atan", "softsign", "algebraic"), (0.0, 0.3, -0.9, 0.999)),
        (("softplus", "exp", "relu"), (1.0, 0.3, 1e-4, 20.0)),
        (("leaky_relu", "identity"), (0.0, -0.02, 3.0)),
    )
    for name in names
}
"""Targets that an output can reach."""

END_TARGETS = {
    "sigmoid": (0.0, 1.0),
    "probit": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "erf": (-1.0, 1.0),
    "algebraic": (-1.0, 1.0),
    "softplus": (0.0,),
    "exp": (0.0,),
    "relu": (0.0,),
}
"""Targets at a finite end of the range where the matching loss has a floor, which is a limit."""

END_FLOORS = {"tanh": -mp.log(2)}
"""The limit at `END_TARGETS`; zero where nothing is said."""
