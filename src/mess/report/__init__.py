"""Tables and figures of networks, files and runs, for people.

::

    X.mess, original weights ─ facts ─┐
    log.csv ──────────────── runs ────┼─ drawn, figures ─► PNG, SVG
    benchmark results ────── results ─┘            └ inline, file_section, page ─► one HTML page
"""

from mess.report.drawn import save
from mess.report.facts import FileFacts, read_facts
from mess.report.kernel_figures import draw_references
from mess.report.page import Report, distinct, figures_of, make_report, page
from mess.report.results import Measured, read_results
from mess.report.runs import RunFacts, best_files, stored_by_epoch

__all__ = [
    "FileFacts",
    "Measured",
    "Report",
    "RunFacts",
    "best_files",
    "distinct",
    "draw_references",
    "figures_of",
    "make_report",
    "page",
    "read_facts",
    "read_results",
    "save",
    "stored_by_epoch",
]
