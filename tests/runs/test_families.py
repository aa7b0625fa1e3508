"""Eleven architectures from a base to an exported folder, in which transformers says what trueup says.

A run overfits one short answer, so that a greedy completion is that answer and its end of turn: whether
another tool stops there is then seen, not assumed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from families import FAMILIES, save_family
from trueup.chat.encoder import Chat
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.packing import pack
from trueup.methods import dpo, grpo, reward_model, sft
from trueup.models import generate, load
from trueup.runs.export import export_run
from trueup.runs.training import train
from trueup.settings import config as configuration

ASKED, GOOD, BAD = "How are you?", "I am fine", "the end"
LORA = {"rank": 4, "alpha": 32}


def _turns(text: str, role: str, chats: bool) -> Any:
    return [{"role": role, "content": text}] if chats else text


def _write(folder: Path, chats: bool) -> None:
    prompt = _turns(ASKED, "user", chats)
    good, bad = (_turns(text, "assistant", chats) for text in (GOOD, BAD))
    rows = {
        "demonstrations": {"prompt": prompt, "completion": good},
        "preferences": {"prompt": prompt, "chosen": good, "rejected": bad},
        "prompts": {"prompt": prompt},
    }
    for name, row in rows.items():
        lines = [json.dumps(row)] * 4
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _run(method: Any, folder: Path, model: Path, data: str, *, lora: bool, **settings: Any) -> Path:
    """The run's folder: trained from `model` on the rows of `data`."""
    given = {
        "model": {"path": str(model), **({"lora": LORA} if lora else {})},
        "data": {"path": str(folder / f"{data}.jsonl"), "held_out": 0.0},
        "update": {"lr": 1e-2, "schedule": "constant", "warmup": 0},
        **settings,
    }
    run = folder / f"{method.__name__.rpartition('.')[2]}-{'lora' if lora else 'full'}-{model.parent.name}"
    train(method, configuration.build(method.Config, given, where="test"), run)
    return run


def _losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [found["loss"] for line in lines if "loss" in (found := json.loads(line))]


def _sft(folder: Path, base: Path, *, lora: bool, steps: int = 25) -> Path:
    return _run(sft, folder, base, "demonstrations", lora=lora, loop={"steps": steps, "batch": 4})


def _prompt(tokenizer: Any, chats: bool) -> np.ndarray:
    role = Role.USER if chats else Role.TEXT
    return Chat.of(tokenizer, None if chats else "plain").prompt_ids((Message(role, ASKED),))


def _agree(folder: Path, name: str) -> str:
    """What transformers alone writes from a folder, greedily: the same as trueup, and it stops there."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = _prompt(tokenizer, bool(FAMILIES[name].template))
    stop = tokenizer.convert_tokens_to_ids(FAMILIES[name].stop)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.from_numpy(prompt.astype(np.int64))[None]
    theirs = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    ((ours,),) = generate(load(folder), [prompt], max_new_tokens=12, greedy=True, stop_ids=(stop,))
    assert theirs[0, len(prompt) :].tolist() == ours.tokens.tolist()
    assert ours.finished and ours.tokens[-1] == stop
    return tokenizer.decode(ours.tokens[:-1]).strip()


def _begun(tmp_path: Path, name: str) -> Path:
    _write(tmp_path, bool(FAMILIES[name].template))
    return save_family(name, tmp_path / "base" / "model")


@pytest.mark.parametrize("name", FAMILIES)
def test_finetuned_and_exported_it_stops_where_it_was_taught_to(tmp_path: Path, name: str) -> None:
    """With all weights, and with an adapter that is merged on export."""
    base = _begun(tmp_path, name)
    for lora in (False, True):
        run = _sft(tmp_path, base, lora=lora)
        assert _agree(export_run(run, tmp_path / f"out-{lora}"), name) == GOOD


@pytest.mark.parametrize("name", FAMILIES)
def test_preferences_and_rewards_train_it(tmp_path: Path, name: str) -> None:
    """A reward model's loss and DPO's fall, GRPO moves the policy; what is exported says what was trained."""
    _prefer(tmp_path, _begun(tmp_path, name), name, lora=True)


@pytest.mark.slow  # the same with all weights, which take no other path than the adapters' above
@pytest.mark.parametrize("name", FAMILIES)
def test_preferences_and_rewards_train_all_of_it(tmp_path: Path, name: str) -> None:
    _prefer(tmp_path, _begun(tmp_path, name), name, lora=False)


def _prefer(folder: Path, base: Path, name: str, *, lora: bool) -> None:
    rewards = _run(reward_model, folder, base, "preferences", lora=lora, loop={"steps": 4, "batch": 4})
    assert _losses(rewards)[-1] < _losses(rewards)[0]
    pairs = _run(dpo, folder, base, "preferences", lora=lora, loop={"steps": 3, "batch": 4})
    losses = _losses(pairs)
    assert losses[0] == pytest.approx(np.log(2), abs=1e-4) and losses[-1] < 0.5
    # Nothing of four random tokens ends its turn: the judge's scores alone tell them apart.
    sampling: Any = {"judge": str(rewards / "model"), "algorithm": {"missing_eos": None}}
    sampling |= {"decoding": {"max_new_tokens": 4}, "num_completions": 3}
    loop = {"steps": 1, "batch": 2}
    policy = _run(grpo, folder, base, "prompts", lora=lora, loop=loop, **sampling)
    prompt = _prompt(AutoTokenizer.from_pretrained(base), bool(FAMILIES[name].template))
    before = _next(load(base), prompt)
    for number, run in enumerate((pairs, policy)):
        trained = _next(load(run / "model"), prompt)
        out = export_run(run, folder / f"out-{number}")
        ids = torch.from_numpy(prompt.astype(np.int64))[None]
        with torch.no_grad():
            theirs = AutoModelForCausalLM.from_pretrained(out)(input_ids=ids).logits[0, -1]
        assert torch.allclose(theirs.log_softmax(-1), trained, atol=1e-4)
        assert (trained - before).abs().max().item() > 1e-3


def _next(network: Any, prompt: np.ndarray) -> torch.Tensor:
    """Log-probs of every token after a prompt."""
    group = Group(prompt=(), prompt_tokens=prompt, completions=(Completion(text="", tokens=prompt[:1]),))
    with torch.no_grad():
        found = network(pack([group]), ("distributions",)).distributions
    return found[0]
