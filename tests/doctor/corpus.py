"""Dumps with one fault each, and clean ones: a tiny random model, its samples, and rows of data.

A dump is a list of mappings as a recorder writes them. Everything is made from a seed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from trueup.chat import Chat
from trueup.doctor.scan import Opened
from trueup.models.load import from_modules

TEMPLATE = """{{ bos_token }}{%- for m in messages -%}
<|im_start|>{{ m.role }}{{ "\\n" }}{{ m.content }}<|im_end|>{{ "\\n" }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant{{ "\\n" }}{%- endif -%}"""
WORDS = [
    "river",
    "stone",
    "north",
    "window",
    "quiet",
    "market",
    "lantern",
    "winter",
    "garden",
    "copper",
    "seven",
    "answer",
    "between",
    "letters",
    "morning",
    "harbour",
    "silver",
    "thunder",
    "music",
    "paper",
    "orange",
    "simple",
    "travel",
    "yellow",
    "mountain",
    "bridge",
]
PROMPTS, K = 10, 4
Dump = list[dict[str, Any]]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few merges that begins texts with <s>, with ChatML's marks."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        [" ".join(WORDS), " ".join(reversed(WORDS))],
        trainers.BpeTrainer(vocab_size=330, initial_alphabet=sorted(alphabet), show_progress=False),
    )
    marks = ("<s>", "<pad>", "<|im_start|>", "<|im_end|>")
    raw.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", raw.token_to_id("<s>"))]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    made.chat_template = TEMPLATE
    return made


@cache
def network(seed: int = 0) -> LlamaForCausalLM:
    """A random Llama of two layers whose next-token laws are neither flat nor certain."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer()), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=False,
        initializer_range=0.15, bos_token_id=tokenizer().bos_token_id, pad_token_id=tokenizer().pad_token_id,
        eos_token_id=tokenizer().eos_token_id,
    )  # fmt: skip
    made = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        made.lm_head.weight.mul_(2.5)
    return made


@cache
def opened() -> Opened:
    """The model as the command opens it."""
    told, model = tokenizer(), copy.deepcopy(network())
    chat = Chat.of(told)
    rough = copy.deepcopy(model).to(torch.bfloat16)
    exact, rounded = (from_modules(m, chat.tokenizer) for m in (model, rough))
    return Opened(chat=chat, exact=exact, rounded=rounded)


def save(folder: Path) -> Path:
    """The folder, with the model in it."""
    network().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


# ------------------------------------------------------------------------------------------------ clean dumps


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a policy is sampled, and what log-probs are said of its tokens."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    said_temperature: float | None = None
    "Of the log-probs, where it is another."
    renormalised: bool = False
    dtype: torch.dtype = torch.float32


def law(z: torch.Tensor, how: Sampling) -> torch.Tensor:
    """The log-law that tokens are drawn from."""
    logp = torch.log_softmax(z.double() / how.temperature, -1)
    order = logp.sort(-1, descending=True)
    mass = order.values.exp().cumsum(-1)
    keep = (mass - order.values.exp()) < how.top_p
    if how.top_k:
        keep[:, how.top_k :] = False
    logp = logp.masked_fill(~torch.zeros_like(keep).scatter(-1, order.indices, keep), -torch.inf)
    return torch.log_softmax(logp, -1)


def drawn(
    prompts: list[list[int]], seed: int, how: Sampling, old: bool
) -> list[tuple[list[int], list[float]]]:
    """A completion of each prompt, of a length drawn beforehand, and its tokens' log-probs."""
    model = older() if old else network()
    model = copy.deepcopy(model).to(how.dtype) if how.dtype != torch.float32 else model
    random = torch.Generator().manual_seed(1000 + seed)
    lengths = torch.randint(16, 40, (len(prompts),), generator=random).tolist()
    found: list[tuple[list[int], list[float]]] = [([], []) for _ in prompts]
    longest = max(map(len, prompts))
    feed = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    seen = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    places, past = (seen.cumsum(1) - 1).clamp(min=0), None
    for step in range(max(lengths)):
        with torch.no_grad():
            out = model(
                input_ids=feed, attention_mask=seen, position_ids=places, past_key_values=past, use_cache=True
            )
        past, z = out.past_key_values, out.logits[:, -1].float()
        p = law(z, how)
        feed = torch.multinomial(p.exp(), 1, generator=random)
        heat = how.said_temperature or how.temperature
        told = (p if how.renormalised else torch.log_softmax(z / heat, -1)).gather(1, feed)[:, 0].tolist()
        for k, number in enumerate(feed[:, 0].tolist()):
            if step < lengths[k]:
                found[k][0].append(number)
                found[k][1].append(float(told[k]))
                lengths[k] = step + 1 if number == model.config.eos_token_id else lengths[k]
        seen = torch.cat([seen, torch.ones_like(feed)], 1)
        places = places[:, -1:] + 1
    return found


def question(random: np.random.Generator) -> str:
    return " ".join(random.choice(WORDS, 4)) + "?"


def samples(
    seed: int, how: Sampling | None = None, *, old: bool = False, declared: float | None = None
) -> Dump:
    """A step of GRPO: K completions a prompt with log-probs, rewards and the group's advantages."""
    return copy.deepcopy(_samples(seed, how or Sampling(), old, declared))


@cache
def _samples(seed: int, how: Sampling, old: bool, declared: float | None) -> Dump:
    random, told = np.random.default_rng([seed, 1]), tokenizer()
    asked = [[{"role": "user", "content": question(random)}] for _ in range(PROMPTS)]
    prompts = [
        told.apply_chat_template(m, add_generation_prompt=True, return_dict=False)
        for m in asked
        for _ in range(K)
    ]
    rows: Dump = []
    for k, (ids, logprobs) in enumerate(drawn([list(p) for p in prompts], seed, how, old)):
        prompt = list(prompts[k])
        rows.append(
            {
                "row": f"{k // K}/{k % K}", "group": k // K, "position": k, "step": 0,
                "input_ids": prompt + ids, "loss_mask": [0] * len(prompt) + [1] * len(ids),
                "sampler_logprobs": [None] * len(prompt) + logprobs, "sampler_ids": ids,
                "temperature": declared or how.temperature, "reward": float(random.normal()),
                "messages": [*asked[k // K], {"role": "assistant", "content": told.decode(ids)}],
            }
        )  # fmt: skip
    for start in range(0, len(rows), K):
        rewards = np.array([row["reward"] for row in rows[start : start + K]])
        for row, value in zip(
            rows[start : start + K], (rewards - rewards.mean()) / (rewards.std() + 1e-4), strict=True
        ):
            row["advantages"] = float(value)
    return rows


def data(seed: int, *, padded: bool = True) -> Dump:
    """Rows of supervised data: labels on the answer and its end, padded on the right as a batch is."""
    random, told = np.random.default_rng([seed, 2]), tokenizer()
    rows: Dump = []
    for k in range(24):
        said = [
            {"role": "user", "content": question(random)},
            {"role": "assistant", "content": " ".join(random.choice(WORDS, random.integers(2, 9)))},
        ]
        text = told.apply_chat_template(said, tokenize=False)
        ids = told(text, add_special_tokens=False)["input_ids"]
        prompt = told.apply_chat_template(said[:1], add_generation_prompt=True, return_dict=False)
        rows.append(
            {
                "row": k, "epoch": 0, "position": k, "input_ids": ids, "text": text, "messages": said,
                "labels": [-100] * len(prompt) + ids[len(prompt) :], "attention_mask": [1] * len(ids),
            }
        )  # fmt: skip
    longest = max(len(row["input_ids"]) for row in rows)
    for row in rows if padded else ():
        more = longest - len(row["input_ids"])
        for key, filler in (("input_ids", told.pad_token_id), ("labels", -100), ("attention_mask", 0)):
            row[key] = row[key] + [filler] * more
    return rows


# ---------------------------------------------------------------------------------------------------- faults

Fault = Callable[[int], Dump]


def _some(seed: int, rows: Dump, share: float = 0.5) -> list[dict[str, Any]]:
    """A part of the rows, drawn by the seed."""
    random = np.random.default_rng([seed, 3])
    return [rows[k] for k in random.choice(len(rows), max(1, int(share * len(rows))), replace=False)]


def retokenised(seed: int) -> Dump:
    """The trainer encodes the sampler's text again."""
    told, rows = tokenizer(), samples(seed)
    for row in rows:
        prompt = row["input_ids"][: -len(row["sampler_ids"])]
        ids = told(told.decode(row["sampler_ids"]), add_special_tokens=False)["input_ids"] or [5]
        row |= {"input_ids": prompt + ids, "loss_mask": [0] * len(prompt) + [1] * len(ids)}
        del row["sampler_logprobs"], row["messages"]
    return rows


def in_pieces(seed: int) -> Dump:
    """Data whose answers are encoded word by word."""
    told, rows = tokenizer(), data(seed, padded=False)
    for row in _some(seed, rows):
        prompt = row["labels"].count(-100)
        words = row["messages"][1]["content"]
        ids = [i for c in words for i in told(c, add_special_tokens=False)["input_ids"]]
        ids += row["input_ids"][-2:]
        row |= {"input_ids": row["input_ids"][:prompt] + ids, "labels": [-100] * prompt + ids}
        row["attention_mask"] = [1] * len(row["input_ids"])
        del row["messages"]
    return rows


def drifted(seed: int) -> Dump:
    """Another template writes the answers' header."""
    told, rows = tokenizer(), data(seed, padded=False)
    for row in _some(seed, rows, 1.0):
        text = row.pop("text").replace("<|im_start|>assistant\n", "<|im_start|>model\n")
        ids = told(text, add_special_tokens=False)["input_ids"]
        start = len(told(text.split("model\n")[0] + "model\n", add_special_tokens=False)["input_ids"])
        row |= {"input_ids": ids, "labels": [-100] * start + ids[start:], "attention_mask": [1] * len(ids)}
    return rows


def endless(seed: int) -> Dump:
    """Labels leave the end of turn out, as where it is also the padding token."""
    rows = data(seed)
    end = tokenizer().eos_token_id
    for row in rows:
        row["labels"] = [-100 if label == end else label for label in row["labels"]]
    return rows


def unended(seed: int) -> Dump:
    """Completions without an end of turn."""
    rows = data(seed, padded=False)
    for row in rows:
        for key in ("input_ids", "labels", "attention_mask"):
            row[key] = row[key][:-2]
        del row["text"], row["messages"]
    return rows


def on_prompts(seed: int) -> Dump:
    """Labels cover the prompts of some rows."""
    rows = data(seed)
    for row in _some(seed, rows):
        real = sum(row["attention_mask"])
        row["labels"] = row["input_ids"][:real] + [-100] * (len(row["labels"]) - real)
    return rows


def on_unsampled(seed: int) -> Dump:
    """The mask of sampled rows covers the end of the prompt."""
    rows = samples(seed)
    for row in _some(seed, rows):
        first = row["loss_mask"].index(1)
        row["loss_mask"][first - 3 : first] = [1, 1, 1]
    return rows


def colder(seed: int) -> Dump:
    """Log-probs of temperature .7, taken for those of 1."""
    return samples(seed, Sampling(temperature=0.7), declared=1.0)


def hot(seed: int) -> Dump:
    """The trainer forgets the temperature: its log-probs are of 1, the rows' are of .8."""
    rows = samples(seed, Sampling(temperature=0.8))
    for row, other in zip(rows, samples(seed, Sampling(temperature=0.8, said_temperature=1.0)), strict=True):
        row["trainer_logprobs"] = other["sampler_logprobs"]
    return rows


def raw(seed: int) -> Dump:
    """Tokens drawn at temperature .7, raw log-probs: right by the model, wrong for the ratio."""
    return samples(seed, Sampling(temperature=0.7, said_temperature=1.0), declared=1.0)


def top_p(seed: int) -> Dump:
    return samples(seed, Sampling(top_p=0.9, renormalised=True))


def top_k(seed: int) -> Dump:
    return samples(seed, Sampling(top_k=20, renormalised=True))


def warm_top_p(seed: int) -> Dump:
    return samples(seed, Sampling(temperature=0.7, top_p=0.9, renormalised=True), declared=1.0)


def top_p_bf16(seed: int) -> Dump:
    return samples(seed, Sampling(top_p=0.9, renormalised=True, dtype=torch.bfloat16))


def cut_raw(seed: int) -> Dump:
    """Tokens of a nucleus, raw log-probs."""
    return samples(seed, Sampling(top_p=0.9))


@cache
def older() -> LlamaForCausalLM:
    """The policy before a few updates: a step of gradient ascent on its own samples' log-probs away."""
    model = copy.deepcopy(network())
    torch.manual_seed(7)
    ids = torch.randint(0, len(tokenizer()) - 4, (8, 40))
    for _ in range(3):
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p.add_(p.grad, alpha=-0.02)
    return model.eval()


def stale(seed: int) -> Dump:
    return samples(seed, old=True)


def stale_bf16(seed: int) -> Dump:
    return samples(seed, Sampling(dtype=torch.bfloat16), old=True)


def stale_cache(seed: int) -> Dump:
    """Some rows are of the older policy."""
    rows, old = samples(seed), samples(seed, old=True)
    for k in _picked(seed, len(rows), 0.3):
        rows[k] = old[k]
    return rows


def _picked(seed: int, num: int, share: float) -> list[int]:
    return np.random.default_rng([seed, 4]).choice(num, int(share * num), replace=False).tolist()


def late(seed: int) -> Dump:
    """Log-probs of the next token."""
    rows = samples(seed)
    for row in rows:
        row["sampler_logprobs"] = [*row["sampler_logprobs"][1:], -1.0]
        row["sampler_logprobs"][row["loss_mask"].index(1) - 1] = None
    return rows


def exchanged(seed: int) -> Dump:
    """Log-probs of the other rows of a batch."""
    rows = sorted(samples(seed), key=lambda row: sum(row["loss_mask"]))
    said = [[v for v in row["sampler_logprobs"] if v is not None] for row in rows]
    for k, row in enumerate(rows):
        new = said[min(k + 1, len(rows) - 1)] if k % 2 == 0 else said[k]
        count = sum(row["loss_mask"])
        row["sampler_logprobs"] = new[:count]
    return rows


def two_bos(seed: int) -> Dump:
    rows = data(seed)
    bos = tokenizer().bos_token_id
    for row in rows:
        row |= {
            "input_ids": [bos, *row["input_ids"]], "labels": [-100, *row["labels"]],
            "attention_mask": [1, *row["attention_mask"]],
        }  # fmt: skip
        del row["text"], row["messages"]
    return rows


def no_bos(seed: int) -> Dump:
    rows = data(seed)
    for row in rows:
        for key in ("input_ids", "labels", "attention_mask"):
            row[key] = row[key][1:]
        del row["messages"], row["text"]
    return rows


def on_padding(seed: int) -> Dump:
    rows = data(seed)
    for row in rows:
        row["labels"] = [i if label != -100 or not a else label for i, label, a in _columns(row)]
    return rows


def _columns(row: dict[str, Any]) -> Any:
    return zip(row["input_ids"], row["labels"], row["attention_mask"], strict=True)


def on_padding_unmasked(seed: int) -> Dump:
    """The same without an attention mask."""
    rows = on_padding(seed)
    for row in rows:
        del row["attention_mask"]
    return rows


def attended(seed: int) -> Dump:
    rows = data(seed)
    for row in rows:
        row["attention_mask"] = [1] * len(row["input_ids"])
        del row["text"], row["messages"]
    return rows


def twice(seed: int) -> Dump:
    """A batch is read again after resuming."""
    rows = data(seed)
    return [*rows[:12], *(dict(row) for row in rows[4:8]), *rows[12:]]


def twice_unnamed(seed: int) -> Dump:
    """The same, of rows without ids of their own."""
    rows = twice(seed)
    for row in rows:
        del row["row"], row["position"]
    return rows


def gone(seed: int) -> Dump:
    """A batch is not read after resuming."""
    rows = data(seed)
    start = int(np.random.default_rng([seed, 5]).integers(2, 16))
    return rows[:start] + rows[start + 4 :]


def one_seed(seed: int) -> Dump:
    """Two ranks draw with one random state."""
    rows = samples(seed)
    for start in range(0, len(rows), K):
        for key in ("input_ids", "loss_mask", "sampler_logprobs", "sampler_ids", "messages"):
            rows[start + 1][key] = rows[start][key]
    return rows


def off_baseline(seed: int) -> Dump:
    """The baseline is the mean of a part of the group."""
    rows = samples(seed)
    for start in range(0, len(rows), K):
        rewards = np.array([row["reward"] for row in rows[start : start + K]])
        for row, value in zip(rows[start : start + K], rewards - rewards[: K // 2].mean(), strict=True):
            row["advantages"] = float(value)
    return rows


def _with_advantages(rows: Dump, values: list[float]) -> Dump:
    for row, value in zip(rows, values, strict=True):
        row["advantages"] = value
    return rows


def shuffled(seed: int) -> Dump:
    """Advantages of another order of the group's rows."""
    rows, random = samples(seed), np.random.default_rng([seed, 6])
    values = [row["advantages"] for row in rows]
    mixed = [v for s in range(0, len(rows), K) for v in random.permutation(values[s : s + K]).tolist()]
    return _with_advantages(rows, mixed)


def turned(seed: int) -> Dump:
    rows = samples(seed)
    return _with_advantages(rows, [-row["advantages"] for row in rows])


def shifted(seed: int) -> Dump:
    rows = data(seed)
    for row in rows:
        row["labels"] = [*row["labels"][1:], -100]
    return rows


def not_a_number(seed: int) -> Dump:
    rows = samples(seed)
    for row in _some(seed, rows, 0.1):
        row["sampler_logprobs"][-2] = float("nan")
    return rows


def probabilities(seed: int) -> Dump:
    """Probabilities where log-probs belong."""
    rows = samples(seed)
    for row in rows:
        row["sampler_logprobs"] = [None if v is None else float(np.exp(v)) for v in row["sampler_logprobs"]]
    return rows


def foreign(seed: int) -> Dump:
    """Ids of another tokenizer."""
    rows = samples(seed)
    for row in _some(seed, rows, 0.1):
        row["input_ids"][-1] = 40_000
        del row["sampler_ids"]
    return rows


def empty(seed: int) -> Dump:
    rows = data(seed)
    for row in _some(seed, rows, 0.1):
        row["labels"] = [-100] * len(row["labels"])
    return rows


FAULTS: dict[str, tuple[str, Fault]] = {
    "sampled text encoded again": ("retokenised", retokenised),
    "data encoded in pieces": ("retokenised", in_pieces),
    "another template": ("template drift", drifted),
    "end of turn masked": ("end of turn not in the loss", endless),
    "end of turn absent": ("no end of turn", unended),
    "labels on prompts": ("prompt in the loss", on_prompts),
    "mask on prompts": ("loss on what was not sampled", on_unsampled),
    "log-probs of temperature .7": ("temperature", colder),
    "trainer without temperature": ("temperature", hot),
    "raw log-probs of temperature .7": ("drawn at another temperature", raw),
    "top-p renormalised": ("truncated support", top_p),
    "top-p renormalised, bfloat16": ("truncated support", top_p_bf16),
    "top-k renormalised": ("truncated support", top_k),
    "temperature and top-p": ("truncated support", warm_top_p),
    "top-p, raw log-probs": ("truncated samples", cut_raw),
    "older weights": ("stale weights or cache", stale),
    "older weights, bfloat16": ("stale weights or cache", stale_bf16),
    "older weights in some rows": ("stale weights or cache", stale_cache),
    "log-probs of the next token": ("log-probs off by one", late),
    "log-probs of other rows": ("log-probs of other rows", exchanged),
    "two BOS": ("double BOS", two_bos),
    "BOS missing": ("no BOS", no_bos),
    "labels on padding": ("padding in the loss", on_padding),
    "labels on padding, no mask": ("padding in the loss", on_padding_unmasked),
    "padding attended": ("padding attended", attended),
    "a batch twice": ("repeated rows", twice),
    "a batch twice, no ids": ("repeated rows", twice_unnamed),
    "a batch skipped": ("skipped rows", gone),
    "one random state": ("identical samples", one_seed),
    "a part's mean as baseline": ("advantages not zero-mean", off_baseline),
    "advantages shuffled": ("advantages of other rows", shuffled),
    "advantages turned": ("advantages of other rows", turned),
    "labels shifted twice": ("shifted labels", shifted),
    "a log-prob is NaN": ("not log-probs", not_a_number),
    "probabilities for log-probs": ("not log-probs", probabilities),
    "ids of another tokenizer": ("ids outside the vocabulary", foreign),
    "rows without loss": ("empty loss", empty),
}
"What is planted -> the kind that must be found, and the dump of a seed."
CLEAN: dict[str, Fault] = {
    "samples, float32": samples,
    "samples, bfloat16": lambda seed: samples(seed, Sampling(dtype=torch.bfloat16)),
    "samples, temperature .7": lambda seed: samples(seed, Sampling(temperature=0.7)),
    "samples, temperature 1.3, bfloat16": lambda seed: samples(
        seed, Sampling(temperature=1.3, dtype=torch.bfloat16)
    ),
    "data": data,
    "data, not padded": lambda seed: data(seed, padded=False),
}
