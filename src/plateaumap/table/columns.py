"""Columns, chunks of results, and their conversion to Arrow and pandas tables.

A measure declares `Column`s and fills one array for each. A chunk of results is a dictionary
(`Arrays`) from the name of a column to an array of shape (rows,):

| `Column.dtype` | array                                       | null      |
|----------------|---------------------------------------------|-----------|
| `float64`      | float64                                     | none: NaN |
| `Int64`        | `numpy.ma.MaskedArray` of int64, or int64   | masked    |
| `int32`        | int32                                       | none      |
| `category`     | int8 codes into `Column.categories`         | -1        |
| `bool`         | bool                                        | none      |

Integers are never converted to floats, so they are exact over the whole int64 range.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

Arrays: TypeAlias = dict[str, np.ndarray]
Dtype: TypeAlias = Literal["float64", "Int64", "int32", "category", "bool"]

_NUMPY: dict[str, type[np.generic]] = {
    "float64": np.float64,
    "Int64": np.int64,
    "int32": np.int32,
    "category": np.int8,
    "bool": np.bool_,
}
_MAX_CATEGORIES = int(np.iinfo(np.int8).max) + 1


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of the table of results.

    Attributes:
        name: the name of the column.
        dtype: the type in the pandas table; the table of this module lists that of the array.
        unit: the unit of the values: "epochs", "nats", or "1" for a pure number.
        meaning: the meaning of a value, in one line.
        categories: all values of a `category` column, in order.
        methods: the methods of a sweep that can fill the column; a row filled by another method
            has a null.

    Raises:
        ValueError: the type is unknown, or the categories are invalid.
    """

    name: str
    dtype: Dtype
    unit: str
    meaning: str
    categories: tuple[str, ...] = ()
    methods: tuple[str, ...] = dataclasses.field(default=("simulate",), compare=False)

    def __post_init__(self) -> None:
        """Refuse a type or categories that no array can hold."""
        reason = self._why_not()
        if reason:
            raise ValueError(f"column {self.name!r}: {reason}")

    def _why_not(self) -> str | None:
        listed = self.categories
        if self.dtype not in _NUMPY:
            return f"dtype = {self.dtype!r}: must be one of {', '.join(_NUMPY)}"
        if not isinstance(listed, tuple) or not all(isinstance(name, str) for name in listed):
            return f"categories = {listed!r}: must be a tuple of strings"
        if bool(listed) != (self.dtype == "category"):
            return (
                f"categories = {listed!r} with dtype = {self.dtype!r}: a category column, and no "
                "other, has categories"
            )
        if len(set(listed)) != len(listed):
            return f"categories = {listed!r}: a category is listed twice"
        if len(listed) > _MAX_CATEGORIES:
            return f"has {len(listed)} categories; must have at most {_MAX_CATEGORIES} (int8)"
        return None

    @property
    def numpy_dtype(self) -> np.dtype:
        """Return the dtype of the array of this column in a chunk of results."""
        return np.dtype(_NUMPY[self.dtype])

    def nulls(self, rows: int) -> np.ndarray:
        """Return an array of `rows` nulls, or of zeros for a column without nulls."""
        if self.dtype == "Int64":
            return np.ma.masked_all(rows, np.int64)
        missing = {"float64": np.nan, "category": -1}.get(self.dtype, 0)
        return np.full(rows, missing, self.numpy_dtype)

    def to_dict(self) -> dict[str, Any]:
        """Return the column as JSON-ready data."""
        words = {**dataclasses.asdict(self), "categories": list(self.categories)}
        del words["methods"]
        return words

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Column":
        """Return the column that `to_dict` described."""
        return cls(**{**data, "categories": tuple(data["categories"])})


PREDICTION = Column(
    "predicted_epochs",
    "float64",
    "epochs",
    "length of the plateau by theory; NaN where none applies",
)
UNCERTAIN = Column(
    "uncertain",
    "bool",
    "1",
    "whether uncompensated rounding may have shifted a crossing by more than one epoch",
)


def check(columns: Sequence[Column], arrays: Mapping[str, np.ndarray], rows: int) -> None:
    """Refuse arrays that are not exactly those of `columns`, each of its dtype and `rows` long.

    Raises:
        ValueError: naming every invalid column.
    """
    names = [column.name for column in columns]
    faults = [f"{name}: missing" for name in names if name not in arrays]
    faults += [f"{name}: not a column" for name in arrays if name not in names]
    for column in columns:
        array = arrays.get(column.name)
        if array is None:
            continue
        if array.dtype != column.numpy_dtype or array.shape != (rows,):
            faults.append(
                f"{column.name}: {array.dtype} of shape {array.shape}, "
                f"expected {column.numpy_dtype} of shape ({rows},)"
            )
        elif column.dtype == "category" and np.any(
            (array < -1) | (array >= len(column.categories))
        ):
            faults.append(f"{column.name}: a code outside -1..{len(column.categories) - 1}")
    if faults:
        raise ValueError("results do not fit their columns: " + "; ".join(faults))


def _are_codes(codes: np.ndarray, count: int) -> bool:
    return not codes.size or bool(codes.min() >= -1 and codes.max() < count)


def allocate(columns: Sequence[Column], rows: int) -> Arrays:
    """Return arrays of `rows` rows with arbitrary values, to be filled by `put`.

    This joins the chunks of a table without a second copy.
    """
    empty = {column.name: np.empty(rows, column.numpy_dtype) for column in columns}
    masked = {
        c.name: np.ma.MaskedArray(empty[c.name], False) for c in columns if c.dtype == "Int64"
    }
    return {**empty, **masked}


def put(into: Arrays, at: slice | np.ndarray, rows: Mapping[str, np.ndarray]) -> None:
    """Copy rows, including nulls, to places given by a slice, a mask or indices.

    Columns that are not in `rows` do not change. Several threads may call this function at once
    if their places do not overlap.
    """
    for name, part in rows.items():
        whole = into[name]
        if isinstance(whole, np.ma.MaskedArray):
            # Assigning to the masked array itself is many times slower.
            whole.data[at] = np.ma.getdata(part)
            np.ma.getmaskarray(whole)[at] = np.ma.getmaskarray(part)
        else:
            whole[at] = part


def digest(columns: Sequence[Column], arrays: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 of the rows, which does not depend on the file or machine that holds them.

    The digest covers names, types and categories in order, every value in little-endian bytes,
    and the positions of nulls. It does not cover the number under a null and the payload of a
    NaN, which the table does not show. Zero and minus zero differ.
    """
    sha = hashlib.sha256()
    for column in columns:
        header = [column.name, column.dtype, list(column.categories), len(arrays[column.name])]
        sha.update(json.dumps(header).encode())
        for part in _canonical(column, arrays[column.name]):
            sha.update(part.data)
    return sha.hexdigest()


def _canonical(column: Column, array: np.ndarray) -> list[np.ndarray]:
    """Return the arrays whose bytes represent a column in `digest`."""
    little = column.numpy_dtype.newbyteorder("<")
    if column.dtype == "Int64":
        mask = np.ascontiguousarray(np.ma.getmaskarray(array))
        data = np.ma.getdata(array)
        return [np.where(mask, 0, data).astype(little, copy=False), mask]
    values = np.ascontiguousarray(array, little)
    if column.dtype == "float64":
        nan = np.isnan(values)
        if nan.any():
            values = np.where(nan, np.nan, values).astype(little, copy=False)
    return [values]


def to_arrow(
    columns: Sequence[Column],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> pa.Table:
    """Return the rows as an Arrow table, which shares the memory of `arrays` except for null bits.

    Args:
        columns: the columns, in the table's order.
        arrays: one array per column, each of shape (rows,).
        metadata: additional entries of the schema's metadata. The pandas entry, by which
            `pandas.read_parquet` restores Int64, categories and a RangeIndex, is always there.

    Returns:
        The table. The metadata of each field contain the unit and the meaning of its column.
    """
    return pa.table(
        [_to_arrow(column, arrays[column.name]) for column in columns],
        schema=schema(columns, metadata),
    )


def schema(columns: Sequence[Column], metadata: Mapping[str, str] | None = None) -> pa.Schema:
    """Return the Arrow schema of a table of `columns`; see `to_arrow`."""
    return pa.schema(
        [_field(column) for column in columns],
        metadata={"pandas": _pandas_metadata(columns), **(metadata or {})},
    )


def _arrow_type(column: Column) -> pa.DataType:
    if column.dtype == "category":
        return pa.dictionary(pa.int8(), pa.string())
    return pa.from_numpy_dtype(column.numpy_dtype)


def _field(column: Column) -> pa.Field:
    return pa.field(
        column.name,
        _arrow_type(column),
        nullable=column.dtype in ("Int64", "category"),
        metadata={"unit": column.unit, "meaning": column.meaning},
    )


def _to_arrow(column: Column, array: np.ndarray) -> pa.Array:
    if column.dtype == "category":
        codes = pa.array(array, mask=array < 0)
        return pa.DictionaryArray.from_arrays(codes, pa.array(column.categories, pa.string()))
    if column.dtype == "Int64":
        return pa.array(np.ma.getdata(array), mask=np.ma.getmaskarray(array))
    return pa.array(array)


def _pandas_metadata(columns: Sequence[Column]) -> str:
    """Return the "pandas" entry of the schema's metadata.

    Without index columns pandas makes a RangeIndex.
    See https://pandas.pydata.org/docs/development/developer.html.
    """
    entry = {
        "index_columns": [],
        "column_indexes": [],
        "columns": [_pandas_column(column) for column in columns],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": pd.__version__,
    }
    return json.dumps(entry)


def _pandas_column(column: Column) -> dict[str, Any]:
    plain, category = column.numpy_dtype.name, column.dtype == "category"
    return {
        "name": column.name,
        "field_name": column.name,
        "pandas_type": "categorical" if category else plain,
        "numpy_type": column.dtype if column.dtype == "Int64" else plain,
        "metadata": {"num_categories": len(column.categories), "ordered": False}
        if category
        else None,
    }


def from_arrow(columns: Sequence[Column], table: pa.Table) -> Arrays:
    """Return the arrays of `columns` in an Arrow table such as `to_arrow` returns.

    Raises:
        ValueError: a column is missing, has another type, or contains an unknown category.
    """
    return {column.name: _from_arrow(column, table) for column in columns}


def _from_arrow(column: Column, table: pa.Table) -> np.ndarray:
    if column.name not in table.column_names:
        raise ValueError(f"column {column.name!r} is missing")
    chunked = table.column(column.name)
    if column.dtype == "category":
        return _codes(column, chunked)
    if chunked.type != _arrow_type(column):
        raise ValueError(f"column {column.name!r} is {chunked.type}, not {column.dtype}")
    if column.dtype == "Int64":
        mask = chunked.is_null().to_numpy()
        return np.ma.MaskedArray(chunked.fill_null(0).to_numpy(), mask=mask)
    if chunked.null_count:
        raise ValueError(f"column {column.name!r} holds nulls, which {column.dtype} cannot")
    return chunked.to_numpy()


def _codes(column: Column, chunked: pa.ChunkedArray) -> np.ndarray:
    """Return indices of `column.categories`, for any dictionary of the file."""
    if not pa.types.is_dictionary(chunked.type):
        raise ValueError(f"column {column.name!r} is {chunked.type}, not category")
    chunked.validate(full=True)  # codes of a damaged file may exceed its dictionary
    array = chunked.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], chunked.type)
    known = {category: code for code, category in enumerate(column.categories)}
    values = array.dictionary.to_pylist()
    unknown = [value for value in values if value not in known]
    if unknown:
        raise ValueError(f"column {column.name!r} holds unknown categories {unknown}")
    # The last entry is the code of a null, whose index is -1.
    codes = np.array([known[value] for value in values] + [-1], np.int8)
    return codes[array.indices.fill_null(-1).to_numpy()]


def frame(columns: Sequence[Column], arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the rows as a pandas table, which shares the memory of `arrays`.

    Args:
        columns: the columns, in the table's order.
        arrays: one array per column, each of shape (rows,).

    Returns:
        A DataFrame with a RangeIndex and the dtype of each column: nullable Int64, unordered
        category with all categories, float64, int32, bool.
    """
    data = {column.name: _to_pandas(column, arrays[column.name]) for column in columns}
    return pd.DataFrame(data, columns=[column.name for column in columns], copy=False)


def _to_pandas(column: Column, array: np.ndarray) -> Any:
    if column.dtype == "category":
        dtype = pd.CategoricalDtype(list(column.categories))
        return pd.Categorical.from_codes(array, dtype=dtype)
    if column.dtype == "Int64":
        return pd.arrays.IntegerArray(np.ma.getdata(array), np.ma.getmaskarray(array))
    return array


def empty(columns: Sequence[Column]) -> pd.DataFrame:
    """Return the pandas table of `columns` without rows."""
    return frame(columns, allocate(columns, 0))
