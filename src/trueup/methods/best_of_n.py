"""Best-of-n: sample n completions, keep the one a judge likes best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Le

from trueup.engine.groups import write_jsonl
from trueup.engine.method import Role
from trueup.engine.order import derive
from trueup.evals.policies import choose_best
from trueup.judges.open import open_judge
from trueup.models.opening import open_chat, open_network, pick_device
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.blocks import DataSettings, ModelSettings
from trueup.sources.open import open_groups
from trueup.sources.sample import Decoding, sample_groups

SUMMARY = "Sample n completions per prompt and keep the judge's favourite; trains nothing."
REFERENCES = ("stiennon2020", "beirami2024")
FAMILY, UNIT, COPIES = "inference", "completion", 1
NEEDS = ("prompts", "judge", "sampling")
OUTPUT = "groups.jsonl"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Best-of-n: argmax over n samples of the judge's score; KL to the sampler is at most log n − (n−1)/n."""

    model: ModelSettings = ModelSettings()
    judge: str = "world:truth"
    "A reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts", held_out=0.0, limit=500)
    n: int = 16
    "Samples per prompt."
    missing_eos: Annotated[float, Le(0)] | None = -1.0
    "Added to the score of a completion that hit the length limit; null: no rule."
    decoding: Decoding = Decoding()
    seed: int = 0


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """The favourites as demonstrations (K = 1) in `groups.jsonl`, ready for `sft`."""
    chat, device = open_chat(config.model), pick_device(config.model.device)
    opened = open_groups(config.data, chat, seed=config.seed)
    network = open_network(Role(trained=False), config.model, device, seed=config.seed)
    judge = open_judge(config.judge, device=str(device))
    meter = metering.Meter(folder)
    drawn = sample_groups(
        opened.train,
        network.with_temperature(config.decoding.temperature),
        decode=chat.decode,
        stop_ids=chat.stop_ids,
        k=config.n,
        decoding=config.decoding,
        seed=derive(config.seed, "best_of_n"),
    )
    scores = judge(drawn)
    best = choose_best(drawn, scores, config.n, derive(config.seed, "ties"), config.missing_eos)
    write_jsonl(str(folder / OUTPUT), [replace(g, prompt_tokens=None) for g in best])
    every = [score for row in scores for score in row]
    kept = [
        row[next(i for i, c in enumerate(g.completions) if c is b.completions[0])]
        for g, row, b in zip(drawn, scores, best, strict=True)
    ]
    metrics = {
        "score": sum(every) / len(every),
        "best_score": sum(kept) / len(kept),
        "eos_rate": sum(c.finished for g in drawn for c in g.completions) / len(every),
    }
    meter.write(0, metrics, phase="sample")
    tokens = sum(c.num_tokens for g in drawn for c in g.completions)
    cost = meter.spend(0, tokens_trained=0, tokens_sampled=tokens)
    return Done(output=OUTPUT, metrics=metrics, cost=vars(cost))
