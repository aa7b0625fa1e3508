"""Seconds to sample completions: trueup and `transformers.generate`, in one process on the same prompts.

python -m benchmarks.generation                  every size, number of rows and precision
python -m benchmarks.generation --json           the numbers alone
python -m benchmarks.generation --only generation_16 --only generation_16_m_bf16
python -m benchmarks.generation --model FOLDER   a Hugging Face model, in place of random ones

Names are `generation_ROWS`, with `_m` for the larger model and `_bf16` for bfloat16. 16 and 64 rows are four
completions a prompt; `ragged` is 16 prompts of unlike length, one completion each. Both sides take turns,
round by round, each round on prompts of its own; the first is not counted. Nothing ends a completion early.

ratio      the median of the rounds' ratios, above 1 where trueup is faster; low and high: their range
min_min    the ratio of the least times
cpu_ratio  the median ratio of the processor's seconds, which a busy machine disturbs less
ids_equal  whether both decode the same tokens greedily; ids_same: what share of them. In bfloat16 tokens
           depend, with both, on how many rows run together and on the kernel
matmul     the machine's own rate in the same rounds, in GFLOP/s
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trueup.models import LanguageModel, from_modules, generate

SIZES: dict[str, dict[str, Any]] = {
    "": {"hidden_size": 256, "num_hidden_layers": 5, "vocab_size": 4096, "intermediate_size": 688},
    "_m": {"hidden_size": 384, "num_hidden_layers": 10, "vocab_size": 32_000, "intermediate_size": 1024},
}
"Random Llamas with tied weights and heads of 64: 5 million weights, and with `_m` 30 million."
WORK = {"1": (1, 1), "16": (4, 4), "64": (16, 4), "ragged": (16, 1)}
"Rows, as prompts and completions of each."
DTYPES = {"": torch.float32, "_bf16": torch.bfloat16}
NAMES = [f"generation_{work}{size}{dtype}" for size in SIZES for dtype in DTYPES for work in WORK]
MATMUL = 1024
"Rows and columns of the matrices whose product shows the machine's rate."


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens of a prompt, on average where they are ragged, and of a completion."""

    prompt: int
    completion: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """The same weights twice: as our network, and as transformers runs them."""

    network: LanguageModel
    model: Any
    lengths: Lengths

    def ours(self, prompts: Sequence[np.ndarray], k: int, seed: int, greedy: bool = False) -> list[list[int]]:
        """Our completions, row by row."""
        found = generate(
            self.network, prompts, k=k, max_new_tokens=self.lengths.completion, seed=seed, greedy=greedy
        )
        return [sampled.tokens.tolist() for row in found for sampled in row]

    def theirs(
        self, prompts: Sequence[np.ndarray], k: int, seed: int, greedy: bool = False
    ) -> list[list[int]]:
        """The completions of `transformers.generate`, prompts padded on the left."""
        torch.manual_seed(seed)
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(p)) + p.tolist() for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        drawn = {} if greedy else {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "num_return_sequences": k}
        with torch.inference_mode():
            out: Tensor = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=not greedy,
                max_new_tokens=self.lengths.completion,
                pad_token_id=0,
                eos_token_id=None,
                **drawn,
            )
        return out[:, longest:].tolist()


def random_model(size: dict[str, Any], lengths: Lengths) -> Any:
    """A Llama with random weights, the same every time."""
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = max(1, size["hidden_size"] // 64)
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            **size,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=4 * (lengths.prompt + lengths.completion),
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    )


def sides(model: Any, dtype: torch.dtype, lengths: Lengths) -> Sides:
    """Both sides over copies of a model's weights in a precision."""
    theirs = copy.deepcopy(model).to(dtype).eval()
    theirs.generation_config.eos_token_id = None
    return Sides(network=from_modules(copy.deepcopy(theirs), None), model=theirs, lengths=lengths)


def prompts_of(work: str, vocabulary: int, lengths: Lengths, seed: int) -> list[np.ndarray]:
    """A round's prompts: random tokens, a quarter to seven quarters of the length where they are ragged."""
    generator = np.random.default_rng(seed)
    count = WORK[work][0]
    sizes = np.full(count, lengths.prompt)
    if work == "ragged":
        sizes = generator.integers(lengths.prompt // 4, 7 * lengths.prompt // 4 + 1, count)
    return [generator.integers(1, vocabulary, n).astype(np.int32) for n in sizes]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of a call: by the clock, and of the processor."""
    start, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - spent


def matmul_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of a square product, the best of three."""
    a, b = (torch.ones(MATMUL, MATMUL, dtype=dtype) for _ in range(2))
    with torch.inference_mode():
        return 2e-9 * MATMUL**3 / min(timed(lambda: a @ b)[0] for _ in range(3))


def measure(both: Sides, work: str, rounds: int) -> dict[str, Any]:
    """What stands under a name: ratios, seconds, tokens a second, whether the ids are the same."""
    k = WORK[work][1]
    vocabulary = both.model.config.get_text_config().vocab_size
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    rates = []
    for number in range(rounds + 1):
        prompts = prompts_of(work, vocabulary, both.lengths, number)
        order = (both.theirs, both.ours) if number % 2 else (both.ours, both.theirs)
        for side in order:
            spent = timed(lambda side=side, prompts=prompts, number=number: side(prompts, k, number))
            times[side.__name__] += [spent] if number else []
        rates += [matmul_rate(both.network.dtype)] if number else []
    prompts = prompts_of(work, vocabulary, both.lengths, rounds + 1)
    same = share_same(both.ours(prompts, 1, 0, greedy=True), both.theirs(prompts, 1, 0, greedy=True))
    tokens = WORK[work][0] * k * both.lengths.completion
    seconds, cpu = ({name: [pair[i] for pair in pairs] for name, pairs in times.items()} for i in (0, 1))
    return {
        **ratios(seconds["theirs"], seconds["ours"]),
        "cpu_ratio": ratios(cpu["theirs"], cpu["ours"])["ratio"],
        "ids_equal": same == 1,
        "ids_same": same,
        "tokens_per_second": {name: tokens / statistics.median(spent) for name, spent in seconds.items()},
        "matmul": statistics.median(rates),
        "seconds": seconds,
    }


def ratios(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, float]:
    """Median, least and largest of their seconds over ours round by round, and of the least of each."""
    each = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {
        "ratio": statistics.median(each),
        "low": min(each),
        "high": max(each),
        "min_min": min(theirs) / min(ours),
    }


def share_same(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> float:
    """The share of tokens that are the same, each row up to where it first differs."""
    same = total = 0
    for a, b in zip(ours, theirs, strict=True):
        differs = [x != y for x, y in zip(a, b, strict=True)]
        same += differs.index(True) if any(differs) else len(a)
        total += len(a)
    return same / total


def found(names: Sequence[str], model: Any, lengths: Lengths, rounds: int) -> Iterator[tuple[str, Any]]:
    """Each name with what was measured; models are made once a size and precision."""
    for size in SIZES:
        for suffix, dtype in DTYPES.items():
            mine = [w for w in WORK if f"generation_{w}{size}{suffix}" in names]
            if not mine or (model is not None and size):
                continue
            both = sides(random_model(SIZES[size], lengths) if model is None else model, dtype, lengths)
            for work in mine:
                yield f"generation_{work}{size}{suffix}", measure(both, work, rounds)


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    versions = {name: metadata.version(name) for name in ("torch", "transformers")}
    name = torch.cpu.get_capabilities().get("cpu_name", platform.processor())
    return {"processor": name, "threads": torch.get_num_threads(), **versions}


def main(arguments: Sequence[str] | None = None) -> None:
    """Nothing; prints what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=NAMES, help="a name; may be given again")
    parser.add_argument("--model", type=Path, help="a model's folder, in place of random ones")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a prompt")
    parser.add_argument("--completion", type=int, default=64, help="new tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    lengths = Lengths(prompt=given.prompt, completion=given.completion)
    model = None
    if given.model is not None:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(given.model)
    results: dict[str, Any] = {"machine": machine()}
    for name, one in found(given.only or NAMES, model, lengths, given.rounds):
        results[name] = one
        if not given.json:
            spread = f"{one['ratio']:.2f} [{one['low']:.2f}, {one['high']:.2f}], {one['min_min']:.2f}"
            beside = f"cpu {one['cpu_ratio']:.2f}, ids {one['ids_same']:.3f}, matmul {one['matmul']:.0f}"
            print(f"{name:26} {spread}, {beside}", flush=True)
    if given.json:
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
