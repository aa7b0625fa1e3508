"""Self-critical sequence training: a completion is compared with the policy's own greedy one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trueup.annotate.baselines import AgainstGreedy
from trueup.annotate.logprobs import Measure, OldLogprobs
from trueup.annotate.rewards import KLReward
from trueup.annotate.scores import MissingEos, Scores, masked
from trueup.engine.groups import Group
from trueup.engine.method import Handles, Method, Parts, Role
from trueup.objectives.reinforce import Reinforce
from trueup.settings.blocks import DataSettings, LoopSettings, ModelSettings, SamplerSettings
from trueup.sources.sample import Decoding, draw_groups, from_policy
from trueup.update.adamw import AdamW

SUMMARY = "REINFORCE whose baseline is the reward of the policy's own greedy completion."
REFERENCES = ("rennie2017", "williams1992")
FAMILY, UNIT, COPIES = "reinforcement", "completion", 2
NEEDS = ("prompts", "judge", "sampling", "reference")


@dataclass(frozen=True, kw_only=True)
class Config:
    """SCST: −[R(y) − R(greedy)] Σ_t log π(y_t)."""

    model: ModelSettings = ModelSettings()
    "The policy, and frozen as it starts, the reference."
    judge: str = "world:truth"
    "Who scores: a reward model's folder, `stage:NAME`, `world:truth`, or FILE.py:FUNCTION."
    data: DataSettings = DataSettings(path="world:prompts")
    decoding: Decoding = Decoding()
    "How samples are drawn; the greedy completion has the same length limit and end."
    sampler: SamplerSettings = SamplerSettings()
    num_completions: int = 1
    "Samples per prompt, all against one greedy completion."
    beta: float = 0.05
    "Strength of the KL penalty in the reward, per nat; the paper has none (0)."
    missing_eos: MissingEos = -1.0
    "Added to the score of a completion that hit the length limit; mask: it teaches nothing; null: no rule."
    loop: LoopSettings = LoopSettings(steps=40, batch=128)
    update: AdamW = AdamW(schedule="linear", warmup=0.05)
    seed: int = 0


def build(config: Config, parts: Parts) -> Method:
    """The method: sample -> score, log-probs, KL reward, the same of the greedy completion -> its loss."""
    source, held_out = from_policy(
        parts, batch=config.loop.batch, num_completions=config.num_completions, decoding=config.decoding
    )
    rewarded = (
        Scores(missing_eos=config.missing_eos),
        OldLogprobs(),
        Measure(network="reference", want="logprobs", column="ref_logprobs"),
        KLReward(beta=config.beta),
    )

    def greedy(groups: Sequence[Group], handles: Handles) -> list[Group]:
        return draw_groups(
            groups,
            "policy",
            handles,
            decode=parts.decode,
            stop_ids=parts.stop_ids,
            k=1,
            decoding=replace(config.decoding, greedy=True),
            seed=handles.seed,
        )

    return Method(
        name="scst",
        source=source,
        held_out=held_out,
        annotate=(*rewarded, AgainstGreedy(greedy=greedy, stages=rewarded), *masked(config.missing_eos)),
        objective=Reinforce(),
        update=config.update,
        networks={"policy": Role(), "reference": Role(trained=False)},
        temperature=config.decoding.temperature,
        judge=config.judge,
    )
