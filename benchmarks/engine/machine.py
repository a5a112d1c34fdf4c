"""What the benchmark ran on, without anything that tells whose machine it was."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.engine import compiled


def describe() -> dict[str, str]:
    """Return processor, cores, load, system and the versions of what is compared."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "load of the machine when the benchmark began": f"{os.getloadavg()[0]:.1f}",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "compiler": f"{compiled.version()}, {' '.join(compiled.FLAGS)}",
        **{name: _version(name) for name in ("jax", "numpy", "numba", "torch", "pyarrow")},
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = fields.get("flags", "").split()
    vectors = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else ""
    return f"{fields.get('model name', platform.processor() or 'unknown')}, {vectors}".strip(", ")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
