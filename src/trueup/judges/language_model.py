"""A language model as a judge of two completions, in both orders always, or of one.

    p(a ≻ b) = (p_ab(first) + p_ba(second)) / 2

where p_ab is the reading with a shown first and p_ba the one with b shown first (Bai et al. 2022b for labels
read from log-probs; Zheng et al. 2023 for the bias of position). So p(a ≻ b) + p(b ≻ a) = 1, and a judge that
always names the first gives exactly 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal, NamedTuple, final
from urllib.parse import parse_qsl

import numpy as np

from trueup.answerers import Answerer
from trueup.answerers.open import SERVER, open_answerer
from trueup.engine.groups import Comparison, Group
from trueup.engine.order import permutation
from trueup.errors import TrueupError, counted
from trueup.judges import by_group
from trueup.judges.wording import Reader, Reading, Wording, conversation_text, read_wording

PREFIX = "lm:"
_OPTIONS: dict[str, type[str] | type[int] | type[float]] = {
    "prompt": str,
    "read": str,
    "principle": str,
    "votes": int,
    "max_tokens": int,
    "clamp": float,
    "seed": int,
    "device": str,
    "template": str,
}


class Verdict(NamedTuple):
    """What the two orders said of completions a and b; None where an answer could not be read."""

    shown_first: float | None
    "P(a is better) with a shown first."
    shown_second: float | None
    "P(a is better) with b shown first."
    probability: float | None
    "Their mean, clamped; None unless both could be read: no order stands for the other."
    mass: float
    "Mean probability that an answer was a label at all."

    @property
    def consistent(self) -> bool | None:
        """Whether both orders favour the same completion, or neither; None where one could not be read."""
        if self.shown_first is None or self.shown_second is None:
            return None
        return bool(np.sign(self.shown_first - 0.5) == np.sign(self.shown_second - 0.5))


class Account(NamedTuple):
    """What became of the pairs that a judge was given."""

    pairs: int
    "Pairs of different texts that were judged, in both orders."
    identical: int
    "Pairs of equal texts: there is nothing to choose, so they are left out."
    unread: int
    "Judged pairs that got no label, because an answer named neither completion."
    inconsistent: float
    "Of the pairs read in both orders, the share whose orders favour different completions."
    mass: float
    "Mean probability that an answer was a label at all; far below 1 the judge does not answer the question."

    def metrics(self) -> dict[str, float]:
        """The numbers as a run logs them."""
        return {f"judge/{name}": float(value) for name, value in self._asdict().items()}


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PairwiseJudge:
    """Compares completions.

    `clamp` c keeps every label in [c, 1 − c]; Bai et al. 2022b use .4 for verdicts that were reasoned first.
    """

    reader: Reader
    name: str
    clamp: float = 0.0

    def compare(self, duels: Sequence[tuple[Group, int, int]]) -> list[Verdict]:
        """The verdict on completions (a, b) of each group."""
        questions = []
        for group, a, b in duels:
            said = conversation_text(group.prompt)
            texts = group.completions[a].said, group.completions[b].said
            for first, second in (texts, texts[::-1]):
                questions.append(self.reader.question(conversation=said, first=first, second=second))
        readings = self.reader.ask(questions) if questions else []
        return [self._verdict(ab, ba) for ab, ba in zip(readings[::2], readings[1::2], strict=True)]

    def _verdict(self, ab: Reading, ba: Reading) -> Verdict:
        first = None if ab.shares is None else float(ab.shares[0])
        other = None if ba.shares is None else float(ba.shares[0])
        mean = None
        if first is not None and other is not None:
            # Written so that equal readings of the first place give exactly 1/2.
            mean = min(max(0.5 + (first - other) / 2, self.clamp), 1 - self.clamp)
        return Verdict(first, None if other is None else 1 - other, mean, (ab.mass + ba.mass) / 2)

    def label(
        self,
        groups: Sequence[Group],
        *,
        num_comparisons: int = 0,
        orders: Literal["averaged", "apart"] = "averaged",
        seed: int = 0,
    ) -> tuple[list[Group], Account]:
        """The groups with comparisons added, of `num_comparisons` pairs each (0: of all), and an account.

        averaged   one comparison a pair with the soft label `probability`
        apart      one plain choice for each order, with what was shown first: battles for `trueup rank`
        """
        duels: list[tuple[int, int, int]] = []
        identical = 0
        for place, group in enumerate(groups):
            texts = [c.said for c in group.completions]
            pairs = list(combinations(range(len(texts)), 2))
            distinct = [(a, b) for a, b in pairs if texts[a] != texts[b]]
            identical += len(pairs) - len(distinct)
            order = permutation(len(distinct), seed, "duels", group.id or place)
            kept = sorted(order[: num_comparisons or len(distinct)].tolist())
            duels += [(place, *distinct[i]) for i in kept]
        verdicts = self.compare([(groups[g], a, b) for g, a, b in duels])
        found: list[list[Comparison]] = [[] for _ in groups]
        for (g, a, b), verdict in zip(duels, verdicts, strict=True):
            found[g] += self._comparisons(a, b, verdict, orders)
        labelled = [
            replace(group, comparisons=(*group.comparisons, *made))
            for group, made in zip(groups, found, strict=True)
        ]
        return labelled, _account(verdicts, identical)

    def _comparisons(self, a: int, b: int, verdict: Verdict, orders: str) -> list[Comparison]:
        if verdict.probability is None or verdict.shown_first is None or verdict.shown_second is None:
            return []
        if orders == "averaged":
            choice, p = choice_of(verdict.probability), verdict.probability
            return [Comparison(a=a, b=b, choice=choice, probability=p, labeler=self.name)]
        return [
            Comparison(a=a, b=b, choice=choice_of(p), shown=shown, labeler=self.name)
            for p, shown in ((verdict.shown_first, (a, b)), (verdict.shown_second, (b, a)))
        ]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class PointwiseJudge:
    """Scores completions one at a time: Σ_i value_i · share_i over the wording's labels (Liu et al. 2023)."""

    reader: Reader
    name: str

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The scores. Raises E798 where answers could not be read: a score is never made up."""
        questions = [
            self.reader.question(conversation=conversation_text(group.prompt), completion=completion.said)
            for group in groups
            for completion in group.completions
        ]
        readings = self.reader.ask(questions) if questions else []
        unread = sum(reading.shares is None for reading in readings)
        if unread:
            raise TrueupError(
                "E798",
                f"{unread} of {counted(len(readings), 'answer names', 'answers name')} none of the labels "
                f"{self.reader.wording.labels}",
                where=f"judge {self.name}",
                remedy="use another model or wording: #prompt=FILE.yaml",
            )
        values = np.array(self.reader.wording.values)
        return by_group(groups, [float(r.shares @ values) for r in readings if r.shares is not None])


def open_pairwise(ref: str, answerer: Answerer | None = None) -> PairwiseJudge:
    """The judge of `lm:ANSWERER#option=value&...`, to compare; see docs/judges.md for the options.

    `answerer` stands for the one that is named, if given. Raises E792 for options that cannot be meant.
    """
    reader, name, clamp = _open(ref, "compare", answerer)
    if not reader.wording.compares:
        reason = "a wording that compares has two labels, and shows {first} and {second}"
        raise _refused(ref, reason, "repair it, or let it score")
    return PairwiseJudge(reader=reader, name=name, clamp=clamp)


def open_pointwise(ref: str, answerer: Answerer | None = None) -> PointwiseJudge:
    """The judge of `lm:ANSWERER#option=value&...`, to score; as `open_pairwise`."""
    reader, name, _ = _open(ref, "score", answerer)
    if not reader.wording.scores:
        reason = "a wording that scores has a value for each label, and shows {completion}"
        raise _refused(
            ref, reason, "repair it, or let it compare: `trueup measure --against`, `trueup battle`"
        )
    return PointwiseJudge(reader=reader, name=name)


def can_compare(ref: str) -> bool:
    """Whether the judge of `lm:...` can compare: unless a wording is named that does not."""
    wording = _named_wording(ref)
    return wording is None or wording.compares


def can_score(ref: str) -> bool:
    """Whether the judge of `lm:...` can score: unless a wording is named that does not."""
    wording = _named_wording(ref)
    return wording is None or wording.scores


def _named_wording(ref: str) -> Wording | None:
    named = _options(ref, ref.partition("#")[2]).get("prompt")
    return None if named is None else read_wording(named)


def _open(ref: str, wording: str, answerer: Answerer | None) -> tuple[Reader, str, float]:
    who, _, query = ref.removeprefix(PREFIX).partition("#")
    options = _options(ref, query)
    template = options.pop("template", None)
    device = options.pop("device", "auto")
    if answerer is None:
        answerer = open_answerer(who, device=device, template=template, fold=True)
    clamp = options.pop("clamp", 0.0)
    default = wording if _chats(who, answerer) else f"{wording}_text"
    reader = Reader(
        answerer=answerer,
        wording=read_wording(options.pop("prompt", default)),
        **options,
    )
    return reader, f"{PREFIX}{answerer.name}", clamp


def _chats(who: str, answerer: Answerer) -> bool:
    """Whether it takes conversations: every server does, and a model that has a chat template."""
    chat = getattr(answerer, "chat", None)
    return who.startswith(SERVER) or chat is None or chat.layout is not None


def _options(ref: str, query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise _refused(ref, f"no option {name!r}", f"there are {', '.join(_OPTIONS)}")
        try:
            found[name] = _OPTIONS[name](text)
        except ValueError:
            raise _refused(ref, f"{text!r} is no {_OPTIONS[name].__name__}", f"repair {name}=") from None
    if found.get("read", "text") not in ("logprobs", "text"):
        raise _refused(ref, f"read cannot be {found['read']!r}", "read=logprobs or read=text")
    if min(found.get("votes", 1), found.get("max_tokens", 1)) < 1 or not 0 <= found.get("clamp", 0) < 0.5:
        raise _refused(ref, "votes, max_tokens or clamp out of range", "1 or more; clamp below 0.5")
    return found


def _account(verdicts: Sequence[Verdict], identical: int) -> Account:
    known = [v.consistent for v in verdicts if v.consistent is not None]
    return Account(
        pairs=len(verdicts),
        identical=identical,
        unread=sum(v.probability is None for v in verdicts),
        inconsistent=1 - sum(known) / len(known) if known else 0.0,
        mass=float(np.mean([v.mass for v in verdicts])) if verdicts else 0.0,
    )


def choice_of(p: float) -> Literal["a", "b", "tie"]:
    """The choice that P(a is better) stands for."""
    return "tie" if p == 0.5 else "a" if p > 0.5 else "b"


def _refused(ref: str, reason: str, remedy: str) -> TrueupError:
    # A server's options are not shown: a key may stand there in place of its variable's name.
    return TrueupError("E792", reason, where=f"judge {ref.partition('?')[0]}", remedy=remedy)
