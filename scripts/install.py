"""Fills the virtual environment it runs in: torch first, then trueup with extras, by constraints-hashed.txt.

Standard library only. Where that file covers the machine, every file is held against its SHA-256 before it is
opened, and nothing is resolved; elsewhere the versions of constraints.txt are taken, which is said, and which
TRUEUP_HASHED=1 refuses, as continuous integration asks. A machine without an NVIDIA GPU must not download
CUDA packages (gigabytes it cannot use), so torch is first resolved without being installed: if what pip
would take brings CUDA packages and no GPU is here, torch comes from the index of CPU builds. A second run
with nothing changed returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
LOCK = ROOT / "constraints-hashed.txt"
STRICT = os.environ.get("TRUEUP_HASHED", "") not in ("", "0")
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


def covered(system: str, machine: str, implementation: str, version: tuple[int, int]) -> bool:
    """Whether constraints-hashed.txt was written for such a machine."""
    here = (system, machine, implementation)
    return here == ("Linux", "x86_64", "cpython") and (3, 11) <= version <= (3, 13)


def locked(*groups: str) -> dict[str, str]:
    """The lines of constraints-hashed.txt that any of these groups needs, by name."""
    found: dict[str, str] = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        pin, mark, needs = line.partition(" # ")
        if mark and not line.startswith("#") and not {*needs.split(", ")}.isdisjoint(groups):
            found[pin.partition("==")[0]] = pin
    return found


def unhashed(what: str) -> None:
    """Nothing; says what is installed without being held against a SHA-256, or ends the set-up."""
    if STRICT:
        sys.exit(f"trueup set-up: no SHA-256 is held of {what}, and TRUEUP_HASHED asks for one")
    print(f"trueup set-up: {what}: by version alone, no SHA-256 of it is held", flush=True)


def digest(extras: str) -> str:
    """What an installation depends on: three files, this program, the extras, the interpreter, the place."""
    state = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, LOCK, Path(__file__)):
        state.update(path.read_bytes())
    state.update(json.dumps([extras, sys.version, platform.platform(), str(ROOT)]).encode())
    return state.hexdigest()


def install(extras: str) -> None:
    """Installs everything: pip as pinned, torch in the right build, then trueup in place with its extras."""
    here = covered(
        platform.system(),
        platform.machine(),
        sys.implementation.name,
        (sys.version_info[0], sys.version_info[1]),
    )
    with tempfile.TemporaryDirectory() as folder:
        (install_locked if here else install_pinned)(extras, Path(folder))


def install_locked(extras: str, folder: Path) -> None:
    """Installs it with every file held against its SHA-256, torch's own where its build is known."""
    names = [extra for extra in extras.split(",") if extra]
    setup, rest = locked("setup"), locked("base", *names)
    torch = rest.pop("torch")
    install_hashed(setup.values(), folder)
    install_torch(folder / "report.json", torch, folder)
    print(f"trueup set-up: everything else, extras: {extras or 'none'} (a minute or a few)", flush=True)
    install_hashed((line for name, line in rest.items() if name not in setup), folder)
    # What builds trueup is installed by now: an isolated build would fetch it anew, held against nothing.
    pip("install", "--no-deps", "--no-build-isolation", "-e", target(extras))


def install_hashed(lines: Iterable[str], folder: Path) -> None:
    """Installs these lines and nothing else; pip refuses a file that is none of theirs."""
    chosen = folder / "hashed.txt"
    chosen.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    pip("install", "--require-hashes", "--no-deps", "--no-build-isolation", "-r", str(chosen))


def install_pinned(extras: str, folder: Path) -> None:
    """Installs it by the versions of constraints.txt, resolved for a machine that the hashes do not cover."""
    unhashed(
        f"everything on {platform.system()} {platform.machine()} with {platform.python_implementation()}"
    )
    pins = CONSTRAINTS.read_text(encoding="utf-8").split()
    pip("install", *(pin for pin in pins if pin.startswith(("pip==", "setuptools=="))))
    install_torch(folder / "report.json", None, folder)
    # pip may look at other builds of the same version while it resolves the rest; this one stays.
    build = folder / "torch.txt"
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


def report_of(path: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """What pip says it would install: a dry run reads metadata only, nothing large is fetched."""
    pip(*arguments, "--dry-run", "--ignore-installed", "--report", str(path))
    return json.loads(path.read_text(encoding="utf-8"))


def torch_pin(report: Mapping[str, Any]) -> tuple[str, str]:
    """The build of torch in pip's report, `2.13.0+cpu`, and its SHA-256; empty where its index gives none."""
    (found,) = (item for item in report["install"] if item["metadata"]["name"] == "torch")
    hashes = found.get("download_info", {}).get("archive_info", {}).get("hashes", {})
    return found["metadata"]["version"], hashes.get("sha256", "")


def install_torch(path: Path, line: str | None, folder: Path) -> None:
    """Installs torch in the build for this machine, as pip reports it, held against its line of hashes."""
    report = report_of(path, torch_command(None))
    gpu = has_nvidia_gpu()
    index = torch_index(report, gpu)
    origin = f"CPU build from {index}" if index else ("CUDA build" if cuda_packages(report) else "CPU build")
    print(f"trueup set-up: torch, {origin} ({'an NVIDIA GPU' if gpu else 'no NVIDIA GPU'} here)", flush=True)
    command = torch_command(index)
    if index:
        report = report_of(path, command)
    build, sha256 = torch_pin(report)
    if line is not None and sha256 and sha256 in line and not cuda_packages(report):
        # That build and no other of its version: pip would rather take one whose hash an index states.
        chosen = folder / "torch-hashed.txt"
        chosen.write_text(f"torch=={build} --hash=sha256:{sha256}\n", encoding="utf-8")
        places = ["--index-url", index] if index else []
        pip("install", "--require-hashes", "--no-deps", *places, "-r", str(chosen))
        return
    if line is not None:
        unhashed("torch with its CUDA packages" if cuda_packages(report) else "this build of torch")
    pip(*command)


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
