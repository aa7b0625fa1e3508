"""What is wrong with the rows that some stack trains on: `examine(read_dump(path), opened)`."""

from __future__ import annotations

from trueup.doctor.dump import Row, read_dump, row_of
from trueup.doctor.examine import Diagnosis, examine
from trueup.doctor.finding import Finding

__all__ = ["Diagnosis", "Finding", "Row", "examine", "read_dump", "row_of"]
