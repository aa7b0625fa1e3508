"""Reward models: the maximum of a likelihood is known where scores are free, or linear in features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from exact.solutions import solution
from trueup.engine.batch import Batch, Outputs
from trueup.engine.groups import Comparison, Completion, Group, Ranking
from trueup.engine.loop import Step, fit
from trueup.engine.method import Handles, Method, Minibatch, Network, Parts
from trueup.methods import pmp, reward_model
from trueup.settings.blocks import LoopSettings

Key = tuple[int, ...]
TAGS = {"GOOD: ": 101, "BAD: ": 102}


@dataclass(frozen=True, eq=False)
class Linear:
    """A network whose score is w · f(completion), and whose log-probabilities are all one free number."""

    features: Mapping[Key, Tensor]
    w: nn.Parameter
    logprob: nn.Parameter

    @property
    def module(self) -> nn.Module:
        """The parameters."""
        held = nn.Module()
        held.w, held.logprob = self.w, self.logprob
        return held

    def __call__(self, batch: Batch, want: Sequence[str]) -> Outputs:
        """Scores, and the same log-probability for every token."""
        tokens = batch.tokens.tolist()
        keys = [tuple(tokens[a : a + n]) for span in batch.spans for a, n in span.completions]
        said = {
            "rewards": lambda: torch.stack([self.features[key] for key in keys]) @ self.w,
            "logprobs": lambda: self.logprob.expand(len(batch.targets)),
        }
        return Outputs(**{name: said[name]() for name in want})

    def scores(self) -> Tensor:
        """Every completion's score, in the order of the features."""
        return (torch.stack(list(self.features.values())) @ self.w).detach()


def linear(features: Mapping[Key, Tensor]) -> Linear:
    """Scores of 0, log-probabilities of −1."""
    size = len(next(iter(features.values())))
    return Linear(
        features,
        nn.Parameter(torch.zeros(size, dtype=torch.float64)),
        nn.Parameter(torch.tensor(-1.0, dtype=torch.float64)),
    )


def free(*keys: Key) -> Linear:
    """A free score for each completion."""
    return linear(dict(zip(keys, torch.eye(len(keys), dtype=torch.float64), strict=True)))


def group(*keys: Key, prompt: int = 0, **judged: Any) -> Group:
    """A group of these completions."""
    completions = tuple(Completion(text=str(key), tokens=np.array(key, np.int32)) for key in keys)
    return Group(prompt=(), prompt_tokens=np.array([prompt], np.int32), completions=completions, **judged)


def parts(groups: Sequence[Group]) -> Parts:
    """What the methods are built from; a tag is one token."""
    return Parts(
        groups=groups,
        held_out=[],
        decode=str,
        stop_ids=(),
        prompt_ids=lambda messages: np.array([TAGS[messages[0].content]], np.int32),
    )


@dataclass(frozen=True)
class Lbfgs:
    """An update rule that goes to the minimum of a convex loss in one update."""

    def start(self, networks: Mapping[str, Network], num_updates: int) -> LbfgsRule:
        """The rule on all parameters."""
        return LbfgsRule([p for network in networks.values() for p in network.module.parameters()])


@dataclass(frozen=True, eq=False)
class LbfgsRule:
    """Quasi-Newton steps on the minibatch's exact gradient."""

    parameters: list[nn.Parameter]

    def step(self, minibatch: Minibatch) -> dict[str, float]:
        """The loss where the search began."""
        optimiser = torch.optim.LBFGS(
            self.parameters,
            max_iter=100,
            tolerance_grad=1e-12,
            tolerance_change=1e-16,
            line_search_fn="strong_wolfe",
        )

        def loss() -> float:
            optimiser.zero_grad(set_to_none=False)
            return minibatch.backward()["loss"]

        return {"loss": float(optimiser.step(loss))}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Nothing that lasts."""
        return {}, {}

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Nothing to restore."""


def built(groups: Sequence[Group], **settings: Any) -> Method:
    """The method on these groups, all of them in every step."""
    config = reward_model.Config(loop=LoopSettings(batch=len(groups)), **settings)
    return reward_model.build(config, parts(groups))


def trained(method: Method, network: Linear, num_groups: int) -> Linear:
    """The network where the likelihood is greatest."""
    handles = Handles(networks={"reward": network}, dtype=torch.float64, microbatch_tokens=10**6)
    fit(replace(method, update=Lbfgs()), handles, num_steps=1, groups_per_step=num_groups)
    return network


def loss_and_gradient(method: Method, network: Linear) -> tuple[float, Tensor]:
    """The loss of the method's first step, and its gradient in w."""
    handles = Handles(networks={"reward": network}, dtype=torch.float64)
    network.w.grad = None
    loss = Step(method, handles, method.source(0, handles), 0).backward()["loss"]
    assert network.w.grad is not None
    return loss, network.w.grad.clone()


A, B = (1, 2, 3), (4, 5)


def votes(wins: int, losses: int) -> tuple[Comparison, ...]:
    """So many labelers for the first, so many for the second."""
    ballots = ["a"] * wins + ["b"] * losses
    return tuple(Comparison(a=0, b=1, choice=choice) for choice in ballots)  # pyright: ignore


@solution(
    "reward_model",
    known="two completions, n_w wins and n_l losses: r_w − r_l = log n_w / n_l",
    measured="|r_w − r_l − log(5/2)|",
    tolerance=1e-8,
)
def wins_over_losses() -> float:
    found = trained(built([group(A, B, comparisons=votes(5, 2))]), free(A, B), 1).scores()
    return abs(float(found[0] - found[1]) - math.log(5 / 2))


@solution(
    "reward_model",
    known="a soft label p has its least loss at r_w − r_l = log p / (1 − p)",
    measured="|r_w − r_l − log(.8/.2)|",
    tolerance=1e-7,
)
def soft_label() -> float:
    said = (Comparison(a=0, b=1, choice="a", probability=0.8),)
    found = trained(built([group(A, B, comparisons=said)]), free(A, B), 1).scores()
    return abs(float(found[0] - found[1]) - math.log(4))


@solution(
    "reward_model",
    known="r = w · f: the logistic regression, without intercept, of who wins on differences of features",
    measured="max |w − sklearn's w|",
    tolerance=1e-6,
)
def logistic_regression() -> float:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 2, 3))
    difference = features[:, 0] - features[:, 1]
    first = difference @ [1.0, -0.5, 0.2] + 2 * rng.normal(size=40) > 0
    keys = [((n, 1), (n, 2)) for n in range(1, 41)]
    groups = [
        group(*pair, comparisons=votes(int(won), int(not won))) for pair, won in zip(keys, first, strict=True)
    ]
    flat = [key for pair in keys for key in pair]
    network = linear(dict(zip(flat, torch.from_numpy(features.reshape(80, 3)), strict=True)))
    theirs = LogisticRegression(fit_intercept=False, C=1e12, tol=1e-12, max_iter=1000).fit(difference, first)
    ours = trained(built(groups), network, 40).w.detach().numpy()
    return float(np.abs(ours - theirs.coef_[0]).max())


C, WORTH = (6,), (1, 2, 3)


def tiers(*order: int) -> Ranking:
    return Ranking(tiers=tuple((i,) for i in order))


def _log_worth_error(network: Linear) -> float:
    known = torch.tensor(WORTH, dtype=torch.float64).log()
    found = network.scores()
    return float(((found - found.mean()) - (known - known.mean())).abs().max())


@solution(
    "reward_model",
    known="plackett_luce: rankings as frequent as worths 1, 2, 3 make them give r = log worth + constant",
    measured="max |r − log worth|, both centred",
    tolerance=1e-7,
)
def plackett_luce() -> float:
    groups = []
    for order in permutations(range(3)):
        first, second = WORTH[order[0]], WORTH[order[1]]
        times = 60 * first * second / (6 * (6 - first))  # P(order) = w_i / 6 · w_j / (6 − w_i)
        assert times == int(times)
        groups += [group(A, B, C, rankings=(tiers(*order),))] * int(times)
    assert len(groups) == 60
    return _log_worth_error(trained(built(groups, loss="plackett_luce"), free(A, B, C), 60))


@solution(
    "reward_model",
    known="choice: the best chosen as often as worths 1, 2, 3 say gives r = log worth + constant",
    measured="max |r − log worth|, both centred",
    tolerance=1e-8,
)
def choice() -> float:
    groups = []
    for best, worth in enumerate(WORTH):
        rest = tuple(i for i in range(3) if i != best)
        groups += [group(A, B, C, rankings=(Ranking(tiers=((best,), rest)),))] * worth
    return _log_worth_error(trained(built(groups, loss="choice"), free(A, B, C), 6))


@solution(
    "reward_model",
    known="K = 2: choice and plackett_luce are bradley_terry, in value and gradient",
    measured="largest difference",
    tolerance=1e-12,
)
def two_are_a_pair() -> float:
    network = free(A, B)
    with torch.no_grad():
        network.w.copy_(torch.tensor([0.7, -0.4], dtype=torch.float64))
    found = [
        loss_and_gradient(built([group(A, B, comparisons=votes(1, 0))], loss=loss), network)
        for loss in ("bradley_terry", "choice", "plackett_luce")
    ]
    (value, slope), *others = found
    return max(max(abs(v - value), float((g - slope).abs().max())) for v, g in others)


@solution(
    "reward_model",
    known="zero scores of K = 2 to 9: log 2 for pairs, log K for the choice, log K! for the ranking",
    measured="largest difference",
    tolerance=1e-12,
)
def zero_scores() -> float:
    worst = 0.0
    for k in range(2, 10):
        keys = [(i + 1,) for i in range(k)]
        known = {
            "bradley_terry": math.log(2),
            "choice": math.log(k),
            "plackett_luce": math.log(math.factorial(k)),
        }
        for loss, expected in known.items():
            method = built([group(*keys, rankings=(tiers(*range(k)),))], loss=loss)
            worst = max(worst, abs(loss_and_gradient(method, free(*keys))[0] - expected))
    return worst


@solution(
    "reward_model",
    known="two prompts with K = 2 and K = 9 weigh the same: each half of the loss and of the gradient",
    measured="largest difference",
    tolerance=1e-12,
)
def prompts_weigh_the_same() -> float:
    two, nine = [(1,), (2,)], [(i,) for i in range(3, 12)]
    network = free(*two, *nine)
    with torch.no_grad():
        network.w.copy_(torch.linspace(-1, 1, 11, dtype=torch.float64))
    pair = group(*two, rankings=(tiers(0, 1),))
    ranking = group(*nine, prompt=1, rankings=(tiers(*range(9)),))
    a, of_a = loss_and_gradient(built([pair]), network)
    b, of_b = loss_and_gradient(built([ranking]), network)
    both, of_both = loss_and_gradient(built([pair, ranking]), network)
    return max(abs(both - (a + b) / 2), float((of_both - (of_a + of_b) / 2).abs().max()))


@solution(
    "reward_model",
    known="lm_weight 0 gives the language-modelling output no gradient; the loss is affine in lm_weight",
    measured="largest departure",
    tolerance=1e-12,
)
def language_modelling_beside() -> float:
    said = [group(A, B, comparisons=votes(1, 0))]
    losses, slopes = [], []
    for weight in (0.0, 0.5, 1.0):
        network = free(A, B)
        method = built(said, loss="choice", lm_weight=weight)
        losses.append(loss_and_gradient(method, network)[0])
        slope = network.logprob.grad
        slopes.append(0.0 if slope is None else float(slope))
    # At zero scores the task's loss is log 2; every log-probability is −1, the mean's slope in it −1.
    known = [math.log(2) + weight for weight in (0.0, 0.5, 1.0)]
    return max(
        *(abs(x - y) for x, y in zip(losses, known, strict=True)), *map(abs, np.add(slopes, [0, 0.5, 1]))
    )


@solution(
    "pmp",
    known="A beats B n_w times of n: r(GOOD, A) − r(BAD, A) = log n_w / n_l, and its negative for B",
    measured="largest difference from ± log(5/2)",
    tolerance=1e-8,
)
def quality_tags() -> float:
    tagged = [(tag, *text) for text in (A, B) for tag in TAGS.values()]
    groups = [group(A, B, comparisons=votes(5, 2))]
    config = pmp.Config(loop=LoopSettings(batch=7))
    found = trained(pmp.build(config, parts(groups)), free(*tagged), 7).scores()
    of_a, of_b = float(found[0] - found[1]), float(found[2] - found[3])
    return max(abs(of_a - math.log(5 / 2)), abs(of_b + math.log(5 / 2)))


@solution(
    "pmp",
    known="exchanging the two tags flips the sign of the logit r(GOOD, y) − r(BAD, y)",
    measured="|logit + logit with tags exchanged|",
    tolerance=0.0,
)
def tags_exchanged() -> float:
    tagged = [(tag, *text) for text in (A, B) for tag in TAGS.values()]
    said = [group(A, B, comparisons=votes(1, 0))]
    network = free(*tagged)
    with torch.no_grad():
        network.w.copy_(torch.tensor([0.9, -0.3, 0.1, 0.6], dtype=torch.float64))
    handles = Handles(networks={"reward": network}, dtype=torch.float64)
    config = pmp.Config(loop=LoopSettings(batch=1))
    exchanged = replace(config, good=config.bad, bad=config.good)
    margins = []
    for given in (config, exchanged):
        method = pmp.build(given, parts(said))
        margins.append(Step(method, handles, method.source(0, handles), 0).evaluate()["margin"])
    return abs(margins[0] + margins[1])
