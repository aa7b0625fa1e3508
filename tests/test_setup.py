"""The set-up's one decision: which build of torch a machine takes, from what pip says it would install."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]


def _installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "scripts" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INSTALLER = _installer()


def report(*packages: str) -> dict[str, Any]:
    """A `pip install --dry-run --report` reduced to what the decision reads."""
    pairs = [p.split("==") for p in packages]
    return {"version": "1", "install": [{"metadata": {"name": n, "version": v}} for n, v in pairs]}


CPU_BUILD = report("torch==2.13.0+cpu", "sympy==1.14.0", "filelock==4.2.11")
MACOS_BUILD = report("torch==2.13.0", "sympy==1.14.0", "filelock==4.2.11")
CUDA_BUILD = report(
    "torch==2.13.0",
    "sympy==1.14.0",
    "nvidia-cublas==13.1.0.3",
    "nvidia-cudnn-cu13==9.15.1.9",
    "triton==3.7.1",
)
CUDA_BINDINGS = report("torch==2.13.0", "cuda-bindings==13.0.3", "sympy==1.14.0")
CUDA_LABEL = report("torch==2.13.0+cu130", "sympy==1.14.0")


@pytest.mark.parametrize(
    ("found", "has_gpu", "index"),
    [
        (CPU_BUILD, False, None),
        (MACOS_BUILD, False, None),
        (CUDA_BUILD, False, INSTALLER.CPU_INDEX),
        (CUDA_BINDINGS, False, INSTALLER.CPU_INDEX),
        (CUDA_LABEL, False, INSTALLER.CPU_INDEX),
        (CUDA_BUILD, True, None),
        (CPU_BUILD, True, None),
    ],
)
def test_a_machine_without_gpu_never_takes_cuda_packages(
    found: dict[str, Any], has_gpu: bool, index: str | None
) -> None:
    assert INSTALLER.torch_index(found, has_gpu) == index


def test_the_cpu_index_is_asked_alone_and_for_torch_alone() -> None:
    command = INSTALLER.torch_command(INSTALLER.CPU_INDEX)
    assert command[command.index("--index-url") + 1] == "https://download.pytorch.org/whl/cpu"
    assert "--no-deps" in command
    assert not any("extra-index" in part for part in command)


def test_the_build_pip_resolves_is_installed_with_no_index_named() -> None:
    assert not any(part.startswith("http") or "index" in part for part in INSTALLER.torch_command(None))


def test_every_constraint_is_one_exact_version_without_a_build_label() -> None:
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert lines and all(line.count("==") == 1 and "+" not in line and " " not in line for line in lines)
    assert "torch==2.13.0" in lines


def test_every_python_311_may_install_what_is_pinned() -> None:
    """One package that asks for 3.11.5 makes the whole set impossible on Debian 12, which has 3.11.2."""
    pins = {
        line.split("==")[0]
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    }
    here = [d.metadata for d in importlib.metadata.distributions() if d.metadata["Name"] in pins]
    refused = [
        f"{found['Name']} {found['Version']}"
        for found in here
        if not SpecifierSet(found["Requires-Python"] or "").contains("3.11.0")
    ]
    assert refused == [] and len(here) > 50


def test_a_stamp_that_matches_means_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(INSTALLER, "install", calls.append)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    for extras in ([], ["--extras", ""]):
        INSTALLER.main(extras)
        assert calls == [""]
    INSTALLER.main(["--extras", "test"])
    INSTALLER.main(["--extras", "test"])
    assert calls == ["", "test"]
    assert [INSTALLER.target(extras) for extras in ("", "test,docs")] == [str(ROOT), f"{ROOT}[test,docs]"]


def test_a_machine_that_the_hashes_cover_installs_by_them_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip, torch, the rest, trueup: each by lines with hashes; of torch only a build whose hash is held."""
    torch = INSTALLER.locked("base")["torch"]
    held = torch.split("sha256:")[1].split()[0]
    calls: list[tuple[list[str], str]] = []

    def pip(*arguments: str) -> None:
        file = arguments[arguments.index("-r") + 1] if "-r" in arguments else ""
        calls.append(([*arguments], Path(file).read_text(encoding="utf-8") if file else ""))

    report_of = {"install": [{"metadata": {"name": "torch", "version": "2.13.0+cpu"}, "download_info": {}}]}
    report_of["install"][0]["download_info"] = {"archive_info": {"hashes": {"sha256": held}}}
    monkeypatch.setattr(INSTALLER, "pip", pip)
    monkeypatch.setattr(INSTALLER, "report_of", lambda path, arguments: report_of)
    INSTALLER.install_locked("rouge", tmp_path)
    *hashed, own = calls
    assert all({"--require-hashes", "--no-deps"} <= set(arguments) for arguments, _ in hashed)
    names = [[line.partition("==")[0] for line in text.splitlines()] for _, text in hashed]
    assert "pip" in names[0] and names[1] == ["torch"] and {"scipy", "rouge-score"} <= set(names[2])
    assert not {"torch", "pytest", "pip"} & set(names[2])
    assert hashed[1][1] == f"torch==2.13.0+cpu --hash=sha256:{held}\n", "no other build of the version fits"
    assert own[0] == ["install", "--no-deps", "--no-build-isolation", "-e", f"{ROOT}[rouge]"]

    calls.clear()
    monkeypatch.setattr(INSTALLER, "STRICT", False)
    report_of["install"][0]["download_info"] = {"archive_info": {"hashes": {"sha256": "0" * 64}}}
    INSTALLER.install_torch(tmp_path / "report.json", torch, tmp_path)
    assert calls == [(INSTALLER.torch_command(None), "")]
    monkeypatch.setattr(INSTALLER, "STRICT", True)
    with pytest.raises(SystemExit, match="no SHA-256 is held of this build of torch"):
        INSTALLER.install_torch(tmp_path / "report.json", torch, tmp_path)


@pytest.mark.parametrize(
    ("machine", "covered"),
    [
        (("Linux", "x86_64", "cpython", (3, 11)), True),
        (("Linux", "x86_64", "cpython", (3, 14)), False),
        (("Linux", "aarch64", "cpython", (3, 11)), False),
        (("Darwin", "x86_64", "cpython", (3, 11)), False),
        (("Linux", "x86_64", "pypy", (3, 11)), False),
    ],
)
def test_hashes_cover_what_they_were_written_for(machine: tuple[Any, ...], covered: bool) -> None:
    assert INSTALLER.covered(*machine) is covered
