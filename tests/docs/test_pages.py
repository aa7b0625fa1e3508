"""Commands on the pages are real ones, links lead somewhere, generated pages are up to date, blocks run."""

from __future__ import annotations

import builtins
import importlib.util
import json
import re
import shlex
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cyclopts import CycloptsError, MissingArgumentError

import small_world
from architecture.test_glossary import documented
from chat_shapes import shapes
from page_blocks import DOCS, PAGES, ROOT, blocks, commands, mentioned
from trueup.chat import Chat
from trueup.cli import main
from trueup.commands.app import app
from trueup.commands.compare import compare
from trueup.commands.train import run
from trueup.comparison.plan import read_comparison
from trueup.engine.groups import Message, Role
from trueup.errors import TrueupError
from trueup.reports.record import read_run
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import plan, read_recipe
from trueup.runs.shipped import recipe_names, recipe_path
from trueup.settings import config as configuration
from trueup.settings import discover

# Not run here: minutes long, or a measurement that needs the lab's own models.
LONG = ("trueup demo", "trueup eval", "trueup lab build")
# What makes a training run of a page short; nothing else about the command changes.
SHORT = {
    "sft": "--loop.steps 2 --loop.batch 4",
    "dpo": "--loop.steps 1 --loop.batch 4",
    "reward_model": "--loop.steps 1 --loop.batch 4",
    "ppo": "--loop.steps 1 --loop.batch 4 --decoding.max_new_tokens 3",
}


EVERY = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(("page", "line"), EVERY)
def test_every_command_on_a_page_is_one(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed in a folder that holds the files which the page shows."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(ROOT / page) if page else ():
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, encoding="utf-8")
    command, bound, _ = app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
    told = bound.arguments
    recipe = Path(told.get("recipe", ""))
    given = configuration.parse_overrides(list(told.get("overrides", ())))
    if "method" in told:
        assert discover.find(told["method"])
    elif command is compare:
        assert read_comparison(recipe_path(str(recipe)), dict(given.values)).methods
    elif command is run and not recipe.suffix:
        values = dict(given.values)
        top = {key: values.pop(key) for key in ("seed", "name", "world") if key in values}
        assert plan(read_recipe(recipe_path(str(recipe)), {**top, "stages": values}), tmp_path)
    elif recipe.stem in discover.names():  # The settings, too, must be settings of the method.
        single_stage(recipe.stem, given, None)


@pytest.mark.parametrize("line", ["trueup data check a.csv --colums.prompt q", "trueup train dpo --bta 0.1"])
def test_a_misspelt_option_on_a_page_would_be_found(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((CycloptsError, TrueupError)):
        test_every_command_on_a_page_is_one("", line, tmp_path, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_in_a_sentence_is_one(page: Path) -> None:
    for line in mentioned(page):
        with suppress(MissingArgumentError):
            app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


def test_every_target_of_make_on_a_page_is_one() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    asked = {line.split()[1] for page in PAGES for line in commands(page, "make")}
    assert {"demo", "test"} <= asked and asked <= set(targets)


def test_there_are_commands_to_check() -> None:
    assert len(EVERY) > 20


def shortened(line: str) -> list[str]:
    """The words of a command after `trueup`, with a short run where it trains."""
    words = shlex.split(line)[1:]
    if words[0] == "train":
        return [*words, *SHORT[Path(words[1]).stem].split()]
    return words


def test_the_first_steps_can_be_taken_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = iter(["hello", ""])
    monkeypatch.setattr(builtins, "input", lambda prompt="": next(lines))
    for line in commands(DOCS / "start.md"):
        if not line.startswith(LONG):
            if line.startswith(("trueup chat", "trueup generate")):
                line += " --max-new-tokens 3"
            assert main(shortened(line)) == 0, (line, capsys.readouterr().err)
    assert next(lines, None) is None, "the chat read both lines"
    assert read_run(tmp_path / "runs/dpo") and (tmp_path / "runs/dpo/report.html").is_file()
    assert {"loss", "grad_norm"} <= logged(tmp_path / "runs/sft")
    found = {key for name in SHORT for key in logged(tmp_path / "runs" / name)}
    assert {"kl", "rewards/margins", "accuracy", "value/error"} <= found
    patterns = {re.compile(re.escape(key).replace(r"\*", ".+")) for key in documented()}
    unknown = {key for key in found if not any(p.fullmatch(key) for p in patterns)}
    assert not unknown, "explain in docs/metrics.md"


def logged(folder: Path) -> set[str]:
    """Every key in the metrics and timings of a run."""
    found: set[str] = set()
    for name in ("metrics.jsonl", "timings.jsonl"):
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            found |= json.loads(line).keys()
    return found - {"step", "phase"}


def test_the_recipe_on_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "recipes.md").read_text("utf-8"), flags=re.DOTALL)
    Path("two-ways.yaml").write_text(block, encoding="utf-8")
    short = [f"--{s}.loop.{k}" for s in ("sft", "reward", "dpo", "ppo") for k in ("steps 1", "batch 4")]
    short = " ".join([*short, "--ppo.decoding.max_new_tokens 3"]).split()
    first, second, *_ = commands(DOCS / "recipes.md")
    assert main([*shlex.split(first)[1:], *short]) == 0
    (stage,) = Path("runs/two-ways/stages").glob("ppo-*")
    page = (DOCS / "recipes.md").read_text("utf-8")
    named = set(re.findall(r"^    (\.?\w[\w.]*)/? {2,}", page, flags=re.MULTILINE))
    assert named >= {p.name for p in stage.iterdir()} and len(named) == 14
    assert set(json.loads((stage / "DONE.json").read_text())) == {
        "output", "metrics", "cost", "method", "publish",
    }  # fmt: skip
    capsys.readouterr()
    assert main([*shlex.split(second)[1:], *short]) == 0
    shown = capsys.readouterr().out
    assert shown.count("done before") == 3 and "dpo: again, since beta changed" in shown


def test_every_recipe_that_comes_along_is_on_the_page_and_in_the_help() -> None:
    names = {"tiny-METHOD" if name.startswith("tiny-") else name for name in recipe_names()}
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert names <= set(re.findall(r"`([\w/-]+)`", page))
    assert names <= set(re.findall(r"[\w/-]+", f"{run.__doc__} {compare.__doc__}"))


def test_links_lead_somewhere() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")) and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_every_page_is_in_the_index() -> None:
    index = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("README.md", "choosing.md"))
    pages = [p.relative_to(DOCS).as_posix() for p in [*DOCS.glob("*.md"), *DOCS.glob("methods/*.md")]]
    assert not [page for page in pages if page != "README.md" and f"({page})" not in index]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli_docs", ROOT / "scripts" / "make_cli_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert _generator().main(["--check"]) == 0, capsys.readouterr().out


def test_the_python_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text("utf-8"), flags=re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "runs/python-grpo/model" in shown and "E711 did you mean `beta`?" in shown
    assert len(names["answers"]) == 2 and [len(texts) for texts in names["answers"].texts] == [2, 2]
    assert len(names["logprobs"]) == 2 and all(p.sum() < 0 for row in names["logprobs"] for p in row)
    assert "1e-05" in shown and "16 rows: " in shown and names["found"].figures["hhh"].n == 4
    assert names["judged"].groups[0].scores[0].value == -len(names["answers"].texts[0][0])


@pytest.mark.parametrize(
    ("name", "printed", "displayed"),
    [
        ("quickstart", ("nats a token", "gain over base"), ()),
        # Two more kernels, each of which trains: a dozen seconds. What shows itself tests/api holds, too.
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in (
                (
                    "preferences",
                    ("chosen over rejected",),
                    ("<div", "DPO", "cannot be repeated from its folder"),
                ),
                ("own-reward", ("step 1", "mean length"), ("<div", "GRPO", "the judge was")),
            )
        ),
    ],
)
def test_the_notebook_runs(
    name: str,
    printed: tuple[str, ...],
    displayed: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks are run with the test extra")
    nbclient = pytest.importorskip("nbclient", reason="notebooks are run with the test extra")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    with (DOCS / "notebooks" / f"{name}.ipynb").open(encoding="utf-8") as file:
        notebook = nbformat.read(file, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without outputs"
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    shown = "".join(str(o.data.get("text/html", "")) for o in outputs if o.output_type in SHOWN)
    assert all(text in said for text in printed), said
    assert all(text in shown for text in displayed), shown


SHOWN = ("execute_result", "display_data")
WORDS = ["Hello there.", "What is the capital of France?", "def add(a, b):\n    return a + b", "a\n\nb"]


def test_the_table_of_agreement_is_what_is_counted() -> None:
    talks = [
        [Message(Role.USER, a), Message(Role.ASSISTANT, b), Message(Role.USER, a)]
        for a in WORDS
        for b in WORDS
    ]
    talks += [talk[:2] for talk in talks]
    rows = []
    for shape in shapes():
        report = Chat.of(shape.tokenizer, shape.template).agreement(talks)
        others = ", ".join(f"{reason} {count}" for reason, count in report.counts().items())
        rows.append(
            f"| {shape.name} | {report.num_equal} of {report.num_rows} | {others} |".replace("  |", " |")
        )
    page = (DOCS / "chat-templates.md").read_text(encoding="utf-8")
    assert "\n".join(rows) in page


@pytest.mark.parametrize(
    ("page", "sources"),
    [
        ("chat-templates.md", ("chat",)),
        (
            "checkpoints.md",
            (
                *(f"runs/{name}.py" for name in ("checkpoint", "manifest", "hold", "done")),
                *(f"settings/{name}.py" for name in ("json_files", "names", "sealed", "vetted")),
                "engine/disk.py",
            ),
        ),
    ],
)
def test_every_code_of_these_parts_is_explained(page: str, sources: tuple[str, ...]) -> None:
    used: set[str] = set()
    for name in sources:
        path = ROOT / "src" / "trueup" / name
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            used |= set(re.findall(r'"(E\d{3})"', file.read_text(encoding="utf-8")))
    explained = re.findall(r"^\| (E\d{3}) \|", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(used) == explained
