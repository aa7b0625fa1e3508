"""Data: readers for the field's formats, checks that name every bad row, quarantine, writing and hygiene."""

from __future__ import annotations

from trueup.data.problems import Problem
from trueup.data.reader import CheckReport, Counts, ReadResult, check, read
from trueup.data.writer import write

__all__ = ["CheckReport", "Counts", "Problem", "ReadResult", "check", "read", "write"]
