"""Checks that need the tokenizer: ids against text, messages and template; the edges of rows and of turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from trueup.chat import Chat
from trueup.doctor.dump import Row
from trueup.doctor.finding import Case, Check, Finding, Found, counted, finding, of_rows
from trueup.doctor.turns import before_padding, layout_of
from trueup.engine.groups import Message, Role
from trueup.errors import TrueupError

_ROLES = {str(role) for role in (Role.SYSTEM, Role.USER, Role.ASSISTANT)}


def _chat(case: Case) -> Chat:
    assert case.chat is not None
    return case.chat


def vocabulary(case: Case) -> Found:
    """Every id is one of the model's."""
    size = case.vocabulary or 0
    wrong = [row for row in case.rows if (row.ids < 0).any() or (row.ids >= size).any()]
    if not wrong:
        return []
    worst = max((int(i) for row in wrong for i in row.ids), key=lambda i: i if i >= size else -i)
    where = of_rows(len(wrong), len(case.rows))
    says = f"Ids in {where} are outside the model's {size:,} ids, for example {worst}."
    remedy = "Use the tokenizer that belongs to the model; -100 belongs into labels, not into input_ids."
    return [finding("ids outside the vocabulary", says, wrong, remedy, example=worst)]


def begin(case: Case) -> Found:
    """A row begins with one BOS where the template or the tokenizer writes one, and with no second."""
    chat = _chat(case)
    if chat.bos is None:
        return "the tokenizer has no BOS"
    firsts = [(row, row.ids[row.real][:2]) for row in case.rows]
    double = [row for row, first in firsts if len(first) == 2 and (first == chat.bos).all()]
    found = []
    if double:
        says = f"{of_rows(len(double), len(firsts)).capitalize()} begin with two BOS tokens (id {chat.bos})."
        remedy = "The template writes one already: tokenise its text with add_special_tokens=False."
        found.append(finding("double BOS", says, double, remedy))
    layout = layout_of(chat)
    without = [
        row
        for row, first in firsts
        if len(first)
        and first[0] != chat.bos
        and (layout.begins_with_bos if layout.turns(row) else bool(chat.text_bos))
    ]
    if without:
        says = f"{of_rows(len(without), len(firsts)).capitalize()} do not begin with BOS (id {chat.bos})."
        remedy = (
            "The template, or for plain text the tokenizer, writes one: keep it when rows are cut or joined."
        )
        found.append(finding("no BOS", says, without, remedy))
    return found


def padding(case: Case) -> Found:
    """Padding is in no loss, and is not attended to, where it is told by its id: a run of it at a row's end.

    One padding token that a mask attends to, or that a sampler has a log-prob for, is a token like others.
    """
    chat = _chat(case)
    pad = chat.tokenizer.pad_token_id
    if pad is None:
        return "the tokenizer has no padding token"
    ends = pad in chat.stop_ids
    lossy, tokens, seen = [], 0, []
    for row in case.rows:
        run = _run(row, int(pad), ends=ends)
        in_loss = 0 if row.trained is None else int(row.trained[run].sum())
        if row.attention is not None:
            seen += [row] if row.attention[run].any() else []
            in_loss = int((row.trained & row.attention)[run].sum()) if row.trained is not None else 0
        tokens += in_loss
        lossy += [row] if in_loss else []
    found = []
    if lossy:
        says = (
            f"{counted(tokens, 'padding token')} (id {pad}) are in the loss, in "
            f"{of_rows(len(lossy), len(case.rows))}."
        )
        remedy = "Set the loss mask to 0 (labels to -100) at padding, by length and not by id."
        found.append(finding("padding in the loss", says, lossy, remedy, tokens=tokens))
    if seen:
        says = f"Padding (id {pad}) is attended to in {of_rows(len(seen), len(case.rows))}."
        remedy = (
            "Make attention_mask 0 there: right padding then only costs time, left padding shifts positions."
        )
        found.append(replace(finding("padding attended", says, seen, remedy), severity="doubt"))
    return found


def _run(row: Row, pad: int, *, ends: bool) -> np.ndarray:
    """Which tokens are a run of padding at the row's end: one alone only where no mask says otherwise."""
    start = before_padding(row, pad, ends=ends)
    run = np.zeros(len(row.ids), bool)
    run[start:] = len(row.ids) - start > 1 or row.attention is None
    return run if row.sampler is None else run & np.isnan(row.sampler)


# ------------------------------------------------------------------------------------------ the loss's edges


def prompts(case: Case) -> Found:
    """Only what an assistant says is in the loss, found by the template's headers in the ids."""
    if case.loss_on == "everything":
        return "--loss-on everything"
    layout, wrong, seen, tokens, of = layout_of(_chat(case)), [], 0, 0, 0
    for row in case.rows:
        turns = layout.turns(row) if row.trained is not None else None
        if turns is None or row.trained is None:
            continue
        seen += 1
        outside = row.trained & turns.prompt
        tokens, of = tokens + int(outside.sum()), of + int(row.trained.sum())
        wrong += [row] if outside.any() else []
    if not seen:
        return "no row has the template's assistant header"
    if not wrong:
        return []
    says = (
        f"The loss covers prompts in {of_rows(len(wrong), seen)}: {tokens:,} of {of:,} loss tokens are not "
        "an assistant's."
    )
    remedy = "Mask all up to the assistant's header; if prompts are to be learnt, --loss-on everything."
    return [finding("prompt in the loss", says, wrong, remedy, tokens=tokens)]


def ends(case: Case) -> Found:
    """The token that ends an assistant's turn is in the loss with the turn, and is there at all."""
    chat = _chat(case)
    layout = layout_of(chat)
    missed: list[Row] = []
    absent: list[Row] = []
    longest = max((len(row.real) for row in case.rows), default=0)
    seen = 0
    for row in case.rows:
        if row.trained is None or not row.trained.any():
            continue
        seen += 1
        turns = layout.turns(row)
        closed = layout.closings(row) if turns is None else turns.closings
        if any(row.trained[at - 1] and not row.trained[at] for at in closed):
            missed.append(row)
        open_end = not closed if turns is None else turns.open_end
        if open_end and not row.sampled and len(row.real) < longest and _has_prompt(row):
            absent.append(row)
    stop = chat.codec.names.get(chat.stop_ids[0], "") if chat.stop_ids else ""
    found = []
    if missed:
        says = f"The end of the turn ({stop}) is not in the loss in {of_rows(len(missed), seen)}."
        remedy = (
            "Let the mask include the turn's last token, or the model never learns to stop; where one token "
            "pads and ends, mask by length."
        )
        found.append(finding("end of turn not in the loss", says, missed, remedy))
    if absent:
        says = (
            f"{of_rows(len(absent), seen).capitalize()} end without {stop}, and are shorter than the longest "
            "row, so were not cut."
        )
        remedy = "Append the end of turn to each completion before tokenising."
        found.append(finding("no end of turn", says, absent, remedy))
    return found


def _has_prompt(row: Row) -> bool:
    """Whether a part of the row is not in the loss: it is a prompt and an answer, no running text."""
    return row.trained is not None and not row.trained[1:][row.real[1:] - 1].all()


# ------------------------------------------------------------------------------------- ids, texts, templates


def retokenised(case: Case) -> Found:
    """The ids trained on are those that were sampled, and those of data are the ones its text has."""
    chat = _chat(case)
    found: list[Finding] = []
    sampled = [row for row in case.rows if row.sampler_ids is not None]
    moved = [row for row in sampled if not row.keeps_ids]
    if moved:
        at = moved[0]
        assert at.sampler_ids is not None
        says = (
            f"{of_rows(len(moved), len(sampled)).capitalize()} are trained on other ids than were sampled: "
            f"line {at.line} {_first_difference(chat, _tail(at), at.sampler_ids)}."
        )
        remedy = "Pass ids from the sampler to the trainer, never its text."
        found.append(finding("retokenised", says, moved, remedy))
    texts = [row for row in case.rows if row.text is not None]
    wrong = [(row, said) for row in texts if (said := _against_text(chat, row))]
    if wrong:
        row, said = wrong[0]
        says = f"The text of {of_rows(len(wrong), len(texts))} has other ids: line {row.line} {said}."
        remedy = "Encode the whole text at once, or pieces only at borders that the tokenizer never merges."
        found.append(finding("retokenised", says, (row for row, _ in wrong), remedy))
    return found


def _tail(row: Row) -> np.ndarray:
    """What of a row the sampler may have written: from the first token in the loss on."""
    ids = row.ids[row.real]
    if row.trained is None or not row.trained.any():
        return ids
    return ids[int(np.searchsorted(row.real, np.flatnonzero(row.trained)[0])) :]


def _against_text(chat: Chat, row: Row) -> str:
    """How a row's text disagrees with its ids; "" where it does not."""
    codec, ids = chat.codec, row.ids[layout_of(chat).own(row)].tolist()
    text = row.text or ""
    says_marks = codec.pattern.search(text) is not None
    inner = [i for i in ids if i not in codec.names]
    if row.sampled or (not says_marks and _within(ids, codec.names)):
        # Samples are spelt as the policy likes; and a text without its marks cannot be encoded as one.
        shown = codec.decode(ids if says_marks else inner)
        return "" if shown.strip() == text.strip() else f"reads {_cut(shown)}, its text is {_cut(text)}"
    wanted = codec.whole.encode(text, add_special_tokens=False).ids
    ends = set(codec.names)
    trimmed = _trimmed(ids, wanted, ends)
    return "" if trimmed == wanted else _first_difference(chat, np.array(trimmed), np.array(wanted))


def _within(ids: Sequence[int], names: Iterable[int]) -> bool:
    """Whether a control id stands between other ids."""
    marked = [i in set(names) for i in ids]
    plain = [k for k, mark in enumerate(marked) if not mark]
    return bool(plain) and any(marked[plain[0] : plain[-1]])


def _trimmed(ids: list[int], wanted: list[int], ends: set[int]) -> list[int]:
    """The ids without control ids at their ends that the text does not spell."""
    start, stop = 0, len(ids)
    while start < stop and ids[start] in ends and ids[start:] != wanted and ids[start] not in wanted[:1]:
        start += 1
    while stop > start and ids[stop - 1] in ends and (not wanted or ids[start:stop] != wanted):
        if wanted and ids[stop - 1] == wanted[-1] and stop - start <= len(wanted):
            break
        stop -= 1
    return ids[start:stop]


def _first_difference(chat: Chat, ids: np.ndarray, wanted: np.ndarray) -> str:
    pairs = zip_longest(ids.tolist(), wanted.tolist())
    at = next((k for k, (a, b) in enumerate(pairs) if a != b), 0)
    here, there = (chat.codec.decode(x[at : at + 4]) for x in (ids, wanted))
    return (
        f"differs at token {at}: {ids[at : at + 3].tolist()} {_cut(here)} instead of "
        f"{wanted[at : at + 3].tolist()} {_cut(there)}"
    )


def _cut(text: str) -> str:
    return repr(text if len(text) <= 24 else text[:21] + "...")


def template(case: Case) -> Found:
    """A row's ids are what the model's template makes of its messages; of a sampled row, its prompt's are."""
    chat = _chat(case)
    if chat.layout is None:
        return "the model has no chat template"
    rows = [r for r in case.rows if r.messages is not None and {m["role"] for m in r.messages} <= _ROLES]
    if not rows:
        return "no messages of system, user and assistant alone"
    wrong = [(row, said) for row in rows if (said := _against_template(chat, row))]
    if not wrong:
        return []
    says = (
        f"The model's template makes other ids of the messages of {of_rows(len(wrong), len(rows))}: line "
        f"{wrong[0][0].line} {wrong[0][1]}."
    )
    remedy = "Train with the template that the model is served with: compare both tokenizers' chat_template."
    return [finding("template drift", says, (row for row, _ in wrong), remedy)]


def _against_template(chat: Chat, row: Row) -> str:
    assert row.messages is not None and chat.layout is not None
    messages = [{"role": m["role"], "content": m["content"]} for m in row.messages]
    answered = messages[-1]["role"] == Role.ASSISTANT
    generation = row.sampled or not answered
    if row.sampled and answered:
        messages = messages[:-1]
    ids = row.ids[layout_of(chat).own(row)]
    try:
        text = chat.layout.template.run(messages, generation=generation)
    except TrueupError as error:
        return f"is refused ({error.reason})"
    whole = np.array(chat.codec.whole.encode(text, add_special_tokens=False).ids)
    if _fits(ids, whole, chat, prefix=generation) or _fits(
        ids, _ours(chat, messages), chat, prefix=generation
    ):
        return ""
    return _first_difference(chat, ids, whole)


def _ours(chat: Chat, messages: Sequence[dict[str, str]]) -> np.ndarray:
    """The ids that `Chat` puts together from segments, which no content can forge; none where it refuses."""
    said = [Message(Role(m["role"]), m["content"]) for m in messages]
    try:
        if said[-1].role != Role.ASSISTANT:
            return chat.prompt_ids(said)
        return np.concatenate([chat.prompt_ids(said[:-1]), chat.completion_ids(said[-1].content)])
    except TrueupError:
        return np.zeros(0, np.int64)


def _fits(ids: np.ndarray, wanted: np.ndarray, chat: Chat, *, prefix: bool) -> bool:
    """Whether the ids begin with those wanted; what follows the last end of turn may be missing."""
    if len(wanted) == 0:
        return False
    if not prefix:
        stops = np.flatnonzero(np.isin(wanted, chat.stop_ids))
        wanted = wanted[: stops[-1] + 1] if len(stops) else wanted
        rest = ids[len(wanted) :]
        if len(rest) and chat.codec.decode(rest).strip() and not np.isin(rest, chat.stop_ids).all():
            return False
        # A row that was cut at the longest length is the beginning of what is wanted.
    return np.array_equal(ids[: len(wanted)], wanted[: len(ids)] if not prefix else wanted)


CHECKS: tuple[Check, ...] = (
    Check(kinds=("ids outside the vocabulary",), needs=("model",), look=vocabulary),
    Check(kinds=("double BOS", "no BOS"), needs=("model",), look=begin),
    Check(kinds=("padding in the loss", "padding attended"), needs=("model",), look=padding),
    Check(kinds=("prompt in the loss",), needs=("loss", "model"), look=prompts),
    Check(kinds=("end of turn not in the loss", "no end of turn"), needs=("loss", "model"), look=ends),
    Check(kinds=("retokenised",), needs=("model",), look=retokenised),
    Check(kinds=("template drift",), needs=("messages", "model"), look=template),
)
