"""The two procedures end to end: kill and resume, provenance, what is dropped, a server beside a model."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from answerers.worlds import MODEL, local, serving
from constitution.scripted import Scripted
from trueup.answerers import Conversation
from trueup.constitution.journal import Journal
from trueup.constitution.opening import Author, Model, author_of
from trueup.data import read
from trueup.engine.groups import read_jsonl
from trueup.engine.order import derive
from trueup.errors import TrueupError
from trueup.procedures import ai_label, revise
from trueup.runs.recipe import plan, read_recipe
from trueup.runs.shipped import recipe_path
from trueup.runs.signals import Interrupted
from trueup.settings.blocks import DataSettings
from trueup.sources.sample import Decoding

PROMPTS = DataSettings(path="lab:prompts", limit=10, held_out=0.0)


def says(conversation: Conversation, seed: int, place: int) -> str:
    """Another text for every question, seed and place; now and then none."""
    number = derive(seed, place, *(m.content for m in conversation)) % 1000
    return "" if number % 9 == 0 else "same" if number % 5 == 0 else f"text {number}"


def prefers(conversation: Conversation) -> tuple[float, float]:
    number = derive(0, conversation[-1].content) % 100
    return -number / 20, -2.0


def far(conversation: Conversation) -> tuple[float, float]:
    """Very sure of whichever answer stands first in the alphabet."""
    asked = next(m.content for m in conversation if "Answer B:" in m.content and "text" in m.content)
    first = asked.split("Answer A: ")[1].split(" Answer B: ")
    return (-0.1, -9.0) if first[0] < first[1] else (-9.0, -0.1)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """A model that both procedures ask in place of a real one."""
    model = Scripted(say=says, odds=prefers)

    def opened(*_: Any, **__: Any) -> Model:
        return Model(model, Author("scripted", "abc"))

    for module in (revise, ai_label):
        monkeypatch.setattr(module, "open_model", opened)
    return model


def never() -> str:
    return ""


def after(count: int) -> Callable[[], str]:
    """Asks to stop once it has been asked so often."""
    left = iter([""] * count)
    return lambda: next(left, "SIGTERM")


@pytest.mark.parametrize(
    ("module", "config"),
    [
        (revise, revise.Config(data=PROMPTS, steps=3, batch=4)),
        (ai_label, ai_label.Config(data=PROMPTS, batch=4, principles=3, chains=2)),
    ],
    ids=["revise", "ai_label"],
)
def test_killed_and_resumed_the_rows_are_the_same(
    module: Any, config: Any, scripted: Scripted, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    module.run(config, tmp_path / "whole", stop_requested=never)
    whole, scripted.calls = scripted.calls, 0
    halves = tmp_path / "halves"
    halves.mkdir()
    with pytest.raises(Interrupted):
        module.run(config, halves, stop_requested=after(1))
    name = "transcripts.jsonl" if module is revise else "labels.jsonl"
    with (halves / name).open("a", encoding="utf-8") as file:
        file.write('{"row": 4, "text": "half a li')
    module.run(config, halves, stop_requested=never)
    assert scripted.calls == whole, "nothing that was written is asked for again"
    for file in (name, "groups.jsonl"):
        assert (halves / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    with pytest.raises(TrueupError, match="E723"):
        module.run(type(config)(data=PROMPTS, seed=1), halves, stop_requested=never)


def test_revisions_are_accounted_for_and_read_as_demonstrations(scripted: Scripted, tmp_path: Path) -> None:
    config = revise.Config(data=PROMPTS, steps=3, num_completions=2, use_steps=2)
    done = revise.run(config, tmp_path, stop_requested=never)
    records = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_text().splitlines()[1:]]
    steps = [made for record in records for made in record["steps"] if made["step"] <= 2]
    kept = [made for made in steps if "text" in made]
    found = read(str(tmp_path / "groups.jsonl"), format="auto", split="train")
    assert len(found.groups) == len(kept) == done.metrics["rows"] and done.metrics["prompts"] == 20
    everything = [made for record in records for made in (record, *record["steps"])]
    rejected = sum(value for name, value in done.metrics.items() if name.startswith("rejected/"))
    assert rejected == sum("rejected" in made for made in everything) > 0
    assert [g.completions[0].text for g in found.groups] == [made["text"] for made in kept]
    first = found.groups[0].meta["revision"]
    assert (
        first["reviser"] == {"name": "scripted", "digest": "abc"} and first["constitution"]["name"] == "lab"
    )
    assert {"row", "step", "principle", "prompt", "seed", "writer"} <= first.keys()
    assert "CritiqueRequest" not in (tmp_path / "groups.jsonl").read_text()
    assert {"harmless/0", "harmless/3", "evasive/3"} <= done.metrics.keys()


def test_pairs_are_accounted_for_and_carry_soft_labels(scripted: Scripted, tmp_path: Path) -> None:
    scripted.say = lambda c, seed, place: "same" if place < 4 else says(c, seed, place) + "!"
    done = ai_label.run(ai_label.Config(data=PROMPTS), tmp_path, stop_requested=never)
    groups = read_jsonl(str(tmp_path / "groups.jsonl"))
    assert done.metrics["dropped/identical"] >= 2
    assert done.metrics["pairs"] == len(groups) == 10 - done.metrics["dropped/identical"]
    for group in groups:
        (comparison,) = group.comparisons
        (pair,) = group.pairs()
        assert comparison.labeler == "constitution:scripted" and pair.label == comparison.probability
        assert group.meta["label"]["judge"]["digest"] == "abc" and len(group.meta["label"]["principles"]) == 1
    assert {"judge/inconsistent", "judge/mass", "label/confidence"} <= done.metrics.keys()
    again = ai_label.Config(model="", data=DataSettings(path=str(tmp_path / "groups.jsonl"), held_out=0.0))
    (tmp_path / "again").mkdir()
    assert ai_label.run(again, tmp_path / "again", stop_requested=never).metrics["pairs"] == len(groups)


def test_chains_are_clamped_unless_told_otherwise(scripted: Scripted, tmp_path: Path) -> None:
    scripted.say = lambda c, seed, place: f"text {place * 7 % 10}"
    scripted.odds = far
    ai_label.run(ai_label.Config(data=PROMPTS, chains=1, examples=0), tmp_path, stop_requested=never)
    labels = [g.comparisons[0].probability or 0 for g in read_jsonl(str(tmp_path / "groups.jsonl"))]
    assert min(labels) == 0.4 and max(labels) == 0.6


CONSTITUTION = """
name: tiny
speakers: {user: "U ", assistant: "S "}
text:
  {question: "{conversation} {first} {second} {principle} {ask}", letter: "Or:", reasons: why, labels: [A, B]}
corrections: [{id: a, critique: Bad., revision: Mend.}, {id: b, critique: Rude., revision: Be kind.}]
criteria: [{id: a, text: Kinder}, {id: b, text: Truer}]
"""


def test_a_server_gives_the_rows_that_the_model_here_gives(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(CONSTITUTION, encoding="utf-8")
    asks = [[{"role": "user", "content": f"what is {i}?"}] for i in range(3)]
    rows = "".join(json.dumps({"prompt": ask}) + "\n" for ask in asks)
    (tmp_path / "prompts.jsonl").write_text(rows, encoding="utf-8")
    data = DataSettings(path=str(tmp_path / "prompts.jsonl"), held_out=0.0)
    greedy = Decoding(max_new_tokens=6, greedy=True)
    asked = {"constitution": str(tmp_path / "tiny.yaml"), "form": "text", "data": data}

    said = {
        "chosen": [{"role": "assistant", "content": "it is so"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
    pairs = [{"prompt": ask, **said} for ask in asks]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs), encoding="utf-8")
    both = DataSettings(path=str(tmp_path / "pairs.jsonl"), held_out=0.0)

    def made(folder: str, ref: str) -> tuple[list[Any], list[Any]]:
        for part in ("revise", "label"):
            (tmp_path / folder / part).mkdir(parents=True)
        revise.run(
            revise.Config(model=ref, steps=2, decoding=greedy, **asked),
            tmp_path / folder / "revise",
            stop_requested=never,
        )
        ai_label.run(
            ai_label.Config(model="", judge=ref, **{**asked, "data": both}),
            tmp_path / folder / "label",
            stop_requested=never,
        )
        found = []
        for name in ("revise/transcripts.jsonl", "label/labels.jsonl"):
            lines = (tmp_path / folder / name).read_text(encoding="utf-8").splitlines()[1:]
            found.append([json.loads(line) for line in lines])
        return found[0], found[1]

    with serving() as address:
        served, judged = made("served", f"openai:{address}/v1?model={MODEL}&cache=off")
    with monkeypatch.context() as patch:
        for module in (revise, ai_label):
            patch.setattr(module, "open_model", lambda *_, **__: Model(local(), Author("here", "")))
        here, judged_here = made("here", "here")
    assert served == here
    assert [r["label"] for r in judged] == pytest.approx([r["label"] for r in judged_here], abs=1e-5)


def test_a_prompt_without_room_at_the_writer_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The writer has 256 positions, one token a byte; the reviser takes anything."""
    models = {"writer": local(), "reviser": Scripted()}
    monkeypatch.setattr(revise, "open_model", lambda ref, **_: Model(models[ref], Author(ref, "")))
    rows = [{"prompt": [{"role": "user", "content": "x" * length}]} for length in (300, 3)]
    (tmp_path / "prompts.jsonl").write_text(
        "".join(map("{}\n".format, map(json.dumps, rows))), encoding="utf-8"
    )
    config = revise.Config(
        model="writer",
        reviser="reviser",
        steps=1,
        data=DataSettings(path=str(tmp_path / "prompts.jsonl"), held_out=0.0),
        decoding=Decoding(max_new_tokens=6, greedy=True),
    )
    done = revise.run(config, tmp_path, stop_requested=never)
    assert done.metrics["rejected/overlong"] == done.metrics["rows"] == 1


def test_a_full_disk_takes_no_row(tmp_path: Path) -> None:
    journal = Journal(path=tmp_path / "rows.jsonl", total=4, batch=2, made_by={})
    assert journal.resume() == []
    journal.add([{"row": 0}, {"row": 1}])
    journal.add([{"row": 2}])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        found = journal.resume()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found == journal.resume() == [{"row": 0}, {"row": 1}]


def test_an_author_is_known_by_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    one = author_of("x", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert one.name.startswith("model-") and one != author_of("x", tmp_path)
    assert author_of("x", tmp_path / "nowhere") == Author("x", "")


@pytest.mark.parametrize("name", ["cai/quick", "cai/lab", "cai/real"])
def test_the_recipes_plan(name: str, tmp_path: Path) -> None:
    stages = plan(read_recipe(recipe_path(name)), tmp_path)
    methods = [stage.method for stage in stages]
    assert {"sft", "revise", "ai_label", "reward_model", "dpo", "ppo"} <= set(methods)
    reward = next(stage for stage in stages if stage.name == "reward")
    assert {"sl_cai", "labels"} <= set(reward.inputs)
