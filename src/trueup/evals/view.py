"""PolicyView: a network as a policy to be evaluated, with what is shown before every prompt and best-of-n."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from trueup.annotate.scores import lowered
from trueup.chat.encoder import Chat, is_text
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.method import Handles, Network
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.evals.joint import joint_ids
from trueup.judges import Judge
from trueup.models.opening import open_policy, pick_device
from trueup.settings.blocks import ModelSettings
from trueup.sources.context import open_context
from trueup.sources.sample import Decoding, sample_groups
from trueup.worlds import lead, leads_to, world_of

_CUT = "tokens_cut"


@dataclass(frozen=True, kw_only=True, eq=False)
class PolicyView:
    """A policy as evaluations see it.

    `prefix` is put before every prompt: whole dialogues before a conversation (after its system message),
    and the same dialogues, rendered, before a plain text (Askell et al. 2021). What is graded and stored is
    the prompt without it. With `best_of` > 1 each completion is the judge's favourite of that many samples.
    """

    name: str
    network: Network
    chat: Chat
    prefix: tuple[Message, ...] = ()
    "Turns of whole dialogues; the last one is the assistant's."
    instruction: str = ""
    "A line put after the user's last message of a conversation, for a policy that is steered by one."
    best_of: int = 1
    judge: Judge | None = None
    "Chooses among `best_of` samples."
    context: int | None = None
    "Longest sequence the network takes, in tokens; None for no limit."
    device: torch.device | str = "cpu"
    microbatch_tokens: int = 4096

    def __post_init__(self) -> None:
        if self.prefix and self.prefix[-1].role != Role.ASSISTANT:
            raise TrueupError(
                "E702", "the prefix does not end with an assistant's turn", remedy="give whole dialogues"
            )
        if self.best_of < 1 or (self.best_of > 1 and self.judge is None):
            raise TrueupError(
                "E702", f"best_of {self.best_of} without a judge", remedy="name the judge that chooses"
            )

    @property
    def handles(self) -> Handles:
        """What `measure` needs; the network is named `policy`."""
        return Handles(
            networks={"policy": self.network}, device=self.device, microbatch_tokens=self.microbatch_tokens
        )

    def encode(
        self, groups: Sequence[Group], *, room: int = 0, score: Literal["last", "all"] = "last"
    ) -> list[Group]:
        """The groups with token ids, the prefix at the head of every prompt's ids but not in its messages.

        With `score="all"` every assistant's turn of a conversation is supervised, not the last one only (the
        prefix never is). Nothing is then dropped to fit the context.
        What is left must hold the completions, or `room` more tokens. Where `context` is too small, the
        oldest turns (or the beginning of a plain text) are dropped, and `tokens_cut` says how many; the
        prefix, the system message and the last turn never are (E560). Choices after a plain text are encoded
        together with it (`joint_ids`).
        """
        lead = self._lead_ids() if self.prefix else None
        return [
            self._encode_text(g, lead, room)
            if is_text(g.prompt)
            else self._encode_turns(g)
            if score == "all"
            else self._encode_chat(g, room)
            for g in map(_uncut, groups)
        ]

    def sample(self, groups: Sequence[Group], *, k: int, decoding: Decoding, seed: int) -> list[Group]:
        """The groups with `k` completions each: samples, or with best-of-n the best of `k` times n."""
        drawn = self.draw(groups, k=k * self.best_of, decoding=decoding, seed=seed)
        if self.best_of == 1:
            return drawn
        assert self.judge is not None
        return choose_best(drawn, self.judge(drawn), self.best_of, seed)

    def draw(self, groups: Sequence[Group], *, k: int, decoding: Decoding, seed: int) -> list[Group]:
        """The groups with `k` plain samples each, no choice made. A greedy policy draws one for all."""
        encoded = self.encode([replace(g, completions=()) for g in groups], room=decoding.max_new_tokens)
        plain = [is_text(g.prompt) for g in encoded]
        out: list[Group] = list(encoded)
        for kind in (False, True):
            places = [i for i, is_plain in enumerate(plain) if is_plain == kind]
            if not places:
                continue
            sampled = sample_groups(
                [encoded[i] for i in places],
                self.network,
                decode=partial(self.chat.decode, plain=kind),
                stop_ids=self.chat.stop_ids,
                k=k,
                decoding=decoding,
                seed=derive(seed, "text" if kind else "chat"),
                name=self.name,
            )
            for place, group in zip(places, sampled, strict=True):
                out[place] = group
        return out

    def _lead_ids(self) -> np.ndarray:
        """The prefix as ids, as the template makes them, up to the last turn's stop token."""
        last = Completion(text=self.prefix[-1].content)
        whole = self.chat.encode(Group(prompt=self.prefix[:-1], completions=(last,)))
        assert whole.prompt_tokens is not None and whole.completions[0].tokens is not None
        return np.concatenate([whole.prompt_tokens, whole.completions[0].tokens])

    def _encode_text(self, group: Group, lead: np.ndarray | None, room: int) -> Group:
        encoded = self._joined(group)
        assert encoded.prompt_tokens is not None
        ids = encoded.prompt_tokens
        bos = len(self.chat.text_bos)
        if lead is not None:
            # One BOS, at the very beginning.
            ids = np.concatenate([lead, ids[bos:] if tuple(lead[:bos]) == self.chat.text_bos else ids])
        kept = bos if lead is None else len(lead)
        excess = self._excess(len(ids), encoded, room)
        if excess > max(0, len(ids) - kept - 1):
            raise self._too_long(group)
        if excess > 0:
            ids = np.concatenate([ids[:kept], ids[kept + excess :]])
            encoded = _marked_cut(encoded, excess)
        return replace(encoded, prompt_tokens=ids.astype(np.int32))

    def _joined(self, group: Group) -> Group:
        """The prompt's ids, and those of its choices, encoded together with it; samples keep their own."""
        fresh = [i for i, c in enumerate(group.completions) if c.tokens is None]
        if not fresh:
            return self.chat.encode(replace(group, prompt_tokens=None))
        before, after = joint_ids(
            self.chat, group.prompt[0].content, [group.completions[i].text for i in fresh]
        )
        completions = list(group.completions)
        for i, ids in zip(fresh, after, strict=True):
            if group.completions[i].finished:
                ids = np.append(ids, self.chat.completion_ids("", finished=True, plain=True))
            completions[i] = replace(group.completions[i], tokens=ids.astype(np.int32), supervised=None)
        return replace(group, prompt_tokens=before, completions=tuple(completions))

    def _encode_chat(self, group: Group, room: int) -> Group:
        system = 1 if group.prompt[0].role == Role.SYSTEM else 0
        history = list(group.prompt[system:])
        whole = 0
        while True:
            prompt = (*group.prompt[:system], *self.prefix, *_instructed(history, self.instruction))
            encoded = self.chat.encode(replace(group, prompt=prompt, prompt_tokens=None))
            assert encoded.prompt_tokens is not None
            length = len(encoded.prompt_tokens)
            whole = max(whole, length)
            if self._excess(length, encoded, room) <= 0:
                return _marked_cut(replace(encoded, prompt=group.prompt), whole - length)
            later = [i for i, m in enumerate(history) if i and m.role == Role.USER]
            if not later:
                raise self._too_long(group)
            history = history[later[0] :]

    def _encode_turns(self, group: Group) -> Group:
        """The whole conversation as one completion of what precedes the assistant's first turn."""
        system = 1 if group.prompt[0].role == Role.SYSTEM else 0
        prompt = (*group.prompt[:system], *self.prefix, *group.prompt[system:])
        spoken = [i for i, m in enumerate(group.prompt) if m.role == Role.ASSISTANT]
        whole = self.chat.encode(replace(group, prompt=prompt, prompt_tokens=None), train_on="all")
        assert whole.prompt_tokens is not None
        if not spoken or not self.prefix:
            encoded = whole
        else:
            first = self.chat.prompt_ids(prompt[: len(self.prefix) + spoken[0]])
            moved = len(first) - len(whole.prompt_tokens)
            encoded = replace(
                whole,
                prompt_tokens=first,
                completions=tuple(_without_start(c, moved) for c in whole.completions),
            )
        assert encoded.prompt_tokens is not None
        if self._excess(len(encoded.prompt_tokens), encoded, 0) > 0:
            raise self._too_long(group)
        return replace(encoded, prompt=group.prompt)

    def _excess(self, prompt_length: int, group: Group, room: int) -> int:
        """How many tokens too long the longest sequence is; not above 0 where it fits."""
        if self.context is None:
            return 0
        longest = max((c.num_tokens for c in group.completions), default=0)
        return prompt_length + max(longest, room) - self.context

    def _too_long(self, group: Group) -> TrueupError:
        return TrueupError(
            "E560",
            f"the prompt does not fit the network's context of {self.context} tokens",
            where=f"policy {self.name}, group {group.id}",
            remedy="use fewer dialogues before it, a smaller max_new_tokens, or leave the prompt out",
        )


def open_view(
    name: str,
    model: str,
    device: torch.device | str = "auto",
    *,
    dtype: Literal["float32", "bfloat16", "float64"] = "float32",
    template: str | None = None,
    **also: Any,
) -> PolicyView:
    """A model as evaluations see it, frozen; `also` are further fields of the view."""
    settings = ModelSettings(path=model, dtype=dtype, template=template)
    device = pick_device("auto") if device == "auto" else torch.device(device)
    chat, network = open_policy(settings, device)
    longest = {"context": network.config.max_position_embeddings}
    return PolicyView(name=name, network=network, chat=chat, device=device, **{**longest, **also})


def open_behind(
    model: str, dialogues: int, context: str, *, template: str | None = None, world: str = ""
) -> PolicyView:
    """A model as a policy behind the first dialogues of a context.

    A context of the run's own world is of the world that is named, or that the model's data came from.
    """
    prefix: tuple[Message, ...] = ()
    if dialogues:
        own = world_of(world, model, where="context") if leads_to(context) else None
        prefix = open_context(lead(context, own) if own else context, dialogues)
    return open_view(model, model, template=template, prefix=prefix)


def tokens_cut(group: Group) -> int:
    """How many tokens of an encoded group's prompt were dropped to fit the context."""
    return int(group.meta.get(_CUT, 0))


def _marked_cut(group: Group, count: int) -> Group:
    return replace(group, meta={**group.meta, _CUT: count}) if count else group


def _uncut(group: Group) -> Group:
    """The group without what an earlier encoding says was dropped."""
    if _CUT not in group.meta:
        return group
    return replace(group, meta={key: value for key, value in group.meta.items() if key != _CUT})


def _instructed(history: Sequence[Message], instruction: str) -> list[Message]:
    """The history with the instruction on a line of its own after the user's last message."""
    asked = [i for i, message in enumerate(history) if message.role == Role.USER]
    out = list(history)
    if instruction and asked:
        out[asked[-1]] = replace(out[asked[-1]], content=f"{out[asked[-1]].content}\n{instruction}")
    return out


def _without_start(completion: Completion, count: int) -> Completion:
    assert completion.tokens is not None and completion.supervised is not None
    return replace(completion, tokens=completion.tokens[count:], supervised=completion.supervised[count:])


def choose_best(
    groups: Sequence[Group],
    scores: Sequence[Sequence[float]],
    n: int,
    seed: int,
    missing_eos: float | None = -1.0,
) -> list[Group]:
    """The groups with the highest-scored of every `n` consecutive completions, ties uniformly at random.

    Scores of completions that hit the length limit are `lowered` first. The choice among equals depends on
    the seed and the place alone (Stiennon et al. 2020 for best-of-n).
    """
    out = []
    for place, (group, values) in enumerate(zip(groups, scores, strict=True)):
        kept = []
        for start in range(0, len(group.completions), n):
            if not np.isfinite(values[start : start + n]).all():
                remedy = "have the judge give a finite number for every text"
                reason = "the judge's score is not finite"
                raise TrueupError("E901", reason, where=f"group {group.id}", remedy=remedy)
            block = group.with_completions(group.completions[start : start + n])
            part = np.asarray(lowered([block], [values[start : start + n]], missing_eos)[0], np.float64)
            best = np.flatnonzero(part == part.max())
            rng = np.random.Generator(np.random.Philox(derive(seed, "tie", place, start)))
            kept.append(group.completions[start + int(best[rng.integers(len(best))])])
        out.append(group.with_completions(kept))
    return out
