"""The oracle: one neuron trained in 50-digit arithmetic, its answers exact to the epoch.

Imports nothing of plateaumap. All inputs are binary64 numbers taken as exact reals. With one
sample the neuron is one-dimensional, `z ← z − h dC/dz` with `h = lr (1 + x²)`, and a loss is at
most a given level just where z lies in an interval around the target. So an epoch costs one
exponential, and the intervals are found once.

Rounding enters in one place only: whether an update of the exact run would be lost in a format
with `digits` binary digits, which is what `stalled` and `partially_stalled` speak of.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

DIGITS = 50
LEVELS = ((9, 10), (1, 2), (1, 10))
"""What is left of the loss excess at T10, T50 and T90, as exact fractions."""


@dataclass(frozen=True)
class Config:
    """One run: what is trained, from where, and how it is stopped."""

    loss: str
    w0: float
    b0: float
    lr: float
    x: float
    y: float
    horizon: int
    tolerance: float = 0.01

    def __str__(self) -> str:
        """Return the line that reproduces the run, every number bit for bit."""
        numbers = ", ".join(
            f"{name}={getattr(self, name)!r}" for name in ("w0", "b0", "lr", "x", "y")
        )
        return (
            f"pm.evaluate(pm.Sweep(losses={self.loss!r}, horizon={self.horizon}, "
            f"tolerance={self.tolerance!r}, fixed=dict({numbers})), {{}})"
        )


@dataclass(frozen=True)
class Answer:
    """What the table must say: None for a null."""

    status: str
    plateau: int | None
    half: int | None
    tenth: int | None
    steepest: int | None
    epochs_run: int

    def differences(self, row: Any) -> list[str]:
        """Return in words what a row of the table says otherwise."""
        columns = ("status", "plateau_epochs", "half_epochs", "tenth_epochs", "steepest_epoch")
        expected = dict(zip((*columns, "epochs_run"), astuple(self), strict=True))
        found = {name: _plain(row[name]) for name in expected}
        return [
            f"{n}: {found[n]}, exactly {expected[n]}" for n in expected if found[n] != expected[n]
        ]


def random_config(random: np.random.Generator, horizon: int) -> Config:
    """Draw a run: x from −10 to 10, y in {0, 1} or inside, z0 from −10 to 12, lr from 10⁻³ to 10.

    Inside, only runs whose target is stable.
    """
    while True:
        loss = str(random.choice(["quadratic", "cross_entropy"]))
        x, w0 = random.uniform(-10, 10), random.uniform(-8, 8)
        y = float(random.choice([0.0, 1.0, random.uniform(0, 1)]))
        lr = float(10 ** random.uniform(-3, 1))
        config = Config(loss, w0, random.uniform(-10, 12) - w0 * x, lr, x, y, horizon)
        if is_stable(config):
            return config


def is_stable(config: Config) -> bool:
    """Return whether steps near the target lead to it: `h` times the curvature there below 2."""
    slope = config.y * (1 - config.y)
    curvature = slope**2 if config.loss == "quadratic" else slope
    return config.lr * (1 + config.x**2) * curvature < 2


def _plain(value: mpf) -> mpf:
    """Return a cell of a table as a str, int or None."""
    if isinstance(value, str) or value is None:
        return value
    return None if value != value or str(value) == "<NA>" else int(value)


def answer(config: Config, digits: int = 53) -> Answer:
    """Train a neuron exactly until T90, the horizon, or an update that a format would lose.

    Args:
        config: the run.
        digits: binary digits of the format: 53 for float64, 24 for float32.
    """
    with mpmath.workdps(DIGITS):
        return _Run(config, digits).answer()


class _Run:
    """The constants of one run, as 50-digit numbers."""

    def __init__(self, config: Config, digits: int) -> None:
        self.config = config
        self.freezing = _Freezing(config, digits)
        self.y, self.q = mpf(config.y), 1 - mpf(config.y)
        self.z0 = mpf(config.w0) * mpf(config.x) + mpf(config.b0)
        self.lr = mpf(config.lr)
        self.h = self.lr * (1 + mpf(config.x) ** 2)

    def error_and_slope(self, z: Any) -> tuple[Any, Any]:
        """Return `σ(z) − y` without cancellation at y in {0, 1}, and `σ'(z)`."""
        e = mpmath.exp(z)
        s = 1 / (1 + e)
        a = e * s
        return self.q * a - self.y * s, a * s

    def look(self, z: Any) -> tuple[Any, Any]:
        """Return dC/dz and the loss but for a constant, from one exponential."""
        e = mpmath.exp(z)
        s = 1 / (1 + e)
        a = e * s
        error = self.q * a - self.y * s
        if self.config.loss == "quadratic":
            return error * a * s, error * error / 2
        return error, -mpmath.log(s) - self.y * z

    def excess(self, z: mpf) -> mpf:
        """Return the loss above the least it can be."""
        if self.config.loss == "quadratic":
            return self.error_and_slope(z)[0] ** 2 / 2
        floor = -sum(p * mpmath.log(p) for p in (self.y, self.q) if p > 0)
        return self.y * self.softplus(-z) + self.q * self.softplus(z) - floor

    def softplus(self, z: mpf) -> mpf:
        return z + mpmath.log1p(mpmath.exp(-z)) if z > 0 else mpmath.log1p(mpmath.exp(z))

    def answer(self) -> Answer:
        config = self.config
        error = self.error_and_slope(self.z0)[0]
        if abs(error) <= config.tolerance or error == 0:
            return Answer("converged_at_start", None, None, None, None, 0)
        find = {"quadratic": self.quadratic_interval, "cross_entropy": self.entropy_interval}
        intervals = [find[config.loss](mpf(n) / d) for n, d in LEVELS]
        crossings: list[int] = []
        z = self.z0
        gradient, loss = self.look(z)
        steepest, largest = 0, -math.inf
        for epoch in range(config.horizon + 1):
            while len(crossings) < 3 and _within(z, intervals[len(crossings)]):
                crossings.append(epoch)
            lost = self.freezing.lost_by(float(self.lr * gradient), float(self.z0 - z))
            stop = _first(
                (len(crossings) == 3, "escaped"),
                (epoch == config.horizon, "censored"),
                (lost, lost),
            )
            if stop:
                break
            z -= self.h * gradient
            before = loss
            gradient, loss = self.look(z)
            if before - loss > largest:
                steepest, largest = epoch, before - loss
        plateau, half, tenth = (*crossings, None, None, None)[:3]
        return Answer(
            "escaped" if crossings else stop,
            plateau,
            half,
            tenth,
            steepest if tenth is not None else None,
            epoch,
        )

    def quadratic_interval(self, left: Any) -> tuple[Any, Any]:
        """Return the least and greatest z with `(σ(z) − y)² ≤ left (σ(z0) − y)²`."""
        width = mpmath.sqrt(left) * abs(self.error_and_slope(self.z0)[0])
        least = mpmath.log((self.y - width) / (self.q + width)) if width < self.y else -math.inf
        most = mpmath.log((self.y + width) / (self.q - width)) if width < self.q else math.inf
        return least, most

    def entropy_interval(self, left: Any) -> tuple[Any, Any]:
        """Return the same for the cross-entropy: by formula if y is 0 or 1, else by Newton."""
        level = left * self.excess(self.z0)
        if self.y == 0:
            return -math.inf, mpmath.log(mpmath.expm1(level))
        if self.q == 0:
            return -mpmath.log(mpmath.expm1(level)), math.inf
        target = mpmath.log(self.y / self.q)
        return self.level_beyond(target, -1, level), self.level_beyond(target, 1, level)

    def level_beyond(self, target: Any, sign: int, level: mpf) -> mpf:
        """Return where the excess is `level`; it is convex, so Newton from outside falls there."""
        step = mpf(1)
        while self.excess(target + sign * step) < level:
            step *= 2
        z = target + sign * step
        for _ in range(200):
            change = (self.excess(z) - level) / self.error_and_slope(z)[0]
            z -= change
            if sign * change <= abs(z - target) * 10.0 ** (8 - DIGITS):
                return z
        raise ArithmeticError(f"no level was found for {self.config}")


def _within(z: Any, interval: tuple[Any, Any]) -> bool:
    return interval[0] <= z <= interval[1]


def _first(*outcomes: tuple[Any, str]) -> str:
    return next((name for happened, name in outcomes if happened), "")


class _Freezing:
    """Which updates of the exact run a format would lose, and the epochs that costs."""

    def __init__(self, config: Config, digits: int) -> None:
        self.config = config
        self.digits = digits
        self.square = config.x**2
        self.epochs_lost = 0.0

    def lost_by(self, update: float, moved: float) -> str:
        """Return the status that an update would give the run, or nothing.

        Args:
            update: of b; that of w is x times this.
            moved: how far z has come down.
        """
        x = self.config.x
        b = self.config.b0 - moved / (1 + self.square)
        w = self.config.w0 - moved * x / (1 + self.square)
        b_frozen, w_frozen = self._vanishes(update, b), self._vanishes(update * x, w)
        if b_frozen and w_frozen:
            return "stalled"
        if b_frozen or (w_frozen and x != 0):
            self.epochs_lost += (self.square if w_frozen else 1) / (1 + self.square)
        return "partially_stalled" if self.epochs_lost > 0.5 else ""

    def _vanishes(self, update: float, value: float) -> bool:
        """Return whether `value − update` rounds to `value`, itself rounded to the format."""
        mantissa, exponent = math.frexp(abs(value))
        # Towards zero the gap below a power of two is half the gap above it.
        below = mantissa == 0.5 and update * value > 0
        return abs(update) < math.ldexp(0.5, exponent - self.digits - below)
