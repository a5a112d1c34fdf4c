"""The style of figures: sizes, fonts, colours, hatches, and the words for coordinates and losses.

Every figure is a `matplotlib.figure.Figure` created without pyplot. It is drawn and saved inside
`matplotlib.rc_context`, so user settings do not change it, and it does not change user settings.
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
"""One millimetre in inches, the length unit of matplotlib."""

SCREEN_DPI = 150
"""The resolution of figures in notebooks, in dots per inch; a page is about 1,060 dots wide."""


@dataclass(frozen=True)
class Size:
    """The space that a journal has for a figure.

    Attributes:
        width: the width in millimetres.
        height: the largest height in millimetres.
        font: the font size in points.
    """

    width: float
    height: float
    font: float


SIZES: dict[str, Size] = {"column": Size(85, 240, 6.5), "page": Size(180, 240, 7.5)}

LENGTHS = "viridis"
"""The colour map of plateau lengths: perceptually uniform and safe for colour-blind readers."""

RATIOS = "PuOr_r"
"""The colour map of ratios and differences: white where the losses are equal, equally safe."""

LENGTH_LABEL = "plateau length $T_{10}$ (epochs)"

# These settings belong to the process rather than to a figure: backend, windows, folders.
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
    "axes.titlesize": "medium",
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

# `rc_context` changes settings of the whole process, so only one figure is drawn at a time.
_lock = threading.RLock()

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def styled(draw: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Return `draw` wrapped to run with the settings of this module and restore the user's.

    The font size is that of the keyword argument `size` of the call, "page" by default.
    """

    @functools.wraps(draw)
    def inside(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        font = SIZES.get(str(kwargs.get("size")), SIZES["page"]).font
        with _lock, matplotlib.rc_context({**_DEFAULTS, **_STYLE, "font.size": font}):
            return draw(*args, **kwargs)

    return inside


def size_named(name: str) -> Size:
    """Return the size with a name.

    Raises:
        PlateaumapError: The name is unknown.
    """
    if name not in SIZES:
        raise PlateaumapError(f"size = {name!r}: unknown; {advice(name, SIZES)}")
    return SIZES[name]


class NotebookFigure(Figure):
    """A figure that a notebook displays without pyplot or a backend."""

    def _repr_png_(self) -> bytes:
        """Return the figure as PNG bytes."""
        buffer = io.BytesIO()
        save(self, buffer, ".png", dpi=SCREEN_DPI)
        return buffer.getvalue()


def new_figure(size: Size, height: float, **settings: Any) -> Figure:
    """Return an empty figure of the width of `size` and a height in millimetres."""
    return NotebookFigure(figsize=(size.width * MM, height * MM), **settings)


@styled
def save(
    figure: Figure,
    target: str | PathLike[str] | IO[bytes],
    suffix: str | None = None,
    dpi: float | None = None,
) -> None:
    """Write a figure to a file, without a date, so that equal figures give equal files.

    Args:
        figure: a figure of this package.
        target: a path, or an open binary file.
        suffix: the format, such as ".png", ".pdf" or ".svg"; by default the suffix of the path.
        dpi: the resolution of a ".png" in dots per inch; 300 by default.

    Example:
        >>> import io
        >>> import plateaumap as pm
        >>> axis = pm.values("w0", [0.5, 2.0])
        >>> frame = pm.run(pm.Sweep(axes=[axis], fixed={"b0": 0.5, "lr": 0.5}, horizon=200))
        >>> file = io.BytesIO()
        >>> pm.figures.save(pm.figures.plateau_bars(frame), file, ".svg")
        >>> file.getvalue()[:5]
        b'<?xml'
    """
    if not hasattr(target, "write"):
        target = local_path(target, "file")
    ending = suffix or Path(str(target)).suffix
    dated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
    settings: dict[str, Any] = {} if dpi is None else {"dpi": dpi}
    figure.savefig(target, format=ending.removeprefix("."), metadata=dated.get(ending), **settings)


def colours(name: str) -> Colormap:
    """Return the colour map with a name."""
    return matplotlib.colormaps[name]


def plain(text: object) -> str:
    """Return text with escaped dollar signs, which matplotlib would read as formulas."""
    return str(text).replace("$", r"\$")


@dataclass(frozen=True)
class Look:
    """The look of cells without a plateau length.

    Attributes:
        label: the name in the legend.
        face: the flat colour, a grey or white that the colour map of lengths does not contain.
        hatch: the hatch, different for each look, because print may lose colours.
        ink: the colour of the hatch.
    """

    label: str
    face: str
    hatch: str
    ink: str

    def patch(self, label: str | None = None) -> Patch:
        """Return a sample for the legend."""
        return self.dress(Patch(label=self.label if label is None else label))

    def dress(self, patch: Any) -> Any:
        """Give `patch` this look and return it."""
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
"""The look of each status other than `escaped`, in the order of the table's categories."""

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

# The colours of Okabe and Ito, in an order that also differs in grey.
INKS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2, 1)))


def loss_words(name: str) -> str:
    """Return the name of a loss in words."""
    return _LOSS_WORDS.get(name, plain(name))


def axis_words(name: str) -> str:
    """Return the axis label of a coordinate. The coordinates of the neuron have no unit."""
    return _SYMBOLS.get(name, plain(name))


def short(name: str) -> str:
    """Return the symbol of a coordinate, or its name if it has no symbol."""
    return _SHORT.get(name, plain(name))


def number(value: float) -> str:
    """Return a coordinate's value as short text that does not round decimal input."""
    text = value_text(value)
    return text.replace("-", "\N{MINUS SIGN}", 1) if value < 0 else text


def equation(name: str, value: float) -> str:
    """Return text such as `learning rate η = 0.15` or `x = 1`."""
    return f"{short(name)} = {number(value)}"


def count(epochs: float) -> str:
    """Return a number of epochs with thousands commas."""
    return f"{epochs:,.0f}"


def wrapped(text: str, characters: int) -> str:
    """Return text wrapped to lines of at most `characters` characters (at least 8)."""
    return "\n".join(textwrap.wrap(text, max(8, characters), break_long_words=False))
