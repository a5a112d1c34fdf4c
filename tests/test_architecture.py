"""docs/architecture.md: its table states the imports between packages, in one direction."""

import ast
import re
from collections import Counter
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "plateaumap"
PAGE = ROOT / "docs" / "architecture.md"
ENTRIES = 18
"""The largest number of files and folders directly in `src/plateaumap`."""


@cache
def modules() -> dict[str, Path]:
    """Return the file of each module, by its name after `plateaumap.` (the root is `""`)."""
    files = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        files[".".join(part for part in parts if part != "__init__")] = path
    return files


@cache
def imports() -> dict[str, frozenset[str]]:
    """Return the modules of the package that each module imports, inside functions too."""
    return {name: frozenset(_imported(path)) for name, path in modules().items()}


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {_module(alias.name) for alias in node.names if _ours(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            if _ours(module):
                names |= {_module(f"{module}.{alias.name}") for alias in node.names}
    return names


def _ours(name: str) -> bool:
    return name.split(".")[0] == "plateaumap"


def _module(name: str) -> str:
    """Return the module that defines a dotted name, without `plateaumap.`."""
    short = name.removeprefix("plateaumap").lstrip(".")
    return short if short in modules() else short.rpartition(".")[0]


def _package(module: str) -> str:
    return module.split(".")[0]


def edges() -> dict[str, set[str]]:
    """Return the packages that each package imports, without the root and `__main__`."""
    packages = {_package(module) for module in modules()} - {"", "__main__"}
    return {
        package: {
            _package(other)
            for module, others in imports().items()
            if _package(module) == package
            for other in others
        }
        - {package}
        for package in packages
    }


def table() -> dict[str, list[str]]:
    """Return the rows of the page's table, in their order: packages that a package imports."""
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|([^|]*)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {package: re.findall(r"`(\w+)`", others) for package, others in rows}


def test_the_table_lists_exactly_the_imports_between_packages() -> None:
    order = list(table())
    assert sorted(order) == sorted(edges()), "docs/architecture.md: one row for each package"
    wrong = []
    for package, documented in table().items():
        expected = sorted(edges()[package], key=order.index)
        if documented != expected:
            cells = ", ".join(f"`{other}`" for other in expected)
            wrong.append(f"| `{package}` | ... | {cells} |")
    assert not wrong, "docs/architecture.md: these rows must be\n" + "\n".join(wrong)


def test_a_package_imports_only_from_packages_below_it() -> None:
    order = list(table())
    upward = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if _package(module) in order
        and (other == "" or order.index(_package(other)) < order.index(_package(module)))
    ]
    assert not upward


def test_modules_form_no_cycle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_the_root_has_few_entries() -> None:
    entries = [path.name for path in SOURCE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= ENTRIES, sorted(entries)


def test_no_class_name_is_used_twice() -> None:
    names = Counter(
        node.name
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert not {name for name, count in names.items() if count > 1}
