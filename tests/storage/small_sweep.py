"""A small sweep with known rows."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plateaumap.storage.manifest import Manifest
from plateaumap.storage.store import Store
from plateaumap.sweep.chunks import Chunk, Plan
from plateaumap.table.columns import Arrays, Column

COLUMNS = (
    Column("loss", "category", "1", "the loss", ("quadratic", "cross_entropy")),
    *(Column(name, "float64", "1", f"coordinate {name}") for name in ("w0", "b0", "lr", "x", "y")),
    *(Column(f"{name}_index", "int32", "1", "position") for name in ("w0", "b0", "lr")),
    Column("status", "category", "1", "what became of it", ("escaped", "censored", "stalled")),
    Column("plateau_epochs", "Int64", "epochs", "length of the plateau"),
    Column("final_output", "float64", "1", "output at the end"),
    Column("path", "category", "1", "how it went", ("overshoot", "oscillating")),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A sweep of 7 by 3 points: `w0` times points of (`b0`, `lr`), for two losses."""

    spec: dict[str, Any]
    fingerprint: str
    columns: tuple[Column, ...]
    plan: Plan
    provenance: dict[str, Any]

    def manifest(self, **changes: Any) -> Manifest:
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Manifest(**{**fields, **changes})

    def store(self, path: Path, force: bool = False, **changes: Any) -> Store:
        return Store.create_or_resume(path, self.manifest(**changes), force)

    def rows(self, chunk: Chunk) -> Arrays:
        whole = self.whole()
        stop = chunk.first_row + chunk.rows
        return {name: array[chunk.first_row : stop] for name, array in whole.items()}

    def whole(self) -> Arrays:
        points = np.arange(42) % 21
        w0_index, pair = points // 3, points % 3
        random = np.random.default_rng(7)
        epochs = 2**53 + random.integers(0, 2**60, 42)
        return {
            "loss": (np.arange(42) // 21).astype(np.int8),
            "w0": np.linspace(-3, 3, 7)[w0_index],
            "b0": np.array([0.9, 2.0, 2.0])[pair],
            "lr": np.array([0.15, 0.15, 0.005])[pair],
            "x": np.ones(42),
            "y": np.zeros(42),
            "w0_index": w0_index.astype(np.int32),
            "b0_index": pair.astype(np.int32),
            "lr_index": pair.astype(np.int32),
            "status": random.integers(0, 2, 42).astype(np.int8),
            "plateau_epochs": np.ma.MaskedArray(epochs, mask=random.random(42) < 0.3),
            "final_output": np.where(random.random(42) < 0.2, np.nan, random.normal(size=42)),
            "path": np.full(42, -1, np.int8),
        }

    def fill(self, path: Path, skip: tuple[int, ...] = ()) -> Store:
        store = self.store(path)
        with store.lock():
            for index in store.missing():
                if index not in skip:
                    store.write(store.plan[index], self.rows(store.plan[index]))
            store.finish()
        return store

    def frame(self) -> pd.DataFrame:
        """Return the whole table, built without a function of plateaumap."""
        whole = self.whole()
        data: dict[str, Any] = {}
        for column in self.columns:
            array = whole[column.name]
            if column.dtype == "category":
                values = [None if code < 0 else column.categories[code] for code in array]
                data[column.name] = pd.Categorical(values, categories=list(column.categories))
            elif column.dtype == "Int64":
                data[column.name] = pd.array(array.tolist(), dtype="Int64")
            else:
                data[column.name] = array
        return pd.DataFrame(data)


def small_sweep() -> Case:
    spec = {
        "name": "small",
        "losses": ["quadratic", "cross_entropy"],
        "axes": [
            {"kind": "linspace", "name": "w0", "start": -3.0, "stop": 3.0, "num": 7}
            | {"values": [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]},
            {"kind": "points", "values": {"b0": [0.9, 2.0, 2.0], "lr": [0.15, 0.15, 0.005]}},
        ],
        "fixed": {"x": 1.0, "y": 0.0},
        "horizon": 1000,
    }
    provenance = {"versions": {"jax": "0.10.2"}, "precision": "float64", "git_commit": None}
    return Case(spec, "f" * 64, COLUMNS, Plan(21, ("quadratic", "cross_entropy"), 8), provenance)
