"""Random specs: each one runs, or is refused with a message.

`python -m tests.test_fuzz 10000` tries 10,000 specs.
"""

import contextlib
import math
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st

import plateaumap as pm
from tests.program import Done, plateaumap, settings_restored

EXTREME = [0.0, -0.0, 1e-300, 1e300, 5e-324, -1e308, 40.0, 1e16, math.inf, math.nan]


def mostly(usual: st.SearchStrategy[Any], *rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of which about one value in ten is rare."""
    return st.integers(0, 9).flatmap(lambda n: usual if n else st.one_of(*rare))


NUMBERS = mostly(st.floats(-6, 6), st.sampled_from(EXTREME), st.floats(), st.integers(-3, 3))
RATES = mostly(st.floats(1e-3, 100), st.sampled_from([1e-12, 1e6, 0.0, -1.0]))
TARGETS = mostly(st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.floats(-2, 2))
GOOD = {"w0": NUMBERS, "b0": NUMBERS, "lr": RATES, "x": NUMBERS, "y": TARGETS}
ODD = st.one_of(
    st.none(), st.booleans(), st.text(max_size=5), st.integers(), st.floats(), st.lists(NUMBERS),
    st.dictionaries(st.text(max_size=4), NUMBERS, max_size=2),
)  # fmt: skip
HOSTILE = ["../escape", "/tmp/escape", "a/b", ".", "..", "~", "con", "-", "é", "a\n", "x" * 300]
NAMES = mostly(st.just("fuzzed"), st.text(max_size=12), st.sampled_from(HOSTILE))


@st.composite
def axes(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Return one axis as a mapping, mostly valid."""
    kind = draw(st.sampled_from(["linspace", "geomspace", "values", "normal", "uniform", "points"]))
    value = GOOD.get(name, NUMBERS)
    size = draw(st.integers(1, 3))
    if kind == "points":
        return {"kind": kind, "values": {name: draw(st.lists(value, min_size=1, max_size=3))}}
    if kind == "values":
        return {
            "kind": kind,
            "name": name,
            "values": draw(
                st.lists(value, min_size=draw(st.sampled_from([0, 1, 1, 1])), max_size=3)
            ),
        }
    words = {
        "linspace": ("start", "stop"),
        "geomspace": ("start", "stop"),
        "normal": ("mean", "sd"),
        "uniform": ("low", "high"),
    }[kind]
    ends = sorted([draw(value), draw(value)])
    if kind == "geomspace":
        ends = [abs(end) for end in ends]
    axis = {"kind": kind, "name": name, **dict(zip(words, ends, strict=True)), "num": size}
    return {**axis, "seed": draw(st.integers(0, 9))} if kind in ("normal", "uniform") else axis


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Return a small sweep as a mapping, with up to two odd fields."""
    on_axes = draw(st.lists(st.sampled_from(sorted(GOOD)), max_size=2, unique=True))
    spec: dict[str, Any] = {
        "name": draw(NAMES),
        "losses": draw(
            st.lists(
                mostly(st.sampled_from(["quadratic", "cross_entropy", "matching"]), st.just("mse")),
                min_size=1,
                max_size=2,
                unique=True,
            )
        ),
        "horizon": draw(st.integers(1, 60)),
        "until": draw(st.sampled_from(["tenth", "tenth", "plateau"])),
        "axes": [draw(axes(name)) for name in on_axes],
        "fixed": {
            name: draw(value)
            for name, value in GOOD.items()
            if name not in on_axes and (name in ("w0", "b0", "lr") or draw(st.booleans()))
        },
    }
    for place in draw(st.lists(st.sampled_from([*spec, "tolerance", "colour"]), max_size=2)):
        if draw(st.booleans()):
            spec[place] = draw(ODD)
    return spec


def toml(spec: dict[str, Any]) -> str:
    """Return a spec as TOML, without the nulls that TOML lacks."""
    try:
        return tomli_w.dumps({key: value for key, value in spec.items() if value is not None})
    except (TypeError, ValueError, UnicodeError):
        return repr(spec)


def mutated(text: str, chance: random.Random) -> str:
    """Return a text with a few characters and lines changed, deleted or doubled."""
    text = re.sub(
        r"(?<![wb])[0-9]", lambda m: chance.choice([m[0]] * 99 + list("0123456789")), text
    )
    lines = text.splitlines(keepends=True)
    for _ in range(chance.randint(0, 2)):
        if not lines:
            break
        at = chance.randrange(len(lines))
        line = lines[at]
        place = chance.randrange(len(line) + 1)
        lines[at : at + 1] = chance.choice(
            [
                [],
                [line, line],
                [line[:place] + chance.choice("=[]{}\"'#.,-e0921xé\x00\n ") + line[place:]],
                [line[:place] + line[place + 1 :]],
                [
                    line.replace(
                        "=", "=" + chance.choice(["-", "1e400", "[", '"a"', "nan", "true"]), 1
                    )
                ],
            ]
        )
    return "".join(lines)


SOUND = """
name = "sound"
losses = ["quadratic"]
horizon = 40
tolerance = 0.01
fixed = { b0 = 2.0 }
[[axes]]
kind = "linspace"
name = "w0"
start = -4
stop = 4
num = 3
[[axes]]
kind = "points"
values = { lr = [0.15, 5.0], y = [0.0, 1.0] }
"""


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def judge(text: str, place: Path) -> str:
    """Run a spec and return "ran" or "refused"; fail on any other outcome."""
    spec = place / "spec.toml"
    spec.write_text(text, encoding="utf-8", errors="replace")
    before = files(place)
    with contextlib.chdir(place):
        done = plateaumap("run", "spec.toml", *(["--dry-run"] if is_large(spec) else []))
    new = files(place) - before
    check_message(done, text)
    if done.code:
        assert not new, (text, new)
        return "refused"
    outside = [name for name in new if name != "results" and not name.startswith("results/")]
    assert not outside, (text, outside)
    assert len({name.split("/")[1] for name in new if "/" in name}) <= 1, (text, new)
    return "ran"


def is_large(spec: Path) -> bool:
    """Return whether a valid spec would take long."""
    try:
        sweep = pm.Sweep.load(spec)
    except pm.PlateaumapError:
        return False
    epochs = sweep.horizon if sweep.horizon is not None else 10**9
    return sweep.rows * epochs > 10**6


def check_message(done: Done, text: str) -> None:
    assert done.code in (0, 2), (text, done)
    assert "Traceback" not in done.output, (text, done)
    if done.code == 2:
        assert done.output.startswith("plateaumap: "), (text, done)
        assert len(done.output) < 4000, (text, done)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder, and fail if a file is written beside it."""
    with tempfile.TemporaryDirectory(prefix="plateaumap-fuzz-") as outer:
        inner = Path(outer) / "inner" / "most"
        inner.mkdir(parents=True)
        yield inner
        assert files(Path(outer)) - {"inner", "inner/most"} == {
            f"inner/most/{name}" for name in files(inner)
        }


@pytest.fixture(scope="module", autouse=True)
def _settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with settings_restored(tmp_path_factory.mktemp("cache")):
        yield


@settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@seed(0)
@given(specs())
def test_random_specs_run_or_are_refused(spec: dict[str, Any]) -> None:
    with scratch() as place:
        event(judge(toml(spec), place))


def test_mutated_files_run_or_are_refused() -> None:
    outcomes = Counter()
    for number in range(120):
        with scratch() as place:
            outcomes[judge(mutated(SOUND, random.Random(number)), place)] += 1
    assert outcomes["ran"] > 10
    assert outcomes["refused"] > 10


def many(count: int) -> Counter[str]:
    """Try random and mutated specs; return how many ran and how many were refused."""
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=count - count // 2,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @seed(int.from_bytes(os.urandom(4)))
    @given(specs())
    def random_specs(spec: dict[str, Any]) -> None:
        with scratch() as place:
            outcomes[judge(toml(spec), place)] += 1

    random_specs()
    for number in range(count // 2):
        with scratch() as place:
            outcomes[judge(mutated(SOUND, random.Random(number)), place)] += 1
    return outcomes


@pytest.mark.slow
def test_a_thousand_specs() -> None:
    assert sum(many(1000).values()) >= 1000


if __name__ == "__main__":
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as cache, settings_restored(Path(cache)):
        counted = many(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
    print(f"{sum(counted.values())} specs: {dict(counted)}; {time.monotonic() - begun:.0f} s")
