import dataclasses
import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plateaumap.inputs.errors import PlateaumapError
from plateaumap.sweep.chunks import Plan, default_chunk_points

small_plans = st.builds(
    Plan,
    points=st.integers(1, 300),
    losses=st.sampled_from([("a",), ("a", "b"), ("a", "b", "c")]),
    chunk_points=st.integers(1, 350),
)


@given(small_plans)
def test_chunks_tile_the_rows_in_order_and_never_cross_a_loss(plan: Plan) -> None:
    rows = []
    for index, chunk in enumerate(plan):
        assert chunk.index == index
        assert plan[index] == chunk
        assert 1 <= chunk.rows <= plan.chunk_points
        points = range(chunk.start, chunk.stop)
        rows += [(chunk.loss_index, point) for point in points]
        assert chunk.first_row == chunk.loss_index * plan.points + chunk.start
    assert rows == list(itertools.product(range(len(plan.losses)), range(plan.points)))
    assert len(plan) == len(list(plan))
    assert plan.rows == len(rows)


@given(small_plans)
def test_a_plan_survives_its_dictionary(plan: Plan) -> None:
    assert Plan.from_dict(plan.to_dict()) == plan


@given(st.integers(1, 10**13))
def test_default_chunks_are_of_a_good_size_and_even(points: int) -> None:
    size = default_chunk_points(points)
    chunks = -(-points // size)
    assert size <= 131_072
    assert size >= min(points, 8_192)
    # The last chunk is not a remnant: it lacks fewer points than there are chunks.
    assert size * chunks - points < chunks


def test_default_chunks_of_some_sweeps() -> None:
    assert len(Plan(130, ("a", "b"))) == 2
    assert len(Plan(16_384, ("a", "b"))) == 2
    assert len(Plan(257 * 257 * 9, ("a", "b"))) == 16


def test_a_billion_points_cost_nothing() -> None:
    tracemalloc.start()
    plan = Plan(10**9, ("a", "b"))
    last = plan[len(plan) - 1]
    assert next(iter(plan)).start == 0
    assert last.stop == 10**9
    assert last.first_row + last.rows == plan.rows == 2 * 10**9
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize(
    ("points", "losses", "chunk_points", "message"),
    [
        (0, ("a",), 0, "points = 0: must be at least 1"),
        (5, (), 0, "losses = (): must have at least one loss"),
        (5, ("a",), -1, "chunk_points = -1: must be at least 1"),
    ],
)
def test_plans_without_rows_are_refused(
    points: int, losses: tuple[str, ...], chunk_points: int, message: str
) -> None:
    with pytest.raises(PlateaumapError) as caught:
        Plan(points, losses, chunk_points)
    assert str(caught.value) == message


def test_no_chunk_outside_and_none_changes() -> None:
    plan = Plan(10, ("a",), 4)
    assert [chunk.rows for chunk in plan] == [4, 4, 2]
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"chunk {index} of a plan of 3 chunks"):
            plan[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan[0].start = 1  # type: ignore[misc]
