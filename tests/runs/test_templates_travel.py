"""From a base without a template, through the command line: named once, it is known to all that follows."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import small_world
from chain_model import chain, generated
from constitution import scripted
from selfalign import supervised
from selfalign.test_stages import answered, written
from trueup.chat import Chat
from trueup.cli import main
from trueup.constitution.opening import Author, Model, open_model
from trueup.engine.groups import Message, Role, read_jsonl
from trueup.procedures import ai_label, revise, self_align, self_instruct

SAID = f"{string.ascii_letters} 012"
ASKED = [[{"role": "user", "content": f"what is {i}?"}] for i in range(8)]
END = "<|endoftext|>"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a base without a template that says the alphabet, and rows of dialogues."""
    monkeypatch.chdir(tmp_path)
    small_world.save_model(tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    said = tmp_path / "base" / "tokenizer_config.json"
    said.write_text(json.dumps({**json.loads(said.read_text()), "eos_token": END}), encoding="utf-8")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "base")
    chat = Chat.of(tokenizer, "chatml")
    letters = [tokenizer.convert_tokens_to_ids(c.replace(" ", "\u0120")) for c in f"{SAID}~"]
    last = int(chat.prompt_ids((Message(Role.USER, "a"),))[-1])
    chain(tokenizer, [last, *letters[:-1], chat.stop_ids[0], letters[-1]]).save_pretrained(tmp_path / "base")
    rows: dict[str, Callable[[int], dict[str, Any]]] = {
        "demos": lambda i: {"messages": [*ASKED[i], {"role": "assistant", "content": f"it is {i}"}]},
        "pairs": lambda i: {"prompt": ASKED[i], **{
            side: [{"role": "assistant", "content": f"{side} {i}"}] for side in ("chosen", "rejected")}},
        "prompts": lambda i: {"prompt": ASKED[i]},
        "texts": lambda i: {"text": f"once upon {i}"},
    }  # fmt: skip
    for name, row in rows.items():
        small_world.write(tmp_path / f"{name}.jsonl", [row(i) for i in range(8)])
    return tmp_path


def models(run: Path) -> dict[str, Path]:
    """The folders of a run's models, by stage."""
    return {p.parent.name.rpartition("-")[0]: p for p in sorted(run.glob("stages/*/model"))}


def stops(folder: Path) -> list[int]:
    return json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]


SMALL = "--loop.steps 1 --loop.batch 4 --data.held_out 0 --update.lr 1e-9"


def trained(line: str) -> None:
    assert main(["train", *line.split(), *SMALL.split()]) == 0


def test_rlhf_needs_no_template_but_the_first(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SFT, reward model, PPO-ptx, generation and export; adapters and shared roles too."""
    trained("sft --model.path base --model.template chatml --data.path demos.jsonl --out sft")
    trained("reward_model --model.path sft/model --data.path pairs.jsonl --out rm")
    trained(
        "ppo_ptx --model.path sft/model --judge rm/model --critic rm/model --data.path prompts.jsonl"
        " --pretraining.data.path demos.jsonl --pretraining.batch 2 --decoding.max_new_tokens 70 --out ppo"
    )
    assert main(["export", "ppo", "out"]) == 0
    capsys.readouterr()
    assert main(["generate", "out", "what is 1?", "--temperature", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["completions"] == [SAID]
    ids = generated(Path("out"), most=80)
    assert (len(ids), ids[-1]) == (len(SAID) + 1, stops(Path("out"))[0])
    metrics = [json.loads(line) for line in Path("ppo/metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["eos_rate"] == 1.0, "the policy stops where it was taught to"
    lora = "--model.roles shared --model.lora.rank 2"
    trained(f"reward_model --model.path sft/model --data.path pairs.jsonl --out rm2 {lora}")
    trained(
        f"ppo --model.path sft/model --judge rm2/model --critic rm2/model --data.path prompts.jsonl"
        f" --decoding.max_new_tokens 70 --out ppo2 {lora}"
    )
    for folder in ("rm/model", "rm2/model", "ppo2/model"):
        assert stops(Path(folder)) == stops(Path("sft/model"))
        assert Chat.of(AutoTokenizer.from_pretrained(folder)).layout is not None
    capsys.readouterr()
    assert main(["generate", "ppo2", "what is 1?", "--temperature", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["completions"] == [SAID], "the folder of a run with an adapter"


def test_soups_judges_and_servers_read_it(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        trained(f"sft --model.path base --model.template chatml --data.path demos.jsonl --out {name}")
        trained(
            "sft --model.path base --model.template chatml --model.lora.rank 2 --data.path demos.jsonl"
            f" --out {name}-lora"
        )
    for kind in ("", "-lora"):
        mixed = f"soup one{kind}/model two{kind}/model --out soup{kind}"
        assert main([*mixed.split(), "--weights", "0.5,0.5"]) == 0
        assert stops(Path(f"soup{kind}")) == stops(Path("one/model"))
        assert generated(Path(f"soup{kind}"), most=80)[-1] == stops(Path("one/model"))[0]
        judges = "--judge short=rule:length?longest=9 --judge long=rule:length?longest=99"
        asked = "--prompts prompts.jsonl --validation prompts.jsonl --start base --steps 1 --tries 2"
        assert main([*f"{mixed}-measured {judges} {asked}".split()]) == 0
        assert stops(Path(f"soup{kind}-measured/model")) == stops(Path("one/model"))
    trained(
        "grpo --model.path one/model --judge lm:two/model#read=logprobs --data.path prompts.jsonl"
        " --num_completions 2 --decoding.max_new_tokens 70 --out grpo"
    )
    assert stops(Path("grpo/model")) == stops(Path("one/model"))


def test_where_a_template_is_missing_the_remedy_works_as_typed(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("recipe.yaml").write_text(
        "name: one\nstages:\n  best:\n    method: best_of_n\n    judge: 'rule:length?longest=5'\n"
        "    model: {path: base}\n    data: {path: prompts.jsonl, held_out: 0}\n    n: 2\n",
        encoding="utf-8",
    )
    for command in (
        ["generate", "base", "what is 1?"],
        ["train", "sft", "--model.path", "base", "--data.path", "demos.jsonl", "--out", "x"],
        ["run", "recipe.yaml"],
    ):
        assert main(command) == 65
        said = capsys.readouterr().err
        (option,) = set(re.findall(r"`(--\S+) NAME`", said))
        assert "E350" in said
        assert main([*command, option, "chatml"]) == 0, said
        capsys.readouterr()


def test_constitutional_ai_of_a_real_base(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cai/real` with its own template, named for the base alone."""
    helper = scripted.Scripted(
        say=lambda talk, seed, place: f"text {seed % 97} {place}",
        odds=lambda talk: (-1.0, -2.0 - len(talk[-1].content) % 3),
    )
    scripts = {"HELPFUL": Model(helper, Author("helper", ""))}

    def opened(ref: str, **given: Any) -> Model:
        return scripts[ref] if ref in scripts else open_model(ref, **given)

    for module in (revise, ai_label):
        monkeypatch.setattr(module, "open_model", opened)
    line = "run cai/real --revisions.data.path prompts.jsonl --helpfulness.data.path prompts.jsonl"
    line += " --sl_cai.model.path base --labels.data.path prompts.jsonl --revisions.steps 1"
    line += " --labels.decoding.max_new_tokens 70 --labels.decoding.temperature 1.6"  # pairs must differ
    line += " --ppo.decoding.max_new_tokens 70 --ppo.loop.steps 1"
    for stage in ("reward", "dpo"):
        line += f" --{stage}.data.mix.helpful pairs.jsonl"
    line += " --ppo.data.mix.harmless prompts.jsonl --ppo.data.mix.helpful prompts.jsonl"
    for stage in ("sl_cai", "reward", "dpo", "ppo"):
        line += f" --{stage}.loop.batch 4 --{stage}.update.lr 1e-9"
    assert main([*line.split(), "--out", "cai"]) == 0
    found = models(Path("cai"))
    assert set(found) == {"sl_cai", "reward", "dpo", "ppo"}
    assert {tuple(stops(folder)) for folder in found.values()} == {tuple(stops(found["sl_cai"]))}
    (labels,) = Path("cai/stages").glob("labels-*/groups.jsonl")
    assert SAID in {c.text for g in read_jsonl(str(labels)) for c in g.completions}, "asked as it was trained"
    assert generated(found["ppo"], most=80)[-1] == stops(found["ppo"])[0]


def test_self_align_of_a_real_base(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`self-align/real`: the engraved base answers at length in the template that it was engraved in."""
    for module, say in ((self_instruct, written), (self_align, answered)):
        base: Any = supervised.Scripted(say=say)
        model = Model(base, Author("base", ""))
        monkeypatch.setattr(module, "open_model", lambda *a, m=model, **k: m)
    line = "run self-align/real --tasks.num_tasks 12 --tasks.num_topics 6 --tasks.num_hinted 4"
    line += (
        " --tasks.lists 2 --answers.identity 1 --verbose.min_chars 20 --verbose.decoding.max_new_tokens 70"
    )
    for stage in ("engrave", "clone"):
        line += f" --{stage}.model.path base --{stage}.loop.batch 64 --{stage}.update.lr 1e-9"
        line += f" --{stage}.data.max_tokens 4096"
    assert main([*line.split(), "--out", "self"]) == 0
    found = models(Path("self"))
    assert set(found) == {"engrave", "clone"}
    (verbose,) = Path("self/stages").glob("verbose-*/groups.jsonl")
    assert {c.text for g in read_jsonl(str(verbose)) for c in g.completions} == {SAID}
    assert main(["export", str(found["clone"].parent), "out"]) == 0
    assert generated(Path("out"), most=80)[-1] == stops(found["clone"])[0]


def test_a_base_is_measured_in_the_template_of_what_was_trained_from_it(world: Path) -> None:
    Path("world.yaml").write_text(
        "prompts: prompts.jsonl\njudges: {short: 'rule:length?longest=9'}\ntruth: short\n", encoding="utf-8"
    )
    Path("whole.yaml").write_text(
        "name: whole\nworld: world.yaml\nstages:\n"
        "  sft: {model: {path: base, template: chatml}, data: {path: demos.jsonl, held_out: 0},"
        " loop: {steps: 1, batch: 4}, update: {lr: 1.0e-9}}\n"
        "  evaluate: {base: base, sft: 'stage:sft', hhh_dialogues: 0, num_prompts: 4, exam_items: 1,"
        " snapshots: false, samples_per_prompt: 1, decoding: {max_new_tokens: 70}}\n",
        encoding="utf-8",
    )
    assert main(["run", "whole.yaml", "--out", "whole"]) == 0
    rows = json.loads(Path("whole/samples.json").read_text(encoding="utf-8"))
    texts = [row["policies"][name]["text"] for row in rows for name in ("base", "sft")]
    assert texts == [SAID] * 8
