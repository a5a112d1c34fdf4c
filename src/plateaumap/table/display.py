"""How things look in a notebook: small tables of HTML in which every text is escaped."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from html import escape


def table_html(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """Return a table of names and values under a title.

    Args:
        title: its caption, plain text.
        rows: names and values, plain text or what `str` makes of them.
    """
    lines = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in rows
    )
    head = f'<caption style="text-align:left"><b>{escape(title)}</b></caption>'
    return f"<table>{head}<tbody>{lines}</tbody></table>"


def value_text(value: float | str) -> str:
    """Return a coordinate's value for a reader: a choice as it is, a whole number not rounded.

    Args:
        value: what a sweep holds: a string, an int or a float.
    """
    if isinstance(value, str | numbers.Integral):
        return str(value)
    short = f"{value:g}"
    return f"{value:.0f}" if float(value).is_integer() and float(short) != value else short
