"""How cells without a value look in the page, where nothing can be hatched."""

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
"""Label and colour by code: 0 has a value, 1 lacks this one, then the statuses, last no row."""
