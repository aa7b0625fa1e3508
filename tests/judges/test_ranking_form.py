"""Rankings by people: what they are asked, what is read back, and what of it cannot be meant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trueup.engine.groups import Completion, Group, Message, Ranking, Role
from trueup.errors import TrueupError
from trueup.judges.ranking_form import FORM, ROWS, agreement, items_of, ranked_by_people

FORGED = "ranking: A > B\n[1 of 9] 000000000000\nA\nranking: A"
ALL: Sequence[Sequence[str]] = (
    ("one", "two", "three"),
    ("same", "same", "same"),
    ("x", "y", "x", FORGED),
)


def group(place: int, texts: Sequence[str]) -> Group:
    prompt = (Message(Role.SYSTEM, "be kind"), Message(Role.USER, f"question {place}\nranking: B"))
    return Group(prompt=prompt, completions=tuple(Completion(text=t) for t in texts), id=f"row-{place}")


GROUPS = [group(place, texts) for place, texts in enumerate(ALL)]


def asked(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ROWS).read_text("utf-8").splitlines()]


def refusal(folder: Path, code: str) -> str:
    with pytest.raises(TrueupError) as found:
        ranked_by_people(GROUPS, folder, seed=3)
    assert found.value.code == code
    return str(found.value)


def fill(folder: Path, *answers: str, ends: str = "\n") -> None:
    """Every answer stands behind the next empty `ranking:` of the form."""
    head, *rest = (folder / FORM).read_text("utf-8").split("\nranking:\n")
    filled = [f"\nranking: {answer}\n{part}" if answer else f"\nranking:\n{part}"
              for answer, part in zip([*answers, *[""] * len(rest)], rest, strict=False)]  # fmt: skip
    (folder / FORM).write_bytes((head + "".join(filled)).replace("\n", ends).encode("utf-8"))


def texts_of(ranking: Ranking, group: Group) -> list[set[str]]:
    return [{group.completions[i].text for i in tier} for tier in ranking.tiers]


def test_people_are_asked_of_what_differs_and_waited_for(tmp_path: Path) -> None:
    said = refusal(tmp_path, "E783")
    assert said.startswith(f"E783 {tmp_path / FORM} — 2 of 2 prompts wait to be ranked by people — ")
    rows = asked(tmp_path)
    assert [sorted(row["completions"].values()) for row in rows] == [sorted(ALL[0]), sorted({*ALL[2]})]
    assert [list(row["completions"]) for row in rows] == [["A", "B", "C"]] * 2
    form = (tmp_path / FORM).read_text("utf-8")
    assert form.count("\nranking:\n") == 2 and "| ranking: A > B\n| [1 of 9] 000000000000\n| A" in form
    first, second = rows[0]["completions"], rows[1]["completions"]
    fill(tmp_path, "", " c>a = b ")
    assert "— 1 of 2 prompts wait" in refusal(tmp_path, "E783")
    fill(tmp_path, "B > C > A", ends="\r\n")
    labelled, metrics = ranked_by_people(GROUPS, tmp_path, seed=3)
    assert metrics == {"asked": 2, "skipped": 0}
    assert [len(g.rankings) for g in labelled] == [1, 0, 1]
    assert texts_of(labelled[0].rankings[0], GROUPS[0]) == [{first["B"]}, {first["C"]}, {first["A"]}]
    assert texts_of(labelled[2].rankings[0], GROUPS[2]) == [{second["C"]}, {second["A"], second["B"]}]
    assert sorted(i for tier in labelled[2].rankings[0].tiers for i in tier) == [0, 1, 2, 3]
    assert labelled[0].rankings[0].labeler == "people"


def test_programs_fill_in_the_rows_and_several_people_may(tmp_path: Path) -> None:
    refusal(tmp_path, "E783")
    first, second = asked(tmp_path)
    lines = [
        {**first, "ranking": "A > B > C", "labeler": "ann"},
        {"item": first["item"], "ranking": "A > C > B", "labeler": "bob"},
        {**second, "ranking": None},
        {**second, "ranking": "Skip", "labeler": None},
    ]
    (tmp_path / ROWS).write_text("\ufeff" + "".join(json.dumps(row) + "\n\n" for row in lines), "utf-8")
    labelled, metrics = ranked_by_people(GROUPS, tmp_path, seed=3)
    assert [r.labeler for r in labelled[0].rankings] == ["ann", "bob"] and not labelled[2].rankings
    assert metrics == {"asked": 2, "skipped": 1, "agreement": pytest.approx(2 / 3)}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("B > A", "'B > A' does not name each of A, B, C once"),
        ("A > A > B > C", "does not name each"),
        ("A > D > B > C", "does not name each"),
        ("A, B, C", "does not name each"),
        ("A > > B = C", "does not name each"),
        ("best is B", "does not name each"),
    ],
)
def test_an_answer_that_cannot_be_meant_is_named_by_line(answer: str, said: str, tmp_path: Path) -> None:
    refusal(tmp_path, "E783")
    fill(tmp_path, "A > B > C", answer)
    lines = (tmp_path / FORM).read_text("utf-8").splitlines()
    number = lines.index(f"ranking: {answer}") + 1
    found = refusal(tmp_path, "E784")
    assert f"{FORM}:{number}: " in found and said in found


def test_rows_that_cannot_be_meant_are_named_by_line(tmp_path: Path) -> None:
    refusal(tmp_path, "E783")
    first, second = asked(tmp_path)
    swapped = {**first["completions"], "A": first["completions"]["B"], "B": first["completions"]["A"]}
    lines = [
        json.dumps({**first, "ranking": "A > B > C"}),
        "[" * 100_000,
        "[]",
        json.dumps({"item": "ffffffffffff", "ranking": "A"}),
        json.dumps({**first, "completions": swapped, "ranking": "A > B > C"}),
        json.dumps({**first, "ranking": ["A"]}),
        json.dumps({**first, "ranking": "C > B > A"}),
    ]
    (tmp_path / ROWS).write_text("\n".join(lines), "utf-8")
    found = refusal(tmp_path, "E784")
    for place, said in (
        (2, "no JSON"),
        (3, "no JSON object"),
        (4, "no prompt here is 'ffffffffffff'"),
        (5, f"the completions of {first['item']} are not those that were asked about"),
        (6, "no text under `ranking`"),
    ):
        assert f"{ROWS}:{place}: {said}" in found
    assert "and 1 more" in found and second["item"] not in found
    (tmp_path / ROWS).write_text(lines[0] + "\n" + lines[6], "utf-8")
    assert f"{ROWS}:2: people ranked {first['item']} twice, and differently" in refusal(tmp_path, "E784")
    (tmp_path / FORM).write_bytes(b"labeler: \xff\n")
    assert f"{FORM}:1: not UTF-8" in refusal(tmp_path, "E784")
    (tmp_path / FORM).write_text("ranking: A\nI like B\n")
    found = refusal(tmp_path, "E784")
    assert f"{FORM}:1: no prompt stands above it" in found and f"{FORM}:2: what is 'I like B'?" in found


def test_answers_to_other_completions_are_no_answers_to_these(tmp_path: Path) -> None:
    refusal(tmp_path, "E783")
    fill(tmp_path, "A > B > C", "A > B > C")
    others = [group(0, ("one", "two", "four")), *GROUPS[1:]]
    with pytest.raises(TrueupError, match=r"E784.*no prompt here is"):
        ranked_by_people(others, tmp_path, seed=3)


def test_equal_prompts_are_two_items() -> None:
    items = items_of([GROUPS[0], GROUPS[0]], 0)
    assert items[1].id == f"{items[0].id}-2"
    assert len({item.id for item in items}) == 2


def test_agreement_by_hand() -> None:
    """A > B > C against A = B > C: of 2 pairs that both order strictly both agree; reversed, none does."""
    one = Ranking(tiers=((0,), (1,), (2,)))
    assert agreement([[one, Ranking(tiers=((0, 1), (2,)))]]) == 1
    assert agreement([[one, Ranking(tiers=((2,), (1,), (0,)))]]) == 0
    assert agreement([[one, Ranking(tiers=((1,), (0,), (2,)))]]) == pytest.approx(2 / 3)
    assert agreement([[one], []]) is None
