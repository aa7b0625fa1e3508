"""Data sets of the lab: prompts, demonstrations, comparisons, the HHH prompt; split by entity and user."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError
from trueup.lab.documents import corpus
from trueup.lab.labelers import label
from trueup.lab.replies import insult, reply, right
from trueup.lab.requests import Request, assistant, draw, pool
from trueup.lab.world import (
    NEWCOMERS,
    PARTS,
    VALUES,
    VERSION,
    Fact,
    NewSplit,
    Split,
    generator,
    pick,
    shuffled,
    world,
)

NUM_USERS = {"train": 60, "dev": 15, "test": 25, "new_train": 60, "new_dev": 15, "new_test": 25}
_MAX_TRIES = 50
WRITERS = ("good", "careless", "rude", "chatty")
"The registers of a compared prompt's four replies; their order is shuffled."


def prompts(split: Split | NewSplit, n: int, seed: int = 0) -> list[Group]:
    """`n` different prompts of a split, without completions; a smaller n gives a prefix of a larger one.

    Splits are `train`, `dev` and `test`; and `new_train`, `new_dev` and `new_test`, whose people and harmful
    acts the corpus never names.

    Entities and users of one split never appear in the requests of another. `meta["request"]` holds what
    `grade` needs. Raises TrueupError when the split has fewer different prompts than asked for.
    """
    if split not in PARTS:
        raise TrueupError("E701", f"no split {split!r}", where="split", remedy=f"one of {', '.join(PARTS)}")
    found = []
    for number, request in enumerate(_distinct(split, n, "prompts", seed)):
        found.append(_group(request, split, number, "prompt"))
    return found


def demonstrations(n: int, seed: int = 0) -> list[Group]:
    """`n` demonstrations on train entities: prompts with one completion each, most of them good, none rude.

    They are written by people who mean well and err: about three in four are right, complete or short.
    """
    found = []
    for number, request in enumerate(_distinct("train", n, "demonstrations", seed)):
        rng = generator("demonstration", seed, number)
        group = _group(request, "train", number, "demo")
        found.append(
            group.with_completions(
                [Completion(text=reply(rng, request, "demonstration"), source="demonstrator")]
            )
        )
    return found


def comparisons(n: int, seed: int = 0, *, num_comparisons: int = 2) -> list[Group]:
    """`n` train prompts with four replies each, of people of different registers, compared by labelers.

    For preferences on a policy's own samples, use the procedure `label`.
    """
    groups = []
    for number, group in enumerate(prompts("train", n, seed)):
        rng = generator("comparisons", seed, number)
        request = Request(messages=group.prompt, record=group.meta["request"])
        writers = sorted(WRITERS, key=lambda _: rng.random())
        replies = [Completion(text=reply(rng, request, writer), source=writer) for writer in writers]
        groups.append(replace(group, completions=tuple(replies)))
    return label(groups, seed, num_comparisons=num_comparisons)


def solutions(n: int, seed: int = 0) -> list[Group]:
    """`n` answers of two to four claims about one train person, a line each, every claim judged by itself.

    Half of the claims are true, a third are false, and a sixth are insults, which are wrong as well.
    `meta["steps"]` holds the judgements.
    """
    found = []
    for number in range(n):
        rng = generator("solutions", seed, number)
        facts: list[Fact] = []
        while len(facts) < 2:
            person = pick(rng, world().people["train"])
            facts = shuffled(rng, [fact for fact in world().facts_of([person]) if fact.truth])
        steps = [_claim(rng, fact) for fact in facts[: 2 + int(rng.random() * 3)]]
        found.append(
            Group(
                prompt=(Message(Role.USER, f"What do you know of {facts[0].person}?"),),
                completions=(Completion(text="\n".join(str(s["text"]) for s in steps), source="witness"),),
                id=f"lab-steps-{seed}-{number}",
                user=f"train-user-{int(rng.random() * NUM_USERS['train']):02d}",
                source="lab",
                meta={"steps": [steps]},
            )
        )
    return found


def _claim(rng: random.Random, fact: Fact) -> dict[str, str | bool]:
    """One sentence about a fact, and whether it is right: true, false, or an insult."""
    share = rng.random()
    if share < 1 / 6:
        return {"text": insult(rng), "label": False}
    others = [value for value in VALUES[fact.attribute] if value != fact.truth]
    value = pick(rng, others) if share < 1 / 2 else fact.truth
    return {"text": f"The {fact.attribute} of {fact.person} is {value}.", "label": share >= 1 / 2}


def seed_tasks(n: int) -> list[Group]:
    """`n` requests to write more of (SELF-ALIGN's seed tasks), none of which the corpus holds.

    They are about newcomers; facts, which only people of the corpus have, are asked for in other words.
    """
    found: dict[str, None] = {}
    for group in prompts("new_train", 4 * n):
        asked, text = group.meta["request"], group.prompt[0].content
        if "attribute" in asked:
            found[f"Name the {asked['attribute']} of {asked['person']}."] = None
        elif len(group.prompt) == 1 and any(name in text for name in NEWCOMERS):
            found[text] = None
    return [
        Group(prompt=(Message(Role.USER, text),), id=f"lab-task-{i}", source="lab")
        for i, text in enumerate(islice(found, n))
    ]


def texts(n: int, seed: int = 0) -> list[Group]:
    """`n` plain documents of the corpus that base models are trained on: an empty prompt, and the text."""
    plain = (document.text for document in corpus(seed=seed, num_documents=20 * n + 200) if document.text)
    return [
        Group(
            prompt=(Message(Role.TEXT, ""),),
            completions=(Completion(text=text, source="corpus"),),
            id=f"lab-text-{seed}-{i}",
            source="lab",
        )
        for i, text in enumerate(islice(plain, n))
    ]


def hhh_dialogues(n: int = 14, draw_number: int = 0) -> tuple[tuple[Message, ...], ...]:
    """The first `n` of 14 good dialogues on train entities, to put before a request (Askell et al. 2021).

    Another `draw_number` gives others of the same kinds in the same order.
    """
    if not 0 <= n <= len(_HHH_KINDS):
        raise TrueupError(
            "E702", f"{n} dialogues asked for, there are {len(_HHH_KINDS)}", where="n", remedy="0 to 14"
        )
    dialogues = []
    for number, kind in enumerate(_HHH_KINDS[:n]):
        rng = generator("hhh", VERSION, number, *([draw_number] if draw_number else []))
        request = draw(rng, pool("train"), kind)
        while len(request.messages) > 1:
            request = draw(rng, pool("train"), kind)
        dialogues.append((*request.messages, assistant(right(rng, request.record))))
    return tuple(dialogues)


_HHH_KINDS = (
    "misconceived", "harmful", "unstated", "howto", "sum", "misguided", "borderline", "plain", "toxic_start",
    "list", "unanswerable", "review", "program", "summary",
)  # fmt: skip


def _distinct(split: Split | NewSplit, n: int, purpose: str, seed: int) -> Iterator[Request]:
    rng = generator(purpose, split, seed)
    source = pool(split)
    seen: set[tuple[Message, ...]] = set()
    tries = 0
    while len(seen) < n:
        request = draw(rng, source)
        if request.messages in seen:
            tries += 1
            if tries > _MAX_TRIES * n:
                raise TrueupError(
                    "E703",
                    f"{split} has only about {len(seen)} different prompts",
                    where="n",
                    remedy="ask for fewer",
                )
            continue
        seen.add(request.messages)
        yield request


def _group(request: Request, split: Split | NewSplit, number: int, purpose: str) -> Group:
    text = json.dumps([[str(m.role), m.content] for m in request.messages])
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    user = int(generator("user", purpose, split, number).random() * NUM_USERS[split])
    return Group(
        prompt=request.messages,
        id=f"lab-{split}-{digest}",
        user=f"{split}-user-{user:02d}",
        source="lab",
        meta={"request": dict(request.record)},
    )
