"""Battles read from every kind of file, and win rates with the order of presentation balanced."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from battle_draws import drawn, met
from shared_data import shared
from trueup.cli import main
from trueup.engine.groups import Comparison, Completion, Group, Message, Ranking, Role, Score, write_jsonl
from trueup.errors import TrueupError
from trueup.ratings import wins as battle_wins
from trueup.ratings.battles import (
    Battle,
    BattleSet,
    battles_from_groups,
    by_judge,
    read_battles,
    write_battles,
)
from trueup.ratings.fit import fit_ratings
from trueup.ratings.style import style_of
from trueup.ratings.wins import PairWins, pair_wins, turn_around
from trueup.statistics import estimates as st


def lines(path: Path, *rows: object) -> Path:
    """A file with one JSON value a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def group(sources: Sequence[str], **judgements: object) -> Group:
    """A group with one completion of each named model; text k has k + 1 characters."""
    completions = tuple(Completion(text="x" * (k + 1), source=s) for k, s in enumerate(sources))
    return Group(prompt=(Message(Role.TEXT, "q"),), completions=completions, id="p", **judgements)


# ------------------------------------------------------------------------------------------------ reading


def test_a_battles_file_is_read_and_written(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "battles.jsonl",
        {
            "a": "x",
            "b": "y",
            "outcome": "a",
            "first": "b",
            "lengths": [10, 20],
            "prompt": "p1",
            "judge": "me",
        },
        {"a": "y", "b": "x", "outcome": "tie", "weight": 3},
        {"a": "y", "b": "z", "outcome": 0.8, "prompt": 7},
        {"a": "y", "b": "z", "outcome": "b"},
    )
    found = read_battles(path)
    assert found.origin == "battles" and not found.left_out
    first, second, third, fourth = found.battles
    assert first == Battle(a="x", b="y", win=1.0, first="b", lengths=(10, 20), prompt="p1", judge="me")
    assert (second.win, second.weight, third.win, third.prompt, fourth.win) == (0.5, 3.0, 0.8, "7", 0.0)
    assert write_battles(tmp_path / "again.jsonl", found.battles) == 4
    assert read_battles(tmp_path / "again.jsonl") == found
    assert [b.judge for b in by_judge(found, "me").battles] == ["me"]
    with pytest.raises(TrueupError, match=r"no verdict of you — the judges are: me$"):
        by_judge(found, "you")


GOOD = {"a": "x", "b": "y", "outcome": "a"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"outcome": "c"}, "outcome"),
        ({"outcome": 1.5}, "outcome"),
        ({"outcome": True}, "outcome"),
        ({"a": ""}, "a"),
        ({"b": "x"}, "b"),
        ({"b": ["y"]}, "b"),
        ({"first": "left"}, "first"),
        ({"lengths": [1]}, "lengths"),
        ({"lengths": [1, -2]}, "lengths"),
        ({"lengths": [1, "2"]}, "lengths"),
        ({"weight": 0}, "weight"),
        ({"weight": 10**400}, "weight"),
        ({"prompt": 1.5}, "prompt"),
        ({"winner": "x"}, "winner"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_skipped(tmp_path: Path, change: dict, field: str) -> None:
    path = lines(tmp_path / "battles.jsonl", GOOD, {**GOOD, **change})
    with pytest.raises(TrueupError) as caught:
        read_battles(path)
    assert caught.value.code == "E420" and caught.value.where == "battles.jsonl:2"
    assert caught.value.reason.startswith(f"{field}: ")


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "battles.jsonl"
    path.write_text(json.dumps(GOOD) + "\n{no\n", encoding="utf-8")
    with pytest.raises(TrueupError) as caught:
        read_battles(path)
    assert caught.value.where == "battles.jsonl:2"


def test_a_table_of_cells_is_read_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "battles.csv"
    path.write_text('a,b,outcome,prompt,lengths\nx,y,a,1,\ny,x,0.4,2,"[3, 4]"\n', encoding="utf-8")
    assert read_battles(path).battles == (
        Battle(a="x", b="y", win=1.0, prompt="1"),
        Battle(a="y", b="x", win=0.4, prompt="2", lengths=(3, 4)),
    )
    path.write_text("prompt,model,score\n1,x,3\n1,y,\n1,z,2\n", encoding="utf-8")
    found = read_battles(path)
    assert [(b.a, b.b, b.win) for b in found.battles] == [("x", "z", 1.0)]
    assert found.left_out == {"scores that are null": 1}
    path.write_text("a,b,outcome\nx,y,NaN\n", encoding="utf-8")
    with pytest.raises(TrueupError, match="no outcome of a battle"):
        read_battles(path)


def test_scores_become_battles_of_every_two(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "scores.jsonl",
        {"prompt": "p", "model": "x", "score": 7, "length": 30},
        {"prompt": "p", "model": "y", "score": 6.5, "length": 10},
        {"prompt": "p", "model": "z", "score": 2},
        {"prompt": "q", "model": "x", "score": None},
        {"prompt": "q", "model": "y", "score": 3},
    )
    found = read_battles(path)
    assert [(b.a, b.b, b.win) for b in found.battles] == [("x", "y", 1), ("x", "z", 1), ("y", "z", 1)]
    assert [b.lengths for b in found.battles] == [(30, 10), None, None]
    assert found.left_out == {"scores that are null": 1}
    assert [b.win for b in read_battles(path, margin=0.5).battles] == [0.5, 1, 1]
    lines(path, *[{"prompt": "p", "model": "x", "score": 1}] * 2)
    with pytest.raises(TrueupError, match="x has two scores on prompt 'p'"):
        read_battles(path)
    lines(path, {"model": "x", "score": 1})
    with pytest.raises(TrueupError, match="prompt: missing"):
        read_battles(path)


def test_comparisons_of_groups_become_battles() -> None:
    comparisons = (
        Comparison(a=0, b=1, choice="b", shown=(1, 0), labeler="ann"),
        Comparison(a=0, b=1, choice="tie"),
        Comparison(a=1, b=0, choice="a", probability=0.9),
        Comparison(a=0, b=2, choice="a"),
        Comparison(a=0, b=3, choice="a"),
    )
    found = battles_from_groups([group(("x", "y", "x", ""), comparisons=comparisons)])
    assert [(b.a, b.b, b.win, b.first, b.judge, b.lengths) for b in found.battles] == [
        ("x", "y", 0.0, "b", "ann", (1, 2)),
        ("x", "y", 0.5, "", "", (1, 2)),
        ("y", "x", 0.9, "", "", (2, 1)),
    ]
    assert {b.prompt for b in found.battles} == {"p"}
    assert found.left_out == {
        "between two answers of one model": 1,
        "of a completion without `source`": 1,
    }


def test_rankings_and_scores_of_groups_become_battles(tmp_path: Path) -> None:
    ranked = group("xyz", rankings=(Ranking(tiers=((2,), (0, 1)), labeler="bob"),))
    path = tmp_path / "groups.jsonl"
    write_jsonl(str(path), [ranked])
    found = read_battles(path)
    assert [(b.a, b.b, b.win) for b in found.battles] == [("z", "x", 1.0), ("z", "y", 1.0), ("x", "y", 0.5)]
    assert found.origin == "comparisons of groups"
    scores = (
        Score(completion=0, value=1.0, judge="j"),
        Score(completion=1, value=3.0, judge="j"),
        Score(completion=1, value=9.0, judge="k"),
    )
    write_jsonl(str(path), [group("xy", scores=scores)])
    scored = read_battles(path)
    assert [(b.a, b.b, b.win, b.judge) for b in scored.battles] == [("x", "y", 0.0, "j")]
    assert scored.origin == "scores of groups"


def test_a_file_in_which_no_models_meet(tmp_path: Path) -> None:
    path = tmp_path / "groups.jsonl"
    write_jsonl(str(path), [group("xx", comparisons=(Comparison(a=0, b=1, choice="a"),))])
    with pytest.raises(TrueupError, match="1 between two answers of one model") as caught:
        read_battles(path)
    assert caught.value.code == "E424" and "`source`" in caught.value.remedy


def test_the_judges_that_may_be_named_are_listed() -> None:
    battles = tuple(Battle(a="x", b="y", win=1.0, judge=judge) for judge in ("", "ann", "bob"))
    found = BattleSet(battles=battles, origin="battles", left_out={})
    with pytest.raises(TrueupError, match=r"E424 judge — no verdict of cy — the judges are: ann, bob$"):
        by_judge(found, "cy")
    with pytest.raises(TrueupError, match=r"no verdict names its judge: leave `--judge` out$"):
        by_judge(replace(found, battles=battles[:1]), "cy")


def test_human_comparisons_of_a_public_file_become_battles() -> None:
    # 500 questions, 4 answers, a person's verdict on each of the 6 pairs.
    found = read_battles(shared("qa_feedback/dev_feedback.jsonl.gz"))
    assert len(found.battles) == 3000 and len({b.prompt for b in found.battles}) == 500
    ratings = fit_ratings(found.battles, controls=("length",))
    assert [m.model for m in ratings.models] == [f"prediction {k}" for k in (1, 2, 3, 4)]
    assert {m.battles for m in ratings.models} == {1500}
    for m in fit_ratings(found.battles).models:
        assert m.expected_wins == pytest.approx(m.wins, abs=1e-8)
    assert ratings.effects[0].low > 0, "people like the longer answer here"


def test_the_files_on_the_page_are_read_and_rated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "ratings.md").read_text("utf-8")
    battles, votes, annotations, scores = re.findall(r"```jsonl\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    lines(Path("battles.jsonl"), *map(json.loads, battles.splitlines()))
    lines(Path("votes.jsonl"), *map(json.loads, votes.splitlines()))
    lines(Path("annotations.jsonl"), *map(json.loads, annotations.splitlines()))
    lines(Path("scores.jsonl"), *map(json.loads, scores.splitlines()))
    found = [read_battles(f"{name}.jsonl") for name in ("battles", "votes", "annotations", "scores")]
    assert [b.origin for b in found] == ["battles", "votes", "annotations", "scores"]
    assert [b.win for b in found[1].battles] == [1.0, 0.5, 0.0]
    # Three battles do not link all models; a prior rates them all the same.
    for line in re.findall(r"^trueup (rank .*)$", page, flags=re.MULTILINE):
        prior = [] if "--prior" in line else ["--prior", "0.1"]
        assert main([*line.split(), *prior]) == 0, (line, capsys.readouterr().err)
    assert Path("ratings.html").is_file()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    capsys.readouterr()
    exec(compile(code, "docs/ratings.md", "exec"), {})
    assert capsys.readouterr().out.startswith("ppo 10")
    folder = Path(battle_wins.__file__).parent
    names = ("design", "graph", "battles", "arena", "intervals", "fit")
    sources = [(folder / f"{name}.py").read_text("utf-8") for name in names]
    used = {code for text in sources for code in re.findall(r'"(E42\d)"', text)}
    assert sorted(used) == re.findall(r"^\| (E42\d) \|", page, flags=re.MULTILINE)


def annotated(preference: object, **other: object) -> dict[str, object]:
    """An annotation of AlpacaEval."""
    row = {"instruction": "i", "generator_1": "base", "output_1": "Yes.", "generator_2": "ppo"}
    return row | {"output_2": "# No\n- **at** all", "annotator": "gpt4", "preference": preference} | other


def test_annotations_of_alpaca_eval(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    ends = [(1.0, 1.0), (2, 0.0), (1.5, 0.5), (0, 0.5), (1.25, 0.75), (None, None)]
    path.write_text(json.dumps([annotated(p, instruction=str(p)) for p, _ in ends]), encoding="utf-8")
    found = read_battles(path)
    assert [b.win for b in found.battles] == [win for _, win in ends if win is not None]
    assert found.left_out == {"annotations without a preference": 1} and found.origin == "annotations"
    one = found.battles[0]
    assert (one.a, one.b, one.judge, one.prompt, one.lengths) == ("base", "ppo", "gpt4", "1.0", (4, 17))
    assert one.style == ((0, 0, 0), (1, 1, 1))
    write_battles(tmp_path / "battles.jsonl", found.battles)
    assert read_battles(tmp_path / "battles.jsonl").battles == found.battles


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (annotated(3), "preference"),
        (annotated("m"), "preference"),
        (annotated(True), "preference"),
        (annotated(1, generator_1=""), "generator_1"),
        (annotated(1, generator_2="base"), "generator_2"),
    ],
)
def test_what_is_no_annotation(row: dict[str, object], field: str, tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match=rf"E420 .*:2 — {field}: "):
        read_battles(lines(tmp_path / "a.jsonl", annotated(1), row))


def test_style_is_counted_as_markdown_without_code() -> None:
    text = "# One\n## Two\n#no\n- a\n  * b\n12. c\n**x** and __y__ **not\n** \n"
    text += "```\n# code\n- code\n```\n### Three"
    assert style_of(text) == (3, 3, 2)
    assert style_of("```\n# never closed") == (0, 0, 0)


def test_votes_of_the_arena_in_their_forms(tmp_path: Path) -> None:
    """Conversations of any length count; a spreadsheet's capitals and flags too."""
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "12345"}]
    path = tmp_path / "votes.jsonl"
    vote = {"model_a": "x", "model_b": "y", "conversation_a": said * 2, "conversation_b": said, "turn": 2}
    rows = [
        {**vote, "question_id": k, "winner": w} for k, w in enumerate(("model_b", "tie (bothbad)", "tie"))
    ]
    lines(path, *rows)
    found = read_battles(path).battles
    assert [(b.a, b.b, b.win, b.lengths, b.prompt) for b in found] == [
        ("x", "y", win, (10, 5), str(k)) for k, win in enumerate((0.0, 0.5, 0.5))
    ]
    flags = tmp_path / "votes.csv"
    flags.write_text(
        "ID;Model_A;Model_B;Winner_Model_A;Winner_Model_B;Winner_Tie\n1;x;y;1;0;0\n2;y;x;0;0;1\n"
    )
    assert [(b.a, b.win, b.prompt) for b in read_battles(flags).battles] == [("x", 1.0, "1"), ("y", 0.5, "2")]
    lines(path, {"model_a": "x", "model_b": "y", "winner": "z"})
    with pytest.raises(TrueupError, match=r"E408 votes.jsonl:1 — winner: is no verdict"):
        read_battles(path)


# ----------------------------------------------------------------------------------------------- win rates


def wins(battles: list[Battle]) -> PairWins:
    """The only pair of the battles."""
    (pair,) = pair_wins(battles)
    return pair


def test_a_judge_who_always_picks_the_first_gives_one_half() -> None:
    # On every prompt both orders are shown, the first wins: w = 1/(2N) Σ (1 + 1 - 1) = ½, all inconsistent.
    battles = [
        Battle(a="x", b="y", win=float(first == "a"), first=first, prompt=str(k))
        for k in range(9)
        for first in ("a", "b")
    ]
    pair = wins(battles)
    assert pair.rate.estimate.mean == 0.5 and pair.rate.inconsistent == 1.0
    assert (pair.swapped, pair.rate.estimate.n, pair.battles) == (9, 9, 18)
    # Three shown a third time with x first change nothing: games of one order are averaged first.
    more = battles + [replace(b) for b in battles[:6] if b.first == "a"]
    assert wins(more).rate.estimate.mean == 0.5


def test_a_model_against_itself_wins_one_half() -> None:
    # One model under two names: what the judge says of an order, it says again when the names are swapped.
    verdicts = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 40)
    battles = [Battle(a="x", b="y", win=s, first="a", prompt=str(k)) for k, s in enumerate(verdicts)]
    battles += [Battle(a="y", b="x", win=s, first="a", prompt=str(k)) for k, s in enumerate(verdicts)]
    pair = wins(battles)
    assert pair.rate.estimate.mean == 0.5
    assert pair.rate.inconsistent == np.mean(verdicts != 0.5)
    assert st.win_rate(verdicts, verdicts).estimate.mean == 0.5


def test_the_two_sides_of_a_pair_add_up_to_one() -> None:
    for pair in pair_wins(drawn(np.random.default_rng(1), 30, ties=0.3)):
        other = turn_around(pair)
        assert pair.rate.estimate.mean + other.rate.estimate.mean == 1.0
        assert pair.rate.estimate.low + other.rate.estimate.high == pytest.approx(1.0)
        swapped = [replace(b, a=b.b, b=b.a, win=1 - b.win) for b in met("x", "y", 3, 1)]
        assert wins(swapped).rate.estimate.mean == 0.75


def test_the_interval_is_over_prompts_not_games() -> None:
    once = [Battle(a="x", b="y", win=float(k % 3 > 0), prompt=str(k)) for k in range(30)]
    one, five = wins(once), wins([b for b in once for _ in range(5)])
    assert five.rate.estimate == one.rate.estimate and five.battles == 150
    assert one.rate.estimate.mean == pytest.approx(2 / 3)
    assert one.rate.inconsistent is None
    alone = wins([replace(b, prompt="") for b in once for _ in range(5)])
    assert alone.rate.estimate.n == 150 and alone.rate.estimate.high < one.rate.estimate.high


def test_win_rate_with_swap_by_hand() -> None:
    # Prompt 1: x wins shown first, loses shown second: ½. Prompt 2: wins first, ties second: ¾. Mean .625.
    battles = [
        Battle(a="x", b="y", win=1.0, first="a", prompt="1"),
        Battle(a="x", b="y", win=0.0, first="b", prompt="1"),
        Battle(a="x", b="y", win=1.0, first="a", prompt="2"),
        Battle(a="y", b="x", win=0.5, first="a", prompt="2"),
    ]
    assert wins(battles).rate.estimate.mean == 0.625
    assert wins(battles).rate.estimate.mean == st.win_rate([1, 1], [1, 0.5]).estimate.mean
