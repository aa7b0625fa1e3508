"""Learning rates that `lr: auto` stands for: one table, by method, number of weights and adapter.

    log rate = linear in log size between 1e6, 1e8 and 7e9 weights, the last line going on beyond

Up to a million weights, where the lab is, it is the first column. An adapter takes ten times the rate of full
weights, at most 1e-3 or the rate of full weights where that is higher (Schulman and Thinking Machines Lab
2025, "LoRA Without Regret"). It imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import Any

SIZES = (1e6, 1e8, 7e9)
ADAPTER, MOST = 10.0, 1e-3
FAR = 10.0
"How many times the table's rate, or a part of it, is worth a warning."
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class Row:
    """The rates of one kind of training, and where the last column comes from."""

    name: str
    rates: tuple[float, float, float]
    "At `SIZES`, full weights. The first is what the lab's sweeps chose among."
    sources: str
    methods: tuple[str, ...] = ()
    family: str = ""
    "The methods of this family that no row names."

    def rate(self, num_weights: float, *, adapter: bool = False) -> float:
        """The learning rate for a model of so many weights, to two digits."""
        place = math.log(max(num_weights, SIZES[0]))
        spans = list(pairwise(zip(map(math.log, SIZES), map(math.log, self.rates), strict=True)))
        (left, low), (right, high) = next((s for s in spans if place <= s[1][0]), spans[-1])
        full = math.exp(low + (place - left) / (right - left) * (high - low))
        return float(f"{max(full, min(ADAPTER * full, MOST)) if adapter else full:.2g}")


TABLE = (
    Row(
        name="demonstrations",
        methods=("sft",),
        rates=(1e-3, 2e-4, 2e-5),
        sources="1e-3 at 135 and 360 M (SmolLM2, Allal et al. 2025), 2e-5 at 7 B (Alpaca, Taori et al. 2023; "
        "Zephyr, Tunstall et al. 2023); LoRA 2e-4 at 7 B (QLoRA, Dettmers et al. 2023)",
    ),
    Row(
        name="own or chosen completions",
        family="supervised",
        rates=(3e-4, 1e-4, 2e-5),
        sources="2e-5 at 7 B (RAFT, Dong et al. 2023)",
    ),
    Row(
        name="reward models",
        family="reward models",
        methods=("triplet",),
        rates=(5e-4, 3e-5, 9e-6),
        sources="9e-6 at 6 B (InstructGPT, Ouyang et al. 2022), 1e-5 at 7 B (Llama 2, Touvron et al. 2023), "
        "3e-6 at 1 to 7 B (Huang et al. 2024)",
    ),
    Row(
        name="preferences",
        family="contrastive",
        rates=(3e-4, 3e-6, 5e-7),
        sources="1e-6 at 135 M to 3 B (Rafailov et al. 2023; SmolLM2, Allal et al. 2025), 5e-7 at 7 B "
        "(Zephyr, Tunstall et al. 2023; KTO, Ethayarajh et al. 2024; SimPO, Meng et al. 2024, 3e-7 to 1e-6); "
        "QLoRA 5e-6 at 7 B (Zephyr)",
    ),
    Row(
        name="preferences beside a likelihood",
        methods=("orpo", "rrhf", "slic_hf"),
        rates=(3e-4, 3e-5, 8e-6),
        sources="8e-6 at 7 B (ORPO, Hong et al. 2024), 2e-5 at 7 B (RRHF, Yuan et al. 2023), "
        "1e-5 at 11 B (SLiC-HF, Zhao et al. 2023)",
    ),
    Row(
        name="reinforcement",
        family="reinforcement",
        rates=(3e-4, 5e-6, 1e-6),
        sources="1e-6 at 7 B (GRPO, Shao et al. 2024; RLOO, Ahmadian et al. 2024), 3e-6 at 1 to 7 B (PPO, "
        "Huang et al. 2024), 3e-7 at 8 B (Tülu 3, Lambert et al. 2024)",
    ),
    Row(
        name="distillation",
        family="distillation",
        rates=(3e-4, 3e-5, 5e-6),
        sources="5e-6 at 7 B (MiniLLM, Gu et al. 2024)",
    ),
    Row(
        name="critic",
        methods=("trpo",),
        rates=(1e-3, 3e-5, 9e-6),
        sources="9e-6 at 6 B (InstructGPT's value function, Ouyang et al. 2022)",
    ),
)


def row_of(method: str, family: str, *, critic: bool = False) -> Row | None:
    """The row of a method: the one that names it, else its family's; None where neither is known."""
    if critic:
        return next(row for row in TABLE if row.name == "critic")
    named = next((row for row in TABLE if method in row.methods), None)
    return named or next((row for row in TABLE if family and row.family == family), None)


def rates_in(config: Any) -> dict[str, float | str]:
    """Every learning rate of some settings by its dotted key: `update.lr`, `update.critic.lr`."""
    found: dict[str, float | str] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            found |= {f"{item.name}.{key}": rate for key, rate in rates_in(value).items()}
        elif item.name == "lr":
            found["lr"] = value
    return found


def with_rates(config: Any, rates: Mapping[str, float]) -> Any:
    """The same settings with some learning rates, by their dotted keys."""
    changed: dict[str, Any] = {}
    for key, rate in rates.items():
        first, _, rest = key.partition(".")
        inner = changed.get(first, getattr(config, first))
        changed[first] = with_rates(inner, {rest: rate}) if rest else rate
    return replace(config, **changed) if changed else config
