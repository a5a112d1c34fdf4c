"""One self-contained page of a sweep's report, with a map that answers."""

from plateaumap.report.page.build import build_page

__all__ = ["build_page"]
