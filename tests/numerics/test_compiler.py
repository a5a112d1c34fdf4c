"""What JAX's compiler is told, in processes of their own: it listens only once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

LOOP = """
import json, os
import jax, numpy as np
from plateaumap.numerics.compiler import double_precision
before = os.environ.get("XLA_FLAGS")
if os.environ.get("ASKED_FIRST"):
    from plateaumap.runner.provenance import provenance
    provenance("float64")
with double_precision():
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, 1000, lambda _, x: x * 0.5 + 1, x))
    text = loop.lower(np.ones(1024)).compile().as_text()
print(json.dumps({"same": os.environ.get("XLA_FLAGS") == before, "one": "small_call" in text}))
"""


def told(**environment: str) -> dict[str, bool]:
    own = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", LOOP], env=own | environment, capture_output=True, check=True
    )
    return json.loads(done.stdout)


def test_short_loops_become_one_piece_and_the_environment_stays_as_it_was():
    assert told() == {"same": True, "one": True}
    flags = "--xla_cpu_enable_fast_math=false"
    assert told(XLA_FLAGS=flags) == {"same": True, "one": True}


def test_a_worker_that_is_first_asked_where_it_runs_compiles_alike():
    assert told(ASKED_FIRST="yes") == {"same": True, "one": True}


def test_who_has_set_the_option_is_heard():
    flags = "--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold=0"
    assert told(XLA_FLAGS=flags) == {"same": True, "one": False}
