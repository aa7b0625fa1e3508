"""Who met whom: the battles of two answers, what judges said of them, and the battles to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from trueup.battles.settings import Config
from trueup.engine.groups import Comparison, Completion, Group, Score
from trueup.engine.order import derive
from trueup.ratings.battle import Battle
from trueup.ratings.pairing import all_pairs, next_pairs, posterior
from trueup.ratings.style import style_of

Side = Literal["a", "b"]


class Duel(NamedTuple):
    """Two models' answers to one prompt."""

    a: str
    b: str
    prompt: int
    "The prompt's place among those of the battle."
    sample: int
    "Which answer of each."
    first: Side
    "Whose answer is shown first where there is one order alone."


class Game(NamedTuple):
    """One look at a duel."""

    first: Literal["a", "b", ""]
    "Whose answer was shown first; empty where answers were scored one by one."
    win: float
    "1 where a was better, 0 where b was, ½ for a tie."
    labeler: str = ""
    "Who of several looked; empty for the judge."


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one judge said of a duel: a game for each order, or each person; none where nothing was said."""

    judge: str
    games: tuple[Game, ...]
    alike: bool = False
    "The two texts are the same: a tie that nobody was asked about."

    @property
    def win(self) -> float | None:
        """The mean of the games; None without one."""
        return sum(game.win for game in self.games) / len(self.games) if self.games else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """The prompts, and every model's answers to them."""

    config: Config
    prompts: Sequence[Group]
    answers: Mapping[str, Sequence[tuple[Completion, ...]]]

    @property
    def names(self) -> list[str]:
        """The models, in the order in which they were given."""
        return list(self.config.models)

    def answer(self, name: str, duel: Duel) -> Completion:
        """A model's answer in a duel."""
        return self.answers[name][duel.prompt][duel.sample]

    def two(self, duel: Duel) -> Group:
        """The prompt of a duel with its two answers, a's first."""
        completions = (self.answer(duel.a, duel), self.answer(duel.b, duel))
        return self.prompts[duel.prompt].with_completions(completions)

    def all(self, prompt: int) -> Group:
        """A prompt with all its answers: those of the first model, of the second ..."""
        return self.prompts[prompt].with_completions([c for n in self.names for c in self.answers[n][prompt]])

    def place(self, name: str, sample: int) -> int:
        """Where an answer stands in `all`."""
        return self.names.index(name) * self.config.samples + sample


@dataclass(kw_only=True, eq=False)
class Table:
    """What has been fought."""

    bench: Bench
    fought: list[tuple[Duel, tuple[Verdict, ...]]]

    def next_duels(self, num: int) -> list[Duel]:
        """The next battles, at most `num`; fewer where every pair has met on every prompt."""
        config, names = self.bench.config, self.bench.names
        pairs = [(names[a], names[b]) for a, b in all_pairs(len(names)).tolist()]
        wins, met = np.zeros((1, 2, len(pairs))), np.zeros((1, len(pairs)), np.int64)
        used = np.zeros((len(pairs), config.samples, len(self.bench.prompts)), np.int64)
        for duel, verdicts in self.fought:
            at = pairs.index((duel.a, duel.b))
            met[0, at] += 1
            used[at, duel.sample, duel.prompt] = 1
            said = [v.win for v in verdicts if v.win is not None]
            if said:
                mean = sum(said) / len(said)
                wins[0, :, at] += mean, 1 - mean
        left = used[0].size - met
        theta, covariance = posterior(wins, len(names))
        chosen = next_pairs(theta, covariance, met, left, num=num, pairing=config.pairing)
        return [self._duel(pairs[at], used, at) for at in chosen[0].tolist() if at >= 0]

    def _duel(self, pair: tuple[str, str], used: np.ndarray, at: int) -> Duel:
        """The duel of a pair on the prompt that was used least, of those on which it has not met."""
        count = used.sum(axis=(0, 1))[None, :] * used.shape[1] * used.shape[0] + used.sum(axis=0)
        free = np.where(used[at] == 0, count, np.iinfo(np.int64).max)
        sample, prompt = np.unravel_index(int(free.argmin()), free.shape)
        used[at, sample, prompt] = 1
        where = (*pair, int(prompt), int(sample))
        side: Side = "a" if derive(self.bench.config.seed, "side", *where) & 1 else "b"
        return Duel(*where, side)

    def battles(self) -> list[Battle]:
        """Every game as a battle; several games of one judge on a duel share the weight of one."""
        return [
            Battle(
                a=duel.a,
                b=duel.b,
                win=game.win,
                first=game.first,
                lengths=(len(one.text), len(other.text)),
                style=(style_of(one.text), style_of(other.text)),
                prompt=self.bench.prompts[duel.prompt].id,
                judge=_who(verdict, game),
                weight=1 / len(verdict.games),
            )
            for duel, verdicts in self.fought
            for one, other in [self.bench.two(duel).completions]
            for verdict in verdicts
            for game in verdict.games
        ]

    def groups(self, scores: Mapping[int, Sequence[Score]]) -> list[Group]:
        """The prompts that were fought on, with all answers, each game as a comparison, and some scores."""
        made: dict[int, list[Comparison]] = {}
        for duel, verdicts in self.fought:
            a, b = (self.bench.place(name, duel.sample) for name in (duel.a, duel.b))
            shown = {"a": (a, b), "b": (b, a), "": None}
            made.setdefault(duel.prompt, []).extend(
                Comparison(
                    a=a,
                    b=b,
                    choice="tie" if game.win == 0.5 else "a" if game.win == 1 else "b",
                    shown=shown[game.first],
                    labeler=_who(verdict, game),
                )
                for verdict in verdicts
                for game in verdict.games
            )
        return [_judged(self.bench.all(p), made[p], scores.get(p, ())) for p in sorted(made)]


def _who(verdict: Verdict, game: Game) -> str:
    return f"{verdict.judge}:{game.labeler}" if game.labeler else verdict.judge


def _judged(group: Group, comparisons: Sequence[Comparison], scores: Sequence[Score]) -> Group:
    return Group(
        prompt=group.prompt,
        completions=group.completions,
        comparisons=tuple(comparisons),
        scores=tuple(scores),
        id=group.id,
        user=group.user,
        source=group.source,
        meta=group.meta,
    )
