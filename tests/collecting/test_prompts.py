"""People write prompts: plain, few-shot and for a use case, kept with their style and a writer's number."""

from __future__ import annotations

from pathlib import Path

import pytest

from collecting.people_at_work import pairs_file
from collecting.served import Browser, served, write_project, write_rows
from trueup import read
from trueup.collecting.exports import exported_rows
from trueup.collecting.open import open_project
from trueup.data.collected import collected_rows
from trueup.errors import TrueupError

TASKS = (
    "  w: {kind: prompts, plain: 1, few_shot: 1, data: cases.jsonl}\n  p: {kind: compare, data: pairs.jsonl}"
)
SHOTS = {"instruction": "Say the opposite.", "input-1": "hot", "output-1": "cold", "text": "up"}


def test_the_three_styles_are_prompts_of_a_writer_without_a_name(tmp_path: Path) -> None:
    write_rows(tmp_path / "cases.jsonl", [{"prompt": "A shop answers mail.", "id": "shop"}])
    pairs_file(tmp_path, 1)
    with served(write_project(tmp_path, TASKS)) as (address, opened):
        ann = Browser(address, opened, "ann")
        ann.get("/task")
        assert ann.send({"text": " ", "action": "save"}).status_code == 422
        ann.send({"text": "Name a river.\r\nTwo, even.", "action": "save"})
        assert ann.send({**SHOTS, "action": "save"}).status_code == 422  # one example
        assert ">\ncold</textarea>" in ann.page
        half = {**SHOTS, "input-3": "wet", "action": "save"}
        assert ann.send(half).status_code == 422
        ann.send({**half, "output-3": "dry"})
        assert "A shop answers mail." in ann.page
        ann.send({"text": "Dear shop, <b>why</b>?", "action": "save"})
        ann.send({"action": "undo"})
        assert ">\nDear shop, &lt;b&gt;why&lt;/b&gt;?</textarea>" in ann.page
        ann.send({"text": "Dear shop, why?", "action": "save"})
        ann.send({"choice": "1", "action": "save"})
        rows = exported_rows(opened.store, kind="prompts")[0]
        place = f"collect:{opened.store.place}?kind="
        groups = read(f"{place}prompts")
        raw = b"".join(row.raw for row in collected_rows(f"{place}prompts"))
        assert len(read(f"{place}compare")) == 1
    assert [g.prompt[0].content for g in groups] == [
        "Name a river.\nTwo, even.",
        "Say the opposite.\n\nQuery: hot\nResponse: cold\n\n"
        "Query: wet\nResponse: dry\n\nQuery: up\nResponse:",
        "Dear shop, why?",
    ]
    held = [row["meta"]["collected"] for row in rows]
    assert [one["style"] for one in held] == ["plain", "few_shot", "user_based"]
    assert held[1]["examples"] == [["hot", "cold"], ["wet", "dry"]]
    assert held[2]["use_case"] == "A shop answers mail."
    assert len({g.user for g in groups}) == 1 and groups[0].user.startswith("writer-")
    assert b"ann" not in raw


def test_one_kind_alone_is_given_out(tmp_path: Path) -> None:
    write_rows(tmp_path / "cases.jsonl", [{"prompt": "A shop answers mail."}])
    pairs_file(tmp_path, 1)
    opened = open_project(write_project(tmp_path, TASKS))
    from trueup.collecting.open import desk_of

    assert desk_of(opened.store, opened.project, "prompts").blocks == ("w",)
    assert desk_of(opened.store, opened.project).blocks == ("w", "p")
    with pytest.raises(TrueupError, match="its kinds are compare, prompts") as error:
        opened.server(kind="rank")
    assert error.value.code == "E891"


def test_a_block_that_asks_for_no_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match="plain"):
        open_project(write_project(tmp_path, "  w: {kind: prompts}"))
