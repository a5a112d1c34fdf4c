"""docs/when.md: its program runs, and prints the numbers that it shows."""

import contextlib
import io
import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "when.md").read_text()


def test_every_block_prints_what_stands_under_it() -> None:
    pairs = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", TEXT, re.DOTALL)
    assert len(pairs) == TEXT.count("```python") == 4
    names: dict[str, object] = {}
    for program, shown in pairs:
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(program, names)
        assert told.getvalue() == shown
