#!/usr/bin/env bash
# Makes .venv with a Python that trueup supports, then lets install.py fill it. Usage: scripts/setup.sh [EXTRAS]
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${1:-} # of pyproject.toml, comma-separated: test, docs, serving ...
venv=${TRUEUP_VENV:-.venv}
if [ "$(uname -s)" != Linux ]; then
  echo "trueup set-up: $(uname -s) is written for and has not been run; the sandbox for programs needs Linux (README, Tested on)." >&2
fi

usable() { # a Python of a supported version that can make virtual environments
  "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1
}

if ! usable "$venv/bin/python"; then
  for candidate in ${PYTHON:-} python3.11 python3 python3.12 python3.13; do
    if usable "$candidate"; then found=$candidate && break; fi
  done
  if [ -z "${found:-}" ]; then
    echo "trueup set-up: needs Python 3.11, 3.12 or 3.13 with its venv module, and found none." >&2
    echo "Install one (Debian and Ubuntu: python3.11 and python3.11-venv), or name it: make PYTHON=/path/to/python3.11" >&2
    exit 69
  fi
  echo "trueup set-up: a virtual environment in $venv ($("$found" --version 2>&1))"
  "$found" -m venv --clear "$venv"
fi
exec "$venv/bin/python" scripts/install.py --extras "$extras"
