"""`python -m trueup`, and so `torchrun -m trueup`: the command line."""

from __future__ import annotations

import sys

from trueup.cli import main

if __name__ == "__main__":
    sys.exit(main())
