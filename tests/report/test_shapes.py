"""`plateaumap report` of sweeps of every shape: what is drawn, said and refused."""

import re
from pathlib import Path

import pytest
from tests.marks import slow
from tests.program import plateaumap, settings_restored
from tests.report.folders import fill
from tests.report.tables import table

import plateaumap as pm
from plateaumap.report import write_report

POINT = {"w0": 2.0, "b0": 2.0, "lr": 0.15}
SHAPES = {
    "one point": ([], {"plateau_bars", "learning_curves"}),
    "one axis": ([pm.linspace("w0", -1, 3, 41)], {"cut", "survival"}),
    "three axes": (
        [
            pm.linspace("w0", -1, 3, 5),
            pm.linspace("b0", -1, 3, 5),
            pm.values("lr", [0.15, 0.5, 1.5]),
        ],
        {"plateau_map", "ratio_map", "cut", "collapse", "plateau_fraction"},
    ),
    "few points": (
        [pm.points(w0=[0.6, 2.0], b0=[0.9, 2.0])],
        {"plateau_bars", "learning_curves"},
    ),
    "many points": (
        [pm.points(w0=[k / 9 for k in range(30)], b0=[(7 * k % 30) / 9 for k in range(30)])],
        {"plateau_points", "survival"},
    ),
}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with settings_restored(tmp_path_factory.mktemp("cache")):
        yield


@pytest.mark.parametrize(
    "shape", ["one point", "few points", *slow("one axis", "three axes", "many points")]
)
def test_a_report_of_any_shape_has_its_figures_and_its_page(tmp_path, shape):
    axes, figures = SHAPES[shape]
    on_axes = {name for axis in axes for name in axis.names}
    fixed = {name: value for name, value in POINT.items() if name not in on_axes}
    folder = tmp_path / "results"
    sweep = pm.Sweep(name="shape", axes=axes, fixed=fixed, horizon=400)
    results = pm.run(sweep, out=folder)
    if shape == "one point":
        done = plateaumap("report", folder)
        assert done.code == 0, done.output
    else:
        write_report(
            results,
            simulate=pm.simulate,
            theory=pm.add_theory,
            sizes=["page"],
            formats=[".png"],
            page=True,
        )
    drawn = {path.stem for path in (folder / "figures").glob("*.png")}
    assert figures <= drawn
    words = (folder / "figures" / "report.md").read_text()
    page = (folder / "report.html").read_text()
    for name in figures:
        assert f"]({name}.png)" in words
        assert f'alt="{name}"' in page
    assert f"{sweep.rows} runs with quadratic, cross_entropy" in page
    # Whatever the shape, the findings say something with a number in it.
    assert re.search(r"^- .*\d", words, re.MULTILINE)


def test_an_unfinished_sweep_is_refused_and_stays_as_it_is(tmp_path):
    frame = table({"w0": range(200)})
    folder = fill(tmp_path / "half", frame, skip=1)
    before = sorted(map(str, folder.rglob("*")))
    done = plateaumap("report", folder)
    assert done.code == 2
    assert "unfinished" in done.output
    assert "Traceback" not in done.output
    assert sorted(map(str, Path(folder).rglob("*"))) == before


def test_an_unfinished_sweep_can_be_explored(tmp_path):
    from plateaumap.explore.server import sweep_at
    from plateaumap.explore.view import View

    sweep = pm.Sweep(axes=[pm.linspace("w0", 0, 1, 200)], fixed={"b0": 0.0, "lr": 0.1})
    spec = sweep.to_dict()
    folder = fill(tmp_path / "half", table({"w0": range(200)}), skip=1, spec=spec)
    assert View.of(sweep_at(folder)).across == "w0"
