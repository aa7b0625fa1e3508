"""What a model's folder says of how it is spoken to: its template, the end of its turns, and where to stop.

    tokenizer_config.json, chat_template.jinja   the template that it was trained in; its end token ends a turn
    generation_config.json                       eos_token_id: every id that ends a completion, a list

so that transformers, servers and converters stop where training taught the model to stop.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from trueup.chat import Chat
from trueup.chat.carried import TEXT_END
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel

logger = logging.getLogger("trueup")
GENERATION = "generation_config.json"


def save_spoken(network: LanguageModel, folder: Path) -> None:
    """Writes the tokenizer, and the stop tokens of its chat, beside the weights or the adapter in a folder.

    A model whose chat trueup does not support keeps its own words, with a warning.
    """
    try:
        chat = Chat.of(network.tokenizer)
    except TrueupError as error:
        logger.warning("%s: template and stop tokens are saved as they were: %s", folder, error)
        network.tokenizer.save_pretrained(folder)
        return
    chat.tokenizer.save_pretrained(folder)
    _rewrite(folder / "tokenizer_config.json", lambda said: {**_without(said, TEXT_END), **_ends(chat)})
    if not chat.stop_ids:
        return
    held = getattr(network.hf_model, "generation_config", None)
    if held is None:  # the network is a body without an LM head
        held = GenerationConfig(bos_token_id=chat.bos)
    said = {**json.loads(held.to_json_string()), "eos_token_id": list(chat.stop_ids)}
    said["pad_token_id"] = _pad(said.get("pad_token_id"), chat)
    (folder / GENERATION).write_text(_text(said), encoding="utf-8")
    # Readers of config.json alone: one id where one is enough, as some of them take no list.
    stops = list(chat.stop_ids) if len(chat.stop_ids) > 1 else chat.stop_ids[0]
    _rewrite(folder / "config.json", lambda said: {**said, "eos_token_id": stops})


def _ends(chat: Chat) -> dict[str, str]:
    """The tokenizer's end token, which ends a turn, and beside it what ends plain texts if that is another."""
    own = chat.tokenizer.eos_token
    if not chat.stop_ids:
        return {}
    stop = str(chat.tokenizer.convert_ids_to_tokens(chat.stop_ids[0]))
    # A template that writes the end token itself is true with the token that it was trained with only.
    writes = chat.layout is not None and "eos_token" in chat.layout.template.source
    end = own if writes and own is not None else stop
    text = chat.tokenizer.convert_ids_to_tokens(chat.text_stop) if chat.text_stop is not None else end
    return {"eos_token": end} | ({TEXT_END: text} if text != end else {})


def _pad(said: int | None, chat: Chat) -> int:
    """The id that fills up shorter rows: the model's own or its tokenizer's, else what ends plain texts."""
    known = (said, chat.tokenizer.pad_token_id, chat.text_stop, chat.stop_ids[0])
    return next(number for number in known if number is not None and number >= 0)


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if path.is_file():
        path.write_text(_text(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")


def _without(said: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key != name}


def _text(said: dict[str, Any]) -> str:
    return json.dumps(said, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
