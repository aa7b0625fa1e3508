"""What a tokenizer carries of the chat that its model was trained in, so that whoever opens it need not ask.

A model's folder is the tokenizer's to describe: its chat template, its end token, and two things for which
transformers has no place. Templates with thoughts are told whether to think; what training told them stands
at the template's head as its default. And the end token of a chat model is the end of a turn, so the one that
ends plain texts is kept beside it.
"""

from __future__ import annotations

import copy
import re
from typing import Any

TEXT_END = "trueup_text_end"
"In tokenizer_config.json: the token that ends plain texts, where the end token is the end of a turn."
_THINKING = "enable_thinking"
# Its newline is taken off as one after a block, and no other white space is.
_DEFAULT = "{{%- if {0} is not defined -%}}{{%- set {0} = {1} -%}}{{%- endif %}}\n"
_HEAD = re.compile(re.escape(_DEFAULT.format(_THINKING, "VALUE")).replace("VALUE", "(true|false)"))


def dressed(tokenizer: Any, source: str | None, *, thinking: bool = False) -> Any:
    """The tokenizer with this template as its own, in a copy where it has another; None takes it away.

    A template that asks whether to think is given the answer that holds where nobody says otherwise.
    """
    if source is not None and _THINKING in source:
        head = _DEFAULT.format(_THINKING, str(thinking).lower())
        source = head + bare(source)
    own = tokenizer.chat_template
    several = isinstance(own, dict)
    default = own.get("default") if several else own
    if source == default:
        return tokenizer
    other = copy.copy(tokenizer)
    same = several and source is not None and default is not None and bare(source) == bare(default)
    other.chat_template = {**own, "default": source} if same else source
    return other


def bare(source: str) -> str:
    """The template without the line that says whether to think."""
    return _HEAD.sub("", source, count=1)


def told_to_think(source: str) -> bool | None:
    """Whether a template that came out of `dressed` thinks by default; None of another one."""
    found = _HEAD.match(source)
    return found and found.group(1) == "true"


def text_end(tokenizer: Any) -> int | None:
    """The id of the token that ends plain texts: the end token, unless another one is carried beside it."""
    carried = getattr(tokenizer, "init_kwargs", {}).get(TEXT_END)
    return tokenizer.eos_token_id if carried is None else tokenizer.convert_tokens_to_ids(carried)
