"""trueup: align language models by any method, and know what it cost.

Every command is a function of its name, on paths and on objects: `trueup.fit`, `trueup.evaluate` ...
`__all__` is the public surface, with a page of its own (docs/python.md), and everything else is internal.
Importing this package loads no torch; the first use of a name loads what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trueup.api.battling import Battle, battle
    from trueup.api.behaviour import Measurement, programs, refusals, summaries, toxicity
    from trueup.api.collecting import Collection, collect
    from trueup.api.comparing import Compared, Reproduced, Run, Soup, compare, reproduce, run, soup
    from trueup.api.evaluation import Evaluation, evaluate
    from trueup.api.judging import Judged, Ratings, generate, judge, rank
    from trueup.api.looking import Preview, cite, config, export, preview, report
    from trueup.api.measuring import Measured, measure
    from trueup.api.models import Model, load
    from trueup.api.planning import plan
    from trueup.api.results import Report, Trained
    from trueup.api.rows import Groups, check, convert, read
    from trueup.api.training import fit
    from trueup.api.watching import Watched, watch
    from trueup.data import Counts, Problem, ReadResult
    from trueup.engine.groups import Comparison, Completion, Group, Message, Ranking, Role, Score
    from trueup.engine.inputs import Input
    from trueup.errors import TrueupError
    from trueup.planning.printed import Plan
    from trueup.runs.meter import Cost
    from trueup.runs.signals import Interrupted
    from trueup.runs.training import Step
    from trueup.statistics.estimates import Estimate

__version__ = "0.1.0"
__all__ = [
    "Battle", "Collection", "Compared", "Comparison", "Completion", "Cost", "Counts", "Estimate",
    "Evaluation",
    "Group", "Groups", "Input", "Interrupted", "Judged", "Measured", "Measurement", "Message", "Model",
    "Plan", "Preview", "Problem", "Ranking", "Ratings", "ReadResult", "Report", "Reproduced", "Role", "Run",
    "Score", "Soup", "Step", "Trained", "TrueupError", "Watched",
    "battle", "check", "cite", "collect", "compare", "config", "convert", "evaluate", "export",
    "fit", "generate", "judge", "load", "measure", "plan", "preview", "programs", "rank", "read", "refusals",
    "report", "reproduce", "run", "soup", "summaries", "toxicity", "watch",
]  # fmt: skip
_HOME = {
    "api.battling": ("Battle", "battle"),
    "api.behaviour": ("Measurement", "programs", "refusals", "summaries", "toxicity"),
    "api.collecting": ("Collection", "collect"),
    "api.comparing": ("Compared", "Reproduced", "Run", "Soup", "compare", "reproduce", "run", "soup"),
    "api.evaluation": ("Evaluation", "evaluate"),
    "api.judging": ("Judged", "Ratings", "generate", "judge", "rank"),
    "api.looking": ("Preview", "cite", "config", "export", "preview", "report"),
    "api.measuring": ("Measured", "measure"),
    "api.models": ("Model", "load"),
    "api.planning": ("plan",),
    "api.results": ("Report", "Trained"),
    "api.rows": ("Groups", "check", "convert", "read"),
    "api.training": ("fit",),
    "api.watching": ("Watched", "watch"),
    "data": ("Counts", "Problem", "ReadResult"),
    "engine.groups": ("Comparison", "Completion", "Group", "Message", "Ranking", "Role", "Score"),
    "errors": ("TrueupError",),
    "engine.inputs": ("Input",),
    "planning.printed": ("Plan",),
    "runs.meter": ("Cost",),
    "runs.signals": ("Interrupted",),
    "runs.training": ("Step",),
    "statistics.estimates": ("Estimate",),
}
"Where each public name lives."


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"trueup.{module}"), name)
    raise AttributeError(f"module 'trueup' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
