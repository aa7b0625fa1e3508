"""A run directory in, one self-contained HTML file out; or its summary as text for a terminal."""

from __future__ import annotations

from trueup.report.text import render_summary
from trueup.report.write import write_report

__all__ = ["render_summary", "write_report"]
