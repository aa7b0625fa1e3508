"""Distillation as methods: who writes, what is mixed, the recipes, a teacher that is an adapter's base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eval_stubs import tiny_model
from trueup.engine.loop import Progress, _collect
from trueup.engine.method import Handles, Parts
from trueup.errors import TrueupError
from trueup.methods import context_distillation, distill
from trueup.models.load import save
from trueup.runs.meter import METRICS, read
from trueup.runs.one_stage import single_stage
from trueup.runs.recipe import plan, read_recipe, run_stage
from trueup.runs.shipped import recipe_path
from trueup.settings import config as configuration
from trueup.settings import discover
from trueup.settings.blocks import LoraSettings
from trueup.sources.mixed import Mixed
from trueup.testing import check_method, tiny_config
from trueup.testing.toys import STOP, tiny_network, toy_groups, toy_prompt_ids

KEYS = {"loss/distill", "distill/forward_kl", "distill/reverse_kl", "distill/rest"}
COMMON = {"step", "phase", "loss", "grad_norm", "lr"}


def parts(**changes: object) -> Parts:
    given = {"groups": toy_groups(8), "held_out": [], "decode": str, "stop_ids": (STOP,)}
    return Parts(**{**given, "prompt_ids": toy_prompt_ids, **changes})  # pyright: ignore


def run(**changes: object) -> Handles:
    networks = {"policy": tiny_network(), "teacher": tiny_network(trained=False, seed=1)}
    return Handles(networks=networks, **changes)  # pyright: ignore


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("distill", {"completions": "policy", "data_share": 0.5, "divergence": "reverse"}),
        ("distill", {"completions": "teacher", "divergence": "forward", "top_k": None}),
        ("distill", {"completions": "files", "divergence": "jsd", "beta": 0.1}),
        ("context_distillation", {"completions": "policy", "top_k": None}),
        ("context_distillation", {"completions": "files", "num_dialogues": 2, "divergence": "reverse"}),
    ],
)
def test_every_way_repeats_and_resumes_to_the_bit(name: str, settings: dict, tmp_path: Path) -> None:
    module = discover.find(name)
    config = replace(tiny_config(module), **settings)
    check_method(module, tmp_path, config=replace(config, loop=replace(config.loop, save_every_updates=1)))


def test_a_share_of_the_prompts_keeps_what_was_written() -> None:
    """Which ones is a function of seed, step and place: 0 none, 1 all, in between about the share."""
    method = distill.build(replace(tiny_config(distill), data_share=0.5), parts())
    assert isinstance(method.source, Mixed)
    handles = run(seed=3)
    stored = {c.text for g in toy_groups(8) for c in g.completions}
    kept = 0
    for step in range(40):
        groups = method.source(step, handles)
        again = method.source(step, handles)
        assert [g.id for g in groups] == [g.id for g in again]
        for one, other in zip(groups, again, strict=True):
            assert np.array_equal(one.completions[0].tokens, other.completions[0].tokens)  # pyright: ignore
            sampled = ["sampled_logprobs" in c.columns for c in one.completions]
            assert all(sampled) or not any(sampled)
            if not any(sampled):
                assert {c.text for c in one.completions} <= stored
                kept += 1
    assert 60 <= kept <= 100, "of 160"
    for share, expected in ((0.0, 0), (1.0, 4)):
        source = replace(method.source, data_share=share)
        found = source(0, handles)
        assert sum("sampled_logprobs" not in g.completions[0].columns for g in found) == expected


def test_only_what_was_sampled_costs_sampling() -> None:
    method = distill.build(replace(tiny_config(distill), data_share=0.5), parts())
    mixed = 0
    for step in range(6):
        progress = Progress(step=step)
        _collect(method, run(seed=3), progress)
        completions = [c for g in progress.buffer for c in g.completions]
        drawn = [c.num_tokens for c in completions if "sampled_logprobs" in c.columns]
        assert progress.tokens_sampled == sum(drawn)
        mixed += 0 < sum(drawn) < sum(c.num_tokens for c in completions)
    assert mixed > 2


def test_a_share_needs_something_written() -> None:
    bare = [replace(g, completions=(), comparisons=(), rankings=()) for g in toy_groups(3)]
    with pytest.raises(TrueupError, match=r"E604.*data_share: 0"):
        distill.build(replace(tiny_config(distill), data_share=0.5), parts(groups=bare))


def test_the_prompted_teacher_writes_and_the_bare_prompt_is_kept() -> None:
    """Completions are the teacher's under its context; the group has its own prompt, messages and ids."""
    method = context_distillation.build(tiny_config(context_distillation), parts())
    handles = run()
    groups = method.source(0, handles)
    own = {g.id: g for g in toy_groups(8)}
    for group in groups:
        assert np.array_equal(group.prompt_tokens, own[group.id].prompt_tokens)  # pyright: ignore
        assert group.prompt == own[group.id].prompt and group.completions[0].source == "teacher"
    assert not method.networks["teacher"].start and not method.networks["teacher"].trained
    bare = replace(method, source=replace(method.source, under=None)).source(0, handles)  # pyright: ignore
    assert [g.completions[0].text for g in bare] != [g.completions[0].text for g in groups]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save(tiny_model(), folder)
    return folder


def trained(folder: Path, name: str) -> list[dict]:
    """The training lines of a finished stage, after checking what they and the page name."""
    train = [line for line in read(folder / METRICS) if line["phase"] == "train"]
    assert [line["step"] for line in train] == [1, 2]
    assert set(train[0]) == COMMON | KEYS
    page = (Path(__file__).parents[2] / "docs" / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert not [key for key in KEYS if f"`{key}`" not in page]
    return train


def test_the_tiny_recipe_of_distill(model: Path, tmp_path: Path) -> None:
    """What two steps of finetuning moved is a loss for the base, and the teacher's folder is found."""
    layer = [f"--stages.{s}.model.path={model}" for s in ("sft", "distill")]
    recipe = read_recipe(recipe_path("tiny-distill"), configuration.parse_overrides(layer).values)
    for stage in plan(recipe, tmp_path):
        run_stage(stage)
    (folder,) = (tmp_path / "stages").glob("distill-*")
    assert trained(folder, "distill")[0]["distill/forward_kl"] > 1e-5


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2)], ids=["whole", "lora"])
def test_the_tiny_recipe_of_context_distillation(
    model: Path, tmp_path: Path, lora: LoraSettings | None
) -> None:
    """The adapter's base, after the dialogues, teaches as a frozen copy would: the same first divergence."""
    options = [f"--model.path={model}", "--context", str(tmp_path / "dialogues.jsonl")]
    (tmp_path / "dialogues.jsonl").write_text('{"prompt": "Hi", "completion": "Hello."}\n', encoding="utf-8")
    stage = single_stage(
        str(recipe_path("tiny-context_distillation")), configuration.parse_overrides(options), tmp_path
    )
    if lora is not None:
        model_settings = replace(stage.config.model, lora=lora)
        stage = replace(stage, config=replace(stage.config, model=model_settings))
    run_stage(stage)
    first, _ = trained(stage.folder, "context_distillation")
    assert first["loss/distill"] > 1e-3 and torch.tensor(first["grad_norm"]) > 0
