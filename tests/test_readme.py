"""README.md: its table has exactly the columns of a sweep, and its links lead to files."""

import re
from pathlib import Path

import plateaumap as pm
from plateaumap.runner.sweep_table import SweepTable
from plateaumap.training.measures import STATUSES

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_every_column_of_the_table_is_explained_and_no_other() -> None:
    section = README.split("## Columns of the table")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    explained = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
    sweep = pm.Sweep(axes=[pm.values("w0", [1])], fixed={"b0": 1, "lr": 1})
    columns = {column.name for column in SweepTable(sweep).columns}
    assert explained == (columns - {"w0_index"}) | {"<name>_index"}
    for status in STATUSES:
        assert f"`{status}`" in section


def test_every_link_of_the_readme_leads_somewhere() -> None:
    root = Path(__file__).parent.parent
    links = re.findall(r"\]\(([^)#]+)\)", README)
    missing = [link for link in links if "://" not in link and not (root / link).exists()]
    assert len(links) > 5
    assert not missing


def test_the_tested_versions_of_jax_are_those_of_the_constraints() -> None:
    constraints = (Path(__file__).parent.parent / "constraints.txt").read_text()
    versions = re.findall(r"^jax==(\S+)", constraints, re.MULTILINE)
    section = README.split("## Versions")[1]
    assert versions
    for version in versions:
        assert f"JAX {version}" in section


def test_every_file_that_a_document_names_exists() -> None:
    root = Path(__file__).parent.parent
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    names = {
        name
        for page in pages
        for name in re.findall(
            r"`(?:python )?([a-z_]+/[\w/]+\.(?:py|md))`", page.read_text("utf-8")
        )
    }
    places = (root, root / "src", root / "src" / "plateaumap", root / "docs")
    assert len(names) > 10
    assert not {name for name in names if not any((place / name).exists() for place in places)}
