"""Whether people would prefer the RLHF model's answers to those of the SFT model that it started from."""

from trueup.claims.finding import Finding, Trials, dots, means, over_seeds
from trueup.statistics.estimates import preferences

SUMMARY = "RLHF beats the SFT model that it starts from."
REFERENCES = ("ouyang2022", "stiennon2020")
SEEDS = (1, 2, 3, 4, 5)


def measure(trials: Trials) -> Finding:
    """The gold win rate of PPO over SFT on the same prompts, ties half; the claim is that it is above ½."""
    wins = [float(preferences(t.numbers("m_ppo", "gold"), t.numbers("m_sft", "gold")).mean()) for t in trials]
    gold = means(trials, {"SFT": "m_sft", "PPO": "m_ppo"})
    return Finding(
        effects=(over_seeds("win rate of PPO over SFT", wins, (0.5, None)),),
        setting="PPO against a reward model of simulated labelers' comparisons, from the same SFT "
        "model. Each answers the same 500 test prompts once; the better answer is the one with "
        "more gold reward, which training never asks.",
        figure=dots(gold, across="gold reward on test prompts", description="Gold reward by model."),
    )
