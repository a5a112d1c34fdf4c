"""docs/when.md: its programs run and print the numbers that the page shows."""

import contextlib
import io
import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "when.md").read_text()


def test_every_program_prints_the_text_under_it() -> None:
    pairs = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.DOTALL)
    assert len(pairs) == TEXT.count("```python") == 4
    names: dict[str, object] = {}
    for program, shown in pairs:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(program, names)
        assert output.getvalue() == shown
