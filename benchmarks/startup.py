"""How long importing the package, `plateaumap --help` and one point take, as whole processes.

`python benchmarks/startup.py [--rounds 9]`; prints medians in seconds, beside an empty Python.
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import plateaumap": ["-c", "import plateaumap"],
    "plateaumap --help": ["-m", "plateaumap", "--help"],
    "import jax": ["-c", "import jax"],
    "plateaumap point": [
        *("-m", "plateaumap", "point", "--loss", "quadratic"),
        *("--w0", "2", "--b0", "2", "--lr", "0.15"),
    ],
}


def seconds(arguments: list[str]) -> float:
    """Return the wall time of one process."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - begin


def main() -> None:
    """Measure, the commands interleaved, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    for name, taken in times.items():
        print(f"{name:<20} {statistics.median(taken):.3f} s  (least {min(taken):.3f})")


if __name__ == "__main__":
    main()
