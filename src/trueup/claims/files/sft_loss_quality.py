"""Whether the SFT checkpoint with the lowest held-out loss is the one whose answers are best."""

from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.reports.figures import curves

SUMMARY = "A lower held-out loss of SFT does not mean better answers."
REFERENCES = ("ouyang2022", "stiennon2020")
SEEDS = (1, 2, 3, 4, 5)

EPOCHS = (1, 4, 16)
AS_GOOD = 0.02
"Points of gold within which answers count as equally good: the paired error of 500 prompts."


def measure(trials: Trials) -> Finding:
    """What the longest training has over the checkpoint of least loss: in held-out loss, and in gold.

    The checkpoint is chosen by its loss, never by gold, so the gap in gold is not biased by the choice.
    """
    lines, losses, golds = {}, [], []
    for trial in trials:
        points = [(trial.logged(f"sft_{n}", "loss")[-1][1], trial.mean(f"m_sft_{n}", "gold")) for n in EPOCHS]
        least, last = min(points), points[-1]
        losses.append(last[0] - least[0])
        golds.append(last[1] - least[1])
        lines[f"seed {trial.seed}"] = points
    return Finding(
        effects=(
            over_seeds("held-out loss, 16 epochs minus the least", losses, (0.0, None), "nats a token"),
            over_seeds("gold, 16 epochs minus the checkpoint of least loss", golds, (-AS_GOOD, None)),
        ),
        setting="SFT of the lab's base model on 450 demonstrations for 1, 4 and 16 epochs; loss on 150 "
        "others, gold reward on 500 test prompts.",
        figure=curves(
            lines,
            across="held-out loss, nats a token",
            up="gold reward",
            description="Gold reward against held-out loss.",
        ),
        caption="One line a seed, from 1 to 4 to 16 epochs.",
        because="Here loss and gold fall off together. About one demonstration in four is wrong, so learning "
        "them by heart learns mistakes too; whether that is the cause was not measured apart.",
    )
