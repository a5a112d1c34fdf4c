"""Errors: one message, every fault with its path."""

import copy
import pickle

import pytest

from plateaumap.inputs.errors import Fault, PlateaumapError, SpecError, advice


def test_every_error_is_a_value_error():
    assert issubclass(PlateaumapError, ValueError)
    assert issubclass(SpecError, PlateaumapError)


def test_one_fault_makes_one_line():
    error = SpecError([Fault("axes[0].num", "0 is too small; give 1")], "the sweep 'a'")
    assert str(error) == "the sweep 'a': axes[0].num: 0 is too small; give 1"


def test_several_faults_are_counted_and_listed():
    faults = [Fault("horizon", "bad"), Fault("", "worse")]
    assert str(SpecError(faults, "it")).splitlines() == [
        "2 faults in it:",
        "  horizon: bad",
        "  worse",
    ]


def test_a_fault_shows_path_and_value():
    assert str(Fault("num", "must be at least 1", "0")) == "num = 0: must be at least 1"
    assert str(Fault("", "must be a table", "3")) == "3: must be a table"


@pytest.mark.parametrize("through", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_faults_survive_the_way_from_another_process(through):
    error = SpecError([Fault("a", "b"), Fault("c", "d")], "it")
    again = through(error)
    assert (again.faults, str(again)) == (error.faults, str(error))


def test_advice_names_the_closest_match_and_all_that_is_known():
    assert advice("horizn", ["name", "horizon"]) == "did you mean 'horizon'? (known: name, horizon)"
    assert advice("zzz", ["name", "horizon"]) == "known: name, horizon"
    assert advice("zzz", []) == "none is known"
