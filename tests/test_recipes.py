"""CONTRIBUTING.md: each recipe works, in a scratch copy, and touches as few modules as it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
MODULES = {"loss": 1, "measure": 1, "figure": 2, "backend": 1}
"""The number of modules of `src/plateaumap` that each recipe touches."""

COPIED = ("src", "tests", "docs", "pyproject.toml", "CONTRIBUTING.md", "constraints.txt")
BLOCK = re.compile(r"`([\w/.]+)`[^\n`]*:\n\n```(python|diff)\n(.*?)```", re.DOTALL)


class Step(NamedTuple):
    """One code block: the file that the line above it names, and what it does to the file."""

    path: str
    kind: str
    code: str


def recipe(name: str) -> list[Step]:
    """Return the steps of the recipe for a new part."""
    sections = PAGE.read_text(encoding="utf-8").split("\n### ")
    (section,) = (text for text in sections if text.startswith(f"A new {name}\n"))
    return [Step(*match) for match in BLOCK.findall(section.split("\n## ")[0])]


def apply(step: Step, root: Path) -> None:
    """Write a new file, or change one as a diff without line numbers says."""
    path = root / step.path
    if step.kind == "python":
        assert not path.exists(), f"{step.path} exists"
        path.write_text(step.code, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    for hunk in step.code.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(old) == 1, f"{step.path} must contain these lines once:\n{old}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", MODULES)
def test_a_recipe_touches_few_modules_and_has_a_test(name: str) -> None:
    paths = [step.path for step in recipe(name)]
    modules = {path for path in paths if path.startswith("src/plateaumap/")}
    tests = {path for path in paths if path.startswith("tests/")}
    assert len(modules) == MODULES[name]
    assert len(tests) == 1
    assert set(paths) == modules | tests


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_recipe_works(name: str, tmp_path: Path) -> None:
    for entry in COPIED:
        source = ROOT / entry
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / entry)
    steps = recipe(name)
    for step in steps:
        apply(step, tmp_path)
    tests = [step.path for step in steps if step.path.startswith("tests/")]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests),
            "tests/test_architecture.py",
            "tests/test_examples.py::test_every_public_name_has_an_example",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
