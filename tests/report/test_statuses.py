"""Every status has a name and a look that differs in grey wherever a table is shown."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from sweeps.figures.activations import activation_lines
from tests.report.layout import legend_labels
from tests.report.tables import STATUSES, atlas, table, with_all_statuses

from plateaumap.explore.lengths import WindowLengths
from plateaumap.explore.windows import COVERS, image
from plateaumap.queries.point import PointSummary
from plateaumap.report import findings, lattice
from plateaumap.report.figures import (
    cut,
    plateau_bars,
    plateau_map,
    plateau_points,
)
from plateaumap.report.page.looks import LOOKS
from plateaumap.report.page.pack import packed
from plateaumap.report.page.picture import picture_of
from plateaumap.report.series import STATUS_SYMBOLS
from plateaumap.report.style import STATUS_LOOKS
from plateaumap.training import measures


def test_all_modules_have_the_same_statuses_in_order():
    assert lattice.STATUSES == measures.STATUSES == STATUSES
    assert set(STATUS_SYMBOLS) == set(STATUS_LOOKS)
    assert len({(s["marker"], s["markerfacecolor"]) for s in STATUS_SYMBOLS.values()}) == 7


def test_no_two_statuses_of_a_page_look_alike():
    labels, colours = zip(*LOOKS[1:], strict=True)
    assert len(set(labels)) == len(labels)
    for one, other in itertools.combinations(map(to_rgb, colours), 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) >= 0.05
    words = " ".join(labels)
    assert "stationary (zero gradient)" in words
    assert "stalled by rounding" in words


def test_the_explorer_covers_each_status_with_its_own_look():
    count = len(measures.STATUSES)
    nothing = np.ma.masked_all(count, np.int64)
    nothing[0] = 5
    known = WindowLengths(nothing, np.arange(count, dtype=np.uint8))
    covers = image([known], (1, count), ((0, 1), (0, 1))).covers[0]
    labels = [COVERS[code][0] for code in covers]
    assert labels[1:] == [look.label.replace("$2^{63}$", "2^63") for look in STATUS_LOOKS.values()]


def test_every_status_has_its_own_summary():
    record = {"plateau_epochs": None, "epochs_run": 7}
    summaries = {
        PointSummary({**record, "status": s}, pd.DataFrame(), "relu", 9).plateau
        for s in STATUSES[1:]
    }
    assert len(summaries) == len(STATUSES) - 1
    assert any("the gradient is zero" in words for words in summaries)


@pytest.mark.parametrize("draw", [plateau_map, cut, plateau_points, activation_lines, plateau_bars])
def test_stationary_and_stalled_runs_have_names_of_their_own(draw):
    frame = {
        plateau_map: atlas(9),
        plateau_points: table({"w0": np.arange(30.0), "b0": np.arange(30.0) % 7}),
    }.get(draw, table({"w0": np.linspace(-3, 3, 11)}, losses=["quadratic"]))
    frame = frame.assign(activation="relu")
    for row, status in ((0, "stationary"), (1, "stalled")):
        frame.loc[row, ["status", "plateau_epochs"]] = [status, pd.NA]
    figure = draw(frame)
    words = [*legend_labels(figure), *(t.get_text() for axes in figure.axes for t in axes.texts)]
    assert STATUS_LOOKS["stationary"].label in words
    assert STATUS_LOOKS["stalled"].label in words


def test_a_table_of_an_old_folder_is_shown_as_ever():
    new = with_all_statuses(atlas(9))
    new = new[new["status"] != "stationary"]
    old = new.assign(
        status=new["status"].cat.set_categories([s for s in STATUSES if s != "stationary"])
    )
    assert findings(old) == findings(new)
    first, second = (packed(read, picture_of(read))[0] for read in _read(old, new))
    assert first == second


def _read(*frames):
    return [lattice.read(frame, "test") for frame in frames]
