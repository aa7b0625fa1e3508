"""The front door: help, mistakes and a model's first word are there at once, and import what they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import small_world
from benchmarks.front_door import generate_times, random_model
from trueup.cli import main

HEAVY = {"torch", "transformers", "peft", "scipy", "sympy", "datasets", "accelerate", "pyarrow"}
SCHEMA = {"numpy", "pydantic", "yaml", "jinja2", "tokenizers", "huggingface_hub"}

RUN = """
import sys
from trueup.cli import main
code = main(sys.argv[1:])
print("\\n" + " ".join(sys.modules), file=sys.stderr)
sys.exit(code)
"""
LOOKS = ("--help", "train --help", "generate --help", "eval --help", "lab build --help", "--version")
"Of these not even the settings' schema is needed."
SHOWS = ("show dpo", "show ppo_ptx", "show evaluate", "methods")
SETTINGS = ("init sft --model.path model", "config ppo_ptx", "config evaluate", "config revise")
MISTAKES = (
    ("trian", 64),
    ("measure ./nowhere", 66),
    ("eval ./nowhere --tsk lambada", 64),
    ("show dpoo", 64),
    ("init dpoo", 64),
    ("config nowhere.yaml", 66),
    ("train nowhere.yaml", 66),
    ("train nowhere.py", 64),
    ("train dpoo", 64),
    ("train dpo --data.pth rows.jsonl", 64),
    ("train ppo --algorithm.betta 1", 64),
    ("train dpo --model.path ./nowhere", 66),
    ("train dpo --model.path nowhere", 66),
    ("train dpo --model.path empty", 66),
    ("train dpo --data.path nowhere.jsonl", 66),
    ("train ppo --judge ./nowhere", 66),
    ("train ppo --judge lab:golden", 64),
    ("preview sft --data.path nowhere.jsonl", 66),
    ("run nowhere", 64),
    ("run demo --sft.update.lrr 1", 64),
    ("compare nowhere", 64),
    ("generate ./nowhere hi", 66),
    ("generate nowhere hi", 66),
    ("generate empty hi", 66),
    ("generate ./nowhere --file nowhere.jsonl", 66),
    ("generate ./nowhere hi --judge rule:nothing", 64),
    ("chat ./nowhere", 66),
    ("serve ./nowhere", 66),
    ("export nowhere x", 66),
    ("report nowhere", 66),
    ("eval ./nowhere", 66),
    ("eval lab:base --against ./nowhere", 66),
    ("toxicity ./nowhere", 66),
    ("toxicity lab:base --data nowhere.jsonl", 66),
    ("toxicity lab:base --judge toxicity:nowhere", 66),
    ("refusals lab:base --data nowhere.jsonl", 66),
    ("summaries lab:base --data nowhere.jsonl", 66),
    ("judge nowhere.jsonl out.jsonl --by lm:./nowhere", 66),
    ("judge rows.jsonl out.jsonl --by lm:./nowhere", 66),
    ("judge rows.jsonl out.jsonl --by nowhere --how scores", 66),
    ("soup ./nowhere ./there --out x", 66),
    ("soup lab:base lab:base --out x --judge helpful=lab:golden", 64),
    ("rank nowhere.jsonl", 66),
    ("battle ./nowhere lab:base --prompts rows.jsonl --by rule:length", 66),
    ("battle lab:base two=lab:base --prompts nowhere.jsonl --by rule:length", 66),
    ("battle lab:base two=lab:base --prompts rows.jsonl --by rule:nothing", 64),
    ("battle lab:base two=lab:base --prompts rows.jsonl", 64),
    ("lab evaluate ./nowhere", 66),
    ("lab bands ./nowhere", 66),
    ("doctor nowhere.jsonl", 66),
    ("doctor rows.jsonl --model ./nowhere", 66),
    ("doctor rows.jsonl", 65),
    ("data check nowhere.jsonl", 66),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some rows, and one without a model."""
    path = tmp_path_factory.mktemp("front")
    (path / "empty").mkdir()
    rows = "".join(json.dumps(row) + "\n" for row in small_world.demonstrations())
    (path / "rows.jsonl").write_text(rows, encoding="utf-8")
    return path


def spend(arguments: list[str], folder: Path) -> tuple[float, int, str]:
    """The CPU seconds of a Python process, its exit code, and what it wrote to stderr."""
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        return used.ru_utime + used.ru_stime, child.returncode, said.read()


FORKS = """
import json, os, sys
import cyclopts, huggingface_hub, jinja2, rich.console, rich.panel, rich.table, tokenizers
import trueup.cli, trueup.commands.app, trueup.data, trueup.settings.config
begun = sum(os.times()[:2])
for request in sys.stdin:
    line, said = json.loads(request)
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        code = trueup.cli.main(line.split())
        print("\\n" + " ".join(sys.modules), file=sys.stderr, flush=True)
        os._exit(code)
    _, status, used = os.wait4(child, 0)
    print(json.dumps([begun + used.ru_utime + used.ru_stime, os.waitstatus_to_exitcode(status)]), flush=True)
"""
Spend = Callable[[str], tuple[float, int, str]]


@pytest.fixture(scope="module")
def forked(folder: Path) -> Iterator[Spend]:
    """As `spend`, of a command line, in a fork of an interpreter that has imported what is light.

    What that took is counted every time, and spent once.
    """
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        text=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None

        def spent(line: str) -> tuple[float, int, str]:
            said = folder / "said.txt"
            print(json.dumps([line, str(said)]), file=server.stdin, flush=True)
            assert server.stdout is not None
            seconds, code = json.loads(server.stdout.readline())
            return seconds, code, said.read_text(encoding="utf-8")

        yield spent


def imported(
    arguments: list[str], folder: Path, *, limit: float, code: int = 0, forked: Spend | None = None
) -> set[str]:
    """The packages that a Python process imports; it ends with this code, within some CPU seconds.

    Of five tries one has to stay within them: on a busy machine most take longer.
    """
    for _ in range(5):
        seconds, ended, said = forked(arguments[-1]) if forked else spend(arguments, folder)
        assert ended == code, said
        if seconds <= limit:
            return {name.split(".")[0] for name in said.splitlines()[-1].split()}
    pytest.fail(f"{seconds:.2f} s of the processor, more than {limit}")


def test_importing_the_package_imports_nothing_heavy(folder: Path) -> None:
    code = "import sys, trueup; print(*sys.modules, file=sys.stderr)"
    found = imported(["-c", code], folder, limit=0.15)
    assert "trueup" in found and not found & (HEAVY | SCHEMA | {"cyclopts", "rich"})


@pytest.mark.parametrize("line", LOOKS)
def test_help_needs_no_schema_and_half_a_second(line: str, folder: Path) -> None:
    assert not imported(["-c", RUN, *line.split()], folder, limit=0.5) & (HEAVY | SCHEMA)


@pytest.mark.parametrize("line", SHOWS)
def test_a_method_is_shown_from_its_files(line: str, folder: Path) -> None:
    assert not imported(["-c", RUN, *line.split()], folder, limit=1.0) & (HEAVY | SCHEMA)


@pytest.mark.parametrize("line", SETTINGS)
def test_settings_are_told_without_what_they_set(line: str, folder: Path) -> None:
    small_world.save_model(folder / "model")
    _, code, err = spend(["-c", RUN, *line.split()], folder)
    assert code == 0 and not {name.split(".")[0] for name in err.splitlines()[-1].split()} & HEAVY, err


@pytest.mark.parametrize(("line", "code"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_answered_before_anything_heavy_is_imported(
    line: str, code: int, folder: Path, forked: Spend
) -> None:
    assert not imported([line], folder, limit=1.0, code=code, forked=forked) & HEAVY


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("nan", "E817 {} — 16 of the 256 numbers in model.layers.0.mlp.down_proj.weight are NaN or infinite"),
        ("inf", "E817 {} — 1 of the 256 numbers in model.layers.0.mlp.down_proj.weight are NaN or infinite"),
        ("cut", "E802 {}/model.safetensors — its weights cannot be read: it holds 7808 bytes of weights"),
        ("text", "E802 {}/model.safetensors — its weights cannot be read: its header is damaged"),
        ("none", "E802 {} — no safetensors weights; weights in pickle files are not read"),
        ("index", "E857 {}/model.safetensors.index.json — the folder has no file 'part.safetensors'"),
        ("json", "E854 {}/config.json — damaged: not JSON"),
        ("tokenizer", "E801 {} — no tokenizer in this folder"),
    ],
)
def test_a_damaged_model_is_named_before_torch_is_imported(fault: str, said: str, tmp_path: Path) -> None:
    model = damaged(small_world.save_model(tmp_path / "model"), fault)
    lines = (f"generate {model} hi", f"train sft --model.path {model}", f"train ppo --judge {model}")
    for line in lines if fault == "nan" else lines[:1]:
        _, code, err = spend(["-c", RUN, *line.split()], tmp_path)
        assert code == 66 and said.format(model) in err.replace("judge ", ""), err
        assert not {name.split(".")[0] for name in err.splitlines()[-1].split()} & HEAVY


def damaged(model: Path, fault: str) -> Path:
    """The folder with a fault in it."""
    file = model / "model.safetensors"
    weights = load_file(file)
    down = weights["model.layers.0.mlp.down_proj.weight"]
    if fault == "nan":
        down[0] = float("nan")
    elif fault == "inf":
        down[0, 0] = -float("inf")
    save_file(weights, file, metadata={"format": "pt"})
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:9000])
    elif fault == "text":
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    elif fault in ("none", "index"):
        file.unlink()
    if fault == "index":
        index = {"weight_map": {"a": "part.safetensors"}}
        (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    elif fault == "json":
        (model / "config.json").write_text("{", encoding="utf-8")
    elif fault == "tokenizer":
        for path in model.glob("tokenizer*"):
            path.unlink()
    return model


def test_a_model_is_asked_without_peft_and_without_other_families(folder: Path) -> None:
    small_world.save_model(folder / "model")
    _, ended, said = spend(["-c", RUN, "generate", "model", "hi", "--max-new-tokens", "2"], folder)
    assert ended == 0, said
    modules = said.splitlines()[-1].split()
    packages = {name.split(".")[0] for name in modules}
    # What torch's own compiler looks for as transformers decorates with it (pandas, where it is) is not ours.
    assert "torch" in packages and not packages & {"peft", "datasets"}
    assert "scipy.stats" not in modules
    families = {name.split(".")[2] for name in modules if name.startswith("transformers.models.")}
    # transformers itself reads configs through the first two.
    assert families <= {"auto", "encoder_decoder", "llama"}


@pytest.mark.parametrize("bad", ["rows.jsonl --data.format preference", "bad.jsonl"])
def test_what_is_wrong_with_data_is_said_before_weights_are_read(
    bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights lack a tensor, which is seen as they are loaded: to load them would be the error."""
    monkeypatch.chdir(tmp_path)
    model = small_world.save_model(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    rows = [json.dumps(row) for row in small_world.demonstrations()]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "bad.jsonl").write_text("\n".join([*rows, '{"prompt": 1}']), encoding="utf-8")
    assert main(["train", "sft", "--model.path", "model", "--data.path", *bad.split()]) == 65
    assert "E803" not in capsys.readouterr().err
    assert main(["train", "sft", "--model.path", "model", "--data.path", "rows.jsonl"]) == 66
    assert "E803 model — 1 weight is not in the checkpoint" in capsys.readouterr().err


@pytest.mark.slow
def test_generating_costs_little_more_than_five_lines_of_transformers(tmp_path: Path) -> None:
    """Slow: eight processes of six seconds. The least of each, as other work only adds to them."""
    found = generate_times(random_model(tmp_path, 150_000, seed=0), rounds=3, tokens=8)["rounds"]
    assert min(found["trueup"]) <= 1.3 * min(found["transformers"])
