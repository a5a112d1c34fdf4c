"""The specification of a sweep: data that is validated, written as JSON or TOML, and identified.

A specification is validated in two passes. Pydantic validates each field by itself, and then
`plateaumap.sweep.meaning` how the valid fields fit together. All faults are reported together,
each with its path.
"""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
)
from typing_extensions import override

from plateaumap.experiment.coordinates import Coordinate
from plateaumap.experiment.reference import FunctionReference, name_of, place_of
from plateaumap.inputs.errors import Fault, PlateaumapError, SpecError
from plateaumap.inputs.paths import existing_file
from plateaumap.inputs.validation import (
    Count,
    FrozenDict,
    FrozenModel,
    Item,
    Real,
    Text,
    as_item,
    faults_of,
    refusals,
    show,
)
from plateaumap.sweep.axes import KINDS, Axis, Grid
from plateaumap.sweep.circumstances import comparable, version_differences
from plateaumap.sweep.meaning import Draft, cross_faults, loss_name
from plateaumap.sweep.models import Choices, ModelIdentity, Models
from plateaumap.sweep.settings import apply_settings
from plateaumap.table.display import table_html, value_text

VERSIONS = {"neuron": 2, "measures": 2, "theory": 2}
"""The versions of the parts that a sweep names without containing them."""

DEFAULT_HORIZON = 100_000
"""The horizon of a simulated sweep in epochs, by default."""

_NO_HORIZON = "none"
"""TOML has no null: there and on the command line, `horizon = "none"` stands for None."""

_MAX_NAME = 100
"""The largest number of characters of a name, which becomes the name of a folder."""

_TABLE: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[Text, Any])


def _as_file_name(name: str) -> str:
    if len(name.encode("utf-8", "replace")) > 2 * _MAX_NAME:
        raise ValueError(f"{show(name)}: must have at most {2 * _MAX_NAME} bytes")
    reasons = {
        "contains a path separator": any(separator in name for separator in "/\\"),
        "starts with a dot": name.startswith("."),
        "contains a control character or outer spaces": not name.isprintable()
        or name != name.strip(),
    }
    for reason, applies in reasons.items():
        if applies:
            raise ValueError(
                f"{show(name)} {reason}; a folder has this name: use letters, digits, - and _"
            )
    return name


def _as_experiment(value: Any) -> Any:
    from plateaumap.experiment.check import declaration_faults
    from plateaumap.experiment.single_neuron import experiment_from

    if isinstance(value, Mapping):
        return experiment_from(value)
    faults = declaration_faults(value)
    if faults:
        raise refusals(faults, value)
    return value


def _default_experiment() -> Any:
    from plateaumap.experiment.single_neuron import SingleNeuron

    return SingleNeuron()


def _default_losses(fields: dict[str, Any]) -> tuple[str, ...]:
    return (fields.get("experiment") or _default_experiment()).default_losses


def _as_losses(value: Any) -> Any:
    if isinstance(value, (str, Mapping, FunctionReference)) or callable(value):
        return [value]
    losses = list(value) if isinstance(value, Iterable) else value
    if isinstance(losses, list) and not losses:
        raise ValueError("no loss is given; must have at least one, such as ['quadratic']")
    return losses


def _as_loss(value: Any) -> str | Callable[..., Any] | FunctionReference:
    if isinstance(value, FunctionReference) or (isinstance(value, str) and value):
        return value
    if isinstance(value, Mapping):
        return FunctionReference.from_dict(value)
    if not callable(value) or isinstance(value, type):
        raise ValueError(f"{show(value)} is not a loss; must be a name or a function loss(z, y)")
    if name_of(value) is None:
        raise ValueError(f"{show(value)} has no name; define a function: def NAME(z, y)")
    return value


def _as_horizon(value: Any) -> Any:
    return None if isinstance(value, str) and value == _NO_HORIZON else value


def _noted(key: str, invalid: Callable[[Any], Any]) -> WrapValidator:
    """Return a validator that notes the items of a list for the second pass, in their order."""

    def validate(value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        items: list[Any] = info.context[key]  # type: ignore[index]
        items.append(invalid(value))
        items[-1] = handler(value)
        return items[-1]

    return WrapValidator(validate)


_NotedLoss = Annotated[Any, BeforeValidator(_as_loss), _noted("losses", lambda _: None)]
_NotedAxis = Annotated[Axis, _noted("axes", lambda value: value)]


class Sweep(FrozenModel):
    """The specification of a sweep: which runs are computed, how long, and how exactly.

    Attributes:
        name: the name of the folder of results; not part of the fingerprint.
        experiment: the model that is trained; by default one sigmoid neuron.
        losses: names that the experiment knows, or functions `loss(z, y)`; by default all losses
            of the experiment, and for a neuron the quadratic loss and that of its activation.
        axes: the axes; they multiply, the first one is the slowest.
        fixed: the value of each coordinate that is on no axis, defaults included.
        horizon: epochs after which a run is censored; None, only with the method "leap", means
            never.
        precision: "float64", "float32" (compensated) or "float32_plain".
        method: "simulate" every epoch, or "leap" by theory.
        until: "tenth" (a run ends at T90), "plateau" (at T10) or "horizon" (all epochs are
            computed, and `final_*` belongs to the last one).
        tolerance: the largest distance between output and target at which an initial point has
            converged; 0 turns this off.
        versions: versions of the parts that the sweep names without containing them, by default
            those of this release; empty in files of the first release.

    Raises:
        SpecError: with all faults of the specification and their paths.

    Example:
        >>> import plateaumap as pm
        >>> sweep = pm.Sweep(
        ...     axes=[pm.linspace("w0", 0, 4, 65)], fixed={"b0": 2, "lr": 0.15}, horizon=1000
        ... )
        >>> sweep.rows
        130
        >>> pm.Sweep.from_toml(sweep.to_toml()) == sweep
        True
    """

    model_config = ConfigDict(validate_default=True)
    remedy = "make a changed sweep by with_settings({...})"

    name: Annotated[Text, Field(max_length=_MAX_NAME), AfterValidator(_as_file_name)] = "sweep"
    experiment: Annotated[Any, BeforeValidator(_as_experiment)] = Field(
        default_factory=_default_experiment
    )
    losses: Annotated[tuple[_NotedLoss, ...], BeforeValidator(_as_losses)] = Field(
        default_factory=_default_losses
    )
    axes: tuple[_NotedAxis, ...] = ()
    fixed: dict[Text, Item] = FrozenDict()
    horizon: Annotated[Count | None, BeforeValidator(_as_horizon)]
    precision: Literal["float64", "float32", "float32_plain"] = "float64"
    method: Literal["simulate", "leap"] = "simulate"
    until: Literal["tenth", "plateau", "horizon"] = "tenth"
    tolerance: Annotated[Real, Field(ge=0)] = 0.01
    versions: dict[Text, Count] = FrozenDict(VERSIONS)

    @field_validator("*", mode="wrap")
    @classmethod
    def _note_valid(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        valid = handler(value)
        info.context["valid"][info.field_name] = valid  # type: ignore[index]
        return valid

    def __init__(self, **fields: Any) -> None:
        """Validate `fields`, the attributes above by keyword."""
        method = fields.get("method")
        leaps = isinstance(method, str) and method == "leap"
        fields = {"horizon": None if leaps else DEFAULT_HORIZON, **fields}
        notes: dict[str, Any] = {"valid": {}, "losses": [], "axes": []}
        faults: list[Fault] = []
        try:
            self.__pydantic_validator__.validate_python(fields, self_instance=self, context=notes)
        except ValidationError as error:
            faults = faults_of(error, type(self), KINDS)
        faults += cross_faults(_draft(fields, **notes))
        if not faults:
            object.__setattr__(self, "fixed", self._complete(self.fixed))
            faults = self._models.faults()
        if faults:
            order = [*type(self).model_fields]
            faults.sort(key=lambda fault: _rank(fault, order))
            raise SpecError(faults, f"the sweep {show(fields.get('name', 'sweep'))}")

    def _complete(self, fixed: Mapping[str, Any]) -> FrozenDict:
        """Return fixed values of the coordinates' types, with defaults, in their order."""
        on_axes = {name for axis in self.axes for name in axis.names}
        return FrozenDict(
            {
                c.name: c.given(fixed[c.name] if c.name in fixed else as_item(c.default))
                for c in self.experiment.coordinates
                if c.name not in on_axes
            }
        )

    @cached_property
    def grid(self) -> Grid:
        """Return the points of each loss."""
        return Grid(self.axes, self.fixed, self.experiment.coordinates)

    @property
    def size(self) -> int:
        """Return the number of points of each loss."""
        return self.grid.size

    @property
    def rows(self) -> int:
        """Return the number of rows of the table: points times losses."""
        return self.size * len(self.losses)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Return the names of the losses in the table."""
        return tuple(str(loss_name(loss)) for loss in self.losses)

    @cached_property
    def fingerprint(self) -> str:
        """Return the sha256 (hexadecimal) of the canonical JSON of all fields except the name.

        Experiments, losses and measures that a user wrote are represented by the digests of the
        programs to which they lower, not by their descriptions.
        """
        fields = comparable(self.to_dict())
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def _models(self) -> Models:
        return Models(self.experiment, self.losses, self.precision, self.grid)

    @cached_property
    def _identity(self) -> ModelIdentity:
        return self._models.identity()

    def identify(self) -> tuple[dict[Choices, str], ...]:
        """Return the identities of the models as they are now: for each loss, by their choices.

        Raises:
            PlateaumapError: a model has changed since its fingerprint was computed.
        """
        known, current = self._identity, self._models.identity()
        if current != known:
            raise PlateaumapError(
                f"experiment = {type(self.experiment).__name__}: it no longer computes what it "
                "computed when the fingerprint of this sweep was taken, since an attribute, a "
                "method, a global or a setting of JAX has changed; make a new Sweep"
            )
        return current.programs

    def require_current(self) -> None:
        """Refuse a sweep whose rows were computed by other versions of this package's parts.

        Raises:
            PlateaumapError: naming these versions.
        """
        differing = version_differences({"versions": self.versions}, {"versions": VERSIONS})
        if differing:
            raise PlateaumapError(
                f"the sweep {self.name!r} belongs to rows computed by {'; '.join(differing)}, from "
                "which new rows may differ; its folder can be read, but not continued: run the "
                "sweep from its script or TOML file into a new folder"
            )

    def require_runnable(self) -> None:
        """Refuse a sweep that was read from a file and needs functions that files cannot hold.

        Raises:
            PlateaumapError: naming these functions.
        """
        missing = [loss for loss in self.losses if isinstance(loss, FunctionReference)]
        if missing:
            names = ", ".join(f"{loss.name!r} ({loss.function})" for loss in missing)
            raise PlateaumapError(
                f"the functions of these losses are not available: {names}; a file contains no "
                "code, so run the script that defines them, or pass them in Sweep(losses=[...])"
            )

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """Return the sweep with some fields changed.

        Args:
            settings: new values by path: a field (`horizon`), `axes.COORDINATE.SETTING` (of the
                axis that holds the coordinate; its values are computed anew), `fixed.COORDINATE`
                or `experiment.SETTING`.

        Raises:
            SpecError: a path is unknown, or the changed sweep is invalid.

        Example:
            >>> import plateaumap as pm
            >>> sweep = pm.Sweep(axes=[pm.linspace("w0", 0, 4, 65)], fixed={"b0": 2, "lr": 0.15})
            >>> sweep.with_settings({"axes.w0.num": 9, "losses": "quadratic"}).rows
            9
        """
        fields = {
            **dict(self),
            "axes": [axis.to_dict() for axis in self.axes],
            "fixed": dict(self.fixed),
        }
        return type(self)(**apply_settings(fields, settings))

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON holds them, including the values of every axis."""
        fields = {
            **dict(self),
            "experiment": self._experiment_dict(),
            "losses": [self._loss_dict(number) for number in range(len(self.losses))],
            "axes": [self._with_plain_values(axis.to_dict()) for axis in self.axes],
            "fixed": dict(self.fixed),
            "versions": dict(self.versions),
        }
        return fields if self.versions else {k: v for k, v in fields.items() if k != "versions"}

    def _experiment_dict(self) -> dict[str, Any]:
        from plateaumap.experiment.identity import is_custom

        described = self.experiment.describe()
        if not is_custom(self.experiment):
            return described
        programs = {
            ", ".join([name, *(f"{key}={value!r}" for key, value in static)]): digest
            for name, known in zip(self.loss_names, self._identity.programs, strict=True)
            for static, digest in known.items()
        }
        return {
            **described,
            "defined_in": place_of(type(self.experiment)),
            "coordinates": {c.name: _type_of(c) for c in self.experiment.coordinates},
            "programs": programs,
            "traced_with": self._identity.traced_with,
        }

    def _loss_dict(self, number: int) -> str | dict[str, Any]:
        loss = self.losses[number]
        if isinstance(loss, FunctionReference):
            return loss.to_dict()
        if isinstance(loss, str):
            return loss
        programs = list(self._identity.programs[number].values())
        digest = hashlib.sha256(json.dumps(programs).encode()).hexdigest()
        traced_with = tuple((self._identity.traced_with or {}).items())
        name = str(loss_name(loss))
        return FunctionReference(name, place_of(loss), digest, traced_with).to_dict()

    def _with_plain_values(self, axis: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of an axis with whole numbers as int."""
        if "axes" in axis:
            return {**axis, "axes": [self._with_plain_values(part) for part in axis["axes"]]}
        if "name" in axis:
            return {**axis, "values": self._plain(axis["name"], axis["values"])}
        return {**axis, "values": {k: self._plain(k, v) for k, v in axis["values"].items()}}

    def _plain(self, name: str, values: list[Any]) -> list[Any]:
        coordinate = next(c for c in self.experiment.coordinates if c.name == name)
        return values if coordinate.is_text else coordinate.stored(values).tolist()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Return the sweep that `to_dict` wrote; fields with defaults may be omitted.

        Raises:
            SpecError: with all faults of the specification.
        """
        try:
            return cls(**_TABLE.validate_python(fields))
        except ValidationError as error:
            raise SpecError(faults_of(error)) from None

    def to_json(self) -> str:
        """Return the specification as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the sweep of a JSON text.

        Raises:
            PlateaumapError: the text is not valid JSON.
            SpecError: with all faults of the specification.
        """
        return cls.from_dict(_parsed(text, json.loads, "JSON"))

    def to_toml(self) -> str:
        """Return the specification as TOML text; `horizon = "none"` stands for None."""
        fields = self.to_dict()
        return tomli_w.dumps({**fields, "horizon": fields["horizon"] or _NO_HORIZON})

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Return the sweep of a TOML text.

        Raises:
            PlateaumapError: the text is not valid TOML.
            SpecError: with all faults of the specification.
        """
        return cls.from_dict(_parsed(text, tomllib.loads, "TOML"))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the sweep of a `.toml` or `.json` file.

        Raises:
            PlateaumapError: the file does not exist, or does not contain a valid sweep.
        """
        readers = {".toml": cls.from_toml, ".json": cls.from_json}
        source = existing_file(path, tuple(readers))
        try:
            return readers[source.suffix.lower()](source.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise PlateaumapError(f"{source}: not UTF-8 text: {error}; save it as UTF-8") from error
        except SpecError as error:
            raise SpecError(error.faults, f"{source}") from error
        except PlateaumapError as error:
            raise PlateaumapError(f"{source}: {error}") from error

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sweep):
            return NotImplemented
        return (self.name, self.fingerprint) == (other.name, other.fingerprint)

    @override
    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def _repr_html_(self) -> str:
        """Return losses, axes and all other fields that determine the rows, for a notebook."""
        axes = [(" and ".join(axis.names), f"{axis.size:,} values") for axis in self.axes]
        rows: list[tuple[str, object]] = [
            ("losses", ", ".join(self.loss_names)),
            *axes,
            *((name, f"{value_text(value)}, fixed") for name, value in self.fixed.items()),
            ("horizon", f"{self.horizon:,} epochs" if self.horizon else "none"),
            *((name, getattr(self, name)) for name in ("precision", "method", "until")),
            ("tolerance", self.tolerance),
            ("rows", f"{self.rows:,}"),
        ]
        return table_html(self.name, rows)

    @override
    def __repr__(self) -> str:
        axes = ", ".join(map(repr, self.axes))
        return (
            f"Sweep({self.name!r}, losses={list(self.loss_names)}, axes=[{axes}], "
            f"fixed={self.fixed}, horizon={self.horizon}: {self.rows:,} rows)"
        )

    @override
    def __str__(self) -> str:
        return repr(self)


def _draft(
    fields: Mapping[str, Any], valid: Mapping[str, Any], losses: list[Any], axes: list[Any]
) -> Draft:
    experiment = valid.get("experiment")
    description, fixed = fields.get("experiment"), fields.get("fixed", {})
    likely = isinstance(description, Mapping) and (
        str(description.get("kind", "single_neuron")) == "single_neuron"
    )
    is_table = isinstance(fixed, Mapping) and all(isinstance(name, str) for name in fixed)
    return Draft(
        valid=valid,
        experiment=experiment,
        likely=_default_experiment() if experiment is None and likely else experiment,
        losses=losses,
        axes=axes if axes or "axes" in valid else None,
        fixed=fixed if is_table else None,
    )


def _rank(fault: Fault, order: list[str]) -> int:
    root = fault.path.split(".")[0].split("[")[0]
    return order.index(root) if root in order else len(order)


def _type_of(coordinate: Coordinate) -> str | list[Any]:
    if coordinate.choices:
        return list(coordinate.choices)
    return "integer" if coordinate.integer else "number"


def _parsed(text: str, parse: Callable[[str], Any], form: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise PlateaumapError(f"not valid {form}: {error}; fix the text there") from error
