"""Chunks of a sweep's table, and their order, by arithmetic alone.

The table's rows are ordered by loss, then by point, so row ``loss_index * points + point``
belongs to one loss and one point. A chunk is one contiguous range of rows and never crosses
from one loss to the next. Nothing is listed: a plan of 10⁹ points costs as much as one of ten.
"""

import dataclasses
import operator
from collections.abc import Iterator, Mapping
from typing import Any

from plateaumap.inputs.errors import PlateaumapError

# Few enough rows that a part holds some 10 MB, is written at once and is cheap to lose to a kill;
# enough that its Parquet footer and its files' number do not count.
_MOST_ROWS = 131_072
# Below this a chunk is done in a moment, and cutting it finer only makes small files.
_FEWEST_ROWS = 16_384
# In between, as many chunks for each loss as keep several workers busy to the end.
_CHUNKS_PER_LOSS = 8
# Of large models: enough that several threads share a chunk.
_FEWEST_BLOCKS = 4


@dataclasses.dataclass(frozen=True)
class Chunk:
    """One contiguous range of rows, all of one loss.

    Attributes:
        index: the chunk's number in the plan, and its part's number on disk.
        loss_index: which of the plan's losses.
        start: its first point.
        stop: one past its last point.
        first_row: the row of the whole table that its first point fills.
    """

    index: int
    loss_index: int
    start: int
    stop: int
    first_row: int

    @property
    def rows(self) -> int:
        """How many rows, which is how many points."""
        return self.stop - self.start


def default_chunk_points(points: int) -> int:
    """Points per chunk for a sweep of `points` points: the same sweep, the same answer.

    Chunks of one loss differ in length by less than their number, so that none is left over.
    """
    wanted = min(max(_ceil_div(points, _CHUNKS_PER_LOSS), _FEWEST_ROWS), _MOST_ROWS)
    return _ceil_div(points, _ceil_div(points, wanted))


def block_chunk(points: int, block: int) -> int:
    """Points per chunk where a block of runs is so much work that a chunk holds a few of them.

    Args:
        points: of the sweep, for each loss.
        block: runs that are advanced together.
    """
    blocks = max(_ceil_div(points, _CHUNKS_PER_LOSS * block), _FEWEST_BLOCKS)
    return min(blocks * block, _MOST_ROWS)


def _ceil_div(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the rows of a sweep are cut into chunks.

    Attributes:
        points: points of the sweep, for each loss.
        losses: the names of the losses, in the table's order.
        chunk_points: points per chunk (the last chunk of a loss may have fewer); by default
            `default_chunk_points(points)`.

    Raises:
        PlateaumapError: no points, no losses, or no points in a chunk.
    """

    points: int
    losses: tuple[str, ...]
    chunk_points: int = 0

    def __post_init__(self) -> None:
        """Fills in the default and refuses a plan without rows."""
        object.__setattr__(self, "losses", tuple(self.losses))
        if operator.index(self.points) < 1:
            raise PlateaumapError(f"points is {self.points}; a plan needs at least one point")
        if not self.losses:
            raise PlateaumapError("losses is empty; a plan needs at least one loss")
        if operator.index(self.chunk_points) < 0:
            raise PlateaumapError(f"chunk_points is {self.chunk_points}; give 1 or more")
        chunk_points = self.chunk_points or default_chunk_points(self.points)
        object.__setattr__(self, "chunk_points", min(chunk_points, self.points))

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return self.points * len(self.losses)

    @property
    def chunks_per_loss(self) -> int:
        """Chunks that hold the points of one loss."""
        return _ceil_div(self.points, self.chunk_points)

    def __len__(self) -> int:
        """The number of chunks."""
        return self.chunks_per_loss * len(self.losses)

    def __getitem__(self, index: int) -> Chunk:
        """The chunk of that number, from 0 to `len(self) - 1`."""
        if not 0 <= operator.index(index) < len(self):
            raise IndexError(f"chunk {index} of a plan of {len(self)} chunks")
        loss_index, place = divmod(index, self.chunks_per_loss)
        start = place * self.chunk_points
        stop = min(start + self.chunk_points, self.points)
        return Chunk(index, loss_index, start, stop, loss_index * self.points + start)

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks in the order of their rows."""
        return map(self.__getitem__, range(len(self)))

    @property
    def chunks(self) -> Iterator[Chunk]:
        """The chunks in the order of their rows, made one by one."""
        return iter(self)

    def to_dict(self) -> dict[str, Any]:
        """This plan as JSON-ready data, with its size for a reader's convenience."""
        return {
            "points": self.points,
            "losses": list(self.losses),
            "chunk_points": self.chunk_points,
            "chunks": len(self),
            "rows": self.rows,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The plan that `to_dict` described."""
        return cls(int(data["points"]), tuple(data["losses"]), int(data["chunk_points"]))
