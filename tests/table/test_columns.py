from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plateaumap.table import columns as table
from plateaumap.table.columns import Arrays, Column

COLUMNS = (
    Column("loss", "category", "1", "the loss", ("quadratic", "cross_entropy")),
    Column("w0", "float64", "1", "initial weight"),
    Column("w0_index", "int32", "1", "position on its axis"),
    Column("plateau_epochs", "Int64", "epochs", "length of the plateau"),
    Column("path", "category", "1", "how it went", ("overshoot", "oscillating", "rebound")),
    Column("odd", "bool", "1", "whether it is odd"),
)
BIG = [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]


def make(rows: int = 1000, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    epochs = random.integers(-(2**63), 2**63 - 1, rows)
    epochs[: min(rows, 4)] = BIG[: min(rows, 4)]
    null = random.random(rows) < 0.3
    null[:4] = False
    w0 = random.normal(size=rows)
    w0[random.random(rows) < 0.1] = np.nan
    return {
        "loss": random.integers(0, 2, rows).astype(np.int8),
        "w0": w0,
        "w0_index": random.integers(-(2**31), 2**31 - 1, rows).astype(np.int32),
        "plateau_epochs": np.ma.MaskedArray(epochs, mask=null),
        "path": np.full(rows, -1, np.int8),
        "odd": random.random(rows) < 0.5,
    }


def expected_frame(arrays: Arrays) -> pd.DataFrame:
    """The table built value by value, without a function of ours."""
    loss, path = COLUMNS[0].categories, COLUMNS[4].categories
    epochs = arrays["plateau_epochs"]
    return pd.DataFrame(
        {
            "loss": pd.Categorical([loss[i] for i in arrays["loss"]], categories=list(loss)),
            "w0": [float(v) for v in arrays["w0"]],
            "w0_index": pd.Series(arrays["w0_index"].tolist(), dtype="int32"),
            "plateau_epochs": pd.array(
                [None if m else int(v) for v, m in zip(epochs.data, epochs.mask, strict=True)],
                dtype="Int64",
            ),
            "path": pd.Categorical([None] * len(arrays["path"]), categories=list(path)),
            "odd": [bool(v) for v in arrays["odd"]],
        }
    )


def test_frame_has_the_dtypes_the_values_and_no_copy() -> None:
    arrays = make()
    frame = table.frame(COLUMNS, arrays)
    pd.testing.assert_frame_equal(frame, expected_frame(arrays))
    assert isinstance(frame.index, pd.RangeIndex)
    assert frame["plateau_epochs"][:4].tolist() == BIG
    assert np.shares_memory(frame["w0"].to_numpy(), arrays["w0"])


@pytest.mark.parametrize("rows", [1, 1000])
def test_parquet_read_by_pandas_and_by_arrow_is_exact(tmp_path: Path, rows: int) -> None:
    arrays = make(rows)
    pq.write_table(table.to_arrow(COLUMNS, arrays, {"spec": "{}"}), tmp_path / "x.parquet")
    frame = pd.read_parquet(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(frame, expected_frame(arrays))
    assert isinstance(frame.index, pd.RangeIndex)
    plain = pq.read_table(tmp_path / "x.parquet")
    assert plain["plateau_epochs"].type == pa.int64()
    assert plain["plateau_epochs"].to_pylist() == arrays["plateau_epochs"].tolist()
    assert plain["w0"].null_count == 0
    assert plain.schema.metadata[b"spec"] == b"{}"
    field = plain.schema.field("plateau_epochs")
    assert field.metadata == {b"unit": b"epochs", b"meaning": b"length of the plateau"}
    back = table.from_arrow(COLUMNS, plain)
    table.check(COLUMNS, back, rows)
    assert table.digest(COLUMNS, back) == table.digest(COLUMNS, arrays)


def test_to_arrow_shares_memory() -> None:
    arrays = make()
    arrow = table.to_arrow(COLUMNS, arrays)
    for name in ("w0", "w0_index", "plateau_epochs"):
        address = arrow[name].chunk(0).buffers()[1].address
        assert address == np.ma.getdata(arrays[name]).ctypes.data, name


def test_chunks_placed_in_any_order_make_the_whole() -> None:
    arrays = make(100)
    cuts = [(60, 100), (0, 7), (7, 60)]
    whole = table.allocate(COLUMNS, 100)
    for start, stop in cuts:
        some = slice(start, stop)
        table.put(whole, some, {name: array[some] for name, array in arrays.items()})
    pd.testing.assert_frame_equal(table.frame(COLUMNS, whole), expected_frame(arrays))


def test_integers_without_a_mask_are_taken_as_they_are() -> None:
    arrays = {**make(5), "plateau_epochs": np.arange(5)}
    table.check(COLUMNS, arrays, 5)
    for values in (
        table.frame(COLUMNS, arrays)["plateau_epochs"].tolist(),
        table.to_arrow(COLUMNS, arrays)["plateau_epochs"].to_pylist(),
    ):
        assert values == [0, 1, 2, 3, 4]


def test_dictionaries_in_another_order_are_read_by_value() -> None:
    column = COLUMNS[0]
    chunks = [
        pa.DictionaryArray.from_arrays(pa.array([1, None, 0]), ["cross_entropy", "quadratic"]),
        pa.DictionaryArray.from_arrays(pa.array([0]), ["quadratic"]),
    ]
    read = table.from_arrow([column], pa.table({"loss": pa.chunked_array(chunks)}))
    assert read["loss"].tolist() == [0, -1, 1, 0]


def _with(name: str, position: int, value: object) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name][position] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _with("w0", 5, 1e-300),
        _with("w0_index", 0, 7),
        _with("plateau_epochs", 2, 2**63 - 2),
        _with("plateau_epochs", 0, np.ma.masked),
        _with("path", 999, 0),
        _with("loss", 1, 1),
        lambda arrays: arrays["odd"].__setitem__(3, not arrays["odd"][3]),
    ],
)
def test_every_change_of_a_value_changes_the_digest(change: Callable[[Arrays], None]) -> None:
    before, arrays = make(), make()
    before["loss"][1] = arrays["loss"][1] = 0
    change(arrays)
    assert table.digest(COLUMNS, arrays) != table.digest(COLUMNS, before)


def test_the_digest_tells_signs_of_zero_and_order_but_nothing_invisible() -> None:
    column = [COLUMNS[1]]
    of = lambda *values: table.digest(column, {"w0": np.array(values)})  # noqa: E731
    assert of(0.0) != of(-0.0)
    assert of(1.0, 2.0) != of(2.0, 1.0)
    payload = np.array([0x7FF8000000000001]).view(np.float64)[0]
    assert of(payload, -np.nan) == of(np.nan, np.nan)
    null = [np.ma.MaskedArray([1, value], mask=[False, True]) for value in (5, 6)]
    integer = [COLUMNS[3]]
    assert len({table.digest(integer, {"plateau_epochs": array}) for array in null}) == 1


def test_the_digest_covers_names_types_and_categories() -> None:
    codes = np.zeros(3, np.int8)
    variants = [
        Column("a", "category", "1", "", ("x", "y")),
        Column("b", "category", "1", "", ("x", "y")),
        Column("a", "category", "1", "", ("y", "x")),
    ]
    digests = {table.digest([column], {column.name: codes}) for column in variants}
    assert len(digests) == 3
    # Two columns cannot be mistaken for one of their joint length.
    one = table.digest([Column("a", "bool", "1", "")], {"a": np.zeros(2, bool)})
    two = table.digest(
        [Column("a", "bool", "1", ""), Column("b", "bool", "1", "")],
        {"a": np.zeros(1, bool), "b": np.zeros(1, bool)},
    )
    assert one != two


def test_check_names_every_fault() -> None:
    arrays = make(10)
    del arrays["odd"]
    arrays["extra"] = np.zeros(10)
    arrays["w0"] = arrays["w0"].astype(np.float32)
    arrays["w0_index"] = arrays["w0_index"][:9]
    arrays["path"][0] = 3
    with pytest.raises(ValueError, match="results do not fit their columns") as caught:
        table.check(COLUMNS, arrays, 10)
    assert str(caught.value).removeprefix("results do not fit their columns: ").split("; ") == [
        "odd: missing",
        "extra: not a column",
        "w0: float32 of shape (10,), expected float64 of shape (10,)",
        "w0_index: int32 of shape (9,), expected int32 of shape (10,)",
        "path: a code outside -1..2",
    ]


@pytest.mark.parametrize(
    ("arrow", "message"),
    [
        (pa.table({"other": [1.0]}), "column 'w0' is missing"),
        (pa.table({"w0": [1]}), "column 'w0' is int64, not float64"),
        (pa.table({"w0": [1.0, None]}), "column 'w0' holds nulls, which float64 cannot"),
    ],
)
def test_arrow_tables_that_do_not_fit_are_refused(arrow: pa.Table, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table.from_arrow([COLUMNS[1]], arrow)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array(["a"]), "column 'loss' is string, not category"),
        (
            pa.array(["quadratic", "cubic"]).dictionary_encode(),
            r"column 'loss' holds unknown categories \['cubic'\]",
        ),
        (
            pa.DictionaryArray.from_arrays(pa.array([1]), pa.array(["quadratic"]), safe=False),
            "out of bounds",
        ),
    ],
)
def test_categories_that_are_none_are_refused(values: pa.Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table.from_arrow([COLUMNS[0]], pa.table({"loss": values}))


@pytest.mark.parametrize(
    ("dtype", "categories", "message"),
    [
        ("float32", (), "dtype = 'float32': must be one of float64, Int64, int32, category, bool"),
        ("float64", ("a",), "a category column, and no other, has categories"),
        ("category", (), "a category column, and no other, has categories"),
        ("category", ("a", "a"), "a category is listed twice"),
        ("category", tuple(map(str, range(129))), "129 categories; must have at most 128"),
    ],
)
def test_impossible_columns_are_refused(dtype: str, categories: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Column("a", dtype, "1", "", categories)  # type: ignore[arg-type]


def test_a_column_survives_its_dictionary() -> None:
    for column in COLUMNS:
        assert Column.from_dict(column.to_dict()) == column


def test_empty_has_every_dtype() -> None:
    empty = table.empty(COLUMNS)
    pd.testing.assert_series_equal(empty.dtypes, expected_frame(make(3)).dtypes)
    assert len(empty) == 0


def test_no_rows_survive_arrow() -> None:
    arrays = make(0)
    back = table.from_arrow(COLUMNS, table.to_arrow(COLUMNS, arrays))
    table.check(COLUMNS, back, 0)
