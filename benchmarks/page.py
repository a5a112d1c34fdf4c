"""Whether a `report.html` opens as it should: `python benchmarks/page.py FOLDER [--rounds 5]`.

Opens the page of a folder of results in a headless Chromium, as a file, and prints its size, when
its map and its first curves were drawn (milliseconds after the navigation began, as the page
itself measures them), what it asked of the network, and what it complained of. Exits with 1 if
it asked for anything, complained, is 15 MB or larger, or was ready after more than 3 seconds.

For the atlas: `python sweeps/plateau_atlas.py`, `plateaumap report results/plateau_atlas`, and
then this with `results/plateau_atlas`.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.pages.browser import browser, opened

LARGEST, LATEST = 15_000_000, 3000
"""Bytes that a page may have, and milliseconds after which it must be ready."""


def main() -> int:
    """Open the page some times, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    page_file = given.folder.resolve() / "report.html"
    ready, curves, requests, complaints = [], [], set(), []
    for _ in range(given.rounds):
        with browser() as chromium:
            page, seen = opened(chromium, page_file)
            told = page.evaluate("({...document.documentElement.dataset})")
        ready.append(int(told["ready"]))
        curves.append(int(told["curves"]))
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
