"""What nobody may see or do: models before a vote, others' votes, forms of other sites, markup in texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from collecting.people_at_work import pairs_file
from collecting.served import Browser, served, write_project, write_rows
from trueup.collecting.exports import exported_rows
from trueup.collecting.open import Opened, check_site
from trueup.collecting.people import People
from trueup.collecting.store import Store
from trueup.errors import TrueupError

NASTY = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</textarea><script>alert(1)</script>",
    "\"><svg onload=alert(1)>", "{{ 7 * 7 }}", "</div></article><form action=//evil>", "javascript:alert(1)",
    "<!-- --><style>*{display:none}</style>", "&lt;b&gt;", "' onfocus='alert(1)",
)  # fmt: skip
SOURCES = ("secret-model-one", "secret-model-two")
_TAGS = re.compile(r"<\s*(script|img|svg|style|iframe|form)\b[^>]*>", re.IGNORECASE)
Room = tuple[str, Opened]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("room")
    rows = [
        {
            "prompt": [{"role": "user", "content": text}],
            "completions": [{"text": f"{text}{n}", "source": SOURCES[n]} for n in range(2)],
            "id": text, "meta": {"best": "secret-model-one"},
            "comparisons": [{"a": 0, "b": 1, "choice": "a", "labeler": "secret-labeler"}],
        }
        for text in NASTY
    ]  # fmt: skip
    write_rows(folder / "pairs.jsonl", rows)
    write_rows(folder / "few.jsonl", rows[2:3])
    (folder / "guide.md").write_text("# Guide\n<script>alert(2)</script> [x](javascript:alert(3))")
    tasks = "  p: {kind: compare, data: pairs.jsonl, overlap: 2}\n  c: {kind: critique, data: few.jsonl}"
    with served(write_project(folder, tasks, "guidelines: guide.md")) as found:
        yield found


def own_tags(page: str) -> list[str]:
    """The tags of a page that could do something, but for those that every page of ours has."""
    ours = ('<script src="/htmx.js" defer>', '<script src="/collect.js" defer>')
    forms = r'<form (class="\w+" )?(id="task" class="\w+" )?method="post" action="/\w+"'
    drawn = r'<svg class="(plot|mark c\d)"'
    found = (m[0] for m in _TAGS.finditer(page))
    return [tag for tag in found if tag not in ours and not re.match(f"{forms}|{drawn}", tag)]


def test_text_of_models_and_people_is_text_everywhere(room: Room) -> None:
    ann = Browser(*room, "ann")
    page = ann.get("/").text
    assert not own_tags(page) and "&lt;script&gt;alert(2)" in page and 'href="javascript:' not in page
    ann.get("/task")
    seen = 0
    while ann.answers():
        assert not own_tags(ann.page), ann.page
        kind = "critique" if 'name="critique"' in ann.page else "compare"
        texts = ann.answers()
        assert any(text[:-1] in NASTY for text in texts)
        nasty = NASTY[seen % len(NASTY)]
        fields = (
            {"critique": nasty, "text": nasty} if kind == "critique" else {"choice": "1", "comment": nasty}
        )
        ann.send({**fields, "action": "draft"})
        assert not own_tags(ann.page), ann.page
        ann.send({**fields, "action": "save"})
        seen += 1
    assert seen == len(NASTY) + 2
    lea = Browser(*room, "lea", "lead", "<b>team</b>")
    for path in ("/board", "/people"):
        assert not own_tags(lea.get(path).text)


def test_no_page_or_header_tells_which_model_is_which_or_what_others_said(room: Room) -> None:
    eve = Browser(*room, "eve")
    for _ in range(2 * len(NASTY)):
        found = eve.get("/task")
        if not eve.answers():
            break
        whole = found.text + json.dumps(dict(found.headers)) + str(found.url)
        for hidden in (*SOURCES, "secret-labeler", "ann", "comparison", "gold", "purpose"):
            assert not re.search(rf"\b{hidden}\b", whole.replace("meaning", "")), hidden
        eve.send({"choice": "8", "action": "save"})


def test_only_who_leads_sees_the_board_people_and_groups(room: Room) -> None:
    bob = Browser(*room, "bob")
    for path in ("/board", "/board/now", "/groups", "/people", "/groups.jsonl", "/decide"):
        assert bob.get(path).status_code == 403
    bob.get("/task")
    assert bob.send({"name": "mallory", "role": "owner"}, "/people").status_code == 403


def test_a_lead_makes_no_owner_and_changes_none(room: Room) -> None:
    lea, boss = Browser(*room, "lea2", "lead"), Browser(*room, "boss", "owner")
    lea.get("/people")
    assert lea.send({"name": "pal", "role": "owner"}, "/people").status_code == 403
    lea.get("/people")
    assert lea.send({"name": "boss", "action": "revoke"}, "/people").status_code == 403
    assert boss.get("/board").status_code == 200


def test_without_a_cookie_there_is_only_the_page_that_lets_in(room: Room) -> None:
    address, _ = room
    with httpx2.Client(base_url=address) as nobody:
        for path in ("/", "/task", "/board", "/groups", "/people", "/groups.jsonl", "/decide"):
            found = nobody.get(path)
            assert found.status_code == 401 and "Open the link" in found.text
        for path in ("/task", "/draft", "/undo", "/people", "/leave", "/decide"):
            assert nobody.post(path, data={"choice": "1"}).status_code == 401
        assert nobody.get("/join/nothing").status_code == 404
        nobody.cookies.set("trueup_collect", "WzEsMV0.forged.signature")
        assert nobody.get("/task").status_code == 401


def test_a_form_needs_the_stamp_of_its_session_and_a_page_of_ours(room: Room) -> None:
    kim, mal = Browser(*room, "kim"), Browser(*room, "mal")
    kim.get("/task")
    mal.get("/task")
    fields = {**kim.hidden(), "choice": "1", "action": "save"}
    for stamp in ("", "0" * 64, mal.hidden()["stamp"]):
        assert kim.client.post("/task", data={**fields, "stamp": stamp}).status_code == 403
    for headers in (
        {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):  # fmt: skip
        assert kim.client.post("/task", data=fields, headers=headers).status_code == 403
    for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}):
        assert kim.client.get("/task", headers=headers).status_code == 400
    assert kim.client.post("/task", json=fields).status_code == 415
    assert kim.client.post("/task", data={"x": "y" * (2 << 20)}).status_code == 413


def test_a_task_of_somebody_else_cannot_be_answered(tmp_path: Path) -> None:
    pairs_file(tmp_path, 3)
    with served(write_project(tmp_path, "  p: {kind: compare, data: pairs.jsonl}")) as (address, opened):
        pat, sam = Browser(address, opened, "pat"), Browser(address, opened, "sam")
        pat.get("/task")
        sam.get("/task")
        assert pat.hidden()["task"] != sam.hidden()["task"]
        sam.send({"task": pat.hidden()["task"], "choice": "1", "action": "save"})
        assert "Others have done that task" in sam.page and not exported_rows(opened.store)[0]


def test_every_answer_tells_the_browser_to_be_strict_and_cookies_are_its_own(room: Room) -> None:
    address, opened = room
    with httpx2.Client(base_url=address) as client:
        token = opened.people.invite("zoe")
        page = client.get(f"/join/{token}")
        assert "set-cookie" not in page.headers
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert (
            page.headers["cache-control"] == "no-store" and page.headers["referrer-policy"] == "same-origin"
        )
        cookie = client.post("/join", data={"token": token}).headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and token.lower() not in cookie


def test_the_store_holds_no_link_and_a_new_one_voids_the_old_and_its_cookie(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "p.db"))
    people = People(store=store)
    token = people.invite("ann")
    ann = people.of_token(token)
    assert ann is not None
    cookie = people.cookie(ann)
    assert people.of_cookie(cookie) == ann
    assert token.encode() not in (tmp_path / "p.db").read_bytes()
    again = people.invite("ann")
    assert people.of_token(token) is None and people.of_cookie(cookie) is None
    assert people.of_token(again) == ann and people.revoke("ann") and people.of_token(again) is None


@pytest.mark.parametrize("name", ["", " ", "a\nb", "<b>", "x" * 65, "../x", "a ", "\u202eann"])
def test_a_name_is_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrueupError, match="E885"):
        People(store=Store(str(tmp_path / "p.db"))).invite(name)


def test_another_address_needs_the_name_by_which_people_come() -> None:
    check_site("127.0.0.1", "")
    check_site("0.0.0.0", "https://annotate.example.org")
    for host, site in (("0.0.0.0", ""), ("127.0.0.1", "annotate.example.org"), ("0.0.0.0", "ftp://x")):
        with pytest.raises(TrueupError, match="E887"):
            check_site(host, site)
