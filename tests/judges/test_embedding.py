"""An embedder's folder as a judge: the cosine between prompt and completion, whatever the batching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eval_stubs import tiny_model
from trueup.engine.groups import Completion, Group, Message, Role
from trueup.engine.packing import pack
from trueup.judges.embedding import EmbeddingJudge
from trueup.judges.open import open_judge
from trueup.models.load import load, save

GROUPS = [
    Group(
        prompt=(Message(Role.USER, said),),
        completions=tuple(Completion(text=text) for text in ("yes", "no, not that", said)),
    )
    for said in ("what is it", "say something quite long")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base, made = (tmp_path_factory.mktemp(name) for name in ("base", "embedder"))
    save(tiny_model(), base)
    save(load(base, heads=("embeddings",), seed=1), made)
    return made


def test_scores_are_cosines(folder: Path) -> None:
    judge = open_judge(str(folder))
    assert isinstance(judge, EmbeddingJudge)
    scores = judge(GROUPS)
    assert [len(row) for row in scores] == [3, 3]
    batch = pack([judge.reader.encode(g) for g in GROUPS])
    said = judge.reader.network(batch, ("embeddings",))
    assert said.embeddings is not None and said.prompt_embeddings is not None
    x, y = said.prompt_embeddings[1].detach(), said.embeddings[5].detach()
    assert scores[1][2] == pytest.approx(float(x @ y / (x.norm() * y.norm())), abs=1e-6)
    assert all(-1 <= score <= 1 for row in scores for score in row)


def test_how_groups_are_batched_plays_no_part(folder: Path) -> None:
    judge = open_judge(str(folder))
    alone = [judge([g])[0] for g in GROUPS]
    torch.testing.assert_close(
        torch.tensor(open_judge(str(folder), microbatch_tokens=1)(GROUPS)), torch.tensor(alone)
    )


def test_what_the_policy_left_on_a_group_is_not_read(folder: Path) -> None:
    judge = open_judge(str(folder))
    foreign = [replace(g, prompt_tokens=torch.arange(3).numpy()) for g in GROUPS]
    assert judge(foreign) == judge(GROUPS)
