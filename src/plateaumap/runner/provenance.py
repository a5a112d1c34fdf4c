"""Where results come from: command, versions, platform, compiler and commit, for the manifest."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("jax", "jaxlib", "numpy", "plateaumap")


def provenance(precision: str) -> dict[str, Any]:
    """Return what a manifest tells about how its rows were made, asked where they are made.

    Args:
        precision: the sweep's arithmetic.
    """
    import jax

    from plateaumap.numerics.compiler import compiler_options, prepare_compiler

    told = prepare_compiler()  # before the first question to JAX, after which XLA does not listen

    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "precision": precision,
        "platform": {
            "system": platform.system(),
            "machine": platform.machine(),
            "backend": jax.default_backend(),
            "device": jax.devices()[0].device_kind,
            "cpu": _cpu(),
        },
        "compiler": {"options": compiler_options(), "XLA_FLAGS": told},
        "git_commit": _commit(),
    }


def command() -> str:
    """Return the command line of this process, as one would type it."""
    return shlex.join(sys.orig_argv)


def _cpu() -> str:
    """Return the model of the processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _commit() -> str | None:
    """Return the commit of the checkout that this package runs from, if it runs from one."""
    source = Path(__file__).resolve().parent
    command = ["git", "-C", str(source), "rev-parse", "HEAD"]
    try:
        # A package that is installed inside somebody else's repository is not of its commit.
        tracked = ["git", "-C", str(source), "ls-files", "--error-unmatch", "provenance.py"]
        subprocess.run(tracked, check=True, capture_output=True, timeout=5)
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
