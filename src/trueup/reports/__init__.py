"""A run directory in, one self-contained HTML file out; or its summary as text for a terminal."""

from __future__ import annotations

from trueup.reports.text import render_summary
from trueup.reports.write import write_report

__all__ = ["render_summary", "write_report"]
