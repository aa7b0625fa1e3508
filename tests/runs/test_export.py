"""Exported folders load with transformers, give the same logits, and say only what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from shared_data import shared
from tiny_models import llama
from trueup.citations import cite, entries
from trueup.errors import TrueupError
from trueup.models import from_modules, load, save
from trueup.models.export import CardFacts, Figure, export, render, versions
from trueup.runs.export import LIBRARIES, export_run, facts_of, methods_of
from trueup.runs.meter import Meter
from trueup.settings import discover
from trueup.settings.blocks import LoraSettings
from trueup.settings.config import dump_yaml

FACTS = CardFacts(
    name="aligned",
    method="dpo",
    summary="Fit preferences directly.",
    base="someone/base-model",
    data={"source": "pairs.jsonl", "train": 900},
    settings={"beta": 0.1, "update": {"lr": 3e-4}},
    gold=Figure(mean=1.25, low=1.1, high=1.4),
    proxy=Figure(mean=2.0),
    tax={"stories": Figure(mean=-0.0213, low=-0.03, high=-0.01)},
    cost={"tokens_trained": 123456.0},
    bibtex=cite(["rafailov2023"]),
)


def network(**options: Any) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(shared("stories260K"))
    return from_modules(llama(), tokenizer, **options)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(2, 9)[None]).logits


def shake(module: Any) -> None:
    """Gives the adapter something to say."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))


def test_the_folder_is_an_ordinary_one(tmp_path: Path) -> None:
    made = network()
    folder = export(made, tmp_path / "out", card=FACTS)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(folder)), logits(made.hf_model))
    assert AutoTokenizer.from_pretrained(folder)("once").input_ids == made.tokenizer("once").input_ids
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "nothing is left beside it"


def test_an_adapter_is_merged_or_apart(tmp_path: Path) -> None:
    base = save(network(), tmp_path / "base")
    made = load(base, lora=LoraSettings(rank=2))
    shake(made.module)
    expected = logits(made.hf_model)
    whole = export(made, tmp_path / "whole", card=FACTS)
    apart = export(made, tmp_path / "apart", card=FACTS, merged=False)
    assert (logits(AutoModelForCausalLM.from_pretrained(whole)) - expected).abs().max() < 1e-5
    assert (expected - logits(network().hf_model)).abs().max() > 1e-3
    assert (apart / "adapter_model.safetensors").is_file()
    assert not (apart / "model.safetensors").exists()
    assert "library_name: peft" in (apart / "README.md").read_text()
    assert "library_name: transformers" in (whole / "README.md").read_text()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(TrueupError, match="E846"):
        export(network(), tmp_path / "out", card=FACTS)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_card_states_what_it_was_given_and_no_more() -> None:
    text = render(FACTS, "writer")
    for said in (
        "base_model: someone/base-model\n",
        "Trained by the method `dpo`, starting from `someone/base-model`. Fit preferences directly.",
        "| gold reward | 1.25 \\[1.1, 1.4\\] |",
        "| proxy reward | 2 |",
        "| tax: stories (after minus before) | -0.0213 \\[-0.03, -0.01\\] |",
        "| train | 900 |",
        "| update.lr | 0.0003 |",
        "| tokens\\_trained | 123,456 |",
        "@inproceedings{rafailov2023,",
        f"| torch | {versions()['torch'].replace('_', chr(92) + '_')} |",
    ):
        assert said in text, said
    assert "KL" not in text, "it was not measured"
    bare = render(CardFacts(name="x", method="sft"), "writer")
    assert re.findall(r"^## .*$", bare, re.MULTILINE) == ["## Use", "## Versions"]


def test_names_cannot_break_the_card() -> None:
    nasty = 'a"b\n---\n# <script>|`x`'
    text = render(CardFacts(name=nasty, method="sft", base=nasty, data={nasty: nasty}), "writer")
    header, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(header) == {
        "library_name": "transformers",
        "tags": ["trueup", "sft"],
        "pipeline_tag": "text-generation",
    }
    assert re.findall(r"(?m)^# .*$", body) == ['# a"b --- \\# \\<script\\>\\|\\`x\\`']
    rows = [line for line in body.splitlines() if "script" in line and line.startswith("|")]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 3


def stage(run: Path, made: Any) -> Path:
    """A finished stage of a recipe whose evaluation measured it."""
    folder = run / "stages" / "dpo-0123456789"
    folder.mkdir(parents=True)
    save(made, folder / "model")
    settings = {"model": {"path": str(run)}, "data": {"path": "lab:comparisons"}, "beta": 0.1}
    (folder / "config.resolved.yaml").write_text(dump_yaml(settings))
    (folder / "data.json").write_text('{"train": 9, "quarantined": 1}')
    Meter(folder).spend(3, tokens_trained=50, tokens_sampled=0)
    (folder / "DONE.json").write_text('{"output": "model", "method": "dpo"}')
    evaluation = {"policies": {"aligned": str(folder / "model")}, "sft": "elsewhere"}
    (run / "recipe.resolved.yaml").write_text(dump_yaml({"dpo": settings, "evaluate": evaluation}))
    policy = {
        "gold": {"mean": 1.5, "ci95": [1.0, 2.0]},
        "proxy": 3.0,
        "kl": {"mean": 4.0, "ci95": [3.5, 4.5]},
        "tax": {"stories": {"delta": -0.25, "ci95": [-0.5, 0.0]}},
    }
    other = {**policy, "gold": {"mean": 9.0, "ci95": [8.0, 9.5]}}
    (run / "summary.json").write_text(json.dumps({"policies": {"sft": other, "aligned": policy}}))
    return folder


def test_a_stage_s_card_comes_from_its_files(tmp_path: Path) -> None:
    folder = stage(tmp_path / "run", network())
    facts = facts_of(folder, name="mine")
    assert facts.method == "dpo"
    assert facts.summary == discover.find("dpo").SUMMARY
    assert facts.gold == Figure(mean=1.5, low=1.0, high=2.0)
    assert facts.proxy == Figure(mean=3.0)
    assert facts.kl == Figure(mean=4.0, low=3.5, high=4.5)
    assert facts.tax == {"stories": Figure(mean=-0.25, low=-0.5, high=0.0)}
    assert facts.cost["tokens_trained"] == 50
    assert facts.data == {"source": "lab:comparisons", "train": 9, "quarantined": 1}
    out = export_run(folder, tmp_path / "mine")
    text = (out / "README.md").read_text()
    assert str(tmp_path) not in text, "a card tells no folder of the machine"
    assert "rafailov2023" in text
    same = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(out)), logits(same))


def test_a_reward_model_says_how_it_is_read(tmp_path: Path) -> None:
    folder = stage(tmp_path / "run", network(heads=("rewards",)))
    out = export_run(folder, tmp_path / "scorer")
    text = (out / "README.md").read_text()
    assert 'heads=("rewards",)' in text
    assert "pipeline_tag" not in text
    assert load(out, heads=("rewards",)).module["reward_head"] is not None


def test_an_adapter_stage_is_merged_unless_asked(tmp_path: Path) -> None:
    base = save(network(), tmp_path / "base")
    made = load(base, lora=LoraSettings(rank=2))
    shake(made.module)
    folder = stage(tmp_path / "run", made)
    assert (export_run(folder, tmp_path / "whole") / "model.safetensors").is_file()
    apart = export_run(folder, tmp_path / "apart", merged=False)
    assert (apart / "adapter_model.safetensors").is_file()
    assert not (apart / "model.safetensors").exists()


def test_a_run_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrueupError, match="E847"):
        export_run(tmp_path, tmp_path / "out")
    assert methods_of(tmp_path) == []


def test_every_key_that_a_method_names_has_an_entry() -> None:
    named = {name: vars(discover.find(name)).get("REFERENCES", ()) for name in discover.names()}
    missing = {f"{name}: {key}" for name, keys in named.items() for key in keys if key not in entries()}
    assert missing == set()
    assert set(LIBRARIES) <= set(entries())


def test_references_are_well_formed() -> None:
    for key, entry in entries().items():
        assert entry.count("{") == entry.count("}")
        fields = re.findall(r"(?m)^  (\w+) = \{", entry)
        assert {"title", "author"} <= set(fields), key
        assert len(fields) == len(set(fields))
        year = re.search(r"year = \{(\d{4})\}", entry)
        stated = re.fullmatch(r"[a-z]+(\d{4})[a-z]?", key)
        assert stated is None or (year is not None and year.group(1) == stated.group(1)), key


def test_citing() -> None:
    assert cite([]) == ""
    assert cite(["ouyang2022", "torch", "ouyang2022"]).count("@inproceedings{") == 2
    with pytest.raises(TrueupError, match=r"E733 .*'ouyang2023'.*'ouyang2022'"):
        cite(["ouyang2023"])
    with pytest.raises(TrueupError, match="take one that `trueup cite METHOD` shows, or leave it out"):
        cite(["zzz"])
