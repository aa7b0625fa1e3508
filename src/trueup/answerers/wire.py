"""What OpenAI-compatible servers say, read strictly: completions, log-probs of a prompt, of a first token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trueup.answerers import Answer, before_stop
from trueup.answerers.transport import WrongAnswerError
from trueup.errors import TrueupError


def choices(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The choices of an answer, one or more; WrongAnswerError where there are none."""
    found = answer.get("choices")
    if not isinstance(found, list) or not found or not all(isinstance(c, Mapping) for c in found):
        raise WrongAnswerError(f"no choices: {str(dict(answer))[:160]}")
    return found


def read_answer(choice: Mapping[str, Any], *, chat: bool, logprobs: bool, stop: Sequence[str] = ()) -> Answer:
    """One choice of either form, cut before `stop`: some servers (`transformers serve`) leave it in the text.

    A filtered completion has no text and says so in `finish`.
    """
    finish = choice.get("finish_reason")
    message = choice.get("message") if chat else choice
    text = message.get("content" if chat else "text") if isinstance(message, Mapping) else None
    if text is None and finish == "content_filter":
        text = ""
    if not isinstance(text, str) or not isinstance(finish, str):
        raise WrongAnswerError(f"a choice without text, or without finish_reason: {str(dict(choice))[:160]}")
    kept = before_stop(text, stop)
    finish = finish if kept == text else "stop"
    if not logprobs:
        return Answer(text=kept, finish=finish)
    tokens, values = _token_logprobs(choice, chat)
    if any(value is None for value in values):
        raise WrongAnswerError("a sampled token without its log-prob")
    if kept != text:
        begins = np.cumsum([0, *map(len, tokens)])[:-1]
        end = int(np.searchsorted(begins, len(kept)))
        tokens, values = tokens[:end], values[:end]
    return Answer(text=kept, finish=finish, tokens=tuple(tokens), logprobs=np.array(values, np.float64))


def read_echo(answer: Mapping[str, Any], candidate: str) -> float:
    """Σ log p of the tokens of `candidate`, the end of an echoed prompt after which one token was sampled.

    Raises WrongAnswerError where the tokens do not end so, E963 where one belongs to the prompt as well.
    """
    tokens, values = _token_logprobs(choices(answer)[0], chat=False)
    # The sampled token comes last, unless it was an end token that the server does not show.
    for end in (len(tokens) - 1, len(tokens)):
        begin, said = end, ""
        while begin > 0 and len(said) < len(candidate):
            begin -= 1
            said = tokens[begin] + said
        if said == candidate:
            known = [value for value in values[begin:end] if value is not None]
            if len(known) < end - begin:
                raise WrongAnswerError("a token of the echoed prompt has no log-prob")
            return float(sum(known))
        if said.endswith(candidate):
            raise TrueupError(
                "E963",
                f"the server reads the end of the prompt and the beginning of {candidate!r} as one token",
                remedy="end the prompt without a space and begin the candidate with one",
            )
    raise WrongAnswerError(f"the echoed tokens do not end with {candidate!r}")


def read_first(answer: Mapping[str, Any], candidates: Sequence[str]) -> list[float]:
    """log p that the first token is each candidate, white space around it aside; −inf for one not listed.

    A candidate that is not listed is less likely than every token that is.
    """
    given = choices(answer)[0].get("logprobs")
    content = given.get("content") if isinstance(given, Mapping) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], Mapping):
        raise _no_logprobs()
    listed = content[0].get("top_logprobs")
    if not isinstance(listed, list) or not listed:
        raise _no_logprobs()
    pairs = [(_text(token), _value(token.get("logprob"))) for token in listed]
    found = []
    for candidate in candidates:
        mine = [v for text, v in pairs if v is not None and text.strip() == candidate.strip()]
        found.append(float(np.logaddexp.reduce(mine)) if mine else -math.inf)
    return found


def read_usage(answer: Mapping[str, Any]) -> dict[str, int]:
    """Tokens that the server counted, and charges for, by name; 0 where it says nothing."""
    usage = answer.get("usage")
    counts = usage if isinstance(usage, Mapping) else {}
    names = ("prompt_tokens", "completion_tokens")
    return {name: n if isinstance(n := counts.get(name), int) else 0 for name in names}


def _token_logprobs(choice: Mapping[str, Any], chat: bool) -> tuple[list[str], list[float | None]]:
    """The tokens' texts and log-probs, of the form that each of the two kinds of answer has."""
    given = choice.get("logprobs")
    if not isinstance(given, Mapping):
        raise _no_logprobs()
    if chat:
        content = given.get("content")
        if not isinstance(content, list):
            raise _no_logprobs()
        return [_text(token) for token in content], [_value(token.get("logprob")) for token in content]
    tokens, values = given.get("tokens"), given.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        raise _no_logprobs()
    return [str(token) for token in tokens], [_value(value) for value in values]


def _text(token: Any) -> str:
    if not isinstance(token, Mapping) or not isinstance(token.get("token"), str):
        raise WrongAnswerError(f"no token: {str(token)[:80]}")
    return token["token"]


def _value(value: Any) -> float | None:
    if value is None:
        return None
    # A whole number may be beyond every float.
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    if not (whole or isinstance(value, float)) or not value <= 1e-3:
        raise WrongAnswerError(f"{value!r} is no log-prob")
    return float(value)


def _no_logprobs() -> TrueupError:
    return TrueupError(
        "E963",
        "the server gives no log-probs, and they are needed here",
        remedy="use one that does (vLLM, llama.cpp, `trueup serve`), or a judge that reads text: #read=text",
    )
