"""What a teacher says of every next token, written down before the student learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch

from trueup.engine.batch import Batch
from trueup.engine.groups import Group, joined_column
from trueup.engine.method import Handles, Network
from trueup.engine.packing import num_row_tokens, pack, spread
from trueup.engine.room import fitting, passes
from trueup.errors import TrueupError

NamedBy = Literal["teacher", "policy"]
LOWEST = -1e4
"Stands for log 0, so that columns stay finite."


@dataclass(frozen=True, kw_only=True)
class Distributions:
    """Writes the teacher's next-token log-probabilities at every supervised token.

    With `top_k` = k: k ids (`listed_ids` [T, k]) with their log-probabilities and, last, that of all other
    ids together (`teacher_listed` [T, k + 1]); k is V − 1 at most. The ids are the teacher's likeliest, or
    with `named_by` policy the student's own as it is now. Without `top_k`: all of them
    (`teacher_distributions` [T, V]). The bucket keeps what lies outside the list in the divergence; a list
    scaled up to sum to 1 would forget it. With `under` the teacher reads each group as that function gives
    it, another prompt before the same completions, aligned token by token.
    """

    top_k: int | None = None
    named_by: NamedBy = "teacher"
    under: Callable[[Group], Group] | None = None

    reads = frozenset[str]()

    @property
    def writes(self) -> frozenset[str]:
        """The listed ids and their log-probabilities, or the full distributions."""
        return frozenset({"listed_ids", "teacher_listed"} if self.top_k else {"teacher_distributions"})

    def __call__(self, groups: list[Group], handles: Handles) -> list[Group]:
        """The groups with the columns. Raises E558 unless the student's token ids mean the same."""
        teacher = handles.networks["teacher"]
        _check_tokenizers(teacher, handles.networks["policy"])
        seen = groups if self.under is None else [self.under(group) for group in groups]
        _check_context(teacher, seen)
        with torch.no_grad():
            own = fitting(lambda budget: self._written(groups, seen, handles, budget), seen, handles)
        return own if handles.ranks.count == 1 else _joined(groups, own, self.writes, handles)

    def _written(self, groups: list[Group], seen: list[Group], handles: Handles, budget: int) -> list[Group]:
        teacher, student = handles.networks["teacher"], handles.networks["policy"]
        out: list[Group] = []
        start = handles.ranks.mine([num_row_tokens(group) for group in seen]).start
        for micro, real in passes(seen, handles, budget):
            batch = pack(micro).to(handles.device, handles.dtype)
            own = groups[start + len(out) :][: len(micro)] if real else micro
            if self.top_k and self.named_by == "policy":
                ids = student(pack(own).to(handles.device, handles.dtype), (f"top:{self.top_k}",)).listed_ids
                columns = _listed(teacher, batch, ids)
            else:
                columns = self._columns(teacher, batch, _num_ids(student))
            out += spread(own, **columns) if real else []
        return out

    def _columns(self, teacher: Network, batch: Batch, num_ids: int | None) -> dict[str, torch.Tensor]:
        """The columns of one microbatch; the network keeps its logits within their budget."""
        if self.top_k is None:
            table = teacher(batch, ("distributions",)).distributions
            assert table is not None
            _require(num_ids in (None, table.shape[1]), f"{table.shape[1]} token ids and {num_ids}")
            return {"teacher_distributions": table.clamp(min=LOWEST)}
        said = teacher(batch, (f"top:{self.top_k}",))
        assert said.listed is not None and said.listed_ids is not None
        highest = int(said.listed_ids.max()) if said.listed_ids.numel() else 0
        _require(num_ids is None or highest < num_ids, f"a token id {highest}, which the student lacks")
        return {"listed_ids": said.listed_ids, "teacher_listed": said.listed.clamp(min=LOWEST)}


def _joined(groups: list[Group], own: list[Group], columns: Iterable[str], handles: Handles) -> list[Group]:
    """The groups with the columns that each rank has written on its share."""
    tables: dict[str, torch.Tensor] = {}
    for name in sorted(columns):
        table = torch.from_numpy(joined_column(own, name)) if own else torch.empty(0)
        tables[name] = handles.ranks.joined(table)
    return spread(groups, **tables)


def _listed(teacher: Network, batch: Batch, ids: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """What the teacher gives the ids that the student names, and all others together."""
    assert ids is not None
    highest, known = int(ids.max()) if ids.numel() else 0, _num_ids(teacher)
    _require(known is None or highest < known, f"a token id {highest}, which the teacher lacks")
    said = teacher(
        replace(batch, columns={**batch.columns, "listed_ids": ids.to(batch.labels.dtype)}), ("listed",)
    ).listed
    assert said is not None
    return {"listed_ids": ids, "teacher_listed": said.clamp(min=LOWEST)}


def _num_ids(network: Network) -> int | None:
    """Rows of the LM head; None for a network that has no such thing."""
    head = getattr(network, "head", None)
    return None if head is None else head.weight.shape[0]


def _check_tokenizers(teacher: Network, student: Network) -> None:
    first, second = (getattr(network, "tokenizer", None) for network in (teacher, student))
    if first is not None and second is not None and first is not second:
        _require(_same_ids(first, second), "other tokenizers")


@lru_cache(maxsize=8)
def _same_ids(first: Any, second: Any) -> bool:
    return first.get_vocab() == second.get_vocab()


def _require(agree: bool, found: str) -> None:
    if not agree:
        raise TrueupError(
            "E558",
            f"teacher and student have {found}, so no divergence between them is defined",
            where="teacher",
            remedy="take a teacher of the same family, or imitate its text with sft",
        )


def _check_context(teacher: Network, groups: Sequence[Group]) -> None:
    """E560 where the longest sequence is longer than what the teacher was made for."""
    config = getattr(teacher, "config", None)
    longest = getattr(config, "max_position_embeddings", None)
    for group in groups:
        length = len(() if group.prompt_tokens is None else group.prompt_tokens)
        length += max((c.num_tokens for c in group.completions), default=0)
        if longest is not None and length > longest:
            raise TrueupError(
                "E560",
                f"the teacher reads {length} tokens, and its context is {longest}",
                where=f"group {group.id}",
                remedy="a smaller data.max_tokens, fewer dialogues, or a smaller decoding.max_new_tokens",
            )
