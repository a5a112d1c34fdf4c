import hashlib
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.report.folders import fill
from tests.report.tables import atlas, table
from tests.report.test_curves import curve

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report import applicable, findings, write_report
from plateaumap.report.figures import plateau_map, save
from plateaumap.storage.errors import StorageError
from plateaumap.storage.results import open_results

FRAME = atlas(5, rates=(0.005, 0.15))


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_every_figure_is_written_in_every_size_and_format(tmp_path):
    frame = table({"w0": [0, 1, 2]}, {"b0": [0, 1, 2]})
    folder = fill(tmp_path / "atlas", frame)
    before = content(folder)
    written = write_report(folder)
    names = [figure.name for figure in applicable(frame)]
    expected = {
        f"{n}{size}{s}" for n in names for size in ("", "_column") for s in (".png", ".pdf")
    }
    assert {path.name for path in written} == expected | {"report.md"}
    assert all(path.parent == folder / "figures" for path in written)
    after = content(folder)
    assert {name: after[name] for name in before} == before
    for path in written:
        start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".md": b"# made up"}[path.suffix]
        assert path.read_bytes().startswith(start)
    with Image.open(folder / "figures" / "plateau_map.png") as image:
        assert image.width == pytest.approx(180 / 25.4 * 300, abs=1)
    with Image.open(folder / "figures" / "plateau_map_column.png") as image:
        assert image.width == pytest.approx(85 / 25.4 * 300, abs=1)


def test_the_words_hold_findings_and_captions(tmp_path):
    write_report(fill(tmp_path / "atlas", FRAME), sizes=["column"], formats=[".png"])
    text = (tmp_path / "atlas" / "figures" / "report.md").read_text()
    for sentence in findings(FRAME):
        assert f"- {sentence}\n" in text
    for figure in applicable(FRAME):
        assert figure.caption in text


@pytest.mark.slow
def test_writing_twice_gives_the_same_files(tmp_path):
    folder = fill(tmp_path / "atlas", table({"w0": [0, 1, 2]}))
    write_report(folder)
    before = content(folder)
    write_report(open_results(folder))
    assert content(folder) == before


def test_an_unfinished_folder_is_refused_and_left_alone(tmp_path):
    folder = fill(tmp_path / "half", FRAME, skip=1)
    before = content(folder)
    with pytest.raises(StorageError, match=r"is unfinished: 1 of \d+ parts .* run the sweep again"):
        write_report(folder)
    assert content(folder) == before
    assert not (folder / "figures").exists()


@pytest.mark.parametrize("kind", ["absent", "empty", "foreign", "file"])
def test_what_is_no_folder_of_results_is_refused_and_left_alone(tmp_path, kind):
    path = tmp_path / "there"
    if kind in ("empty", "foreign"):
        path.mkdir()
    if kind == "foreign":
        (path / "thesis.tex").write_text("mine")
    if kind == "file":
        path.write_text("mine")
    before = content(tmp_path)
    with pytest.raises(StorageError):
        write_report(path)
    assert content(tmp_path) == before
    assert path.exists() == (kind != "absent")


def test_a_file_in_the_way_is_refused_and_left_alone(tmp_path):
    folder = fill(tmp_path / "atlas", table({"w0": [0, 1]}))
    (folder / "figures").write_text("mine")
    with pytest.raises(StorageError, match="figures"):
        write_report(folder)
    assert (folder / "figures").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    folder = fill(tmp_path / "atlas", table({"w0": [0, 1]}))
    before = content(folder)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match=r"cannot write to .*figures: permission is denied"):
        write_report(folder)
    assert content(folder) == before


def test_a_few_starts_get_their_curves(tmp_path):
    frame = table({"w0": [0.6, 2.0], "b0": [0.9, 2.0]}, losses=["quadratic"])
    spec = {
        "name": "two starts",
        "losses": ["quadratic"],
        "axes": [{"kind": "points", "values": {"w0": [0.6, 2.0], "b0": [0.9, 2.0]}}],
        "fixed": {"lr": 0.15, "x": 1.0, "y": 0.0},
        "horizon": 1000,
    }
    folder = fill(tmp_path / "two", frame, spec=spec)
    asked = []

    def simulate(**run):
        asked.append((run["loss"], run["w0"], run["b0"], run["lr"], run["epochs"] >= 300))
        return curve(run["w0"], run["lr"], run["epochs"])

    written = write_report(folder, simulate=simulate)
    assert folder / "figures" / "learning_curves.png" in written
    assert asked == [("quadratic", 0.6, 0.9, 0.15, True), ("quadratic", 2.0, 2.0, 0.15, True)]


SHAPES = {
    "one point": (table({"w0": [2]}), {"plateau_bars"}),
    "points": (table({"w0": [0.6, 2], "b0": [0.9, 2]}), {"plateau_bars"}),
    "one axis": (table({"w0": np.linspace(-4, 4, 30)}), {"cut", "survival"}),
    "cloud": (
        table({"w0": np.linspace(-2, 2, 30), "b0": np.linspace(-2, 2, 30) ** 2}),
        {"plateau_points", "survival"},
    ),
    "two axes": (atlas(9, rates=(0.15,)), {"plateau_map", "ratio_map", "difference_map", "cut"}),
    "one loss": (atlas(9, rates=(0.15,), losses=["quadratic"]), {"plateau_map", "cut"}),
    "three axes": (FRAME, {"plateau_map", "ratio_map", "cut", "collapse", "plateau_fraction"}),
    "nothing to learn": (table({"w0": [-30.0, -20.0]}), {"plateau_bars"}),
    "targets": (table({"y": np.linspace(0.2, 0.8, 4)}, {"w0": [1, 2]}), {"plateau_map"}),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", ["page", "column"])
def test_what_applies_can_be_drawn(shape, size):
    frame, least = SHAPES[shape]
    figures = applicable(frame)
    assert least <= {figure.name for figure in figures}
    for figure in figures:
        figure.draw(frame, size=size)
        assert len(figure.caption) > 40


def test_maps_do_not_apply_to_one_axis():
    names = {figure.name for figure in applicable(SHAPES["one axis"][0])}
    assert not names & {"plateau_map", "ratio_map", "plateau_bars", "plateau_points"}


def test_no_setting_of_the_users_is_changed_or_heeded(tmp_path):
    frame = table({"w0": [0, 1, 2]}, {"b0": [0, 1, 2]})
    usual, dark = tmp_path / "usual.png", tmp_path / "dark.png"
    save(plateau_map(frame), usual)
    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "black", "savefig.dpi": 20}):
        before = dict(matplotlib.rcParams)
        save(plateau_map(frame), dark)
        assert dict(matplotlib.rcParams) == before
    assert usual.read_bytes() == dark.read_bytes()


def test_figures_need_neither_jax_nor_pyplot():
    code = (
        "import sys; import plateaumap.report.figures, plateaumap.report; "
        "print(sorted({'jax', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_statuses_are_the_measures():
    from plateaumap.report import lattice
    from plateaumap.training.measures import STATUSES

    assert lattice.STATUSES == STATUSES


@pytest.mark.slow
def test_a_table_of_over_a_million_rows_is_drawn_in_seconds():
    import time

    small = atlas(9, rates=np.geomspace(0.001, 10, 9))
    repeat = np.round(np.linspace(0, 8, 257)).astype(int)
    rows = np.arange(len(small)).reshape(2, 9, 9, 9)[:, repeat][:, :, repeat]
    large = small.iloc[rows.reshape(-1)].reset_index(drop=True)
    _, w0, b0, _ = np.indices(rows.shape).reshape(4, -1)
    span = np.linspace(-8, 8, 257)
    large = large.assign(
        w0=span[w0], b0=span[b0], w0_index=w0.astype(np.int32), b0_index=b0.astype(np.int32)
    )
    assert len(large) == 1_188_882
    begun = time.process_time()
    plateau_map(large)
    assert time.process_time() - begun < 10


def test_an_empty_table_is_refused():
    with pytest.raises(PlateaumapError, match="has no rows"):
        applicable(FRAME[:0])
    with pytest.raises(PlateaumapError, match="pandas DataFrame, not a list"):
        applicable([1, 2])
    odd = FRAME.assign(status=pd.Categorical(["asleep"] * len(FRAME)))
    with pytest.raises(PlateaumapError, match="'asleep'"):
        applicable(odd)
