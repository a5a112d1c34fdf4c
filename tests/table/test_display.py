"""What a notebook shows of a sweep and of results."""

import re
import sys
import types
from html import unescape

import jax.numpy as jnp
import optax
from tests.report.folders import fill
from tests.report.tables import table

import plateaumap as pm
from plateaumap.queries.overview import overview
from plateaumap.report.lattice import read
from plateaumap.runner.progress import progress_bar
from plateaumap.storage.results import open_results
from plateaumap.table.display import table_html


def rows(html: str) -> dict[str, str]:
    pairs = re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>(.*?)</td></tr>", html)
    return {unescape(name): unescape(value) for name, value in pairs}


def test_text_is_escaped():
    html = table_html("<b>bold</b>", [("a & b", "<script>")])
    assert "<script>" not in html
    assert "<b>bold</b>" not in html.replace("<b>&lt;b&gt;", "")
    assert rows(html) == {"a & b": "<script>"}


class Bowl(pm.Experiment):
    """With a choice and a whole number among its coordinates."""

    coordinates = (
        pm.Coordinate("lr", minimum=0),
        pm.Coordinate("rule", choices=("sgd", "adam")),
        pm.Coordinate("width", choices=(1, 3)),
        pm.Coordinate("seed", integer=True),
    )

    def init(self, point):
        return {"p": jnp.ones(point["width"])}

    def loss(self, parameters, point, loss_name):
        return jnp.mean(parameters["p"] ** 2)

    def optimizer(self, point):
        return getattr(optax, point["rule"])(point["lr"])


def test_choices_and_whole_numbers_are_shown_as_they_were_given(tmp_path):
    sweep = pm.Sweep(
        experiment=Bowl(),
        axes=[pm.values("lr", [0.01, 0.1, 1.0]), pm.values("seed", [123456789012, 123456789013])],
        fixed={"rule": "adam", "width": 3},
        horizon=30,
    )
    results = pm.run(sweep, out=tmp_path, progress=False)
    assert rows(sweep._repr_html_())["rule"] == "adam, fixed"
    assert "fixed        rule = adam, width = 3" in overview(results)
    captions = {figure.caption for figure in pm.figures.applicable(results.frame())}
    assert captions
    assert all("Fixed: rule = adam, width = 3." in caption for caption in captions)
    one = sweep.with_settings(
        {"axes": [pm.values("lr", [0.1])], "fixed": sweep.fixed | {"seed": 123456789012}}
    )
    lattice = read(pm.run(one, progress=False), "this")
    assert lattice.plain_fixed() == "lr = 0.1, rule = adam, width = 3, seed = 123456789012"
    assert "seed = 123456789012" in lattice.describe_fixed()
    (axis,) = (axis for axis in read(results.frame(), "this").axes if "seed" in axis.names)
    assert [axis.plain_title(place) for place in (0, 1)] == [
        "seed = 123456789012",
        "seed = 123456789013",
    ]


def test_a_sweep_shows_its_losses_axes_and_rows():
    sweep = pm.Sweep(
        name="shown",
        axes=[pm.linspace("w0", 0, 4, 65), pm.points(lr=[0.15, 0.5], b0=[1, 2])],
        horizon=20_000,
    )
    shown = rows(sweep._repr_html_())
    assert shown["losses"] == "quadratic, cross_entropy"
    assert shown["w0"] == "65 values"
    assert shown["lr and b0"] == "2 values"
    assert shown["x"] == "1, fixed"
    assert shown["horizon"] == "20,000 epochs"
    assert shown["rows"] == f"{sweep.rows:,}" == "260"


def test_results_show_how_much_is_there(tmp_path):
    frame = table({"w0": range(200)})
    whole, half = fill(tmp_path / "whole", frame), fill(tmp_path / "half", frame, skip=1)
    shown = rows(open_results(whole)._repr_html_())
    assert "unfinished" not in shown["parts"]
    assert int(shown["escaped"]) == (frame["status"] == "escaped").sum()
    assert shown["rows"] == "400"
    assert rows(open_results(half)._repr_html_())["parts"].endswith(": unfinished")


class Handle:
    """What IPython's `display` returns: a place in the output that can be drawn anew."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, what) -> None:
        self.shown.append(what._repr_html_())


def notebook(monkeypatch, kernel) -> Handle:
    """Let IPython seem to run, in a notebook or, without a kernel, in a terminal."""
    handle = Handle()

    def display(what, display_id):
        assert display_id is True
        handle.update(what)
        return handle

    shell = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=kernel))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    return handle


def test_a_notebook_has_a_progress_bar_that_is_drawn_in_its_place(monkeypatch):
    handle = notebook(monkeypatch, kernel=object())
    with progress_bar("<b>odd</b>", 200, 50, None) as advance:
        advance(100)
        advance(50)
    first, last = handle.shown[0], handle.shown[-1]
    assert 'value="50" max="200"' in first
    assert 'value="200" max="200"' in last
    assert "200 of 200 rows" in last
    assert all("&lt;b&gt;odd" in shown and "<b>" not in shown for shown in handle.shown)


def test_a_run_in_a_notebook_shows_its_rows(monkeypatch):
    handle = notebook(monkeypatch, kernel=object())
    sweep = pm.Sweep(axes=[pm.linspace("w0", 0, 1, 5)], fixed={"b0": 0, "lr": 0.5}, horizon=20)
    pm.run(sweep)
    assert "10 of 10 rows" in handle.shown[-1]
    before = len(handle.shown)
    pm.run(sweep, progress=False)
    assert len(handle.shown) == before


def test_ipython_in_a_terminal_is_not_a_notebook(monkeypatch):
    handle = notebook(monkeypatch, kernel=None)
    with progress_bar("sweep", 10, 0, None) as advance:
        advance(10)
    assert handle.shown == []
