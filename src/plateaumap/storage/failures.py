"""Describes failed chunks in words."""

from collections.abc import Mapping, Sequence

from plateaumap.sweep.chunks import Plan

_MOST_LINES = 12
_MOST_CHUNKS = 8


def describe_failures(failures: Mapping[int, str], plan: Plan) -> list[str]:
    """Return the failed chunks and their errors, one line for each message.

    Args:
        failures: the messages of chunks, by number.
        plan: how the rows are divided into chunks.
    """
    chunks: dict[str, list[int]] = {}
    for index in sorted(failures):
        chunks.setdefault(failures[index], []).append(index)
    lines = [f"{_named(alike, plan)}: {message}" for message, alike in chunks.items()]
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES:] = [f"and {len(lines) - _MOST_LINES} more messages"]
    return lines


def _named(indices: Sequence[int], plan: Plan) -> str:
    chunks = [plan[index] for index in indices]
    losses = " and ".join(dict.fromkeys(plan.losses[chunk.loss_index] for chunk in chunks))
    if len(chunks) == 1:
        first = chunks[0].first_row
        return f"chunk {indices[0]} ({losses}, rows {first} to {first + chunks[0].rows - 1})"
    numbers = ", ".join(map(str, indices[:_MOST_CHUNKS]))
    more = len(chunks) - _MOST_CHUNKS
    return f"chunks {numbers}" + (f" and {more} more" if more > 0 else "") + f" ({losses})"
