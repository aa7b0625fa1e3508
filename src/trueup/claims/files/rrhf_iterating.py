"""Whether RRHF gains again when it goes on with samples of the policy that it has made."""

from trueup.claims.finding import Finding, Trials, dots, means, over_seeds

SUMMARY = "A second round of RRHF, on samples of the policy that the first one made, raises the reward again."
REFERENCES = ("yuan2023",)
SEEDS = (1, 2, 3, 4)

ROUNDS = {"SFT": "m_sft", "first round": "m_rrhf_rm", "second round": "m_rrhf_again"}


def measure(trials: Trials) -> Finding:
    """The second round's gain in proxy reward over the first, seed by seed; gold beside it."""
    proxy = means(trials, ROUNDS, "proxy")
    gains = proxy["second round"] - proxy["first round"]
    gold = ", ".join(f"{name} {values.mean():.3f}" for name, values in means(trials, ROUNDS).items())
    return Finding(
        effects=(over_seeds("reward, second round minus first", gains, (0, None)),),
        setting="RRHF on four samples of an SFT model for each of 2,000 prompts, then from that policy on "
        "four samples of its own for the same prompts; one reward model orders both, and scores 500 tests.",
        figure=dots(proxy, across="reward, by the reward model", description="Reward by round."),
        caption=f"One dot a seed, the mean with its 95 % interval. Mean gold reward: {gold}.",
    )
