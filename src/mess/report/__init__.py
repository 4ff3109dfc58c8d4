"""Tables and figures of networks and files, for people."""

from mess.report.figures import draw_references

__all__ = ["draw_references"]
