"""Measure the explorer in a browser: `python benchmarks/explorer.py [--rounds 5]`.

The program starts `plateaumap explore`, opens it in a headless Chromium, and zooms to new windows.
The times are from the turn of the wheel to a drawn map with one cell per pixel. It needs the
browser that the tests of pages need.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.pages.browser import browser, new_page, place
from tests.pages.server import picture, wait_drawn

COMMAND = ["-u", "-m", "plateaumap", "explore", "--no-browser", "--port", "0"]
WARM = 30
"""Seconds in which the explorer compiles its programs at its first start on a machine."""


def zoom(page, x: float, y: float, turn: int) -> tuple[float, int]:
    """Return the seconds until a new window is drawn, and its number of cells."""
    at = place(page, x, y)
    page.mouse.move(*at)
    answers, begin = picture(page)["answers"], time.perf_counter()
    page.mouse.wheel(0, turn)
    wait_drawn(page, answers)
    seconds = time.perf_counter() - begin
    page.wait_for_timeout(300)
    height, width = page.evaluate(
        "Bokeh.documents[0].get_model_by_name('image').data.image[0].shape"
    )
    return seconds, height * width


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with subprocess.Popen(
        [sys.executable, *COMMAND], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as program:
        try:
            assert program.stdout is not None
            address = re.search(r"http\S+", program.stdout.readline())
            assert address is not None
            with browser() as chromium:
                begin = time.perf_counter()
                page, seen = new_page(chromium)
                page.goto(address[0])
                wait_drawn(page, 0)
                print(f"first map   {time.perf_counter() - begin:.2f} s")
                time.sleep(WARM)
                times = []
                for number in range(rounds):
                    for turn in (-240, -240, 480):
                        seconds, cells = zoom(page, 1.5 + 0.1 * number, 2.0, turn)
                        times.append(seconds)
                print(f"zoom        median {statistics.median(times):.2f} s, longest ", end="")
                print(f"{max(times):.2f} s, of {len(times)} windows of {cells:,} cells")
                print(f"complaints  {seen.complaints or 'none'}")
        finally:
            program.terminate()


if __name__ == "__main__":
    main()
