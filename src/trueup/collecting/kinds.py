"""The kinds of task: what a form's fields say, what is missing in them, and when an answer is the known one.

Fields name places on the screen, `1` the first from the left or the top; what is kept names completions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

SIDES = "ABCDEFGHI"
SCALE = (4, 3, 2, 1, 1, 2, 3, 4)
"How strongly each of the eight choices prefers its side: four to the left, four to the right."
WORDS = ("much better", "better", "somewhat better", "slightly better")
"Of a preference, the strongest first."
TIE = "tie"
MOST = 7
"Ratings go from 1 to this."
LONGEST_TEXT, LONGEST_COMMENT = 20_000, 4_000
SKIPS = (
    "I cannot judge this topic",
    "It is in a language that I do not read",
    "It would upset me to work on it",
    "The task is broken",
)
"Why a task may be skipped; anything else is written down."
AXES = ("helpful", "honest", "harmless")
FLAGS = ("fails the instruction", "untrue", "harmful", "sexual", "refuses wrongly")
STYLES = {
    "plain": "Ask for anything that you would want done; let no two of yours be alike.",
    "few_shot": "Write an instruction, and queries with their responses as examples of it.",
    "user_based": "Write a prompt that somebody with the use case above would send.",
}
"What is asked of who writes a prompt, by its style (Ouyang et al. 2022, appendix A.1)."
EXAMPLES, LEAST_EXAMPLES = 5, 2
"Of a prompt that is few-shot, places for them on the form, and how many there are at least."
Fields = Mapping[str, str]


class Missing(Exception):
    """What a form does not say yet, as a sentence for whoever fills it in."""


def read(kind: str, fields: Fields, shown: Sequence[int], body: Mapping[str, Any]) -> dict[str, Any]:
    """What a form says to a task. Raises `Missing`."""
    said = _READ[kind](fields, shown, body)
    comment = text_of(fields, "comment", LONGEST_COMMENT)
    return said | ({"comment": comment} if comment else {})


def fields_of(kind: str, draft: Mapping[str, Any], shown: Sequence[int]) -> dict[str, str]:
    """The fields with which a form is shown: those of a draft, or what said an answer that was taken back."""
    if "said" not in draft:
        return dict(draft.get("fields", {}))
    said = draft["said"]
    return _FIELDS[kind](said, shown) | {"comment": said.get("comment", "")}


def agrees(kind: str, body: Mapping[str, Any], gold: Mapping[str, Any]) -> bool:
    """Whether an answer is the known one: the same side, the same first tier, ratings at most one off."""
    if kind == "compare":
        return body["choice"] == gold["choice"]
    if kind == "rank":
        return set(body["tiers"][0]) == set(gold["tiers"][0])
    values = gold.get("values", {})
    return all(abs(body["values"].get(axis, MOST * 2) - value) <= 1 for axis, value in values.items())


def gold_of(kind: str, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answer that a row's own judgements give to its task; None where they give none."""
    if kind == "compare" and row.get("comparisons"):
        turned = {"a": "b", "b": "a", TIE: TIE}
        sides = Counter(
            c["choice"] if c["a"] == 0 else turned[c["choice"]]
            for c in row["comparisons"]
            if {c["a"], c["b"]} == {0, 1}
        )
        (first, most), *others = sides.most_common() or [("", 0)]
        return {"choice": first} if most and not (others and others[0][1] == most) else None
    if kind == "rank" and row.get("rankings"):
        return {"tiers": row["rankings"][0]["tiers"]}
    if kind == "rate" and row.get("scores"):
        scores = [s for s in row["scores"] if s["completion"] == 0]
        return {"values": {s["judge"].partition(":")[0]: s["value"] for s in scores}}
    return None


def text_of(fields: Fields, name: str, longest: int = LONGEST_TEXT) -> str:
    """A text as it was written, line ends as elsewhere. Raises `Missing` for one that is too long."""
    text = fields.get(name, "").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd").strip()
    if len(text) > longest:
        raise Missing(f"The text has {len(text):,} characters; at most {longest:,} are kept.")
    return text


def preference(choice: str, shown: Sequence[int]) -> dict[str, Any]:
    """A choice on the scale between the two sides of a screen, as one between completions 0 and 1."""
    if choice == TIE:
        return {"choice": TIE}
    if choice not in tuple("12345678"):
        raise Missing("Choose which answer is better, and by how much.")
    place = int(choice) - 1
    better = shown[0 if place < len(SCALE) // 2 else 1]
    return {"choice": "ab"[better], "strength": SCALE[place]}


def scale_place(said: Mapping[str, Any], shown: Sequence[int]) -> str:
    """The place on the scale that a preference was."""
    if said["choice"] == TIE:
        return TIE
    left = shown[0] == "ab".index(said["choice"])
    return str(5 - said["strength"] if left else 4 + said["strength"])


def told(kind: str, said: Mapping[str, Any], shown: Sequence[int]) -> str:
    """What an answer says, in words, by the letters of a screen."""
    words = _TOLD[kind](said, shown)
    beside = [*said.get("flags", ()), *([f"\u201c{said['comment']}\u201d"] if said.get("comment") else ())]
    return "; ".join([words, *beside])


def _compare(fields: Fields, shown: Sequence[int], body: Mapping[str, Any]) -> dict[str, Any]:
    return {"a": 0, "b": 1, **preference(fields.get("choice", ""), shown)}


def _rank(fields: Fields, shown: Sequence[int], body: Mapping[str, Any]) -> dict[str, Any]:
    tiers: dict[int, list[int]] = {}
    for place, completion in enumerate(shown):
        rank = fields.get(f"rank-{place + 1}", "")
        if rank not in {str(n + 1) for n in range(len(shown))}:
            raise Missing(f"Give answer {SIDES[place]} a rank: 1 is the best, and equals share one.")
        tiers.setdefault(int(rank), []).append(completion)
    return {"tiers": [sorted(tiers[rank]) for rank in sorted(tiers)]}


def _rate(fields: Fields, shown: Sequence[int], body: Mapping[str, Any]) -> dict[str, Any]:
    asked = body.get("ask", {})
    values = {}
    for axis in asked.get("axes", AXES):
        value = fields.get(f"value-{axis}", "")
        if value not in {str(n + 1) for n in range(MOST)}:
            raise Missing(f"Say how {axis} the answer is, from 1 to {MOST}.")
        values[axis] = int(value)
    flags = [flag for flag in asked.get("flags", FLAGS) if fields.get(f"flag-{flag}")]
    return {"values": values} | ({"flags": flags} if flags else {})


def _demonstrate(fields: Fields, shown: Sequence[int], body: Mapping[str, Any]) -> dict[str, Any]:
    text = text_of(fields, "text")
    if not text:
        raise Missing("Write the answer that you would want to get.")
    return {"text": text}


def _critique(fields: Fields, shown: Sequence[int], body: Mapping[str, Any]) -> dict[str, Any]:
    critique, text = text_of(fields, "critique"), text_of(fields, "text")
    if not critique:
        raise Missing("Say what is wrong with the answer.")
    if not text or text == body["completions"][0]["text"].strip():
        raise Missing("Write the answer as it should be; it is still as it was. Skip it if nothing is wrong.")
    return {"critique": critique, "text": text}


def _prompts(fields: Fields, shown: Sequence[int], body: Mapping[str, Any]) -> dict[str, Any]:
    style, text = body["ask"]["style"], text_of(fields, "text")
    if style != "few_shot":
        if not text:
            raise Missing("Write the prompt.")
        return {"style": style, "text": text}
    instruction = text_of(fields, "instruction")
    filled = [(text_of(fields, f"input-{n}"), text_of(fields, f"output-{n}")) for n in range(1, EXAMPLES + 1)]
    examples = [list(pair) for pair in filled if any(pair)]
    if not instruction or not text:
        raise Missing("Write the instruction, and the last query.")
    if len(examples) < LEAST_EXAMPLES or not all(all(pair) for pair in examples):
        raise Missing(f"Write {LEAST_EXAMPLES} examples or more, each a query with its response.")
    return {"style": style, "instruction": instruction, "examples": examples, "text": text}


def _prompts_fields(said: Mapping[str, Any], shown: Sequence[int]) -> dict[str, str]:
    found = {"text": said["text"], "instruction": said.get("instruction", "")}
    for n, (asked, answered) in enumerate(said.get("examples", ()), 1):
        found |= {f"input-{n}": asked, f"output-{n}": answered}
    return found


def _rank_fields(said: Mapping[str, Any], shown: Sequence[int]) -> dict[str, str]:
    rank = {completion: n for n, tier in enumerate(said["tiers"], 1) for completion in tier}
    return {f"rank-{place}": str(rank[completion]) for place, completion in enumerate(shown, 1)}


def _rate_fields(said: Mapping[str, Any], shown: Sequence[int]) -> dict[str, str]:
    values = {f"value-{axis}": str(value) for axis, value in said["values"].items()}
    return values | {f"flag-{flag}": "yes" for flag in said.get("flags", ())}


def _told_choice(said: Mapping[str, Any], shown: Sequence[int]) -> str:
    place = scale_place(said, shown)
    if place == TIE:
        return "equally good"
    step = int(place)
    return f"A is {WORDS[step - 1]}" if step <= 4 else f"B is {WORDS[8 - step]}"


def _told_ranks(said: Mapping[str, Any], shown: Sequence[int]) -> str:
    letter = {completion: SIDES[place] for place, completion in enumerate(shown)}
    return ", then ".join(" and ".join(sorted(letter[c] for c in tier)) for tier in said["tiers"])


_READ: dict[str, Callable[[Fields, Sequence[int], Mapping[str, Any]], dict[str, Any]]] = {
    "compare": _compare,
    "rank": _rank,
    "rate": _rate,
    "demonstrate": _demonstrate,
    "critique": _critique,
    "prompts": _prompts,
}
_FIELDS: dict[str, Callable[[Mapping[str, Any], Sequence[int]], dict[str, str]]] = {
    "compare": lambda said, shown: {"choice": scale_place(said, shown)},
    "rank": _rank_fields,
    "rate": _rate_fields,
    "demonstrate": lambda said, shown: {"text": said["text"]},
    "critique": lambda said, shown: {"critique": said["critique"], "text": said["text"]},
    "prompts": _prompts_fields,
}
_TOLD: dict[str, Callable[[Mapping[str, Any], Sequence[int]], str]] = {
    "compare": _told_choice,
    "rank": _told_ranks,
    "rate": lambda said, shown: ", ".join(f"{axis} {value}" for axis, value in said["values"].items()),
}
