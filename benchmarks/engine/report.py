"""Tables, the plot and the bars, from what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

OURS, UNPREDICTED = "plateaumap", "plateaumap, no prediction"
_MARKS = "<!-- measured by make bench -->", "<!-- end of what was measured -->"


def write(found: Mapping[str, Any], folder: Path, page: Path | None) -> None:
    """Write engine.md and engine.png into a folder, and the bars into a page of the docs."""
    bars = bars_table(found)
    parts = ["# The engine, measured", machine_table(found["machine"]), bars, *job_tables(found)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    (folder / "engine.md").write_text(text)
    if found["jobs"]:
        _plot(found, folder / "engine.png")
    print(bars)
    if page is not None and bars:
        before, _, rest = page.read_text().partition(_MARKS[0])
        after = rest.partition(_MARKS[1])[2]
        middle = f"{_MARKS[0]}\n\n{machine_table(found['machine'])}\n\n{bars}\n\n{_MARKS[1]}"
        page.write_text(before + middle + after)


def machine_table(machine: Mapping[str, str]) -> str:
    """Return the machine as a Markdown table."""
    return _markdown(["measured on", ""], machine.items())


def ratio(job: Mapping[str, Any], other: str, threads: int, clock: str, ours: str = OURS) -> str:
    """Return how many times as fast as another program ours is: median, least and most.

    Rounds are compared one by one, since what else runs on a machine changes from one to another.
    """
    values = ratios(job, other, threads, clock, ours)
    if not values:
        return ""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def ratios(
    job: Mapping[str, Any], other: str, threads: int, clock: str, ours: str = OURS
) -> list[float]:
    """Return for each round the time of another program over that of ours."""
    own, theirs = timing(job, ours, threads), timing(job, other, threads)
    if own is None or theirs is None:
        return []
    pairs = zip(own[clock], theirs[clock], strict=False)
    return [other / one for one, other in pairs if one > 0]


def timing(job: Mapping[str, Any], program: str, threads: int) -> Mapping[str, Any] | None:
    """Return the timing of a program, if it did the job."""
    for found in job["timings"]:
        if found["program"] == program and found["threads"] == threads:
            return found
    return None


def job_tables(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield for each job its programs, their useful epochs per second, and how we compare."""
    for job in found["jobs"]:
        rows = []
        for own in job["timings"]:
            rate = own["useful"] / statistics.median(own["wall"]) / 1e9
            by_cpu = own["useful"] / max(statistics.median(own["cpu"]), 1e-9) / 1e9
            rows.append(
                (
                    own["program"],
                    own["threads"],
                    f"{rate:.3f}",
                    f"{by_cpu:.3f}",
                    ratio(job, own["program"], own["threads"], "wall"),
                    ratio(job, own["program"], own["threads"], "cpu"),
                    "; ".join(own["faults"]) or "agree",
                )
            )
        yield (
            f"## {job['name']}, {job['loss']}, {job['precision']}, {job['measures']}\n\n"
            f"{job['runs']:,} runs, horizon {job['horizon']:,}, "
            f"{job['timings'][0]['useful']:,} useful epochs.\n\n"
            + _markdown(
                [
                    "program",
                    "threads",
                    "10⁹ useful epochs/s",
                    "per second of processor time",
                    "ours is faster, times",
                    "by processor time",
                    "answers",
                ],
                rows,
            )
        )


def bars_table(found: Mapping[str, Any]) -> str:
    """Return the targets of the engine and what was measured."""
    rows = [*_bars_of_jobs(found), *_bars_beside(found)]
    return _markdown(["quantity", "target", "measured", "met"], rows) if rows else ""


def _bars_of_jobs(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    wanted = (
        ("full horizon", "T10", "C", 1.0),
        ("full horizon", "all", "C", 0.7),
        ("five decades", "T10", "C, in our order", 0.9),
        ("five decades", "all", "C, in our order", 0.9),
        ("five decades", "T10", "numba, early exit", 10.0),
        ("five decades", "T10", "JAX vmap(while_loop)", 10.0),
    )
    for name, measures, other, bar in wanted:
        for job in found["jobs"]:
            if (job["name"], job["measures"]) != (name, measures):
                continue
            values = ratios(job, other, 2, "cpu")
            if not values:
                continue
            yield (
                f"{name}, {job['loss']}, {job['precision']}, {measures}: speed over {other}",
                f"≥ {bar:g}×",
                _by_both_clocks(job, other, 2),
                _met(statistics.median(values) >= bar),
            )
    for job in found["jobs"]:
        values = ratios(job, UNPREDICTED, 2, "cpu")
        if values:
            one, two = (_by_both_clocks(job, UNPREDICTED, threads) for threads in (1, 2))
            title = f"{job['name']}, {job['loss']}, {job['precision']}, {job['measures']}"
            yield (
                f"{title}: time without a prediction over that with one",
                "≤ 1.5×",
                f"{two}; on one thread {one}",
                _met(statistics.median(values) <= 1.5),
            )
    gains = [
        one / two
        for job in found["jobs"]
        if job["name"] == "full horizon"
        for one, two in zip(
            (timing(job, OURS, 1) or {}).get("wall", ()),
            (timing(job, OURS, 2) or {}).get("wall", ()),
            strict=False,
        )
    ]
    if gains:
        median = statistics.median(gains)
        measured = f"{median:.2f}× ({min(gains):.2f} to {max(gains):.2f})"
        yield "two threads over one, full horizon", "≥ 1.8×", measured, _met(median >= 1.8)


def _by_both_clocks(job: Mapping[str, Any], other: str, threads: int) -> str:
    return (
        f"{ratio(job, other, threads, 'cpu')} by processor time, "
        f"{ratio(job, other, threads, 'wall')} by the clock"
    )


def _bars_beside(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for title, wasted in found.get("wasted", {}).items():
        share = wasted["predicted order"]
        measured = f"{share:.1%}; in grid order {wasted['order of the grid']:.0%}"
        yield f"wasted lane-epochs, {title}", "≤ 10 %", measured, _met(share <= 0.1)
    for size, asked in (("small", 2.0), ("large", 1 / 2.5)):
        times = found.get("processes", {}).get(size)
        if times is not None:
            own, numpy = (_median(times[n]["wall"]) for n in (OURS, "NumPy, dropping lanes"))
            measured = f"{own / numpy:.2f}× ({own:.2f} s, NumPy {numpy:.2f} s)"
            asks = f"≤ {asked:g}× of NumPy's time"
            yield f"whole process, {size}", asks, measured, _met(own <= asked * numpy)
    if "parquet" in found:
        own, theirs = (_median(found["parquet"][name]) for name in (OURS, "pyarrow"))
        measured = f"{theirs / own:.2f}× ({own:.2f} s, pyarrow {theirs:.2f} s)"
        yield "spec to Parquet, speed over pyarrow", "≥ 0.5×", measured, _met(theirs >= 0.5 * own)
    if "startup" in found:
        second = found["startup"]["second"]
        measured = ", ".join(
            f"{name} {second[name]:.2f} s" for name in ("trace", "lower", "compile")
        )
        yield (
            "second start, both losses",
            "compile < 0.5 s",
            measured,
            _met(second["compile"] < 0.5),
        )
    if "memory" in found:
        peaks = [one["peak_mib"] for one in found["memory"]]
        measured = ", ".join(f"{m['peak_mib']:.0f} MiB at {m['rows']:,}" for m in found["memory"])
        met = max(peaks[1:]) <= 1.2 * min(peaks[1:]) if len(peaks) > 2 else False
        yield "peak memory of a leaping sweep", "flat within 20 %", measured, _met(met)
    if "atlas" in found:
        measured = ", ".join(f"{name} {value:,.1f}" for name, value in found["atlas"].items())
        yield "the plateau atlas, seconds", "none", measured, ""


def _met(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _markdown(header: list[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [header, ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _plot(found: Mapping[str, Any], file: Path) -> None:
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    programs = list(dict.fromkeys(t["program"] for job in found["jobs"] for t in job["timings"]))
    figure = Figure(figsize=(11, 1.2 + 0.95 * len(found["jobs"])), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    titles, colours = [], colormaps["tab20"].colors  # type: ignore[attr-defined]
    for row, job in enumerate(found["jobs"]):
        titles.append(f"{job['name']}\n{job['loss']}, {job['precision']}, {job['measures']}")
        for place, program in enumerate(programs):
            own = timing(job, program, 2) or timing(job, program, 1)
            if own is None:
                continue
            rates = sorted(own["useful"] / s for s in own["cpu"] if s > 0)
            if not rates:
                continue
            at = row - 0.36 + 0.72 * place / max(len(programs) - 1, 1)
            axes.plot([rates[0], rates[-1]], [at, at], color=colours[place], lw=1.5)
            label = program if program not in axes.get_legend_handles_labels()[1] else None
            axes.plot(statistics.median(rates), at, "o", color=colours[place], label=label, ms=5)
        if row:
            axes.axhline(row - 0.5, color="0.9", lw=0.8)
    axes.set_yticks(range(len(titles)), titles)
    axes.set_ylim(len(titles) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlabel("useful epochs per second of processor time: median, least and most")
    axes.grid(axis="x", color="0.9")
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(file, dpi=110)
