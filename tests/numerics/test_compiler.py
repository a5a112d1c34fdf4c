"""The options of JAX's compiler, in separate processes: XLA reads them once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

LOOP = """
import json, os
import jax, numpy as np
from plateaumap.numerics.compiler import double_precision
before = os.environ.get("XLA_FLAGS")
if os.environ.get("PROVENANCE_FIRST"):
    from plateaumap.runner.provenance import provenance
    provenance("float64")
with double_precision():
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, 1000, lambda _, x: x * 0.5 + 1, x))
    text = loop.lower(np.ones(1024)).compile().as_text()
print(json.dumps({"same": os.environ.get("XLA_FLAGS") == before, "one": "small_call" in text}))
"""

ENVIRONMENTS = {
    "default": {},
    "other flags": {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false"},
    "provenance first": {"PROVENANCE_FIRST": "yes"},
    "own threshold": {
        "XLA_FLAGS": "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=0"
    },
}


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, bool]]:
    """Return the result of `LOOP` in each environment; the processes run at the same time."""
    base = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", LOOP]
    processes = {
        name: subprocess.Popen(command, env=base | environment, stdout=subprocess.PIPE)
        for name, environment in ENVIRONMENTS.items()
    }
    return {name: json.loads(process.communicate()[0]) for name, process in processes.items()}


@pytest.mark.parametrize("name", ["default", "other flags"])
def test_short_loops_are_one_piece_and_the_environment_is_unchanged(results, name):
    assert results[name] == {"same": True, "one": True}


def test_a_process_that_reads_the_provenance_first_compiles_alike(results):
    assert results["provenance first"] == {"same": True, "one": True}


def test_an_option_of_the_user_has_precedence(results):
    assert results["own threshold"] == {"same": True, "one": False}
