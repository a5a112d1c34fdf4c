"""The explorer in a browser: zoom, hover, click, controls and downloads."""

import io
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from tests.pages.browser import place
from tests.pages.server import (
    EXPLORED,
    change,
    opened,
    picture,
    press,
    sampled,
    text,
    wait_drawn,
    wait_read,
)

import plateaumap as pm
from plateaumap.explore.view import View, value_at


@pytest.fixture(scope="module")
def shared(chromium, address):
    return opened(chromium, address)


@pytest.fixture
def page(shared):
    """Yield the page that all tests share, reset to its first view."""
    page, seen = shared
    seen.complaints.clear()
    answers = picture(page)["answers"]
    page.mouse.move(0, 0)
    for name, attribute, value in (
        ("across", "value", "w0"),
        ("activation", "value", "sigmoid"),
        ("loss", "value", "0"),
        ("value-lr", "value", "0.15"),
        ("value-y", "value", "0"),
        ("method", "active", 0),
    ):
        change(page, name, attribute, value)
    window(page, (-4, 4), (-4, 4))
    page.evaluate("Bokeh.documents[0].get_model_by_name('map').x_range.change.emit()")
    change(page, "measure", "value", "half_epochs")
    change(page, "measure", "value", "plateau_epochs")
    wait_drawn(page, answers)
    page.wait_for_timeout(300)
    yield page
    assert seen.complaints == []


def window(page, across, up) -> None:
    page.evaluate(
        """([[left, right], [bottom, top]]) => {
          const { x_range, y_range } = Bokeh.documents[0].get_model_by_name("map");
          x_range.setv({ start: left, end: right });
          y_range.setv({ start: bottom, end: top });
        }""",
        [across, up],
    )


def drawn_sweep(page) -> pm.Sweep:
    """Return the spec of the map as it is drawn, from the page alone."""
    low, size, shape = page.evaluate(
        """() => {
          const { x, y, dw, dh, image } = Bokeh.documents[0].get_model_by_name("image").data;
          return [[x[0], y[0]], [dw[0], dh[0]], image[0].shape];
        }"""
    )
    names = picture(page)["names"]
    spans = [
        [value_at(name, at) for at in (least, least + reach)]
        for name, least, reach in zip(names, low, size, strict=True)
    ]
    view = View.of(EXPLORED).with_sides(*names).with_window(*spans)
    return view.sweep(shape[1], shape[0])


def hovered(page, x, y) -> dict[str, str]:
    page.mouse.move(0, 0)
    page.mouse.move(*place(page, x, y), steps=3)
    page.wait_for_function("document.querySelector('#tooltip')?.hidden === false")
    return dict(
        page.eval_on_selector_all(
            "#tooltip tr", "rows => rows.map(r => [r.cells[0].textContent, r.cells[1].textContent])"
        )
    )


def nearest(values: np.ndarray, value: float) -> float:
    return float(values[np.argmin(np.abs(values - value))])


def test_a_new_window_is_swept_at_full_resolution_and_exactly(page):
    answers = picture(page)["answers"]
    x, y = place(page, 1.7, 2.1)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    wait_drawn(page, answers)
    page.wait_for_timeout(500)  # the wheel turns in steps, and each is a window of its own
    map_range = page.evaluate(
        "(() => { const r = Bokeh.documents[0].get_model_by_name('map').x_range;"
        " return [r.start, r.end] })()"
    )
    sweep = drawn_sweep(page)
    across, up = (sweep.axes[place].columns[n] for place, n in ((1, "w0"), (0, "b0")))
    half = (across[1] - across[0]) / 2
    assert [across[0] - half, across[-1] + half] == pytest.approx(map_range, rel=1e-9)
    assert map_range[1] - map_range[0] < 4
    # The tooltips of three cells show the lengths by theory.
    for w0, b0 in ((1.7, 2.1), (1.45, 1.85), (1.77, 2.15)):
        seen = hovered(page, w0, b0)
        cell = nearest(across, w0), nearest(up, b0)
        assert float(seen["w0"]) == pytest.approx(cell[0], abs=2.1 * half)
        exact = pm.plateau_epochs(float(seen["w0"]), float(seen["b0"]), 0.15)
        assert seen["T10, plateau (epochs)"] == f"{exact:,}"
    # So does every number of the picture.
    np.testing.assert_array_equal(
        sampled(page, 97), pm.plateau_epochs(across, up[:, None], 0.15).ravel()[::97]
    )


def test_a_click_draws_both_curves_and_shows_their_rows(page):
    page.mouse.click(*place(page, 2.0, 2.0))
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('rows').text.includes('predicted_epochs')",
        timeout=120_000,  # the first row has to be compiled
    )
    drawn = [
        page.evaluate(
            "(i) => Object.fromEntries(Object.entries(Bokeh.documents[0]"
            ".get_model_by_name(`curve-${i}`).data).map(([k, v]) => [k, Array.from(v)]))",
            place,
        )
        for place in (0, 1)
    ]
    for loss, columns in zip(EXPLORED.losses, drawn, strict=True):
        at = {"w0": columns["w"][0], "b0": columns["b"][0], "lr": 0.15}
        assert (at["w0"], at["b0"]) == pytest.approx((2, 2), abs=0.02)
        epochs = np.array(columns["epoch"], dtype=int)
        curve = pm.simulate(loss=loss, **at, epochs=epochs[-1])
        for name in ("loss", "output", "w", "b"):
            np.testing.assert_array_equal(columns[name], curve[name].to_numpy()[epochs])
    length = pm.plateau_epochs(drawn[0]["w"][0], drawn[0]["b"][0], 0.15)
    assert f"plateau_epochs{length:,}" in text(page, "rows")
    assert drawn[0]["epoch"][-1] >= 1.05 * length


@pytest.mark.slow
def test_other_sides_never_show_the_map_of_the_previous_ones(page):
    answers = picture(page)["answers"]
    change(page, "across", "value", "lr")
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('map').below.some((a) => a.axis_label?.text === 'lr')"
    )
    assert picture(page)["names"] == ["lr", "b0"] or np.isnan(sampled(page)).all()
    wait_drawn(page, answers)
    assert picture(page)["names"] == ["lr", "b0"]
    sweep = drawn_sweep(page)
    lr, b0 = sweep.axes[1].columns["lr"], sweep.axes[0].columns["b0"]
    exact = pm.plateau_epochs(0, b0[:, None], lr)
    converged = np.broadcast_to(1 / (1 + np.exp(-b0[:, None])) <= 0.01, exact.shape)
    expected = np.where(converged, np.nan, exact)
    np.testing.assert_array_equal(sampled(page, 101), expected.ravel()[::101])


def test_controls_change_what_is_swept(page):
    def changed(name, attribute, value) -> np.ndarray:
        answers = picture(page)["answers"]
        change(page, name, attribute, value)
        wait_drawn(page, answers)
        return sampled(page, 101)

    sweep = drawn_sweep(page)
    across, up = sweep.axes[1].columns["w0"], sweep.axes[0].columns["b0"]
    z0 = across + up[:, None]

    def exact(lr, y, loss) -> np.ndarray:
        lengths = pm.plateau_epochs(across, up[:, None], lr, 1.0, y, loss, errors="mask")
        converged = np.abs(1 / (1 + np.exp(-z0)) - y) <= 0.01
        whole = np.where(lengths.mask | converged, np.nan, lengths.data)
        return whole.ravel()[::101]

    np.testing.assert_array_equal(changed("value-lr", "value", "1.5"), exact(1.5, 0, "quadratic"))
    np.testing.assert_array_equal(changed("slider-lr", "value", -1), exact(0.1, 0, "quadratic"))
    assert page.evaluate("Bokeh.documents[0].get_model_by_name('value-lr').value") == "0.1"
    np.testing.assert_array_equal(changed("loss", "value", "1"), exact(0.1, 0, "cross_entropy"))
    ratio = exact(0.1, 0, "quadratic") / exact(0.1, 0, "cross_entropy")
    np.testing.assert_allclose(changed("loss", "value", "ratio"), ratio, rtol=1e-15)
    low, high = page.evaluate(
        "(() => { const m = Bokeh.documents[0].get_model_by_name('map').renderers"
        ".find((r) => r.visible && r.glyph.color_mapper.palette.length === 256)"
        ".glyph.color_mapper; return [m.low, m.high] })()"
    )
    assert np.log(low) == pytest.approx(-np.log(high))
    changed("loss", "value", "0")
    np.testing.assert_array_equal(changed("slider-y", "value", 1), exact(0.1, 1, "quadratic"))


def test_any_two_coordinates_can_be_the_sides_of_the_map(page):
    answers = picture(page)["answers"]
    change(page, "across", "value", "lr")
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('map').tags[0].names[0] === 'lr'", timeout=60_000
    )
    wait_drawn(page, answers)
    seen = hovered(page, -1, 2)
    rate, b0 = float(seen["lr"]), float(seen["b0"])
    assert rate == pytest.approx(0.1, rel=0.05)
    exact = pm.plateau_epochs(0.0, b0, rate)
    assert seen["T10, plateau (epochs)"] == f"{exact:,}"
    answers = picture(page)["answers"]
    change(page, "across", "value", "w0")
    wait_drawn(page, answers)


def test_errors_appear_in_the_page(page):
    for value, words in (("fast", "lr = 'fast': must be a number"), ("-1", "greater than 0")):
        change(page, "value-lr", "value", value)
        wait_read(page, "errors", words)
    answers = picture(page)["answers"]
    change(page, "value-lr", "value", "0.3")
    wait_drawn(page, answers)
    assert text(page, "errors") == ""
    window(page, (1.0, 1.0 + 1e-13), (1.0, 2.0))
    wait_read(page, "errors", "zoom out")
    assert "sweeping" not in text(page, "status")


@pytest.mark.slow
def test_the_map_is_simulated_on_request(page):
    def status() -> str:
        return page.evaluate("Bokeh.documents[0].get_model_by_name('status').text")

    assert "by theory" in status()
    answers = picture(page)["answers"]
    change(page, "horizon", "value", "300")
    change(page, "method", "active", 1)
    page.wait_for_function(
        "Bokeh.documents[0].get_model_by_name('status').text.includes('simulated up to 300')"
    )
    wait_drawn(page, answers)
    sweep = drawn_sweep(page)
    across, up = sweep.axes[1].columns["w0"], sweep.axes[0].columns["b0"]
    exact = pm.plateau_epochs(across, up[:, None], 0.15, errors="mask")
    converged = 1 / (1 + np.exp(-(across + up[:, None]))) <= 0.01
    expected = np.where(converged | (exact.data > 300), np.nan, exact.data)
    np.testing.assert_array_equal(sampled(page, 97), expected.ravel()[::97])
    assert "censored" in text(page, "legend")


@pytest.mark.slow
def test_the_view_is_saved_as_a_spec_and_as_a_figure(page, tmp_path):
    answers = picture(page)["answers"]
    window(page, (1, 3), (0.5, 2.5))
    wait_drawn(page, answers)
    file = tmp_path / "view.toml"
    press(page, "save-toml").save_as(file)
    sweep = pm.Sweep.load(file)
    assert sweep.method == "leap"
    assert sweep.axes == drawn_sweep(page).axes
    small = sweep.with_settings({"axes.w0.num": 3, "axes.b0.num": 3})
    frame = pm.run(small)
    np.testing.assert_array_equal(
        frame.query("loss == 'quadratic'")["plateau_epochs"],
        pm.plateau_epochs(*frame.query("loss == 'quadratic'")[["w0", "b0"]].to_numpy().T, 0.15),
    )
    press(page, "save-png").save_as(tmp_path / "view.png")
    figure = Image.open(io.BytesIO((tmp_path / "view.png").read_bytes()))
    assert figure.width == pytest.approx(180 / 25.4 * 300, abs=1)


def test_names_are_text_and_all_requests_go_to_the_server(shared, address):
    page, seen = shared
    assert page.title().startswith(EXPLORED.name)
    assert page.locator("h1").text_content() == EXPLORED.name
    assert page.locator("img").count() == 0
    hosts = {urlsplit(request).netloc for request in seen.requests if request.startswith("http")}
    assert hosts == {urlsplit(address).netloc}


def test_the_server_listens_on_loopback_only(address):
    port = urlsplit(address).port
    assert urlsplit(address).hostname == "127.0.0.1"
    with socket.socket() as other:
        other.settimeout(2)
        # All of 127/8 belongs to this machine, but the server listens on one address of it.
        assert other.connect_ex(("127.0.0.2", port)) != 0
