"""The colours of cells without a value on a page, which cannot show hatching."""

from matplotlib.colors import to_hex

from plateaumap.report.style import NOT_SWEPT, STATUS_LOOKS

CLEAR = "#00000000"

LOOKS: tuple[tuple[str, str], ...] = (
    ("", CLEAR),
    ("no such value", "#f1e4c8"),
    *(
        (look.label.replace("$2^{63}$", "2^63"), to_hex(look.face))
        for look in STATUS_LOOKS.values()
    ),
    (NOT_SWEPT.label, "#d3e3ee"),
)
"""Labels and colours of cells without a value, by code.

0 stands for a cell with a value, 1 for a missing value, 2 and above for the statuses but
`escaped`, the last one for a cell without a row.
"""
