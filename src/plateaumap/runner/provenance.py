"""Collects the provenance of results: command, versions, platform, compiler and commit."""

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
    """Return the provenance of rows that this process computes.

    Args:
        precision: the sweep's arithmetic.
    """
    import jax

    from plateaumap.numerics.compiler import compiler_options, prepare_compiler

    flags = prepare_compiler()  # First, because JAX reads the flags when it starts.
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
        "compiler": {"options": compiler_options(), "XLA_FLAGS": flags},
        "git_commit": _commit(),
    }


def command() -> str:
    """Return the command line of this process, quoted for a shell."""
    return shlex.join(sys.orig_argv)


def _cpu() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def _commit() -> str | None:
    """Return the commit of the checkout that contains this package, if there is one."""
    source = Path(__file__).resolve().parent
    command = ["git", "-C", str(source), "rev-parse", "HEAD"]
    try:
        # A package that is installed inside another repository does not belong to its commit.
        tracked = ["git", "-C", str(source), "ls-files", "--error-unmatch", "provenance.py"]
        subprocess.run(tracked, check=True, capture_output=True, timeout=5)
        answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
