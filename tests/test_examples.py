"""The examples in docstrings run, and every public name has one."""

import doctest
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import plateaumap as pm

SOURCE = Path(__file__).resolve().parent.parent / "src"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _modules() -> list[str]:
    """Return the modules that contain an example."""
    names = []
    for path in sorted((SOURCE / "plateaumap").rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(SOURCE).with_suffix("").parts
            names.append(".".join(part for part in parts if part != "__init__"))
    return names


def _examples(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("name", _modules())
def test_the_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    report: list[str] = []
    examples = _examples(import_module(name))
    assert examples
    for example in examples:
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def _members(module: ModuleType) -> dict[str, Any]:
    """Return the public members of a module: those of `__all__`, or those that it defines."""
    defined = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return {name: getattr(module, name) for name in getattr(module, "__all__", defined)}


def _public() -> dict[str, Any]:
    """Return the public functions, classes and losses, by the name that a user writes."""
    members = {f"pm.{name}": getattr(pm, name) for name in pm.__all__}
    for module in ("losses", "measures", "neuron", "figures"):
        for name, value in _members(getattr(pm, module)).items():
            members[f"pm.{module}.{name}"] = value
    return {
        name: value
        for name, value in members.items()
        if callable(value) and str(getattr(value, "__module__", "")).startswith("plateaumap")
    }


def _has_example(name: str, value: Any) -> bool:
    """Return whether an example that the test above runs shows a public name."""
    if isinstance(value, pm.losses.Loss):  # an instance has no docstring
        return any(name in example for example in _sources(pm.losses, pm.losses.__name__))
    module = import_module(value.__module__)
    return bool(_sources(module, f"{module.__name__}.{value.__qualname__}"))


def _sources(module: ModuleType, name: str) -> list[str]:
    """Return the examples in the docstring of an object and of its members."""
    return [
        example.source
        for test in _examples(module)
        if test.name == name or test.name.startswith(f"{name}.")
        for example in test.examples
    ]


def test_every_public_name_has_an_example() -> None:
    missing = [name for name, value in _public().items() if not _has_example(name, value)]
    assert not missing, f"docstrings without an example (>>>): {', '.join(missing)}"
