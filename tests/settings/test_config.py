"""Configuration: layers, unions by kind, aliases, and a table of mistakes that must be clear errors."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from trueup.errors import EXIT_USAGE, TrueupError
from trueup.settings import aliases
from trueup.settings.blocks import LoopSettings
from trueup.settings.config import (
    Alias,
    Layer,
    build,
    commented_yaml,
    describe,
    digest,
    dump_yaml,
    parse_overrides,
    read_yaml,
    resolved,
)
from trueup.settings.schema import MISSING
from trueup.settings.stages import typed_stages
from trueup.settings.strict_yaml import parse_yaml


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """A method that counts in steps unless it is told otherwise."""

    loop: LoopSettings = LoopSettings(steps=40)


class Precision(StrEnum):
    FLOAT32 = "float32"
    BF16 = "bf16"


@dataclass(frozen=True, kw_only=True)
class Adam:
    """An update rule."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    "Peak step size."
    betas: tuple[float, float] = (0.9, 0.95)
    "Decay of the two moments."
    warmup: int = 10
    "Updates until the peak."


@dataclass(frozen=True, kw_only=True)
class Dpo:
    """One kind of objective."""

    kind: Literal["dpo"] = "dpo"
    beta: float = 0.1
    "Strength of the pull to the reference."
    smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Ipo:
    """Another kind."""

    kind: Literal["ipo"] = "ipo"
    tau: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where rows come from."""

    path: Path
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run."""

    model: str
    "Folder or hub name."
    seed: int = 0
    "Every random choice follows from it."
    steps: int | None = None
    "How many; null goes through the data once."
    shuffle: bool = True
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    precision: Precision = Precision.FLOAT32
    "What weights are kept in."
    stop: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    update: Adam = Adam(learning_rate=3e-4)
    "How parameters change."
    objective: Dpo | Ipo = Dpo()
    "What is minimised."
    data: tuple[Files, ...] = ()
    limit: Literal["auto"] | int = "auto"

    def __post_init__(self) -> None:
        if self.steps == 0 and self.shuffle:
            raise ValueError("steps 0 with shuffle trains on nothing")


def make(*layers: Mapping[str, Any] | Layer, **more: Any) -> Config:
    """A configuration with the one required key given."""
    return build(Config, {"model": "tiny"}, *layers, **more)


# ------------------------------------------------------------------------------------------ read right


def test_defaults_come_from_the_fields_and_from_the_fields_default_instance() -> None:
    config = make()
    assert config == Config(model="tiny")
    assert config.update.learning_rate == 3e-4, "the field's default instance, not the block's own default"


def test_later_layers_win_and_blocks_merge_key_by_key() -> None:
    config = make(
        {"update": {"warmup": 5}, "seed": 1}, parse_overrides(["--update.betas", "[0.5, 0.6]", "--seed=2"])
    )
    assert config.update == Adam(learning_rate=3e-4, warmup=5, betas=(0.5, 0.6))
    assert config.seed == 2


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--update.learning_rate", "5e-7"], "update.learning_rate", 5e-7),
        (["--update.learning-rate=5e-7"], "update.learning_rate", 5e-7),
        (["--update.learning_rate", "1"], "update.learning_rate", 1.0),
        (["--model", "123"], "model", "123"),
        (["--model", "1e-5"], "model", "1e-5"),
        (["--model", "true"], "model", "true"),
        (["--model", "null"], "model", "null"),
        (["--model", "no"], "model", "no"),
        (["--model", "a: b"], "model", "a: b"),
        (["--model", "a #1"], "model", "a #1"),
        (["--model="], "model", ""),
        (["--model=--x"], "model", "--x"),
        (["--model=a=b"], "model", "a=b"),
        (["--seed", "-3"], "seed", -3),
        (["--steps", "null"], "steps", None),
        (["--steps", "7"], "steps", 7),
        (["--shuffle"], "shuffle", True),
        (["--shuffle", "false"], "shuffle", False),
        (["--shuffle", "--seed", "4"], "seed", 4),
        (["--scheduler", "cosine"], "scheduler", "cosine"),
        (["--precision", "bf16"], "precision", Precision.BF16),
        (["--stop", "[a, '1']"], "stop", ("a", "1")),
        (["--weights.safe", "2"], "weights", {"safe": 2.0}),
        (["--limit", "auto"], "limit", "auto"),
        (["--limit", "3"], "limit", 3),
        (["--objective.kind", "ipo"], "objective", Ipo()),
        (["--objective.kind", "ipo", "--objective.tau", "2"], "objective", Ipo(tau=2.0)),
        (["--objective.beta", "0.3"], "objective", Dpo(beta=0.3)),
        (["--data", "[{path: a.jsonl, weight: 2}]"], "data", (Files(path=Path("a.jsonl"), weight=2.0),)),
    ],
)
def test_an_override_reads_as_the_type_of_its_key(words: list[str], key: str, value: Any) -> None:
    found: Any = make(parse_overrides(words))
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_who_states_epochs_means_them_and_who_states_steps_means_those() -> None:
    """A method's default steps, and a recipe's, give way to epochs, and epochs to steps."""

    def loop(*layers: dict[str, int]) -> tuple[float, int | None]:
        found = build(Sampled, *({"loop": layer} for layer in layers)).loop
        return found.epochs, found.steps

    assert loop() == (1.0, 40)
    assert loop({"batch": 2}) == (1.0, 40)
    assert loop({"epochs": 2}) == (2.0, None)
    assert loop({"steps": 9}, {"epochs": 2}) == (2.0, None)
    assert loop({"epochs": 2}, {"steps": 9}) == (2.0, 9)
    assert loop({"epochs": 2, "steps": 9}) == (2.0, 9)
    assert build(Sampled, {"num_train_epochs": 3}, aliases=aliases.ALIASES).loop.steps is None


def test_epochs_and_steps_typed_together_are_refused_and_what_is_typed_wins_over_a_file() -> None:
    """Under whatever names; a file has both where it was written for a run, and its steps count."""
    for words in (
        ["--loop.steps", "1", "--loop.epochs", "1"],
        ["--max_steps", "1", "--num_train_epochs", "1"],
        ["--loop", "{steps: 1, epochs: 1}"],
    ):
        with pytest.raises(
            TrueupError, match=r"E714 command line loop.epochs — `loop.epochs` and `loop.steps`"
        ):
            build(Sampled, {"loop": {"steps": 9}}, parse_overrides(words), aliases=aliases.ALIASES)
    both = {"loop": {"epochs": 3, "steps": 9}}
    assert build(Sampled, both, parse_overrides(["--loop.epochs", "2"])).loop.steps is None
    assert build(Sampled, both, parse_overrides(["--loop.steps", "2"])).loop.steps == 2
    assert build(Sampled, parse_overrides(["--loop.epochs", "2", "--loop.steps", "null"])).loop.steps is None


def test_what_is_typed_for_a_stage_wins_over_its_recipe() -> None:
    typed = typed_stages({"stages": {"sft": {"loop": {"epochs": 2}}}}, "stages")
    assert typed == {"stages": {"sft": {"loop": {"epochs": 2, "steps": None}}}}
    with pytest.raises(TrueupError, match=r"E714 .* and `stages.sft.loop.steps`"):
        typed_stages({"stages": {"sft": {"loop": {"epochs": 2, "steps": 3}}}}, "stages")


def test_mappings_merge_across_layers() -> None:
    config = make({"weights": {"safe": 1, "helpful": 2}}, parse_overrides(["--weights.safe", "3"]))
    assert config.weights == {"safe": 3.0, "helpful": 2.0}


def test_another_kind_starts_its_block_afresh() -> None:
    config = make({"objective": {"kind": "dpo", "beta": 0.7}}, parse_overrides(["--objective.kind", "ipo"]))
    assert config.objective == Ipo()


def test_the_same_kind_named_again_keeps_what_was_set() -> None:
    config = make({"objective": {"beta": 0.7}}, {"objective": {"kind": "dpo", "smoothing": 0.1}})
    assert config.objective == Dpo(beta=0.7, smoothing=0.1)


# ------------------------------------------------------------------------------------------ traps


TRAPS: list[tuple[str, str, str, str]] = [
    # YAML, code, key, what the message says
    ("sed: 1", "E711", "sed", "did you mean `seed`?"),
    ("update: {learning_rte: 1}", "E711", "update.learning_rte", "did you mean `learning_rate`?"),
    ("learning_rate: 1", "E711", "learning_rate", "did you mean `update.learning_rate`?"),
    ("update.warmup: 1", "E711", "update.warmup", "inside its block"),
    ("beta: 0.2", "E711", "beta", "did you mean `objective.beta`?"),
    ("objective: {tau: 1}", "E711", "objective.tau", "did you mean `objective.tau`?"),
    ("zzzz: 1", "E711", "zzzz", "the keys here: model, seed"),
    ("Seed: 1", "E711", "Seed", "did you mean `seed`?"),
    ("seed: 1.0", "E712", "seed", "expected a whole number, found the number 1.0"),
    ("seed: 1.5", "E712", "seed", "expected a whole number"),
    ("seed: 1e3", "E712", "seed", "found the number 1000.0"),
    ("seed: '1'", "E712", "seed", "write it without quotes"),
    ("seed: true", "E712", "seed", "found true"),
    ("seed: null", "E712", "seed", "found null"),
    ("seed:", "E712", "seed", "found null"),
    ("seed: [1]", "E712", "seed", "found [1]"),
    ("seed: {a: 1}", "E712", "seed", 'found {"a": 1}'),
    ("seed: 1e400000", "E710", "", "too large"),
    ("update: {learning_rate: '1e-5'}", "E712", "update.learning_rate", "write it without quotes"),
    ("update: {learning_rate: 1e-5x}", "E712", "update.learning_rate", 'found the text "1e-5x"'),
    ("update: {learning_rate: 0}", "E712", "update.learning_rate", "expected a number > 0"),
    ("update: {learning_rate: -1}", "E712", "update.learning_rate", "expected a number > 0"),
    ("update: {learning_rate: true}", "E712", "update.learning_rate", "expected a number"),
    ("update: {learning_rate: nan}", "E712", "update.learning_rate", "expected a number"),
    ("update: {learning_rate: inf}", "E712", "update.learning_rate", "expected a number"),
    ("update: {betas: 0.9}", "E712", "update.betas", "expected a list"),
    ("update: {betas: [0.9]}", "E712", "update.betas", "expected a list of 2 numbers, found [0.9]"),
    ("update: {betas: [0.9, 0.9, 0.9]}", "E712", "update.betas", "expected a list"),
    ("update: {betas: [0.9, a]}", "E712", "update.betas.1", 'found the text "a"'),
    ("update: 3", "E712", "update", "expected an Adam block"),
    ("update: null", "E712", "update", "found null"),
    ("update: [1]", "E712", "update", "found [1]"),
    ("shuffle: no", "E712", "shuffle", 'expected true or false, found the text "no"'),
    ("shuffle: 'true'", "E712", "shuffle", "write it without quotes"),
    ("shuffle: 1", "E712", "shuffle", "found the number 1"),
    ("shuffle: 0", "E712", "shuffle", "found the number 0"),
    ("model: 1.10", "E712", "model", "put it in quotes"),
    ("model: 7", "E712", "model", "put it in quotes"),
    ("model: true", "E712", "model", "expected text, found true"),
    ("model: null", "E712", "model", "expected text, found null"),
    ("scheduler: cosin", "E712", "scheduler", "did you mean `cosine`?"),
    ("scheduler: COSINE", "E712", "scheduler", "one of linear, cosine, constant"),
    ("scheduler: 1", "E712", "scheduler", "found the number 1"),
    ("precision: bf61", "E712", "precision", "did you mean `bf16`?"),
    ("precision: BF16", "E712", "precision", "one of float32, bf16"),
    ("stop: a", "E712", "stop", "expected a list of text"),
    ("stop: [1]", "E712", "stop.0", "put it in quotes"),
    ("stop: [no, 010]", "E710", "", "differently"),
    ("weights: [1]", "E712", "weights", "expected a mapping"),
    ("weights: {safe: high}", "E712", "weights.safe", 'found the text "high"'),
    ("objective: {kind: dop}", "E712", "objective.kind", "did you mean `dpo`?"),
    ("objective: {kind: 3}", "E712", "objective.kind", "one of dpo, ipo"),
    ("objective: {kind: ipo, beta: 1}", "E711", "objective.beta", "unknown key"),
    ("objective: dpo", "E712", "objective", "give its keys"),
    ("data: {path: a}", "E712", "data", "expected a list"),
    ("data: [{weight: 1}]", "E713", "data.0.path", "is not given"),
    ("data: [{path: 3}]", "E712", "data.0.path", "put it in quotes"),
    ("data: [a.jsonl]", "E712", "data.0", "give its keys"),
    ("limit: atuo", "E712", "limit", "expected auto or a whole number"),
    ("steps: 0", "E715", "", "trains on nothing"),
    ("seed: 1\nseed: 2", "E710", "", "stands twice"),
]


@pytest.mark.parametrize(("text", "code", "key", "message"), TRAPS)
def test_a_trap_is_an_error_with_key_reason_and_remedy(text: str, code: str, key: str, message: str) -> None:
    with pytest.raises(TrueupError) as caught:
        make(parse_yaml(text, "run.yaml"))
    error = caught.value
    assert error.code == code
    assert message in f"{error.reason} {error.remedy}"
    assert error.remedy
    assert error.exit_code == EXIT_USAGE
    line = 2 if "\n" in text else 1
    if code == "E710":
        assert error.where == f"run.yaml:{line}"
    elif key:
        assert error.where == f"run.yaml:{line} {key}"


def test_a_missing_key_says_what_to_give() -> None:
    with pytest.raises(TrueupError) as caught:
        build(Config, {})
    assert (caught.value.code, caught.value.where) == ("E713", "config model")
    assert "give text" in caught.value.remedy


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(TrueupError) as caught:
        make(parse_yaml("sed: 1\nshuffle: no\nupdate:\n  warmup: x", "run.yaml"))
    text = str(caught.value)
    assert all(
        place in text for place in ("run.yaml:1 sed", "run.yaml:2 shuffle", "run.yaml:4 update.warmup")
    )


def test_an_error_names_the_layer_the_value_came_from(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("model: tiny\nseed: 1\n")
    with pytest.raises(TrueupError) as caught:
        build(Config, read_yaml(path), parse_overrides(["--seed", "x"]))
    assert caught.value.where == "command line seed"
    path.write_text("model: tiny\n\nseed: x\n")
    with pytest.raises(TrueupError) as caught:
        build(Config, read_yaml(path), parse_overrides(["--steps", "3"]))
    assert caught.value.where == f"{path}:3 seed"


def test_a_block_of_a_file_is_a_layer_with_its_lines() -> None:
    recipe = parse_yaml("name: x\nstages:\n  sft:\n    seed: 1\n    update:\n      warmup: y", "recipe.yaml")
    typed = parse_overrides(["--stages.sft.model", "7"])
    with pytest.raises(TrueupError) as caught:
        make(recipe.inside("stages.sft"), typed.inside("stages.sft"))
    assert caught.value.where == "recipe.yaml:6 update.warmup"
    assert make(typed.inside("stages.sft")).model == "7"
    assert recipe.inside("stages.other.thing").values == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed", "1"], "belongs to no key"),
        (["--seed", "1", "2"], "`2` belongs to no key"),
        (["-s", "1"], "belongs to no key"),
        (["--"], "belongs to no key"),
        (["--seed", "1", "--seed", "2"], "given twice"),
        (["--update.warm-up", "1", "--update.warm_up=2"], "given twice"),
        (["--update", "1", "--update.warmup", "2"], "both a value and a block"),
        (["--update.warmup", "2", "--update", "1"], "both a value and a block"),
        (["--update..warmup", "2"], "empty part"),
        (["--=2"], "empty part"),
    ],
)
def test_a_command_line_that_means_two_things_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(TrueupError, match=message) as caught:
        parse_overrides(words)
    assert caught.value.code == "E714"


# ------------------------------------------------------------------------------------------ aliases


ALIASES: dict[str, str | Alias] = {
    "model_name_or_path": "model",
    "lr": "update.learning_rate",
    "max_steps": "steps",
    "bf16": Alias("precision", {True: "bf16", False: "float32"}),
    "seed": "update.warmup",
}


def test_the_ecosystems_names_stand_for_ours() -> None:
    words = parse_overrides(["--lr", "1e-6", "--max-steps", "9", "--bf16", "--model_name_or_path", "42"])
    config = build(Config, words, aliases=ALIASES)
    assert config == Config(model="42", steps=9, precision=Precision.BF16, update=Adam(learning_rate=1e-6))


def test_a_key_of_our_own_is_never_an_alias() -> None:
    assert make({"seed": 5}, aliases=ALIASES).seed == 5


def test_an_alias_overrides_and_is_overridden_across_layers() -> None:
    below, above = {"lr": 1e-3}, {"update": {"learning_rate": 1e-2}}
    assert make(below, above, aliases=ALIASES).update.learning_rate == 1e-2
    assert make(above, below, aliases=ALIASES).update.learning_rate == 1e-3


def test_an_alias_beside_its_key_in_one_layer_is_refused() -> None:
    with pytest.raises(TrueupError, match="same setting") as caught:
        make(parse_yaml("lr: 1e-3\nupdate: {learning_rate: 1e-2}", "run.yaml"), aliases=ALIASES)
    assert (caught.value.code, caught.value.where) == ("E714", "run.yaml:1 lr")


def test_a_mistake_under_an_alias_has_the_aliass_line() -> None:
    with pytest.raises(TrueupError) as caught:
        make(parse_yaml("\n\nlr: fast", "run.yaml"), aliases=ALIASES)
    assert caught.value.where == "run.yaml:3 update.learning_rate"
    with pytest.raises(TrueupError, match="none of true, false"):
        make({"bf16": 1}, aliases=ALIASES)


def test_a_mistyped_alias_is_recognised() -> None:
    with pytest.raises(TrueupError, match="did you mean `max_steps`"):
        make({"max_step": 3}, aliases=ALIASES)


# ------------------------------------------------------------------------------------------ writing


FULL = Config(
    model="no",
    steps=3,
    precision=Precision.BF16,
    stop=("010", "\n"),
    weights={"safe": 1e-7},
    objective=Ipo(tau=5e-7),
    data=(Files(path=Path("a b.jsonl")), Files(path=Path("1"), weight=0.5)),
)


@pytest.mark.parametrize("config", [Config(model="tiny"), FULL])
def test_what_is_resolved_builds_an_equal_instance(config: Config) -> None:
    assert build(Config, resolved(config)) == config
    assert build(Config, parse_yaml(dump_yaml(resolved(config)))) == config
    assert build(Config, parse_yaml(commented_yaml(config))) == config


def test_a_commented_recipe_explains_each_key() -> None:
    lines = commented_yaml(FULL).splitlines()
    place = lines.index("  learning_rate: 0.0003")
    assert lines[place - 1] == "  # Peak step size."
    assert lines[0] == "# Folder or hub name."
    assert lines[1] == "model: 'no'"


def test_describe_lists_every_key_with_type_default_and_help() -> None:
    entries = {(e.key, e.variant): e for e in describe(Config)}
    assert entries["model", ""][1:4] == ("text", MISSING, "Folder or hub name.")
    assert entries["steps", ""].type == "a whole number or null"
    assert entries["update.learning_rate", ""][1:4] == ("a number > 0", 3e-4, "Peak step size.")
    assert entries["precision", ""][1:3] == ("one of float32, bf16", "float32")
    assert entries["objective.beta", "dpo"].default == 0.1
    assert entries["objective.tau", "ipo"].default == 0.5
    assert len(entries) == len(describe(Config))


def test_a_digest_is_the_same_for_the_same_meaning_only() -> None:
    assert digest({"a": 1, "b": [1.0, 2]}) == digest({"b": (1, 2.0), "a": 1.0})
    assert digest({"a": 1}) != digest({"a": True})
    assert digest({"a": 1}) != digest({"a": "1"})
    assert digest({"a": 5e-7}) != digest({"a": 5.1e-7})
    assert len(digest({})) == 64
    seen = {digest(resolved(dataclasses.replace(FULL, seed=s))) for s in range(5)}
    assert len(seen) == 5


def test_a_number_without_end_is_never_written() -> None:
    with pytest.raises(TrueupError, match="not a finite number"):
        resolved(Config(model="tiny", weights={"safe": float("inf")}))
    with pytest.raises(TrueupError, match="E712"):
        make({"weights": {"safe": float("nan")}})


def test_configuration_needs_no_torch() -> None:
    code = "import trueup.settings.config, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
