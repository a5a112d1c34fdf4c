"""A spec reports every fault at once, and comes back from every form the same."""

import copy
import functools
import hashlib
import importlib.metadata
import json
import math
import pickle
import string
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import optax
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plateaumap.experiment.protocol import Experiment
from plateaumap.experiment.reference import FunctionReference
from plateaumap.inputs.errors import PlateaumapError, SpecError
from plateaumap.sweep import axes as pm
from plateaumap.sweep.axes import Coordinate
from plateaumap.sweep.files import load_spec
from plateaumap.sweep.settings import parse_setting
from plateaumap.sweep.spec import Sweep


@dataclass(frozen=True)
class Bowl(Experiment):
    """An experiment that shares nothing with the neuron but the protocol."""

    coordinates = (
        Coordinate("u", "first parameter", None),
        Coordinate("v", "second parameter", None, -1.0, 1.0),
        Coordinate("mass", "mass", 2.0, 0.0, math.inf, minimum_excluded=True),
    )
    known_losses = ("round", "square", "odd")

    def init(self, point):
        return {"u": point["u"]}

    def loss(self, parameters, point, loss_name):
        return point["mass"] * parameters["u"] ** 2

    def optimizer(self, point):
        return optax.sgd(0.1)

    def why_not_loss(self, loss_name):
        return "its own is `square`" if loss_name == "odd" else None

    def why_not_values(self, loss_name, name, values):
        return f"{name} has 0.5" if loss_name == "square" and 0.5 in values else None

    def describe(self):
        return {"kind": "bowl"}


def hinge(z, y):
    return abs(z - y)


def quarter(z, y):
    return (z - y) ** 4


def atlas(**changes):
    fields = {
        "name": "plateau_atlas",
        "losses": ("quadratic", "cross_entropy"),
        "axes": [
            pm.linspace("w0", -8, 8, 257),
            pm.linspace("b0", -8, 8, 257),
            pm.values("lr", [0.001, 0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5, 10]),
        ],
        "fixed": {"x": 1.0, "y": 0.0},
        "horizon": 100_000,
    }
    return Sweep(**(fields | changes))


def small(**changes):
    return Sweep(**({"axes": [pm.values("w0", [1, 2])], "fixed": {"b0": 0, "lr": 1}} | changes))


def faults_of(build):
    with pytest.raises(SpecError) as caught:
        build()
    assert "pydantic" not in str(caught.value)
    return [(fault.path, str(fault)) for fault in caught.value.faults]


# --- what a spec holds ------------------------------------------------------------------------


def test_the_contracts_sweep():
    sweep = atlas()
    assert (sweep.size, sweep.rows) == (257 * 257 * 9, 2 * 257 * 257 * 9)
    assert sweep.loss_names == ("quadratic", "cross_entropy")
    assert sweep.grid.shape == (257, 257, 9)
    unlucky = np.ravel_multi_index((160, 160, 4), sweep.grid.shape)
    point = {name: float(value) for name, value in sweep.grid.coordinates_at(unlucky).items()}
    assert point == {"w0": 2.0, "b0": 2.0, "lr": 0.15, "x": 1.0, "y": 0.0}


def test_defaults():
    sweep = small()
    assert sweep.loss_names == ("quadratic", "cross_entropy")
    assert sweep.experiment.describe() == {"kind": "single_neuron", "activation": "sigmoid"}
    assert (sweep.precision, sweep.method, sweep.until) == ("float64", "simulate", "tenth")
    assert (sweep.horizon, sweep.tolerance) == (100_000, 0.01)
    assert dict(sweep.fixed) == {"b0": 0.0, "lr": 1.0, "x": 1.0, "y": 0.0}
    assert small(method="leap").horizon is None


def test_a_default_that_is_written_out_changes_nothing():
    assert small().fingerprint == small(fixed={"y": 0, "x": 1, "lr": 1, "b0": 0}).fingerprint
    on_axis = small(axes=[pm.points(w0=[1], y=[0.5])])
    assert "y" not in on_axis.fixed


def test_a_sweep_may_have_no_axis():
    sweep = Sweep(fixed={"w0": 1, "b0": 2, "lr": 3})
    assert (sweep.size, sweep.rows) == (1, 2)


def test_a_billion_points_cost_nothing():
    sweep = Sweep(axes=[pm.linspace(name, 1, 2, 1000) for name in ("w0", "b0", "lr")])
    assert sweep.size == 10**9
    assert sweep.grid.coordinates(10**9 - 1, 10**9)["lr"].tolist() == [2.0]


def test_another_experiment_brings_its_own_coordinates_and_losses():
    sweep = Sweep(experiment=Bowl(), losses="round", axes=[pm.points(u=[1, 2], v=[0, 1])])
    assert sweep.loss_names == ("round",)
    assert sweep.grid.coordinates(0, 2)["mass"].tolist() == [2.0, 2.0]
    reported = faults_of(
        lambda: Sweep(
            experiment=Bowl(),
            losses=["odd", "quadratic"],
            axes=[pm.values("w0", [1])],
            fixed={"v": 2, "mass": 0},
        )
    )
    assert [path for path, _ in reported] == [
        "losses[0]",
        "losses[1]",
        "axes[0].name",
        "fixed.u",
        "fixed.v",
        "fixed.mass",
    ]
    assert "its own is `square`" in reported[0][1]


def test_it_is_frozen_short_and_portable():
    sweep = atlas()
    with pytest.raises(ValueError, match="frozen"):
        sweep.horizon = 3
    assert len(repr(sweep)) < 400
    assert str(sweep) == repr(sweep)
    for again in (copy.deepcopy(sweep), pickle.loads(pickle.dumps(sweep))):
        assert again == sweep
        assert hash(again) == hash(sweep)
    assert sweep != atlas(name="other")
    assert sweep != "plateau_atlas"


# --- losses that are functions ----------------------------------------------------------------


def test_a_function_stands_in_the_spec_by_place_and_digest():
    (words,) = small(losses=[hinge]).to_dict()["losses"]
    (again,) = small(losses=[copy.copy(hinge)]).to_dict()["losses"]
    assert words == again
    assert (words["name"], words["function"]) == ("hinge", f"{__name__}:hinge")
    assert len(words["sha256"]) == 64
    assert words["traced_with"]["jax"] == importlib.metadata.version("jax")


def test_a_loaded_function_can_be_compared_but_not_run():
    sweep = small(losses=["quadratic", hinge])
    sweep.require_runnable()
    loaded = Sweep.from_json(sweep.to_json())
    assert loaded == sweep
    assert loaded.fingerprint == sweep.fingerprint
    assert loaded.loss_names == ("quadratic", "hinge")
    assert isinstance(loaded.losses[1], FunctionReference)
    assert not callable(loaded.losses[1])
    with pytest.raises(PlateaumapError, match=r"'hinge' .*Sweep\(losses=\[\.\.\.\]\)"):
        loaded.require_runnable()
    loaded.with_settings({"losses": ["quadratic", hinge]}).require_runnable()


def scaled(loss, factor):
    @functools.wraps(loss)
    def wrapped(z, y):
        return factor * loss(z, y)

    return wrapped


def power(z, y, exponent=2):
    return abs(z - y) ** exponent


def test_functions_that_differ_have_different_fingerprints():
    other_default = copy.copy(power)
    cubed = type(power)(power.__code__, globals(), "power", (3,))
    losses = [hinge, quarter, scaled(hinge, 2), scaled(hinge, 3), power, cubed]
    prints = [small(losses=[loss]).fingerprint for loss in losses]
    assert len(set(prints)) == len(prints)
    assert small(losses=[other_default]).fingerprint == small(losses=[power]).fingerprint


def test_functions_without_source_are_distinguished_by_their_code():
    one, two, again = (
        eval(text) for text in ("lambda z, y: z", "lambda z, y: -z", "lambda z, y: z")
    )
    prints = [small(losses=[loss]).fingerprint for loss in (one, two, again)]
    assert prints[0] == prints[2] != prints[1]


def test_what_jax_wraps_is_looked_through():
    jax = pytest.importorskip("jax")
    assert small(losses=[jax.jit(hinge)]).fingerprint == small(losses=[hinge]).fingerprint
    doubled = scaled(hinge, 2)
    assert small(losses=[jax.jit(doubled)]).fingerprint == small(losses=[doubled]).fingerprint


@pytest.mark.parametrize(
    ("loss", "reported"),
    [
        ({"name": "a"}, "keys must be name, function, sha256"),
        ({"name": "a", "function": "m:a", "sha256": "xyz"}, "64 hexadecimal digits"),
        ({"name": 3, "function": "m:a", "sha256": "0" * 64}, "name = 3"),
        (functools.partial(power, exponent=3), "has no name; define a function"),
        (scaled(hinge, object()), "raised TypeError"),
    ],
)
def test_a_loss_that_cannot_be_recorded_is_refused(loss, reported):
    faults = faults_of(lambda: small(losses=[loss]))
    assert {path for path, _ in faults} == {"losses[0]"}
    assert any(reported in message for _, message in faults)


# --- faults -----------------------------------------------------------------------------------

LINE = {"kind": "linspace", "name": "w0", "start": 0, "stop": 1, "num": 3}

FAULTS = [
    ({"name": ""}, "name", "''", "must not be empty"),
    ({"name": 3}, "name", "name = 3", "must be a string"),
    ({"name": "a/b"}, "name", "'a/b' contains a path separator", "use letters"),
    ({"name": "a\\b"}, "name", "path separator", "use letters"),
    ({"name": ".hidden"}, "name", "'.hidden' starts with a dot", "use letters"),
    ({"name": ".."}, "name", "starts with a dot", "use letters"),
    ({"name": "a\nb"}, "name", "control character", "use letters"),
    ({"name": "a\x00"}, "name", "control character", "use letters"),
    ({"name": " a"}, "name", "outer spaces", "use letters"),
    ({"name": "a" * 101}, "name", "aaa", "at most 100 characters"),
    ({"name": "\N{GRINNING FACE}" * 60}, "name", "\N{GRINNING FACE}", "at most 200 bytes"),
    ({"experiment": "neuron"}, "experiment", "'neuron' is not an experiment", "SingleNeuron()"),
    ({"experiment": Bowl}, "experiment", "Bowl", "Bowl()"),
    ({"experiment": {"activation": "sigmod"}}, "experiment", "'sigmod'", "'sigmoid'"),
    ({"experiment": {"kind": "bowl"}}, "experiment", "'bowl'", "'single_neuron'"),
    ({"losses": []}, "losses", "no loss is given", "at least one"),
    ({"losses": 3}, "losses", "losses = 3", "must be a list"),
    ({"losses": [3]}, "losses[0]", "3 is not a loss", "function loss(z, y)"),
    ({"losses": [""]}, "losses[0]", "'' is not a loss", "must be a name"),
    ({"losses": ["quadratc"]}, "losses[0]", "'quadratc'", "did you mean 'quadratic'?"),
    ({"losses": ["quadratic", "quadratic"]}, "losses[1]", "'quadratic'", "each loss once"),
    ({"losses": [lambda z, y: z, lambda z, y: y]}, "losses[1]", "'<lambda>'", "rename"),
    ({"axes": LINE, "fixed": {"w0": 1, "b0": 1, "lr": 1}}, "axes", "axes = {", "must be a list"),
    (
        {"axes": [3], "fixed": {"w0": 1, "b0": 1, "lr": 1}},
        "axes[0]",
        "axes[0] = 3: not an axis",
        "linspace(",
    ),
    ({"axes": [LINE | {"num": 0}]}, "axes[0].num", "0: must be", "at least 1"),
    ({"axes": [LINE | {"start": 5}]}, "axes[0].stop", "start = 5.0", "must be start < stop"),
    ({"axes": [LINE | {"nums": 5}]}, "axes[0].nums", "nums = 5", "did you mean 'num'?"),
    ({"axes": [LINE | {"values": [0.0]}]}, "axes[0].values", "1 values", "omit `values`"),
    (
        {"axes": [{"kind": "linspace", "name": "w0", "stop": 1, "num": 2}]},
        "axes[0].start",
        "is missing",
        "must be given",
    ),
    ({"axes": [LINE | {"kind": "lin"}]}, "axes[0]", "'lin' is not a kind", "mean 'linspace'?"),
    ({"axes": [{"name": "w0"}]}, "axes[0]", "'w0'}: an axis must have a kind", "kind = 'linspace'"),
    (
        {"axes": [{"kind": "zip", "axes": [LINE, {"kind": "values", "name": "y", "values": []}]}]},
        "axes[0].axes[1].values",
        "empty",
        "at least one",
    ),
    (
        {"axes": [{"kind": "points", "values": {"w0": [1], "y": [0, 1]}}]},
        "axes[0].values",
        "w0 has 1, y has 2",
        "same number",
    ),
    (
        {"axes": [{"kind": "points", "values": [1]}], "fixed": {"w0": 1, "b0": 1, "lr": 1}},
        "axes[0].values",
        "values = [1]: must be a table",
        "NAME: value",
    ),
    (
        {"axes": [{"kind": "geomspace", "name": "w0", "start": -1, "stop": 1, "num": 3}]},
        "axes[0].stop",
        "-1.0 to 1.0",
        "the same sign",
    ),
    (
        {"axes": [{"kind": "normal", "name": "w0", "mean": 0, "sd": 0, "num": 3, "seed": 0}]},
        "axes[0].sd",
        "sd = 0",
        "greater than 0",
    ),
    (
        {"axes": [{"kind": "uniform", "name": "w0", "low": 2, "high": 1, "num": 3, "seed": 0}]},
        "axes[0].high",
        "low = 2.0",
        "must be low < high",
    ),
    (
        {"axes": [pm.values("w0", [1]), pm.values("w1", [1])]},
        "axes[1].name",
        "'w1'",
        "did you mean 'w0'?",
    ),
    ({"axes": [pm.points(w0=[1], z=[1])]}, "axes[0].values.z", "'z'", "known: w0, b0, lr, x, y"),
    ({"axes": [LINE, LINE]}, "axes[1].name", "'w0' is given 2 times (axes[0].name", "keep one"),
    (
        {"axes": [pm.zip(pm.values("w0", [1]), pm.values("w0", [1]))]},
        "axes[0].axes[0].name",
        "'w0' is given 2 times",
        "keep one",
    ),
    ({"fixed": {"w0": 1, "b0": 0, "lr": 1}}, "fixed.w0", "'w0' is given 2 times", "keep one"),
    ({"fixed": {"lr": 1}}, "fixed.b0", "b0 (bias at the start) is not given", "put it on an"),
    ({"fixed": {"b0": 0, "lr": 1, "xx": 1}}, "fixed.xx", "'xx'", "did you mean 'x'?"),
    ({"fixed": {"b0": 0, "lr": 0}}, "fixed.lr", "lr = 0.0: lr (learning rate)", "greater than 0"),
    ({"fixed": {"b0": 0, "lr": -1}}, "fixed.lr", "lr = -1.0", "greater than 0"),
    ({"fixed": {"b0": 0, "lr": 1, "y": 1.5}}, "fixed.y", "y = 1.5", "at most 1"),
    ({"fixed": {"b0": 0, "lr": 1, "y": -0.1}}, "fixed.y", "y = -0.1", "at least 0"),
    ({"fixed": {"b0": math.nan, "lr": 1}}, "fixed.b0", "= nan: must be", "finite number"),
    ({"fixed": {"b0": math.inf, "lr": 1}}, "fixed.b0", "= inf: must be", "finite number"),
    ({"fixed": {"b0": "2", "lr": 1}}, "fixed.b0", "= '2': must be", "without quotes"),
    ({"fixed": {"b0": True, "lr": 1}}, "fixed.b0", "= True: must be", "finite number"),
    ({"fixed": {"b0": [1], "lr": 1}}, "fixed.b0", "= [1]: must be", "finite number"),
    ({"fixed": 3}, "fixed", "fixed = 3: must be a table", "NAME: value"),
    ({"fixed": {3: 1}}, "fixed", "the key 3", "strings as keys"),
    (
        {"axes": [pm.values("lr", [1, -2, 3, -4])], "fixed": {"w0": 1, "b0": 1}},
        "axes[0].values[1]",
        "axes[0].values[1] = -2.0: lr (learning rate) must be",
        "(1 more values of this axis are not)",
    ),
    (
        {"axes": [pm.linspace("lr", 0, 1, 3)], "fixed": {"w0": 1, "b0": 1}},
        "axes[0]",
        "axes[0] = 0.0: lr",
        "greater than 0",
    ),
    (
        {"axes": [pm.points(w0=[1, 2], y=[0, 2])]},
        "axes[0].values.y[1]",
        "= 2.0: y (target) must be",
        "at most 1",
    ),
    (
        {"axes": [pm.zip(pm.values("w0", [1, 2]), pm.values("y", [0, 2]))]},
        "axes[0].axes[1].values[1]",
        "= 2.0: y (target) must be",
        "at most 1",
    ),
    (
        {
            "axes": [pm.linspace(n, 1, 2, 10**5) for n in ("w0", "b0", "lr", "x")],
            "fixed": {},
        },
        "axes",
        "2.000e+20 rows",
        "at most 9,223,372,036,854,775,807",
    ),
    ({"horizon": 0}, "horizon", "0: must be", "at least 1"),
    ({"horizon": -5}, "horizon", "-5: must be", "at least 1"),
    ({"horizon": 2.5}, "horizon", "= 2.5: must be", "whole number"),
    ({"horizon": math.inf}, "horizon", "= inf: must be", "whole number"),
    ({"horizon": True}, "horizon", "= True: must be", "whole number"),
    ({"horizon": "100"}, "horizon", "= '100': must be", "without quotes"),
    ({"horizon": 2**63}, "horizon", "= 9223372036854775808: must", "at most"),
    ({"horizon": None}, "horizon", "None", "'leap'"),
    ({"precision": "float16"}, "precision", "'float16'", "known: float64, float32"),
    ({"precision": 64}, "precision", "64", "known: float64, float32"),
    ({"method": "jump"}, "method", "'jump'", "known: simulate, leap"),
    ({"until": "plateu"}, "until", "'plateu'", "did you mean 'plateau'?"),
    ({"tolerance": -0.1}, "tolerance", "= -0.1: must be", "at least 0"),
    ({"tolerance": math.nan}, "tolerance", "= nan: must be", "finite number"),
    ({"tolerance": "0"}, "tolerance", "= '0': must be", "without quotes"),
    ({"horizn": 7}, "horizn", "= 7: unknown key", "did you mean 'horizon'?"),
    ({"seed": 7}, "seed", "= 7: unknown key", "known: name, experiment, losses"),
]


def spoilt(changes):
    return {"axes": [LINE], "fixed": {"b0": 0, "lr": 1}} | changes


@pytest.mark.parametrize(("changes", "path", "value", "remedy"), FAULTS)
def test_a_fault_is_reported_with_place_value_and_remedy(changes, path, value, remedy):
    for build in (lambda f: Sweep(**f), Sweep.from_dict):
        ((actual, message),) = faults_of(lambda build=build: build(spoilt(changes)))
        assert actual == path
        assert value in message
        assert remedy in message


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(FAULTS), min_size=1, max_size=6))
def test_all_faults_are_reported_at_once(chosen):
    together, expected = {}, set()
    for changes, path, _, _ in chosen:
        # Faults of one field would replace each other; those of another experiment, of the axes
        # and of the fixed values depend on each other.
        if not set(changes) & {"experiment", "axes", "fixed", *together}:
            together |= changes
            expected.add(path)
    if expected:
        reported = faults_of(lambda: Sweep(**spoilt(together)))
        assert {path for path, _ in reported} == expected


def test_faults_of_all_fields_are_reported_together_in_the_order_of_the_fields():
    reported = faults_of(
        lambda: Sweep(
            name="a/b",
            horizn=3,
            losses=["quadratc", 3],
            axes=[LINE | {"name": "wO", "num": 0, "start": 4}, pm.values("lr", [-1, 2])],
            fixed={"y": 2, "lr": "a", "z": 3},
            horizon=2.5,
            experiment={"activation": "sigmod"},
            tolerance=-1,
            method="hop",
            until="x",
            precision="float16",
        )
    )
    assert [path for path, _ in reported] == [
        "name",
        "experiment",
        "losses[1]",
        "losses[0]",
        "axes[0].stop",
        "axes[0].num",
        "axes[0]",
        "axes[1].values[0]",
        "fixed.z",
        "fixed.lr",
        "fixed.w0",
        "fixed.b0",
        "fixed.y",
        "fixed.lr",
        "horizon",
        "precision",
        "method",
        "until",
        "tolerance",
        "horizn",
    ]


def test_a_malformed_axis_still_counts_as_giving_its_coordinates():
    for axis in (
        LINE | {"num": 0},
        {"kind": "points", "values": {"w0": ["a"]}},
        {"kind": "zip", "axes": [LINE | {"num": "a"}]},
    ):
        reported = faults_of(lambda axis=axis: Sweep(axes=[axis], fixed={"b0": 0, "lr": 1}))
        assert not any("not given" in message for _, message in reported)


@pytest.mark.parametrize("fields", [3, None, "name", [1], {1: 2}])
def test_what_is_not_a_table_is_refused(fields):
    assert len(faults_of(lambda: Sweep.from_dict(fields))) == 1


@pytest.mark.parametrize("losses", ["quadratic", hinge])
def test_one_loss_needs_no_list(losses):
    assert small(losses=losses) == small(losses=[losses])


def test_numpy_is_welcome_everywhere():
    sweep = small(
        fixed={"b0": np.float64(0), "lr": np.int64(1)},
        horizon=np.int32(7),
        tolerance=np.float32(0.5),
        axes=[{"kind": "points", "values": {"w0": np.array([1, 2])}}],
    )
    assert (sweep.horizon, sweep.tolerance, sweep.fixed["lr"]) == (7, 0.5, 1.0)
    assert small(horizon=1e5).horizon == 100_000


# --- round trips and fingerprints -------------------------------------------------------------

reals = st.floats(allow_nan=False, allow_infinity=False)
rates = st.floats(1e-12, 1e12)
shares = st.floats(0, 1)
names = st.text(string.ascii_letters + string.digits + "_-é ", min_size=1).map(
    lambda name: name.strip()[:50] or "a"
)


@st.composite
def axis_for(draw, name, values):
    given_values = st.lists(values, min_size=1, max_size=4)
    low, high = draw(st.lists(values, min_size=2, max_size=2, unique=True).map(sorted))
    num, seed = draw(st.integers(1, 5)), draw(st.integers(0, 2**40))
    axes = [pm.values(name, draw(given_values)), pm.points(**{name: draw(given_values)})]
    if low + 0.0 != high + 0.0 and max(abs(low), abs(high)) < 1e300:
        axes += [pm.linspace(name, low, high, num), pm.uniform(name, low, high, num, seed)]
        if low > 0:
            axes.append(pm.zip(pm.geomspace(name, low, high, num)))
    if name in ("w0", "b0") and abs(low) < 1e300:
        axes.append(pm.normal(name, low, 2.5, num, seed))
    return draw(st.sampled_from(axes))


@st.composite
def sweeps(draw):
    axes, fixed = [], {}
    of = {"w0": reals, "b0": reals, "lr": rates, "x": reals, "y": shares}
    for name in draw(st.permutations(list(of))):
        if draw(st.booleans()):
            axes.append(draw(axis_for(name, of[name])))
        elif draw(st.booleans()) or name in ("w0", "b0", "lr"):
            fixed[name] = draw(of[name])
    method = draw(st.sampled_from(["simulate", "leap"]))
    horizon = draw(st.integers(1, 2**63 - 1))
    losses = st.lists(st.sampled_from(["quadratic", "cross_entropy", hinge, quarter]), min_size=1)
    return Sweep(
        name=draw(names),
        losses=draw(losses.map(lambda chosen: list(dict.fromkeys(chosen)))),
        axes=axes,
        fixed=fixed,
        horizon=None if method == "leap" and draw(st.booleans()) else horizon,
        precision=draw(st.sampled_from(["float64", "float32", "float32_plain"])),
        method=method,
        until=draw(st.sampled_from(["tenth", "plateau"])),
        tolerance=draw(st.floats(0, 1e9)),
    )


@settings(deadline=None, max_examples=25)
@given(sweeps())
def test_every_form_gives_the_same_sweep_back(sweep):
    for again in (
        Sweep.from_dict(sweep.to_dict()),
        Sweep.from_json(sweep.to_json()),
        Sweep.from_toml(sweep.to_toml()),
    ):
        assert again == sweep
        assert again.fingerprint == sweep.fingerprint
        assert again.to_json() == sweep.to_json()
        assert hash(again) == hash(sweep)


@settings(deadline=None, max_examples=25)
@given(sweeps(), names)
def test_the_fingerprint_ignores_name_and_order_of_keys(sweep, name):
    words = sweep.to_dict()
    turned = {key: words[key] for key in reversed(words)} | {"name": name}
    turned["fixed"] = {key: words["fixed"][key] for key in reversed(words["fixed"])}
    assert Sweep.from_dict(turned).fingerprint == sweep.fingerprint


@settings(deadline=None, max_examples=25)
@given(sweeps())
def test_the_grid_of_a_valid_sweep_never_fails(sweep):
    last = sweep.grid.coordinates(max(0, sweep.size - 100), sweep.size)
    assert set(last) == {"w0", "b0", "lr", "x", "y"}
    assert all(np.isfinite(column).all() for column in last.values())
    assert (last["lr"] > 0).all()
    assert ((last["y"] >= 0) & (last["y"] <= 1)).all()


def test_the_fingerprint_is_the_sha256_of_the_canonical_json():
    words = atlas().to_dict()
    del words["name"]
    text = json.dumps(words, sort_keys=True, separators=(",", ":"), allow_nan=False)
    assert atlas().fingerprint == hashlib.sha256(text.encode()).hexdigest()
    assert words["axes"][0]["values"] == [-8 + i / 16 for i in range(257)]


def test_integers_and_negative_zero_do_not_change_the_fingerprint():
    assert (
        small(fixed={"b0": 0, "lr": 5, "y": 0}).fingerprint
        == small(fixed={"b0": -0.0, "lr": 5.0, "y": -0.0}).fingerprint
    )
    assert (
        small(axes=[pm.values("w0", [0, 1])]).fingerprint
        == small(axes=[pm.values("w0", np.array([-0.0, 1.0]))]).fingerprint
    )
    assert small(horizon=10).fingerprint == small(horizon=10.0).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"losses": ["quadratic"]},
        {"losses": ["cross_entropy", "quadratic"]},
        {"axes": [pm.values("w0", [1, math.nextafter(2, 3)])]},
        {"fixed": {"b0": 0, "lr": 1, "x": 2}},
        {"horizon": 99_999},
        {"precision": "float32"},
        {"method": "leap", "horizon": 100_000},
        {"until": "plateau"},
        {"tolerance": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_of_the_rows_changes_the_fingerprint(change):
    assert small(**change).fingerprint != small().fingerprint


def test_toml_writes_no_horizon_as_a_word():
    sweep = small(method="leap", horizon=None)
    assert 'horizon = "none"' in sweep.to_toml()
    assert small(method="leap", horizon="none") == sweep


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("axes.w0.num=65", "axes.w0.num", 65),
        ("horizon=5_000", "horizon", 5000),
        (" fixed.y = 0.3 ", "fixed.y", 0.3),
        ("fixed.y=.3", "fixed.y", 0.3),
        ('losses=["quadratic"]', "losses", ["quadratic"]),
        ("losses=quadratic", "losses", "quadratic"),
        ('name="a=b"', "name", "a=b"),
        ("name=a=b", "name", "a=b"),
        ("name=", "name", ""),
        ("name=2020-01-01", "name", "2020-01-01"),
        ("horizon=1\nname='x'", "horizon", "1\nname='x'"),
        ("fixed={b0 = 1.0}", "fixed", {"b0": 1.0}),
        ("a=true", "a", True),
    ],
)
def test_a_setting_is_read_as_toml_or_text(text, name, value):
    actual = parse_setting(text)
    assert actual == (name, value)
    assert type(actual[1]) is type(value)


@pytest.mark.parametrize("text", ["horizon", "", "=3", " =3"])
def test_a_setting_needs_a_name_and_a_value(text):
    with pytest.raises(PlateaumapError, match="NAME=VALUE"):
        parse_setting(text)


def test_settings_change_the_sweep_and_make_values_anew():
    changed = atlas().with_settings(
        {
            "horizon": 5000,
            "axes.w0.num": 65,
            "axes.lr.values": [1, 2],
            "fixed.y": 0.3,
            "losses": "quadratic",
            "name": "other",
            "experiment.activation": "sigmoid",
        }
    )
    assert changed == Sweep(
        name="other",
        losses=["quadratic"],
        axes=[
            pm.linspace("w0", -8, 8, 65),
            pm.linspace("b0", -8, 8, 257),
            pm.values("lr", [1, 2]),
        ],
        fixed={"x": 1, "y": 0.3},
        horizon=5000,
    )


def test_an_axis_that_is_not_changed_keeps_its_stored_values():
    words = atlas().to_dict()
    words["axes"][1]["values"][1] = -7.9374
    changed = Sweep.from_dict(words).with_settings({"axes.w0.num": 3})
    assert changed.axes[0].values == (-8.0, 0.0, 8.0)
    assert changed.axes[1].values[1] == -7.9374


def test_settings_reach_into_a_zip():
    axes = [pm.zip(pm.linspace("w0", 0, 1, 2), pm.zip(pm.normal("b0", 0, 1, 2, 5)))]
    sweep = Sweep(axes=axes, fixed={"lr": 1})
    changed = sweep.with_settings({"axes.w0.num": 4, "axes.b0.num": 4})
    assert changed.axes == (
        pm.zip(pm.linspace("w0", 0, 1, 4), pm.zip(pm.normal("b0", 0, 1, 4, 5))),
    )
    ((path, message),) = faults_of(lambda: sweep.with_settings({"axes.w0.num": 4}))
    assert path == "axes[0].axes"
    assert "w0 has 4, b0 has 2" in message


def test_settings_keep_the_functions():
    assert small(losses=[hinge]).with_settings({"horizon": 3}).losses == (hinge,)


@pytest.mark.parametrize(
    ("setting", "value", "path", "reported"),
    [
        ("horizn", 3, "horizn", "did you mean 'horizon'?"),
        ("axes.w1.num", 3, "axes.w1.num", "did you mean 'w0'?"),
        ("axes.w0.nm", 3, "axes.w0.nm", "did you mean 'num'?"),
        ("axes.w0.values", [1], "axes.w0.values", "known: name, start, stop, num"),
        ("axes.w0", 3, "axes.w0", "axes.COORDINATE.SETTING"),
        ("axes.w0.num.x", 3, "axes.w0.num.x", "axes.COORDINATE.SETTING"),
        ("horizon.x", 3, "horizon.x", "axes.COORDINATE.SETTING"),
        ("", 3, "", "unknown setting ''"),
        ("axes.w0.num", 0, "axes[0].num", "at least 1"),
        ("fixed.lr", 3, "fixed.lr", "given 2 times"),
        ("fixed.q", 3, "fixed.q", "is not a coordinate"),
        ("horizon", "soon", "horizon", "= 'soon': must be"),
        ("experiment.activation", "sigmod", "experiment.activation", "'sigmod'"),
    ],
)
def test_a_setting_that_leads_nowhere_is_refused(setting, value, path, reported):
    ((actual, message),) = faults_of(lambda: atlas().with_settings({setting: value}))
    assert actual == path
    assert reported in message


def test_all_settings_that_lead_nowhere_are_reported_at_once():
    reported = faults_of(lambda: atlas().with_settings({"a": 1, "axes.z.num": 2, "horizon": 3}))
    assert [path for path, _ in reported] == ["a", "axes.z.num"]


# --- files ------------------------------------------------------------------------------------

CORNER = """
name = "unlucky_corner"
losses = ["quadratic", "cross_entropy"]
horizon = 20000
fixed = { b0 = 2.0 }
[[axes]]
kind = "linspace"
name = "w0"
start = 0
stop = 4
num = 65
[[axes]]
kind = "points"
values = { lr = [0.15, 0.005], y = [0.0, 0.0] }
"""


def test_the_contracts_file(tmp_path):
    path = tmp_path / "corner.toml"
    path.write_text(CORNER)
    assert load_spec(path) == Sweep(
        name="unlucky_corner",
        axes=[pm.linspace("w0", 0, 4, 65), pm.points(lr=[0.15, 0.005], y=[0, 0])],
        fixed={"b0": 2},
        horizon=20_000,
    )


@pytest.mark.parametrize(("suffix", "write"), [(".toml", Sweep.to_toml), (".json", Sweep.to_json)])
def test_a_written_file_is_read_back(tmp_path, suffix, write):
    path = tmp_path / f"spec{suffix}"
    path.write_text(write(atlas()), encoding="utf-8")
    assert Sweep.load(path) == load_spec(str(path)) == atlas()


SCRIPT = """
import neighbour
from plateaumap.sweep.axes import values
from plateaumap.sweep.spec import Sweep

def own(z, y):
    return neighbour.SCALE * (z - y) ** 2

sweep = Sweep(losses=[own], axes=[values("w0", [1, 2])], fixed={"b0": 0, "lr": 1})

if __name__ == "__main__":
    print(sweep.fingerprint)
"""


def test_a_script_defines_the_same_sweep_whoever_runs_it(tmp_path):
    (tmp_path / "neighbour.py").write_text("SCALE = 2")
    path = tmp_path / "own_sweep_script.py"
    path.write_text(SCRIPT)
    before = list(sys.path)
    sweep = load_spec(path)
    assert sys.path == before
    assert sweep.losses[0](3, 1) == 8
    assert sweep.to_dict()["losses"][0]["function"] == "own_sweep_script:own"
    by_itself = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, check=True
    )
    assert by_itself.stdout.strip() == sweep.fingerprint
    assert pickle.loads(pickle.dumps(sweep)) == sweep


@pytest.mark.parametrize(
    ("name", "content", "reported"),
    [
        ("none.toml", None, ["none.toml", "does not exist"]),
        ("folder.toml", "<folder>", ["folder.toml", "is a folder"]),
        ("spec.yaml", "a: 1", ["spec.yaml", "'.yaml'", ".toml or .json or .py"]),
        ("spec", "a: 1", ["has the suffix ''", ".toml"]),
        ("bad.toml", "name = 'a'\nhorizon = = 3\n", ["bad.toml", "not valid TOML", "line 2"]),
        ("bytes.toml", b"name = '\xff'", ["bytes.toml", "not UTF-8"]),
        ("bad.json", '{"name": \n}', ["bad.json", "not valid JSON", "line 2"]),
        ("list.json", "[1, 2]", ["list.json", "must be a table"]),
        (
            "nan.json",
            '{"tolerance": NaN, "fixed": {"w0": 1, "b0": 1, "lr": 1}}',
            ["= nan"],
        ),
        (
            "fault.toml",
            CORNER.replace("65", "0"),
            ["fault.toml", "axes[0].num = 0: must"],
        ),
        ("empty.py", "x = 1", ["empty.py", "does not define `sweep`"]),
        ("other.py", "sweep = 3", ["other.py", "defines sweep = 3"]),
        ("raises.py", "1 / 0", ["raises.py", "ZeroDivisionError", "fix the script"]),
        ("syntax.py", "sweep = (", ["syntax.py", "SyntaxError"]),
        (
            "fault.py",
            "from plateaumap.sweep.spec import Sweep\nsweep = Sweep(horizon=0)",
            ["horizon"],
        ),
    ],
)
def test_a_file_that_holds_no_sweep_is_refused(tmp_path, name, content, reported):
    path = tmp_path / name
    if content == "<folder>":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PlateaumapError) as caught:
        load_spec(path)
    for words in reported:
        assert words in str(caught.value)


def test_reading_a_spec_runs_no_script(tmp_path):
    path = tmp_path / "spec.py"
    path.write_text("raise SystemExit")
    with pytest.raises(PlateaumapError, match="suffix"):
        Sweep.load(path)


def test_neither_grid_nor_spec_imports_jax():
    code = "import sys, plateaumap.sweep.spec; print('jax' in sys.modules)"
    actual = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert actual.stdout.strip() == "False"


rubbish = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["linspace", "points", "zip", "w0", hinge, Bowl(), np.eye(2), {1}, b"w0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*LINE, "values", "axes", "w0", "lr"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from(list(Sweep.model_fields)), rubbish))
@example({"method": np.eye(2)})
@example({"precision": np.eye(2), "until": np.eye(2), "horizon": np.eye(2)})
def test_rubbish_is_refused_and_never_crashes(fields):
    try:
        sweep = Sweep(**fields)
    except SpecError as error:
        reported = str(error)
    else:
        reported = ""
        assert sweep.experiment == Bowl() or Sweep.from_json(sweep.to_json()) == sweep
    assert "pydantic" not in reported


def test_a_value_that_one_loss_cannot_have_is_reported_with_that_loss():
    with pytest.raises(SpecError) as caught:
        Sweep(
            experiment=Bowl(),
            losses=["round", "square"],
            axes=[pm.values("u", [0.25, 0.5])],
            fixed={"v": 0.5},
        )
    reported = {fault.path: str(fault) for fault in caught.value.faults}
    assert set(reported) == {"axes[0].name", "fixed.v"}
    assert all("square" in message and "round" not in message for message in reported.values())
