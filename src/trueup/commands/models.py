"""Commands about one model: evaluate, chat, generate, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console
from rich.text import Text

from trueup.commands.train import Positive
from trueup.engine.groups import Group, Message, Role
from trueup.errors import TrueupError
from trueup.reports.visible import visible

NotNegative = Annotated[float, Parameter(validator=validators.Number(gte=0))]


def chat(
    model: str,
    /,
    *,
    temperature: NotNegative = 0.7,
    max_new_tokens: Positive = 128,
    system: str | None = None,
    template: str | None = None,
    seed: int = 0,
) -> None:
    """Talk to a model. An empty line or Ctrl-D ends; /new starts over.

    Parameters
    ----------
    model
        A model's folder or id, the folder of a run, or world:base.
    temperature
        0 is greedy.
    max_new_tokens
        Longest reply.
    system
        A system message.
    template
        A chat template by name, where the model brings none.
    seed
        The seed of the samples.
    """
    from trueup.answerers.open import open_local
    from trueup.evals.evaluation import model_folder
    from trueup.sources.sample import Decoding

    speaker = open_local(model_folder(model), template=template)
    decoding = Decoding(
        temperature=temperature or 1.0, greedy=temperature == 0, max_new_tokens=max_new_tokens
    )
    start = [Message(Role.SYSTEM, system)] if system else []
    history = list(start)
    console = Console(highlight=False)
    console.print(Text(f"{model}; an empty line ends, /new starts over", style="dim"))
    turn = 0
    while True:
        try:
            line = input("you> ").strip()
        except EOFError:
            console.print()
            break
        if not line:
            break
        if line == "/new":
            history = list(start)
            continue
        history.append(Message(Role.USER, line))
        reply = speaker.complete([tuple(history)], decoding=decoding, seed=seed + turn)[0][0].text
        history.append(Message(Role.ASSISTANT, reply))
        # What a model says is no markup, and moves no cursor.
        console.print(Text.assemble(("model> ", "bold"), visible(reply)), soft_wrap=True)
        turn += 1


def generate(
    model: str,
    /,
    *prompts: str,
    file: Path | None = None,
    num: Positive = 1,
    judge: str | None = None,
    temperature: NotNegative = 1.0,
    max_new_tokens: Positive = 128,
    plain: bool = False,
    template: str | None = None,
    seed: int = 0,
) -> None:
    """Complete prompts and print one JSON object a line.

    Parameters
    ----------
    model
        A model's folder or id, the folder of a run, or world:base.
    prompts
        Prompts, each one user turn.
    file
        Prompts from a data file of any format that `trueup data check` knows.
    num
        Completions per prompt; with a judge, the best of so many.
    judge
        A reward model's folder, world:truth or FILE.py:FUNCTION: print only its favourite.
    temperature
        0 is greedy.
    max_new_tokens
        Longest completion.
    plain
        Continue the prompts as plain text, without the chat template.
    template
        A chat template by name, where the model brings none.
    seed
        The seed of the samples.
    """
    from trueup.data import read
    from trueup.evals.completions import generate as complete

    role = Role.TEXT if plain else Role.USER
    asked = [Group(prompt=(Message(role, text),)) for text in prompts]
    if file is not None:
        asked.extend(read(str(file)).groups)
    if not asked:
        raise TrueupError("E725", "no prompts", where="generate", remedy="give prompts, or --file FILE")
    drawn = complete(
        model, asked, k=num, judge=judge, temperature=temperature, max_new_tokens=max_new_tokens,
        template=template, seed=seed,
    )  # fmt: skip
    for group in drawn:
        texts = [completion.text for completion in group.completions]
        print(json.dumps({"prompt": group.prompt[-1].content, "completions": texts}, ensure_ascii=False))


def export(run: Path, out: Path, /, *, adapter: bool = False) -> None:
    """Write a run's model as an ordinary Hugging Face folder with a model card.

    Parameters
    ----------
    run
        The folder of a training run, or of one stage of a recipe's run.
    out
        The new folder.
    adapter
        Keep a LoRA adapter apart instead of merging it.
    """
    from trueup.runs.export import export_run

    export_run(run, out, merged=not adapter)
    print(f"exported to {out}")
