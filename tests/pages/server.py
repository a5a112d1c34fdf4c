"""The explorer's server in a thread of this process, and its page in a browser."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from tests.pages.browser import Seen, new_page

import plateaumap as pm
from plateaumap.explore.server import page_address, start_server
from plateaumap.explore.view import View

EXPLORED = pm.Sweep(
    name="<img src=x onerror=alert(1)>",
    axes=[pm.linspace("w0", -4, 4, 33), pm.linspace("b0", -4, 4, 33)],
    fixed={"lr": 0.15},
    horizon=3000,
)
"""The sweep that the shared explorer shows. Its name is markup, which the page must escape."""

DRAWN = """(answers) => {
  const map = window.Bokeh?.documents[0]?.get_model_by_name("map"), picture = map?.tags[0];
  if (!picture || picture.answers <= answers || picture.coarseness !== 1) return false;
  const image = Bokeh.documents[0].get_model_by_name("image").data;
  const [height, width] = image.image[0].shape;
  return width === map.inner_width && height === map.inner_height;
}"""
"""JavaScript: whether a picture at full resolution has followed a number of pictures."""


@contextmanager
def served(view: View) -> Iterator[str]:
    """Serve the page of a view, and yield its address."""
    ready, held = threading.Event(), {}

    def work() -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        held["server"] = server = start_server(view, port=0)
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
    """Return a page whose first map is drawn."""
    page, seen = new_page(chromium, width=760)
    page.goto(address)
    wait_drawn(page, 0)
    return page, seen


def wait_drawn(page: Any, answers: int) -> None:
    """Wait until the map is drawn at full resolution, after `answers` pictures."""
    page.wait_for_function(DRAWN, arg=answers, timeout=60_000)


def picture(page: Any) -> dict[str, Any]:
    """Return the description of the picture that the page holds."""
    return page.evaluate("Bokeh.documents[0].get_model_by_name('map').tags[0]")


def sampled(page: Any, stride: int = 1) -> np.ndarray:
    """Return every `stride`-th number of the picture, NaN where a cell has none."""
    numbers = page.evaluate(
        """(stride) => Array.from(Bokeh.documents[0].get_model_by_name("image").data.image[0])
          .filter((_, i) => i % stride === 0).map((v) => Number.isNaN(v) ? null : v)""",
        stride,
    )
    return np.array(numbers, dtype=np.float64)


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
    """Change a control in the browser, which sends the change to the server."""
    page.evaluate(
        "([name, attribute, value]) => {"
        " Bokeh.documents[0].get_model_by_name(name)[attribute] = value; }",
        [name, attribute, value],
    )


def text(page: Any, name: str) -> str:
    """Return a visible text of the page, "" if it is hidden."""
    return page.evaluate(
        """(name) => {
          const model = Bokeh.documents[0].get_model_by_name(name);
          const view = Bokeh.index.get_by_id(model.id);
          return model.visible && view ? view.shadow_el.textContent : "";
        }""",
        name,
    )


def wait_read(page: Any, name: str, words: str) -> None:
    """Wait until a text of the page shows some words; it is drawn after its model changes."""
    page.wait_for_function(
        """([name, words]) => {
          const model = Bokeh.documents[0].get_model_by_name(name);
          const view = Bokeh.index.get_by_id(model.id);
          return model.visible && view && view.shadow_el.textContent.includes(words);
        }""",
        arg=[name, words],
    )
