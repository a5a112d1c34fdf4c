"""`report.html` in a browser: the picture, tooltips, clicks and curves."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.marks import slow
from tests.pages.browser import opened, place
from tests.report.folders import fill
from tests.report.tables import table

import plateaumap as pm
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report import findings, write_report
from plateaumap.report.page import build_page, pack, picture
from plateaumap.storage.results import open_results

ATLAS = pm.Sweep(
    name="small_atlas",
    axes=[
        pm.linspace("w0", -8, 8, 17),
        pm.linspace("b0", -8, 8, 33),
        pm.values("lr", [0.005, 0.15]),
    ],
    horizon=3000,
)
PIXEL = {"name": "a figure", "caption": "its caption", "png": b"\x89PNG"}
QUANTITIES = ("loss", "output", "w", "b")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("atlas") / "results"
    write_page(pm.run(ATLAS, out=folder).path)
    return folder


def write_page(folder: Path) -> Path:
    results = open_results(folder)
    page = folder / "report.html"
    page.write_text(build_page(results, results.frame(), [PIXEL]))
    return page


def image(page) -> np.ndarray:
    values = page.evaluate(
        "Array.from(PlateauPage.model().image.data.image[0], (v) => Number.isNaN(v) ? null : v)"
    )
    return np.array(values, dtype=float)


def curves(page, loss: int) -> dict[str, np.ndarray]:
    columns = page.evaluate(f"({{...PlateauPage.model().curves[{loss}].data}})")
    return {name: np.array(values, dtype=float) for name, values in columns.items()}


def choose(page, control: str, place: int) -> np.ndarray:
    """Choose an option, wait for another picture, and return its numbers."""
    before = image(page)
    page.select_option(f"#{control}", str(place))
    page.wait_for_function(
        "(was) => Array.from(PlateauPage.model().image.data.image[0])"
        ".some((v, i) => !Object.is(v, was[i] ?? NaN))",
        arg=[None if np.isnan(v) else v for v in before.tolist()],
    )
    return image(page)


def expected(frame: pd.DataFrame, loss: str, lr: float) -> np.ndarray:
    rows = frame[(frame["loss"] == loss) & np.isclose(frame["lr"], lr)]
    rows = rows.sort_values(["b0_index", "w0_index"])
    return rows["plateau_epochs"].to_numpy(np.float64, na_value=np.nan)


def click(page, w0: float, b0: float) -> None:
    """Click the cell of an initial point."""
    page.mouse.click(*place(page, w0, b0))


def test_a_click_on_the_unlucky_start_shows_152_and_draws_both_curves(chromium, atlas):
    page, seen = opened(chromium, atlas / "report.html")
    frame = pm.load(atlas)
    slow = image(page)
    np.testing.assert_array_equal(slow, expected(frame, "quadratic", 0.005))
    fast = choose(page, "axis-0", 1)
    np.testing.assert_array_equal(fast, expected(frame, "quadratic", 0.15))
    click(page, 2, 2)
    page.wait_for_function("document.querySelector('#chosen').textContent.includes('152')")
    rows = {name: cells[0] for name, cells in table_of(page, "#chosen").items()}
    assert (rows["w0"], rows["b0"], rows["lr"]) == ("2", "2", "0.15")
    assert rows["plateau_epochs"] == "152"
    for number, loss in enumerate(ATLAS.losses):
        drawn = curves(page, number)
        epochs = drawn["epoch"].astype(int)
        curve = pm.simulate(loss=loss, w0=2, b0=2, lr=0.15, epochs=int(epochs[-1]))
        for name in QUANTITIES:
            np.testing.assert_allclose(drawn[name], curve[name].to_numpy()[epochs], rtol=1e-11)
    assert 152 in curves(page, 0)["epoch"]
    other = choose(page, "loss", 1)
    np.testing.assert_array_equal(other, expected(frame, "cross_entropy", 0.15))
    ratio = choose(page, "measure", 1)
    np.testing.assert_allclose(ratio, fast / other, rtol=1e-15)
    assert seen.requests == [(atlas / "report.html").as_uri()]
    assert seen.complaints == []


def table_of(page, selector: str) -> dict[str, list[str]]:
    """Return the cells of each row of a table, by the head of the row."""
    rows = page.eval_on_selector_all(
        f"{selector} tr", "rows => rows.map(r => Array.from(r.cells, (c) => c.textContent))"
    )
    return {head: cells for head, *cells in rows}


def test_a_tooltip_shows_the_row_of_the_cell_under_the_pointer(chromium, atlas):
    page, seen = opened(chromium, atlas / "report.html")
    frame = pm.load(atlas)
    for w0, b0 in ((-3, 4), (5, 2.5), (7.9, -7.6)):
        page.mouse.move(*place(page, w0, b0), steps=3)
        cell = round(w0), round(2 * b0) / 2
        page.wait_for_function(
            "([w0, b0]) => { const t = document.querySelector('#tooltip');"
            " return t && !t.hidden && t.textContent.includes(`w0${w0}`.repeat(1))"
            " && t.textContent.includes(`b0${b0}`) }",
            arg=[cell[0], cell[1]],
        )
        shown = table_of(page, "#tooltip")
        rows = frame.query("w0 == @cell[0] and b0 == @cell[1] and lr_index == 0").set_index("loss")
        assert shown["loss"] == list(ATLAS.losses)
        for name in ("status", "shape", "plateau_epochs"):
            values = [rows.loc[loss, name] for loss in ATLAS.losses]
            assert shown[name] == [
                "–" if pd.isna(v) else f"{v:,}" if name[0] == "p" else v for v in values
            ]
    page.mouse.move(2, 2)
    page.wait_for_function("document.querySelector('#tooltip').hidden")
    assert seen.complaints == []


def test_a_click_returns_the_row_of_the_table(chromium, atlas):
    page, _ = opened(chromium, atlas / "report.html")
    frame = pm.load(atlas)
    cell = page.evaluate("PlateauPage.tap(-3.2, 4.1)")
    assert cell["point"] == {"x": 1, "y": 0, "w0": -3, "b0": 4, "lr": 0.005}
    rows = frame.query("w0 == -3 and b0 == 4 and lr_index == 0").set_index("loss")
    for row in cell["rows"]:
        expected_row = rows.loc[row["loss"]]
        for name in ("plateau_epochs", "tenth_epochs", "steepest_epoch", "status", "shape"):
            assert row[name] == expected_row[name]
        for name in ("acceleration", "initial_gradient", "tangent_lag"):
            assert row[name] == pytest.approx(expected_row[name], rel=1e-7)


CURVES = [
    ("sigmoid", "quadratic", {"w0": 8.0, "b0": 0.5, "lr": 2.0}),
    ("sigmoid", "cross_entropy", {"w0": -9.0, "b0": 1.0, "lr": 0.3, "x": 0.7, "y": 0.25}),
    ("tanh", "quadratic", {"w0": 2.0, "b0": 1.0, "lr": 0.2, "y": -1.0}),
    ("tanh", "matching", {"w0": 2.0, "b0": 1.0, "lr": 0.2, "y": -0.5}),
    ("softsign", "matching", {"w0": 3.0, "b0": 1.0, "lr": 0.2, "y": 0.3}),
    ("algebraic", "matching", {"w0": 3.0, "b0": 1.0, "lr": 0.2, "y": 0.3}),
    ("identity", "quadratic", {"w0": 3.0, "b0": 1.0, "lr": 0.01, "y": 0.3}),
    ("relu", "matching", {"w0": 3.0, "b0": 1.0, "lr": 0.01, "y": 0.3}),
    ("leaky_relu", "matching", {"w0": -3.0, "b0": 1.0, "lr": 0.1, "y": 0.3}),
]


def test_curves_of_the_page_are_those_of_simulate(chromium, atlas):
    page, _ = opened(chromium, atlas / "report.html")
    for activation, loss, values in CURVES:
        point = {"x": 1.0, "y": 0.0} | values
        drawn = page.evaluate(f"Neuron.curve({json.dumps([activation, loss, point, 400])[1:-1]})")
        experiment = pm.SingleNeuron(activation=activation)
        curve = pm.simulate(loss=loss, **point, epochs=400, experiment=experiment)
        for name in QUANTITIES:
            expected = curve[name].to_numpy()[drawn["epoch"]]
            np.testing.assert_allclose(drawn[name], expected, rtol=1e-10, atol=1e-13)


SHAPES = {
    "one point": [],
    "one axis": [pm.linspace("w0", -4, 4, 9)],
    "points": [pm.points(w0=[0.6, 2.0, 2.0], b0=[0.9, 2.0, 2.0], lr=[0.15, 0.15, 0.005])],
    "logarithmic": [pm.geomspace("lr", 0.01, 1, 5), pm.values("w0", [0.0, 1.0, 5.0])],
}


@pytest.mark.parametrize("shape", ["one point", *slow("one axis", "points", "logarithmic")])
def test_sweeps_of_other_shapes_have_a_page(chromium, tmp_path, shape):
    axes = SHAPES[shape]
    on_axes = {name for axis in axes for name in axis.names}
    fixed = {k: v for k, v in {"w0": 2.0, "b0": 2.0, "lr": 0.15}.items() if k not in on_axes}
    sweep = pm.Sweep(name="other", axes=axes, fixed=fixed, horizon=500)
    page, seen = opened(chromium, write_page(pm.run(sweep, out=tmp_path / "other").path))
    lengths = pm.load(tmp_path / "other").query("loss == 'quadratic'")["plateau_epochs"]
    values = lengths.to_numpy(np.float64, na_value=np.nan)
    assert sorted(image(page)) == pytest.approx(sorted(values), nan_ok=True)
    if shape != "logarithmic":
        assert page.evaluate("PlateauPage.model().scales.log.bar") is None
    if shape == "one point":
        assert curves(page, 0)["w"][0] == 2.0
    assert seen.complaints == []


def test_scattered_points_are_dots_in_the_colour_of_their_length(chromium, tmp_path):
    rng = np.random.default_rng(1)
    w0, b0 = rng.uniform(-1, 4, (2, 40)).round(3)
    sweep = pm.Sweep(name="cloud", axes=[pm.points(w0=w0, b0=b0)], fixed={"lr": 0.15}, horizon=60)
    page, seen = opened(chromium, write_page(pm.run(sweep, out=tmp_path / "cloud").path))
    frame = pm.load(tmp_path / "cloud").query("loss == 'quadratic'")
    dots = page.evaluate(
        "Object.fromEntries(Object.entries(PlateauPage.model().cloud.data).map(([name, column]) =>"
        " [name, Array.from(column, (v) => Number.isNaN(v) ? null : v)]))"
    )
    lengths = dict(zip(zip(dots["x"], dots["y"], strict=True), dots["value"], strict=True))
    expected = frame["plateau_epochs"].to_numpy(np.float64, na_value=np.nan)
    for at, length in zip(zip(w0, b0, strict=True), expected, strict=True):
        assert lengths[at] == (None if np.isnan(length) else length)
    codes = [code for code, value in zip(dots["code"], dots["value"], strict=True) if value is None]
    assert len(codes) == np.isnan(expected).sum() > 0
    assert set(codes) == {2}  # censored
    assert page.evaluate("PlateauPage.model().scales.log.bar.visible")
    # A click on a dot chooses its row.
    longest = int(np.nanargmax(expected))
    click(page, w0[longest], b0[longest])
    page.wait_for_function(
        "(w0) => document.querySelector('#chosen').textContent.includes(`w0${w0}`)",
        arg=w0[longest],
    )
    assert table_of(page, "#chosen")["plateau_epochs"][0] == f"{int(expected[longest])}"
    assert page.evaluate("PlateauPage.cellAt(100, 100)") is None
    assert seen.complaints == []


def quartic(z, y):
    return (z - y) ** 4


def test_the_page_says_that_a_custom_loss_has_no_curve(chromium, tmp_path):
    sweep = pm.Sweep(
        name="custom",
        losses=["quadratic", quartic],
        axes=[pm.linspace("w0", -1, 1, 3), pm.linspace("b0", -1, 1, 3)],
        fixed={"lr": 0.01},
        horizon=300,
    )
    page, seen = opened(chromium, write_page(pm.run(sweep, out=tmp_path / "own").path))
    caption = page.text_content("#curves-caption")
    assert "No curve of quartic: this custom loss is not in the page" in caption
    assert len(curves(page, 0)["epoch"]) > 20
    assert len(curves(page, 1)["epoch"]) == 0
    assert seen.complaints == []


def test_names_are_text_and_never_markup(chromium, tmp_path):
    loss = "<img src=x onerror=document.title='hit'></script><b>"
    frame = table({"w0": [0, 1, 2]}, {"b0": [0, 1, 2]}, losses=["quadratic", loss])
    spec = {"name": "<b>bold</b>", "axes": [], "losses": ["quadratic", {"name": loss}], "fixed": {}}
    page, seen = opened(chromium, write_page(fill(tmp_path / "odd", frame, spec=spec)))
    page.evaluate("PlateauPage.tap(1, 1)")
    page.wait_for_function("document.querySelector('#chosen').textContent.includes('onerror')")
    assert page.title() == "<b>bold</b>"
    assert page.locator("img").count() == 1
    assert page.locator("#loss option").nth(1).text_content() == loss
    assert seen.complaints == []


def test_the_page_has_findings_provenance_and_spec(atlas):
    text = (atlas / "report.html").read_text()
    frame = pm.load(atlas)
    for sentence in findings(frame):
        assert sentence in text
    results = open_results(atlas)
    assert results.manifest["fingerprint"] in text
    assert "plateaumap run small_atlas.toml" in text
    spec = re.search(r'<pre id="spec">(.*?)</pre>', text, re.DOTALL)
    assert spec is not None
    toml = spec[1].replace("&#34;", '"')
    assert pm.Sweep.from_toml(toml).fingerprint == ATLAS.fingerprint


def test_large_tables_are_thinned_and_the_page_says_so(tmp_path, monkeypatch):
    span = np.linspace(-4, 4, 33)
    folder = fill(tmp_path / "large", table({"w0": span}, {"b0": span}))
    assert "This table is large" not in write_page(folder).read_text()
    monkeypatch.setattr(picture, "MOST_CELLS", 300)
    text = write_page(folder).read_text()
    assert "the map holds 578 of 2,178 rows" in text
    monkeypatch.setattr(pack, "MOST_TEXT", 3000)
    assert len(write_page(folder).read_text()) < len(text)


def test_rounding_for_the_page_keeps_eight_digits():
    values = np.array([1 / 3, -2e-300, 5e300, 0.0, np.nan, np.inf, 5e-324])
    kept = pack.rounded(values)
    np.testing.assert_allclose(kept[:4], values[:4], rtol=1e-8)
    np.testing.assert_array_equal(kept[4:6], values[4:6])


def test_an_unfinished_sweep_has_no_page(tmp_path):
    folder = fill(tmp_path / "half", table({"w0": np.arange(200.0)}), skip=1)
    with pytest.raises(PlateaumapError, match="unfinished"):
        write_report(folder, page=True)
    assert not (folder / "report.html").exists()


def test_write_report_writes_the_page_beside_the_figures(tmp_path):
    folder = fill(tmp_path / "atlas", table({"w0": [0, 1, 2]}, {"b0": [0, 1, 2]}))
    written = write_report(folder, page=True, sizes=["page"], formats=[".png"])
    assert written[-1] == folder / "report.html"
    pictures = re.findall(r'src="data:image/png;base64,', written[-1].read_text())
    assert len(pictures) == len([path for path in written if path.suffix == ".png"])
