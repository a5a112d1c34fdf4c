"""Where the scalar functions of the theory are batched, compiled and cut into blocks.

A block has one of two sizes and the last one is filled up, so that nothing is compiled twice and
no value depends on how the cells were cut. Everything runs in float64, which is switched on for
the calling thread alone.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from plateaumap.numerics.compiler import double_precision
from plateaumap.theory import prediction, walk
from plateaumap.theory.cells import Columns, is_shared
from plateaumap.theory.flow import Drop, Scalar, Target
from plateaumap.theory.law import Estimate, Law

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SMALL_BLOCK = 128
BLOCK = 8192
WIDE_BLOCK = 16384


SMALLEST_STEP = 2.0**-1000
"""XLA takes subnormal numbers for zero, so that shorter steps are computed with as this one."""

_ENDLESS = 1e299
"""From here on a prediction is one that was clipped short of an overflow."""


_Kernel = Callable[..., Any]


class Direct(NamedTuple):
    """Lengths in epochs before rounding up, and bounds on their errors."""

    epochs: Array
    bound: Array


class Plan(NamedTuple):
    """What the next stages do with a descent.

    ``direct`` legs end at the level, whose z is ``guess``; ``leaps`` end where ``sigma(-z) = s``,
    after ``leap`` epochs, known to within ``leap_bound``. ``correction`` goes on top of the flow
    time over h of either; ``bound`` holds for its error.
    """

    direct: Mask
    leaps: Mask
    s: Array
    guess: Array
    correction: Array
    bound: Array
    leap: Array
    leap_bound: Array

    def take(self, index: NDArray[Any]) -> "Plan":
        """Returns the plans of some of the descents."""
        return Plan(*(column[index] for column in self))


class Walked(NamedTuple):
    """``whole`` epochs and a ``rest`` to be rounded up, known to within ``bound``.

    ``steps`` of the whole epochs were followed one by one.
    """

    whole: Array
    rest: Array
    bound: Array
    steps: Array


def direct(law: Law, zero: bool, drop: Drop, cells: Columns) -> Direct:
    """Estimates lengths by the Abel function alone."""
    columns = (cells.z_low, cells.h_low)
    return Direct(*_run(_direct, law, zero, (drop,), cells, columns, WIDE_BLOCK))


def planned(law: Law, zero: bool, drop: Drop, slope: float, cells: Columns) -> Plan:
    """Chooses legs on which ``h |f'|`` is at most ``slope``."""
    columns = (cells.z_low, cells.h_low)
    direct, leaps, *rest = _run(_planned, law, zero, (drop, slope), cells, columns, BLOCK)
    return Plan(direct > 0, leaps > 0, *rest)


def walked(law: Law, zero: bool, drop: Drop, slope: float, cells: Columns, plan: Plan) -> Walked:
    """Follows descents from the last whole epoch of their leap, or from their start."""
    columns = (plan.leaps.astype(np.float64), plan.leap, plan.leap_bound)
    return Walked(*_run(_walked, law, zero, (drop, slope), cells, columns, BLOCK))


def predicted(law: Law, zero: bool, drop: Drop, cells: Columns) -> Array:
    """Predicts lengths; NaN where there is no telling, or where they overflow float64."""
    epochs = _clipped_predictions(law, zero, drop, cells)
    with np.errstate(all="ignore"):
        # Of so many epochs only the flow time over h is seen in float64.
        scaled = epochs * np.maximum(SMALLEST_STEP / cells.h, 1.0)
    return np.where(np.isfinite(scaled), scaled, np.nan)


def _clipped_predictions(law: Law, zero: bool, drop: Drop, cells: Columns) -> Array:
    """Predicts lengths for steps that are at least ``SMALLEST_STEP``."""
    (epochs,) = _run(_predicted, law, zero, (drop,), cells, (cells.z_low, cells.h_low), WIDE_BLOCK)
    rough = np.flatnonzero(np.isnan(epochs))
    if rough.size:
        part = cells.take(rough)
        (epochs[rough],) = _run(
            _predicted_rough, law, zero, (drop,), part, (part.z_low, part.h_low), BLOCK
        )
    unknown = np.isnan(epochs) | (epochs > _ENDLESS)
    epochs[unknown] = np.nan
    extreme = np.flatnonzero(unknown & ((np.abs(cells.z) > 300.0) | (cells.h < 1e-100)))
    if extreme.size:
        part = cells.take(extreme)
        (epochs[extreme],) = _run(_predicted_extreme, law, zero, (drop,), part, (), BLOCK)
    return epochs


def log_flow_epochs(law: Law, zero: bool, drop: Drop, cells: Columns) -> Array:
    """Returns the logarithms of the flow times over h; NaN where a law has none."""
    (logarithms,) = _run(_log_flow_epochs, law, zero, (drop,), cells, (), BLOCK)
    return logarithms


def _direct(
    law: Law, target: Target, drop: Drop, z: Scalar, h: Scalar, z_low: Scalar, h_low: Scalar
) -> tuple[Scalar, ...]:
    # A length from outside the span is beyond any integer type, and so it is from its ends.
    inside = jnp.clip(z, *law.span)
    start = law.point(inside, target, jnp.where(inside == z, z_low, 0.0))
    whole = law.depart(start, target, drop)
    estimate = law.length(whole, target, h, h_low)
    meets = law.lands_well(whole, target, drop, h)
    bound = estimate.rounding + estimate.truncation
    return estimate.epochs, jnp.where(meets, bound, jnp.inf)


def _planned(
    law: Law,
    target: Target,
    drop: Drop,
    slope: Scalar,
    z: Scalar,
    h: Scalar,
    z_low: Scalar,
    h_low: Scalar,
) -> tuple[Scalar, ...]:
    whole = law.depart(law.point(z, target, z_low), target, drop)
    holds = walk.series_holds(law, whole, target, drop, h, slope)
    leap = law.leap(whole, target, h, slope)
    chosen = jax.tree.map(lambda a, b: jnp.where(holds, a, b), whole, leap.leg)
    correction = law.correction(chosen, target, h, 1.1 * slope)
    length = law.with_flow(chosen, target, h, h_low, correction)
    return (
        jnp.where(holds, 1.0, 0.0),
        jnp.where(leap.useful & ~jnp.asarray(holds), 1.0, 0.0),
        law.mark(leap.leg.end),
        whole.end.z,
        correction.epochs,
        correction.rounding + correction.truncation,
        length.epochs,
        length.rounding + length.truncation,
    )


def _walked(
    law: Law,
    target: Target,
    drop: Drop,
    slope: Scalar,
    z: Scalar,
    h: Scalar,
    leaps: Scalar,
    leap_epochs: Scalar,
    leap_bound: Scalar,
) -> tuple[Scalar, ...]:
    whole = law.depart(law.point(z, target), target, drop)
    leap = law.leap(whole, target, h, slope)
    length = Estimate(leap_epochs, leap_bound, 0.0)
    landed = walk.land(law, leap, length, target, h, slope)
    straight = walk.run_straight(law, whole, target, h)
    position = walk.Position(
        *(jnp.where(leaps > 0, a, b) for a, b in zip(landed, straight, strict=True))
    )
    return walk.follow(law, position, whole, target, drop, h, slope)


def _predicted(
    law: Law, target: Target, drop: Drop, z: Scalar, h: Scalar, z_low: Scalar, h_low: Scalar
) -> tuple[Scalar]:
    return (prediction.predict(law, law.point(z, target, z_low), target, drop, h, h_low),)


def _predicted_rough(
    law: Law, target: Target, drop: Drop, z: Scalar, h: Scalar, z_low: Scalar, h_low: Scalar
) -> tuple[Scalar]:
    return (prediction.predict_rough(law, law.point(z, target, z_low), target, drop, h, h_low),)


def _predicted_extreme(law: Law, target: Target, drop: Drop, z: Scalar, h: Scalar) -> tuple[Scalar]:
    return (prediction.predict_extreme(law, z, target, drop, h),)


def _log_flow_epochs(law: Law, target: Target, drop: Drop, z: Scalar, h: Scalar) -> tuple[Scalar]:
    return (jnp.asarray(law.log_flow_time(z, target, drop) - jnp.log(h)),)


@cache
def _compiled(kernel: _Kernel, law: Law, zero: bool) -> _Kernel:
    """Returns a kernel for one law over a block: the one place where they are vmapped."""

    def one(shared: tuple[Any, ...], *row: Scalar) -> tuple[Scalar, ...]:
        target, row = (Target(0.0, 1.0), row) if zero else (Target(*row[:2]), row[2:])
        return tuple(kernel(law, target, *shared, *row))

    def block(shared: tuple[Any, ...], *columns: jax.Array) -> tuple[Scalar, ...]:
        return jax.vmap(lambda *row: one(shared, *row))(*columns)

    return jax.jit(block)


def _run(
    kernel: _Kernel,
    law: Law,
    zero: bool,
    shared: tuple[Any, ...],
    cells: Columns,
    extra: tuple[Array, ...],
    width: int,
) -> list[Array]:
    """Runs a kernel over all cells, block by block."""
    # The program of a known target takes none: what all cells share is not copied about.
    targets = () if zero else (cells.y, cells.q)
    columns = (*targets, cells.z, np.maximum(cells.h, SMALLEST_STEP), *extra)
    count, width = len(cells.z), min(width, law.width)
    if count <= SMALL_BLOCK:
        width = SMALL_BLOCK
    outputs: list[Array] = []
    with double_precision():
        compiled = _compiled(kernel, law.canonical, zero)
        for begin in range(0, count, width):
            size = min(width, count - begin)
            block = (_filled(column[begin : begin + size], width) for column in columns)
            results = compiled(shared, *block)
            outputs = outputs or [np.empty(count) for _ in results]
            for output, result in zip(outputs, results, strict=True):
                output[begin : begin + size] = np.asarray(result)[:size]
    return outputs


def joined(parts: Sequence[Columns]) -> Columns:
    """Returns the descents of several parts, one after the other."""
    return Columns(*(_joined(columns) for columns in zip(*parts, strict=True)))


def _joined(columns: Sequence[Array]) -> Array:
    first = columns[0]
    if all(is_shared(column) and column[0] == first[0] for column in columns):
        return np.broadcast_to(first[:1].reshape(()), sum(len(column) for column in columns))
    return np.concatenate(columns)


def _filled(column: Array, width: int) -> Array:
    if len(column) == width:
        return column
    return np.concatenate([column, np.full(width - len(column), column[-1])])
