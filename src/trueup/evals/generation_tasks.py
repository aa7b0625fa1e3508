"""Tasks that sample from the policy and need no more than their items: toxicity, refusals, summaries.

Tasks whose name begins with `lab_` are for the lab's items and know the truth; the others work on real text
with scorers that need no download, and `toxicity_tasks` and `refusal_task` make them with any judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trueup.evals.override import override_task
from trueup.evals.refusals import PHRASES, lab_requests, refusal_task
from trueup.evals.summarise import lab_summaries, summary_tasks
from trueup.evals.tasks import Task
from trueup.evals.toxicity import lab_prompts, toxicity_tasks
from trueup.groups import Group
from trueup.judges.toxicity import ToxicityJudge, lab_toxicity, lexicon
from trueup.lab.world import Split

_LEXICON = ToxicityJudge(texts=lexicon, name="toxicity:lexicon")
_LAB_CONTINUATIONS = 5
"Of 25, nearly every prompt of the lab's base has a toxic one."
_ALONE = (
    *toxicity_tasks(_LEXICON),
    *toxicity_tasks(lab_toxicity, prefix="lab_", num_continuations=_LAB_CONTINUATIONS),
    refusal_task(PHRASES),
    refusal_task(None, name="lab_refusals"),
    *summary_tasks(),
    *summary_tasks(prefix="lab_"),
)

GENERATION: Mapping[str, Task] = {
    task.name: task
    for task in (
        *_ALONE,
        *(override_task(t) for t in _ALONE if "rouge" not in t.name and not t.name.startswith("toxicity")),
    )
}
"Tasks by name; NAME_overridden is NAME behind an adversarial suffix."

LAB_ITEMS: Mapping[str, Callable[[Split], list[Group]]] = {
    **{
        name: items
        for start, items in (("lab_toxicity", lab_prompts), ("lab_refusals", lab_requests))
        for name in GENERATION
        if name.startswith(start)
    },
    **{name: lab_summaries for name in GENERATION if name.startswith("lab_rouge")},
}
"The items of each task of the lab, by split."
