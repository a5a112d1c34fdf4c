"""Changes to a specification by paths: `axes.w0.num=65`, `fixed.y=0.3`, `horizon=5000`."""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from plateaumap.inputs.errors import Fault, PlateaumapError, SpecError, advice
from plateaumap.sweep.axes import KINDS

_TOML_TYPES = (bool, int, float, str, list, dict)


def parse_setting(text: str) -> tuple[str, Any]:
    """Return name and value of `NAME=VALUE`, where the value is TOML, a number or plain text.

    Raises:
        PlateaumapError: the text has no `=` or no name.

    Example:
        >>> parse_setting("horizon=5_000"), parse_setting("losses=quadratic")
        (('horizon', 5000), ('losses', 'quadratic'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise PlateaumapError(f"{text!r} is not a setting; write NAME=VALUE, such as horizon=5000")
    return name.strip(), _parse_value(value.strip())


def _parse_value(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        try:
            return float(text)
        except ValueError:
            return text
    value = document.pop("value")
    return value if not document and isinstance(value, _TOML_TYPES) else text


def apply_settings(fields: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a specification with some changed, not yet validated.

    Args:
        fields: all fields; `axes` and `fixed` as JSON holds them.
        settings: new values by path: a field, `axes.COORDINATE.SETTING`, `fixed.COORDINATE` or
            `experiment.SETTING`. Values that follow from a changed setting are omitted.

    Raises:
        SpecError: some paths are unknown.
    """
    changed = dict(fields)
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
    match path.split("."):
        case [field] if field in fields:
            fields[field] = value
        case ["axes", coordinate, setting]:
            _change_axis(fields["axes"], coordinate, setting, value)
        case ["fixed", coordinate]:
            fields["fixed"] = {**fields["fixed"], coordinate: value}
        case ["experiment", setting]:
            fields["experiment"] = _changed(fields["experiment"], setting, value)
        case [field, *_] if field not in fields:
            raise PlateaumapError(f"unknown setting {field!r}; {advice(field, fields)}")
        case _:
            raise PlateaumapError(
                f"{path!r} is not a setting; write a field's name, axes.COORDINATE.SETTING, "
                "fixed.COORDINATE or experiment.SETTING"
            )


def _changed(experiment: Any, setting: str, value: Any) -> Any:
    known = [f.name for f in dataclasses.fields(experiment)] if _is_dataclass(experiment) else []
    if setting not in known:
        raise PlateaumapError(
            f"the experiment has no setting {setting!r}; {advice(setting, known)}"
        )
    return dataclasses.replace(experiment, **{setting: value})


def _is_dataclass(experiment: Any) -> bool:
    return dataclasses.is_dataclass(experiment) and not isinstance(experiment, type)


def _change_axis(axes: list[Any], coordinate: str, setting: str, value: Any) -> None:
    holders = {name: axis for axis in axes for name, axis in _holders(axis)}
    if coordinate not in holders:
        raise PlateaumapError(f"no axis holds {coordinate!r}; {advice(coordinate, holders)}")
    axis = holders[coordinate]
    known = KINDS[axis["kind"]].settings()
    if setting not in known:
        raise PlateaumapError(
            f"the {axis['kind']} axis of {coordinate!r} has no setting {setting!r}; "
            f"{advice(setting, known)}"
        )
    axis[setting] = value
    if "values" not in known:
        axis.pop("values", None)


def _holders(axis: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each coordinate on an axis with the innermost axis that holds it."""
    if "axes" in axis:
        for part in axis["axes"]:
            yield from _holders(part)
    else:
        for name in [axis["name"]] if "name" in axis else axis["values"]:
            yield name, axis
