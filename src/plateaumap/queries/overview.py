"""What a folder of results holds, in a few lines of text."""

from __future__ import annotations

from plateaumap.storage.failures import describe_failures
from plateaumap.storage.results import Results
from plateaumap.table.display import value_text


def overview(results: Results) -> str:
    """Return the sweep, the counts by status and the provenance of a folder as text.

    Args:
        results: an opened folder, finished or not.
    """
    manifest = results.manifest
    spec, made = manifest["spec"], manifest["provenance"]
    plan = manifest["plan"]
    parts = plan_parts(results)
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    machine = ", ".join(str(value) for value in made["platform"].values())
    lines = [
        f"{results.path}",
        f"  sweep        {spec['name']}, fingerprint {manifest['fingerprint'][:12]}",
        f"  axes         {' x '.join(_axis(axis) for axis in spec['axes']) or 'none: one point'}",
        f"  fixed        {_fixed(spec['fixed']) or '-'}",
        f"  losses       {', '.join(plan['losses'])}",
        f"  horizon      {spec['horizon']} epochs, {spec['precision']}, {spec['method']}",
        f"  parts        {parts}",
        *(f"  failed       {line}" for line in describe_failures(results.failures, results.plan)),
        f"  made with    {versions}",
        f"  on           {machine}, at {made['utc_time']}",
        *(
            f"  mixed        {'; '.join(run['mixed_versions'])}, from {run['utc_time']} on"
            for run in (made, *manifest["resumed"])
            if "mixed_versions" in run
        ),
        f"  command      {made.get('command', 'unknown')}",
        f"  commit       {made['git_commit'] or 'unknown'}",
        "  rows by status",
    ]
    counts = results.counts()
    lines += [f"    {status:<20} {number:>12,}" for status, number in counts.items() if number]
    return "\n".join(lines if any(counts.values()) else [*lines, "    none yet"])


def plan_parts(results: Results) -> str:
    """Return how many of the parts are there, in words."""
    total, missing = len(results.plan), len(results.missing)
    return f"{total} of {total}" if not missing else f"{total - missing} of {total}: unfinished"


def _fixed(values: dict) -> str:
    return ", ".join(f"{name} = {value_text(value)}" for name, value in values.items())


def _axis(axis: dict) -> str:
    if axis["kind"] == "points":
        names, size = "/".join(axis["values"]), len(next(iter(axis["values"].values())))
    elif axis["kind"] == "zip":
        return "zip(" + ", ".join(_axis(part) for part in axis["axes"]) + ")"
    else:
        names, size = axis["name"], len(axis["values"])
    return f"{names}[{size}]"
