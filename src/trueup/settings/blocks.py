"""The blocks of settings that every training run shares. A default is written here once, on its field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from trueup.settings.schema import Word


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """A low-rank adapter in place of full weights: W x + s B A x, with B = 0 at the start."""

    rank: Annotated[int, Ge(1)] = 16
    "r: the rank of each update matrix."
    alpha: Annotated[float, Gt(0)] = 32.0
    "The update is scaled by s = alpha / rank."
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    "Share of the adapter's inputs dropped in training; above 0, step zero differs from the reference."
    targets: str | tuple[str, ...] = "all-linear"
    "Names of the layers that get one, or a pattern; `all-linear` is every linear layer but the LM head."
    rslora: bool = False
    "Scale by alpha / sqrt(rank) instead."
    dora: bool = False
    "Learn magnitude and direction apart."
    quantise: Literal["none", "nf4"] = "none"
    "`nf4` holds the frozen base in 4 bits (QLoRA); it needs the extra `trueup[qlora]`."


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The model a run starts from."""

    path: str = "world:base"
    "A Hugging Face folder or id, a GGUF file, `world:base`, or `stage:NAME` in a recipe."
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    device: Word = "auto"
    "cpu, cuda, mps (Apple's), or auto: an NVIDIA GPU where there is one, else the CPU."
    template: Word | None = None
    "A chat template by name, where the model brings none."
    thinking: Literal["on", "off", "keep"] | None = None
    """Thoughts, where the template has them. `on`: the model writes them, and a row without one trains an
    empty thought. `off`: prompts close an empty thought, and a row with one is bad. `keep`: each row trains
    as it is, and generation is as with `on`. None is what the model's folder says, else off."""
    system: Literal["turn", "fold"] = "turn"
    "`fold` puts a system message before the first question where the template refuses system turns."
    lora: LoraSettings | None = None
    "An adapter is trained in place of all weights: `{rank: 16}`."
    roles: Literal["separate", "shared"] = "separate"
    "`shared`: the method's networks and its judge are adapters and heads over one base; needs `lora`."
    dropout: Literal["zero", "keep"] = "zero"
    "`keep` leaves the model's own dropout rates on while training."
    logits_budget_mib: Annotated[int, Ge(1)] = 256
    "Most memory that logits may take at once."
    activation_checkpointing: Literal["none", "block", "selective"] = "none"
    """What the backward pass computes again in place of keeping it: every block of the model, or with
    `selective` all of it but attention. Less memory, more time, the same gradient."""


@dataclass(frozen=True, kw_only=True)
class TurnSettings:
    """How conversations in files are read."""

    roles: Mapping[str, str] = field(default_factory=dict)
    "Names of roles to read as ours: `{narrator: system}`; usual ones (human, gpt, bing ...) are known."
    trim: Literal["none", "end", "both"] = "none"
    "`end` leaves off turns behind the last answer, `both` also answers before the first question."


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The groups a run learns from."""

    path: str = "world:demonstrations"
    "A file, a folder, a data set's id, `world:NAME`, or `stage:NAME` in a recipe."
    mix: Mapping[str, str] = field(default_factory=dict)
    "Several of them by name in place of `path`: `{help: a.jsonl, harm: stage:label}`; all rows of all."
    split: Word = "train"
    format: Word = "auto"
    "What the rows look like; `trueup data check FILE` lists the names."
    columns: Mapping[str, str] = field(default_factory=dict)
    "Names to read in place of the format's own: `{prompt: question}`."
    turns: TurnSettings = TurnSettings()
    limit: Annotated[int, Ge(1)] | None = None
    "Use only so many rows."
    held_out: Annotated[float, Ge(0), Lt(1)] = 0.1
    "Share of the rows kept for `eval/` metrics, chosen by user (or row) and seed."
    max_tokens: Annotated[int, Ge(2)] = 512
    "Longest prompt plus completion."
    overlong: Literal["drop", "error", "truncate_prompt_start"] = "drop"
    "What happens to a longer row; counted and reported. Dialogues lose whole turns, never half a one."
    train_on: Literal["last", "all"] = "last"
    "Which assistant turns of a dialogue are supervised."
    max_bad: Annotated[float, Ge(0), Le(1)] = 0.01
    "Share of bad rows above which the run stops before a model loads."


Correction = Literal["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """Who draws the policy's completions in training: this process, or a server that gets every version."""

    kind: Literal["own", "vllm", "sglang"] = "own"
    "`vllm` takes LoRA adapters, `sglang` whole weights; both read what the run writes, from one disk."
    url: str = "http://127.0.0.1:8000"
    "The server's address, without `/v1`."
    key: Word = ""
    "The environment variable that holds the server's key, where it asks for one."
    concurrency: Annotated[int, Ge(1), Le(4096)] = 64
    "Completions asked for at a time."
    timeout: Annotated[float, Gt(0)] = 600.0
    "Seconds for one answer."
    patience: Annotated[float, Ge(0)] = 300.0
    "Seconds to wait for a server that is away; then the run saves and ends with exit code 75."
    max_gap: Annotated[float, Gt(0)] | None = None
    """Mean difference of the server's log-probs from ours, nats a token, above which the run ends; None is
    0.001, or 0.1 for a policy in bfloat16."""
    correction: Correction = "none"
    "Weights of advantages, the ratio of our probability to the server's: by token, or whole completions."
    cap: Annotated[float, Gt(0)] = 3.0
    "Largest weight: `truncate` holds larger ones there, `mask` takes them as 0."
    floor: Annotated[float, Ge(0)] = 0.0
    "`mask` takes smaller weights as 0 too (IcePop); 0 is none."


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """Watches a second judge on the policy's held-out completions, against over-optimising the first."""

    judge: str
    "A judge that training does not ask: a reward model of other labels, `world:truth`, FILE.py:FUNCTION."
    tolerance: Annotated[float, Ge(0)] = 0.05
    "Share of its peak that it may lose while the run's own judge rises."
    patience: Annotated[int, Ge(1)] = 2
    "Evaluations in a row that must have lost more."
    stop: bool = True
    "End the run then; false only warns."


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How long a run is, and what it leaves behind on the way."""

    INSTEAD = (("epochs", "steps"),)
    "Who states `epochs` means them, whatever `steps` a method has by default or a recipe names."

    epochs: Annotated[float, Gt(0)] = 1.0
    "Passes over the data: each sees every row once, in batches of which the last is what is left."
    steps: Annotated[int, Ge(1), Le(10_000_000)] | None = None
    "So many whole batches instead of `epochs`; a batch may begin in one pass and end in the next."
    batch: Annotated[int, Ge(1), Le(1_000_000)] = 32
    "Groups per step."
    microbatch_tokens: Annotated[int, Ge(1)] = 4096
    "Tokens in one forward pass: what fits. It changes memory and speed, no result."
    save_every: Annotated[int, Ge(0)] = 50
    "Steps between checkpoints."
    save_every_updates: Annotated[int, Ge(0)] = 0
    "Also save after every so many updates inside a step; 0 is never."
    eval_every: Annotated[int, Ge(0)] = 0
    "Steps between held-out evaluations; 0 is once, at the end."
    keep_last: Annotated[int, Ge(1)] = 2
    "Checkpoints kept, besides the best."
    best: str | None = None
    "Hand on the step where this was highest: `eval/score`; `lowest eval/loss` the one where it was lowest."
    guard: GuardSettings | None = None
    "Warn, or end the run, when a second judge falls while the run's own rises; looks every `eval_every`."
    budget: Annotated[float, Gt(0)] | None = None
    "FLOPs after which the run ends: 6 a trained token and parameter, 2 a sampled one."
    trackers: tuple[str, ...] = ()
    "Beside metrics.jsonl: tensorboard, wandb, trackio, mlflow."
