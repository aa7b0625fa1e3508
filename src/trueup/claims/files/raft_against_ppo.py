"""Whether RAFT balances reward and perplexity better than PPO, from one SFT and one reward model."""

import numpy as np

from trueup.claims.finding import Finding, Trials, means, over_seeds, places
from trueup.reports.figures import curves

SUMMARY = "RAFT reaches more reward at a lower perplexity than PPO."
REFERENCES = ("dong2023",)
SEEDS = (1, 2, 3, 4, 5)

RUNS = {"RAFT": "m_raft", "PPO": "m_ppo"}


def measure(trials: Trials) -> Finding:
    """RAFT minus PPO in the reward that both were trained on, and in nats a token of held-out text."""
    reward, log_probs, kl = (means(trials, RUNS, name) for name in ("proxy", "perplexity", "kl"))
    perplexity = {name: np.exp(-values) for name, values in log_probs.items()}
    return Finding(
        effects=(
            over_seeds("reward, RAFT minus PPO", reward["RAFT"] - reward["PPO"], (0.0, None)),
            over_seeds(
                "log perplexity, RAFT minus PPO",
                log_probs["PPO"] - log_probs["RAFT"],
                (None, 0.0),
                "nats a token",
            ),
        ),
        setting="Reward is the reward model's score on 500 test prompts; perplexity is that of 100 "
        "held-out documents of the corpus that the base model was trained on.",
        figure=curves(
            {},
            points=places(perplexity, reward),
            across="perplexity of held-out text",
            up="score of the reward model",
            description="Reward against perplexity by method.",
        ),
        caption="One dot a seed; better is up and to the left.",
        because="RAFT trains on its own favourites and nothing pulls it back: its KL to the SFT model is "
        f"{kl['RAFT'].mean():.2f} nats where PPO's is {kl['PPO'].mean():.2f}. A shorter run is nearer to "
        "the truth and to its start (results/methods.md).",
    )
