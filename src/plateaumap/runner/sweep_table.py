"""The table of a sweep: its columns, its chunks, and the evaluators that fill it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from plateaumap.execution.evaluator import Evaluator, epoch_counter
from plateaumap.experiment.coordinates import Coordinate
from plateaumap.experiment.evaluation import Evaluation
from plateaumap.experiment.identity import ModelKey
from plateaumap.storage.manifest import Manifest
from plateaumap.sweep.chunks import Chunk, Plan, block_chunk
from plateaumap.sweep.spec import Sweep
from plateaumap.table.columns import Arrays, Column, Dtype


class SweepTable:
    """The table of one sweep, before its rows are computed.

    Attributes:
        sweep: the spec.
        evaluators: what computes the rows, one for each loss.
        measured: the columns that an evaluator fills.
        columns: all columns of the table, in order.
        plan: how the rows are divided into chunks.
    """

    def __init__(self, sweep: Sweep) -> None:
        """Bind the sweep; nothing is evaluated yet.

        Raises:
            PlateaumapError: the sweep names functions that only the author of its file has, or its
                experiment has changed since the sweep was created.
        """
        sweep.require_runnable()
        self.sweep = sweep
        counter = epoch_counter(sweep.horizon)
        self.evaluators = tuple(
            Evaluator(
                Evaluation(
                    sweep.experiment,
                    loss,
                    sweep.precision,
                    sweep.until,
                    counter,
                    key=ModelKey.of(programs),
                ),
                sweep.method,
                sweep.horizon,
                sweep.tolerance,
            )
            for loss, programs in zip(sweep.losses, sweep.identify(), strict=True)
        )
        self.measured = self.evaluators[0].columns
        self.columns = (*_identity_columns(sweep), *self.measured)
        lanes, size = sweep.experiment.lanes, sweep.size
        chunk_points = 0 if lanes is None else block_chunk(size, lanes)
        self.plan = Plan(size, sweep.loss_names, chunk_points)

    def manifest(self, provenance: Mapping[str, object] = {}) -> Manifest:
        """Return the manifest of a new folder for this table."""
        sweep = self.sweep
        return Manifest(
            sweep.to_dict(), sweep.fingerprint, self.plan, self.columns, dict(provenance)
        )

    def points(self, chunk: Chunk) -> Arrays:
        """Return the coordinates of a chunk's points."""
        return self.sweep.grid.coordinates_at(_numbers(chunk))

    def rows(self, chunk: Chunk, points: Arrays, measured: Arrays) -> Arrays:
        """Return all columns of a chunk: loss, coordinates, indices and what was measured."""
        return {
            "loss": np.full(chunk.rows, chunk.loss_index, np.int8),
            **points,
            **self.sweep.grid.index_columns(_numbers(chunk)),
            **measured,
        }


def _numbers(chunk: Chunk) -> np.ndarray:
    return np.arange(chunk.start, chunk.stop, dtype=np.int64)


def _identity_columns(sweep: Sweep) -> tuple[Column, ...]:
    coordinates = sweep.experiment.coordinates
    index_of = {f"{coordinate.name}_index": coordinate for coordinate in coordinates}
    return (
        Column("loss", "category", "1", "the loss that is trained", sweep.loss_names),
        *(_coordinate_column(coordinate) for coordinate in coordinates),
        *(
            Column(name, "int32", "1", f"position of {index_of[name].name} on its axis")
            for name in sweep.grid.index_names
        ),
    )


def _coordinate_column(coordinate: Coordinate) -> Column:
    if coordinate.is_text:
        choices = tuple(map(str, coordinate.choices))
        return Column(coordinate.name, "category", "1", coordinate.meaning, choices)
    dtype: Dtype = "Int64" if coordinate.dtype is np.int64 else "float64"
    return Column(coordinate.name, dtype, "1", coordinate.meaning)
