"""What a policy's own completions are worth: gold and its parts, proxy reward, length, distance moved.

Every policy is asked the same prompts in the same order with the same seed, so differences pair by prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueup.annotate.logprobs import by_completion, choice_logprobs, measure
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.evals.tasks import Grade
from trueup.evals.view import PolicyView, choose_best
from trueup.judges import Judge
from trueup.sources.sample import Decoding
from trueup.statistics.estimates import best_of_n_kl_bound, expected_best_of_n

Floats = NDArray[np.float64]
PLAIN = Decoding()
"Plain sampling at temperature 1, 64 tokens at most."
CURVE_NS = (1, 2, 4, 8, 16)
"The n of the best-of-n curves."


@dataclass(frozen=True, kw_only=True, eq=False)
class CurvePoint:
    """Best-of-n for one n: proxy and gold in expectation, by prompt."""

    n: int
    kl_bound: float
    "log n − (n−1)/n: an upper bound of the KL from the policy sampled from, in nats."
    proxy: Floats
    "[num_prompts]"
    gold: Floats
    "[num_prompts]"


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyResult:
    """One policy on the held-out prompts; arrays are [num_prompts, samples_per_prompt]."""

    name: str
    groups: Sequence[Group]
    "The prompts with the graded completions."
    metrics: Mapping[str, Floats]
    "What the grader and the judges say by name, `length` in tokens and `ended` (stopped by itself)."
    reasons: Sequence[Sequence[Mapping[str, str]]]
    "The grader's words, by prompt and completion."
    kl: Floats | None = None
    "Σ_t log π(y_t) − log ρ(y_t) in nats; its mean estimates KL(π ‖ ρ). None for best-of-n, or no reference."
    reference_nll: Floats | None = None
    "−log ρ of a token in nats, a completion's mean; None where the KL is."
    kl_bound: float | None = None
    "The bound for best-of-n; None for a policy that is sampled plainly."
    curve: Sequence[CurvePoint] = field(default=())

    @property
    def gold(self) -> Floats:
        """The gold reward of every completion."""
        return self.metrics["gold"]


def evaluate_policy(
    view: PolicyView,
    prompts: Sequence[Group],
    *,
    grade: Grade | None,
    samples_per_prompt: int = 1,
    decoding: Decoding = PLAIN,
    seed: int = 0,
    judges: Mapping[str, Judge] | None = None,
    reference: PolicyView | None = None,
) -> PolicyResult:
    """What the policy's completions of `prompts` are worth, sample by sample.

    `grade` gives named numbers (one is `gold`); each of `judges` adds its scores under its name (`proxy`);
    without a grade one of them may be `gold`.
    With best-of-n, n · samples_per_prompt are drawn, the judge's choices are graded, and the same draws give
    the unbiased curves for n = 1, 2, 4, 8, 16. With `reference`, the KL is measured on plain samples
    (Schulman 2020, k1); the reference reads the prompt after its own prefix. Raises E791 if a KL is asked of
    samples that are not the policy's own distribution (greedy, top-k, top-p, or temperature other than 1).
    """
    plain = not (decoding.greedy or decoding.top_k or decoding.top_p or decoding.temperature != 1)
    if reference is not None and not plain:
        raise TrueupError(
            "E791",
            "a KL needs plain samples at temperature 1",
            where=f"policy {view.name}",
            remedy="turn greedy, top_k and top_p off, or leave the reference out",
        )
    drawn = view.draw(prompts, k=samples_per_prompt * view.best_of, decoding=decoding, seed=seed)
    groups, curve = drawn, ()
    if view.best_of > 1:
        assert view.judge is not None
        scores = view.judge(drawn)
        groups = choose_best(drawn, scores, view.best_of, seed)
        gold = _gold(drawn, grade, judges or {})
        curve = best_of_n_curve(scores, gold) if gold is not None else ()
    metrics, reasons = _measured(groups, grade, judges or {})
    kl, nll = (
        distances(groups, view, reference) if reference is not None and view.best_of == 1 else (None, None)
    )
    return PolicyResult(
        name=view.name,
        groups=groups,
        metrics=metrics,
        reasons=reasons,
        kl=kl,
        reference_nll=nll,
        kl_bound=best_of_n_kl_bound(view.best_of) if view.best_of > 1 else None,
        curve=curve,
    )


def best_of_n_curve(proxy: Sequence[Sequence[float]], gold: Floats) -> tuple[CurvePoint, ...]:
    """Proxy and gold reward of best-of-n by proxy, for every n of `CURVE_NS` that the samples allow."""
    by = np.asarray(proxy, np.float64)
    proxies, golds = expected_best_of_n(by), expected_best_of_n(gold, by)
    return tuple(
        CurvePoint(n=n, kl_bound=best_of_n_kl_bound(n), proxy=proxies[:, n - 1], gold=golds[:, n - 1])
        for n in CURVE_NS
        if n <= by.shape[1]
    )


def distances(groups: Sequence[Group], view: PolicyView, reference: PolicyView) -> tuple[Floats, Floats]:
    """k1 of every completion in nats, and −log ρ of its tokens' mean, both [num_prompts, K].

    k1 = Σ_t log π(y_t | x, y_<t) − log ρ(y_t | x, y_<t). Both networks score the same tokens in the same kind
    of pass; the mean over samples of π is KL(π ‖ ρ).
    """
    check_same_tokenizer(view, reference)
    policy = choice_logprobs(groups, "policy", view.handles)
    other = choice_logprobs(shown_to(reference, groups), "policy", reference.handles)
    sizes = np.array([[float(c.num_supervised) for c in g.completions] for g in groups])
    return np.array(policy) - np.array(other), -np.array(other) / sizes


def sampled_kl(groups: Sequence[Group], view: PolicyView, reference: PolicyView) -> Floats:
    """k1 of every completion in nats, [num_prompts, K]; see `distances`."""
    return distances(groups, view, reference)[0]


def read_by(reader: PolicyView, groups: Sequence[Group]) -> Floats:
    """−log ρ of a token in nats, a completion's mean, where the reader has other tokens: [num_prompts, K].

    The completions' texts are encoded again, so the tokens counted are the reader's.
    """
    bare = [
        replace(
            g,
            prompt_tokens=None,
            completions=tuple(replace(c, tokens=None, supervised=None, columns={}) for c in g.completions),
        )
        for g in groups
    ]
    encoded = reader.encode(bare)
    logprobs = choice_logprobs(encoded, "policy", reader.handles)
    sizes = np.array([[float(c.num_supervised) for c in g.completions] for g in encoded])
    return -np.array(logprobs) / sizes


def entropy_of(groups: Sequence[Group], view: PolicyView) -> Floats:
    """The entropy of the next-token distribution in nats, a completion's mean: [num_prompts, K]."""
    flat = measure(groups, "policy", "entropy", view.handles).double().cpu().numpy()
    return np.array([[tokens.mean() for tokens in row] for row in by_completion(groups, flat)])


def shown_to(view: PolicyView, groups: Sequence[Group]) -> list[Group]:
    """The groups with their prompts as this policy reads them, and the completions' tokens as they are."""
    prompts = view.encode([replace(g, completions=(), prompt_tokens=None) for g in groups])
    return [replace(p, completions=g.completions) for p, g in zip(prompts, groups, strict=True)]


def check_same_tokenizer(a: PolicyView, b: PolicyView) -> None:
    """Raises E558 unless the two policies' token ids mean the same."""
    if not same_tokenizer(a, b):
        raise TrueupError(
            "E558",
            "the two have different tokenizers, so no KL between them is defined",
            where=f"policies {a.name} and {b.name}",
            remedy="leave the reference out, or name the model that this policy was trained from",
        )


def same_tokenizer(a: PolicyView, b: PolicyView) -> bool:
    """Whether the two policies' token ids mean the same."""
    first, second = a.chat.codec.whole, b.chat.codec.whole
    return first is second or first.get_vocab() == second.get_vocab()


# ------------------------------------------------------------------------------------------ the parts


def _measured(
    groups: Sequence[Group], grade: Grade | None, judges: Mapping[str, Judge]
) -> tuple[dict[str, Floats], list[list[Mapping[str, str]]]]:
    grades = [[grade(g, c.text) if grade else {} for c in g.completions] for g in groups]
    metrics = _table(grades)
    for name, judge in judges.items():
        metrics[name] = np.asarray(judge(groups), np.float64)
    metrics["length"] = np.array([[float(c.num_tokens) for c in g.completions] for g in groups])
    metrics["ended"] = np.array([[float(c.finished) for c in g.completions] for g in groups])
    for name, values in metrics.items():
        if not np.isfinite(values).all():
            remedy = f"repair the judge {name}, or leave it out"
            raise TrueupError("E901", f"`{name}` of a completion is not finite", remedy=remedy)
    return metrics, [[dict(one.get("reasons", {})) for one in row] for row in grades]


def _gold(groups: Sequence[Group], grade: Grade | None, judges: Mapping[str, Judge]) -> Floats | None:
    """What is believed of every completion; None where nothing is."""
    if grade is not None:
        return _table([[grade(g, c.text) for c in g.completions] for g in groups])["gold"]
    return np.asarray(judges["gold"](groups), np.float64) if "gold" in judges else None


def _table(grades: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Floats]:
    names = [n for n, v in grades[0][0].items() if n != "reasons" and isinstance(v, (int, float))]
    return {name: np.array([[float(one[name]) for one in row] for row in grades]) for name in names}
