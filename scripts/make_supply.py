"""Writes build/supply: the wheel, a bill of materials (CycloneDX 1.6), what is known against what is pinned.

The wheel is built twice, from two copies of the tree, and must come out the same to the bit; the bill is made
of constraints-hashed.txt and of the metadata of what is installed, and has no clock in it. Ends with 1 where
the wheels differ, where an advisory fits a pinned release, or where no service answers about one of them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import uuid
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from make_lock import CONSTRAINTS, LOCK, ROOT, roots

OUT = ROOT / "build" / "supply"
EPOCH = "1577836800"
"SOURCE_DATE_EPOCH: the time of every file in the wheel, 2020-01-01."


def wheel(tree: Path, into: Path) -> Path:
    """The wheel that the release's own builder makes of a copy of a tree, outside of it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "trueup"
        (copy / "docs").mkdir(parents=True)
        for name in ("pyproject.toml", "README.md", "LICENSE", "docs/metrics.md"):
            shutil.copyfile(tree / name, copy / name)
        shutil.copytree(tree / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
        subprocess.run(build, cwd=copy, env=environment, check=True, capture_output=True)
    (made,) = into.glob("*.whl")
    return made


def licence(metadata: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a release says of its licence, as CycloneDX writes it; nothing where it says nothing short."""
    if "License-Expression" in metadata:
        return [{"expression": metadata["License-Expression"]}]
    said = metadata.get("License", "")
    kinds = [v.split(" :: ")[-1] for k, v in metadata.items() if k == "Classifier" and "License ::" in v]
    names = [said] if said and len(said) < 80 else kinds
    return [{"license": {"name": name}} for name in names]


def components() -> list[dict[str, Any]]:
    """Each pinned release with its licence where it is installed, and its hash where a single file fits."""
    found = []
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        pin, _, needs = line.partition(" # ")
        name, version = pin.split(" ")[0].split("==")
        hashes = [part.removeprefix("--hash=sha256:") for part in pin.split(" ")[1:]]
        here = {d.name: d.metadata for d in importlib.metadata.distributions(name=name)}
        one = {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "scope": "required" if "base" in needs.split(", ") else "optional",
            "licenses": next((licence(metadata) for metadata in here.values()), []),
            "hashes": [{"alg": "SHA-256", "content": hashes[0]}] if len(hashes) == 1 else [],
            "purl": f"pkg:pypi/{name}@{version}",
            "properties": [{"name": "trueup:needed-by", "value": needs}],
        }
        found.append({key: value for key, value in one.items() if value})
    return found


def bill() -> dict[str, Any]:
    """The bill of materials: trueup, what is pinned, and which of it trueup asks for by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    parts, version = components(), project["project"]["version"]
    by_name = {one["name"]: one["bom-ref"] for one in parts}
    asked = {canonicalize_name(Requirement(text).name) for text in roots(project)["base"]}
    own = f"pkg:pypi/trueup@{version}"
    content = {
        "component": {"type": "library", "bom-ref": own, "name": "trueup", "version": version, "purl": own}
    }
    whole = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": content,
        "components": parts,
        "dependencies": [{"ref": own, "dependsOn": sorted(by_name[name] for name in asked)}],
    }
    number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(whole, sort_keys=True))
    return {**whole, "serialNumber": f"urn:uuid:{number}"}


def advised() -> int:
    """pip-audit's exit code for constraints.txt, run in an environment of its own."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "-q", "pip-audit>=2.9,<3"], check=True)
        asked = [python, "-m", "pip_audit", "-r", CONSTRAINTS, "--no-deps", "--disable-pip", "--strict"]
        return subprocess.run([*asked, "--progress-spinner", "off"]).returncode


def main() -> int:
    """The exit code; writes the wheel and the bill."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        one, two = wheel(ROOT, Path(first)), wheel(ROOT, Path(second))
        same = one.read_bytes() == two.read_bytes()
        shutil.copyfile(one, OUT / one.name)
        digest = hashlib.sha256(one.read_bytes()).hexdigest()
    print(f"{one.name}: {digest}, {'the same twice' if same else 'ANOTHER the second time'}")
    (OUT / "sbom.cdx.json").write_text(json.dumps(bill(), indent=1) + "\n", encoding="utf-8")
    return max(int(not same), int(advised() != 0))


if __name__ == "__main__":
    sys.exit(main())
