"""What is installed and shipped: hashes of all that is pinned, a wheel that rebuilds, a bill of materials."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import make_lock
import make_supply

ROOT = Path(__file__).resolve().parents[1]
LINE = re.compile(r"([a-z0-9-]+)==(\S+)((?: --hash=sha256:[0-9a-f]{64})+) # ([a-z]+(?:, [a-z]+)*)")


def lines() -> dict[str, re.Match[str]]:
    """Every line of the lock by its name; one that is not of the form fails."""
    text = make_lock.LOCK.read_text(encoding="utf-8").splitlines()
    found = [LINE.fullmatch(line) for line in text if not line.startswith("#")]
    assert all(found)
    return {match[1]: match for match in found if match}


def test_every_constraint_has_its_hashes_and_no_registry_is_named() -> None:
    pinned = make_lock.pins(make_lock.CONSTRAINTS.read_text(encoding="utf-8"))
    assert {name: match[2] for name, match in lines().items()} == pinned
    assert "/" not in "".join(match[0] for match in lines().values())


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_what_is_installed_is_what_the_metadata_ask_for(python: str) -> None:
    """Each group's lines, worked out anew of what is installed here: nothing is missing from the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = make_lock.roots(project)
    known = {
        canonicalize_name(one.name): {"requires_dist": one.requires or []}
        for one in importlib.metadata.distributions()
        if canonicalize_name(one.name) in lines()
    }
    for group in ("base", "setup", "serving", "docs", "rouge", "gguf", "personal"):
        found = make_lock.needed(asked[group], known, asked, python)
        assert found <= {name for name, match in lines().items() if group in match[4].split(", ")}
    for group, wanted in asked.items():
        held = {name for name, match in lines().items() if group in match[4].split(", ")}
        names = {canonicalize_name(Requirement(one).name) for one in wanted} - {"trueup"}
        assert names <= held, group


def test_a_requirement_that_nothing_pins_is_named() -> None:
    with pytest.raises(SystemExit, match=r"does not pin leftpad, which Python 3\.12 needs"):
        make_lock.needed(["a[x]"], {"a": {"requires_dist": ['leftpad; extra == "x"']}}, {}, "3.12")
    assert make_lock.needed(["a"], {"a": {"requires_dist": ['leftpad; extra == "x"']}}, {}, "3.12") == {"a"}


def test_a_wheel_rebuilds_to_the_same_bytes_and_runs_nothing(tmp_path: Path) -> None:
    """From a tree with other times, rights and order of files; no `.pth`, nothing that pip would run."""
    other = tmp_path / "tree"
    other.mkdir()
    (other / "docs").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "docs/metrics.md"):
        shutil.copyfile(ROOT / name, other / name)
    for path in sorted((ROOT / "src").rglob("*"), reverse=True):
        if path.is_file() and "__pycache__" not in path.parts:
            copy = other / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(0o600)
            os.utime(copy, (1e9, 1e9))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = make_supply.wheel(ROOT, tmp_path / "a"), make_supply.wheel(other, tmp_path / "b")
    assert one.read_bytes() == two.read_bytes()
    names = zipfile.ZipFile(one).namelist()
    assert "trueup/cli.py" in names
    held = zipfile.ZipFile(one).read("trueup/watching/metrics.md")
    assert held == (ROOT / "docs" / "metrics.md").read_bytes(), "what `trueup watch` says of a number"
    assert not [path for path in (ROOT / "src").rglob("*") if path.is_symlink()], (
        "not every checkout has links"
    )
    assert not [name for name in names if name.endswith((".pth", "setup.py")) or ".data/" in name]
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"trueup"}


def test_the_bill_of_materials_lists_what_is_pinned_and_is_the_same_twice() -> None:
    bill = make_supply.bill()
    assert json.dumps(bill) == json.dumps(make_supply.bill())
    assert {(one["name"], one["version"]) for one in bill["components"]} == {
        (name, match[2]) for name, match in lines().items()
    }
    base = {name for name, match in lines().items() if "base" in match[4].split(", ")}
    assert {one["name"] for one in bill["components"] if one["scope"] == "required"} == base
    (own,) = bill["dependencies"]
    assert "pkg:pypi/torch@2.13.0" in own["dependsOn"] and len(own["dependsOn"]) == 19
    assert sum("licenses" in one for one in bill["components"]) > 150
