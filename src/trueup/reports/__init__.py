"""A run directory in, one self-contained HTML file out; what is seen first of it; its summary as text."""

from __future__ import annotations

from trueup.reports.screen import first_screen
from trueup.reports.text import render_summary
from trueup.reports.write import write_report

__all__ = ["first_screen", "render_summary", "write_report"]
