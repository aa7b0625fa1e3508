"""`trueup battle`: one end wherever it is stopped, verdicts that count as they say, files others read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import small_world
import trueup
from battles.arena import Arena, Killed
from trueup.battles.settings import name_of, named
from trueup.cli import main
from trueup.errors import EXIT_DATA, EXIT_USAGE, TrueupError
from trueup.ratings.battles import read_battles

STUB = ["battle", "a", "b", "c", "--prompts", "prompts.jsonl", "--by", "lm:stub", "--out", "out"]
KEPT = (*(f"answers/{name}.jsonl" for name in "abc"), "battles.jsonl", "groups.jsonl", "battle.json")


def files(folder: Path) -> dict[str, bytes]:
    """What a battle leaves, by name."""
    return {name: (folder / name).read_bytes() for name in KEPT}


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_verdicts_of_both_orders_share_the_weight_of_one_battle(arena: Arena) -> None:
    assert main([*STUB, "--battles", "40"]) == 0
    found = rows(arena.home / "out" / "battles.jsonl")
    assert len(found) == 80 and {row["weight"] for row in found} == {0.5}
    assert Counter(row["first"] for row in found) == {"a": 40, "b": 40}
    assert {row["judge"] for row in found} == {"lm-stub"}
    for row in found:
        upset = (int(row["prompt"].rpartition(":")[2]) - 1) % 3 == 0  # line 1 asks what 0 is
        assert row["outcome"] == ("b" if upset else "a")
        assert row["style"] == {"headers": [0, 0], "lists": [0, 0], "bold": [0, 0]}
    met = Counter((row["a"], row["b"], row["prompt"]) for row in found)
    assert set(met.values()) == {2}, "no pair meets twice on one answer"
    assert len({row["prompt"] for row in found}) == 40, "prompts are used evenly"
    board = json.loads((arena.home / "out" / "battle.json").read_text("utf-8"))
    won = {m["model"]: m["wins"] for m in board["board"]["models"]}
    assert won == {n: sum(row[row["outcome"]] == n for row in found) / 2 for n in "abc"}
    assert sum(sum(row) for row in board["met"]) == 80 and board["duels"] == 40


def test_ratings_are_those_of_rank_on_either_file(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STUB, "--battles", "60", "--json"]) == 0
    board = json.loads(capsys.readouterr().out)["board"]
    for name in ("battles", "groups"):
        assert main(["rank", f"out/{name}.jsonl", "--json"]) == 0
        read = json.loads(capsys.readouterr().out)
        for mine, other in zip(board["models"], read["models"], strict=True):
            assert mine["model"] == other["model"]
            assert mine["rating"] == pytest.approx(other["rating"], abs=1e-6)
            assert mine["low"] == pytest.approx(other["low"], abs=1e-6)
    assert main(["data", "check", "out/groups.jsonl"]) == 0
    assert "rows in 40 = accepted 40 + quarantined 0" in capsys.readouterr().out


def test_who_always_names_the_first_decides_nothing(arena: Arena) -> None:
    arena.always_first = True
    assert main([*STUB, "--battles", "20"]) == 0
    told = json.loads((arena.home / "out" / "battle.json").read_text("utf-8"))
    assert [m["rating"] for m in told["board"]["models"]] == pytest.approx([1000.0] * 3, abs=1e-6)
    (judge,) = told["judges"]
    assert (judge["inconsistent"], judge["first"], judge["ties"], judge["swapped"]) == (1.0, 1.0, 20, 20)
    assert told["samples"][0]["verdicts"] == [{"judge": "lm-stub", "said": "a tie: another in each order"}]
    html = (arena.home / "out" / "battle.html").read_text("utf-8")
    assert "<script" not in html and "a tie: another in each order" in html


@pytest.mark.parametrize(("who", "at"), [("model", 1), ("model", 5), ("judge", 1), ("judge", 3)])
def test_a_battle_that_was_killed_goes_on_to_the_same_end(arena: Arena, who: str, at: int) -> None:
    assert main([*STUB, "--battles", "60"]) == 0
    whole, answered, judged = files(arena.home / "out"), len(arena.answered), sum(arena.judged)
    arena.answered.clear()
    arena.judged.clear()
    setattr(arena, f"{who}_dies_at", at)
    again = [*STUB[:-1], "again", "--battles", "60"]
    with pytest.raises(Killed):
        main(again)
    setattr(arena, f"{who}_dies_at", 10**9)
    for name in ("answers/a.jsonl", "verdicts.jsonl"):  # and it was writing
        if (path := arena.home / "again" / name).is_file():
            path.write_bytes(path.read_bytes() + b'{"prompt": [{"ro')
    assert main(again) == 0
    assert files(arena.home / "again") == whole
    assert len(arena.answered) == answered + (who == "model")
    assert sum(arena.judged) == judged + (20 if who == "judge" else 0), "the round that was cut alone"
    arena.answered.clear()
    arena.judged.clear()
    assert main(again) == 0 and not arena.answered and not arena.judged, "nothing is asked twice"


def test_more_battles_begin_with_those_that_were_fought(arena: Arena) -> None:
    assert main([*STUB, "--battles", "30"]) == 0
    first = rows(arena.home / "out" / "battles.jsonl")
    assert main([*STUB, "--battles", "60"]) == 0
    assert rows(arena.home / "out" / "battles.jsonl")[:60] == first
    more = files(arena.home / "out")
    assert main([*STUB[:-1], "other", "--battles", "60"]) == 0
    assert files(arena.home / "other") == more


def test_it_ends_once_intervals_are_narrow(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STUB, "--until", "400", "--battles", "120"]) == 0
    said = capsys.readouterr().out.splitlines()
    told = json.loads((arena.home / "out" / "battle.json").read_text("utf-8"))
    width = max(m["high"] - m["low"] for m in told["board"]["models"])
    assert width <= 400 and told["duels"] < 120
    assert said[-1] == f"the widest interval is {width:.0f} points, no wider than 400."


def test_it_ends_where_every_pair_has_met_on_every_answer(
    arena: Arena, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*STUB, "--num-prompts", "5", "--samples", "2"]) == 0
    assert len(rows(arena.home / "out" / "battles.jsonl")) == 2 * 3 * 5 * 2
    assert "have met on every prompt" in capsys.readouterr().out.splitlines()[-1]


def test_a_model_that_won_everything_needs_a_prior(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    (arena.home / "judge.py").write_text("def score(completion):\n    return -ord(completion[0])\n", "utf-8")
    command = [*STUB[:6], "--by", "judge.py:score", "--battles", "20", "--out", "out"]
    assert main(command) == EXIT_DATA
    said = " ".join(capsys.readouterr().err.split())
    assert "E421" in said and "--prior 0.1" in said
    asked = len(arena.answered)
    assert main([*command, "--prior", "0.1"]) == 0
    assert len(arena.answered) == asked
    told = json.loads((arena.home / "out" / "battle.json").read_text("utf-8"))
    assert [m["model"] for m in told["board"]["models"]] == ["a", "b", "c"]
    groups = trueup.read(arena.home / "out" / "groups.jsonl")
    assert [s.value for s in groups.groups[0].scores] == [-97.0, -98.0, -99.0]
    assert {c.choice for g in groups.groups for c in g.comparisons} == {"a"}


def test_equal_texts_tie_and_nobody_is_asked(arena: Arena) -> None:
    assert main([*STUB[:1], "x=same", "y=same", *STUB[4:], "--battles", "10"]) == 0
    assert not arena.judged
    told = json.loads((arena.home / "out" / "battle.json").read_text("utf-8"))
    assert told["judges"][0]["alike"] == 10
    assert {row["outcome"] for row in rows(arena.home / "out" / "battles.jsonl")} == {"tie"}


def test_several_judges_decide_every_battle(arena: Arena) -> None:
    (arena.home / "judge.py").write_text("def score(completion):\n    return -ord(completion[0])\n", "utf-8")
    assert main([*STUB, "--by", "strict=judge.py:score", "--battles", "30"]) == 0
    told = json.loads((arena.home / "out" / "battle.json").read_text("utf-8"))
    found = read_battles(arena.home / "out" / "battles.jsonl").battles
    assert sum(b.weight for b in found) == 60
    upsets = sum(b.win == 0 for b in found if b.judge == "lm-stub") / 2
    share = told["judges"][0]["agrees"]["strict"]
    assert share == {"share": pytest.approx(1 - upsets / 30), "n": 30}


# --------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a", "--prompts", "prompts.jsonl", "--by", "lm:stub"], "E433"),
        (["a", "b", "--by", "lm:stub"], "E434"),
        (["a", "b", "--by", "lm:stub", "--prompts", "prompts.jsonl", "--world", "w.yaml"], "E434"),
        (["a", "b", "--prompts", "prompts.jsonl"], "E435"),
        (["a", "b", "--prompts", "prompts.jsonl", "--by", "people", "--by", "more=people"], "E435"),
        (["x/a", "y/a", "--prompts", "prompts.jsonl", "--by", "lm:stub"], "E436"),
        (["a", "b", "--prompts", "prompts.jsonl", "--by", "lm:openai:http://h/v1?model=m&key=sk-1"], "E797"),
    ],
)
def test_what_cannot_be_fought(
    arena: Arena, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["battle", *arguments]) == EXIT_USAGE
    said = capsys.readouterr().err
    assert code in said and "sk-1" not in said
    assert not (arena.home / "runs").exists()


def test_a_folder_is_of_one_battle(arena: Arena, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*STUB, "--battles", "20"]) == 0
    assert main([*STUB, "--battles", "20", "--seed", "1"]) == EXIT_USAGE
    assert "begun with seed 0" in capsys.readouterr().err
    small_world.write(arena.home / "prompts.jsonl", small_world.prompts(41))
    assert main([*STUB, "--battles", "20"]) == EXIT_DATA
    assert "E820" in capsys.readouterr().err
    path = arena.home / "out" / "verdicts.jsonl"
    small_world.write(arena.home / "prompts.jsonl", small_world.prompts(40))
    path.write_text("nonsense\n" + path.read_text("utf-8"), "utf-8")
    assert main([*STUB, "--battles", "20"]) == EXIT_DATA
    assert "E437" in capsys.readouterr().err


def test_names() -> None:
    assert name_of("runs/dpo") == name_of("runs/dpo/model") == name_of("runs/dpo/") == "dpo"
    assert name_of("models/tiny.gguf") == "tiny"
    assert name_of("org/a-model") == "a-model"
    assert name_of("openai:https://h/v1?model=org/big&key=KEY") == "big"
    assert name_of("lm:openai:https://h/v1?model=big#votes=3") == "lm-big"
    assert name_of("grade.py:score") == "score" and name_of("world:truth") == "truth"
    assert named(["x=a", "openai:https://h/v1?model=m"], "model") == {
        "x": "a",
        "m": "openai:https://h/v1?model=m",
    }
    with pytest.raises(TrueupError, match=r"name one: a-2=y/a"):
        named(["x/a", "y/a"], "model")


# --------------------------------------------------------------------------------------- on a real network


def test_models_of_this_process_and_a_function_from_python(tmp_path: Path) -> None:
    model = small_world.save_model(tmp_path / "m")

    def brevity(completion: str) -> float:
        return float(completion.count("a") - len(completion) % 3)

    found = trueup.battle(
        {"one": model, "two": trueup.load(model)},
        ["what is 1?", "what is 2?", "what is 3?", "what is 4?"],
        by=brevity,
        max_new_tokens=6,
        prior=0.1,
        out=tmp_path / "out",
    )
    assert found.ratings is not None and found.report is not None and not found.waiting
    battles = read_battles(found.battles).battles
    assert len(battles) == 4
    for group in found.groups:
        scores = [brevity(c.text) for c in group.completions]
        assert [s.value for s in group.scores] == scores
        (said,) = group.comparisons
        assert said.choice == ("tie" if scores[0] == scores[1] else "a" if scores[0] > scores[1] else "b")


@pytest.mark.slow  # two training runs
def test_groups_train_a_reward_model_and_dpo(arena: Arena) -> None:
    model = small_world.save_model(arena.home / "m")
    assert main([*STUB, "--battles", "40"]) == 0
    for method in ("reward_model", "dpo"):
        command = ["train", method, "--model.path", str(model), "--data.path", "out/groups.jsonl"]
        assert main([*command, "--loop.steps", "2", "--out", method]) == 0
        data = json.loads((arena.home / method / "data.json").read_text("utf-8"))
        assert data["quarantined"] == 0


def test_generate_writes_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_world.save_model(tmp_path / "m")
    out = tmp_path / "said.jsonl"
    command = ["generate", str(model), "hello", "there", "--num", "2", "--max-new-tokens", "4"]
    assert main([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"2 groups: {out}\n"
    found = trueup.read(out).groups
    assert [[c.source for c in g.completions] for g in found] == [[str(model)] * 2] * 2
    assert main(command) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [[c.text for c in g.completions] for g in found]
    assert [[t.replace("\0", "\ufffd") for t in row["completions"]] for row in printed] == said
