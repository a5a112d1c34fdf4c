"""Estimates the size of a table on disk, and compares it with the free space."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from plateaumap.storage.errors import StorageError
from plateaumap.table.columns import Column

# Bytes per value and per file, measured on the parts of single-neuron sweeps of 300,000 rows whose
# initial w0 and b0 are 129 normal draws each: 45 bytes for a row of the 30 columns. Evenly spaced
# initial points repeat the sums w0 + b0, hence the results, and take 9 bytes a row; 60,000 random
# points take 116.
_BYTES = {"float64": 2.3, "Int64": 0.76, "int32": 0.02, "category": 0.05, "bool": 0.05}
_BYTES_PER_PART = 24_000


def estimate_bytes(columns: Sequence[Column], rows: int, parts: int = 1) -> int:
    """Return about how many bytes a table takes on disk, compressed.

    Compression depends on how often values repeat, so the estimate may be up to ten times too high
    for evenly spaced axes, and three times too low for a list of random points.

    Args:
        columns: the table's columns.
        rows: the number of rows.
        parts: the number of files.
    """
    return round(rows * sum(_BYTES[column.dtype] for column in columns)) + parts * _BYTES_PER_PART


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of a path, which need not exist yet."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def check_space(path: Path, needed: int) -> None:
    """Raise unless the disk of a path has enough free bytes.

    Raises:
        StorageError: names the needed and the free bytes.
    """
    free = free_bytes(path)
    if needed > free:
        raise StorageError(
            f"this sweep would write about {format_bytes(needed)} to {path}, where "
            f"{format_bytes(free)} are free; choose another disk or a smaller sweep"
        )


def format_bytes(count: float) -> str:
    """Return a number of bytes as text, in the largest decimal unit that leaves 1 or more."""
    for unit in ("B", "kB", "MB", "GB", "TB", "PB", "EB"):
        if count < 999.95 or unit == "EB":
            break
        count /= 1000
    return f"{count:.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
