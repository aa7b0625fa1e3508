"""Embeddings: each text is read alone, on the packed and the padded path alike, and its head is saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from eval_stubs import tiny_model
from trueup.engine.batch import Outputs
from trueup.engine.groups import Group
from trueup.engine.packing import pack
from trueup.errors import TrueupError
from trueup.models.forward import LanguageModel
from trueup.models.heads import EMBEDDING_SIZE
from trueup.models.load import load, save
from trueup.testing.toys import tiny_network, toy_groups

GROUPS = toy_groups(5)


def network() -> LanguageModel:
    found = tiny_network(("embeddings",))
    assert isinstance(found, LanguageModel)
    return found


def said(model: LanguageModel, groups: list[Group]) -> tuple[Tensor, Tensor]:
    """f(x) [G, d] and f(y) [N, d]."""
    with torch.no_grad():
        outputs = model(pack(groups), ("embeddings",))
    assert outputs.prompt_embeddings is not None and outputs.embeddings is not None
    return outputs.prompt_embeddings, outputs.embeddings


def test_shapes() -> None:
    prompts, completions = said(network(), GROUPS)
    assert prompts.shape == (5, EMBEDDING_SIZE)
    assert completions.shape == (sum(len(g.completions) for g in GROUPS), EMBEDDING_SIZE)


def test_a_completion_is_embedded_without_its_prompt() -> None:
    """Under another group's prompt, and as a prompt of its own, a text keeps its embedding."""
    model = network()
    _, completions = said(model, GROUPS)
    moved = [replace(g, prompt_tokens=GROUPS[0].prompt_tokens) for g in GROUPS]
    torch.testing.assert_close(said(model, moved)[1], completions)
    turned = [replace(g, prompt_tokens=g.completions[0].tokens) for g in GROUPS]
    first = [sum(len(g.completions) for g in GROUPS[:i]) for i in range(5)]
    torch.testing.assert_close(said(model, turned)[0], completions[first])


def test_the_padded_path_says_the_same() -> None:
    model = network()
    for packed, padded in zip(said(model, GROUPS), said(replace(model, packs=False), GROUPS), strict=True):
        torch.testing.assert_close(packed, padded)


def test_beside_log_probabilities_nothing_changes() -> None:
    model = tiny_network(("logprobs", "embeddings"))
    batch = pack(GROUPS)
    with torch.no_grad():
        both = model(batch, ("logprobs", "embeddings"))
        apart = model(batch, ("logprobs",)).merge(model(batch, ("embeddings",)))
    assert isinstance(both, Outputs)
    for name in ("logprobs", "embeddings", "prompt_embeddings"):
        assert torch.equal(getattr(both, name), getattr(apart, name))


def test_the_head_is_saved_beside_the_weights(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "base")
    made = load(tmp_path / "base", heads=("embeddings",), seed=3)
    save(made, tmp_path / "embedder")
    again = load(tmp_path / "embedder", heads=("embeddings",), seed=4)
    for a, b in zip(said(made, GROUPS), said(again, GROUPS), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(TrueupError, match="no head for embeddings"):
        load(tmp_path / "base")(pack(GROUPS), ("embeddings",))
