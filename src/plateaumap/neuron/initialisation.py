"""The distribution of a unit's initial pre-activation under random weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from plateaumap.inputs.errors import PlateaumapError, advice

NORMAL, UNIFORM = "normal", "uniform"

_SCALES: dict[str, tuple[str, Callable[[int, int], float]]] = {
    "lecun_normal": (NORMAL, lambda fan_in, _: math.sqrt(1 / fan_in)),
    "lecun_uniform": (UNIFORM, lambda fan_in, _: math.sqrt(3 / fan_in)),
    "he_normal": (NORMAL, lambda fan_in, _: math.sqrt(2 / fan_in)),
    "he_uniform": (UNIFORM, lambda fan_in, _: math.sqrt(6 / fan_in)),
    "glorot_normal": (NORMAL, lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out))),
    "glorot_uniform": (UNIFORM, lambda fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out))),
}
"""Named initialisations: the family, and its standard deviation or half width by the fans.

LeCun et al., "Efficient BackProp" (1998); X. Glorot, Y. Bengio, AISTATS (2010); K. He et al.,
ICCV (2015).
"""

NAMES = (NORMAL, UNIFORM, *_SCALES)

_WIDEST = 12.0
"""Standard deviations beyond which a sum of many uniforms has less than 1e-32 of its mass."""
_MOST_TERMS = 200_000
_LEAST_TERM = 1e-18


def _require_count(name: str, value: object) -> None:
    if type(value) is not int or value < 1:
        raise PlateaumapError(f"{name} = {value!r}: must be a whole number of at least 1")


@dataclass(frozen=True)
class Initialisation:
    """The pre-activation `z = Σ w_i x_i + b` of a unit with independent random weights and bias.

    For normal weights z is normal for all inputs of a given mean square. For uniform
    weights the distribution is exact where all inputs have the same size `input_rms` (their signs
    do not matter), and close to it where the inputs differ in size and are many.

    Attributes:
        family: "normal" or "uniform", of weights and bias alike, centred at zero.
        scale: standard deviation (normal) or half width (uniform) of a weight.
        fan_in: the number of inputs.
        input_rms: root mean square of its inputs.
        bias_scale: as `scale`, for the bias; 0 if it starts at zero.

    Raises:
        PlateaumapError: a value is out of its range.

    Example:
        >>> import plateaumap as pm
        >>> start = pm.Initialisation.named("he_normal", fan_in=100)
        >>> f"{start.sd:.4f} {start.below(2.0):.4f}"
        '1.4142 0.9214'
    """

    family: str
    scale: float
    fan_in: int
    input_rms: float = 1.0
    bias_scale: float = 0.0

    def __post_init__(self) -> None:
        """Raise unless the values describe a distribution."""
        if self.family not in (NORMAL, UNIFORM):
            raise PlateaumapError(
                f"family = {self.family!r}: unknown; {advice(self.family, (NORMAL, UNIFORM))}"
            )
        _require_count("fan_in", self.fan_in)
        for name in ("scale", "input_rms"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise PlateaumapError(f"{name} = {value!r}: must be greater than 0")
        if not (math.isfinite(self.bias_scale) and self.bias_scale >= 0):
            raise PlateaumapError(f"bias_scale = {self.bias_scale!r}: must be at least 0")

    @classmethod
    def named(
        cls,
        name: str,
        fan_in: int,
        scale: float | None = None,
        fan_out: int | None = None,
        input_rms: float = 1.0,
        bias_scale: float = 0.0,
    ) -> Initialisation:
        """Return the initialisation of that name.

        Args:
            name: one of `NAMES`.
            fan_in: the number of inputs.
            scale: of "normal" and "uniform"; the others set their own.
            fan_out: the number of units in the next layer, for the glorot initialisations.
            input_rms: root mean square of the unit's inputs.
            bias_scale: standard deviation or half width of the bias.

        Raises:
            PlateaumapError: the name is unknown, or a value is missing, superfluous or wrong.
        """
        if name not in NAMES:
            raise PlateaumapError(f"weights = {name!r}: unknown; {advice(name, NAMES)}")
        if name in (NORMAL, UNIFORM):
            if scale is None:
                raise PlateaumapError(
                    f"scale: missing; weights = {name!r} needs its standard deviation or half "
                    "width, such as scale = 1"
                )
            return cls(name, scale, fan_in, input_rms, bias_scale)
        if scale is not None:
            raise PlateaumapError(f"scale = {scale!r}: {name} sets its own scale; omit it")
        if name.startswith("glorot"):
            _require_count("fan_out", fan_out)
        _require_count("fan_in", fan_in)
        family, width = _SCALES[name]
        return cls(family, width(fan_in, fan_out or 0), fan_in, input_rms, bias_scale)

    @property
    def input_norm(self) -> float:
        """The Euclidean norm of the unit's inputs."""
        return self.input_rms * math.sqrt(self.fan_in)

    @property
    def sd(self) -> float:
        """The standard deviation of the pre-activation."""
        size = math.hypot(self.scale * self.input_norm, self.bias_scale)
        return size if self.family == NORMAL else size / math.sqrt(3)

    @property
    def reach(self) -> float:
        """The size of z beyond which the probability is below 1e-18."""
        if self.family == NORMAL:
            return 9 * self.sd
        return min(self.fan_in * self.scale * self.input_rms + self.bias_scale, 9 * self.sd)

    def below(self, z: ArrayLike) -> np.ndarray:
        """Return the probability that the pre-activation is at most `z`.

        Args:
            z: float64 of any shape.

        Returns:
            Probabilities, float64 of that shape.
        """
        z = np.asarray(z, np.float64)
        if self.family == NORMAL:
            return ndtr(z / self.sd)
        return self._uniform_below(z)

    def _uniform_below(self, z: np.ndarray) -> np.ndarray:
        # A density on (-L, L) is the sum of a Fourier series whose coefficients are values of its
        # characteristic function, here a product of sincs; integrated term by term.
        width = self.scale * self.input_rms
        support = self.fan_in * width + self.bias_scale
        if self.fan_in == 1 and not self.bias_scale:
            return np.clip((1 + z / support) / 2, 0, 1)
        half = min(support, _WIDEST * self.sd)
        k = np.arange(1, _MOST_TERMS + 1)
        terms = np.sinc(k * (width / half)) ** self.fan_in * np.sinc(k * (self.bias_scale / half))
        terms /= k * np.pi
        last = np.flatnonzero(np.abs(terms) > _LEAST_TERM)[-1] + 1
        inside = np.clip(z, -half, half)
        series = [
            np.dot(np.sin(np.pi / half * k[:last] * place), terms[:last])
            for place in inside.ravel()
        ]
        probability = 0.5 + inside / (2 * half) + np.reshape(series, inside.shape)
        return np.where(np.abs(z) < half, np.clip(probability, 0, 1), z > 0).astype(np.float64)
