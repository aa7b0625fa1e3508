"""What a plan says: sizes by arithmetic, a line through shallow models, what to change, what it refuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

import small_world
import trueup
from trueup.cli import main
from trueup.engine.method import Role
from trueup.engine.packing import num_row_tokens
from trueup.errors import TrueupError
from trueup.planning import memory, networks
from trueup.planning.networks import Line, sized
from trueup.planning.plan import Plan
from trueup.planning.speed import backward, forward, load_of
from trueup.planning.work import Rows, work_of
from trueup.settings.blocks import LoraSettings, ModelSettings
from trueup.settings.discover import find, names

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000, "tie_word_embeddings": False,
    "max_position_embeddings": 4096,
}  # fmt: skip
LINEAR = 128 * 128 * 2 + 128 * 64 * 2 + 3 * 128 * 192
WEIGHTS = 2 * 1000 * 128 + 2 * (LINEAR + 2 * 128) + 128
BIG = {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32}


def model(folder: Path, **changes: Any) -> str:
    """A folder with a configuration and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA, **changes}), encoding="utf-8")
    return str(folder)


def planned(method: str, path: str, gpu: str = "H100", **settings: Any) -> Plan:
    block = {"path": path, **settings.pop("model", {})}
    given = {"row_tokens": 64, **settings}
    if method != "trpo":
        given.setdefault("update", {"lr": 1e-5})
    return trueup.plan(method, gpu=gpu, model=block, **given)


def parts(plan: Plan) -> dict[tuple[str, str], int]:
    return {(part.network, part.part): part.bytes for part in plan.memory.parts}


def test_what_stays_is_arithmetic(tmp_path: Path) -> None:
    found = planned("sft", model(tmp_path), model={"dtype": "bfloat16"})
    assert found.num_weights == WEIGHTS
    assert parts(found)["policy", "weights"] == 2 * WEIGHTS
    assert parts(found)["policy", "gradients"] == 2 * WEIGHTS
    assert parts(found)["policy", "optimiser"] == 12 * WEIGHTS, "a float32 copy and two moments"
    passing = max(part.bytes for part in found.memory.parts if not part.stays)
    assert found.memory.total == 16 * WEIGHTS + passing


def test_a_reference_costs_a_copy_and_nothing_under_an_adapter(tmp_path: Path) -> None:
    path = model(tmp_path)
    full, adapter = planned("dpo", path), planned("dpo", path, model={"lora": {"rank": 4}})
    assert parts(full)["reference", "weights"] == 4 * WEIGHTS
    assert parts(adapter)["reference", "weights"] == 0
    trained = 4 * 2 * (2 * (128 + 128) + 2 * (128 + 64) + 3 * (128 + 192))
    assert parts(adapter)["policy", "adapter"] == 4 * trained
    assert parts(adapter)["policy", "optimiser"] == 8 * trained


def test_four_bits_are_counted_where_rows_allow_them(tmp_path: Path) -> None:
    found = planned("sft", model(tmp_path), model={"lora": {"rank": 4, "quantise": "nf4"}})
    quantised = 2 * LINEAR
    wanted = quantised * (0.5 + 1 / 64 + 4 / (64 * 256)) + 4 * (WEIGHTS - quantised)
    assert parts(found)["policy", "weights"] == pytest.approx(wanted, abs=100)


def test_one_base_under_all_roles_is_there_once(tmp_path: Path) -> None:
    shared = planned("ppo", model(tmp_path), model={"lora": {"rank": 4}, "roles": "shared"})
    held = [part.bytes for part in shared.memory.parts if part.part == "weights"]
    assert sum(held) == 4 * WEIGHTS and len(held) == 3
    apart = planned("ppo", model(tmp_path), model={"lora": {"rank": 4}})
    head = 1000 * 128
    assert parts(apart)["value", "weights"] == 4 * (WEIGHTS - head + 128 + 1), (
        "a head for values in place of tokens"
    )


K3: dict[str, Any] = {"num_completions": 3, "loop": {"steps": 2, "batch": 5}}


def test_the_samplers_cache_is_rows_times_slots_times_heads(tmp_path: Path) -> None:
    found = planned(
        "grpo",
        model(tmp_path),
        num_completions=3,
        decoding={"max_new_tokens": 16},
        loop={"steps": 2, "batch": 5},
    )
    assert parts(found)["policy", "sampler's cache"] == 15 * (64 + 16) * 2 * 2 * 2 * 32 * 4
    long = planned(
        "grpo",
        model(tmp_path),
        row_tokens=4000,
        num_completions=3,
        decoding={"max_new_tokens": 96},
        loop={"steps": 2, "batch": 5},
    )
    assert parts(long)["policy", "sampler's cache"] == 8 * 4096 * 2 * 2 * 2 * 32 * 4, (
        "what is sampled at once is bounded"
    )


def test_devices_share_what_stays(tmp_path: Path) -> None:
    one, four = planned("sft", model(tmp_path)), planned("sft", model(tmp_path), "H100x4")
    for part in ("weights", "gradients", "optimiser"):
        assert parts(four)["policy", part] == parts(one)["policy", part] // 4
    assert parts(four)["", "activations"] == parts(one)["", "activations"]
    assert four.time.step == pytest.approx(one.time.step / 4)


# ------------------------------------------------------------------------------------------ a line


@pytest.mark.parametrize(
    ("changes", "lora"),
    [
        ({"num_hidden_layers": 7}, None),
        pytest.param({"num_hidden_layers": 7}, LoraSettings(rank=2), marks=pytest.mark.slow),
        pytest.param({"model_type": "gemma3_text", "num_hidden_layers": 8, "head_dim": 32,
          "sliding_window": 16,
          "layer_types": ["sliding_attention", "full_attention"] * 4}, None, marks=pytest.mark.slow),
    ],
    ids=["llama", "lora", "kinds in turn"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["cuda", pytest.param("cpu", marks=pytest.mark.slow)])
def test_the_line_through_two_shallow_models_meets_the_whole(
    tmp_path: Path,
    kind: str,
    changes: dict[str, Any],
    lora: LoraSettings | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = ModelSettings(path=model(tmp_path, **changes), lora=lora)
    module = find("dpo")
    config = trueup_config(module, settings)
    work = work_of(module, config, Rows(tokens=96))
    line = networks.line_of(settings.path)
    assert isinstance(line, Line) and line.times >= 2
    found = memory.counted(work.method, settings, work, kind)
    size = sized(Role(), settings, kind, nf4=False)
    monkeypatch.setattr(networks, "line_of", lambda reference: None)
    monkeypatch.setattr(memory, "line_of", lambda reference: None)
    assert memory.counted(work.method, settings, work, kind) == found
    assert sized(Role(), settings, kind, nf4=False) == size


def trueup_config(module: Any, settings: ModelSettings) -> Any:
    config = vars(module)["Config"]
    return config(model=settings, update=type(config().update)(lr=1e-5))


def test_operations_are_those_of_the_matrix_products(tmp_path: Path) -> None:
    """2 P and 4 P a token, the head where a token is learned; attention's kernel is apart."""
    settings = ModelSettings(path=model(tmp_path), logits_budget_mib=1024)
    module = find("sft")
    work = work_of(module, trueup_config(module, settings), Rows(tokens=64))
    size, load = sized(Role(), settings, "cpu", nf4=False), load_of(work.largest)
    counted = memory.counted(work.method, settings, work, "cpu").flops
    said = forward(size, load, head=True) + backward(size, load, head=True, remade=False)
    assert counted == said - 14 * size.attention * load.pairs
    assert size.body == 2 * LINEAR and size.head == 1000 * 128
    assert load.pairs == len(work.largest) * 64 * 65 // 2


# ------------------------------------------------------------------------------------------ every method

DIFFERENT = ("kto", "triplet", "distill")
SLOW = sorted(set(names()) - {*DIFFERENT, "best_of_n"})


@pytest.mark.parametrize(
    "method", [*DIFFERENT, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_every_method_has_a_plan_from_a_configuration_alone(tmp_path: Path, method: str) -> None:
    path = model(tmp_path)
    found = planned(method, path, loop={"steps": 2, "batch": 4})
    output = found.memory.parts
    assert any(part.part == "optimiser" and part.bytes > 0 for part in output) or method == "trpo"
    passing = [part.bytes for part in output if part.part == "activations"]
    assert passing[0] > 0 and found.memory.total > 8 * WEIGHTS
    assert found.fits and found.time.step > 0 and found.time.steps == 2
    assert all(len(line) <= 80 for line in str(found).splitlines())


def test_rows_are_read_where_they_can_be(tmp_path: Path) -> None:
    world = small_world.make(tmp_path)
    given = {"model": str(world / "my-model"), "data": str(world / "demos.jsonl")}
    found = trueup.plan("sft", gpu="A10", loop={"epochs": 2, "batch": 4}, **given)
    assert found.time.steps == 8 and len(found.work.groups) == 26, "13 rows are left to train on, twice"
    rows = [num_row_tokens(group) for group in found.work.groups]
    assert found.time.tokens * 8 == pytest.approx(sum(rows)) and {18, 20} <= set(rows) <= {18, 19, 20}
    assert not any("every row" in said for said in found.to_json()["assumed"])


# ------------------------------------------------------------------------------------------ what to change


def spoken(arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = main([*shlex.split(arguments), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


@pytest.mark.parametrize(
    ("layers", "options", "first"),
    [
        (4, "--row_tokens 512 --loop.microbatch_tokens 16384", "--loop.microbatch_tokens"),
        (16, "--row_tokens 4096 --model.lora.rank 8", "--model.activation_checkpointing block"),
        pytest.param(8, "--row_tokens 4096", "--model.lora.rank 16", marks=pytest.mark.slow),
        pytest.param(32, "--row_tokens 512 --model.lora.rank 8 --loop.microbatch_tokens 600",
                     "--model.dtype bfloat16", marks=pytest.mark.slow),
        pytest.param(240, "--row_tokens 32 --loop.microbatch_tokens 32 --data.max_tokens 256 "
         "--model.lora.rank 8 --model.lora.quantise nf4 --model.dtype bfloat16", "--gpu A10x",
         marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_first_setting_to_change_makes_it_fit(
    tmp_path: Path, layers: int, options: str, first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = model(tmp_path / "m", **{**BIG, "num_hidden_layers": layers})
    typed = f"plan sft --gpu A10 --model.path {path} --update.lr 1e-5 {options}"
    found = spoken(typed, capsys)
    assert not found["fits"] and found["needs"] > found["memory"]
    change = found["change"]
    said = " ".join(change["options"])
    assert said.startswith(first), said
    kept = shlex.split(typed)
    for name in said.split()[::2]:
        if name in kept:
            del kept[kept.index(name) : kept.index(name) + 2]
    again = spoken(f"{shlex.join(kept)} {said}", capsys)
    assert again["fits"] and again["needs"] == change["needs"]


def test_many_runs_take_as_few_devices_each_as_they_fit_on(tmp_path: Path) -> None:
    path = model(tmp_path)
    one = planned("sft", path, rows=320, loop={"epochs": 1, "batch": 32})
    many = planned("sft", path, "H100x100", rows=320, loop={"epochs": 1, "batch": 32}, runs=250)
    assert many.spread is not None
    assert (many.spread.devices_each, many.spread.at_once) == (1, 100)
    assert one.time.hours is not None and many.spread.hours == pytest.approx(3 * one.time.hours)


# ------------------------------------------------------------------------------------------ what it refuses


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("plan sft --gpu H100y", "E865"),
        ("plan sft --gpu H1000", "E865"),
        ("plan sft --gpu H100x0", "E865"),
        ("plan sft --gpu cpux2", "E865"),
        ("plan evaluate --gpu H100", "E863"),
        ("plan sft --gpu H100 --model.path odd --update.lr 1e-5", "E864"),
        ("plan sft --gpu H100 --model.path nowhere", "E801"),
    ],
)
def test_what_cannot_be_planned_says_so(
    words: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model(tmp_path / "odd", model_type="nothing-that-is-known")
    assert main(shlex.split(words)) in (64, 66)
    assert capsys.readouterr().err.startswith(f"error {code} ")


def test_a_model_whose_pass_has_no_shape_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("nonzero has no shape")

    monkeypatch.setattr(memory, "_pass", fails)
    with pytest.raises(TrueupError, match=r"E864.*nonzero has no shape"):
        planned("sft", model(tmp_path))
