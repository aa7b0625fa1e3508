"""samples.jsonl: a few held-out completions of a few evaluations, the same bytes whatever was cut short."""

from __future__ import annotations

import json
from pathlib import Path

from trueup.engine.groups import Completion, Group, Message, Role, read_jsonl
from trueup.runs.samples import CHARACTERS, EVALUATIONS, FILE, PROMPTS, keep_samples


def groups(step: int, num: int = 6, long: int = 0) -> list[Group]:
    return [
        Group(
            prompt=(Message(Role.USER, f"prompt {n}" + "p" * long),),
            completions=(Completion(text=f"{n} at {step}" + "c" * long, marks={"score": step / 2}),
                         Completion(text="second")),
            id=f"g{n}",
        )
        for n in range(num)
    ]  # fmt: skip


def kept(folder: Path) -> list[tuple[int, str]]:
    rows = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    return [(row["meta"]["step"], row["completions"][0]["text"]) for row in rows]


def test_the_first_and_the_last_evaluations_of_a_few_prompts_are_kept(tmp_path: Path) -> None:
    for step in range(0, 200, 10):
        keep_samples(tmp_path, step, groups(step))
    steps = [0, *range(120, 200, 10)]
    assert len(steps) == 1 + EVALUATIONS
    assert kept(tmp_path) == [(step, f"{n} at {step}") for step in steps for n in range(PROMPTS)]


def test_a_long_text_is_cut_and_says_how_much_is_left_out(tmp_path: Path) -> None:
    keep_samples(tmp_path, 0, groups(0, long=10 * CHARACTERS))
    (first, *_) = read_jsonl(str(tmp_path / FILE))
    for text in (first.prompt[0].content, first.completions[0].text):
        assert len(text) < CHARACTERS + 30 and "more)" in text


def test_a_run_that_was_stopped_and_goes_on_leaves_the_same_bytes(tmp_path: Path) -> None:
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    for folder in (straight, cut):
        folder.mkdir()
    for step in range(0, 150, 10):
        keep_samples(straight, step, groups(step))
    for steps in (
        range(0, 120, 10),
        range(30, 140, 10),
        range(130, 150, 10),
    ):  # each goes on from a checkpoint
        for step in steps:
            keep_samples(cut, step, groups(step))
    assert (cut / FILE).read_bytes() == (straight / FILE).read_bytes()


def test_a_file_that_is_none_of_ours_is_written_anew(tmp_path: Path) -> None:
    for text in ("no json", "[1]\n", '{"meta": {"step": "x"}}\n', '{"a": 1}\n'):
        (tmp_path / FILE).write_text(text)
        keep_samples(tmp_path, 5, groups(5, num=1))
        assert kept(tmp_path) == [(5, "0 at 5")]
