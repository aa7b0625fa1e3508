"""A process reward model as a judge: steps, products, minima, and what is said of a wrong reference."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from eval_stubs import tiny_model
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.errors import TrueupError
from trueup.judges.open import open_judge
from trueup.judges.stepwise import Reading, StepwiseJudge, reading
from trueup.models.export import kind_of_folder
from trueup.models.load import load, save

LINES = ("Ann has 3 hens.", "Bob has 4.", "Together 7.")


def answered(*texts: str, finished: bool = True) -> Group:
    return Group(
        prompt=(Message(Role.USER, "How many hens?"),),
        completions=tuple(Completion(text=text, finished=finished) for text in texts),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model in float64 whose value head says different things of different states."""
    base, made = (tmp_path_factory.mktemp(name) for name in ("base", "prm"))
    save(tiny_model(), base)
    network = load(base, heads=("values",))
    with torch.no_grad():
        head = network.module.get_submodule("value_head").linear
        head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(0)))
        head.bias.fill_(0.3)
    save(network, made)
    return made


def opened(folder: Path, options: str = "") -> StepwiseJudge:
    judge = open_judge(f"{folder}{options}")
    assert isinstance(judge, StepwiseJudge)
    return judge


def test_the_score_is_the_product_the_minimum_or_the_last(folder: Path) -> None:
    group = answered("\n".join(LINES))
    ((steps,),) = opened(folder).steps([group])
    assert len(steps) == 3 and len(set(steps)) == 3 and all(0 < p < 1 for p in steps)
    found = {how: opened(folder, f"?score={how}")([group])[0][0] for how in ("product", "min", "last")}
    assert found == {
        "product": pytest.approx(math.prod(steps), abs=1e-15),
        "min": min(steps),
        "last": steps[-1],
    }
    assert opened(folder)([group])[0][0] == found["product"]


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_more_changes_nothing_before_it(folder: Path, count: int) -> None:
    judge = opened(folder)
    ((before,),) = judge.steps([answered("\n".join(LINES[:count]))])
    ((after,),) = judge.steps([answered("\n".join(LINES))])
    assert after[:count] == pytest.approx(before, abs=1e-6)


def test_a_completion_cut_at_the_limit_has_its_steps_read_alike(folder: Path) -> None:
    judge = opened(folder)
    whole, cut = answered("\n".join(LINES)), answered("\n".join(LINES), finished=False)
    assert judge([whole]) == judge([cut])


def test_a_separator_of_ones_own(folder: Path) -> None:
    """Two line breaks between steps: the single one inside the first is part of it."""
    text = f"{LINES[0]}\n{LINES[1]}\n\n{LINES[2]}"
    for written in ("\\n\\n", "%0A%0A"):
        ((steps,),) = opened(folder, f"?separator={written}").steps([answered(text)])
        ((lines,),) = opened(folder).steps([answered(text)])
        assert steps == pytest.approx(lines[1:], abs=1e-6)


def test_blank_lines_are_no_steps_and_an_empty_completion_is_one(folder: Path) -> None:
    judge = opened(folder)
    ((spaced, bare),) = judge.steps([answered(f"{LINES[0]}\n\n  \n{LINES[1]}", "")])
    assert len(spaced) == 2
    assert len(bare) == 1 and 0 < bare[0] < 1


def test_batches_play_no_part(folder: Path) -> None:
    groups = [answered("\n".join(LINES), LINES[0]), answered(LINES[2])]
    alone = [opened(folder)([g])[0] for g in groups]
    small = open_judge(str(folder), microbatch_tokens=1)
    torch.testing.assert_close(small(groups)[0], alone[0], atol=1e-6, rtol=0)
    assert opened(folder)([]) == [] and opened(folder)([answered()]) == [[]]


@pytest.mark.parametrize(
    ("query", "code"),
    [("score=mean", "E442"), ("reduce=min", "E442"), ("separator=", "E442"), ("score", "E442")],
)
def test_another_option_is_refused(folder: Path, query: str, code: str) -> None:
    with pytest.raises(TrueupError) as raised:
        open_judge(f"{folder}?{query}")
    assert raised.value.code == code


def test_the_options_as_they_are_read() -> None:
    assert reading("", "judge") == Reading(score="product", separator="\n")
    assert reading("score=last&separator=%20%3D%3E", "judge") == Reading(score="last", separator=" =>")


def test_a_reward_model_has_no_such_options(tmp_path: Path) -> None:
    base, made = tmp_path / "base", tmp_path / "reward"
    save(tiny_model(), base)
    save(load(base, heads=("rewards",)), made)
    with pytest.raises(TrueupError) as raised:
        open_judge(f"{made}?score=min")
    assert raised.value.code == "E792"
    assert kind_of_folder(made) == "scorer"


def test_its_folder_is_known_for_what_it_is(folder: Path) -> None:
    assert kind_of_folder(folder) == "step scorer"
