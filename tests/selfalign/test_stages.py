"""SELF-ALIGN's stages: rows that go on as they began, targets without principles, a server and its model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from answerers.worlds import local, remote, serving
from selfalign.supervised import FORM, GENERAL, GOOD, LAB, Scripted
from trueup.answerers import Answerer
from trueup.constitution.opening import Author, Model
from trueup.engine.groups import Group, Message, Role, read_jsonl, to_json
from trueup.errors import TrueupError
from trueup.models.opening import open_chat
from trueup.procedures import self_align, self_instruct, verbose_answers
from trueup.runs.signals import Interrupted
from trueup.selfalign import asking
from trueup.settings.blocks import DataSettings, ModelSettings
from trueup.settings.config import read_yaml
from trueup.sources.sample import Decoding
from trueup.worlds import open_world


def model(answerer: Any) -> Model:
    return Model(answerer, Author("scripted", "abc"))


def never() -> str:
    return ""


def written(prompt: str, seed: int, place: int) -> str:
    """Five new tasks or topics, different with every seed and place."""
    number = int(re.findall(r"\n(\d+)\.", prompt)[-1])
    hints = "(" in prompt.rpartition("\n")[2]
    words = [f"{seed % 10007 + i:x}{place}" for i in range(5)]
    if hints:
        return f" How would {words[0]} then {words[1]} become {words[2]}?"
    topic = "topics" in prompt.partition("\n")[0]
    items = [f"T{w}" if topic else f"Explain {w} in {w[::-1]} terms with {w}q." for w in words]
    return " " + "".join(f"{item}\n{number + 1 + i}. " for i, item in enumerate(items)).strip()


def tasks_in(folder: Path, answerer: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Group]:
    monkeypatch.setattr(self_instruct, "open_model", lambda *a, **k: model(answerer))
    config = self_instruct.Config(
        supervision="general", num_tasks=30, num_topics=6, num_hinted=4, lists=2, **changes
    )
    folder.mkdir(exist_ok=True)
    done = self_instruct.run(config, folder, stop_requested=never)
    rows = read_jsonl(str(folder / done.output))
    assert done.metrics["seeds"] == 175 and done.metrics["question_types"] == 20
    assert len(rows) == done.metrics["kept/tasks"] + done.metrics["kept/hinted"]
    return rows


def test_a_killed_stage_goes_on_to_the_same_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tasks_in(tmp_path / "whole", Scripted(say=written), monkeypatch)
    lines = (tmp_path / "whole" / self_instruct.ROUNDS).read_bytes().splitlines(keepends=True)
    assert len(lines) > 4
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / self_instruct.ROUNDS).write_bytes(b"".join(lines[:3]) + lines[3][:20])
    again = Scripted(say=written)
    assert [to_json(g) for g in tasks_in(tmp_path / "cut", again, monkeypatch)] == [to_json(g) for g in whole]
    assert len(again.asked) == 2 * (len(lines) - 3)
    lineage = whole[-1].meta["lineage"]
    assert lineage["model"]["digest"] == "abc" and lineage["topic"] and len(lineage["shown"]) == 5


def test_a_list_without_room_is_counted_and_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model has 256 positions, an answer 384 tokens."""
    monkeypatch.setattr(self_instruct, "open_model", lambda *a, **k: model(local()))
    config = self_instruct.Config(supervision="general", num_topics=0, num_hinted=0, rounds=1, lists=2)
    with pytest.raises(TrueupError, match=r"E823.*'dropped/no_room': 10"):
        self_instruct.run(config, tmp_path, stop_requested=never)


def answered(prompt: str, seed: int, place: int) -> str:
    query = prompt.rpartition(FORM.user)[2].partition(FORM.thoughts)[0]
    thought = f"{FORM.opening} It asks. My internal rules 2 (informative) and {3 + len(query) % 5} (x) apply."
    return f" {thought}{FORM.answer}{query} This one is about the number {seed % 997}. {GOOD}"


def prompts_in(folder: Path, count: int = 9) -> DataSettings:
    path = folder / "prompts.jsonl"
    rows = [
        {"prompt": [{"role": "user", "content": f"What is thing {i}?"}], "completions": []}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataSettings(path=str(path), held_out=0.0)


def answers_in(
    folder: Path, data: DataSettings, answerer: Any, patch: pytest.MonkeyPatch, stop: Any = never
) -> Any:
    patch.setattr(self_align, "open_model", lambda *a, **k: model(answerer))
    folder.mkdir(exist_ok=True)
    config = self_align.Config(supervision="general", data=data, batch=2)
    return self_align.run(config, folder, stop_requested=stop)


def test_targets_hold_no_principle_no_exemplar_and_no_thought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(prompt: str, seed: int, place: int) -> str:
        if place:
            return answered(prompt, seed, place)
        return f"{answered(prompt, seed, place)} {GENERAL.principles[seed % 16].rule}"

    scripted = Scripted(say=say)
    done = answers_in(tmp_path, prompts_in(tmp_path), scripted, monkeypatch)
    assert scripted.asked[0][0].content.count(FORM.user) == 6  # five exemplars and the question
    assert done.metrics["principles"] == 16 and done.metrics["exemplars"] == 5
    assert done.metrics["dropped/leaked"] == 5 and done.metrics["kept/answers"] == 4
    rows = read_jsonl(str(tmp_path / done.output))
    assert len(rows) == 4 + len(GENERAL.identity)
    shown = [p.rule for p in GENERAL.principles] + [e.thought for e in GENERAL.exemplars]
    shown += [e.answer for e in GENERAL.exemplars] + [FORM.opening, FORM.thoughts, "internal rules"]
    for row in rows:
        text = " ".join([m.content for m in row.prompt] + [c.text for c in row.completions])
        assert row.prompt[0] == Message(Role.SYSTEM, GENERAL.header)
        assert not [s for s in shown if s.strip().casefold() in text.casefold()]
    assert {tuple(r.meta["answered"]["rules"]) for r in rows if r.source == "self-align"} == {(2, 4)}


def test_killed_answers_go_on_to_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prompts_in(tmp_path)
    monkeypatch.setattr(asking, "tokens_in", lambda _, texts: len("".join(texts)))
    whole = answers_in(tmp_path / "whole", data, Scripted(say=answered), monkeypatch)
    calls = iter(["", "", "SIGTERM", "SIGTERM"])
    with pytest.raises(Interrupted):
        answers_in(tmp_path / "cut", data, Scripted(say=answered), monkeypatch, lambda: next(calls))
    done = answers_in(tmp_path / "cut", data, Scripted(say=answered), monkeypatch)
    assert done.cost["tokens_sampled"] == whole.cost["tokens_sampled"] > 0
    for name in (self_align.ANSWERS, self_align.OUTPUT):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_verbose_answers_stand_under_both_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted(say=lambda prompt, seed, place: GOOD if place else "Short.")
    monkeypatch.setattr(verbose_answers, "open_model", lambda *a, **k: model(scripted))
    config = verbose_answers.Config(supervision="general", data=prompts_in(tmp_path, 3), batch=3)
    done = verbose_answers.run(config, tmp_path, stop_requested=never)
    assert {p[0].content for p in scripted.asked} == {GENERAL.verbose}
    heads = [row.prompt[0].content for row in read_jsonl(str(tmp_path / done.output))]
    assert heads == [GENERAL.header, GENERAL.verbose] * 2
    assert done.metrics["dropped/short"] == 1


def small_supervision(folder: Path) -> Path:
    """The lab's, cut down to the room of a model of few positions."""
    values = dict(read_yaml(Path(open_world("lab").text("supervision"))).values)
    for name in ("principles", "exemplars"):
        values[name] = values[name][:1]
    values |= {
        "verbose": "Say it at length.",
        "verbose_context": "",
        "tasks": [f"Tell me {i}." for i in range(9)],
    }
    path = folder / "small.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_a_server_gives_the_rows_of_the_model_in_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_supervision(tmp_path)
    data = prompts_in(tmp_path, 3)
    greedy = Decoding(greedy=True, max_new_tokens=6)

    def records(answerer: Answerer, name: str) -> list[bytes]:
        found: list[bytes] = []
        for stage, settings in (
            (
                self_instruct,
                {
                    "num_tasks": 2,
                    "num_topics": 2,
                    "num_hinted": 2,
                    "rounds": 1,
                    "lists": 2,
                    "shown": 1,
                    "new": 1,
                },
            ),
            (self_align, {"data": data, "min_chars": 1}),
            (verbose_answers, {"data": data, "min_chars": 1}),
        ):
            folder = tmp_path / name / stage.__name__
            folder.mkdir(parents=True)
            monkeypatch.setattr(stage, "open_model", lambda *a, **k: model(answerer))
            config = stage.Config(supervision=str(path), decoding=greedy, **settings)
            try:
                stage.run(config, folder, stop_requested=never)
            except TrueupError as error:
                assert error.code == "E823"  # Noise is no task; what was said is on disk all the same.
            kept = getattr(stage, "ROUNDS", None) or vars(stage)["ANSWERS"]
            found.append((folder / kept).read_bytes())
        return found

    near = records(local(), "near")
    with serving() as address:
        far = records(remote(address, tmp_path / "cache"), "far")
    assert near == far and all(len(one.splitlines()) > 1 for one in near)


def test_the_lab_form_fits_its_model() -> None:
    chat = open_chat(ModelSettings())
    longest = max(LAB.seeds, key=len)
    assert len(chat.prompt_ids(LAB.thinking(longest))) + 48 <= 512
