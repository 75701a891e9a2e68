"""Reports: a study as one self-contained page and one table."""

from compress.report.page import write_report

__all__ = ["write_report"]
