"""The base class of experiments: how a point of a sweep becomes a training problem."""

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

    A subclass defines `coordinates`, `init` and `loss`; all other members have defaults.

    A point is a mapping from the names of the coordinates to scalars: numbers of the sweep's
    precision, int64 for whole numbers, and Python objects for choices. All methods that take a
    point are pure functions of one point, which JAX traces.

    Arrays in the attributes of an experiment are its data. Inside the methods they have the
    sweep's precision (see `plateaumap.experiment.data`). An epoch is one update.

    Example:
        >>> import plateaumap as pm
        >>> class Parabola(pm.Experiment):
        ...     coordinates = (pm.Coordinate("w0"), pm.Coordinate("lr", default=0.1))
        ...
        ...     def init(self, point):
        ...         return {"w": point["w0"]}
        ...
        ...     def loss(self, parameters, point, loss_name):
        ...         return parameters["w"] ** 2
        >>> sweep = pm.Sweep(experiment=Parabola(), axes=[pm.values("w0", [1.0, 3.0])], horizon=50)
        >>> pm.run(sweep, progress=False)["plateau_epochs"].tolist()
        [1, 1]
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Attach special knowledge to the class that states it."""
        super().__init_subclass__(**keywords)
        guard(cls, Experiment)

    coordinates: tuple[Coordinate, ...]
    """The coordinates of a point, in the order of the columns of the table."""

    known_losses: tuple[str, ...] = ("loss",)
    """The names of losses that a sweep may have."""

    output: Callable[[PyTree, Point], Array] | None = None
    """The output of a model with one output, as a function of parameters and point."""

    lanes: int | None = None
    """The number of runs that are advanced together, a power of two of at least 8.

    By default it follows from the size of the arrays of a run. If it is set, a chunk consists of
    few blocks, so that the interruption of a sweep of long runs loses fewer of them.
    """

    descent: Callable[[PyTree, Point, LossLike, Array], Array] | None = None
    """The scalar whose gradient an update uses if that is not `loss`, such as a minibatch loss.

    `descent(parameters, point, loss_name, epoch)` is differentiable. `epoch` is an integer scalar,
    0 for the first update, from which `jax.random.fold_in` draws a batch. Measures observe `loss`,
    and the gradients of `descent`.
    """

    @property
    def default_losses(self) -> tuple[str, ...]:
        """Return the losses of a sweep that names none."""
        return self.known_losses

    @abstractmethod
    def init(self, point: Point) -> PyTree:
        """Return the initial parameters of the run of `point`, a pytree of float arrays.

        They are cast to the sweep's precision. A random initialisation takes its key from a
        coordinate: `jax.random.key(point["seed"])`.
        """

    @abstractmethod
    def loss(self, parameters: PyTree, point: Point, loss_name: LossLike) -> Array:
        """Return the raw loss, a differentiable scalar; `loss_name` is a loss of the sweep."""

    def optimizer(self, point: Point) -> optax.GradientTransformation:
        """Return the optimizer of a run; by default gradient descent with rate `lr`."""
        return optax.sgd(point["lr"])

    def floor(self, point: Point, loss_name: LossLike) -> ArrayLike:
        """Return the infimum of the loss; measures observe the excess over it.

        The floor belongs to the `loss` of the same class. A subclass with another loss must
        define its own floor; otherwise the floor is 0.
        """
        del point, loss_name
        return 0.0

    def excess(self, parameters: PyTree, point: Point, loss_name: LossLike) -> Array:
        """Return the loss minus its floor, without cancellation if possible."""
        return self.loss(parameters, point, loss_name) - self.floor(point, loss_name)

    def gradient_scalar(self, gradients: PyTree) -> Array:
        """Return the scalar that measures use for a gradient; by default the norm."""
        return optax.tree.norm(gradients)

    def direction(self, gradients: PyTree) -> Array | None:
        """Return a scalar with the sign of dC/da for the output a, or None to compute it.

        Without `output`, or with `descent`, the sign is unknown and the column `path` is null.
        """
        del gradients
        return None

    def decrease(
        self, point: Point, loss_name: LossLike
    ) -> Callable[[PyTree, PyTree], Array] | None:
        """Return the decrease of the loss as a function of parameters and updates, or None."""
        del point, loss_name
        return None

    def converged(self, parameters: PyTree, point: Point, tolerance: Array) -> Array:
        """Return whether initial parameters have converged already; by default never."""
        del parameters, point, tolerance
        return jnp.bool_(False)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return the measures besides the crossings, in the order of the columns.

        A subclass adds measures by `(*super().measures, MyMeasure())`; see `pm.measures`.
        """
        return (*STANDARD, InitialGradient(), Losses(), *ENDINGS)

    def theory(self, loss_name: LossLike) -> Theory | None:
        """Return the theory of this experiment for a loss, or None.

        A theory holds for the class that defines this method, and for subclasses that override
        only measures. For any other subclass this method returns None unless the subclass defines
        it (see `plateaumap.experiment.attachment`).
        """
        del loss_name
        return None

    def why_not_loss(self, loss_name: LossLike) -> str | None:
        """Return why this experiment refuses a loss, or None; unknown names are refused anyway."""
        if callable(loss_name):
            return "the loss of this experiment must be one of its names, not a function"
        return None

    def why_not_values(self, loss_name: LossLike, name: str, values: np.ndarray) -> str | None:
        """Return why a loss does not allow one of some values of a coordinate, or None.

        Args:
            loss_name: a loss of the sweep.
            name: the name of the coordinate.
            values: values that the coordinate allows, float64 or strings of shape (n,).
        """
        del loss_name, name, values
        return None

    def describe(self) -> dict[str, Any]:
        """Return the JSON-ready description of this experiment in a specification.

        By default it has the name of the class and, for a dataclass, the fields that JSON can
        hold. The specification adds a digest of the program, so that a changed experiment is
        another sweep.
        """
        fields: tuple[dataclasses.Field, ...] = ()
        if dataclasses.is_dataclass(self):
            fields = dataclasses.fields(self)
        values = {field.name: getattr(self, field.name) for field in fields}
        return {"kind": type(self).__name__, **{k: v for k, v in values.items() if _is_plain(v)}}


def _is_plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, (bool, int, str))
