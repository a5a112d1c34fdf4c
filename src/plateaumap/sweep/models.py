"""The models of a sweep, one for each loss and combination of choices: checks and identities."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from plateaumap.experiment.reference import FunctionReference
from plateaumap.inputs.errors import Fault, PlateaumapError
from plateaumap.sweep.axes import Grid

_SAMPLE_SIZE = 256
"""The number of points at which the answers of a user's theory are recorded."""

Choices = tuple[tuple[str, Any], ...]
"""Names and values of all coordinates with choices."""


class ModelIdentity(NamedTuple):
    """The identity of the models of a sweep.

    Attributes:
        programs: for each loss the identity of the model by its choices.
        traced_with: JAX and its settings if a user wrote a part of the models, else None.
    """

    programs: tuple[dict[Choices, str], ...]
    traced_with: dict[str, Any] | None


@dataclass(frozen=True)
class Models:
    """The models of a sweep.

    Attributes:
        experiment: the experiment.
        losses: names, functions, or references to functions that are not available.
        precision: the precision of the sweep.
        grid: the points.
    """

    experiment: Any
    losses: Sequence[Any]
    precision: str
    grid: Grid

    @property
    def is_custom(self) -> bool:
        """Return whether a user wrote the experiment."""
        from plateaumap.experiment.identity import is_custom

        return is_custom(self.experiment)

    def identity(self) -> ModelIdentity:
        """Return the identity of the models as they are now.

        Raises:
            PlateaumapError: a model cannot be traced, or is not pure.
        """
        from plateaumap.experiment.identity import identity_of
        from plateaumap.experiment.program import environment

        is_traced = self.is_custom or any(map(callable, self.losses))
        sample = self._sample() if is_traced else None
        programs = tuple(
            {
                static: loss.sha256
                if isinstance(loss, FunctionReference)
                else identity_of(self.experiment, loss, self.precision, static, sample)
                for static in self._combinations()
            }
            for loss in self.losses
        )
        return ModelIdentity(programs, environment() if is_traced else None)

    def faults(self) -> list[Fault]:
        """Return the first fault that shows when the models are traced, if any."""
        from plateaumap.experiment.check import require_sound

        custom = self.is_custom
        for number, loss in enumerate(self.losses):
            if isinstance(loss, FunctionReference) or not (custom or callable(loss)):
                continue
            try:
                for static in self._combinations():
                    require_sound(self.experiment, loss, self.precision, static)
            except PlateaumapError as error:
                return [Fault("experiment" if custom else f"losses[{number}]", str(error))]
        return []

    def _combinations(self) -> list[Choices]:
        """Return all combinations of choices that the points have."""
        chosen = [c for c in self.experiment.coordinates if c.choices]
        fixed = self.grid.fixed
        parts = [[{c.name: fixed[c.name] for c in chosen if c.name in fixed}]]
        for axis in self.grid.axes:
            here = [c for c in chosen if c.name in axis.names]
            columns = self.grid.columns_of(axis)
            rows = dict.fromkeys(zip(*(columns[c.name].tolist() for c in here), strict=True))
            plain = [{c.name: c.plain(v) for c, v in zip(here, row, strict=True)} for row in rows]
            parts.append(plain or [{}])
        merged = [
            {name: value for part in combination for name, value in part.items()}
            for combination in itertools.product(*parts)
        ]
        return [tuple((c.name, values[c.name]) for c in chosen) for values in merged]

    def _sample(self) -> dict[str, np.ndarray]:
        """Return some points, spread over the grid, as a theory takes them."""
        last = self.grid.size - 1
        rows = np.unique(np.linspace(0, last, _SAMPLE_SIZE).round().astype(np.int64))
        stored = self.grid.coordinates_at(rows)
        return {c.name: c.values(stored[c.name]) for c in self.experiment.coordinates}
