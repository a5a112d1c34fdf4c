"""`Sweep` refuses invalid input before a run."""

from __future__ import annotations

import copy
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import plateaumap as pm
from plateaumap.execution.backend import Backend
from plateaumap.execution.local import LocalBackend
from plateaumap.experiment.check import declaration_faults
from plateaumap.inputs.errors import PlateaumapError, SpecError
from plateaumap.table.columns import Column


class Bowl(pm.Experiment):
    """A parabola."""

    coordinates: tuple = (pm.Coordinate("w0"),)

    def init(self, point):
        return {"w": point["w0"]}

    def loss(self, parameters, point, loss_name):
        return parameters["w"] ** 2

    def optimizer(self, point):
        return optax.sgd(0.01)


def bowl(**members):
    """A bowl with some members replaced."""
    return type("Changed", (Bowl,), members)()


def swept(experiment):
    return pm.Sweep(experiment=experiment, axes=[pm.values("w0", [1.0])], horizon=5)


def refused(experiment) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        swept(experiment)
    return {fault.path: fault.message for fault in caught.value.faults}


def with_measures(*more):
    return bowl(measures=property(lambda self: (*super(type(self), self).measures, *more)))


def final(name):
    return pm.measures.Final(name, lambda parameters: parameters["w"])


def taken_names() -> list[str]:
    """Every column of a table that is not a coordinate."""
    frame = pm.run(
        pm.Sweep(experiment=Bowl(), fixed={"w0": 1.0}, horizon=3, precision="float32_plain"),
        progress=False,
    )
    return [name for name in frame.columns if name != "w0"]


def test_no_coordinate_has_the_name_of_a_column():
    names = taken_names()
    assert {"loss", "status", "final_loss", "predicted_epochs", "uncertain"} < set(names)
    coordinates = (pm.Coordinate("w0"), *(pm.Coordinate(name, default=1) for name in names))
    reported = refused(bowl(coordinates=coordinates))
    assert len(reported) == len(names)
    for number, name in enumerate(names, 1):
        message = reported[f"experiment.coordinates[{number}]"]
        assert repr(name) in message
        assert "choose another" in message


def test_no_measure_has_the_name_of_a_column():
    names = taken_names()
    reported = refused(with_measures(*map(final, names)))
    assert len(reported) == len(names)
    assert all("choose another" in message for message in reported.values())


@pytest.mark.parametrize("name", ["w0", "w0_index", "other_index", "", " ", 5])
def test_no_measure_has_the_name_of_a_coordinate_or_of_an_index(name):
    (message,) = refused(with_measures(final(name))).values()
    assert repr(name) in message


@pytest.mark.parametrize("name", ["w0", "w0_index", "other_index", "", " ", 5])
def test_coordinates_have_names_of_their_own(name):
    reported = refused(bowl(coordinates=(pm.Coordinate("w0"), pm.Coordinate(name, default=1))))
    assert repr(name) in reported["experiment.coordinates[1]"]


def test_two_measures_have_two_names():
    assert swept(with_measures(final("one"), final("two"))).rows == 1
    (message,) = refused(with_measures(final("one"), final("one"))).values()
    assert "another measure" in message


@pytest.mark.parametrize("measure", [5, "final", final, pm.measures.Final, np.mean, None])
def test_an_object_that_is_not_a_measure_is_refused_at_its_place(measure):
    place = len(Bowl().measures)
    (path,) = refused(with_measures(measure))
    assert path == f"experiment.measures[{place}]"


@pytest.mark.parametrize(
    ("measures", "reported"),
    [
        ((final("one"),), "are missing"),
        ((), "are missing"),
        ([], "not a tuple"),
        (lambda self: (), "is a method"),
        (property(lambda self: 1 // 0), "ZeroDivisionError"),
    ],
)
def test_measures_are_a_tuple_that_holds_the_standard_ones(measures, reported):
    faults = refused(bowl(measures=measures))
    assert list(faults) == ["experiment.measures"]
    assert reported in faults["experiment.measures"]


@pytest.mark.parametrize(
    ("coordinates", "reported"),
    [
        ((), "no coordinate"),
        ([pm.Coordinate("w0")], "not a tuple"),
        (None, "not a tuple"),
        (lambda self: (), "is a method"),
        (("w0",), "not a Coordinate"),
        (property(lambda self: 1 // 0), "ZeroDivisionError"),
    ],
)
def test_coordinates_are_a_tuple_of_coordinates(coordinates, reported):
    (message,) = refused(bowl(coordinates=coordinates)).values()
    assert reported in message


def test_an_experiment_without_coordinates_is_reported_what_is_missing():
    class Bare(pm.Experiment):
        def init(self, point):
            return {"w": 1.0}

        def loss(self, parameters, point, loss_name):
            return parameters["w"] ** 2

    assert "is missing" in refused(Bare())["experiment.coordinates"]
    assert "is a class" in refused(Bare)["experiment"]


@pytest.mark.parametrize(
    "coordinate",
    [
        pm.Coordinate("n", default=4, maximum=3),
        pm.Coordinate("n", default=0, minimum=0, minimum_excluded=True),
        pm.Coordinate("n", default=2.5, integer=True),
        pm.Coordinate("n", default=2**60, integer=True),
        pm.Coordinate("n", default=True),
        pm.Coordinate("n", default="text"),
        pm.Coordinate("n", default=float("nan")),
        pm.Coordinate("n", default=float("inf")),
        pm.Coordinate("n", default=np.ma.masked),
        pm.Coordinate("n", default="c", choices=("a", "b")),
        pm.Coordinate("n", default=2, choices=(1, 3)),
        pm.Coordinate("n", minimum=2, maximum=1),
        pm.Coordinate("n", minimum=float("nan")),
    ],
)
def test_a_default_is_a_value_that_the_coordinate_can_have(coordinate):
    reported = refused(bowl(coordinates=(pm.Coordinate("w0"), coordinate)))
    assert "'n'" in reported["experiment.coordinates[1]"]


@pytest.mark.parametrize("lanes", [0, 1, 4, -8, 12, 100, True, 64.0, "64", (64,)])
def test_lanes_are_a_power_of_two_from_8_on(lanes):
    assert repr(lanes) in refused(bowl(lanes=lanes))["experiment.lanes"]


@pytest.mark.parametrize("lanes", [None, 8, 64, 4096])
def test_a_power_of_two_is_a_number_of_lanes(lanes):
    assert not declaration_faults(bowl(lanes=lanes))


@pytest.mark.parametrize("losses", ["loss", ["loss"], None, ("",), (1,), ("a", "a"), (None,)])
def test_known_losses_are_a_tuple_of_different_names(losses):
    (path,) = refused(bowl(known_losses=losses))
    assert path.startswith("experiment.known_losses")


def test_every_fault_is_reported_at_once():
    reported = refused(bowl(lanes=3, known_losses="loss", measures=(), coordinates=()))
    assert set(reported) == {
        f"experiment.{name}" for name in ("lanes", "known_losses", "measures", "coordinates")
    }


MASKED = np.ma.MaskedArray([1.0, 2.0], mask=[False, True])


@pytest.mark.parametrize(
    "build",
    [
        lambda: pm.values("w0", MASKED),
        lambda: pm.values("w0", [1.0, np.ma.masked]),
        lambda: pm.points(w0=MASKED, b0=[1, 2]),
        lambda: pm.linspace("w0", 0, np.ma.masked, 3),
        lambda: pm.linspace("w0", 0, 1, np.ma.masked),
        lambda: pm.Sweep(fixed={"w0": MASKED[1], "b0": 0, "lr": 1}),
        lambda: pm.Sweep(fixed={"w0": 0, "b0": 0, "lr": 1}, horizon=np.ma.masked),
        lambda: pm.Sweep(fixed={"w0": 0, "b0": 0, "lr": 1}, tolerance=np.ma.masked),
        lambda: pm.simulate(loss="quadratic", w0=MASKED[1], b0=0, lr=1, epochs=3),
    ],
)
def test_a_masked_value_is_not_a_number(build):
    with pytest.raises(PlateaumapError, match="masked"):
        build()


@pytest.mark.parametrize("setting", ["threads", "workers", "scheduler"])
@pytest.mark.parametrize("value", [1, 0, "tcp://here:1", True])
def test_settings_beside_a_backend_are_refused(setting, value):
    with pytest.raises(PlateaumapError, match=f"{setting} = .*beside backend"):
        pm.run(small(), backend=LocalBackend(), **{setting: value})


@pytest.mark.parametrize("backend", [5, [], {}, Backend, "grid"])
def test_an_object_that_is_not_a_backend_is_refused(backend):
    with pytest.raises(PlateaumapError, match=r"backend = .*unknown"):
        pm.run(small(), backend=backend)


@pytest.mark.parametrize("scheduler", [5, "", b"tcp://here:1"])
def test_a_scheduler_is_an_address(scheduler):
    with pytest.raises(PlateaumapError, match=r"scheduler = .*must be an address"):
        pm.run(small(), scheduler=scheduler)


def small(**changes):
    fields = {"axes": [pm.linspace("w0", 0, 1, 3)], "fixed": {"b0": 0, "lr": 1}, "horizon": 9}
    return pm.Sweep(**fields | changes)


CHANGES = [{"horizon": 5}, {"until": "plateau"}, {"fixed": {"b0": 1, "lr": 1}}, {"name": "other"}]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_the_sweep_that_was_written_so(change):
    sweep, expected = small(), small(**change)
    copies = [
        sweep.model_copy(update=change),
        sweep.copy(update=change),
        sweep.with_settings(change),
        pm.Sweep.model_construct(**dict(sweep) | change),
    ]
    for changed in copies:
        assert changed == expected
        assert changed.fingerprint == expected.fingerprint
        assert changed.grid.fixed == expected.grid.fixed
    assert sweep == small()


@pytest.mark.parametrize("change", [{"horizon": -5}, {"fixed": {}}, {"axes": 3}, {"nothing": 1}])
def test_an_invalid_copy_is_refused(change):
    for build in (
        lambda: small().model_copy(update=change),
        lambda: small().copy(update=change),
        lambda: pm.Sweep.model_construct(**dict(small()) | change),
        lambda: pm.Sweep.model_validate(small().to_dict() | change),
    ):
        with pytest.raises(ValueError, match=next(iter(change))):
            build()


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_a_copy_is_equal_and_cannot_be_changed_either(again):
    sweep = small()
    assert sweep.fingerprint
    for one in (sweep, again(sweep)):
        assert one == sweep
        assert one.fingerprint == sweep.fingerprint
        for change in (
            lambda one=one: setattr(one, "horizon", 5),
            lambda one=one: delattr(one, "horizon"),
            lambda one=one: one.fixed.update(x=2),
            lambda one=one: one.fixed.__setitem__("x", 2.0),
            lambda one=one: one.fixed.pop("x"),
            lambda one=one: one.grid.fixed.clear(),
            lambda one=one: setattr(one.axes[0], "num", 5),
        ):
            with pytest.raises(PlateaumapError, match="cannot be changed"):
                change()
        assert one == small()


def test_an_axis_is_copied_with_the_values_that_follow_from_its_settings():
    axis = pm.linspace("w0", 0, 1, 3)
    assert axis.model_copy(update={"num": 5}) == pm.linspace("w0", 0, 1, 5)
    assert axis.model_copy() == copy.deepcopy(axis) == pickle.loads(pickle.dumps(axis)) == axis
    for change in ({"num": 0}, {"stop": -1}, {"values": [1.0, 2.0, 3.0]}, {"kind": "zip"}):
        with pytest.raises(SpecError):
            axis.model_copy(update=change)
    with pytest.raises(PlateaumapError, match="cannot be changed"):
        pm.points(w0=[1, 2]).values["w0"] = (3.0,)


def test_fixed_values_are_a_dictionary_for_all_who_only_read():
    fixed = small().fixed
    assert json.loads(json.dumps(fixed)) == fixed == dict(fixed) == fixed.copy()
    assert {**fixed, "x": 2.0} == fixed | {"x": 2.0}


def optimizer_of(init, update):
    return bowl(optimizer=lambda self, point: optax.GradientTransformation(init, update))


def stateless(change):
    return optimizer_of(lambda w: (), lambda g, s, w=None: (jax.tree.map(change, g), s))


@pytest.mark.parametrize(
    ("experiment", "reported"),
    [
        (stateless(lambda g: jnp.stack([g, g])), "of shape (2,)"),
        (stateless(lambda g: 1j * g), "complex128"),
        (stateless(lambda g: {"more": g}), "structure"),
        (optimizer_of(lambda w: (), lambda g, s, w=None: (None, s)), "structure"),
        (optimizer_of(lambda w: (), lambda g, s, w=None: (g, (1.0,))), "structure"),
        (optimizer_of(lambda w: jnp.int32(0), lambda g, s, w=None: (g, s + 0.5)), "float64[]"),
        (
            optimizer_of(lambda w: jnp.zeros(1), lambda g, s, w=None: (g, jnp.zeros(2))),
            "float64[2]",
        ),
    ],
)
def test_an_optimizer_that_a_loop_cannot_carry_is_refused(experiment, reported):
    (message,) = refused(experiment).values()
    assert "optimizer" in message
    assert reported in message


@pytest.mark.parametrize("start", [0, 0.0, np.float64(0), jnp.int32(0)])
def test_an_optimizer_may_count_in_python_numbers(start):
    counting = optimizer_of(lambda w: start, lambda g, s, w=None: (g, s + 1))
    assert len(pm.run(swept(counting), progress=False)) == 1


def test_a_loss_that_is_a_python_number_is_stationary():
    frame = pm.run(swept(bowl(loss=lambda self, w, point, loss_name: 3.0)), progress=False)
    assert frame["status"].tolist() == ["stationary"]
    assert frame["final_loss"].tolist() == [3.0]


class Reported(pm.measures.Measure):
    """A measure of one column that returns what it is given."""

    def __init__(self, column, value, epochs=()):
        self.columns, self.value, self.epochs = (column,), value, epochs

    def decisive_epochs(self, state):
        return self.epochs

    def result(self, state, start, end, record):
        return self.value


def category(value):
    column = Column("kind", "category", "1", "a kind", ("a", "b"))
    return with_measures(Reported(column, value))


@pytest.mark.parametrize("code", [2, 127, 256, 300, 2**32])
def test_a_category_that_does_not_exist_is_not_wrapped_to_another(code):
    with pytest.raises(PlateaumapError, match=f"'kind'.*category {code}"):
        pm.run(swept(category(code)), progress=False)


@pytest.mark.parametrize(("code", "read"), [(0, ["a"]), (1, ["b"]), (-1, [None]), (-300, [None])])
def test_a_category_is_an_index_or_negative_for_null(code, read):
    kinds = pm.run(swept(category(code)), progress=False)["kind"]
    assert kinds.astype(object).where(kinds.notna(), None).tolist() == read


@pytest.mark.parametrize("epochs", [3, [], "epoch"])
def test_decisive_epochs_are_a_tuple(epochs):
    column = Column("number", "float64", "1", "a number")
    (message,) = refused(with_measures(Reported(column, 1.0, epochs))).values()
    assert "decisive_epochs" in message


@pytest.mark.parametrize("names", [(), ("one", "two")])
def test_displacements_have_a_name_for_each_parameter(names):
    (message,) = refused(with_measures(pm.measures.Displacement(names))).values()
    assert "Displacement" in message


@pytest.mark.parametrize("categories", [["a"], (1, 2), "ab"])
def test_categories_are_a_tuple_of_strings(categories):
    with pytest.raises(ValueError, match="tuple of strings"):
        Column("kind", "category", "1", "a kind", categories)
