"""Labels from a model: which of two answers follows a principle better, asked in both orders.

    Δ(a, b) = ½ [(log p(A) − log p(B))_{a shown first} − (log p(A) − log p(B))_{b shown first}]
    p(a ≻ b) = σ(Δ)

(Bai et al. 2022b, section 4.1, for labels read from log-probs.) The mean of the two orders' log-odds cancels
a constant preference for a place exactly: a model that always says A gives ½, and p(a ≻ b) + p(b ≻ a) = 1.
With several principles or chains of thought p is the mean over them; after reasoning, probabilities saturate
and are kept in [c, 1 − c], c = .4 in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from trueup.answerers import Answerer, Conversation
from trueup.constitution.principles import Constitution, Contest, Form
from trueup.engine.groups import Group, Message, Role
from trueup.engine.order import derive, permutation
from trueup.settings.forms import fill

if TYPE_CHECKING:
    from trueup.sources.sample import Decoding

Grade = Callable[[Group, str], Mapping[str, Any]]
"What a world's truth says of a completion, by name."
CLAMP = 0.4
"The paper's c for labels that were reasoned first; [.2, .8] did worse."
FARTHEST = 30.0
"Log-odds of a label that a server does not even list."


class Duel(NamedTuple):
    """Two answers to one prompt."""

    row: int
    prompt: Conversation
    a: str
    b: str


class Opinion(NamedTuple):
    """What a model says of a duel."""

    probability: float | None
    "P(a is better), clamped; None where the model named neither label."
    principles: tuple[str, ...]
    shown_first: tuple[float, ...]
    "P(a is better) with a shown first, for each principle and chain."
    shown_second: tuple[float, ...]
    "P(a is better) with b shown first."
    mass: float
    "Mean probability that the answer is a label at all."
    reasons: tuple[str, ...] = ()
    "The chains of thought, those with a shown first before the others, by principle."


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """A model that compares by a constitution."""

    answerer: Answerer
    constitution: Constitution
    form: Form = "chat"
    principles: int = 1
    "Principles drawn for each duel, without replacement; p is the mean over them."
    chains: int = 0
    "Chains of thought for each question; 0 asks for the label at once."
    clamp: float = 0.0
    examples: int = 4
    "Comparisons before the question, each under a principle of its own; fewer where they do not fit."
    reasoning: Decoding | None = None
    "How chains are drawn."
    seed: int = 0
    fits: Callable[[Conversation], bool] = lambda conversation: True
    "Whether the model has room for a conversation and its answer."

    def drawn(self, row: int) -> list[str]:
        """The ids of a row's principles: a function of the seed and the row alone."""
        found = self.constitution.criteria
        order = permutation(len(found), self.seed, "criterion", row)
        return [found[int(i)].id for i in order[: self.principles]]

    def judge(self, duels: Sequence[Duel]) -> list[Opinion]:
        """The opinion on each duel; chains depend on the places of the duels among each other."""
        questions = [
            self.question(duel, id, swapped=swapped)
            for duel in duels
            for id in self.drawn(duel.row)
            for swapped in (False, True)
        ]
        reasons = self._reasons(questions, duels[0].row if duels else 0)
        if reasons:
            questions = [
                self._after(question, chain)
                for question, chains in zip(questions, reasons, strict=True)
                for chain in chains
            ]
        labels = self.constitution.wording(self.form).labels
        found = self.answerer.logprobs(questions, [labels] * len(questions)) if questions else []
        each = len(questions) // len(duels) if duels else 0
        opinions = []
        for place, duel in enumerate(duels):
            said = [(float(pair[0]), float(pair[1])) for pair in found[place * each : (place + 1) * each]]
            chains = [
                c for chosen in reasons[place * self._asked : (place + 1) * self._asked] for c in chosen
            ]
            opinions.append(self._opinion(self.drawn(duel.row), said, tuple(chains)))
        return opinions

    @property
    def _asked(self) -> int:
        """Questions for each duel: every principle in both orders."""
        return 2 * min(self.principles, len(self.constitution.criteria))

    def question(self, duel: Duel, id: str, *, swapped: bool) -> Conversation:
        """The question by one principle, a shown first unless `swapped`, with as many examples as fit."""
        first, second = (duel.b, duel.a) if swapped else (duel.a, duel.b)
        own = self._asked_text(
            self.constitution.written(duel.prompt), first, second, id, reason=self.chains > 0
        )
        contests = self.constitution.contests[: self.examples]
        count = len(contests)
        said = self._with_examples(own, contests, duel.row)
        while count and not self._leaves_room(said):
            count -= 1
            said = self._with_examples(own, contests[:count], duel.row)
        return said

    def has_room(self, duel: Duel) -> bool:
        """Whether every question about the duel fits the model, without examples if need be."""
        ids = self.drawn(duel.row)
        return all(self._leaves_room(self.question(duel, id, swapped=s)) for id in ids for s in (False, True))

    def _leaves_room(self, question: Conversation) -> bool:
        """Whether the model has room for the question and, after reasons, for the one for the label."""
        return self.fits(self._after(question, "") if self.chains else question)

    def _asked_text(self, conversation: str, first: str, second: str, id: str, *, reason: bool) -> str:
        wording = self.constitution.wording(self.form)
        principle = next(c.text for c in self.constitution.criteria if c.id == id)
        parts = {"conversation": conversation, "first": first, "second": second, "principle": principle}
        return fill(wording.question, {**parts, "ask": wording.reasons if reason else wording.letter})

    def _with_examples(self, own: str, contests: Sequence[Contest], row: int) -> Conversation:
        labels, criteria = self.constitution.wording(self.form).labels, self.constitution.criteria
        shown: list[tuple[str, str]] = []
        for place, contest in enumerate(contests):
            id = criteria[derive(self.seed, "example", row, place) % len(criteria)].id
            asker = self.constitution.speaker("user") + contest.prompt
            asked = self._asked_text(asker, contest.first, contest.second, id, reason=False)
            shown.append((asked, labels[0 if contest.better == "first" else 1]))
        if self.form == "text":
            return (Message(Role.TEXT, "\n\n".join([*(asked + label for asked, label in shown), own])),)
        turns = [
            Message(role, text)
            for asked, label in shown
            for role, text in ((Role.USER, asked), (Role.ASSISTANT, label))
        ]
        return (*turns, Message(Role.USER, own))

    def _reasons(self, questions: list[Conversation], row: int) -> list[list[str]]:
        if not self.chains or not questions:
            return []
        if self.reasoning is None:
            raise ValueError("chains are to be drawn, and nothing says how")
        letter = self.constitution.wording(self.form).letter
        drawn = self.answerer.complete(
            questions,
            decoding=self.reasoning,
            k=self.chains,
            stop=(f"\n{letter}",) if self.form == "text" else (),
            seed=derive(self.seed, "reasons", row),
        )
        return [[answer.text.strip() for answer in answers] for answers in drawn]

    def _after(self, question: Conversation, reasons: str) -> Conversation:
        letter = self.constitution.wording(self.form).letter
        if self.form == "text":
            return (Message(Role.TEXT, f"{question[0].content} {reasons}\n{letter}"),)
        return (*question, Message(Role.ASSISTANT, reasons), Message(Role.USER, letter))

    def _opinion(
        self, ids: Sequence[str], said: Sequence[tuple[float, float]], reasons: tuple[str, ...]
    ) -> Opinion:
        """From log p of both labels: for each principle its chains with a first, then those with b first."""
        each = max(self.chains, 1)
        firsts: list[float] = []
        seconds: list[float] = []
        means: list[float] = []
        for start in range(0, len(said), 2 * each):
            for one, other in zip(
                said[start : start + each], said[start + each : start + 2 * each], strict=True
            ):
                if -math.inf in (max(one), max(other)):
                    continue  # A question that got no label decides nothing.
                ahead, behind = _log_odds(one), _log_odds(other)
                firsts.append(_sigmoid(ahead))
                seconds.append(_sigmoid(-behind))
                means.append(_sigmoid((ahead - behind) / 2))
        mean = sum(means) / len(means) if means else None
        kept = None if mean is None else min(max(mean, self.clamp), 1 - self.clamp)
        mass = sum(math.exp(a) + math.exp(b) for a, b in said) / len(said)
        return Opinion(kept, tuple(ids), tuple(firsts), tuple(seconds), min(mass, 1.0), reasons)


def _log_odds(logprobs: tuple[float, float]) -> float:
    return min(max(logprobs[0] - logprobs[1], -FARTHEST), FARTHEST)


def _sigmoid(x: float) -> float:
    """σ, written so that σ(x) + σ(−x) is 1 exactly."""
    return 0.5 + 0.5 * math.tanh(x / 2)


def agreement(groups: Sequence[Group], part: str, grade: Grade) -> tuple[float, int] | None:
    """How often labels prefer what a world's truth prefers, and over how many pairs; None without any.

    `part` is a number of the world's grade: `gold`, `harmless`, `helpful`. Pairs that it does not tell apart
    are left out; a label of ½ counts as half.
    """
    right: list[float] = []
    for group in groups:
        for c in group.comparisons:
            if c.probability is None:
                continue
            a, b = (grade(group, group.completions[i].text)[part] for i in (c.a, c.b))
            if a != b:
                right.append(0.5 if c.probability == 0.5 else float((c.probability > 0.5) == (a > b)))
    return (sum(right) / len(right), len(right)) if right else None
