"""Importing the package has no side effects."""

import json
import os
import subprocess
import sys

import pytest

import plateaumap as pm

PROBE = """
import json, os, sys
import jax  # which itself sets variables
environment = dict(os.environ)
import plateaumap as pm
for name in {names}:
    getattr(pm, name)
state = {{
    "x64": jax.config.jax_enable_x64,
    "cache": jax.config.jax_compilation_cache_dir,
    "environment": environment == dict(os.environ),
    "pyplot": "matplotlib.pyplot" in sys.modules,
    "backends": bool(getattr(jax._src.xla_bridge, "_backends", None)),
}}
print(json.dumps(state))
"""


def probe(names: list[str]) -> dict:
    code = PROBE.format(names=names)
    # The cache of the tests is not a setting of the package.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    process = subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    )
    return json.loads(process.stdout)


@pytest.mark.parametrize("names", [[], list(pm.__all__)], ids=["bare", "every name"])
def test_importing_changes_no_setting_and_starts_nothing(names: list[str]) -> None:
    state = probe(names)
    assert state["x64"] is False
    assert state["cache"] is None
    assert state["environment"] is True
    assert state["pyplot"] is False
    assert state["backends"] is False


def test_a_bare_import_loads_no_heavy_package() -> None:
    code = "import plateaumap, sys; print(' '.join(sys.modules))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"jax", "numpy", "pandas", "pyarrow", "matplotlib", "typer", "pydantic"}
    assert heavy.isdisjoint(process.stdout.split())


def test_every_public_name_exists_and_an_unknown_one_is_an_error() -> None:
    for name in pm.__all__:
        assert getattr(pm, name) is not None
    assert set(pm.__all__) <= set(dir(pm))
    with pytest.raises(AttributeError, match="no_such_name"):
        pm.no_such_name  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert pm.__version__ == version("plateaumap")
