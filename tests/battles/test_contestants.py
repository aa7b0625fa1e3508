"""`trueup battle` of what people have: a GGUF file, a folder, a server; a server as judge; a world."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import gguf_files
import small_world
import trueup
from trueup.cli import main
from trueup.ratings.battles import read_battles

REPLIES = re.compile(r"Reply A:\s*\[\[\[(.*?)\]\]\]\s*Reply B:\s*\[\[\[(.*?)\]\]\]", re.DOTALL)
GRADE = "def digits(prompt, completion):\n    return float(sum(c.isdigit() for c in completion))\n"
WORLD = """
prompts: {test: asked.jsonl}
judges: {referee: "lm:openai:ADDRESS/v1?model=judge#read=text", digits: "grade.py:digits"}
truth: digits
"""


class Handler(BaseHTTPRequestHandler):
    """`writer` repeats the question; `judge` prefers what begins with "well", and else sees a tie."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        question = asked["messages"][-1]["content"]
        said = f"well, {question}"
        if asked["model"] == "judge":
            found = REPLIES.search(question)
            assert found is not None
            well = [text.startswith("well") for text in found.groups()]
            said = "[[tie]]" if well[0] == well[1] else "[[A]]" if well[0] else "[[B]]"
        choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        found = {"choices": [{**choice, "index": i} for i in range(asked.get("n") or 1)]}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where both models are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, address: str) -> Path:
    """`mine/` with a GGUF file, a folder, prompts, a grade in Python, and a world of these."""
    folder = tmp_path_factory.mktemp("contestants") / "mine"
    folder.mkdir()
    gguf_files.write(folder / "small.gguf")
    small_world.save_model(folder / "folder")
    asked = [{"prompt": [{"role": "user", "content": f"what is {i}?"}]} for i in range(12)]
    small_world.write(folder / "asked.jsonl", asked)
    (folder / "grade.py").write_text(GRADE, encoding="utf-8")
    (folder / "world.yaml").write_text(WORLD.replace("ADDRESS", address), encoding="utf-8")
    return folder.parent


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine").symlink_to(made / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(address: str) -> list[str]:
    """A battle of three kinds of models, 18 times."""
    models = ["mine/small.gguf", "mine/folder", f"served=openai:{address}/v1?model=writer"]
    few = ["--max-new-tokens", "5", "--battles", "18", "--batch", "9", "--prior", "0.1", "--out", "out"]
    return ["battle", *models, *few]


@pytest.mark.parametrize("world", [False, True])
def test_a_file_a_folder_and_a_server_meet_before_a_server_and_a_function(
    here: Path, address: str, world: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The judge at a server prefers `served`, the function counts digits: prompts of the writer have some."""
    if world:
        given = ["--world", "mine/world.yaml", "--by", "referee=world:referee", "--by", "digits=world:truth"]
    else:
        judge = f"referee=lm:openai:{address}/v1?model=judge#read=text"
        given = ["--prompts", "mine/asked.jsonl", "--by", judge, "--by", "digits=mine/grade.py:digits"]
    assert main([*command(address), *given]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    found = read_battles(here / "out" / "battles.jsonl").battles
    texts = {
        (group.id, c.source): c.text
        for group in trueup.read(here / "out" / "groups.jsonl").groups
        for c in group.completions
    }
    assert {name for _, name in texts} == {"small", "folder", "served"}
    assert all(re.fullmatch(r"well, what is \d+\?", text) for (_, n), text in texts.items() if n == "served")
    for battle in found:
        a, b = (texts[battle.prompt, name] for name in (battle.a, battle.b))
        if battle.judge == "referee":
            x, y = a.startswith("well"), b.startswith("well")
        else:
            x, y = (sum(c.isdigit() for c in text) for text in (a, b))
        assert battle.win == (0.5 if x == y else float(x > y)), battle
    assert Counter(b.judge for b in found) == {"referee": 36, "digits": 18}
    assert sum(b.weight for b in found) == 36
    assert re.search(r"^    1   served ", said, re.MULTILINE), said
    assert max(map(len, re.findall(r"^ .*$", said, re.MULTILINE))) <= 80


def test_its_groups_are_read_by_the_other_commands(
    here: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = f"lm:openai:{address}/v1?model=judge#read=text"
    given = ["--prompts", "mine/asked.jsonl", "--by", f"referee={judge}", "--by", "mine/grade.py:digits"]
    assert main([*command(address), *given, "--json"]) == 0, capsys.readouterr().err
    board = json.loads(capsys.readouterr().out)["board"]
    assert main(["rank", "out/groups.jsonl", "--prior", "0.1", "--json"]) == 0
    for mine, read in zip(board["models"], json.loads(capsys.readouterr().out)["models"], strict=True):
        assert mine["model"] == read["model"]
        assert read["rating"] == pytest.approx(mine["rating"], abs=1e-6), "two judges, two looks and one"
        assert (read["low"], read["high"]) == pytest.approx((mine["low"], mine["high"]), abs=1e-6)
    assert main(["data", "check", "out/groups.jsonl"]) == 0
    assert "rows in 12 = accepted 12 + quarantined 0" in capsys.readouterr().out
    assert main(["judge", "out/groups.jsonl", "scored.jsonl", "--by", "rule:length", "--how", "scores"]) == 0
    scored = trueup.read("scored.jsonl").groups
    assert all(len([s for s in g.scores if s.judge == "rule:length"]) == 3 for g in scored)
    assert main(["judge", "out/groups.jsonl", "again.jsonl", "--by", judge]) == 0
    new = [c for g in trueup.read("again.jsonl").groups for c in g.comparisons if c.labeler == "lm:judge"]
    assert len(new) == 12 * 3 * 2
    options = ["--model.path", "mine/folder", "--data.path", "out/groups.jsonl", "--data.held_out", "0"]
    assert main(["train", "dpo", *options, "--loop.steps", "1", "--loop.batch", "4", "--out", "dpo"]) == 0
    data = json.loads(Path("dpo/data.json").read_text("utf-8"))
    assert (data["train"], data["quarantined"]) == (12, 0)
    (step,) = [json.loads(line) for line in Path("dpo/metrics.jsonl").read_text("utf-8").splitlines()]
    assert step["loss"] == pytest.approx(0.693147, abs=1e-5), "log 2 before anything is learnt"


def test_a_mistake_of_the_first_try_does_not_hold_the_folder(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prompts under another name are an error whose command works; the folder then takes those."""
    small_world.write(here / "asked.jsonl", [{"question": f"what is {i}?", "answer": "no"} for i in range(4)])
    few = ["--by", "mine/grade.py:digits", "--max-new-tokens", "3", "--battles", "2", "--prior", "0.1"]
    models = ["battle", "mine/folder", "mine/small.gguf", *few, "--out", "out"]
    assert main([*models, "--prompts", "asked.jsonl"]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "E202" in said
    convert = said.partition("trueup data convert ")[2].split()
    assert convert[:2] == ["asked.jsonl", "groups.jsonl"]
    assert main(["data", "convert", *convert]) == 0
    assert main([*models, "--prompts", "groups.jsonl"]) == 0, capsys.readouterr().err
    assert len(read_battles(here / "out" / "battles.jsonl").battles) == 2
