"""The spec of a sweep: data that validates, round-trips through JSON and TOML, and is named.

Every fault of a spec is told at once, each with its path: pydantic judges each field by itself,
`plateaumap.sweep.meaning` how the fields fit together, as far as they are well-formed.
"""

import hashlib
import importlib.util
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np
import tomli_w
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from typing_extensions import TypeIs, override

from plateaumap.experiment.coordinates import Coordinate
from plateaumap.experiment.declarations import declaration_faults
from plateaumap.experiment.reference import FunctionReference, name_of, place_of
from plateaumap.inputs.errors import Fault, PlateaumapError, SpecError
from plateaumap.inputs.paths import local_path
from plateaumap.inputs.validation import (
    FrozenDict,
    FrozenModel,
    Item,
    as_count,
    as_list,
    as_mapping,
    as_real,
    faults_of,
    one_of,
    refusal,
    refusals,
    show,
)
from plateaumap.sweep.axes import KINDS, Axis, AxisModel, Grid, axis_keys
from plateaumap.sweep.circumstances import comparable, version_differences
from plateaumap.sweep.meaning import (
    Draft,
    ExperimentDescription,
    LossLike,
    cross_faults,
    loss_name,
)
from plateaumap.sweep.settings import apply_settings, parse_setting
from plateaumap.table.display import table_html, value_text

__all__ = [
    "DEFAULT_HORIZON",
    "ExperimentDescription",
    "FunctionReference",
    "Sweep",
    "load_spec",
    "parse_setting",
]

VERSIONS = {"neuron": 2, "measures": 2, "theory": 2}
"""Versions of the parts that a sweep names instead of holding: raised when their numbers change."""

DEFAULT_HORIZON = 100_000
"""Epochs after which a simulated run is censored unless the sweep says otherwise."""

_SAMPLED = 256
"""Points for which a user's theory is asked, to see whether it is still the same."""

_NO_HORIZON = "none"
"""TOML has no null: there, and on the command line, `horizon = "none"` stands for None."""

_LONGEST_NAME = 100


def _as_file_name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise refusal(f"{show(value)} is no name; give a non-empty string")
    remedy = "the name becomes a folder's; use letters, digits, - and _"
    if len(value) > _LONGEST_NAME or len(value.encode("utf-8", "replace")) > 2 * _LONGEST_NAME:
        raise refusal(
            f"{show(value)} has {len(value)} characters; give at most {_LONGEST_NAME} "
            "(200 bytes): the name becomes a folder's"
        )
    if any(separator in value for separator in "/\\"):
        raise refusal(f"{show(value)} holds a path separator; {remedy}")
    if value.startswith("."):
        raise refusal(f"{show(value)} starts with a dot; {remedy}")
    if not value.isprintable() or value != value.strip():
        raise refusal(f"{show(value)} holds a control character or outer spaces; {remedy}")
    return value


def _as_experiment(value: Any) -> ExperimentDescription:
    if isinstance(value, Mapping):
        from plateaumap.experiment.single_neuron import experiment_from

        try:
            return experiment_from(dict(value))
        except PlateaumapError as error:
            raise refusal(str(error)) from error
    faults = declaration_faults(value)
    if faults:
        raise refusals(faults, value)
    return value


def _is_experiment(value: Any) -> TypeIs[ExperimentDescription]:
    return not declaration_faults(value)


def _default_experiment() -> ExperimentDescription:
    from plateaumap.experiment.single_neuron import SingleNeuron

    return SingleNeuron()


def _as_loss(value: Any) -> LossLike:
    if isinstance(value, FunctionReference) or (isinstance(value, str) and value):
        return value
    try:
        if isinstance(value, Mapping):
            return FunctionReference.from_dict(value)
    except PlateaumapError as error:
        raise refusal(str(error)) from error
    if callable(value) and not isinstance(value, type):
        if name_of(value) is None:
            raise refusal(f"{show(value)} has no name; define a function: def NAME(z, y)")
        return value
    raise refusal(f"{show(value)} is no loss; give a name or a function loss(z, y)")


def _as_loss_list(value: Any) -> list[Any]:
    if isinstance(value, (str, Mapping, FunctionReference)) or callable(value):
        return [value]
    losses = as_list("losses")(value)
    if not losses:
        raise refusal("[] names no loss; give at least one, such as ['quadratic']")
    return losses


def _as_horizon(value: Any) -> int | None:
    if value is None or (isinstance(value, str) and value == _NO_HORIZON):
        return None
    return as_count(value)


def _as_versions(value: Any) -> dict[str, int]:
    return {str(name): as_count(version) for name, version in as_mapping(value).items()}


class _Identity(NamedTuple):
    """What identifies the models of a sweep.

    Attributes:
        programs: for each loss, the identity of the model by its choices.
        traced_with: JAX and its settings, if a user wrote one of the models; else None.
    """

    programs: tuple[dict[tuple, str], ...]
    traced_with: dict[str, Any] | None


def _as_tolerance(value: Any) -> float:
    tolerance = as_real(value)
    if tolerance < 0:
        raise refusal(f"{tolerance!r} is negative; give a tolerance of at least 0 (0: off)")
    return tolerance


class _SoundModels:
    """Models in which no mistake was found, so that many sweeps of one are checked once.

    A model is known by its class, what stands in it, and plain attributes; one that holds anything
    else is checked each time. What a sweep computes does not hang on this: its models are traced
    anew when it is run.
    """

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[type, set[Any]] = WeakKeyDictionary()

    def is_new(self, experiment: Any, *model: Any) -> bool:
        """Whether nothing is known of a model."""
        key = self._key(experiment, *model)
        return key is None or key not in self._found.get(type(experiment), ())

    def add(self, experiment: Any, *model: Any) -> None:
        """Keep a model in mind."""
        key = self._key(experiment, *model)
        if key is not None:
            known = self._found.setdefault(type(experiment), set())
            if len(known) >= _MOST_SOUND:
                known.clear()
            known.add(key)

    def _key(self, experiment: Any, choice: Any, *others: Any) -> Any:
        held = tuple(sorted(getattr(experiment, "__dict__", {}).items()))
        plain = all(isinstance(value, (bool, int, float, str)) for _, value in held)
        if not plain or not isinstance(choice, str):
            return None
        members = tuple(
            id(member) for base in type(experiment).__mro__ for member in vars(base).values()
        )
        return (choice, *others, held, members)


_MOST_SOUND = 1000
"""Models of one class that are kept in mind."""

_sound = _SoundModels()


class Sweep(FrozenModel):
    """What is to be computed: which runs, how far, and how exactly.

    Attributes:
        name: names the folder of results; not part of the fingerprint.
        experiment: what is trained; by default one sigmoid neuron.
        losses: names that the experiment knows, or functions `loss(z, y)`; by default all that
            it knows, and of a neuron the quadratic loss and that of its activation.
        axes: they multiply, the first one is the slowest.
        fixed: the value of each coordinate that is on no axis, defaults filled in.
        horizon: epochs after which a run is censored; None, with the method "leap" only: never.
        precision: "float64", "float32" (compensated) or "float32_plain".
        method: "simulate" every epoch, or "leap" by theory.
        until: "tenth" (runs go on to a tenth of the loss), "plateau" (they stop at its end) or
            "horizon" (they make every epoch, and `final_*` is of the last one).
        tolerance: an output that starts so close to its target has converged; 0: never.
        versions: of the parts that the sweep names instead of holding, those of this release by
            default; empty in files of the first release.

    Raises:
        SpecError: with every fault of the spec, each with its path.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    remedy = "make a changed sweep by with_settings({...})"

    name: Annotated[str, BeforeValidator(_as_file_name)] = "sweep"
    experiment: Annotated[Any, BeforeValidator(_as_experiment)]
    losses: Annotated[
        tuple[Annotated[Any, BeforeValidator(_as_loss)], ...], BeforeValidator(_as_loss_list)
    ] = ("quadratic", "cross_entropy")
    axes: Annotated[tuple[Axis, ...], BeforeValidator(as_list("axes"))] = ()
    fixed: Annotated[dict[str, Item], BeforeValidator(as_mapping)] = FrozenDict()
    horizon: Annotated[int | None, BeforeValidator(_as_horizon)]
    precision: Annotated[str, one_of("float64", "float32", "float32_plain")] = "float64"
    method: Annotated[str, one_of("simulate", "leap")] = "simulate"
    until: Annotated[str, one_of("tenth", "plateau", "horizon")] = "tenth"
    tolerance: Annotated[float, BeforeValidator(_as_tolerance)] = 0.01
    versions: Annotated[dict[str, int], BeforeValidator(_as_versions)] = FrozenDict(VERSIONS)

    def __init__(self, **settings: Any) -> None:
        """Validates `settings`, the fields above by keyword."""
        fields = _read(settings, type(self))
        draft = _draft(fields)
        faults = cross_faults(draft)
        if draft.fixed is not None:
            fields["fixed"] = _ordered({**draft.fixed, **draft.defaults()}, draft)
        try:
            super().__init__(**fields)
        except ValidationError as error:
            faults = faults_of(error, _known_keys, KINDS) + faults
        if faults:
            order = [*type(self).model_fields]
            faults.sort(key=lambda fault: _rank(fault, order))
            raise SpecError(faults, f"the sweep {show(settings.get('name', 'sweep'))}")
        plain = {name: self._coordinate(name).given(value) for name, value in self.fixed.items()}
        object.__setattr__(self, "fixed", FrozenDict(plain))
        self._require_traceable()

    def _coordinate(self, name: str) -> Coordinate:
        return next(c for c in self.experiment.coordinates if c.name == name)

    @cached_property
    def grid(self) -> Grid:
        """The points of each loss."""
        return Grid(self.axes, self.fixed, self.experiment.coordinates)

    @property
    def size(self) -> int:
        """The number of points of each loss."""
        return self.grid.size

    @property
    def rows(self) -> int:
        """The number of rows of the table: points times losses."""
        return self.size * len(self.losses)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What the table calls the losses."""
        return tuple(str(loss_name(loss)) for loss in self.losses)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 (hexadecimal) of the canonical JSON of all fields but the name.

        Of what a user wrote the digest counts, not what describes it to readers.
        """
        fields = comparable(self.to_dict())
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def _identity(self) -> _Identity:
        """What identified its models when it was first asked for; see `identify`."""
        held = vars(self)
        if "_identity_then" not in held:
            held["_identity_then"] = self._identified()
        return held["_identity_then"]

    def identify(self) -> tuple[dict[tuple, str], ...]:
        """Return the identities of its models as they are now: for each loss, by their choices.

        Raises:
            PlateaumapError: a model is not what it was when its fingerprint was taken.
        """
        known, found = self._identity(), self._identified()
        if found != known:
            model = type(self.experiment).__name__
            raise PlateaumapError(
                f"experiment = {model}: it computes something else than when the fingerprint of "
                "this sweep was taken, since an attribute, a method, a global or a setting of JAX "
                "has changed; make the Sweep anew"
            )
        return found.programs

    def _identified(self) -> _Identity:
        from plateaumap.experiment.identity import identity_of
        from plateaumap.experiment.program import environment

        sample = self._sample() if self._is_traced() else None
        programs = tuple(
            {
                static: loss.sha256
                if isinstance(loss, FunctionReference)
                else identity_of(self.experiment, loss, self.precision, static, sample)
                for static in self._choices()
            }
            for loss in self.losses
        )
        return _Identity(programs, environment() if self._is_traced() else None)

    def _sample(self) -> dict[str, Any]:
        """Some of its points, spread over the grid, as a theory takes them."""
        numbers = np.unique(np.linspace(0, self.size - 1, _SAMPLED).round().astype(np.int64))
        stored = self.grid.coordinates_at(numbers)
        return {c.name: c.values(stored[c.name]) for c in self.experiment.coordinates}

    def _choices(self) -> list[tuple]:
        """Every combination of the choices that its points have."""
        chosen = [c for c in self.experiment.coordinates if c.choices]
        found: list[dict[str, Any]] = [
            {c.name: self.fixed[c.name] for c in chosen if c.name in self.fixed}
        ]
        for axis in self.axes:
            here = [c for c in chosen if c.name in axis.names]
            columns = self.grid.columns_of(axis)
            rows = zip(*(columns[c.name].tolist() for c in here), strict=True)
            plain = [
                {c.name: c.plain(value) for c, value in zip(here, row, strict=True)}
                for row in dict.fromkeys(rows)
            ]
            found = [{**one, **more} for one in found for more in plain or [{}]]
        return [tuple((c.name, one[c.name]) for c in chosen) for one in found]

    def _is_traced(self) -> bool:
        from plateaumap.experiment.identity import is_custom

        return is_custom(self.experiment) or any(callable(loss) for loss in self.losses)

    def _require_traceable(self) -> None:
        """Refuse what a user wrote where JAX cannot trace it, or a digest cannot cover it.

        Raises:
            SpecError: naming what is at fault.
        """
        if not self._is_traced():
            return
        from plateaumap.experiment.check import require_sound
        from plateaumap.experiment.evaluation import Evaluation
        from plateaumap.experiment.identity import is_custom, require_traceable

        custom = is_custom(self.experiment)
        for number, loss in enumerate(self.losses):
            if isinstance(loss, FunctionReference) or not (custom or callable(loss)):
                continue
            model = (self.experiment, loss, self.precision)
            try:
                for static in self._choices():
                    if not _sound.is_new(*model, static):
                        continue
                    if custom:
                        require_sound(Evaluation(*model, static=static, identity="not needed"))
                    require_traceable(*model, static)
                    _sound.add(*model, static)
            except PlateaumapError as error:
                path = "experiment" if custom else f"losses[{number}]"
                raise SpecError([Fault(path, str(error))], f"the sweep {self.name!r}") from error

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
        """Refuses a sweep that was read from a file and needs functions that files do not hold.

        Raises:
            PlateaumapError: naming these functions.
        """
        missing = [loss for loss in self.losses if isinstance(loss, FunctionReference)]
        if missing:
            told = ", ".join(f"{loss.name!r} ({loss.function})" for loss in missing)
            raise PlateaumapError(
                f"the functions of these losses are not at hand: {told}; a file holds no code, "
                "so run the script that defines them, or pass them in Sweep(losses=[...])"
            )

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """The same sweep with some fields changed.

        Args:
            settings: new values by path: a field (`horizon`), `axes.COORDINATE.SETTING` (the
                axis that holds the coordinate; its values are made anew), `fixed.COORDINATE`
                or `experiment.SETTING`.

        Raises:
            SpecError: for unknown paths, and if the changed sweep is at fault.
        """
        fields = {key: getattr(self, key) for key in type(self).model_fields}
        words = self.to_dict()
        fields.update({key: words[key] for key in ("axes", "fixed")})
        return type(self)(**apply_settings(fields, settings))

    def to_dict(self) -> dict[str, Any]:
        """All fields in the words of JSON, the values of every axis included."""
        return {
            "name": self.name,
            "experiment": self._experiment_words(),
            "losses": [self._loss_words(number) for number in range(len(self.losses))],
            "axes": [self._axis_words(axis.to_dict()) for axis in self.axes],
            "fixed": dict(self.fixed),
            "horizon": self.horizon,
            "precision": self.precision,
            "method": self.method,
            "until": self.until,
            "tolerance": self.tolerance,
            **({"versions": dict(self.versions)} if self.versions else {}),
        }

    def _experiment_words(self) -> dict[str, Any]:
        from plateaumap.experiment.identity import is_custom

        described = self.experiment.describe()
        if not is_custom(self.experiment):
            return described
        programs = {
            ", ".join([name, *(f"{key}={value!r}" for key, value in static)]): digest
            for name, known in zip(self.loss_names, self._identity().programs, strict=True)
            for static, digest in known.items()
        }
        return {
            **described,
            "defined_in": place_of(type(self.experiment)),
            "coordinates": {c.name: _kind(c) for c in self.experiment.coordinates},
            "programs": programs,
            "traced_with": self._identity().traced_with,
        }

    def _loss_words(self, number: int) -> str | dict[str, Any]:
        loss = self.losses[number]
        if isinstance(loss, str):
            return loss
        if isinstance(loss, FunctionReference):
            return loss.to_dict()
        programs = list(self._identity().programs[number].values())
        digest = hashlib.sha256(json.dumps(programs).encode()).hexdigest()
        traced_with = tuple((self._identity().traced_with or {}).items())
        name = str(loss_name(loss))
        return FunctionReference(name, place_of(loss), digest, traced_with).to_dict()

    def _axis_words(self, words: dict[str, Any]) -> dict[str, Any]:
        """The words of an axis, whole numbers as such."""
        if "axes" in words:
            return {**words, "axes": [self._axis_words(part) for part in words["axes"]]}
        if "name" in words:
            return {**words, "values": self._plain(words["name"], words["values"])}
        return {**words, "values": {k: self._plain(k, v) for k, v in words["values"].items()}}

    def _plain(self, name: str, values: list[Any]) -> list[Any]:
        coordinate = self._coordinate(name)
        return values if coordinate.is_text else coordinate.stored(values).tolist()

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` wrote, or less: what has a default may be left out.

        Raises:
            SpecError: with every fault of the spec.
        """
        try:
            return cls(**as_mapping(fields))
        except PydanticCustomError as error:
            raise SpecError([Fault("", error.message())]) from None

    def to_json(self) -> str:
        """The spec as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads JSON text.

        Raises:
            PlateaumapError: if it is no JSON.
            SpecError: with every fault of the spec.
        """
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise PlateaumapError(f"this is no JSON: {error}; mend the text there") from error
        return cls.from_dict(fields)

    def to_toml(self) -> str:
        """The spec as TOML text, `horizon = "none"` standing for None."""
        fields = self.to_dict()
        if fields["horizon"] is None:
            fields["horizon"] = _NO_HORIZON
        return tomli_w.dumps(fields)

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Reads TOML text.

        Raises:
            PlateaumapError: if it is no TOML.
            SpecError: with every fault of the spec.
        """
        try:
            fields = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PlateaumapError(f"this is no TOML: {error}; mend the text there") from error
        return cls.from_dict(fields)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a `.toml` or `.json` file.

        Raises:
            PlateaumapError: if there is no such file or its text is at fault.
        """
        readers = {".toml": cls.from_toml, ".json": cls.from_json}
        source = _existing_file(path, tuple(readers))
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
        """What a notebook shows: losses, axes, and everything else that defines the rows."""
        words = self.to_dict()
        axes = [(" and ".join(axis.names), f"{axis.size:,} values") for axis in self.axes]
        rest = ("precision", "method", "until", "tolerance")
        rows: list[tuple[str, object]] = [
            ("losses", ", ".join(self.loss_names)),
            *axes,
            *((name, f"{value_text(value)}, fixed") for name, value in self.fixed.items()),
            ("horizon", f"{self.horizon:,} epochs" if self.horizon else "none"),
            *((name, words[name]) for name in rest),
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


def load_spec(path: str | Path) -> Sweep:
    """Reads a sweep from a file as the command line does: `.toml`, `.json` or `.py`.

    A `.py` file is executed, not as `__main__`, and must define `sweep`.

    Raises:
        PlateaumapError: if there is no such file, or it holds no sweep, or a faulty one.
    """
    source = _existing_file(path, (".toml", ".json", ".py"))
    return _execute(source) if source.suffix.lower() == ".py" else Sweep.load(source)


def _existing_file(path: str | Path, suffixes: tuple[str, ...]) -> Path:
    source = local_path(path, "file")
    if not source.exists():
        raise PlateaumapError(f"{source} does not exist; give the path of a spec file")
    if not source.is_file():
        raise PlateaumapError(f"{source} is a folder; give the path of a spec file")
    if source.suffix.lower() not in suffixes:
        raise PlateaumapError(
            f"{source} has the suffix {source.suffix!r}; give a file that ends in "
            f"{' or '.join(suffixes)}"
        )
    return source


def _execute(source: Path) -> Sweep:
    name = source.stem
    module_spec = importlib.util.spec_from_file_location(name, source)
    assert module_spec is not None
    module = importlib.util.module_from_spec(module_spec)
    with _importable(name, module, source.parent):
        try:
            # Not by its loader: cached byte code may be that of an edit in the same second.
            exec(compile(source.read_bytes(), str(source), "exec"), module.__dict__)
        except PlateaumapError:
            raise
        except Exception as error:
            raise PlateaumapError(
                f"{source} raised {type(error).__name__}: {error}; mend the script"
            ) from error
    sweep = getattr(module, "sweep", None)
    if not isinstance(sweep, Sweep):
        found = "defines no `sweep`" if sweep is None else f"defines sweep = {show(sweep)}"
        raise PlateaumapError(f"{source} {found}; it must define sweep = plateaumap.Sweep(...)")
    return sweep


_scripts: dict[str, Any] = {}
"""The modules of scripts that were read, by name."""


@contextmanager
def _importable(name: str, module: Any, folder: Path) -> Iterator[None]:
    """Lets a script import its neighbours and its functions be found again by their module."""
    # A script of the same name, from another folder or before an edit, gives way; others do not.
    if sys.modules.get(name) is _scripts.get(name):
        sys.modules[name] = _scripts[name] = module
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))


_AXIS: TypeAdapter[AxisModel] = TypeAdapter(Axis)


def _read(settings: Mapping[str, Any], model: type[Sweep]) -> dict[str, Any]:
    """Converts what is well-formed and leaves the rest as it is, for pydantic to tell why not."""
    fields = dict(settings)
    method = fields.get("method", model.model_fields["method"].default)
    # Of an array of anything, `==` would make an array.
    leaps = isinstance(method, str) and method == "leap"
    fields.setdefault("horizon", None if leaps else DEFAULT_HORIZON)
    fields["experiment"] = (
        _default_experiment()
        if "experiment" not in settings
        else _converted(_as_experiment, settings["experiment"])
    )
    if "losses" not in settings and _is_experiment(fields["experiment"]):
        told = fields["experiment"]
        losses: Any = getattr(told, "default_losses", told.known_losses)
    else:
        losses = settings.get("losses", model.model_fields["losses"].default)
    fields["losses"] = _each(_as_loss, _converted(_as_loss_list, losses))
    fields["axes"] = _each(
        _AXIS.validate_python, _converted(as_list("axes"), settings.get("axes", ()))
    )
    fields["fixed"] = _converted(as_mapping, settings.get("fixed", {}))
    return fields


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _converted(convert: Any, value: Any) -> Any:
    try:
        return convert(value)
    except ValueError:  # pydantic's errors are, too
        return value


def _each(convert: Any, values: Any) -> Any:
    return [_converted(convert, value) for value in values] if isinstance(values, list) else values


def _draft(fields: Mapping[str, Any]) -> Draft:
    experiment, losses, axes, fixed = (
        fields[key] for key in ("experiment", "losses", "axes", "fixed")
    )
    told = experiment if _is_experiment(experiment) else None
    likely = told or _likely_experiment(experiment)
    return Draft(
        experiment=told,
        coordinates=likely.coordinates if likely else (),
        known_losses=likely.known_losses if likely else (),
        losses=losses if isinstance(losses, list) else [],
        axes=axes if isinstance(axes, list) else None,
        fixed=fixed if _is_table(fixed) else None,
        horizon=_converted(_as_horizon, fields["horizon"]),
        method=_or_nothing(fields.get("method", Sweep.model_fields["method"].default)),
        until=_or_nothing(fields.get("until", Sweep.model_fields["until"].default)),
    )


def _likely_experiment(description: Any) -> ExperimentDescription | None:
    """What a malformed description most likely means: the default one, of the same kind."""
    default = _default_experiment()
    kind = default.describe()["kind"]
    same = isinstance(description, Mapping) and str(description.get("kind", kind)) == kind
    return default if same else None


def _or_nothing(word: Any) -> Any:
    # Of an array of anything, `==` would make an array.
    return word if isinstance(word, str) else None


def _ordered(fixed: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    names = [c.name for c in draft.coordinates if c.name in fixed]
    return {name: fixed[name] for name in dict.fromkeys([*names, *fixed])}


def _known_keys(location: Any) -> tuple[str, ...]:
    return axis_keys(location) if len(location) > 1 else tuple(Sweep.model_fields)


def _rank(fault: Fault, order: list[str]) -> int:
    root = fault.path.split(".")[0].split("[")[0]
    return order.index(root) if root in order else len(order)


def _kind(coordinate: Coordinate) -> str | list[Any]:
    if coordinate.choices:
        return list(coordinate.choices)
    return "integer" if coordinate.integer else "number"
