"""How figures look: sizes, typography, colours and hatches, and the words for what is drawn.

Every figure is a `matplotlib.figure.Figure` made without pyplot. It is drawn, and saved, inside
`matplotlib.rc_context`, so that no setting of the user's changes it and none is left changed.
"""

from __future__ import annotations

import functools
import io
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal, ParamSpec, TypeVar

import matplotlib
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from plateaumap.inputs.errors import PlateaumapError, advice
from plateaumap.inputs.paths import local_path
from plateaumap.table.display import value_text

SizeName = Literal["column", "page"]

MM = 1 / 25.4
"""One millimetre in inches, matplotlib's unit of length."""

SCREEN_DPI = 150
"""Dots per inch of a figure that a notebook shows: a page's width is about 1,060 of them."""


@dataclass(frozen=True)
class Size:
    """The room that a journal gives a figure.

    Attributes:
        width: in millimetres.
        height: the most that it may have, in millimetres.
        font: size of its text, in points.
    """

    width: float
    height: float
    font: float


SIZES: dict[str, Size] = {"column": Size(85, 240, 6.5), "page": Size(180, 240, 7.5)}

LENGTHS = "viridis"
"""Colours of plateau lengths: perceptually uniform, safe for colour-blind readers, even in grey."""

RATIOS = "PuOr_r"
"""Colours of ratios and differences: white where both losses are alike, safe in the same way."""

LENGTH_LABEL = "plateau length $T_{10}$ (epochs)"

# Settings of the process, not of a figure's look: the backend, its windows, the user's folders.
_PROCESS = ("backend", "interactive", "toolbar", "webagg", "tk", "macosx", "timezone", "docstring")
_DEFAULTS: dict[Any, Any] = {
    name: value
    for name, value in matplotlib.rcParamsDefault.items()
    if not name.startswith((*_PROCESS, "savefig.directory", "figure.hooks", "animation"))
}
_LINE = 0.6
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "axes.linewidth": _LINE,
    "axes.titlelocation": "left",
    "axes.grid": False,
    "axes.axisbelow": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.handleheight": 1.0,
    "legend.columnspacing": 1.5,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    **{f"{axis}tick.major.width": _LINE for axis in "xy"},
    **{f"{axis}tick.minor.width": 0.4 for axis in "xy"},
    **{f"{axis}tick.major.size": 2.5 for axis in "xy"},
    **{f"{axis}tick.minor.size": 1.5 for axis in "xy"},
    **{f"{axis}tick.major.pad": 2 for axis in "xy"},
}

# A context of settings belongs to the whole process: one figure at a time.
_turn = threading.RLock()

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def styled(draw: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Makes `draw` run with this project's settings of matplotlib, and put the user's back."""

    @functools.wraps(draw)
    def inside(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with _turn, matplotlib.rc_context({**_DEFAULTS, **_STYLE}):
            return draw(*args, **kwargs)

    return inside


def size_named(name: str) -> Size:
    """The size of that name.

    Raises:
        PlateaumapError: there is none.
    """
    if name not in SIZES:
        raise PlateaumapError(f"size is {name!r}; {advice(name, SIZES)}")
    return SIZES[name]


class NotebookFigure(Figure):
    """A figure that a notebook shows where it is a cell's value, without pyplot or a backend."""

    def _repr_png_(self) -> bytes:
        """Return the picture that a notebook asks for."""
        buffer = io.BytesIO()
        save(self, buffer, ".png", dpi=SCREEN_DPI)
        return buffer.getvalue()


@styled
def new_figure(size: Size, height: float, **settings: Any) -> Figure:
    """An empty figure as wide as `size` and `height` millimetres high."""
    with matplotlib.rc_context({"font.size": size.font}):
        return NotebookFigure(figsize=(size.width * MM, height * MM), **settings)


@styled
def save(
    figure: Figure,
    target: str | PathLike[str] | IO[bytes],
    suffix: str | None = None,
    dpi: float | None = None,
) -> None:
    """Writes a figure, without a date that would differ each time.

    Args:
        figure: any of this package's.
        target: a path, or an open binary file.
        suffix: the format, such as ".png", ".pdf" or ".svg"; by default the path's.
        dpi: dots per inch of a ".png"; 300 by default.
    """
    if not hasattr(target, "write"):
        target = local_path(target, "file")
    ending = suffix or Path(str(target)).suffix
    dated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    settings: dict[str, Any] = {} if dpi is None else {"dpi": dpi}
    figure.savefig(target, format=ending.removeprefix("."), metadata=dated.get(ending), **settings)


def colours(name: str) -> Colormap:
    """The colour map of that name."""
    return matplotlib.colormaps[name]


def plain(text: object) -> str:
    """Text of a user's, so that matplotlib reads no formula into it."""
    return str(text).replace("$", r"\$")


@dataclass(frozen=True)
class Look:
    """How cells without a plateau length are drawn.

    Attributes:
        label: their name in the legend.
        face: the flat colour, a grey or white that no colour map of lengths contains.
        hatch: the hatch, different for each look, since colours are lost in print.
        ink: the colour of the hatch.
    """

    label: str
    face: str
    hatch: str
    ink: str

    def patch(self, label: str | None = None) -> Patch:
        """A sample for the legend."""
        return self.dress(Patch(label=self.label if label is None else label))

    def dress(self, patch: Any) -> Any:
        """`patch`, drawn like these cells."""
        patch.set(facecolor=self.face, edgecolor=self.ink, hatch=self.hatch, linewidth=0)
        return patch


STATUS_LOOKS: dict[str, Look] = {
    "censored": Look("censored", "0.78", "//////", "0.25"),
    "converged_at_start": Look("converged at the start", "1.0", "......", "0.45"),
    "stationary": Look("stationary (zero gradient)", "0.9", "ooooo", "0.3"),
    "stalled": Look("stalled by rounding", "0.15", "xxxxx", "1.0"),
    "partially_stalled": Look("partially stalled by rounding", "0.45", r"\\\\\\", "1.0"),
    "not_finite": Look("not finite", "0.0", "", "0.0"),
    "beyond_int64": Look("longer than $2^{63}$ epochs", "0.6", "||||||", "0.1"),
}
"""The statuses other than `escaped`, in the table's order, each with a look of its own."""

NOT_SWEPT = Look("not in the table", "1.0", "-----", "0.7")

_LOSS_WORDS = {
    "quadratic": "quadratic loss",
    "cross_entropy": "cross-entropy",
    "linear": "linear outputs",
}
_SYMBOLS = {
    "w0": "initial weight $w_0$",
    "b0": "initial bias $b_0$",
    "lr": "learning rate $\\eta$",
    "x": "input $x$",
    "y": "target $y$",
    "lr_hidden": "learning rate of the hidden layer",
    "lr_output": "learning rate of the output layer",
}
_SHORT = {"w0": "$w_0$", "b0": "$b_0$", "lr": "learning rate $\\eta$", "x": "$x$", "y": "$y$"}

# Okabe and Ito's colours, in an order that also differs in grey; dashes tell them apart anyway.
INKS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2, 1)))


def loss_words(name: str) -> str:
    """The name of a loss as a reader would say it."""
    return _LOSS_WORDS.get(name, plain(name))


def axis_words(name: str) -> str:
    """The label of an axis for a coordinate; all of the neuron's are pure numbers."""
    return _SYMBOLS.get(name, plain(name))


def short(name: str) -> str:
    """The symbol of a coordinate, with a word where the symbol alone says too little."""
    return _SHORT.get(name, plain(name))


def number(value: float) -> str:
    """A coordinate's value, short and without rounding what was typed by hand."""
    text = value_text(value)
    return text.replace("-", "\N{MINUS SIGN}", 1) if value < 0 else text


def equation(name: str, value: float) -> str:
    """Such as `learning rate η = 0.15`, or `x = 1`."""
    return f"{short(name)} = {number(value)}"


def count(epochs: float) -> str:
    """A number of epochs with its thousands apart."""
    return f"{epochs:,.0f}"


def wrapped(text: str, characters: int) -> str:
    """Text on lines of about so many characters."""
    return "\n".join(textwrap.wrap(text, max(8, characters), break_long_words=False))
