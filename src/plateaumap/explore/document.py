"""The live page: what a reader does becomes a view, and what is found of it becomes pictures."""

from __future__ import annotations

import base64
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from bokeh.core.property.descriptors import UnsetValueError
from bokeh.document import Document
from bokeh.events import Tap
from bokeh.models import ColumnDataSource, CustomJS
from bokeh.models.layouts import Column

from plateaumap.experiment.single_neuron import SingleNeuron
from plateaumap.explore import models
from plateaumap.explore.curves import QUANTITIES, Story, parse_number, story
from plateaumap.explore.picture import COVERS, Picture
from plateaumap.explore.saving import figure_bytes
from plateaumap.explore.sweeping import Answer, Question, Sweeper, told
from plateaumap.explore.texts import legend_html, rows_html, status_words
from plateaumap.explore.view import (
    METHODS,
    View,
    is_logarithmic,
    position,
    value_at,
)
from plateaumap.inputs.errors import PlateaumapError
from plateaumap.neuron.activations import ACTIVATIONS

_log = logging.getLogger(__name__)

_FIRST_SIZE = (640, 540)
_PATIENCE = 60
"""Milliseconds without a change after which a window is swept."""

_TYPES = {"toml": "application/toml", "png": "image/png", "pdf": "application/pdf"}


class Explorer:
    """One reader's page.

    Attributes:
        view: what is looked at.
    """

    def __init__(self, document: Document, view: View) -> None:
        """Put the page into a document, and begin with a view."""
        self.view = view
        self._document = document
        self._asked = 0
        self._map = models.empty_map()
        activations = tuple(ACTIVATIONS) if isinstance(view.experiment, SingleNeuron) else ()
        self._controls = models.controls(view, activations)
        self._plots, self._lines, self._legends = models.curves()
        self._status = models.text("status")
        self._errors = models.text("errors", visible=False)
        self._curves_note = models.text("curves-note", text="Click a cell of the map.")
        self._legend, self._rows = models.markup("legend"), models.markup("rows")
        self._download = ColumnDataSource({"name": [], "type": [], "content": []}, name="download")
        self._pending: Any = None
        self._setting = False
        self._sweeper = Sweeper(
            lambda answer: self._later(self._show, answer),
            lambda error: self._later(self._complain, error),
        )
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="explore-story")
        # Bokeh hears of events only if they are asked for before a model joins the document.
        self._connect()
        self._lay_out()
        self._retarget()

    def close(self, wait: bool = False) -> None:
        """Stop all work, and wait for what is being computed if that is wanted."""
        self._sweeper.close(wait)
        self._pool.shutdown(wait=wait, cancel_futures=True)

    def _lay_out(self) -> None:
        roots = {
            "controls": Column(*self._controls.all, width=210),
            "map": self._map.plot,
            "status": self._status,
            "errors": self._errors,
            "legend": self._legend,
            "curves-note": self._curves_note,
            "rows": self._rows,
            **{f"curve-{name}": plot for name, plot in zip(QUANTITIES, self._plots, strict=True)},
        }
        for name, model in roots.items():
            model.name = name
            self._document.add_root(model)

    def _connect(self) -> None:
        chosen = self._controls
        for reach in (self._map.plot.x_range, self._map.plot.y_range):
            for end in ("start", "end"):
                reach.on_change(end, self._guarded(self._moved))
        self._map.plot.on_change("inner_width", self._guarded(self._ask_soon))
        self._map.plot.on_change("inner_height", self._guarded(self._ask_soon))
        self._map.plot.on_event(Tap, self._guarded(self._tapped))
        if chosen.activation is not None:
            chosen.activation.on_change("value", self._guarded(self._activation_chosen))
        for control in (chosen.loss, chosen.measure):
            control.on_change("value", self._guarded(self._ask_soon))
        chosen.method.on_change("active", self._guarded(self._method_chosen))
        chosen.horizon.on_change("value", self._guarded(self._horizon_typed))
        for control in (chosen.across, chosen.up):
            control.on_change("value", self._guarded(self._sides_chosen))
        for name, typed in chosen.values.items():
            typed.on_change("value", self._guarded(functools.partial(self._typed, name)))
        for name, slider in chosen.sliders.items():
            slider.on_change("value", self._guarded(functools.partial(self._slid, name)))
        for kind, button in chosen.save.items():
            button.on_click(self._guarded(functools.partial(self._save, kind)))
        self._download.js_on_change(
            "data", CustomJS(code="Explorer.download(cb_obj.data)", args={"kept": self._download})
        )
        # A model that nothing shows must hang on one that is shown.
        self._status.tags = [self._download]

    def _guarded(self, answer: Callable[..., None]) -> Callable[..., None]:
        """Tell in the page whatever goes wrong; what this page sets itself calls nothing."""

        def property_changed(attribute: str, old: Any, new: Any) -> None:
            if not self._setting:
                attempt(new)

        def event_came(event: Any) -> None:
            attempt(event)

        def attempt(argument: Any) -> None:
            try:
                answer(argument)
            except Exception as error:
                self._complain(error)

        takes_event = answer == self._tapped or getattr(answer, "func", None) == self._save
        return event_came if takes_event else property_changed

    def _complain(self, error: Exception) -> None:
        if not isinstance(error, PlateaumapError):
            _log.error("explore: %s", error, exc_info=error)
        self._errors.update(text=told(error), visible=True)
        self._status.text = ""

    def _later(self, act: Callable[..., None], *arguments: Any) -> None:
        def attempt() -> None:
            try:
                act(*arguments)
            except Exception as error:
                self._complain(error)

        self._document.add_next_tick_callback(attempt)

    def _activation_chosen(self, activation: str) -> None:
        self.view = self.view.with_activation(activation)
        options = models.loss_options(self.view)
        keep = self._controls.loss.value in dict(options)
        self._set(self._controls.loss, options=options, **({} if keep else {"value": "0"}))
        self._retarget()

    def _method_chosen(self, active: int) -> None:
        self.view = self.view.changed(method=METHODS[active])
        self._ask_soon()

    def _horizon_typed(self, words: str) -> None:
        horizon = parse_number("horizon", words)
        if not (horizon >= 1 and horizon == int(horizon)):
            raise PlateaumapError(f"horizon is {words}; give a whole number of epochs from 1 on")
        self.view = self.view.changed(horizon=int(horizon))
        self._ask_soon()

    def _sides_chosen(self, _: str) -> None:
        self.view = self.view.onto(self._controls.across.value, self._controls.up.value)
        # What was drawn belongs to other sides.
        self._map.image.data = {**models.NOTHING, "image": [np.full((1, 1), np.nan)]}
        self._map.cover.data = {**models.NOTHING, "image": [np.zeros((1, 1), np.uint8)]}
        self._retarget()

    def _typed(self, name: str, words: str) -> None:
        is_text = self.view.coordinate(name).is_text
        self.view = self.view.at_rest(name, words if is_text else parse_number(name, words))
        slider = self._controls.sliders.get(name)
        if slider is not None:
            at = position(name, float(self.view.rest[name]))
            self._set(slider, start=min(slider.start, at), end=max(slider.end, at), value=at)
        self._ask_soon()

    def _slid(self, name: str, place: float) -> None:
        value = float(f"{value_at(name, place):.3g}")
        self.view = self.view.at_rest(name, value)
        self._set(self._controls.values[name], value=f"{value:g}")
        self._ask_soon()

    def _set(self, model: Any, **properties: Any) -> None:
        self._setting = True
        try:
            model.update(**properties)
        finally:
            self._setting = False

    def _retarget(self) -> None:
        """Show a view whose sides or window did not come from the map itself."""
        on_map = {self.view.across, self.view.up}
        for name, typed in self._controls.values.items():
            typed.disabled = name in on_map
            if name in self._controls.sliders:
                self._controls.sliders[name].disabled = name in on_map
        self._setting = True
        try:
            models.aim(self._map.plot, self.view)
        finally:
            self._setting = False
        self._ask_soon()

    def _moved(self, _: float) -> None:
        x, y = self._map.plot.x_range, self._map.plot.y_range
        spans = [
            (value_at(name, reach.start), value_at(name, reach.end))
            for name, reach in ((self.view.across, x), (self.view.up, y))
        ]
        self.view = self.view.moved(*spans)
        self._ask_soon()

    def _ask_soon(self, _: Any = None) -> None:
        if self._pending is not None:
            self._document.remove_timeout_callback(self._pending)
        self._pending = self._document.add_timeout_callback(self._ask_now, _PATIENCE)

    def _ask_now(self) -> None:
        self._pending = None
        self._errors.update(text="", visible=False)
        self._status.text = "sweeping …"
        try:
            self._sweeper.ask(self._question())
        except Exception as error:
            self._complain(error)

    def _question(self) -> Question:
        chosen = self._controls.loss.value
        width, height = self._size()
        losses = (0, 1) if chosen == "ratio" else (int(chosen),)
        return Question(self.view, width, height, losses, self._controls.measure.value)

    def _size(self) -> tuple[int, int]:
        """Pixels of the map, once the browser has told them."""
        try:
            width, height = self._map.plot.inner_width, self._map.plot.inner_height
        except UnsetValueError:
            return _FIRST_SIZE
        return (width, height) if min(width, height) > 1 else _FIRST_SIZE

    def _show(self, answer: Answer) -> None:
        drawn, asked = answer.picture, answer.question.view
        if (asked.across, asked.up) != (self.view.across, self.view.up):
            return
        self._asked += 1
        self._document.hold("combine")
        try:
            self._colour(drawn)
            self._map.plot.tags = [self._told(answer)]
            self._legend.text = legend_html([COVERS[code] for code in drawn.found])
            self._status.text = status_words(answer)
        finally:
            self._document.unhold()

    def _colour(self, drawn: Picture) -> None:
        (left, right), (bottom, top) = drawn.spans
        box = {"x": [left], "y": [bottom], "dw": [right - left], "dh": [top - bottom]}
        for name, (mapper, renderer, bar) in self._map.scales.items():
            renderer.visible = bar.visible = name == drawn.scale
            if name == drawn.scale:
                mapper.update(low=drawn.limits[0], high=drawn.limits[1])
        self._map.image.data = {"image": [drawn.values], **box}
        self._map.cover.data = {"image": [drawn.covers], **box}

    def _told(self, answer: Answer) -> dict[str, Any]:
        """What the page's script has to know of the picture."""
        names = (answer.question.view.across, answer.question.view.up)
        ratio = len(answer.question.losses) > 1
        measure = models.MEASURES[answer.question.measure]
        return {
            "answers": self._asked,
            "coarseness": answer.coarseness,
            "seconds": answer.seconds,
            "names": list(names),
            "logarithmic": [is_logarithmic(name) for name in names],
            "covers": [label for label, _ in COVERS],
            "measure": f"ratio of {measure}" if ratio else measure,
        }

    def _tapped(self, event: Tap) -> None:
        if event.x is None or event.y is None:
            return
        source = self._map.image.data
        height, width = source["image"][0].shape
        centre = [
            low[0]
            + (min(count - 1, max(0, int((at - low[0]) / size[0] * count))) + 0.5) * size[0] / count
            for at, low, size, count in (
                (event.x, source["x"], source["dw"], width),
                (event.y, source["y"], source["dh"], height),
            )
        ]
        view = self.view
        across, up = (
            value_at(name, place)
            for name, place in zip((view.across, view.up), centre, strict=True)
        )
        self._curves_note.text = "computing …"
        self._in_background(lambda: story(view, across, up), self._tell)

    def _tell(self, heard: Story) -> None:
        names = list(heard.rows)
        empty: dict[str, Any] = {name: [] for name in ("epoch", *QUANTITIES)}
        self._document.hold("combine")
        try:
            for place, source in enumerate(self._lines):
                curve = heard.curves.get(names[place]) if place < len(names) else None
                source.data = dict(curve.columns) if curve is not None else empty
                for items in self._legends:
                    items[place].label = {"value": names[place] if curve is not None else ""}
                    items[place].visible = curve is not None
            for quantity, plot in zip(QUANTITIES, self._plots, strict=True):
                plot.visible = bool(heard.curves)
                if heard.curves:
                    models.span(plot.x_range, *heard.extent("epoch"))
                    models.span(plot.y_range, *heard.extent(quantity))
            self._rows.text = rows_html(heard)
            self._curves_note.text = heard.note
        finally:
            self._document.unhold()

    def _save(self, kind: str, _: Any) -> None:
        question, name = self._question(), f"{self.view.name}_view.{kind}"

        def made() -> bytes:
            if kind == "toml":
                view = question.view
                return view.spec(question.width, question.height, question.measure).encode()
            return figure_bytes(question, kind)

        def give(content: bytes) -> None:
            self._download.data = {
                "name": [name],
                "type": [_TYPES[kind]],
                "content": [base64.b64encode(content).decode()],
            }

        self._in_background(made, give)

    def _in_background(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        def attempt() -> None:
            try:
                self._later(then, work())
            except Exception as error:
                self._later(self._complain, error)

        self._pool.submit(attempt)
