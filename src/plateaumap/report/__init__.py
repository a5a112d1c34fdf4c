"""From a table of results to figures and pages. Nothing here knows JAX."""

from plateaumap.report.catalogue import Applicable, applicable
from plateaumap.report.findings import findings
from plateaumap.report.write import demonstrations, write_report

__all__ = ["Applicable", "applicable", "demonstrations", "findings", "write_report"]
