"""One part of a table: the rows of a chunk as one Parquet file that describes itself.

The schema's metadata holds, beside the pandas entry, `spec` (JSON), `fingerprint`,
`format_version`, `plan` (JSON), `part`, `first_row`, `rows` and `sha256`, the content hash
of the rows. A file holds no time and no name of a machine: the same rows give the same bytes.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plateaumap.storage.errors import StorageError
from plateaumap.storage.files import write_atomic
from plateaumap.storage.manifest import FORMAT_VERSION, Manifest, PartEntry, canonical
from plateaumap.sweep.chunks import Chunk, Plan
from plateaumap.table import columns as table
from plateaumap.table.columns import Arrays, Column

PARTS = "parts"

_LONGEST_SPEC = 65_536
"""Characters of the longest spec that every part repeats.

A longer spec would take more bytes than the rows. Only the manifest holds it then, and the
fingerprint still connects the part with it.
"""


def part_name(plan: Plan, index: int) -> str:
    """Return the file name of a part, with enough digits that names sort like rows."""
    digits = max(5, len(str(len(plan) - 1)))
    return f"part-{index:0{digits}d}.parquet"


def part_path(folder: Path, plan: Plan, index: int) -> Path:
    """Return the path of a part."""
    return folder / PARTS / part_name(plan, index)


def present(folder: Path, manifest: Manifest) -> set[int]:
    """Return the numbers of the parts that have a file. The content of the file is not read."""
    try:
        names = {path.name for path in (folder / PARTS).iterdir()}
    except FileNotFoundError:
        return set()
    plan = manifest.plan
    return {index for index in range(len(plan)) if part_name(plan, index) in names}


def write_part(
    folder: Path, manifest: Manifest, chunk: Chunk, arrays: Mapping[str, np.ndarray]
) -> PartEntry:
    """Write the rows of a chunk as a part, whole or not at all, and return its manifest entry.

    Raises:
        ValueError: the arrays do not fit the columns.
        OSError: the disk is full or not writable.
    """
    table.check(manifest.columns, arrays, chunk.rows)
    sha256 = table.digest(manifest.columns, arrays)
    data = _encode(manifest, chunk, arrays, sha256)
    path = part_path(folder, manifest.plan, chunk.index)
    write_atomic(path, data)
    return _entry(path, chunk, sha256, hashlib.sha256(data).hexdigest(), len(data))


def _entry(path: Path, chunk: Chunk, sha256: str, file_sha256: str, size: int) -> PartEntry:
    file = f"{PARTS}/{path.name}"
    return PartEntry(chunk.index, file, chunk.first_row, chunk.rows, sha256, file_sha256, size)


def _encode(
    manifest: Manifest, chunk: Chunk, arrays: Mapping[str, np.ndarray], sha256: str
) -> memoryview:
    metadata = _metadata(manifest, chunk, sha256)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.to_arrow(manifest.columns, arrays, metadata),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    return memoryview(sink.getvalue())


def _metadata(manifest: Manifest, chunk: Chunk, sha256: str) -> dict[str, str]:
    spec = manifest.spec_text
    return {
        **({"spec": spec} if len(spec) <= _LONGEST_SPEC else {}),
        "fingerprint": manifest.fingerprint,
        "format_version": str(FORMAT_VERSION),
        "plan": canonical(manifest.plan.to_dict()),
        "part": str(chunk.index),
        "first_row": str(chunk.first_row),
        "rows": str(chunk.rows),
        "sha256": sha256,
    }


class DamagedPartError(StorageError):
    """A part does not match its place in the sweep; the message names the difference."""


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn every error that a damaged file causes into a `DamagedPartError`."""
    try:
        yield
    except DamagedPartError:
        raise
    except FileNotFoundError:
        raise DamagedPartError(f"{path.name} is missing") from None
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedPartError(f"{path.name} cannot be read: {text}") from error


def check_part(folder: Path, manifest: Manifest, chunk: Chunk) -> str:
    """Read a part's footer, compare it with the manifest, and return its content hash.

    Raises:
        DamagedPartError: the part is missing, truncated, or another part.
    """
    path = part_path(folder, manifest.plan, chunk.index)
    entry = manifest.parts.get(chunk.index)
    with _reading(path):
        size = path.stat().st_size
        if entry is not None and size != entry.bytes:
            raise DamagedPartError(f"{path.name} has {size} bytes, not the {entry.bytes} written")
        with pq.ParquetFile(path) as file:
            return _check_footer(path.name, file, manifest, chunk)


def _check_footer(name: str, file: pq.ParquetFile, manifest: Manifest, chunk: Chunk) -> str:
    actual = _texts(file.schema_arrow.metadata)
    expected = _metadata(manifest, chunk, actual.get("sha256", ""))
    for key, value in expected.items():
        if actual.get(key) != value:
            raise DamagedPartError(
                f"{name} holds another {key.replace('_', ' ')} than the manifest"
            )
    entry = manifest.parts.get(chunk.index)
    if entry is not None and entry.sha256 != expected["sha256"]:
        raise DamagedPartError(f"{name} holds another content hash than the manifest")
    if file.metadata.num_rows != chunk.rows:
        raise DamagedPartError(f"{name} has {file.metadata.num_rows} rows, not {chunk.rows}")
    if not file.schema_arrow.equals(table.schema(manifest.columns)):
        raise DamagedPartError(f"{name} has other columns than the manifest")
    return expected["sha256"]


def _texts(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (metadata or {}).items()}


def check_bytes(folder: Path, manifest: Manifest, chunk: Chunk) -> None:
    """Compare every byte of a listed part with the hash in the manifest.

    Raises:
        DamagedPartError: the part is missing, or a byte differs.
    """
    path = part_path(folder, manifest.plan, chunk.index)
    with _reading(path):
        if _file_sha256(path) != manifest.parts[chunk.index].file_sha256:
            raise DamagedPartError(f"{path.name} is not the file that was written")


def check_rows(folder: Path, manifest: Manifest, chunk: Chunk) -> str:
    """Decode a whole part, compare its rows with its content hash, and return the hash.

    Raises:
        DamagedPartError: the part is missing, unreadable, or holds other rows.
    """
    path = part_path(folder, manifest.plan, chunk.index)
    sha256 = check_part(folder, manifest, chunk)
    with _reading(path):
        arrays = read_part(path, manifest.columns)
        table.check(manifest.columns, arrays, chunk.rows)
        if table.digest(manifest.columns, arrays) != sha256:
            raise DamagedPartError(f"{path.name} holds rows that do not match its content hash")
    return sha256


def read_part(path: Path, columns: Sequence[Column]) -> Arrays:
    """Return some columns of a part; page checksums are verified.

    Raises:
        DamagedPartError: the part is missing or unreadable.
    """
    with _reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        return table.from_arrow(columns, file.read([column.name for column in columns]))


def entry_of(folder: Path, manifest: Manifest, chunk: Chunk) -> PartEntry:
    """Read a whole part that the manifest does not list, and return its manifest entry.

    Raises:
        DamagedPartError: see `check_rows`.
    """
    path = part_path(folder, manifest.plan, chunk.index)
    sha256 = check_rows(folder, manifest, chunk)
    return _entry(path, chunk, sha256, _file_sha256(path), path.stat().st_size)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Identity(NamedTuple):
    """The sweep to which a part belongs; the spec is None if it was too long for a part."""

    fingerprint: str
    plan: Plan
    spec: dict[str, Any] | None


def identity_of(path: Path) -> Identity | None:
    """Return the sweep to which a part belongs, or None if the part cannot be read."""
    try:
        with pq.ParquetFile(path) as file:
            texts = _texts(file.schema_arrow.metadata)
        plan = Plan.from_dict(json.loads(texts["plan"]))
        return Identity(texts["fingerprint"], plan, json.loads(texts.get("spec", "null")))
    except (OSError, ValueError, KeyError, TypeError, MemoryError, pa.ArrowException):
        return None
