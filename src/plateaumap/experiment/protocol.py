"""The protocol of an experiment: how a point of a sweep becomes a training problem.

An experiment knows no grid, no device and no file. To write one, subclass `Experiment`:
coordinates, `init` and `loss` are enough, and everything else has a default.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from plateaumap.experiment.attachment import guard
from plateaumap.experiment.coordinates import Coordinate
from plateaumap.theory.base import Theory
from plateaumap.training.measures import ENDINGS, STANDARD, InitialGradient, Losses, Measure

PyTree = Any
Point = Mapping[str, Any]
LossLike = str | Callable


class Experiment(ABC):
    """A family of training runs, one for each point of a sweep.

    A point is a mapping from the names of `coordinates` to scalars: numbers of the sweep's
    precision, int64 for whole numbers, and plain Python values for choices. All methods that
    take one are pure, written for one point and traced by JAX.

    Arrays in an experiment's attributes are its data: inside of these methods they have the
    sweep's precision (see `plateaumap.experiment.data`). An "epoch" is one update.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Attach special knowledge to the class that states it."""
        super().__init_subclass__(**keywords)
        guard(cls, Experiment)

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

    descent: Callable[[PyTree, Point, LossLike, Array], Array] | None = None
    """What an update descends where that is not `loss`, such as the loss of a minibatch.

    `descent(parameters, point, loss_name, epoch)`, a differentiable scalar; `epoch` is an integer
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
    def loss(self, parameters: PyTree, point: Point, loss_name: LossLike) -> Array:
        """Return the raw loss, a differentiable scalar; `loss_name` is what the sweep names."""

    def optimizer(self, point: Point) -> optax.GradientTransformation:
        """Return the optimizer of a run; by default gradient descent with rate `lr`."""
        return optax.sgd(point["lr"])

    def floor(self, point: Point, loss_name: LossLike) -> ArrayLike:
        """Return the least that the loss can be; measures see the excess over it.

        It belongs to the `loss` beside which it is defined: a subclass with another loss states
        its floor, too, or has 0.
        """
        del point, loss_name
        return 0.0

    def excess(self, parameters: PyTree, point: Point, loss_name: LossLike) -> Array:
        """Return the loss above its floor, without cancellation if that is possible."""
        return self.loss(parameters, point, loss_name) - self.floor(point, loss_name)

    def gradient_scalar(self, gradients: PyTree) -> Array:
        """Return the scalar that measures take for the gradient; by default its norm."""
        return optax.tree.norm(gradients)

    def direction(self, gradients: PyTree) -> Array | None:
        """Return a scalar whose sign is that of dC/da, a the output; None to compute it.

        Without an `output`, or with a `descent`, there is none, and the column `path` is null.
        """
        del gradients
        return None

    def decrease(
        self, point: Point, loss_name: LossLike
    ) -> Callable[[PyTree, PyTree], Array] | None:
        """Return the drop of the loss as a function of parameters and updates, if known."""
        del point, loss_name
        return None

    def converged(self, parameters: PyTree, point: Point, tolerance: Array) -> Array:
        """Return whether a start is already good enough; by default never."""
        del parameters, point, tolerance
        return jnp.bool_(False)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return what is measured beside the crossings, in the order of the columns.

        To add some of your own: `(*super().measures, MyMeasure())`; see `pm.measures`.
        """
        return (*STANDARD, InitialGradient(), Losses(), *ENDINGS)

    def theory(self, loss_name: LossLike) -> Theory | None:
        """Return what is known of this experiment under a loss, or None.

        A theory applies to the class that defines this method and to instances of a subclass that
        overrides nothing but measures: for any other subclass this method returns None unless the
        subclass states a theory of its own (see `plateaumap.experiment.attachment`).
        """
        del loss_name
        return None

    def why_not_loss(self, loss_name: LossLike) -> str | None:
        """Return why this experiment refuses a loss, or None; an unknown name is told anyway."""
        if callable(loss_name):
            return "this experiment takes no function as its loss; name one of its own"
        return None

    def why_not_values(self, loss_name: LossLike, name: str, values: np.ndarray) -> str | None:
        """Return why a loss cannot have one of some values of a coordinate, or None.

        Args:
            loss_name: what the sweep names.
            name: a coordinate.
            values: those that the coordinate allows, float64 or strings of shape (n,).
        """
        del loss_name, name, values
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


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)
