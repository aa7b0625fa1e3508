"""Data: readers for the field's formats, checks that name every bad row, quarantine, writing and hygiene."""

from __future__ import annotations

from trueup.data.problems import Problem
from trueup.data.reader import Counts, ReadResult, check, read, read_rows
from trueup.data.writer import write, writing

__all__ = ["Counts", "Problem", "ReadResult", "check", "read", "read_rows", "write", "writing"]
