"""The reasons that plateau lengths are refused for: each is given exactly where it holds."""

from __future__ import annotations

import itertools
import math

import mpmath as mp
import numpy as np
import pytest

from plateaumap import PlateaumapError
from plateaumap.theory.canonical import EpochState
from plateaumap.theory.epochs import count_epochs, plateau_epochs, predict_epochs

LOSSES = ("quadratic", "cross_entropy")
LARGEST = mp.mpf(np.finfo(np.float64).max)


class Neuron:
    """One neuron in mpmath, its values exact."""

    def __init__(self, loss, w0, b0, lr, x, y):
        self.loss = loss
        self.w0, self.b0, self.lr, self.x, self.y = map(mp.mpf, (w0, b0, lr, x, y))
        self.z = self.w0 * self.x + self.b0
        self.h = self.lr * (1 + self.x**2)

    def error(self, z):
        if z > 0:
            return (1 - self.y) - 1 / (1 + mp.exp(z))
        return 1 / (1 + mp.exp(-z)) - self.y

    def gradient(self, z):
        error = self.error(z)
        if self.loss == "cross_entropy":
            return error
        tail = mp.exp(-abs(z))
        return error * tail / (1 + tail) ** 2

    def excess(self, z):
        if self.loss == "quadratic":
            return self.error(z) ** 2 / 2
        remainder = mp.log1p(mp.exp(-abs(z)))
        if self.y in (0, 1):
            return remainder + max(z if self.y == 0 else -z, 0)
        softplus = max(z, 0) + remainder
        floor = mp.fsum(-p * mp.log(p) for p in (self.y, 1 - self.y) if p)
        return softplus - self.y * z - floor

    def length(self, most):
        """Return the epochs to a tenth less, or None; and whether the target was passed."""
        z, level, side = self.z, self.excess(self.z) * 9 / 10, self.error(self.z) > 0
        passed = False
        for n in range(1, most + 1):
            z = z - self.h * self.gradient(z)
            passed = passed or (self.error(z) > 0) != side
            if self.excess(z) <= level:
                return n, passed
        return None, passed


WHOLE_RANGE = {
    "w0": (0.0, 2.0, 1e-154, 1e200, 1e300),
    "b0": (2.0, -30.0, 1e17, -1e308),
    "lr": (5e-324, 1e-310, 0.1, 1e100, 8e307, 1.7e308),
    "x": (0.0, 1.0, 1e-300, 1e155, 1e200),
    "y": (0.0, 5e-324, 0.3, 1 - 2**-53, 1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_reason_is_given_exactly_where_it_holds(loss):
    every = np.array(list(itertools.product(*WHOLE_RANGE.values())))
    cells = np.random.default_rng(5).choice(every, 240, replace=False).T
    columns = dict(zip(WHOLE_RANGE, cells, strict=True))
    counts = count_epochs(**columns, loss=loss)
    with mp.workdps(60):
        for i, state in enumerate(counts.state):
            cell = {name: float(column[i]) for name, column in columns.items()}
            neuron = Neuron(loss, **cell)
            overflows = abs(neuron.z) > LARGEST or neuron.h > LARGEST
            assert (state == EpochState.INVALID) == overflows, cell
            if overflows or state == EpochState.NO_EXCESS:
                continue
            length, passed = neuron.length(3)
            if state <= EpochState.SIMULATED:
                assert length == counts.epochs[i] or counts.epochs[i] > 3, cell
            elif state == EpochState.BEYOND_INT64:
                assert length is None, cell
            else:
                assert passed or neuron.h > 1e100, cell


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (
            {"lr": 1e-310},
            "longer than int64 holds, 2**63 epochs; lr = 1e-310 gives steps of 2e-310",
        ),
        ({"b0": 700.0}, "the plateau is longer than int64 holds"),
        ({"lr": 1e308}, "lr (1 + x**2) overflows float64 with lr = 1e+308 and x = 1"),
        ({"x": 1e155}, "lr (1 + x**2) overflows float64 with lr = 0.1 and x = 1e+155"),
        ({"w0": 1e200, "x": 1e200}, "w0 x + b0 overflows float64 with w0 = 1e+200 and x = 1e+200"),
        ({"w0": 0.0, "b0": 0.0, "y": 0.5}, "the initial output equals the target in float64"),
        ({"w0": math.nan}, "w0 = nan: must be finite"),
        ({"lr": -0.1}, "lr = -0.1: must be greater than 0"),
        ({"y": 1.5}, "y = 1.5: with a sigmoid a target lies in [0, 1]"),
        ({"lr": 1e3, "y": 0.3, "loss": "cross_entropy"}, "lr (1 + x**2) = 2000: the path passes"),
    ],
)
def test_reasons_name_the_values(cell, reason):
    with pytest.raises(PlateaumapError) as caught:
        plateau_epochs(**{"w0": 2.0, "b0": 2.0, "lr": 0.1} | cell)
    assert reason in str(caught.value)


def test_extremes_have_a_length_where_there_is_one():
    for loss in LOSSES:
        assert plateau_epochs(2.0, 2.0, 8e307, loss=loss) == 1
        # x**2 overflows, lr (1 + x**2) = 10 does not.
        assert (
            plateau_epochs(2e-155, 2.0, 1e-309, x=1e155, loss=loss)
            == plateau_epochs(
                2.0, 2.0, float(mp.mpf(1e-309) * mp.mpf(1e155) ** 2), x=0.0, loss=loss
            )
            or loss == "quadratic"
        )
        assert plateau_epochs(1e300, 2.0, 0.1, x=1e-300, loss=loss) > 0


def test_predictions_are_right_or_nan_at_extremes():
    # The flow time is exp(z0), to many digits.
    assert predict_epochs(0.0, 700.0, 0.1) == pytest.approx(math.exp(700) / 0.2, rel=1e-9)
    assert np.isnan(predict_epochs(0.0, -1e308, 0.1))
    assert np.isnan(predict_epochs(2.0, 2.0, 1e-310))
    assert predict_epochs(2.0, 2.0, 1e-302) == pytest.approx(
        predict_epochs(2.0, 2.0, 1e-290) * 1e12, rel=1e-9
    )


def test_masked_arrays_are_refused():
    with pytest.raises(PlateaumapError, match="w0 is a masked array"):
        plateau_epochs(np.ma.masked_array([1.0, 2.0], [True, False]), 2.0, 0.1)
