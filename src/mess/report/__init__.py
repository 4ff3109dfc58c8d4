"""Tables and figures of networks, files and runs, for people.

::

    X.mess, original weights ─ facts ─┐
    log.csv ──────────────── runs ────┼─ drawn, figures ─► PNG, SVG
    benchmark results ────── results ─┘            └ inline, file_section, page ─► one HTML page
"""

from mess.report.drawn import save as save
from mess.report.facts import FileFacts as FileFacts
from mess.report.facts import read_facts as read_facts
from mess.report.kernel_figures import draw_references as draw_references
from mess.report.page import distinct as distinct
from mess.report.page import figures_of as figures_of
from mess.report.page import make_report as make_report
from mess.report.page import page as page
from mess.report.results import Measured as Measured
from mess.report.results import read_results as read_results
from mess.report.runs import RunFacts as RunFacts
from mess.report.runs import best_files as best_files
from mess.report.runs import stored_by_epoch as stored_by_epoch
