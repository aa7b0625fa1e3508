"""Whether RRHF makes a better ranker of a policy than pretraining, SFT and PPO do: the paper's table."""

from trueup.claims.finding import Finding, Trials, dots, handed_on, over_seeds

SUMMARY = "By its own log-probability, RRHF's policy ranks answers better than the base, SFT and PPO do."
REFERENCES = ("yuan2023",)
SEEDS = (1, 2, 3, 4)
MINUTES = 4.0
MARGIN = 0.03
"Points of accuracy, about the error of 500 test prompts."

RANKERS = {
    "base": "by_base",
    "SFT": "by_sft",
    "PPO": "by_ppo",
    "RRHF": "by_rrhf",
    "reward model": "by_reward",
}


def measure(trials: Trials) -> Finding:
    """Held-out accuracy of RRHF minus that of each other policy, seed by seed."""
    found = handed_on(trials, RANKERS, "accuracy")
    return Finding(
        effects=tuple(
            over_seeds(
                f"accuracy, RRHF minus {name}", found["RRHF"] - found[name], (0.0, None), margin=MARGIN
            )
            for name in ("base", "SFT", "PPO")
        ),
        setting="Comparisons by simulated labelers of an SFT model's answers to 500 test prompts, ordered by "
        "the mean log-probability of each policy. RRHF learnt from the comparisons of 2,000 other prompts, "
        "PPO from a reward model of the same.",
        figure=dots(
            found, across="accuracy on held-out comparisons", description="Accuracy by ranker.", rule=0.5
        ),
    )
