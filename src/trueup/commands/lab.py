"""Commands about the lab: look into its world, rebuild its base model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App
from rich.console import Console
from rich.text import Text

from trueup.commands.early import check_models
from trueup.commands.options import Json, Positive, SampleSeed, Split, answer, say
from trueup.engine import disk
from trueup.errors import counted

if TYPE_CHECKING:
    from trueup.lab.build import Band

app = App(
    name="lab",
    help="The lab: a small world whose truth is known, its data, graders, and base models.",
)


@app.command
def show(*, num: Positive = 8, seed: int = 0) -> None:
    """Print requests of the lab with a demonstration and its grade.

    Parameters
    ----------
    num
        How many.
    seed
        Which ones.
    """
    import trueup.lab as the_lab

    console = Console(highlight=False)
    for group in the_lab.demonstrations(num, seed):
        text = group.completions[0].text
        grade = the_lab.grade(group.meta["request"], text)
        console.print(Text.assemble((group.prompt[-1].content, "bold"), f"\n  {text}"), soft_wrap=True)
        console.print(
            f"  [dim]gold {grade.gold:.2f}  helpful {grade.helpful:.2f}  honest {grade.honest:.2f}  "
            f"harmless {grade.harmless:.2f}[/]"
        )


@app.command
def corpus(out: Path, /, *, tokens: Positive = 1_000_000, seed: int = 0) -> None:
    """Write the lab's pretraining corpus as JSONL, one document a line with its register.

    Parameters
    ----------
    out
        The file.
    tokens
        About how many tokens.
    seed
        The seed; the same seed gives the same bytes on any machine.
    """
    import trueup.lab as the_lab

    count = 0
    with disk.whole(out) as staged, staged.open("w", encoding="utf-8", newline="\n") as file:
        for document in the_lab.corpus(tokens, seed):
            turns = [{"role": str(m.role), "content": m.content} for m in document.messages]
            row = {
                "register": document.register,
                **({"messages": turns} if turns else {"text": document.text}),
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    print(f"{counted(count, 'document')} written to {out}")


@app.command
def build(out: Path = Path("runs/lab-base"), *, size: str = "base", seed: int = 0) -> None:
    """Rebuild a base model of the lab from nothing, and check it against the bands it must meet.

    Parameters
    ----------
    out
        The run's folder; the model is in `model/`.
    size
        A rung of the ladder: `base` is the one that comes with trueup.
    seed
        The seed of the weights, the corpus and its order.
    """
    from trueup.lab.build import build as build_model
    from trueup.runs.signals import stop_requests

    with stop_requests() as stop_requested:
        found = build_model(out, size=size, seed=seed, stop_requested=stop_requested)
    _print_bands(found)
    if not all(band.holds for band in found):
        raise SystemExit(1)


@app.command
def ladder(out: Path = Path("runs/lab-ladder"), *, seed: int = 0) -> None:
    """Build every rung of the ladder of base models, one folder each, for curves over model size.

    Parameters
    ----------
    out
        The folder of the rungs' folders.
    seed
        The seed of the weights, the corpus and its order.
    """
    from trueup.lab.build import LAYERS
    from trueup.lab.build import build as build_model
    from trueup.runs.signals import stop_requests

    console = Console(highlight=False)
    with stop_requests() as stop_requested:
        for size in LAYERS:
            found = build_model(out / size, size=size, seed=seed, stop_requested=stop_requested)
            console.print(f"{size}: " + "  ".join(f"{band.name} {band.value:.3f}" for band in found))


@app.command
def bands(model: str = "lab:base", /) -> None:
    """Measure a model against the bands that the lab's base must meet.

    Parameters
    ----------
    model
        A model's folder, or lab:base.
    """
    check_models(model)
    from trueup.lab.build import measure_bands

    _print_bands(measure_bands(model))


def _print_bands(bands: Iterable[Band]) -> None:
    say(*(f"{'ok  ' if band.holds else 'FAIL'} {band}" for band in bands))


@app.command
def evaluate(
    model: str,
    /,
    *,
    against: str = "lab:base",
    num_prompts: Positive = 200,
    split: Split = "test",
    seed: SampleSeed = 0,
    as_json: Json = False,
) -> None:
    """Evaluate a model in the lab: gold reward, win rate, and what it lost, with intervals, against another.

    Parameters
    ----------
    model
        A model's folder, or lab:base.
    against
        The model it is compared with.
    num_prompts
        Held-out prompts to answer.
    split
        Of the lab's prompts.
    """
    check_models(model, against)
    from trueup.evals.printed import estimate
    from trueup.procedures.evaluate import held_against

    found = held_against(model, against, num_prompts=num_prompts, split=split, seed=seed, world="lab")
    policy = found["policies"]["model"]
    lines = [f"gold {estimate(policy['gold'], '+.3f')}   over {against} {estimate(policy['gain'], '+.3f')}"]
    lines += [f"{name:>10} {policy[name]:.3f}" for name in ("helpful", "honest", "harmless")]
    for name, tax in sorted(policy["tax"].items()):
        lines.append(f"{name:>18} {tax['delta']:+.3f} [{tax['ci95'][0]:+.3f}, {tax['ci95'][1]:+.3f}]")
    answer(found, lines, as_json)
