"""The table as an xarray dataset. Imported only where xarray is asked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from plateaumap.sweep.spec import Sweep
from plateaumap.table.columns import Arrays, Column

_EXACT = 2**53  # the largest magnitude up to which float64 holds every whole number


def dataset(sweep: Sweep, columns: Sequence[Column], arrays: Arrays) -> xr.Dataset:
    """The rows of a whole sweep by loss and axes; see `Results.to_xarray`."""
    loss = next(column for column in columns if column.name == "loss")
    dims = ("loss", *("_".join(axis.names) for axis in sweep.axes))
    shape = (len(loss.categories), *(axis.size for axis in sweep.axes))
    coords: dict[str, Any] = {"loss": ("loss", list(loss.categories))}
    coordinates = {coordinate.name: coordinate for coordinate in sweep.experiment.coordinates}
    for dim, axis in zip(dims[1:], sweep.axes, strict=True):
        for name, values in sweep.grid.columns_of(axis).items():
            coords[name] = (dim, coordinates[name].values(values))
    given = {*coords, *(f"{name}_index" for name in coords)}
    data = {}
    for column in columns:
        if column.name in given:
            continue
        attributes = {"units": column.unit, "long_name": column.meaning}
        values = _values(column, arrays[column.name])
        if column.name in sweep.fixed:
            coords[column.name] = ((), values[0], attributes)
        else:
            data[column.name] = (dims, values.reshape(shape), attributes)
    return xr.Dataset(data, coords, {"name": sweep.name, "fingerprint": sweep.fingerprint})


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
