"""What stages that ask models share: prompts, who answers, what fits and what it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import NamedTuple, cast

from trueup.answerers import Answer, Answerer, Conversation
from trueup.answerers.local import LocalAnswerer
from trueup.answerers.open import SERVER, open_answerer
from trueup.answerers.remote import RemoteAnswerer
from trueup.chat import Chat
from trueup.constitution.revision import unless_forged
from trueup.engine.groups import Group
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.opening import model_path
from trueup.settings.blocks import DataSettings
from trueup.sources.open import read_all, split_held_out
from trueup.sources.sample import Decoding


class Author(NamedTuple):
    """A model as rows name it."""

    name: str
    digest: str
    "SHA-256 over its weights; empty for a server, which does not show them."


class Model(NamedTuple):
    """A model that answers, and what rows call it."""

    answerer: Answerer
    author: Author


def open_model(ref: str, *, device: str, template: str | None) -> Model:
    """The model of a folder, an id, `world:base`, or a server by `openai:URL?model=NAME`.

    The template is for a model that brings none: a stage may ask two models, and one may have its own.
    """
    answerer = open_answerer(ref, device=device)
    if ref.startswith(SERVER):
        return Model(answerer, Author(answerer.name, ""))
    if isinstance(answerer, LocalAnswerer) and answerer.chat.layout is None and template is not None:
        answerer = replace(answerer, chat=Chat.of(answerer.chat.tokenizer, template))
    return Model(answerer, author_of(ref, Path(model_path(ref))))


def author_of(name: str, folder: Path) -> Author:
    """The author in a model's folder or file: named by its weights' digest where there are any, or `name`."""
    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        return Author(name, "")
    state = hashlib.sha256()
    for path in files:
        state.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                state.update(chunk)
    return Author(f"model-{state.hexdigest()[:12]}", state.hexdigest())


def room(answerer: Answerer, new_tokens: int) -> Callable[[Conversation], bool]:
    """Whether a conversation and `new_tokens` more fit the model; of a server's limit nothing is known."""
    if not isinstance(answerer, LocalAnswerer):
        return lambda conversation: True
    config = cast(LanguageModel, answerer.network).config.get_text_config()
    longest = getattr(config, "max_position_embeddings", None)
    if longest is None:
        return lambda conversation: True
    return lambda conversation: len(answerer.chat.prompt_ids(conversation)) + new_tokens <= longest


def complete_fitting(
    answerer: Answerer,
    prompts: Sequence[Conversation],
    *,
    decoding: Decoding,
    k: int = 1,
    stop: Sequence[str] = (),
    seed: int,
) -> list[list[Answer]]:
    """K completions of each prompt, in order; none of one that does not fit the model with its answer.

    Nor is one asked that spells a role of the model's template.
    """
    fits = room(answerer, decoding.max_new_tokens)
    fitting = [unless_forged(lambda prompt=prompt: fits(prompt)) is True for prompt in prompts]
    asked = list(compress(prompts, fitting))
    drawn = iter(answerer.complete(asked, decoding=decoding, k=k, stop=stop, seed=seed))
    return [next(drawn) if fits else [] for fits in fitting]


def tokens_in(answerer: Answerer, texts: Sequence[str]) -> int:
    """How many tokens some completions took: counted here, or by the server since it was opened."""
    if isinstance(answerer, LocalAnswerer):
        return sum(len(answerer.chat.codec.encode_content(text)) + 1 for text in texts)
    return answerer.usage.completion_tokens if isinstance(answerer, RemoteAnswerer) else 0


def charges(*answerers: Answerer) -> dict[str, float]:
    """What servers were asked since they were opened, and its price; nothing where none was."""
    used = [a.usage for a in {id(a): a for a in answerers}.values() if isinstance(a, RemoteAnswerer)]
    names = ("requests", "cached", "prompt_tokens", "completion_tokens", "cost") if used else ()
    return {f"server/{name}": float(sum(getattr(usage, name) for usage in used)) for name in names}


def open_prompts(settings: DataSettings, kinds: Sequence[str], *, seed: int, folder: Path) -> Sequence[Group]:
    """The groups that are not held out, as they are, not encoded: any model may be asked.

    `kinds` keeps requests that say they are of one of them. Raises E825 where nothing is left.
    """
    groups = read_all(settings, seed, folder / "quarantine.jsonl").groups
    if kinds:
        groups = [group for group in groups if group.meta.get("request", {}).get("kind") in kinds]
    groups, _ = split_held_out(groups, settings.held_out, seed)
    if not groups:
        raise TrueupError(
            "E825",
            "no prompt is left",
            where=", ".join(settings.mix.values()) or settings.path,
            remedy="`kinds` are what requests call themselves; `data.held_out` is left out"
            if kinds
            else "give more prompts, or hold none of them out: `--data.held_out 0`",
        )
    return groups
