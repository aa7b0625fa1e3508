"""What `trueup serve` answers: OpenAI's chat completions and completions, of one model in this process.

A request is read as strictly as a configuration: a field that is not supported is an error that names it,
never ignored. Log-probs are natural logarithms at the request's temperature (at 0, of temperature 1).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple, cast

import numpy as np
import torch
from annotated_types import Ge, Gt, Le

from trueup.answerers import Answer, Conversation
from trueup.answerers.asked import conversation_of
from trueup.answerers.local import LocalAnswerer
from trueup.chat.encoder import is_text
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models.forward import MAX_TEMPERATURE, MIN_TEMPERATURE, LanguageModel
from trueup.models.generate import Sampled
from trueup.settings import config as configuration
from trueup.sources.sample import Decoding

MAX_TOKENS = 256
"Longest completion, where a request does not say."
PATHS = ("/v1/chat/completions", "/v1/completions")
MAX_POSITIONS = 32768
"Longest prompt and completion together, where a model's configuration does not say."
MAX_TURNS = 10_000
MAX_STOPS = 64
LONGEST_TOKEN = 128
"Characters: no vocabulary is known that has a longer token than a run of 128 spaces."


class GivenUpError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The fields of a request, of both forms; `messages` or `prompt` tells which."""

    model: str
    messages: tuple[Any, ...] | None = None
    tools: tuple[Any, ...] | None = None
    tool_choice: Literal["auto"] = "auto"
    prompt: str | None = None
    max_tokens: Annotated[int, Ge(0)] | None = None
    max_completion_tokens: Annotated[int, Ge(1)] | None = None
    temperature: Annotated[float, Ge(0), Le(MAX_TEMPERATURE)] = 1.0
    "0 is greedy."
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    top_k: Annotated[int, Ge(1)] | None = None
    n: Annotated[int, Ge(1), Le(128)] = 1
    seed: Annotated[int, Ge(-(2**63)), Le(2**63 - 1)] | None = None
    stop: str | tuple[str, ...] | None = None
    logprobs: bool | Annotated[int, Ge(0), Le(20)] | None = None
    "Of a chat true or false; of a completion, of how many likeliest tokens beside the one that was sampled."
    top_logprobs: Annotated[int, Ge(0), Le(20)] | None = None
    echo: bool = False
    stream: Literal[False] = False
    user: str = ""

    def decoding(self, room: int) -> Decoding:
        """How to sample, in at most `room` tokens unless the request says."""
        _, limit = self.limit
        return Decoding(
            max_new_tokens=min(MAX_TOKENS, max(room, 1)) if limit is None else limit,
            temperature=self.temperature or 1.0,
            greedy=self.temperature == 0,
            top_p=self.top_p,
            top_k=self.top_k,
        )

    @property
    def limit(self) -> tuple[str, int | None]:
        """The field that says how long a completion may be, and what it says."""
        if self.max_tokens is None and self.max_completion_tokens is not None:
            return "max_completion_tokens", self.max_completion_tokens
        return "max_tokens", self.max_tokens

    @property
    def conversation(self) -> Conversation:
        """What is asked, as everything else here asks it."""
        if self.messages is None:
            return (Message(Role.TEXT, self.prompt or ""),)
        return conversation_of(self.messages, list(self.tools or ()))

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop or ()

    @property
    def num_listed(self) -> int | None:
        """How many likeliest tokens go with each log-prob; None where no log-probs are asked for."""
        if self.messages is None:
            return None if self.logprobs is None or self.logprobs is False else int(self.logprobs)
        return (self.top_logprobs or 0) if self.logprobs else None


class Scored(NamedTuple):
    """Log-probs of some tokens, and the likeliest ids beside each."""

    logprobs: np.ndarray
    ids: np.ndarray
    listed: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Service:
    """One model behind the two paths; whoever calls sees to it that it writes one answer at a time."""

    answerer: LocalAnswerer
    model: str
    "The name that requests must give."
    context: int = MAX_POSITIONS
    "Longest prompt and completion together, in tokens."

    def models(self) -> dict[str, Any]:
        """The list with the one model in it."""
        return {"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": "trueup"}]}

    def read(self, path: str, body: Mapping[str, Any]) -> Request:
        """A request as it may be answered. Raises TrueupError for one that cannot be served."""
        given = {name: value for name, value in body.items() if value is not None}
        self._refuse_many(given)
        request = configuration.build(Request, given, where="request")
        chat = path == PATHS[0]
        if request.model != self.model:
            raise _refused("model", f"no model {request.model!r} here", f"the model is {self.model!r}")
        if (request.messages is None) == chat or (request.prompt is None) != chat:
            raise _refused("messages" if chat else "prompt", "not what this path takes", "see the other path")
        if chat and request.echo:
            raise _refused("echo", "not of a chat", "use /v1/completions")
        if chat and not isinstance(request.logprobs, bool | None):
            raise _refused("logprobs", "of a chat true or false", "say how many by top_logprobs")
        if not chat and request.tools:
            raise _refused("tools", "not of a text", "use /v1/chat/completions")
        _ = request.conversation  # what is no conversation is refused before it waits in line
        self._refuse_extremes(request)
        return request

    def _refuse_many(self, given: Mapping[str, Any]) -> None:
        """Nothing; E702 for more messages or stop strings than can be meant, before each is looked at."""
        # A turn is a token at least, so more turns than positions cannot fit.
        for name, most in {"messages": min(self.context, MAX_TURNS), "stop": MAX_STOPS}.items():
            items = given.get(name)
            if isinstance(items, list) and len(items) > most:
                raise _refused(name, f"{len(items)} are more than {most}", "send fewer")

    def _refuse_extremes(self, request: Request) -> None:
        """Nothing; E702 for a temperature that no logits can be divided by, or what cannot fit."""
        if 0 < request.temperature < MIN_TEMPERATURE:
            remedy = f"the smallest is {MIN_TEMPERATURE:g}; 0 is greedy"
            raise _refused("temperature", f"{request.temperature:g} is too small", remedy)
        field, limit = request.limit
        if (limit or 0) > self.context:
            raise _refused(field, f"{limit} tokens are over {self.context}", "ask for fewer")
        size, most = sum(map(_characters, request.conversation)), self.context * LONGEST_TOKEN
        if size > most:
            reason = f"{size} characters cannot be within {self.context} tokens"
            raise _refused("prompt" if request.messages is None else "messages", reason, "shorten it")

    def answer(self, request: Request, given_up: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """What the model says to it. Raises TrueupError where it does not fit the model.

        `given_up` is asked before each token; once it says so, GivenUpError is raised.
        """

        def pulse() -> None:
            if given_up():
                raise GivenUpError

        prompt = request.conversation
        ids = self.answerer.chat.prompt_ids(prompt)
        room = self.context - len(ids)
        decoding = request.decoding(room)
        if decoding.max_new_tokens > room:
            raise _refused(
                request.limit[0],
                f"{len(ids)} tokens of prompt and {decoding.max_new_tokens} more are over {self.context}",
                "shorten the prompt, or ask for fewer tokens",
            )
        samples = self._samples(request, prompt, decoding, pulse)
        chat = not is_text(prompt)
        given: list[dict[str, Any]] = []
        for place, sampled in enumerate(samples):
            pulse()
            given.append(self._choice(place, request, prompt, ids, decoding, sampled))
        spent = sum(len(sampled.tokens) for sampled in samples)
        return {
            "id": ("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12),
            "object": "chat.completion" if chat else "text_completion",
            "created": int(time.time()),
            "model": self.model,
            "choices": given,
            "usage": {
                "prompt_tokens": len(ids),
                "completion_tokens": spent,
                "total_tokens": len(ids) + spent,
            },
        }

    def _samples(
        self, request: Request, prompt: Conversation, decoding: Decoding, pulse: Callable[[], None]
    ) -> list[Sampled]:
        if decoding.max_new_tokens == 0:
            nothing = Sampled(np.zeros(0, np.int32), np.zeros(0, np.float32), False)
            return [nothing] * request.n
        seed = secrets.randbits(31) if request.seed is None else request.seed
        k = 1 if decoding.greedy else request.n
        (samples,) = self.answerer.sample([prompt], decoding=decoding, k=k, seed=seed, pulse=pulse)
        return samples * request.n if decoding.greedy else samples

    def _choice(
        self,
        place: int,
        request: Request,
        prompt: Conversation,
        ids: np.ndarray,
        decoding: Decoding,
        sampled: Sampled,
    ) -> dict[str, Any]:
        chat, listed = request.messages is not None, request.num_listed
        answer = self.answerer.answer(
            sampled, plain=not chat, stop=request.stops, logprobs=listed is not None
        )
        text = (prompt[0].content if request.echo else "") + answer.text
        choice: dict[str, Any] = {"index": place, "finish_reason": answer.finish, "logprobs": None}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if listed is not None:
            tokens = sampled.tokens[: len(answer.tokens)]
            if chat:
                choice["logprobs"] = {"content": self._content(answer, ids, tokens, listed, decoding)}
            else:
                choice["logprobs"] = self._lists(answer, ids, tokens, listed, decoding, request.echo)
        return choice

    def _content(
        self, answer: Answer, ids: np.ndarray, tokens: np.ndarray, listed: int, decoding: Decoding
    ) -> list[dict[str, Any]]:
        """The log-probs of a chat: one record a token."""
        scored = self._score(ids, tokens, listed, decoding)
        return [
            {
                "token": text,
                "logprob": float(scored.logprobs[t]),
                "bytes": None,
                "top_logprobs": [
                    {"token": self._spelled(i), "logprob": float(value), "bytes": None}
                    for i, value in zip(scored.ids[t], scored.listed[t], strict=True)
                ],
            }
            for t, text in enumerate(answer.tokens)
        ]

    def _lists(
        self,
        answer: Answer,
        ids: np.ndarray,
        tokens: np.ndarray,
        listed: int,
        decoding: Decoding,
        echo: bool,
    ) -> dict[str, Any]:
        """The log-probs of a completion: parallel lists, over the prompt too where it is echoed.

        The first token of a prompt has one only after a BOS token, which itself is not listed.
        """
        texts, unknown = answer.tokens, 0
        if echo:
            chat = self.answerer.chat
            begin = len(ids) if tuple(ids) == chat.text_start else len(chat.text_bos)
            texts = (*self.answerer.token_texts(ids[begin:]), *answer.tokens)
            unknown = 0 if begin or not len(ids) else 1
            ids, tokens = ids[:1], np.concatenate([ids[1:], tokens])
        scored = self._score(ids, tokens, listed, decoding)
        ends = np.cumsum([len(text) for text in texts]) if texts else np.zeros(0, int)
        tops = [
            {self._spelled(i): float(v) for i, v in zip(numbers, values, strict=True)}
            for numbers, values in zip(scored.ids, scored.listed, strict=True)
        ]
        return {
            "tokens": list(texts),
            "token_logprobs": [None] * unknown + [float(v) for v in scored.logprobs],
            "top_logprobs": [None] * unknown + tops if listed else None,
            "text_offset": [int(e) - len(text) for e, text in zip(ends, texts, strict=True)],
        }

    def _score(self, ids: np.ndarray, tokens: np.ndarray, listed: int, decoding: Decoding) -> Scored:
        """log p of `tokens` after `ids`, and the `listed` likeliest ids at each, by one forward pass."""
        if len(tokens) == 0:
            return Scored(np.zeros(0), np.zeros((0, listed), int), np.zeros((0, listed)))
        network = cast(LanguageModel, self.answerer.network).with_temperature(decoding.temperature)
        completion = Completion(text="", tokens=tokens.astype(np.int32))
        group = Group(prompt=(), prompt_tokens=ids, completions=(completion,))
        want = ("logprobs", f"top:{listed}") if listed else ("logprobs",)
        with torch.no_grad():
            said = network(pack([group]).to(self.answerer.device), want)
        assert said.logprobs is not None
        logprobs = said.logprobs.double().cpu().numpy()
        if said.listed is None or said.listed_ids is None:
            return Scored(logprobs, np.zeros((len(tokens), 0), int), np.zeros((len(tokens), 0)))
        return Scored(logprobs, said.listed_ids.cpu().numpy(), said.listed[:, :-1].double().cpu().numpy())

    def _spelled(self, number: Any) -> str:
        return self.answerer.chat.codec.decode([int(number)])


def service_of(answerer: LocalAnswerer, model: str) -> Service:
    """The service of an answerer, with its network's own limit of positions."""
    config = cast(LanguageModel, answerer.network).config
    context = getattr(config.get_text_config(), "max_position_embeddings", None) or MAX_POSITIONS
    return Service(answerer=replace(answerer, name=model), model=model, context=context)


def _characters(message: Message) -> int:
    """How much text a turn holds at least, tools and calls with it."""
    calls = sum(len(call.name) + len(call.arguments) for call in message.tool_calls)
    return len(message.content) + len(message.thinking) + len(message.tools) + calls


def _refused(name: str, reason: str, remedy: str) -> TrueupError:
    return TrueupError("E702", reason, where=f"request {name}", remedy=remedy)
