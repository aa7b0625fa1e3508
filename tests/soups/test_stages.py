"""The stages `scales` and `soup`, and the command, from a start to a chosen model and a picture."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import small_world
from trueup.chat import Chat
from trueup.cli import main
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.models.load import load, save
from trueup.runs.recipe import Recipe, plan, read_recipe, run_recipe, run_stage
from trueup.runs.shipped import recipe_path
from trueup.runs.signals import Interrupted
from trueup.settings.blocks import LoraSettings
from trueup.soups.measure import Bench
from trueup.soups.mix import open_soup
from trueup.soups.serve import Request, answer

ROOT = Path(__file__).parents[2]
JUDGES = {"many_a": "judges.py:many_a", "short": "rule:length?longest=0&per=10"}
DATA = {"path": "prompts.jsonl", "held_out": 0.0}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small_world.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("judges.py").write_text("def many_a(prompt, text):\n    return text.count('a')\n", encoding="utf-8")
    return tmp_path


def recipe() -> Recipe:
    """The shape of the packaged recipe, on a model that trains in a second."""
    rl = {
        "method": "reinforce",
        "model": {"path": "my-model"},
        "data": DATA,
        "loop": {"steps": 1, "batch": 4},
        "decoding": {"max_new_tokens": 6},
    }
    return Recipe(
        name="soups",
        stages={
            "scales": {"model": {"path": "my-model"}, "judges": JUDGES, "data": DATA, "num_completions": 2},
            "many_a": {**rl, "judge": "stage:scales?many_a=1"},
            "short": {**rl, "judge": "stage:scales?short=1"},
            "morl": {**rl, "judge": "stage:scales?many_a=0.5&short=0.5"},
            "soup": {
                "start": "my-model",
                "experts": {"many_a": "stage:many_a", "short": "stage:short"},
                "judges": {name: f"stage:scales?{name}=1" for name in JUDGES},
                "morl": {"MORL .5": "stage:morl"},
                "preference": [0.25, 0.75],
                "tries": 4,
                "data": DATA,
                "validation": DATA,
                "decoding": {"max_new_tokens": 8},
            },
        },
    )


def test_a_recipe_from_a_start_to_a_chosen_soup(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_recipe(recipe(), here / "run")
    found = json.loads((folder / "front.json").read_text(encoding="utf-8"))
    kinds = [row["kind"] for row in found["policies"]]
    assert kinds == ["start"] + ["soup"] * 5 + ["morl"]
    assert [row["weights"] for row in found["policies"][1:6]] == [[w / 4, 1 - w / 4] for w in range(5)]
    assert found["policies"][0]["kl"] == 0 and found["policies"][1]["name"] == "short"
    # What was chosen is what its own table says is best, for the preference that was given.
    chosen = found["chosen"]
    values = {tuple(row["weights"]): row["value"] for row in chosen["tried"]}
    assert len(values) == 4 and max(values, key=lambda w: values[w]) == tuple(chosen["weights"])
    stages = {s.name: s for s in plan(recipe(), here / "run")}
    experts = [load_file(stages[n].folder / "model" / "model.safetensors") for n in ("many_a", "short")]
    model = load_file(stages["soup"].folder / "model" / "model.safetensors")
    for name, tensor in model.items():
        mixed = sum(w * e[name].double() for w, e in zip(chosen["weights"], experts, strict=True))
        assert torch.equal(tensor, torch.as_tensor(mixed).float())
    for text in ((folder / "front.svg").read_text("utf-8"), (folder / "soups.html").read_text("utf-8")):
        assert text.count("<circle") >= 7 and "MORL .5" in text
    ElementTree.fromstring((folder / "front.svg").read_text("utf-8"))
    # A stage that was stopped goes on: what was measured is not measured again.
    before = (folder / "front.json").read_bytes()
    soup = stages["soup"]
    kept = json.loads((soup.folder / "measured.json").read_text(encoding="utf-8"))
    (rows,) = kept.values()
    dropped, _ = rows.popitem()
    (soup.folder / "measured.json").write_text(json.dumps(kept), encoding="utf-8")
    (soup.folder / "DONE.json").unlink()
    with pytest.raises(Interrupted):
        run_stage(soup, stop_requested=lambda: "SIGTERM")
    asked: list[str] = []
    measure = Bench.__call__

    def noted(bench: Bench, network: object, name: str) -> object:
        asked.append(name)
        return measure(bench, network, name)  # pyright: ignore[reportArgumentType] - passed on as it came

    monkeypatch.setattr(Bench, "__call__", noted)
    run_stage(soup)
    assert len(asked) == 1 and dropped in (soup.folder / "measured.json").read_text("utf-8")
    assert (soup.folder / "front.json").read_bytes() == before


def test_scales_are_those_of_the_starts_samples(here: Path) -> None:
    stage, *_ = plan(recipe(), here / "run")
    done = run_stage(stage)
    sums = str(stage.folder / "rewards.yaml")
    group = Group(
        prompt=(Message(Role.USER, "?"),), completions=tuple(Completion(text=t) for t in ("aab", "b" * 30))
    )
    raw = {name: np.array(open_judge(ref)([group])) for name, ref in JUDGES.items()}
    scaled = {n: (raw[n] - done.metrics[f"{n}/mean"]) / done.metrics[f"{n}/std"] for n in JUDGES}
    assert np.array(open_judge(f"{sums}?short=1")([group])) == pytest.approx(scaled["short"])
    both = open_judge(f"{sums}?many_a=0.3&short=0.7")([group])
    assert np.array(both) == pytest.approx(0.3 * scaled["many_a"] + 0.7 * scaled["short"])
    assert np.array(open_judge(sums)([group])) == pytest.approx(sum(scaled.values()) / 2)
    for wrong in ("many_a=0.3", "many_a=1.5&short=-0.5", "many_a=x&short=1", "other=1", "many_a=nan&short=1"):
        with pytest.raises(TrueupError, match="E796"):
            open_judge(f"{sums}?{wrong}")


def test_parts_of_the_labs_truth_are_judges() -> None:
    from trueup.lab import demonstrations

    groups = demonstrations(20, 0)
    gold, *parts = (
        np.array([x for row in open_judge(name)(groups) for x in row])
        for name in ("lab:gold", *(f"lab:gold/{p}" for p in ("harmless", "form", "helpful", "honest")))
    )
    assert gold == pytest.approx(parts[0] * parts[1] * (0.7 * parts[2] + 0.3 * parts[3]))
    assert len({p.tobytes() for p in parts}) > 1
    with pytest.raises(TrueupError, match=r"E792.*lab:gold/helpful"):
        open_judge("lab:gold/helpfull")


def test_the_packaged_recipe_is_one(tmp_path: Path) -> None:
    """Every stage's settings are settings, and MORL's preferences are those of the rewards' sum."""
    stages = {s.name: s for s in plan(read_recipe(recipe_path("soups")), tmp_path)}
    assert {"scales", "helpful", "short"} <= set(stages["soup"].inputs)
    said = [s.config.judge.partition("?")[2] for s in stages.values() if hasattr(s.config, "judge")]
    weights = [[float(x) for x in re.findall(r"=([\d.]+)", text)] for text in said]
    assert sorted(weights) == [[0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [1.0], [1.0]]


def test_the_page_is_right(here: Path) -> None:
    """Its recipe's settings are settings, and every code of this part is explained."""
    text = (ROOT / "docs" / "soups.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    Path("page.yaml").write_text(block, encoding="utf-8")
    stages = plan(read_recipe(Path("page.yaml")), Path("run"))
    assert [s.name for s in stages] == ["scales", "polite", "short", "between", "soup"]
    files = [*(ROOT / "src/trueup/soups").glob("*.py"), ROOT / "src/trueup/commands/soup.py"]
    files += [ROOT / "src/trueup/procedures" / name for name in ("soup.py", "scales.py")]
    used = {code for f in files for code in re.findall(r'"(E\d{3})"', f.read_text(encoding="utf-8"))}
    assert sorted(used | {"E846"}) == re.findall(r"^\| (E\d{3}) \|", text, flags=re.MULTILINE)


def experts(start: str, lora: LoraSettings | None = None) -> list[str]:
    """Two models near the start, as whole weights or as adapters."""
    folders = []
    for seed in (1, 2):
        network = load(start, lora=lora, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in network.module.named_parameters():
                if lora is None or "lora_B" in name:
                    size = 0.005 if lora is None else 2.0
                    parameter += size * torch.randn(parameter.shape, generator=generator)
        folders.append(str(save(network, Path(f"expert-{seed}"))))
    return folders


def test_the_command_mixes_and_chooses(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = experts("my-model")
    assert main(["soup", *pair, "--weights", "0,1", "--out", "mixed"]) == 0
    assert Path("mixed/model.safetensors").read_bytes() == Path(pair[1], "model.safetensors").read_bytes()
    shutil.copy("prompts.jsonl", "others.jsonl")
    words = ["soup", *pair, "--out", "run", "--steps", "2", "--tries", "4", "--search", "bayes"]
    words += ["--prompts", "prompts.jsonl", "--validation", "others.jsonl", "--num-prompts", "4"]
    for name, ref in JUDGES.items():
        words += ["--judge", f"{name}={ref}"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "Hypervolume of the soups" in shown and "Linear mode connectivity" in shown
    assert Path("run/model/model.safetensors").is_file() and Path("run/soups.html").is_file()
    assert main([*words, "--prefer", "1,0"]) != 0 and "E723" in capsys.readouterr().err
    for wrong in (["--weights", "0.5,0.6"], ["--weights", "a,b"], ["--judge", "lab:gold"], ["--adapter"]):
        assert main(["soup", *pair, "--out", "wrong", *wrong]) != 0
        assert re.search(r"error E(736|852) ", capsys.readouterr().err)
    assert not Path("wrong").exists()


def test_one_set_of_adapters_answers_by_every_requests_weights(here: Path) -> None:
    pair = experts("my-model", LoraSettings(rank=2))
    soup, chat = open_soup(pair), Chat.of(load("my-model").tokenizer, None)
    asked = [
        Request(prompt=(Message(Role.USER, f"what is {i}?"),), weights=weights)
        for i in range(3)
        for weights in ((1.0, 0.0), (0.3, 0.7))
    ]
    found = answer(soup, chat, asked, seed=5)
    for weights in ((1.0, 0.0), (0.3, 0.7)):
        alone = [r for r in asked if r.weights == weights]
        mine = [text for text, r in zip(found, asked, strict=True) if r.weights == weights]
        assert answer(soup, chat, alone, seed=5) == mine
    whole = [replace(request, weights=(1, 0)) for request in asked[::2]]
    assert answer(soup, chat, whole, seed=5) == found[::2]
    assert len(set(found)) > 3
