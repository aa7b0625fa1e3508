"""Token ids of a context and its continuations, encoded together, as the field's harness does.

A tokenizer may join the end of a context with the beginning of what follows, so the two are encoded as one
text and the ids of the context alone are cut off its front (Gao et al. 2021, the LM evaluation harness, whose
`_encode_pair` this follows; key gao2021):

    context      = e(x)                  x without its trailing white space
    continuation = e(x ‖ s ‖ y)[|e(x)|:]  s that white space

where e puts the tokenizer's BOS token first if it does so for any text. All continuations of a context share
its ids. One thing differs on purpose: a control token's text (`</s>`) inside x or y is spelled out and never
becomes the token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trueup.chat.encoder import Chat


def joint_ids(chat: Chat, context: str, continuations: Sequence[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The context's ids, int32 [L], and those of each continuation, int32 [L_k]; an L_k may be 0.

    An empty context is the BOS token, or the end token where there is none; without either nothing is before
    the continuation.
    """
    head = context.rstrip()
    rest = context[len(head) :]
    words = chat.codec.encode_content(head, first=True) if head else []
    before = [*chat.text_bos, *words] if head else list(chat.text_start)
    after = []
    for continuation in continuations:
        joined = chat.codec.encode_content(head + rest + continuation, first=True)
        after.append(np.asarray(joined[len(words) :], np.int32))
    return np.asarray(before, np.int32), after
