"""Text to token ids and back, with every added token kept out of reach of the text.

A tokenizer's added tokens (`<|im_start|>`, `</s>`, `<think>` ...) are matched in a text before the model of
the tokenizer sees it, whether or not they are special. Content therefore goes through copies of the tokenizer
that have no added tokens, so that the text of a control token is spelled out in ordinary ones.

Two copies, because of the leading space: SentencePiece-style tokenizers put a space before a text. `first`
keeps that, for text that begins a sequence; `middle` does not, for text that follows other tokens. All copies
stand on the tokenizer's own model: the vocabulary, which may have 250,000 entries, is neither written out nor
read again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from tokenizers import AddedToken, Encoding, Tokenizer, models

from trueup.errors import TrueupError

_BLANK = " \t\n\r\u2581"
LONG = 1 << 16
"Characters of a text whose encoding takes a tenth of a second or more."
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


@dataclass(frozen=True, eq=False, kw_only=True)
class Codec:
    """A tokenizer taken apart: what encodes templates, what encodes content, which ids are control."""

    whole: Tokenizer
    "The tokenizer as it is: added tokens are matched. For text that a template owns."
    first: Tokenizer
    "No added tokens; for content at the start of a sequence."
    middle: Tokenizer
    "No added tokens and no leading space; for content after other tokens."
    speller: Tokenizer
    "For decoding: all tokens, and no leading space taken away."
    control: Mapping[str, int]
    "Text and id of every added token, special or not, but those of white space alone: they mark nothing."
    names: Mapping[int, str]
    "The same, id to text."
    pattern: re.Pattern[str]
    "Matches the text of a control token, the longest first."
    table: np.ndarray
    "Whether an id is control, bool [largest control id + 2]; the last entry stands for all larger ids."
    _known: dict[tuple[str, bool], list[int]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tokenizer: Any) -> Codec:
        """The codec of a Hugging Face fast tokenizer; another one is an error (E554)."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            remedy = "load one that has a tokenizer.json"
            raise TrueupError("E554", f"{type(tokenizer).__name__} is not a fast tokenizer", remedy=remedy)
        model, state = backend.model, _state(backend)
        added = dict(sorted(backend.get_added_tokens_decoder().items()))
        blank = {number: token for number, token in added.items() if not token.content.strip(_BLANK)}
        control = {token.content: number for number, token in added.items() if number not in blank}
        bare = {**state, "post_processor": None}
        unspaced = _without_leading_space(bare)
        first = _with_added(model, bare, blank)
        table = np.zeros(max(control.values(), default=-1) + 2, bool)
        table[list(control.values())] = True
        longest_first = sorted(control, key=len, reverse=True)
        return cls(
            whole=_over(model, state, added.values()),
            first=first,
            middle=first if unspaced == bare else _with_added(model, unspaced, blank),
            speller=_over(model, _without_leading_space(state), added.values()),
            control=control,
            names={number: text for text, number in control.items()},
            pattern=re.compile("|".join(map(re.escape, longest_first)) or "(?!)"),
            table=table,
        )

    def where_control(self, ids: np.ndarray) -> np.ndarray:
        """The positions of the control ids, increasing; it looks at the ids and at nothing else."""
        return np.flatnonzero(self.table[np.minimum(ids, len(self.table) - 1)])

    def encode_content(self, text: str, *, first: bool = False) -> list[int]:
        """The ids of text that people or models wrote: never a control id, and the text comes back.

        `first` says that the text begins the sequence. Where the tokenizer's own model knows a control
        token's text as one piece (Unigram and word-level models do), that piece is spelled out by encoding
        its first character apart. E555 where even that cannot avoid a control id: a character that the
        tokenizer has no token for.
        """
        ids = self._encode(text, first).ids
        if self.names.keys().isdisjoint(ids):
            return ids
        # Cut behind the first character of each control token's text, overlapping ones too, and behind that
        # of each piece that still is a control id: a normalizer may have made one of other characters.
        starts = [found.start() for found in re.finditer(f"(?={self.pattern.pattern})", text)]
        return self._spelled(_cut(text, starts), first)

    def _spelled(self, pieces: list[str], first: bool) -> list[int]:
        """The ids of a text in pieces, none of them control: pieces with one are cut until there is none."""
        done: list[int] = []
        todo = pieces[::-1]
        while todo:
            piece = todo.pop()
            encoding = self._encode(piece, first)
            found = [k for k, number in enumerate(encoding.ids) if number in self.names]
            if not found:
                done += encoding.ids
                first = False
                continue
            for begin, end in (encoding.offsets[k] for k in found):
                if end - begin < 2:
                    name = self.names[encoding.ids[found[0]]]
                    raise TrueupError(
                        "E555",
                        f"the tokenizer has no token for {piece[begin:end]!r}: it would become {name}",
                        remedy="use a tokenizer with byte fallback, or drop the row",
                    )
            todo += _cut(piece, [encoding.offsets[k][0] for k in found])[::-1]
        return done

    def _encode(self, text: str, first: bool) -> Encoding:
        tokenizer = self.first if first else self.middle
        try:
            if len(text) < LONG:
                return tokenizer.encode(text, add_special_tokens=False)
            # In a batch, as alone it would let no other thread of Python work meanwhile.
            return tokenizer.encode_batch([text], add_special_tokens=False)[0]
        except (TypeError, UnicodeEncodeError):
            raise TrueupError(
                "E555", "the text has a lone surrogate, which no encoding can hold", remedy="repair the row"
            ) from None

    def encode_template(self, text: str, *, first: bool = False) -> list[int]:
        """The ids of text that a template owns: control tokens are matched, as in the rendered whole.

        Text before the first control token follows other tokens unless `first`, and gains no leading space.
        E553 when the tokenizer does not find exactly the control tokens that the text spells.
        """
        if (text, first) not in self._known:
            if len(self._known) >= 4096:
                self._known.clear()
            self._known[text, first] = self._encode_template(text, first)
        return self._known[text, first]

    def _encode_template(self, text: str, first: bool) -> list[int]:
        found = self.pattern.search(text)
        head = len(text) if found is None else found.start()
        if first or head == 0:
            ids = self.whole.encode(text, add_special_tokens=False).ids
        else:
            # The rest starts with a control token, so the tokenizer treats it as it does inside a whole text.
            ids = self.encode_content(text[:head])
            ids = ids + self.whole.encode(text[head:], add_special_tokens=False).ids
        spelled = [self.control[name] for name in self.pattern.findall(text)]
        matched = [number for number in ids if number in self.names]
        if spelled != matched:
            reason = f"the tokenizer reads the template's {text!r} as control ids {matched}, not {spelled}"
            remedy = "repair the added tokens of tokenizer.json (they must not be normalized)"
            raise TrueupError("E553", reason, remedy=remedy)
        return ids

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids that follow other tokens; control ids are shown as their own text, not dropped."""
        parts = []
        for is_control, run in groupby((int(number) for number in ids), self.names.__contains__):
            if is_control:
                parts.extend(self.names[number] for number in run)
            else:
                parts.append(self.speller.decode(list(run), skip_special_tokens=False))
        return "".join(parts)


def _cut(text: str, starts: Sequence[int]) -> list[str]:
    """The text in pieces, cut behind the character at each start."""
    ends = [*(start + 1 for start in starts), len(text)]
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


def _state(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer's JSON with an empty model, and without added tokens, truncation and padding."""
    shell = Tokenizer(models.BPE())
    _furnish(shell, tokenizer)
    return json.loads(shell.to_str())


def _furnish(tokenizer: Tokenizer, of: Tokenizer) -> None:
    for part in _PARTS:
        if getattr(of, part) is not None:
            setattr(tokenizer, part, getattr(of, part))


def _over(model: models.Model, state: Mapping[str, Any], added: Iterable[AddedToken]) -> Tokenizer:
    """A tokenizer over a model, which it shares, with the parts of a JSON and some added tokens."""
    made = Tokenizer(model)
    _furnish(made, Tokenizer.from_str(json.dumps(state)))
    made.add_tokens(list(added))
    return made


def _with_added(model: models.Model, state: Mapping[str, Any], kept: Mapping[int, AddedToken]) -> Tokenizer:
    """The tokenizer with only these added tokens, or with none if their ids would not stay the same."""
    # Known to the tokenizer's own model, as in Gemma, their ids do not depend on the other added tokens.
    known = all(model.token_to_id(token.content) == number for number, token in kept.items())
    return _over(model, state, kept.values() if known else ())


def _without_leading_space(state: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer's JSON without the parts that put a space before a text, or take it away in decoding."""
    changed = dict(state)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        changed[part] = _unspaced(state[part])
    return changed


def _unspaced(part: dict[str, Any] | None) -> dict[str, Any] | None:
    if part is None:
        return None
    kind = part["type"]
    if kind == "Prepend" or (kind == "Strip" and part.get("content") == " "):
        return None
    if kind == "Metaspace":
        return {**part, "prepend_scheme": "never"}
    if kind == "ByteLevel":
        return {**part, "add_prefix_space": False}
    if kind == "Sequence":
        key = next(k for k in ("normalizers", "pretokenizers", "decoders") if k in part)
        return {**part, key: [p for p in map(_unspaced, part[key]) if p is not None]}
    return part
