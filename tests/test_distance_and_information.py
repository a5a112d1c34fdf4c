"""docs/distance_and_information.md: its program prints the table that the page shows."""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "distance_and_information.md"


def test_the_program_prints_the_table() -> None:
    text = PAGE.read_text()
    ((program, shown),) = re.findall(r"```python\n(.*?)```.*?```text\n(.*?)```", text, re.DOTALL)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(program, {})
    assert output.getvalue() == shown


def test_the_figure_and_its_script_exist() -> None:
    for suffix in (".png", ".py"):
        assert (PAGE.parent / "figures" / PAGE.name).with_suffix(suffix).exists()
