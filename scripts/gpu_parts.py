"""What `gpu_check` looks at, but for whole steps: exactness, the fused kernel, activation checkpointing."""

from __future__ import annotations

import copy
import functools
import importlib.util
import math
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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


def llama(sizes: Mapping[str, int], device: str, dtype: Any, seed: int = 0) -> Any:
    """A random Llama, its weights rounded to bfloat16 so that every precision has the same ones."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    given: Any = {
        **sizes,
        "tie_word_embeddings": True,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "bos_token_id": None,
    }
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
    notes.append(
        "torch has: " + (", ".join(name for name, there in features.items() if there) or "none of it")
    )
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
                faults.append(
                    f"{dtype}: packed {what} are {errors[1][at]:.2g} off, padded {errors[0][at]:.2g}"
                )
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
            gap = max(
                float((a.float() - b).abs().max() / b.abs().max()) for a, b in zip(found, wanted, strict=True)
            )
            seconds = [
                min(timed(functools.partial(both, one, drawn), asked.device)[1] for _ in range(3))
                for one in (mine, ByPiece(Blocks()))
            ]
            name = (
                f"{heads} heads, {kv_heads} of keys, {entries} entries, {str(dtype).removeprefix('torch.')}"
            )
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
