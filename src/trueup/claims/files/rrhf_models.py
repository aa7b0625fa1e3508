"""How many networks RRHF and PPO hold while they train: counted from the methods that ran."""

from trueup.claims.finding import Effect, Finding, Trials
from trueup.engine.method import Method, Parts
from trueup.models.opening import open_chat
from trueup.reports.figures import Dots, dots
from trueup.runs.recipe import Stage
from trueup.settings.blocks import DataSettings
from trueup.sources.open import open_groups

SUMMARY = "RRHF trains with fewer models in memory than PPO."
REFERENCES = ("yuan2023",)
SEEDS = (1,)


def measure(trials: Trials) -> Finding:
    """The difference in networks, policies, references, critics and reward models counted."""
    methods = {name: built(trials[0].stages[name]) for name in ("rrhf", "ppo")}
    models = {name: len(method.networks) + bool(method.judge) for name, method in methods.items()}
    held = {name: copies(method) for name, method in methods.items()}
    names = {"rrhf": "RRHF", "ppo": "PPO"}
    return Finding(
        effects=(
            Effect(name="models, PPO minus RRHF", value=models["ppo"] - models["rrhf"], wanted=(1, None)),
        ),
        setting="The networks that each run opens: trained, frozen, and the reward model that it asks. RRHF "
        "learns from responses that were ordered before.",
        figure=dots(
            [Dots(names[name], [float(count)]) for name, count in models.items()],
            across="models in memory",
            description="Models in memory by method.",
            rule=0,
        ),
        caption=f"With gradients and Adam's two moments, RRHF holds {held['rrhf']} times a model's weights, "
        f"PPO {held['ppo']} times.",
    )


def built(stage: Stage) -> Method:
    """The method that a stage ran, with its settings, on a few rows: they do not change its networks."""
    chat = open_chat(stage.config.model)
    rows = open_groups(DataSettings(path="lab:comparisons", limit=4, held_out=0), chat, seed=0).train
    parts = Parts(groups=rows, held_out=(), decode=chat.decode, stop_ids=chat.stop_ids)
    return stage.module.build(stage.config, parts)


def copies(method: Method) -> int:
    """Weights, gradients and two moments of every network that is trained, weights of the others."""
    return sum(4 if role.trained else 1 for role in method.networks.values()) + bool(method.judge)
