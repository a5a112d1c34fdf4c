"""How things look in a notebook: small tables of HTML in which every text is escaped."""

from __future__ import annotations

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
