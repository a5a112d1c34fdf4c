"""The content of a folder of results as text."""

from __future__ import annotations

from plateaumap.storage.failures import describe_failures
from plateaumap.storage.results import Results
from plateaumap.table.display import value_text


def overview(results: Results) -> str:
    """Return the sweep, the provenance and the counts by status of a folder as text.

    Args:
        results: an opened folder, finished or not.
    """
    manifest = results.manifest
    spec, provenance, plan = (manifest[key] for key in ("spec", "provenance", "plan"))
    total, missing = len(results.plan), len(results.missing)
    unfinished = ": unfinished" if missing else ""
    versions = ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())
    machine = ", ".join(str(value) for value in provenance["platform"].values())
    fixed = ", ".join(f"{name} = {value_text(value)}" for name, value in spec["fixed"].items())
    entries = [
        ("sweep", f"{spec['name']}, fingerprint {manifest['fingerprint'][:12]}"),
        ("axes", " x ".join(_axis(axis) for axis in spec["axes"]) or "none: one point"),
        ("fixed", fixed or "-"),
        ("losses", ", ".join(plan["losses"])),
        ("horizon", f"{spec['horizon']} epochs, {spec['precision']}, {spec['method']}"),
        ("parts", f"{total - missing} of {total}{unfinished}"),
        *(("failed", line) for line in describe_failures(results.failures, results.plan)),
        ("versions", versions),
        ("machine", f"{machine}, at {provenance['utc_time']}"),
        *(
            ("mixed", f"{'; '.join(run['mixed_versions'])}, from {run['utc_time']} on")
            for run in (provenance, *manifest["resumed"])
            if "mixed_versions" in run
        ),
        ("command", provenance.get("command", "unknown")),
        ("commit", provenance["git_commit"] or "unknown"),
    ]
    lines = [f"{results.path}", *(f"  {name:<12} {text}" for name, text in entries)]
    counts = {status: number for status, number in results.counts().items() if number}
    lines += ["  rows by status", *(f"    {name:<20} {n:>12,}" for name, n in counts.items())]
    return "\n".join(lines if counts else [*lines, "    none yet"])


def _axis(axis: dict) -> str:
    if axis["kind"] == "zip":
        return f"zip({', '.join(map(_axis, axis['axes']))})"
    columns = axis["values"] if axis["kind"] == "points" else {axis["name"]: axis["values"]}
    return f"{'/'.join(columns)}[{len(next(iter(columns.values())))}]"
