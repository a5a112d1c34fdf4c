"""Write the figures, findings and page of a finished sweep into its folder."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.curves import learning_curves
from plateaumap.report.figures import applicable
from plateaumap.report.findings import findings, rows_at
from plateaumap.report.lattice import Lattice, read
from plateaumap.report.lines import cut
from plateaumap.report.maps import UNLUCKY
from plateaumap.report.page.build import build_page
from plateaumap.report.style import SizeName, save
from plateaumap.storage.errors import not_writable, write_failed
from plateaumap.storage.files import write_atomic
from plateaumap.storage.results import Results, open_results

FOLDER = "figures"
PAGE = "report.html"
Simulate = Callable[..., pd.DataFrame]
Theory = Callable[..., pd.DataFrame]

_SUFFIXES = {"page": "", "column": "_column"}
_FEW_POINTS = 4
_ARTICLE_RATES = (0.15, 0.005)
_SHORTEST_CURVE, _LONGEST_CURVE = 300, 20_000
_CURVES_CAPTION = (
    "Loss, output, weight, bias and gradient dC/dz against the epoch. The dot marks T10, the "
    "first epoch at which 10 % of the initial loss excess is gone. The quadratic loss includes "
    "the factor 1/2; cross-entropy is in nats."
)


def write_report(
    source: Path | str | Results,
    *,
    simulate: Simulate | None = None,
    theory: Theory | None = None,
    sizes: Sequence[SizeName] = ("page", "column"),
    formats: Sequence[str] = (".png", ".pdf"),
    page: bool = False,
) -> list[Path]:
    """Write every figure that a finished sweep supports, and its findings.

    All figures are drawn before the first file is written, so that an error leaves the folder
    unchanged.

    Args:
        source: a folder of results, or `Results`.
        simulate: a function that returns a whole curve, such as `plateaumap.simulate`; by default
            no learning curves are drawn.
        theory: a function that adds theory's lengths to a table, such as `plateaumap.add_theory`;
            by default a cut shows only the prediction.
        sizes: "page" (180 mm wide), whose files have the name of the figure, and "column" (85 mm),
            whose files end in `_column`.
        formats: suffixes of files that matplotlib can write.
        page: whether to write `DIR/report.html`, which needs bokeh.

    Returns:
        The files in `DIR/figures`: each figure in each size and format, and `report.md` with
        findings and captions; and the page.

    Raises:
        StorageError: The folder is unfinished, empty, damaged, not of a sweep, or not writable.
        PlateaumapError: `page` is true and bokeh is not installed.
    """
    results = source if isinstance(source, Results) else open_results(source)
    frame = results.frame()
    folder = results.path / FOLDER
    if folder.exists() and not folder.is_dir():
        raise not_writable(folder, NotADirectoryError(20, "it is a file, not a folder"))
    files: dict[str, bytes] = {}
    captions: dict[str, str] = {}
    for figure in applicable(frame):
        table = _with_theory(results, frame, theory) if theory and figure.draw is cut else frame
        files |= _drawn(figure.name, partial(figure.draw, table), sizes, formats)
        captions[figure.name] = figure.caption
    curves = None if simulate is None else demonstrations(results, frame, simulate)
    if curves:
        files |= _drawn("learning_curves", partial(learning_curves, curves), sizes, formats)
        captions["learning_curves"] = _CURVES_CAPTION
    files["report.md"] = _words(results, findings(frame), captions).encode()
    if not page:
        return _write(folder, files)
    pictures = [
        {"name": name, "caption": captions[name], "png": files[f"{name}.png"]}
        for name in captions
        if f"{name}.png" in files
    ]
    html = build_page(results, frame, pictures).encode()
    return [*_write(folder, files), *_write(results.path, {PAGE: html})]


def _with_theory(results: Results, frame: pd.DataFrame, theory: Theory) -> pd.DataFrame:
    """Return a table with theory's lengths, or unchanged if the experiment is not available."""
    try:
        return theory(frame, results.sweep.experiment)
    except PlateaumapError:
        return frame


def _drawn(
    name: str, draw: Callable[..., Figure], sizes: Sequence[SizeName], formats: Sequence[str]
) -> dict[str, bytes]:
    files = {}
    for size in sizes:
        figure = draw(size=size)
        for suffix in formats:
            buffer = io.BytesIO()
            save(figure, buffer, suffix)
            # The layout is the same for every format.
            figure.set_layout_engine("none")
            files[f"{name}{_SUFFIXES[size]}{suffix}"] = buffer.getvalue()
    return files


def _write(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    written: list[Path] = []
    try:
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            write_atomic(folder / name, content)
            written.append(folder / name)
    except PermissionError as error:
        raise not_writable(folder, error) from error
    except OSError as error:
        raise write_failed(folder, error) from error
    return written


def _words(results: Results, sentences: list[str], captions: Mapping[str, str]) -> str:
    title = str(results.manifest["spec"].get("name", results.path.name))
    lines = [f"# {title}", "", *(f"- {sentence}" for sentence in sentences)]
    for name, caption in captions.items():
        lines += ["", f"![{name}]({name}.png)", "", caption]
    return "\n".join([*lines, ""])


def demonstrations(
    results: Results, frame: pd.DataFrame, simulate: Simulate
) -> dict[str, dict[str, pd.DataFrame]]:
    """Return the curves of a few informative runs, by loss and initial point.

    The initial points are all points of a table with at most 4 points, or else the unlucky start at
    the two learning rates of the article.

    Args:
        results: the folder, for the experiment and the losses.
        frame: the table of the folder.
        simulate: a function that returns a curve.
    """
    lattice = read(frame, "demonstrations")
    names = ("w0", "b0", "lr", "x", "y")
    if not set(names) <= set(frame.columns):
        return {}
    rows = _demonstrated(lattice)
    try:
        sweep = results.sweep
    except PlateaumapError:  # The spec names functions that are not available here.
        return {}
    curves: dict[str, dict[str, pd.DataFrame]] = {}
    for loss, known_loss in zip(sweep.loss_names, sweep.losses, strict=True):
        if not isinstance(known_loss, str):
            continue  # The folder has the name of a custom loss, but not its code.
        runs = [row for row in rows if frame["loss"].iloc[row] == loss]
        longest = int(np.nanmax(lattice.lengths[runs], initial=0)) if runs else 0
        epochs = min(max(_SHORTEST_CURVE, 2 * longest), _LONGEST_CURVE)
        for row in runs:
            point = {name: float(frame[name].iloc[row]) for name in names}
            label = ", ".join(f"{name} = {point[name]:g}" for name in ("w0", "b0", "lr"))
            curve = simulate(loss=known_loss, **point, epochs=epochs, experiment=sweep.experiment)
            floor = float(frame["loss_floor"].iloc[row]) if "loss_floor" in frame else 0.0
            curves.setdefault(loss, {})[label] = curve.assign(loss_floor=floor)
    return curves


def _demonstrated(lattice: Lattice) -> list[int]:
    """Return the rows of the runs whose curves are drawn."""
    places, titles = lattice.product(lattice.axes)
    if len(titles) <= _FEW_POINTS:
        return list(range(len(places)))
    unlucky = dict(zip(("w0", "b0"), UNLUCKY, strict=True))
    here = rows_at(lattice, unlucky)
    rates = [rows_at(lattice, {"lr": rate}) for rate in _ARTICLE_RATES]
    return np.flatnonzero(here & np.logical_or.reduce(rates)).tolist()
