"""Whether trueup computes on a GPU what it computes on a CPU, and how fast: `make gpu-check`, 8 minutes at most.

    python scripts/gpu_check.py --wheels DIR                       writes results/speed-gpu.md and speed-gpu.json
    python scripts/gpu_check.py --device cpu --size tiny --out DIR  every part that a CPU can run, in seconds
    python scripts/gpu_check.py --not-run                          the page that says that it has not been run

Each part is a process of its own with a limit of time: one that fails, hangs or runs out of memory ends alone,
with its reason on the page, and the exit code is 1 once all have run. Models are random, built from a
configuration; nothing is fetched. Where TRL or Liger are not installed they are read out of a folder of wheels.
"""

from __future__ import annotations

import argparse
import copy
import functools
import importlib.util
import json
import math
import multiprocessing
import os
import platform
import resource
import shlex
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRANSFORMERS_VERBOSITY="error")
ROOT = Path(__file__).resolve().parents[1]
COMMAND = "make gpu-check"
MINUTES = 8.0
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is measured: a model for exactness, one for speed, and how much of each kind of work."""

    exact: Mapping[str, int]
    fast: Mapping[str, int]
    lengths: tuple[int, int, int]
    "Tokens of a prompt, of the shortest and of the longest completion."
    pairs: int
    prompts: int
    "Of a GRPO step; each has as many completions."
    new_tokens: int
    row: int
    "Tokens of the row whose memory is measured."
    product: int
    "Rows and columns of the matrix product that is the machine's rate."
    heads: tuple[tuple[int, int, int], ...]
    "Heads, key heads and entries of a head, in which the kernels are compared."
    rounds: int = 3


def shape(hidden: int, layers: int, heads: int, kv_heads: int, inner: int, vocabulary: int) -> dict[str, int]:
    """A Llama's configuration."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": 32768,
    }


SIZES = {
    "real": Size(
        exact=shape(1024, 4, 16, 4, 2816, 32000),
        fast=shape(1536, 28, 12, 2, 8960, 151936),
        lengths=(256, 128, 384),
        pairs=8,
        prompts=8,
        new_tokens=128,
        row=8192,
        product=8192,
        heads=((16, 16, 64), (16, 4, 64), (12, 2, 128), (8, 8, 96), (8, 2, 256)),
    ),
    "tiny": Size(
        exact=shape(32, 2, 4, 2, 48, 300),
        fast=shape(32, 2, 4, 2, 48, 300),
        lengths=(9, 4, 9),
        pairs=2,
        prompts=2,
        new_tokens=4,
        row=64,
        product=64,
        heads=((4, 4, 8), (4, 2, 8)),
        rounds=1,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a part is told."""

    device: str
    size: Size
    libraries: str
    "A folder with TRL and Liger, where they were unpacked; empty where they were not."
    with_trl: bool


class NotRun(Exception):
    """What cannot be run here, and why: no fault."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a part found: rows of its table, and what is wrong with them."""

    rows: list[Row]
    faults: list[str]
    notes: list[str]


# ------------------------------------------------------------------------------------ what parts share


def llama(sizes: Mapping[str, int], device: str, dtype: Any, seed: int = 0) -> Any:
    """A random Llama, its weights rounded to bfloat16 so that every precision has the same ones."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    given: Any = {**sizes, "tie_word_embeddings": True, "eos_token_id": 0, "pad_token_id": 1, "bos_token_id": None}
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**given))
    return model.to(torch.bfloat16).to(dtype).eval()


def groups_of(size: Size, counts: Sequence[int], vocabulary: int, *, seed: int = 0) -> list[Any]:
    """Groups of random tokens with so many completions, the first of each chosen over the second."""
    import numpy as np

    from trueup.engine.groups import Comparison, Completion, Group

    rng = np.random.default_rng(seed)
    prompt, low, high = size.lengths

    def drawn(length: int) -> Any:
        return rng.integers(2, vocabulary, length).astype(np.int32)

    found = []
    for count in counts:
        written = tuple(Completion(text="", tokens=drawn(rng.integers(low, high + 1))) for _ in range(count))
        chosen = (Comparison(a=0, b=1, choice="a"),) if count > 1 else ()
        found.append(Group(prompt=(), prompt_tokens=drawn(prompt), completions=written, comparisons=chosen))
    return found


def padded_logprobs(model: Any, groups: Sequence[Any], device: str) -> Any:
    """Log-probs [T] of all completions, each with its prompt in a row that is padded to the longest."""
    import torch

    rows = [(g.prompt_tokens, c.tokens) for g in groups for c in g.completions]
    width = max(len(p) + len(c) for p, c in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for at, (p, c) in enumerate(rows):
        ids[at, : len(p) + len(c)] = torch.tensor([*p.tolist(), *c.tolist()])
        mask[at, : len(p) + len(c)] = 1
    ids, mask = ids.to(device), mask.to(device)
    states = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    found = []
    for at, (p, c) in enumerate(rows):
        span = slice(len(p) - 1, len(p) + len(c) - 1)
        wide = states[at, span].to(torch.promote_types(states.dtype, torch.float32))
        picked = ids[at, len(p) : len(p) + len(c), None]
        found.append(torch.log_softmax(wide, -1).gather(1, picked)[:, 0])
    return torch.cat(found)


def packed(network: Any, groups: Sequence[Any], device: str) -> Any:
    """The same log-probs by trueup's packed row."""
    from trueup.engine.packing import pack

    return network(pack(groups).to(device), ("logprobs",)).logprobs


def differentiated(logprobs: Any, module: Any) -> tuple[Any, dict[str, Any]]:
    """Log-probs and the gradient of their mean, on the CPU in float64; the module's own is left clear."""
    module.zero_grad()
    logprobs.mean().backward()
    found = {
        name.removeprefix("model.model.").removeprefix("model."): p.grad.detach().double().cpu()
        for name, p in module.named_parameters()
        if p.grad is not None
    }
    module.zero_grad(set_to_none=True)
    return logprobs.detach().double().cpu(), found


def distance(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """‖a − b‖ / ‖b‖ over all of a gradient."""
    assert a.keys() == b.keys() and b, (sorted(a)[:2], sorted(b)[:2])
    apart = sum(float((a[name] - b[name]).square().sum()) for name in b)
    return math.sqrt(apart / sum(float(b[name].square().sum()) for name in b))


def wait(device: str) -> None:
    """Nothing; the device has done all that it was given."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], device: str) -> tuple[Any, float, float]:
    """What some work gives, its seconds and the most bytes that were in use, the model among them."""
    import torch

    wait(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    found = work()
    wait(device)
    seconds = time.perf_counter() - began
    on_cpu = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found, seconds, torch.cuda.max_memory_allocated() if device == "cuda" else on_cpu


def product_rate(device: str, rows: int, dtype: Any, times: int = 8) -> float:
    """Operations a second of a square matrix product, a multiplication and an addition two."""
    import torch

    a, b = (torch.randn(rows, rows, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    a @ b
    best = min(timed(lambda: a @ b, device)[1] for _ in range(times))
    return 2 * rows**3 / best


def fast_dtype(device: str) -> Any:
    """The precision in which speed is measured."""
    import torch

    return torch.bfloat16 if device == "cuda" else torch.float32


# ------------------------------------------------------------------------------------ the parts


def machine(asked: Asked) -> Part:
    """What this is run on, the rate of its matrix products, and which newer features its torch has."""
    import torch

    rows: list[Row] = []
    for dtype in (torch.float32, torch.bfloat16):
        rate = product_rate(asked.device, asked.size.product, dtype)
        rows.append({"precision": str(dtype).removeprefix("torch."), "matrix products, TFLOP/s": rate / 1e12})
    notes = [f"torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"]
    if asked.device == "cuda":
        card = torch.cuda.get_device_properties(0)
        memory = f"{card.total_memory / 2**30:.0f} GiB"
        notes.append(f"{card.name}, {memory}, compute capability {card.major}.{card.minor}")
    else:
        notes.append(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    features = {
        "ragged flash attention": hasattr(torch.ops.aten, "_flash_attention_forward"),
        "nn.attention.varlen": importlib.util.find_spec("torch.nn.attention.varlen") is not None,
        "choice of flash attention's version": hasattr(torch.nn.attention, "activate_flash_attention_impl"),
        "linear_cross_entropy": hasattr(torch.nn.functional, "linear_cross_entropy"),
    }
    notes.append("torch has: " + (", ".join(name for name, there in features.items() if there) or "none of it"))
    return Part(rows=rows, faults=[], notes=notes)


def exactness(asked: Asked) -> Part:
    """Log-probs and gradients, packed and padded, in float32 and bfloat16, against float64 on the CPU."""
    import torch

    from trueup.models import from_modules

    sizes = asked.size.exact
    groups = groups_of(asked.size, (4, 1, 2), sizes["vocab_size"])
    exact = llama(sizes, "cpu", torch.float64)
    wanted, slopes = differentiated(padded_logprobs(exact, groups, "cpu"), exact)
    rows: list[Row] = []
    faults = []
    for dtype in (torch.float32, torch.bfloat16):
        model = copy.deepcopy(exact).to(dtype).to(asked.device)
        plain = differentiated(padded_logprobs(model, groups, asked.device), model)
        network = from_modules(model, None)
        if not network.packs:
            faults.append(f"the model is not packed in {dtype}: {network.reason}")
        ours = differentiated(packed(network, groups, asked.device), network.module)
        errors = []
        for way, (logprobs, gradient) in (("padded", plain), ("packed", ours)):
            gap = logprobs - wanted
            error = (float(gap.square().mean().sqrt()), float(gap.abs().max()), distance(gradient, slopes))
            errors.append(error)
            rows.append(
                {
                    "precision": str(dtype).removeprefix("torch."),
                    "forward": way,
                    "rms error of log-probs": error[0],
                    "largest": error[1],
                    "error of the gradient": error[2],
                }
            )
        # Twice the padded forward's own noise, and in float32 a bound that noise is far below.
        for what, at in (("log-probs", 0), ("the gradient", 2)):
            if not errors[1][at] <= max(2 * errors[0][at], 1e-5):
                faults.append(f"{dtype}: packed {what} are {errors[1][at]:.2g} off, padded {errors[0][at]:.2g}")
    return Part(rows=rows, faults=faults, notes=[])


def kernel(asked: Asked) -> Part:
    """The fused kernel for ragged rows against plain blocks of scores in float32: values, gradients, time."""
    import torch

    from trueup.engine.packing import pack
    from trueup.models.kernels import Blocks, Flash, Rule, Saved
    from trueup.models.layout import build
    from trueup.models.rows import FUSED, ByPiece, choose
    from trueup.models.varlen import Varlen

    fused = asked.device in FUSED
    layout = build(pack(groups_of(asked.size, (8, 1, 2, 4), 100)).to(asked.device))
    rows: list[Row] = []
    faults = []
    for dtype in FUSED.get(asked.device, (torch.float32,)):
        for heads, kv_heads, entries in asked.size.heads:
            draws = torch.Generator().manual_seed(0)
            shapes = [(len(layout.positions), n, entries) for n in (heads, kv_heads, kv_heads, heads)]
            drawn = [torch.randn(s, generator=draws).to(asked.device, dtype) for s in shapes]
            rule = Rule(entries**-0.5)

            def both(one: Any, given: Sequence[Any], rule: Rule = rule) -> list[Any]:
                q, k, v, grad = given
                out, lse = one.forward(q, k, v, layout, rule)
                return [out, lse, *one.backward(grad, Saved(q, k, v, out, lse), layout, rule)]

            mine: Any = Varlen() if fused else ByPiece(Flash())
            found = both(mine, drawn)
            wanted = both(ByPiece(Blocks()), [x.float() for x in drawn])
            gap = max(float((a.float() - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=True))
            seconds = [
                min(timed(functools.partial(both, one, drawn), asked.device)[1] for _ in range(3))
                for one in (mine, ByPiece(Blocks()))
            ]
            name = f"{heads} heads, {kv_heads} of keys, {entries} entries, {str(dtype).removeprefix('torch.')}"
            rows.append(
                {
                    "heads": name,
                    "largest gap": gap,
                    "its ms": 1e3 * seconds[0],
                    "ms of blocks": 1e3 * seconds[1],
                }
            )
            if not gap <= 8 * torch.finfo(dtype).eps:
                faults.append(f"{name}: {gap:.2g} of the largest entry apart")
            if fused and not isinstance(choose(drawn[0], drawn[1], rule), Varlen):
                faults.append(f"{name}: training would not take the fused kernel")
    tokens = f"A row of {len(layout.positions):,} tokens, one layer, forward and backward."
    return Part(rows=rows, faults=faults, notes=[tokens])


def checkpointing(asked: Asked) -> Part:
    """Activation checkpointing: the same log-probs and gradient, and what it saves."""
    import torch

    from trueup.models import from_modules

    rows: list[Row] = []
    faults = []
    sizes = asked.size.exact
    row = replace(asked.size, lengths=(asked.size.row // 2, asked.size.row // 4, asked.size.row // 4))
    for dtype, groups, allowed in (
        (torch.float32, groups_of(asked.size, (4, 1, 2), sizes["vocab_size"]), 1e-5),
        (torch.bfloat16, groups_of(row, (2,), sizes["vocab_size"]), 1e-2),
    ):
        network = from_modules(llama(sizes, asked.device, dtype), None)
        first: tuple[Any, dict[str, Any]] | None = None
        for policy in ("none", "selective", "block"):
            mine = replace(network, activation_checkpointing=policy)
            work = functools.partial(_pass, mine, groups, asked.device)
            work()
            found, seconds, peak = timed(work, asked.device)
            first = first or found
            gap = max(float((found[0] - first[0]).abs().max()), distance(found[1], first[1]))
            rows.append(
                {
                    "precision": str(dtype).removeprefix("torch."),
                    "policy": policy,
                    "apart from none": gap,
                    "peak, MB": peak / 1e6,
                    "ms": 1e3 * seconds,
                }
            )
            if not gap <= allowed:
                faults.append(f"{dtype}, {policy}: {gap:.2g} apart from none")
    return Part(rows=rows, faults=faults, notes=[])


def _pass(network: Any, groups: Sequence[Any], device: str) -> tuple[Any, dict[str, Any]]:
    return differentiated(packed(network, groups, device), network.module)


def dpo(asked: Asked) -> Part:
    """The loss and gradient of a DPO step, reference included, all weights trained: trueup and TRL in turns."""
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
        if importlib.util.find_spec("liger_kernel") is None:
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
    rows.append({"by": "trueup", "seconds a step": seconds, "tokens a second": sampled / seconds, "peak, GB": peak / 1e9})
    try:
        need_trl(asked)
        seconds, peak = _trl_grpo(asked, model, asked_of)
        rows.append({"by": "TRL", "seconds a step": seconds, "tokens a second": sampled / seconds, "peak, GB": peak / 1e9})
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
                loop={"steps": asked.size.rounds + 1, "batch": asked.size.prompts, "microbatch_tokens": 16384},
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


PARTS: dict[str, tuple[Callable[[Asked], Part], float]] = {
    "machine": (machine, 60),
    "exactness": (exactness, 100),
    "kernel": (kernel, 90),
    "checkpointing": (checkpointing, 90),
    "dpo": (dpo, 120),
    "grpo": (grpo, 150),
    "dpo_liger": (dpo_liger, 90),
}
"Each part by its name, with the seconds that it may take."


# ------------------------------------------------------------------------------------ all of them


def at_work(name: str, asked: Asked, told: Any) -> None:
    """Nothing; sends what a part found, or why it found nothing."""
    try:
        found: Row = asdict(PARTS[name][0](asked))
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0][:300]
        found = {"rows": [], "faults": [f"{type(error).__name__}: {said}"], "notes": []}
        if "-v" in sys.argv:
            raise
    told.send(found)


def run_parts(names: Sequence[str], asked: Asked, seconds: float) -> Iterator[tuple[str, Row]]:
    """What each part found, with its seconds; parts that the time is too short for say so."""
    # A process that was forked from one with a CUDA driver cannot use it; without one a fork saves the imports.
    if asked.device == "cpu":
        import_all()
    context: Any = multiprocessing.get_context("spawn" if asked.device == "cuda" else "fork")
    end = time.monotonic() + seconds
    for name in names:
        limit = min(PARTS[name][1], end - time.monotonic())
        began = time.monotonic()
        if limit < 1:
            found = {"rows": [], "faults": ["not run: the time was over"], "notes": []}
        else:
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=at_work, args=(name, asked, there))
            process.start()
            there.close()
            found = received(here, process, limit)
        yield name, {**found, "seconds": round(time.monotonic() - began, 1)}


def has_gpu() -> bool:
    """Whether torch sees a GPU."""
    import torch

    return torch.cuda.is_available()


def import_all() -> None:
    """Nothing; what parts import is there, for their processes to begin with."""
    import transformers

    import trueup.api.comparing
    import trueup.methods.dpo

    _ = transformers.LlamaForCausalLM, trueup.methods.dpo.build


def received(pipe: Any, process: Any, limit: float) -> Row:
    """What a part's process sent within its time; afterwards it is no more."""
    found: Row = {"rows": [], "faults": [f"it took longer than {limit:.0f} s"], "notes": []}
    if pipe.poll(limit):
        try:
            found = pipe.recv()
        except EOFError:
            process.join()
            found = {"rows": [], "faults": [f"its process ended with {process.exitcode}"], "notes": []}
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join()
    return found


def unpacked(wheels: Path | None) -> str:
    """A folder with the packages of the wheels in a folder; empty without one."""
    if wheels is None:
        return ""
    folder = tempfile.mkdtemp(prefix="gpu-check-")
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as packed_one:
            packed_one.extractall(folder)
    return folder


def shown(value: Any) -> str:
    """A number as the tables have it."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def page(found: Mapping[str, Row], command: str, *, on_gpu: bool) -> str:
    """The page: a part after the other, each with its faults or without."""
    where = "one GPU" if on_gpu else "a CPU, to try the script: nothing here is about a GPU"
    lines = ["# Speed and exactness on one GPU", "", f"Run on {where}.", "", f"    {command}", ""]
    for name, part in found.items():
        title = (PARTS[name][0].__doc__ or name).splitlines()[0]
        lines += [f"## {name}", "", title, ""]
        lines += [f"* {note}" for note in part["notes"]] + [""] * bool(part["notes"])
        lines += [f"* **fault**: {fault}" for fault in part["faults"]] + [""] * bool(part["faults"])
        if part["rows"]:
            heads = list(part["rows"][0])
            lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
            lines += ["| " + " | ".join(shown(row[head]) for head in heads) + " |" for row in part["rows"]]
            lines += [""]
        lines += [f"{part['seconds']:.0f} s.", ""]
    return "\n".join(lines)


NOT_RUN = f"""\
# Speed and exactness on one GPU

**This has not been run**: no GPU was at hand. No measured number of trueup's on a GPU stands anywhere in this
repository, and nothing here claims one.

    {COMMAND}

on a machine with one NVIDIA GPU (compute capability 8.0 or later) writes this page in at most {MINUTES:.0f} minutes: what packed
rows give against float64 on the CPU, the fused kernel against plain blocks, activation checkpointing against none, and a DPO
and a GRPO step of a model of 1.5 B random weights beside TRL's. By arithmetic trueup's side of these takes some 30 GB; what of
TRL's does not fit is named. Nothing is fetched: TRL and Liger come from a folder of wheels where they are not installed,
`{COMMAND} ARGS="--wheels DIR"`.

The tests run the script on a CPU, with a model of a few thousand weights:

    python scripts/gpu_check.py --device cpu --size tiny --out DIR
"""


def main(words: Sequence[str]) -> int:
    """The exit code: 0 when every part ran without fault."""
    parser = argparse.ArgumentParser(prog="gpu_check.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), default="real")
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="where the page and its JSON go")
    parser.add_argument("--wheels", type=Path, help="a folder with wheels of TRL and Liger")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="that all parts may take together")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--without-trl", action="store_true", help="trueup's side alone")
    parser.add_argument("--not-run", action="store_true", help="write the page that says so, and nothing else")
    parser.add_argument("-v", action="store_true", help="show the traceback of a part that fails")
    given = parser.parse_args(words)
    if given.not_run:
        (given.out / "speed-gpu.md").write_text(NOT_RUN, encoding="utf-8")
        return 0
    if given.device == "cuda" and not has_gpu():
        print("gpu-check: torch sees no GPU here; nothing was run and nothing written", file=sys.stderr)
        print("to try the script: python scripts/gpu_check.py --device cpu --size tiny --out DIR", file=sys.stderr)
        return 1
    if given.device == "cpu" and given.out.resolve() == ROOT / "results":
        print("gpu-check: what a CPU does is no result for a GPU: name another folder, --out DIR", file=sys.stderr)
        return 1
    asked = Asked(
        device=given.device,
        size=SIZES[given.size],
        libraries=unpacked(given.wheels),
        with_trl=not given.without_trl,
    )
    found: dict[str, Row] = {}
    for name, part in run_parts(given.parts, asked, 60 * given.minutes):
        found[name] = part
        print(f"{name}: {'; '.join(part['faults']) or 'no fault'}  {part['seconds']} s", flush=True)
    command = shlex.join(["python", "scripts/gpu_check.py", *words])
    given.out.mkdir(parents=True, exist_ok=True)
    document = {"command": command, "device": given.device, "parts": found}
    (given.out / "speed-gpu.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (given.out / "speed-gpu.md").write_text(page(found, command, on_gpu=given.device == "cuda"), encoding="utf-8")
    return 1 if any(part["faults"] for part in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
