"""What a sweep repeats: the protocol of an experiment, and the single neuron as its first one.

An experiment says how a point of a sweep becomes a training problem. It knows no grid, no
device and no file. To write one, subclass `Experiment`: coordinates, `init` and `loss` are
enough, and everything else has a default.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from plateaumap.experiment.coordinates import Coordinate
from plateaumap.measures import (
    ENDINGS,
    STANDARD,
    InitialGradient,
    Losses,
    Measure,
)
from plateaumap.theory.laws import Case
from plateaumap.training import Problem

PyTree = Any
Point = Mapping[str, Any]
LossChoice = str | Callable


class Experiment(ABC):
    """A family of training runs, one for each point of a sweep.

    A point is a mapping from the names of `coordinates` to scalars: numbers of the sweep's
    precision, int64 for whole numbers, and plain Python values for choices. All methods that
    take one are pure, written for one point and traced by JAX; `predict` is not.

    Arrays in an experiment's attributes are its data: inside of these methods they have the
    sweep's precision (see `plateaumap.experiment.data`). An "epoch" is one update.
    """

    coordinates: tuple[Coordinate, ...]
    """What a point consists of, in the order of the table's columns."""

    known_losses: tuple[str, ...] = ("loss",)
    """The losses that a sweep can name."""

    output: Callable[[PyTree, Point], Array] | None = None
    """The one number that the model puts out, from parameters and point, if there is one."""

    lanes: int | None = None
    """Runs that are advanced together; None: as many as the arrays of a run suggest.

    A power of two from 8 on. Where it is given, chunks are small, too: a few of these blocks, so
    that fewer runs are lost where a sweep of long runs is interrupted.
    """

    descent: Callable[[PyTree, Point, LossChoice, Array], Array] | None = None
    """What an update descends where that is not `loss`, such as the loss of a minibatch.

    `descent(parameters, point, choice, epoch)`, a differentiable scalar; `epoch` is an integer
    scalar, 0 for the first update, to draw a batch by `jax.random.fold_in`. `loss` is what is
    measured all the same, and the gradients of the measures are those of `descent`.
    """

    @property
    def default_losses(self) -> tuple[str, ...]:
        """Return what a sweep takes that names no loss."""
        return self.known_losses

    @abstractmethod
    def init(self, point: Point) -> PyTree:
        """Return the parameters at which the run of `point` starts: a pytree of float arrays.

        They are cast to the sweep's precision. A random start takes its key from a coordinate:
        `jax.random.key(point["seed"])`.
        """

    @abstractmethod
    def loss(self, parameters: PyTree, point: Point, choice: LossChoice) -> Array:
        """Return the raw loss, a differentiable scalar; `choice` is what the sweep names."""

    def optimizer(self, point: Point) -> optax.GradientTransformation:
        """Return the optimizer of a run; by default gradient descent with rate `lr`."""
        return optax.sgd(point["lr"])

    def floor(self, point: Point, choice: LossChoice) -> ArrayLike:
        """Return the least that the loss can be; measures see the excess over it."""
        del point, choice
        return 0.0

    def excess(self, parameters: PyTree, point: Point, choice: LossChoice) -> Array:
        """Return the loss above its floor, without cancellation if that is possible."""
        return self.loss(parameters, point, choice) - self.floor(point, choice)

    def speed(self, gradients: PyTree) -> Array:
        """Return the scalar that measures take for the gradient; by default its norm."""
        return optax.tree.norm(gradients)

    def fall(self, point: Point, choice: LossChoice) -> Callable[[PyTree, PyTree], Array] | None:
        """Return the drop of the loss as a function of parameters and updates, if known."""
        del point, choice
        return None

    def steady(self, point: Point, choice: LossChoice) -> Array | None:
        """Return whether the run of a point is known to be steady, or None if nothing is known.

        See `plateaumap.training.Problem`; a steady run is evaluated many times faster.
        """
        del point, choice
        return None

    def converged(self, parameters: PyTree, point: Point, tolerance: Array) -> Array:
        """Return whether a start is already good enough; by default never."""
        del parameters, point, tolerance
        return jnp.bool_(False)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return what is measured beside the crossings, in the order of the columns.

        To add some of your own: `(*super().measures, MyMeasure())`; see `plateaumap.measures`.
        """
        return (*STANDARD, InitialGradient(), Losses(), *ENDINGS)

    def predict(
        self, points: Mapping[str, np.ndarray], choice: LossChoice, drop: float
    ) -> np.ndarray | None:
        """Return the predicted epoch at which `drop` of the loss excess is gone, if known.

        Args:
            points: arrays of shape (n,), one for each coordinate.
            choice: what the sweep names.
            drop: share of the loss excess, in (0, 1).

        Returns:
            float64 of shape (n,), NaN where no prediction applies; None without a theory.
        """
        del points, choice, drop
        return None

    def theory(self, choice: LossChoice) -> Case | None:
        """Return what `plateaumap.theory` calls a loss of this experiment; None: it has no theory.

        Points must then have the coordinates w0, b0, lr, x and y of a single neuron.
        """
        del choice
        return None

    def why_not_loss(self, choice: LossChoice) -> str | None:
        """Return why this experiment refuses a loss, or None; an unknown name is told anyway."""
        if callable(choice):
            return "this experiment takes no function as its loss; name one of its own"
        return None

    def rounding_shift(
        self, points: Mapping[str, np.ndarray], measured: Mapping[str, np.ndarray], digits: int
    ) -> np.ndarray | None:
        """Return by how many epochs uncompensated updates may have shifted a run, if known.

        Args:
            points: arrays of shape (n,), one for each coordinate.
            measured: the measured columns of these points.
            digits: binary digits of the arithmetic.

        Returns:
            float64 of shape (n,), inf where no bound holds; None without any bound.
        """
        del points, measured, digits
        return None

    def why_not_values(self, choice: LossChoice, name: str, values: np.ndarray) -> str | None:
        """Return why a loss cannot have one of some values of a coordinate, or None.

        Args:
            choice: what the sweep names.
            name: a coordinate.
            values: those that the coordinate allows, float64 or strings of shape (n,).
        """
        del choice, name, values
        return None

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready description that stands for this experiment in a spec.

        By default the name of its class and, of a dataclass, the fields that JSON can hold. The
        spec adds a digest of the source, so that a changed experiment is another sweep.
        """
        fields: tuple[dataclasses.Field, ...] = ()
        if dataclasses.is_dataclass(self):
            fields = dataclasses.fields(self)
        told: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields}
        plain: dict[str, Any] = {
            k: v for k, v in told.items() if isinstance(v, (bool, int, str)) or _is_finite(v)
        }
        return {"kind": type(self).__name__, **plain}

    def problem(self, point: Point, choice: LossChoice, tolerance: Array) -> Problem:
        """Bind everything to one point.

        Args:
            point: the point.
            choice: what the sweep names.
            tolerance: a start with |output − target| up to this is converged; its dtype is that
                of the arithmetic.
        """
        dtype = tolerance.dtype
        parameters = jax.tree.map(lambda leaf: _cast(leaf, dtype), self.init(point))
        output, descent = self.output, self.descent
        return Problem(
            parameters=parameters,
            optimizer=self.optimizer(point),
            excess=lambda p: self.excess(p, point, choice),
            floor=jnp.asarray(self.floor(point, choice), dtype),
            speed=self.speed,
            fall=self.fall(point, choice),
            steady=self.steady(point, choice),
            converged=self.converged(parameters, point, tolerance),
            output=None if output is None else lambda p: output(p, point),
            descent=None if descent is None else lambda p, n: descent(p, point, choice, n),
        )


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _cast(leaf: Any, dtype: Any) -> Any:
    """Return a float leaf in a dtype; others as they are, for JAX to tell what is wrong."""
    floating = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.asarray(leaf, dtype) if floating or isinstance(leaf, float) else leaf
