"""The table's columns as compressed text for a page."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plateaumap.report.lattice import STATUSES, Lattice
from plateaumap.report.page.picture import Picture

MOST_TEXT = 7_000_000
"""The largest number of characters of the packed columns; larger tables are thinned."""

_KEPT_BITS = 26
_MANTISSA_BITS = 52
_MISSING = 254


@dataclass(frozen=True)
class PackedColumn:
    """One column of the page.

    Attributes:
        name: the name in the table.
        kind: "int" (int32, −1 where null), "float" (float64) or "code" (uint8).
        words: the categories, by code.
        blocks: the compressed bytes in base64, one block per loss.
    """

    name: str
    kind: str
    words: tuple[str, ...]
    blocks: tuple[str, ...]


def packed(lattice: Lattice, picture: Picture) -> tuple[list[PackedColumn], Picture]:
    """Return the packed columns but coordinates and indices, and the picture, thinned to fit."""
    while True:
        columns = [_column(lattice, picture, name) for name in _names(lattice)]
        size = sum(len(block) for column in columns for block in column.blocks)
        if size <= MOST_TEXT or max(picture.rows.shape[2:]) == 1:
            return columns, picture
        picture = picture.thinned()


def _names(lattice: Lattice) -> list[str]:
    known = {name for axis in lattice.axes for name in axis.names} | set(lattice.fixed)
    return [
        str(name)
        for name in lattice.frame.columns
        if name != "loss" and name not in known and not str(name).endswith("_index")
    ]


def _column(lattice: Lattice, picture: Picture, name: str) -> PackedColumn:
    series, rows = lattice.frame[name], picture.rows
    words: tuple[str, ...] = ()
    values: NDArray
    if name == "status":
        kind, words = "code", STATUSES
        values = _filled(lattice.status_codes, rows, _MISSING).astype(np.uint8)
    elif isinstance(series.dtype, pd.CategoricalDtype):
        kind, words = "code", tuple(map(str, series.cat.categories))
        codes = series.cat.codes.to_numpy(np.int64)
        values = _filled(codes, rows, -1).astype(np.uint8)
    else:
        numbers = _filled(series.to_numpy(np.float64, na_value=np.nan), rows, np.nan)
        whole = pd.api.types.is_integer_dtype(series.dtype)
        small = whole and bool(np.all(np.isnan(numbers) | ((numbers >= 0) & (numbers < 2**31))))
        kind = "int" if small else "float"
        values = np.nan_to_num(numbers, nan=-1).astype("<i4") if small else numbers
        if not whole:
            values = rounded(values)
    return PackedColumn(name, kind, words, tuple(map(_packed, values)))


def _filled(values: NDArray, rows: NDArray[np.int64], missing: float) -> NDArray:
    return np.where(rows < 0, missing, values[rows])


def rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nearest numbers of 26 binary digits, which compress well, at any exponent."""
    dropped = np.uint64(_MANTISSA_BITS + 1 - _KEPT_BITS)
    bits = np.ascontiguousarray(values).view(np.uint64)
    half = np.uint64(1) << (dropped - np.uint64(1))
    kept = ((bits + half) >> dropped) << dropped
    return np.where(np.isfinite(values), kept.view(np.float64), values)


def _packed(values: NDArray) -> str:
    flat = np.ascontiguousarray(values).reshape(-1)
    width = flat.itemsize
    planes = flat.view(np.uint8).reshape(-1, width).T if width > 1 else flat
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode()
