"""What each model answered to each prompt: sampled once, kept in the battle's folder as it comes.

`answers/NAME.jsonl` holds groups: a prompt, and the completions of one model, which is their source. A
stretch of prompts is asked at a time; a sample depends on the seed, the model's name, its prompt's place in
the stretch and its own place, so it does not matter where a battle was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trueup.answerers.open import open_answerer
from trueup.battles.journal import add_rows, rows_of
from trueup.battles.settings import Config
from trueup.engine import disk
from trueup.engine.groups import Completion, Group, from_json, readable, to_json
from trueup.engine.order import derive, permutation
from trueup.errors import TrueupError, counted
from trueup.settings.weights import model_folder
from trueup.sources.sample import Decoding

STRETCH = 16
"Prompts that are asked at a time."
FOLDER = "answers"


def taken(prompts: Sequence[Group], config: Config) -> list[Group]:
    """The prompts of a battle, in its order, each under a name of its own and without what it had beside.

    Raises E434 where there is none.
    """
    if not prompts:
        place = config.prompts or config.world
        raise TrueupError("E434", "no prompts", where=place, remedy="give a file that has some")
    order = permutation(len(prompts), config.seed, "battle prompts")[: config.num_prompts]
    chosen = [(int(place), prompts[int(place)]) for place in order]
    count = {group.id: 0 for _, group in chosen}
    for _, group in chosen:
        count[group.id] += 1
    return [
        Group(
            prompt=group.prompt,
            id=group.id if group.id and count[group.id] == 1 else f"prompt:{place + 1}",
            user=group.user,
            source=group.source,
            meta=group.meta,
        )
        for place, group in chosen
    ]


def answers_of(
    name: str,
    config: Config,
    prompts: Sequence[Group],
    folder: Path,
    *,
    say: Callable[[str], None],
    between: Callable[[], None],
) -> list[tuple[Completion, ...]]:
    """The answers of one model to each prompt; those that are not kept yet are sampled now.

    `between` is called between stretches, and ends the work by what it raises.
    """
    path = folder / FOLDER / f"{name}.jsonl"
    disk.make_folder(path.parent)
    rows = rows_of(path)
    kept = rows[: len(rows) // STRETCH * STRETCH] if len(rows) < len(prompts) else rows
    if len(kept) < len(rows):
        # Half a stretch would be asked with other neighbours; it is asked again whole.
        ends = path.read_bytes().splitlines(keepends=True)[: len(kept)]
        disk.cut(path, sum(map(len, ends)))
    found = [from_json(row) for row in kept]
    if len(found) < len(prompts):
        say(f"{name} answers {counted(len(prompts) - len(found), 'prompt')}")
        found += _sampled(name, config, prompts, len(found), path, between)
    return [group.completions for group in found]


def _sampled(
    name: str,
    config: Config,
    prompts: Sequence[Group],
    begin: int,
    path: Path,
    between: Callable[[], None],
) -> list[Group]:
    answerer = open_answerer(model_folder(config.models[name]), template=config.template)
    decoding = Decoding(
        temperature=config.temperature or 1.0,
        greedy=config.temperature == 0,
        max_new_tokens=config.max_new_tokens,
    )
    found: list[Group] = []
    for start in range(begin, len(prompts), STRETCH):
        between()
        stretch = prompts[start : start + STRETCH]
        seed = derive(config.seed, "answers", name, start // STRETCH)
        drawn = answerer.complete(
            [group.prompt for group in stretch], decoding=decoding, k=config.samples, seed=seed
        )
        groups = [
            group.with_completions([readable(answer.completion(name)) for answer in answers])
            for group, answers in zip(stretch, drawn, strict=True)
        ]
        add_rows(path, map(to_json, groups))
        found += groups
    return found
