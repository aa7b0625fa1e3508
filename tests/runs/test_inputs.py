"""A run goes on with what it began with: whatever its settings name is digested, held against and said."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

import small_world
from trueup.cli import main
from trueup.comparison import job
from trueup.engine import inputs
from trueup.errors import TrueupError
from trueup.models.load import save
from trueup.reports import write_report
from trueup.runs import digests
from trueup.runs.digests import digest_file, digest_files
from trueup.runs.export import facts_of
from trueup.runs.files_read import inputs_of
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import plan, read_recipe, run_recipe, run_stage
from trueup.runs.signals import Interrupted
from trueup.runs.unchanged import Terms, hold
from trueup.settings.blocks import LoraSettings
from trueup.settings.config import parse_overrides

JUDGE = "from scale import SCALE\n\ndef score(completion):\n    return 1.0 * len(completion) * SCALE\n"
SUM = "parts: [{{judge: '{judge}', weight: 1.0}}]\n"
WORLD = """prompts: prompts.jsonl
demonstrations: demos.jsonl
judges: {grade: judge.py:score}
truth: grade
# mine
"""
METHOD = "from trueup.methods.sft import *  # one of my own\n"
SHORT = ("--loop.steps", "3", "--loop.batch", "2", "--loop.save_every", "1", "--data.held_out", "0")
SAMPLED = (*SHORT, "--num_completions", "2", "--decoding.max_new_tokens", "3")
SFT = ("sft", "--model.path", "my-model", "--data.path", "demos.jsonl")
GRPO = ("grpo", "--model.path", "my-model", "--data.path", "prompts.jsonl", "--judge")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a model, an adapter over it, a reward model and a judge with a file that it imports."""
    here = small_world.make(tmp_path_factory.mktemp("made"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        given = ["--model.path", "my-model", "--data.path", "preferences.jsonl", *SHORT]
        run_stage(single_stage("reward_model", parse_overrides(given), here / "reward"))
        (here / "reward" / "model").rename(here / "rm")
        shutil.rmtree(here / "reward")
        from trueup.models.load import load

        save(load("my-model", lora=LoraSettings(rank=2)), here / "adapter")
    (here / "parquet").mkdir()
    for split in ("train", "test"):
        pandas.DataFrame(small_world.demonstrations()).to_parquet(here / "parquet" / f"{split}-0.parquet")
    (here / "judge.py").write_text(JUDGE)
    (here / "scale.py").write_text("SCALE = 0.5\n")
    (here / "sum.yaml").write_text(SUM.format(judge="judge.py:score"))
    (here / "asked.yaml").write_text(SUM.format(judge="$reward"))
    (here / "world.yaml").write_text(WORLD)
    (here / "mine.py").write_text(METHOD)
    return here


@pytest.fixture(autouse=True)
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    digests._known.clear()
    yield folder


def flip(path: Path, at: int = -2) -> tuple[str, str]:
    """The file's digests before and after one byte of it was changed, its size and time as they were."""
    before, times = digest_file(path), path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = digest_file(path)
    assert path.stat().st_size == times.st_size and path.stat().st_mtime_ns == times.st_mtime_ns
    assert before and after and before != after
    return before, after


def edit(path: Path, old: str, new: str) -> tuple[str, str]:
    """The same of a text of the same length."""
    return flip_to(path, path.read_text().replace(old, new))


def flip_to(path: Path, text: str) -> tuple[str, str]:
    before, times = digest_file(path), path.stat()
    assert len(text) == times.st_size and text != path.read_text()
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return str(before), str(digest_file(path))


def stopped(*words: str, out: str = "run") -> Path:
    """The folder of a run that ended after its first step, asked to."""
    stage = single_stage(words[0], parse_overrides(list(words[1:])), Path(out))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("trueup.runs.training.end_if_asked", lambda asked: None)  # not before a step
        run_stage(stage, stop_requested=lambda: "SIGTERM")
    return stage.folder


def train(*words: str, out: str = "run") -> int:
    return main(["train", *words, "--out", out])


def weights(out: str = "run") -> bytes:
    return (Path(out) / "model" / "model.safetensors").read_bytes()


KINDS: dict[str, tuple[tuple[str, ...], str, Callable[[], tuple[str, str]]]] = {
    "data": (
        (*SFT, *SHORT),
        "data.path (demos.jsonl)",
        lambda: edit(Path("demos.jsonl"), "it is 7", "it is 8"),
    ),
    "model": (
        (*SFT, *SHORT),
        "model.path (my-model, model.safetensors)",
        lambda: flip(Path("my-model/model.safetensors"), at=-4),
    ),
    "judge": (
        (*GRPO, "judge.py:score", *SAMPLED),
        "judge (judge.py:score, judge.py)",
        lambda: edit(Path("judge.py"), "1.0", "2.0"),
    ),
    "reward": (
        (*GRPO, "rm", *SAMPLED),
        "judge (rm, trueup_heads.safetensors)",
        lambda: flip(Path("rm/trueup_heads.safetensors"), at=-4),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_goes_on_with_its_own_inputs(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command line: named with both digests, refused, accepted, and told by report and card."""
    words, named, change = KINDS[kind]
    out = stopped(*words)
    before, after = change()
    capsys.readouterr()
    assert train(*words) == 65
    said = capsys.readouterr().err
    whole = {item.name: item for item in inputs.read(out)}[named.partition(" ")[0]]
    was = before if not whole.parts else whole.digest
    assert said.startswith("error E820 run — an input is not what the run in this folder began with")
    assert f"{named} was {inputs.brief(was)}, is " in said and "--accept-changed-inputs" in said
    assert not (out / "DONE.json").exists()

    assert train(*words, "--accept-changed-inputs") == 0
    steps = [json.loads(row)["step"] for row in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps[:3] == [1, 2, 3]
    (item,) = [item for item in inputs.read(out) if item.changes]
    (told,) = item.changes
    whole_record = inputs.read(out)
    assert (told.at, told.before, told.after) == ("step 1", was, item.digest)
    assert after in (item.digest, *item.parts.values()), "the file's own"
    page = write_report(out).read_text()
    card = facts_of(out, name="run").data["changed while it was made"]
    for text in (page, card):
        assert f"{item.name}: {item.what} had changed at step 1" in text
        assert inputs.brief(told.before) in text and inputs.brief(told.after) in text
    elsewhere = [replace(item, what=str(Path(item.what).absolute()))]
    inputs.keep(out, elsewhere)
    assert str(Path.cwd()) not in str(facts_of(out, name="run").data), "a card tells no home"
    inputs.keep(out, whole_record)
    assert page.index("had changed at step 1") < page.index('id="curves"'), "among the first things"
    capsys.readouterr()
    assert train(*words) == 0, "accepted once is accepted"


def fake(*words: str) -> Path:
    """The folder of a run that stands at its third step, as far as its inputs can tell."""
    stage = single_stage(words[0], parse_overrides(list(words[1:])), Path("run"))
    hold(stage.folder, stage.module, stage.config)
    (stage.folder / "checkpoints").mkdir()
    return stage.folder


@pytest.mark.parametrize(
    ("words", "file", "setting"),
    [
        (("sft", "--data.mix.a", "demos.jsonl", "--data.mix.b", "more.jsonl"), "more.jsonl", "data.mix.b"),
        (("sft", "--data.path", "parquet"), "parquet/train-0.parquet", "data.path"),
        (("sft", "--model.path", "my-model"), "my-model/chat_template.jinja", "model.path"),
        (("sft", "--model.path", "my-model"), "my-model/tokenizer.json", "model.path"),
        (("sft", "--model.path", "adapter"), "adapter/adapter_model.safetensors", "model.path"),
        (("sft", "--model.path", "adapter"), "my-model/model.safetensors", "model.path"),
        (("sft", "--model.path", "tiny.gguf", "--update.lr", "1e-3"), "tiny.gguf", "model.path"),
        (("mine.py",), "mine.py", "method"),
        (("distill", "--teacher", "my-model"), "my-model/config.json", "teacher"),
        (("ppo", "--critic", "rm"), "rm/model.safetensors", "critic"),
        (("ppo_ptx", "--pretraining.data.path", "texts.txt"), "texts.txt", "pretraining.data.path"),
        (("ppo", "--loop.guard.judge", "judge.py:score"), "judge.py", "loop.guard.judge"),
        (("ppo", "--judge", "judge.py:score"), "scale.py", "judge"),
        (("ppo", "--judge", "python:judge:score"), "judge.py", "judge"),
        (("ppo", "--judge", "lm:my-model#read=text"), "my-model/config.json", "judge"),
        (("ppo", "--judge", "sum.yaml"), "sum.yaml", "judge"),
        (("ppo", "--judge", "sum.yaml"), "judge.py", "judge"),
        (("ppo", "--judge", "asked.yaml?reward=rm"), "rm/trueup_heads.safetensors", "judge"),
        (("sft", "--world", "world.yaml"), "world.yaml", "data.path"),
        (("sft", "--world", "world.yaml"), "demos.jsonl", "data.path"),
        (("ppo", "--world", "world.yaml"), "judge.py", "judge"),
        (("context_distillation", "--context", "demos.jsonl"), "demos.jsonl", "context"),
        (("measure", "--model", "my-model", "--world", "world.yaml"), "prompts.jsonl", "world"),
        (("revise", "--model", "my-model", "--constitution", "rules.yaml"), "rules.yaml", "constitution"),
        (("label", "--model.path", "my-model"), "my-model/model.safetensors", "model.path"),
        (("soup", "--experts.a", "my-model", "--experts.b", "other"), "other/model.safetensors", "experts.b"),
        (("evaluate", "--policies.mine", "my-model"), "my-model/model.safetensors", "policies.mine"),
        (("toxicity_classifier", "--data", "demos.jsonl"), "demos.jsonl", "data"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value,
)  # fmt: skip
def test_every_kind_of_input_is_held(
    words: tuple[str, ...], file: str, setting: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("more.jsonl", "tiny.gguf", "texts.txt", "rules.yaml"):
        Path(name).write_text("GGUF: a stand-in\n")
    shutil.copytree("my-model", "other")
    edit_base = json.loads(Path("adapter/adapter_config.json").read_text())
    Path("adapter/adapter_config.json").write_text(
        json.dumps({**edit_base, "base_model_name_or_path": str(here / "my-model")})
    )
    fake(*words)
    stage = single_stage(words[0], parse_overrides(list(words[1:])), Path("run"))
    hold(stage.folder, stage.module, stage.config)
    flip(Path(file))
    with pytest.raises(TrueupError, match=rf"E820 run .*{setting} \(.*was .*sha256 .*, is .*sha256"):
        hold(stage.folder, stage.module, stage.config)


def test_what_a_run_does_not_read_is_no_input(here: Path) -> None:
    Path("my-model/README.md").write_text("a model\n")
    Path("my-model/original").mkdir()
    Path("my-model/original/weights.pth").write_text("nothing loads this\n")
    words = ("sft", "--model.path", "my-model", "--data.path", "parquet")
    fake(*words)
    Path("my-model/README.md").write_text("a good model\n")
    Path("my-model/original/weights.pth").unlink()
    flip(Path("parquet/test-0.parquet"))
    stage = single_stage(words[0], parse_overrides(list(words[1:])), Path("run"))
    hold(stage.folder, stage.module, stage.config)
    (item,) = [item for item in inputs.read(Path("run")) if item.name == "model.path"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(item.parts)
    assert not {"README.md", "original/weights.pth"} & set(item.parts)


def test_a_run_named_as_a_model_is_the_model_in_it(here: Path) -> None:
    Path("before").mkdir()
    shutil.copytree("my-model", "before/model")
    Path("before/metrics.jsonl").write_text("{}\n")
    stage = single_stage("sft", parse_overrides(["--model.path", "before"]), Path("run"))
    (item,) = inputs_of(stage.config)
    assert item.what == "before" and "metrics.jsonl" not in item.parts and "config.json" in item.parts


def test_a_time_is_no_content(here: Path) -> None:
    """Touched, copied, moved: the same input, and the bits of a run that nothing stopped."""
    assert train(*SFT, *SHORT, out="whole") == 0
    stopped(*SFT, *SHORT)
    shutil.copytree("my-model", "copy")
    shutil.rmtree("my-model")
    Path("copy").rename("my-model")
    for path in (Path("demos.jsonl"), *Path("my-model").iterdir()):
        os.utime(path, (1, 1))
    assert train(*SFT, *SHORT) == 0
    assert weights() == weights("whole")
    assert Path("run/metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()
    assert not inputs.changes_told(inputs.read(Path("run")))


def test_a_finished_run_is_of_its_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*SFT, *SHORT) == 0
    before, after = edit(Path("demos.jsonl"), "it is 7", "it is 8")
    capsys.readouterr()
    assert train(*SFT, *SHORT) == 65
    said = capsys.readouterr().err
    assert "what it made came of the former" in said
    assert inputs.brief(before) in said and inputs.brief(after) in said
    kept = weights()
    assert train(*SFT, *SHORT, "--accept-changed-inputs") == 0
    assert weights() == kept
    (item,) = [item for item in inputs.read(Path("run")) if item.changes]
    assert item.changes[0].at == "its end"
    for gone in ("demos.jsonl", "my-model"):
        Path(gone).rename(f"{gone}-gone")
    assert train(*SFT, *SHORT) == 0, "nothing needs them"
    assert "finished before" in capsys.readouterr().out


def test_a_run_from_before_there_was_a_record_goes_on_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = stopped(*SFT, *SHORT)
    (out / inputs.RECORD).unlink()
    stage = single_stage(SFT[0], parse_overrides([*SFT[1:], *SHORT]), out)
    with caplog.at_level(logging.WARNING, logger="trueup"):
        hold(out, stage.module, stage.config)
        run_stage(stage)
    said = [r.getMessage() for r in caplog.records if "before inputs were recorded" in r.getMessage()]
    assert said == ["run began before inputs were recorded; from now on they are"]
    assert {item.since for item in inputs.read(out)} == {"step 1"}
    (out / inputs.RECORD).unlink()
    run_stage(stage)
    assert not (out / inputs.RECORD).exists(), "what a finished run was made of is not guessed"


def test_rows_that_are_numbered_by_their_inputs_cannot_go_on_with_others() -> None:
    Path("rules.yaml").write_text("a constitution\n")
    words = ["--model", "my-model", "--constitution", "rules.yaml", "--data.path", "prompts.jsonl"]
    stage = single_stage("revise", parse_overrides(words), Path("run"))
    hold(stage.folder, stage.module, stage.config)
    flip(Path("rules.yaml"))
    hold(stage.folder, stage.module, stage.config)  # nothing was kept: it begins anew
    (stage.folder / "transcripts.jsonl").write_text("{}\n")
    flip(Path("rules.yaml"))
    for terms in (Terms(), Terms(accept=True)):
        with pytest.raises(TrueupError, match=r"E821 run .*constitution .*remove the folder") as caught:
            hold(stage.folder, stage.module, stage.config, terms=terms)
        assert "--accept" not in str(caught.value)


# --------------------------------------------------------------------------------------------- recipes

RECIPE = """
name: two
stages:
  sft: {model: {path: my-model}, data: {path: demos.jsonl, held_out: 0}, loop: &loop {steps: 2, batch: 2}}
  dpo: {model: {path: "stage:sft"}, data: {path: preferences.jsonl, held_out: 0}, loop: {steps: 2, batch: 2}}
""".replace("&loop ", "")


def run(out: str = "r", **more: bool) -> list[str]:
    """What a recipe's run says; its stages are done."""
    Path("two.yaml").write_text(RECIPE)
    said: list[str] = []
    run_recipe(read_recipe(Path("two.yaml")), Path(out), say=said.append, terms=Terms(**more))
    return [line for line in said if line.startswith("[")]


def test_a_stage_that_is_done_is_made_again_where_its_input_changed_and_that_is_said() -> None:
    assert run() == ["[1/2] sft", "[2/2] dpo"]
    assert run() == ["[1/2] sft: done before", "[2/2] dpo: done before"]
    before, after = edit(Path("preferences.jsonl"), "no 7", "no 8")
    sft, dpo = run()
    was, now = inputs.brief(before), inputs.brief(after)
    assert sft == "[1/2] sft: done before"
    assert dpo.startswith(f"[2/2] dpo: again, since data.path ({was}, now {now}) changed (dpo-")
    assert len(list(Path("r/stages").glob("dpo-*"))) == 2
    for gone in ("demos.jsonl", "preferences.jsonl", "my-model"):
        Path(gone).rename(f"{gone}-gone")
    assert run() == ["[1/2] sft: done before", "[2/2] dpo: done before"], "nothing needs what is gone"


def test_a_stage_that_was_left_on_the_way_goes_on_with_its_own_inputs() -> None:
    Path("two.yaml").write_text(RECIPE)
    (left, *_) = plan(read_recipe(Path("two.yaml")), Path("r"))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr("trueup.runs.training.end_if_asked", lambda asked: None)  # not before a step
        run_stage(left, stop_requested=lambda: "SIGTERM")
    before, after = edit(Path("demos.jsonl"), "it is 7", "it is 8")
    with pytest.raises(TrueupError, match=r"E820 r/stages/sft-.*data\.path.*--accept") as caught:
        run()
    assert inputs.brief(before) in str(caught.value) and inputs.brief(after) in str(caught.value)
    assert [path.name for path in Path("r/stages").iterdir()] == [left.folder.name], "nothing was begun"
    assert job.main("two.yaml", "r") == 65, "as a run of a comparison it is refused too"
    assert job.main("two.yaml", "r", *Terms(accept=True).options()) == 0
    assert [line.partition(":")[0] for line in inputs.changed_in(Path("r/stages"))] == [
        plan(read_recipe(Path("two.yaml")), Path("r"))[0].folder.name
    ]
    sft, _ = plan(read_recipe(Path("two.yaml")), Path("r"))
    assert sft.done and not left.folder.exists(), "under the name of what it reads now"
    assert [c.at for item in inputs.read(sft.folder) for c in item.changes] == ["step 1"]
    assert run() == ["[1/2] sft: done before", "[2/2] dpo: done before"]
    assert "sft: Not made of one data.path" in write_report(Path("r")).read_text()


# --------------------------------------------------------------------------------------------- digests


def test_large_weights_are_sampled_and_read_whole_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "big.safetensors"
    size = digests.LARGE + 12345
    with file.open("wb") as opened:
        opened.truncate(size)
    begin = digest_file(file)
    assert begin is not None and begin.startswith("sampled-") and digest_file(file) == begin

    def changed(at: int, num: int) -> tuple[bool, bool]:
        """Whether samples, and all bytes, tell that some bytes were changed; then they are put back."""
        all_before = digest_file(file, whole=True)
        with file.open("r+b") as opened:
            opened.seek(at)
            opened.write(b"\1" * num)
        found = digest_file(file) != begin, digest_file(file, whole=True) != all_before
        with file.open("r+b") as opened:
            opened.seek(at)
            opened.write(bytes(num))
        return found

    gap = size // (digests.PLACES - 1)
    assert changed(0, 1) == changed(size - 1, 1) == changed(digests.HEAD - 1, 1) == (True, True)
    for at in (digests.HEAD + 7, size // 2, size - gap - 99):
        assert changed(at, gap) == (True, True), "as long a run of bytes as two places are apart"
    assert changed(digests.HEAD + gap // 2 // gap * gap + digests.PLACE * 2, 1)[1], "one byte: all bytes tell"
    with file.open("ab") as opened:
        opened.write(b"\0")
    assert digest_file(file) != begin, "the size counts"
    small = tmp_path / "small.safetensors"
    small.write_bytes(b"weights")
    table = tmp_path / "rows.jsonl"
    with table.open("wb") as opened:
        opened.truncate(size)
    for path in (small, table):
        assert not str(digest_file(path)).startswith("sampled-")


def test_a_full_digest_is_kept_beside_the_fast_one_and_held_against(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "LARGE", 1 << 10)
    monkeypatch.setattr(digests, "PLACES", 2)
    monkeypatch.setattr(digests, "PLACE", 16)
    monkeypatch.setattr(digests, "HEAD", 16)
    stage = single_stage("sft", parse_overrides(["--model.path", "my-model"]), Path("run"))
    hold(stage.folder, stage.module, stage.config, terms=Terms(whole=True))
    (stage.folder / "checkpoints").mkdir()
    (item,) = inputs.read(stage.folder)
    assert item.digest.startswith("sampled-") and len(item.whole) == 64
    times = Path("my-model/model.safetensors").stat()
    content = bytearray(Path("my-model/model.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    Path("my-model/model.safetensors").write_bytes(content)
    os.utime("my-model/model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))
    hold(stage.folder, stage.module, stage.config)
    with pytest.raises(TrueupError, match=rf"E820 .*was sha256 {item.whole[:12]}, is sha256"):
        hold(stage.folder, stage.module, stage.config, terms=Terms(whole=True))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert digest_file(tmp_path / "pipe") is None and digest_file(tmp_path / "none") is None
    assert digest_files({"pipe": tmp_path / "pipe"}) == ("", {})


def test_an_id_of_the_hub_is_what_was_fetched_of_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = here / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    stage = single_stage(
        "sft", parse_overrides(["--model.path", "org/tiny", "--update.lr", "1e-3"]), Path("run")
    )
    hold(stage.folder, stage.module, stage.config)
    assert not inputs.read(Path("run")), "not there yet"
    for kind, commit in (("models--org--tiny", "one"), ("models--org--tiny", "two")):
        shutil.copytree("my-model", cache / kind / "snapshots" / commit)
    (cache / "models--org--tiny" / "refs").mkdir()
    head = cache / "models--org--tiny" / "refs" / "main"
    head.write_text("one")
    inputs.add(Path("run"), inputs_of(stage.config))  # as training does when its networks are open
    (Path("run") / "checkpoints").mkdir()
    head.write_text("two")
    hold(stage.folder, stage.module, stage.config)
    flip(cache / "models--org--tiny" / "snapshots" / "two" / "model.safetensors")
    with pytest.raises(TrueupError, match=r"E820 run .*model\.path \(org/tiny, model\.safetensors\)"):
        hold(stage.folder, stage.module, stage.config)
