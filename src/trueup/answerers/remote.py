"""An OpenAI-compatible server that answers: chat completions for conversations, completions for texts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, final

import numpy as np

from trueup.answerers import Answer, Conversation, Floats
from trueup.answerers.cache import Cache
from trueup.answerers.transport import Session, Transport, WrongAnswerError
from trueup.answerers.wire import choices, read_answer, read_echo, read_first, read_usage
from trueup.engine.groups import Role, as_openai
from trueup.engine.order import derive
from trueup.errors import TrueupError

if TYPE_CHECKING:
    from trueup.sources.sample import Decoding

NUM_LISTED = 20
"How many of the likeliest first tokens are asked for; servers give no more."
_T = TypeVar("_T")
_S = TypeVar("_S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was asked of a server so far, and what it counted."""

    requests: int = 0
    "Questions that the server answered."
    cached: int = 0
    "Questions that the disk answered; they cost nothing."
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prices: tuple[float, float] = (0.0, 0.0)
    "Of a million prompt tokens and a million completion tokens, in any one currency."

    @property
    def cost(self) -> float:
        """In the currency of the prices."""
        return (self.prompt_tokens * self.prices[0] + self.completion_tokens * self.prices[1]) / 1e6


@final
class Ledger:
    """Adds up a server's usage; threads share it."""

    def __init__(self, prices: tuple[float, float] = (0.0, 0.0)) -> None:
        self.usage = Usage(prices=prices)
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        """Nothing; the counts are added to the usage."""
        with self._lock:
            now = {name: getattr(self.usage, name) + count for name, count in counts.items()}
            self.usage = replace(self.usage, **now)


@dataclass(frozen=True, kw_only=True, eq=False)
class RemoteAnswerer:
    """Asks a server, `concurrency` questions at a time, and keeps every answer as it comes.

    Each question is one request with a seed of its own, so the same call asks the same requests again and
    finds those answered on disk. Where a request fails for good, those under way end and are kept.
    """

    transport: Transport
    model: str
    cache: Cache
    concurrency: int = 8
    max_tokens: str = "max_tokens"
    "What the field is called that bounds a completion's tokens."
    ledger: Ledger = field(default_factory=Ledger, repr=False)

    @property
    def name(self) -> str:
        """The model's name at the server."""
        return self.model

    @property
    def usage(self) -> Usage:
        """What was asked so far."""
        return self.ledger.usage

    def complete(
        self,
        prompts: Sequence[Conversation],
        *,
        decoding: Decoding,
        k: int = 1,
        stop: Sequence[str] = (),
        seed: int = 0,
        logprobs: bool = False,
    ) -> list[list[Answer]]:
        """K completions of each prompt; a greedy one is asked for once. A server that ignores `n` is asked
        until there are K."""

        def one(job: tuple[int, Conversation], session: Session) -> list[Answer]:
            place, prompt = job
            path, request = self._question(prompt)
            request |= {self.max_tokens: decoding.max_new_tokens, **_sampling(decoding)}
            if stop:
                request["stop"] = list(stop)
            if logprobs:
                request["logprobs"] = True if _is_chat(path) else 1
            wanted = 1 if decoding.greedy else k
            found: list[Answer] = []
            while len(found) < wanted:
                request["seed"] = derive(seed, "answer", place, len(found)) % 2**31
                if wanted - len(found) > 1:
                    request["n"] = wanted - len(found)
                else:
                    request.pop("n", None)
                read = partial(_answers, chat=_is_chat(path), logprobs=logprobs, stop=stop)
                found += self._ask(path, request, read, session)[: wanted - len(found)]
            return found * k if decoding.greedy else found

        return self._each(one, list(enumerate(prompts)))

    def logprobs(self, prompts: Sequence[Conversation], candidates: Sequence[Sequence[str]]) -> list[Floats]:
        """log p of the candidates: after a text whole, by its echo; after a conversation as its first token.

        In a conversation a candidate must be one token of the server's model: −inf where it is not among the
        `NUM_LISTED` likeliest ones.
        """

        def one(job: tuple[Conversation, Sequence[str]], session: Session) -> Floats:
            prompt, texts = job
            path, request = self._question(prompt)
            if _is_chat(path):
                request |= {"logprobs": True, "top_logprobs": NUM_LISTED, "temperature": 1.0, "seed": 0}
                request[self.max_tokens] = 1
                return np.array(self._ask(path, request, partial(read_first, candidates=texts), session))
            asked = {**request, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0.0, "seed": 0}
            return np.array(
                [
                    self._ask(
                        path,
                        {**asked, "prompt": request["prompt"] + text},
                        partial(read_echo, candidate=text),
                        session,
                    )
                    for text in texts
                ]
            )

        return self._each(one, list(zip(prompts, candidates, strict=True)))

    def _question(self, prompt: Conversation) -> tuple[str, dict[str, Any]]:
        if len(prompt) == 1 and prompt[0].role == Role.TEXT:
            return "/completions", {"model": self.model, "prompt": prompt[0].content}
        body = {"model": self.model, "messages": [as_openai(m) for m in prompt]}
        tools = next((m.tools for m in prompt if m.tools), "")
        return "/chat/completions", {**body, "tools": json.loads(tools)} if tools else body

    def _ask(
        self,
        path: str,
        request: Mapping[str, Any],
        read: Callable[[Mapping[str, Any]], _T],
        session: Session,
    ) -> _T:
        """What `read` makes of the answer, from disk where it was given before."""
        url = self.transport.url + path
        kept = self.cache.get(url, request)
        try:
            if kept is not None:
                # What an earlier reader took for an answer and this one does not is asked for again.
                with suppress(WrongAnswerError):
                    found = read(kept)
                    self.ledger.add(cached=1)
                    return found
            answer, found = self.transport.ask(path, request, read, session)
        except TrueupError as error:
            if error.where:
                raise
            # An error of what was read does not know whose answer it was.
            where = f"{url}, model {self.model}"
            raise TrueupError(error.code, error.reason, where=where, remedy=error.remedy) from None
        self.cache.put(url, request, answer)
        self.ledger.add(requests=1, **read_usage(answer))
        return found

    def _each(self, one: Callable[[_S, Session], _T], jobs: Sequence[_S]) -> list[_T]:
        """`one` of every job, in order, several at a time; the first error ends what has not begun."""
        errors: list[BaseException] = []
        # The pool ends first, so no connection closes under a question that is under way.
        with self.transport.session() as session, ThreadPoolExecutor(self.concurrency) as pool:

            def run(job: _S) -> _T:
                try:
                    return one(job, session)
                except BaseException as error:
                    errors.append(error)
                    session.ended.set()
                    raise

            futures = [pool.submit(run, job) for job in jobs]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                if errors:
                    raise errors[0]
                return [future.result() for future in futures]
            finally:
                session.ended.set()
                pool.shutdown(wait=False, cancel_futures=True)


def _answers(answer: Mapping[str, Any], *, chat: bool, logprobs: bool, stop: Sequence[str]) -> list[Answer]:
    return [read_answer(choice, chat=chat, logprobs=logprobs, stop=stop) for choice in choices(answer)]


def _sampling(decoding: Decoding) -> dict[str, Any]:
    """The fields that say how to sample; `top_k` is none of OpenAI's, but one that vLLM and others have."""
    given: dict[str, Any] = {"temperature": 0.0 if decoding.greedy else decoding.temperature}
    if decoding.top_p is not None:
        given["top_p"] = decoding.top_p
    if decoding.top_k is not None:
        given["top_k"] = decoding.top_k
    return given


def _is_chat(path: str) -> bool:
    return path == "/chat/completions"
