"""Whether models that were initialised apart can be averaged: the loss halfway between them."""

from trueup.claims.finding import Finding, Trials, over_seeds
from trueup.engine.method import Role
from trueup.evals.exams import run_suite
from trueup.evals.view import PolicyView
from trueup.lab.exams import lab_suite
from trueup.models.opening import open_chat, open_network, pick_device
from trueup.reports.figures import curves
from trueup.settings.blocks import ModelSettings
from trueup.soups.mix import WeightSoup

SUMMARY = "Models pretrained from different initialisations do not mix: the loss between them is far higher."
REFERENCES = ("rame2023",)
SEEDS = (1, 2, 3)

BARRIER = 0.1
"Nats a token over the mean of both ends; between finetunings of one model there is none."
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
DOCUMENTS = 40


def measure(trials: Trials) -> Finding:
    """The loss halfway from each seed's model to the next one's, minus the mean of both ends."""
    models = [str(t.folder("base_600k") / "model") for t in trials]
    paths = {
        f"{a.seed} to {b.seed}": losses(one, other)
        for a, b, one, other in zip(
            trials, [*trials[1:], trials[0]], models, [*models[1:], models[0]], strict=True
        )
    }
    barriers = [line[len(line) // 2] - (line[0] + line[-1]) / 2 for line in paths.values()]
    return Finding(
        effects=(
            over_seeds("loss halfway over the mean of the ends", barriers, (BARRIER, None), "nats a token"),
        ),
        setting="A model pretrained from nothing on 600,000 tokens at every seed, mixed with that of the "
        f"next seed; loss on {DOCUMENTS} held-out documents.",
        figure=curves(
            {f"seeds {name}": list(zip(WEIGHTS, line, strict=True)) for name, line in paths.items()},
            across="weight of the second model",
            up="held-out loss, nats a token",
            description="Loss on the line between models pretrained apart.",
        ),
        caption="One line for each pair of seeds, its ends the models; every model is in two pairs.",
    )


def losses(first: str, second: str) -> list[float]:
    """Nats a token at WEIGHTS on the way from one model to another.

    `open_soup` refuses such a pair, for the reason that is measured here.
    """
    device = pick_device("auto")
    settings = ModelSettings(path=first)
    opened = [
        open_network(Role(trained=False), ModelSettings(path=p), device, seed=0) for p in (first, second)
    ]
    tensors = tuple({n: t.clone().cpu() for n, t in o.module["model"].state_dict().items()} for o in opened)
    soup = WeightSoup(experts=(first, second), start="", network=opened[0], tensors=tensors)
    view = PolicyView(name="mixture", network=opened[0], chat=open_chat(settings), device=device)
    suite = lab_suite("test", ("perplexity",), DOCUMENTS)
    found = []
    for weight in WEIGHTS:
        soup.at((1 - weight, weight))
        found.append(-float(run_suite(view, suite)["perplexity"].mean()))
    return found
