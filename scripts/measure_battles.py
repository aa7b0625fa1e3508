"""Prints the tables of results/battles.md: python scripts/measure_battles.py [REPEATS]

Simulated battles whose truth is known, paired by `trueup.ratings.pairing` as `trueup battle` does: how many
it takes to know six models as well as uniform pairing does, how few any design could do with, and how often
the intervals of `trueup rank` hold the truth where three judges decide every battle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from trueup.ratings.battles import Battle
from trueup.ratings.elo import SCALE
from trueup.ratings.fit import fit_ratings
from trueup.ratings.likelihood import Design, gauge, hessians, maximise
from trueup.ratings.pairing import Pairing, all_pairs, next_pairs, posterior

Floats, Counts = NDArray[np.float64], NDArray[np.int64]
SIZE, BATCH, SEED = 6, 20, 0
PAIRS = all_pairs(SIZE)
X = np.zeros((len(PAIRS), SIZE))
X[np.arange(len(PAIRS)), PAIRS[:, 0]], X[np.arange(len(PAIRS)), PAIRS[:, 1]] = 1.0, -1.0
CENTRE = np.eye(SIZE) - 1 / SIZE
STEPS = np.diff(np.eye(SIZE), axis=0)
"The differences of neighbours, where models stand in order."
GOAL = 600
"Battles of uniform pairing, whose measures are the goal."
COUNTS = tuple(range(60, 721, 20))
MEASURES = ("interval of a rating", "interval of a step", "pairs decided", "steps in order")
PAIRINGS: tuple[Pairing | None, ...] = (None, "uniform", "width", "order")
"None draws every pair anew with equal chances."
SHARED, OWN, TIES = 0.8, 0.6, 0.1
"How much a model differs from prompt to prompt for every judge, and for each alone; the share of ties."
PROMPTS, DUELS, JUDGES = 100, 300, 3


def spread_over(points: float) -> Floats:
    """Six models at equal steps, in nats."""
    return np.linspace(0, points / SCALE, SIZE) - points / SCALE / 2


def draw_pairs(pairing: Pairing | None, wins: Floats, met: Counts, rng: np.random.Generator) -> Counts:
    """The next `BATCH` pairs of every repeat."""
    if pairing is None:
        return rng.integers(len(PAIRS), size=(len(wins), BATCH))
    theta, covariance = posterior(wins, SIZE)
    return next_pairs(theta, covariance, met, np.full_like(met, 1 << 30), num=BATCH, pairing=pairing)


def efficiency(truth: Floats, pairing: Pairing | None, repeats: int) -> dict[int, tuple[float, ...]]:
    """By the number of battles: the means of `MEASURES`, and how often ratings' intervals hold the truth."""
    rng = np.random.default_rng(SEED)
    wins, met = np.zeros((repeats, 2, len(PAIRS))), np.zeros((repeats, len(PAIRS)), np.int64)
    found = {}
    for count in range(BATCH, max(COUNTS) + 1, BATCH):
        drawn = draw_pairs(pairing, wins, met, rng)
        times = (drawn[:, :, None] == np.arange(len(PAIRS))).sum(axis=1)
        won = rng.binomial(times, expit(X @ truth))
        met += times
        wins += np.stack([won, times - won], axis=1)
        if count in COUNTS:
            found[count] = measured(truth, wins, count)
    return found


def measured(truth: Floats, wins: Floats, count: int) -> tuple[float, ...]:
    """The measures of all repeats, by maximum likelihood and the sandwich, as `trueup rank` has them."""
    design = Design(x=np.concatenate([X, X]), y=np.repeat([1.0, 0.0], len(PAIRS)), centred=SIZE, rule="half")
    weights = wins.reshape(len(wins), -1)
    fits = maximise(design, weights)
    theta, weights = fits.parameters[fits.converged], weights[fits.converged]
    inverse = np.linalg.inv(hessians(design, theta, weights) + gauge(design))
    off = weights * (design.y - expit(theta @ design.x.T)) ** 2
    meat = (design.x.T[None] * off[:, None, :]) @ design.x * count / (count - 1)
    spread = inverse @ meat @ inverse

    def error(contrasts: Floats) -> Floats:
        return np.sqrt(np.einsum("ij,rjk,ik->ri", contrasts, spread, contrasts))

    gaps = np.abs(theta @ X.T) - 1.96 * error(X)
    held = np.abs(theta - truth) < 1.96 * error(CENTRE)
    return (
        3.92 * SCALE * float(error(CENTRE).mean()),
        3.92 * SCALE * float(error(STEPS).mean()),
        float((gaps > 0).mean()),
        float((theta @ STEPS.T > 0).mean()),
        float(held.mean()),
    )


def saved(found: Mapping[int, Sequence[float]], uniform: Mapping[int, Sequence[float]], at: int) -> float:
    """How many battles fewer it takes to reach what uniform pairing has after `GOAL`, as a share."""
    goal, falls = uniform[GOAL][at], uniform[GOAL][at] < uniform[min(COUNTS)][at]
    for before, count in pairwise(COUNTS):
        low, high = found[before][at], found[count][at]
        if (high <= goal) if falls else (high >= goal):
            return 1 - (before + (count - before) * (goal - low) / (high - low)) / GOAL
    return float("nan")


def bound(truth: Floats, contrasts: Floats) -> float:
    """The share of battles that the best fixed design saves over the uniform one, truth known beforehand.

    The mean width of the intervals of some contrasts is minimised over the shares of the pairs.
    """
    weight = expit(X @ truth) * expit(-(X @ truth))

    def width(free: Floats) -> float:
        share = np.exp(free - free.max())
        information = (X.T * (weight * share / share.sum())) @ X + np.ones((SIZE, SIZE)) / SIZE
        spread = np.linalg.inv(information)
        return float(np.sqrt(np.einsum("ij,jk,ik->i", contrasts, spread, contrasts)).mean())

    even, rng = np.zeros(len(PAIRS)), np.random.default_rng(SEED)
    best = min(minimize(width, rng.normal(size=len(PAIRS)) / 2).fun for _ in range(4))
    return 1 - (best / width(even)) ** 2


def coverage(pairing: Pairing, repeats: int) -> tuple[float, float]:
    """How often 95 % intervals hold the truth, and their mean width, under three judges.

    Every judge decides every battle; models differ from prompt to prompt, for all judges and for each. What
    ratings estimate is the fit to the expected shares, over the pairs that met.
    """
    rng, truth = np.random.default_rng(SEED), spread_over(400)
    shape = (repeats, PROMPTS, SIZE)
    shared = truth + SHARED * rng.normal(size=shape)
    strength = [shared + OWN * rng.normal(size=shape) for _ in range(JUDGES)]
    wins, met = np.zeros((repeats, 2, len(PAIRS))), np.zeros((repeats, len(PAIRS)), np.int64)
    rows = np.arange(repeats)
    fought: list[tuple[Counts, int, list[Floats]]] = []
    while len(fought) < DUELS:
        for pair in draw_pairs(pairing, wins, met, rng).T:
            prompt = len(fought) % PROMPTS
            a, b = PAIRS[pair].T
            ends = []
            for one in strength:
                won = (rng.random(repeats) < expit(one[rows, prompt, a] - one[rows, prompt, b])).astype(float)
                ends.append(np.where(rng.random(repeats) < TIES, 0.5, won))
            mean = np.mean(ends, axis=0)
            met[rows, pair] += 1
            wins[rows, 0, pair] += mean
            wins[rows, 1, pair] += 1 - mean
            fought.append((pair, prompt, ends))
    target = pseudo_truth(truth, met.mean(axis=0))
    held, widths = [], []
    for repeat in range(repeats):
        found = fit_ratings(
            [
                Battle(
                    a=f"m{PAIRS[pair[repeat], 0]}",
                    b=f"m{PAIRS[pair[repeat], 1]}",
                    win=float(end[repeat]),
                    prompt=str(prompt),
                    judge=f"judge {judge}",
                )
                for pair, prompt, ends in fought
                for judge, end in enumerate(ends)
            ]
        )
        held += [m.low <= 1000 + SCALE * target[int(m.model[1])] <= m.high for m in found.models]
        widths += [m.high - m.low for m in found.models]
    return float(np.mean(held)), float(np.mean(widths))


def pseudo_truth(truth: Floats, met: Floats) -> Floats:
    """The strengths that fit the expected shares best: a difference is normal over prompts and judges."""
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    deviation = np.sqrt(2 * (SHARED**2 + OWN**2))
    share = expit((X @ truth)[:, None] + deviation * node) @ (weight / weight.sum())
    share = (1 - TIES) * share + TIES / 2
    battles = [
        Battle(a=f"m{a}", b=f"m{b}", win=float(win), weight=float(times), prompt=str(at))
        for at, ((a, b), win, times) in enumerate(zip(PAIRS.tolist(), share, met, strict=True))
    ]
    return np.array([m.beta for m in sorted(fit_ratings(battles).models, key=lambda m: m.model)])


def print_efficiency(points: float, repeats: int, say: Callable[[str], None]) -> None:
    """Nothing; prints the table of one spread."""
    truth = spread_over(points)
    say(f"\n{points:g} points\n")
    say(f"| pairing | {' | '.join(MEASURES)} | intervals hold the truth |\n|---|---|---|---|---|---|")
    tables = {pairing: efficiency(truth, pairing, repeats) for pairing in PAIRINGS}
    for pairing, found in tables.items():
        name = pairing or "uniform, drawn"
        width, step, decided, ordered, held = found[GOAL]
        cells = (f"{width:.1f}", f"{step:.1f}", *(f"{100 * one:.1f} %" for one in (decided, ordered, held)))
        say(f"| {name}, {GOAL} battles | {' | '.join(cells)} |")
    for name in ("width", "order"):
        less = [saved(tables[name], tables["uniform"], at) for at in range(len(MEASURES))]
        say(f"| {name}, battles saved | {' | '.join(f'{100 * one:.1f} %' for one in less)} | |")
    best = " | ".join(f"{100 * bound(truth, contrasts):.1f} %" for contrasts in (CENTRE, STEPS))
    say(f"| best design, battles saved | {best} | | | |")


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    for spread in (400, 800):
        print_efficiency(spread, number, print)
    print("\n| pairing | intervals hold the truth | mean interval |\n|---|---|---|")
    for rule in ("uniform", "width", "order"):
        share, wide = coverage(rule, number)
        print(f"| {rule} | {100 * share:.1f} % | {wide:.1f} points |", flush=True)
