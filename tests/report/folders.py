"""Folders of results made of a table, without an engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plateaumap.storage.manifest import Manifest
from plateaumap.storage.store import Store
from plateaumap.sweep.chunks import Plan
from plateaumap.table.columns import Arrays, Column


def columns(frame: pd.DataFrame) -> tuple[Column, ...]:
    """What the storage must know of a table's columns."""
    return tuple(_column(name, frame[name]) for name in frame.columns)


def _column(name: str, values: pd.Series) -> Column:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return Column(name, "category", "1", name, tuple(values.cat.categories))
    return Column(name, str(values.dtype), "1", name)


def _array(values: pd.Series) -> np.ndarray:
    if isinstance(values.dtype, pd.CategoricalDtype):
        return values.cat.codes.to_numpy(np.int8)
    if str(values.dtype) == "Int64":
        mask = values.isna().to_numpy()
        return np.ma.MaskedArray(values.fillna(0).to_numpy(np.int64), mask=mask)
    return values.to_numpy()


def fill(path: Path, frame: pd.DataFrame, skip: int = 0, spec: Any = None) -> Path:
    """Writes a table into a folder of results, all parts of it but the last `skip`."""
    losses = tuple(frame["loss"].cat.categories)
    plan = Plan(len(frame) // len(losses), losses, 64)
    spec = spec or {"name": "made up", "axes": [], "losses": list(losses), "fixed": {}}
    store = Store.create_or_resume(path, Manifest(spec, "0" * 64, plan, columns(frame), {}))
    arrays: Arrays = {name: _array(frame[name]) for name in frame.columns}
    with store.lock():
        for index in store.missing()[: len(plan) - skip]:
            chunk = plan[index]
            rows = slice(chunk.first_row, chunk.first_row + chunk.rows)
            store.write(chunk, {name: array[rows] for name, array in arrays.items()})
        store.finish()
    return path
