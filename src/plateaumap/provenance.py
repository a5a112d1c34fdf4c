"""Where results come from: versions, platform and commit, for the manifest."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("jax", "jaxlib", "numpy", "plateaumap")


def provenance(precision: str) -> dict[str, Any]:
    """Return what a manifest tells about how its rows were made.

    Args:
        precision: the sweep's arithmetic.
    """
    import jax

    return {
        "versions": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "precision": precision,
        "platform": {
            "system": platform.system(),
            "machine": platform.machine(),
            "backend": jax.default_backend(),
            "device": jax.devices()[0].device_kind,
        },
        "git_commit": _commit(),
    }


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
