"""docs/distance_and_information.md: its program prints the table that it shows."""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "distance_and_information.md"


def test_the_table_is_what_the_program_prints() -> None:
    text = PAGE.read_text()
    ((program, shown),) = re.findall(r"```python\n(.*?)```.*?```text\n(.*?)```", text, re.DOTALL)
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(program, {})
    assert told.getvalue() == shown


def test_the_figure_is_there_and_its_script() -> None:
    for suffix in (".png", ".py"):
        assert (PAGE.parent / "figures" / PAGE.name).with_suffix(suffix).exists()
