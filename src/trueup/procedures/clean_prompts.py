"""Prompts cleaned and split by user: what the three stages of InstructGPT ask and are asked.

References: Ouyang et al. 2022, section 3.2; what counts as a duplicate is said by `trueup.data.hygiene`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Ge

from trueup.data.cleaning import Cleaned, Hygiene, clean
from trueup.data.hygiene import kept, split_by_user
from trueup.data.similar import overlap
from trueup.engine.groups import Group, write_jsonl
from trueup.errors import TrueupError
from trueup.runs import meter as metering
from trueup.runs.recipe import Done
from trueup.settings.blocks import DataSettings
from trueup.settings.names import check_name
from trueup.sources.open import read_all

SUMMARY = "Clean prompts (duplicates, personal data, a cap for each user) and split them by user."
OUTPUT = "prompts.jsonl"
DEMONSTRATIONS = "demonstrations"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which prompts, what makes one unfit, and the splits."""

    data: DataSettings = DataSettings(path="world:prompts", held_out=0.0)
    "The prompts as they came in; completions of theirs are left out."
    demonstrations: DataSettings | None = None
    "Demonstrations that are at hand: cleaned likewise; their prompts and users are in no split."
    hygiene: Hygiene = Hygiene()
    shares: Mapping[str, Annotated[float, Ge(0)]] = field(
        default_factory=lambda: {"sft": 0.25, "reward": 0.35, "ppo": 0.4}
    )
    "The splits by name, with the share of the users in each; they add up to 1."
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.shares:
            check_name(name, "a split", f"shares.{name}")
            if f"{name}.jsonl" in (OUTPUT, f"{DEMONSTRATIONS}.jsonl"):
                raise ValueError(f"`shares` cannot name a split {name!r}: the stage writes such a file")


def run(config: Config, folder: Path, *, stop_requested: Callable[[], str]) -> Done:
    """`prompts.jsonl`, every prompt that stays, and `NAME.jsonl` of each split; E825 where one is empty."""
    shown = _demonstrations(config, folder)
    read = read_all(config.data, config.seed, folder / "quarantine.jsonl", ("prompts",))
    asked = [_bare(group) for group in read.groups]
    cleaned = _apart(clean(asked, config.hygiene, seed=config.seed), shown.groups if shown else [])
    splits = split_by_user(cleaned.groups, config.shares, seed=config.seed)
    _refuse_empty(splits, config.shares, cleaned)
    written = {"prompts": cleaned.groups, **splits, **({DEMONSTRATIONS: shown.groups} if shown else {})}
    for name, groups in written.items():
        write_jsonl(str(folder / f"{name}.jsonl"), groups)
    metrics = {"rows_in": float(read.rows_in), "quarantined": float(read.quarantined)}
    metrics |= _counts(cleaned) | {"users": float(len({g.user for g in cleaned.groups if g.user}))}
    metrics |= {f"split/{name}": float(len(groups)) for name, groups in splits.items()}
    if shown:
        metrics |= {f"demonstrations/{name}": count for name, count in _counts(shown).items()}
    meter = metering.Meter(folder)
    meter.write(0, metrics, phase="clean_prompts")
    return Done(output=OUTPUT, metrics=metrics, cost=vars(meter.spend(0, tokens_trained=0, tokens_sampled=0)))


def _demonstrations(config: Config, folder: Path) -> Cleaned | None:
    """The demonstrations that were given, cleaned; None where none were."""
    if config.demonstrations is None:
        return None
    bad = folder / f"quarantine-{DEMONSTRATIONS}.jsonl"
    read = read_all(config.demonstrations, config.seed, bad, (DEMONSTRATIONS,))
    cleaned = clean(list(read.groups), config.hygiene, seed=config.seed)
    if not cleaned.groups:
        raise TrueupError(
            "E825",
            f"no demonstration is left of {cleaned.num_in}: {_reasons(cleaned)}",
            where="demonstrations",
            remedy="give more, or change `hygiene`",
        )
    return cleaned


def _apart(cleaned: Cleaned, shown: Sequence[Group]) -> Cleaned:
    """The prompts without those of demonstrations, and without those of their users."""
    users = {group.user for group in shown if group.user}
    found = overlap(shown, cleaned.groups)
    reasons = dict.fromkeys((*found.same, *found.ngram), "asked in a demonstration")
    for place, group in enumerate(cleaned.groups):
        if group.user in users:
            reasons.setdefault(place, "its user is in the demonstrations")
    left = kept(cleaned.groups, reasons)
    return replace(cleaned, groups=left.groups, dropped={**cleaned.dropped, **left.dropped})


def _bare(group: Group) -> Group:
    return replace(group, completions=(), comparisons=(), rankings=(), scores=())


def _counts(cleaned: Cleaned) -> dict[str, float]:
    return {
        "kept": float(len(cleaned.groups)),
        **{f"dropped/{reason}": float(count) for reason, count in cleaned.dropped.items()},
        "personal_left": float(cleaned.marked),
    }


def _reasons(cleaned: Cleaned) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in cleaned.dropped.items()) or "none was read"


def _refuse_empty(
    splits: Mapping[str, Sequence[Group]], shares: Mapping[str, float], cleaned: Cleaned
) -> None:
    empty = [name for name, groups in splits.items() if not groups and shares[name] > 0]
    if empty:
        users = len({group.user or group.id for group in cleaned.groups})
        raise TrueupError(
            "E825",
            f"no prompt for {', '.join(empty)}: {len(cleaned.groups)} prompts of {users} users are left of "
            f"{cleaned.num_in} ({_reasons(cleaned)}), and a user is in one split alone",
            where="shares",
            remedy="give prompts of more users, or fewer splits",
        )
