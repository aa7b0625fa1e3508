"""Which judge trained a model: found in what its runs left, however the judge is written there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trueup.measurement.told import headline
from trueup.measurement.trained import judges_behind, trained_on
from trueup.settings.config import dump_yaml
from trueup.worlds import open_world

WORLD = """
prompts: test.jsonl
judges: {grade: "grade.py:short", other: "grade.py:vowels", reward: runs/reward/model, panel: "lm:http://h#read=text",
         size: "rule:length?longest=5"}
truth: grade
labelers: {people: people, readers: panel}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.yaml").write_text(WORLD, encoding="utf-8")
    Path("grade.py").write_text("", encoding="utf-8")
    Path("test.jsonl").write_text('{"prompt": "a"}\n', encoding="utf-8")
    Path("sum.yaml").write_text("parts: [{judge: ./grade.py:short}, {judge: 'rule:matches?of=a'}]\n")


def ran(name: str, **settings: Any) -> str:
    """A run's model, with what the run was told."""
    model = Path("runs", name, "model")
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}), encoding="utf-8")
    (model.parent / "config.resolved.yaml").write_text(dump_yaml(settings), encoding="utf-8")
    return str(model)


@pytest.mark.parametrize(
    ("judge", "found"),
    [
        ("grade.py:short", ["grade"]),
        ("./grade.py:short", ["grade"]),
        ("w.yaml:grade", ["grade"]),
        ("w.yaml:truth", ["grade"]),
        ("sum.yaml", ["grade"]),
        ("grade.py:none", []),
        ("runs/reward", ["reward"]),
        ("runs/reward/model", ["reward"]),
        ("rule:length?longest=5", ["size"]),
        ("lm:http://h#read=logprobs", ["panel"]),
        ("gone.yaml:grade", []),
        ("", []),
    ],
)
def test_a_judge_that_scored_in_training_however_it_is_written(judge: str, found: list[str]) -> None:
    ran("reward", method="reward_model", data={"path": "pairs.jsonl"})
    rl = ran("rl", method="rloo", model={"path": "base"}, judge=judge, data={"path": "w.yaml:prompts"})
    assert trained_on(rl, open_world("w.yaml")) == found
    later = ran("later", method="sft", model={"path": rl}, data={"path": "demos.jsonl"})
    assert trained_on(later, open_world("w.yaml")) == found, "what it came from was trained on it"
    assert trained_on("runs/later", open_world("w.yaml")) == found


def test_labels_and_choices_count_and_who_labelled_for_a_reward_model_does_not() -> None:
    world = open_world("w.yaml")
    sampled = ran("sampled", method="rloo", judge="grade.py:vowels", model={"path": "base"})
    ran("labels", method="label", labeler="w.yaml:readers", model={"path": sampled}, data={"path": "p.jsonl"})
    labels = "runs/labels/groups.jsonl"
    dpo = ran("dpo", method="dpo", model={"path": "base"}, data={"path": labels})
    assert trained_on(dpo, world) == ["panel"], "not by what trained the policy that was sampled"
    ran("people", method="label", labeler="w.yaml:people", data={"path": "p.jsonl"})
    asked = ran("asked", method="dpo", data={"mix": {"a": "runs/people/groups.jsonl", "b": "more.jsonl"}})
    assert trained_on(asked, world) == []
    ran("reward", method="reward_model", data={"path": labels}, model={"path": dpo})
    rl = ran("rl", method="ppo", model={"path": "base"}, judge="runs/reward/model", data={"path": "p.jsonl"})
    assert trained_on(rl, world) == ["reward"]
    best = ran(
        "best", method="best_of_n_sft", judge="w.yaml:size", data={"path": "p.jsonl"}, model={"path": rl}
    )
    assert trained_on(best, world) == ["reward", "size"] and judges_behind("nowhere") == []
    watched = ran("watched", method="ppo", judge="w.yaml:size", loop={"guard": {"judge": "w.yaml:grade"}})
    assert trained_on(watched, world) == ["size"], "a guard watches, it does not train"


def test_the_headline_says_proxy_and_referee() -> None:
    def row(name: str, grade: float, other: float, behind: list[float] | None) -> dict[str, Any]:
        def told(mean: float, low: float, high: float) -> dict[str, Any]:
            return {"mean": mean, "ci95": [low, high], "n": 9, "standard_error": 0.1}

        return {
            "name": name,
            "scores": {"grade": told(grade, grade - 0.1, grade + 0.1), "other": told(other, 0, 1)},
            "behind_best": behind and told(*behind),
            "gain": {"other": told(other, other - 0.2, other + 0.2)},
            "kl": told(3, 2, 4),
            "tax": {"sums": told(-0.2, -0.3, -0.1), "words": told(-0.1, -0.2, 0.1)},
        }

    rows = [row("base", 0.2, 0.0, [0.4, 0.3, 0.5]), row("rl", 0.6, 0.1, None)]
    said = {"by": "grade", "models": rows, "start": "base", "judges": ["grade", "other"]}
    assert headline({**said, "trained_on": {"base": [], "rl": ["grade"]}}) == [
        "rl is best by grade: 0.600 [0.500, 0.700], +0.400 [+0.300, +0.500] over base.",
        "grade also trained rl: there it is a proxy, and its score flatters.",
        "By other, which trained none of them, rl gains +0.100 [-0.100, +0.300].",
        "It lies 3.00 [2.00, 4.00] nats from base.",
        "It lost on 1 exam: sums -0.200 [-0.300, -0.100].",
    ]
    tied = [row("base", 0.5, 0.0, [0.1, -0.1, 0.3]), rows[1]]
    assert headline({**said, "models": tied, "trained_on": {}})[0] == (
        "No model is told apart as best by grade: rl has the highest mean, 0.600 [0.500, 0.700], and its gap "
        "to base may be zero (+0.100 [-0.100, +0.300] to base)."
    )
