"""The page of a report as HTML: findings, map, figures, counts, provenance and spec."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import pandas as pd

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.report.findings import findings
from plateaumap.report.lattice import Lattice, Words, display_value, read
from plateaumap.report.maps import UNLUCKY
from plateaumap.report.page.looks import LOOKS
from plateaumap.report.page.pack import PackedColumn, packed
from plateaumap.report.page.picture import Picture, picture_of
from plateaumap.report.style import RATIOS
from plateaumap.storage.results import Results

LOG_MEASURES = (
    "plateau_epochs",
    "half_epochs",
    "tenth_epochs",
    "predicted_epochs",
    "acceleration",
    "tangent_lag",
    "epochs_run",
)
_MEASURES = {
    "plateau_epochs": "T10, plateau length (epochs)",
    "half_epochs": "T50 (epochs)",
    "tenth_epochs": "T90 (epochs)",
    "plateau_fraction": "plateau fraction T10/T90",
    "acceleration": "acceleration, largest over initial gradient",
    "tangent_lag": "tangent lag (epochs)",
    "steepest_epoch": "steepest epoch",
    "predicted_epochs": "predicted length (epochs)",
    "initial_output": "initial output",
    "final_output": "final output",
    "initial_gradient": "initial gradient dC/dz",
}
PAGE_ACTIVATIONS = ("sigmoid", "tanh", "softsign", "algebraic", "identity", "relu", "leaky_relu")
"""The activations that `neuron.js` knows."""


def build_page(results: Results, frame: pd.DataFrame, figures: Sequence[Mapping[str, Any]]) -> str:
    """Return the page `report.html`, one file that needs no network.

    Args:
        results: the folder of results.
        frame: the table of the folder.
        figures: the `name`, the `caption` and `png`, the bytes, of each figure.

    Returns:
        The page as HTML. A table whose packed columns take more than 7 million characters is
        thinned for the map, and the page says so.

    Raises:
        PlateaumapError: Bokeh is not installed.
    """
    try:
        from bokeh.resources import Resources
        from jinja2 import Environment

        from plateaumap.report.page import bokeh_map
    except ImportError as error:
        raise PlateaumapError(
            "report.html needs Bokeh, which is not installed: pip install 'plateaumap[report]'"
        ) from error
    lattice = read(frame, "report.html")
    columns, picture = packed(lattice, picture_of(lattice))
    dynamics = _dynamics(results)
    meta = _meta(lattice, picture, columns, dynamics)
    script, drawn, curves = bokeh_map.components_of(
        picture, lattice.losses, RATIOS, with_curves=dynamics is not None
    )
    title = str(results.manifest["spec"].get("name", results.path.name))
    command, spec, again = _again(results, title)
    template = Environment(autoescape=True).from_string(_read("page.html"))
    return template.render(
        title=title,
        css=_read("page.css") + _read("tooltip.css"),
        tooltip=_read("tooltip.js"),
        bokeh=Resources(mode="inline", components=["bokeh"], log_level="error").render(),
        swept=_swept(results, lattice),
        findings=findings(frame),
        thinned=_thinned(lattice, picture),
        map=drawn,
        curves=curves,
        curves_note="Click a cell of the map."
        if dynamics is not None
        else "The page cannot compute curves of this experiment; use plateaumap.simulate.",
        figures=[
            {
                "name": figure["name"],
                "caption": figure["caption"],
                "data": base64.b64encode(figure["png"]).decode(),
            }
            for figure in figures
        ],
        counts=[(name, f"{number:,}") for name, number in results.counts().items() if number],
        provenance=_provenance(results),
        command=command,
        spec=spec,
        again=again,
        meta=_json(meta),
        blocks=[
            {"id": f"block-{number}-{loss}", "text": text}
            for number, column in enumerate(columns)
            for loss, text in enumerate(column.blocks)
        ],
        neuron=_read("neuron.js"),
        script=_read("map.js"),
        bokeh_script=script,
    )


def _read(name: str) -> str:
    return resources.files("plateaumap.report.page").joinpath(name).read_text("utf-8")


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element around it."""
    return json.dumps(value).replace("<", "\\u003c")


def _meta(
    lattice: Lattice, picture: Picture, columns: Sequence[PackedColumn], dynamics: Any
) -> dict[str, Any]:
    height, width = picture.rows.shape[2:]
    names = [column.name for column in columns]
    return {
        "losses": list(lattice.losses),
        "measures": _measures(lattice, picture, columns),
        "columns": [{"name": c.name, "kind": c.kind, "words": list(c.words)} for c in columns],
        "status": names.index("status"),
        "looks": [{"label": label, "colour": colour} for label, colour in LOOKS],
        "picture": {
            "height": height,
            "width": width,
            "x_edges": picture.across.edges.tolist(),
            "y_edges": None if picture.up is None else picture.up.edges.tolist(),
            "x_names": _named(picture.across.columns, lattice.words),
            "y_names": [] if picture.up is None else _named(picture.up.columns, lattice.words),
            "cloud": None
            if picture.cloud is None
            else {
                side: picture.across.columns[name].tolist()
                for side, name in zip("xy", picture.cloud, strict=True)
            },
        },
        "panels": picture.rows.shape[1],
        "further": [
            {
                "label": " and ".join(axis.names),
                "names": _named(axis.columns, axis.words),
                "titles": [axis.plain_title(place) for place in range(axis.size)],
            }
            for axis in picture.further
        ],
        "point": lattice.displayed_fixed,
        "fixed": lattice.plain_fixed(),
        "dynamics": dynamics,
        "first": _first(picture),
    }


def _named(columns: Mapping[str, Any], words: Words) -> list[dict[str, Any]]:
    return [
        {"name": name, "values": [display_value(name, value, words) for value in values.tolist()]}
        for name, values in columns.items()
    ]


def _measures(
    lattice: Lattice, picture: Picture, columns: Sequence[PackedColumn]
) -> list[dict[str, Any]]:
    places = {column.name: number for number, column in enumerate(columns)}
    measures: list[dict[str, Any]] = [
        {
            "label": label,
            "column": places[name],
            "scale": "log" if name in LOG_MEASURES else "linear",
        }
        for name, label in _MEASURES.items()
        if name in places
    ]
    if picture.up is None and picture.cloud is None:  # The dots have a logarithmic scale.
        measures = [measure for measure in measures if measure["scale"] == "log"]
    if len(lattice.losses) > 1:
        first, second = lattice.losses[:2]
        measures.insert(
            1,
            {
                "label": f"ratio of T10, {first} / {second}",
                "column": places["plateau_epochs"],
                "scale": "ratio",
                "ratio": [0, 1],
            },
        )
    return measures


def _first(picture: Picture) -> list[float]:
    """Return the cell of the first curves: the unlucky start if the map has it, else the middle."""
    if picture.cloud is not None:
        return [float(picture.across.columns[name][0]) for name in picture.cloud]
    sides = [picture.across] if picture.up is None else [picture.across, picture.up]
    middle = [float(side.positions[len(side.positions) // 2]) for side in sides]
    inside = all(
        side.kind == "linear" and side.edges[0] <= value <= side.edges[-1]
        for side, value in zip(sides, UNLUCKY, strict=False)
    )
    if [side.label for side in sides] == ["w0", "b0"] and inside:
        return list(UNLUCKY)
    return [*middle, 0.0][:2]


def _dynamics(results: Results) -> dict[str, Any] | None:
    """Return the neuron whose curves the page computes, or None if it cannot."""
    spec = results.manifest["spec"]
    experiment = spec.get("experiment", {"kind": "single_neuron", "activation": "sigmoid"})
    if (
        experiment.get("kind") != "single_neuron"
        or experiment.get("activation") not in PAGE_ACTIVATIONS
    ):
        return None
    names = [choice if isinstance(choice, str) else None for choice in spec["losses"]]
    return {"activation": experiment["activation"], "losses": names}


def _swept(results: Results, lattice: Lattice) -> str:
    spec = results.manifest["spec"]
    axes = " x ".join(f"{' and '.join(axis.names)} ({axis.size} values)" for axis in lattice.axes)
    fixed = lattice.plain_fixed()
    parts = [
        f"{len(lattice.frame):,} runs with {', '.join(lattice.losses)}",
        f"axes: {axes or 'none, one point'}",
        f"fixed: {fixed or 'nothing'}",
        f"horizon: {spec['horizon']} epochs" if spec.get("horizon") else "no horizon",
        *(str(spec[key]) for key in ("precision", "method") if key in spec),
    ]
    return "; ".join(parts) + "."


def _thinned(lattice: Lattice, picture: Picture) -> str:
    shown = picture.size * len(lattice.losses)
    if shown >= len(lattice.frame):
        return ""
    return (
        f"This table is large: the map holds {shown:,} of {len(lattice.frame):,} rows, evenly "
        "spread. Findings and figures use all of them."
    )


def _provenance(results: Results) -> list[tuple[str, str]]:
    rows = [("fingerprint", str(results.manifest.get("fingerprint", "unknown")))]
    for name, value in results.manifest.get("provenance", {}).items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        rows.append((name.replace("_", " "), str(value)))
    return rows


def _again(results: Results, title: str) -> tuple[str, str, str]:
    """Return the command that repeats the sweep, its spec, and instructions."""
    try:
        spec = results.sweep.to_toml()
        results.sweep.require_runnable()
    except PlateaumapError:
        command = str(results.manifest.get("provenance", {}).get("command", "unknown"))
        spec = json.dumps(results.manifest["spec"], indent=1)
        return command, spec, "It has custom losses or a custom experiment: run its script again."
    return (
        f"plateaumap run {title}.toml --out {title}",
        spec,
        f"Save the spec below as {title}.toml; the rows are the same to the last bit on the same "
        "platform and versions.",
    )
