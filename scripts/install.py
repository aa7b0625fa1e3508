"""Fills the virtual environment it runs in: torch first, then trueup with extras, pinned by constraints.txt.

Standard library only. A machine without an NVIDIA GPU must not download CUDA packages (gigabytes it cannot
use), so torch is first resolved without being installed: if what pip would take brings CUDA packages and no
GPU is here, torch comes from the index of CPU builds. A second run with nothing changed returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_PACKAGE = re.compile(r"^(nvidia[-_.]|cuda[-_.]|triton$|pytorch[-_.]triton)", re.IGNORECASE)


def cuda_packages(report: Mapping[str, Any]) -> list[str]:
    """The CUDA packages that a `pip install --dry-run --report` says would be installed, sorted."""
    names = [item["metadata"]["name"] for item in report["install"]]
    versions = [
        item["metadata"]["version"] for item in report["install"] if item["metadata"]["name"] == "torch"
    ]
    local_builds = [f"torch {v}" for v in versions if "+cu" in v or "+rocm" in v]
    return sorted(name for name in names if CUDA_PACKAGE.match(name)) + local_builds


def torch_index(report: Mapping[str, Any], has_gpu: bool) -> str | None:
    """The index that torch must come from: None for whatever pip resolves, else the index of CPU builds."""
    if has_gpu or not cuda_packages(report):
        return None
    return CPU_INDEX


def torch_command(index: str | None) -> list[str]:
    """The pip arguments that install torch; from the CPU index alone, so that no other build can win."""
    if index is None:
        return ["install", "torch", "-c", str(CONSTRAINTS)]
    return ["install", "torch", "-c", str(CONSTRAINTS), "--no-deps", "--index-url", index]


def has_nvidia_gpu() -> bool:
    """Whether `nvidia-smi` is here and finds a GPU."""
    if shutil.which("nvidia-smi") is None:
        return False
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.startswith("GPU ")


def pip(*arguments: str) -> None:
    """Runs pip silently; where it fails, prints what it said and ends the set-up."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-4000:] + done.stderr[-4000:])
        sys.exit(f"trueup set-up: failed at `pip {' '.join(arguments)}` (what pip said is above)")


def pinned(name: str) -> str:
    """`name==version` as constraints.txt has it."""
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}=="):
            return line.strip()
    raise SystemExit(f"trueup set-up: constraints.txt does not pin {name}")


def digest(extras: str) -> str:
    """What an installation depends on: two files, this program, the extras, the interpreter, the place."""
    state = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__)):
        state.update(path.read_bytes())
    state.update(json.dumps([extras, sys.version, platform.platform(), str(ROOT)]).encode())
    return state.hexdigest()


def install(extras: str) -> None:
    """Installs everything: pip as pinned, torch in the right build, then trueup in place with its extras."""
    pip("install", pinned("pip"), pinned("setuptools"))
    with tempfile.TemporaryDirectory() as folder:
        install_torch(Path(folder) / "report.json")
        # pip may look at other builds of the same version while it resolves the rest; this one stays.
        build = Path(folder) / "torch.txt"
        build.write_text(f"torch=={installed('torch')}\n", encoding="utf-8")
        print(f"trueup set-up: everything else, extras: {extras or 'none'} (a minute or a few)", flush=True)
        pip("install", "-e", target(extras), "-c", str(CONSTRAINTS), "-c", str(build))


def target(extras: str) -> str:
    """This folder as pip takes it, with its extras: `/path/to/trueup[test]`."""
    return f"{ROOT}[{extras}]" if extras else str(ROOT)


def installed(name: str) -> str:
    """The version that is installed, with the label of its build: `2.13.0+cpu`."""
    importlib.invalidate_caches()
    return importlib.metadata.version(name)


def install_torch(path: Path) -> None:
    """Nothing; torch is installed in the build for this machine, chosen by what pip reports at `path`."""
    # A dry run reads metadata only: nothing large is fetched before the choice is made.
    pip(
        "install",
        "--dry-run",
        "--ignore-installed",
        "--report",
        str(path),
        "torch",
        "-c",
        str(CONSTRAINTS),
    )
    report = json.loads(path.read_text(encoding="utf-8"))
    gpu = has_nvidia_gpu()
    index = torch_index(report, gpu)
    origin = f"CPU build from {index}" if index else ("CUDA build" if cuda_packages(report) else "CPU build")
    print(f"trueup set-up: torch, {origin} ({'an NVIDIA GPU' if gpu else 'no NVIDIA GPU'} here)", flush=True)
    pip(*torch_command(index))


def main(arguments: Sequence[str] | None = None) -> None:
    """Installs unless the last installation was of the same files, extras and interpreter."""
    parser = argparse.ArgumentParser(description="Install trueup into this virtual environment.")
    parser.add_argument("--extras", default="", help="extras of pyproject.toml, comma-separated")
    extras = parser.parse_args(arguments).extras
    if sys.prefix == sys.base_prefix:
        sys.exit(
            "trueup set-up: run it with the Python of a virtual environment (scripts/setup.sh makes one)"
        )
    # One stamp per choice of extras: installing more never undoes what is there.
    stamp = Path(sys.prefix) / f".trueup-{extras.replace(',', '-') or 'base'}"
    wanted = digest(extras)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    install(extras)
    stamp.write_text(wanted, encoding="utf-8")
    print("trueup set-up: done", flush=True)


if __name__ == "__main__":
    main()
