"""Whether RRHF gains as much reward as PPO, by the same reward model, without losing more of the language."""

from math import exp

import numpy as np

from trueup.claims.finding import Finding, Trials, means, over_seeds, places
from trueup.reports.figures import curves

SUMMARY = "RRHF reaches the reward of PPO at a perplexity that is no worse."
REFERENCES = ("yuan2023",)
SEEDS = (1, 2, 3, 4, 5)

SHARE = 0.8
"Of PPO's gain over SFT that counts as reaching it."
WORSE = 1.05
"Ratio of perplexities that still counts as no worse: a twentieth of a nat a token."
RUNS = {"SFT": "m_sft", "RRHF": "m_rrhf_rm", "PPO": "m_ppo"}


def measure(trials: Trials) -> Finding:
    """RRHF's gain in proxy reward as a share of PPO's, and the ratio of their perplexities, by seed."""
    reward = means(trials, RUNS, "proxy")
    # The exam's numbers are mean log-probabilities of a document's tokens.
    log_probs = means(trials, RUNS, "perplexity")
    perplexity = {name: np.array([exp(-v) for v in values]) for name, values in log_probs.items()}
    shares = (reward["RRHF"] - reward["SFT"]) / (reward["PPO"] - reward["SFT"])
    ratios = perplexity["RRHF"] / perplexity["PPO"]
    return Finding(
        effects=(
            over_seeds("gain in reward, RRHF's share of PPO's", shares, (SHARE, None)),
            over_seeds("perplexity, RRHF over PPO", ratios, (None, WORSE)),
        ),
        setting="From one SFT model and with one reward model: PPO for 40 steps of 128 samples, and RRHF for "
        "two epochs on four samples for each of 2,000 prompts. Reward is its score on 500 test prompts, "
        "perplexity that of 100 held-out documents.",
        figure=curves(
            {},
            points=places(perplexity, reward),
            across="perplexity of held-out text",
            up="reward, by the reward model",
            description="Reward against perplexity of SFT, RRHF and PPO.",
        ),
        caption="One dot a seed.",
    )
