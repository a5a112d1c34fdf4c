"""The manifest of a folder of results: the spec, the chunk plan, and the stored parts.

`manifest.json` is one JSON object, one field a line. The parts are the source of truth: each
carries the content hash of its rows in its own schema metadata, and the manifest repeats that hash,
beside the hash and size of the file. A part that a killed run had written but not yet listed is
compared with its own hash and then listed.
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
    """The manifest's entry for one part.

    Attributes:
        part: the number of the part and of its chunk.
        file: the path in the folder.
        first_row: the position of the part's first row in the whole table.
        rows: the number of rows.
        sha256: the content hash of the rows (`plateaumap.table.columns.digest`).
        file_sha256: the hash of the file, which reveals any flipped byte.
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
        plan: how its rows are divided into parts.
        columns: the table's columns, with unit, meaning and categories.
        provenance: versions, precision, platform, git commit, UTC time and more of the run that
            created the folder.
        parts: the parts known to be whole, by number.
        resumed: the provenance of later runs that differ from those before.
        failures: the messages of failed chunks, by number.
        rebuilt: whether the manifest was damaged or lost, and was rebuilt from the parts.
    """

    spec: dict[str, Any]
    fingerprint: str
    plan: Plan
    columns: tuple[Column, ...]
    provenance: dict[str, Any]
    parts: dict[int, PartEntry] = dataclasses.field(default_factory=dict)
    resumed: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    failures: dict[int, str] = dataclasses.field(default_factory=dict)
    rebuilt: bool = False

    @functools.cached_property
    def spec_text(self) -> str:
        """Return the spec as one line of JSON."""
        return canonical(self.spec)

    def expected_bytes(self, chunks: Iterable[int]) -> int:
        """Return about how many bytes the parts of some chunks take.

        The estimate follows the listed parts, or `estimate_bytes` if there are none.
        """
        rows = [self.plan[index].rows for index in chunks]
        if not self.parts:
            return estimate_bytes(self.columns, sum(rows), len(rows))
        written = sum(entry.bytes for entry in self.parts.values())
        return -(-sum(rows) * written // sum(entry.rows for entry in self.parts.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `manifest.json`, without its checksum."""
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
        """Return the manifest of a JSON object that `to_dict` returned."""
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
        """Write `manifest.json` into a folder, whole or not at all.

        Raises:
            OSError: the disk is full or not writable.
        """
        data = self.to_dict()
        write_atomic(folder / MANIFEST, _pretty({**data, "checksum": checksum(data)}).encode())


def checksum(data: Mapping[str, Any]) -> str:
    """Return the sha256 of a manifest's fields other than `checksum`."""
    fields = {name: value for name, value in data.items() if name != "checksum"}
    return hashlib.sha256(canonical(fields).encode()).hexdigest()


def canonical(data: Any) -> str:
    """Return the canonical JSON text of some data: sorted keys, no spaces."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _pretty(data: Mapping[str, Any]) -> str:
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in data.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_manifest(folder: Path) -> tuple[Manifest, dict[str, Any]]:
    """Return the manifest of a folder of results, and the JSON object that it was read from.

    Raises:
        StorageError: the folder does not exist, holds no results, or has a newer format.
        DamagedManifestError: the manifest exists but is not whole.
    """
    path = folder / MANIFEST
    if not folder.exists():
        raise StorageError(f"{folder} does not exist")
    if not folder.is_dir():
        raise StorageError(f"{folder} is a file, not a folder of results")
    if not path.exists():
        raise StorageError(f"{folder} is not a folder of results: it holds no {MANIFEST}")
    data = _read_object(path)
    _check_version(path, data.get("format_version"))
    try:
        return Manifest.from_dict(data), data
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedManifestError(
            f"{path} is damaged or not the manifest of a sweep ({type(error).__name__}: {error})"
        ) from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedManifestError(f"{path} is damaged: not valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise DamagedManifestError(f"{path} is damaged: not a JSON object")
    return data


def _check_version(path: Path, version: Any) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise DamagedManifestError(
            f"{path} is damaged or not the manifest of a sweep: no format_version"
        )
    if version > FORMAT_VERSION:
        raise StorageError(
            f"{path} has format version {version}, and this plateaumap reads versions up to "
            f"{FORMAT_VERSION}; install a newer plateaumap"
        )


_MOST_DIFFERENCES = 12


def describe_difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return the fields in which two specs differ, one a line.

    A line reads `horizon: 100000 there, 5000 here`. The name is omitted, because it is not part of
    a sweep's identity.
    """
    differences = list(_differences({**there, "name": None}, {**here, "name": None}, ""))
    lines = [f"  {line}" for line in differences[:_MOST_DIFFERENCES]]
    if len(differences) > _MOST_DIFFERENCES:
        lines.append(f"  and {len(differences) - _MOST_DIFFERENCES} more")
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
    """Return the name that both objects have, or their place in the list."""
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
