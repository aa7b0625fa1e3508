"""Commands about one model: evaluate, chat, generate, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators
from rich.console import Console
from rich.text import Text

from trueup.commands.train import Positive
from trueup.engine.groups import Group, Message, Role
from trueup.errors import TrueupError
from trueup.reports.visible import visible
from trueup.settings.blocks import ModelSettings

NotNegative = Annotated[float, Parameter(validator=validators.Number(gte=0))]


def evaluate(
    model: str,
    /,
    *,
    against: str = "lab:base",
    num_prompts: Positive = 200,
    split: Literal["train", "dev", "test"] = "test",
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
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
    seed
        The seed of the samples.
    as_json
        Print JSON.
    """
    from trueup.procedures.evaluate import held_against

    found = held_against(model, against, num_prompts=num_prompts, split=split, seed=seed)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    policy = found["policies"]["model"]
    console.print(f"gold {_interval(policy['gold'])}   over {against} {_interval(policy['gain'])}")
    for name in ("helpful", "honest", "harmless"):
        console.print(f"{name:>10} {policy[name]:.3f}")
    for name, tax in sorted(policy["tax"].items()):
        console.print(f"{name:>18} {tax['delta']:+.3f} [{tax['ci95'][0]:+.3f}, {tax['ci95'][1]:+.3f}]")


def _interval(row: dict) -> str:
    return f"{row['mean']:+.3f} [{row['ci95'][0]:+.3f}, {row['ci95'][1]:+.3f}]"


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
        A model's folder or id, the folder of a run, or lab:base.
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
    speaker = _Speaker(model, template)
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
        asked: tuple[Message, ...] = tuple(history)
        reply = speaker.answer([asked], temperature, max_new_tokens, 1, seed + turn)[0][0]
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
        A model's folder or id, the folder of a run, or lab:base.
    prompts
        Prompts, each one user turn.
    file
        Prompts from a data file of any format that `trueup data check` knows.
    num
        Completions per prompt; with a judge, the best of so many.
    judge
        A reward model's folder, lab:gold or FILE.py:FUNCTION: print only its favourite.
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

    role = Role.TEXT if plain else Role.USER
    asked: list[tuple[Message, ...]] = [(Message(role, text),) for text in prompts]
    if file is not None:
        asked.extend(group.prompt for group in read(str(file)).groups)
    if not asked:
        raise TrueupError("E725", "no prompts", where="generate", remedy="give prompts, or --file FILE")
    speaker = _Speaker(model, template)
    answers = speaker.answer(asked, temperature, max_new_tokens, num, seed)
    if judge is not None:
        answers = [[speaker.best(prompt, texts, judge)] for prompt, texts in zip(asked, answers, strict=True)]
    for prompt, texts in zip(asked, answers, strict=True):
        print(json.dumps({"prompt": prompt[-1].content, "completions": texts}, ensure_ascii=False))


class _Speaker:
    """A loaded model that answers conversations."""

    def __init__(self, model: str, template: str | None) -> None:
        from trueup.engine.method import Role as NetworkRole
        from trueup.evals.evaluation import model_folder
        from trueup.models.opening import open_chat, open_network, pick_device

        settings = ModelSettings(path=model_folder(model), template=template)
        self.chat = open_chat(settings)
        self.network = open_network(NetworkRole(trained=False), settings, pick_device("auto"), seed=0)

    def answer(
        self, prompts: list[tuple[Message, ...]], temperature: float, max_new_tokens: int, num: int, seed: int
    ) -> list[list[str]]:
        """`num` completions of each prompt."""
        from trueup.sources.sample import Decoding, sample_groups

        groups = [self.chat.encode(Group(prompt=prompt)) for prompt in prompts]
        decoding = Decoding(
            temperature=temperature or 1.0, greedy=temperature == 0, max_new_tokens=max_new_tokens
        )
        drawn = sample_groups(
            groups,
            self.network,
            decode=self.chat.decode,
            stop_ids=self.chat.stop_ids,
            k=num,
            decoding=decoding,
            seed=seed,
        )
        return [[c.text for c in group.completions] for group in drawn]

    def best(self, prompt: tuple[Message, ...], texts: list[str], judge: str) -> str:
        """The judge's favourite; the first of equals."""
        from trueup.engine.groups import Completion
        from trueup.judges.open import open_judge

        group = Group(prompt=prompt, completions=tuple(Completion(text=text) for text in texts))
        scores = open_judge(judge)([group])[0]
        return texts[max(range(len(texts)), key=lambda i: scores[i])]


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
