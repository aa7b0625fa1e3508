"""docs/judges.md: every form on it opens and scores, and every error code of the judges is on it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from trueup.engine.groups import Completion, Group, Message, Role
from trueup.judges.endpoint import Endpoint
from trueup.judges.open import open_judge
from trueup.lab import demonstrations
from trueup.runs.recipe import plan, read_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "judges.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_every_rule_of_the_table_opens_with_the_defaults_it_states() -> None:
    rows = re.findall(r"^\| `(rule:[a-z]+\?[^`]*)` \|", PAGE, flags=re.MULTILINE)
    opened = [open_judge(row.replace("\\|", "|")) for row in rows]
    assert [type(judge).__name__ for judge in opened] == ["Length", "Matches", "ExactAnswer", "UnitTests"]
    assert open_judge("rule:length?shortest=0&longest=400&per=100") == open_judge("rule:length")
    assert open_judge("rule:exact?key=answer") == open_judge("rule:exact")
    assert open_judge("rule:matches?pattern=x&found=1&absent=0") == open_judge("rule:matches?pattern=x")


def test_the_function_and_the_sum_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    function, *more = blocks("python")
    text, recipe = blocks("yaml")
    Path("brief.py").write_text(function, encoding="utf-8")
    Path("counter.py").write_text("def count(prompt, text):\n    return 5\n", encoding="utf-8")
    Path("judge.yaml").write_text(text.replace("limit: 100", "limit: 4"), encoding="utf-8")
    asked = Group(prompt=(Message(Role.USER, "?"),), completions=(Completion(text="two words"),))
    assert open_judge("brief.py:brevity")([asked]) == [[-2.0]]
    Path("more.py").write_text("\n".join(more), encoding="utf-8")
    answered = replace(asked, meta={"answer": "two words"})
    found = {
        name: open_judge(f"more.py:{name}")([answered]) for name in ("right", "short_and_right", "asked")
    }
    assert found == {"right": [[1.0]], "short_and_right": [[1 - 0.01 * 9]], "asked": [[1.0]]}
    judge = open_judge("judge.yaml?reward=lab:gold")
    kept = Path("judge.moments.json").read_text(encoding="utf-8")
    assert '"completions": 4' in kept
    first, *_ = demonstrations(1, 0)
    assert len(judge([first])[0]) == len(first.completions)
    Path("recipe.yaml").write_text(recipe, encoding="utf-8")
    reward, ppo = plan(read_recipe(Path("recipe.yaml")), tmp_path / "run")
    assert str(reward.folder) in ppo.config.judge


def test_the_servers_defaults_are_those_on_the_page() -> None:
    judge = open_judge("http://127.0.0.1:8000/score#batch=16&timeout=60&retries=2")
    assert judge == Endpoint(url="http://127.0.0.1:8000/score", batch=16, timeout=60, retries=2)
    plain = Endpoint(url="")
    assert f"up to {plain.batch} completions at a time" in PAGE
    assert f"within\n`timeout` seconds ({plain.timeout:.0f})" in PAGE
    assert f"`retries` times ({plain.retries})" in PAGE


def test_every_code_of_the_judges_is_on_the_page() -> None:
    used: set[str] = set()
    for path in (ROOT / "src" / "trueup" / "judges").glob("*.py"):
        used |= set(re.findall(r'"(E\d{3})"', path.read_text(encoding="utf-8")))
    assert sorted(used) == re.findall(r"^\| (E\d{3}) \|", PAGE, flags=re.MULTILINE)
