"""Judges of battles: a language model in both orders, anything that scores, people. What was said is kept.

`verdicts.jsonl` has a line for each verdict of a judge who compares, and one for all scores of a prompt of a
judge who scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from trueup.battles import people
from trueup.battles.journal import add_rows, rows_of
from trueup.battles.settings import PEOPLE
from trueup.battles.table import Bench, Duel, Game, Verdict
from trueup.engine.groups import Score
from trueup.errors import TrueupError
from trueup.judges import Judge
from trueup.judges.language_model import PREFIX, PairwiseJudge, can_compare, open_pairwise
from trueup.judges.open import behind, open_judge

FILE = "verdicts.jsonl"
_Key = tuple[str, str, int, str, str]


@dataclass(kw_only=True, eq=False)
class Judges:
    """Everybody who judges, with what they said before."""

    bench: Bench
    folder: Path
    _said: dict[_Key, Verdict] = field(default_factory=dict)
    _scores: dict[tuple[str, str], Mapping[str, Sequence[float]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reads what was kept."""
        for row in rows_of(self.folder / FILE):
            if "scores" in row:
                self._scores[row["judge"], row["prompt"]] = row["scores"]
            else:
                games = tuple(Game(*game) for game in row["games"])
                verdict = Verdict(judge=row["judge"], games=games, alike=row["alike"])
                self._said[row["judge"], row["prompt"], row["sample"], row["a"], row["b"]] = verdict
        self._open = {name: _Opened(ref) for name, ref in self.bench.config.by.items()}

    def ask(self, duels: Sequence[Duel], number: int) -> list[tuple[Verdict, ...]] | str:
        """Every judge's verdict on each duel of round `number`; where people are waited for, what they do."""
        by: dict[str, list[Verdict]] = {}
        for name in sorted(self._open, key=self._waits):
            found = self._of(name, duels, number)
            if isinstance(found, str):
                return found
            by[name] = found
        return list(zip(*(by[name] for name in self._open), strict=True))

    def scores(self) -> dict[int, list[Score]]:
        """What judges who score gave, by the prompt's place, on the completions of `Bench.all`."""
        place = {group.id: at for at, group in enumerate(self.bench.prompts)}
        found: dict[int, list[Score]] = {}
        for (judge, prompt), by_model in self._scores.items():
            if prompt in place:
                found.setdefault(place[prompt], []).extend(
                    Score(completion=self.bench.place(name, sample), value=value, judge=judge)
                    for name, values in by_model.items()
                    for sample, value in enumerate(values)
                )
        return found

    def _waits(self, name: str) -> bool:
        return self._open[name].reference == PEOPLE

    def _of(self, name: str, duels: Sequence[Duel], number: int) -> list[Verdict] | str:
        """One judge's verdicts; of people, what is to be done where some are missing."""
        opened = self._open[name]
        if opened.compares:
            new = [duel for duel in duels if self._key(name, duel) not in self._said]
            alike = [duel for duel in new if self._is_alike(duel)]
            asked = [duel for duel in new if not self._is_alike(duel)]
            made = {duel: _tie(name, opened.reference, duel) for duel in alike}
            if asked and opened.reference == PEOPLE:
                answered = people.ask(self.bench, asked, self.folder, name, number)
                if isinstance(answered, str):
                    return answered
                made |= answered
            elif asked:
                made |= self._compared(name, opened.pairwise, asked)
            self._keep(name, {duel: made[duel] for duel in new})
            return [self._said[self._key(name, duel)] for duel in duels]
        self._score(name, duels)
        return [self._better(name, duel) for duel in duels]

    def _key(self, judge: str, duel: Duel) -> _Key:
        return judge, self.bench.prompts[duel.prompt].id, duel.sample, duel.a, duel.b

    def _is_alike(self, duel: Duel) -> bool:
        one, other = self.bench.two(duel).completions
        return one.said == other.said

    def _compared(self, name: str, judge: PairwiseJudge, duels: Sequence[Duel]) -> dict[Duel, Verdict]:
        found = {}
        for duel, said in zip(duels, judge.compare([(self.bench.two(d), 0, 1) for d in duels]), strict=True):
            both = said.shown_first, said.shown_second
            games = [Game(side, _win(p)) for side, p in zip(("a", "b"), both, strict=True) if p is not None]
            # No order stands for the other.
            found[duel] = Verdict(judge=name, games=tuple(games) if len(games) == 2 else ())
        return found

    def _keep(self, name: str, made: Mapping[Duel, Verdict]) -> None:
        rows = []
        for duel, verdict in made.items():
            self._said[self._key(name, duel)] = verdict
            keys = ("judge", "prompt", "sample", "a", "b")
            row: dict[str, Any] = dict(zip(keys, self._key(name, duel), strict=True))
            rows.append(row | {"games": [list(game) for game in verdict.games], "alike": verdict.alike})
        if rows:
            add_rows(self.folder / FILE, rows)

    def _score(self, name: str, duels: Sequence[Duel]) -> None:
        """Nothing; the scores of all answers to the prompts of some duels are there."""
        places = dict.fromkeys(d.prompt for d in duels)
        new = [p for p in places if (name, self.bench.prompts[p].id) not in self._scores]
        if not new:
            return
        k, names, rows = self.bench.config.samples, self.bench.names, []
        for place, values in zip(new, self._open[name].scorer([self.bench.all(p) for p in new]), strict=True):
            if not all(map(math.isfinite, values)):
                raise TrueupError(
                    "E901",
                    "a score is not finite",
                    where=f"judge {name}, prompt {self.bench.prompts[place].id}",
                    remedy="repair the judge, or leave it out",
                )
            by_model = {n: [float(v) for v in values[at * k : at * k + k]] for at, n in enumerate(names)}
            rows.append({"judge": name, "prompt": self.bench.prompts[place].id, "scores": by_model})
        add_rows(self.folder / FILE, rows)
        self._scores |= {(row["judge"], row["prompt"]): row["scores"] for row in rows}

    def _better(self, name: str, duel: Duel) -> Verdict:
        scores = self._scores[name, self.bench.prompts[duel.prompt].id]
        a, b = scores[duel.a][duel.sample], scores[duel.b][duel.sample]
        return Verdict(judge=name, games=(Game("", 0.5 if a == b else float(a > b)),))


@dataclass(eq=False)
class _Opened:
    """A judge by its reference, opened when it is first asked."""

    reference: str

    @cached_property
    def _behind(self) -> str:
        """The language model to which it leads; "" where it leads to none."""
        found = behind(self.reference)
        return found if isinstance(found, str) and found.startswith(PREFIX) else ""

    @property
    def compares(self) -> bool:
        """Whether it is people, or a language model, unless its wording gives scores alone."""
        return self.reference == PEOPLE or (bool(self._behind) and can_compare(self._behind))

    @cached_property
    def pairwise(self) -> PairwiseJudge:
        return open_pairwise(self._behind)

    @cached_property
    def scorer(self) -> Judge:
        return open_judge(self.reference)


def _tie(judge: str, reference: str, duel: Duel) -> Verdict:
    games = (Game(duel.first, 0.5),) if reference == PEOPLE else (Game("a", 0.5), Game("b", 0.5))
    return Verdict(judge=judge, games=games, alike=True)


def _win(probability: float) -> float:
    """The choice that a probability is."""
    return 0.5 if probability == 0.5 else float(probability > 0.5)


def check_by(by: Mapping[str, str]) -> None:
    """Nothing; raises E435 where two judges are people."""
    if sum(reference == PEOPLE for reference in by.values()) > 1:
        raise TrueupError(
            "E435",
            "people are named twice",
            where="by",
            remedy="one `--by people`: each person fills in a copy of the form with their name in its own",
        )
