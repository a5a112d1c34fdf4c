"""How much disk a table takes, and whether there is as much."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from plateaumap.storage.errors import StorageError
from plateaumap.table.columns import Column

# Bytes per value and per file, measured on the parts of single-neuron sweeps of 300,000 rows whose
# starts w0 and b0 are 129 normal draws each: 45 bytes for a row of the 30 columns. Evenly spaced
# starts repeat the sums w0 + b0, hence the results, and took 9; 60,000 random points took 116.
_BYTES = {"float64": 2.3, "Int64": 0.76, "int32": 0.02, "category": 0.05, "bool": 0.05}
_BYTES_PER_PART = 24_000


def estimate_bytes(columns: Sequence[Column], rows: int, parts: int = 1) -> int:
    """About how many bytes a table takes on disk, compressed.

    How well rows compress hangs on how often their values repeat, so this may be up to ten times
    too high for evenly spaced axes, and three times too low for a list of random points.

    Args:
        columns: the table's columns.
        rows: its number of rows.
        parts: the number of files they are spread over.
    """
    return round(rows * sum(_BYTES[column.dtype] for column in columns)) + parts * _BYTES_PER_PART


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds `path`, which need not exist yet."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def check_space(path: Path, needed: int) -> None:
    """Raises unless the disk that is to hold `path` has `needed` bytes free.

    Raises:
        StorageError: names both numbers.
    """
    free = free_bytes(path)
    if needed > free:
        raise StorageError(
            f"this sweep would write about {format_bytes(needed)} to {path}, where "
            f"{format_bytes(free)} are free; choose another disk or a smaller sweep"
        )


def format_bytes(count: float) -> str:
    """A number of bytes in the largest decimal unit that leaves it at 1 or more."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB", "EB"):
        if count < 999.95 or unit == "EB":
            break
        count /= 1000
    return f"{count:.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
