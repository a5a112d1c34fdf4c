"""The server of the explorer's page: on the loopback interface by default, ended by Ctrl-C."""

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
from plateaumap.sweep.files import load_spec
from plateaumap.sweep.spec import Sweep

LOOPBACK = "127.0.0.1"
USUAL_PORT = 5006
_ALL_INTERFACES = ("", "0.0.0.0", "::")
_LONGEST_MESSAGE = 100 * 2**20


def sweep_at(source: Path | None) -> Sweep:
    """Return the sweep of a folder of results or of a file; without either, of a sigmoid neuron.

    Raises:
        PlateaumapError: the source holds no sweep, or needs functions that a folder does not hold.
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
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        view: the first view of every reader.
        address: the interface to listen on. Only this machine can reach the default.
        port: the port, 0 for any free one; by default 5006, or any free port if it is in use.
        browser: whether to open a browser.
        announce: receives the address of the page, in a line of text.

    Raises:
        PlateaumapError: Bokeh is not installed, the address or port cannot be used, or JAX has no
            device.
    """
    prepare_compiler()
    explorers: set[Any] = set()
    server = start_server(view, address, port, explorers)
    closing = threading.Event()
    compiling = threading.Thread(target=warm_up, args=(view, closing.is_set))
    try:
        announce(f"look at {page_address(address, server.port)} (Ctrl-C ends it)")
        if address not in (LOOPBACK, "localhost", "::1"):
            announce(f"anyone who can reach {address} can look and let this machine compute")
        compiling.start()
        if browser:
            server.io_loop.add_callback(server.show, "/")
        server.io_loop.start()
    except KeyboardInterrupt:
        announce("ended")
    finally:
        closing.set()
        # An interpreter that ends while a thread is inside XLA aborts the process.
        with _exit_on_next_interrupt():
            server.stop()
            for explorer in tuple(explorers):
                explorer.close(wait=True)
            if compiling.is_alive():
                compiling.join()


@contextmanager
def _exit_on_next_interrupt() -> Iterator[None]:
    """End the process at once on the next Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # which alone receives signals
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def page_address(address: str, port: int) -> str:
    """Return the URL of the page."""
    host = socket.gethostname() if address in _ALL_INTERFACES else address
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def start_server(
    view: View,
    address: str = LOOPBACK,
    port: int | None = None,
    explorers: set[Any] | None = None,
) -> Any:
    """Return a server that listens, and answers once its `io_loop` runs.

    Args:
        view: the first view of every reader.
        address: see `serve`.
        port: see `serve`.
        explorers: receives the `Explorer` of each page, for as long as the page is open.

    Raises:
        PlateaumapError: Bokeh is not installed, or the address or port cannot be used.
    """
    try:
        from bokeh.server.server import Server
    except ImportError as error:
        raise PlateaumapError(
            "explore needs Bokeh, which is not installed: pip install 'plateaumap[report]'"
        ) from error
    ports = [USUAL_PORT, 0] if port is None else [port]
    for number in ports:
        try:
            server = Server(
                {"/": _application(view, set() if explorers is None else explorers)},
                address=address,
                port=number,
                allow_websocket_origin=_origins(address),
                websocket_max_message_size=_LONGEST_MESSAGE,
            )
        except OSError as error:
            if number != ports[-1]:
                continue
            raise PlateaumapError(
                f"cannot listen on {address}, port {number}: {error.strerror or error}; "
                "give another --port (0: any free one) or --address"
            ) from error
        server.start()
        return server
    raise AssertionError


def _origins(address: str) -> list[str]:
    """Return the hosts whose pages may connect to the server, with any port."""
    hosts = {LOOPBACK, "localhost"}
    if address not in _ALL_INTERFACES:
        return sorted({*hosts, address})
    name = socket.gethostname()
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET)}
    except OSError:
        addresses = set()
    return sorted({*hosts, name, socket.getfqdn(), *addresses})


def _application(view: View, explorers: set[Any]) -> Any:
    from bokeh.application import Application
    from bokeh.application.handlers.function import FunctionHandler
    from bokeh.core.templates import FILE

    from plateaumap.explore.curves import QUANTITIES
    from plateaumap.explore.document import Explorer

    template = FILE.environment.from_string(_read("explore", "page.html"))

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


def _read(package: str, name: str) -> str:
    return resources.files(f"plateaumap.{package}").joinpath(name).read_text("utf-8")


def warm_up(view: View, closing: Callable[[], bool] = lambda: False) -> None:
    """Compile the programs of windows and clicks before a reader needs them.

    Args:
        view: the first view of every reader.
        closing: returns whether to stop; called before each program.
    """
    from plateaumap.explore.curves import point_detail
    from plateaumap.theory.base import case_of
    from plateaumap.theory.epochs import plateau_epochs

    middle = [float(np.mean(view.spans[name])) for name in (view.across, view.up)]
    try:
        point_detail(view, *middle)
    except PlateaumapError:
        return
    # These points need every stage of the theory, for targets at a limit and inside.
    w0, lr = np.meshgrid(np.linspace(-30, 30, 600), [1e-3, 0.15, 2.0])
    for loss in view.losses:
        case = case_of(view.experiment.theory(loss))
        if case is None:
            continue
        for y in (0.0, 0.3):
            if closing():
                return
            plateau_epochs(w0, 0.0, lr, 1.0, y, errors="mask", **case._asdict())
