"""TRL's own trainers, recorded by the recorder that the page shows: nothing is wrong with their rows."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctor import corpus
from page_blocks import DOCS, blocks
from trueup.doctor import examine, read_dump

trl = pytest.importorskip("trl", reason="TRL's trainers are the rows that must be clean")
# Deprecations inside TRL and what it builds on; nothing of ours raises them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def recorder() -> Callable[[Any, Path], None]:
    """`record` of the page's first recorder, the one for TRL."""
    (block,) = [block for block in blocks(DOCS / "doctor.md") if block.file == "recorder.py"]
    names: dict[str, Any] = {}
    exec(compile(block.text, "docs/doctor.md", "exec"), names)
    return names["record"]


def talks(num: int) -> list[dict[str, Any]]:
    """Prompts with two answers each."""
    random = np.random.default_rng(3)

    def say(role: str, num_words: int) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(random.choice(corpus.WORDS, num_words))}]

    return [
        {"prompt": say("user", 4), "chosen": say("assistant", 3 + k % 4), "rejected": say("assistant", 5)}
        for k in range(num)
    ]


def told(folder: Path, **more: Any) -> dict[str, Any]:
    """Arguments of a trainer that makes one step here."""
    return {
        "output_dir": str(folder), "report_to": [], "use_cpu": True, "bf16": False, "disable_tqdm": True,
        "max_steps": 1, "save_strategy": "no", "per_device_train_batch_size": 8, "logging_strategy": "no",
        "gradient_checkpointing": False, **more,
    }  # fmt: skip


def rewards(completions: list[Any], **_: Any) -> list[float]:
    """A reward that differs between most completions."""
    return [float(len(said[0]["content"]) % 7) for said in completions]


def trainer(kind: str, folder: Path, **more: Any) -> Any:
    """One of TRL's trainers over the corpus's model."""
    from datasets import Dataset

    rows = talks(8)
    given: dict[str, Any] = {"model": copy.deepcopy(corpus.network()), "processing_class": corpus.tokenizer()}
    if kind == "grpo":
        args = trl.GRPOConfig(
            **told(folder, num_generations=4, max_completion_length=24, loss_type="grpo", **more),
            per_device_eval_batch_size=8,
        )
        asked = Dataset.from_list([{"prompt": row["prompt"]} for row in rows])
        return trl.GRPOTrainer(args=args, reward_funcs=rewards, train_dataset=asked, **given)
    if kind == "dpo":
        args = trl.DPOConfig(**told(folder, **more))
        reference = copy.deepcopy(corpus.network())
        return trl.DPOTrainer(args=args, ref_model=reference, train_dataset=Dataset.from_list(rows), **given)
    shown = [
        {"prompt": row["prompt"], "completion": row["chosen"]}
        if kind == "sft"
        else {"text": row["prompt"][0]["content"]}
        for row in rows
    ]
    return trl.SFTTrainer(
        args=trl.SFTConfig(**told(folder, **more)), train_dataset=Dataset.from_list(shown), **given
    )


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("sft", {}),
        ("text", {}),
        ("dpo", {}),
        ("grpo", {"gradient_accumulation_steps": 3}),
        ("grpo", {"temperature": 0.7, "bf16": True}),
    ],
    ids=["sft", "sft on text", "dpo", "grpo", "grpo, temperature .7, bfloat16"],
)
def test_nothing_is_wrong_with_what_trl_trains_on(kind: str, more: dict[str, Any], tmp_path: Path) -> None:
    made, path = trainer(kind, tmp_path / "run", **more), tmp_path / "dump.jsonl"
    recorder()(made, path)
    made.train()
    rows = read_dump(path)
    assert len(rows) == {"sft": 8, "text": 8, "dpo": 16, "grpo": 24 if "bf16" not in more else 8}[kind]
    found = examine(rows, corpus.opened())
    assert not found.findings, [f.says for f in found.findings]
    looked = set(found.clean)
    assert {"double BOS", "padding in the loss", "end of turn not in the loss"} <= looked
    if kind == "grpo":
        assert {"temperature", "truncated support", "truncated samples", "advantages not zero-mean"} <= looked
        assert json.loads(path.read_text().splitlines()[0])["temperature"] == more.get("temperature", 1.0)
    elif kind != "text":
        assert "prompt in the loss" in looked
