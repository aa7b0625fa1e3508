"""What the lab's corpus has critiqued and judged already, and which requests it has not.

The corpus teaches `lab:base` the form of a critique and of a judgement on requests of its own. What that
model says of other requests is its own judgement; of those it may remember what it read.
"""

from __future__ import annotations

from trueup import lab
from trueup.groups import Group

CORPUS_TOKENS = 4_000_000
"About how many tokens of the corpus `lab:base` has read."
REGISTERS = ("critique", "judgement")


def lessons(num_tokens: int = CORPUS_TOKENS, seed: int = 0) -> str:
    """The corpus's critiques, revisions and judgements as one text, a turn a line."""
    taught = (d for d in lab.corpus(num_tokens, seed) if d.register in REGISTERS)
    return "\n\n".join("\n".join(message.content for message in d.messages) for d in taught)


def subject(request: Group) -> str:
    """The words that any lesson about a request of the lab must hold.

    Of an act, what is done to whose thing: it is asked about in several ways, and judged right or wrong in
    one more. Of anything else, the request itself.
    """
    record = request.meta.get("request", {})
    if {"verb", "object", "person"} <= record.keys():
        return f"{record['verb']} the {record['object']} of {record['person']}"
    return "\n".join(message.content for message in request.prompt)
