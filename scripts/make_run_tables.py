"""Writes the tables of pages in results/ from the runs of claims; the words around them stay.

    python scripts/make_run_tables.py runs/claims runs/cai-rungs

Between `<!-- NAME -->` and `<!-- end -->` everything is replaced, so no number is copied by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

import trueup.lab as lab
from blocks import fill
from trueup.claims import reproduce
from trueup.claims.experiment import Trial
from trueup.claims.files.rlaif_plane import HARM, kinds
from trueup.lab.graders import grade
from trueup.runs.recipe import plan, read_recipe, run_stage
from trueup.runs.shipped import recipe_path
from trueup.statistics.estimates import mean_ci

RESULTS = Path(__file__).resolve().parents[1] / "results"
ROUNDS = 5
PARTS = ("harmless", "helpful", "honest", "evasive")
CRITIC = {
    "critique/names_harm": "names the harm of a harmful answer",
    "critique/clears_harmless": "finds no harm in a harmless one",
    "revision/mends_harm": "its revision of a harmful answer is harmless",
    "revision/keeps_harmless": "its revision of a harmless answer is harmless",
    "compare/accuracy": "prefers the harmless of two answers",
    "compare/inconsistent": "prefers another when the order is turned",
}
POLICIES = {
    "base": "base",
    "helpful SFT": "helpful",
    "SL-CAI": "sl_cai",
    "RL-CAI, PPO": "ppo",
    "RL-CAI, DPO": "dpo",
    "RLHF, PPO on people's labels": "rlhf",
}
RUNGS = {
    "base": "base, 0.9 M",
    "medium": "medium, 1.7 M",
    "large": "large, 6.6 M",
    "critic_base": "base, taught",
    "critic_medium": "medium, taught",
    "critic_large": "large, taught",
}
REFUSAL = "I will not help with that."


def main(folder: str, rungs: str) -> int:
    """Exit code 0; the pages hold the numbers of claims run in `folder` and of `cai/rungs` in `rungs`."""
    pages: Mapping[str, Mapping[str, tuple[str, Callable[[Sequence[Trial]], str]]]] = {
        "without-labels.md": {
            "rounds": ("critique-revision", rounds),
            "critics": ("critique-revision", critics),
            "labels": ("rlaif-plane", labels),
            "policies": ("rlaif-plane", policies),
            "truth": ("self-align-truth", truth),
            "filters": ("self-align-truth", filters),
            "distilled": ("distillation-keeps-effect", distilled),
            "soups": ("soup-front", soups),
        },
        "over-optimisation.md": {"guard": ("guard-in-time", guard)},
    }
    for page, blocks in pages.items():
        fill(RESULTS / page, {name: made(trials(of, Path(folder))) for name, (of, made) in blocks.items()})
    fill(RESULTS / "without-labels.md", {"rungs": rungs_table(Path(rungs))})
    return 0


def rungs_table(folder: Path) -> str:
    """What critics of two sizes are worth, bare and taught, and how harmless and helpful their rounds are."""
    stages = {stage.name: stage for stage in plan(read_recipe(recipe_path("cai/rungs")), folder)}
    found = {name: run_stage(stage).metrics for name, stage in stages.items() if stage.done}
    rows = [
        [said, *(f"{found[f'quality_{who}'][name]:.3f}" for who in RUNGS)] for name, said in CRITIC.items()
    ]
    for part in ("harmless", "helpful"):
        for s in range(ROUNDS):
            values = (f"{found[f'rounds_{who}'][f'{part}/{s}']:.3f}" for who in RUNGS)
            rows.append([f"{part} after round {s}", *values])
    return table(["", *RUNGS.values()], rows)


def trials(claim: str, folder: Path) -> list[Trial]:
    """The finished runs of a claim."""
    experiment = reproduce.experiment(claim)
    assert experiment is not None
    return [
        Trial(seed=job.seed, stages={stage.name: stage for stage in plan(job.recipe, folder)})
        for job in experiment.jobs()
    ]


def rounds(runs: Sequence[Trial]) -> str:
    """What the truth says of the answers after each round, and of the base's own rounds beside."""
    rows = [
        [
            f"{s}" if s else "0, the answer",
            *(over([t.done("revisions").metrics[f"{part}/{s}"] for t in runs]) for part in PARTS),
        ]
        for s in range(ROUNDS)
    ]
    alone = [t.done("base_revisions").metrics for t in runs]
    base = [
        [f"{s}, by the base itself", *(over([m[f"{part}/{s}"] for m in alone]) for part in PARTS)]
        for s in range(1, ROUNDS)
    ]
    rises = [
        [
            f"round {s} minus {s - 1}",
            over([_at(t, s) - _at(t, s - 1) for t in runs]),
        ]
        for s in range(1, ROUNDS)
    ]
    shown = table(["round", *PARTS], [*rows, *base])
    return shown + "\n\n" + table(["harmless", "rise"], rises)


def _at(trial: Trial, step: int) -> float:
    return trial.done("revisions").metrics[f"harmless/{step}"]


def critics(runs: Sequence[Trial]) -> str:
    """How well the base and the taught critic do what they are asked, on requests about newcomers."""
    rows = [
        [said, *(over([t.done(who).metrics[name] for t in runs]) for who in ("base_critic", "taught_critic"))]
        for name, said in CRITIC.items()
    ]
    return table(["share of requests on which it", "the base", "after the lessons"], rows)


def labels(runs: Sequence[Trial]) -> str:
    """How often the critic's labels agree with the truth, over the pairs that the truth tells apart."""
    rows = []
    for said, stage in (("the helpful model", "labels"), ("SL-CAI", "own_labels")):
        found = [t.done(stage).metrics for t in runs]
        for part in ("harmless", "helpful", "gold"):
            pairs = np.mean([f[f"agreement/{part}_pairs"] for f in found])
            rows.append([said, part, over([f[f"agreement/{part}"] for f in found]), f"{pairs:.0f}"])
    return table(["pairs of", "truth about", "agreement", "pairs told apart, a seed"], rows)


def policies(runs: Sequence[Trial]) -> str:
    """Every policy: helpful on benign requests, harmless and evasive on harmful ones, gold on all."""
    places = {said: np.array([place(t, f"m_{stage}") for t in runs]) for said, stage in POLICIES.items()}
    rows = [[said, *map(over, found.T)] for said, found in places.items()]
    rows.append(["refuses everything", *(f"{value:.3f}" for value in refuser(1000))])
    for said in ("SL-CAI", "RL-CAI, PPO", "RL-CAI, DPO"):
        rows.append([f"{said} minus helpful SFT", *map(over, (places[said] - places["helpful SFT"]).T)])
    head = ["policy", "helpful, benign", "evasive, benign", "harmless, harmful", "evasive, harmful", "gold"]
    return table(head, rows)


def place(trial: Trial, stage: str) -> tuple[float, ...]:
    """A policy's numbers on the benign and the harmful test prompts."""
    helpful, evasive, harmless, gold = (
        trial.numbers(stage, name).mean(axis=1) for name in ("helpful", "evasive", "harmless", "gold")
    )
    harm = np.array([kind in HARM for kind in kinds(len(helpful))])
    parts = (helpful[~harm], evasive[~harm], harmless[harm], evasive[harm], gold)
    return tuple(float(part.mean()) for part in parts)


def refuser(num_prompts: int) -> tuple[float, ...]:
    """The same numbers of a policy that says one refusal to everything."""
    asked = [group.meta["request"] for group in lab.prompts("new_test", num_prompts)]
    found = [grade(request, REFUSAL) for request in asked]
    harm = np.array([request["kind"] in HARM for request in asked])
    columns = (
        np.array([float(getattr(f, name)) for f in found])
        for name in ("helpful", "evasive", "harmless", "gold")
    )
    helpful, evasive, harmless, gold = columns
    parts = (helpful[~harm], evasive[~harm], harmless[harm], evasive[harm], gold)
    return tuple(float(part.mean()) for part in parts)


def truth(runs: Sequence[Trial]) -> str:
    """The truth exam, gold and evasiveness of each model of SELF-ALIGN."""
    rows = [
        [
            said,
            over([t.mean(f"measure_{stage}", "truth_mc1") for t in runs]),
            over([t.mean(f"measure_{stage}", "truth_mc2") for t in runs]),
            over([t.mean(f"measure_{stage}", "gold") for t in runs]),
            over([t.mean(f"measure_{stage}", "evasive") for t in runs]),
        ]
        for said, stage in (
            ("base", "base"),
            ("base, HHH prompt", "prompted"),
            ("engraved", "engraved"),
            ("cloned", "cloned"),
        )
    ]
    gains = [
        [
            f"engraved minus {stage}",
            *(
                over([_gain(t, stage, name) for t in runs])
                for name in ("truth_mc1", "truth_mc2", "gold", "evasive")
            ),
        ]
        for stage in ("base", "prompted")
    ]
    return table(["model", "MC1", "MC2", "gold", "evasive"], [*rows, *gains])


def _gain(trial: Trial, stage: str, name: str) -> float:
    return trial.mean("measure_engraved", name) - trial.mean(f"measure_{stage}", name)


def filters(runs: Sequence[Trial]) -> str:
    """What each stage kept and dropped, on average."""
    rows = []
    for stage in ("tasks", "answers", "verbose"):
        found = [t.done(stage).metrics for t in runs]
        for name in sorted({name for f in found for name in f if name.startswith(("kept/", "dropped/"))}):
            rows.append([stage, name, f"{np.mean([f.get(name, 0) for f in found]):.0f}"])
    return table(["stage", "count", "mean over seeds"], rows)


def distilled(runs: Sequence[Trial]) -> str:
    """The HHH exam, gold and the last word: bare, prompted, distilled; and distilled minus prompted."""
    columns: Mapping[str, tuple[str, str]] = {
        "HHH comparisons": ("hhh", "hhh"),
        "gold": ("m", "gold"),
        "last word": ("m", "last_word"),
    }

    def value(trial: Trial, model: str, column: str) -> float:
        prefix, name = columns[column]
        return trial.mean(f"{prefix}_{model}", name)

    rows = [
        [said, *(over([value(t, model, column) for t in runs]) for column in columns)]
        for said, model in (("bare base", "base"), ("prompted", "prompted"), ("distilled", "distilled"))
    ]
    less = [over([value(t, "distilled", c) - value(t, "prompted", c) for t in runs]) for c in columns]
    first = runs[0]  # The exam is greedy, so the prompted model's items are the same at every seed.
    items = (first.exam("hhh_prompted", "hhh"), first.numbers("m_prompted", "gold").mean(axis=1))
    spread = [over(list(found)) for found in (*items, first.exam("m_prompted", "last_word"))]
    rows += [["distilled minus prompted", *less], ["prompted, interval over items", *spread]]
    return table(["model", *columns], rows)


def soups(runs: Sequence[Trial]) -> str:
    """Hypervolume of the fronts, and how many trainings each took."""
    fronts = [json.loads((t.folder("soup") / "front.json").read_text("utf-8")) for t in runs]
    volumes = {
        kind: [front["hypervolume"][kind]["mean"] for front in fronts] for kind in fronts[0]["hypervolume"]
    }
    rows = [[kind, over(values)] for kind, values in volumes.items()]
    ratio = [a / b for a, b in zip(volumes["soups"], volumes["morl"], strict=True)]
    return table(["front", "hypervolume"], [*rows, ["soups over MORL", over(ratio)]])


def guard(runs: Sequence[Trial]) -> str:
    """Both runs of every seed: gold at its peak and at the end, and both rewards there."""
    rows = []
    for trial in runs:
        for said, stage in (("left alone", "free"), ("guarded", "guarded")):
            gold, proxy = (dict(trial.logged(stage, name)) for name in ("guard/score", "score"))
            peak, end = max(gold, key=lambda step: gold[step]), max(gold)
            rows.append(
                [
                    str(trial.seed),
                    said,
                    str(end),
                    f"{gold[peak]:.3f} ({peak})",
                    f"{gold[end]:.3f}",
                    f"{trial.logged(stage, 'guard/lost')[-1][1]:.1%}",
                    f"{proxy[peak]:.2f} → {proxy[end]:.2f}",
                    f"{dict(trial.logged(stage, 'kl'))[end]:.2f}",
                ]
            )
    head = ["seed", "run", "steps", "gold at its peak (step)", "gold at the end", "lost of the peak"]
    return table([*head, "proxy at the peak → end", "KL at the end"], rows)


def over(values: Sequence[float]) -> str:
    """The mean over seeds with its 95 % t interval."""
    found = mean_ci(np.asarray(values, np.float64))
    if found.high - found.low < 1e-9:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:3]))
