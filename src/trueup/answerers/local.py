"""A model in this process that answers: our sampler, and scoring that computes shared beginnings once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from trueup.annotate.logprobs import choice_logprobs
from trueup.answerers import Answer, Conversation, Floats, before_stop
from trueup.chat.encoder import Chat, is_text
from trueup.engine.groups import Completion, Group
from trueup.engine.method import Handles, Network
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.generate import Sampled, generate
from trueup.sources.sample import Decoding

HALF = "\ufffd"
"What half a character reads as."
CHARACTER = 4
"Bytes of a character in UTF-8, and so tokens, at most."


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalAnswerer:
    """A network and its chat as an answerer.

    A sample depends on the seed, its prompt's place and its own place alone. Log-probs of samples are at the
    sampling temperature; those of candidates are at the network's.
    """

    name: str
    network: Network
    chat: Chat
    device: torch.device | str = "cpu"
    microbatch_tokens: int = 4096

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
        """K completions of each prompt; a greedy one is drawn once for all."""
        drawn = self.sample(prompts, decoding=decoding, k=1 if decoding.greedy else k, seed=seed)
        out: list[list[Answer]] = []
        for prompt, samples in zip(prompts, drawn, strict=True):
            answers = [self.answer(s, plain=is_text(prompt), stop=stop, logprobs=logprobs) for s in samples]
            out.append(answers * k if decoding.greedy else answers)
        return out

    def sample(
        self,
        prompts: Sequence[Conversation],
        *,
        decoding: Decoding,
        k: int,
        seed: int,
        pulse: Callable[[], None] = lambda: None,
    ) -> list[list[Sampled]]:
        """The samples themselves, as token ids; what `pulse` raises between tokens ends the work."""
        return generate(
            cast(LanguageModel, self.network),
            [self._prompt_ids(prompt, k, len(prompts)) for k, prompt in enumerate(prompts, 1)],
            k=k,
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            top_k=decoding.top_k,
            top_p=decoding.top_p,
            greedy=decoding.greedy,
            stop_ids=self.chat.stop_ids,
            seed=seed,
            pulse=pulse,
        )

    def _prompt_ids(self, prompt: Conversation, place: int, count: int) -> np.ndarray:
        try:
            return self.chat.prompt_ids(prompt)
        except TrueupError as error:
            if error.where or count == 1:
                raise
            where = f"prompt {place} of {count}"
            raise TrueupError(error.code, error.reason, where=where, remedy=error.remedy) from None

    def answer(self, sampled: Sampled, *, plain: bool, stop: Sequence[str], logprobs: bool) -> Answer:
        """What a sample says, cut before the first stop string."""
        whole = self.chat.decode(sampled.tokens, plain=plain)
        text = before_stop(whole, stop)
        finish = "stop" if sampled.finished or text != whole else "length"
        if not logprobs:
            return Answer(text=text, finish=finish)
        kept = len(sampled.tokens) if text == whole else self._num_tokens(sampled.tokens, text, plain)
        return Answer(
            text=text,
            finish=finish,
            tokens=self.token_texts(sampled.tokens)[:kept],
            logprobs=sampled.logprobs[:kept].astype(np.float64),
        )

    def logprobs(self, prompts: Sequence[Conversation], candidates: Sequence[Sequence[str]]) -> list[Floats]:
        """log p of each candidate, its tokens laid out after the prompt's."""
        groups = [
            self.chat.encode(
                Group(prompt=prompt, completions=tuple(Completion(text=t, finished=False) for t in texts))
            )
            for prompt, texts in zip(prompts, candidates, strict=True)
        ]
        return choice_logprobs(groups, "answerer", self.handles) if groups else []

    @property
    def handles(self) -> Handles:
        """What a forward pass over groups needs; the network is named `answerer`."""
        return Handles(
            networks={"answerer": self.network}, device=self.device, microbatch_tokens=self.microbatch_tokens
        )

    def token_texts(self, ids: np.ndarray) -> tuple[str, ...]:
        """The text that each token adds: of half a character nothing, until it is whole. Joined, the text.

        Tokens are read from where a character ended, one whole step back: as many at a time as a character
        takes, however many there are.
        """
        decode = self.chat.codec.decode
        texts: list[str] = []
        begin, settled, said = 0, 0, 0
        for end in range(1, len(ids) + 1):
            now = decode(ids[begin:end])
            whole = end == len(ids) or not now.endswith(HALF) or self._parts_at(ids, settled, end)
            known = now if whole else now.rstrip(HALF)
            texts.append(known[said:])
            said = max(said, len(known))
            if whole:
                begin, settled = settled, end
                said = len(decode(ids[begin:end]))
        return tuple(texts)

    def _parts_at(self, ids: np.ndarray, begin: int, end: int) -> bool:
        """Whether no character lies on both sides of a place: read apart, the tokens say the same."""
        decode = self.chat.codec.decode
        after = end + CHARACTER
        return decode(ids[begin:end]) + decode(ids[end:after]) == decode(ids[begin:after])

    def _num_tokens(self, ids: np.ndarray, text: str, plain: bool) -> int:
        """How many tokens it takes to say at least `text`."""
        counts = range(len(ids) + 1)
        count = bisect_left(
            counts, True, key=lambda n: self.chat.decode(ids[:n], plain=plain).startswith(text)
        )
        # Half a character reads as U+FFFD, so a text that ends with that one may not be there yet.
        while text.endswith(HALF) and not self._parts_at(ids, 0, count):
            count += 1
        return count
