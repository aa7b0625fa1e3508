"""A reward model as a judge: the scalar its head reads at each completion's last token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from trueup.annotate.logprobs import measure
from trueup.chat.encoder import Chat
from trueup.engine.groups import Completion, Group
from trueup.engine.method import Handles, Network
from trueup.judges import by_group


@dataclass(frozen=True, kw_only=True, eq=False)
class RewardModelJudge:
    """Scores the text that a person would see, encoded anew by the reward model's own tokenizer and template.

    r(x, y) is read at the last token of y: the end token, or the last text token of a completion that was
    cut at the length limit. Tokens and prompt ids that the policy left on the groups are not used, so the
    policy may have another tokenizer, or have been shown other text before the prompt.
    """

    network: Network
    "A network with a `rewards` head."
    chat: Chat
    device: torch.device | str = "cpu"
    microbatch_tokens: int = 4096

    def __call__(self, groups: Sequence[Group]) -> list[list[float]]:
        """The scores of every completion of every group."""
        if not any(g.completions for g in groups):
            return [[] for _ in groups]
        handles = Handles(
            networks={"judge": self.network}, device=self.device, microbatch_tokens=self.microbatch_tokens
        )
        scores = measure([self.encode(g) for g in groups], "judge", "rewards", handles)
        return by_group(groups, scores.double().tolist())

    def encode(self, group: Group) -> Group:
        """The group as the reward model reads it: texts and calls of tools alone, in its own tokens.

        A completion with no text at all is read as ended, because a score needs a token to be read at.
        """
        bare = tuple(_bare(completion) for completion in group.completions)
        return self.chat.encode(replace(group, completions=bare, prompt_tokens=None))


def _bare(c: Completion) -> Completion:
    ended = c.finished or not c.text.strip() or bool(c.tool_calls)
    return Completion(text=c.text, tool_calls=c.tool_calls, finished=ended)
