"""How varied texts are, told without a model: distinct n-grams and self-BLEU, with intervals over prompts.

Texts are words, by prompt and sample: `texts[prompt][sample]` is a sequence of words.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from trueup.statistics.estimates import Estimate, mean_ci

Words = Sequence[str]
Texts = Sequence[Sequence[Words]]
Gram = tuple[str, ...]
ORDERS: tuple[int, ...] = (1, 2, 3, 4)
"Lengths of the n-grams that BLEU counts."


def distinct(texts: Texts, n: int, *, level: float = 0.95) -> Estimate | None:
    """The distinct n-grams of all texts over the n-grams that they have; None where they have none.

    distinct-n = D / N (Li et al. 2016; key li2016). It falls as texts are added, so compare equal numbers of
    prompts and samples. The interval is the jackknife's over prompts, whose variance is not below the true
    one in expectation (Efron and Stein 1981): θ ± t √((m−1)/m Σ_i (θ_−i − θ̄)²), θ_−i without prompt i.
    """
    grams = [Counter(g for words in samples for g in _grams(words, n)) for samples in texts]
    sizes = np.array([sum(found.values()) for found in grams], np.float64)
    holders = Counter(gram for found in grams for gram in found)
    own = np.array([sum(holders[gram] == 1 for gram in found) for found in grams], np.float64)
    total, m = sizes.sum(), len(texts)
    if not total:
        return None
    mean = len(holders) / float(total)
    if m == 1 or (sizes == total).any():
        return Estimate(mean=mean, low=math.nan, high=math.nan, n=m, standard_error=math.nan, level=level)
    without = (len(holders) - own) / (total - sizes)
    error = math.sqrt((m - 1) / m * float(np.sum((without - without.mean()) ** 2)))
    half = float(stdtrit(m - 1, 0.5 + level / 2)) * error
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return Estimate(mean=mean, low=low, high=high, n=m, standard_error=error, level=level)


def self_bleu(texts: Texts, *, level: float = 0.95) -> Estimate | None:
    """The mean BLEU of a text against those of all other prompts, 0 to 1; None with a single prompt.

    1 is one text for every prompt, 0 no word in common (Zhu et al. 2018; key zhu2018). BLEU-4 of a sentence
    (Papineni et al. 2002), its missing orders smoothed by halving (Chen and Cherry 2014, smoothing 3), orders
    that the text is too short for left out.
    """
    if len(texts) < 2:
        return None
    table = _Others.of(texts)
    return mean_ci([np.mean([table.score(p, w) for w in s]) for p, s in enumerate(texts)], level=level)


def self_bleu_within(texts: Texts, *, level: float = 0.95) -> Estimate | None:
    """The mean BLEU of a text against the other samples of its prompt, 0 to 1; None with one sample each."""
    if any(len(samples) < 2 for samples in texts):
        return None
    rows = []
    for samples in texts:
        table = _Others.of([[words] for words in samples])
        rows.append(np.mean([table.score(place, words) for place, words in enumerate(samples)]))
    return mean_ci(rows, level=level)


@dataclass(frozen=True, kw_only=True)
class _Others:
    """What BLEU asks of the texts of all prompts but one: for each n-gram the two largest counts."""

    most: Mapping[Gram, tuple[int, int, int]]
    "(largest count in one text, its prompt, largest count in a text of another prompt)"
    lengths: Sequence[tuple[int, int]]
    "(words of a text, its prompt), sorted."

    @classmethod
    def of(cls, texts: Texts) -> _Others:
        most: dict[Gram, tuple[int, int, int]] = {}
        for prompt, samples in enumerate(texts):
            for words in samples:
                for gram, count in _counted(words).items():
                    first, holder, second = most.get(gram, (0, prompt, 0))
                    if holder == prompt:
                        most[gram] = (max(first, count), prompt, second)
                    elif count > first:
                        most[gram] = (count, prompt, first)
                    else:
                        most[gram] = (first, holder, max(second, count))
        lengths = sorted((len(words), prompt) for prompt, samples in enumerate(texts) for words in samples)
        return cls(most=most, lengths=lengths)

    def score(self, prompt: int, words: Words) -> float:
        """BLEU of a text of `prompt` against the texts of all others, 0 to 1."""
        length = self._nearest(prompt, len(words))
        if not words:
            return float(length == 0)
        counts = _counted(words)
        right, total = dict.fromkeys(ORDERS, 0), dict.fromkeys(ORDERS, 0)
        for gram, count in counts.items():
            first, holder, second = self.most[gram]
            total[len(gram)] += count
            right[len(gram)] += min(count, second if holder == prompt else first)
        if not right[1]:
            return 0.0
        logs, halved = [], 1.0
        for n in ORDERS:
            if total[n]:
                halved *= 1.0 if right[n] else 2.0
                logs.append(math.log((right[n] or 1.0 / halved) / total[n]))
        brevity = min(0.0, 1.0 - length / len(words))
        return math.exp(brevity + sum(logs) / len(logs))

    def _nearest(self, prompt: int, size: int) -> int:
        """The length, among the other prompts' texts, that is nearest to `size`; the smaller of two."""
        place = bisect_left(self.lengths, (size, -1))
        below = next((n for n, p in reversed(self.lengths[:place]) if p != prompt), None)
        above = next((n for n, p in self.lengths[place:] if p != prompt), None)
        found = [n for n in (below, above) if n is not None]
        return min(found, key=lambda n: (abs(n - size), n))


def _counted(words: Words) -> Counter[Gram]:
    return Counter(gram for n in ORDERS for gram in _grams(words, n))


def _grams(words: Words, n: int) -> Iterable[Gram]:
    return zip(*(words[i:] for i in range(n)), strict=False)
