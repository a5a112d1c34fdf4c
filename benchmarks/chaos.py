"""Kills runs many times, and checks that the results equal those of an undisturbed run.

`python benchmarks/chaos.py [--rounds 300] [--seed 0]`

A small sweep runs once without disturbance. Then `plateaumap run` is started on another folder,
killed, and started again on the same folder, until a run completes. The folder must then be whole,
with every row equal to that of the undisturbed run to the last bit, and the next folder begins.
A round is one SIGKILL of one of these:

- driver: the program, at a random moment
- write: the program, while a file that it writes has not been renamed yet
- dask driver: the program with `--backend dask`; its workers must end, too
- dask worker: one of the workers; the program itself must complete

To save the time of imports, each program is forked from one process that has imported the modules
but has not started anything.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SPEC = """
name = "chaos"
horizon = 40
[fixed]
lr = 0.5
[[axes]]
kind = "linspace"
name = "w0"
start = -4
stop = 4
num = 370
[[axes]]
kind = "linspace"
name = "b0"
start = -4
stop = 4
num = 360
"""

KINDS = {"driver": 4, "write": 4, "dask driver": 1, "dask worker": 1}
"""The kinds of rounds, and their relative frequencies."""

_IMPORTS = (
    "jax",
    "pandas",
    "pyarrow.parquet",
    "plateaumap.cli",
    "plateaumap.runner.run",
    "plateaumap.sweep.spec",
    "plateaumap.execution.local",
    "plateaumap.storage.store",
)
_LONGEST = 180.0
"""Seconds after which a run counts as hanging."""


def forked(action: Callable[[], object], log: Path) -> int:
    """Run an action in a new process, and return the process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        action()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> int | None:
    """Return a process's exit code (or minus its signal), or None if it is still running."""
    waited, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if waited else None


def wait(pid: int) -> int:
    """Wait for a process, and return its exit code (or minus its signal)."""
    deadline = time.monotonic() + _LONGEST
    while (code := ended(pid)) is None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            raise SystemExit(f"process {pid} was still running after {_LONGEST:.0f} seconds")
        time.sleep(0.005)
    return code


class Chaos:
    """Rounds of kills, on one folder after the other."""

    def __init__(self, place: Path, seed: int) -> None:
        """Write the spec; call `run_reference` next."""
        self.place = place
        self.random = random.Random(seed)
        self.out = place / "out"
        self.log = place / "log"
        self.spec = place / "chaos.toml"
        self.spec.write_text(SPEC)
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}

    def start(self, backend: str, out: Path) -> int:
        """Start `plateaumap run`, and return its process id."""

        def program() -> None:
            from plateaumap.cli import main

            sys.argv = ["plateaumap", "run", str(self.spec), "--out", str(out)]
            sys.argv += ["--backend", backend] + (["--workers", "2"] if backend == "dask" else [])
            main()

        return forked(program, self.log)

    def run_reference(self) -> None:
        """Run the sweep undisturbed, once to compile it and once to measure the time of a run."""
        for name in ("compiled", "reference"):
            begun = time.monotonic()
            self.require_success(wait(self.start("local", self.place / name)))
            self.seconds["local"] = time.monotonic() - begun

    def require_success(self, code: int) -> None:
        """Stop unless a program succeeded."""
        if code:
            raise SystemExit(f"a run ended with {code}:\n{self.log.read_text()}")

    def round(self, kind: str) -> bool:
        """Start a run and kill a process; return whether the process was still running."""
        hit = {
            "driver": self.kill_driver,
            "write": self.kill_in_a_write,
            "dask driver": self.kill_dask_driver,
            "dask worker": self.kill_dask_worker,
        }[kind]()
        self.counts[kind] += hit
        return hit

    def kill_driver(self) -> bool:
        """Kill the program at a random moment."""
        pid = self.start("local", self.out)
        return self.kill_at(pid, self.random.uniform(0, self.seconds["local"]))

    def kill_at(self, pid: int, seconds: float) -> bool:
        """Kill a program after some time, unless it completes first."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (code := ended(pid)) is not None:
                return self.through(code)
            time.sleep(0.002)
        return self.kill(pid)

    def kill(self, pid: int) -> bool:
        """Kill a program; return whether it was still running."""
        os.kill(pid, signal.SIGKILL)
        code = wait(pid)
        if code != -signal.SIGKILL:
            return self.through(code)
        return True

    def through(self, code: int) -> bool:
        """Check the folder of a run that completed; return False, because nothing was killed."""
        self.require_success(code)
        self.check()
        return False

    def kill_in_a_write(self) -> bool:
        """Kill the program while one of its next few files is being written."""
        pid = self.start("local", self.out)
        allowed, seen = self.random.randint(0, 8), set()
        while (code := ended(pid)) is None:
            new = self.unfinished() - seen
            seen |= new
            if new and len(seen) > allowed:
                os.kill(pid, signal.SIGKILL)
                code = wait(pid)
                if code == -signal.SIGKILL:
                    self.counts["half-written files"] += bool(self.unfinished())
                    return True
                break
        return self.through(code)

    def unfinished(self) -> set[str]:
        """Return the names of files that have not been renamed yet."""
        names: set[str] = set()
        for folder in (self.out, self.out / "parts"):
            with contextlib.suppress(FileNotFoundError):
                names |= {n for n in os.listdir(folder) if n[0] == "." and n.endswith(".tmp")}
        return names

    def kill_dask_driver(self) -> bool:
        """Kill the program that started the cluster; the workers must end by themselves."""
        import psutil

        if "dask" not in self.seconds:  # The first run completes, to measure its time.
            begun = time.monotonic()
            self.through(wait(self.start("dask", self.out)))
            self.seconds["dask"] = time.monotonic() - begun
        pid = self.start("dask", self.out)
        deadline = time.monotonic() + self.random.uniform(0, self.seconds["dask"])
        children: set[psutil.Process] = set()
        while time.monotonic() < deadline and (code := ended(pid)) is None:
            with contextlib.suppress(psutil.Error):  # One of them has just ended.
                children |= set(psutil.Process(pid).children(recursive=True))
            time.sleep(0.05)
        if time.monotonic() < deadline:
            assert code is not None
            return self.through(code)
        hit = self.kill(pid)
        _, left = psutil.wait_procs(children, timeout=30)
        if left:
            raise SystemExit(f"workers outlived their driver: {left}")
        return hit

    def kill_dask_worker(self) -> bool:
        """Kill a worker; the program must still complete."""
        import psutil

        pid = self.start("dask", self.out)
        program = psutil.Process(pid)

        def workers() -> list[psutil.Process]:
            with contextlib.suppress(psutil.Error):  # One of them has just ended.
                return [p for p in program.children() if "spawn_main" in "".join(p.cmdline())]
            return []

        delay = self.random.uniform(0, 0.5 * self.seconds.get("dask", 4.0))
        hit, due = False, None
        while (code := ended(pid)) is None:
            if not hit:
                alive = workers()
                if alive and due is None:
                    due = time.monotonic() + delay
                if alive and due is not None and time.monotonic() > due:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        self.random.choice(alive).kill()
                        hit = True
            time.sleep(0.01)
        self.through(code)
        return hit

    def check(self) -> None:
        """Compare a finished folder with the undisturbed one, then continue with a new folder."""

        def compare() -> None:
            import plateaumap as pm

            whole = pm.open(self.place / "reference")
            results = pm.open(self.out)
            assert results.verify() == []
            assert results.is_complete
            assert results.manifest["failures"] == []
            rows, expected = (
                [(part["first_row"], part["rows"], part["sha256"]) for part in manifest["parts"]]
                for manifest in (results.manifest, whole.manifest)
            )
            assert rows == expected, "rows differ"
            assert results.frame().equals(whole.frame())
            left = [path for path in self.out.rglob("*") if path.name.endswith(".tmp")]
            assert not left, left

        code = wait(forked(compare, self.log))
        if code:
            raise SystemExit(f"{self.out} differs from the reference:\n{self.log.read_text()}")
        shutil.rmtree(self.out)
        self.counts["tables"] += 1
        self.out = self.place / f"out-{self.counts['tables']}"


def main() -> None:
    """Run the rounds, and print their counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds = dict(KINDS)
    if importlib.util.find_spec("distributed") is None:
        kinds = {kind: weight for kind, weight in kinds.items() if "dask" not in kind}
        print("rounds with Dask are skipped, because it is not installed")
    for module in _IMPORTS:
        importlib.import_module(module)
    order = [kind for kind, weight in kinds.items() for _ in range(weight)]
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="plateaumap-chaos-") as place:
        chaos = Chaos(Path(place), options.seed)
        chaos.run_reference()
        print(f"an undisturbed run takes {chaos.seconds['local']:.1f} s", flush=True)
        for done in range(options.rounds):
            kind = order[done % len(order)]
            while not chaos.round(kind):
                pass
            if (done + 1) % 10 == 0:
                print(f"{done + 1} rounds, {time.monotonic() - begun:.0f} s", flush=True)
        chaos.require_success(wait(chaos.start("local", chaos.out)))
        chaos.check()
    counts = ", ".join(f"{chaos.counts[kind]} {kind}" for kind in kinds)
    print(f"{options.rounds} rounds of kill -9: {counts}")
    print(f"{chaos.counts['half-written files']} left a half-written file")
    print(
        f"{chaos.counts['tables']} tables were completed, each equal to the undisturbed one bit "
        f"for bit; {time.monotonic() - begun:.0f} s"
    )


if __name__ == "__main__":
    main()
