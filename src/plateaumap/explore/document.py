"""The live page: an event of the browser changes the view, and answers change the models."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from bokeh.core.property.descriptors import UnsetValueError
from bokeh.document import Document
from bokeh.events import ButtonClick, Tap
from bokeh.models import ColumnDataSource, CustomJS
from bokeh.models.layouts import Column

from plateaumap.explore import widgets
from plateaumap.explore.curves import PointDetail, point_detail
from plateaumap.explore.view import METHODS, View, is_logarithmic, position, value_at
from plateaumap.explore.windows import COVERS, Answer, Request, Sweeper, figure_bytes
from plateaumap.inputs.errors import PlateaumapError

_log = logging.getLogger(__name__)

_FIRST_SIZE = (640, 540)
_DELAY = 60
"""Milliseconds without a change after which a window is swept."""

_TYPES = {"toml": "application/toml", "png": "image/png", "pdf": "application/pdf"}


class Explorer:
    """The page of one reader.

    Attributes:
        view: the current view.
    """

    def __init__(self, document: Document, view: View) -> None:
        """Put the page into a document and show a view."""
        self.view = view
        self._document = document
        self._answers = 0
        self._map = widgets.empty_map()
        self._controls = widgets.controls(view)
        self._curves = widgets.empty_curves()
        self._status = widgets.text("status")
        self._errors = widgets.text("errors", visible=False)
        self._note = widgets.text("curves-note", text="Click a cell of the map.")
        self._legend, self._rows = widgets.markup("legend"), widgets.markup("rows")
        self._download = ColumnDataSource({"name": [], "type": [], "content": []}, name="download")
        self._pending: Any = None
        self._updating = False
        self._sweeper = Sweeper(
            lambda answer: self._later(self._show, answer),
            lambda error: self._later(self._show_error, error),
        )
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="explore-point")
        # Bokeh sends an event only if its handler was added before the model joined the document.
        self._connect()
        self._add_roots()
        self._show_view()

    def close(self, wait: bool = False) -> None:
        """Stop all work; with `wait`, return once the threads have ended."""
        self._sweeper.close(wait)
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def _add_roots(self) -> None:
        roots = {
            "controls": Column(*self._controls.values(), width=210),
            "map": self._map.plot,
            "status": self._status,
            "errors": self._errors,
            "legend": self._legend,
            "curves-note": self._note,
            "rows": self._rows,
            **{f"curve-{name}": plot for name, plot in self._curves.plots.items()},
        }
        for name, model in roots.items():
            model.name = name
            self._document.add_root(model)

    def _connect(self) -> None:
        plot = self._map.plot
        for range_ in (plot.x_range, plot.y_range):
            for end in ("start", "end"):
                self._on_change(range_, end, self._window_changed)
        for side in ("inner_width", "inner_height"):
            self._on_change(plot, side, self._request_soon)
        self._on_event(plot, Tap, self._cell_clicked)
        handlers: dict[str, tuple[str, Callable[..., None]]] = {
            "activation": ("value", self._activation_changed),
            "loss": ("value", self._request_soon),
            "measure": ("value", self._request_soon),
            "method": ("active", self._method_changed),
            "horizon": ("value", self._horizon_changed),
            "across": ("value", self._sides_changed),
            "up": ("value", self._sides_changed),
        }
        for name, control in self._controls.items():
            kind, _, detail = name.partition("-")
            if kind == "value":
                self._on_change(control, "value", self._value_changed, detail)
            elif kind == "slider":
                self._on_change(control, "value", self._slider_changed, detail)
            elif kind == "save":
                self._on_event(control, ButtonClick, self._save, detail)
            else:
                self._on_change(control, *handlers[name])
        self._download.js_on_change("data", CustomJS(code="Explorer.download(cb_obj.data)"))
        # Bokeh sends only models that a root refers to.
        self._status.tags = [self._download]

    def _on_change(
        self, model: Any, attribute: str, handler: Callable[..., None], *arguments: Any
    ) -> None:
        """Call a handler when the browser changes an attribute, not when this page does."""

        def changed(attribute: str, old: Any, new: Any) -> None:
            if not self._updating:
                self._attempt(handler, *arguments, new)

        model.on_change(attribute, changed)

    def _on_event(
        self, model: Any, event: Any, handler: Callable[..., None], *arguments: Any
    ) -> None:
        def occurred(event: Any) -> None:
            self._attempt(handler, *arguments, event)

        model.on_event(event, occurred)

    def _attempt(self, action: Callable[..., None], *arguments: Any) -> None:
        """Call a function and show its error, if it raises one, on the page."""
        try:
            action(*arguments)
        except Exception as error:
            self._show_error(error)

    def _later(self, action: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the thread of the document."""
        self._document.add_next_tick_callback(lambda: self._attempt(action, *arguments))

    def _in_background(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Call `work` in another thread, and `then` with its result in that of the document."""

        def call() -> None:
            try:
                self._later(then, work())
            except Exception as error:
                self._later(self._show_error, error)

        self._pool.submit(call)

    def _show_error(self, error: Exception) -> None:
        message = str(error)
        if not isinstance(error, PlateaumapError):
            _log.error("explore: %s", error, exc_info=error)
            message = f"{type(error).__name__}: {error}; this is a bug of plateaumap, please report"
        self._errors.update(text=message, visible=True)
        self._status.text = ""

    @contextmanager
    def _own_update(self) -> Any:
        """Ignore the events of changes that this page makes itself."""
        self._updating = True
        try:
            yield
        finally:
            self._updating = False

    @contextmanager
    def _one_message(self) -> Any:
        """Send all changes to the browser at once."""
        self._document.hold("combine")
        try:
            yield
        finally:
            self._document.unhold()

    def _activation_changed(self, activation: str) -> None:
        self.view = self.view.with_activation(activation)
        loss, options = self._controls["loss"], widgets.loss_options(self.view)
        value = loss.value if loss.value in dict(options) else "0"
        with self._own_update():
            loss.update(options=options, value=value)
        self._show_view()

    def _method_changed(self, active: int) -> None:
        self.view = self.view.replace(method=METHODS[active])
        self._request_soon()

    def _horizon_changed(self, words: str) -> None:
        horizon = parse_number("horizon", words)
        if not (horizon >= 1 and horizon == int(horizon)):
            raise PlateaumapError(f"horizon = {words}: must be an integer of at least 1")
        self.view = self.view.replace(horizon=int(horizon))
        self._request_soon()

    def _sides_changed(self, _: str) -> None:
        self.view = self.view.with_sides(self._controls["across"].value, self._controls["up"].value)
        self._map.clear()
        self._show_view()

    def _value_changed(self, name: str, words: str) -> None:
        value = words if self.view.coordinate(name).is_text else parse_number(name, words)
        self.view = self.view.with_value(name, value)
        slider = self._controls.get(f"slider-{name}")
        if slider is not None:
            at = position(name, float(self.view.fixed[name]))
            with self._own_update():
                slider.update(start=min(slider.start, at), end=max(slider.end, at), value=at)
        self._request_soon()

    def _slider_changed(self, name: str, place: float) -> None:
        value = float(f"{value_at(name, place):.3g}")
        self.view = self.view.with_value(name, value)
        with self._own_update():
            self._controls[f"value-{name}"].value = f"{value:g}"
        self._request_soon()

    def _show_view(self) -> None:
        """Show a view whose sides or window did not come from the map itself."""
        for name, control in self._controls.items():
            kind, _, coordinate = name.partition("-")
            if kind in ("value", "slider"):
                control.disabled = coordinate in (self.view.across, self.view.up)
        with self._own_update():
            self._map.show_window(self.view)
        self._request_soon()

    def _window_changed(self, _: float) -> None:
        x, y = self._map.plot.x_range, self._map.plot.y_range
        spans = [
            (value_at(name, range_.start), value_at(name, range_.end))
            for name, range_ in ((self.view.across, x), (self.view.up, y))
        ]
        # The browser sends the ends one by one: a refused window must not show an earlier one.
        self._cancel_request()
        self.view = self.view.with_window(*spans)
        self._request_soon()

    def _cancel_request(self) -> None:
        if self._pending is not None:
            self._document.remove_timeout_callback(self._pending)
            self._pending = None

    def _request_soon(self, _: Any = None) -> None:
        self._cancel_request()
        self._pending = self._document.add_timeout_callback(self._request_now, _DELAY)

    def _request_now(self) -> None:
        self._pending = None
        self._errors.update(text="", visible=False)
        self._status.text = "sweeping"
        self._attempt(lambda: self._sweeper.submit(self._request()))

    def _request(self) -> Request:
        loss, measure = self._controls["loss"].value, self._controls["measure"].value
        losses = (0, 1) if loss == "ratio" else (int(loss),)
        return Request(self.view, *self._size(), losses, measure)

    def _size(self) -> tuple[int, int]:
        """Return the size of the map in pixels, once the browser has sent it."""
        try:
            width, height = self._map.plot.inner_width, self._map.plot.inner_height
        except UnsetValueError:
            return _FIRST_SIZE
        return (width, height) if min(width, height) > 1 else _FIRST_SIZE

    def _show(self, answer: Answer) -> None:
        drawn = answer.request.view
        if (drawn.across, drawn.up) != (self.view.across, self.view.up):
            return
        self._answers += 1
        with self._one_message():
            self._map.draw(answer)
            self._map.plot.tags = [self._description(answer)]
            self._legend.text = widgets.legend_html(answer)
            self._status.text = widgets.status_text(answer)

    def _description(self, answer: Answer) -> dict[str, Any]:
        """Return the description of the picture for the script of the page."""
        names = [answer.request.view.across, answer.request.view.up]
        measure = widgets.MEASURES[answer.request.measure]
        return {
            "answers": self._answers,
            "coarseness": answer.coarseness,
            "seconds": answer.seconds,
            "names": names,
            "logarithmic": [is_logarithmic(name) for name in names],
            "covers": [label for label, _ in COVERS],
            "measure": f"ratio of {measure}" if answer.image.scale == "ratio" else measure,
        }

    def _cell_clicked(self, event: Tap) -> None:
        if event.x is None or event.y is None:
            return
        view, centre = self.view, self._map.centre_of_cell(event.x, event.y)
        point = [value_at(n, c) for n, c in zip((view.across, view.up), centre, strict=True)]
        self._note.text = "computing the curves"
        self._in_background(lambda: point_detail(view, *point), self._show_point)

    def _show_point(self, detail: PointDetail) -> None:
        with self._one_message():
            self._curves.draw(detail)
            self._rows.text = widgets.rows_html(detail)
            self._note.text = detail.note

    def _save(self, kind: str, _: Any) -> None:
        request, name = self._request(), f"{self.view.name}_view.{kind}"

        def content() -> bytes:
            if kind == "toml":
                return request.view.spec(request.width, request.height, request.measure).encode()
            return figure_bytes(request, kind)

        def download(content: bytes) -> None:
            encoded = base64.b64encode(content).decode()
            self._download.data = {"name": [name], "type": [_TYPES[kind]], "content": [encoded]}

        self._in_background(content, download)


def parse_number(name: str, text: str) -> float:
    """Return a number as typed into the page.

    Raises:
        PlateaumapError: the text is not a number.
    """
    try:
        return float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        message = f"{name} = {text!r}: must be a number, such as 0.15 or 1e-3"
        raise PlateaumapError(message) from None
