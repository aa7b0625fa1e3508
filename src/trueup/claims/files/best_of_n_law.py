"""How far best-of-n moves a policy, and what reward it reaches, against the law of order statistics.

    P_n(y) = F(y)ⁿ − F⁻(y)ⁿ,   KL(P_n ‖ π) ≤ log n − (n−1)/n,   E[r] = Σ_y r(y) P_n(y)

F is π's mass up to and including the completions scored like y, F⁻ its mass below them. Completions that are
scored alike count as one, which is what makes the KL smaller than the bound (Beirami et al. 2024, theorem 1).
"""

import numpy as np
from numpy.typing import NDArray

from trueup.claims.finding import Effect, Finding, Trials, over_seeds
from trueup.reports.figures import curves
from trueup.statistics.estimates import best_of_n_kl_bound, expected_best_of_n

SUMMARY = "Best-of-n moves a policy by at most log n − (n−1)/n nats, and its reward is an order statistic's."
REFERENCES = ("beirami2024", "nakano2021", "stiennon2020")
SEEDS = (1, 2, 3, 4, 5)

N, NS, ATOMS = 4, (2, 4, 8, 16), 1_000_000
EXACT = 1e-9
"Rounding of sums of 16 terms, with room."
NEAR = 3e-4
"How far a million equal atoms may stay below the limit: n² / ATOMS is 2.6e-4 at n = 16."
CLOSE = 0.1
"Share of the gain that the two measurements may differ by: what 300 prompts leave uncertain in each."
Floats = NDArray[np.float64]


def best_of_n_kl(mass: Floats, n: int) -> float:
    """KL(P_n ‖ π) in nats for a policy whose completions, from the worst-scored up, have these masses."""
    upper = np.cumsum(mass)
    lower = upper - mass
    chosen = upper**n - np.maximum(lower, 0.0) ** n
    return float(np.sum(chosen * np.log(np.maximum(chosen, 1e-300) / mass)))


def measure(trials: Trials) -> Finding:
    """The bound on the policy that a prompt's samples make up, its limit, and the gain foretold."""
    scores = [trial.numbers("samples", "proxy") for trial in trials]
    # A score is the same for the same text up to the rounding of the batch it was computed in.
    masses = [np.unique(row.round(4), return_counts=True)[1] / row.size for rows in scores for row in rows]
    excess = max(best_of_n_kl(mass, n) - best_of_n_kl_bound(n) for mass in masses for n in NS)
    equal = np.full(ATOMS, 1 / ATOMS)
    short = max(best_of_n_kl_bound(n) - best_of_n_kl(equal, n) for n in NS)
    laws = [expected_best_of_n(rows).mean(axis=0) for rows in scores]
    found = [trial.mean("best_of_4", "proxy") for trial in trials]
    shares = [(real - law[0]) / (law[N - 1] - law[0]) for real, law in zip(found, laws, strict=True)]
    law = np.mean(laws, axis=0)
    line = [(best_of_n_kl_bound(n), float(law[n - 1])) for n in range(1, len(law) + 1)]
    return Finding(
        effects=(
            Effect(name="KL minus its bound, the largest", value=excess, wanted=(None, EXACT), unit="nats"),
            Effect(name="bound minus KL, without ties", value=short, wanted=(-NEAR, NEAR), unit="nats"),
            over_seeds(f"gain of best-of-{N}, as a share of the law's", shares, (1 - CLOSE, 1 + CLOSE)),
        ),
        setting="The KL of best-of-2, 4, 8 and 16 from the policy that the 16 samples of a prompt make "
        f"up, for 300 test prompts and every seed; and from {ATOMS:,} equally likely "
        f"completions. Then the reward model's score of best-of-{N} with samples of its own, "
        "beside what the first samples predict.",
        figure=curves(
            {"the law, from one set of samples": line},
            points={f"best-of-{N}, drawn anew": [(best_of_n_kl_bound(N), float(np.mean(found)))]},
            across="log n − (n−1)/n, nats",
            up="score of the reward model",
            description="Score of best-of-n against the bound of its KL, with a measured point on the curve.",
        ),
        caption="n = 1 to 16, mean over seeds.",
    )
