"""Commands about one model: evaluate, chat, generate, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from trueup.commands.early import check_judge, check_models
from trueup.commands.options import Positive, SampleSeed, Speaker, Temperature, Template
from trueup.errors import TrueupError

if TYPE_CHECKING:
    from trueup.engine.groups import Message


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
    from trueup.engine.groups import Message, Role
    from trueup.reports.visible import visible

    speaker = _Speaker(model, template)
    start: tuple[Message, ...] = (Message(Role.SYSTEM, system),) if system else ()
    history, turn = start, 0
    console = Console(highlight=False)
    console.print(Text(f"{model}; an empty line ends, /new starts over", style="dim"))
    while line := _line(console):
        if line == "/new":
            history = start
            continue
        history += (Message(Role.USER, line),)
        ((reply,),) = speaker.answer([history], temperature, max_new_tokens, 1, seed + turn)
        history += (Message(Role.ASSISTANT, reply),)
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
    """
    from trueup.data import read
    from trueup.engine.groups import Completion, Group, Message, Role

    asked: list[tuple[Message, ...]] = [
        (Message(Role.TEXT if plain else Role.USER, text),) for text in prompts
    ]
    if file is not None:
        asked.extend(group.prompt for group in read(str(file)).groups)
    if not asked:
        raise TrueupError("E725", "no prompts", where="generate", remedy="give prompts, or --file FILE")
    check_judge(judge)
    answers = _Speaker(model, template).answer(asked, temperature, max_new_tokens, num, seed)
    if judge is not None:
        from trueup.judges.open import open_judge

        groups = [
            Group(prompt=prompt, completions=tuple(Completion(text=text) for text in texts))
            for prompt, texts in zip(asked, answers, strict=True)
        ]
        scored = zip(answers, open_judge(judge)(groups), strict=True)
        # The first of equals.
        answers = [[texts[max(range(len(texts)), key=row.__getitem__)]] for texts, row in scored]
    for prompt, texts in zip(asked, answers, strict=True):
        print(json.dumps({"prompt": prompt[-1].content, "completions": texts}, ensure_ascii=False))


class _Speaker:
    """A loaded model that answers conversations."""

    def __init__(self, model: str, template: str | None) -> None:
        check_models(model)
        from trueup.models.opening import open_policy
        from trueup.settings.blocks import ModelSettings
        from trueup.settings.weights import model_folder

        self.chat, self.network = open_policy(ModelSettings(path=model_folder(model), template=template))

    def answer(
        self, prompts: list[tuple[Message, ...]], temperature: float, max_new_tokens: int, num: int, seed: int
    ) -> list[list[str]]:
        """`num` completions of each prompt."""
        from trueup.engine.groups import Group
        from trueup.sources.sample import Decoding, sample_groups

        drawn = sample_groups(
            [self.chat.encode(Group(prompt=prompt)) for prompt in prompts],
            self.network,
            decode=self.chat.decode,
            stop_ids=self.chat.stop_ids,
            k=num,
            decoding=Decoding(
                temperature=temperature or 1.0, greedy=temperature == 0, max_new_tokens=max_new_tokens
            ),
            seed=seed,
        )
        return [[c.text for c in group.completions] for group in drawn]


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
