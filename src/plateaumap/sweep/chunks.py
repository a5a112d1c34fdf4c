"""Chunks of the table of a sweep, computed from their numbers.

Rows are ordered by loss, then by point: row ``loss_index * points + point`` belongs to one loss
and one point. A chunk is a contiguous range of rows of one loss. No list of chunks is stored, so a
plan of 10⁹ points needs as little memory as one of ten.
"""

import dataclasses
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from plateaumap.inputs.errors import PlateaumapError

MOST_ROWS = 131_072
"""The largest number of rows of a chunk. A part of this size has about 10 MB: little is lost if a
run is killed, and the overhead of a file is small."""

FEWEST_ROWS = 16_384
"""The smallest default number of rows of a chunk, below which files are small."""

CHUNKS_PER_LOSS = 8
"""The default number of chunks of a loss between these limits, enough for several workers."""

FEWEST_BLOCKS = 4
"""The smallest number of blocks of a chunk of large models, so that several threads share it."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A contiguous range of rows of one loss.

    Attributes:
        index: the number of the chunk in the plan, and of its part on disk.
        loss_index: the index of the loss in the plan.
        start: the first point.
        stop: one past the last point.
        first_row: the row of the first point in the whole table.
    """

    index: int
    loss_index: int
    start: int
    stop: int
    first_row: int

    @property
    def rows(self) -> int:
        """Return the number of rows, which is the number of points."""
        return self.stop - self.start


def default_chunk_points(points: int) -> int:
    """Return the number of points per chunk for a sweep of `points` points.

    The lengths of the chunks of one loss differ by less than the number of chunks.
    """
    target = min(max(_ceil_div(points, CHUNKS_PER_LOSS), FEWEST_ROWS), MOST_ROWS)
    return _ceil_div(points, _ceil_div(points, target))


def block_chunk(points: int, block: int) -> int:
    """Return the number of points per chunk for large models: a chunk has few blocks.

    Args:
        points: the number of points of each loss.
        block: the number of runs that are advanced together.
    """
    blocks = max(_ceil_div(points, CHUNKS_PER_LOSS * block), FEWEST_BLOCKS)
    return min(blocks * block, MOST_ROWS)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The division of the rows of a sweep into chunks.

    Attributes:
        points: the number of points of each loss.
        losses: the names of the losses, in the order of the table.
        chunk_points: the number of points per chunk (the last chunk of a loss may have fewer); by
            default `default_chunk_points(points)`.

    Raises:
        PlateaumapError: there are no points, no losses, or no points in a chunk.
    """

    points: int
    losses: tuple[str, ...]
    chunk_points: int = 0

    def __post_init__(self) -> None:
        """Set the default, and refuse a plan without rows."""
        object.__setattr__(self, "losses", tuple(self.losses))
        if operator.index(self.points) < 1:
            raise PlateaumapError(f"points = {self.points}: must be at least 1")
        if not self.losses:
            raise PlateaumapError("losses = (): must have at least one loss")
        if operator.index(self.chunk_points) < 0:
            raise PlateaumapError(f"chunk_points = {self.chunk_points}: must be at least 1")
        chunk_points = self.chunk_points or default_chunk_points(self.points)
        object.__setattr__(self, "chunk_points", min(chunk_points, self.points))

    @property
    def rows(self) -> int:
        """Return the number of rows of the whole table."""
        return self.points * len(self.losses)

    @property
    def chunks_per_loss(self) -> int:
        """Return the number of chunks of one loss."""
        return _ceil_div(self.points, self.chunk_points)

    def __len__(self) -> int:
        """Return the number of chunks."""
        return self.chunks_per_loss * len(self.losses)

    def __getitem__(self, index: int) -> Chunk:
        """Return the chunk of an index from 0 to `len(self) - 1`."""
        if not 0 <= operator.index(index) < len(self):
            raise IndexError(f"chunk {index} of a plan of {len(self)} chunks")
        loss_index, place = divmod(index, self.chunks_per_loss)
        start = place * self.chunk_points
        stop = min(start + self.chunk_points, self.points)
        return Chunk(index, loss_index, start, stop, loss_index * self.points + start)

    def __iter__(self) -> Iterator[Chunk]:
        """Iterate over the chunks in the order of their rows."""
        return map(self.__getitem__, range(len(self)))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-ready data, with its size for readers."""
        return {
            "points": self.points,
            "losses": list(self.losses),
            "chunk_points": self.chunk_points,
            "chunks": len(self),
            "rows": self.rows,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_dict` described."""
        return cls(int(data["points"]), tuple(data["losses"]), int(data["chunk_points"]))
