"""Measures peaks of memory of short training runs and holds what `trueup plan` says of them against those.

    python scripts/measure_plan.py [CASE ...] [--as-is]

Each run is a process of its own. Its peak is what its timings.jsonl says after the last step, before anything
is saved, less what the process held before the run began: the interpreter and the libraries. Freed memory
goes back to the system, unless `--as-is` leaves the allocator as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODEL = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6, "vocab_size": 16_000}
"34 million weights, 16 million of them embeddings and head."
SMALLER = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "vocab_size": 8_000}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run: a method, its settings, the size of its rows."""

    method: str
    settings: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=lambda: MODEL)
    characters: int = 480
    "Of a completion: as many tokens."


def _loop(microbatch: int, batch: int) -> dict[str, Any]:
    return {"steps": 2, "batch": batch, "microbatch_tokens": microbatch}


LORA, BF16 = {"lora": {"rank": 16}}, {"dtype": "bfloat16"}
CASES = {
    "sft_1024": Case(method="sft", settings={"loop": _loop(1024, 4)}),
    "sft_2048": Case(method="sft", settings={"loop": _loop(2048, 8)}),
    "sft_4096": Case(method="sft", settings={"loop": _loop(4096, 16)}),
    "sft_2048_one_pass": Case(method="sft", settings={"loop": _loop(2048, 4)}),
    "sft_2048_lora": Case(method="sft", settings={"model": LORA, "loop": _loop(2048, 8)}),
    "sft_2048_bf16": Case(method="sft", settings={"model": BF16, "loop": _loop(2048, 8)}),
    "dpo_2048": Case(method="dpo", settings={"loop": _loop(2048, 4)}),
    "dpo_2048_lora": Case(method="dpo", settings={"model": LORA, "loop": _loop(2048, 4)}),
    "reward_2048": Case(method="reward_model", settings={"loop": _loop(2048, 4)}),
    "small": Case(method="sft", settings={"loop": _loop(2048, 4)}, model=SMALLER, characters=440),
}
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"Memory of tensors goes back to the system when it is freed; by default glibc keeps what lies between."
RUN = """
import json, sys
from pathlib import Path
import trueup, torch, peft
from trueup.engine import disk
from trueup.engine.lines import read
given = json.loads(sys.argv[1])
plan = trueup.plan(given["method"], gpu="cpu", **given["given"])
import trueup.runs.training
held = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
trueup.fit(given["method"], out=given["out"], **given["given"])
last = given["given"]["loop"]["steps"]
lines = [line for line in read(Path(given["out"]) / "timings.jsonl") if line["step"] == last]
print(json.dumps({"measured": lines[0]["peak_mib"] - held, "planned": plan.memory.total / 2**20,
                  "weights": plan.num_weights, "parts": plan.to_json()["parts"]}))
"""


def make(folder: Path, case: Case) -> dict[str, Any]:
    """What `fit` and `plan` are given: a random model and rows, in files."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    import small_world

    path = small_world.save_model(folder / "model")
    sizes = {**case.model, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": None}
    config: Any = AutoConfig.from_pretrained(path, **sizes)
    config.head_dim = config.hidden_size // 8
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    rows = small_world.demonstrations(64) if case.method == "sft" else small_world.preferences(64)
    texts = ("completion", "chosen", "rejected")
    rows = [{k: (v * 99)[: case.characters] if k in texts else v for k, v in row.items()} for row in rows]
    settings = dict(case.settings)
    model = {"path": str(path), **settings.pop("model", {})}
    data = {"path": str(small_world.write(folder / "rows.jsonl", rows)), "max_tokens": 1024, "held_out": 0.0}
    return {"model": model, "data": data, "update": {"lr": 1e-5}, **settings}


def measure(case: Case, *, returned: bool = True) -> dict[str, Any]:
    """What a process measured of a run, and what was planned for it, MiB."""
    environment = {**os.environ, **(RETURNED if returned else {})}
    with tempfile.TemporaryDirectory() as name:
        given = {"method": case.method, "given": make(Path(name), case), "out": f"{name}/run"}
        command = [sys.executable, "-c", RUN, json.dumps(given)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: Sequence[str]) -> None:
    """Nothing; prints a table of cases."""
    names = [name for name in arguments if not name.startswith("--")] or list(CASES)
    print("| run | planned MiB | measured MiB | planned / measured |\n|---|---|---|---|")
    for name in names:
        row = measure(CASES[name], returned="--as-is" not in arguments)
        share = row["planned"] / row["measured"]
        print(f"| {name} | {row['planned']:.0f} | {row['measured']:.0f} | {share:.3f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
