"""Small tables of escaped HTML for notebooks, and values as text."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from html import escape


def table_html(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """Return an HTML table of names and values under a title.

    Args:
        title: the caption, plain text.
        rows: names and values, which `str` converts to plain text.

    Example:
        >>> "<th" in table_html("sweep", [("rows", 130)])
        True
    """
    lines = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in rows
    )
    head = f'<caption style="text-align:left"><b>{escape(title)}</b></caption>'
    return f"<table>{head}<tbody>{lines}</tbody></table>"


def value_text(value: float | str) -> str:
    """Return the value of a coordinate as text; whole numbers are not rounded.

    Args:
        value: a value of a sweep: a string, an int or a float.

    Example:
        >>> value_text(0.15), value_text(1234567.0)
        ('0.15', '1234567')
    """
    if isinstance(value, str | numbers.Integral):
        return str(value)
    short = f"{value:g}"
    return f"{value:.0f}" if float(value).is_integer() and float(short) != value else short
