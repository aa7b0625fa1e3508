"""What was collected trains: the store itself is data, the same as an export of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from collecting.people_at_work import crowd, filled, pairs_file
from small_world import save_model
from trueup import Comparison, fit, read
from trueup.collecting.exports import export
from trueup.collecting.store import Store
from trueup.collecting.tasks import Desk, Given
from trueup.data.collected import collected_digest
from trueup.engine.inputs import read as inputs
from trueup.errors import TrueupError


def voted(store: Store, people: list[int], turn: int = 0) -> None:
    """Nothing; everybody votes once, for the tuned model."""
    desk = Desk(store=store)
    for who in people:
        task = desk.assign(who)
        assert task is not None
        body = {"a": 0, "b": 1, "choice": "a", "strength": 1 + who % 4}
        assert desk.submit(who, Given(task=task.id, key=f"{turn}-{who}-key", body=body)) == "kept"


def trained(model: Path, data: str, out: Path) -> bytes:
    fit("reward_model", data=data, model=str(model), out=out, loop={"steps": 3, "batch": 4})
    return (out / "model" / "model.safetensors").read_bytes()


def test_a_reward_model_of_the_store_is_that_of_the_exported_file(tmp_path: Path) -> None:
    store = filled(tmp_path, 12)
    voted(store, crowd(store, 12))
    groups, latest = export(store, tmp_path / "groups.jsonl")
    assert groups == 12
    place = f"collect:{store.place}"
    assert [g.comparisons for g in read(place)] == [g.comparisons for g in read(tmp_path / "groups.jsonl")]
    model = save_model(tmp_path / "model")
    of_store = trained(model, f"{place}?until={latest}", tmp_path / "a")
    assert of_store == trained(model, str(tmp_path / "groups.jsonl"), tmp_path / "b")
    (recorded,) = [item for item in inputs(tmp_path / "a") if item.name == "data.path"]
    assert recorded.digest == hashlib.sha256((tmp_path / "groups.jsonl").read_bytes()).hexdigest()


def test_the_digest_is_that_of_what_was_said_and_of_an_event_for_ever(tmp_path: Path) -> None:
    store = filled(tmp_path, 6)
    people = crowd(store, 6)
    voted(store, people[:3])
    _, then = export(store, tmp_path / "then.jsonl")
    place = f"collect:{store.place}"
    before, pinned = collected_digest(place), collected_digest(f"{place}?until={then}")
    assert before == pinned
    Desk(store=store).assign(people[3])  # a lease is no answer
    assert collected_digest(place) == before
    voted(store, people[3:])
    Desk(store=store).undo(people[0])
    assert collected_digest(place) != before and collected_digest(f"{place}?until={then}") == pinned
    assert len(read(place)) == 5 and len(read(f"{place}?until={then}")) == 3


def test_what_is_no_project_is_said(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("not a database")
    store = filled(tmp_path, 1)
    for place, code in (
        ("collect:", "E884"), ("collect:postgresql://h/d", "E884"), (f"collect:{tmp_path}/no.db", "E884"),
        (f"collect:{tmp_path}/none.db", "E102"), (f"collect:{store.place}?until=999", "E884"),
        (f"collect:{store.place}?until=x", "E884"),
    ):  # fmt: skip
        with pytest.raises(TrueupError) as error:
            read(place)
        assert error.value.code == code and error.value.remedy


def test_an_export_read_in_again_is_exported_as_it_was(tmp_path: Path) -> None:
    from trueup.collecting.project import Block, Project, fill

    store = filled(tmp_path, 5)
    voted(store, crowd(store, 4))
    export(store, tmp_path / "once.jsonl")
    other = Store(str(tmp_path / "other.db"))
    block = Block(kind="compare", data=str(tmp_path / "once.jsonl"), judged="keep")
    fill(other, Project(name="Again", tasks={"pairs": block}))
    export(other, tmp_path / "twice.jsonl")
    assert (tmp_path / "twice.jsonl").read_bytes() == (tmp_path / "once.jsonl").read_bytes()
    first = json.loads((tmp_path / "once.jsonl").read_text().splitlines()[0])
    assert Comparison(**{**first["comparisons"][0], "shown": None}).labeler == "person 0"


def test_a_notebook_collects_and_trains(tmp_path: Path) -> None:
    import trueup
    from collecting.served import Browser

    pairs_file(tmp_path, 3)
    (tmp_path / "p.yaml").write_text("name: N\ntasks: {p: {kind: compare, data: pairs.jsonl}}\n")
    open_ = trueup.collect(tmp_path / "p.yaml")
    try:
        ann = Browser(open_.address, open_._opened, "ann")
        ann.get("/task")
        ann.send({"choice": "1", "action": "save"})
        ann.client.close()
        data = open_.data
        assert open_.invite().startswith(f"{open_.address}/join/")
        assert [len(g.comparisons) for g in open_.groups] == [len(g.comparisons) for g in read(data)] == [1]
        assert open_.board["blocks"][0]["answers"] == 1
    finally:
        open_.close()
