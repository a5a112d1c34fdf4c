"""A headless Chromium for the tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW = (
    "the tests of pages need Chromium and playwright: apt-get install -y chromium; "
    "pip install 'plateaumap[test]'"
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Seen:
    """The record of a page.

    Attributes:
        requests: the URLs that it requested.
        complaints: errors and warnings on its console, and uncaught exceptions.
    """

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def executable() -> str:
    """Return the path of the browser; without one, skip the test, or fail if it is required."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        end = pytest.fail if os.environ.get("PLATEAUMAP_BROWSER") == "required" else pytest.skip
        end(HOW)
    return str(path)


@contextmanager
def browser() -> Iterator[Any]:
    """Start a browser, and close it at the end."""
    path = executable()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        started = player.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()


def new_page(chromium: Any, width: int = 1250) -> tuple[Any, Seen]:
    """Return an empty page and its record."""
    page, seen = chromium.new_page(viewport={"width": width, "height": 1400}), Seen()
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on(
        "console",
        lambda line: line.type in ("error", "warning") and seen.complaints.append(line.text),
    )
    return page, seen


def opened(chromium: Any, path: Path) -> tuple[Any, Seen]:
    """Return a page whose map and first curves are drawn, and its record."""
    page, seen = new_page(chromium)
    page.goto(path.as_uri())
    try:
        page.wait_for_selector("html[data-curves]", state="attached", timeout=30_000)
    except Exception as error:
        raise AssertionError(f"the page never became ready: {seen.complaints}") from error
    return page, seen


def place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return the position on the screen of a position on the map."""
    x_screen, y_screen = page.evaluate(
        """([x, y]) => {
          const view = Bokeh.index.get_by_id(Bokeh.documents[0].get_model_by_name("map").id);
          const box = view.canvas_view.el.getBoundingClientRect();
          const { x_scale, y_scale } = view.frame;
          return [box.left + x_scale.compute(x), box.top + y_scale.compute(y)];
        }""",
        [x, y],
    )
    return x_screen, y_screen
