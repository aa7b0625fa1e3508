"""Commands about one model: evaluate, chat, generate, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from trueup.commands.early import check_judge, check_models
from trueup.commands.options import (
    Positive,
    SampleSeed,
    Speaker,
    Temperature,
    Template,
    say,
    say_json,
    write_groups,
)
from trueup.errors import TrueupError, counted

if TYPE_CHECKING:
    from trueup.answerers.local import LocalAnswerer
    from trueup.engine.groups import Message


UNSAID = ("E352", "E560")
"What may be wrong with one line of a talk: it spells a role of the template, or there is no room for it."


def chat(
    model: Speaker,
    /,
    *,
    temperature: Temperature = 0.7,
    max_new_tokens: Positive = 128,
    system: str | None = None,
    template: Template = None,
    seed: SampleSeed = 0,
) -> None:
    """Talk to a model. An empty line or Ctrl-D ends; /new starts over.

    Parameters
    ----------
    max_new_tokens
        Longest reply.
    system
        A system message.
    """
    check_models(model)
    folder = _written_by(model)
    from trueup.engine.groups import Message, Role
    from trueup.reports.visible import visible
    from trueup.sources.sample import Decoding

    speaker = _speaker(folder, template)
    decoding = Decoding(
        temperature=temperature or 1.0, greedy=temperature == 0, max_new_tokens=max_new_tokens
    )
    start: tuple[Message, ...] = (Message(Role.SYSTEM, system),) if system else ()
    history, turn = start, 0
    console = Console(highlight=False)
    console.print(Text(f"{visible(folder)}; an empty line ends, /new starts over", style="dim"))
    while line := _line(console):
        if line == "/new":
            history = start
            continue
        asked = (*history, Message(Role.USER, line))
        try:
            reply = speaker.complete([asked], decoding=decoding, seed=seed + turn)[0][0].text
        except TrueupError as error:
            if error.code not in UNSAID:
                raise
            console.print(Text(f"not sent: {visible(error.reason)}; say it otherwise, or /new starts over"))
            continue
        history = (*asked, Message(Role.ASSISTANT, reply))
        # What a model says is no markup, and moves no cursor.
        console.print(Text.assemble(("model> ", "bold"), visible(reply)), soft_wrap=True)
        turn += 1


def _line(console: Console) -> str:
    """What is typed; nothing where the input ends."""
    try:
        return input("you> ").strip()
    except EOFError:
        console.print()
        return ""


def generate(
    model: Speaker,
    /,
    *prompts: str,
    file: Path | None = None,
    num: Positive = 1,
    judge: str | None = None,
    temperature: Temperature = 1.0,
    max_new_tokens: Positive = 128,
    plain: bool = False,
    template: Template = None,
    seed: SampleSeed = 0,
    out: Path | None = None,
) -> None:
    """Complete prompts and print one JSON object a line.

    Parameters
    ----------
    prompts
        Prompts, each one user turn.
    file
        Prompts from a data file of any format that `trueup data check` knows.
    num
        Completions per prompt; with a judge, the best of so many.
    judge
        A reward model's folder, world:truth or FILE.py:FUNCTION: print only its favourite.
    max_new_tokens
        Longest completion.
    plain
        Continue the prompts as plain text, without the chat template.
    out
        Write groups, as JSON lines, to this file instead; the source of each completion is the model.
    """
    from trueup.data import read
    from trueup.engine.groups import Group, Message, Role, each, readable

    role = Role.TEXT if plain else Role.USER
    asked = [Group(prompt=(Message(role, text),)) for text in prompts]
    if file is not None:
        asked.extend(read(str(file)).groups)
    if not asked:
        raise TrueupError("E725", "no prompts", where="generate", remedy="give prompts, or --file FILE")
    check_judge(judge)
    check_models(model)
    _written_by(model)
    from trueup.evals.completions import generate as complete

    drawn = complete(
        model, asked, k=num, judge=judge, temperature=temperature, max_new_tokens=max_new_tokens,
        template=template, seed=seed,
    )  # fmt: skip
    if out is not None:
        write_groups(out, each(drawn, readable))
        say(f"{counted(len(drawn), 'group')}: {out}")
        return
    for group in drawn:
        texts = [completion.text for completion in group.completions]
        say_json({"prompt": group.prompt[-1].content, "completions": texts}, indent=None)


def _written_by(model: str) -> str:
    """The folder or id of the model that a path means; E767 for one that only scores."""
    from trueup.settings.weights import check_writes, model_folder

    folder = model_folder(model)
    check_writes(folder)
    return folder


def _speaker(folder: str, template: str | None) -> LocalAnswerer:
    from trueup.answerers.open import open_local

    return open_local(folder, template=template)


def export(
    run: Path, out: Path, /, *, adapter: bool = False, push_to_hub: str | None = None, private: bool = True
) -> None:
    """Write a run's model as an ordinary Hugging Face folder with a model card.

    Nothing leaves this machine unless `--push-to-hub` names where to.

    Parameters
    ----------
    run
        The folder of a training run, or of one stage of a recipe's run.
    out
        The new folder.
    adapter
        Keep a LoRA adapter apart instead of merging it.
    push_to_hub
        Send the folder to the Hugging Face hub under this id: OWNER/NAME. `hf auth login` comes first.
    private
        Whether a repository that is made for it is private.
    """
    from trueup.runs.export import export_run, push

    export_run(run, out, merged=not adapter)
    say(f"exported to {out}")
    if push_to_hub is not None:
        say(f"pushed to {push(out, push_to_hub, private=private)}")
