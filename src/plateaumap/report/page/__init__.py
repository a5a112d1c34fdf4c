"""The page of a report: one self-contained file with an interactive map."""

from plateaumap.report.page.build import build_page

__all__ = ["build_page"]
