"""What a notebook shows of a sweep and of results."""

import re
from html import unescape

import plateaumap as pm
from plateaumap.display import table_html
from plateaumap.storage.results import open_results
from tests.report.folders import fill
from tests.report.tables import table


def rows(html: str) -> dict[str, str]:
    pairs = re.findall(r"<tr><th[^>]*>(.*?)</th><td[^>]*>(.*?)</td></tr>", html)
    return {unescape(name): unescape(value) for name, value in pairs}


def test_text_is_escaped():
    html = table_html("<b>bold</b>", [("a & b", "<script>")])
    assert "<script>" not in html
    assert "<b>bold</b>" not in html.replace("<b>&lt;b&gt;", "")
    assert rows(html) == {"a & b": "<script>"}


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
