"""`trueup rank`: the table, the JSON, the page, and what it says to mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from battle_draws import drawn, met
from trueup.cli import main
from trueup.errors import EXIT_DATA
from trueup.ratings.battles import Battle, write_battles
from trueup.ratings.fit import fit_ratings


@pytest.fixture
def battles(tmp_path: Path) -> Path:
    """Sixty prompts, five models, some ties."""
    path = tmp_path / "battles.jsonl"
    write_battles(path, drawn(np.random.default_rng(0), 60, ties=0.1))
    return path


def test_the_table_the_json_and_the_page(
    battles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "ratings.html"
    assert main(["rank", str(battles), "--against", "c", "--out", str(page)]) == 0
    table = capsys.readouterr().out
    assert main(["rank", str(battles), "--json"]) == 0
    board = json.loads(capsys.readouterr().out)
    found = fit_ratings(drawn(np.random.default_rng(0), 60, ties=0.1))
    assert [m["model"] for m in board["models"]] == [m.model for m in found.models] == list("abcde")
    assert [m["rating"] for m in board["models"]] == [m.rating for m in found.models]
    assert board["prompts"] == 60 and board["battles"] == 600
    assert "5 models, 600 battles on 60 prompts, from battles; " in table and "half a win each" in table
    html = page.read_text("utf-8")
    for m in found.models:
        interval = f"[{m.low:.0f}, {m.high:.0f}]"
        assert f"{m.rating:.0f} {interval}" in " ".join(table.split())
        assert f"<td>{m.rating:.0f}</td><td>{interval}</td>" in html
    assert "wins against c" in table
    pairs = {(row["a"], row["b"]): row["win_rate"]["mean"] for row in board["win_rates"]}
    assert len(pairs) == 20
    assert all(pairs[a, b] + pairs[b, a] == 1 for a, b in pairs)
    assert f"{100 * pairs['a', 'c']:.1f} % [" in table
    assert all(m["elo_low"] <= m["elo_high"] for m in board["models"])
    drawing = html[html.index("<svg") : html.rindex("</svg>") + 6]
    assert len(list(ElementTree.fromstring(drawing).iter("path"))) == 5, "one mark a model"
    assert "<script" not in html and "http" not in html.replace("http-equiv", "")


@pytest.mark.parametrize(("lost", "said"), [(1, "; 1 other may be as good."), (8, ".")])
def test_who_lead_together_are_named_together(
    lost: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`a` and `b` beat each other as often, and `c` as often: the points part nobody, nor do the words."""
    rows = [*met("a", "b", 20, 20), *met("a", "c", 2 * lost + 1, 1), *met("b", "c", 2 * lost + 1, 1)]
    path = tmp_path / "battles.jsonl"
    write_battles(path, rows)
    assert main(["rank", str(path), "--json"]) == 0
    a, b, c = json.loads(capsys.readouterr().out)["models"]
    assert a["rating"] == pytest.approx(b["rating"], abs=1e-6) and c["rank"] == (1 if lost == 1 else 3)
    assert main(["rank", str(path)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"a and b lead with {a['rating']:.0f} points each{said}"


def test_every_option_is_heard(battles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def board(*options: str) -> dict:
        assert main(["rank", str(battles), "--json", *options]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    plain = board()
    assert board("--ties", "davidson")["ties"]["parameter"] > 0
    assert board("--ties", "rao-kupper")["ties"]["parameter"] > 0
    pulled = board("--prior", "50")
    assert pulled["models"][0]["rating"] < plain["models"][0]["rating"]
    drawn_ones = board("--intervals", "bootstrap", "--resamples", "50", "--seed", "3")
    assert drawn_ones["intervals"]["rule"] == "bootstrap"
    assert drawn_ones["models"][0]["low"] != plain["models"][0]["low"]
    wide = board("--level", "0.99")["models"][0]
    assert wide["low"] < plain["models"][0]["low"] and wide["rating"] == plain["models"][0]["rating"]
    (fixed,) = [m for m in board("--anchor", "b")["models"] if m["model"] == "b"]
    assert fixed["rating"] == 1000


def test_controls_and_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "battles.jsonl"
    rng = np.random.default_rng(1)
    kept = [
        Battle(
            a="x", b="y", win=float(rng.random() < 0.6), judge="ann", first="a" if k % 2 else "b",
            lengths=(float(rng.integers(5, 50)), float(rng.integers(5, 50))),
        )
        for k in range(60)
    ]  # fmt: skip
    write_battles(path, [*kept, *met("x", "z", 2, 1)])
    command = ["rank", str(path), "--judge", "ann", "--control", "length", "--control", "position"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "2 models, 60 battles, from battles" in shown
    assert "being shown first is worth" in shown and "times as long is worth" in shown
    assert main(command[:2] + command[4:]) == EXIT_DATA
    assert "3 of 63 battles lack `lengths`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("battles", "options", "says"),
    [
        (met("x", "y", 3, 0), [], "E421 — x never lost to or tied with any of the others"),
        (met("x", "y", 3, 1), ["--anchor", "z"], "E428 anchor — no battle of z"),
        (met("x", "y", 3, 1), ["--against", "z"], "E428 against — no battle of z"),
        (met("x", "y", 3, 1), ["--judge", "z"], "E424 judge — no verdict of z"),
        ([], [], "E"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    battles: list[Battle], options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "battles.jsonl"
    write_battles(path, battles)
    assert main(["rank", str(path), *options]) == EXIT_DATA
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_names_cannot_move_the_cursor_or_become_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, page = tmp_path / "battles.jsonl", tmp_path / "page.html"
    evil = "<b>\x1b[2J[red]"
    write_battles(path, met(evil, "y", 3, 2))
    assert main(["rank", str(path), "--out", str(page)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "[red]" in shown
    html = page.read_text("utf-8")
    assert "\x1b" not in html and "<b>" not in html.replace("<b>trueup</b>", "").replace("<b>Rating</b>", "")
