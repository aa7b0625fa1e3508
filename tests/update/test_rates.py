"""Learning rates that `auto` stands for: the table by hand, sizes by config.json, runs that keep theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, LlamaConfig, MixtralConfig

import small_world
from trueup.cli import main
from trueup.errors import TrueupError
from trueup.models.size import num_weights
from trueup.runs.recipe import Recipe, plan
from trueup.settings import config as configuration
from trueup.settings import discover
from trueup.update.adamw import AdamW
from trueup.update.rates import SIZES, TABLE, rates_in, row_of

LLAMA_7B = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32,
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `my-model/`, files to train on, and the config of a Llama of 7 B weights."""
    small_world.make(tmp_path)
    LlamaConfig(**LLAMA_7B).save_pretrained(tmp_path / "large")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, float]:
    """The learning rates that `trueup config` shows."""
    import yaml

    capsys.readouterr()
    assert main(["config", *words]) == 0

    update = yaml.safe_load(capsys.readouterr().out)["update"]
    return {"lr": update["lr"]} if "lr" in update else {"critic": update["critic"]["lr"]}


@pytest.mark.parametrize(
    ("method", "size", "adapter", "rate"),
    [
        ("sft", 0.91e6, False, 1e-3),
        ("dpo", 0.91e6, False, 3e-4),
        ("dpo", 7e9, False, 5e-7),
        ("dpo", 7e9, True, 5e-6),
        ("sft", 7e9, False, 2e-5),
        ("sft", 7e9, True, 2e-4),
        ("grpo", 7e9, False, 1e-6),
        ("orpo", 7e9, False, 8e-6),
        ("reward_model", 7e9, False, 9e-6),
        # Ten times 3e-4 would be more than an adapter takes; what full weights take it takes too.
        ("dpo", 1e6, True, 1e-3),
        ("sft", 1e6, True, 1e-3),
        # Half way between 1e8 and 7e9 by their logarithms: the geometric mean of 3e-6 and 5e-7, 1.22e-6.
        ("dpo", (1e8 * 7e9) ** 0.5, False, 1.2e-6),
        # Ten times 7 B lies on the same line: 5e-7 · (5e-7 / 3e-6)^(ln 10 / ln 70) = 1.89e-7.
        ("dpo", 7e10, False, 1.9e-7),
    ],
)
def test_the_table_by_hand(method: str, size: float, adapter: bool, rate: float) -> None:
    row = row_of(method, str(discover.constants(method)["FAMILY"]))
    assert row is not None and row.rate(size, adapter=adapter) == rate


@pytest.mark.parametrize("name", discover.names())
def test_every_method_that_trains_has_a_row_and_no_default_of_its_own(name: str) -> None:
    rates = rates_in(vars(discover.find(name))["Config"]())
    assert set(rates.values()) <= {"auto"}
    if "update.lr" in rates:
        assert row_of(name, str(discover.constants(name)["FAMILY"])) is not None


def test_rates_fall_with_size_and_never_with_an_adapter() -> None:
    sizes = [10 ** (5 + i / 4) for i in range(27)]
    for row in TABLE:
        full, adapter = ([row.rate(size, adapter=a) for size in sizes] for a in (False, True))
        assert full == sorted(full, reverse=True) and len(row.rates) == len(SIZES)
        assert all(f <= a <= 10.5 * f and a <= max(f, 1e-3) for f, a in zip(full, adapter, strict=True))


@pytest.mark.parametrize(
    ("config", "count"),
    [
        # 2 · 32000 · 4096 + 32 · (4 · 4096² + 3 · 4096 · 11008 + 2 · 4096) + 4096
        (LlamaConfig(**LLAMA_7B), 6_738_415_616),
        # Tied: 50257 · 768 + 1024 · 768 + 12 layers of 7,087,872 + the last norm
        (GPT2Config(), 124_439_808),
        (MixtralConfig(), 46_702_792_704),
    ],
    ids=["llama", "gpt2", "mixtral"],
)
def test_a_size_is_told_from_config_json_alone(config: AutoConfig, count: int, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json"]
    assert num_weights(str(tmp_path / "model")) == count


def test_a_size_is_that_of_the_weights(here: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(here / "my-model")
    assert num_weights("my-model") == sum(p.numel() for p in model.parameters())


def test_a_config_that_does_not_tell_asks_for_a_number(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "odd").mkdir()
    (here / "odd/config.json").write_text('{"model_type": "odd"}')
    assert main(["config", "dpo", "--model.path", "odd"]) == 64
    assert "E765" in (error := capsys.readouterr().err) and "--update.lr NUMBER" in error
    assert said(capsys, "dpo", "--model.path", "odd", "--update.lr", "1e-6") == {"lr": 1e-6}


def test_config_and_init_show_the_number(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # ln(6.738 / .1) / ln 70 = .991 of the way from 3e-6 to 5e-7.
    assert said(capsys, "dpo", "--model.path", "large") == {"lr": 5.1e-7}
    assert said(capsys, "dpo", "--model.path", "large", "--model.lora.rank", "8") == {"lr": 5.1e-6}
    assert said(capsys, "trpo", "--model.path", "large") == {"critic": 9.1e-6}
    assert said(capsys, "dpo") == {"lr": 3e-4}
    assert said(capsys, "dpo", "--model.path", "nowhere-yet") == {"lr": "auto"}
    assert main(["init", "dpo", "--model.path", "large", "--out", "dpo.yaml"]) == 0
    text = Path("dpo.yaml").read_text()
    assert "  lr: auto  # 5.1e-07: preferences, 6.74 B weights\n" in text and "  path: large\n" in text
    assert said(capsys, "dpo.yaml") == {"lr": 5.1e-7}


def test_a_run_says_its_rate_first_and_warns_of_one_that_is_far(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["train", "sft", "--model.path", "my-model", "--data.path", "demos.jsonl", "--loop.steps", "1"]
    assert main(run) == 0
    assert capsys.readouterr().out.splitlines()[0] == "update.lr 0.001: demonstrations, 10.1 k weights (auto)"
    assert "lr: 0.001\n" in (here / "runs/sft/config.resolved.yaml").read_text()
    assert main([*run, "--update.lr", "0.05", "--out", "far"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == [
        "update.lr 0.05",
        "warning: update.lr 0.05 is 50 times what is usual for demonstrations on 10.1 k weights "
        "(0.001; docs/learning-rates.md)",
    ]
    assert main([*run, "--update.lr", "1e-5", "--out", "low"]) == 0
    assert "update.lr 1e-05 is 1/100 of what is usual" in capsys.readouterr().out
    assert main([*run, "--update.lr", "2e-3", "--out", "near"]) == 0
    assert "warning" not in capsys.readouterr().out


def test_a_run_goes_on_with_the_rate_that_it_began_with(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after another version of the table."""
    run = ["train", "sft", "--model.path", "my-model", "--data.path", "demos.jsonl", "--loop.steps", "1"]
    assert main([*run, "--update.lr", "7e-4"]) == 0
    capsys.readouterr()
    assert main(run) == 0
    assert "finished before" in capsys.readouterr().out
    shutil.rmtree(here / "runs/sft/model")
    (here / "runs/sft/DONE.json").unlink()
    assert main(run) == 0
    assert capsys.readouterr().out.splitlines()[0] == "update.lr 0.0007: as this run began (auto)"
    assert main([*run, "--update.lr", "1e-3"]) == 64
    assert "E723" in capsys.readouterr().err
    # As written before a setting came: what it lacks had the default.
    settings = here / "runs/sft/config.resolved.yaml"
    lines = [line for line in settings.read_text().splitlines() if not line.strip().startswith("max_skips")]
    settings.write_text("\n".join(lines) + "\n")
    assert main(run) == 0
    assert main([*run, "--update.max_skips", "1"]) == 64
    assert "update.max_skips" in capsys.readouterr().err


def test_a_recipe_settles_by_the_model_that_a_stage_comes_from(here: Path) -> None:
    """The digest is that of the same recipe with the number written."""
    start = {"model": {"path": "large"}, "data": {"path": "demos.jsonl"}}
    stages = {
        "sft": start,
        "labels": {"method": "label", "model": {"path": "stage:sft"}},
        "dpo": {"model": {"path": "stage:sft"}, "data": {"path": "stage:labels"}},
        "again": {"method": "ipo", "model": {"path": "stage:dpo"}, "data": {"path": "stage:labels"}},
    }
    found = {s.name: s for s in plan(Recipe(name="r", stages=stages), here / "run")}
    rates = {name: stage.config.update.lr for name, stage in found.items() if name != "labels"}
    assert rates == {"sft": 2e-5, "dpo": 5.1e-7, "again": 5.1e-7}
    written = {**stages, "dpo": {**stages["dpo"], "update": {"lr": 5.1e-7}}}
    again = {s.name: s.digest for s in plan(Recipe(name="r", stages=written), here / "run")}
    assert again == {name: stage.digest for name, stage in found.items()}


def test_a_stage_that_was_begun_keeps_its_rate(here: Path) -> None:
    mine = {"sft": {"model": {"path": "my-model"}, "data": {"path": "demos.jsonl"}}}
    before = {"sft": {**mine["sft"], "update": {"lr": 7e-4}}}
    (stage,) = plan(Recipe(name="r", stages=before), here / "run")
    stage.folder.mkdir(parents=True)
    (stage.folder / "config.resolved.yaml").write_text(configuration.dump_yaml(stage.settings))
    (again,) = plan(Recipe(name="r", stages=mine), here / "run")
    assert again.folder == stage.folder and again.config.update.lr == 7e-4
    other = {"sft": {**mine["sft"], "loop": {"epochs": 2}}}
    (changed,) = plan(Recipe(name="r", stages=other), here / "run")
    assert changed.config.update.lr == 1e-3 and changed.folder != stage.folder


def test_a_model_in_memory_is_counted(here: Path) -> None:
    import trueup

    model = AutoModelForCausalLM.from_pretrained(here / "my-model")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(here / "my-model")
    rows = small_world.demonstrations()
    trained = trueup.fit(
        "sft", model=model, tokenizer=tokenizer, data=rows, out="run", loop={"steps": 1, "batch": 4}
    )
    assert json.loads((trained.folder / "DONE.json").read_text())["method"] == "sft"
    assert "lr: 0.001\n" in (trained.folder / "config.resolved.yaml").read_text()


def test_auto_is_no_number_for_a_rule_alone() -> None:
    with pytest.raises(TrueupError, match="E764"):
        AdamW().start({}, 1)


def test_a_method_of_no_known_family_asks_for_a_number(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(str(discover.find("sft").__file__)).read_text(encoding="utf-8")
    (here / "mine.py").write_text(source.replace('"supervised"', '"odd"'), encoding="utf-8")
    assert main(["config", "mine.py", "--model.path", "my-model"]) == 64
    assert "E764" in (error := capsys.readouterr().err) and "--update.lr NUMBER" in error
    (here / "mine.py").write_text(source, encoding="utf-8")
    assert said(capsys, "mine.py", "--model.path", "my-model") == {"lr": 3e-4}
