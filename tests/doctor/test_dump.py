"""A dump is read strictly: what is wrong with it is named with its line, key and code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trueup.cli import main
from trueup.doctor import read_dump, row_of
from trueup.errors import EXIT_DATA, TrueupError

GOOD = {"input_ids": [1, 2, 3], "loss_mask": [0, 1, 1]}


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("{", "E980", "not JSON"),
        ("[1]", "E980", "a list, not an object"),
        ('{"input_ids": [1], "loss_msk": [1]}', "E981", "did you mean `loss_mask`?"),
        ('{"input_ids": [1], "zzz": [1]}', "E981", "a line may have input_ids"),
        ('{"loss_mask": [1]}', "E982", "no input_ids"),
        ('{"input_ids": []}', "E982", "input_ids is not a list of integers"),
        ('{"input_ids": [1.5]}', "E982", "input_ids is not a list of integers"),
        ('{"input_ids": [true]}', "E982", "input_ids is not a list of integers"),
        ('{"input_ids": [' + "9" * 30 + "]}", "E982", "input_ids is not a list of token ids"),
        ('{"input_ids": [1, 2], "loss_mask": [0, 2]}', "E982", "loss_mask is not a list of 0 and 1"),
        ('{"input_ids": [1], "reward": "high"}', "E982", "reward is not a number"),
        ('{"input_ids": [1], "temperature": 0}', "E982", "temperature is not a number above 0"),
        ('{"input_ids": [1], "step": -1}', "E982", "step is not an integer of at least 0"),
        ('{"input_ids": [1], "messages": [{"role": "user"}]}', "E982", "messages is not a list of {role, "),
        ('{"input_ids": [1, 2], "loss_mask": [1]}', "E983", "loss_mask has 1 entries, not for 2 ids"),
        (
            '{"input_ids": [1, 2, 3], "loss_mask": [0, 1, 1], "sampler_logprobs": [-1]}',
            "E983",
            "sampler_logprobs has 1 entries, not for 3 ids nor for 2 tokens in the loss",
        ),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(
    line: str, code: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dump.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + line + "\n", encoding="utf-8")
    assert main(["doctor", str(path)]) == EXIT_DATA
    said = capsys.readouterr().err
    assert f"error {code} {path}:3 — " in said and words in said


def test_an_empty_dump_is_no_dump(tmp_path: Path) -> None:
    path = tmp_path / "dump.jsonl"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(TrueupError, match="E984"):
        read_dump(path)


def row(**more: Any) -> Any:
    return row_of({**GOOD, **more}, line=1)


def test_log_probs_are_one_for_each_id_or_for_each_token_in_the_loss() -> None:
    for given in ([None, -1.0, -2.0], [-1.0, -2.0]):
        np.testing.assert_array_equal(row(sampler_logprobs=given).sampler, [math.nan, -1.0, -2.0])


def test_what_is_not_finite_is_kept_apart_from_what_is_not_there() -> None:
    np.testing.assert_array_equal(
        row(trainer_logprobs=[None, math.nan, -math.inf]).trainer, [math.nan, math.inf, math.inf]
    )


def test_labels_are_a_mask_too() -> None:
    found = row_of({"input_ids": [1, 2, 3], "labels": [-100, -100, 3]}, line=1)
    assert found.loss is not None and found.loss.tolist() == [False, False, True]


def test_advantages_that_are_all_one_are_one() -> None:
    assert row(advantages=0.5).advantage == 0.5
    assert row(advantages=[0.5, 0.5]).advantage == 0.5
    assert row(advantages=[None, 0.5, 0.25]).advantage is None


def test_null_is_as_if_the_key_were_not_there() -> None:
    assert row(reward=None).reward is None
