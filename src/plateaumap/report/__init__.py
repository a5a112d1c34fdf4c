"""Figures, pages and findings of tables of results. This package does not import JAX."""

from plateaumap.report.figures import Applicable, applicable
from plateaumap.report.findings import findings
from plateaumap.report.write import demonstrations, write_report

__all__ = ["Applicable", "applicable", "demonstrations", "findings", "write_report"]
