"""InstructGPT's stages from the command line: the quick recipe, people who rank, a world of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import small_world
import trueup
from trueup.cli import main
from trueup.engine.groups import read_jsonl
from trueup.errors import EXIT_AWAITS, EXIT_DATA, TrueupError
from trueup.runs.done import Done, read_done
from trueup.runs.recipe import plan, read_recipe
from trueup.runs.shipped import recipe_path


def folder(run: Path, stage: str) -> Path:
    (found,) = (run / "stages").glob(f"{stage}-*")
    return found


def done(run: Path, stage: str) -> Done:
    return read_done(folder(run, stage))


def shown(run: Path) -> str:
    """The report's text, a line a tag."""
    page = (run / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"(?s)<style>.*?</style>", "", page)
    return (
        re.sub(r"\s*\n\s*", "\n", re.sub(r"<[^>]+>", "\n", page))
        .replace("\u202f", " ")
        .replace("\u00a0", " ")
    )


FEW = {
    "sft": {"loop": {"steps": 6}},
    "ppo": {"loop": {"steps": 1}},
    "ppo_ptx": {"loop": {"steps": 1}},
    "labels": {"decoding": {"max_new_tokens": 16}},
    "evaluate": {"num_prompts": 10, "decoding": {"max_new_tokens": 12}},
}
"All of its stages, with fewer steps of training and fewer tokens to sample."


def typed(changes: dict[str, Any], before: str = "--") -> list[str]:
    """The changes as options."""
    return [
        word
        for name, value in changes.items()
        for word in (
            typed(value, f"{before}{name}.") if isinstance(value, dict) else (f"{before}{name}", str(value))
        )
    ]


@pytest.mark.parametrize("changes", [FEW, pytest.param({}, marks=pytest.mark.slow)], ids=["few", "as it is"])
def test_quick_runs_end_to_end_and_its_report_tells_the_figure(
    changes: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """240 requests, of which 5 % come again, 3 % in capitals and 2 % with somebody's address."""
    monkeypatch.chdir(tmp_path)
    assert main(["run", "instructgpt/quick", *typed(changes)]) == 0
    out, run = capsys.readouterr().out, tmp_path / "runs" / "instructgpt-quick"
    assert "9 stages done in runs/instructgpt-quick" in out and "\\u00a0" not in out
    prompts = done(run, "prompts").metrics
    dropped = {name: int(n) for name, n in prompts.items() if name.startswith("dropped/")}
    assert prompts["rows_in"] == 264 == prompts["kept"] + sum(dropped.values())
    assert sum(n for name, n in dropped.items() if "personal" in name) == 5
    assert dropped["dropped/shared prefix"] == 12 and dropped["dropped/near-duplicate"] >= 7
    assert dropped["dropped/over the cap of its user"] >= 1
    splits = {n: read_jsonl(str(folder(run, "prompts") / f"{n}.jsonl")) for n in ("sft", "reward", "ppo")}
    users = [group.user for groups in splits.values() for group in groups]
    assert max(map(users.count, users)) == 20
    assert len(set(users)) == sum(len({g.user for g in groups}) for groups in splits.values())
    assert done(run, "demonstrations").metrics["demonstrations"] == len(splits["sft"])
    labels = done(run, "labels").metrics
    assert labels["groups"] == len(splits["reward"]) >= labels["rankings"] > 20
    assert all(len(g.completions) == 4 for g in read_jsonl(str(folder(run, "labels") / "groups.jsonl")))

    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    ptx, told = summary["policies"]["ppo_ptx"], shown(run)
    won = f"{100 * ptx['win_rate_vs_sft']['mean']:.1f} %"
    low, high = (f"{100 * end:.1f}" for end in ptx["win_rate_vs_sft"]["ci95"])
    assert re.search(rf"PPO-ptx(?: wins)? {won} \[{low}, {high}\]", told.split("Three stages")[0])
    assert re.search(r"Over SFT, PPO(: .*\btax\b.*;| and) PPO-ptx: .*\btax\b", told.split("Three stages")[0])
    figure = told.split("Three stages")[1].split("Reward against distance")[0]
    counts = re.findall(
        r"came in\n264\n|kept\n\d+\n|for reward\n\d+\n|rankings\n\d+\n|written\n\d+\n", figure
    )
    assert counts == [
        "came in\n264\n",
        f"kept\n{prompts['kept']:.0f}\n",
        f"for reward\n{len(splits['reward'])}\n",
        f"written\n{len(splits['sft'])}\n",
        f"rankings\n{labels['rankings']}\n",
    ]
    accuracy = summary["reward_model"]["accuracy"]
    assert (
        f"held-out accuracy\n{accuracy:.3f} [" in figure and f"pairs in them\n{labels['pairs']}\n" in figure
    )

    again = trueup.run("instructgpt/quick", say=lambda line: None, **changes)
    assert again.summary == summary and set(again.stages) >= {"prompts", "sft", "labels", "reward", "ppo_ptx"}


RECIPE = """
name: mine
stages:
  labels:
    method: label
    model: {path: my-model}
    data: {path: prompts.jsonl, held_out: 0}
    labeler: people
    kind: ranking
    num_completions: 4
    decoding: {max_new_tokens: 3}
  reward:
    method: reward_model
    model: {path: my-model}
    data: {path: "stage:labels", held_out: 0}
    loop: {steps: 2, batch: 4}
    update: {lr: 1.0e-3}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(small_world.make(tmp_path))
    (tmp_path / "mine.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def answered(form: Path, num: int, answer: str = "") -> bytes:
    """The form with its first `num` open rankings filled in: A first, then B and so on; or with `answer`."""
    parts = form.read_text(encoding="utf-8").split("\nranking:\n")
    for place in range(num):
        letters = re.findall(r"^[A-D]$", parts[place].rpartition("\nranking:")[2], flags=re.MULTILINE)
        parts[place] += f"\nranking: {answer or ' > '.join(letters)}\n"
    return ("".join(parts[: num + 1]) + "".join(f"\nranking:\n{part}" for part in parts[num + 1 :])).encode()


def test_people_are_waited_for_and_the_run_goes_on_to_the_same_bits(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "mine.yaml"]
    assert main([*command, "--out", "one"]) == EXIT_AWAITS
    said = capsys.readouterr().err
    form = folder(here / "one", "labels") / "rank.txt"
    shown = form.relative_to(here)
    assert re.search(
        rf"waiting E783 {shown} — 8 of 8 prompts wait to be ranked by people — write after", said
    )
    assert not list((here / "one" / "stages").glob("reward-*"))
    sampled = (form.parent / "sampled.jsonl").read_bytes()

    form.write_bytes(answered(form, 5))
    assert main([*command, "--out", "one"]) == EXIT_AWAITS
    assert "— 3 of 8 prompts wait to be ranked" in capsys.readouterr().err

    good = answered(form, 3)
    form.write_bytes(answered(form, 1, "A > Z"))
    place = form.read_text(encoding="utf-8").splitlines().index("ranking: A > Z") + 1
    assert main([*command, "--out", "one"]) == EXIT_DATA
    assert f"E784 {shown.parent} — rank.txt:{place}: 'A > Z' does not name" in capsys.readouterr().err
    assert form.read_text(encoding="utf-8").count("ranking: A > B") == 5, "what was answered stays"

    form.write_bytes(good)
    assert main([*command, "--out", "one"]) == 0
    assert done(here / "one", "labels").metrics["rankings"] == 8
    assert (form.parent / "sampled.jsonl").read_bytes() == sampled

    there = here / "two" / form.parent.relative_to(here / "one")
    there.mkdir(parents=True)
    (there / "rank.txt").write_bytes(good)
    assert main([*command, "--out", "two"]) == 0, capsys.readouterr().err
    for name in ("groups.jsonl", "metrics.jsonl", "sampled.jsonl"):
        assert (there / name).read_bytes() == (form.parent / name).read_bytes(), name
    for name in ("model/model.safetensors", "metrics.jsonl"):
        first, second = (folder(here / run, "reward") / name for run in ("one", "two"))
        assert first.read_bytes() == second.read_bytes(), name
    assert folder(here / "one", "reward").name == folder(here / "two", "reward").name


def test_from_python_the_waiting_is_an_error_that_says_where(here: Path) -> None:
    with pytest.raises(TrueupError, match=r"E783 .*rank\.txt — 8 of 8 prompts wait") as found:
        trueup.run("mine.yaml", out="run", say=lambda line: None)
    assert found.value.exit_code == EXIT_AWAITS


WORLD = """
base: my-model
prompts: asked.jsonl
demonstrations: shown.jsonl
data: {text: texts.jsonl}
judges: {short: "judge.py:short", late: "judge.py:late"}
truth: short
labelers: {rule: short}
exams: {multiple_choice: exam.jsonl}
"""
JUDGE = """
def short(completion: str) -> float:
    return -len(completion) / 10

def late(completion: str) -> float:
    return sum(map(ord, completion)) / 100
"""
SMALL: dict[str, dict[str, Any]] = {
    "sft": {"loop.epochs": 1, "loop.batch": 8},
    "labels": {"decoding.max_new_tokens": 4},
    "reward": {"data.held_out": 0.5, "loop.epochs": 1, "loop.batch": 4, "model.lora.rank": 2},
    "ppo": {"decoding.max_new_tokens": 4, "loop.steps": 1, "loop.batch": 4, "model.lora.rank": 2},
    "ppo_ptx": {
        "decoding.max_new_tokens": 4,
        "loop.steps": 1,
        "loop.batch": 4,
        "model.lora.rank": 2,
        "pretraining.batch": 2,
    },
    "evaluate": {
        "labels_held_out": 0.5,
        "decoding.max_new_tokens": 4,
        "num_prompts": 6,
        "best_of": 2,
        "exam_items": 4,
    },
}
SMALLER = [
    part
    for stage, keys in SMALL.items()
    for key, value in keys.items()
    for part in (f"--{stage}.{key}", str(value))
]


@pytest.fixture
def mine(here: Path) -> Path:
    words = ("sun", "moon", "star", "sea", "hill", "lake", "wood", "field")
    asked = [
        {"prompt": f"{word} {place}: what is it that we see of {word}?", "user": f"{word}-{place}"}
        for place in range(5)
        for word in words
    ]
    small_world.write(here / "asked.jsonl", asked)
    shown = [{"prompt": f"tell me {w} now", "completion": f"the {w}", "user": f"writer-{w}"} for w in words]
    small_world.write(here / "shown.jsonl", shown)
    small_world.write(here / "texts.jsonl", [{"text": f"a {word} is a {word}"} for word in words])
    items = [{"question": f"the {w} is", "choices": ["here", "there"], "answer": 0} for w in words]
    small_world.write(here / "exam.jsonl", items)
    (here / "judge.py").write_text(JUDGE, encoding="utf-8")
    (here / "world.yaml").write_text(WORLD, encoding="utf-8")
    return here


def test_real_runs_in_a_world_of_ones_own(
    mine: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    command = ["run", "instructgpt/real", "--world", "world.yaml", *SMALLER]
    assert main([*command, "--out", "one"]) == EXIT_AWAITS
    assert "prompts wait to be ranked by people" in capsys.readouterr().err
    assert main([*command, "--labels.labeler", "judge.py:late", "--out", "one"]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert "lab" not in re.sub(r"labels|labeler", "", captured.out + captured.err)
    (labels,) = (f for f in (mine / "one" / "stages").glob("labels-*") if (f / "DONE.json").exists())
    ranked = [g for g in read_jsonl(str(labels / "groups.jsonl")) if g.rankings]
    assert ranked
    for group in ranked:
        scores = [
            {sum(map(ord, group.completions[i].text)) for i in tier} for tier in group.rankings[0].tiers
        ]
        assert all(len(tier) == 1 for tier in scores)
        assert [max(tier) for tier in scores] == sorted((max(tier) for tier in scores), reverse=True)
    summary = json.loads((mine / "one" / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["policies"]) == {"base", "sft", "best_of_2", "ppo", "ppo_ptx"}
    assert summary["num_prompts"] == 6
    assert set(summary["policies"]["ppo_ptx"]["tax_over_start"]) == {"multiple_choice"}
    told = shown(mine / "one")
    assert "Three stages" in told and "judge.py:late" in told and "held-out accuracy" in told
    assert summary["reward_model"]["pairs"] > 0 and "prefers anything" not in caplog.text

    command[command.index("--evaluate.labels_held_out") + 1] = "0"
    assert main([*command, "--labels.labeler", "judge.py:late", "--out", "one"]) == 0, "no label ends no run"
    assert "none of 0 held-out labels prefers anything" in caplog.text
    assert json.loads((mine / "one" / "summary.json").read_text(encoding="utf-8"))["reward_model"] is None


@pytest.mark.parametrize("labeler", ["world.yaml:rule", "lm:my-model#prompt=compare_text&read=logprobs"])
def test_any_judge_ranks(labeler: str, mine: Path) -> None:
    command = [
        "train",
        "label",
        "--model.path",
        "my-model",
        "--data.path",
        "asked.jsonl",
        "--data.limit",
        "3",
    ]
    command += ["--kind", "ranking", "--num_completions", "3", "--decoding.max_new_tokens", "3"]
    assert main([*command, "--labeler", labeler, "--out", "run"]) == 0
    groups = read_jsonl("run/groups.jsonl")
    assert len(groups) == 3 and all(len(g.completions) == 3 and not g.comparisons for g in groups)
    assert any(g.rankings for g in groups)
    for ranking in (r for g in groups for r in g.rankings):
        assert sorted(i for tier in ranking.tiers for i in tier) == [0, 1, 2]


def test_a_function_of_a_session_ranks(mine: Path) -> None:
    def letters(completion: str) -> float:
        return float(sum(map(ord, completion)))

    made = trueup.fit(
        "label",
        model="my-model",
        data={"path": "asked.jsonl", "limit": 2},
        labeler=letters,
        kind="ranking",
        num_completions=3,
        decoding={"max_new_tokens": 3},
        out="run",
    )
    groups = read_jsonl(str(made.folder / "groups.jsonl"))
    best = [group.completions[group.rankings[0].tiers[0][0]].text for group in groups]
    assert best == [max((c.text for c in group.completions), key=letters) for group in groups]


def test_what_cannot_label_is_said_before_anything_is_sampled(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "label", "--model.path", "my-model", "--data.path", "asked.jsonl", "--out", "run"]
    for given, said in (
        (["--labeler", "people"], r"E704 kind — people rank all completions .* `--kind ranking`"),
        (["--labeler", "judge.py:shrot"], r"E792 judge.py:shrot — no function 'shrot'"),
        (["--labeler", "nobody"], r"E801 .*nobody"),
        (["--num_completions", "1"], r"num_completions"),
    ):
        assert main([*command, *given]) != 0
        assert re.search(said, capsys.readouterr().err), said
    assert not (mine / "run" / "sampled.jsonl").exists()


@pytest.mark.parametrize("name", ["instructgpt/quick", "instructgpt/lab", "instructgpt/real"])
def test_the_recipes_plan_k_wise_rankings_of_sft(name: str, mine: Path) -> None:
    given = {"world": "world.yaml"} if name.endswith("real") else {}
    stages = {stage.name: stage for stage in plan(read_recipe(recipe_path(name), given), mine / "run")}
    assert 4 <= stages["labels"].config.num_completions <= 9 and stages["labels"].config.kind == "ranking"
    assert "prompts" in stages["labels"].inputs and "sft" in stages["labels"].inputs
    assert "labels" in stages["reward"].inputs
    assert {"sft", "reward", "prompts"} <= set(stages["ppo"].inputs) == set(stages["ppo_ptx"].inputs)
    assert stages["ppo_ptx"].config.pretraining.coefficient > 0
