"""The explorer's server in a thread of this process, and a browser's page of it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tests.report.browser import Seen, new_page

from plateaumap.explore.server import page_address, started
from plateaumap.explore.view import View

DRAWN = """(answers) => {
  const map = window.Bokeh?.documents[0]?.get_model_by_name("map"), told = map?.tags[0];
  if (!told || told.answers <= answers || told.coarseness !== 1) return false;
  const image = Bokeh.documents[0].get_model_by_name("image").data;
  const [height, width] = image.image[0].shape;
  return width === map.inner_width && height === map.inner_height;
}"""
"""Whether a picture at full resolution has come after so many."""


@contextmanager
def served(view: View) -> Iterator[str]:
    """The address of a page that begins with a view."""
    ready, held = threading.Event(), {}

    def work() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        held["server"] = server = started(view, port=0)
        ready.set()
        server.io_loop.start()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(30)
    server = held["server"]
    yield page_address(server.address, server.port)
    server.io_loop.add_callback(server.io_loop.stop)
    thread.join(10)
    server.stop()


def opened(chromium: Any, address: str) -> tuple[Any, Seen]:
    """A page whose first map is drawn."""
    page, seen = new_page(chromium, width=760)
    page.goto(address)
    wait_drawn(page, 0)
    return page, seen


def wait_drawn(page: Any, answers: int) -> None:
    """Wait until the map is drawn at full resolution, after so many pictures."""
    page.wait_for_function(DRAWN, arg=answers, timeout=60_000)


def told(page: Any) -> dict[str, Any]:
    """What the page knows of its picture."""
    return page.evaluate("Bokeh.documents[0].get_model_by_name('map').tags[0]")


def sampled(page: Any, stride: int = 1) -> np.ndarray:
    """Every so many of the picture's numbers, NaN where a cell has none."""
    found = page.evaluate(
        """(stride) => Array.from(Bokeh.documents[0].get_model_by_name("image").data.image[0])
          .filter((_, i) => i % stride === 0).map((v) => Number.isNaN(v) ? null : v)""",
        stride,
    )
    return np.array(found, dtype=np.float64)


def press(page: Any, name: str) -> Any:
    """Press a button and return the download that follows."""
    with page.expect_download() as download:
        page.evaluate(
            """(name) => Bokeh.documents[0].get_model_by_name(name)
              .trigger_event(new (Bokeh.require("core/bokeh_events").ButtonClick)())""",
            name,
        )
    return download.value


def change(page: Any, name: str, attribute: str, value: object) -> None:
    """Change a control of the page, as the browser tells it to the server."""
    page.evaluate(
        "([name, attribute, value]) => {"
        " Bokeh.documents[0].get_model_by_name(name)[attribute] = value; }",
        [name, attribute, value],
    )


def text(page: Any, name: str) -> str:
    """A text of the page as it is seen, "" where it is not."""
    return page.evaluate(
        """(name) => {
          const model = Bokeh.documents[0].get_model_by_name(name);
          const view = Bokeh.index.get_by_id(model.id);
          return model.visible && view ? view.shadow_el.textContent : "";
        }""",
        name,
    )


def wait_read(page: Any, name: str, words: str) -> None:
    """Wait until some words can be read in a text of the page: it is drawn after its model."""
    page.wait_for_function(
        """([name, words]) => {
          const model = Bokeh.documents[0].get_model_by_name(name);
          const view = Bokeh.index.get_by_id(model.id);
          return model.visible && view && view.shadow_el.textContent.includes(words);
        }""",
        arg=[name, words],
    )
