"""What a run has to do: the method built without a model, its groups, the largest pass, and how many steps.

Rows are the run's own where they can be read. Otherwise, and for what a policy is yet to write, they are made
up: how long they are is then an assumption, and is said to be one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, final

import numpy as np

from trueup.engine.groups import Comparison, Completion, Group, Score
from trueup.engine.loop import plan
from trueup.engine.method import Handles, Method, Parts
from trueup.engine.order import span
from trueup.engine.packing import num_row_tokens, split
from trueup.errors import TrueupError
from trueup.models.opening import in_memory, model_path, open_chat
from trueup.runs.training import step_sizes
from trueup.settings.weights import model_folder
from trueup.sources.open import open_groups

LOOKED_AT = 64
"Steps whose passes are looked through for the largest, and whose tokens are averaged."
SAID = "said"
"What made-up tokens are taken to say: a step of a solution is judged by its text."
TABLES = {"teacher_distributions": 1}
"Columns of a row of numbers for each token, and how wide they are made here: one number stands for all."


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """A method and what it does in a step."""

    method: Method
    largest: tuple[Group, ...]
    "The groups of the largest pass, with a number for whatever the method reads."
    passes: int
    "How many passes the update has that holds it."
    groups: tuple[Group, ...]
    "Groups that stand for a step's: times are counted for them."
    groups_per_step: float
    steps: int | None
    "None where neither rows nor settings say."
    samples: int = 0
    "Completions that are written for each prompt."
    new_tokens: int = 0
    assumptions: tuple[str, ...] = ()
    parts: tuple[Parts, tuple[str, ...], bool]
    "What it was built from; a plan of other settings over the same rows takes it again."

    @property
    def pass_tokens(self) -> int:
        """Tokens in the row of the largest pass."""
        return sum(map(num_row_tokens, self.largest))


@final
@dataclass(frozen=True, kw_only=True)
class Rows:
    """How many rows there are, and of how many tokens, where they cannot be read."""

    num: int | None = None
    tokens: int | None = None


def work_of(
    module: ModuleType, config: Any, rows: Rows, parts: tuple[Parts, tuple[str, ...], bool] | None = None
) -> Work:
    """What a run of these settings does in a step, over `parts` that were read before where they are given.

    Raises E863 for what trains no network.
    """
    if "build" not in vars(module):
        raise TrueupError(
            "E863",
            "it trains no network, and what it takes is not planned",
            where=module.__name__.rpartition(".")[2],
            remedy="plan a method that trains: `trueup methods` lists them",
        )
    read_before = parts or _parts(module, config, rows)
    given, assumed, known = read_before
    method: Method = module.build(config, given)
    new = config.decoding.max_new_tokens if "sampled_logprobs" in method.source.writes else 0
    samples = _samples(config) if new else 0
    sizes = step_sizes(config.loop, method, len(given.groups)) if known or config.loop.steps else []
    drawn = list(_steps(method, config, given, len(sizes) or 1, samples, new))
    read = _read(method)
    passes = [(p, len(cut)) for step in drawn for cut in _cuts(method, step, config) for p in cut]
    largest, number = max(passes, key=lambda found: sum(map(num_row_tokens, found[0])))
    if new:
        assumed += (f"every completion takes all of its {new} new tokens",)
    return Work(
        method=method,
        largest=tuple(_filled(group, read, config) for group in largest),
        passes=number,
        groups=tuple(group for step in drawn for group in step),
        groups_per_step=sum(sizes) / len(sizes) if sizes else float(config.loop.batch),
        steps=len(sizes) or None,
        samples=samples,
        new_tokens=new,
        assumptions=assumed,
        parts=read_before,
    )


def _parts(module: ModuleType, config: Any, rows: Rows) -> tuple[Parts, tuple[str, ...], bool]:
    """What the method is built from, what was assumed for it, and whether the number of rows is known."""
    needs = vars(module).get("NEEDS", ())
    if rows.num is None and rows.tokens is None and _has_tokenizer(config.model.path):
        chat = open_chat(config.model)
        opened = open_groups(config.data, chat, seed=config.seed, needs=needs)
        parts = Parts(
            groups=opened.train,
            held_out=(),
            decode=chat.decode,
            stop_ids=chat.stop_ids,
            prompt_ids=chat.prompt_ids,
            more=lambda settings: open_groups(settings, chat, seed=config.seed).train,
        )
        return parts, (), True
    tokens = rows.tokens or config.data.max_tokens
    num = rows.num or max(2, config.loop.batch)
    two = [_made_up(i, needs, tokens) for i in range(2)]
    made = (two * -(-num // 2))[:num]
    parts = Parts(
        groups=made,
        held_out=(),
        decode=lambda ids: SAID if len(ids) else "",
        stop_ids=(0,),
        prompt_ids=lambda messages: np.zeros(max(1, tokens // 2), np.int32),
        more=lambda settings: [_made_up(i, ("demonstrations",), settings.max_tokens) for i in range(2)],
    )
    why = "" if rows.tokens else ", the longest that data.max_tokens lets in"
    shape = f"a prompt of {tokens - tokens // 2} tokens and completions of {tokens // 2}"
    said = (
        f"every row has {shape}{why}" if "sampling" not in needs else f"every prompt has {tokens} tokens{why}"
    )
    return parts, (said,), rows.num is not None


def _has_tokenizer(reference: str) -> bool:
    if in_memory(reference) is not None:
        return True
    folder = Path(model_folder(model_path(reference)))
    if not folder.is_dir():
        return True  # an id, or a GGUF file, which holds its own
    kinds = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "merges.txt", "adapter_config.json")
    return any(next(folder.glob(kind), None) for kind in kinds)


def _made_up(number: int, needs: Sequence[str], tokens: int) -> Group:
    """A row of a kind that the method learns from: half of its tokens the prompt, half each completion."""
    half = max(1, tokens // 2)
    text = Completion(text="", tokens=np.zeros(half, np.int32))
    prompt = np.zeros(max(1, tokens - half), np.int32)
    if "sampling" in needs:
        return Group(prompt=(), prompt_tokens=np.zeros(max(1, tokens), np.int32), completions=(text,))
    if "comparisons" in needs:
        chosen = (Comparison(a=0, b=1, choice="a"),)
        return Group(prompt=(), prompt_tokens=prompt, completions=(text, text), comparisons=chosen)
    if "labels" in needs:
        scores = (Score(completion=0, value=float(number % 2), judge="label"),)
        return Group(prompt=(), prompt_tokens=prompt, completions=(text,), scores=scores)
    if "steps" in needs:
        judged = {"steps": [[{"text": SAID, "label": True}]]}
        return Group(prompt=(), prompt_tokens=prompt, completions=(text,), meta=judged)
    return Group(prompt=(), prompt_tokens=prompt, completions=(text,))


def _samples(config: Any) -> int:
    """Completions for each prompt, by the setting that says so: `num_completions`, `k`."""
    return int(getattr(config, "num_completions", None) or getattr(config, "k", None) or 1)


def _steps(
    method: Method, config: Any, parts: Parts, steps: int, samples: int, new: int
) -> Iterator[Sequence[Group]]:
    """The groups of the run's first steps: the source's own, or its prompts with made-up completions."""
    epochs = None if config.loop.steps is not None else config.loop.epochs
    handles = Handles(networks={}, seed=config.seed, epochs=epochs)
    for step in range(min(LOOKED_AT, steps)):
        if not new:
            yield method.source(step, handles)
            continue
        places = span(len(parts.groups), config.loop.batch, step, epochs)
        yield [_written(parts.groups[i % len(parts.groups)], samples, new) for i in places]


def _written(prompt: Group, samples: int, new: int) -> Group:
    text = Completion(text="", tokens=np.zeros(new, np.int32))
    chosen = (Comparison(a=0, b=1, choice="a"),) if samples > 1 else ()
    return replace(prompt, completions=(text,) * samples, comparisons=chosen, rankings=(), scores=())


def _cuts(method: Method, groups: Sequence[Group], config: Any) -> Iterator[list[list[Group]]]:
    """The passes of each of a step's updates."""
    for indices in plan(len(groups), method, config.seed, 0):
        yield list(split([groups[i] for i in indices], config.loop.microbatch_tokens))


def _read(method: Method) -> frozenset[str]:
    return method.objective.reads.union(*(beside.objective.reads for beside in method.beside))


def _filled(group: Group, names: frozenset[str], config: Any) -> Group:
    """The group with a column and a mark of each name: what earlier stages would have written."""
    k = getattr(config, "top_k", None) or 1
    wide = {**TABLES, "listed_ids": k, "teacher_listed": k + 1}
    filled = []
    for completion in group.completions:
        count = completion.num_supervised
        absent = names - completion.columns.keys() - completion.marks.keys()
        columns = {n: np.zeros((count, wide[n]) if n in wide else count) for n in absent}
        filled.append(completion.with_columns(**columns).with_marks(**dict.fromkeys(absent, 1.0)))
    return group.with_completions(filled)


def tables(work: Work, vocabulary: int, itemsize: int) -> int:
    """Bytes of a whole distribution for each token of the largest pass, where the method reads one."""
    tokens = sum(c.num_supervised for group in work.largest for c in group.completions)
    return tokens * vocabulary * itemsize * len(_read(work.method) & TABLES.keys())
