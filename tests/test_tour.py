"""docs/tour.ipynb runs from top to bottom and shows the numbers of its text."""

import json
from pathlib import Path
from typing import Any

TOUR = Path(__file__).resolve().parent.parent / "docs" / "tour.ipynb"


def test_the_tour_runs_from_top_to_bottom() -> None:
    notebook = json.loads(TOUR.read_text())
    cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    names: dict[str, Any] = {}
    shown = [_run(cell, names) for cell in cells]
    assert any(hasattr(value, "_repr_html_") for value in shown)
    assert names["unlucky"].loc["quadratic", "plateau_epochs"] == 152
    assert names["unlucky"].loc["cross_entropy", "plateau_epochs"] == 2
    assert names["lengths"][0] == 152
    assert list(names["lengths"]) == sorted(names["lengths"])


def _run(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell and return what a notebook would show of its last line."""
    *before, last = cell.splitlines()
    exec("\n".join(before), names)
    try:
        expression = compile(last, "<cell>", "eval")
    except SyntaxError:
        exec(cell, names)
        return None
    return eval(expression, names)
