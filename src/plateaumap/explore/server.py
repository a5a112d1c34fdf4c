"""The server of the page: on loopback unless told otherwise, and ended by Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from plateaumap.explore.view import View
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.inputs.paths import local_path
from plateaumap.numerics.compiler import prepare_compiler
from plateaumap.storage.results import open_results
from plateaumap.sweep.spec import Sweep, load_spec

LOOPBACK = "127.0.0.1"
USUAL_PORT = 5006
_EVERYWHERE = ("", "0.0.0.0", "::")
_LONGEST_MESSAGE = 100 * 2**20
_MISSING_WORDS = "explore needs 'bokeh', which is not installed: pip install 'plateaumap[report]'"


def sweep_at(source: Path | None) -> Sweep:
    """The sweep of a folder of results, or of a file; without one a sigmoid neuron's.

    Raises:
        PlateaumapError: there is no such sweep, or it needs functions that the folder lacks.
    """
    if source is None:
        return Sweep(name="neuron", fixed={"w0": 2.0, "b0": 2.0, "lr": 0.15})
    path = local_path(source)
    return open_results(path).sweep if path.is_dir() else load_spec(path)


def serve(
    view: View,
    address: str = LOOPBACK,
    port: int | None = None,
    browser: bool = True,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until it is interrupted.

    Args:
        view: what every reader begins with.
        address: of the interface to listen on; only this machine can reach the default.
        port: 0 for any free one; by default 5006, or any free one if that is taken.
        browser: whether to open a browser.
        say: tells where the page is.

    Raises:
        PlateaumapError: bokeh is not installed, nothing can listen there, or JAX has no device.
    """
    prepare_compiler()
    explorers: set[Any] = set()
    server = started(view, address, port, explorers)
    where = page_address(address, server.port)
    ending = threading.Event()
    warming = threading.Thread(target=warm_up, args=(view, ending.is_set))
    try:
        say(f"look at {where} (Ctrl-C ends it)")
        if address not in (LOOPBACK, "localhost", "::1"):
            say(f"anyone who can reach {address} can look and let this machine compute")
        warming.start()
        if browser:
            server.io_loop.add_callback(server.show, "/")
        server.io_loop.start()
    except KeyboardInterrupt:
        say("ended")
    finally:
        ending.set()
        # The interpreter must not end while a thread is inside XLA: that would abort the process.
        with _interrupt_leaves_at_once():
            server.stop()
            for explorer in tuple(explorers):
                explorer.close(wait=True)
            if warming.is_alive():
                warming.join()


@contextmanager
def _interrupt_leaves_at_once() -> Iterator[None]:
    """End the process at another Ctrl-C, whatever it is waiting for."""
    if threading.current_thread() is not threading.main_thread():  # no other hears of signals
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def page_address(address: str, port: int) -> str:
    """Where a browser finds the page."""
    host = socket.gethostname() if address in _EVERYWHERE else address
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def started(
    view: View,
    address: str = LOOPBACK,
    port: int | None = None,
    explorers: set[Any] | None = None,
) -> Any:
    """A server that listens, and answers once its `io_loop` runs.

    Args:
        view: what every reader begins with.
        address: see `serve`.
        port: see `serve`.
        explorers: holds the pages' `Explorer` objects as long as these are open.

    Raises:
        PlateaumapError: bokeh is not installed, or nothing can listen there.
    """
    try:
        from bokeh.server.server import Server
    except ImportError as error:
        raise PlateaumapError(_MISSING_WORDS) from error
    tries = [USUAL_PORT, 0] if port is None else [port]
    for number in tries:
        try:
            server = Server(
                {"/": _application(view, set() if explorers is None else explorers)},
                address=address,
                port=number,
                allow_websocket_origin=_origins(address),
                websocket_max_message_size=_LONGEST_MESSAGE,
            )
        except OSError as error:
            if number != tries[-1]:
                continue
            raise PlateaumapError(
                f"cannot listen on {address}, port {number}: {error.strerror or error}; "
                "give another --port (0: any free one) or --address"
            ) from error
        server.start()
        return server
    raise AssertionError


def _origins(address: str) -> list[str]:
    """The hosts, with any port, whose pages may talk to the server."""
    hosts = {LOOPBACK, "localhost"}
    if address in _EVERYWHERE:
        hosts |= {socket.gethostname(), socket.getfqdn()}
        hosts |= set(_own_addresses())
    else:
        hosts.add(address)
    return sorted(hosts)


def _own_addresses() -> list[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


def _application(view: View, explorers: set[Any]) -> Any:
    from bokeh.application import Application
    from bokeh.application.handlers.function import FunctionHandler

    from plateaumap.explore.curves import QUANTITIES
    from plateaumap.explore.document import Explorer

    template = _template()

    def fill(document: Any) -> None:
        document.title = f"{view.name}: plateaus"
        document.template = template
        document.template_variables.update(
            heading=view.name,
            css=_read("explore", "page.css") + _read("report.page", "tooltip.css"),
            tooltip=_read("report.page", "tooltip.js"),
            script=_read("explore", "explorer.js"),
            quantities=list(QUANTITIES),
        )
        explorer = Explorer(document, view)
        explorers.add(explorer)

        def close(context: object) -> None:
            explorers.discard(explorer)
            explorer.close()

        document.on_session_destroyed(close)

    return Application(FunctionHandler(fill))


def _template() -> Any:
    from bokeh.core.templates import FILE

    return FILE.environment.from_string(_read("explore", "page.html"))


def _read(room: str, name: str) -> str:
    return resources.files(f"plateaumap.{room}").joinpath(name).read_text("utf-8")


def warm_up(view: View, ended: Callable[[], bool] = lambda: False) -> None:
    """Compile what windows and clicks need, before a reader asks for it.

    Args:
        view: what every reader begins with.
        ended: whether to stop; asked before each piece of work.
    """
    from plateaumap.explore.curves import story
    from plateaumap.theory.epochs import plateau_epochs
    from plateaumap.theory.theory import case_of

    middle = [float(np.mean(view.spans[name])) for name in (view.across, view.up)]
    try:
        story(view, *middle)
    except PlateaumapError:
        return
    # Starts and rates whose lengths take every stage of the theory, towards both kinds of target.
    w0, lr = np.meshgrid(np.linspace(-30, 30, 600), [1e-3, 0.15, 2.0])
    for loss in view.losses:
        case = case_of(view.experiment.theory(loss))
        if case is None:
            continue
        for y in (0.0, 0.3):
            if ended():
                return
            plateau_epochs(w0, 0.0, lr, 1.0, y, errors="mask", **case._asdict())
