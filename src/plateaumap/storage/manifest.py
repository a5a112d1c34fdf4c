"""The manifest of a folder of results: what was asked, how it was cut, what is there.

`manifest.json` is one JSON object, one field a line. A field's truth is, for the parts, in the
parts: each carries the content hash of its rows in its own schema metadata, and the manifest
repeats it, beside the hash and size of the file. A part that a killed run had written but not yet
listed is checked against its own hash and then listed.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from plateaumap.storage.errors import DamagedManifestError, StorageError
from plateaumap.storage.files import write_atomic
from plateaumap.storage.space import estimate_bytes
from plateaumap.sweep.chunks import Plan
from plateaumap.table.columns import Column

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class PartEntry:
    """What the manifest says about one part.

    Attributes:
        part: its number, which is its chunk's.
        file: its path in the folder.
        first_row: the row of the whole table that its first row is.
        rows: how many rows.
        sha256: the content hash of its rows (`plateaumap.table.columns.digest`).
        file_sha256: the hash of the file, by which any flipped byte shows.
        bytes: the size of the file.
    """

    part: int
    file: str
    first_row: int
    rows: int
    sha256: str
    file_sha256: str
    bytes: int


@dataclasses.dataclass
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        spec: the sweep as data.
        fingerprint: the identity of the sweep.
        plan: how its rows are cut into parts.
        columns: the table's columns, with unit, meaning and categories.
        provenance: versions, precision, platform, git commit, UTC time and what else the run
            that made the folder told.
        parts: the parts known to be whole, by number.
        resumed: provenance of later runs, where it differs from those before.
        failures: messages of chunks that failed, by number.
    """

    spec: dict[str, Any]
    fingerprint: str
    plan: Plan
    columns: tuple[Column, ...]
    provenance: dict[str, Any]
    parts: dict[int, PartEntry] = dataclasses.field(default_factory=dict)
    resumed: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    failures: dict[int, str] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def spec_text(self) -> str:
        """The spec as one line of JSON."""
        return canonical(self.spec)

    def expected_bytes(self, chunks: Iterable[int]) -> int:
        """About how many bytes the parts of these chunks take.

        From the parts that are listed, if any; else by `estimate_bytes`.
        """
        wanted = [self.plan[index] for index in chunks]
        rows = sum(chunk.rows for chunk in wanted)
        if not self.parts:
            return estimate_bytes(self.columns, rows, len(wanted))
        written = sum(entry.bytes for entry in self.parts.values())
        return -(-rows * written // sum(entry.rows for entry in self.parts.values()))

    def to_dict(self) -> dict[str, Any]:
        """The object that `manifest.json` holds, all but its checksum."""
        return {
            "format_version": FORMAT_VERSION,
            "fingerprint": self.fingerprint,
            "spec": self.spec,
            "provenance": self.provenance,
            "plan": self.plan.to_dict(),
            "columns": [column.to_dict() for column in self.columns],
            "resumed": self.resumed,
            "failures": [
                {"chunk": chunk, "message": self.failures[chunk]} for chunk in sorted(self.failures)
            ],
            "complete": len(self.parts) == len(self.plan),
            "parts": [dataclasses.asdict(self.parts[part]) for part in sorted(self.parts)],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Manifest":
        """The manifest that `to_dict` described."""
        plan = Plan.from_dict(data["plan"])
        parts = [PartEntry(**entry) for entry in data["parts"]]
        if not all(0 <= entry.part < len(plan) for entry in parts):
            raise ValueError("it lists a part that is not in the plan")
        return cls(
            spec=dict(data["spec"]),
            fingerprint=str(data["fingerprint"]),
            plan=plan,
            columns=tuple(Column.from_dict(column) for column in data["columns"]),
            provenance=dict(data["provenance"]),
            parts={entry.part: entry for entry in parts},
            resumed=list(data["resumed"]),
            failures={int(entry["chunk"]): str(entry["message"]) for entry in data["failures"]},
        )

    def save(self, folder: Path) -> None:
        """Writes `manifest.json` into `folder`, whole or not at all.

        Raises:
            OSError: the disk is full or not writable.
        """
        data = self.to_dict()
        write_atomic(folder / MANIFEST, _pretty({**data, "checksum": checksum(data)}).encode())


def checksum(data: Mapping[str, Any]) -> str:
    """The sha256 of a manifest's fields other than `checksum`."""
    fields = {name: value for name, value in data.items() if name != "checksum"}
    return hashlib.sha256(canonical(fields).encode()).hexdigest()


def canonical(data: Any) -> str:
    """The one JSON text of `data`: sorted keys, no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _pretty(data: Mapping[str, Any]) -> str:
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in data.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_manifest(folder: Path) -> tuple[Manifest, dict[str, Any]]:
    """The manifest of a folder of results, and the JSON object that it was read from.

    Raises:
        StorageError: there is no such folder, no results in it, or a newer format.
        DamagedManifestError: the manifest is there but not whole.
    """
    path = folder / MANIFEST
    if not folder.exists():
        raise StorageError(f"{folder} does not exist")
    if not folder.is_dir():
        raise StorageError(f"{folder} is a file, not a folder of results")
    if not path.exists():
        raise StorageError(f"{folder} is no folder of results: it holds no {MANIFEST}")
    data = _read_object(path)
    _check_version(path, data.get("format_version"))
    try:
        return Manifest.from_dict(data), data
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedManifestError(
            f"{path} is damaged or no manifest of a sweep ({type(error).__name__}: {error})"
        ) from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedManifestError(f"{path} is damaged: it is no JSON ({error})") from error
    if not isinstance(data, dict):
        raise DamagedManifestError(f"{path} is damaged: it holds no JSON object")
    return data


def _check_version(path: Path, version: Any) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DamagedManifestError(
            f"{path} is damaged or no manifest of a sweep: no format_version"
        )
    if version > FORMAT_VERSION:
        raise StorageError(
            f"{path} has format version {version}; this plateaumap reads up to "
            f"{FORMAT_VERSION}: install a newer one"
        )


_MOST_DIFFERENCES = 12


def describe_difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The fields in which two specs differ, one a line: `horizon: 100000 there, 5000 here`.

    The name is left out, since it is no part of a sweep's identity.
    """
    found = list(_differences({**there, "name": None}, {**here, "name": None}, ""))
    lines = [f"  {line}" for line in found[:_MOST_DIFFERENCES]]
    if len(found) > _MOST_DIFFERENCES:
        lines.append(f"  and {len(found) - _MOST_DIFFERENCES} more")
    return "\n".join(lines)


_ABSENT = object()


def _differences(there: Any, here: Any, path: str) -> Iterator[str]:
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        differing = [
            name
            for name in dict.fromkeys([*there, *here])
            if there.get(name, _ABSENT) != here.get(name, _ABSENT)
        ]
        if len(differing) > 1 and "num" in there and "num" in here:
            # The values of a generated axis follow from its other fields.
            differing = [name for name in differing if name != "values"]
        for name in differing:
            place = f"{path}.{name}" if path else str(name)
            yield from _differences(there.get(name, _ABSENT), here.get(name, _ABSENT), place)
    elif _are_objects(there) and _are_objects(here):
        for index in range(max(len(there), len(here))):
            one, other = (part[index] if index < len(part) else _ABSENT for part in (there, here))
            if one != other:
                yield from _differences(one, other, f"{path}.{_label(one, other, index)}")
    else:
        yield f"{path}: {_show(there)} there, {_show(here)} here"


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _label(there: Any, here: Any, index: int) -> str:
    """The name that both objects bear, or their place in the list."""
    names = [item.get("name") for item in (there, here) if isinstance(item, Mapping)]
    return str(names[0]) if names and names[0] and len(set(names)) == 1 else str(index)


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, list) and len(value) > 6:
        ends = ", ".join(json.dumps(item) for item in value[:3])
        return f"[{ends}, …, {json.dumps(value[-1])}] ({len(value)} values)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
