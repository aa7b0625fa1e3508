"""Code that a model's repository brings along never runs, wherever its files name it, under any command."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile.folders import CONFIG, adapter, change, said
from hostile.inputs import prepare
from hostile.test_hostile import READERS

NAMES = {
    "AutoConfig": "mine.Config", "AutoModel": "mine.Model", "AutoModelForCausalLM": "mine.Model",
    "AutoModelForSequenceClassification": "mine.Model", "AutoTokenizer": ["mine.Tok", "mine.Tok"],
    "AutoProcessor": "mine.Tok", "AutoImageProcessor": "mine.Tok",
}  # fmt: skip
"Every class of transformers that a repository may stand in for."
CODE = """
from pathlib import Path
Path({canary!r}).touch()
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model, PreTrainedTokenizerFast as Tok
def generate(*given, **named): Path({canary!r}).touch()
"""


def tokenizer(**changes: object) -> Callable[[Path], None]:
    return lambda folder: change(folder / "tokenizer_config.json", dict(changes))


def beside(name: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: change(folder / name, dict(changes))


def generation(folder: Path) -> None:
    """A method of generating of the repository's own."""
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text((folder / "mine.py").read_text())
    change(folder / "generation_config.json", {"custom_generate": str(folder), "trust_remote_code": True})


def elsewhere(folder: Path) -> None:
    """`REPOSITORY--module.Class` names code of another folder."""
    change(folder / CONFIG, {"auto_map": {key: f"{folder}--mine.Model" for key in NAMES if "For" in key}})


SPOILS: dict[str, Callable[[Path], None]] = {
    "a map of classes": said(auto_map=NAMES),
    "a map and a type that nobody knows": said(auto_map=NAMES, model_type="mine"),
    "a map and trust in itself": said(auto_map=NAMES, trust_remote_code=True, model_type="mine"),
    "a map inside a block": said(text_config={"auto_map": NAMES, "trust_remote_code": True}),
    "a map of another folder": elsewhere,
    "a tokenizer's map": tokenizer(auto_map=NAMES),
    "a tokenizer's map and class": tokenizer(auto_map=NAMES, tokenizer_class="Tok", trust_remote_code=True),
    "a tokenizer's class with its module": tokenizer(tokenizer_class="mine.Tok"),
    "a processor's map": beside("processor_config.json", auto_map=NAMES, processor_class="Tok"),
    "an image processor's map": beside("preprocessor_config.json", auto_map=NAMES),
    "a way to generate": generation,
    "a pipeline": said(custom_pipelines={"text-generation": {"impl": "mine.Model", "pt": ["AutoModel"]}}),
    "architectures with their module": said(architectures=["mine.Model"]),
    "an adapter's map": adapter(auto_mapping={"base_model_class": "Model", "parent_library": "mine"}),
    "an adapter's megatron": adapter(megatron_config={"a": 1}, megatron_core="mine"),
}  # fmt: skip


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the code would make; the module is one that Python itself would find too."""
    canary = tmp_path / "canary"
    (tmp_path / "reach").mkdir()
    (tmp_path / "reach" / "mine.py").write_text(CODE.format(canary=str(canary)))
    monkeypatch.syspath_prepend(str(tmp_path / "reach"))
    return canary


def spoilt(name: str, folder: Path, good: Path, canary: Path) -> None:
    """The folder of a good model, with the module in it, and what names it."""
    shutil.copytree(good, folder)
    for place in (folder, folder.parent):
        (place / "mine.py").write_text(CODE.format(canary=str(canary)))
    SPOILS[name](folder)
    (folder / "mine.py").write_text(CODE.format(canary=str(canary)))


def run(reader: str, name: str, good: Path, canary: Path, typed, at: Path) -> str:
    at.mkdir()
    prepare(at, good)
    (at / "asked.jsonl").write_text(json.dumps({"prompt": "x", "harmful": False}) + "\n")
    spoilt(name, at / "F", good, canary)
    code = typed(at, READERS[reader])
    assert not canary.exists() and "mine" not in sys.modules, (reader, name, code)
    assert not [m for m in sys.modules if m.startswith("transformers_modules.")], (reader, name)
    return code


FEW = (
    "a map and trust in itself",
    "a map inside a block",
    "a tokenizer's map and class",
    "a way to generate",
)


@pytest.mark.parametrize("name", FEW)
def test_code_of_a_folder_does_not_run(name: str, good: Path, trap: Path, typed, tmp_path: Path) -> None:
    code = run("generate", name, good, trap, typed, tmp_path / "at")
    assert code in ("", "E855", "E859")


@pytest.mark.slow  # a training or a judgement for each: minutes
@pytest.mark.parametrize("reader", READERS)
def test_nor_under_any_command(reader: str, good: Path, trap: Path, typed, tmp_path: Path) -> None:
    for number, name in enumerate(SPOILS):
        run(reader, name, good, trap, typed, tmp_path / str(number))


def test_the_trap_would_spring(trap: Path) -> None:
    """What the others prove the absence of is there once the module is imported."""
    __import__("mine")
    try:
        assert trap.exists()
    finally:
        del sys.modules["mine"]
