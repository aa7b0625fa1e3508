"""The pages in Chromium: every kind of task by keys and by mouse, on a phone, and what axe finds wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collecting.people_at_work import pairs_file
from collecting.served import served, write_project, write_rows
from trueup.collecting.exports import exported_rows
from trueup.collecting.open import Opened

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,  # a browser is started, and its pages are looked through: a minute
    # It comes with the system, not with pip.
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt install chromium"),
]
ASKED = [{"role": "user", "content": "name a colour"}]
ROWS = [{"prompt": ASKED, "completions": [{"text": t} for t in ("red", "seven", "blue")]}]
TASKS = """  compare: {kind: compare, data: pairs.jsonl}
  rank: {kind: rank, data: rows.jsonl}
  rate: {kind: rate, data: one.jsonl}
  write: {kind: demonstrate, data: one.jsonl}
  mend: {kind: critique, data: one.jsonl}
"""
BY_KEYS = {
    "compare": (["3"], "Enter"),
    "rank": (["1", "2", "2"], "Enter"),
    "rate": (["5", "b", "6", "c", "7", "a", "4"], "Enter"),
}
KINDS = {"compare", "rank", "rate", "demonstrate", "critique"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def room(tmp_path: Path) -> Iterator[tuple[str, Opened]]:
    pairs_file(tmp_path, 1)
    write_rows(tmp_path / "rows.jsonl", ROWS)
    write_rows(tmp_path / "one.jsonl", [{"prompt": "name a colour", "completion": "seven"}])
    with served(write_project(tmp_path, TASKS)) as found:
        yield found


def at_work(browser: Any, room: tuple[str, Opened], name: str = "ann", **how: Any) -> Any:
    address, opened = room
    page = browser.new_context(**how).new_page()
    page.goto(f"{address}/join/{opened.people.invite(name)}")
    page.click("button.main")
    page.goto(f"{address}/task")
    return page


def kind_of(page: Any) -> str | None:
    form = page.locator("#task")
    return form.get_attribute("class").split()[0] if form.count() else None


def fill_in(page: Any, kind: str, *, keys: bool) -> None:
    """Nothing; the form of a task is sent, by keys or by clicks."""
    before = page.locator("[name=key]").get_attribute("value")
    if kind in ("demonstrate", "critique"):
        for name in ("critique", "text")[kind == "demonstrate" :]:
            page.fill(f"#{name}", "red, I should say")
        page.keyboard.press("Control+Enter") if keys else page.click("button.main")
    elif keys:
        for key in BY_KEYS[kind][0]:
            page.keyboard.press(key)
        page.keyboard.press(BY_KEYS[kind][1])
    else:
        for row in page.locator("fieldset:has(.steps)").all():
            row.locator("label").nth(1).click()
        page.click("button.main")
    page.wait_for_function("k => document.querySelector('[name=key]')?.value !== k", arg=before)


# Keys are the script's: without it a browser's own Tab, arrows and Enter are what there is.
@pytest.mark.parametrize(("script", "keys"), [(True, True), (True, False), (False, False)])
def test_every_kind_is_done(browser: Any, room: tuple[str, Opened], keys: bool, script: bool) -> None:
    page, done = at_work(browser, room, java_script_enabled=script), set()
    while (kind := kind_of(page)) is not None:
        if script:
            fill_in(page, kind, keys=keys)
        else:
            for row in page.locator("fieldset:has(.steps)").all():
                row.locator("label").nth(1).click()
            for text in page.locator("#critique, #text").all():
                text.fill("red, I should say")
            page.click("button.main")
        done.add(kind)
    assert done == KINDS and "Nothing is left to do" in page.content()
    rows = exported_rows(room[1].store)[0]
    assert len(rows) == 5
    if keys:
        by_kind = {row["meta"]["collected"]["kind"]: row for row in rows}
        assert by_kind["compare"]["comparisons"][0]["strength"] == 2
        assert sorted(map(len, by_kind["rank"]["rankings"][0]["tiers"])) == [1, 2]
        assert sorted(s["value"] for s in by_kind["rate"]["scores"]) == [4, 6, 7]


def test_a_phone_needs_no_scrolling_sideways_and_axe_finds_nothing_serious(
    browser: Any, room: tuple[str, Opened]
) -> None:
    address, opened = room
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
    for scheme, width in (("light", 1280), ("dark", 360)):
        page = at_work(browser, room, scheme, color_scheme=scheme, viewport={"width": width, "height": 740})
        errors: list[str] = []
        page.on(
            "console", lambda said, errors=errors: errors.append(said.text) if said.type == "error" else None
        )
        lead = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 740}).new_page()
        lead.goto(f"{address}/join/{opened.people.invite(f'lead {scheme}', 'owner')}")
        lead.click("button.main")
        places = [(page, f"{address}/"), (page, f"{address}/task")]
        places += [(lead, f"{address}{path}") for path in ("/board", "/people")]
        for tab, place in places:
            tab.goto(place)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            found = axe.Axe().run(tab, options=rules).response
            assert len(found["passes"]) > 10
            serious = [
                (one["id"], [node["html"] for node in one["nodes"]])
                for one in found["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            assert not serious, (place, serious)
        assert not errors


def test_an_answer_is_sent_until_the_server_has_it_and_a_draft_outlives_the_browser(
    browser: Any, room: tuple[str, Opened]
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{room[0]}/join/{room[1].people.invite('ann')}")
    page.click("button.main")
    page.goto(f"{room[0]}/task")
    with page.expect_response("**/draft"):
        page.keyboard.press("c")
        page.keyboard.type("half a thought")
    page.close()
    page = context.new_page()
    page.goto(f"{room[0]}/task")
    assert page.input_value("#comment") == "half a thought"
    context.route(
        "**/task", lambda route: route.abort() if route.request.method == "POST" else route.continue_()
    )
    page.click("label:has([value='2'])")
    page.click("button.main")
    page.wait_for_selector("text=Not saved yet")
    assert not exported_rows(room[1].store)[0]
    context.unroute("**/task")
    page.wait_for_function("() => !document.querySelector('#task.compare')", timeout=10_000)
    (row,) = exported_rows(room[1].store)[0]
    assert row["comparisons"][0]["strength"] == 3
    assert row["meta"]["collected"]["comment"][0]["comment"] == "half a thought"


def test_answers_are_ranked_by_dragging(browser: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    with served(write_project(tmp_path, "  rank: {kind: rank, data: rows.jsonl}")) as room:
        page = at_work(browser, room)
        sides = page.locator(".ranks")
        text = [sides.nth(n).locator(".said").inner_text() for n in range(3)]
        for what, onto in ((0, 1), (2, 0)):  # A before B, then C before A
            sides.nth(what).locator("h2").drag_to(sides.nth(onto).locator(".said"))
        assert [page.input_value(f"[name=rank-{n}]:checked") for n in (1, 2, 3)] == ["2", "3", "1"]
        page.click("button.main")
        page.wait_for_selector("text=Nothing is left to do")
        (row,) = exported_rows(room[1].store)[0]
    told = [[row["completions"][c]["text"] for c in tier] for tier in row["rankings"][0]["tiers"]]
    assert told == [[text[2]], [text[0]], [text[1]]]
