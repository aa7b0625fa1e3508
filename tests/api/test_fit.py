"""`trueup.fit` on objects: what travels into the folder, what resumes, what cannot be repeated from it."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas
import polars
import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import small_world
import trueup
from trueup.engine.inputs import RECORD
from trueup.errors import TrueupError
from trueup.models.opening import open_networks
from trueup.runs import training
from trueup.runs.export import facts_of
from trueup.settings.config import read_yaml

SHORT = {"steps": 2, "batch": 2}
SAMPLED = {"num_completions": 2, "decoding": {"max_new_tokens": 3}, "loop": SHORT}
ASKED = [{"prompt": [{"role": "user", "content": f"what is {i}?"}], "answer": f"it is {i}"} for i in range(8)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_world.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model(world: Path) -> Iterator[Any]:
    """A model of transformers, which a run must leave as it was."""
    found = AutoModelForCausalLM.from_pretrained(world / "my-model")
    before = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    said = found.config.to_dict()
    yield found
    assert all(torch.equal(before[name], tensor) for name, tensor in found.state_dict().items())
    assert found.config.to_dict() == said and all(p.requires_grad for p in found.parameters())


@pytest.fixture(scope="module")
def tokenizer(world: Path) -> Any:
    return AutoTokenizer.from_pretrained(world / "my-model")


def likeness(completion: str, answer: str) -> float:
    return -abs(len(completion) - len(answer)) / 10


def weights(trained: trueup.Trained) -> bytes:
    return (trained.output / "model.safetensors").read_bytes()


# ------------------------------------------------------------------------------------------ travelling


def test_objects_train_what_files_train(world: Path, model: Any, tokenizer: Any) -> None:
    by_path = trueup.fit(
        "dpo", model=world / "my-model", data=world / "preferences.jsonl", out="files", loop=SHORT
    )
    by_object = trueup.fit(
        "dpo",
        model=model,
        tokenizer=tokenizer,
        data=pandas.DataFrame(small_world.preferences()),
        out="objects",
        loop=SHORT,
    )
    assert weights(by_object) == weights(by_path)
    assert dict(by_object.metrics) == dict(by_path.metrics)
    assert all(type(value) in (int, float) for value in by_object.metrics.values())
    assert [row["loss"] for row in by_object.history if row["phase"] == "train"] == [
        row["loss"] for row in by_path.history if row["phase"] == "train"
    ]


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        iter,
        pandas.DataFrame,
        polars.DataFrame,
        lambda rows: polars.DataFrame(rows).lazy(),
        Dataset.from_list,
        lambda rows: Dataset.from_list(rows).data.table,
        lambda rows: DatasetDict(train=Dataset.from_list(rows)),
        lambda rows: DatasetDict(dev=Dataset.from_list(rows)),
        trueup.read,
        lambda rows: list(trueup.read(rows)),
    ],
    ids=[
        "list", "tuple", "iterator", "pandas", "polars", "lazy", "datasets", "arrow", "splits", "dev",
        "Groups", "groups",
    ],
)  # fmt: skip
def test_rows_of_every_kind_are_the_same_data(make: Callable[[Any], Any], world: Path, request: Any) -> None:
    rows = make(small_world.demonstrations())
    data = {"path": rows, "split": "dev"} if request.node.callspec.id == "dev" else rows
    trained = trueup.fit("sft", model=str(world / "my-model"), data=data, loop=SHORT)
    expected = trueup.fit("sft", model=str(world / "my-model"), data=str(world / "demos.jsonl"), loop=SHORT)
    assert weights(trained) == weights(expected)
    assert trained.inputs[0].name == "data" and trained.inputs[0].again
    assert "16 rows" in trained.inputs[0].what


def test_bad_rows_are_kept_and_counted_as_from_a_file(world: Path) -> None:
    rows = [*small_world.demonstrations(), {"prompt": "what?", "completion": ""}, 3, {"prompt": "a\ud800"}]
    with pytest.raises(TrueupError, match=r"E601 .*3 of 19 rows are bad"):
        trueup.fit("sft", model=world / "my-model", data=rows, loop=SHORT)
    trained = trueup.fit("sft", model=world / "my-model", data={"path": rows, "max_bad": 0.5}, loop=SHORT)
    kept = [json.loads(line) for line in (trained.folder / "quarantine.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"]) for row in kept] == [("data.jsonl", n) for n in (17, 18, 19)]
    counts = json.loads((trained.folder / "data.json").read_text())
    assert (counts["rows_in"], counts["quarantined"]) == (19, 3)


def test_a_judge_may_be_any_callable_and_sees_the_row(world: Path) -> None:
    seen: list[Any] = []

    class Likeness:
        def __call__(self, completions, answer, **kwargs):
            seen.extend(answer)
            return [likeness(c[0]["content"], a) for c, a in zip(completions, answer, strict=True)]

    plain = trueup.fit("grpo", model=world / "my-model", prompts=ASKED, judge=likeness, **SAMPLED)
    other = trueup.fit("grpo", model=world / "my-model", prompts=ASKED, judge=Likeness(), **SAMPLED)
    assert weights(plain) == weights(other) and plain.folder != other.folder
    assert set(seen) <= {row["answer"] for row in ASKED} and len(seen) >= 8
    assert (plain.folder / "inputs" / "judge.py").read_text() == inspect.getsource(likeness)


def test_a_second_judge_that_watches_may_be_a_function_too(world: Path) -> None:
    trained = trueup.fit(
        "reinforce",
        model=world / "my-model",
        prompts={"path": ASKED, "held_out": 0.5},
        judge=likeness,
        decoding={"max_new_tokens": 3},
        loop={**SHORT, "eval_every": 1, "guard": {"judge": lambda completion: -len(completion)}},
    )
    assert {item.name for item in trained.inputs} == {"data", "judge", "loop.guard.judge"}
    assert [row["guard/score"] for row in trained.history if row["phase"] == "eval"]


def test_what_a_run_made_is_what_the_next_one_starts_from(world: Path) -> None:
    model = world / "my-model"
    sft = trueup.fit("sft", model=model, data=world / "demos.jsonl", loop=SHORT)
    reward = trueup.fit("reward_model", model=sft, data=world / "preferences.jsonl", loop=SHORT)
    best = trueup.fit(
        "best_of_n", model=sft.model, prompts=ASKED, judge=reward, n=2, decoding={"max_new_tokens": 3}
    )
    again = trueup.fit("sft", model=trueup.load(str(sft.output)), data=best, loop=SHORT)
    kept = read_yaml(again.folder / "config.resolved.yaml").values
    assert kept["model"]["path"] == str(sft.output) and kept["data"]["path"] == str(best.output)
    assert len(best.groups) == len(ASKED) and not again.inputs
    assert reward.score(best.groups) == reward.model.score(list(best.groups))
    with pytest.raises(TrueupError, match=r"E847 .*makes no model"):
        _ = best.model
    with pytest.raises(TrueupError, match=r"E847 .*makes no groups"):
        _ = sft.groups
    with pytest.raises(TrueupError, match="E834"):
        sft.score(best.groups)


def test_prompts_and_texts_go_to_their_own_places(world: Path) -> None:
    trained = trueup.fit(
        "ppo_ptx",
        model=world / "my-model",
        prompts=ASKED,
        data=[{"prompt": f"{i} is", "completion": " a number."} for i in range(4)],
        judge=likeness,
        decoding={"max_new_tokens": 3},
        pretraining={"batch": 2},
        loop=SHORT,
        minibatch=2,
    )
    kept = read_yaml(trained.folder / "config.resolved.yaml").values
    assert kept["data"]["path"] == str(trained.folder / "inputs" / "data.jsonl")
    assert kept["pretraining"]["data"]["path"] == str(trained.folder / "inputs" / "pretraining.data.jsonl")


@pytest.mark.parametrize("method", ["grpo", "kto", "best_of_n", "distill"])
def test_an_object_trains_by_methods_of_other_kinds(method: str, model: Any, tokenizer: Any) -> None:
    data = small_world.preferences() if method == "kto" else [row["prompt"] for row in ASKED]
    more: dict[str, Any] = {
        "grpo": {**SAMPLED, "judge": likeness_of_none},
        "kto": {"loop": SHORT},
        "best_of_n": {"n": 2, "judge": likeness_of_none, "decoding": {"max_new_tokens": 3}},
        "distill": {"teacher": model, "top_k": 4, "decoding": {"max_new_tokens": 3}, "loop": SHORT},
    }[method]
    trained = trueup.fit(method, model=model, tokenizer=tokenizer, data=data, **more)
    names = {item.name for item in trained.inputs}
    assert {"data", "model"} <= names and ("teacher" in names) == (method == "distill")
    assert trained.metrics


def likeness_of_none(completion: str) -> float:
    return float(len(completion))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's own
def test_an_adapter_of_peft_starts_from_what_it_says(world: Path, model: Any, tokenizer: Any) -> None:
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(world / "my-model"),
        LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.add_(1.0)
    whole = trueup.load(adapted, tokenizer)
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    ids = torch.arange(12)[None]
    merged = trueup.load(whole.save("whole"))
    assert torch.allclose(merged.transformers(ids).logits, adapted(ids).logits, atol=1e-5)
    groups = [{"prompt": "a", "completion": "bc"}]
    plain = trueup.load(model, tokenizer).logprobs(groups)
    assert not torch.allclose(
        torch.tensor(whole.logprobs(groups)[0][0]), torch.tensor(plain[0][0]), atol=1e-4
    )
    trained = trueup.fit("sft", model=adapted, tokenizer=tokenizer, data=world / "demos.jsonl", loop=SHORT)
    expected = trueup.fit("sft", model="whole", data=world / "demos.jsonl", loop=SHORT)
    for ours, theirs in zip(
        trained.model.transformers.parameters(), expected.model.transformers.parameters(), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert all(torch.equal(before[name], tensor) for name, tensor in adapted.state_dict().items())


def test_an_adapter_on_an_object_is_saved_whole(model: Any, tokenizer: Any, world: Path) -> None:
    """Its base may be other weights than those of the folder that the object once came from."""
    with torch.no_grad():
        other = AutoModelForCausalLM.from_pretrained(world / "my-model")
        for parameter in other.parameters():
            parameter.mul_(1.1)
    trained = trueup.fit(
        "sft",
        model={"path": other, "lora": {"rank": 2}},
        tokenizer=tokenizer,
        data=world / "demos.jsonl",
        loop=SHORT,
    )
    assert (trained.output / "model.safetensors").is_file()
    kept = dict(trained.model.transformers.named_parameters())
    moved = [name for name, p in other.named_parameters() if not torch.equal(p, kept[name])]
    assert moved and all("proj" in name for name in moved)


def test_a_frozen_reference_shares_the_memory_of_the_object(
    model: Any, tokenizer: Any, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[dict[str, Any]] = []

    def noting(*given: Any, **more: Any) -> Any:
        opened.append(open_networks(*given, **more))
        return opened[-1]

    monkeypatch.setattr(training, "open_networks", noting)
    trueup.fit("dpo", model=model, tokenizer=tokenizer, data=world / "preferences.jsonl", loop=SHORT)
    theirs = {p.data_ptr() for p in model.parameters()}
    places = {n: {p.data_ptr() for p in net.module.parameters()} for n, net in opened[0].items()}
    assert places["reference"] == theirs and not places["policy"] & theirs


def test_other_toolkits_names_are_understood_beside_an_object(
    model: Any, tokenizer: Any, world: Path
) -> None:
    trained = trueup.fit(
        "dpo",
        model=model,
        tokenizer=tokenizer,
        data={"path": small_world.preferences(), "held_out": 0.2},
        bf16=True,
        learning_rate=1e-5,
        max_steps=1,
        per_device_train_batch_size=2,
        max_length=64,
        lora_r=2,
    )
    kept = read_yaml(trained.folder / "config.resolved.yaml").values
    assert kept["model"]["dtype"] == "bfloat16" and kept["model"]["lora"]["rank"] == 2
    assert kept["update"]["lr"] == 1e-5 and kept["loop"]["steps"] == 1
    assert kept["data"]["max_tokens"] == 64 and kept["data"]["held_out"] == 0.2


def test_the_precision_of_an_object_is_that_of_its_run(world: Path, tokenizer: Any) -> None:
    wide = AutoModelForCausalLM.from_pretrained(world / "my-model", dtype=torch.float64)
    trained = trueup.fit("sft", model=wide, tokenizer=tokenizer, data=world / "demos.jsonl", loop=SHORT)
    assert read_yaml(trained.folder / "config.resolved.yaml").values["model"]["dtype"] == "float64"


# ------------------------------------------------------------------------------------------ resuming


def interrupted(step: trueup.Step) -> None:
    if step.number == 2:
        raise KeyboardInterrupt


def test_a_run_on_objects_resumes_to_the_same_bits(model: Any, tokenizer: Any) -> None:
    def run(out: str, **more: Any) -> trueup.Trained:
        return trueup.fit(
            "grpo",
            model=model,
            tokenizer=tokenizer,
            prompts=ASKED,
            judge=likeness,
            out=out,
            num_completions=2,
            decoding={"max_new_tokens": 3},
            loop={"steps": 3, "batch": 2, "save_every": 1},
            **more,
        )

    with pytest.raises(KeyboardInterrupt):
        run("cut", callbacks=interrupted)
    steps: list[trueup.Step] = []
    resumed = run("cut", callbacks=[steps.append], samples=1)
    assert [step.number for step in steps] == [2, 3]
    assert weights(resumed) == weights(run("whole"))
    assert (resumed.folder / "metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["data", "judge", "model"])
def test_another_object_is_named_with_both_digests(
    name: str, model: Any, tokenizer: Any, world: Path
) -> None:
    given: dict[str, Any] = {
        "model": model, "tokenizer": tokenizer, "prompts": ASKED, "judge": likeness, "out": "run", **SAMPLED
    }  # fmt: skip
    first = trueup.fit("grpo", **given)
    assert trueup.fit("grpo", **given).metrics == first.metrics, "done before"
    before = {item.name: item.digest[:12] for item in first.inputs}
    if name == "data":
        given["prompts"] = ASKED[:-1]
    if name == "judge":
        given["judge"] = lambda completion: 0.0
        given["judge"].__qualname__ = "likeness"
    if name == "model":
        other = AutoModelForCausalLM.from_pretrained(world / "my-model")
        with torch.no_grad():
            next(other.parameters())[0, 0] += 1
        given["model"] = other
    with pytest.raises(TrueupError) as caught:
        trueup.fit("grpo", **given)
    error = caught.value
    assert error.code == "E752" and f"another {name}" in error.reason and before[name] in error.reason
    assert "out=" in error.remedy and error.where == "run"


def test_a_file_in_place_of_an_object_is_another_run(world: Path) -> None:
    trueup.fit("sft", model=world / "my-model", data=small_world.demonstrations(), out="run", loop=SHORT)
    with pytest.raises(TrueupError, match=r"E723 .*data.path"):
        trueup.fit("sft", model=world / "my-model", data=world / "demos.jsonl", out="run", loop=SHORT)


def test_a_folder_is_the_same_by_every_name(world: Path, here: Path) -> None:
    given: dict[str, Any] = {"model": world / "my-model", "data": small_world.demonstrations(), "loop": SHORT}
    first = trueup.fit("sft", out=here / "run", **given)
    assert trueup.fit("sft", out="run", **given).folder == first.folder == Path("run")


def test_without_a_folder_the_same_call_finds_the_same_run(world: Path) -> None:
    given: dict[str, Any] = {"model": world / "my-model", "loop": SHORT}
    first = trueup.fit("sft", data=small_world.demonstrations(), **given)
    assert first.folder.parent == Path("runs") and first.folder.name.startswith("sft-")
    assert trueup.fit("sft", data=small_world.demonstrations(), **given).folder == first.folder
    assert trueup.fit("sft", data=small_world.demonstrations(4), **given).folder != first.folder
    Path("own.jsonl").write_bytes((world / "demos.jsonl").read_bytes())
    by_file = trueup.fit("sft", data="own.jsonl", **given)
    small_world.write(Path("own.jsonl"), small_world.demonstrations(8))
    assert trueup.fit("sft", data="own.jsonl", **given).folder != by_file.folder, "a file that changed"


def test_an_interrupt_saves_and_the_same_call_goes_on(world: Path) -> None:
    given: dict[str, Any] = {"model": world / "my-model", "data": small_world.demonstrations(), "out": "run"}
    loop = {"steps": 3, "batch": 2}

    def stop(step: trueup.Step) -> None:
        os.kill(os.getpid(), signal.SIGINT)  # what a notebook's stop button sends

    with pytest.raises(trueup.Interrupted) as caught:
        trueup.fit("sft", callbacks=stop, loop=loop, **given)
    assert caught.value.step == 1 and caught.value.signal == "SIGINT"
    steps: list[int] = []
    trueup.fit("sft", callbacks=lambda step: steps.append(step.number), loop=loop, **given)
    assert steps == [2, 3]


# ------------------------------------------------------------------------------------------ repeating


def test_a_run_on_rows_is_repeated_from_its_folder(world: Path) -> None:
    from trueup.cli import main

    trained = trueup.fit("sft", model=world / "my-model", data=small_world.demonstrations(), loop=SHORT)
    assert main(["train", str(trained.folder / "config.resolved.yaml"), "--out", "again"]) == 0
    assert weights(trueup.Trained.of("again")) == weights(trained)
    assert "cannot" not in str(trained)


def test_what_cannot_be_repeated_is_said_everywhere(
    model: Any, tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from trueup.cli import main

    def nearness(completion):
        return likeness(completion, "5")

    given: dict[str, Any] = {"model": model, "tokenizer": tokenizer, "judge": nearness}
    trained = trueup.fit("grpo", prompts=ASKED, **given, **SAMPLED)
    digests = {item.name: item.digest[:12] for item in trained.inputs}
    trained.export("exported")
    page = trained.report()
    for text in (
        str(trained),
        trained._repr_html_(),
        page._repr_html_(),
        page.path.read_text("utf-8"),
        Path("exported/README.md").read_text("utf-8"),
    ):
        for name, words in (("model", "LlamaForCausalLM with"), ("judge", "nearness of")):
            assert f"the {name} was" in text and words in text and digests[name] in text
    settings = trained.folder / "config.resolved.yaml"
    assert main(["train", str(settings), "--out", "again"]) == 64
    assert "E753" in capsys.readouterr().err
    changed = settings.read_text().replace("object:model", str(trained.output))
    Path("changed.yaml").write_text(changed)
    assert main(["train", "changed.yaml", "--out", "again"]) == 64
    said = capsys.readouterr().err
    assert "E753" in said and "nearness" in said and "judge=" in said


def test_a_function_that_can_be_imported_is_found_again(
    here: Path, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trueup.cli import main

    name = "my_rewards"
    (here / f"{name}.py").write_text("def brief(completion):\n    return -float(len(completion))\n")
    monkeypatch.syspath_prepend(here)
    my_rewards = importlib.import_module(name)

    trained = trueup.fit("grpo", model=world / "my-model", prompts=ASKED, judge=my_rewards.brief, **SAMPLED)
    assert (
        "cannot" not in str(trained)
        and json.loads((trained.folder / RECORD).read_text())["judge"]["again"] is not False
    )
    assert main(["train", str(trained.folder / "config.resolved.yaml"), "--out", "again"]) == 0
    assert weights(trueup.Trained.of("again")) == weights(trained)
    del sys.modules["my_rewards"]


def test_a_card_names_no_folder_of_this_machine(model: Any, tokenizer: Any, here: Path) -> None:
    trained = trueup.fit("grpo", model=model, tokenizer=tokenizer, prompts=ASKED, judge=likeness, **SAMPLED)
    card = facts_of(trained.folder, name="x")
    assert str(Path(__file__).parent) not in str(card)


# ------------------------------------------------------------------------------------------ callbacks


def test_callbacks_see_every_step_and_its_samples(world: Path) -> None:
    steps: list[trueup.Step] = []
    numbers: list[float] = []
    trained = trueup.fit(
        "grpo",
        model=world / "my-model",
        prompts=ASKED,
        judge=likeness,
        callbacks=(steps.append, lambda step: numbers.append(step.metrics["score"])),
        samples=1,
        **SAMPLED,
    )
    rows = [row for row in trained.history if row["phase"] == "train"]
    assert [step.number for step in steps] == [1, 2] and {step.num_steps for step in steps} == {2}
    assert numbers == [row["score"] for row in rows]
    for step, row in zip(steps, rows, strict=True):
        assert dict(step.metrics) == {k: v for k, v in row.items() if k not in ("step", "phase")}
        (group,) = step.samples
        assert {"score", "advantage"} <= set(group.completions[0].marks) and len(group.completions) == 2
    plain = trueup.fit(
        "grpo", model=world / "my-model", prompts=ASKED, judge=likeness, out="plain", **SAMPLED
    )
    assert weights(plain) == weights(trained), "being watched changes nothing"


def test_what_trains_nothing_calls_nobody_back(world: Path) -> None:
    with pytest.raises(TrueupError, match=r"E702 callbacks"):
        trueup.fit("best_of_n", model=world / "my-model", prompts=ASKED, judge=likeness, callbacks=print)


# ------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("method", "given", "code", "words"),
    [
        ("dpo", {"bta": 0.1}, "E711", "did you mean `beta`?"),
        ("dpo", {"loop": {"stps": 1}}, "E711", "did you mean `steps`?"),
        ("dpo", {"prompts": ASKED}, "E702", "give them as data="),
        ("grpo", {"prompts": ASKED, "data": ASKED}, "E702", "give prompts= alone"),
        ("dpo", {"judge": likeness}, "E711", "judge"),
        ("grpo", {"judge": lambda a, b, c: 0.0}, "E792", "`completion`"),
        ("sft", {"data": 3}, "E751", "holds no rows"),
        ("sft", {"data": pandas.Series([1])}, "E751", "holds no rows"),
        ("sft", {"data": {"rows": []}}, "E711", "data.rows"),
        ("sft", {"data": pandas.DataFrame([[1, 2]], columns=["a", "a"])}, "E751", "one name"),
        ("sft", {"data": []}, "E602", "no rows"),
        ("sft", {"data": DatasetDict(dev=Dataset.from_list(ASKED))}, "E102", "it has: dev"),
        ("sft", {"world": "nowhere"}, "E760", "nowhere"),
        ("sft", {"model_name_or_path": "x"}, "E801", "x"),
        (types.ModuleType("mine"), {}, "E702", "lies in no file"),
    ],
    ids=range(15),
)  # fmt: skip
def test_mistakes_are_said_as_on_the_command_line(
    method: Any, given: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(TrueupError) as caught:
        trueup.fit(method, **given)
    assert caught.value.code == code and words in str(caught.value)
    assert not list(Path(".").glob("runs/*/model"))


def test_objects_that_cannot_be_trained_are_refused(world: Path, tokenizer: Any) -> None:
    half = AutoModelForCausalLM.from_pretrained(world / "my-model", dtype=torch.float16)
    whole = AutoModelForCausalLM.from_pretrained(world / "my-model")
    for model, told, words in (
        (half, tokenizer, "float16"),
        (whole, None, "tokenizer"),
        (whole.model, tokenizer, "LM head"),
        (torch.nn.Linear(2, 2), tokenizer, "transformers or peft"),
    ):
        with pytest.raises(TrueupError, match=f"E754 .*{words}"):
            trueup.fit("sft", model=model, tokenizer=told, data=world / "demos.jsonl")
    with pytest.raises(TrueupError, match=r"E754 model.roles"):
        trueup.fit(
            "ppo",
            model={"path": whole, "lora": {"rank": 2}, "roles": "shared"},
            tokenizer=tokenizer,
            prompts=ASKED,
            judge=likeness,
            **{key: SAMPLED[key] for key in ("decoding", "loop")},
        )
