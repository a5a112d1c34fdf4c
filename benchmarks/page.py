"""Measure how a `report.html` opens: `python benchmarks/page.py FOLDER [--rounds 5]`.

The page of a folder of results is opened in a headless Chromium as a file. The program prints its
size, the times of its map and its first curves (milliseconds after the navigation began, as the
page measures them), its network requests, and the errors on its console. The exit code is 1 if
it made a request, reported an error, has 15 MB or more, or took more than 3 seconds.

For the atlas, run `python sweeps/plateau_atlas.py` and `plateaumap report results/plateau_atlas`
first.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.pages.browser import browser, opened

LARGEST, LATEST = 15_000_000, 3000
"""The limits of the size in bytes and of the time to the map in milliseconds."""


def main() -> int:
    """Open the page several times and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    page_file = arguments.folder.resolve() / "report.html"
    ready, curves, requests, complaints = [], [], set(), []
    for _ in range(arguments.rounds):
        with browser() as chromium:
            page, seen = opened(chromium, page_file)
            times = page.evaluate("({...document.documentElement.dataset})")
        ready.append(int(times["ready"]))
        curves.append(int(times["curves"]))
        requests |= set(seen.requests) - {page_file.as_uri()}
        complaints += seen.complaints
    size = page_file.stat().st_size
    print(f"size        {size / 1e6:.2f} MB")
    for name, times in (("map ready", ready), ("curves", curves)):
        print(f"{name:<11} median {statistics.median(times):.0f} ms, longest {max(times)} ms")
    print(f"requests    {', '.join(sorted(requests)) or 'none but the file'}")
    print(f"complaints  {complaints or 'none'}")
    missed = size >= LARGEST or statistics.median(ready) > LATEST or requests or complaints
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
