"""Specifications in files: data in TOML and JSON, and Python scripts that define `sweep`."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.paths import existing_file
from plateaumap.inputs.validation import show
from plateaumap.sweep.spec import Sweep


def load_spec(path: str | Path) -> Sweep:
    """Return the sweep of a `.toml`, `.json` or `.py` file, as the command line does.

    A `.py` file is executed, not as `__main__`, and must define `sweep`.

    Raises:
        PlateaumapError: the file does not exist, or does not contain a valid sweep.
    """
    source = existing_file(path, (".toml", ".json", ".py"))
    return _execute(source) if source.suffix.lower() == ".py" else Sweep.load(source)


def _execute(source: Path) -> Sweep:
    module_spec = importlib.util.spec_from_file_location(source.stem, source)
    assert module_spec is not None
    module = importlib.util.module_from_spec(module_spec)
    with _importable(source.stem, module, source.parent):
        try:
            # Not by its loader: cached byte code may be that of an edit in the same second.
            exec(compile(source.read_bytes(), str(source), "exec"), module.__dict__)
        except PlateaumapError:
            raise
        except Exception as error:
            raise PlateaumapError(
                f"{source} raised {type(error).__name__}: {error}; fix the script"
            ) from error
    sweep = getattr(module, "sweep", None)
    if not isinstance(sweep, Sweep):
        content = "does not define `sweep`" if sweep is None else f"defines sweep = {show(sweep)}"
        raise PlateaumapError(f"{source} {content}; it must define sweep = plateaumap.Sweep(...)")
    return sweep


_scripts: dict[str, Any] = {}
"""The modules of the scripts that were executed, by name."""


@contextmanager
def _importable(name: str, module: Any, folder: Path) -> Iterator[None]:
    """Let a script import modules in its folder, and let its functions be found by its name."""
    # The module replaces that of another script of this name, but no other module.
    if sys.modules.get(name) is _scripts.get(name):
        sys.modules[name] = _scripts[name] = module
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.resolve()))
