"""Converts the table to an xarray dataset; only `Results.to_xarray` imports this module."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from plateaumap.table.columns import Arrays, Column

_EXACT = 2**53  # the largest magnitude up to which float64 holds every whole number


def dataset(
    spec: Mapping[str, Any], fingerprint: str, columns: Sequence[Column], arrays: Arrays
) -> xr.Dataset:
    """Return the rows of a whole sweep by loss and axes; see `Results.to_xarray`.

    Args:
        spec: the sweep as the manifest holds it. No code of the sweep's author is needed.
        fingerprint: the fingerprint of the sweep.
        columns: the columns of the table.
        arrays: the rows of the table, by column.
    """
    loss = next(column for column in columns if column.name == "loss")
    axes = [values_on(axis) for axis in spec["axes"]]
    dims = ("loss", *("_".join(axis) for axis in axes))
    shape = (len(loss.categories), *(len(next(iter(axis.values()))) for axis in axes))
    coords: dict[str, Any] = {"loss": ("loss", list(loss.categories))}
    for dim, axis in zip(dims[1:], axes, strict=True):
        coords |= {name: (dim, np.asarray(values)) for name, values in axis.items()}
    skipped = {*coords, *(f"{name}_index" for name in coords)}
    data = {}
    for column in columns:
        if column.name in skipped:
            continue
        attributes = {"units": column.unit, "long_name": column.meaning}
        values = _values(column, arrays[column.name])
        if column.name in spec["fixed"]:
            coords[column.name] = ((), values[0], attributes)
        else:
            data[column.name] = (dims, values.reshape(shape), attributes)
    return xr.Dataset(data, coords, {"name": spec["name"], "fingerprint": fingerprint})


def values_on(axis: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the values of each coordinate on an axis, from the axis as a manifest holds it."""
    if axis["kind"] == "points":
        return dict(axis["values"])
    if axis["kind"] == "zip":
        return {name: v for part in axis["axes"] for name, v in values_on(part).items()}
    return {axis["name"]: axis["values"]}


def _values(column: Column, array: np.ndarray) -> np.ndarray:
    if column.dtype == "category":
        return np.array([*column.categories, None], object)[array]
    if column.dtype != "Int64":
        return array
    data, mask = np.ma.getdata(array), np.ma.getmaskarray(array)
    if not mask.any():
        return data
    if np.abs(data[~mask]).max(initial=0) <= _EXACT:
        return np.where(mask, np.nan, data.astype(np.float64))
    exact = data.astype(object)
    exact[mask] = None
    return exact
