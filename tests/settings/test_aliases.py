"""Option names of other toolkits: each is the setting that it says, or is answered."""

from __future__ import annotations

from typing import Any

import pytest

from trueup.cli import main
from trueup.errors import TrueupError
from trueup.settings import discover, schema
from trueup.settings.aliases import ALIASES
from trueup.settings.config import Alias, Answer, build
from trueup.settings.translate import all_keys, fitting

METHODS = {name: vars(discover.find(name))["Config"] for name in discover.names()}
TRIED: tuple[Any, ...] = (
    0.25, 3, 7, 0.5, True, False, "x", ["a"], [0.5, 0.6], {}, "bfloat16", "constant", "linear", ["wandb"],
    "dssm", "all", "none", "token", "robust",
    "choice", "embedding", "infonce", "plackett_luce", "error", "truncate_prompt_start", "nf4", "keep",
    "mask", "alpha", "reverse", {"prompt": "question"},
)  # fmt: skip


def nested(key: str, value: Any) -> dict[str, Any]:
    """`{a: {b: value}}` of `a.b`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def other(config: type, key: str) -> Any:
    """A value of a key that is not its default."""
    for value in TRIED:
        try:
            if build(config, nested(key, value)) != config():
                return value
        except TrueupError:
            continue
    raise AssertionError(f"no value tried is one of {key}")


MAPPED = {
    n: Alias(to) if isinstance(to, str) else to for n, to in ALIASES.items() if not isinstance(to, Answer)
}
ANSWERED = {name: to for name, to in ALIASES.items() if isinstance(to, Answer)}


def test_there_are_as_many_as_people_type() -> None:
    assert len(ALIASES) >= 220 and len(MAPPED) >= 120 and len(ANSWERED) >= 100


@pytest.mark.parametrize("name", MAPPED)
def test_a_name_is_the_setting_on_every_method_that_has_it(name: str) -> None:
    met = 0
    for config in METHODS.values():
        own = {item.name for item in schema.items(config)}
        found = fitting(MAPPED[name], config)
        if name in own or isinstance(found, Answer):
            continue
        met += 1
        if found.values is None or found.rest:
            value = other(config, found.key)
            if found.values is None or value not in list(found.values):
                ours = build(config, nested(found.key, value))
                assert build(config, {name: value}, aliases=ALIASES) == ours != config()
        for given, meant in (found.values or {}).items():
            try:
                ours = build(config, nested(found.key, meant))
            except TrueupError:  # a value of another method's setting of that name
                continue
            assert build(config, {name: given}, aliases=ALIASES) == ours
    assert met > 0, f"no method has what {name} stands for"


@pytest.mark.parametrize("name", [*MAPPED, *ANSWERED])
def test_a_method_without_the_setting_answers_and_guesses_no_letters(name: str) -> None:
    for config in METHODS.values():
        if name in {item.name for item in schema.items(config)}:
            continue
        found = fitting(ALIASES[name], config)
        if isinstance(found, Answer):
            with pytest.raises(TrueupError, match="E711") as caught:
                build(config, {name: "whatever"}, aliases=ALIASES)
            assert caught.value.remedy == found.says and "did you mean" not in found.says
            break


@pytest.mark.parametrize("name", ANSWERED)
def test_what_an_answer_tells_to_type_is_there(name: str) -> None:
    """Every `--key` in a sentence is a key of some method, or an option of a command."""
    import re

    known = {key for config in METHODS.values() for key in all_keys(config)} | {
        "out", "push-to-hub", "devices", "shard", "missing_eos", "data.mix.NAME", "update.lr_scale.value",
    }  # fmt: skip
    for key in re.findall(r"`--([\w.-]+)", ANSWERED[name].says):
        assert key in known or key == "update.", f"{name}: --{key}"


@pytest.mark.parametrize("name", [n for n, to in ANSWERED.items() if to.unless])
def test_a_value_that_changes_nothing_is_passed_over(name: str) -> None:
    config = METHODS["dpo"]
    for value in (*ANSWERED[name].unless, None):
        assert build(config, {name: value, "learning_rate": 1e-6}, aliases=ALIASES).update.lr == 1e-6


@pytest.mark.parametrize(
    ("line", "said", "never"),
    [
        ("dpo --ref_model_name_or_path x", "the reference is the model that the run starts", "did you mean"),
        ("dpo --ref_model_name_or_pth x", "the reference is the model that the run starts", "reward_model"),
        ("simpo --rpo_alpha 1", "`nll_weight` of the methods that have one", "lora_alpha"),
        ("dpo --gradient_accumulation_steps 8", "`--loop.batch` is the groups of a", "did you mean"),
        ("sft --num_generations 4", "`num_completions` of other methods, and this", "did you mean"),
        ("trpo --learning_rate 1e-5", "a learning rate: `--update.critic.lr`", "did you mean"),
        ("ppo --critic_learning_rate 1e-5", "`--update.lr_scale.value 3`", "did you mean"),
        ("dpo --learning_rat 1e-5", "did you mean `learning_rate`?", "answered"),
    ],
)  # fmt: skip
def test_the_right_word_is_said(line: str, said: str, never: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", *line.split()]) == 64
    error = capsys.readouterr().err
    assert "E711" in error and said in error and never not in error


@pytest.mark.parametrize("name", ["use_peft", "use_dora", "use_rslora", "load_in_4bit"])
def test_an_adapters_option_that_is_off_asks_for_no_adapter(name: str) -> None:
    assert build(METHODS["dpo"], {name: False}, aliases=ALIASES).model.lora is None
    assert build(METHODS["dpo"], {name: True}, aliases=ALIASES).model.lora is not None


def test_all_that_has_no_setting_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "dpo", "--logging_steps", "1", "--deepspeed", "z3.json", "--optim", "lion"]) == 64
    lines = capsys.readouterr().err.splitlines()
    for line, word in zip(lines, ("logging_steps", "deepspeed", "optim"), strict=True):
        assert f"command line {word} — no such setting — " in line
