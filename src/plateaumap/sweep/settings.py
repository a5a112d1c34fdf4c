"""Changes to a spec as a user types them: `axes.w0.num=65`, `fixed.y=0.3`, `horizon=5000`."""

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from plateaumap.inputs.errors import Fault, PlateaumapError, SpecError, advice
from plateaumap.sweep.axes import KINDS

_TOML_TYPES = (bool, int, float, str, list, dict)


def parse_setting(text: str) -> tuple[str, Any]:
    """Reads `NAME=VALUE`, the value in TOML; else it is taken as a number, or as a string.

    Raises:
        PlateaumapError: without `=` or without a name.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise PlateaumapError(f"{text!r} is no setting; write NAME=VALUE, such as horizon=5000")
    return name.strip(), _parse_value(value.strip())


def _parse_value(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return _number_or_text(text)
    value = document.pop("value")
    return value if not document and isinstance(value, _TOML_TYPES) else text


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def apply_settings(fields: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Changes the fields of a spec.

    Args:
        fields: all fields; `axes` and `fixed` in the words of JSON.
        settings: new values by path: a field's name, `axes.COORDINATE.SETTING`,
            `fixed.COORDINATE` or `experiment.SETTING`.

    Returns:
        The fields as changed, not yet validated. Values that follow from an axis's settings are
        left out where one of these changed.

    Raises:
        SpecError: for every path that leads nowhere.
    """
    changed = {**fields, "axes": [dict(axis) for axis in fields["axes"]]}
    faults: list[Fault] = []
    for path, value in settings.items():
        try:
            _apply(changed, path, value)
        except PlateaumapError as error:
            faults.append(Fault(path, str(error)))
    if faults:
        raise SpecError(faults, subject="the settings")
    return changed


def _apply(fields: dict[str, Any], path: str, value: Any) -> None:
    root, *rest = path.split(".")
    if root not in fields:
        raise PlateaumapError(f"unknown setting {root!r}; {advice(root, fields)}")
    if not rest:
        fields[root] = value
    elif root == "axes" and len(rest) == 2:
        _edit_axis(fields["axes"], rest[0], rest[1], value)
    elif root == "fixed" and len(rest) == 1:
        fields[root] = {**fields[root], rest[0]: value}
    elif root == "experiment" and len(rest) == 1:
        fields[root] = _replaced(fields[root], rest[0], value)
    else:
        raise PlateaumapError(
            f"{path!r} is no setting; write a field's name, axes.COORDINATE.SETTING, "
            "fixed.COORDINATE or experiment.SETTING"
        )


def _replaced(experiment: Any, setting: str, value: Any) -> Any:
    known = [f.name for f in dataclasses.fields(experiment)] if _has_fields(experiment) else []
    if setting not in known:
        raise PlateaumapError(
            f"the experiment has no setting {setting!r}; {advice(setting, known)}"
        )
    return dataclasses.replace(experiment, **{setting: value})


def _has_fields(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _edit_axis(axes: Any, coordinate: str, setting: str, value: Any) -> None:
    holders = {name: axis for axis in axes for name, axis in _holders(axis)}
    if coordinate not in holders:
        raise PlateaumapError(f"no axis holds {coordinate!r}; {advice(coordinate, holders)}")
    axis = holders[coordinate]
    known = KINDS[axis["kind"]].settings
    if setting not in known:
        raise PlateaumapError(
            f"the {axis['kind']} axis of {coordinate!r} has no setting {setting!r}; "
            f"{advice(setting, known)}"
        )
    axis[setting] = value
    if "values" not in known:
        axis.pop("values", None)


def _holders(axis: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each coordinate on an axis with the innermost axis that holds it."""
    if "axes" in axis:
        for part in axis["axes"]:
            yield from _holders(part)
    else:
        for name in [axis["name"]] if "name" in axis else axis["values"]:
            yield name, axis
