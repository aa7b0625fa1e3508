"""Whole steps for `gpu_check`: DPO and GRPO of one model, by trueup and by TRL, with Liger and without."""

from __future__ import annotations

import functools
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_parts import (
    Asked,
    NotRun,
    Part,
    Row,
    fast_dtype,
    groups_of,
    llama,
    product_rate,
    timed,
    wait,
)

LIGER = "liger_kernel"
"The package, which is no dependency: it is used where it is."


def dpo(asked: Asked) -> Part:
    """The loss and gradient of a DPO step, reference included, of all weights: trueup and TRL in turns."""
    import torch

    from trueup.engine.loop import Step
    from trueup.engine.method import Handles, Parts
    from trueup.methods import dpo as method_of
    from trueup.models import from_modules

    policy, reference, groups = dpo_work(asked)
    method = method_of.build(method_of.Config(), Parts(groups=groups, held_out=[], decode=str, stop_ids=()))
    networks = {"policy": from_modules(policy, None), "reference": from_modules(reference, None)}
    handles = Handles(networks=networks, device=asked.device, microbatch_tokens=8192)

    def ours() -> float:
        annotated: Any = groups
        with torch.no_grad():
            for annotator in method.annotate:
                annotated = annotator(annotated, handles)
        return Step(method, handles, annotated).backward()["loss"]

    ways, notes = {"trueup": ours}, []
    try:
        need_trl(asked)
        ways["TRL"] = trl_dpo(asked, policy, reference, groups)
    except NotRun as error:
        notes.append(f"TRL: not run: {error}")
    found = raced(ways, (policy, reference), asked)
    notes += [f"{name}: out of memory" for name in ways if name not in found]
    return dpo_table(found, asked, policy, groups, notes)


def dpo_liger(asked: Asked) -> Part:
    """The same step by TRL without Liger, then with it, which changes parts of transformers for good."""
    policy, reference, groups = dpo_work(asked)
    try:
        need_trl(asked)
        if asked.device == "cpu":
            raise NotRun("it needs a GPU")
        if importlib.util.find_spec(LIGER) is None:
            raise NotRun("it is neither installed nor in --wheels DIR")
    except NotRun as error:
        return Part(rows=[], faults=[], notes=[f"TRL with Liger: not run: {error}"])
    found = raced({"TRL": trl_dpo(asked, policy, reference, groups)}, (policy, reference), asked)
    with_liger = trl_dpo(asked, policy, reference, groups, use_liger_kernel=True)
    found |= raced({"TRL with Liger": with_liger}, (policy, reference), asked)
    if not found:
        return Part(rows=[], faults=[], notes=["TRL: out of memory, with Liger too"])
    return dpo_table(found, asked, policy, groups, [])


def dpo_work(asked: Asked) -> tuple[Any, Any, list[Any]]:
    """A policy, a reference and pairs."""
    import torch

    sizes, dtype = asked.size.fast, fast_dtype(asked.device)
    policy, reference = (llama(sizes, asked.device, dtype) for _ in range(2))
    with torch.no_grad():  # a policy that has moved, so that the loss is not log 2 whatever is computed
        for p in policy.parameters():
            p.mul_(1.2)
    return policy, reference, groups_of(asked.size, [2] * asked.size.pairs, sizes["vocab_size"])


def dpo_table(
    found: Mapping[str, Any], asked: Asked, policy: Any, groups: Sequence[Any], notes: Sequence[str]
) -> Part:
    """A row for each way, and a fault where one's loss is not the first's."""
    tokens = sum(len(g.prompt_tokens) + sum(len(c.tokens) for c in g.completions) for g in groups)
    # 6 a weight and token that is trained, 2 of the reference; attention and the LM head are left out.
    inner = sum(p.numel() for n, p in policy.named_parameters() if "embed" not in n and "lm_head" not in n)
    rate = product_rate(asked.device, asked.size.product, fast_dtype(asked.device))
    rows: list[Row] = []
    faults = []
    expected = next(iter(found.values()))[0]
    for name, (loss, seconds, peak) in found.items():
        row = {"by": name, "loss": loss, "seconds a step": seconds, "tokens a second": tokens / seconds}
        share = 8 * inner * tokens / seconds / rate
        rows.append({**row, "share of the matrix rate": share, "peak, GB": peak / 1e9})
        # In bfloat16 the log-probs of a pair are off by about .7 in all, the mean loss of eight by about .01.
        if not abs(loss - expected) <= (8e-2 if asked.device == "cuda" else 1e-4) * max(1.0, abs(loss)):
            faults.append(f"the loss of {name} is {loss:.4f}, not {expected:.4f}")
    weights = f"{sum(p.numel() for p in policy.parameters()) / 1e9:.2g} billion weights"
    told = f"{len(groups)} pairs, {tokens:,} tokens without padding, a prompt counted once; {weights}."
    share = "The share is of the products that these tokens need in the layers, 8 a weight and token."
    return Part(rows=rows, faults=faults, notes=[told, share, *notes])


def raced(ways: Mapping[str, Callable[[], float]], models: Sequence[Any], asked: Asked) -> dict[str, Any]:
    """Loss, median seconds and peak bytes of each way, taken in turns after one that warms up.

    Another tool's way that memory does not suffice for is left out.
    """
    import torch

    found: dict[str, list[Any]] = {name: [] for name in ways}
    for at in range(asked.size.rounds + 1):
        for name in list(found):
            for model in models:
                model.set_attn_implementation("trueup" if name == "trueup" else "sdpa")
                model.zero_grad(set_to_none=True)
            try:
                result = timed(ways[name], asked.device)
            except torch.OutOfMemoryError:
                if name == "trueup":
                    raise
                del found[name]
                continue
            if at:
                found[name].append(result)
    middle = {name: sorted(done, key=lambda one: one[1])[len(done) // 2] for name, done in found.items()}
    return {name: (one[0], one[1], max(d[2] for d in found[name])) for name, one in middle.items()}


def trl_dpo(
    asked: Asked, policy: Any, reference: Any, groups: Sequence[Any], **given: Any
) -> Callable[[], float]:
    """TRL's way to the same loss and gradient."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    rows = [
        {
            "prompt_ids": g.prompt_tokens.tolist(),
            "chosen_ids": g.completions[0].tokens.tolist(),
            "rejected_ids": g.completions[1].tokens.tolist(),
        }
        for g in groups
    ]
    trainer = DPOTrainer(
        args=DPOConfig(**trl_settings(asked.device, gradient_checkpointing=False, **given)),
        model=policy,
        ref_model=reference,
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2),
        processing_class=tokenizer_of(),
    )
    return functools.partial(_trl_step, trainer, rows, asked.device)


def _trl_step(trainer: Any, rows: Sequence[Row], device: str) -> float:
    batch = {name: x.to(device) if hasattr(x, "to") else x for name, x in trainer.data_collator(rows).items()}
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return loss.item()


def need_trl(asked: Asked) -> None:
    """Nothing; TRL can be imported from here on. NotRun where it is not there."""
    if not asked.with_trl:
        raise NotRun("it was not asked for")
    if asked.libraries:
        sys.path.append(asked.libraries)  # last: what is installed comes first
    if importlib.util.find_spec("trl") is None:
        raise NotRun("it is neither installed nor in --wheels DIR")


def trl_settings(device: str, **given: Any) -> dict[str, Any]:
    """Arguments of TRL's trainers that keep them on this device and silent."""
    folder = tempfile.mkdtemp(prefix="gpu-check-")
    on_cpu = {"use_cpu": device == "cpu", "bf16": False, "report_to": [], "disable_tqdm": True}
    return {"output_dir": folder, "save_strategy": "no", "logging_strategy": "no", **on_cpu, **given}


def tokenizer_of() -> Any:
    """A tokenizer that reads bytes, with ends of its own, and ChatML."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    marks = ("<|im_end|>", "<|endoftext|>", "<|im_start|>")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*marks, *letters])}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    found = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=marks[0], pad_token=marks[1])
    found.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return found


def grpo(asked: Asked) -> Part:
    """Whole GRPO steps, sampling included, of an adapter of rank 16: trueup and TRL."""
    import torch

    size, device = asked.size, asked.device
    asked_of = [f"{'What is this about? ' * (size.lengths[0] // 20)}{n}?" for n in range(size.prompts)]
    rows: list[Row] = []
    notes = [f"{size.prompts} prompts, {size.prompts} completions each, at most {size.new_tokens} tokens."]
    model = llama(size.fast, device, fast_dtype(device))
    seconds, peak = _our_grpo(asked, model, asked_of)
    sampled = size.prompts**2 * size.new_tokens
    rows.append(
        {
            "by": "trueup",
            "seconds a step": seconds,
            "tokens a second": sampled / seconds,
            "peak, GB": peak / 1e9,
        }
    )
    try:
        need_trl(asked)
        seconds, peak = _trl_grpo(asked, model, asked_of)
        rows.append(
            {
                "by": "TRL",
                "seconds a step": seconds,
                "tokens a second": sampled / seconds,
                "peak, GB": peak / 1e9,
            }
        )
    except NotRun as error:
        notes.append(f"TRL: not run: {error}")
    except torch.OutOfMemoryError:
        notes.append("TRL: out of memory")
    notes.append("Tokens are those that may be sampled; random weights seldom end a completion sooner.")
    return Part(rows=rows, faults=[], notes=notes)


def letters_of(texts: Sequence[str]) -> list[float]:
    """A reward that differs between random texts: the share of letters."""
    return [sum(c.isalpha() for c in text) / (1 + len(text)) for text in texts]


def per_step(times: Sequence[float]) -> float:
    """Seconds of a step, the first left out, which warms up."""
    return (times[-1] - times[1]) / (len(times) - 2) if len(times) > 2 else times[-1] - times[0]


def _our_grpo(asked: Asked, model: Any, prompts: Sequence[str]) -> tuple[float, float]:
    import trueup

    times = [time.perf_counter()]

    def ended(step: Any) -> None:
        wait(asked.device)
        times.append(time.perf_counter())

    precision = str(fast_dtype(asked.device)).removeprefix("torch.")
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        _, _, peak = timed(
            lambda: trueup.fit(
                "grpo",
                model={"path": model, "dtype": precision, "device": asked.device, "lora": {"rank": 16}},
                tokenizer=tokenizer_of(),
                data={"path": [{"prompt": p} for p in prompts], "held_out": 0},
                judge=lambda prompt, text: letters_of([text])[0],
                out=Path(folder) / "run",
                callbacks=ended,
                num_completions=asked.size.prompts,
                decoding={"max_new_tokens": asked.size.new_tokens},
                algorithm={"beta": 0.0},
                loop={
                    "steps": asked.size.rounds + 1,
                    "batch": asked.size.prompts,
                    "microbatch_tokens": 16384,
                },
            ),
            asked.device,
        )
    return per_step(times), peak


def _trl_grpo(asked: Asked, model: Any, prompts: Sequence[str]) -> tuple[float, float]:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    times = [time.perf_counter()]

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            wait(asked.device)
            times.append(time.perf_counter())

    settings = trl_settings(
        asked.device,
        per_device_train_batch_size=asked.size.prompts**2,
        num_generations=asked.size.prompts,
        max_completion_length=asked.size.new_tokens,
        max_steps=asked.size.rounds + 1,
        gradient_checkpointing=False,
    )
    model.set_attn_implementation("sdpa")
    trainer = GRPOTrainer(
        args=GRPOConfig(**settings),
        model=model,
        reward_funcs=lambda completions, **_: letters_of(completions),
        train_dataset=Dataset.from_list([{"prompt": p} for p in prompts]),
        processing_class=tokenizer_of(),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[Clock()],
    )
    _, _, peak = timed(trainer.train, asked.device)
    return per_step(times), peak
